//! Steps of a pipeline: calls of consumers, waits for events, and how they follow one another.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::diagnostic::Diagnostic;
use super::super::reader::{At, Fields, Reader, Shape, nearest};
use super::super::yaml::{Node, Value, quoted};
use super::bounds;
use super::count::Count;
use super::duration::Millis;
use super::expression;
use super::retry::{self, Retry};
use super::size::Bytes;
use super::subscription::{Pattern, pattern};
use crate::model::pipeline::{STEP_NAME_BYTES_MAX, STEPS_MAX};
use crate::model::{ConsumerName, Expression, TypePattern};

pub(crate) const SHAPE: Shape = Shape {
    what: "a step",
    keys: &["name", "consumer", "compensate", "when", "retry", "timeout", "fuel", "memory"],
    later: &[],
};
pub(crate) const WAIT_SHAPE: Shape =
    Shape { what: "a step that waits", keys: &["name", "wait-for", "match", "timeout", "when"], later: &[] };
pub(crate) const MATCH_SHAPE: Shape = Shape { what: "`match`", keys: &["event", "run"], later: &[] };
pub(crate) const PARALLEL_SHAPE: Shape = Shape { what: "a parallel block", keys: &["parallel"], later: &[] };
pub(crate) const SEQUENCE_SHAPE: Shape = Shape { what: "a branch", keys: &["steps"], later: &[] };

/// What belongs to a call only, and why.
const NOT_OF_WAITS: [(&str, &str); 5] = [
    ("consumer", "a step either calls or waits"),
    ("compensate", "there is nothing to undo"),
    ("retry", "nothing is attempted"),
    ("fuel", "nothing is attempted"),
    ("memory", "nothing is attempted"),
];

/// A delivery of the run's event to a consumer, which gets the outputs of the steps before. Limits hold instead of the consumer's
/// own.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Step {
    /// Expressions know its output as `steps.NAME`: letters, digits and `_`, beginning with a letter.
    #[schemars(with = "String")]
    pub name: Option<At<String>>,
    /// Who does it.
    #[schemars(with = "String")]
    pub consumer: Option<At<ConsumerName>>,
    /// Who undoes it once it is done, should the run fail or be cancelled; its component exports `compensator`.
    #[schemars(with = "Option<String>")]
    pub compensate: Option<At<ConsumerName>>,
    /// It is skipped unless this is true, of the run's event and the outputs of the steps before. Default: it is done.
    #[schemars(with = "Option<expression::RunText>")]
    pub when: Option<At<Expression>>,
    /// When a failed attempt is followed by another; keys that are absent are the consumer's.
    pub retry: Option<At<Retry>>,
    /// Wall clock of an attempt. Default: the consumer's.
    pub timeout: Option<At<Millis>>,
    /// Guest instructions of an attempt. Default: the consumer's.
    pub fuel: Option<At<Count>>,
    /// Linear memory of an attempt. Default: the consumer's.
    pub memory: Option<At<Bytes>>,
}

/// A step that is done when an event comes; its output is that event's payload.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Wait {
    /// Expressions know its output as `steps.NAME`: letters, digits and `_`, beginning with a letter.
    #[schemars(with = "String")]
    pub name: Option<At<String>>,
    /// The type of the event, or a pattern.
    #[schemars(with = "Pattern")]
    pub wait_for: Option<At<TypePattern>>,
    /// Which of those events is meant: one for which this gives the same as for the run's own event, or a map with an expression
    /// for each.
    #[schemars(with = "MatchOrKey", rename = "match")]
    pub matching: Option<At<Match>>,
    /// After this the step has failed. At most `retention.events`.
    #[schemars(with = "Millis")]
    pub timeout: Option<At<Millis>>,
    /// It is skipped unless this is true, of the run's event and the outputs of the steps before. Default: it waits.
    #[schemars(with = "Option<expression::RunText>")]
    pub when: Option<At<Expression>>,
}

/// What the event that is waited for and the run have in common.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Match {
    /// Of the event that is waited for.
    #[schemars(with = "expression::Text")]
    pub event: At<Expression>,
    /// Of the run's event and the outputs of the steps before.
    #[schemars(with = "expression::RunText")]
    pub run: At<Expression>,
}

struct MatchOrKey;

impl JsonSchema for MatchOrKey {
    fn schema_name() -> Cow<'static, str> {
        "MatchOrKey".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (key, map) = (generator.subschema_for::<expression::Text>(), generator.subschema_for::<Match>());
        json_schema!({ "anyOf": [key, map] })
    }
}

#[expect(dead_code, reason = "for the JSON Schema: what is read is an Item")]
/// Branches that run side by side. What follows begins when all of them are over.
#[derive(JsonSchema)]
#[schemars(rename = "Parallel", deny_unknown_fields)]
struct ParallelFields {
    /// Each is a step, or a sequence of them.
    parallel: Vec<Branch>,
}

#[expect(dead_code, reason = "for the JSON Schema: what is read is an Item")]
/// A branch of several steps, one after another.
#[derive(JsonSchema)]
#[schemars(rename = "Sequence", deny_unknown_fields)]
struct SequenceFields {
    /// What the branch does, in order.
    steps: Vec<Listed>,
}

/// For the JSON Schema: what may stand in a sequence.
pub(crate) struct Listed;

impl JsonSchema for Listed {
    fn schema_name() -> Cow<'static, str> {
        "Listed".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let step = generator.subschema_for::<Step>();
        let wait = generator.subschema_for::<Wait>();
        let parallel = generator.subschema_for::<ParallelFields>();
        json_schema!({ "anyOf": [step, wait, parallel] })
    }
}

/// For the JSON Schema: what may stand in a parallel block.
struct Branch;

impl JsonSchema for Branch {
    fn schema_name() -> Cow<'static, str> {
        "Branch".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let step = generator.subschema_for::<Step>();
        let wait = generator.subschema_for::<Wait>();
        let sequence = generator.subschema_for::<SequenceFields>();
        json_schema!({ "anyOf": [step, wait, sequence] })
    }
}

/// An item of `steps` or `parallel`. What it lacks has been reported.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Call(Box<Step>),
    Wait(Box<Wait>),
    Parallel(At<Vec<Self>>),
    Sequence(At<Vec<Self>>),
}

/// The items of `steps` or `parallel`; none at all is a mistake.
pub(crate) fn list(reader: &mut Reader, node: &Node, what: &str) -> At<Vec<Item>> {
    let items = reader.list(node, what);
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        let help = "write at least one step, such as `{ name: reserve, consumer: reserve-stock }`";
        reader.error(codes::STEPS, node.span.clone(), format!("{what} is empty"), "nothing would be done", help);
    }
    let parallel = what == "`parallel`";
    let items = items.iter().filter_map(|item| one(reader, item, parallel)).collect();
    At { value: items, span: node.span.clone() }
}

/// More than a pipeline may have in all.
pub(crate) fn too_many(reader: &mut Reader, steps: &At<Vec<Item>>, number: usize) {
    let message = format!("a pipeline has at most {STEPS_MAX} steps, and this one has {number}");
    let help = "let a consumer publish an event that begins a pipeline of its own for the rest";
    reader.error(codes::STEPS, steps.span.clone(), message, "", help);
}

/// By the key that tells them apart, misspelt ones included.
fn one(reader: &mut Reader, node: &Node, parallel: bool) -> Option<Item> {
    const KINDS: [&str; 4] = ["wait-for", "parallel", "steps", "consumer"];
    let Value::Map(entries) = &node.value else {
        drop(reader.fields(node, &SHAPE));
        return None;
    };
    let names = || entries.iter().map(|entry| entry.key.text.as_str());
    let exact = KINDS.into_iter().find(|kind| names().any(|name| name == *kind));
    match exact.or_else(|| names().find_map(|name| nearest(name, KINDS.into_iter()))) {
        Some("wait-for") => Some(Item::Wait(Box::new(wait(reader, node)?))),
        Some("parallel") if !parallel => {
            let fields = reader.fields(node, &PARALLEL_SHAPE)?;
            Some(Item::Parallel(list(reader, fields.get("parallel")?, "`parallel`")))
        }
        Some("steps") if parallel => {
            let fields = reader.fields(node, &SEQUENCE_SHAPE)?;
            Some(Item::Sequence(list(reader, fields.get("steps")?, "`steps`")))
        }
        Some(kind @ ("parallel" | "steps")) => {
            misplaced(reader, node, kind);
            None
        }
        _ => Some(Item::Call(Box::new(call(reader, node)?))),
    }
}

fn misplaced(reader: &mut Reader, node: &Node, kind: &str) {
    let (message, help) = match kind {
        "parallel" => (
            "a branch is no parallel block itself",
            "put its branches beside the others, or into a branch `steps: […]`",
        ),
        _ => ("`steps` stands for a branch of a parallel block only", "put its steps into the list around it"),
    };
    reader.error(codes::STEPS, node.span.clone(), message, "", help);
}

fn call(reader: &mut Reader, node: &Node) -> Option<Step> {
    let fields = reader.fields(node, &SHAPE)?;
    if fields.get("consumer").is_none() {
        let help =
            "say who does it, as in `consumer: reserve-stock`, or what it waits for, as in `wait-for: payment.settled`";
        reader.missing(&fields, "consumer", help);
    }
    let span = |key: &str| fields.get(key).map(|node| node.span.clone()).unwrap_or_default();
    let retry = fields.get("retry").and_then(|node| retry::read(reader, node));
    Some(Step {
        name: name(reader, &fields),
        consumer: fields.get("consumer").and_then(|node| consumer_name(reader, node, "`consumer`")),
        compensate: fields.get("compensate").and_then(|node| consumer_name(reader, node, "`compensate`")),
        when: fields.get("when").and_then(|node| expression::condition_of_run(reader, node, "`when`")),
        retry: retry.map(|value| At { value, span: span("retry") }),
        timeout: fields.get("timeout").and_then(|node| reader.quantity(node, "`timeout`", &bounds::TIMEOUT)),
        fuel: fields.get("fuel").and_then(|node| reader.quantity(node, "`fuel`", &bounds::FUEL)),
        memory: fields.get("memory").and_then(|node| reader.quantity(node, "`memory`", &bounds::MEMORY)),
    })
}

fn wait(reader: &mut Reader, node: &Node) -> Option<Wait> {
    let Value::Map(entries) = &node.value else { return None };
    let waits = entries.iter().find(|entry| entry.key.text == "wait-for").map(|entry| entry.key.span.clone());
    // What belongs to a call is reported as such, and then passed over.
    let mut rest = Vec::with_capacity(entries.len());
    for entry in entries {
        match NOT_OF_WAITS.iter().find(|(key, _)| entry.key.text == *key) {
            Some((key, why)) => {
                let message = format!("`{key}` and `wait-for` exclude each other: {why}");
                let problem = Diagnostic::error(codes::EXCLUSIVE, message)
                    .at(&reader.source, entry.key.span.clone(), "this …")
                    .at(&reader.source, waits.clone().unwrap_or_else(|| node.span.clone()), "… and this")
                    .help("leave it out, or make it a step of its own");
                reader.push(problem);
            }
            None => rest.push(entry.clone()),
        }
    }
    let node = Node { span: node.span.clone(), value: Value::Map(rest) };
    let fields = reader.fields(&node, &WAIT_SHAPE)?;
    let help = "say which event is meant, as in `match: data.orderId`: one with the same `data.orderId` as the run's own event";
    for (key, help) in [("match", help), ("timeout", "say how long it waits, as in `timeout: 1d`")] {
        if fields.get(key).is_none() {
            reader.missing(&fields, key, help);
        }
    }
    Some(Wait {
        name: name(reader, &fields),
        wait_for: fields.get("wait-for").and_then(|node| pattern(reader, node, "`wait-for`")),
        matching: fields.get("match").and_then(|node| matching(reader, node)),
        timeout: fields.get("timeout").and_then(|node| reader.quantity(node, "`timeout`", &bounds::WAIT)),
        when: fields.get("when").and_then(|node| expression::condition_of_run(reader, node, "`when`")),
    })
}

fn matching(reader: &mut Reader, node: &Node) -> Option<At<Match>> {
    let span = node.span.clone();
    if !matches!(node.value, Value::Map(_)) {
        let both = expression::key_of_both(reader, node, "`match`")?;
        return Some(At { value: Match { event: both.clone(), run: both }, span });
    }
    let fields = reader.fields(node, &MATCH_SHAPE)?;
    for (key, help) in [
        ("event", "say what of the event that is waited for: `event: data.orderId`"),
        ("run", "say what of the run: `run: steps.pay.paymentId`"),
    ] {
        if fields.get(key).is_none() {
            reader.missing(&fields, key, help);
        }
    }
    let event = fields.get("event").and_then(|node| expression::key(reader, node, "`event`"));
    let run = fields.get("run").and_then(|node| expression::key_of_run(reader, node, "`run`"));
    Some(At { value: Match { event: event?, run: run? }, span })
}

/// An identifier that can be written as `steps.NAME`.
fn name(reader: &mut Reader, fields: &Fields<'_>) -> Option<At<String>> {
    let Some(node) = fields.get("name") else {
        reader.missing(fields, "name", "give it one: expressions know its output as `steps.NAME`");
        return None;
    };
    let name = reader.text(node, "`name`")?;
    let word = name.value.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && name.value.len() <= STEP_NAME_BYTES_MAX;
    if !word || Expression::parse(&format!("steps.{}", name.value)).is_err() {
        let better: String = identifier(&name.value).chars().take(STEP_NAME_BYTES_MAX).collect();
        let better = better.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        let better = if word || better.is_empty() { "step_1" } else { better };
        let message = format!("{} cannot name a step", reader.written(node));
        let help = format!(
            "write {}: expressions know it as `steps.NAME`, so it has letters, digits and `_`, begins with a letter, has at \
             most {STEP_NAME_BYTES_MAX} of them, and is no word of CEL's",
            quoted(better)
        );
        reader.error(codes::NAME, name.span.clone(), message, "", help);
    }
    Some(name)
}

/// The name as expressions would have to write it.
pub(crate) fn identifier(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

pub(crate) fn consumer_name(reader: &mut Reader, node: &Node, what: &str) -> Option<At<ConsumerName>> {
    let text = reader.text(node, what)?;
    match ConsumerName::new(&text.value) {
        Ok(value) => Some(At { value, span: text.span }),
        Err(reason) => {
            let message = format!("{} cannot name a consumer", reader.written(node));
            reader.error(codes::NAME, text.span, message, "", reason);
            None
        }
    }
}
