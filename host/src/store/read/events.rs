//! Events as they are shown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, params_from_iter};
use serde_json::value::RawValue;

use crate::model::query::{EventQuery, bounded};
use crate::model::record::EventRecord;
use crate::model::{Event, Payload, Seq, Timestamp, TypePattern};
use crate::store::recovery::end;
use crate::store::retention::first_at;
use crate::store::row::{EVENT, Id, StoredEvent, int};
use crate::store::{Error, depth, names};

/// Conditions and their values. The texts are constants; only values come from outside.
#[derive(Debug, Default)]
pub(super) struct Filter {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Filter {
    /// `condition` holds one `?`.
    pub(super) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.conditions.push(condition.to_owned());
        self.values.push(value.into());
    }

    pub(super) fn and_optional(&mut self, condition: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.and(condition, value);
        }
    }

    /// One of several words, which are constants.
    pub(super) fn and_one_of<'w>(&mut self, column: &str, words: impl Iterator<Item = &'w str>) {
        let list: Vec<String> = words.map(|word| format!("'{word}'")).collect();
        self.conditions.push(format!("{column} IN ({})", list.join(",")));
    }

    /// Nothing fits.
    fn nothing(&mut self) {
        self.conditions.push("0".into());
    }

    /// Types by their numbers, which may be many.
    pub(super) fn types(&mut self, conn: &Connection, column: &str, pattern: &str) -> Result<(), Error> {
        let Ok(pattern) = TypePattern::new(pattern) else {
            self.nothing();
            return Ok(());
        };
        let ids: Vec<i64> = if pattern.is_exact() {
            names::find(conn, pattern.as_str())?.into_iter().collect()
        } else {
            depth::types(conn)?.into_iter().filter(|(_, t)| pattern.matches(t)).map(|(id, _)| id).collect()
        };
        match ids.as_slice() {
            [] => self.nothing(),
            [id] => self.and(&format!("{column} = ?"), *id),
            ids => {
                let list: Vec<String> = ids.iter().map(i64::to_string).collect();
                self.conditions.push(format!("{column} IN ({})", list.join(",")));
            }
        }
        Ok(())
    }

    pub(super) fn clause(&self) -> String {
        if self.conditions.is_empty() { String::new() } else { format!(" WHERE {}", self.conditions.join(" AND ")) }
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }
}

/// Bounds of sequence and time of acceptance, on columns `e.seq` and `e.accepted_at`.
fn range(conn: &Connection, filter: &mut Filter, query: &EventQuery) -> Result<(), Error> {
    filter.and_optional("e.seq > ?", query.after.map(int));
    filter.and_optional("e.seq < ?", query.before.map(int));
    for (time, seq, exact) in
        [(query.since, "e.seq >= ?", "e.accepted_at >= ?"), (query.until, "e.seq < ?", "e.accepted_at < ?")]
    {
        if let Some(time) = time {
            filter.and(seq, int(first_at(conn, time, end(conn)?)?));
            filter.and(exact, time.0);
        }
    }
    Ok(())
}

pub(super) fn list(conn: &Connection, query: &EventQuery) -> Result<Vec<EventRecord>, Error> {
    let mut filter = Filter::default();
    range(conn, &mut filter, query)?;
    if let Some(pattern) = &query.event_type {
        filter.types(conn, "e.type", pattern)?;
    }
    if let Some(source) = &query.source {
        filter.and("e.source = ?", names::find(conn, source)?.unwrap_or(0));
    }
    filter.and_optional("e.subject = ?", query.subject.clone());
    if let Some(correlation) = &query.correlation {
        let id = id_value(correlation)?;
        filter.and("(e.correlation = ?", id.clone());
        // Closes what the line above opened: two values, one condition.
        filter.close("OR (e.correlation IS NULL AND e.id = ?))", id);
    }
    let order = if query.newest { "DESC" } else { "ASC" };
    let limit = super::limit(query.limit);
    let sql = format!("{EVENT}{} ORDER BY e.seq {order} LIMIT {limit}", filter.clause());
    let mut statement = conn.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(filter.values()), StoredEvent::read)?;
    bounded(rows.map(|row| Ok(record(row?.event))), EventRecord::bytes)
}

impl Filter {
    fn close(&mut self, rest: &str, value: Value) {
        if let Some(last) = self.conditions.last_mut() {
            last.push(' ');
            last.push_str(rest);
        }
        self.values.push(value);
    }
}

/// An id as its column holds it.
fn id_value(text: &str) -> Result<Value, Error> {
    use rusqlite::types::{ToSql as _, ToSqlOutput};
    Ok(match Id(text).to_sql()? {
        ToSqlOutput::Owned(value) => value,
        _ => Value::Text(text.to_owned()),
    })
}

/// By sequence, then `source#id`, then id.
pub(super) fn find(conn: &Connection, reference: &str) -> Result<Option<EventRecord>, Error> {
    if let Ok(seq) = reference.parse::<Seq>()
        && let Some(record) = by_seq(conn, seq)?
    {
        return Ok(Some(record));
    }
    if let Some((source, id)) = reference.rsplit_once('#')
        && let Some(source) = names::find(conn, source)?
    {
        let sql = format!("{EVENT} WHERE e.id = ?1 AND e.source = ?2");
        let found = conn.prepare_cached(&sql)?.query_row((Id(id), source), StoredEvent::read).optional()?;
        if let Some(stored) = found {
            return Ok(Some(record(stored.event)));
        }
    }
    let mut statement = conn.prepare_cached(&format!("{EVENT} WHERE e.id = ?1 LIMIT 2"))?;
    let found: Vec<StoredEvent> = statement.query_map([Id(reference)], StoredEvent::read)?.collect::<Result<_, _>>()?;
    match <[StoredEvent; 1]>::try_from(found) {
        Ok([stored]) => Ok(Some(record(stored.event))),
        Err(found) if found.is_empty() => Ok(None),
        Err(_) => Err(Error::Ambiguous { reference: reference.to_owned() }),
    }
}

pub(super) fn by_seq(conn: &Connection, seq: Seq) -> Result<Option<EventRecord>, Error> {
    Ok(crate::store::row::event_by_seq(conn, seq)?.map(|stored| record(stored.event)))
}

/// The first of JSON, text and base64 that says it all.
pub(super) fn record(event: Event) -> EventRecord {
    let envelope = event.envelope;
    let (mut data, mut data_text, mut data_base64, mut content_type) = (None, None, None, None);
    if let Some(Payload { content_type: media, data: bytes }) = envelope.payload {
        match (is_json(&media), std::str::from_utf8(&bytes)) {
            (json, Ok(text)) => match json.then(|| RawValue::from_string(text.to_owned())) {
                Some(Ok(raw)) => data = Some(raw),
                _ => data_text = Some(text.to_owned()),
            },
            (_, Err(_)) => data_base64 = Some(STANDARD.encode(&bytes)),
        }
        content_type = (!media.is_empty()).then_some(media);
    }
    EventRecord {
        sequence: event.seq,
        id: envelope.id,
        event_type: envelope.event_type,
        source: envelope.source,
        subject: envelope.subject,
        key: envelope.key,
        data_version: envelope.data_version,
        timestamp: envelope.timestamp,
        accepted_at: event.accepted_at,
        correlation_id: envelope.correlation_id,
        causation_id: envelope.causation_id,
        traceparent: envelope.traceparent,
        not_before: envelope.not_before,
        job: envelope.job,
        depth: envelope.depth,
        content_type,
        attributes: envelope.attributes,
        data,
        data_text,
        data_base64,
    }
}

/// `application/json`, `text/json`, anything `+json`, or not said.
fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.is_empty() || essence.ends_with("/json") || essence.ends_with("+json")
}

/// Bounds on an outcome's or a dead letter's own time.
pub(super) fn times(filter: &mut Filter, column: &str, since: Option<Timestamp>, until: Option<Timestamp>) {
    filter.and_optional(&format!("{column} >= ?"), since.map(|t| t.0));
    filter.and_optional(&format!("{column} < ?"), until.map(|t| t.0));
}
