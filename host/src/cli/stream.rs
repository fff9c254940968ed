//! Many events, one JSON object a line, sent in batches. Each batch is taken whole or not at all, and every event has an
//! id before it is sent, so a batch can be sent again when the host was busy or its answer was lost: what was counted is
//! true in the end.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::Context;
use super::client::{self, Ask, Client};
use super::emit::{Taken, new_id};
use super::error::Error;
use super::text;
use crate::model::limit::EVENT_BYTES;

/// Events of one batch, at most.
const BATCH_MAX: usize = 200;
/// A batch is sent when it has so many bytes.
const BATCH_BYTES: usize = 512 << 10;
/// A line longer than this, in bytes, is not an event: payload and envelope have room in it.
const LINE_BYTES_MAX: usize = 64 * EVENT_BYTES;
/// How often a batch is sent again because the connection broke.
const LOST_MAX: u32 = 3;
/// A busy host that does not say when to try again is asked after this many seconds.
const BUSY_SECONDS: u64 = 1;
/// A busy host is not waited for longer at once, whatever it says.
const BUSY_SECONDS_MAX: u64 = 60;

/// What stands for what a line does not say.
pub(super) struct Defaults {
    pub(super) event_type: Option<String>,
    pub(super) source: String,
}

/// What became of the events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Total {
    /// Lines that are events and were answered for.
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    /// Events in batches whose answer was lost and that were sent again: some of the duplicates may be these.
    pub(super) resent: u64,
    /// It was said that the host is busy: once is enough.
    #[serde(skip)]
    pub(super) said_busy: bool,
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} accepted", text::count(self.accepted, "event"))?;
        if self.duplicates > 0 {
            write!(f, ", {}", text::count(self.duplicates, "duplicate"))?;
        }
        if self.resent > 0 {
            write!(
                f,
                " (the answer to {} was lost and they were sent again, so they may count as duplicates)",
                text::count(self.resent, "event")
            )?;
        }
        Ok(())
    }
}

/// The parts of a line that decide whether something must be added.
#[derive(Deserialize)]
struct Line {
    #[serde(default, deserialize_with = "present")]
    id: bool,
    #[serde(default, rename = "type", deserialize_with = "present")]
    event_type: bool,
    #[serde(default, deserialize_with = "present")]
    source: bool,
}

/// A member that is there, whatever it is: a null is the producer's word too.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// A batch on its way: a JSON array, and which line each of its events came from.
#[derive(Default)]
struct Batch {
    body: Vec<u8>,
    lines: Vec<u64>,
}

/// Sends every line. `total` is true at any time, also when this fails.
pub(super) fn send(
    input: impl Read,
    name: &str,
    defaults: &Defaults,
    host: &Client,
    total: &mut Total,
    context: &mut Context,
) -> Result<(), Error> {
    let mut input = BufReader::with_capacity(BATCH_BYTES, input);
    let (mut batch, mut line, mut number) = (Batch::default(), Vec::new(), 0);
    let read = loop {
        if input.buffer().is_empty() {
            // The next line may be long in coming, and what is there is not kept waiting for it.
            deliver(&mut batch, name, host, total, context)?;
        }
        line.clear();
        match read_line(&mut input, &mut line) {
            Ok(false) => break Ok(()),
            Ok(true) => number += 1,
            Err(e) => break Err(Error::environment(format!("cannot read {name} after line {number}")).because(e)),
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = || format!("line {number} of {name}");
        match complete(line.trim_ascii(), defaults, || new_id(context)) {
            Ok(event) => batch.add(&event, number),
            Err(e) => break Err(Error { message: format!("{} {}", place(), e.message), ..e }),
        }
        if batch.lines.len() >= BATCH_MAX || batch.body.len() >= BATCH_BYTES {
            deliver(&mut batch, name, host, total, context)?;
        }
    };
    // What came before a bad line was good and is sent: the count says where to go on.
    deliver(&mut batch, name, host, total, context)?;
    read.map_err(|e: Error| {
        e.hint("What stands before it was sent. Mend it and send the whole again: what has an id is accepted once.")
    })
}

/// One line, without its end; false at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    let got = input.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', line)?;
    if line.len() > LINE_BYTES_MAX {
        let max = text::bytes(LINE_BYTES_MAX as u64);
        return Err(std::io::Error::other(format!("the next line is longer than {max}")));
    }
    Ok(got > 0)
}

/// The line with what it lacks put in front; everything else stays byte for byte.
fn complete(line: &[u8], defaults: &Defaults, id: impl FnOnce() -> Result<String, Error>) -> Result<Vec<u8>, Error> {
    let wrong = |e: serde_json::Error| {
        Error::usage(format!("is not an event in JSON: {e}"))
            .hint("Each line is one object, such as {\"type\": \"order.created\", \"data\": {\"orderId\": \"A-17\"}}.")
    };
    if let Err(e) = std::str::from_utf8(line) {
        return Err(Error::usage(format!("is not UTF-8 from its byte {} on", e.valid_up_to() + 1))
            .hint("JSON is always UTF-8: convert the file, as with `iconv -t UTF-8`."));
    }
    let parts: Line = serde_json::from_slice(line).map_err(wrong)?;
    if !line.starts_with(b"{") {
        return Err(Error::usage("is not a JSON object").hint("Each line is one event, an object with a `type`."));
    }
    let mut added = serde_json::Map::new();
    if !parts.id {
        added.insert("id".into(), id()?.into());
    }
    if !parts.event_type {
        let Some(event_type) = &defaults.event_type else {
            return Err(Error::usage("names no event type")
                .hint("Give each line a `type`, or one for all of them: `tidegate emit order.created --ndjson`."));
        };
        added.insert("type".into(), event_type.clone().into());
    }
    if !parts.source {
        added.insert("source".into(), defaults.source.clone().into());
    }
    if added.is_empty() {
        return Ok(line.to_vec());
    }
    let mut event = serde_json::to_vec(&added).map_err(|e| Error::bug("cannot write JSON").because(e))?;
    event.pop();
    let rest = line.get(1..).unwrap_or_default();
    if rest.trim_ascii_start() != b"}" {
        event.push(b',');
    }
    event.extend_from_slice(rest);
    Ok(event)
}

impl Batch {
    fn add(&mut self, event: &[u8], line: u64) {
        self.body.push(if self.lines.is_empty() { b'[' } else { b',' });
        self.body.extend_from_slice(event);
        self.lines.push(line);
    }
}

/// Sends a batch until it is answered for, and empties it.
fn deliver(
    batch: &mut Batch,
    name: &str,
    host: &Client,
    total: &mut Total,
    context: &mut Context,
) -> Result<(), Error> {
    let Batch { mut body, lines } = std::mem::take(batch);
    if lines.is_empty() {
        return Ok(());
    }
    body.push(b']');
    let (body, count, mut lost) = (Bytes::from(body), lines.len() as u64, 0);
    loop {
        let error = match host.json::<Taken>(Ask::post("/events", "application/json", body.clone())) {
            Ok(taken) => {
                total.sent += count;
                total.accepted += taken.accepted;
                total.duplicates += taken.duplicates;
                total.resent += if lost > 0 { count } else { 0 };
                context.out.progress(&total.to_string());
                return Ok(());
            }
            Err(error) => error,
        };
        match error {
            client::Error::Problem(problem) if problem.status == 429 => {
                await_room(&problem, &total.to_string(), &mut total.said_busy, host, context)?;
            }
            client::Error::Problem(problem) => return Err(refused(*problem, &lines, name)),
            client::Error::Late { .. } | client::Error::Broken(..) if lost < LOST_MAX => {
                lost += 1;
                context.out.note(format!("{total}; the answer to the last {count} was lost: sending them again"));
            }
            error => {
                return Err(Error::from(error)
                    .hint(format!("It is not known what became of {}.", span(&lines, name)))
                    .hint("Send the whole again: events that carry an id are accepted once."));
            }
        }
    }
}

/// Waits as long as a busy host asks for, and says so: in a line the first time, and where a person watches each time.
pub(super) fn await_room(
    problem: &client::Problem,
    so_far: &str,
    said: &mut bool,
    host: &Client,
    context: &mut Context,
) -> Result<(), Error> {
    let seconds = problem.retry_after.unwrap_or(BUSY_SECONDS).clamp(BUSY_SECONDS, BUSY_SECONDS_MAX);
    let words = format!("{so_far}; the host has no room at the moment: waiting until it has");
    if std::mem::replace(said, true) {
        context.out.progress(&words)
    } else {
        context.out.note(words)
    }
    Ok(host.pause_patiently(context.clock.as_ref(), Duration::from_secs(seconds))?)
}

/// The host takes none of the batch. Which line it means, if it says so.
fn refused(problem: client::Problem, lines: &[u64], name: &str) -> Error {
    let place = match problem.event().and_then(|index| lines.get(index)) {
        Some(line) => format!("line {line} of {name}"),
        None => span(lines, name),
    };
    let error = Error::from(client::Error::Problem(Box::new(problem)));
    Error { message: format!("{place}: {}", error.message), ..error }
        .hint(format!("None of {} was accepted; all before it was. Mend it and send from there.", span(lines, name)))
}

fn span(lines: &[u64], name: &str) -> String {
    match (lines.first(), lines.last()) {
        (Some(first), Some(last)) if first != last => format!("lines {first} to {last} of {name}"),
        (Some(first), _) => format!("line {first} of {name}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
