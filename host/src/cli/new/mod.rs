//! What a new consumer is made of.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::ConsumerName;

/// Writes a crate into `dir`, which must not exist yet; gives the files written.
pub(super) fn consumer(
    _dir: &Path,
    _name: &ConsumerName,
    _event_type: &str,
    _sdk: Option<&Path>,
) -> io::Result<Vec<PathBuf>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this build has no template"))
}
