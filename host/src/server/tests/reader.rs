//! The record of a database in which nothing has happened yet. Made once: these tests only ever read it.

use std::sync::OnceLock;

use super::support::NOW;
use crate::store::{Opening, Reader, Writer};

pub(super) fn empty() -> Reader {
    static EMPTY: OnceLock<(tempfile::TempDir, Reader)> = OnceLock::new();
    let (_, reader) = EMPTY.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.db");
        drop(Writer::open(&Opening::new(&path, NOW)).unwrap());
        let reader = Reader::open(&path).unwrap();
        (folder, reader)
    });
    reader.clone()
}
