//! `consumers`: who handles events.

use std::path::PathBuf;

use schemars::JsonSchema;

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Key, Kind, Node, Scalar, Span, Value, quoted};
use super::answers::{self, QuestionType};
use super::bounds;
use super::breaker::{self, Breaker};
use super::count::Count;
use super::delivery::{self, Batch, Beginning, PerKey};
use super::duration::Millis;
use super::expression;
use super::grants::{self, Grants, OneOrMany};
use super::limits::{self, Limits};
use super::rate::{self, Rate};
use super::retry::{self, Retry};
use super::size::Bytes;
use super::subscription::{self, Subscription, SubscriptionOrType};
use crate::model::spec::{KeySpec, Mode, OnDead, StartFrom};
use crate::model::{ConsumerName, Digest, Expression};

pub(crate) const SHAPE: Shape = Shape {
    what: "a consumer",
    keys: &[
        "component",
        "sha256",
        "on",
        "answers",
        "delivery",
        "from",
        "expires-after",
        "order-by",
        "on-dead",
        "idempotency-key",
        "idempotency-window",
        "rate",
        "concurrency",
        "concurrency-per-key",
        "batch",
        "breaker",
        "retry",
        "timeout",
        "timeout-max",
        "fuel",
        "memory",
        "chain-depth",
        "grants",
    ],
    later: &[],
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
    /// given. A step of a pipeline needs none; `[]` says that jobs alone are meant for it.
    #[schemars(with = "Option<OneOrMany<SubscriptionOrType>>")]
    pub on: Option<At<Vec<Subscription>>>,
    /// Types of the questions that it answers, one or a list; its component exports a `responder`. With it, `on` may be absent.
    #[schemars(with = "Option<OneOrMany<QuestionType>>")]
    pub answers: Vec<At<String>>,
    /// Whether deliveries come from the log, at least once, or straight from accept, at most once. Default `durable`.
    pub delivery: Option<At<Mode>>,
    /// Where in the log the consumer begins when it is deployed for the first time. Default `end`.
    #[schemars(with = "Option<Beginning>")]
    pub from: Option<At<StartFrom>>,
    /// A delivery that is not settled so long after it could first have been made is a dead letter. Default: never.
    pub expires_after: Option<At<Millis>>,
    /// Deliveries for which this gives the same key run one after another, in the order of the log; `"*"` is one key for
    /// all. Default: no order.
    #[schemars(with = "Option<expression::Text>")]
    pub order_by: Option<At<KeySpec>>,
    /// What a dead letter does to the deliveries behind it in the same order. Default `continue`.
    pub on_dead: Option<At<OnDead>>,
    /// Of all deliveries for which this gives the same key, one is done; the others are recorded as duplicates. Default: each
    /// event is delivered, whatever it says.
    #[schemars(with = "Option<expression::Text>")]
    pub idempotency_key: Option<At<Expression>>,
    /// How long a key that is done is remembered. Default `7d`.
    pub idempotency_window: Option<At<Millis>>,
    /// Attempts started per time. Default: no limit.
    pub rate: Option<At<Rate>>,
    /// Limits attempts at once of deliveries that have a key in common.
    pub concurrency_per_key: Option<At<PerKey>>,
    /// Gives the handler several deliveries at once.
    pub batch: Option<At<Batch>>,
    /// When nothing is attempted for a while; keys that are absent are those of `defaults`. Default: that of `defaults`.
    pub breaker: Option<At<Breaker>>,
    /// Wall clock of an attempt. Default: that of `defaults`.
    pub timeout: Option<At<Millis>>,
    /// How far an attempt that says that it is in progress may extend its `timeout`. Default: not at all.
    pub timeout_max: Option<At<Millis>>,
    /// Guest instructions of an attempt. Default: that of `defaults`.
    pub fuel: Option<At<Count>>,
    /// Linear memory of an attempt. Default: that of `defaults`.
    pub memory: Option<At<Bytes>>,
    /// Attempts at once. Default: that of `defaults`.
    pub concurrency: Option<At<Count>>,
    /// When a failed attempt is followed by another; keys that are absent are those of `defaults`.
    pub retry: Option<At<Retry>>,
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
    /// Of the keys.
    pub grants_span: Option<Span>,
    pub batch_span: Option<Span>,
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
        let key_span = |name: &str| fields.as_ref().and_then(|fields| fields.key_span(name));
        let (grants_span, batch_span) = (key_span("grants"), key_span("batch"));
        let consumer = fields.map(|fields| read(reader, &fields)).unwrap_or_default();
        if let Some(name) = name {
            consumers.push(Named { name, component_span, grants_span, batch_span, consumer });
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
    let on = fields.get("on").map(|node| At { value: subscription::read(reader, node, None), span: node.span.clone() });
    let Limits { timeout, fuel, memory, concurrency, chain_depth } = limits::read(reader, fields);
    let at = |key: &str| fields.get(key).map(|node| node.span.clone()).unwrap_or_default();
    let retry = fields.get("retry").and_then(|node| retry::read(reader, node));
    let breaker = fields.get("breaker").and_then(|node| breaker::read(reader, node));
    let grants = fields.get("grants").and_then(|node| grants::read(reader, node));
    Consumer {
        component,
        sha256,
        on,
        answers: fields.get("answers").map(|node| answers::read(reader, node)).unwrap_or_default(),
        delivery: fields.get("delivery").and_then(|node| reader.choice(node, "`delivery`", &MODES)),
        from: fields.get("from").and_then(|node| delivery::from(reader, node)),
        expires_after: fields
            .get("expires-after")
            .and_then(|node| reader.quantity(node, "`expires-after`", &bounds::EXPIRES)),
        order_by: fields.get("order-by").and_then(|node| delivery::order(reader, node)),
        on_dead: fields.get("on-dead").and_then(|node| reader.choice(node, "`on-dead`", &ON_DEAD)),
        idempotency_key: fields
            .get("idempotency-key")
            .and_then(|node| expression::key(reader, node, "`idempotency-key`")),
        idempotency_window: fields
            .get("idempotency-window")
            .and_then(|node| reader.quantity(node, "`idempotency-window`", &bounds::IDEMPOTENCY)),
        rate: fields.get("rate").and_then(|node| rate::read(reader, node, "`rate`")),
        concurrency_per_key: fields.get("concurrency-per-key").and_then(|node| delivery::per_key(reader, node)),
        batch: fields.get("batch").and_then(|node| delivery::batch(reader, node)),
        breaker: breaker.map(|value| At { value, span: at("breaker") }),
        timeout,
        timeout_max: fields
            .get("timeout-max")
            .and_then(|node| reader.quantity(node, "`timeout-max`", &bounds::TIMEOUT_MAX)),
        fuel,
        memory,
        concurrency,
        retry: retry.map(|value| At { value, span: at("retry") }),
        chain_depth,
        grants: grants.map(|value| At { value, span: at("grants") }),
    }
}

const MODES: [(&str, Mode); 2] = [("durable", Mode::Durable), ("ephemeral", Mode::Ephemeral)];
const ON_DEAD: [(&str, OnDead); 2] = [("continue", OnDead::Continue), ("hold", OnDead::Hold)];

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
