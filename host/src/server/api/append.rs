//! `POST /events`: one event, a batch, or a stream ([`super::lines`]). Answers 202 only once the events are on disk.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

use super::Answer;
use crate::log;
use crate::model::{ConsumerName, Envelope, Payload, Seq, Timestamp};
use crate::registry::Snapshot;
use crate::registry::catalogue::{Catalogue, Violations};
use crate::registry::target::NoTarget;
use crate::server::app::App;
use crate::server::body::Incoming;
use crate::server::event::{self, Defaults};
use crate::server::problem::Problem;

/// A body that is kept whole, in bytes; more only where the manifest allows larger payloads.
pub(super) const BODY_BYTES: usize = 8 << 20;
/// What an envelope adds to its payload, in bytes, at most.
pub(super) const ENVELOPE_BYTES: usize = 128 << 10;
/// Below it, reading a body takes no time worth a thread of its own.
const HEAVY_BYTES: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Native,
    Lines,
    Structured,
    Batch,
    Binary,
}

#[derive(Serialize)]
struct Accepted<'a> {
    accepted: usize,
    duplicates: usize,
    events: Vec<AcceptedEvent<'a>>,
}

#[derive(Serialize)]
struct AcceptedEvent<'a> {
    id: &'a str,
    sequence: Seq,
    duplicate: bool,
}

pub(super) async fn append(app: &Arc<App>, parts: &Parts, body: Body) -> Answer {
    if app.is_stopping() {
        return Err(log::Error::Closed.into());
    }
    let opening = match super::query::<super::Nothing>(&parts.uri) {
        Ok(super::Nothing {}) => format(&parts.headers),
        Err(problem) => Err(problem),
    };
    let format = match opening {
        Ok(format) => format,
        Err(problem) => {
            super::super::body::discard(body, &parts.headers).await;
            return Err(problem);
        }
    };
    let rules = Rules::of(app, &parts.headers);
    if format == Format::Lines {
        return super::lines::append(app, parts, body, &rules).await;
    }
    let max = BODY_BYTES.max(rules.event_bytes.saturating_mul(2).saturating_add(ENVELOPE_BYTES));
    let whole = Incoming::whole(body, &parts.headers, max, &app.room).await?;
    let read = || rules.read(app, format, parts, &whole.bytes);
    let events = if whole.bytes.len() > HEAVY_BYTES { app.heavy(read).await? } else { read()? };
    if let Some((index, problem)) = rules.first_violation(app, &events, is_batch(format, &whole.bytes)).await {
        return Err(if is_batch(format, &whole.bytes) { problem.with("index", index) } else { problem });
    }
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    let appended = app.parts.log.append(events).await?;
    let duplicates = appended.iter().filter(|event| event.duplicate).count();
    let accepted = appended.len() - duplicates;
    app.parts.metrics.duplicates(duplicates as u64);
    let events = ids
        .iter()
        .zip(&appended)
        .map(|(id, event)| AcceptedEvent { id, sequence: event.seq, duplicate: event.duplicate })
        .collect();
    super::json(StatusCode::ACCEPTED, &Accepted { accepted, duplicates, events })
}

/// In which form the events come; the order of the questions is that of the CloudEvents standard.
fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let value = values.next().map(HeaderValue::to_str).transpose();
    if values.next().is_some() {
        return Err(Problem::bad_request("The Content-Type header is there twice. Send it once."));
    }
    let value = value.map_err(|_| Problem::bad_request("The Content-Type header is not text."))?.unwrap_or_default();
    let essence = event::essence(value);
    let utf8 = match value.to_ascii_lowercase().split("charset=").nth(1) {
        Some(charset) => {
            matches!(charset.split(';').next().map(|c| c.trim().trim_matches('"')), Some("utf-8" | "us-ascii"))
        }
        None => true,
    };
    let carries_event =
        ["ce-specversion", "ce-id", "ce-source", "ce-type"].iter().any(|name| headers.contains_key(*name));
    let format = match essence.as_str() {
        "application/cloudevents-batch+json" if utf8 => Format::Batch,
        "application/cloudevents+json" if utf8 => Format::Structured,
        other if other.starts_with("application/cloudevents") => return Err(unsupported()),
        _ if carries_event => Format::Binary,
        "application/json" if utf8 => Format::Native,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" if utf8 => Format::Lines,
        _ => return Err(unsupported()),
    };
    Ok(format)
}

/// Whether the body holds a list of events.
fn is_batch(format: Format, body: &[u8]) -> bool {
    format == Format::Batch || (format == Format::Native && body.trim_ascii_start().first() == Some(&b'['))
}

fn unsupported() -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "Send application/json (one event or an array), application/x-ndjson (an event a line), \
         application/cloudevents+json, application/cloudevents-batch+json, all in UTF-8, or any payload with its \
         attributes as ce- headers.",
    )
}

/// What holds for the events of one request.
pub(super) struct Rules {
    pub(super) event_bytes: usize,
    catalogue: Arc<Catalogue>,
    snapshot: Arc<Snapshot>,
    traceparent: Option<String>,
}

impl Rules {
    fn of(app: &App, headers: &HeaderMap) -> Self {
        let snapshot = app.parts.registry.current();
        Self {
            event_bytes: snapshot.deployment.ceilings.event_bytes,
            catalogue: Arc::clone(&snapshot.catalogue),
            traceparent: headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned),
            snapshot,
        }
    }

    fn read(&self, app: &App, format: Format, parts: &Parts, body: &bytes::Bytes) -> Result<Vec<Envelope>, Problem> {
        let version = self.version();
        let id = |now| app.ids.next(now);
        let defaults = self.defaults(app, &version, &id);
        let batch = is_batch(format, body);
        let events = match format {
            Format::Batch => event::batch(body, &defaults)?,
            Format::Structured => vec![event::structured(body, &defaults)?],
            Format::Native if batch => event::native_batch(body, &defaults)?,
            Format::Native | Format::Lines => vec![event::native(body, &defaults)?],
            Format::Binary => {
                let headers = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
                let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
                vec![event::binary(headers, content_type, body.clone(), &defaults)?]
            }
        };
        Ok(events)
    }

    /// The catalogue's version of a type.
    pub(super) fn version(&self) -> impl Fn(&str) -> Option<String> {
        |event_type| self.catalogue.version(event_type).map(str::to_owned)
    }

    pub(super) fn defaults<'a>(
        &'a self,
        app: &App,
        version: &'a dyn Fn(&str) -> Option<String>,
        id: &'a dyn Fn(Timestamp) -> String,
    ) -> Defaults<'a> {
        Defaults {
            now: app.parts.clock.now(),
            source: None,
            traceparent: self.traceparent.as_deref(),
            event_bytes: self.event_bytes,
            version,
            id,
        }
    }

    /// The first of several events that is a job for nobody, or whose payload does not match its schema.
    pub(super) async fn first_violation(
        &self,
        app: &App,
        events: &[Envelope],
        in_batch: bool,
    ) -> Option<(usize, Problem)> {
        if !events.iter().any(|event| event.job.is_some() || self.catalogue.has_schema(&event.event_type)) {
            return None;
        }
        let check = |(index, event)| self.check(event, in_batch.then_some(index)).err().map(|problem| (index, problem));
        let (index, problem) = app.heavy(|| events.iter().enumerate().find_map(check)).await?;
        let job = events.get(index).and_then(|event| event.job.as_ref());
        let removed = match job.filter(|_| problem.kind == "unknown-consumer") {
            Some(job) => removed(app, &job.to).await,
            None => None,
        };
        Some((index, removed.unwrap_or(problem)))
    }

    /// Whether there is somebody whom a job can be for; and holds the payload against the catalogue.
    fn check(&self, event: &Envelope, index: Option<usize>) -> Result<(), Problem> {
        if let Some(job) = &event.job {
            self.snapshot.check_target(&job.to).map_err(|why| Problem::no_target(&why))?;
        }
        if !self.catalogue.has_schema(&event.event_type) {
            return Ok(());
        }
        let nothing = Payload { content_type: String::new(), data: bytes::Bytes::new() };
        let payload = event.payload.as_ref().unwrap_or(&nothing);
        self.catalogue.check(&event.event_type, payload).map_err(|Violations(violations)| {
            let base = index.map_or("#/data".to_owned(), |index| format!("#/{index}/data"));
            let errors: Vec<_> = violations
                .iter()
                .map(|v| json!({ "pointer": format!("{base}{}", v.pointer.trim_start_matches('#')), "detail": v.detail }))
                .collect();
            let problem = Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "schema-violation",
                format!(
                    "The payload does not match the schema that the manifest declares for {}. Nothing was accepted; \
                     correct what `errors` lists and send it again.",
                    event.event_type
                ),
            )
            .with("errors", errors);
            match index {
                Some(index) => problem.with("index", index),
                None => problem,
            }
        })
    }
}

/// Of a consumer that is not deployed: whether it was once, which only the log knows. Where that cannot be read, what is known already is told.
async fn removed(app: &App, name: &ConsumerName) -> Option<Problem> {
    let asked = name.clone();
    let known = app.read(move |reader| reader.has_consumer(&asked)).await.unwrap_or(false);
    known.then(|| Problem::no_target(&NoTarget::Removed(name.clone())))
}
