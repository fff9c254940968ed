//! A stream of events, one a line: appended in groups as they come, each group read while the one before it becomes durable. After a
//! line that is no event nothing more is accepted, and the answer says how many were.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::request::Parts;
use bytes::BytesMut;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Answer;
use super::append::{BODY_BYTES, ENVELOPE_BYTES, Rules};
use crate::log;
use crate::model::{Envelope, Seq};
use crate::server::app::App;
use crate::server::body::Incoming;
use crate::server::event;
use crate::server::problem::Problem;

/// Events of a stream that are appended at once, at most; and so many bytes, but for the last event: what the writer takes together
/// with settlements, and not as a large command that has a transaction of its own.
const GROUP_EVENTS: usize = 512;
const GROUP_BYTES: usize = 192 << 10;
/// How often, and how long apart, a stream waits for a busy log before it gives up.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How far a stream has come.
#[derive(Default)]
struct Progress {
    accepted: u64,
    duplicates: u64,
    last: Seq,
}

/// A problem, and the line it is about.
type LineProblem = (Problem, u64);

pub(super) async fn append(app: &Arc<App>, parts: &Parts, body: Body, rules: &Rules) -> Answer {
    let mut lines = Lines::new(app, rules, body);
    let mut progress = Progress::default();
    match follow(&mut lines, &mut progress).await {
        Ok(()) => super::json(
            StatusCode::ACCEPTED,
            &json!({
                "accepted": progress.accepted, "duplicates": progress.duplicates, "lines": lines.number,
                "lastSequence": progress.last,
            }),
        ),
        Err((mut problem, line)) => {
            lines.incoming.discard(&parts.headers).await;
            let so_far = progress.accepted + progress.duplicates;
            problem.detail = format!(
                "Line {line}: {} The {so_far} events of the lines before were accepted; go on from line {line}.",
                problem.detail.replace(" Nothing was accepted.", "").replace("Nothing was accepted; ", "")
            );
            Err(problem.with("line", line).with("accepted", progress.accepted).with("duplicates", progress.duplicates))
        }
    }
}

async fn follow(lines: &mut Lines<'_>, progress: &mut Progress) -> Result<(), LineProblem> {
    loop {
        if lines.group.events.is_empty() && !lines.is_over() {
            lines.read().await;
        }
        let group = std::mem::take(&mut lines.group);
        if group.events.is_empty() {
            match lines.failed.take() {
                Some(failed) => return Err(failed),
                None if lines.is_over() => return Ok(()),
                None => continue,
            }
        }
        let mut appending = pin!(group.append(lines.app, lines.rules, progress));
        loop {
            // What is behind a line that the log refuses is read in vain; that is rare.
            let more = !lines.is_over() && !lines.group.is_full();
            tokio::select! {
                biased;
                appended = &mut appending => {
                    appended?;
                    break;
                }
                () = lines.read(), if more => {}
            }
        }
    }
}

/// The lines of a stream as they come.
struct Lines<'a> {
    app: &'a Arc<App>,
    rules: &'a Rules,
    incoming: Incoming,
    /// What has come and is not read yet.
    rest: BytesMut,
    /// There is no whole line in it; since when its sender has owed the end of it.
    dry: bool,
    since: Option<Instant>,
    ended: bool,
    /// Room for a long line that is not whole yet.
    held: Option<OwnedSemaphorePermit>,
    /// Lines read, empty ones included.
    number: u64,
    group: Group,
    /// Why nothing more is read.
    failed: Option<LineProblem>,
}

impl<'a> Lines<'a> {
    fn new(app: &'a Arc<App>, rules: &'a Rules, body: Body) -> Self {
        Self {
            app,
            rules,
            incoming: Incoming::stream(body),
            rest: BytesMut::new(),
            dry: true,
            since: None,
            ended: false,
            held: None,
            number: 0,
            group: Group::default(),
            failed: None,
        }
    }

    /// Nothing more is to be read.
    fn is_over(&self) -> bool {
        self.failed.is_some() || (self.ended && self.dry)
    }

    /// Reads on until something is there, and takes from it what has room in the group. Whoever drops the future loses nothing.
    async fn read(&mut self) {
        if self.dry {
            match self.incoming.next(self.since).await {
                Ok(Some(part)) => self.rest.extend_from_slice(&part),
                Ok(None) => self.ended = true,
                Err(problem) => {
                    self.failed = Some((problem, self.number + 1));
                    return;
                }
            }
        }
        if let Err(failed) = self.take() {
            self.failed = Some(failed);
        }
    }

    fn take(&mut self) -> Result<(), LineProblem> {
        self.dry = false;
        while !self.group.is_full() {
            let Some(line) = next_line(&mut self.rest, self.ended) else {
                self.dry = true;
                return self.owed();
            };
            self.since = None;
            self.number += 1;
            self.group.read(&line, self.number, self.app, self.rules).map_err(|problem| (problem, self.number))?;
        }
        Ok(())
    }

    /// Part of a line is there, or nothing.
    fn owed(&mut self) -> Result<(), LineProblem> {
        let max = BODY_BYTES.max(self.rules.event_bytes.saturating_mul(2).saturating_add(ENVELOPE_BYTES));
        if self.rest.len() > max {
            let detail = format!("the line has more than {max} bytes and no end.");
            return Err((Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail), self.number + 1));
        }
        self.since = if self.rest.is_empty() { None } else { self.since.or_else(|| Some(Instant::now())) };
        // Given back before it is taken anew, so that a stream never waits for itself.
        drop(self.held.take());
        self.held = self.app.room.hold(self.rest.len()).map_err(|problem| (problem, self.number + 1))?;
        Ok(())
    }
}

/// The next whole line, without its end; at the end of the stream also one that has no line end.
fn next_line(rest: &mut BytesMut, ended: bool) -> Option<BytesMut> {
    match memchr::memchr(b'\n', rest) {
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
    bytes: usize,
}

impl Group {
    fn is_full(&self) -> bool {
        self.events.len() >= GROUP_EVENTS || self.bytes >= GROUP_BYTES
    }

    fn read(&mut self, line: &[u8], number: u64, app: &App, rules: &Rules) -> Result<(), Problem> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let version = rules.version();
        let id = |now| app.ids.next(now);
        let event = event::native(line, &rules.defaults(app, &version, &id))?;
        self.events.push(event);
        self.lines.push(number);
        self.bytes += line.len();
        Ok(())
    }

    /// Appends all of them; if one is refused by its schema or by the log, those before it.
    async fn append(self, app: &App, rules: &Rules, progress: &mut Progress) -> Result<(), LineProblem> {
        let Self { mut events, lines, .. } = self;
        let line_of = |index: usize| lines.get(index).copied().unwrap_or_default();
        let mut refused: Option<LineProblem> = None;
        if let Some((index, problem)) = rules.first_violation(app, &events, false).await {
            refused = Some((problem, line_of(index)));
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
                    refused = Some((error.into(), line_of(index)));
                    events.truncate(index);
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }
}
