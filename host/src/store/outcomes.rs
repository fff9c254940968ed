//! One row for each attempt, with a sum: the chain does not cover them.

use rusqlite::params_from_iter;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::model::{Delivery, DeliveryId, Digest, Generation, LogLine, Outcome, Payload, State, Timestamp, Usage};

use super::row::int;
use super::{Error, Writer, sums};

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
        Outcome::Withdrawn => 14,
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
    duration_us, fuel, memory_peak, published, generation, component, logs_dropped, reason, output_type, output, logs, \
    sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20) \
    ON CONFLICT (seq, consumer, round, call) DO NOTHING";

/// Columns that a sum is of, as [`sums::OUTCOMES`] has them, and those of them that are names.
const SUMMED: usize = 19;
const CONSUMER: usize = 1;
const COMPONENT: usize = 13;
const OUTPUT_TYPE: usize = 16;

fn integer(number: u64) -> ValueRef<'static> {
    ValueRef::Integer(int(number))
}

fn text(text: Option<&str>) -> ValueRef<'_> {
    text.map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()))
}

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
        let row = (int(id.seq), consumer, id.round, call, int(published as u64));
        let sum = sums::OUTCOMES.written(&self.conn, sql, row)?;
        let sql = "UPDATE raw_outcomes SET sum = ?5 WHERE seq = ?1 AND consumer = ?2 AND round = ?3 AND call = ?4";
        self.conn.prepare_cached(sql)?.execute((int(id.seq), consumer, id.round, call, sum))?;
        Ok(())
    }

    /// Answers whether the row is new. If not, somebody has settled this call already.
    pub fn record_outcome(&mut self, row: &OutcomeRow<'_>) -> Result<bool, Error> {
        let consumer = self.names.intern(&self.conn, row.delivery.consumer.as_str())?;
        let component_text = row.component.to_string();
        let component = self.names.intern(&self.conn, &component_text)?;
        let output_type = match row.output {
            Some(output) => Some(self.names.intern(&self.conn, &output.content_type)?),
            None => None,
        };
        let logs = (!row.logs.is_empty()).then(|| serde_json::to_string(row.logs).unwrap_or_default());
        let values: [ValueRef<'_>; SUMMED] = [
            integer(row.delivery.seq),
            ValueRef::Integer(consumer),
            integer(row.delivery.round.into()),
            integer(row.call.into()),
            integer(row.attempt.into()),
            integer(outcome_code(row.outcome).into()),
            integer(state_code(row.next.state).into()),
            ValueRef::Integer(row.started_at.0),
            ValueRef::Integer(i64::try_from(row.usage.duration.as_micros()).unwrap_or(i64::MAX)),
            integer(row.usage.fuel),
            integer(row.usage.memory_peak),
            integer(row.published as u64),
            integer(row.generation.0),
            ValueRef::Integer(component),
            integer(row.logs_dropped),
            text(row.reason),
            output_type.map_or(ValueRef::Null, ValueRef::Integer),
            row.output.map_or(ValueRef::Null, |output| ValueRef::Blob(&output.data)),
            text(logs.as_deref()),
        ];
        let texts = values.into_iter().enumerate().map(|(column, value)| match column {
            CONSUMER => ValueRef::Text(row.delivery.consumer.as_str().as_bytes()),
            COMPONENT => ValueRef::Text(component_text.as_bytes()),
            OUTPUT_TYPE => text(row.output.map(|output| output.content_type.as_str())),
            _ => value,
        });
        let sum = ValueRef::Integer(sums::sum(texts));
        let all = values.into_iter().chain([sum]).map(ToSqlOutput::Borrowed);
        let inserted = self.conn.prepare_cached(INSERT)?.execute(params_from_iter(all))?;
        if inserted == 1 {
            self.tallies.count(consumer, row.outcome, row.delivery.seq);
        }
        Ok(inserted == 1)
    }
}
