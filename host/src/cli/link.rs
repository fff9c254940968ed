//! Where the commands meet the modules that do the work: what those say becomes what a person reads.

use std::path::{Path, PathBuf};

use super::Context;
use super::error::{Error, Kind};
use crate::store;

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
    Error::new(Kind::Environment, doing)
        .because(error)
        .hint("Is it a database of tidegate, and may this user read it? A running host is asked instead of the file.")
}

#[cfg(test)]
mod tests {
    use super::*;

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
