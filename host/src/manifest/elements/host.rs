//! What concerns the host as a whole: `log`, `retention`, `limits`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;

use super::super::codes;
use super::super::reader::{At, Reader, Shape, absolute};
use super::super::yaml::Node;
use super::bounds;
use super::count::Count;
use super::duration::Millis;
use super::size::Bytes;

pub(crate) const RETENTION_SHAPE: Shape = Shape { what: "`retention`", keys: &["events", "outcomes"], later: &[] };

pub(crate) const LIMITS_SHAPE: Shape =
    Shape { what: "`limits`", keys: &["event-size", "attempts", "memory", "ballast"], later: &[] };

/// How long things are kept.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Retention {
    /// Events, once nothing waits for them. Default `30d`.
    pub events: Option<At<Millis>>,
    /// Outcomes. Default `30d`.
    pub outcomes: Option<At<Millis>>,
}

/// Bounds of the whole host.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HostLimits {
    /// The payload of an event. Default `1MiB`.
    pub event_size: Option<At<Bytes>>,
    /// Attempts at once, over all consumers. Default 64.
    pub attempts: Option<At<Count>>,
    /// Linear memory of all running attempts together. Default `1GiB`.
    pub memory: Option<At<Bytes>>,
    /// Room kept on the database's disk, so that what is under way can be finished when the disk is full; at most a sixteenth of the
    /// disk. Takes effect at the next start. `0B`: none. Default `64MiB`.
    pub ballast: Option<At<Bytes>>,
}

pub(crate) fn retention(reader: &mut Reader, node: &Node) -> Option<Retention> {
    let fields = reader.fields(node, &RETENTION_SHAPE)?;
    let bound = &bounds::RETENTION;
    Some(Retention {
        events: fields.get("events").and_then(|node| reader.quantity(node, "`events`", bound)),
        outcomes: fields.get("outcomes").and_then(|node| reader.quantity(node, "`outcomes`", bound)),
    })
}

pub(crate) fn limits(reader: &mut Reader, node: &Node) -> Option<HostLimits> {
    let fields = reader.fields(node, &LIMITS_SHAPE)?;
    Some(HostLimits {
        event_size: fields
            .get("event-size")
            .and_then(|node| reader.quantity(node, "`event-size`", &bounds::EVENT_SIZE)),
        attempts: fields.get("attempts").and_then(|node| reader.quantity(node, "`attempts`", &bounds::HOST_ATTEMPTS)),
        memory: fields.get("memory").and_then(|node| reader.quantity(node, "`memory`", &bounds::HOST_MEMORY)),
        ballast: fields.get("ballast").and_then(|node| reader.quantity(node, "`ballast`", &bounds::BALLAST)),
    })
}

/// The database's file, absolute.
pub(crate) fn log(reader: &mut Reader, node: &Node) -> Option<At<PathBuf>> {
    let text = reader.text(node, "`log`")?;
    let (scheme, rest) = text.value.split_once(':').unwrap_or(("", &text.value));
    let help = "write `sqlite:` and a path, such as `sqlite:data/tidegate.db`";
    let (code, message) = match scheme {
        "nats" | "tls" => (codes::NOT_SERVED, "a log on NATS is not served by this version of Tidegate"),
        // SQLite would read parameters out of it that switch off what keeps the file whole.
        "file" => (codes::LOG, "`file:` URLs are refused: they can switch off SQLite's locks"),
        "sqlite" if rest.starts_with("file:") => {
            (codes::LOG, "`file:` URLs are refused: they can switch off SQLite's locks")
        }
        "sqlite" if rest.is_empty() || rest.ends_with('/') => (codes::LOG, "`log` names no file"),
        "sqlite" if rest.starts_with("//") || rest.contains('\0') || rest.starts_with(':') => {
            (codes::LOG, "`log` is not the path of a file")
        }
        "sqlite" => return Some(At { value: absolute(&reader.base, Path::new(rest)), span: text.span }),
        _ => (codes::LOG, "`log` says no kind of log that is known"),
    };
    reader.error(code, text.span, message, "", help);
    None
}
