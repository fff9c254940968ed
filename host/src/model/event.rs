//! The event: an immutable fact, and its place in the log.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{ConsumerName, Job, Seq, Timestamp};

/// Bytes and the media type that says what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// For example `application/json`; empty if the producer did not say.
    pub content_type: String,
    /// Exactly as they came, never re-serialised.
    pub data: Bytes,
}

impl Payload {
    /// No bytes, of no media type.
    pub fn nothing() -> Self {
        Self { content_type: String::new(), data: Bytes::new() }
    }
}

/// An event as its producer made it, complete, before it has a place in the log. The attributes are those of
/// CloudEvents 1.0 (context attributes and the extensions that product.md names).
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// Unique within `source`; 1 to 256 bytes.
    pub id: String,
    /// Dotted, past tense: `order.created`.
    pub event_type: String,
    /// Who says so; 1 to 256 bytes.
    pub source: String,
    pub subject: Option<String>,
    /// Ordering key.
    pub key: Option<String>,
    /// Semver of the payload's schema.
    pub data_version: String,
    pub timestamp: Timestamp,
    pub correlation_id: String,
    pub causation_id: Option<String>,
    pub traceparent: Option<String>,
    /// Deliver no earlier.
    pub not_before: Option<Timestamp>,
    /// It is for one consumer, and for no subscription.
    pub job: Option<Job>,
    /// Attributes that are not ours, types included, in the order received.
    pub attributes: Map<String, Value>,
    /// None: the event carries no data (which is not the same as a JSON null).
    pub payload: Option<Payload>,
    /// How many events caused one another before this one; 0 for an event from outside.
    pub depth: u32,
}

impl Envelope {
    /// An event of the host itself that nothing in the log has caused.
    pub fn of_host(event_type: &str, id: String, now: Timestamp, data: &Value) -> Self {
        let data = Bytes::from(data.to_string());
        Self {
            event_type: event_type.into(),
            source: HOST_SOURCE.into(),
            subject: None,
            key: None,
            data_version: "1.0.0".into(),
            timestamp: now,
            correlation_id: id.clone(),
            id,
            causation_id: None,
            traceparent: None,
            not_before: None,
            job: None,
            attributes: Map::new(),
            payload: Some(Payload { content_type: "application/json".into(), data }),
            depth: 0,
        }
    }

    /// Whether both are the same statement: what decides between *duplicate* and *conflict* when an id comes twice.
    /// The timestamp, and what the host fills in, may differ: a producer that repeats a request may stamp it anew.
    pub fn same_statement(&self, other: &Self) -> bool {
        self.event_type == other.event_type
            && self.subject == other.subject
            && self.key == other.key
            && self.data_version == other.data_version
            && self.payload == other.payload
            && self.job == other.job
    }

    /// Whether it tells of this consumer's own breaker. It is not delivered to that consumer: to fail at it would cause the next one.
    pub fn is_of_breaker(&self, consumer: &ConsumerName) -> bool {
        let tells = matches!(self.event_type.as_str(), BREAKER_OPENED | BREAKER_CLOSED) && self.source == HOST_SOURCE;
        tells && self.subject.as_deref() == Some(consumer.as_str())
    }

    /// The payload's size in bytes.
    pub fn data_len(&self) -> usize {
        self.payload.as_ref().map_or(0, |payload| payload.data.len())
    }
}

/// An event in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub seq: Seq,
    /// When the host accepted it.
    pub accepted_at: Timestamp,
    pub envelope: Envelope,
}

/// Whether a media type means JSON: `*/json` or `*/*+json`, parameters aside.
pub fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
}

/// A media type without its parameters, in lower case.
pub fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// First segment of the host's own event types; producers outside may not use it.
pub const HOST_SEGMENT: &str = "tidegate";
/// Source of the host's own events. Producers outside may not use it, nor [`CONSUMER_SOURCE_PREFIX`].
pub const HOST_SOURCE: &str = "/tidegate";
/// Source of an event published by consumer NAME: `/consumers/NAME`.
pub const CONSUMER_SOURCE_PREFIX: &str = "/consumers/";
/// Source of an event that schedule NAME emits: `/tidegate/schedules/NAME`.
pub const SCHEDULE_SOURCE_PREFIX: &str = "/tidegate/schedules/";
/// The event that every dead letter causes.
pub const DEAD_LETTERED: &str = "tidegate.dead-lettered";
/// The event that a new generation causes.
pub const RELOADED: &str = "tidegate.reloaded";
/// The events of a breaker that opens and closes; their subject is the consumer's name.
pub const BREAKER_OPENED: &str = "tidegate.breaker.opened";
pub const BREAKER_CLOSED: &str = "tidegate.breaker.closed";
/// The events of runs: `tidegate.run.started`, and so on.
pub const RUN_PREFIX: &str = "tidegate.run.";
/// What came of a question whose asker wanted it in the log.
pub const QUERY_ANSWERED: &str = "tidegate.query.answered";
