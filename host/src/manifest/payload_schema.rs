//! What the JSON Schema of an event type says of a place in its payloads: whether something is there, and of what kind.

use serde_json::Value;

use super::reader::nearest;
use super::yaml::quoted;
use crate::model::expression::{Kind, Step};

/// References followed from one schema to another.
const REFERENCES_MAX: usize = 16;
/// How far below a place another one is looked for.
const BELOW_MAX: usize = 3;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Required,
    Optional,
    /// With a hint.
    Undeclared(String),
    /// With a hint.
    Never(String),
    /// The schema says it in a way that is not followed here.
    Unknown,
}

/// Whether there is something at the end of a path.
pub(super) fn look(document: &Value, steps: &[Step]) -> Presence {
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

/// Of which kinds what is at the end of a path may be; [`Kind::Any`] if the schema does not say.
pub(super) fn kinds(document: &Value, steps: &[Step]) -> Vec<Kind> {
    follow(document, steps).map_or_else(|| vec![Kind::Any], |schema| kinds_of(document, schema))
}

/// The way from a place to one below it that is of such a kind only: an id if there is one, else what must be there.
pub(super) fn below(document: &Value, steps: &[Step], wanted: fn(Kind) -> bool) -> Option<Vec<Step>> {
    below_in(document, follow(document, steps)?, wanted, BELOW_MAX)
}

fn follow<'s>(document: &'s Value, steps: &[Step]) -> Option<&'s Value> {
    steps.iter().try_fold(document, |schema, step| {
        let here = target(document, schema)?;
        let next = match step {
            Step::Member(name) => member(here, name),
            Step::Item(index) => item(here, *index),
        };
        next.ok().map(|(next, _)| next)
    })
}

/// What `type` says holds whatever stands beside it, also where a schema is put together from others.
fn kinds_of<'s>(document: &'s Value, mut schema: &'s Value) -> Vec<Kind> {
    for _ in 0..REFERENCES_MAX {
        let named = match schema.get("type") {
            Some(Value::String(one)) => vec![kind_of(one)],
            Some(Value::Array(some)) => some.iter().map(|one| one.as_str().map_or(Kind::Any, kind_of)).collect(),
            _ => Vec::new(),
        };
        if !named.is_empty() {
            return named;
        }
        let reference = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
        let Some(next) = reference.and_then(|pointer| document.pointer(pointer)) else { break };
        schema = next;
    }
    vec![Kind::Any]
}

fn kind_of(word: &str) -> Kind {
    match word {
        "string" => Kind::Text,
        "integer" | "number" => Kind::Number,
        "boolean" => Kind::Bool,
        "object" => Kind::Map,
        "array" => Kind::List,
        "null" => Kind::Null,
        _ => Kind::Any,
    }
}

fn below_in(document: &Value, schema: &Value, wanted: fn(Kind) -> bool, depth: usize) -> Option<Vec<Step>> {
    let here = target(document, schema)?;
    if may_be(here, "array") && here.contains_key("items") {
        return down(document, Step::Item(0), here.get("items")?, wanted, depth);
    }
    let mut members: Vec<(&String, &Value)> = here.get("properties")?.as_object()?.iter().collect();
    let required = here.get("required").and_then(Value::as_array);
    let is_id = |name: &str| ["id", "Id", "ID"].iter().any(|end| name.ends_with(end));
    members.sort_by_key(|(name, _)| {
        let required = required.is_some_and(|names| names.iter().any(|known| known.as_str() == Some(name)));
        (!is_id(name), !required)
    });
    // What is nearer is likelier meant.
    [0, depth].iter().find_map(|depth| {
        members.iter().find_map(|(name, part)| down(document, Step::Member((*name).clone()), part, wanted, *depth))
    })
}

fn down(document: &Value, step: Step, part: &Value, wanted: fn(Kind) -> bool, depth: usize) -> Option<Vec<Step>> {
    if kinds_of(document, part).into_iter().all(wanted) {
        return Some(vec![step]);
    }
    let rest = below_in(document, part, wanted, depth.checked_sub(1)?)?;
    Some([vec![step], rest].concat())
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
    use crate::model::Expression;

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
        assert_eq!(kinds(&round, &[]), [Kind::Any]);
    }

    #[test]
    fn schemas_say_of_what_kind_it_is() {
        let document = json!({
            "type": "object",
            "properties": {
                "id": { "type": "integer" },
                "who": { "$ref": "#/$defs/who" },
                "either": { "type": ["array", "null"], "items": { "$ref": "#/$defs/who" } },
                "both": { "type": "object", "allOf": [{}] },
                "free": {},
                "any": { "anyOf": [{ "type": "string" }] },
            },
            "$defs": { "who": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "age": { "type": "number" },
                    "home": { "type": "object", "properties": { "homeId": { "type": "string" } } },
                    "name": { "type": "string" },
                    "vip": { "type": "boolean" },
                    "note": { "type": ["string", "null"] },
                },
            } },
        });
        let steps = |path: &str| Expression::parse(path).unwrap().paths()[0].steps.clone();
        for (path, expected) in [
            ("data", &[Kind::Map][..]),
            ("data.id", &[Kind::Number]),
            ("data.who", &[Kind::Map]),
            ("data.who.note", &[Kind::Text, Kind::Null]),
            ("data.either", &[Kind::List, Kind::Null]),
            ("data.either[0].age", &[Kind::Number]),
            ("data.both", &[Kind::Map]),
            ("data.free", &[Kind::Any]),
            ("data.any", &[Kind::Any]),
            ("data.gone", &[Kind::Any]),
        ] {
            assert_eq!(kinds(&document, &steps(path)), expected, "{path}");
        }
        let text: fn(Kind) -> bool = |kind| kind == Kind::Text;
        let truth: fn(Kind) -> bool = |kind| kind == Kind::Bool;
        let number: fn(Kind) -> bool = |kind| kind == Kind::Number;
        for (path, wanted, expected) in [
            ("data.who", text, Some("data.who.name")),
            ("data.either", text, Some("data.either[0].name")),
            ("data.who", truth, Some("data.who.vip")),
            ("data", number, Some("data.id")),
            ("data.both", text, None),
            ("data.who.name", text, None),
        ] {
            let found = below(&document, &steps(path), wanted).map(|rest| [steps(path), rest].concat());
            assert_eq!(found, expected.map(steps), "{path}");
        }
    }
}
