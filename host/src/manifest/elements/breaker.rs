//! `breaker`: when nothing is attempted for a while because too much has failed.

use schemars::JsonSchema;

use super::super::reader::{At, Reader, Shape};
use super::super::yaml::Node;
use super::bounds;
use super::count::Count;
use super::duration::Millis;

pub(crate) const SHAPE: Shape = Shape { what: "`breaker`", keys: &["failures", "window", "recovery"], later: &[] };

/// After too many failures nothing is attempted for a while; then one delivery shows whether the consumer works again.
/// Deliveries wait in the meantime, and no attempt is used up.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Breaker {
    /// Failed attempts within `window` that open it. Default 5.
    pub failures: Option<At<Count>>,
    /// How long a failure counts. Default `60s`.
    pub window: Option<At<Millis>>,
    /// From opening to the next attempt. Default `30s`.
    pub recovery: Option<At<Millis>>,
}

pub(crate) fn read(reader: &mut Reader, node: &Node) -> Option<Breaker> {
    let fields = reader.fields(node, &SHAPE)?;
    Some(Breaker {
        failures: fields
            .get("failures")
            .and_then(|node| reader.quantity(node, "`failures`", &bounds::BREAKER_FAILURES)),
        window: fields.get("window").and_then(|node| reader.quantity(node, "`window`", &bounds::BREAKER_WINDOW)),
        recovery: fields
            .get("recovery")
            .and_then(|node| reader.quantity(node, "`recovery`", &bounds::BREAKER_RECOVERY)),
    })
}
