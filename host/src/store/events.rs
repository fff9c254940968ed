//! Appending events.

use rusqlite::OptionalExtension as _;

use crate::model::{Envelope, Seq, Timestamp};

use super::chain::Head;
use super::row::{EVENT, Id, StoredEvent, Texts, fields, int};
use super::{Error, Writer};

/// What came of appending one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New(Seq),
    /// The same statement is there already.
    Duplicate(Seq),
    /// Another statement has this id.
    Conflict(Seq),
}

const INSERT: &str = "INSERT INTO raw_events (seq, id, source, type, data_version, timestamp, accepted_at, not_before, \
    depth, correlation, causation, subject, key, traceparent, attributes, hash, content_type, data) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
    ON CONFLICT (id, source) DO NOTHING";

impl Writer {
    /// Gives the event the next place in the log, unless its id is taken; and a delivery, if it is a job.
    pub fn append(&mut self, envelope: &Envelope, accepted_at: Timestamp) -> Result<Inserted, Error> {
        let source = self.names.intern(&self.conn, &envelope.source)?;
        let event_type = self.names.intern(&self.conn, &envelope.event_type)?;
        let data_version = self.names.intern(&self.conn, &envelope.data_version)?;
        let payload = envelope.payload.as_ref();
        let content_type = match payload {
            Some(payload) => Some(self.names.intern(&self.conn, &payload.content_type)?),
            None => None,
        };
        let texts = Texts::of(envelope);
        let seq = self.head.seq + 1;
        let hash = fields(envelope, accepted_at, &texts).link(&self.head.hash, seq);
        let correlation = (envelope.correlation_id != envelope.id).then_some(Id(&envelope.correlation_id));
        let inserted = self.conn.prepare_cached(INSERT)?.execute(rusqlite::params![
            int(seq),
            Id(&envelope.id),
            source,
            event_type,
            data_version,
            envelope.timestamp.0,
            accepted_at.0,
            envelope.not_before.map(|t| t.0),
            envelope.depth,
            correlation,
            envelope.causation_id.as_deref().map(Id),
            envelope.subject,
            envelope.key,
            envelope.traceparent,
            texts.attributes,
            hash,
            content_type,
            payload.map(|payload| payload.data.as_ref()),
        ])?;
        if inserted == 0 {
            return self.taken(envelope, source);
        }
        self.head = Head { seq, hash };
        if let Some(job) = &envelope.job {
            self.enqueue(seq, job, envelope.not_before.unwrap_or(accepted_at))?;
        }
        Ok(Inserted::New(seq))
    }

    fn taken(&self, envelope: &Envelope, source: i64) -> Result<Inserted, Error> {
        let mut statement = self.conn.prepare_cached(&format!("{EVENT} WHERE e.id = ?1 AND e.source = ?2"))?;
        let found = statement.query_row((Id(&envelope.id), source), StoredEvent::read).optional()?;
        let Some(StoredEvent { event, .. }) = found else {
            return Err(rusqlite::Error::QueryReturnedNoRows.into());
        };
        let same = event.envelope.same_statement(envelope);
        Ok(if same { Inserted::Duplicate(event.seq) } else { Inserted::Conflict(event.seq) })
    }
}
