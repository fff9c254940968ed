//! Brings a database to this build's schema, and checks that it has that schema and no other.

use std::path::Path;

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use super::{APPLICATION_ID, OpenError, SCHEMA_VERSION, connect};

/// Numbered from 1; the number is the `user_version` that a migration leaves behind.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_initial.sql")];

/// What is found before anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No table, no version: a file just created.
    Empty,
    Version(i32),
}

/// Looks, and refuses what is not ours or newer than us. Changes nothing.
pub(super) fn inspect(conn: &Connection, path: &Path) -> Result<Found, OpenError> {
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i32>(0));
    let application = number("PRAGMA application_id").map_err(|e| unreadable(path, e))?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    match (application, version, tables) {
        (0, 0, 0) => Ok(Found::Empty),
        (APPLICATION_ID, version, _) if version > SCHEMA_VERSION => {
            Err(OpenError::NewerVersion { found: version, known: SCHEMA_VERSION })
        }
        (APPLICATION_ID, version, _) => Ok(Found::Version(version)),
        (found, ..) => Err(OpenError::ForeignApplication { path: path.to_owned(), found }),
    }
}

fn unreadable(path: &Path, error: rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(NotADatabase | DatabaseCorrupt) => {
            OpenError::NotADatabase { path: path.to_owned(), detail: error.to_string() }
        }
        _ => error.into(),
    }
}

/// Applies what is missing, in one transaction.
pub(super) fn apply(conn: &mut Connection, found: Found) -> Result<(), OpenError> {
    let version = match found {
        Found::Empty => 0,
        Found::Version(version) => version,
    };
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let tx = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for sql in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(0)) {
        tx.execute_batch(sql)?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    tx.commit()?;
    Ok(())
}

/// A table, index or view that was added, changed or taken away could make the rules of the schema untrue.
pub(super) fn check_schema(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let mut fresh = Connection::open_in_memory()?;
    connect::harden(&fresh)?;
    apply(&mut fresh, Found::Empty)?;
    let (expected, actual) = (objects(&fresh)?, objects(conn)?);
    if expected == actual {
        return Ok(());
    }
    let differing =
        actual.iter().find(|o| !expected.contains(o)).or_else(|| expected.iter().find(|o| !actual.contains(o)));
    let object = differing.map_or_else(String::new, |(name, _)| name.clone());
    Err(OpenError::SchemaChanged { path: path.to_owned(), object })
}

/// Each object of the schema with a digest of its text.
fn objects(conn: &Connection) -> Result<Vec<(String, [u8; 32])>, OpenError> {
    let sql = "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema ORDER BY type, name";
    let mut statement = conn.prepare(sql)?;
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, Sha256::digest(row.get_ref(1)?.as_str()?.as_bytes()).into())))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// How the live schema looks from outside: each view with its columns, for the test of docs/database.md.
#[cfg(test)]
pub(super) fn views(conn: &Connection) -> Vec<(String, Vec<String>)> {
    let mut statement = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name").unwrap();
    let names: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let columns = |name: &String| {
        let statement = conn.prepare(&format!("SELECT * FROM {name}")).unwrap();
        statement.column_names().map(str::to_owned).collect()
    };
    names.iter().map(|name| (name.clone(), columns(name))).collect()
}
