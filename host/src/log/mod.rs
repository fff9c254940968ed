//! Where events live, and where what came of them is made durable.
//!
//! What every log promises (the conformance suite says the same in code):
//!
//! 1. When `append` answers, the events survive a crash and a power loss. Their sequence numbers are dense, increasing
//!    and never reused. The pair (source, id) is accepted once: the same statement again is answered *duplicate* with the sequence it
//!    has, a different one is a *conflict*.
//! 2. `settle` makes everything that an attempt caused durable, or nothing of it: the outcome, the delivery's next
//!    state, the published events, the state writes, the dead letter with its event. A settlement whose state reads are no
//!    longer true is a conflict and leaves no trace.
//! 3. `commits` tells, in the order of the log and without gaps, what has become durable: events, settlements, new
//!    deliveries made by a redrive, and from which sequence on a generation is live. Whoever listens from the start knows everything.
//! 4. After a restart `recover` gives back what is left to do: nothing settled is given back, nothing unsettled is missing.

pub mod memory;
pub mod sqlite;

#[cfg(test)]
pub(crate) mod conformance;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::model::delivery::DeathCause;
use crate::model::outcome::{LogLine, StateChanges, Usage};
use crate::model::spec::SubscriptionSpec;
use crate::model::{
    ConsumerName, Delivery, DeliveryId, Digest, Envelope, Event, Generation, Outcome, Payload, Seq, Timestamp,
};

pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// The durable, ordered sequence of events with all that is settled about them.
pub trait EventLog: Send + Sync {
    /// Appends all of them or none, in order. Answers after the commit is on disk.
    fn append(&self, events: Vec<Envelope>) -> Pending<Vec<Appended>>;

    /// Makes an attempt's consequences durable.
    fn settle(&self, settlement: Settlement) -> Pending<Settled>;

    /// Makes a deployment the live one for events appended from now on.
    fn activate(&self, activation: Activation) -> Pending<Activated>;

    /// Acts on dead letters: new deliveries, or a mark that nobody needs them any more. Answers which.
    fn decide_dead(&self, dead: DeadSelection, decision: DeadDecision) -> Pending<Vec<DeliveryId>>;

    /// Notes how far a consumer has come: every delivery of an event up to this one is settled or waiting. Only a
    /// hint that shortens recovery, so it is not waited for.
    fn advance(&self, positions: Vec<(ConsumerName, Seq)>);

    /// Up to `limit` events after `after`, in order; fewer if they are large, none only at the end of the log.
    fn read(&self, after: Seq, limit: usize) -> Pending<Vec<Arc<Event>>>;

    /// What is left to do for a consumer.
    fn recover(&self, consumer: ConsumerName) -> Pending<Recovery>;

    /// Up to `limit` waiting deliveries of a consumer, by due time and id, after the given one.
    fn waiting(
        &self,
        consumer: ConsumerName,
        after: Option<(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Pending<Vec<Waiting>>;
}

/// The answer to one appended event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    pub seq: Seq,
    /// The same statement was there already.
    pub duplicate: bool,
}

/// Everything that an attempt causes. Computed by a pure function, applied in one place.
#[derive(Clone, Debug)]
pub struct Settlement {
    pub delivery: DeliveryId,
    /// Where the delivery stands after the attempt.
    pub next: Delivery,
    pub record: AttemptRecord,
    /// To be appended: what the guest published, and the dead letter's event.
    pub events: Vec<Envelope>,
    pub state: StateChanges,
    /// Bytes that the consumer may keep in state.
    pub state_quota: u64,
    pub death: Option<DeathCause>,
}

impl Settlement {
    /// How many events the attempt itself published.
    pub fn published(&self) -> usize {
        self.events.len().saturating_sub(usize::from(self.death.is_some()))
    }
}

/// What is written down about one attempt.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// Call of the handler, from 1.
    pub call: u32,
    /// Attempt, from 1.
    pub attempt: u32,
    pub outcome: Outcome,
    pub reason: Option<String>,
    pub output: Option<Payload>,
    pub logs: Vec<LogLine>,
    pub logs_dropped: u64,
    pub started_at: Timestamp,
    pub usage: Usage,
    pub generation: Generation,
    pub component: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    Committed,
    /// A key that the attempt had read has changed: run it again, at no cost.
    Conflict,
    /// The outcome of this call is recorded already, by whoever was faster. Nothing was changed.
    Fenced,
    /// The writes would pass the consumer's quota. Nothing was changed.
    OverQuota,
}

/// A deployment on its way to being live.
#[derive(Clone, Debug)]
pub struct Activation {
    /// Digest of the resolved manifest and of every component's file: the same digest goes on with the same generation.
    pub digest: Digest,
    /// For each consumer what it subscribes to.
    pub subscriptions: Vec<(ConsumerName, Vec<SubscriptionSpec>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activated {
    pub generation: Generation,
    /// The first sequence for which it is live.
    pub from: Seq,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub struct DeadSelection {
    /// These, if not empty.
    pub ids: Vec<DeliveryId>,
    pub consumer: Option<ConsumerName>,
    pub event_type: Option<String>,
    /// Died at or after, and before.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// `rejected`, `refused` or `attempts-exhausted`.
    pub cause: Option<DeathCause>,
    /// At most so many; the oldest first.
    pub limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadDecision {
    Redrive,
    Discard,
}

/// A delivery that is stored because it must wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub id: DeliveryId,
    pub delivery: Delivery,
}

/// What is left to do for a consumer after a start.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Everything up to here is settled or waiting. For a consumer that is new, the end of the log.
    pub position: Seq,
    /// Settled or waiting beyond the position, in order.
    pub settled: Vec<Seq>,
    /// From which sequence on which subscriptions held, oldest first; an empty list of subscriptions while the
    /// consumer was not deployed.
    pub timeline: Vec<(Seq, Vec<SubscriptionSpec>)>,
}

/// Something that has become durable.
#[derive(Clone, Debug)]
pub enum Commit {
    Events(Vec<Arc<Event>>),
    /// How a settlement was answered, in its place in the log: only [`Settled::Committed`] has changed anything. The
    /// events that it appended follow.
    Settled(DeliveryId, Settled),
    Redriven(Vec<Waiting>),
    /// Also when the generation was live already.
    Activated(Activated),
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An id came again with another content.
    #[error(
        "event {index}: the id '{id}' of source '{source_name}' is taken by event {seq}, which says something else"
    )]
    Conflict { index: usize, source_name: String, id: String, seq: Seq },
    /// Too much is waiting to be written; try again after a moment.
    #[error("the log has no room for more at the moment")]
    Busy,
    #[error("the disk is full")]
    Full,
    /// The log can no longer be trusted to write; the host must stop.
    #[error("the log failed: {0}")]
    Failed(String),
    /// The host is stopping.
    #[error("the log is closed")]
    Closed,
}
