//! Carrying the write-ahead log over to the database, beside the writer: it takes milliseconds and a sync of the
//! database's file, for which no commit should wait.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::wal::CheckpointMode;

use super::{Class, Error, OpenError, connect};

/// A connection of its own, which writes nothing else.
#[derive(Debug)]
pub struct Checkpointer {
    conn: Connection,
}

impl Checkpointer {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let conn = connect::writer(path)?;
        connect::configure_writer(&conn)?;
        // It only copies pages from one file to the other.
        conn.pragma_update(None, "cache_size", -256)?;
        Ok(Self { conn })
    }

    /// Carries over what no reader is in the way of.
    pub fn run(&self) -> Result<(), Error> {
        tolerate(self.conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE).map(|_| ()))
    }
}

/// A checkpoint that finds the disk full or a reader in its way can be made later.
pub(super) fn tolerate(done: rusqlite::Result<()>) -> Result<(), Error> {
    match done.map_err(Error::from) {
        Err(e) if e.class() == Class::Fatal => Err(e),
        _ => Ok(()),
    }
}
