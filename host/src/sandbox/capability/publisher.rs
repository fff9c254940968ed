//! Published events, held back until the settlement. Ids are derived from what was delivered, so that a second attempt
//! publishes the same ones.

use serde_json::{Map, Value};

use super::super::bindings::publisher::{self, Draft, PublishError};
use super::super::instance::Host;
use super::super::{convert, text};
use crate::model::event::CONSUMER_SOURCE_PREFIX;
use crate::model::limit::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, PUBLISHED_BYTES_MAX, PUBLISHED_MAX};
use crate::model::{Envelope, Job, route};

/// What a handler does that has more to publish.
const GO_ON: &str = "publish one event that says where to go on, and subscribe to it";
/// Version of an event type that neither the guest nor the catalogue names.
const DATA_VERSION: &str = "1.0.0";
/// Names that are fields of an event, so they cannot be attributes.
const RESERVED: [&str; 19] = [
    "id",
    "type",
    "source",
    "subject",
    "time",
    "data",
    "specversion",
    "datacontenttype",
    "dataschema",
    "dataversion",
    "correlationid",
    "causationid",
    "traceparent",
    "tracestate",
    "notbefore",
    "job",
    "partitionkey",
    "sequence",
    "depth",
];

/// What an attempt has published so far.
#[derive(Default)]
pub(in crate::sandbox) struct Held {
    pub(in crate::sandbox) events: Vec<Envelope>,
    bytes: usize,
}

impl publisher::Host for Host {
    fn publish(&mut self, draft: Draft) -> wasmtime::Result<Result<String, PublishError>> {
        self.enter_draft(&draft)?;
        let may = self.may_publish(&draft.type_);
        Ok(may.and_then(|()| self.hold(draft, None)))
    }
}

impl Host {
    /// Counts a call that brings a draft.
    pub(super) fn enter_draft(&mut self, draft: &Draft) -> wasmtime::Result<()> {
        let bytes = draft.payload.data.len() + draft.attributes.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
        self.account.enter(bytes)
    }

    /// Keeps what the guest may publish, or give to a consumer as a job, until the settlement.
    pub(super) fn hold(&mut self, draft: Draft, job: Option<Job>) -> Result<String, PublishError> {
        self.has_room(draft.payload.data.len())?;
        let envelope = Envelope { job, ..self.envelope(draft)? };
        if let Some(payload) = &envelope.payload {
            (self.consumer.dependencies.check)(&envelope.event_type, payload).map_err(PublishError::Invalid)?;
        }
        let id = envelope.id.clone();
        self.held.bytes += envelope.data_len();
        self.held.events.push(envelope);
        Ok(id)
    }

    fn may_publish(&mut self, event_type: &str) -> Result<(), PublishError> {
        if self.cause.is_question() {
            return Err(PublishError::Invalid("an answer publishes nothing: it is a look at things".to_owned()));
        }
        route::check_type(event_type).map_err(PublishError::Invalid)?;
        let granted = self.consumer.grants.publish.iter().any(|pattern| pattern.matches(event_type));
        if route::is_host_type(event_type) || !granted {
            self.refuse(format!("publishing '{event_type}' is not granted: name it under grants.publish"));
            return Err(PublishError::NotGranted(event_type.to_owned()));
        }
        self.may_cause(&format!("publishing '{event_type}'"))
    }

    /// Whether the chain of causes may become longer by `what`.
    pub(super) fn may_cause(&mut self, what: &str) -> Result<(), PublishError> {
        let depth_max = self.limits.chain_depth;
        if self.cause.depth() >= depth_max {
            self.refuse(format!(
                "{what} would make a chain of more than {depth_max} events causing one another: end it in the handler, or raise \
                 chain-depth"
            ));
            return Err(PublishError::ChainTooDeep(depth_max));
        }
        Ok(())
    }

    /// What the next attempt would want as well is refused for good.
    fn has_room(&mut self, bytes: usize) -> Result<(), PublishError> {
        if self.held.events.len() >= PUBLISHED_MAX as usize {
            self.refuse(format!("an attempt publishes at most {PUBLISHED_MAX} events and jobs: {GO_ON}"));
            return Err(PublishError::TooMany(PUBLISHED_MAX));
        }
        let largest = self.consumer.event_bytes_max;
        if bytes > largest {
            return Err(PublishError::TooLarge(largest as u64));
        }
        // One event of the largest size allowed must fit, however large the manifest allows it to be.
        let most = PUBLISHED_BYTES_MAX.max(largest);
        if self.held.bytes + bytes > most {
            self.refuse(format!("an attempt publishes at most {most} bytes in all: {GO_ON}"));
            return Err(PublishError::TooLarge(most as u64));
        }
        Ok(())
    }

    fn envelope(&self, draft: Draft) -> Result<Envelope, PublishError> {
        let cause = &self.cause.event().envelope;
        let name = &self.consumer.name;
        let version = match draft.data_version {
            Some(version) => semver(version)?,
            None => (self.consumer.dependencies.version)(&draft.type_).unwrap_or_else(|| DATA_VERSION.to_owned()),
        };
        Ok(Envelope {
            id: self.cause.published_id(name, self.held.events.len()),
            event_type: draft.type_,
            source: format!("{CONSUMER_SOURCE_PREFIX}{name}"),
            subject: bounded("subject", draft.subject)?,
            key: bounded("key", draft.key)?,
            data_version: version,
            timestamp: self.started_at,
            correlation_id: cause.correlation_id.clone(),
            causation_id: Some(cause.id.clone()),
            traceparent: cause.traceparent.clone(),
            not_before: draft.not_before.map(convert::timestamp).transpose().map_err(PublishError::Invalid)?,
            job: None,
            attributes: attributes(draft.attributes)?,
            payload: convert::payload(draft.payload).map_err(PublishError::Invalid)?,
            depth: self.cause.depth() + 1,
        })
    }
}

fn semver(version: String) -> Result<String, PublishError> {
    match semver::Version::parse(&version) {
        Ok(_) => Ok(version),
        Err(error) => {
            let version = text::safe(&version, ATTRIBUTE_BYTES_MAX);
            Err(PublishError::Invalid(format!("data-version: '{version}' is no version such as 1.0.0: {error}")))
        }
    }
}

fn bounded(what: &str, value: Option<String>) -> Result<Option<String>, PublishError> {
    let Some(value) = value else { return Ok(None) };
    if value.is_empty() || value.len() > ATTRIBUTE_BYTES_MAX {
        return Err(PublishError::Invalid(format!("{what}: has 1 to {ATTRIBUTE_BYTES_MAX} bytes")));
    }
    if value.chars().any(char::is_control) {
        return Err(PublishError::Invalid(format!("{what}: has no control characters")));
    }
    Ok(Some(value))
}

fn attributes(given: Vec<(String, String)>) -> Result<Map<String, Value>, PublishError> {
    let invalid = |name: &str, why: &str| PublishError::Invalid(format!("attribute '{}': {why}", text::safe(name, 64)));
    if given.len() > ATTRIBUTES_MAX {
        return Err(PublishError::Invalid(format!("attributes: at most {ATTRIBUTES_MAX}")));
    }
    let mut attributes = Map::new();
    for (name, value) in given {
        if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(invalid(&name, "a name has 1 to 64 lower-case letters and digits"));
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(invalid(&name, "is a field of the event"));
        }
        if value.len() > ATTRIBUTE_BYTES_MAX || value.chars().any(char::is_control) {
            return Err(invalid(&name, "a value has at most 1024 bytes and no control characters"));
        }
        if attributes.contains_key(&name) {
            return Err(invalid(&name, "is there twice"));
        }
        attributes.insert(name, Value::String(value));
    }
    Ok(attributes)
}
