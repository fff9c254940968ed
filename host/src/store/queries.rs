//! What came of questions: written now and then, in bulk, and never what somebody waits for.

use crate::model::QueryOutcome;
use crate::model::question::{Asker, QueryNote};

use super::row::{Id, int};
use super::{Error, Writer};

/// Rows of one step of retention, at most.
const STEP: i64 = 500;

pub(super) fn outcome_code(outcome: QueryOutcome) -> i64 {
    QueryOutcome::ALL.iter().position(|known| *known == outcome).map_or(0, |at| at as i64)
}

pub(super) fn outcome_of(code: i64) -> Option<QueryOutcome> {
    QueryOutcome::ALL.get(usize::try_from(code).ok()?).copied()
}

impl Writer {
    /// Takes down what came of a question.
    pub fn note_query(&mut self, note: &QueryNote) -> Result<(), Error> {
        let question = &note.question;
        let (seq, consumer, round, call, parent) = match &question.asker {
            Asker::Client => (None, None, None, None, None),
            Asker::Delivery { id, call } => (Some(int(id.seq)), Some(&id.consumer), Some(id.round), Some(*call), None),
            Asker::Responder { query, consumer } => (None, Some(consumer), None, None, Some(Id(query))),
        };
        let consumer = consumer.map(|name| self.names.intern(&self.conn, name.as_str())).transpose()?;
        let responder = note.responder.as_ref();
        let responder = responder.map(|name| self.names.intern(&self.conn, name.as_str())).transpose()?;
        let logs = (!note.logs.is_empty()).then(|| serde_json::to_string(&note.logs).unwrap_or_default());
        let sql = "INSERT INTO raw_queries (id, type, asked_at, responder, seq, consumer, round, call, parent, \
                   correlation, depth, outcome, reason, duration_us, fuel, question_bytes, answer_bytes, generation, logs) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)";
        let mut statement = self.conn.prepare_cached(sql)?;
        statement.execute(rusqlite::params![
            Id(&note.id),
            question.query_type,
            note.asked_at.0,
            responder,
            seq,
            consumer,
            round,
            call,
            parent,
            Id(&note.correlation_id),
            question.depth,
            outcome_code(note.outcome),
            note.reason,
            i64::try_from(note.duration.as_micros()).unwrap_or(i64::MAX),
            int(note.fuel),
            int(question.payload.data.len() as u64),
            int(note.answer_bytes),
            int(note.generation.0),
            logs,
        ])?;
        Ok(())
    }

    /// Takes away what was asked before a time.
    pub(super) fn prune_queries(&mut self, limit: crate::model::Timestamp) -> Result<usize, Error> {
        let sql =
            "DELETE FROM raw_queries WHERE number IN (SELECT number FROM raw_queries WHERE asked_at < ?1 LIMIT ?2)";
        Ok(self.conn.prepare_cached(sql)?.execute((limit.0, STEP))?)
    }
}
