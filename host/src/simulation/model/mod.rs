//! What must be true, as a few lists: fed with everything that became durable, began, ended or was told, it says at once what is wrong.
//! The numbers are those of the invariants in `docs/proof.md`.

mod begun;
mod breakers;
mod durable;
mod kept;
mod long;
mod made;
mod runs;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::breakers::Breaker;
use self::long::Replayed;
use self::runs::Followed;
use super::guests::Begun;
use super::plan::{Deployed, Plan};
use crate::log::{Commit, Settled};
use crate::model::event::HOST_SOURCE;
use crate::model::pipeline::PipelineSpec;
use crate::model::pipeline::errand::{Errand, StepErrand};
use crate::model::pipeline::run::RunId;
use crate::model::spec::{DeliverySpec, KeySpec};
use crate::model::{
    ConsumerName, DeliveryId, Digest, Event, Expression, Generation, Outcome, Payload, Report, Seq, Timestamp,
};

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
}

/// What an event's payload says, as its producer meant it: texts by name.
struct Keys(BTreeMap<String, String>);

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
    pub(super) generations: Vec<(Seq, Arc<Plan>)>,
    /// Plans on their way, by digest.
    pub(super) plans: BTreeMap<Digest, Arc<Plan>>,
    /// The first event that a consumer is for.
    begins: BTreeMap<ConsumerName, Seq>,
    pub(super) deliveries: BTreeMap<DeliveryId, Known>,
    /// Those that have died, and that nobody has redriven or discarded.
    pub(super) dead: BTreeSet<DeliveryId>,
    /// Those that are not over.
    alive: BTreeSet<DeliveryId>,
    /// Of each consumer, first rounds that are neither over nor stored, and those that are not over.
    open: BTreeMap<ConsumerName, BTreeSet<Seq>>,
    unfinished: BTreeMap<ConsumerName, BTreeSet<Seq>>,
    records: BTreeMap<(DeliveryId, u32), Outcome>,
    state: BTreeMap<(ConsumerName, String), u64>,
    /// Idempotency keys, by whom they are settled and until when that is remembered.
    marks: BTreeMap<(ConsumerName, String), (DeliveryId, Timestamp)>,
    /// The rule for them, if it is known that they were all found by one.
    marked_by: BTreeMap<ConsumerName, Option<String>>,
    /// Keys that dead letters hold, and of which events these are.
    pub(super) held: BTreeMap<(ConsumerName, String), BTreeSet<(Seq, u32)>>,
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
    breakers: BTreeMap<ConsumerName, Breaker>,
    replays: BTreeMap<u64, Replayed>,
    /// What deliveries are for, if for more than their event; and of steps those that no journal has told of yet.
    errands: BTreeMap<DeliveryId, Errand>,
    fresh: Vec<(DeliveryId, StepErrand)>,
    runs: BTreeMap<RunId, Followed>,
    /// Runs that began by what a reload has replaced meanwhile.
    late_runs: BTreeSet<RunId>,
    /// Of pipelines.
    keyed_runs: BTreeMap<(ConsumerName, String), RunId>,
    /// By pipeline, step and key.
    arrivals: BTreeMap<(ConsumerName, String, String), BTreeSet<Seq>>,
    /// What steps that are done have returned, until their journal tells of it.
    given: BTreeMap<(RunId, usize), Payload>,
    /// Steps that their runs have given up, and of those the ones that the dispatcher knows of.
    withdrawn: BTreeSet<DeliveryId>,
    told_withdrawn: BTreeSet<DeliveryId>,
    /// Slots of schedules that have fired, with their events.
    slots: BTreeMap<(String, Timestamp), Seq>,
    /// Events that retention has taken.
    gone: BTreeSet<Seq>,
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
        self.generations.get(at).map(|(_, plan)| plan.as_ref())
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
        self.breakers.clear();
        self.told_paused = self.paused.clone();
        self.told_withdrawn = self.withdrawn.clone();
        self.live = None;
        self.draining = false;
        self.failed = false;
        self.latest = now;
    }

    /// The dispatcher has been told.
    pub(super) fn told(&mut self, commits: &[Commit], now: Duration) {
        for commit in commits {
            match commit {
                Commit::Settled(id, Settled::Committed) => self.judged(id, now),
                Commit::Activated(activated) => {
                    self.live = Some(activated.generation);
                    self.redeployed();
                }
                Commit::Paused(consumer, true) => drop(self.told_paused.insert(consumer.clone())),
                Commit::Paused(consumer, false) => drop(self.told_paused.remove(consumer)),
                Commit::Withdrawn(waiting) => {
                    self.told_withdrawn.extend(waiting.iter().map(|waiting| waiting.id.clone()));
                }
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
        self.alive.iter().filter_map(|id| self.deliveries.get_key_value(id))
    }

    /// Grows as long as anything comes to its end: ephemeral consumers may have much to catch up with.
    pub(super) fn settled_so_far(&self) -> usize {
        self.records.len() + self.streamed.len() + self.journals().map(|(_, journal)| journal.len()).sum::<usize>()
    }

    /// How each pipeline that was ever deployed was deployed last.
    pub(super) fn every_pipeline(&self) -> BTreeMap<ConsumerName, PipelineSpec> {
        self.generations.iter().flat_map(|(_, plan)| plan.pipelines.clone()).collect()
    }

    /// How each consumer that was ever deployed was deployed last.
    pub(super) fn everybody(&self) -> BTreeMap<ConsumerName, Deployed> {
        self.generations.iter().flat_map(|(_, plan)| plan.consumers.clone()).collect()
    }

    /// The key of an event, as far as it has one.
    fn key<'a>(&'a self, seq: Seq, by: &KeySpec) -> Option<&'a str> {
        match by {
            KeySpec::One => Some("*"),
            KeySpec::Of(expression) => self.text(seq, expression),
        }
    }

    /// What such a path finds in an event.
    fn text(&self, seq: Seq, path: &Expression) -> Option<&str> {
        let Keys(texts) = &self.keys[usize::try_from(seq).unwrap() - 1];
        texts.get(path.source().trim_start_matches("data.")).map(String::as_str)
    }

    fn mark(&self, seq: Seq, spec: &DeliverySpec) -> Option<&str> {
        self.text(seq, &spec.idempotency.as_ref()?.key)
    }
}

impl Keys {
    fn of(event: &Event) -> Self {
        // What the host says has none of these texts.
        let told = event.envelope.payload.as_ref().filter(|_| event.envelope.source != HOST_SOURCE);
        let data = told.map(|payload| &payload.data[..]);
        let data: serde_json::Value = serde_json::from_slice(data.unwrap_or(b"null")).unwrap_or_default();
        let texts = data.as_object().into_iter().flatten();
        Self(texts.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect())
    }
}
