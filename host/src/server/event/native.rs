//! Native JSON: the envelope's own names. Unknown members are refused, so that a typing error does not become a fact.

use serde_json::Value;

use super::draft::{Draft, FIELDS};
use super::{Defaults, EventError, each, is_json, json, owned};
use crate::model::Envelope;

/// Members besides the fields.
const OTHERS: [&str; 5] = ["data", "dataText", "dataBase64", "contentType", "attributes"];
/// What the host says about an event when it shows it.
const HOST_SET: [&str; 3] = ["sequence", "acceptedAt", "depth"];

/// Reads one event.
pub fn native(body: &[u8], defaults: &Defaults<'_>) -> Result<Envelope, EventError> {
    let members = json::members("#", json::text(body)?)?;
    let mut draft = Draft::default();
    let mut json_data = false;
    for (name, raw) in &members.0 {
        let at = json::step(name);
        match name.as_ref() {
            "data" => {
                json_data = true;
                draft.data(&at, owned(raw.get().as_bytes()))?;
            }
            _ if raw.get() == "null" && is_known(name) => {}
            "dataText" => draft.data(&at, json::string(&at, raw)?.into())?,
            "dataBase64" => draft.data_base64(&at, &json::string(&at, raw)?)?,
            "contentType" => draft.content_type(&at, &text(&at, json::scalar(&at, raw)?)?)?,
            // An object, and the only one that is a field.
            "job" if raw.get().starts_with('{') => draft.job(&at, raw.get())?,
            "attributes" => attributes(&mut draft, &at, raw.get())?,
            name => match FIELDS.iter().find(|(_, native, _)| *native == name) {
                Some((field, ..)) => draft.set(*field, &at, &text(&at, json::scalar(&at, raw)?)?)?,
                None => return Err(unknown(&at, name)),
            },
        }
    }
    if json_data {
        let content_type = draft.content_type.get_or_insert_with(|| "application/json".to_owned());
        if !is_json(content_type) {
            return Err(EventError::new(
                "#/contentType",
                "data is JSON, and this type is not; give other payloads as dataText or dataBase64",
            ));
        }
    }
    draft.finish("#/data", defaults)
}

/// Reads an array of events, all or none.
pub fn native_batch(body: &[u8], defaults: &Defaults<'_>) -> Result<Vec<Envelope>, EventError> {
    each(body, defaults, native)
}

fn attributes(draft: &mut Draft, at: &str, object: &str) -> Result<(), EventError> {
    for (name, raw) in json::members(at, object)?.0 {
        let at = format!("{at}{}", json::step(&name).trim_start_matches('#'));
        let value = json::scalar(&at, raw)?;
        draft.attribute(&at, &name, value)?;
    }
    Ok(())
}

fn text(at: &str, value: Value) -> Result<String, EventError> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(EventError::new(at, format!("expected a string, found {other}; put it in quotes"))),
    }
}

fn is_known(name: &str) -> bool {
    OTHERS.contains(&name) || FIELDS.iter().any(|(_, native, _)| *native == name)
}

fn unknown(at: &str, name: &str) -> EventError {
    if HOST_SET.contains(&name) {
        return EventError::new(at, "is set by the host; leave it out");
    }
    let known = FIELDS.iter().map(|(_, native, _)| *native).chain(OTHERS);
    let near = known.map(|known| (strsim::damerau_levenshtein(&known.to_lowercase(), &name.to_lowercase()), known));
    let renamed = FIELDS.iter().find(|(_, _, attribute)| *attribute == name).map(|(_, native, _)| *native);
    let nearest = renamed.or_else(|| near.filter(|(distance, _)| *distance <= 2).min().map(|(_, known)| known));
    let help = match nearest {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => "fields that are not ours belong into \"attributes\", the payload into \"data\"".to_owned(),
    };
    EventError::new(at, format!("is not a field of an event; {help}"))
}
