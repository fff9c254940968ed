//! The guest SDK, carried in the binary: it is not in a registry, and a new consumer should build without one.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

macro_rules! embedded {
    ($path:literal) => {
        ($path, include_str!(concat!("../../../../", $path)))
    };
}

/// Path from the project's root, and text, of everything that the SDK is built from. A test keeps it complete.
pub(super) const FILES: &[(&str, &str)] = &[
    embedded!("guest-sdk/Cargo.toml"),
    embedded!("guest-sdk/macros/Cargo.toml"),
    embedded!("guest-sdk/macros/src/attribute.rs"),
    embedded!("guest-sdk/macros/src/derive.rs"),
    embedded!("guest-sdk/macros/src/lib.rs"),
    embedded!("guest-sdk/src/answer.rs"),
    embedded!("guest-sdk/src/attempt.rs"),
    embedded!("guest-sdk/src/config.rs"),
    embedded!("guest-sdk/src/event.rs"),
    embedded!("guest-sdk/src/http.rs"),
    embedded!("guest-sdk/src/invoke.rs"),
    embedded!("guest-sdk/src/jobs.rs"),
    embedded!("guest-sdk/src/lib.rs"),
    embedded!("guest-sdk/src/log.rs"),
    embedded!("guest-sdk/src/outcome.rs"),
    embedded!("guest-sdk/src/publisher.rs"),
    embedded!("guest-sdk/src/queries.rs"),
    embedded!("guest-sdk/src/secrets.rs"),
    embedded!("guest-sdk/src/state.rs"),
    embedded!("guest-sdk/src/testing/attempted.rs"),
    embedded!("guest-sdk/src/testing/given.rs"),
    embedded!("guest-sdk/src/testing/harness.rs"),
    embedded!("guest-sdk/src/testing/limit.rs"),
    embedded!("guest-sdk/src/testing/mod.rs"),
    embedded!("guest-sdk/src/testing/pattern.rs"),
    embedded!("guest-sdk/src/time.rs"),
    embedded!("guest-sdk/src/wasm/convert.rs"),
    embedded!("guest-sdk/src/wasm/glue.rs"),
    embedded!("guest-sdk/src/wasm/imports.rs"),
    embedded!("guest-sdk/src/wasm/mod.rs"),
    embedded!("wit/exports.wit"),
    embedded!("wit/imports.wit"),
    embedded!("wit/types.wit"),
    embedded!("wit/world.wit"),
];

/// The workspace whose versions and lints the SDK inherits.
const WORKSPACE: &str = include_str!("../../../../Cargo.toml");

/// Where the SDK is unpacked, seen from the project's folder.
pub(super) const FOLDER: &str = ".tidegate/sdk";

/// Says in the folder which SDK it holds.
pub(super) const STAMP: &str = "VERSION";

/// Puts the SDK into the project, or this program's in place of another one's; gives what it made.
pub(super) fn unpack(project: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = project.join(FOLDER);
    let stamp = stamp();
    if std::fs::read_to_string(folder.join(STAMP)).is_ok_and(|found| found == stamp) {
        return Ok(Vec::new());
    }
    // Made beside and renamed, so that an interrupted command leaves no half of it.
    let beside = empty(project.join(format!("{FOLDER}.new")))?;
    write(&beside, "Cargo.toml", &workspace())?;
    for (path, text) in FILES {
        write(&beside, path, text)?;
    }
    write(&beside, STAMP, &stamp)?;
    let old = empty(project.join(format!("{FOLDER}.old")))?;
    if folder.exists() {
        std::fs::rename(&folder, &old)?;
    }
    std::fs::rename(&beside, &folder)?;
    empty(old)?;
    Ok(vec![folder])
}

/// A place where nothing is.
fn empty(path: PathBuf) -> io::Result<PathBuf> {
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    Ok(path)
}

/// The SDK's version and a digest of all its files: two builds of one version may differ.
fn stamp() -> String {
    let mut sha = Sha256::new();
    sha.update(workspace());
    for (path, text) in FILES {
        sha.update([path.as_bytes(), &[0], text.as_bytes(), &[0]].concat());
    }
    let digest: String = sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "tidegate-sdk {version}\nsha256 {digest}\n\n\
         Unpacked by `tidegate new consumer`, which replaces the whole folder when it brings another version. Do not edit.\n"
    )
}

/// The project's own workspace, with the SDK's packages for members.
pub(super) fn workspace() -> String {
    let lines = WORKSPACE.lines().filter(|line| !line.starts_with("exclude ") && !line.starts_with("# Consumers are"));
    let lines = lines.map(|line| match line.starts_with("members ") {
        true => "members = [\"guest-sdk\", \"guest-sdk/macros\"]",
        false => line,
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn write(folder: &Path, path: &str, text: &str) -> io::Result<()> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, text)
}
