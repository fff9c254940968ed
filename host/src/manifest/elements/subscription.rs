//! `on`: which events a consumer gets.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::diagnostic::Diagnostic;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Node, Value};
use super::expression;
use crate::model::{Expression, TypePattern};

pub(crate) const SHAPE: Shape = Shape { what: "a subscription", keys: &["type", "version", "where"], later: &[] };

/// The rule that ties events to a consumer.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Subscription {
    /// An event type, or a pattern: `order.*` is any one segment, `order.**` any number.
    #[schemars(with = "Pattern", rename = "type")]
    pub pattern: At<TypePattern>,
    /// Versions of the payload's schema that the consumer understands, such as `^1` or `>=1.2, <3`. Default: all.
    #[schemars(with = "Option<String>")]
    pub version: Option<At<semver::VersionReq>>,
    /// Which of those events. One for which it cannot be evaluated is not meant. Default: all.
    #[schemars(with = "Option<expression::Text>", rename = "where")]
    pub condition: Option<At<Expression>>,
}

impl Subscription {
    /// Whether every event that the other means is meant by this one, as far as that can be seen.
    fn covers(&self, other: &Self) -> bool {
        fn wider<T: PartialEq>(one: &Option<At<T>>, other: &Option<At<T>>) -> bool {
            one.as_ref().is_none_or(|one| other.as_ref().is_some_and(|other| one.value == other.value))
        }
        self.pattern.value == other.pattern.value
            && wider(&self.version, &other.version)
            && wider(&self.condition, &other.condition)
    }
}

/// A type, or a type with a version.
pub(crate) struct SubscriptionOrType;

impl JsonSchema for SubscriptionOrType {
    fn schema_name() -> Cow<'static, str> {
        "SubscriptionOrType".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (pattern, map) = (generator.subschema_for::<Pattern>(), generator.subschema_for::<Subscription>());
        json_schema!({ "anyOf": [pattern, map] })
    }
}

pub(crate) struct Pattern;

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "EventPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An event type such as `order.created` or `shop:order.created`, or a pattern: `*` stands for one segment, `**` for the rest.",
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
        })
    }
}

/// `idle`: what to warn of where there is none.
pub(crate) fn read(reader: &mut Reader, node: &Node, idle: Option<&str>) -> Vec<Subscription> {
    let mut list: Vec<Subscription> = Vec::new();
    if let (Some(idle), Value::List(items)) = (idle, &node.value)
        && items.is_empty()
    {
        let warning = Diagnostic::warning(codes::NO_SUBSCRIPTION, idle)
            .at(&reader.source, node.span.clone(), "subscribes to nothing")
            .help("say which events it gets: `on: order.created`");
        reader.push(warning);
    }
    for item in reader.one_or_many(node) {
        let Some(subscription) = one(reader, item) else { continue };
        if let Some(first) = list.iter().find(|other| other.covers(&subscription) || subscription.covers(other)) {
            let message = format!("`{}` is subscribed to twice", subscription.pattern.value);
            let problem = Diagnostic::error(codes::REPEATED, message)
                .at(&reader.source, subscription.pattern.span, "again here")
                .at(&reader.source, first.pattern.span.clone(), "first here")
                .help("keep one of the two; a consumer gets an event once, however many of its subscriptions match");
            reader.push(problem);
            continue;
        }
        list.push(subscription);
    }
    list
}

fn one(reader: &mut Reader, node: &Node) -> Option<Subscription> {
    if !matches!(node.value, Value::Map(_)) {
        return Some(Subscription { pattern: pattern(reader, node, "`on`")?, version: None, condition: None });
    }
    let fields = reader.fields(node, &SHAPE)?;
    let version = fields.get("version").and_then(|node| requirement(reader, node));
    let condition = fields.get("where").and_then(|node| expression::condition(reader, node, "`where`"));
    let Some(node) = fields.get("type") else {
        reader.missing(&fields, "type", "write it like `type: order.created`");
        return None;
    };
    Some(Subscription { pattern: pattern(reader, node, "`type`")?, version, condition })
}

pub(crate) fn pattern(reader: &mut Reader, node: &Node, what: &str) -> Option<At<TypePattern>> {
    let text = reader.text(node, what)?;
    match TypePattern::new(&text.value) {
        Ok(value) => Some(At { value, span: text.span }),
        Err(reason) => {
            let message = format!("{} is not an event type or pattern", reader.written(node));
            reader.error(codes::EVENT_TYPE, text.span, message, "", reason);
            None
        }
    }
}

fn requirement(reader: &mut Reader, node: &Node) -> Option<At<semver::VersionReq>> {
    let text = reader.scalar(node, "`version`", "a version range")?;
    match semver::VersionReq::parse(text) {
        Ok(value) => Some(At { value, span: node.span.clone() }),
        Err(error) => {
            let message = format!("{} is not a range of versions", reader.written(node));
            let help = "write it like ^1, ~1.2 or \">=1.2, <3\"";
            reader.error(codes::VERSION, node.span.clone(), message, error.to_string(), help);
            None
        }
    }
}
