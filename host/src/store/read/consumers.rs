//! Consumers, their state, and the database in a few numbers.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension as _};

use crate::model::limit::ANSWER_BYTES;
use crate::model::query::StateQuery;
use crate::model::record::{ConsumerRecord, StateRecord, StatsRecord};
use crate::model::spec::SubscriptionSpec;
use crate::model::{ConsumerName, Generation, Outcome, Timestamp};
use crate::store::depth::{self, Known};
use crate::store::outcomes::outcome_code;
use crate::store::recovery::end;
use crate::store::row::{get_u64, int};
use crate::store::{Error, names};

use super::outcomes::get_outcome;

/// What a consumer's attempts came to.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    succeeded: u64,
    failed: u64,
    /// Of the last event among its outcomes.
    last_seq: u64,
}

fn tallies(conn: &Connection) -> Result<HashMap<i64, Tally>, Error> {
    let sql = "SELECT consumer, outcome, count(*), max(seq) FROM raw_outcomes GROUP BY consumer, outcome";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut tallies: HashMap<i64, Tally> = HashMap::new();
    while let Some(row) = rows.next()? {
        let (outcome, count) = (get_outcome(row, 1)?, get_u64(row, 2)?);
        let tally = tallies.entry(row.get(0)?).or_default();
        match outcome {
            Outcome::Done => tally.succeeded += count,
            // The handler was not called, or not charged.
            Outcome::Defer | Outcome::Interrupted | Outcome::Duplicate | Outcome::Expired | Outcome::Crashed => {}
            _ => tally.failed += count,
        }
        tally.last_seq = tally.last_seq.max(get_u64(row, 3)?);
    }
    Ok(tallies)
}

pub(super) fn list(conn: &Connection) -> Result<Vec<ConsumerRecord>, Error> {
    let end = end(conn)?;
    let tallies = tallies(conn)?;
    let mut records = Vec::new();
    for known in depth::known(conn)? {
        let tally = tallies.get(&known.id).copied().unwrap_or_default();
        let lag = depth::lag(conn, &known, end)?;
        let waiting = depth::waiting(conn, known.id, end)?;
        records.push(ConsumerRecord {
            on: known.on.iter().map(shown).collect(),
            status: if known.active { "active" } else { "removed" }.to_owned(),
            component: component(conn, &known, tally)?,
            running: 0,
            depth: lag.deliveries + waiting.deliveries,
            waiting: waiting.deliveries,
            oldest_waiting_since: lag.oldest.into_iter().chain(waiting.oldest).min(),
            succeeded: tally.succeeded,
            failed_attempts: tally.failed,
            dead_letters: dead(conn, Some(known.id))?,
            name: known.name,
        });
    }
    Ok(records)
}

fn shown(subscription: &SubscriptionSpec) -> String {
    match &subscription.version {
        Some(version) => format!("{} {version}", subscription.pattern),
        None => subscription.pattern.to_string(),
    }
}

/// The component of its last outcome; empty if it has none.
fn component(conn: &Connection, known: &Known, tally: Tally) -> Result<String, Error> {
    let sql = "SELECT n.text FROM raw_outcomes AS o JOIN names AS n ON n.id = o.component \
               WHERE o.seq = ?1 AND o.consumer = ?2 ORDER BY o.round DESC, o.call DESC LIMIT 1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row((int(tally.last_seq), known.id), |row| row.get(0)).optional()?.unwrap_or_default())
}

fn dead(conn: &Connection, consumer: Option<i64>) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM raw_dead_letters WHERE status = 'dead' AND (?1 IS NULL OR consumer = ?1)";
    Ok(conn.prepare_cached(sql)?.query_row([consumer], |row| get_u64(row, 0))?)
}

pub(super) fn stats(conn: &Connection) -> Result<Option<StatsRecord>, Error> {
    let number =
        |sql: &str| -> Result<u64, Error> { Ok(conn.prepare_cached(sql)?.query_row([], |row| get_u64(row, 0))?) };
    let time = |sql: &str| -> Result<Option<Timestamp>, Error> {
        Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?.map(Timestamp))
    };
    let total = number("SELECT count(*) FROM raw_outcomes")?;
    let sql = "SELECT outcome, count(*) FROM raw_outcomes WHERE outcome <> 0 GROUP BY outcome";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((get_outcome(row, 0)?, get_u64(row, 1)?)))?;
    let mut outcomes: BTreeMap<Outcome, u64> = rows.collect::<Result<_, _>>()?;
    let done = total.saturating_sub(outcomes.values().sum());
    if done > 0 {
        outcomes.insert(Outcome::Done, done);
    }
    debug_assert_eq!(outcome_code(Outcome::Done), 0);
    Ok(Some(StatsRecord {
        events: number("SELECT count(*) FROM raw_events")?,
        last_sequence: end(conn)?,
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
