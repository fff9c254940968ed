//! What runs wait for: events with a key, and times.

use rusqlite::OptionalExtension as _;

use crate::model::pipeline::run::RunId;
use crate::model::{ConsumerName, Seq, Timestamp};

use super::row::{get_u64, int};
use super::runs::get_step;
use super::waiting::get_consumer;
use super::{Error, Writer};

/// Rows of one step of retention, at most.
const STEP: i64 = 500;

impl Writer {
    /// Notes that a step of a run waits for an event with this key.
    pub fn wait_for(&mut self, run: &RunId, (step, name): (usize, &str), key: &str) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let sql = "INSERT OR REPLACE INTO raw_waits (pipeline, name, key, seq, step) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.conn.prepare_cached(sql)?.execute((pipeline, name, key, int(run.seq), int(step as u64)))?;
        Ok(())
    }

    pub fn wait_for_no_more(&mut self, run: &RunId, step: usize) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let sql = "DELETE FROM raw_waits WHERE seq = ?1 AND pipeline = ?2 AND step = ?3";
        self.conn.prepare_cached(sql)?.execute((int(run.seq), pipeline, int(step as u64)))?;
        Ok(())
    }

    /// Steps of a pipeline's runs that wait for an event with this key.
    pub fn waiting_for(
        &mut self,
        pipeline: &ConsumerName,
        step: &str,
        key: &str,
    ) -> Result<Vec<(RunId, usize)>, Error> {
        let id = self.names.intern(&self.conn, pipeline.as_str())?;
        let sql = "SELECT seq, step FROM raw_waits WHERE pipeline = ?1 AND name = ?2 AND key = ?3 ORDER BY seq";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map((id, step, key), |row| {
            Ok((RunId { seq: get_u64(row, 0)?, pipeline: pipeline.clone() }, get_step(row, 1)?))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that an event has this key for a step that waits, or will wait.
    pub fn note_arrival(&mut self, pipeline: &ConsumerName, step: &str, key: &str, event: Seq) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, pipeline.as_str())?;
        let sql = "INSERT OR IGNORE INTO raw_arrivals (pipeline, name, key, seq) VALUES (?1, ?2, ?3, ?4)";
        self.conn.prepare_cached(sql)?.execute((pipeline, step, key, int(event)))?;
        Ok(())
    }

    /// The first event after the given one that had this key.
    pub fn arrival(
        &mut self,
        pipeline: &ConsumerName,
        step: &str,
        key: &str,
        after: Seq,
    ) -> Result<Option<Seq>, Error> {
        let pipeline = self.names.intern(&self.conn, pipeline.as_str())?;
        let sql = "SELECT seq FROM raw_arrivals WHERE pipeline = ?1 AND name = ?2 AND key = ?3 AND seq > ?4 \
                   ORDER BY seq LIMIT 1";
        let mut statement = self.conn.prepare_cached(sql)?;
        Ok(statement.query_row((pipeline, step, key, int(after)), |row| get_u64(row, 0)).optional()?)
    }

    /// `step`: whose wait ends then; none: the run's own time.
    pub fn set_timer(&mut self, run: &RunId, step: Option<usize>, at: Timestamp) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let sql = "INSERT OR REPLACE INTO raw_timers (seq, pipeline, step, at) VALUES (?1, ?2, ?3, ?4)";
        self.conn.prepare_cached(sql)?.execute((int(run.seq), pipeline, timer_step(step), at.0))?;
        Ok(())
    }

    pub fn stop_timer(&mut self, run: &RunId, step: Option<usize>) -> Result<(), Error> {
        let pipeline = self.names.intern(&self.conn, run.pipeline.as_str())?;
        let sql = "DELETE FROM raw_timers WHERE seq = ?1 AND pipeline = ?2 AND step = ?3";
        self.conn.prepare_cached(sql)?.execute((int(run.seq), pipeline, timer_step(step)))?;
        Ok(())
    }

    /// Timers that are over, the first ones first.
    pub fn due_timers(&mut self, now: Timestamp, limit: usize) -> Result<Vec<(RunId, Option<usize>)>, Error> {
        let sql = "SELECT t.seq, n.text, t.step FROM raw_timers AS t JOIN names AS n ON n.id = t.pipeline \
                   WHERE t.at <= ?1 ORDER BY t.at, t.seq, t.pipeline, t.step LIMIT ?2";
        let mut statement = self.conn.prepare_cached(sql)?;
        let rows = statement.query_map((now.0, int(limit as u64)), |row| {
            let step: i64 = row.get(2)?;
            Ok((RunId { seq: get_u64(row, 0)?, pipeline: get_consumer(row, 1)? }, usize::try_from(step).ok()))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub fn next_timer(&mut self) -> Result<Option<Timestamp>, Error> {
        let sql = "SELECT min(at) FROM raw_timers";
        let at: Option<i64> = self.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(at.map(Timestamp))
    }

    /// Takes away what events of long ago were for, unless a run that is open may yet come to wait for it.
    pub(super) fn prune_arrivals(&mut self, limit: Timestamp) -> Result<usize, Error> {
        let sql = "DELETE FROM raw_arrivals WHERE (pipeline, name, key, seq) IN ( \
                   SELECT a.pipeline, a.name, a.key, a.seq FROM raw_arrivals AS a JOIN raw_events AS e ON e.seq = a.seq \
                   WHERE e.accepted_at < ?1 AND NOT EXISTS (SELECT 1 FROM raw_runs AS r INDEXED BY raw_runs_open \
                     WHERE r.pipeline = a.pipeline AND r.seq < a.seq AND r.ended_at IS NULL) LIMIT ?2)";
        Ok(self.conn.prepare_cached(sql)?.execute((limit.0, STEP))?)
    }
}

fn timer_step(step: Option<usize>) -> i64 {
    step.and_then(|step| i64::try_from(step).ok()).unwrap_or(-1)
}
