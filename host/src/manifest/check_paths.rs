//! What expressions look at, against the schemas of the events that they will see.

use serde_json::Value;

use super::authored::Manifest;
use super::codes;
use super::diagnostic::Diagnostic;
use super::elements::consumer::Consumer;
use super::elements::event::{self, EventType};
use super::elements::expression::inside;
use super::elements::pipeline::Pipeline;
use super::elements::step::Match;
use super::elements::subscription::Subscription;
use super::flat::{Authored, Placed};
use super::reader::{At, Reader, nearest};
use super::yaml::quoted;
use crate::model::expression::{Kind, Path, Root, Step};
use crate::model::spec::KeySpec;
use crate::model::{Expression, TypePattern};

/// References followed from one schema to another.
const REFERENCES_MAX: usize = 16;

/// What an expression is there for, and what becomes of an event without what it looks at.
struct Purpose {
    /// It must give something, and not only be true or not.
    needed: bool,
    without: &'static str,
    ask: &'static str,
}

const KEY: Purpose = Purpose {
    needed: true,
    without: "a delivery without its key is a dead letter",
    ask: "has(data.a) ? data.a : event.id",
};
const WHERE: Purpose = Purpose { needed: false, without: "an event without it is not meant", ask: "" };
const WHEN: Purpose = Purpose { needed: true, without: "without it the step fails", ask: "has(data.a) && data.a" };
const AWAITED: Purpose = Purpose { needed: false, without: "an event without it ends no wait", ask: "" };
const WAITING: Purpose =
    Purpose { needed: true, without: "without it the step fails", ask: "has(data.a) ? data.a : event.id" };

pub(super) fn check(reader: &mut Reader, manifest: &Manifest, consumer: &Consumer, subscribed: &[At<TypePattern>]) {
    let all: Vec<&(At<String>, EventType)> = manifest
        .events
        .iter()
        .filter(|(name, _)| subscribed.iter().any(|pattern| pattern.value.matches(&name.value)))
        .filter(|(name, event)| consumer.on.as_ref().is_none_or(|on| understood(&on.value, &name.value, event)))
        .collect();
    let order = consumer.order_by.as_ref().and_then(|order| match &order.value {
        KeySpec::One => None,
        KeySpec::Of(key) => Some(At { value: key.clone(), span: order.span.clone() }),
    });
    let share = consumer.concurrency_per_key.as_ref().map(|share| share.value.key.clone());
    for key in [order, consumer.idempotency_key.clone(), share].into_iter().flatten() {
        check_over(reader, &key, &KEY, &all);
    }
    check_conditions(reader, manifest, consumer.on.as_ref().map_or(&[], |on| &on.value));
}

/// The conditions, the key and the steps of a pipeline.
pub(super) fn check_pipeline(reader: &mut Reader, manifest: &Manifest, pipeline: &Pipeline, steps: &[Placed<'_>]) {
    let on = &pipeline.on.value;
    check_conditions(reader, manifest, on);
    let begins: Vec<_> = manifest.events.iter().filter(|(name, event)| understood(on, &name.value, event)).collect();
    if let Some(key) = &pipeline.key {
        check_over(reader, key, &KEY, &begins);
    }
    for placed in steps {
        if let Some(when) = placed.step.when() {
            check_over(reader, when, &WHEN, &begins);
        }
        let Authored::Wait(wait) = placed.step else { continue };
        let (Some(pattern), Some(matching)) = (&wait.wait_for, &wait.matching) else { continue };
        let awaited: Vec<_> = manifest.events.iter().filter(|(name, _)| pattern.value.matches(&name.value)).collect();
        let Match { event, run } = &matching.value;
        check_over(reader, event, &AWAITED, &awaited);
        check_over(reader, run, &WAITING, &begins);
        check_kinds(reader, matching, kind_in(&event.value, &awaited), kind_in(&run.value, &begins));
    }
}

/// What is text on one side and a number on the other is probably not the same thing.
fn check_kinds(reader: &mut Reader, matching: &At<Match>, event: Kind, run: Kind) {
    if event.may_be(run) {
        return;
    }
    let message = format!("`match` compares {} of the event with {} of the run", event.as_str(), run.as_str());
    let help = "compare like with like: `string(…)` makes text of a number";
    reader.error(codes::MATCH_APART, matching.span.clone(), message, "these have no value in common", help);
}

/// What an expression gives of these events; of a path, as their schemas say it.
fn kind_in(expression: &Expression, events: &[&(At<String>, EventType)]) -> Kind {
    let [path] = expression.paths() else { return expression.kind() };
    if expression.kind() != Kind::Any || path.root != Root::Data || path.at != (0..expression.source().len()) {
        return expression.kind();
    }
    let mut kinds = events.iter().map(|(_, event)| match &event.schema {
        Some(schema) => kind_at(&schema.document, &path.steps),
        None => Kind::Any,
    });
    let first = kinds.next().unwrap_or(Kind::Any);
    if kinds.all(|kind| kind == first) { first } else { Kind::Any }
}

fn check_conditions(reader: &mut Reader, manifest: &Manifest, on: &[Subscription]) {
    for subscription in on {
        let Some(condition) = &subscription.condition else { continue };
        let matches = |name: &str| subscription.pattern.value.matches(name);
        let meant: Vec<_> = manifest.events.iter().filter(|(name, _)| matches(&name.value)).collect();
        check_over(reader, condition, &WHERE, &meant);
    }
}

/// Whether events of the version that is declared are meant.
fn understood(on: &[Subscription], name: &str, event: &EventType) -> bool {
    let declared = event.version.as_ref().map_or(event::VERSION, |version| version.value.as_str());
    let declared = semver::Version::parse(declared).ok();
    let wanted =
        |wanted: &At<semver::VersionReq>| declared.as_ref().is_none_or(|version| wanted.value.matches(version));
    on.iter().any(|one| one.pattern.value.matches(name) && one.version.as_ref().is_none_or(wanted))
}

fn check_over(
    reader: &mut Reader,
    expression: &At<Expression>,
    purpose: &Purpose,
    events: &[&(At<String>, EventType)],
) {
    for (name, event) in events {
        let Some(schema) = &event.schema else { continue };
        let paths = expression.value.paths();
        for path in paths.iter().filter(|path| path.root == Root::Data) {
            let guarded = path.tested || paths.iter().any(|other| other.tested && other.steps == path.steps);
            let presence = look(&schema.document, &path.steps);
            if let Some(problem) = problem(reader, expression, path, presence, purpose, guarded, &name.value) {
                reader.push(problem);
            }
        }
    }
}

fn problem(
    reader: &Reader,
    expression: &At<Expression>,
    path: &Path,
    presence: Presence,
    purpose: &Purpose,
    guarded: bool,
    name: &str,
) -> Option<Diagnostic> {
    let text = expression.value.source();
    let span = inside(reader, &expression.span, text, &path.at).unwrap_or_else(|| expression.span.clone());
    let shown = shown(&path.steps);
    match presence {
        Presence::Never(help) => {
            let message = format!("`{shown}` cannot be in `{name}`");
            let remark = "its schema does not allow it";
            Some(Diagnostic::error(codes::ABSENT, message).at(&reader.source, span, remark).help(help))
        }
        Presence::Undeclared(help) if !guarded => {
            let message = format!("the schema of `{name}` does not declare `{shown}`");
            let problem = Diagnostic::warning(codes::PERHAPS_ABSENT, message);
            Some(problem.at(&reader.source, span, purpose.without).help(help))
        }
        Presence::Optional if purpose.needed && !guarded => {
            let message = format!("the schema of `{name}` does not require `{shown}`");
            let help = format!("add it to `required` in the schema, or ask first: `{}`", purpose.ask);
            let problem = Diagnostic::warning(codes::PERHAPS_ABSENT, message);
            Some(problem.at(&reader.source, span, purpose.without).help(help))
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

/// What a schema says about the kind of what is at the end of a path.
fn kind_at(document: &Value, steps: &[Step]) -> Kind {
    let found = steps.iter().try_fold(document, |schema, step| {
        let here = target(document, schema)?;
        let next = match step {
            Step::Member(name) => member(here, name),
            Step::Item(index) => item(here, *index),
        };
        next.ok().map(|(next, _)| next)
    });
    let kind = found.and_then(|schema| target(document, schema)).and_then(|schema| schema.get("type"));
    match kind.and_then(Value::as_str) {
        Some("string") => Kind::Text,
        Some("integer" | "number") => Kind::Number,
        Some("boolean") => Kind::Bool,
        _ => Kind::Any,
    }
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
