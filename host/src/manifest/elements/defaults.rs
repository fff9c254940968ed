//! `defaults`: what holds for every consumer that does not say otherwise.

use schemars::JsonSchema;

use super::super::reader::{At, Reader, Shape};
use super::super::yaml::Node;
use super::breaker::{self, Breaker};
use super::count::Count;
use super::duration::Millis;
use super::limits::{self, Limits};
use super::retry::{self, Retry};
use super::size::Bytes;

pub(crate) const SHAPE: Shape = Shape {
    what: "`defaults`",
    keys: &["timeout", "fuel", "memory", "concurrency", "retry", "breaker", "chain-depth"],
    later: &["rate", "batch", "delivery"],
};

/// What holds for every consumer that does not say otherwise.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Defaults {
    /// Wall clock of an attempt. Default `30s`.
    pub timeout: Option<At<Millis>>,
    /// Guest instructions of an attempt. Default `1_000_000_000`.
    pub fuel: Option<At<Count>>,
    /// Linear memory of an attempt. Default `64MiB`.
    pub memory: Option<At<Bytes>>,
    /// Attempts of one consumer at once. Default 16.
    pub concurrency: Option<At<Count>>,
    /// When a failed attempt is followed by another.
    pub retry: Option<Retry>,
    /// When nothing is attempted for a while because too much has failed. Default: never.
    pub breaker: Option<Breaker>,
    /// How many events may cause one another before one is refused. Default 8.
    pub chain_depth: Option<At<Count>>,
}

impl Defaults {
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

pub(crate) fn read(reader: &mut Reader, node: &Node) -> Option<Defaults> {
    let fields = reader.fields(node, &SHAPE)?;
    let Limits { timeout, fuel, memory, concurrency, chain_depth } = limits::read(reader, &fields);
    let retry = fields.get("retry").and_then(|node| retry::read(reader, node));
    let breaker = fields.get("breaker").and_then(|node| breaker::read(reader, node));
    Some(Defaults { timeout, fuel, memory, concurrency, retry, breaker, chain_depth })
}
