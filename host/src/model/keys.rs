//! By which rules a consumer's deliveries find their keys, so that a reload which changes them is noticed.

use super::spec::{DeliverySpec, KeySpec};
use super::{Event, Seq, Timestamp};

/// The rules as text: what was keyed under others must be keyed anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyRules {
    /// `order-by` or `concurrency-per-key`: who waits for whom. Empty: nobody for anybody.
    pub lines: String,
    /// `idempotency-key`: what is settled. Empty: nothing is remembered.
    pub marks: String,
}

impl KeyRules {
    pub fn of(spec: &DeliverySpec) -> Self {
        let order = spec.order.as_ref().map(|order| match &order.by {
            KeySpec::One => "order-by: *".to_owned(),
            KeySpec::Of(expression) => format!("order-by: {}", expression.source()),
        });
        let share = spec.share.as_ref().map(|share| format!("concurrency-per-key: {}", share.key.source()));
        let marks = spec.idempotency.as_ref().map(|idempotency| idempotency.key.source().to_owned());
        Self { lines: order.or(share).unwrap_or_default(), marks: marks.unwrap_or_default() }
    }
}

/// An ordering key that the dead letter of this event and round holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeldKey {
    pub key: String,
    pub seq: Seq,
    pub round: u32,
}

/// How a delivery that the log has a row for waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub key: Option<String>,
    /// For its key, and not for its due time.
    pub blocked: bool,
    pub due_at: Timestamp,
}

/// How a delivery that has been called so often waits under these rules, if it waited so under others.
///
/// In an ordered line all wait for their turn, in the order of the log, and only then for their due time: under other rules several
/// of one line may have begun to wait for theirs. But what was redriven goes before the line that it may hold up.
pub fn place(spec: &DeliverySpec, event: &Event, (round, calls): (u32, u32), before: &Place) -> Place {
    let key = held_key(spec, event).or_else(|| spec.share.as_ref()?.key.key(event).ok());
    let waits = if spec.order.is_some() { round == 0 } else { before.blocked };
    let blocked = waits && key.is_some();
    // Whoever waited for a key and was not called yet had no due time of its own, unless the event has one: which is not for
    // those that somebody has asked for again.
    let freed = before.blocked && !blocked && calls == 0;
    let not_before = event.envelope.not_before.filter(|_| round == 0);
    let due_at = if freed { not_before.unwrap_or(Timestamp(0)) } else { before.due_at };
    Place { key, blocked, due_at }
}

/// The key that a dead letter of this event holds, if these rules have one for it.
pub fn held_key(spec: &DeliverySpec, event: &Event) -> Option<String> {
    spec.order.as_ref()?.by.of(event).ok()
}
