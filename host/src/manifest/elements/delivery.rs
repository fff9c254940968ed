//! How deliveries reach a consumer: when, in which order, how fast, how many at once.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Kind, Node, Scalar, Value};
use super::bounds;
use super::count::Count;
use super::duration::Millis;
use super::expression;
use crate::model::spec::{KeySpec, StartFrom};
use crate::model::{Expression, Timestamp};

pub(crate) const BATCH_SHAPE: Shape = Shape { what: "`batch`", keys: &["size", "wait"], later: &[] };
pub(crate) const SHARE_SHAPE: Shape = Shape { what: "`concurrency-per-key`", keys: &["key", "limit"], later: &[] };

/// Deliveries that the handler gets together; the component exports `batch-handler`.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Batch {
    /// At most so many.
    #[schemars(with = "Count")]
    pub size: At<Count>,
    /// How long a delivery may wait for others. Default `100ms`.
    pub wait: Option<At<Millis>>,
}

/// Attempts at once of deliveries with one key.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct PerKey {
    /// What they have in common.
    #[schemars(with = "expression::Text")]
    pub key: At<Expression>,
    /// At most so many. Default 1.
    pub limit: Option<At<Count>>,
}

/// `start`, `end`, a sequence or a time.
pub(crate) struct Beginning;

impl JsonSchema for Beginning {
    fn schema_name() -> Cow<'static, str> {
        "Beginning".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`end`, `start`, a sequence of the log, or a time as RFC 3339 writes it: `2026-03-01T00:00:00Z`.",
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "minLength": 1 }],
        })
    }
}

pub(crate) fn order(reader: &mut Reader, node: &Node) -> Option<At<KeySpec>> {
    if let Value::Scalar(Scalar { kind: Kind::Text, text, .. }) = &node.value
        && text == "*"
    {
        return Some(At { value: KeySpec::One, span: node.span.clone() });
    }
    expression::key(reader, node, "`order-by`").map(|at| At { value: KeySpec::Of(at.value), span: at.span })
}

pub(crate) fn batch(reader: &mut Reader, node: &Node) -> Option<At<Batch>> {
    let fields = reader.fields(node, &BATCH_SHAPE)?;
    let wait = fields.get("wait").and_then(|node| reader.quantity(node, "`wait`", &bounds::BATCH_WAIT));
    let Some(size) = fields.get("size") else {
        reader.missing(&fields, "size", "say how many at most: `size: 100`");
        return None;
    };
    let size = reader.quantity(size, "`size`", &bounds::BATCH_SIZE)?;
    Some(At { value: Batch { size, wait }, span: node.span.clone() })
}

pub(crate) fn per_key(reader: &mut Reader, node: &Node) -> Option<At<PerKey>> {
    let fields = reader.fields(node, &SHARE_SHAPE)?;
    let limit = fields.get("limit").and_then(|node| reader.quantity(node, "`limit`", &bounds::CONCURRENCY));
    let Some(key) = fields.get("key") else {
        reader.missing(&fields, "key", "say what they have in common: `key: data.customerId`");
        return None;
    };
    let key = expression::key(reader, key, "`key`")?;
    Some(At { value: PerKey { key, limit }, span: node.span.clone() })
}

pub(crate) fn from(reader: &mut Reader, node: &Node) -> Option<At<StartFrom>> {
    let text = reader.scalar(node, "`from`", "a place in the log")?;
    let digits = text.chars().all(|c| c.is_ascii_digit() || c == '_') && !text.is_empty();
    let sequence = || text.replace('_', "").parse::<u64>().ok().filter(|seq| *seq > 0).map(StartFrom::Sequence);
    let value = match text {
        "start" => Some(StartFrom::Start),
        "end" => Some(StartFrom::End),
        _ if digits => sequence(),
        _ => Timestamp::parse(text).ok().map(StartFrom::Time),
    };
    if value.is_none() {
        let message = format!("{} is not a place in the log", reader.written(node));
        let help = "write `start`, `end`, a sequence from 1, or a time such as 2026-03-01T00:00:00Z";
        reader.error(codes::BEGINNING, node.span.clone(), message, "", help);
    }
    value.map(|value| At { value, span: node.span.clone() })
}
