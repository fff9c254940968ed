//! Text in, events out: the ways in which an event may be written, read into the one envelope. Pure: time, randomness
//! and what the host fills in are given, so that HTTP, the command line and a test read the same way.
//!
//! A payload is never parsed here, however deep or odd its JSON: its bytes are found, counted and kept.

mod binary;
mod cloudevents;
mod draft;
mod json;
mod native;
pub mod show;

use bytes::Bytes;

use crate::model::{Envelope, Timestamp};

pub use crate::model::event::{essence, is_json};
pub use binary::binary;
pub use cloudevents::{batch, structured};
pub use native::{native, native_batch};

/// Events of one request that is not a stream, at most.
pub const BATCH_EVENTS_MAX: usize = 10_000;
/// An event's id and source, in bytes.
pub const ID_BYTES_MAX: usize = 256;

/// What the host fills in where an event is silent, and what it allows.
#[derive(Clone, Copy)]
pub struct Defaults<'a> {
    pub now: Timestamp,
    /// Who says so, if the event does not; without it an event must name its source.
    pub source: Option<&'a str>,
    /// The trace context in which the event came, for an event that carries none.
    pub traceparent: Option<&'a str>,
    /// A payload's size in bytes, at most.
    pub event_bytes: usize,
    /// The catalogue's version of a type.
    pub version: &'a dyn Fn(&str) -> Option<String>,
    /// An id for an event that comes without one, made at this time.
    pub id: &'a dyn Fn(Timestamp) -> String,
}

impl std::fmt::Debug for Defaults<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Defaults").field("now", &self.now).field("source", &self.source).finish_non_exhaustive()
    }
}

/// Why something is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pointer}: {message}")]
pub struct EventError {
    pub kind: ErrorKind,
    /// Where: a JSON pointer as a URI fragment (`#/data`), or the name of a header.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Which event of a batch, from 0.
    pub index: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not an event.
    Malformed,
    /// An event with too much in it.
    TooLarge,
    /// A format or charset that is not understood.
    Unsupported,
}

impl EventError {
    fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Malformed, pointer: pointer.into(), message: message.into(), index: None }
    }

    fn too_large(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::TooLarge, pointer: pointer.into(), message: message.into(), index: None }
    }

    /// The same, of the event at `index` of a batch.
    fn within(mut self, index: usize) -> Self {
        self.index = Some(index);
        self.pointer = format!("#/{index}{}", self.pointer.trim_start_matches('#'));
        self
    }
}

/// Reads every element of a JSON array, or none.
fn each(
    body: &[u8],
    defaults: &Defaults<'_>,
    one: impl Fn(&[u8], &Defaults<'_>) -> Result<Envelope, EventError>,
) -> Result<Vec<Envelope>, EventError> {
    let elements = json::elements(json::text(body)?)?;
    if elements.len() > BATCH_EVENTS_MAX {
        return Err(EventError::too_large(
            "#",
            format!("{} events in one batch; send at most {BATCH_EVENTS_MAX}, or a stream of lines", elements.len()),
        ));
    }
    let read = |(index, raw): (usize, &&serde_json::value::RawValue)| {
        one(raw.get().as_bytes(), defaults).map_err(|error| error.within(index))
    };
    elements.iter().enumerate().map(read).collect()
}

/// An own copy of a payload's bytes, so that one event of a batch does not keep the others in memory.
fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
