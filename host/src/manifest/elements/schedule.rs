//! `schedules`: events at times of the clock.

use schemars::JsonSchema;
use serde_json::{Map, Number};

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Kind, Node, Value, quoted};
use crate::model::ConsumerName;
use crate::model::event::HOST_SEGMENT;
use crate::model::limit::ATTRIBUTE_BYTES_MAX;
use crate::model::route;
use crate::model::schedule::{Fault, Slots};

pub(crate) const SHAPE: Shape = Shape { what: "a schedule", keys: &["cron", "zone", "emit"], later: &[] };
pub(crate) const EMIT_SHAPE: Shape = Shape { what: "`emit`", keys: &["type", "subject", "key", "data"], later: &[] };

/// How a cron expression is written.
const FIELDS: &str = "write minute, hour, day of the month, month and day of the week: `0 3 * * *` is 03:00 on every day, `*/5 * * * *` every \
                      five minutes";

/// Emits an event at times of the clock, from source `/tidegate/schedules/NAME`. Each slot fires once. Of those that were
/// missed, because the host was stopped or its clock jumped, only the latest fires.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Schedule {
    /// Minute, hour, day of the month, month, day of the week: `0 3 * * *`. Values, ranges (`1-5`), lists (`1,15`), steps
    /// (`*/15`), names (`MON`, `JAN`). A day that is one of either kind of days counts, if both are restricted.
    #[schemars(with = "String")]
    pub cron: At<Slots>,
    /// Time zone by its IANA name, such as `Europe/Berlin`. A time that the clock passes over fires at the moment after; one
    /// that comes twice fires once, unless the rule is for every hour. Default `UTC`.
    #[schemars(with = "Option<String>")]
    #[expect(dead_code, reason = "is part of `cron`, where it is needed")]
    pub zone: Option<()>,
    /// What happens then.
    pub emit: Emit,
}

/// An event that a schedule emits. Its `slot` attribute says for which time.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Emit {
    /// The event's type.
    #[schemars(with = "String", rename = "type")]
    pub event_type: At<String>,
    /// What it is about.
    pub subject: Option<At<String>>,
    /// Ordering key.
    pub key: Option<At<String>>,
    /// The payload, as JSON. Default: none.
    #[schemars(with = "Option<Anything>")]
    pub data: Option<At<serde_json::Value>>,
}

struct Anything;

impl JsonSchema for Anything {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Anything".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({})
    }
}

pub(crate) fn read_all(reader: &mut Reader, node: &Node) -> Vec<(At<String>, Schedule)> {
    let mut schedules = Vec::new();
    for (key, node) in reader.named(node, "`schedules`") {
        let schedule = read(reader, node);
        match ConsumerName::new(&key.text) {
            Ok(_) => {
                let name = At { value: key.text.clone(), span: key.span.clone() };
                schedules.extend(schedule.map(|schedule| (name, schedule)));
            }
            Err(reason) => {
                let message = format!("{} cannot name a schedule", quoted(&key.text));
                reader.error(codes::NAME, key.span.clone(), message, "", reason.replace("consumer", "schedule"));
            }
        }
    }
    schedules
}

fn read(reader: &mut Reader, node: &Node) -> Option<Schedule> {
    let fields = reader.fields(node, &SHAPE)?;
    let zone = match fields.get("zone") {
        Some(node) => Some(reader.text(node, "`zone`")?),
        None => None,
    };
    let emit = match fields.get("emit") {
        Some(node) => emit(reader, node),
        None => {
            reader.missing(&fields, "emit", "say what is emitted: `emit: { type: report.requested }`");
            None
        }
    };
    let Some(node) = fields.get("cron") else {
        reader.missing(&fields, "cron", "say when, such as `cron: \"0 3 * * *\"`");
        return None;
    };
    let cron = slots(reader, node, zone.as_ref())?;
    Some(Schedule { cron, zone: None, emit: emit? })
}

fn slots(reader: &mut Reader, node: &Node, zone: Option<&At<String>>) -> Option<At<Slots>> {
    let text = reader.text(node, "`cron`")?;
    let name = zone.map_or("UTC", |zone| zone.value.as_str());
    let written = reader.written(node);
    match Slots::new(&text.value, name) {
        Ok(value) => return Some(At { value, span: text.span }),
        Err(Fault::Word(fields)) => {
            let help = match fields {
                Some(fields) => format!("write the five fields that mean the same: `cron: \"{fields}\"`"),
                None => FIELDS.to_owned(),
            };
            let message = format!("{written} is not a cron expression");
            reader.error(codes::CRON, text.span, message, "words that begin with `@` are not taken", help);
        }
        Err(Fault::Cron(reason)) => {
            // A field may come from the environment: only what stands in the file is shown.
            let remark = if written.contains("${") { String::new() } else { reason };
            reader.error(codes::CRON, text.span, format!("{written} is not a cron expression"), remark, FIELDS);
        }
        Err(Fault::Never) => {
            let message = format!("{written} never fires");
            let help = "no month of those named has such a day";
            reader.error(codes::NEVER_FIRES, text.span, message, "there is no such day", help);
        }
        Err(Fault::Zone) => {
            let span = zone.map_or(text.span, |zone| zone.span.clone());
            let message = "there is no such time zone".to_owned();
            let help = "use a name of the IANA database, such as Europe/Berlin or UTC";
            reader.error(codes::ZONE, span, message, "", help);
        }
    }
    None
}

fn emit(reader: &mut Reader, node: &Node) -> Option<Emit> {
    let fields = reader.fields(node, &EMIT_SHAPE)?;
    let mut short = |key: &str| {
        let text = reader.text(fields.get(key)?, &format!("`{key}`"))?;
        if text.value.len() > ATTRIBUTE_BYTES_MAX {
            let message = format!("`{key}` has at most {ATTRIBUTE_BYTES_MAX} bytes");
            reader.error(codes::OUT_OF_RANGE, text.span, message, "too long", "put what is long into `data`");
            return None;
        }
        Some(text)
    };
    let (subject, key) = (short("subject"), short("key"));
    let data = match fields.get("data") {
        Some(node) => json(reader, node).map(|value| Some(At { value, span: node.span.clone() })),
        None => Some(None),
    };
    let Some(node) = fields.get("type") else {
        reader.missing(&fields, "type", "write it like `type: report.requested`");
        return None;
    };
    Some(Emit { event_type: event_type(reader, node)?, subject, key, data: data? })
}

fn event_type(reader: &mut Reader, node: &Node) -> Option<At<String>> {
    let text = reader.text(node, "`type`")?;
    if let Err(reason) = route::check_type(&text.value) {
        let message = format!("{} is not an event type", reader.written(node));
        reader.error(codes::EVENT_TYPE, text.span, message, "", reason);
        return None;
    }
    if route::is_host_type(&text.value) {
        let message = format!("`{HOST_SEGMENT}.…` is for the host's own events");
        reader.error(codes::RESERVED_TYPE, text.span, message, "", "choose a type of your own");
        return None;
    }
    Some(text)
}

/// YAML as JSON.
fn json(reader: &mut Reader, node: &Node) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    match &node.value {
        Value::List(items) => items.iter().map(|item| json(reader, item)).collect::<Option<Vec<_>>>().map(Json::Array),
        Value::Map(_) => {
            let mut members = Map::new();
            for (key, node) in reader.named(node, "`data`") {
                members.insert(key.text.clone(), json(reader, node)?);
            }
            Some(Json::Object(members))
        }
        Value::Scalar(scalar) => match scalar.kind {
            Kind::Null => Some(Json::Null),
            Kind::Bool(truth) => Some(Json::Bool(truth)),
            Kind::Text => Some(Json::String(scalar.text.clone())),
            Kind::Broken => None,
            Kind::Number => {
                let number = scalar.text.replace('_', "").parse::<Number>().ok();
                if number.is_none() {
                    let message = format!("{} is not a number of JSON", reader.written(node));
                    let help = "write it in decimal digits, or in quotes if text is meant";
                    reader.error(codes::WRONG_TYPE, node.span.clone(), message, "", help);
                }
                number.map(Json::Number)
            }
        },
    }
}
