//! CloudEvents 1.0 in JSON: structured (one event) and batched (an array of them).

use serde_json::Value;

use super::draft::{Draft, FIELDS};
use super::{Defaults, EventError, each, is_json, json, owned};
use crate::model::Envelope;

/// Reads one event in the JSON event format.
pub fn structured(body: &[u8], defaults: &Defaults<'_>) -> Result<Envelope, EventError> {
    let members = json::members("#", json::text(body)?)?;
    let mut draft = Draft::default();
    let (mut data, mut data_base64, mut specversion) = (None, None, false);
    for (name, raw) in &members.0 {
        let at = json::step(name);
        if name == "data" {
            data = Some(*raw);
            continue;
        }
        if name == "data_base64" {
            data_base64 = (raw.get() != "null").then_some(*raw);
            continue;
        }
        match (name.as_ref(), json::scalar(&at, raw)?) {
            // As the JSON format says, null is *unset*.
            (_, Value::Null) => {}
            ("specversion", value) => {
                check_specversion(&at, value.as_str())?;
                specversion = true;
            }
            ("datacontenttype", value) => draft.content_type(&at, text(&at, &value)?)?,
            (name, value) => attribute(&mut draft, &at, name, value)?,
        }
    }
    required(specversion, defaults, &members)?;
    payload(&mut draft, data, data_base64)?;
    draft.finish("#/data", defaults)
}

/// Reads a batch, all or none.
pub fn batch(body: &[u8], defaults: &Defaults<'_>) -> Result<Vec<Envelope>, EventError> {
    each(body, defaults, structured)
}

/// Sets a field of ours, or keeps a foreign attribute.
fn attribute(draft: &mut Draft, at: &str, name: &str, value: Value) -> Result<(), EventError> {
    match FIELDS.iter().find(|(_, _, attribute)| *attribute == name) {
        Some((field, ..)) => draft.set(*field, at, text(at, &value)?),
        None => {
            check_foreign(at, name, value.as_str())?;
            draft.attribute(at, name, value)
        }
    }
}

/// `dataschema`, the one attribute of the standard that we keep among the foreign ones.
pub(super) fn check_foreign(at: &str, name: &str, text: Option<&str>) -> Result<(), EventError> {
    let absolute = |text: &str| text.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme));
    if name == "dataschema" && !text.is_some_and(absolute) {
        return Err(EventError::new(at, "expected an absolute URI"));
    }
    Ok(())
}

fn is_scheme(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

pub(super) fn check_specversion(at: &str, version: Option<&str>) -> Result<(), EventError> {
    match version {
        Some("1.0") => Ok(()),
        _ => Err(EventError::new(at, "only version \"1.0\" of CloudEvents is understood")),
    }
}

/// CloudEvents has four attributes that must be there; ours may be missing in native JSON only.
fn required(specversion: bool, defaults: &Defaults<'_>, members: &json::Members<'_>) -> Result<(), EventError> {
    let has = |name: &str| members.0.iter().any(|(known, raw)| known == name && raw.get() != "null");
    for (name, there) in [("specversion", specversion), ("id", has("id")), ("type", has("type"))] {
        if !there {
            return Err(EventError::new("#", format!("the attribute {name:?} is missing; CloudEvents requires it")));
        }
    }
    if !has("source") && defaults.source.is_none() {
        return Err(EventError::new("#", "the attribute \"source\" is missing; CloudEvents requires it"));
    }
    Ok(())
}

fn payload(
    draft: &mut Draft,
    data: Option<&serde_json::value::RawValue>,
    data_base64: Option<&serde_json::value::RawValue>,
) -> Result<(), EventError> {
    if let Some(raw) = data_base64 {
        draft.data_base64("#/data_base64", &json::string("#/data_base64", raw)?)?;
    }
    let Some(raw) = data else { return Ok(()) };
    let content_type = draft.content_type.clone();
    if content_type.as_deref().is_none_or(is_json) {
        if data_base64.is_none() {
            draft.content_type.get_or_insert_with(|| "application/json".to_owned());
        }
        return draft.data("#/data", owned(raw.get().as_bytes()));
    }
    // Not JSON, so the value is text that JSON only carries.
    draft.data("#/data", json::string("#/data", raw)?.into())
}

fn text<'a>(at: &str, value: &'a Value) -> Result<&'a str, EventError> {
    value.as_str().ok_or_else(|| EventError::new(at, format!("expected a string, found {value}; put it in quotes")))
}
