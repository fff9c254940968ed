//! Keys: those that dead letters hold, so that the deliveries behind them wait, and those that are settled, so that
//! another delivery of the same is not run.

use rusqlite::{Connection, OptionalExtension as _};

use crate::model::keys::HeldKey;
use crate::model::{ConsumerName, DeliveryId, Timestamp};

use super::row::{get_u64, int};
use super::waiting::delivery_id;
use super::{Error, Writer, names};

/// Marks taken away in one step, at most.
const EXPIRED_STEP: i64 = 500;

impl Writer {
    /// A dead letter holds its key from now on, in place of those of earlier rounds of the same event.
    pub fn hold(&mut self, dead: &DeliveryId, key: &str, now: Timestamp) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, dead.consumer.as_str())?;
        let sql = "DELETE FROM raw_held_keys WHERE consumer = ?1 AND seq = ?2 AND round < ?3";
        self.conn.prepare_cached(sql)?.execute((consumer, int(dead.seq), dead.round))?;
        let sql = "INSERT OR REPLACE INTO raw_held_keys (consumer, key, seq, round, since) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute((consumer, key, int(dead.seq), dead.round, now.0))?;
        Ok(())
    }

    /// The event's dead letters up to this round hold nothing any more. Answers which rounds did.
    pub fn hold_no_more(&mut self, of: &DeliveryId) -> Result<Vec<u32>, Error> {
        let consumer = self.names.intern(&self.conn, of.consumer.as_str())?;
        let sql = "DELETE FROM raw_held_keys WHERE consumer = ?1 AND seq = ?2 AND round <= ?3 RETURNING round";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rounds = statement.query_map((consumer, int(of.seq), of.round), |row| row.get(0))?;
        Ok(rounds.collect::<Result<_, _>>()?)
    }

    /// Frees these keys of a consumer, or all if there are none. Answers what was held.
    pub fn release(&mut self, consumer: &ConsumerName, keys: &[String]) -> Result<Vec<HeldKey>, Error> {
        let consumer = self.names.intern(&self.conn, consumer.as_str())?;
        let mut held = held(&self.conn, consumer)?;
        if !keys.is_empty() {
            held.retain(|held| keys.contains(&held.key));
        }
        for HeldKey { key, seq, round } in &held {
            let sql = "DELETE FROM raw_held_keys WHERE consumer = ?1 AND key = ?2 AND seq = ?3 AND round = ?4";
            self.conn.prepare_cached(sql)?.execute((consumer, key, int(*seq), round))?;
        }
        Ok(held)
    }

    /// Whether another delivery has settled this idempotency key, and it is remembered.
    pub fn is_marked_by_another(&mut self, id: &DeliveryId, key: &str, now: Timestamp) -> Result<bool, Error> {
        let by = mark(&self.conn, &id.consumer, key, now)?;
        Ok(by.is_some_and(|by| by != *id))
    }

    /// Remembers until then that the delivery has settled this key.
    pub fn mark(&mut self, id: &DeliveryId, key: &str, until: Timestamp) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "INSERT OR REPLACE INTO raw_marks (consumer, key, seq, round, until) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute((consumer, key, int(id.seq), id.round, until.0))?;
        Ok(())
    }

    /// Takes away some of the marks whose time is over; answers how many.
    pub fn prune_marks(&mut self, now: Timestamp) -> Result<usize, Error> {
        let sql = "DELETE FROM raw_marks WHERE (consumer, key) IN ( \
                   SELECT consumer, key FROM raw_marks WHERE until <= ?1 LIMIT ?2)";
        Ok(self.conn.prepare_cached(sql)?.execute((now.0, EXPIRED_STEP))?)
    }
}

/// Keys of a consumer that dead letters hold, by key.
pub(super) fn held(conn: &Connection, consumer: i64) -> Result<Vec<HeldKey>, Error> {
    let sql = "SELECT key, seq, round FROM raw_held_keys WHERE consumer = ?1 ORDER BY key, seq, round";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement
        .query_map([consumer], |row| Ok(HeldKey { key: row.get(0)?, seq: get_u64(row, 1)?, round: row.get(2)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The delivery that has settled an idempotency key, if it is remembered.
pub(super) fn mark(
    conn: &Connection,
    consumer: &ConsumerName,
    key: &str,
    now: Timestamp,
) -> Result<Option<DeliveryId>, Error> {
    let Some(id) = names::find(conn, consumer.as_str())? else { return Ok(None) };
    let sql = "SELECT m.seq, n.text, m.round FROM raw_marks AS m JOIN names AS n ON n.id = m.consumer \
               WHERE m.consumer = ?1 AND m.key = ?2 AND m.until > ?3";
    Ok(conn.prepare_cached(sql)?.query_row((id, key, now.0), delivery_id).optional()?)
}
