//! Values as columns hold them, and events read back.

use bytes::Bytes;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension as _, Row};
use serde_json::{Map, Value};

use crate::model::{Envelope, Event, Job, Payload, Seq, Timestamp};

use super::Error;
use super::chain::{Fields, Hash, JobFields};
use super::jobs::get_job;

/// An id on its way into a row: sixteen bytes if it is a UUID in its usual spelling, so that it reads back exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id<'a>(pub &'a str);

impl Id<'_> {
    /// The same, to be compared with a column.
    pub(super) fn value(&self) -> rusqlite::types::Value {
        match uuid_bytes(self.0) {
            Some(bytes) => rusqlite::types::Value::Blob(bytes.to_vec()),
            None => rusqlite::types::Value::Text(self.0.to_owned()),
        }
    }
}

impl ToSql for Id<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match uuid_bytes(self.0) {
            Some(bytes) => ToSqlOutput::Owned(rusqlite::types::Value::Blob(bytes.to_vec())),
            None => ToSqlOutput::Borrowed(self.0.into()),
        })
    }
}

fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    if text.len() != 36 || !text.as_bytes().iter().all(lower) {
        return None;
    }
    let uuid = uuid::Uuid::try_parse(text).ok()?;
    // Only what is written back the same.
    (uuid.hyphenated().encode_lower(&mut [0; 36]) == text).then(|| *uuid.as_bytes())
}

/// An id read from a row.
pub(super) struct IdText(pub String);

impl FromSql for IdText {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        match value {
            ValueRef::Blob(bytes) => {
                let bytes = <[u8; 16]>::try_from(bytes).map_err(|_| FromSqlError::InvalidType)?;
                Ok(Self(uuid::Uuid::from_bytes(bytes).hyphenated().to_string()))
            }
            value => value.as_str().map(|text| Self(text.to_owned())),
        }
    }
}

/// A sequence as SQLite holds it. Beyond 2⁶³ there is nothing.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

pub(super) fn get_u64(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get(index).map(unsigned)
}

pub(super) fn get_time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    row.get(index).map(Timestamp)
}

/// The columns that [`StoredEvent::read`] takes, from `raw_events AS e` and `raw_jobs AS j`.
pub(super) const EVENT: &str = "SELECT e.seq, e.id, (SELECT text FROM names WHERE names.id = e.source), \
    (SELECT text FROM names WHERE names.id = e.type), (SELECT text FROM names WHERE names.id = e.data_version), \
    e.timestamp, e.accepted_at, e.not_before, e.depth, e.correlation, e.causation, e.subject, e.key, e.traceparent, \
    e.attributes, e.hash, (SELECT text FROM names WHERE names.id = e.content_type), e.data, \
    (SELECT text FROM names WHERE names.id = j.consumer), j.priority, j.retry \
    FROM raw_events AS e LEFT JOIN raw_jobs AS j ON j.seq = e.seq";

/// An event with the texts that its hash covers.
#[derive(Clone, Debug)]
pub(super) struct StoredEvent {
    pub event: Event,
    pub hash: Hash,
    texts: Texts,
}

/// What an event has as texts that are made of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Texts {
    /// A JSON object; none if there are no foreign attributes.
    pub attributes: Option<String>,
    /// A job's own retry.
    pub retry: Option<String>,
}

impl Texts {
    pub(super) fn of(envelope: &Envelope) -> Self {
        let attributes =
            (!envelope.attributes.is_empty()).then(|| serde_json::to_string(&envelope.attributes).unwrap_or_default());
        Self { attributes, retry: envelope.job.as_ref().and_then(Job::retry_text) }
    }
}

impl StoredEvent {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let IdText(id) = row.get(1)?;
        let correlation: Option<IdText> = row.get(9)?;
        let attributes: Option<String> = row.get(14)?;
        let data: Option<Vec<u8>> = row.get(17)?;
        let content_type: Option<String> = row.get(16)?;
        let (job, retry) = get_job(row, 18)?.map_or((None, None), |(job, retry)| (Some(job), retry));
        let envelope = Envelope {
            source: row.get(2)?,
            event_type: row.get(3)?,
            data_version: row.get(4)?,
            timestamp: get_time(row, 5)?,
            not_before: row.get::<_, Option<i64>>(7)?.map(Timestamp),
            depth: row.get(8)?,
            correlation_id: correlation.map_or_else(|| id.clone(), |IdText(text)| text),
            causation_id: row.get::<_, Option<IdText>>(10)?.map(|IdText(text)| text),
            subject: row.get(11)?,
            key: row.get(12)?,
            traceparent: row.get(13)?,
            attributes: attributes.as_deref().map(parse_attributes).unwrap_or_default(),
            payload: content_type
                .zip(data)
                .map(|(content_type, data)| Payload { content_type, data: Bytes::from(data) }),
            job,
            id,
        };
        let event = Event { seq: get_u64(row, 0)?, accepted_at: get_time(row, 6)?, envelope };
        Ok(Self { event, hash: row.get(15)?, texts: Texts { attributes, retry } })
    }

    /// The hash that the row should have, after `previous`.
    pub(super) fn link(&self, previous: &Hash) -> Hash {
        fields(&self.event.envelope, self.event.accepted_at, &self.texts).link(previous, self.event.seq)
    }
}

/// Damaged text gives no attributes; the hash finds out.
fn parse_attributes(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

pub(super) fn fields<'a>(envelope: &'a Envelope, accepted_at: Timestamp, texts: &'a Texts) -> Fields<'a> {
    Fields {
        id: &envelope.id,
        source: &envelope.source,
        event_type: &envelope.event_type,
        data_version: &envelope.data_version,
        timestamp: envelope.timestamp.0,
        accepted_at: accepted_at.0,
        not_before: envelope.not_before.map(|t| t.0),
        depth: envelope.depth,
        correlation_id: &envelope.correlation_id,
        causation_id: envelope.causation_id.as_deref(),
        subject: envelope.subject.as_deref(),
        key: envelope.key.as_deref(),
        traceparent: envelope.traceparent.as_deref(),
        attributes: texts.attributes.as_deref(),
        content_type: envelope.payload.as_ref().map(|payload| payload.content_type.as_str()),
        data: envelope.payload.as_ref().map(|payload| payload.data.as_ref()),
        job: envelope.job.as_ref().map(|job| JobFields {
            to: job.to.as_str(),
            priority: job.priority.as_str(),
            retry: texts.retry.as_deref(),
        }),
    }
}

pub(super) fn event_by_seq(conn: &rusqlite::Connection, seq: Seq) -> Result<Option<StoredEvent>, Error> {
    let mut statement = conn.prepare_cached(&format!("{EVENT} WHERE e.seq = ?1"))?;
    Ok(statement.query_row([int(seq)], StoredEvent::read).optional()?)
}
