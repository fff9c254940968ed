//! Runs of pipelines: how each stands, its journal, its deliveries, what it waits for and until when.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::model::pipeline::Definition;
use crate::model::pipeline::errand::Errand;
use crate::model::pipeline::kept::{Kept, StepDelivery};
use crate::model::pipeline::run::{Entry, RunId, Status};
use crate::model::{ConsumerName, Delivery, DeliveryId, Digest, Event, Payload, Priority, Seq, Timestamp};

use super::row::{event_by_seq, get_u64, int};
use super::waiting::{WaitingRow, get_consumer};
use super::{Error, Writer, names, sums};

/// Runs of one step of retention, at most.
const STEP: i64 = 100;
/// Everything about a run.
const PRUNE: [&str; 6] = [
    "DELETE FROM raw_journal WHERE seq = ?1 AND pipeline = ?2",
    "DELETE FROM raw_outputs WHERE seq = ?1 AND pipeline = ?2",
    "DELETE FROM raw_errands WHERE seq = ?1 AND pipeline = ?2",
    "DELETE FROM raw_waits WHERE seq = ?1 AND pipeline = ?2",
    "DELETE FROM raw_timers WHERE seq = ?1 AND pipeline = ?2",
    "DELETE FROM raw_runs WHERE seq = ?1 AND pipeline = ?2",
];

/// Definitions kept in memory, at most: one a pipeline, and those of runs that began under earlier deployments.
const DEFINITIONS_MAX: usize = 1_000;

/// Definitions that were read before.
#[derive(Debug, Default)]
pub(super) struct Definitions(HashMap<[u8; 32], Arc<Definition>>);

impl Definitions {
    fn get(&mut self, conn: &Connection, digest: [u8; 32]) -> Result<Arc<Definition>, Error> {
        if let Some(known) = self.0.get(&digest) {
            return Ok(Arc::clone(known));
        }
        let sql = "SELECT definition FROM raw_definitions WHERE digest = ?1";
        let text: String = conn.prepare_cached(sql)?.query_row([digest], |row| row.get(0))?;
        let definition = Arc::new(Definition::from_json(&text).map_err(damaged)?);
        self.keep(digest, Arc::clone(&definition));
        Ok(definition)
    }

    fn keep(&mut self, digest: [u8; 32], definition: Arc<Definition>) {
        if self.0.len() >= DEFINITIONS_MAX {
            self.0.clear();
        }
        self.0.insert(digest, definition);
    }
}

/// JSON that cannot be read back.
pub(super) fn damaged(error: serde_json::Error) -> Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)).into()
}

/// A run with all that was noted of it.
pub(super) fn kept(conn: &Connection, definitions: &mut Definitions, run: &RunId) -> Result<Option<Kept>, Error> {
    let Some(pipeline) = names::find(conn, run.pipeline.as_str())? else { return Ok(None) };
    let sql = "SELECT key, definition FROM raw_runs WHERE seq = ?1 AND pipeline = ?2";
    let row = conn.prepare_cached(sql)?.query_row((int(run.seq), pipeline), |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((key, digest)) = row.optional()? else { return Ok(None) };
    let Some(event) = event_by_seq(conn, run.seq)? else { return Ok(None) };
    let definition = definitions.get(conn, digest)?;
    let mut kept =
        Kept { event: Arc::new(event.event), key, definition, journal: Vec::new(), outputs: BTreeMap::new() };
    let sql = "SELECT entries FROM raw_journal WHERE seq = ?1 AND pipeline = ?2 ORDER BY n";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query((int(run.seq), pipeline))?;
    while let Some(row) = rows.next()? {
        let text = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        kept.journal.extend(serde_json::from_str::<Vec<Entry>>(text).map_err(damaged)?);
    }
    kept.outputs = outputs(conn, (run.seq, pipeline))?;
    Ok(Some(kept))
}

pub(super) fn outputs(conn: &Connection, (seq, pipeline): (Seq, i64)) -> Result<BTreeMap<usize, Payload>, Error> {
    let sql = "SELECT o.step, n.text, o.data FROM raw_outputs AS o JOIN names AS n ON n.id = o.content_type \
               WHERE o.seq = ?1 AND o.pipeline = ?2";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map((int(seq), pipeline), |row| {
        let data: Vec<u8> = row.get(2)?;
        Ok((get_step(row, 0)?, Payload { content_type: row.get(1)?, data: Bytes::from(data) }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What runs go by that have not ended, or may be taken up again.
pub(super) fn open_definitions(conn: &Connection) -> Result<Vec<Definition>, Error> {
    let sql = "SELECT definition FROM raw_definitions WHERE digest IN \
               (SELECT definition FROM raw_runs WHERE ended_at IS NULL OR status = 'stopped')";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|text| Definition::from_json(&text?).map_err(damaged)).collect()
}

/// What a delivery is for, if it is a run's.
pub(super) fn errand(
    conn: &Connection,
    definitions: &mut Definitions,
    id: &DeliveryId,
) -> Result<Option<Errand>, Error> {
    let Some(consumer) = names::find(conn, id.consumer.as_str())? else { return Ok(None) };
    let sql = "SELECT n.text, s.step, s.undo, s.withdrawn FROM raw_errands AS s JOIN names AS n ON n.id = s.pipeline \
               WHERE s.seq = ?1 AND s.consumer = ?2 AND s.round = ?3";
    let row = conn.prepare_cached(sql)?.query_row((int(id.seq), consumer, id.round), |row| {
        let delivery = StepDelivery { step: get_step(row, 1)?, undo: row.get(2)?, withdrawn: row.get(3)? };
        Ok((get_consumer(row, 0)?, delivery))
    });
    let Some((pipeline, delivery)) = row.optional()? else { return Ok(None) };
    let run = RunId { seq: id.seq, pipeline };
    Ok(kept(conn, definitions, &run)?.and_then(|kept| kept.errand(run, &delivery)))
}

/// The run of a pipeline that has this key.
pub(super) fn with_key(conn: &Connection, pipeline: &ConsumerName, key: &str) -> Result<Option<RunId>, Error> {
    let Some(id) = names::find(conn, pipeline.as_str())? else { return Ok(None) };
    let sql = "SELECT seq FROM raw_runs WHERE pipeline = ?1 AND key = ?2";
    let seq = conn.prepare_cached(sql)?.query_row((id, key), |row| get_u64(row, 0)).optional()?;
    Ok(seq.map(|seq| RunId { seq, pipeline: pipeline.clone() }))
}

pub(super) fn get_step(row: &Row<'_>, index: usize) -> rusqlite::Result<usize> {
    get_u64(row, index).map(|step| usize::try_from(step).unwrap_or(usize::MAX))
}

impl Writer {
    pub fn run_with_key(&self, pipeline: &ConsumerName, key: &str) -> Result<Option<RunId>, Error> {
        with_key(&self.conn, pipeline, key)
    }

    /// Notes a run of which nothing has become yet.
    pub fn create_run(
        &mut self,
        run: &RunId,
        key: &str,
        definition: &Arc<Definition>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let text = definition.to_json();
        let Digest(digest) = Digest::of(text.as_bytes());
        let sql = "INSERT INTO raw_definitions (digest, definition) VALUES (?1, ?2) ON CONFLICT (digest) DO NOTHING";
        self.conn.prepare_cached(sql)?.execute((digest, text))?;
        let sql = "INSERT INTO raw_runs (seq, pipeline, key, definition, status, began_at) \
                   VALUES (?1, ?2, ?3, ?4, 'running', ?5)";
        self.conn.prepare_cached(sql)?.execute((int(run.seq), pipeline, key, digest, now.0))?;
        Ok(())
    }

    pub fn run(&mut self, run: &RunId) -> Result<Option<Kept>, Error> {
        kept(&self.conn, &mut self.definitions, run)
    }

    /// Appends to a run's journal what followed from one input. `before`: entries that it has.
    pub fn write_journal(
        &mut self,
        run: &RunId,
        before: usize,
        entries: &[Entry],
        now: Timestamp,
    ) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let sql = "INSERT INTO raw_journal (seq, pipeline, n, at, entries) VALUES (?1, ?2, ?3, ?4, ?5)";
        let text = serde_json::to_string(entries).map_err(damaged)?;
        self.conn.prepare_cached(sql)?.execute((int(run.seq), pipeline, int(before as u64), now.0, text))?;
        Ok(())
    }

    /// Keeps what a step left behind.
    pub fn write_output(&mut self, run: &RunId, step: usize, output: &Payload) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let content_type = self.names.intern(&self.conn, &output.content_type)?;
        let sql = "INSERT OR REPLACE INTO raw_outputs (seq, pipeline, step, content_type, data) \
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let row = (int(run.seq), pipeline, int(step as u64), content_type, output.data.as_ref());
        self.conn.prepare_cached(sql)?.execute(row)?;
        Ok(())
    }

    pub fn set_run_status(&mut self, run: &RunId, status: Status, now: Timestamp) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let sql = "UPDATE raw_runs SET status = ?3, ended_at = ?4 WHERE seq = ?1 AND pipeline = ?2 AND status <> ?3";
        let ended_at = (!status.is_open()).then_some(now.0);
        self.conn.prepare_cached(sql)?.execute((int(run.seq), pipeline, status.as_str(), ended_at))?;
        Ok(())
    }

    /// Makes a delivery of a run's event to a consumer, due at once.
    pub fn make_step(
        &mut self,
        run: &RunId,
        consumer: &ConsumerName,
        step: StepDelivery,
        now: Timestamp,
    ) -> Result<DeliveryId, Error> {
        let first = DeliveryId { seq: run.seq, consumer: consumer.clone(), round: 0 };
        let id = DeliveryId { round: self.next_round(&first)?, ..first };
        self.wait(&id, now, (0, 0), None, true)?;
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let consumer = self.names.intern(&self.conn, consumer.as_str())?;
        let sql = "INSERT INTO raw_errands (seq, consumer, round, pipeline, step, undo, withdrawn) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let at = int(step.step as u64);
        let row = (int(id.seq), consumer, id.round, pipeline, at, step.undo, step.withdrawn);
        self.conn.prepare_cached(sql)?.execute(row)?;
        Ok(id)
    }

    /// Marks a run's deliveries that are not over as given up, and due at once, but for those that undo.
    pub fn withdraw_steps(&mut self, run: &RunId, now: Timestamp) -> Result<Vec<WaitingRow>, Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let sql = "SELECT n.text, w.round, w.attempts, w.calls, w.key, w.blocked FROM raw_waiting AS w \
                   JOIN raw_errands AS s ON s.seq = w.seq AND s.consumer = w.consumer AND s.round = w.round \
                   JOIN names AS n ON n.id = w.consumer WHERE w.seq = ?1 AND s.pipeline = ?2 AND s.undo = 0 \
                   AND s.withdrawn = 0 ORDER BY n.text, w.round";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map((int(run.seq), pipeline), |row| {
            let id = DeliveryId { seq: run.seq, consumer: get_consumer(row, 0)?, round: row.get(1)? };
            let delivery = Delivery { attempts: row.get(2)?, calls: row.get(3)?, ..Delivery::new(now) };
            Ok(WaitingRow {
                id,
                delivery,
                key: row.get(4)?,
                blocked: row.get(5)?,
                errand: true,
                priority: Priority::Normal,
            })
        })?;
        let rows: Vec<WaitingRow> = rows.collect::<Result<_, _>>()?;
        for row in &rows {
            let consumer = self.names.intern(&self.conn, row.id.consumer.as_str())?;
            let key = (int(row.id.seq), consumer, row.id.round);
            let sql = "UPDATE raw_errands SET withdrawn = 1 WHERE seq = ?1 AND consumer = ?2 AND round = ?3";
            self.conn.prepare_cached(sql)?.execute(key)?;
            let sql = "UPDATE raw_waiting SET due_at = ?4 WHERE seq = ?1 AND consumer = ?2 AND round = ?3";
            sums::WAITING.write(&self.conn, key, sql, (key.0, key.1, key.2, now.0))?;
        }
        Ok(rows)
    }

    /// Takes away runs that ended before a time, with all that was noted of them.
    pub(super) fn prune_runs(&mut self, limit: Timestamp) -> Result<usize, Error> {
        let sql = "SELECT seq, pipeline FROM raw_runs WHERE ended_at < ?1 LIMIT ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map((limit.0, STEP), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let old: Vec<(i64, i64)> = rows.collect::<Result<_, _>>()?;
        for run in &old {
            for sql in PRUNE {
                self.conn.prepare_cached(sql)?.execute(*run)?;
            }
        }
        Ok(old.len())
    }

    pub fn event(&mut self, seq: Seq) -> Result<Option<Event>, Error> {
        Ok(event_by_seq(&self.conn, seq)?.map(|stored| stored.event))
    }
}
