//! `consumers`: who handles events.

use std::path::PathBuf;

use schemars::JsonSchema;

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Key, Kind, Node, Scalar, Span, Value, quoted};
use super::count::Count;
use super::duration::Millis;
use super::grants::{self, Grants, OneOrMany};
use super::limits::{self, Limits};
use super::retry::{self, Retry};
use super::size::Bytes;
use super::subscription::{self, Subscription, SubscriptionOrType};
use crate::model::{ConsumerName, Digest};

pub(crate) const SHAPE: Shape = Shape {
    what: "a consumer",
    keys: &["component", "sha256", "on", "timeout", "fuel", "memory", "concurrency", "retry", "chain-depth", "grants"],
    later: &[
        "breaker",
        "rate",
        "order-by",
        "idempotency-key",
        "key",
        "batch",
        "delivery",
        "answers",
        "where",
        "from",
        "expires-after",
    ],
};

/// A compiled component that handles events.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Consumer {
    /// The component's file. May be left out if the drop folder has a file of this consumer's name.
    #[schemars(with = "Option<String>")]
    pub component: Option<At<PathBuf>>,
    /// SHA-256 of the component's file in 64 hex digits; if given, no other file is accepted.
    #[schemars(with = "Option<String>")]
    pub sha256: Option<At<Digest>>,
    /// Which events it gets: a type or pattern, a map, or a list of them. In the drop folder, the folder's name unless
    /// given.
    #[schemars(with = "Option<OneOrMany<SubscriptionOrType>>")]
    pub on: Option<At<Vec<Subscription>>>,
    /// Wall clock of an attempt. Default: that of `defaults`.
    pub timeout: Option<At<Millis>>,
    /// Guest instructions of an attempt. Default: that of `defaults`.
    pub fuel: Option<At<Count>>,
    /// Linear memory of an attempt. Default: that of `defaults`.
    pub memory: Option<At<Bytes>>,
    /// Attempts at once. Default: that of `defaults`.
    pub concurrency: Option<At<Count>>,
    /// When a failed attempt is followed by another; keys that are absent are those of `defaults`.
    pub retry: Option<Retry>,
    /// How many events may cause one another before one is refused. Default: that of `defaults`.
    pub chain_depth: Option<At<Count>>,
    /// What it may do besides computing. Default: nothing.
    pub grants: Option<At<Grants>>,
}

impl Consumer {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            timeout: self.timeout.clone(),
            fuel: self.fuel.clone(),
            memory: self.memory.clone(),
            concurrency: self.concurrency.clone(),
            chain_depth: self.chain_depth.clone(),
        }
    }
}

/// A consumer under its name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub name: At<ConsumerName>,
    /// Of the `component` key, or the name.
    pub component_span: Span,
    pub grants_span: Option<Span>,
    pub consumer: Consumer,
}

pub(crate) fn read_all(reader: &mut Reader, node: &Node) -> Vec<Named> {
    let mut consumers = Vec::new();
    for (key, node) in reader.named(node, "`consumers`") {
        let name = name(reader, key);
        let fields = match &node.value {
            // A name alone is enough for a file in the drop folder.
            Value::Scalar(Scalar { kind: Kind::Null, .. }) => None,
            _ => match reader.fields(node, &SHAPE) {
                Some(fields) => Some(fields),
                None => continue,
            },
        };
        let span_of = |name: &str| fields.as_ref().and_then(|fields| fields.get(name)).map(|node| node.span.clone());
        let component_span = span_of("component").unwrap_or_else(|| key.span.clone());
        let grants_span = fields.as_ref().and_then(|fields| fields.key_span("grants"));
        let consumer = fields.map(|fields| read(reader, &fields)).unwrap_or_default();
        if let Some(name) = name {
            consumers.push(Named { name, component_span, grants_span, consumer });
        }
    }
    consumers
}

fn name(reader: &mut Reader, key: &Key) -> Option<At<ConsumerName>> {
    match ConsumerName::new(&key.text) {
        Ok(value) => Some(At { value, span: key.span.clone() }),
        Err(reason) => {
            let message = format!("{} cannot name a consumer", quoted(&key.text));
            reader.error(codes::NAME, key.span.clone(), message, "", reason);
            None
        }
    }
}

fn read(reader: &mut Reader, fields: &super::super::reader::Fields<'_>) -> Consumer {
    let component = fields.get("component").and_then(|node| reader.path(node, "`component`"));
    let sha256 = fields.get("sha256").and_then(|node| digest(reader, node));
    let on = fields.get("on").map(|node| At { value: subscription::read(reader, node), span: node.span.clone() });
    let Limits { timeout, fuel, memory, concurrency, chain_depth } = limits::read(reader, fields);
    let retry = fields.get("retry").and_then(|node| retry::read(reader, node));
    let grants =
        fields.get("grants").and_then(|node| Some(At { value: grants::read(reader, node)?, span: node.span.clone() }));
    Consumer { component, sha256, on, timeout, fuel, memory, concurrency, retry, chain_depth, grants }
}

fn digest(reader: &mut Reader, node: &Node) -> Option<At<Digest>> {
    let text = reader.scalar(node, "`sha256`", "64 hex digits")?;
    let digest = Digest::parse(text).filter(|_| text.chars().all(|c| c.is_ascii_hexdigit()));
    if digest.is_none() {
        let message = format!("{} is not a SHA-256 digest", reader.written(node));
        let help = "write the 64 hex digits that `sha256sum FILE` prints";
        reader.error(codes::DIGEST, node.span.clone(), message, "expected 64 hex digits", help);
    }
    digest.map(|value| At { value, span: node.span.clone() })
}
