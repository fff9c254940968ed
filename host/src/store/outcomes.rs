//! One row for each attempt. The chain does not cover them, so each has a sum of its own.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};
use sha2::{Digest as _, Sha256};

use crate::model::{Delivery, DeliveryId, Digest, Generation, LogLine, Outcome, Payload, Seq, State, Timestamp, Usage};

use super::row::{get_u64, int};
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

/// Columns that a sum is of: all others, in the order of the table, with names as texts.
const SUMMED: usize = 19;
/// What these take where nothing was said or logged, about.
const SUMMED_BYTES: usize = 512;
const CONSUMER: usize = 1;
const COMPONENT: usize = 13;
const OUTPUT_TYPE: usize = 16;

const SELECT_SUMMED: &str = "SELECT o.seq, (SELECT text FROM names WHERE names.id = o.consumer), o.round, o.call, o.attempt, \
    o.outcome, o.state, o.started_at, o.duration_us, o.fuel, o.memory_peak, o.published, o.generation, \
    (SELECT text FROM names WHERE names.id = o.component), o.logs_dropped, o.reason, \
    (SELECT text FROM names WHERE names.id = o.output_type), o.output, o.logs, o.sum FROM raw_outcomes AS o";

/// The first eight bytes of a SHA-256 over the values, each with its kind and length.
fn sum<'a>(values: impl Iterator<Item = ValueRef<'a>>) -> i64 {
    // Put together first: hashed piece by piece, short pieces cost more than what is in them.
    let mut summed = Vec::with_capacity(SUMMED_BYTES);
    for value in values {
        let number;
        let (kind, bytes): (u8, &[u8]) = match value {
            ValueRef::Null => (0, &[]),
            ValueRef::Integer(n) => {
                number = n.to_le_bytes();
                (1, &number)
            }
            ValueRef::Real(n) => {
                number = n.to_le_bytes();
                (2, &number)
            }
            ValueRef::Text(text) => (3, text),
            ValueRef::Blob(bytes) => (4, bytes),
        };
        summed.push(kind);
        summed.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        summed.extend_from_slice(bytes);
    }
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(&summed).into();
    i64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Of a row of [`SELECT_SUMMED`].
fn sum_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<i64> {
    let values = (0..SUMMED).map(|column| row.get_ref(column)).collect::<Result<Vec<_>, _>>()?;
    Ok(sum(values.into_iter()))
}

/// The event of the first outcome that is not as it was written.
pub(super) fn changed(conn: &Connection) -> Result<Option<Seq>, Error> {
    let mut statement = conn.prepare(SELECT_SUMMED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(SUMMED)? != sum_of(row)? {
            return Ok(Some(get_u64(row, 0)?));
        }
    }
    Ok(None)
}

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
        self.conn.prepare_cached(sql)?.execute((int(id.seq), consumer, id.round, call, int(published as u64)))?;
        let key = (int(id.seq), consumer, id.round, call);
        let sql = format!("{SELECT_SUMMED} WHERE o.seq = ?1 AND o.consumer = ?2 AND o.round = ?3 AND o.call = ?4");
        let sum = self.conn.prepare_cached(&sql)?.query_row(key, sum_of)?;
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
        let sum = ValueRef::Integer(sum(texts));
        let all = values.into_iter().chain([sum]).map(ToSqlOutput::Borrowed);
        let inserted = self.conn.prepare_cached(INSERT)?.execute(params_from_iter(all))?;
        if inserted == 1 {
            self.tallies.count(consumer, row.outcome, row.delivery.seq);
        }
        Ok(inserted == 1)
    }
}
