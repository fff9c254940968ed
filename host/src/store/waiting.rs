//! Deliveries that must wait, and those that died.

use rusqlite::OptionalExtension as _;

use crate::model::delivery::DeathCause;
use crate::model::{ConsumerName, Delivery, DeliveryId, Outcome, Seq, State, Timestamp};

use super::outcomes::outcome_code;
use super::row::{get_time, get_u64, int};
use super::{Error, Writer};

/// A delivery that has died.
#[derive(Clone, Copy, Debug)]
pub struct DeadRow<'a> {
    pub delivery: &'a DeliveryId,
    pub cause: DeathCause,
    pub outcome: Outcome,
    pub reason: Option<&'a str>,
    pub attempts: u32,
    pub died_at: Timestamp,
}

/// Which dead letters; nothing given means all that are still `dead`.
#[derive(Clone, Debug, Default)]
pub struct DeadFilter {
    pub ids: Vec<DeliveryId>,
    pub consumer: Option<ConsumerName>,
    pub event_type: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub cause: Option<DeathCause>,
    pub limit: usize,
}

const SELECT_DEAD: &str = "SELECT d.seq, n.text, d.round FROM raw_dead_letters AS d JOIN names AS n ON n.id = d.consumer \
    WHERE d.status = 'dead' AND (?1 IS NULL OR n.text = ?1) \
    AND (?2 IS NULL OR EXISTS (SELECT 1 FROM raw_events AS e JOIN names AS t ON t.id = e.type \
      WHERE e.seq = d.seq AND t.text = ?2)) \
    AND d.died_at >= ?3 AND d.died_at < ?4 AND (?5 IS NULL OR d.cause = ?5) \
    ORDER BY d.died_at, d.seq, d.consumer, d.round LIMIT ?6";

impl Writer {
    /// How often the handler of a waiting delivery has been called; none if it does not wait.
    pub fn waiting_calls(&mut self, id: &DeliveryId) -> Result<Option<u32>, Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "SELECT calls FROM raw_waiting WHERE seq = ?1 AND consumer = ?2 AND round = ?3";
        let mut statement = self.conn.prepare_cached(sql)?;
        Ok(statement.query_row((int(id.seq), consumer, id.round), |row| row.get(0)).optional()?)
    }

    /// Stores a delivery that waits until `due_at`, in place of how it waited before.
    pub fn wait(&mut self, id: &DeliveryId, due_at: Timestamp, attempts: u32, calls: u32) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        self.conn.prepare_cached("INSERT OR REPLACE INTO raw_waiting VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute((
            int(id.seq),
            consumer,
            id.round,
            due_at.0,
            attempts,
            calls,
        ))?;
        Ok(())
    }

    pub fn wait_no_more(&mut self, id: &DeliveryId) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        self.conn
            .prepare_cached("DELETE FROM raw_waiting WHERE seq = ?1 AND consumer = ?2 AND round = ?3")?
            .execute((int(id.seq), consumer, id.round))?;
        Ok(())
    }

    pub fn bury(&mut self, row: &DeadRow<'_>) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, row.delivery.consumer.as_str())?;
        let sql = "INSERT INTO raw_dead_letters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'dead', NULL)";
        self.conn.prepare_cached(sql)?.execute((
            int(row.delivery.seq),
            consumer,
            row.delivery.round,
            row.cause.as_str(),
            outcome_code(row.outcome),
            row.reason,
            row.attempts,
            row.died_at.0,
        ))?;
        Ok(())
    }

    /// Those that are still dead and fit, the oldest first.
    pub fn dead(&self, filter: &DeadFilter) -> Result<Vec<DeliveryId>, Error> {
        let mut statement = self.conn.prepare_cached(SELECT_DEAD)?;
        // With ids given, the limit counts those that are among them.
        let limit = if filter.ids.is_empty() { i64::try_from(filter.limit).unwrap_or(i64::MAX) } else { -1 };
        let rows = statement.query_map(
            (
                filter.consumer.as_ref().map(ConsumerName::as_str),
                filter.event_type.as_deref(),
                filter.since.unwrap_or(Timestamp(i64::MIN)).0,
                filter.until.unwrap_or(Timestamp(i64::MAX)).0,
                filter.cause.map(DeathCause::as_str),
                limit,
            ),
            delivery_id,
        )?;
        let mut dead = rows.collect::<Result<Vec<_>, _>>()?;
        if !filter.ids.is_empty() {
            dead.retain(|id| filter.ids.contains(id));
            dead.truncate(filter.limit);
        }
        Ok(dead)
    }

    /// Marks a dead letter `redriven` or `discarded`.
    pub fn decide(&mut self, id: &DeliveryId, status: &'static str, now: Timestamp) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "UPDATE raw_dead_letters SET status = ?4, decided_at = ?5 \
                   WHERE seq = ?1 AND consumer = ?2 AND round = ?3 AND status = 'dead'";
        self.conn.prepare_cached(sql)?.execute((int(id.seq), consumer, id.round, status, now.0))?;
        Ok(())
    }
}

/// From columns sequence, consumer's name and round.
pub(super) fn delivery_id(row: &rusqlite::Row<'_>) -> rusqlite::Result<DeliveryId> {
    Ok(DeliveryId { seq: get_u64(row, 0)?, consumer: get_consumer(row, 1)?, round: row.get(2)? })
}

pub(super) fn get_consumer(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<ConsumerName> {
    ConsumerName::new(row.get_ref(index)?.as_str()?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, e.into()))
}

/// Waiting deliveries of a consumer by due time, sequence and round, after the given one.
pub(super) fn page(
    conn: &rusqlite::Connection,
    consumer: &ConsumerName,
    after: Option<&(Timestamp, DeliveryId)>,
    limit: usize,
) -> Result<Vec<(DeliveryId, Delivery)>, Error> {
    let sql = "SELECT w.seq, w.round, w.due_at, w.attempts, w.calls FROM raw_waiting AS w \
               WHERE w.consumer = (SELECT id FROM names WHERE text = ?1) AND (w.due_at, w.seq, w.round) > (?2, ?3, ?4) \
               ORDER BY w.due_at, w.seq, w.round LIMIT ?5";
    let (due_at, seq, round): (i64, Seq, i64) =
        after.map_or((i64::MIN, 0, -1), |(due_at, id)| (due_at.0, id.seq, i64::from(id.round)));
    let mut statement = conn.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map((consumer.as_str(), due_at, int(seq), round, limit), |row| {
        let id = DeliveryId { seq: get_u64(row, 0)?, consumer: consumer.clone(), round: row.get(1)? };
        let state = State::Pending { due_at: get_time(row, 2)? };
        Ok((id, Delivery { state, attempts: row.get(3)?, calls: row.get(4)? }))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
