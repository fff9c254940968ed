//! Connections and their settings, each for a reason.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};

use super::{Error, OpenError};
use crate::planted::{self, Bug};

/// How long a statement waits for another process (a shell, a backup) to let go of the file.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// The longest value that SQLite may handle; far above the largest event.
const VALUE_BYTES_MAX: i32 = 256 << 20;
/// 3.51.3 mends a bug of fifteen years that can lose a write-ahead log under concurrent checkpoints.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// The read-write connection.
pub(super) fn writer(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::SqliteTooOld { found: rusqlite::version() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(path, flags)?;
    harden(&conn)?;
    // Closing carries the write-ahead log over when it is asked to, not as a side effect of being dropped.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(conn)
}

/// What must be set once the file is known to be ours: docs/database.md says what they are for.
pub(super) fn configure_writer(conn: &Connection) -> Result<(), OpenError> {
    // Only takes effect on a new file, and only before the first table.
    conn.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    let mode = use_wal(conn)?;
    if !mode.eq_ignore_ascii_case("wal") {
        let path = conn.path().unwrap_or_default().into();
        return Err(OpenError::ReadOnly { path, detail: format!("it stays in journal mode '{mode}'") });
    }
    // NORMAL does not sync at commit: an acknowledged event could vanish with the power.
    let synchronous = if planted::is(Bug::NormalSync) { "NORMAL" } else { "FULL" };
    conn.pragma_update(None, "synchronous", synchronous)?;
    conn.pragma_update(None, "fullfsync", true)?;
    conn.pragma_update(None, "checkpoint_fullfsync", true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // The writer checkpoints itself, and never waits behind a reader.
    run(conn, "PRAGMA wal_autocheckpoint = 0")?;
    run(conn, "PRAGMA journal_size_limit = 67108864")?;
    conn.pragma_update(None, "cache_size", -32_768)?;
    Ok(())
}

/// Answers the mode that the database is in. To its end: SQLite answers first and commits the change then, so whoever stops at the
/// answer does not hear that it failed.
fn use_wal(conn: &Connection) -> rusqlite::Result<String> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mut mode = String::new();
    while let Some(row) = rows.next()? {
        mode = row.get(0)?;
    }
    Ok(mode)
}

/// A connection that cannot write.
pub(super) fn reader(path: &Path) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(path, flags)?;
    harden(&conn)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// A database file may have been tampered with: nothing in its schema is trusted to do more than hold data.
pub(super) fn harden(conn: &Connection) -> rusqlite::Result<()> {
    for (setting, value) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DDL, false),
        (DbConfig::SQLITE_DBCONFIG_DQS_DML, false),
    ] {
        conn.set_db_config(setting, value)?;
    }
    conn.set_limit(Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX)?;
    conn.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    conn.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10)?;
    conn.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    conn.busy_timeout(BUSY)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    // With memory-mapped pages an I/O error would be a signal instead of an error code.
    run(conn, "PRAGMA mmap_size = 0")?;
    conn.pragma_update(None, "temp_store", "MEMORY")?;
    conn.set_prepared_statement_cache_capacity(128);
    Ok(())
}

/// Some pragmas answer with a row, some only at times.
pub(super) fn run(conn: &Connection, pragma: &str) -> rusqlite::Result<()> {
    let mut statement = conn.prepare(pragma)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}
