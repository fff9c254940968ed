//! The catalogue of a deployment: which versions and schemas its event types have, ready to check payloads against.
//! Built once for each generation; both doors by which events come in (HTTP and a guest's publish) share it.

use std::collections::BTreeMap;

use jsonschema::Validator;
use serde_json::Value;

use crate::model::{Deployment, Payload};

/// Faults named in one answer, at most.
const VIOLATIONS_MAX: usize = 20;
/// A fault's text, in bytes: it may quote the payload.
const DETAIL_BYTES_MAX: usize = 500;

/// One place where a payload does not match its schema.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    pub detail: String,
    /// A JSON pointer into the payload, as a URI fragment: `#/total`.
    pub pointer: String,
}

/// Every such place, up to a bound; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|v| format!("{}: {}", v.pointer, v.detail)).collect::<Vec<_>>().join("; "))]
pub struct Violations(pub Vec<Violation>);

impl Violations {
    fn whole(detail: impl Into<String>) -> Self {
        Self(vec![Violation { detail: detail.into(), pointer: "#".into() }])
    }
}

/// What the event types of a deployment promise. A type that is not declared promises nothing.
#[derive(Debug, Default)]
pub struct Catalogue {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    version: String,
    /// A schema that cannot be compiled lets nothing pass; the text says why.
    schema: Option<Result<Validator, String>>,
}

impl Catalogue {
    pub fn new(deployment: &Deployment) -> Self {
        let entry = |spec: &crate::model::spec::EventSpec| Entry {
            version: spec.version.clone(),
            schema: spec.schema.as_ref().map(|schema| compile(&schema.document)),
        };
        Self { entries: deployment.events.iter().map(|(name, spec)| (name.clone(), entry(spec))).collect() }
    }

    /// The declared version of a type's payload.
    pub fn version(&self, event_type: &str) -> Option<&str> {
        self.entries.get(event_type).map(|entry| entry.version.as_str())
    }

    /// Whether payloads of this type are checked at all.
    pub fn has_schema(&self, event_type: &str) -> bool {
        self.entries.get(event_type).is_some_and(|entry| entry.schema.is_some())
    }

    /// Whether the payload is what its type promises; otherwise where it is not.
    pub fn check(&self, event_type: &str, payload: &Payload) -> Result<(), Violations> {
        let Some(schema) = self.entries.get(event_type).and_then(|entry| entry.schema.as_ref()) else {
            return Ok(());
        };
        let validator =
            schema.as_ref().map_err(|error| Violations::whole(format!("the schema of {event_type}: {error}")))?;
        if payload.data.is_empty() {
            return Err(Violations::whole(format!("{event_type} has a schema, so it needs a payload")));
        }
        let value: Value = serde_json::from_slice(&payload.data).map_err(|error| {
            Violations::whole(format!(
                "{event_type} has a schema, so its payload must be JSON it can be held against: {error}"
            ))
        })?;
        let violations: Vec<Violation> = validator.iter_errors(&value).take(VIOLATIONS_MAX).map(violation).collect();
        if violations.is_empty() { Ok(()) } else { Err(Violations(violations)) }
    }
}

fn compile(document: &Value) -> Result<Validator, String> {
    crate::manifest::compile_schema(document).map_err(|error| error.to_string())
}

fn violation(error: jsonschema::ValidationError<'_>) -> Violation {
    let mut detail = error.to_string();
    crate::model::limit::cut(&mut detail, DETAIL_BYTES_MAX);
    Violation { detail, pointer: format!("#{}", error.instance_path()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalogue(schema: Value) -> Catalogue {
        let entry = Entry { version: "1.2.0".into(), schema: Some(compile(&schema)) };
        Catalogue { entries: [("order.created".to_owned(), entry)].into() }
    }

    fn payload(text: &str) -> Payload {
        Payload { content_type: "application/json".into(), data: text.to_owned().into() }
    }

    #[test]
    fn a_payload_is_held_against_its_schema() {
        let catalogue =
            catalogue(json!({ "type": "object", "required": ["id"], "properties": { "total": { "type": "number" } } }));
        assert_eq!(catalogue.version("order.created"), Some("1.2.0"));
        assert_eq!(catalogue.check("order.created", &payload(r#"{"id":1,"total":2}"#)), Ok(()));
        assert_eq!(catalogue.check("other.thing", &payload("nonsense")), Ok(()));
        let faults = catalogue.check("order.created", &payload(r#"{"total":"x"}"#)).unwrap_err();
        let pointers: Vec<&str> = faults.0.iter().map(|v| v.pointer.as_str()).collect();
        assert!(pointers.contains(&"#") && pointers.contains(&"#/total"), "{faults:?}");
    }

    #[test]
    fn what_cannot_be_checked_does_not_pass() {
        let sound = catalogue(json!({ "type": "array" }));
        for text in ["", "nonsense", &"[".repeat(1_000_000), &format!("{}{}", "[".repeat(200), "]".repeat(200))] {
            assert!(sound.check("order.created", &payload(text)).is_err());
        }
        let remote = catalogue(json!({ "$ref": "https://schemas.example/never-fetched.json" }));
        assert!(remote.check("order.created", &payload("1")).is_err());
    }
}
