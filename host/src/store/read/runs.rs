//! Runs as they are shown: the journal told step by step, with the deliveries that were made for it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::{Connection, OptionalExtension as _, Row};
use serde_json::value::RawValue;

use crate::model::event::is_json;
use crate::model::pipeline::errand::key_of_event;
use crate::model::pipeline::run::{Entry, RunId, Status};
use crate::model::pipeline::timeline::{self, StepLine, Stretch};
use crate::model::pipeline::{Definition, Work};
use crate::model::query::RunQuery;
use crate::model::record::{JournalRecord, RunDetail, RunRecord, StepRecord, WaitRecord, WorkRecord};
use crate::model::{ConsumerName, DeliveryId, Digest, Payload, Seq, Timestamp};
use crate::store::row::{IdText, get_time, get_u64, int};
use crate::store::runs::{damaged, get_step, outputs};
use crate::store::waiting::get_consumer;
use crate::store::{Error, names};

use super::events::{Filter, times};
use super::outcomes::{Kind, whole_events};

const RUN: &str = "SELECT r.seq, (SELECT text FROM names WHERE names.id = r.pipeline), r.key, r.status, r.began_at, \
    r.ended_at, r.definition, e.id, (SELECT text FROM names WHERE names.id = e.type), r.pipeline \
    FROM raw_runs AS r LEFT JOIN raw_events AS e ON e.seq = r.seq";

const ORDER: &str = "r.seq, r.pipeline";

/// A row of a run.
struct Stored {
    id: RunId,
    key: String,
    status: Status,
    began_at: Timestamp,
    ended_at: Option<Timestamp>,
    digest: [u8; 32],
    event_id: String,
    event_type: String,
    /// The number of the pipeline's name.
    pipeline: i64,
}

fn read(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let status: String = row.get(3)?;
    Ok(Stored {
        id: RunId { seq: get_u64(row, 0)?, pipeline: get_consumer(row, 1)? },
        key: row.get(2)?,
        status: Status::parse(&status).ok_or(rusqlite::Error::InvalidQuery)?,
        began_at: get_time(row, 4)?,
        ended_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        digest: row.get(6)?,
        event_id: row.get::<_, Option<IdText>>(7)?.map_or_else(String::new, |IdText(text)| text),
        event_type: row.get::<_, Option<String>>(8)?.unwrap_or_default(),
        pipeline: row.get(9)?,
    })
}

pub(super) fn list(conn: &Connection, query: &RunQuery) -> Result<Vec<RunRecord>, Error> {
    let mut filter = Filter::default();
    if let Some(pipeline) = &query.pipeline {
        filter.and("r.pipeline = ?", names::find(conn, pipeline.as_str())?.unwrap_or(0));
    }
    if let Some(status) = query.status {
        filter.and_one_of("r.status", status.all().map(Status::as_str));
    }
    filter.and_optional("r.key = ?", query.key.clone());
    filter.and_optional("r.seq > ?", query.after.map(int));
    filter.and_optional("r.seq < ?", query.before.map(int));
    times(&mut filter, "r.began_at", query.since, query.until);
    let kind = Kind { read, seq: |run: &Stored| run.id.seq, bytes: |_| 0 };
    let rows = whole_events(conn, (RUN, ORDER), filter, (query.newest, query.limit), kind)?;
    let mut definitions = Definitions::default();
    rows.iter().map(|row| told(conn, &mut definitions, row).map(|told| told.record(row))).collect()
}

/// Of one event, in the order of the pipelines' names.
pub(super) fn of_event(conn: &Connection, seq: Seq) -> Result<Vec<RunRecord>, Error> {
    let mut statement = conn.prepare_cached(&format!("{RUN} WHERE r.seq = ?1 ORDER BY 2"))?;
    let rows: Vec<Stored> = statement.query_map([int(seq)], read)?.collect::<Result<_, _>>()?;
    let mut definitions = Definitions::default();
    rows.iter().map(|row| told(conn, &mut definitions, row).map(|told| told.record(row))).collect()
}

/// A step that a delivery does or undoes.
pub(super) struct StepOf {
    /// Of the run.
    pub(super) pipeline: ConsumerName,
    pub(super) name: String,
    pub(super) undo: bool,
    /// Steps are made in this order.
    pub(super) order: (bool, u64),
}

/// What the deliveries of an event are for, where they are steps of a run.
pub(super) fn steps_of_event(conn: &Connection, seq: Seq) -> Result<HashMap<(ConsumerName, u32), StepOf>, Error> {
    let sql = "SELECT c.text, s.round, p.text, s.step, s.undo, d.definition ->> ('$.steps[' || s.step || '].name') \
               FROM raw_errands AS s JOIN names AS c ON c.id = s.consumer JOIN names AS p ON p.id = s.pipeline \
               JOIN raw_runs AS r ON r.seq = s.seq AND r.pipeline = s.pipeline \
               JOIN raw_definitions AS d ON d.digest = r.definition WHERE s.seq = ?1";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([int(seq)], |row| {
        let (step, undo): (u64, bool) = (get_u64(row, 3)?, row.get(4)?);
        // What was done last is undone first.
        let order = (undo, if undo { u64::MAX - step } else { step });
        let of = StepOf {
            pipeline: get_consumer(row, 2)?,
            name: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            undo,
            order,
        };
        Ok(((get_consumer(row, 0)?, row.get(1)?), of))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn open(conn: &Connection) -> Result<Vec<(ConsumerName, Status, u64)>, Error> {
    let sql = "SELECT n.text, r.status, count(*) FROM raw_runs AS r INDEXED BY raw_runs_open \
               JOIN names AS n ON n.id = r.pipeline WHERE r.ended_at IS NULL GROUP BY r.pipeline, r.status";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| {
        let status = Status::parse(row.get_ref(1)?.as_str()?).ok_or(rusqlite::Error::InvalidQuery)?;
        Ok((get_consumer(row, 0)?, status, get_u64(row, 2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Definitions read for one answer.
#[derive(Default)]
struct Definitions(HashMap<[u8; 32], Arc<Definition>>);

impl Definitions {
    fn get(&mut self, conn: &Connection, digest: [u8; 32]) -> Result<Arc<Definition>, Error> {
        if let Some(known) = self.0.get(&digest) {
            return Ok(Arc::clone(known));
        }
        let sql = "SELECT definition FROM raw_definitions WHERE digest = ?1";
        let text: String = conn.prepare_cached(sql)?.query_row([digest], |row| row.get(0))?;
        let definition = Arc::new(Definition::from_json(&text).map_err(damaged)?);
        self.0.insert(digest, Arc::clone(&definition));
        Ok(definition)
    }
}

/// A run's journal and what it goes by.
struct Told {
    definition: Arc<Definition>,
    journal: Vec<(Timestamp, Entry)>,
    lines: Vec<StepLine>,
}

fn told(conn: &Connection, definitions: &mut Definitions, row: &Stored) -> Result<Told, Error> {
    let definition = definitions.get(conn, row.digest)?;
    let sql = "SELECT at, entries FROM raw_journal WHERE seq = ?1 AND pipeline = ?2 ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query((int(row.id.seq), row.pipeline))?;
    let mut journal = Vec::new();
    while let Some(row) = rows.next()? {
        let at = get_time(row, 0)?;
        let text = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
        let entries = serde_json::from_str::<Vec<Entry>>(text).map_err(damaged)?;
        journal.extend(entries.into_iter().map(|entry| (at, entry)));
    }
    let lines = timeline::lines(&definition, &journal);
    Ok(Told { definition, journal, lines })
}

impl Told {
    fn record(&self, row: &Stored) -> RunRecord {
        let mut step_counts: BTreeMap<String, u32> = BTreeMap::new();
        for line in &self.lines {
            *step_counts.entry(line.state.as_str().to_owned()).or_default() += 1;
        }
        RunRecord {
            id: row.id.to_string(),
            pipeline: row.id.pipeline.clone(),
            key: (row.key != key_of_event(row.id.seq)).then(|| row.key.clone()),
            status: row.status,
            sequence: row.id.seq,
            event_id: row.event_id.clone(),
            event_type: row.event_type.clone(),
            began_at: row.began_at,
            ended_at: row.ended_at,
            duration_ms: row.ended_at.map(|end| millis(row.began_at, end)),
            definition: Digest(row.digest).to_string(),
            step_counts,
            failure: timeline::failure(&self.definition, &self.journal),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a duration to look at")]
fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.since(from).as_micros() as f64 / 1e3
}

pub(super) fn one(conn: &Connection, id: &RunId) -> Result<Option<RunDetail>, Error> {
    let Some(pipeline) = names::find(conn, id.pipeline.as_str())? else { return Ok(None) };
    let sql = format!("{RUN} WHERE r.seq = ?1 AND r.pipeline = ?2");
    let Some(row) = conn.prepare_cached(&sql)?.query_row((int(id.seq), pipeline), read).optional()? else {
        return Ok(None);
    };
    let told = told(conn, &mut Definitions::default(), &row)?;
    let deliveries = deliveries(conn, &row)?;
    let outputs = outputs(conn, (row.id.seq, pipeline))?;
    let keys = awaited_keys(conn, &row)?;
    let steps = told.lines.iter().enumerate().map(|(index, line)| {
        let mut step = step(&told.definition, index, line, &deliveries);
        if let Some(wait) = &mut step.wait {
            wait.key = keys.get(&index).cloned();
        }
        if let Some(output) = outputs.get(&index) {
            show(&mut step, output);
        }
        step
    });
    let journal = told.journal.iter().zip(0..);
    let journal = journal.map(|((at, entry), line)| JournalRecord::new(&told.definition, line, *at, entry)).collect();
    Ok(Some(RunDetail {
        run: told.record(&row),
        on_failure: told.definition.on_failure,
        until: run_timer(conn, &row)?,
        steps: steps.collect(),
        journal,
    }))
}

/// A delivery made for a step.
struct Made {
    step: usize,
    undo: bool,
    id: DeliveryId,
    attempts: u32,
    reason: Option<String>,
    due_at: Option<Timestamp>,
    blocked: bool,
}

fn deliveries(conn: &Connection, row: &Stored) -> Result<Vec<Made>, Error> {
    let sql = "SELECT s.step, s.undo, n.text, s.round, \
        (SELECT max(o.attempt) FROM raw_outcomes AS o WHERE o.seq = s.seq AND o.consumer = s.consumer \
          AND o.round = s.round AND o.outcome NOT IN (11, 12, 13, 14)), \
        (SELECT o.reason FROM raw_outcomes AS o WHERE o.seq = s.seq AND o.consumer = s.consumer AND o.round = s.round \
          ORDER BY o.call DESC LIMIT 1), w.due_at, w.blocked \
        FROM raw_errands AS s JOIN names AS n ON n.id = s.consumer \
        LEFT JOIN raw_waiting AS w ON w.seq = s.seq AND w.consumer = s.consumer AND w.round = s.round \
        WHERE s.seq = ?1 AND s.pipeline = ?2 ORDER BY s.step, s.undo, s.round";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((int(row.id.seq), row.pipeline), |made| {
        Ok(Made {
            step: get_step(made, 0)?,
            undo: made.get(1)?,
            id: DeliveryId { seq: row.id.seq, consumer: get_consumer(made, 2)?, round: made.get(3)? },
            attempts: made.get::<_, Option<u32>>(4)?.unwrap_or(0),
            reason: made.get(5)?,
            due_at: made.get::<_, Option<i64>>(6)?.map(Timestamp),
            blocked: made.get::<_, Option<bool>>(7)?.unwrap_or(false),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The keys of events that steps wait for.
fn awaited_keys(conn: &Connection, row: &Stored) -> Result<HashMap<usize, String>, Error> {
    let sql = "SELECT step, key FROM raw_waits WHERE seq = ?1 AND pipeline = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((int(row.id.seq), row.pipeline), |row| Ok((get_step(row, 0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn run_timer(conn: &Connection, row: &Stored) -> Result<Option<Timestamp>, Error> {
    let sql = "SELECT at FROM raw_timers WHERE seq = ?1 AND pipeline = ?2 AND step = -1";
    let mut statement = conn.prepare_cached(sql)?;
    Ok(statement.query_row((int(row.id.seq), row.pipeline), |row| get_time(row, 0)).optional()?)
}

fn step(definition: &Definition, index: usize, line: &StepLine, deliveries: &[Made]) -> StepRecord {
    let spec = definition.steps.get(index);
    let name = |step: &usize| definition.steps.get(*step).map(|step| step.name.clone());
    let (consumer, compensate, wait) = match spec.map(|spec| &spec.work) {
        Some(Work::Call(call)) => (Some(call.consumer.clone()), call.compensate.clone(), None),
        Some(Work::Wait(wait)) => (None, None, Some(wait)),
        None => (None, None, None),
    };
    let made = |undo: bool| deliveries.iter().filter(move |made| made.step == index && made.undo == undo);
    StepRecord {
        name: spec.map(|spec| spec.name.clone()).unwrap_or_default(),
        after: spec.map(|spec| spec.after.iter().filter_map(name).collect()).unwrap_or_default(),
        state: line.state,
        work: work(consumer, &line.work, made(false)),
        wait: wait.map(|wait| WaitRecord {
            event_type: wait.pattern.to_string(),
            key: None,
            until: line.until,
            sequence: line.event,
        }),
        resolved: line.resolved,
        compensation: line.undo.as_ref().map(|undo| work(compensate, undo, made(true))),
        output: None,
        output_text: None,
        output_base64: None,
    }
}

fn work<'m>(
    consumer: Option<ConsumerName>,
    stretch: &Stretch,
    made: impl Iterator<Item = &'m Made> + Clone,
) -> WorkRecord {
    let last = made.clone().last();
    let open = last.filter(|_| stretch.ended_at.is_none());
    WorkRecord {
        consumer,
        began_at: stretch.began_at,
        ended_at: stretch.ended_at,
        duration_ms: stretch.began_at.zip(stretch.ended_at).map(|(from, to)| millis(from, to)),
        attempts: made.clone().map(|made| made.attempts).sum(),
        deliveries: made.map(|made| made.id.to_string()).collect(),
        due_at: open.filter(|made| !made.blocked).and_then(|made| made.due_at),
        blocked: open.is_some_and(|made| made.blocked),
        reason: stretch.reason.clone().or_else(|| open?.reason.clone()),
    }
}

/// What the step left behind: the first of JSON, text and base64 that says it all.
fn show(step: &mut StepRecord, payload: &Payload) {
    let json = payload.content_type.is_empty() || is_json(&payload.content_type);
    match std::str::from_utf8(&payload.data) {
        Ok(text) => match json.then(|| RawValue::from_string(text.to_owned())) {
            Some(Ok(raw)) => step.output = Some(raw),
            _ => step.output_text = Some(text.to_owned()),
        },
        Err(_) => step.output_base64 = Some(STANDARD.encode(&payload.data)),
    }
}
