//! Consumers, their state, and the database in a few numbers.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension as _};

use crate::model::limit::ANSWER_BYTES;
use crate::model::query::StateQuery;
use crate::model::record::{ConsumerDetail, ConsumerRecord, HeldKeyRecord, StateRecord, StatsRecord};
use crate::model::spec::ConsumerKind;
use crate::model::{ConsumerName, DeliveryId, Generation, Outcome, Seq, Timestamp};
use crate::store::depth::{self, Known};
use crate::store::recovery::end;
use crate::store::row::{get_u64, int};
use crate::store::tallies::{self, Tally};
use crate::store::{Error, claims, names};

/// Deliveries that succeeded by a call, and attempts that were charged and failed.
fn summed(tally: &Tally) -> (u64, u64) {
    let failed = tally.attempts.iter().filter(|(outcome, _)| match outcome {
        // The handler was not called, or not charged.
        Outcome::Defer
        | Outcome::Interrupted
        | Outcome::Duplicate
        | Outcome::Expired
        | Outcome::Crashed
        | Outcome::Withdrawn => false,
        outcome => **outcome != Outcome::Done,
    });
    (tally.of(Outcome::Done), failed.map(|(_, count)| count).sum())
}

pub(super) fn list(conn: &Connection) -> Result<Vec<ConsumerRecord>, Error> {
    let (end, mut tallies) = (end(conn)?, tallies::all(conn)?);
    let known = depth::known(conn)?.into_iter();
    known.map(|known| record(conn, tallies.remove(&known.id).unwrap_or_default(), known, end)).collect()
}

fn record(conn: &Connection, tally: Tally, known: Known, end: Seq) -> Result<ConsumerRecord, Error> {
    let number = |sql: &str| -> Result<u64, Error> {
        Ok(conn.prepare_cached(sql)?.query_row([known.id], |row| get_u64(row, 0))?)
    };
    let (succeeded, failed_attempts) = summed(&tally);
    let lag = depth::lag(conn, &known, end)?;
    let waiting = depth::waiting(conn, known.id, end)?;
    Ok(ConsumerRecord {
        kind: known.kind,
        on: known.on.iter().map(ToString::to_string).collect(),
        status: if known.active && known.deployed { "active" } else { ConsumerRecord::REMOVED }.to_owned(),
        component: component(conn, &known, tally.last_seq)?,
        running: 0,
        depth: lag.deliveries + waiting.deliveries,
        waiting: waiting.deliveries,
        oldest_waiting_since: lag.oldest.into_iter().chain(waiting.oldest).min(),
        succeeded,
        failed_attempts,
        dead_letters: dead(conn, Some(known.id))?,
        paused: claims::is_paused(conn, known.id)?,
        breaker: "closed".to_owned(),
        blocked: number("SELECT count(*) FROM raw_waiting WHERE consumer = ?1 AND key IS NOT NULL AND blocked = 1")?,
        held_keys: number("SELECT count(DISTINCT key) FROM raw_held_keys WHERE consumer = ?1")?,
        ephemeral_lost: 0,
        name: known.name,
    })
}

/// Whether the database knows the consumer: what waits for it is not counted, so it is quick however much that is.
pub(super) fn exists(conn: &Connection, name: &ConsumerName) -> Result<bool, Error> {
    Ok(depth::known(conn)?.iter().any(|known| known.name == *name))
}

/// Consumers that the manifest no longer has, with how many deliveries wait for each. What is there for its runs alone is at work.
pub(super) fn removed(conn: &Connection) -> Result<Vec<(ConsumerName, u64)>, Error> {
    let end = end(conn)?;
    let works = |known: &Known| known.kind == ConsumerKind::Pipeline || known.active && known.deployed;
    let removed = depth::known(conn)?.into_iter().filter(|known| !works(known));
    let counted = removed.map(|known| {
        let deliveries = depth::lag(conn, &known, end)?.deliveries + depth::waiting(conn, known.id, end)?.deliveries;
        Ok((known.name, deliveries))
    });
    counted.collect()
}

/// The component of its last outcome; empty if it has none.
fn component(conn: &Connection, known: &Known, last_seq: Seq) -> Result<String, Error> {
    let sql = "SELECT n.text FROM raw_outcomes AS o JOIN names AS n ON n.id = o.component \
               WHERE o.seq = ?1 AND o.consumer = ?2 ORDER BY o.round DESC, o.call DESC LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row((int(last_seq), known.id), |row| row.get(0)).optional()?.unwrap_or_default())
}

fn dead(conn: &Connection, consumer: Option<i64>) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM raw_dead_letters WHERE status = 'dead' AND (?1 IS NULL OR consumer = ?1)";
    Ok(conn.prepare_cached(sql)?.query_row([consumer], |row| get_u64(row, 0))?)
}

/// Keys of one consumer that are shown, at most.
const HELD_MAX: usize = 1_000;

/// One consumer in full.
pub(super) fn one(conn: &Connection, name: &ConsumerName) -> Result<Option<ConsumerDetail>, Error> {
    let Some(known) = depth::known(conn)?.into_iter().find(|known| known.name == *name) else { return Ok(None) };
    let id = known.id;
    let tally = tallies::all(conn)?.remove(&id).unwrap_or_default();
    let consumer = record(conn, tally, known, end(conn)?)?;
    let since = conn
        .prepare_cached("SELECT since FROM raw_paused WHERE consumer = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let sql = "SELECT h.key, h.seq, h.round, h.since, (SELECT count(*) FROM raw_waiting AS w \
               WHERE w.consumer = h.consumer AND w.key = h.key AND w.blocked = 1) \
               FROM raw_held_keys AS h WHERE h.consumer = ?1 ORDER BY h.since, h.key LIMIT ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let held = statement.query_map((id, HELD_MAX as i64), |row| {
        let dead = DeliveryId { seq: get_u64(row, 1)?, consumer: name.clone(), round: row.get(2)? };
        Ok(HeldKeyRecord {
            key: row.get(0)?,
            dead_letter: dead.to_string(),
            since: Timestamp(row.get(3)?),
            blocked: get_u64(row, 4)?,
        })
    })?;
    let held = held.collect::<Result<_, _>>()?;
    Ok(Some(ConsumerDetail { consumer, paused_since: since.map(Timestamp), held }))
}

pub(super) fn stats(conn: &Connection) -> Result<Option<StatsRecord>, Error> {
    let number =
        |sql: &str| -> Result<u64, Error> { Ok(conn.prepare_cached(sql)?.query_row([], |row| get_u64(row, 0))?) };
    let time = |sql: &str| -> Result<Option<Timestamp>, Error> {
        Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?.map(Timestamp))
    };
    let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
    for (outcome, count) in tallies::all(conn)?.into_values().flat_map(|tally| tally.attempts) {
        *outcomes.entry(outcome).or_default() += count;
    }
    let end = end(conn)?;
    // Every number up to the end is an event, or in one of these.
    let gone = number("SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM raw_gaps")?;
    Ok(Some(StatsRecord {
        events: end.saturating_sub(gone),
        last_sequence: end,
        outcomes,
        waiting: number("SELECT count(*) FROM raw_waiting")?,
        dead_letters: dead(conn, None)?,
        generation: Generation(number("SELECT coalesce(max(generation), 0) FROM raw_generations")?),
        database_bytes: number("PRAGMA page_count")? * number("PRAGMA page_size")?,
        first_event_at: time("SELECT accepted_at FROM raw_events ORDER BY seq LIMIT 1")?,
        last_event_at: time("SELECT accepted_at FROM raw_events ORDER BY seq DESC LIMIT 1")?,
        // Of the newest only: looking at all of them would take longer with every day.
        last_outcome_at: time(
            "SELECT started_at + duration_us AS ended FROM \
             (SELECT started_at, duration_us FROM raw_outcomes ORDER BY seq DESC LIMIT 10000) ORDER BY ended DESC LIMIT 1",
        )?,
    }))
}

/// Expired values are shown with their time until they are taken away.
pub(super) fn state(conn: &Connection, consumer: &ConsumerName, query: &StateQuery) -> Result<Vec<StateRecord>, Error> {
    let Some(id) = names::find(conn, consumer.as_str())? else { return Ok(Vec::new()) };
    let sql = "SELECT key, version, length(value), expires_at, value FROM raw_state \
               WHERE consumer = ?1 AND key >= ?2 AND (?3 IS NULL OR key > ?3) ORDER BY key LIMIT ?4";
    let mut statement = conn.prepare_cached(sql)?;
    let limit = i64::try_from(super::limit(query.limit)).unwrap_or(1);
    let mut rows = statement.query((id, &query.prefix, &query.after, limit))?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(&query.prefix) {
            break;
        }
        let (value, value_base64) = match String::from_utf8(row.get(4)?) {
            Ok(text) => (Some(text), None),
            Err(e) => (None, Some(STANDARD.encode(e.as_bytes()))),
        };
        records.push(StateRecord {
            consumer: consumer.clone(),
            key,
            version: get_u64(row, 1)?,
            bytes: get_u64(row, 2)?,
            expires_at: row.get::<_, Option<i64>>(3)?.map(Timestamp),
            value,
            value_base64,
        });
        bytes += records.last().map_or(0, StateRecord::value_bytes);
        if bytes > ANSWER_BYTES {
            break;
        }
    }
    Ok(records)
}
