//! `pipelines`: steps that an event begins, one after another or side by side, and what becomes of them when one fails.

use schemars::JsonSchema;

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Key, Node, quoted};
use super::bounds;
use super::duration::Millis;
use super::expression;
use super::grants::OneOrMany;
use super::step::{self, Item, Listed};
use super::subscription::{self, Subscription, SubscriptionOrType};
use crate::model::pipeline::OnFailure;
use crate::model::{ConsumerName, Expression};

pub(crate) const SHAPE: Shape =
    Shape { what: "a pipeline", keys: &["on", "key", "timeout", "on-failure", "steps"], later: &[] };

/// Steps that an event begins. One journey of an event through them is a run: it survives restarts, and goes by the definition
/// with which it began.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Pipeline {
    /// Which events begin a run: a type or pattern, a map, or a list of them.
    #[schemars(with = "OneOrMany<SubscriptionOrType>")]
    pub on: At<Vec<Subscription>>,
    /// One run a key: another event with the key of a run, open or ended, is recorded as its duplicate. Default: each event
    /// begins a run.
    #[schemars(with = "Option<expression::Text>")]
    pub key: Option<At<Expression>>,
    /// A run that has not ended so long after it began has failed. Default: never.
    pub timeout: Option<At<Millis>>,
    /// What becomes of a run when a step fails. Default `compensate`.
    pub on_failure: Option<At<OnFailure>>,
    /// What a run does, in order.
    #[schemars(with = "Vec<Listed>")]
    pub steps: At<Vec<Item>>,
}

/// A pipeline under its name.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub name: At<ConsumerName>,
    pub pipeline: Pipeline,
}

pub(crate) fn read_all(reader: &mut Reader, node: &Node) -> Vec<Named> {
    let mut pipelines = Vec::new();
    for (key, node) in reader.named(node, "`pipelines`") {
        let name = name(reader, key);
        if let (Some(pipeline), Some(name)) = (read(reader, node), name) {
            pipelines.push(Named { name, pipeline });
        }
    }
    pipelines
}

fn name(reader: &mut Reader, key: &Key) -> Option<At<ConsumerName>> {
    match ConsumerName::new(&key.text) {
        Ok(value) => Some(At { value, span: key.span.clone() }),
        Err(reason) => {
            let message = format!("{} cannot name a pipeline", quoted(&key.text));
            reader.error(codes::NAME, key.span.clone(), message, "", reason.replace("consumer", "pipeline"));
            None
        }
    }
}

fn read(reader: &mut Reader, node: &Node) -> Option<Pipeline> {
    let fields = reader.fields(node, &SHAPE)?;
    let choices = [("compensate", OnFailure::Compensate), ("stop", OnFailure::Stop), ("continue", OnFailure::Continue)];
    let key = fields.get("key").and_then(|node| expression::key(reader, node, "`key`"));
    let timeout = fields.get("timeout").and_then(|node| reader.quantity(node, "`timeout`", &bounds::RUN));
    let on_failure = fields.get("on-failure").and_then(|node| reader.choice(node, "`on-failure`", &choices));
    let on = match fields.get("on") {
        Some(node) => {
            let value = subscription::read(reader, node, Some("a pipeline of no events never runs"));
            Some(At { value, span: node.span.clone() })
        }
        None => {
            reader.missing(&fields, "on", "say which events begin a run: `on: order.created`");
            None
        }
    };
    let Some(steps) = fields.get("steps") else {
        reader.missing(&fields, "steps", "say what a run does: `steps: [{ name: reserve, consumer: reserve-stock }]`");
        return None;
    };
    let steps = step::list(reader, steps, "`steps`");
    Some(Pipeline { on: on?, key, timeout, on_failure, steps })
}
