//! What expressions look at, against the schemas of the events that they will see.

use serde_json::Value;

use super::authored::Manifest;
use super::codes;
use super::diagnostic::Diagnostic;
use super::elements::consumer::Consumer;
use super::elements::event::{self, EventType};
use super::elements::expression::inside;
use super::reader::{At, Reader, nearest};
use super::yaml::quoted;
use crate::model::expression::{Path, Root, Step};
use crate::model::spec::KeySpec;
use crate::model::{Expression, TypePattern};

/// References followed from one schema to another.
const REFERENCES_MAX: usize = 16;

pub(super) fn check(reader: &mut Reader, manifest: &Manifest, consumer: &Consumer, subscribed: &[At<TypePattern>]) {
    let all: Vec<&(At<String>, EventType)> = manifest
        .events
        .iter()
        .filter(|(name, _)| subscribed.iter().any(|pattern| pattern.value.matches(&name.value)))
        .filter(|(name, event)| understood(consumer, &name.value, event))
        .collect();
    let order = consumer.order_by.as_ref().and_then(|order| match &order.value {
        KeySpec::One => None,
        KeySpec::Of(key) => Some(At { value: key.clone(), span: order.span.clone() }),
    });
    let share = consumer.concurrency_per_key.as_ref().map(|share| share.value.key.clone());
    for key in [order, consumer.idempotency_key.clone(), share].into_iter().flatten() {
        for (name, event) in &all {
            check_expression(reader, &key, true, &name.value, event);
        }
    }
    for subscription in consumer.on.iter().flat_map(|on| &on.value) {
        let Some(condition) = &subscription.condition else { continue };
        let matches = |name: &str| subscription.pattern.value.matches(name);
        for (name, event) in manifest.events.iter().filter(|(name, _)| matches(&name.value)) {
            check_expression(reader, condition, false, &name.value, event);
        }
    }
}

/// Whether the consumer is given events of the version that is declared.
fn understood(consumer: &Consumer, name: &str, event: &EventType) -> bool {
    let declared = event.version.as_ref().map_or(event::VERSION, |version| version.value.as_str());
    let Some(on) = &consumer.on else { return true };
    let Ok(declared) = semver::Version::parse(declared) else { return true };
    let wanted = |wanted: &At<semver::VersionReq>| wanted.value.matches(&declared);
    on.value.iter().any(|one| one.pattern.value.matches(name) && one.version.as_ref().is_none_or(wanted))
}

fn check_expression(reader: &mut Reader, expression: &At<Expression>, key: bool, name: &str, event: &EventType) {
    let Some(schema) = &event.schema else { return };
    let paths = expression.value.paths();
    for path in paths.iter().filter(|path| path.root == Root::Data) {
        let guarded = path.tested || paths.iter().any(|other| other.tested && other.steps == path.steps);
        let presence = look(&schema.document, &path.steps);
        if let Some(problem) = problem(reader, expression, path, presence, key, guarded, name) {
            reader.push(problem);
        }
    }
}

fn problem(
    reader: &Reader,
    expression: &At<Expression>,
    path: &Path,
    presence: Presence,
    key: bool,
    guarded: bool,
    name: &str,
) -> Option<Diagnostic> {
    let text = expression.value.source();
    let span = inside(reader, &expression.span, text, &path.at).unwrap_or_else(|| expression.span.clone());
    let shown = shown(&path.steps);
    let without = if key { "a delivery without its key is a dead letter" } else { "an event without it is not meant" };
    match presence {
        Presence::Never(help) => {
            let message = format!("`{shown}` cannot be in `{name}`");
            let remark = "its schema does not allow it";
            Some(Diagnostic::error(codes::ABSENT, message).at(&reader.source, span, remark).help(help))
        }
        Presence::Undeclared(help) if !guarded => {
            let message = format!("the schema of `{name}` does not declare `{shown}`");
            Some(Diagnostic::warning(codes::PERHAPS_ABSENT, message).at(&reader.source, span, without).help(help))
        }
        Presence::Optional if key && !guarded => {
            let message = format!("the schema of `{name}` does not require `{shown}`");
            let help = "add it to `required` in the schema, or ask first: `has(data.a) ? data.a : event.id`";
            Some(Diagnostic::warning(codes::PERHAPS_ABSENT, message).at(&reader.source, span, without).help(help))
        }
        _ => None,
    }
}

fn shown(steps: &[Step]) -> String {
    steps.iter().fold("data".to_owned(), |text, step| match step {
        Step::Member(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => format!("{text}.{name}"),
        Step::Member(name) => format!("{text}[{}]", quoted(name).replace('`', "\"")),
        Step::Item(index) => format!("{text}[{index}]"),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
    /// With a hint.
    Undeclared(String),
    /// With a hint.
    Never(String),
    /// The schema says it in a way that is not followed here.
    Unknown,
}

/// What a schema says about whether there is something at the end of a path.
fn look(document: &Value, steps: &[Step]) -> Presence {
    let mut schema = document;
    let mut sure = Presence::Required;
    for step in steps {
        let Some(here) = target(document, schema) else { return Presence::Unknown };
        let next = match step {
            Step::Member(name) => member(here, name),
            Step::Item(index) => item(here, *index),
        };
        match next {
            Ok((next, required)) => {
                schema = next;
                if !required {
                    sure = Presence::Optional;
                }
            }
            Err(presence) => return presence,
        }
    }
    sure
}

/// The schema itself, or what it refers to; none if it is put together from others.
fn target<'s>(document: &'s Value, mut schema: &'s Value) -> Option<&'s serde_json::Map<String, Value>> {
    const COMPOSED: [&str; 8] =
        ["allOf", "anyOf", "oneOf", "if", "not", "$dynamicRef", "dependentSchemas", "unevaluatedProperties"];
    for _ in 0..REFERENCES_MAX {
        let object = schema.as_object()?;
        if COMPOSED.iter().any(|key| object.contains_key(*key)) {
            return None;
        }
        let Some(reference) = object.get("$ref") else { return Some(object) };
        schema = document.pointer(reference.as_str()?.strip_prefix('#')?)?;
    }
    None
}

/// The schema of a part, and whether the part must be there.
type Part<'s> = Result<(&'s Value, bool), Presence>;

fn member<'s>(schema: &'s serde_json::Map<String, Value>, name: &str) -> Part<'s> {
    if !may_be(schema, "object") {
        return Err(Presence::Never("what it belongs to is no object there".into()));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(part) = properties.and_then(|properties| properties.get(name)) {
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.is_some_and(|names| names.iter().any(|known| known == name));
        let object = schema.get("type").is_some_and(|kind| kind == "object");
        return Ok((part, required && object));
    }
    if schema.contains_key("patternProperties") {
        return Err(Presence::Unknown);
    }
    let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let help = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "declare it in the schema".to_owned(),
        None => format!("it has {}", known.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")),
    };
    match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => Err(Presence::Never(help)),
        Some(Value::Object(_)) => Err(Presence::Unknown),
        _ if known.is_empty() => Err(Presence::Unknown),
        _ => Err(Presence::Undeclared(help)),
    }
}

fn item(schema: &serde_json::Map<String, Value>, index: usize) -> Part<'_> {
    if !may_be(schema, "array") {
        return Err(Presence::Never("it is no list there".into()));
    }
    if schema.get("maxItems").and_then(Value::as_u64).is_some_and(|max| index as u64 >= max) {
        return Err(Presence::Never("the list does not become so long".into()));
    }
    let first = schema.get("prefixItems").and_then(|items| items.get(index));
    let required = schema.get("minItems").and_then(Value::as_u64).is_some_and(|min| (index as u64) < min);
    let array = schema.get("type").is_some_and(|kind| kind == "array");
    first.or_else(|| schema.get("items")).map(|part| (part, required && array)).ok_or(Presence::Unknown)
}

fn may_be(schema: &serde_json::Map<String, Value>, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(kinds)) => kinds.iter().any(|one| one == kind),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_say_what_can_be_there() {
        let document = json!({
            "type": "object",
            "required": ["id", "lines", "who"],
            "additionalProperties": false,
            "properties": {
                "id": { "type": "string" },
                "note": { "type": "string" },
                "lines": { "type": "array", "minItems": 1, "maxItems": 9, "items": { "$ref": "#/$defs/line" } },
                "who": { "type": "object", "properties": { "name": {} } },
                "either": { "anyOf": [{}, {}] },
                "free": {},
            },
            "$defs": { "line": { "type": "object", "required": ["sku"], "properties": { "sku": {} } } },
        });
        for (path, expected) in [
            ("data.id", "Required"),
            ("data.note", "Optional"),
            ("data.gone", "Never"),
            ("data.id.more", "Never"),
            ("data.lines[0].sku", "Required"),
            ("data.lines[1].sku", "Optional"),
            ("data.lines[9].sku", "Never"),
            ("data.lines.sku", "Never"),
            ("data.lines[0].size", "Undeclared"),
            ("data.who.name", "Optional"),
            ("data.who.age", "Undeclared"),
            ("data.either.x", "Unknown"),
            ("data.free.x", "Unknown"),
            ("data", "Required"),
        ] {
            let expression = Expression::parse(path).unwrap();
            let found = format!("{:?}", look(&document, &expression.paths()[0].steps));
            assert!(found.starts_with(expected), "{path}: {found}");
        }
        let round = json!({ "$ref": "#" });
        assert_eq!(look(&round, &[Step::Member("a".into())]), Presence::Unknown);
    }
}
