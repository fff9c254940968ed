//! Deliveries that must wait: until they are due, or for their ordering key.

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::model::delivery::KeyStanding;
use crate::model::{ConsumerName, Delivery, DeliveryId, Priority, Seq, State, Timestamp};

use super::jobs::{code, get_priority};
use super::row::{get_time, get_u64, int};
use super::{Error, Writer, names, sums};

/// A delivery that is stored because it must wait.
#[derive(Clone, Debug)]
pub struct WaitingRow {
    pub id: DeliveryId,
    pub delivery: Delivery,
    pub key: Option<String>,
    /// It waits for its key, and not for its due time.
    pub blocked: bool,
    /// It is for something that has a row of its own.
    pub errand: bool,
    pub priority: Priority,
}

/// Says the same again, or differently, of a delivery that has not been called since.
const PARK: &str = "INSERT INTO raw_waiting (seq, consumer, round, due_at, attempts, calls, key, blocked, errand, \
    priority) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
    ON CONFLICT (seq, consumer, round) DO UPDATE SET due_at = ?4, key = coalesce(?7, key), blocked = ?8 WHERE calls = ?6";

impl Writer {
    /// How often the handler of a waiting delivery has been called; none if it does not wait.
    pub fn waiting_calls(&mut self, id: &DeliveryId) -> Result<Option<u32>, Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "SELECT calls FROM raw_waiting WHERE seq = ?1 AND consumer = ?2 AND round = ?3";
        let mut statement = self.conn.prepare_cached(sql)?;
        Ok(statement.query_row((int(id.seq), consumer, id.round), |row| row.get(0)).optional()?)
    }

    /// Stores a delivery that waits until it is due, in place of how it waited before; with the priority that it had.
    pub fn wait(
        &mut self,
        id: &DeliveryId,
        due_at: Timestamp,
        (attempts, calls): (u32, u32),
        key: Option<&str>,
        errand: bool,
    ) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "INSERT INTO raw_waiting (seq, consumer, round, due_at, attempts, calls, key, blocked, errand) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8) ON CONFLICT (seq, consumer, round) DO UPDATE SET \
                   due_at = ?4, attempts = ?5, calls = ?6, key = ?7, blocked = 0, errand = ?8";
        let row = (int(id.seq), consumer, id.round, due_at.0, attempts, calls, key, errand);
        sums::WAITING.write(&self.conn, (int(id.seq), consumer, id.round), sql, row)
    }

    /// Stores a delivery that is not in hand. One that has been called or settled since is left alone.
    pub fn park(&mut self, waiting: &WaitingRow) -> Result<(), Error> {
        let WaitingRow { id, delivery, key, blocked, errand, priority } = waiting;
        let State::Pending { due_at } = delivery.state else { return Ok(()) };
        let stored = self.waiting_calls(id)?.is_some();
        if !stored && (delivery.calls > 0 || self.has_outcome(id, 1)?) {
            return Ok(());
        }
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let blocked = *blocked && key.is_some();
        let (attempts, calls) = (delivery.attempts, delivery.calls);
        let row = (int(id.seq), consumer, id.round, due_at.0, attempts, calls, key, blocked, errand, code(*priority));
        sums::WAITING.write(&self.conn, (int(id.seq), consumer, id.round), PARK, row)
    }

    /// The round of the next delivery of the same event to the same consumer.
    pub fn next_round(&mut self, id: &DeliveryId) -> Result<u32, Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "SELECT max(?3, coalesce((SELECT max(round) FROM raw_waiting WHERE seq = ?1 AND consumer = ?2), 0), \
                   coalesce((SELECT max(round) FROM raw_outcomes WHERE seq = ?1 AND consumer = ?2), 0)) + 1";
        let mut statement = self.conn.prepare_cached(sql)?;
        Ok(statement.query_row((int(id.seq), consumer, id.round), |row| row.get(0))?)
    }

    pub fn wait_no_more(&mut self, id: &DeliveryId) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        self.conn
            .prepare_cached("DELETE FROM raw_waiting WHERE seq = ?1 AND consumer = ?2 AND round = ?3")?
            .execute((int(id.seq), consumer, id.round))?;
        Ok(())
    }
}

/// From columns sequence, consumer's name and round.
pub(super) fn delivery_id(row: &Row<'_>) -> rusqlite::Result<DeliveryId> {
    Ok(DeliveryId { seq: get_u64(row, 0)?, consumer: get_consumer(row, 1)?, round: row.get(2)? })
}

pub(super) fn get_consumer(row: &Row<'_>, index: usize) -> rusqlite::Result<ConsumerName> {
    ConsumerName::new(row.get_ref(index)?.as_str()?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.into()))
}

/// Deliveries of a consumer and a priority that wait until they are due, by due time, sequence and round, after the given
/// one.
pub(super) fn page(
    conn: &Connection,
    consumer: &ConsumerName,
    priority: Priority,
    after: Option<&(Timestamp, DeliveryId)>,
    limit: usize,
) -> Result<Vec<WaitingRow>, Error> {
    let sql = "SELECT w.seq, w.round, w.due_at, w.attempts, w.calls, w.key, w.blocked, w.errand, w.priority FROM raw_waiting AS w \
               WHERE w.consumer = (SELECT id FROM names WHERE text = ?1) AND w.priority = ?6 AND w.blocked = 0 \
               AND (w.due_at, w.seq, w.round) > (?2, ?3, ?4) ORDER BY w.due_at, w.seq, w.round LIMIT ?5";
    let (due_at, seq, round): (i64, Seq, i64) =
        after.map_or((i64::MIN, 0, -1), |(due_at, id)| (due_at.0, id.seq, i64::from(id.round)));
    let mut statement = conn.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((consumer.as_str(), due_at, int(seq), round, limit, code(priority)), |row| {
        waiting_row(row, consumer)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Deliveries of a consumer that wait for a key, by sequence and round; only those of `later` rounds, or all.
pub(super) fn blocked(
    conn: &Connection,
    consumer: &ConsumerName,
    key: &str,
    later: bool,
    limit: usize,
) -> Result<Vec<WaitingRow>, Error> {
    let Some(id) = names::find(conn, consumer.as_str())? else { return Ok(Vec::new()) };
    let sql = "SELECT w.seq, w.round, w.due_at, w.attempts, w.calls, w.key, w.blocked, w.errand, w.priority FROM raw_waiting AS w \
               WHERE w.consumer = ?1 AND w.key = ?2 AND w.blocked = 1 AND w.round >= ?4 ORDER BY w.seq, w.round LIMIT ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((id, key, limit, later), |row| waiting_row(row, consumer))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn waiting_row(row: &Row<'_>, consumer: &ConsumerName) -> rusqlite::Result<WaitingRow> {
    let state = State::Pending { due_at: get_time(row, 2)? };
    Ok(WaitingRow {
        id: DeliveryId { seq: get_u64(row, 0)?, consumer: consumer.clone(), round: row.get(1)? },
        delivery: Delivery { state, attempts: row.get(3)?, calls: row.get(4)? },
        key: row.get(5)?,
        blocked: row.get(6)?,
        errand: row.get(7)?,
        priority: get_priority(row, 8)?,
    })
}

/// Keys of a consumer's deliveries that wait, with the last event of those that wait for the key itself.
pub(super) fn keys(conn: &Connection, consumer: i64) -> Result<Vec<KeyStanding>, Error> {
    let sql = "SELECT key, max(NOT blocked AND (calls > 0 OR round = 0)), max(CASE blocked WHEN 1 THEN seq END), \
               max(blocked AND round > 0) FROM raw_waiting WHERE consumer = ?1 AND key IS NOT NULL GROUP BY key ORDER BY key";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([consumer], |row| {
        let last: Option<i64> = row.get(2)?;
        let blocked_to = last.and_then(|seq| Seq::try_from(seq).ok());
        Ok(KeyStanding { key: row.get(0)?, taken: row.get(1)?, blocked_to, later: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
