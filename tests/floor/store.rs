//! A store with nothing around it: the rows of an event and of an outcome, so many a commit, each commit synced.

use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use anyhow::Result;
use rusqlite::Connection;

/// Rows a second.
pub(crate) struct Rates {
    pub(crate) events: f64,
    pub(crate) outcomes: f64,
}

/// `each` events and outcomes, `group` a commit, in `folder`.
pub(crate) fn rates(folder: &Path, orders: &[String], group: u32, each: u32) -> Result<Rates> {
    let mut connection = open(folder)?;
    let events = timed(&mut connection, group, each, |connection, n| event(connection, orders, n))?;
    let outcomes = timed(&mut connection, group, each, outcome)?;
    Ok(Rates { events, outcomes })
}

/// An event and an outcome for each that is told of, up to `group` of each a commit, until nobody tells any more.
pub(crate) fn follow(folder: &Path, orders: &[String], group: usize, told: &Receiver<()>) -> Result<()> {
    let mut connection = open(folder)?;
    let mut n = 0;
    while told.recv().is_ok() {
        let many = 1 + told.try_iter().take(group - 1).count();
        let transaction = connection.transaction()?;
        for _ in 0..many {
            event(&transaction, orders, n)?;
            outcome(&transaction, n)?;
            n += 1;
        }
        transaction.commit()?;
    }
    Ok(())
}

fn open(folder: &Path) -> Result<Connection> {
    let path = folder.join("floor.db");
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(folder.join(format!("floor.db{suffix}"))));
    }
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE events (seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, type INTEGER NOT NULL, source INTEGER NOT NULL,
           time INTEGER NOT NULL, hash BLOB NOT NULL, data BLOB NOT NULL) STRICT;
         CREATE TABLE outcomes (seq INTEGER NOT NULL, consumer INTEGER NOT NULL, outcome INTEGER NOT NULL, attempts INTEGER NOT NULL,
           started INTEGER NOT NULL, micros INTEGER NOT NULL, fuel INTEGER NOT NULL, PRIMARY KEY (seq, consumer)) STRICT, WITHOUT ROWID;",
    )?;
    Ok(connection)
}

fn event(connection: &Connection, orders: &[String], n: u32) -> rusqlite::Result<usize> {
    let sql =
        "INSERT INTO events (id, type, source, time, hash, data) VALUES (?1, 1, 2, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    let id = ((1_u128 << 100) | u128::from(n)).to_be_bytes();
    let order = orders.get(n as usize % orders.len()).map(String::as_bytes).unwrap_or_default();
    connection.prepare_cached(sql)?.execute((&id[..], i64::from(n), &[7_u8; 32][..], order))
}

fn outcome(connection: &Connection, n: u32) -> rusqlite::Result<usize> {
    let sql = "INSERT INTO outcomes VALUES (?1, 1, 0, 1, ?2, 123, 456)";
    connection.prepare_cached(sql)?.execute((i64::from(n) + 1, i64::from(n)))
}

fn timed(
    connection: &mut Connection,
    group: u32,
    each: u32,
    insert: impl Fn(&Connection, u32) -> rusqlite::Result<usize>,
) -> Result<f64> {
    let start = Instant::now();
    for first in (0..each).step_by(group as usize) {
        let transaction = connection.transaction()?;
        for n in first..each.min(first + group) {
            insert(&transaction, n)?;
        }
        transaction.commit()?;
    }
    Ok(f64::from(each) / start.elapsed().as_secs_f64())
}
