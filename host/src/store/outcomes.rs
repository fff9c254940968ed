//! One row for each attempt.

use crate::model::{Delivery, DeliveryId, Digest, Generation, LogLine, Outcome, Payload, State, Timestamp, Usage};

use super::row::int;
use super::{Error, Writer};

/// What is written down about one attempt.
#[derive(Clone, Copy, Debug)]
pub struct OutcomeRow<'a> {
    pub delivery: &'a DeliveryId,
    pub next: Delivery,
    pub call: u32,
    pub attempt: u32,
    pub outcome: Outcome,
    pub reason: Option<&'a str>,
    pub output: Option<&'a Payload>,
    pub logs: &'a [LogLine],
    pub logs_dropped: u64,
    pub started_at: Timestamp,
    pub usage: Usage,
    pub published: usize,
    pub generation: Generation,
    pub component: Digest,
}

/// As `raw_outcomes` writes it.
pub(super) fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => 0,
        Outcome::Retry => 1,
        Outcome::Defer => 2,
        Outcome::Reject => 3,
        Outcome::Trapped => 4,
        Outcome::TimedOut => 5,
        Outcome::OutOfFuel => 6,
        Outcome::OutOfMemory => 7,
        Outcome::OverLimit => 8,
        Outcome::Refused => 9,
        Outcome::Interrupted => 10,
        Outcome::Duplicate => 11,
        Outcome::Expired => 12,
        Outcome::Crashed => 13,
    }
}

pub(super) fn outcome_of(code: u8) -> Option<Outcome> {
    Outcome::ALL.into_iter().find(|outcome| outcome_code(*outcome) == code)
}

/// As `raw_outcomes` writes it. A leased delivery is never written.
pub(super) fn state_code(state: State) -> u8 {
    match state {
        State::Succeeded => 0,
        State::Pending { .. } | State::Leased => 1,
        State::Dead => 2,
        State::Cancelled => 3,
    }
}

pub(super) fn state_word(code: u8) -> &'static str {
    match code {
        0 => "succeeded",
        1 => "pending",
        2 => "dead",
        _ => "cancelled",
    }
}

const INSERT: &str = "INSERT INTO raw_outcomes (seq, consumer, round, call, attempt, outcome, state, started_at, \
    duration_us, fuel, memory_peak, published, generation, component, logs_dropped, reason, output_type, output, logs) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
    ON CONFLICT (seq, consumer, round, call) DO NOTHING";

impl Writer {
    /// Whether this call of the handler is settled already.
    pub fn has_outcome(&mut self, id: &DeliveryId, call: u32) -> Result<bool, Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql = "SELECT 1 FROM raw_outcomes WHERE seq = ?1 AND consumer = ?2 AND round = ?3 AND call = ?4";
        Ok(self.conn.prepare_cached(sql)?.exists((int(id.seq), consumer, id.round, call))?)
    }

    /// Says how many events the attempt published in truth.
    pub fn correct_published(&mut self, id: &DeliveryId, call: u32, published: usize) -> Result<(), Error> {
        let consumer = self.names.intern(&self.conn, id.consumer.as_str())?;
        let sql =
            "UPDATE raw_outcomes SET published = ?5 WHERE seq = ?1 AND consumer = ?2 AND round = ?3 AND call = ?4";
        self.conn.prepare_cached(sql)?.execute((int(id.seq), consumer, id.round, call, int(published as u64)))?;
        Ok(())
    }

    /// Answers whether the row is new. If not, somebody has settled this call already.
    pub fn record_outcome(&mut self, row: &OutcomeRow<'_>) -> Result<bool, Error> {
        let consumer = self.names.intern(&self.conn, row.delivery.consumer.as_str())?;
        let component = self.names.intern(&self.conn, &row.component.to_string())?;
        let output_type = match row.output {
            Some(output) => Some(self.names.intern(&self.conn, &output.content_type)?),
            None => None,
        };
        let logs = (!row.logs.is_empty()).then(|| serde_json::to_string(row.logs).unwrap_or_default());
        let inserted = self.conn.prepare_cached(INSERT)?.execute(rusqlite::params![
            int(row.delivery.seq),
            consumer,
            row.delivery.round,
            row.call,
            row.attempt,
            outcome_code(row.outcome),
            state_code(row.next.state),
            row.started_at.0,
            i64::try_from(row.usage.duration.as_micros()).unwrap_or(i64::MAX),
            int(row.usage.fuel),
            int(row.usage.memory_peak),
            int(row.published as u64),
            int(row.generation.0),
            component,
            int(row.logs_dropped),
            row.reason,
            output_type,
            row.output.map(|output| output.data.as_ref()),
            logs,
        ])?;
        Ok(inserted == 1)
    }
}
