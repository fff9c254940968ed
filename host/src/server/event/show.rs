//! Events out: as native JSON, and as CloudEvents.

use base64::Engine as _;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::is_json;
use crate::model::Event;
use crate::model::record::EventRecord;

/// An event as it is shown.
pub fn record(event: &Event) -> EventRecord {
    let envelope = &event.envelope;
    let mut record = EventRecord {
        sequence: event.seq,
        id: envelope.id.clone(),
        event_type: envelope.event_type.clone(),
        source: envelope.source.clone(),
        subject: envelope.subject.clone(),
        key: envelope.key.clone(),
        data_version: envelope.data_version.clone(),
        timestamp: envelope.timestamp,
        accepted_at: event.accepted_at,
        correlation_id: envelope.correlation_id.clone(),
        causation_id: envelope.causation_id.clone(),
        traceparent: envelope.traceparent.clone(),
        not_before: envelope.not_before,
        job: envelope.job.clone(),
        depth: envelope.depth,
        content_type: None,
        attributes: envelope.attributes.clone(),
        data: None,
        data_text: None,
        data_base64: None,
    };
    let Some(payload) = &envelope.payload else { return record };
    record.content_type = (!payload.content_type.is_empty()).then(|| payload.content_type.clone());
    match std::str::from_utf8(&payload.data) {
        Ok(text) => {
            let json = is_json(&payload.content_type).then(|| serde_json::from_str::<Box<RawValue>>(text).ok());
            match json.flatten() {
                Some(raw) => record.data = Some(raw),
                None => record.data_text = Some(text.to_owned()),
            }
        }
        Err(_) => {
            record.data_base64 = Some(base64::engine::general_purpose::STANDARD.encode(&payload.data));
        }
    }
    record
}

/// The same event in the JSON format of CloudEvents 1.0: foreign attributes stand at the top level.
#[derive(Debug)]
pub struct CloudEvent<'a>(pub &'a EventRecord);

impl Serialize for CloudEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &event.id)?;
        map.serialize_entry("source", &event.source)?;
        map.serialize_entry("type", &event.event_type)?;
        map.serialize_entry("time", &event.timestamp)?;
        for (name, text) in [
            ("subject", &event.subject),
            ("datacontenttype", &event.content_type),
            ("partitionkey", &event.key),
            ("causationid", &event.causation_id),
            ("traceparent", &event.traceparent),
        ] {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        map.serialize_entry("dataversion", &event.data_version)?;
        map.serialize_entry("correlationid", &event.correlation_id)?;
        if let Some(time) = &event.not_before {
            map.serialize_entry("notbefore", time)?;
        }
        if let Some(job) = &event.job {
            let text = serde_json::to_string(job).map_err(serde::ser::Error::custom)?;
            map.serialize_entry("job", &text)?;
        }
        for (name, value) in &event.attributes {
            map.serialize_entry(name, value)?;
        }
        let json = event.content_type.as_deref().is_some_and(is_json);
        match (&event.data, &event.data_text, &event.data_base64) {
            (Some(raw), ..) if json => map.serialize_entry("data", raw)?,
            // The type is not JSON but the bytes are: text, as far as CloudEvents is concerned.
            (Some(raw), ..) if event.content_type.is_some() => map.serialize_entry("data", raw.get())?,
            (Some(raw), ..) => map.serialize_entry("data_base64", &base64(raw.get()))?,
            // Without a type `data` would be read as JSON, and bytes that only claim to be JSON cannot stand there.
            (_, Some(text), _) if json || event.content_type.is_none() => {
                map.serialize_entry("data_base64", &base64(text))?;
            }
            (_, Some(text), _) => map.serialize_entry("data", text)?,
            (_, _, Some(encoded)) => map.serialize_entry("data_base64", encoded)?,
            (None, None, None) => {}
        }
        map.end()
    }
}

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}
