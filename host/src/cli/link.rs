//! Where the commands meet the modules that do the work: what those say becomes what a person reads.

use std::path::{Path, PathBuf};

use super::error::{Error, Kind};
use super::{Context, text};
use crate::manifest::{Diagnostics, Severity};
use crate::store::backup::CopyError;
use crate::{host, store};

/// Where the manifest keeps its log, looked up line by line so that it is found in a manifest with mistakes in it too.
pub(super) fn database_of(manifest: &Path, context: &Context) -> Option<PathBuf> {
    let text = std::fs::read_to_string(manifest).ok()?;
    let log = text.lines().find_map(|line| line.strip_prefix("log:"));
    let value = match log {
        Some(value) => value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']).to_owned(),
        None => DATABASE.to_owned(),
    };
    let value = expand(&value, |name| context.var(name))?;
    let path = value.strip_prefix("sqlite:")?;
    let folder = manifest.parent().unwrap_or(Path::new(""));
    Some(folder.join(path))
}

/// What `log` is where a manifest does not say.
const DATABASE: &str = "sqlite:data/tidegate.db";

/// `${VAR}` and `${VAR:-default}`; nothing if a variable is not set and has no default.
fn expand(text: &str, var: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, tail)) = rest.split_once("${") {
        let (name, after) = tail.split_once('}')?;
        let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
        out.push_str(before);
        out.push_str(&var(name).filter(|value| !value.is_empty()).or_else(|| default.map(str::to_owned))?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// A fault of the database, told to a person.
pub(super) fn store_error(error: store::Error, doing: String) -> Error {
    use store::Error as E;
    let words = error.to_string();
    match error {
        E::Ambiguous { .. } => Error::state(words),
        E::Missing { .. } => Error::state(words),
        E::TimedOut { .. } => Error::timeout(words),
        E::Damaged { .. } | E::Newer { .. } => Error::new(Kind::Log, words),
        E::Foreign { .. } => Error::environment(words).hint("Check the path: `--database`, or `log` in the manifest."),
        other if other.lacks_room() => Error::environment(doing)
            .because(other)
            .hint("Make room on the disk that holds the database, then start again: what was acknowledged is safe."),
        other => Error::environment(doing)
            .because(other)
            .hint("May this user read the file and its folder? SQLite needs to reach the files beside it as well."),
    }
}

/// Why a host did not start, or ended, told to a person.
pub(super) fn host_error(error: host::Error, manifest: &Path, context: &mut Context) -> Error {
    use host::Error as E;
    let words = error.to_string();
    match error {
        E::Manifest(diagnostics) => {
            show(&diagnostics, context);
            refused(&diagnostics, manifest)
        }
        E::Log(e) => open_error(e),
        E::Store(e) => store_error(e, words),
        E::Listen(_) => Error::environment(words),
        E::Sandbox(_) => Error::environment(words)
            .hint("The folder of the database must be writable, and memory must not be limited too tightly."),
        E::Io { doing, source } => Error::environment(format!("failed to {doing}")).because(source),
        E::LogFailed(why) => Error::new(
            Kind::Log,
            "the log failed, so the host has stopped; what was acknowledged is safe",
        )
        .because(why)
        .hint("Look after the disk that holds the database, then start the host again: it goes on where it stood."),
        E::Impatient => {
            context.out.note(words);
            Error::interrupted()
        }
    }
}

/// Why the log cannot be opened: its own words say what to do next, the kind says who must do it.
pub(super) fn open_error(error: store::OpenError) -> Error {
    use store::OpenError as E;
    let kind = match &error {
        E::Uri { .. } | E::NotAFile { .. } => Kind::Manifest,
        E::NewerVersion { .. }
        | E::NotADatabase { .. }
        | E::DamagedFile { .. }
        | E::ForeignApplication { .. }
        | E::SchemaChanged { .. }
        | E::Damaged { .. }
        | E::RowChanged { .. } => Kind::Log,
        _ => Kind::Environment,
    };
    match error {
        E::Store(e) => store_error(e, "cannot open the database".into()),
        other => Error::new(kind, other.to_string()),
    }
}

/// Why there is no copy of the database: its own words say what to do next.
pub(super) fn copy_error(error: CopyError) -> Error {
    let words = error.to_string();
    match error {
        CopyError::Occupied { .. }
        | CopyError::Exists { .. }
        | CopyError::NotACopy { .. }
        | CopyError::Itself { .. }
        | CopyError::InUse { .. } => Error::state(words),
        CopyError::NoFolder { .. } | CopyError::NotAName { .. } => Error::usage(words),
        CopyError::NotWhole(_) | CopyError::AnotherEnd { .. } => Error::new(Kind::Log, words)
            .hint("Check the database itself with `tidegate verify`, and the disk that the copy was written to."),
        CopyError::Source(error) => open_error(error),
        CopyError::Cancelled => Error::interrupted(),
        CopyError::Write { .. } => Error::environment(words),
    }
}

/// Draws diagnostics on standard error. Their drawing escapes nothing that stands in the manifest, except where a
/// colour would be told apart from it no more.
pub(super) fn show(diagnostics: &Diagnostics, context: &mut Context) {
    let colour = context.out.colour_err();
    for diagnostic in diagnostics {
        let drawn = diagnostic.render(colour);
        let drawn = if colour { drawn } else { text::escape_lines(&drawn) };
        context.out.note(drawn.trim_end());
        context.out.note("");
    }
}

/// How a command ends whose manifest was refused; the diagnostics have been shown.
pub(super) fn refused(diagnostics: &Diagnostics, manifest: &Path) -> Error {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    let count = text::count(errors.clone().count() as u64, "error");
    let error = Error::manifest(format!("{} has {count}", manifest.display()));
    match errors.map(|d| d.code).next() {
        Some(code) => error.hint(format!("Read more about a code with `tidegate explain {code}`.")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_not_taken_for_a_matter_of_rights() {
        let hint = |kind: std::io::ErrorKind| store_error(store::Error::Io(kind.into()), "x".into()).hints.concat();
        assert!(hint(std::io::ErrorKind::StorageFull).starts_with("Make room"));
        assert!(hint(std::io::ErrorKind::PermissionDenied).starts_with("May this user"));
    }

    #[test]
    fn the_log_is_found_in_a_broken_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("tidegate.yaml");
        let context = Context::for_tests(&[("DIR", "elsewhere")]);
        for (text, found) in [
            ("tidegate: 1\nlog: sqlite:x/y.db # here\nconsumers: [", Some("x/y.db")),
            ("log: \"sqlite:${DIR}/${NAME:-t}.db\"", Some("elsewhere/t.db")),
            ("log: sqlite:${UNSET}/t.db", None),
            ("log: nats://localhost", None),
            ("tidegate: 1", Some("data/tidegate.db")),
            ("log: sqlite:/abs/t.db", Some("/abs/t.db")),
        ] {
            std::fs::write(&manifest, text).unwrap();
            assert_eq!(database_of(&manifest, &context), found.map(|path| folder.path().join(path)), "{text}");
        }
        assert_eq!(database_of(&folder.path().join("none.yaml"), &context), None);
    }
}
