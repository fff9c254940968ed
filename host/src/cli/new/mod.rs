//! `tidegate new`: a consumer's crate that builds and passes its test as it stands.

mod sdk;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use crate::model::ConsumerName;

/// A template's file and text. `{{name}}`, `{{package}}`, `{{library}}`, `{{event-type}}`, `{{sdk}}` and `{{entry}}` are filled in.
const TEMPLATE: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("template/Cargo.toml.txt")),
    ("src/lib.rs", include_str!("template/lib.rs.txt")),
    ("README.md", include_str!("template/README.md.txt")),
    (".gitignore", include_str!("template/gitignore.txt")),
];

/// Makes a crate in `folder`, which must not exist yet, for a consumer of `event_type` (an event type, not a pattern), and
/// gives what it made: files, and the SDK's folder if that is new. The SDK is that at `sdk` (the folder `guest-sdk`), or else
/// the one that the binary carries, unpacked once to `.tidegate/sdk` in the project: the nearest folder around the crate
/// with a manifest, or, if there is none, the folder that the crate is in.
///
/// # Errors
/// `AlreadyExists` if something is at `folder`; nothing is overwritten. `NotFound` if there is no SDK at `sdk`. Otherwise
/// what the file system says; the crate is then taken away again.
pub(super) fn consumer(
    folder: &Path,
    name: &ConsumerName,
    event_type: &str,
    sdk: Option<&Path>,
) -> io::Result<Vec<PathBuf>> {
    if folder.symlink_metadata().is_ok() {
        let message = format!("{} is already there: choose another name, or move it away", folder.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    let (sdk, mut made) = match sdk {
        Some(given) => (named(given)?, Vec::new()),
        None => {
            let (project, way) = project(&std::path::absolute(folder)?);
            let made = sdk::unpack(&project)?;
            (way.join(sdk::FOLDER).join("guest-sdk"), made)
        }
    };
    std::fs::create_dir_all(folder)?;
    match fill(folder, name, event_type, &sdk) {
        Ok(files) => {
            made.extend(files);
            Ok(made)
        }
        Err(error) => {
            // What stays behind, if this fails too, is in the way of the next attempt, which says so.
            drop(std::fs::remove_dir_all(folder));
            Err(error)
        }
    }
}

/// The project that a crate belongs to, and the way there from the crate. `folder` is absolute.
fn project(folder: &Path) -> (PathBuf, PathBuf) {
    let around = || folder.ancestors().skip(1);
    let steps = around().position(|parent| parent.join(MANIFEST).is_file()).unwrap_or(0);
    let project = around().nth(steps).unwrap_or(folder);
    (project.to_owned(), std::iter::repeat_n("..", steps + 1).collect())
}

/// What a folder with a manifest is known by.
const MANIFEST: &str = "tidegate.yaml";

/// The consumer's entry under `consumers` in a manifest.
pub(super) fn entry(name: &ConsumerName, event_type: &str) -> String {
    format!("  {name}:\n    component: consumers/{name}.wasm\n    on: {event_type}\n")
}

/// The SDK's folder, absolute.
fn named(sdk: &Path) -> io::Result<PathBuf> {
    if sdk.join("Cargo.toml").is_file() {
        return sdk.canonicalize();
    }
    let message = format!("there is no SDK at {}: name the folder guest-sdk of Tidegate's sources", sdk.display());
    Err(io::Error::new(io::ErrorKind::NotFound, message))
}

fn fill(folder: &Path, name: &ConsumerName, event_type: &str, sdk: &Path) -> io::Result<Vec<PathBuf>> {
    let values = [
        ("{{name}}", name.to_string()),
        ("{{library}}", library(name)),
        ("{{package}}", package(name)),
        ("{{event-type}}", event_type.to_owned()),
        ("{{sdk}}", quoted(sdk)),
        ("{{entry}}", entry(name, event_type)),
    ];
    let mut made = Vec::with_capacity(TEMPLATE.len());
    for (path, template) in TEMPLATE {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let text = values.iter().fold(template.to_owned(), |text, (place, value)| text.replace(place, value));
        std::fs::write(&path, text)?;
        made.push(path);
    }
    Ok(made)
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Names that a package may not have, or that hide something of the language.
const RESERVED: [&str; 57] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "tidegate-sdk",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// The component's file as the compiler names it, without its ending.
pub(super) fn library(name: &ConsumerName) -> String {
    package(name).replace('-', "_")
}

/// The crate's name: the consumer's, unless a crate cannot be called so.
fn package(name: &ConsumerName) -> String {
    let name = name.as_str();
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    if digit || RESERVED.contains(&name.replace('_', "-").as_str()) {
        format!("consumer-{name}")
    } else {
        name.to_owned()
    }
}
