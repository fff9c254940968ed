//! What a handler is given: one event, with its data in the handler's own type.

use serde::de::DeserializeOwned;

use crate::Timestamp;

/// An event as a handler sees it, and the attempt that is being made to handle it.
///
/// `T` is the handler's own type for the data: anything that implements `Deserialize` (read as JSON), `Value`
/// (any JSON), or [`Raw`] (the bytes as they came). An event without data reads as JSON `null`, so `Event<()>` and
/// `Event<Option<T>>` accept it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Event<T = Raw> {
    pub data: T,
    /// Unique within `source`.
    pub id: String,
    /// For example `order.created`.
    pub event_type: String,
    /// Who says so.
    pub source: String,
    /// What it is about, e.g. the id of an order.
    pub subject: Option<String>,
    /// Ordering key, if the producer named one.
    pub key: Option<String>,
    /// Version of the data's schema (semver).
    pub data_version: String,
    pub timestamp: Timestamp,
    /// Shared by everything that one first event has caused.
    pub correlation_id: String,
    /// The event whose handling published this one.
    pub causation_id: Option<String>,
    /// W3C trace context under which the event was made.
    pub traceparent: Option<String>,
    /// Place in the log; none for an ephemeral event.
    pub sequence: Option<u64>,
    /// Everything else the envelope carried, in the order received.
    pub attributes: Vec<(String, String)>,
    /// The name under which the manifest runs this consumer.
    pub consumer: String,
    /// From 1.
    pub attempt: u32,
    /// The last attempt there will be.
    pub attempts_max: u32,
    /// Set when an operator replays or redrives.
    pub replayed: bool,
    /// The pipeline run that this delivery is a step of.
    pub run: Option<Run>,
}

/// An event whose data is left as bytes.
pub type RawEvent = Event<Raw>;

/// Data as it came: bytes, and the media type that says what they are. An event without data has neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    pub content_type: String,
    pub bytes: Vec<u8>,
}

/// A pipeline run, as one of its steps sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// For example `17/fulfil-order`.
    pub id: String,
    pub pipeline: String,
    /// The step that is done, or undone.
    pub step: String,
    /// What the earlier steps left behind, by step; none for a step without output.
    pub outputs: Vec<(String, Option<Raw>)>,
}

impl Raw {
    /// `data` as JSON.
    ///
    /// # Errors
    /// If the value has no JSON form (a map whose keys are not strings, for example).
    pub fn json(data: &(impl serde::Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        Ok(Self { content_type: "application/json".into(), bytes: serde_json::to_vec(data)? })
    }
}

impl Run {
    /// Output of an earlier step, if it finished with one that reads as `T`.
    pub fn output<T: DeserializeOwned>(&self, step: &str) -> Option<T> {
        let (_, output) = self.outputs.iter().find(|(name, _)| name == step)?;
        serde_json::from_slice(&output.as_ref()?.bytes).ok()
    }
}

impl<T> Event<T> {
    /// Output of an earlier step of the same run, if it finished with one that reads as `U`: [`Run::output`].
    pub fn output_of<U: DeserializeOwned>(&self, step: &str) -> Option<U> {
        self.run.as_ref()?.output(step)
    }

    /// Whether no attempt will follow this one if it fails.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt >= self.attempts_max
    }

    /// An attribute of the envelope that has no field of its own.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same event with its data turned into something else.
    ///
    /// # Errors
    /// The error of `f`.
    pub fn try_map<U, E>(self, f: impl FnOnce(T) -> Result<U, E>) -> Result<Event<U>, E> {
        Ok(Event {
            data: f(self.data)?,
            id: self.id,
            event_type: self.event_type,
            source: self.source,
            subject: self.subject,
            key: self.key,
            data_version: self.data_version,
            timestamp: self.timestamp,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            traceparent: self.traceparent,
            sequence: self.sequence,
            attributes: self.attributes,
            consumer: self.consumer,
            attempt: self.attempt,
            attempts_max: self.attempts_max,
            replayed: self.replayed,
            run: self.run,
        })
    }
}

/// What can stand as the data of an [`Event`]: every type that implements `Deserialize`, and [`Raw`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the data of an event",
    label = "not readable from JSON",
    note = "derive `Deserialize` for it, or take `Event<Raw>` and read the bytes yourself"
)]
pub trait Data: Sized {
    /// # Errors
    /// Why the bytes do not fit, and where.
    fn from_raw(raw: Raw) -> Result<Self, String>;
}

impl Data for Raw {
    fn from_raw(raw: Raw) -> Result<Self, String> {
        Ok(raw)
    }
}

impl<T: DeserializeOwned> Data for T {
    fn from_raw(raw: Raw) -> Result<Self, String> {
        let text = if raw.bytes.is_empty() && raw.content_type.is_empty() { b"null" } else { raw.bytes.as_slice() };
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

/// An [`Event`], whatever its data. Lets the attributes name a handler's parameter as the user wrote it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a handler is given an `Event<T>`, and `{Self}` is none",
    label = "expected `Event<T>`",
    note = "the data can be any type that implements `Deserialize`, or `Raw` for the bytes"
)]
pub trait IsEvent: Sized {
    /// # Errors
    /// Why the data does not fit, and where.
    fn from_raw(raw: RawEvent) -> Result<Self, String>;
}

impl<T: Data> IsEvent for Event<T> {
    fn from_raw(raw: RawEvent) -> Result<Self, String> {
        let (event_type, id) = (raw.event_type.clone(), raw.id.clone());
        raw.try_map(T::from_raw).map_err(|why| format!("data of {event_type} {id} does not fit: {why}"))
    }
}

/// Many [`Event`]s. See [`IsEvent`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a batch handler is given a `Vec<Event<T>>`, and `{Self}` is none",
    label = "expected `Vec<Event<T>>`"
)]
pub trait IsBatch: Sized {
    type Event: IsEvent;

    fn of(events: Vec<Self::Event>) -> Self;
}

impl<E: IsEvent> IsBatch for Vec<E> {
    type Event = E;

    fn of(events: Vec<E>) -> Self {
        events
    }
}

/// What a step left behind, as its compensator takes it. See [`IsEvent`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a compensator is given an `Option<U>` as its step's output, and `{Self}` is none",
    label = "expected `Option<U>`"
)]
pub trait IsOutput: Sized {
    /// # Errors
    /// Why the output does not fit, and where.
    fn from_raw(raw: Option<Raw>) -> Result<Self, String>;
}

impl<T: DeserializeOwned> IsOutput for Option<T> {
    fn from_raw(raw: Option<Raw>) -> Result<Self, String> {
        let output = raw.map(|raw| serde_json::from_slice(&raw.bytes)).transpose();
        output.map_err(|why| format!("output of the step does not fit: {why}"))
    }
}
