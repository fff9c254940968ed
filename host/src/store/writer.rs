//! The one read-write connection: transactions, checkpoints, and the checks at its opening.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;
use rusqlite::wal::CheckpointMode;

use crate::model::{Seq, Timestamp};
use crate::planted::{self, Bug};

use super::chain::Head;
use super::file::{Lock, LockInfo, check_file_system, create_if_missing, real_path};
use super::names::Names;
use super::runs::Definitions;
use super::tallies::Tallies;
use super::{Error, OpenError, claims, connect, migrate, verify};

/// When the write-ahead log is carried over to the database, in its pages (of 4 KiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// After so many they are carried over, without waiting for anyone.
    pub passive: u32,
    /// After so many it is to be cut back, and how often that is tried again.
    pub truncate: u32,
    pub truncate_again: u32,
}

impl Default for Checkpoints {
    /// Cut back at 64 MiB.
    fn default() -> Self {
        Self { passive: 1_000, truncate: 16_384, truncate_again: 4_096 }
    }
}

/// A reader may hold up the cut for so long, no longer.
const TRUNCATE_BUSY: Duration = Duration::from_millis(50);

/// What an opening needs to know.
#[derive(Clone, Debug)]
pub struct Opening {
    pub path: PathBuf,
    pub now: Timestamp,
    /// Where the host's HTTP API listens, for whoever finds the database in use.
    pub listen: Option<String>,
    /// Go on although the log is damaged from this sequence on.
    pub accept_loss_from: Option<Seq>,
    /// The file may not grow past so many pages: a full disk for tests.
    pub pages_max: Option<u32>,
    pub checkpoints: Checkpoints,
}

impl Opening {
    /// With nothing out of the ordinary.
    pub fn new(path: impl Into<PathBuf>, now: Timestamp) -> Self {
        Self {
            path: path.into(),
            now,
            listen: None,
            accept_loss_from: None,
            pages_max: None,
            checkpoints: Checkpoints::default(),
        }
    }
}

/// The writer of one database, for as long as its lock is held.
#[derive(Debug)]
pub struct Writer {
    pub(super) conn: Connection,
    pub(super) names: Names,
    pub(super) tallies: Tallies,
    pub(super) definitions: Definitions,
    pub(super) head: Head,
    /// Of the last state write of any consumer.
    pub(super) state_version: u64,
    /// What a rollback goes back to.
    committed: (Head, u64),
    path: PathBuf,
    database_id: [u8; 16],
    epoch: i64,
    careful_to: Seq,
    wal_pages: Arc<AtomicU32>,
    checkpoints: Checkpoints,
    passive_at: u32,
    truncate_at: u32,
    lock: Lock,
}

impl Writer {
    pub fn open(opening: &Opening) -> Result<Self, OpenError> {
        let path = real_path(&opening.path)?;
        check_file_system(&path)?;
        let info = LockInfo { pid: std::process::id(), since: opening.now, listen: opening.listen.clone() };
        let lock = Lock::take(&path, &info)?;
        let read_only = |detail: String| OpenError::ReadOnly { path: path.clone(), detail };
        create_if_missing(&path).map_err(|e| read_only(e.to_string()))?;
        check_writable(&path)?;
        let mut conn = connect::writer(&path)?;
        let found = migrate::inspect(&conn, &path)?;
        connect::configure_writer(&conn)?;
        migrate::apply(&mut conn, found)?;
        migrate::check_schema(&conn, &path)?;
        let host = take_over(&conn, opening.now)?;
        if !host.clean {
            verify::check_pages(&mut conn, &path)?;
        }
        let head = verify::at_start(&mut conn, &path, host.database_id, opening)?;
        let state_version = conn.query_row("SELECT coalesce(max(revision), 0) FROM raw_state_totals", [], |row| {
            super::row::get_u64(row, 0)
        })?;
        let wal_pages = watch_pages(&mut conn)?;
        let store = Self {
            conn,
            names: Names::default(),
            tallies: Tallies::default(),
            definitions: Definitions::default(),
            head,
            state_version,
            committed: (head, state_version),
            path,
            database_id: host.database_id,
            epoch: host.epoch,
            careful_to: if host.clean { 0 } else { head.seq },
            wal_pages,
            checkpoints: opening.checkpoints,
            passive_at: opening.checkpoints.passive,
            truncate_at: opening.checkpoints.truncate,
            lock,
        };
        if let Some(pages) = opening.pages_max {
            store.limit_pages(pages)?;
        }
        Ok(store)
    }

    /// The file may not grow past so many pages: a disk that is full, for tests.
    pub fn limit_pages(&self, pages: u32) -> Result<(), Error> {
        Ok(connect::run(&self.conn, &format!("PRAGMA max_page_count = {pages}"))?)
    }

    /// The database's real path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn database_id(&self) -> [u8; 16] {
        self.database_id
    }

    /// The end of the log, what is not committed yet included.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The end of the log when it was opened after an unclean stop, otherwise 0.
    pub fn careful_to(&self) -> Seq {
        self.careful_to
    }

    /// Tells whoever finds the database in use where its host listens.
    pub fn announce(&mut self, now: Timestamp, listen: Option<String>) -> Result<(), Error> {
        Ok(self.lock.write(&LockInfo { pid: std::process::id(), since: now, listen })?)
    }

    /// Begins a transaction, if the database is still ours.
    pub fn begin(&mut self) -> Result<(), Error> {
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let found = self.conn.prepare_cached("SELECT epoch FROM host")?.query_row([], |row| row.get(0))?;
        let ours = found == self.epoch || planted::is(Bug::ClaimWithoutEpoch);
        if ours { Ok(()) } else { Err(Error::Fenced { ours: self.epoch, found }) }
    }

    /// Durable when it returns.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.tallies.write(&self.conn)?;
        self.conn.prepare_cached("COMMIT")?.execute([])?;
        self.names.committed();
        self.committed = (self.head, self.state_version);
        Ok(())
    }

    /// Undoes everything since [`Writer::begin`]. After some errors SQLite has done so already.
    pub fn rollback(&mut self) -> Result<(), Error> {
        (self.head, self.state_version) = self.committed;
        self.names.rolled_back();
        self.tallies.forget();
        if !self.conn.is_autocommit() {
            self.conn.prepare_cached("ROLLBACK")?.execute([])?;
        }
        Ok(())
    }

    /// Runs `work` so that it leaves no trace unless it answers `true`.
    pub fn all_or_nothing<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<(bool, T), Error>) -> Result<T, Error> {
        let before = (self.head, self.state_version, self.tallies.clone());
        self.conn.prepare_cached("SAVEPOINT part")?.execute([])?;
        let (keep, value) = work(self)?;
        if !keep {
            self.conn.prepare_cached("ROLLBACK TO part")?.execute([])?;
            (self.head, self.state_version, self.tallies) = before;
            self.names.partly_rolled_back();
        }
        self.conn.prepare_cached("RELEASE part")?.execute([])?;
        Ok(value)
    }

    /// Carries the write-ahead log over to the database when it is long enough. Never waits behind a reader for
    /// longer than a moment.
    pub fn checkpoint_if_due(&mut self) -> Result<(), Error> {
        let pages = self.wal_pages.load(Ordering::Relaxed);
        let Checkpoints { passive, truncate, truncate_again } = self.checkpoints;
        if pages < passive {
            (self.passive_at, self.truncate_at) = (passive, truncate);
        }
        if pages >= self.truncate_at {
            self.truncate_at = pages.saturating_add(truncate_again);
            return self.truncate(TRUNCATE_BUSY);
        }
        if pages >= self.passive_at {
            self.passive_at = pages.saturating_add(passive);
            return self.checkpoint();
        }
        Ok(())
    }

    /// Carries over what it can: what is over there need not be kept in the write-ahead log, whose room is used anew.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        tolerate(self.conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE).map(|_| ()))
    }

    fn truncate(&mut self, busy: Duration) -> Result<(), Error> {
        self.conn.busy_timeout(busy)?;
        let done = self.conn.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE);
        self.conn.busy_timeout(connect::BUSY)?;
        if done.is_ok() {
            self.wal_pages.store(0, Ordering::Relaxed);
        }
        tolerate(done.map(|_| ()))
    }

    /// Notes a clean end, empties the write-ahead log and closes.
    pub fn close(mut self) -> Result<(), Error> {
        self.begin()?;
        self.conn.execute("UPDATE host SET clean = 1", [])?;
        self.commit()?;
        self.truncate(TRUNCATE_BUSY)?;
        self.conn.close().map_err(|(_, e)| e)?;
        Ok(())
    }
}

/// A checkpoint that finds the disk full or a reader in its way can be made later.
fn tolerate(done: rusqlite::Result<()>) -> Result<(), Error> {
    match done.map_err(Error::from) {
        Err(e) if e.class() == super::Class::Fatal => Err(e),
        _ => Ok(()),
    }
}

fn watch_pages(conn: &mut Connection) -> rusqlite::Result<Arc<AtomicU32>> {
    let pages = Arc::new(AtomicU32::new(0));
    let shared = Arc::clone(&pages);
    conn.wal_hook(Some(move |_: &mut Wal, count| {
        shared.store(u32::try_from(count).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    Ok(pages)
}

/// By its mode bits, as opening the file is SQLite's alone. On a read-only disk SQLite would only say that it cannot
/// open it.
fn check_writable(path: &Path) -> Result<(), OpenError> {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::READ_OK)
        .map_err(|e| OpenError::ReadOnly { path: path.to_owned(), detail: e.to_string() })
}

struct HostRow {
    database_id: [u8; 16],
    epoch: i64,
    clean: bool,
}

/// Counts the epoch up, and the crashes of what was in hand: whoever believed to own the database before finds at its next transaction that it does not.
fn take_over(conn: &Connection, now: Timestamp) -> Result<HostRow, OpenError> {
    let (database_id, boot) = (random()?, random()?);
    conn.execute_batch("BEGIN IMMEDIATE")?;
    conn.execute("INSERT OR IGNORE INTO host VALUES (1, ?1, 0, ?2, 0, 0, 1)", (database_id, boot))?;
    let row = conn.query_row("SELECT database_id, epoch + 1, clean FROM host", [], |row| {
        Ok(HostRow { database_id: row.get(0)?, epoch: row.get(1)?, clean: row.get(2)? })
    })?;
    claims::count(conn, row.clean)?;
    let pid = std::process::id();
    conn.execute(
        "UPDATE host SET epoch = ?1, boot_id = ?2, pid = ?3, started_at = ?4, clean = 0",
        (row.epoch, boot, pid, now.0),
    )?;
    conn.execute_batch("COMMIT")?;
    Ok(row)
}

fn random() -> Result<[u8; 16], OpenError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    Ok(bytes)
}
