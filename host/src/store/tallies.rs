//! How often each consumer's attempts came to what: kept as they are recorded, so that nobody has to count millions of rows.
//! What a transaction adds is gathered in memory and written with it.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use crate::model::{Outcome, Seq};

use super::Error;
use super::outcomes::{outcome_code, outcome_of};
use super::row::{get_u64, int};

/// What the open transaction adds: by consumer and outcome, how many, and the last of their events.
#[derive(Clone, Debug, Default)]
pub(super) struct Tallies {
    fresh: BTreeMap<(i64, u8), (u64, Seq)>,
}

impl Tallies {
    pub(super) fn count(&mut self, consumer: i64, outcome: Outcome, seq: Seq) {
        let (count, last) = self.fresh.entry((consumer, outcome_code(outcome))).or_default();
        *count += 1;
        *last = seq.max(*last);
    }

    /// The transaction is about to be committed.
    pub(super) fn write(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO raw_tallies (consumer, outcome, attempts, last_seq) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (consumer, outcome) DO UPDATE SET attempts = attempts + ?3, last_seq = max(last_seq, ?4)";
        for ((consumer, outcome), (count, last)) in std::mem::take(&mut self.fresh) {
            conn.prepare_cached(sql)?.execute((consumer, outcome, int(count), int(last)))?;
        }
        Ok(())
    }

    /// The transaction was undone.
    pub(super) fn forget(&mut self) {
        self.fresh.clear();
    }
}

/// What a consumer's attempts came to, ever.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub attempts: BTreeMap<Outcome, u64>,
    /// Of the last event among its outcomes.
    pub last_seq: Seq,
}

impl Tally {
    pub(super) fn of(&self, outcome: Outcome) -> u64 {
        self.attempts.get(&outcome).copied().unwrap_or(0)
    }
}

/// By consumer.
pub(super) fn all(conn: &Connection) -> Result<HashMap<i64, Tally>, Error> {
    let mut statement = conn.prepare_cached("SELECT consumer, outcome, attempts, last_seq FROM raw_tallies")?;
    let mut rows = statement.query([])?;
    let mut tallies: HashMap<i64, Tally> = HashMap::new();
    while let Some(row) = rows.next()? {
        let tally = tallies.entry(row.get(0)?).or_default();
        if let Some(outcome) = outcome_of(row.get(1)?) {
            tally.attempts.insert(outcome, get_u64(row, 2)?);
        }
        tally.last_seq = tally.last_seq.max(get_u64(row, 3)?);
    }
    Ok(tallies)
}

#[cfg(test)]
#[path = "tallies_tests.rs"]
mod tests;
