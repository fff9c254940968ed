//! Questions as they are shown.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::model::limit::{ANSWER_BYTES, QUESTION_DEPTH_MAX};
use crate::model::query::{QuestionQuery, bounded};
use crate::model::record::{QueryNode, QueryRecord};
use crate::model::{ConsumerName, DeliveryId, Generation, QueryOutcome, Seq};
use crate::store::queries::{outcome_code, outcome_of};
use crate::store::row::{Id, IdText, get_time, get_u64, int};
use crate::store::{Error, names};

use super::events::{Filter, times};
use super::tree::Budget;

const QUERY: &str = "SELECT q.number, q.id, q.type, q.asked_at, (SELECT text FROM names WHERE names.id = q.responder), \
    q.seq, (SELECT text FROM names WHERE names.id = q.consumer), q.round, q.call, q.parent, q.correlation, q.depth, \
    q.outcome, q.reason, q.duration_us, q.fuel, q.question_bytes, q.answer_bytes, q.generation, q.logs \
    FROM raw_queries AS q";

pub(super) fn list(conn: &Connection, query: &QuestionQuery) -> Result<Vec<QueryRecord>, Error> {
    let mut filter = Filter::default();
    filter.and_optional("q.type = ?", query.query_type.clone());
    if let Some(responder) = &query.responder {
        filter.and("q.responder = ?", names::find(conn, responder.as_str())?.unwrap_or(0));
    }
    if let Some(consumer) = &query.consumer {
        filter.and("q.consumer = ?", names::find(conn, consumer.as_str())?.unwrap_or(0));
    }
    filter.and_optional("q.outcome = ?", query.outcome.map(outcome_code));
    if let Some(correlation) = &query.correlation {
        filter.and("q.correlation = ?", Id(correlation).value());
    }
    filter.and_optional("q.number > ?", query.after.map(int));
    filter.and_optional("q.number < ?", query.before.map(int));
    times(&mut filter, "q.asked_at", query.since, query.until);
    let order = if query.newest { "q.number DESC" } else { "q.number" };
    let sql = format!("{QUERY}{} ORDER BY {order} LIMIT {}", filter.clause(), super::limit(query.limit));
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), read)?;
    Ok(bounded(rows, QueryRecord::bytes)?)
}

/// What was asked while an event was handled, in the order in which it was asked; each with what its responder asked in
/// turn.
pub(super) fn of_event(conn: &Connection, seq: Seq, budget: &mut Budget) -> Result<Vec<QueryNode>, Error> {
    grow(conn, "q.seq = ?", int(seq).into(), budget, 1)
}

fn grow(conn: &Connection, which: &str, of: Value, budget: &mut Budget, level: u32) -> Result<Vec<QueryNode>, Error> {
    let sql = format!("{QUERY} WHERE {which} ORDER BY q.asked_at, q.number LIMIT ?");
    let mut statement = conn.prepare_cached(&sql)?;
    let limit = int(budget.nodes.saturating_add(1) as u64);
    let asked = bounded(statement.query_map((of, limit), read)?, QueryRecord::bytes)?;
    budget.cut |= asked.iter().map(QueryRecord::bytes).sum::<usize>() > ANSWER_BYTES;
    let mut nodes = Vec::new();
    for query in asked {
        if level > QUESTION_DEPTH_MAX || budget.nodes == 0 || budget.bytes == 0 {
            budget.cut = true;
            break;
        }
        budget.nodes -= 1;
        budget.bytes = budget.bytes.saturating_sub(query.bytes());
        let queries = grow(conn, "q.parent = ?", Id(&query.id).value(), budget, level + 1)?;
        nodes.push(QueryNode { query, queries });
    }
    Ok(nodes)
}

fn read(row: &Row<'_>) -> rusqlite::Result<QueryRecord> {
    let name = |at| -> rusqlite::Result<Option<ConsumerName>> {
        Ok(row.get::<_, Option<String>>(at)?.and_then(|name| ConsumerName::new(&name).ok()))
    };
    let (IdText(id), IdText(correlation_id)) = (row.get(1)?, row.get(10)?);
    let parent = row.get::<_, Option<IdText>>(9)?.map(|IdText(id)| id);
    let (consumer, seq): (_, Option<u64>) = (name(6)?, row.get::<_, Option<i64>>(5)?.and_then(|n| n.try_into().ok()));
    let delivery = match (&consumer, seq) {
        (Some(consumer), Some(seq)) => {
            let id = DeliveryId { seq, consumer: consumer.clone(), round: row.get(7)? };
            Some(id.to_string())
        }
        _ => None,
    };
    let asked_by = if delivery.is_some() {
        "delivery"
    } else if parent.is_some() {
        "query"
    } else {
        "client"
    };
    let micros: i64 = row.get(14)?;
    let logs: Option<String> = row.get(19)?;
    Ok(QueryRecord {
        number: get_u64(row, 0)?,
        id,
        query_type: row.get(2)?,
        asked_at: get_time(row, 3)?,
        responder: name(4)?,
        asked_by: asked_by.to_owned(),
        consumer,
        delivery,
        call: row.get(8)?,
        parent,
        correlation_id,
        depth: row.get(11)?,
        outcome: outcome_of(row.get(12)?).unwrap_or(QueryOutcome::Failed),
        reason: row.get(13)?,
        #[expect(clippy::cast_precision_loss, reason = "a duration to look at")]
        duration_ms: micros as f64 / 1e3,
        fuel: get_u64(row, 15)?,
        question_bytes: get_u64(row, 16)?,
        answer_bytes: get_u64(row, 17)?,
        generation: Generation(get_u64(row, 18)?),
        logs: logs.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
    })
}
