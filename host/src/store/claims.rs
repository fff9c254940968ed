//! What survives of a claim when the host dies, and consumers that are paused.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::model::{ConsumerName, DeliveryId, Timestamp};

use super::row::{get_time, get_u64, int};
use super::waiting::get_consumer;
use super::{Error, Writer};

impl Writer {
    /// Notes that the delivery is in hand. It may have been in hand when the host died before: that is its first crash.
    pub fn claim(&mut self, id: &DeliveryId) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "INSERT INTO raw_claims (consumer, seq, round, crashes, in_hand) VALUES (?1, ?2, ?3, 1, 1) \
                   ON CONFLICT (consumer, seq, round) DO UPDATE SET in_hand = 1";
        self.conn.prepare_cached(sql)?.execute((consumer, int(id.seq), id.round))?;
        Ok(())
    }

    pub fn claim_no_more(&mut self, id: &DeliveryId) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "DELETE FROM raw_claims WHERE consumer = ?1 AND seq = ?2 AND round = ?3";
        self.conn.prepare_cached(sql)?.execute((consumer, int(id.seq), id.round))?;
        Ok(())
    }

    /// Answers whether that was news.
    pub fn pause(&mut self, consumer: &ConsumerName, paused: bool, now: Timestamp) -> Result<bool, Error> {
        let consumer = self.names.intern(&self.conn, consumer.as_str())?;
        let changed = if paused {
            let sql = "INSERT OR IGNORE INTO raw_paused (consumer, since) VALUES (?1, ?2)";
            self.conn.prepare_cached(sql)?.execute((consumer, now.0))?
        } else {
            self.conn.prepare_cached("DELETE FROM raw_paused WHERE consumer = ?1")?.execute([consumer])?
        };
        Ok(changed > 0)
    }
}

/// At a start: who was in hand when the host died is one crash further; after a clean end, nobody was.
pub(super) fn count(conn: &Connection, clean: bool) -> rusqlite::Result<()> {
    let sql = if clean {
        "DELETE FROM raw_claims"
    } else {
        "UPDATE raw_claims SET crashes = crashes + 1, in_hand = 0 WHERE in_hand = 1"
    };
    conn.execute(sql, []).map(|_| ())
}

/// Deliveries of a consumer that were in hand when the host died, and how often.
pub(super) fn crashes(conn: &Connection, consumer: (i64, &ConsumerName)) -> Result<Vec<(DeliveryId, u32)>, Error> {
    let (id, name) = consumer;
    let sql = "SELECT seq, round, crashes FROM raw_claims WHERE consumer = ?1 ORDER BY seq, round";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([id], |row| {
        Ok((DeliveryId { seq: get_u64(row, 0)?, consumer: name.clone(), round: row.get(1)? }, row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Consumers that are paused, and since when.
pub(super) fn paused(conn: &Connection) -> Result<BTreeMap<ConsumerName, Timestamp>, Error> {
    let sql = "SELECT n.text, p.since FROM raw_paused AS p JOIN names AS n ON n.id = p.consumer";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((get_consumer(row, 0)?, get_time(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn is_paused(conn: &Connection, consumer: i64) -> Result<bool, Error> {
    Ok(conn.prepare_cached("SELECT 1 FROM raw_paused WHERE consumer = ?1")?.exists([consumer])?)
}
