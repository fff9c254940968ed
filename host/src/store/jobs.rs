//! Jobs: events that are addressed to one consumer. What makes an event one is written with it, and so is the delivery, for
//! which it waits in the lane of its consumer.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::model::pipeline::errand::Errand;
use crate::model::{ConsumerName, DeliveryId, Job, Priority, Seq, Timestamp};

use super::row::{get_u64, int};
use super::waiting::get_consumer;
use super::{Error, Writer, names, sums};

pub(super) fn code(priority: Priority) -> i64 {
    match priority {
        Priority::Low => 0,
        Priority::Normal => 1,
        Priority::High => 2,
    }
}

pub(super) fn get_priority(row: &Row<'_>, index: usize) -> rusqlite::Result<Priority> {
    let found: i64 = row.get(index)?;
    let known = Priority::ALL.into_iter().find(|priority| code(*priority) == found);
    known.ok_or(rusqlite::Error::IntegralValueOutOfRange(index, found))
}

/// A job from columns consumer's name, priority and retry; with the retry's text as it is there.
pub(super) fn get_job(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<(Job, Option<String>)>> {
    if row.get_ref(first)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    let text: Option<String> = row.get(first + 2)?;
    let job = Job {
        to: get_consumer(row, first)?,
        priority: get_priority(row, first + 1)?,
        retry: get_retry(row, first + 2)?,
    };
    Ok(Some((job, text)))
}

fn get_retry(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<crate::model::retry::RetryPolicy>> {
    let text: Option<String> = row.get(index)?;
    let read = |text: String| Job::read_retry(&text);
    let failed = |why: String| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, why.into());
    text.map(read).transpose().map_err(failed)
}

impl Writer {
    /// Notes what makes a new event a job, and makes its delivery.
    pub(super) fn enqueue(&mut self, seq: Seq, job: &Job, due_at: Timestamp) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, job.to.as_str())?;
        let (priority, retry) = (code(job.priority), job.retry_text());
        let sql = "INSERT INTO raw_jobs (seq, consumer, priority, retry) VALUES (?1, ?2, ?3, ?4)";
        self.conn.prepare_cached(sql)?.execute((int(seq), consumer, priority, &retry))?;
        let sql = "INSERT INTO raw_waiting (seq, consumer, round, due_at, attempts, calls, blocked, errand, priority) \
                   VALUES (?1, ?2, 0, ?3, 0, 0, 0, ?4, ?5)";
        let row = (int(seq), consumer, due_at.0, retry.is_some(), priority);
        sums::WAITING.write(&self.conn, (int(seq), consumer, 0), sql, row)
    }

    /// Whether the event is a job that has a retry of its own.
    pub fn has_own_retry(&self, seq: Seq) -> Result<bool, Error> {
        let sql = "SELECT 1 FROM raw_jobs WHERE seq = ?1 AND retry IS NOT NULL";
        Ok(self.conn.prepare_cached(sql)?.exists([int(seq)])?)
    }

    /// Takes away what made jobs of these events, unless the event or an outcome is still here.
    pub(super) fn prune_jobs(&mut self, events: impl IntoIterator<Item = Seq>) -> Result<(), Error> {
        let sql = "DELETE FROM raw_jobs WHERE seq = ?1 AND NOT EXISTS (SELECT 1 FROM raw_events WHERE seq = ?1) \
                   AND NOT EXISTS (SELECT 1 FROM raw_outcomes WHERE seq = ?1)";
        let mut statement = self.conn.prepare_cached(sql)?;
        for seq in events {
            statement.execute([int(seq)])?;
        }
        Ok(())
    }
}

/// Deliveries of jobs that are not final, by consumer and priority, where there are any.
pub(super) fn waiting(conn: &Connection) -> Result<Vec<(ConsumerName, Priority, u64)>, Error> {
    // In this order: what waits is what is looked through, and not every job that is kept.
    let sql = "SELECT n.text, w.priority, count(*) FROM raw_waiting AS w CROSS JOIN raw_jobs AS j ON j.seq = w.seq \
               AND j.consumer = w.consumer JOIN names AS n ON n.id = w.consumer GROUP BY n.text, w.priority";
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_map([], |row| Ok((get_consumer(row, 0)?, get_priority(row, 1)?, get_u64(row, 2)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// What a waiting delivery of a job has of its own.
pub(super) fn errand(conn: &Connection, id: &DeliveryId) -> Result<Option<Errand>, Error> {
    let Some(consumer) = names::find(conn, id.consumer.as_str())? else { return Ok(None) };
    let sql = "SELECT j.retry FROM raw_jobs AS j JOIN raw_waiting AS w ON w.seq = j.seq AND w.consumer = j.consumer \
               WHERE j.seq = ?1 AND j.consumer = ?2 AND w.round = ?3";
    let mut statement = conn.prepare_cached(sql)?;
    let found = statement.query_row((int(id.seq), consumer, id.round), |row| get_retry(row, 0)).optional()?;
    Ok(found.map(|retry| Errand { retry, ..Errand::default() }))
}
