//! Limits of one consumer, each with a default.

use super::super::reader::{At, Fields, Reader};
use super::bounds;
use super::count::Count;
use super::duration::Millis;
use super::size::Bytes;

/// As written under a consumer or under `defaults`; what is absent is decided elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub timeout: Option<At<Millis>>,
    pub fuel: Option<At<Count>>,
    pub memory: Option<At<Bytes>>,
    pub concurrency: Option<At<Count>>,
    pub chain_depth: Option<At<Count>>,
}

pub(crate) fn read(reader: &mut Reader, fields: &Fields<'_>) -> Limits {
    Limits {
        timeout: fields.get("timeout").and_then(|node| reader.quantity(node, "`timeout`", &bounds::TIMEOUT)),
        fuel: fields.get("fuel").and_then(|node| reader.quantity(node, "`fuel`", &bounds::FUEL)),
        memory: fields.get("memory").and_then(|node| reader.quantity(node, "`memory`", &bounds::MEMORY)),
        concurrency: fields
            .get("concurrency")
            .and_then(|node| reader.quantity(node, "`concurrency`", &bounds::CONCURRENCY)),
        chain_depth: fields
            .get("chain-depth")
            .and_then(|node| reader.quantity(node, "`chain-depth`", &bounds::CHAIN_DEPTH)),
    }
}
