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
//! 4. A slot of a schedule fires once: its event and the note that it is over are one transaction ([`schedules`]).
//! 5. What a settlement means for a run, and what follows from that, is one transaction with it ([`runs`]).
//! 6. A job is an event with a delivery that waits: both are one transaction, and no subscription makes another delivery of it.
//! 7. After a restart `recover` gives back what is left to do: nothing settled is given back, nothing unsettled is missing.

pub(crate) mod feed;
mod jobs;
pub mod memory;
mod runs;
pub mod schedules;
pub mod sqlite;

#[cfg(test)]
pub(crate) mod conformance;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::model::delivery::{DeathCause, KeyStanding};
use crate::model::keys::{HeldKey, KeyRules};
use crate::model::outcome::{LogLine, StateChanges, StateWrite, Usage};
use crate::model::pipeline::errand::{Errand, Order, RunChange};
use crate::model::pipeline::run::{Refusal, RunId, Status};
use crate::model::replay::{Replay, ReplaySpec, ReplayStep};
use crate::model::spec::{StartFrom, SubscriptionSpec};
use crate::model::{
    ConsumerName, ConsumerSpec, Delivery, DeliveryId, Digest, Envelope, Event, Generation, Outcome, Payload, Priority,
    Seq, Timestamp,
};

pub use self::feed::Feed;

pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// The durable, ordered sequence of events with all that is settled about them.
pub trait EventLog: Send + Sync {
    /// Appends all of them or none, in order. Answers after the commit is on disk.
    fn append(&self, events: Vec<Envelope>) -> Pending<Vec<Appended>>;

    /// Makes an attempt's consequences durable: all these settlements (more than one of a batch), or none of them.
    fn settle(&self, settlements: Vec<Settlement>) -> Pending<Settled>;

    /// Makes the consequences of several attempts durable, each by itself, as if they had been settled one after the other; and all
    /// in one transaction, so that an error is about all of them.
    /// `more`: others follow in a moment, for which those of these that nobody waits for may be kept waiting.
    fn settle_each(&self, settlements: Vec<Settlement>, more: bool) -> Pending<Vec<Settled>>;

    /// Gives deliveries rows, so that they wait in the log and not in memory: those that nothing has been attempted of
    /// yet, and those that wait for their key again. Saying the same twice changes nothing.
    fn park(&self, waiting: Vec<Waiting>) -> Pending<()>;

    /// Notes that an attempt of the delivery begins, before it does; see [`Recovery::careful_to`].
    fn claim(&self, delivery: DeliveryId) -> Pending<()>;

    /// Pauses a consumer or lets it go on, for good; answers whether that was news.
    fn pause(&self, consumer: ConsumerName, paused: bool) -> Pending<bool>;

    /// Frees keys that dead letters hold: these, or all if there are none. Answers which.
    fn release(&self, consumer: ConsumerName, keys: Vec<String>) -> Pending<Vec<String>>;

    /// Finds the keys of what waits for a consumer anew, in bounded steps; answers where the next one goes on, none when all
    /// is done, which [`Recovery::keyed_by`] says from then on.
    fn rekey(&self, step: Rekey) -> Pending<Option<(Seq, u32)>>;

    /// Makes a deployment the live one for events appended from now on.
    fn activate(&self, activation: Activation) -> Pending<Activated>;

    /// Acts on dead letters: new deliveries, or a mark that nobody needs them any more. Answers which.
    fn decide_dead(&self, dead: DeadSelection, decision: DeadDecision) -> Pending<Vec<DeliveryId>>;

    /// Notes a replay, of which nothing is made yet; answers its number.
    fn start_replay(&self, spec: ReplaySpec) -> Pending<u64>;

    /// Makes the next deliveries of a replay and moves its position with them, as far as there is room. Answers where it stands
    /// then; none if it does not stand where the step begins, or is not running any more.
    fn step_replay(&self, step: ReplayStep) -> Pending<Option<Replay>>;

    /// Makes nothing more of a replay; what it has made goes on. Answers whether it was running.
    fn cancel_replay(&self, id: u64) -> Pending<bool>;

    /// Replays of which deliveries are still to be made, oldest first.
    fn running_replays(&self) -> Pending<Vec<Replay>>;

    /// Notes how far a consumer has come: every delivery of an event up to this one is settled or waiting. Only a
    /// hint that shortens recovery, so it is not waited for.
    fn advance(&self, positions: Vec<(ConsumerName, Seq)>);

    /// Up to `limit` events after `after`, in order; fewer if they are large, none only at the end of the log.
    fn read(&self, after: Seq, limit: usize) -> Pending<Vec<Arc<Event>>>;

    /// What is left to do for a consumer.
    fn recover(&self, consumer: ConsumerName) -> Pending<Recovery>;

    /// Up to `limit` waiting deliveries of a consumer that have this priority, by due time and id, after the given one.
    fn waiting(
        &self,
        consumer: ConsumerName,
        priority: Priority,
        after: Option<(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Pending<Vec<Waiting>>;

    /// Up to `limit` deliveries of a consumer that wait for their key, by sequence and round; only `later` rounds, or all.
    fn blocked(&self, consumer: ConsumerName, key: String, later: bool, limit: usize) -> Pending<Vec<Waiting>>;

    /// What a delivery is for, if it is for more than its event; none also if it is over.
    fn errand(&self, delivery: DeliveryId) -> Pending<Option<Errand>>;

    /// The run of a pipeline that has this key, open or ended.
    fn run_of(&self, pipeline: ConsumerName, key: String) -> Pending<Option<RunId>>;

    /// Carries out what a person wants of a run; answers how it stands then, or why not. None: there is no such run.
    fn order_run(&self, run: RunId, order: Order) -> Pending<Option<Result<Status, Refusal>>>;

    /// Tells the runs whose time has come; answers when there is more to do, if ever.
    fn ring(&self) -> Pending<Option<Timestamp>>;

    /// The delivery that has settled this idempotency key of the consumer, if it is remembered.
    fn marked(&self, consumer: ConsumerName, key: String) -> Pending<Option<DeliveryId>>;
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
    /// Whether the delivery has a row: then the row's calls must be one fewer than the record's, or the settlement is fenced.
    /// Without one, this is the first call of the first round.
    pub stored: bool,
    /// Its ordering key, kept with the row if it must wait, and with the dead letter.
    pub key: Option<String>,
    pub hold: Option<Hold>,
    /// To be remembered if the outcome is *done*; if another delivery's is remembered already, the settlement is
    /// [`Settled::Duplicate`].
    pub mark: Option<Mark>,
    /// Its claim was noted first and is over.
    pub claimed: bool,
    /// It has an [`Errand`].
    pub errand: bool,
    /// What it changes about runs.
    pub run: Option<RunChange>,
}

/// What a settlement does to its ordering key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The dead letter holds it.
    Begin(String),
    /// It is free again: the dead letter that held it was redriven and is done.
    End(String),
}

/// An idempotency key that is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub key: String,
    /// Until when it is remembered.
    pub until: Timestamp,
}

impl Settlement {
    /// How many events the attempt itself published.
    pub fn published(&self) -> usize {
        self.events.len().saturating_sub(usize::from(self.death.is_some()))
    }

    /// Whether nobody waits for it: it frees no key, nothing follows from it, and its consumer's next attempt reads no state that it
    /// may have written.
    pub fn is_unhurried(&self) -> bool {
        let Self { events, state_quota, key, mark, run, .. } = self;
        events.is_empty() && *state_quota == 0 && key.is_none() && mark.is_none() && run.is_none()
    }

    /// The ordering key that stays with its row or its dead letter.
    pub fn kept_key(&self) -> Option<&str> {
        let held = if let Some(Hold::Begin(key)) = &self.hold { Some(key) } else { None };
        self.key.as_ref().or(held).map(String::as_str)
    }

    /// The idempotency key that it settles.
    pub fn marks(&self) -> Option<&Mark> {
        self.mark.as_ref().filter(|_| self.record.outcome == Outcome::Done)
    }

    /// About what it adds to the log.
    pub fn bytes(&self) -> usize {
        let events = self.events.iter().map(Envelope::data_len).sum::<usize>();
        let writes = self.state.writes.iter().map(|(key, write)| match write {
            StateWrite::Set { value, .. } => key.len() + value.len(),
            StateWrite::Delete => key.len(),
        });
        let record = &self.record;
        let output = record.output.as_ref().map_or(0, |output| output.data.len());
        events + writes.sum::<usize>() + output + record.logs.iter().map(LogLine::bytes).sum::<usize>()
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
    /// Another delivery with its idempotency key is done, or a run has the key that this one was to begin. Nothing was changed.
    Duplicate,
}

/// A deployment on its way to being live.
#[derive(Clone, Debug)]
pub struct Activation {
    /// Digest of the resolved manifest and of every component's file: the same digest goes on with the same generation.
    pub digest: Digest,
    /// For each consumer what it subscribes to.
    pub subscriptions: Vec<(ConsumerName, Vec<SubscriptionSpec>)>,
    /// Where consumers begin that are new and do not begin at the end of the log. Their subscriptions hold from there on.
    pub from: Vec<(ConsumerName, StartFrom)>,
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
    pub cause: Option<DeathCause>,
    /// At most so many; the oldest first.
    pub limit: Option<usize>,
}

/// A step of finding keys anew. Waiting deliveries and what dead letters hold get the keys that the rules of this consumer give;
/// what was settled under another `idempotency-key` is forgotten.
#[derive(Clone, Debug)]
pub struct Rekey {
    pub consumer: Arc<ConsumerSpec>,
    /// Where the last step came to, by sequence and round; none at the first one.
    pub after: Option<(Seq, u32)>,
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
    /// Its ordering key, if it is known.
    pub key: Option<String>,
    /// It waits for its key, and not for its due time.
    pub blocked: bool,
    /// It has an [`Errand`], which is to be read with its event.
    pub errand: bool,
    pub priority: Priority,
}

/// What is left to do for a consumer after a start.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Everything up to here is settled or waiting. For a consumer that is new, the end of the log.
    pub position: Seq,
    /// Settled or waiting beyond the position, in order.
    pub settled: Vec<Seq>,
    /// From which sequence on which subscriptions held, oldest first; an empty list of subscriptions while the
    /// consumer was not deployed.
    pub timeline: Vec<(Seq, Vec<SubscriptionSpec>)>,
    /// Ordering keys of deliveries that are waiting.
    pub keys: Vec<KeyStanding>,
    /// Keys that dead letters hold, by key.
    pub held: Vec<HeldKey>,
    /// The rules by which all these keys were found; none if that is being changed.
    pub keyed_by: Option<KeyRules>,
    pub paused: bool,
    /// The end of the log at a start after an unclean stop, otherwise 0. Deliveries of events up to here may have been in
    /// hand when the host died: their claims are noted before they are attempted.
    pub careful_to: Seq,
    /// Deliveries that have been in hand when the host died, as far as is known, and how often.
    pub crashes: Vec<(DeliveryId, u32)>,
}

impl Default for Recovery {
    /// Of a consumer that nothing is known about.
    fn default() -> Self {
        Self {
            position: 0,
            settled: Vec::new(),
            timeline: Vec::new(),
            keys: Vec::new(),
            held: Vec::new(),
            keyed_by: Some(KeyRules::default()),
            paused: false,
            careful_to: 0,
            crashes: Vec::new(),
        }
    }
}

/// Something that has become durable.
#[derive(Clone, Debug)]
pub enum Commit {
    Events(Vec<Arc<Event>>),
    /// How a settlement was answered, in its place in the log: only [`Settled::Committed`] has changed anything. The
    /// events that it appended follow.
    Settled(DeliveryId, Settled),
    /// New deliveries that wait in the log: of events that were delivered before, of runs and of jobs.
    Redriven(Vec<Waiting>),
    /// Deliveries that no handler is to be called for any more.
    Withdrawn(Vec<Waiting>),
    /// At this time, or before, [`EventLog::ring`] has something to do.
    Timer(Timestamp),
    Paused(ConsumerName, bool),
    /// These dead letters of the consumer, by sequence and round, hold no key any more. Each holds one once, so that this may be told
    /// late; a key may have been found anew by other rules in the meantime.
    Released(ConsumerName, Vec<(Seq, u32)>),
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
