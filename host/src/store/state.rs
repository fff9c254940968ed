//! What consumers keep between events.

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _};

use crate::model::outcome::StateWrite;
use crate::model::{ConsumerName, StateChanges, Timestamp};

use super::row::{get_u64, int, unsigned};
use super::{Error, Writer, names, sums};

/// Whether an attempt's reads and writes can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateCheck {
    Fits,
    /// Something that it read is not so any more.
    Stale,
    OverQuota,
}

/// Expired values taken away in one step, at most.
const EXPIRED_STEP: i64 = 500;

impl Writer {
    /// Compares what an attempt read with what is so now, and its writes with the quota. Writes nothing but takes
    /// away what has expired if room is short.
    pub fn check_state(
        &mut self,
        consumer: &ConsumerName,
        changes: &StateChanges,
        quota: u64,
        now: Timestamp,
    ) -> Result<StateCheck, Error> {
        if changes.reads.is_empty() && changes.listed_at.is_none() && changes.writes.is_empty() {
            return Ok(StateCheck::Fits);
        }
        let consumer = self.names.intern(&self.conn, consumer.as_str())?;
        for (key, read) in &changes.reads {
            if version(&self.conn, consumer, key, now)? != *read {
                return Ok(StateCheck::Stale);
            }
        }
        let (bytes, revision) = totals(&self.conn, consumer)?;
        if changes.listed_at.is_some_and(|listed| listed != revision) {
            return Ok(StateCheck::Stale);
        }
        let growth = self.growth(consumer, changes)?;
        if growth <= 0 || unsigned(bytes.saturating_add(growth)) <= quota {
            return Ok(StateCheck::Fits);
        }
        self.drop_expired_of(consumer, now)?;
        let (bytes, _) = totals(&self.conn, consumer)?;
        let growth = self.growth(consumer, changes)?;
        let fits = unsigned(bytes.saturating_add(growth)) <= quota;
        Ok(if fits { StateCheck::Fits } else { StateCheck::OverQuota })
    }

    /// Makes the writes of an attempt, under one new version.
    pub fn write_state(&mut self, consumer: &ConsumerName, changes: &StateChanges) -> Result<(), Error> {
        if changes.writes.is_empty() {
            return Ok(());
        }
        let name = ValueRef::from(consumer.as_str());
        let consumer = self.names.intern(&self.conn, consumer.as_str())?;
        let growth = self.growth(consumer, changes)?;
        self.state_version += 1;
        let version = int(self.state_version);
        for (key, write) in &changes.writes {
            match write {
                StateWrite::Set { value, expires_at } => {
                    let sql = "INSERT OR REPLACE INTO raw_state (consumer, key, version, expires_at, value, sum) \
                               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                    let expires_at = expires_at.map(|t| t.0);
                    // In the order of [`sums::STATE`]: without asking for the row again, as this is the way of each write.
                    let expires = expires_at.map_or(ValueRef::Null, ValueRef::Integer);
                    let key_text = ValueRef::from(key.as_str());
                    let sum = sums::sum([name, key_text, ValueRef::Integer(version), expires, ValueRef::Blob(value)]);
                    let row = (consumer, key, version, expires_at, value.as_ref(), sum);
                    self.conn.prepare_cached(sql)?.execute(row)?;
                }
                StateWrite::Delete => {
                    let sql = "DELETE FROM raw_state WHERE consumer = ?1 AND key = ?2";
                    self.conn.prepare_cached(sql)?.execute((consumer, key))?;
                }
            }
        }
        let sql = "INSERT INTO raw_state_totals VALUES (?1, max(?2, 0), ?3) \
                   ON CONFLICT (consumer) DO UPDATE SET bytes = max(bytes + ?2, 0), revision = ?3";
        self.conn.prepare_cached(sql)?.execute((consumer, growth, version))?;
        Ok(())
    }

    /// By how many bytes the writes change what is kept.
    fn growth(&self, consumer: i64, changes: &StateChanges) -> Result<i64, Error> {
        let sql = "SELECT length(CAST(key AS BLOB)) + length(value) FROM raw_state WHERE consumer = ?1 AND key = ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let mut growth: i64 = 0;
        for (key, write) in &changes.writes {
            let before: i64 = statement.query_row((consumer, key), |row| row.get(0)).optional()?.unwrap_or(0);
            let after = match write {
                StateWrite::Set { value, .. } => key.len() + value.len(),
                StateWrite::Delete => 0,
            };
            growth += i64::try_from(after).unwrap_or(i64::MAX) - before;
        }
        Ok(growth)
    }

    fn drop_expired_of(&mut self, consumer: i64, now: Timestamp) -> Result<(), Error> {
        let sql = "SELECT coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) FROM raw_state \
                   WHERE consumer = ?1 AND expires_at <= ?2";
        let bytes: i64 = self.conn.prepare_cached(sql)?.query_row((consumer, now.0), |row| row.get(0))?;
        let sql = "DELETE FROM raw_state WHERE consumer = ?1 AND expires_at <= ?2";
        self.conn.prepare_cached(sql)?.execute((consumer, now.0))?;
        let sql = "UPDATE raw_state_totals SET bytes = max(bytes - ?2, 0) WHERE consumer = ?1";
        self.conn.prepare_cached(sql)?.execute((consumer, bytes))?;
        Ok(())
    }

    /// Takes away some of what has expired; answers how many values.
    pub fn prune_state(&mut self, now: Timestamp) -> Result<usize, Error> {
        let sql = "SELECT consumer, key, length(CAST(key AS BLOB)) + length(value) FROM raw_state \
                   WHERE expires_at <= ?1 LIMIT ?2";
        let expired: Vec<(i64, String, i64)> = self
            .conn
            .prepare_cached(sql)?
            .query_map((now.0, EXPIRED_STEP), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        for (consumer, key, bytes) in &expired {
            let sql = "DELETE FROM raw_state WHERE consumer = ?1 AND key = ?2";
            self.conn.prepare_cached(sql)?.execute((consumer, key))?;
            let sql = "UPDATE raw_state_totals SET bytes = max(bytes - ?2, 0) WHERE consumer = ?1";
            self.conn.prepare_cached(sql)?.execute((consumer, bytes))?;
        }
        Ok(expired.len())
    }
}

/// Bytes kept, and the revision. A consumer that never wrote has neither.
fn totals(conn: &Connection, consumer: i64) -> Result<(i64, u64), Error> {
    let sql = "SELECT bytes, revision FROM raw_state_totals WHERE consumer = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_row([consumer], |row| Ok((row.get(0)?, get_u64(row, 1)?))).optional()?;
    Ok(found.unwrap_or_default())
}

/// 0 if the key is absent or expired.
fn version(conn: &Connection, consumer: i64, key: &str, now: Timestamp) -> Result<u64, Error> {
    let sql = "SELECT version FROM raw_state WHERE consumer = ?1 AND key = ?2 \
               AND (expires_at IS NULL OR expires_at > ?3)";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row((consumer, key, now.0), |row| get_u64(row, 0)).optional()?.unwrap_or(0))
}

/// A value and its version.
pub(super) fn get(
    conn: &Connection,
    consumer: &ConsumerName,
    key: &str,
    now: Timestamp,
) -> Result<Option<(Bytes, u64)>, Error> {
    let sql = "SELECT value, version FROM raw_state WHERE consumer = (SELECT id FROM names WHERE text = ?1) \
               AND key = ?2 AND (expires_at IS NULL OR expires_at > ?3)";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_row((consumer.as_str(), key, now.0), |row| {
        Ok((Bytes::from(row.get::<_, Vec<u8>>(0)?), get_u64(row, 1)?))
    });
    Ok(found.optional()?)
}

/// Bytes of keys and values that a consumer keeps.
pub(super) fn bytes(conn: &Connection, consumer: &ConsumerName) -> Result<u64, Error> {
    let Some(id) = names::find(conn, consumer.as_str())? else { return Ok(0) };
    let (bytes, _) = totals(conn, id)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Keys in byte order, and the revision under which they were listed; within the caller's transaction, so that both are
/// of the same moment.
pub(super) fn keys(
    conn: &Connection,
    consumer: &ConsumerName,
    (prefix, after): (&str, Option<&str>),
    limit: usize,
    now: Timestamp,
) -> Result<(Vec<String>, u64), Error> {
    let Some(id) = names::find(conn, consumer.as_str())? else { return Ok((Vec::new(), 0)) };
    let (_, revision) = totals(conn, id)?;
    let sql = "SELECT key FROM raw_state WHERE consumer = ?1 AND key >= ?2 AND (?3 IS NULL OR key > ?3) \
               AND (expires_at IS NULL OR expires_at > ?4) ORDER BY key LIMIT ?5";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((id, prefix, after, now.0, limit), |row| row.get::<_, String>(0))?;
    // Keys with the prefix stand together: the first one without it ends them.
    let mut keys = Vec::new();
    for key in rows {
        let key = key?;
        if !key.starts_with(prefix) {
            break;
        }
        keys.push(key);
    }
    Ok((keys, revision))
}
