//! SQLite, concrete, no trait. SQL text appears nowhere else.
//!
//! One [`Writer`] owns the only read-write connection of a database file, for as long as it holds the file's [`Lock`].
//! Everyone else reads through connections that cannot write. Nothing here opens the live database files itself: a
//! plain `open` and `close` of them would drop SQLite's own locks.

pub mod backup;
mod ballast;
mod chain;
mod claims;
mod connect;
mod dead;
mod depth;
mod events;
mod file;
mod generations;
mod jobs;
mod keys;
mod migrate;
mod names;
mod outcomes;
mod plain;
mod queries;
pub mod read;
mod recovery;
mod rekey;
mod replays;
mod retention;
mod row;
mod runs;
mod schedules;
mod state;
mod sums;
mod tallies;
mod verify;
mod waiting;
mod waits;
pub mod watermark;
mod writer;

#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;

pub use ballast::Ballast;
pub use chain::{Hash, Head};
pub use dead::{DeadFilter, DeadRow};
pub use events::Inserted;
pub use file::{Lock, LockInfo, is_dying, real_path};
pub use generations::{KindNote, Subscriptions, timeline};
pub use outcomes::OutcomeRow;
pub use read::Reader;
pub use recovery::{LogReader, Standing};
pub use state::StateCheck;
pub use verify::{Progress, whole as verify};
pub use waiting::WaitingRow;
pub use writer::{Checkpoints, Opening, Writer};

/// The version of SQLite that is built in.
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}

use std::path::PathBuf;

use crate::model::{Seq, Timestamp};
use crate::planted::{self, Bug};

/// `application_id` of a Tidegate database: "Tide".
pub const APPLICATION_ID: i32 = 0x5469_6465;
/// The newest schema that this build knows; the database's `user_version`.
pub const SCHEMA_VERSION: i32 = 1;

/// What a caller can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// There is no space; the same statement may work later.
    Full,
    /// Another process holds the database; the same statement may work later.
    Busy,
    /// Nothing more may be written.
    Fatal,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the query took longer than {limit_ms} ms; ask for less at once, or give a narrower range")]
    TimedOut { limit_ms: u64 },
    #[error(
        "event {seq} is damaged: {detail}; stop the host and run it with --accept-loss-from {seq} to go on without it"
    )]
    Damaged { seq: Seq, detail: String },
    #[error("another host has taken over this database (its epoch is {found}, ours was {ours}); this host must stop")]
    Fenced { ours: i64, found: i64 },
    #[error("'{reference}' names more than one event; write SOURCE#ID, or its sequence number")]
    Ambiguous { reference: String },
    #[error("there is no database at {}; start a host once, or name another file", path.display())]
    Missing { path: PathBuf },
    #[error("{} is not a Tidegate database", path.display())]
    Foreign { path: PathBuf },
    #[error("the database has schema {found} and this build knows {known}; use a newer tidegate")]
    Newer { found: i32, known: i32 },
    #[error("stopped before it was finished")]
    Cancelled,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    /// Whether it is want of space.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io(e) => matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded),
            error => error.class() == Class::Full,
        }
    }

    /// Whether the disk has no room, and nothing else is wrong.
    pub fn lacks_room(&self) -> bool {
        let full = rusqlite::ErrorCode::DiskFull;
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) => failure.code == full,
            Self::Io(_) => self.is_full(),
            _ => false,
        }
    }

    pub fn class(&self) -> Class {
        use rusqlite::ffi;
        let Self::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) = self else { return Class::Fatal };
        if planted::is(Bug::FsyncErrorIgnored) && failure.extended_code == ffi::SQLITE_IOERR_FSYNC {
            return Class::Busy;
        }
        match failure.extended_code {
            // These say that what was written may be damaged already, or that a commit is unknown.
            ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_TRUNCATE
            | ffi::SQLITE_IOERR_SHORT_READ
            | ffi::SQLITE_IOERR_READ
            | ffi::SQLITE_IOERR_CORRUPTFS
            | ffi::SQLITE_IOERR_DATA => Class::Fatal,
            code => match code & 0xff {
                ffi::SQLITE_FULL | ffi::SQLITE_IOERR | ffi::SQLITE_READONLY | ffi::SQLITE_NOMEM => Class::Full,
                ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => Class::Busy,
                _ => Class::Fatal,
            },
        }
    }
}

/// Why a database cannot be opened for writing. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the database path '{path}' is a URI; name a plain file")]
    Uri { path: String },
    #[error("{} is not a regular file; name the database's file", path.display())]
    NotAFile { path: PathBuf },
    #[error(
        "the database {} is in use by process {pid} since {since}{}; stop that host, or talk to it instead",
        path.display(), listen.as_ref().map(|l| format!(" (listening on {l})")).unwrap_or_default()
    )]
    InUse { path: PathBuf, pid: u32, since: Timestamp, listen: Option<String> },
    #[error("the database has schema {found} and this build knows {known}; nothing was changed; use a newer tidegate")]
    NewerVersion { found: i32, known: i32 },
    #[error("{} is not a database: {detail}; name another file, or restore a backup", path.display())]
    NotADatabase { path: PathBuf, detail: String },
    #[error("{} is damaged: {detail}; restore a backup", path.display())]
    DamagedFile { path: PathBuf, detail: String },
    #[error("{} belongs to another application (application_id {found:#x}); name another file", path.display())]
    ForeignApplication { path: PathBuf, found: i32 },
    #[error(
        "the tables of {} are not those of this version (first difference: {object}); restore a backup, or undo the change",
        path.display()
    )]
    SchemaChanged { path: PathBuf, object: String },
    #[error(
        "the log is damaged: event {first_missing} is the first that is missing or changed ({detail}); restore a \
         backup, or run with --accept-loss-from {first_missing} to go on without what is lost"
    )]
    Damaged { first_missing: Seq, detail: String },
    #[error("{row} is not as it was written; restore a backup")]
    RowChanged { row: String },
    #[error("{} cannot be written: {detail}; make the directory and its files writable for this user", path.display())]
    ReadOnly { path: PathBuf, detail: String },
    #[error(
        "{} is on a network file system ({kind}), where SQLite's locks cannot be trusted; put the database on a local disk",
        path.display()
    )]
    NetworkFs { path: PathBuf, kind: &'static str },
    #[error("this build carries SQLite {found}; it needs at least 3.51.3, older versions can damage a database")]
    SqliteTooOld { found: &'static str },
    #[error("{0}")]
    Store(#[from] Error),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(Error::Sqlite(error))
    }
}

impl From<std::io::Error> for OpenError {
    fn from(error: std::io::Error) -> Self {
        Self::Store(Error::Io(error))
    }
}
