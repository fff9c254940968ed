//! How an expression is evaluated: a path by itself, anything else by the interpreter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cel::common::ast::Expr;
use cel::{ExecutionError, Program, Value};

use super::Scene;
use super::check::{Path, Root, Step};
use super::number;
use super::parts::{self, Needed, Seen};
use super::payload::{self, Leaf, MISSING, Whose};
use crate::model::Event;

pub(super) enum Form {
    Path(Path),
    Program {
        program: Program,
        /// Members of `event` that are looked at.
        event_names: BTreeSet<String>,
        /// None: `data` is not looked at.
        needed: Option<Needed>,
        /// By step; empty: `steps` is not looked at.
        outputs: BTreeMap<String, Needed>,
    },
}

impl Form {
    pub(super) fn of(program: Program, paths: &[Path]) -> Self {
        if let ([path], Some(steps)) = (paths, only_path(&program.expression().expr))
            && steps == path.steps.len()
            && !path.tested
        {
            return Self::Path(path.clone());
        }
        let mut needed: Option<Needed> = None;
        let mut event_names = BTreeSet::new();
        let mut outputs: BTreeMap<String, Needed> = BTreeMap::new();
        for path in paths {
            match (path.root, path.steps.split_first()) {
                (Root::Data, _) => needed.get_or_insert_default().add(&path.steps),
                (Root::Event, Some((Step::Member(name), _))) => drop(event_names.insert(name.clone())),
                (Root::Steps, Some((Step::Member(name), rest))) => outputs.entry(name.clone()).or_default().add(rest),
                (Root::Event | Root::Steps, _) => {}
            }
        }
        Self::Program { program, event_names, needed, outputs }
    }
}

/// The length of a path that the whole expression is.
fn only_path(expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Ident(_) => Some(0),
        Expr::Select(select) => only_path(&select.operand.expr).map(|steps| steps + 1),
        Expr::Call(call) => match call.args.as_slice() {
            [operand, _] if call.func_name == cel::common::ast::operators::INDEX => {
                only_path(&operand.expr).map(|steps| steps + 1)
            }
            _ => None,
        },
        _ => None,
    }
}

impl Path {
    /// What it leads to; or why nowhere, to follow "it".
    pub(super) fn look(&self, scene: &Scene<'_>) -> Result<Leaf, String> {
        let event = scene.event;
        match (self.root, self.steps.split_first()) {
            (Root::Data, _) => return payload::leaf(event.envelope.payload.as_ref(), Whose::Event, &self.steps),
            (Root::Steps, Some((Step::Member(name), rest))) => {
                return payload::leaf(scene.output(name), Whose::Step(name), rest);
            }
            _ => {}
        }
        let Some((Step::Member(name), rest)) = self.steps.split_first() else { return Ok(Leaf::Map) };
        match (name.as_str(), rest) {
            ("attributes", []) => Ok(Leaf::Map),
            ("attributes", [Step::Member(name), rest @ ..]) => {
                let value = event.envelope.attributes.get(name);
                let value = rest.iter().try_fold(value.ok_or(MISSING)?, |value, step| {
                    match step {
                        Step::Member(name) => value.get(name),
                        Step::Item(index) => value.get(index),
                    }
                    .ok_or(MISSING)
                })?;
                json_leaf(value)
            }
            (name, []) => match attribute(event, name) {
                Some(Value::Int(number)) => Ok(Leaf::Number(number.to_string())),
                Some(Value::UInt(number)) => Ok(Leaf::Number(number.to_string())),
                Some(Value::String(text)) => Ok(Leaf::Text(text.to_string())),
                _ => Err(MISSING.to_owned()),
            },
            _ => Err(MISSING.to_owned()),
        }
    }
}

fn json_leaf(value: &serde_json::Value) -> Result<Leaf, String> {
    use serde_json::Value as Json;
    Ok(match value {
        Json::Null => Leaf::Null,
        Json::Bool(truth) => Leaf::Bool(*truth),
        Json::Number(number) => {
            Leaf::Number(number::canonical(&number.to_string()).ok_or("is a number that cannot be written out")?)
        }
        Json::String(text) => Leaf::Text(text.clone()),
        Json::Array(_) => Leaf::List,
        Json::Object(_) => Leaf::Map,
    })
}

/// Members of `event`, by the names of native JSON, and whether each is a number.
pub(super) const EVENT: &[(&str, bool)] = &[
    ("id", false),
    ("type", false),
    ("source", false),
    ("subject", false),
    ("key", false),
    ("dataVersion", false),
    ("timestamp", false),
    ("correlationId", false),
    ("causationId", false),
    ("traceparent", false),
    ("notBefore", false),
    ("contentType", false),
    ("acceptedAt", false),
    ("sequence", true),
    ("depth", true),
];

/// One member of `event`; none if the event has none. Times are text, as RFC 3339 in UTC.
fn attribute(event: &Event, name: &str) -> Option<Value> {
    let envelope = &event.envelope;
    let text = |text: &str| Some(Value::from(text));
    match name {
        "id" => text(&envelope.id),
        "type" => text(&envelope.event_type),
        "source" => text(&envelope.source),
        "subject" => text(envelope.subject.as_deref()?),
        "key" => text(envelope.key.as_deref()?),
        "dataVersion" => text(&envelope.data_version),
        "timestamp" => text(&envelope.timestamp.to_string()),
        "correlationId" => text(&envelope.correlation_id),
        "causationId" => text(envelope.causation_id.as_deref()?),
        "traceparent" => text(envelope.traceparent.as_deref()?),
        "notBefore" => text(&envelope.not_before?.to_string()),
        "contentType" => text(&envelope.payload.as_ref()?.content_type),
        "acceptedAt" => text(&event.accepted_at.to_string()),
        "sequence" => Some(i64::try_from(event.seq).map_or(Value::UInt(event.seq), Value::Int)),
        "depth" => Some(Value::Int(envelope.depth.into())),
        "attributes" => {
            let members = envelope.attributes.iter().map(|(name, value)| (name.clone(), value_of(value)));
            Some(Value::from(members.collect::<HashMap<String, Value>>()))
        }
        _ => None,
    }
}

pub(super) fn event_value(event: &Event, names: &BTreeSet<String>) -> Value {
    let members = names.iter().filter_map(|name| Some((name.clone(), attribute(event, name)?)));
    Value::from(members.collect::<HashMap<String, Value>>())
}

/// Of the steps' outputs, what is looked at. A step without an output that is JSON is not there; where only members of it are
/// looked at, it has none, so that `has(steps.NAME.member)` can be asked of a step that was skipped.
pub(super) fn steps_value(
    scene: &Scene<'_>,
    outputs: &BTreeMap<String, Needed>,
    seen: &mut Seen,
) -> Result<Value, String> {
    let mut members: HashMap<String, Value> = HashMap::with_capacity(outputs.len());
    for (name, needed) in outputs {
        let output = parts::output(scene.output(name), name, needed, seen)?;
        let none = || needed.only_members().then(|| Value::from(HashMap::<String, Value>::new()));
        if let Some(output) = output.or_else(none) {
            members.insert(name.clone(), output);
        }
    }
    Ok(Value::from(members))
}

/// Attributes are small, and flat but for what CloudEvents has no name for.
fn value_of(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::from(items.iter().map(value_of).collect::<Vec<_>>()),
        Json::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), value_of(value)));
            Value::from(members.collect::<HashMap<String, Value>>())
        }
    }
}

/// Why an evaluation gave nothing, to follow "it". The library's own words quote values, which may be large or secret.
pub(super) fn reason(error: &ExecutionError, of_run: bool) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => {
            let mut name = name.to_string();
            super::super::limit::cut(&mut name, 64);
            let missing = if of_run { "is neither in the event nor among the outputs" } else { MISSING };
            format!("needs {name:?}, which {missing}")
        }
        ExecutionError::UndeclaredReference(_) => "needs data, and the event has none that is JSON".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "divides by zero".to_owned(),
        ExecutionError::Overflow(..) => "computes a number that is too large".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "needs an item that the list does not have".to_owned(),
        _ => "cannot be computed from values of these types".to_owned(),
    }
}
