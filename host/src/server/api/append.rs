//! `POST /events`: one event, a batch, or a stream of lines. Answers 202 only once the events are on disk.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::BytesMut;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::Answer;
use crate::log;
use crate::model::{Envelope, Payload, Seq};
use crate::registry::Snapshot;
use crate::registry::catalogue::{Catalogue, Violations};
use crate::server::app::App;
use crate::server::body::Incoming;
use crate::server::event::{self, Defaults};
use crate::server::problem::Problem;

/// A body that is kept whole, in bytes; more only where the manifest allows larger payloads.
const BODY_BYTES: usize = 8 << 20;
/// What an envelope adds to its payload, in bytes, at most.
const ENVELOPE_BYTES: usize = 128 << 10;
/// Below it, reading a body takes no time worth a thread of its own.
const HEAVY_BYTES: usize = 256 << 10;
/// Events of a stream that are appended at once, at most.
const GROUP_EVENTS: usize = 512;
/// How often, and how long apart, a stream waits for a busy log before it gives up.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

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
        return lines(app, parts, body, &rules).await;
    }
    let max = BODY_BYTES.max(rules.event_bytes.saturating_mul(2).saturating_add(ENVELOPE_BYTES));
    let whole = Incoming::whole(body, &parts.headers, max, &app.room).await?;
    let read = || rules.read(format, parts, &whole.bytes);
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
struct Rules {
    now: crate::model::Timestamp,
    event_bytes: usize,
    catalogue: Arc<Catalogue>,
    snapshot: Arc<Snapshot>,
    traceparent: Option<String>,
}

impl Rules {
    fn of(app: &App, headers: &HeaderMap) -> Self {
        let snapshot = app.parts.registry.current();
        Self {
            now: app.parts.clock.now(),
            event_bytes: snapshot.deployment.ceilings.event_bytes,
            catalogue: Arc::clone(&snapshot.catalogue),
            traceparent: headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned),
            snapshot,
        }
    }

    fn read(&self, format: Format, parts: &Parts, body: &bytes::Bytes) -> Result<Vec<Envelope>, Problem> {
        let version = |event_type: &str| self.catalogue.version(event_type).map(str::to_owned);
        let defaults = self.defaults(&version);
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

    fn defaults<'a>(&'a self, version: &'a dyn Fn(&str) -> Option<String>) -> Defaults<'a> {
        Defaults {
            now: self.now,
            source: None,
            traceparent: self.traceparent.as_deref(),
            event_bytes: self.event_bytes,
            version,
            random: &random,
        }
    }

    /// The first of several events that is a job for nobody, or whose payload does not match its schema.
    async fn first_violation(&self, app: &App, events: &[Envelope], in_batch: bool) -> Option<(usize, Problem)> {
        if !events.iter().any(|event| event.job.is_some() || self.catalogue.has_schema(&event.event_type)) {
            return None;
        }
        let check = |(index, event)| self.check(event, in_batch.then_some(index)).err().map(|problem| (index, problem));
        app.heavy(|| events.iter().enumerate().find_map(check)).await
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

fn random() -> [u8; 10] {
    let mut bytes = [0; 10];
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the system has no randomness; ids are made of the time alone");
    }
    bytes
}

/// How far a stream has come.
#[derive(Default)]
struct Progress {
    /// Lines read, empty ones included.
    lines: u64,
    accepted: u64,
    duplicates: u64,
    last: Seq,
}

/// A stream of lines: appended in groups as they come. After a line that is no event nothing more is accepted, and
/// the answer says how many were.
async fn lines(app: &Arc<App>, parts: &Parts, body: Body, rules: &Rules) -> Answer {
    let mut incoming = Incoming::stream(body);
    let mut progress = Progress::default();
    match follow(app, &mut incoming, rules, &mut progress).await {
        Ok(()) => super::json(
            StatusCode::ACCEPTED,
            &json!({
                "accepted": progress.accepted, "duplicates": progress.duplicates, "lines": progress.lines,
                "lastSequence": progress.last,
            }),
        ),
        Err((mut problem, line)) => {
            incoming.discard(&parts.headers).await;
            let so_far = progress.accepted + progress.duplicates;
            problem.detail = format!(
                "Line {line}: {} The {so_far} events of the lines before were accepted; go on from line {line}.",
                problem.detail.replace(" Nothing was accepted.", "").replace("Nothing was accepted; ", "")
            );
            Err(problem.with("line", line).with("accepted", progress.accepted).with("duplicates", progress.duplicates))
        }
    }
}

/// A problem, and the line it is about.
type LineProblem = (Problem, u64);

async fn follow(
    app: &Arc<App>,
    incoming: &mut Incoming,
    rules: &Rules,
    progress: &mut Progress,
) -> Result<(), LineProblem> {
    let max = BODY_BYTES.max(rules.event_bytes.saturating_mul(2).saturating_add(ENVELOPE_BYTES));
    let mut rest = BytesMut::new();
    let mut since: Option<Instant> = None;
    let mut group = Group::default();
    let mut held = None;
    loop {
        let part = incoming.next(since).await.map_err(|problem| (problem, progress.lines + 1))?;
        let ended = part.is_none();
        rest.extend_from_slice(&part.unwrap_or_default());
        let mut failed = None;
        while let Some(line) = next_line(&mut rest, ended) {
            progress.lines += 1;
            if let Err(problem) = group.read(&line, progress.lines, rules) {
                failed = Some((problem, progress.lines));
                break;
            }
            if group.events.len() >= GROUP_EVENTS {
                group.append(app, progress, rules).await?;
            }
        }
        group.append(app, progress, rules).await?;
        if let Some(failed) = failed {
            return Err(failed);
        }
        if ended {
            return Ok(());
        }
        if rest.len() > max {
            let detail = format!("the line has more than {max} bytes and no end.");
            return Err((Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail), progress.lines + 1));
        }
        since = if rest.is_empty() { None } else { since.or_else(|| Some(Instant::now())) };
        // Given back before it is taken anew, so that a stream never waits for itself.
        drop(held.take());
        held = app.room.hold(rest.len()).map_err(|problem| (problem, progress.lines + 1))?;
    }
}

/// The next whole line, without its end; at the end of the stream also one that has no line end.
fn next_line(rest: &mut BytesMut, ended: bool) -> Option<BytesMut> {
    match rest.iter().position(|b| *b == b'\n') {
        Some(at) => {
            let mut line = rest.split_to(at + 1);
            line.truncate(at);
            Some(line)
        }
        None if ended && !rest.is_empty() => Some(rest.split()),
        None => None,
    }
}

/// Events of a stream that wait to be appended, each with its line.
#[derive(Default)]
struct Group {
    events: Vec<Envelope>,
    lines: Vec<u64>,
}

impl Group {
    fn read(&mut self, line: &[u8], number: u64, rules: &Rules) -> Result<(), Problem> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let version = |event_type: &str| rules.catalogue.version(event_type).map(str::to_owned);
        let event = event::native(line, &rules.defaults(&version))?;
        self.events.push(event);
        self.lines.push(number);
        Ok(())
    }

    /// Appends all of them; if one is refused by its schema or by the log, those before it.
    async fn append(&mut self, app: &Arc<App>, progress: &mut Progress, rules: &Rules) -> Result<(), LineProblem> {
        let mut events = std::mem::take(&mut self.events);
        let lines = std::mem::take(&mut self.lines);
        let mut refused: Option<LineProblem> = None;
        if let Some((index, problem)) = rules.first_violation(app, &events, false).await {
            refused = Some((problem, lines.get(index).copied().unwrap_or(progress.lines)));
            events.truncate(index);
        }
        let mut tries = 0;
        while !events.is_empty() {
            match app.parts.log.append(events.clone()).await {
                Ok(appended) => {
                    let duplicates = appended.iter().filter(|event| event.duplicate).count() as u64;
                    let accepted = appended.len() as u64 - duplicates;
                    app.parts.metrics.duplicates(duplicates);
                    progress.accepted += accepted;
                    progress.duplicates += duplicates;
                    progress.last = appended.iter().map(|event| event.seq).max().unwrap_or(0).max(progress.last);
                    break;
                }
                Err(log::Error::Busy) if tries < BUSY_TRIES => {
                    tries += 1;
                    app.parts.clock.sleep_until(app.parts.clock.monotonic() + BUSY_PAUSE).await;
                }
                Err(error) => {
                    let index = match &error {
                        log::Error::Conflict { index, .. } => *index,
                        _ => 0,
                    };
                    let index = index.min(events.len() - 1);
                    let line = lines.get(index).copied().unwrap_or(progress.lines);
                    refused = Some((error.into(), line));
                    events.truncate(index);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
