//! Component files as they stand on disk, read so that a half-written one is noticed.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bytes::Bytes;

use crate::manifest::regular;
use crate::model::{Digest, limit};

/// What tells that a file may have changed. The file's content decides; this only says when to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of what the path leads to, links followed. None if there is nothing.
    pub fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|m| Self::from(&m))
    }

    fn from(m: &fs::Metadata) -> Self {
        Self {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }
}

/// A file's bytes, and the digest that names them.
#[derive(Clone)]
pub struct ComponentFile {
    pub bytes: Bytes,
    pub digest: Digest,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no such file")]
    Missing,
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it has {size} bytes, and {} are allowed", limit::COMPONENT_BYTES_MAX)]
    TooLarge { size: u64 },
    /// Somebody is writing it.
    #[error("it changed while it was read")]
    Unstable,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads a component's file. What changes under the reading is not taken.
pub fn read(path: &Path) -> Result<ComponentFile, ReadError> {
    let opened = regular::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        _ => ReadError::Io(error),
    })?;
    let file = opened.ok_or(ReadError::NotRegular)?;
    let metadata = file.metadata()?;
    if usize::try_from(metadata.len()).map_or(true, |size| size > limit::COMPONENT_BYTES_MAX) {
        return Err(ReadError::TooLarge { size: metadata.len() });
    }
    let mut bytes = Vec::new();
    // One more than it has, to see whether it grows.
    file.take(metadata.len().saturating_add(1)).read_to_end(&mut bytes)?;
    if Stamp::of(path) != Some(Stamp::from(&metadata)) || bytes.len() as u64 != metadata.len() {
        return Err(ReadError::Unstable);
    }
    let digest = Digest::of(&bytes);
    Ok(ComponentFile { bytes: bytes.into(), digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_with_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        assert!(matches!(read(&path), Err(ReadError::Missing)));
        assert!(matches!(read(folder.path()), Err(ReadError::NotRegular)));
        fs::write(&path, b"abc").unwrap();
        let file = read(&path).unwrap();
        assert_eq!(file.digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let big = fs::File::create(&path).unwrap();
        big.set_len(limit::COMPONENT_BYTES_MAX as u64 + 1).unwrap();
        assert!(matches!(read(&path), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn a_stamp_follows_links_and_sees_their_swap() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two, link) = (folder.path().join("one"), folder.path().join("two"), folder.path().join("link"));
        fs::write(&one, b"1").unwrap();
        fs::write(&two, b"2").unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let before = Stamp::of(&link);
        assert_eq!(before, Stamp::of(&one));
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&two, &link).unwrap();
        assert_ne!(before, Stamp::of(&link));
    }
}
