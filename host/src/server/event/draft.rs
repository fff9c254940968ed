//! An event while it is being read: each field is checked as it is set, so that an error names the place.

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Map, Value};

use super::{Defaults, EventError, ID_BYTES_MAX};
use crate::model::event::{CONSUMER_SOURCE_PREFIX, HOST_SOURCE};
use crate::model::limit::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX};
use crate::model::route::{check_type, is_host_type};
use crate::model::{Envelope, Job, Payload, Timestamp};

/// Our fields, under both their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    Type,
    Source,
    Subject,
    Key,
    DataVersion,
    Timestamp,
    CorrelationId,
    CausationId,
    Traceparent,
    NotBefore,
    Job,
}

/// Field, name in native JSON, attribute of CloudEvents.
pub(super) const FIELDS: [(Field, &str, &str); 12] = [
    (Field::Id, "id", "id"),
    (Field::Type, "type", "type"),
    (Field::Source, "source", "source"),
    (Field::Subject, "subject", "subject"),
    (Field::Key, "key", "partitionkey"),
    (Field::DataVersion, "dataVersion", "dataversion"),
    (Field::Timestamp, "timestamp", "time"),
    (Field::CorrelationId, "correlationId", "correlationid"),
    (Field::CausationId, "causationId", "causationid"),
    (Field::Traceparent, "traceparent", "traceparent"),
    (Field::NotBefore, "notBefore", "notbefore"),
    (Field::Job, "job", "job"),
];

/// What CloudEvents and we name otherwise: no foreign attribute can be called so.
const RESERVED: [&str; 4] = ["specversion", "datacontenttype", "data", "data_base64"];

#[derive(Default)]
pub(super) struct Draft {
    id: Option<String>,
    event_type: Option<String>,
    source: Option<String>,
    subject: Option<String>,
    key: Option<String>,
    data_version: Option<String>,
    timestamp: Option<Timestamp>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    traceparent: Option<String>,
    not_before: Option<Timestamp>,
    job: Option<Job>,
    attributes: Map<String, Value>,
    pub(super) content_type: Option<String>,
    pub(super) data: Option<Bytes>,
}

impl Draft {
    pub(super) fn set(&mut self, field: Field, at: &str, text: &str) -> Result<(), EventError> {
        let max = if matches!(field, Field::Id | Field::Source) { ID_BYTES_MAX } else { ATTRIBUTE_BYTES_MAX };
        check_text(at, text, max)?;
        if text.is_empty() {
            return Err(EventError::new(at, "is empty; leave it out or give it a value"));
        }
        let owned = || Some(text.to_owned());
        match field {
            Field::Id => self.id = owned(),
            Field::Type => self.event_type = Some(outside_type(at, text)?),
            Field::Source => self.source = Some(outside_source(at, text)?),
            Field::Subject => self.subject = owned(),
            Field::Key => self.key = owned(),
            Field::DataVersion => self.data_version = Some(version(at, text)?),
            Field::Timestamp => self.timestamp = Some(time(at, text)?),
            Field::CorrelationId => self.correlation_id = owned(),
            Field::CausationId => self.causation_id = owned(),
            // An invalid trace context is ignored, as W3C asks: it must not cost an event.
            Field::Traceparent => self.traceparent = is_traceparent(text).then(|| text.to_owned()),
            Field::NotBefore => self.not_before = Some(time(at, text)?),
            Field::Job => self.job(at, text)?,
        }
        Ok(())
    }

    /// A consumer's name, or JSON with more than that.
    pub(super) fn job(&mut self, at: &str, text: &str) -> Result<(), EventError> {
        let shape =
            r#"a job is a consumer's name, or {"to": CONSUMER, "priority": "low" | "normal" | "high", "retry": {…}}"#;
        let job = Job::parse(text).map_err(|why| EventError::new(at, format!("{why}; {shape}")))?;
        self.job = Some(job);
        Ok(())
    }

    /// Keeps an attribute that is not ours, as it came.
    pub(super) fn attribute(&mut self, at: &str, name: &str, value: Value) -> Result<(), EventError> {
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !plain || name.len() > 64 {
            return Err(EventError::new(at, "an attribute's name has 1 to 64 characters of a-z and 0-9"));
        }
        if RESERVED.contains(&name) || FIELDS.iter().any(|(_, _, attribute)| *attribute == name) {
            return Err(EventError::new(at, "is a field of the event itself, not a foreign attribute"));
        }
        match &value {
            Value::String(text) => check_text(at, text, ATTRIBUTE_BYTES_MAX)?,
            Value::Number(number) if number.as_i64().is_none_or(|n| i32::try_from(n).is_err()) => {
                return Err(EventError::new(
                    at,
                    "a number attribute is a whole number of 32 bits; write others as text",
                ));
            }
            Value::Array(_) | Value::Object(_) => {
                return Err(EventError::new(at, "expected a string, a whole number, true or false"));
            }
            Value::Null => return Ok(()),
            Value::Number(_) | Value::Bool(_) => {}
        }
        if self.attributes.len() >= ATTRIBUTES_MAX {
            return Err(EventError::too_large(at, format!("more than {ATTRIBUTES_MAX} attributes")));
        }
        self.attributes.insert(name.to_owned(), value);
        Ok(())
    }

    pub(super) fn content_type(&mut self, at: &str, text: &str) -> Result<(), EventError> {
        check_text(at, text, ID_BYTES_MAX)?;
        let token = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if !super::essence(text).split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype)) {
            return Err(EventError::new(at, "expected a media type such as application/json"));
        }
        self.content_type = Some(text.to_owned());
        Ok(())
    }

    pub(super) fn data(&mut self, at: &str, data: Bytes) -> Result<(), EventError> {
        if self.data.replace(data).is_some() {
            return Err(EventError::new(at, "the payload is given twice; give it once"));
        }
        Ok(())
    }

    pub(super) fn data_base64(&mut self, at: &str, text: &str) -> Result<(), EventError> {
        let data = base64::engine::general_purpose::STANDARD
            .decode(text)
            .map_err(|error| EventError::new(at, format!("expected base64 with padding: {error}")))?;
        self.data(at, data.into())
    }

    /// Fills in what is missing. `at` is where the payload stood, `names` how the required fields are called.
    pub(super) fn finish(self, at: &str, defaults: &Defaults<'_>) -> Result<Envelope, EventError> {
        let missing = |name: &str, help: &str| EventError::new("#", format!("the event has no {name}; {help}"));
        let event_type = self.event_type.ok_or_else(|| missing("type", "say what happened, such as order.created"))?;
        let source = self
            .source
            .or_else(|| defaults.source.map(str::to_owned))
            .ok_or_else(|| missing("source", "say who says so, such as /shop/checkout"))?;
        if self.data.as_ref().is_some_and(|data| data.len() > defaults.event_bytes) {
            let size = self.data.as_ref().map_or(0, Bytes::len);
            let max = defaults.event_bytes;
            return Err(EventError::too_large(
                at,
                format!("the payload has {size} bytes, at most {max} are allowed; send a reference to what is larger"),
            ));
        }
        let id = self.id.unwrap_or_else(|| (defaults.id)(defaults.now));
        Ok(Envelope {
            correlation_id: self.correlation_id.unwrap_or_else(|| id.clone()),
            data_version: self
                .data_version
                .or_else(|| (defaults.version)(&event_type))
                .unwrap_or_else(|| "1.0.0".to_owned()),
            id,
            event_type,
            source,
            subject: self.subject,
            key: self.key,
            timestamp: self.timestamp.unwrap_or(defaults.now),
            causation_id: self.causation_id,
            traceparent: self
                .traceparent
                .or_else(|| defaults.traceparent.filter(|t| is_traceparent(t)).map(str::to_owned)),
            not_before: self.not_before,
            job: self.job,
            attributes: self.attributes,
            payload: self.data.map(|data| Payload { content_type: self.content_type.unwrap_or_default(), data }),
            depth: 0,
        })
    }
}

/// No control characters, no noncharacters: what CloudEvents allows in a string.
fn check_text(at: &str, text: &str, max: usize) -> Result<(), EventError> {
    if text.len() > max {
        return Err(EventError::too_large(at, format!("has {} bytes, at most {max} are allowed", text.len())));
    }
    let bad = |c: &char| {
        let code = u32::from(*c);
        c.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
    };
    match text.chars().find(bad) {
        Some(c) => Err(EventError::new(at, format!("holds U+{:04X}, which no text attribute may hold", u32::from(c)))),
        None => Ok(()),
    }
}

fn outside_type(at: &str, text: &str) -> Result<String, EventError> {
    check_type(text).map_err(|message| EventError::new(at, message))?;
    if is_host_type(text) {
        return Err(EventError::new(at, "types that begin with tidegate. are the host's own; choose another name"));
    }
    Ok(text.to_owned())
}

fn outside_source(at: &str, text: &str) -> Result<String, EventError> {
    if text == HOST_SOURCE || text.starts_with("/tidegate/") || text.starts_with(CONSUMER_SOURCE_PREFIX) {
        return Err(EventError::new(
            at,
            "/tidegate and /consumers/… are the host's and its consumers' own; choose another source",
        ));
    }
    Ok(text.to_owned())
}

fn version(at: &str, text: &str) -> Result<String, EventError> {
    match semver::Version::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(EventError::new(at, format!("expected a version such as 1.0.0: {error}"))),
    }
}

/// RFC 3339 and nothing looser.
fn time(at: &str, text: &str) -> Result<Timestamp, EventError> {
    let wrong = || EventError::new(at, "expected a time as in RFC 3339, such as 2026-03-01T12:00:00Z");
    let bytes = text.as_bytes();
    let shape = b"dddd-dd-ddTdd:dd:dd";
    let (head, rest) = bytes.split_at_checked(shape.len()).ok_or_else(wrong)?;
    let fits = |(byte, want): (&u8, &u8)| match want {
        b'd' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(want),
        want => byte == want,
    };
    let zone = match rest.split_first() {
        Some((b'.', fraction)) => {
            let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
            if digits == 0 {
                return Err(wrong());
            }
            fraction.get(digits..).unwrap_or_default()
        }
        _ => rest,
    };
    let offset = match zone {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', a, b, b':', c, d] => [a, b, c, d].into_iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !head.iter().zip(shape).all(fits) || !offset {
        return Err(wrong());
    }
    Timestamp::parse(text).map_err(|error| EventError::new(at, format!("not a time: {error}")))
}

/// W3C trace context, version 00 or one that begins like it.
pub(super) fn is_traceparent(text: &str) -> bool {
    let hex =
        |part: &str, len| part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    let mut parts = text.splitn(5, '-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let more = parts.next().is_some();
    hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && hex(parent, 16)
        && hex(flags, 2)
        && !zero(trace)
        && !zero(parent)
        && (version != "00" || !more)
}
