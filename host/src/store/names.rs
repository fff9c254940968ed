//! Recurring texts as numbers, remembered in memory.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _};

/// Texts kept in memory, at most; producers choose sources, so their number has no bound of its own.
const CACHED_MAX: usize = 20_000;

/// The writer's cache of `names`.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Box<str>, i64>,
    /// Added since the last commit: a rollback takes their rows away again.
    fresh: Vec<Box<str>>,
}

impl Names {
    /// The number of a text, which gets one if it has none.
    pub(super) fn intern(&mut self, conn: &Connection, text: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.ids.get(text) {
            return Ok(*id);
        }
        let id = match find(conn, text)? {
            Some(id) => id,
            None => {
                conn.prepare_cached("INSERT INTO names (text) VALUES (?1)")?.execute([text])?;
                self.fresh.push(text.into());
                conn.last_insert_rowid()
            }
        };
        if self.ids.len() >= CACHED_MAX {
            self.ids.clear();
        }
        self.ids.insert(text.into(), id);
        Ok(id)
    }

    pub(super) fn committed(&mut self) {
        self.fresh.clear();
    }

    /// A part of the transaction was undone: whose rows are gone is not known, so all are looked up again.
    pub(super) fn partly_rolled_back(&mut self) {
        for text in &self.fresh {
            self.ids.remove(text);
        }
    }

    pub(super) fn rolled_back(&mut self) {
        for text in self.fresh.drain(..) {
            self.ids.remove(&text);
        }
    }
}

pub(super) fn find(conn: &Connection, text: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM names WHERE text = ?1")?.query_row([text], |row| row.get(0)).optional()
}
