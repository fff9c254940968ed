//! What must be true, as a few lists: fed with everything that became durable, began, ended or was told, it says at once what is wrong.
//! The numbers are those of the invariants in `docs/guarantees.md`.

mod begun;
mod durable;
mod kept;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::guests::Begun;
use super::plan::{Deployed, Plan};
use crate::log::Commit;
use crate::model::spec::KeySpec;
use crate::model::{ConsumerName, DeliveryId, Digest, Event, Generation, Outcome, Report, Seq, Timestamp};

/// What is wrong: the invariant and what was seen.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

pub(super) type Checked = Result<(), Violation>;

macro_rules! hold {
    ($true:expr, $($what:tt)+) => {
        if !$true {
            return Err($crate::simulation::model::Violation(format!($($what)+)));
        }
    };
}
pub(super) use hold;

/// A delivery as the log must have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) attempts: u32,
    pub(super) calls: u32,
    /// Not before.
    pub(super) due: Timestamp,
    /// It has a row of its own.
    pub(super) stored: bool,
    pub(super) end: Option<Outcome>,
    pub(super) dead: bool,
    /// Somebody has redriven or discarded it.
    pub(super) decided: bool,
}

/// What an event's payload says, as its producer meant it.
struct Keys {
    k: Option<String>,
    m: Option<String>,
}

/// That a delivery's attempt begins, as the log noted it.
#[derive(Clone, Copy)]
struct Claimed {
    crashes: u32,
    in_hand: bool,
}

#[derive(Default)]
pub(super) struct Model {
    events: Vec<Arc<Event>>,
    keys: Vec<Keys>,
    by_id: HashMap<(String, String), Seq>,
    /// From which sequence on what is deployed, by generation from 1.
    pub(super) generations: Vec<(Seq, Plan)>,
    /// Plans on their way, by digest.
    pub(super) plans: BTreeMap<Digest, Plan>,
    /// Since which event a consumer has been ordered as it is now.
    ordered_since: BTreeMap<ConsumerName, (Option<KeySpec>, Seq)>,
    /// Since which event a consumer has had an idempotency key, or none.
    marked_since: BTreeMap<ConsumerName, (bool, Seq)>,
    /// The first event that a consumer is for.
    begins: BTreeMap<ConsumerName, Seq>,
    pub(super) deliveries: BTreeMap<DeliveryId, Known>,
    /// Of each consumer, first rounds that are neither over nor stored, and those that are not over.
    open: BTreeMap<ConsumerName, BTreeSet<Seq>>,
    unfinished: BTreeMap<ConsumerName, BTreeSet<Seq>>,
    records: BTreeMap<(DeliveryId, u32), Outcome>,
    state: BTreeMap<(ConsumerName, String), u64>,
    /// Idempotency keys, by whom they are settled and until when that is remembered.
    marks: BTreeMap<(ConsumerName, String), (DeliveryId, Timestamp)>,
    /// Keys that dead letters hold, and of which events these are.
    pub(super) held: BTreeMap<(ConsumerName, String), BTreeSet<Seq>>,
    pub(super) paused: BTreeSet<ConsumerName>,
    /// Of whom the dispatcher knows it.
    told_paused: BTreeSet<ConsumerName>,
    claims: BTreeMap<DeliveryId, Claimed>,
    /// In the hands of guests, with their calls.
    running: BTreeMap<DeliveryId, u64>,
    /// Called and not settled since, and how often the process died meanwhile.
    in_hand: BTreeSet<DeliveryId>,
    crashes: BTreeMap<DeliveryId, u32>,
    /// What the latest call of each came to, until it is settled.
    staged: BTreeMap<DeliveryId, Report>,
    /// When the latest calls of consumers with a rate began.
    starts: BTreeMap<ConsumerName, VecDeque<Duration>>,
    /// What ephemeral consumers have been given.
    streamed: BTreeSet<DeliveryId>,
    /// The generation that the dispatcher knows of, and whether it may begin anything.
    live: Option<Generation>,
    pub(super) draining: bool,
    /// The log has failed: what the process believes is worth nothing any more, and it can do no harm.
    pub(super) failed: bool,
    /// The wall clock now, and the latest that it has shown in this process's life.
    now: Timestamp,
    latest: Timestamp,
    /// What was counted, for the table of coverage.
    pub(super) outcomes: BTreeMap<Outcome, u64>,
    pub(super) answers: BTreeMap<String, u64>,
}

impl Model {
    pub(super) fn head(&self) -> Seq {
        self.events.len() as Seq
    }

    pub(super) fn event(&self, seq: Seq) -> &Arc<Event> {
        &self.events[usize::try_from(seq).unwrap() - 1]
    }

    fn deployed(&self, generation: Generation) -> Option<&Plan> {
        let at = usize::try_from(generation.0).ok()?.checked_sub(1)?;
        self.generations.get(at).map(|(_, plan)| plan)
    }

    pub(super) fn time(&mut self, now: Timestamp) {
        self.now = now;
        self.latest = self.latest.max(now);
    }

    /// A process is gone, and all that only it knew.
    pub(super) fn ended_process(&mut self, cleanly: bool, now: Timestamp) {
        if cleanly {
            self.claims.clear();
            self.crashes.clear();
        } else {
            for id in &self.in_hand {
                *self.crashes.entry(id.clone()).or_default() += 1;
            }
            for claim in self.claims.values_mut().filter(|claim| claim.in_hand) {
                *claim = Claimed { crashes: claim.crashes + 1, in_hand: false };
            }
        }
        self.in_hand.clear();
        self.running.clear();
        self.staged.clear();
        self.starts.clear();
        self.told_paused = self.paused.clone();
        self.live = None;
        self.draining = false;
        self.failed = false;
        self.latest = now;
    }

    /// The dispatcher has been told.
    pub(super) fn told(&mut self, commits: &[Commit]) {
        for commit in commits {
            match commit {
                Commit::Activated(activated) => self.live = Some(activated.generation),
                Commit::Paused(consumer, true) => drop(self.told_paused.insert(consumer.clone())),
                Commit::Paused(consumer, false) => drop(self.told_paused.remove(consumer)),
                _ => {}
            }
        }
    }

    /// A call came to this, for each of its deliveries.
    pub(super) fn ended(&mut self, begun: &Begun, reports: &Result<Vec<Report>, Report>) {
        let alone = begun.calls.len() == 1;
        for (at, id) in begun.ids().enumerate() {
            self.running.remove(&id);
            let report = match reports {
                Ok(reports) => Some(reports[at].clone()),
                Err(report) => alone.then(|| report.clone()),
            };
            match report {
                Some(report) => drop(self.staged.insert(id, report)),
                None => drop(self.staged.remove(&id)),
            }
        }
    }

    pub(super) fn dropped(&mut self, ids: &[DeliveryId]) {
        for id in ids {
            self.running.remove(id);
            self.staged.remove(id);
        }
    }

    /// Deliveries that are not over.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (&DeliveryId, &Known)> {
        self.deliveries.iter().filter(|(_, known)| known.end.is_none())
    }

    pub(super) fn settled_so_far(&self) -> usize {
        self.records.len()
    }

    /// Open dead letters.
    pub(super) fn dead(&self) -> Vec<DeliveryId> {
        let dead = self.deliveries.iter().filter(|(_, known)| known.dead && !known.decided);
        dead.map(|(id, _)| id.clone()).collect()
    }

    /// How each consumer that was ever deployed was deployed last.
    pub(super) fn everybody(&self) -> BTreeMap<ConsumerName, Deployed> {
        self.generations.iter().flat_map(|(_, plan)| plan.consumers.clone()).collect()
    }

    /// The key of an event, as far as it has one.
    fn key(&self, seq: Seq, by: &KeySpec) -> Option<&str> {
        match by {
            KeySpec::One => Some("*"),
            KeySpec::Of(_) => self.keys[usize::try_from(seq).unwrap() - 1].k.as_deref(),
        }
    }

    fn mark(&self, seq: Seq) -> Option<&str> {
        self.keys[usize::try_from(seq).unwrap() - 1].m.as_deref()
    }
}

impl Keys {
    fn of(event: &Event) -> Self {
        let data = event.envelope.payload.as_ref().map(|payload| &payload.data[..]);
        let data: serde_json::Value = serde_json::from_slice(data.unwrap_or(b"null")).unwrap_or_default();
        let text = |name: &str| data.get(name).and_then(|value| value.as_str()).map(ToOwned::to_owned);
        Self { k: text("k"), m: text("m") }
    }
}
