//! Deliveries that died.

use crate::model::delivery::DeathCause;
use crate::model::{ConsumerName, DeliveryId, Outcome, Timestamp};

use super::outcomes::outcome_code;
use super::row::int;
use super::waiting::delivery_id;
use super::{Error, Writer, sums};

/// A delivery that has died.
#[derive(Clone, Copy, Debug)]
pub struct DeadRow<'a> {
    pub delivery: &'a DeliveryId,
    pub cause: DeathCause,
    pub outcome: Outcome,
    pub reason: Option<&'a str>,
    pub attempts: u32,
    pub died_at: Timestamp,
    /// Its ordering key.
    pub key: Option<&'a str>,
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

const SELECT_DEAD: &str = "SELECT d.seq, n.text, d.round FROM raw_dead_letters AS d \
    JOIN names AS n ON n.id = d.consumer WHERE d.status = 'dead' AND (?1 IS NULL OR n.text = ?1) \
    AND (?2 IS NULL OR EXISTS (SELECT 1 FROM raw_events AS e JOIN names AS t ON t.id = e.type \
      WHERE e.seq = d.seq AND t.text = ?2)) \
    AND d.died_at >= ?3 AND d.died_at < ?4 AND (?5 IS NULL OR d.cause = ?5) \
    ORDER BY d.died_at, d.seq, d.consumer, d.round LIMIT ?6";

impl Writer {
    pub fn bury(&mut self, row: &DeadRow<'_>) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, row.delivery.consumer.as_str())?;
        let sql = "INSERT INTO raw_dead_letters (seq, consumer, round, cause, outcome, reason, attempts, died_at, status, \
                   key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'dead', ?9)";
        let delivery = (int(row.delivery.seq), consumer, row.delivery.round);
        let row = (
            delivery.0,
            delivery.1,
            delivery.2,
            row.cause.as_str(),
            outcome_code(row.outcome),
            row.reason,
            row.attempts,
            row.died_at.0,
            row.key,
        );
        sums::DEAD_LETTERS.write(&self.conn, delivery, sql, row)
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
        let mut dead: Vec<DeliveryId> = rows.collect::<Result<_, _>>()?;
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
        let delivery = (int(id.seq), consumer, id.round);
        sums::DEAD_LETTERS.write(&self.conn, delivery, sql, (delivery.0, delivery.1, delivery.2, status, now.0))
    }
}
