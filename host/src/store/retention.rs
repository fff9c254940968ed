//! Taking away what is past its time, in small steps, and never what an unfinished delivery needs.

use rusqlite::{Connection, OptionalExtension as _};

use crate::model::spec::Retention;
use crate::model::{Seq, Timestamp};

use super::chain::Hash;
use super::row::{get_u64, int};
use super::{Error, Writer, connect, depth};

/// Rows of one step, at most.
const STEP: i64 = 500;

impl Writer {
    /// One step; answers how many rows are gone. The last event always stays, so that the chain has an end.
    pub fn prune(&mut self, retention: Retention, now: Timestamp) -> Result<usize, Error> {
        let mut gone = self.prune_state(now)? + self.prune_marks(now)?;
        gone += self.prune_runs(before(now, retention.outcomes.max(retention.events)))?;
        gone += self.prune_arrivals(before(now, retention.events))?;
        gone += self.prune_outcomes(before(now, retention.outcomes))?;
        gone += self.prune_queries(before(now, retention.outcomes))?;
        gone += self.prune_events(before(now, retention.events), now)?;
        if gone > 0 {
            connect::run(&self.conn, "PRAGMA incremental_vacuum(256)")?;
        }
        Ok(gone)
    }

    /// A run that has stopped may be taken up again for as long as it is kept, and then its steps need its event.
    fn prune_events(&mut self, limit: Timestamp, now: Timestamp) -> Result<usize, Error> {
        let last = first_at(&self.conn, limit, self.head.seq)?.saturating_sub(1);
        let last = last.min(depth::needed_after(&self.conn, self.head.seq)?).min(self.head.seq.saturating_sub(1));
        let sql = "SELECT seq, hash FROM raw_events AS e WHERE seq <= ?1 AND accepted_at < ?2 \
                   AND NOT EXISTS (SELECT 1 FROM raw_waiting AS w WHERE w.seq = e.seq) \
                   AND NOT EXISTS (SELECT 1 FROM raw_dead_letters AS d WHERE d.seq = e.seq AND d.status = 'dead') \
                   AND NOT EXISTS (SELECT 1 FROM raw_held_keys AS h WHERE h.seq = e.seq) \
                   AND NOT EXISTS (SELECT 1 FROM raw_runs AS r WHERE r.seq = e.seq \
                     AND (r.ended_at IS NULL OR r.status = 'stopped')) \
                   AND NOT EXISTS (SELECT 1 FROM raw_arrivals AS a WHERE a.seq = e.seq) \
                   ORDER BY seq LIMIT ?3";
        let old: Vec<(Seq, Hash)> = self
            .conn
            .prepare_cached(sql)?
            .query_map((int(last), limit.0, STEP), |row| Ok((get_u64(row, 0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (seq, hash) in &old {
            self.conn.prepare_cached("DELETE FROM raw_events WHERE seq = ?1")?.execute([int(*seq)])?;
            note_gap(&self.conn, *seq, hash, now)?;
        }
        self.prune_jobs(old.iter().map(|(seq, _)| *seq))?;
        Ok(old.len())
    }

    fn prune_outcomes(&mut self, limit: Timestamp) -> Result<usize, Error> {
        // Beyond a consumer's position its outcomes say what is settled, so they stay.
        let sql = "DELETE FROM raw_outcomes WHERE (seq, consumer, round, call) IN ( \
                   SELECT o.seq, o.consumer, o.round, o.call FROM raw_outcomes AS o WHERE o.seq <= ?1 AND o.started_at < ?2 \
                   AND o.seq <= (SELECT c.seq FROM raw_cursors AS c WHERE c.consumer = o.consumer) \
                   AND NOT EXISTS (SELECT 1 FROM raw_waiting AS w WHERE w.seq = o.seq AND w.consumer = o.consumer) \
                   AND NOT EXISTS (SELECT 1 FROM raw_errands AS s WHERE s.seq = o.seq AND s.consumer = o.consumer) \
                   AND NOT EXISTS (SELECT 1 FROM raw_dead_letters AS d WHERE d.seq = o.seq AND d.consumer = o.consumer \
                     AND d.status = 'dead') LIMIT ?3) RETURNING seq";
        let last = first_at(&self.conn, limit, self.head.seq)?;
        let of: Vec<Seq> = self
            .conn
            .prepare_cached(sql)?
            .query_map((int(last), limit.0, STEP), |row| get_u64(row, 0))?
            .collect::<Result<_, _>>()?;
        let mut gone = of.len();
        self.prune_jobs(of)?;
        let sql = "DELETE FROM raw_dead_letters WHERE (seq, consumer, round) IN ( \
                   SELECT seq, consumer, round FROM raw_dead_letters WHERE status <> 'dead' AND decided_at < ?1 LIMIT ?2)";
        gone += self.conn.prepare_cached(sql)?.execute((limit.0, STEP))?;
        Ok(gone + self.prune_replayed(last)?)
    }
}

fn before(now: Timestamp, age: std::time::Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(age.as_micros()).unwrap_or(i64::MAX)))
}

/// The first event that was accepted at or after a time; the one after the end if there is none. Times of acceptance grow
/// with the sequence unless the machine's clock was set back, so a search by halves is close enough.
pub(super) fn first_at(conn: &Connection, time: Timestamp, end: Seq) -> Result<Seq, Error> {
    let sql = "SELECT seq, accepted_at FROM raw_events WHERE seq >= ?1 ORDER BY seq LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    let (mut low, mut high) = (1, end + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let found =
            statement.query_row([int(middle)], |row| Ok((get_u64(row, 0)?, row.get::<_, i64>(1)?))).optional()?;
        match found {
            Some((seq, accepted_at)) if accepted_at < time.0 => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Notes that an event is gone, together with its neighbours that are.
fn note_gap(conn: &Connection, seq: Seq, hash: &Hash, now: Timestamp) -> Result<(), Error> {
    let sql = "SELECT first_seq FROM raw_gaps WHERE last_seq = ?1 AND cause = 'pruned'";
    let joined = conn.prepare_cached(sql)?.query_row([int(seq - 1)], |row| get_u64(row, 0)).optional()?;
    if joined.is_some() {
        conn.prepare_cached("DELETE FROM raw_gaps WHERE last_seq = ?1")?.execute([int(seq - 1)])?;
    }
    let first = joined.unwrap_or(seq);
    let sql = "UPDATE raw_gaps SET first_seq = ?1 WHERE first_seq = ?2 AND cause = 'pruned'";
    if conn.prepare_cached(sql)?.execute((int(first), int(seq + 1)))? == 0 {
        let sql = "INSERT INTO raw_gaps VALUES (?1, ?2, ?3, 'pruned', ?4)";
        conn.prepare_cached(sql)?.execute((int(seq), int(first), hash, now.0))?;
    }
    Ok(())
}
