//! Outcomes and dead letters as they are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension as _, Row, params_from_iter};

use crate::model::query::{DeadLetterQuery, LIMIT_MAX, OutcomeQuery, bounded, is_full};
use crate::model::record::{DeadLetterRecord, EventRecord, OutcomeRecord};
use crate::model::{DeliveryId, Generation, Outcome, Seq};
use crate::store::outcomes::{outcome_code, outcome_of, state_word};
use crate::store::row::{IdText, get_time, get_u64, int};
use crate::store::waiting::get_consumer;
use crate::store::{Error, names};

use super::events::{self, Filter, times};

const OUTCOME: &str = "SELECT o.seq, (SELECT text FROM names WHERE names.id = o.consumer), o.round, o.call, o.attempt, \
    o.outcome, o.state, o.reason, o.started_at, o.duration_us, o.fuel, o.memory_peak, o.published, o.generation, \
    (SELECT text FROM names WHERE names.id = o.component), o.output, o.logs, o.logs_dropped, e.id, \
    (SELECT text FROM names WHERE names.id = e.type), \
    CASE WHEN o.round = 0 AND EXISTS (SELECT 1 FROM raw_jobs AS j WHERE j.seq = o.seq) THEN 'job' \
       WHEN o.round = 0 THEN 'subscription' WHEN EXISTS (SELECT 1 FROM raw_replayed AS d WHERE d.seq = o.seq \
      AND d.consumer = o.consumer AND d.round = o.round) THEN 'replay' ELSE coalesce((SELECT \
      CASE s.undo WHEN 0 THEN 'step' ELSE 'compensation' END FROM raw_errands AS s WHERE s.seq = o.seq \
      AND s.consumer = o.consumer AND s.round = o.round), 'redrive') END \
    FROM raw_outcomes AS o LEFT JOIN raw_events AS e ON e.seq = o.seq";

const ORDER: &str = "o.seq, o.consumer, o.round, o.call";

pub(super) fn list(conn: &Connection, query: &OutcomeQuery) -> Result<Vec<OutcomeRecord>, Error> {
    let mut filter = Filter::default();
    if let Some(consumer) = &query.consumer {
        filter.and("o.consumer = ?", names::find(conn, consumer.as_str())?.unwrap_or(0));
    }
    filter.and_optional("o.outcome = ?", query.outcome.map(|outcome| i64::from(outcome_code(outcome))));
    filter.and_optional("o.seq = ?", query.sequence.map(int));
    filter.and_optional("o.seq > ?", query.after.map(int));
    filter.and_optional("o.seq < ?", query.before.map(int));
    times(&mut filter, "o.started_at", query.since, query.until);
    whole_events(
        conn,
        (OUTCOME, ORDER),
        filter,
        (query.newest, query.limit),
        Kind { read, seq: |record| record.sequence, bytes: OutcomeRecord::bytes },
    )
}

/// What kind of rows a page has.
pub(super) struct Kind<T> {
    pub(super) read: fn(&Row<'_>) -> rusqlite::Result<T>,
    pub(super) seq: fn(&T) -> Seq,
    pub(super) bytes: fn(&T) -> usize,
}

/// A page of rows in log order, or the newest first; the rows of its last event are all in it.
pub(super) fn whole_events<T>(
    conn: &Connection,
    (select, order): (&str, &str),
    mut filter: Filter,
    (newest, limit): (bool, Option<usize>),
    Kind { read, seq, bytes }: Kind<T>,
) -> Result<Vec<T>, Error> {
    let column = order.split(',').next().unwrap_or_default();
    let limit = super::limit(limit);
    let order = if newest { order.replace(',', " DESC,") + " DESC" } else { order.to_owned() };
    let query = |filter: &Filter, limit: usize| -> Result<Vec<T>, Error> {
        let sql = format!("{select}{} ORDER BY {order} LIMIT {limit}", filter.clause());
        let mut statement = conn.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(filter.values()), read)?;
        Ok(bounded(rows, bytes)?)
    };
    let mut page = query(&filter, limit)?;
    if !is_full(&page, limit, bytes) {
        return Ok(page);
    }
    let Some(last) = page.last().map(seq) else { return Ok(page) };
    filter.and(&format!("{column} = ?"), int(last));
    let shown = page.iter().rev().take_while(|row| seq(row) == last).count();
    let sql = format!("{select}{} ORDER BY {order} LIMIT {LIMIT_MAX}", filter.clause());
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), read)?;
    let rest: Vec<T> = rows.collect::<Result<_, _>>()?;
    page.extend(rest.into_iter().skip(shown));
    Ok(page)
}

pub(super) fn of_event(conn: &Connection, seq: Seq) -> Result<Vec<OutcomeRecord>, Error> {
    let mut statement = conn.prepare_cached(&format!("{OUTCOME} WHERE o.seq = ?1 ORDER BY {ORDER} LIMIT 1000"))?;
    let rows = statement.query_map([int(seq)], read)?;
    Ok(bounded(rows, OutcomeRecord::bytes)?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<OutcomeRecord> {
    let output: Option<Vec<u8>> = row.get(15)?;
    let logs: Option<String> = row.get(16)?;
    let micros: i64 = row.get(9)?;
    Ok(OutcomeRecord {
        sequence: get_u64(row, 0)?,
        consumer: get_consumer(row, 1)?,
        round: row.get(2)?,
        call: row.get(3)?,
        attempt: row.get(4)?,
        outcome: get_outcome(row, 5)?,
        state: state_word(row.get(6)?).to_owned(),
        reason: row.get(7)?,
        started_at: get_time(row, 8)?,
        #[expect(clippy::cast_precision_loss, reason = "a duration to look at")]
        duration_ms: micros as f64 / 1e3,
        fuel: get_u64(row, 10)?,
        memory_peak: get_u64(row, 11)?,
        published: row.get(12)?,
        generation: Generation(get_u64(row, 13)?),
        component: row.get(14)?,
        output: output.map(|bytes| String::from_utf8(bytes).unwrap_or_else(|e| STANDARD.encode(e.as_bytes()))),
        logs: logs.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        logs_dropped: get_u64(row, 17)?,
        event_id: row.get::<_, Option<IdText>>(18)?.map_or_else(String::new, |IdText(text)| text),
        event_type: row.get::<_, Option<String>>(19)?.unwrap_or_default(),
        origin: row.get(20)?,
    })
}

pub(super) fn get_outcome(row: &Row<'_>, index: usize) -> rusqlite::Result<Outcome> {
    let code: u8 = row.get(index)?;
    outcome_of(code).ok_or(rusqlite::Error::IntegralValueOutOfRange(index, i64::from(code)))
}

const DEAD: &str = "SELECT d.seq, (SELECT text FROM names WHERE names.id = d.consumer), d.round, d.cause, d.outcome, \
    d.reason, d.attempts, d.died_at, d.status, e.id, (SELECT text FROM names WHERE names.id = e.type) \
    FROM raw_dead_letters AS d LEFT JOIN raw_events AS e ON e.seq = d.seq";

pub(super) fn dead_letters(conn: &Connection, query: &DeadLetterQuery) -> Result<Vec<DeadLetterRecord>, Error> {
    let mut filter = Filter::default();
    let status = query.status.as_deref().unwrap_or("dead");
    filter.and_optional("d.status = ?", (status != "all").then(|| status.to_owned()));
    if let Some(consumer) = &query.consumer {
        filter.and("d.consumer = ?", names::find(conn, consumer.as_str())?.unwrap_or(0));
    }
    if let Some(pattern) = &query.event_type {
        filter.types(conn, "e.type", pattern)?;
    }
    filter.and_optional("d.cause = ?", query.cause.clone());
    filter.and_optional("d.seq > ?", query.after.map(int));
    filter.and_optional("d.seq < ?", query.before.map(int));
    times(&mut filter, "d.died_at", query.since, query.until);
    let order = "d.seq, d.consumer, d.round";
    whole_events(
        conn,
        (DEAD, order),
        filter,
        (query.newest, query.limit),
        Kind { read: read_dead, seq: |record| record.sequence, bytes: |_| 0 },
    )
}

fn read_dead(row: &Row<'_>) -> rusqlite::Result<DeadLetterRecord> {
    let id = DeliveryId { seq: get_u64(row, 0)?, consumer: get_consumer(row, 1)?, round: row.get(2)? };
    Ok(DeadLetterRecord {
        id: id.to_string(),
        sequence: id.seq,
        event_id: row.get::<_, Option<IdText>>(9)?.map_or_else(String::new, |IdText(text)| text),
        event_type: row.get::<_, Option<String>>(10)?.unwrap_or_default(),
        consumer: id.consumer,
        round: id.round,
        cause: row.get(3)?,
        outcome: get_outcome(row, 4)?,
        reason: row.get(5)?,
        attempts: row.get(6)?,
        died_at: get_time(row, 7)?,
        status: row.get(8)?,
    })
}

pub(super) fn dead_letter(
    conn: &Connection,
    id: &DeliveryId,
) -> Result<Option<(DeadLetterRecord, Vec<OutcomeRecord>, EventRecord)>, Error> {
    let Some(consumer) = names::find(conn, id.consumer.as_str())? else { return Ok(None) };
    let sql = format!("{DEAD} WHERE d.seq = ?1 AND d.consumer = ?2 AND d.round = ?3");
    let dead = conn.prepare_cached(&sql)?.query_row((int(id.seq), consumer, id.round), read_dead).optional()?;
    let (Some(dead), Some(event)) = (dead, events::by_seq(conn, id.seq)?) else { return Ok(None) };
    let sql = format!("{OUTCOME} WHERE o.seq = ?1 AND o.consumer = ?2 AND o.round = ?3 ORDER BY {ORDER} LIMIT 1000");
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map((int(id.seq), consumer, id.round), read)?;
    Ok(Some((dead, bounded(rows, OutcomeRecord::bytes)?, event)))
}
