//! Publishing events. Nothing leaves before the attempt is done; then all of it does, once.
//!
//! Grant: `publish: [order.confirmed]`.

use std::fmt;

use serde::Serialize;

use crate::{Raw, Timestamp, host};

/// Publishes an event whose data is `data` as JSON, and gives the id that it will have.
///
/// # Errors
/// See [`Error`].
pub fn publish(event_type: impl Into<String>, data: impl Serialize) -> Result<String, Error> {
    Publish::new(event_type, data).send()
}

/// An event to publish, with more than a type and data.
///
/// ```
/// use tidegate_sdk::prelude::*;
///
/// fn remind(order: Event<Value>) -> Outcome {
///     Publish::new("order.reminder-due", json!({ "order": order.data["id"] }))
///         .subject(order.data["id"].to_string())
///         .not_before(order.timestamp.plus(Duration::from_secs(86_400)))
///         .attribute("channel", "mail")
///         .send()?;
///     done()
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing is published before `send`"]
pub struct Publish {
    draft: Result<Draft, serde_json::Error>,
}

/// An event as it is handed to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Draft {
    pub event_type: String,
    pub data: Raw,
    pub subject: Option<String>,
    pub key: Option<String>,
    pub data_version: Option<String>,
    pub not_before: Option<Timestamp>,
    pub attributes: Vec<(String, String)>,
}

impl Publish {
    /// An event whose data is `data` as JSON.
    pub fn new(event_type: impl Into<String>, data: impl Serialize) -> Self {
        Self { draft: Raw::json(&data).map(|data| Draft::new(event_type.into(), data)) }
    }

    /// An event whose data is bytes of any media type.
    pub fn raw(event_type: impl Into<String>, content_type: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        let data = Raw { content_type: content_type.into(), bytes: bytes.into() };
        Self { draft: Ok(Draft::new(event_type.into(), data)) }
    }

    /// What the event is about.
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.with(|draft| draft.subject = Some(subject.into()))
    }

    /// Ordering key.
    pub fn key(self, key: impl Into<String>) -> Self {
        self.with(|draft| draft.key = Some(key.into()))
    }

    /// Version of the data's schema (semver). Default: the catalogue's, or 1.0.0.
    pub fn data_version(self, version: impl Into<String>) -> Self {
        self.with(|draft| draft.data_version = Some(version.into()))
    }

    /// Deliver no earlier.
    pub fn not_before(self, time: impl Into<Timestamp>) -> Self {
        self.with(|draft| draft.not_before = Some(time.into()))
    }

    /// An attribute of the envelope that has no name of its own here.
    pub fn attribute(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|draft| draft.attributes.push((name.into(), value.into())))
    }

    /// Hands the event over and gives the id that it will have: the same in every attempt at the same delivery.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn send(self) -> Result<String, Error> {
        host::publish(self.into_draft()?)
    }

    pub(crate) fn into_draft(self) -> Result<Draft, Error> {
        self.draft.map_err(Error::Data)
    }

    fn with(mut self, set: impl FnOnce(&mut Draft)) -> Self {
        if let Ok(draft) = &mut self.draft {
            set(draft);
        }
        self
    }
}

impl Draft {
    fn new(event_type: String, data: Raw) -> Self {
        Self {
            event_type,
            data,
            subject: None,
            key: None,
            data_version: None,
            not_before: None,
            attributes: Vec::new(),
        }
    }
}

/// Why an event cannot be published.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The manifest grants no such type, or no job for such a consumer, to this consumer.
    NotGranted(String),
    /// Not a valid event, or not what the catalogue's schema allows; says where.
    Invalid(String),
    /// The limit it would pass, in bytes.
    TooLarge(u64),
    /// The number of events one attempt may publish.
    TooMany(u32),
    /// The longest chain of causes allowed.
    ChainTooDeep(u32),
    /// The data has no JSON form.
    Data(serde_json::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(what) => write!(f, "publish is not granted: {what}"),
            Self::Invalid(why) => write!(f, "published event is not valid: {why}"),
            Self::TooLarge(max) => write!(f, "published event is larger than {max} bytes"),
            Self::TooMany(max) => write!(f, "more than {max} events published in one attempt"),
            Self::ChainTooDeep(max) => write!(f, "published event would be more than {max} causes deep"),
            Self::Data(error) => write!(f, "published data has no JSON form: {error}"),
        }
    }
}

impl std::error::Error for Error {}
