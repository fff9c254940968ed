//! Every decision of the dispatcher, without a runtime: something happened, so do these things. The production loop
//! and a simulator drive the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::bell::Bell;
use super::lane::{Fetched, Flow, Lane, Left, Parked, Ready, Standing, WaitKey};
use super::lanes::Lanes;
use super::pace::{Pace, slots_for_slow};
use super::settle::Claim;
use super::stream::Streams;
use crate::log::{Activated, Commit, Recovery, Waiting};
use crate::model::breaker::Change;
use crate::model::delivery::Input;
use crate::model::keys::KeyRules;
use crate::model::spec::Mode;
use crate::model::{ConsumerName, ConsumerSpec, DeliveryId, Event, Generation, Moment, Priority, Seq, Timestamp};
use crate::planted::{self, Bug};
use crate::registry::{Consumer, Snapshot};

/// Events read from the log at once for a lane that is behind.
pub const PAGE_EVENTS: usize = 512;
/// Waiting deliveries read from the log at once.
pub const PAGE_WAITING: usize = 1_000;
/// How far a consumer's position moves before the log is told: a hint that need not be fresh.
const ADVANCE_STEP: u64 = 1_000;
/// At least so often, however little it has moved: retention takes nothing beyond it.
const ADVANCE_EVERY: Duration = Duration::from_secs(30);

/// Something that happened.
pub enum Wake {
    /// Something became durable.
    Commit(Commit),
    /// The deployment that the next activation makes live; none if there will be no activation after all.
    Prepared(Option<Snapshot>),
    Recovered(ConsumerName, Recovery),
    /// All that the log has of a consumer is keyed by these rules.
    Rekeyed(ConsumerName, KeyRules),
    /// None where reading failed; it is asked for again.
    Page(ConsumerName, Option<Vec<Arc<Event>>>),
    Loaded(ConsumerName, Priority, Option<Vec<Waiting>>),
    /// None where reading failed.
    Fetched(DeliveryId, Option<Fetched>),
    /// Runs were told that their time has come; when there is more to do. None where that failed.
    Rang(Option<Option<Timestamp>>),
    /// They have their rows.
    Parked(ConsumerName, Vec<DeliveryId>),
    /// Of a line, as many of its parked deliveries as were asked for, or all; none where reading failed.
    Unparked {
        consumer: ConsumerName,
        wanted: Parked,
        page: Option<Vec<(Waiting, Fetched)>>,
    },
    /// Calls are over, and what they came to is on its way into the log.
    Called(Vec<DeliveryId>),
    /// Calls and their settlements are over.
    Ended(Vec<Ended>),
    /// A call for an ephemeral consumer is over.
    Streamed {
        consumer: ConsumerName,
        took: Duration,
    },
    /// Time has passed.
    Tick,
    /// Claim nothing more.
    Drain,
}

/// A call that is over, with how that left its deliveries: one, but for a batch.
pub struct Ended {
    pub consumer: ConsumerName,
    pub left: Vec<(DeliveryId, Left)>,
    /// What the call of the handler took; nothing if there was none.
    pub took: Duration,
}

impl Ended {
    /// Of a call for one delivery.
    pub fn one(id: DeliveryId, left: Left, took: Duration) -> Self {
        Self { consumer: id.consumer.clone(), left: vec![(id, left)], took }
    }
}

/// Something to do.
pub enum Action {
    Attempt(Box<Claim>, Pace),
    /// In one call.
    Batch(Vec<Claim>, Pace),
    /// Calls an ephemeral consumer.
    Stream(Box<Claim>, Pace),
    Recover(ConsumerName),
    /// Find anew the keys of all that the log has of a consumer.
    Rekey(Arc<ConsumerSpec>),
    Read(ConsumerName, Seq),
    Load(ConsumerName, Priority, Option<WaitKey>),
    /// The event of a delivery; and what it is for, if so.
    Fetch(DeliveryId, bool),
    /// Tell runs that their time has come.
    Ring,
    Park(ConsumerName, Vec<Waiting>),
    /// Parked deliveries of a line.
    Unpark(ConsumerName, Parked),
    Advance(Vec<(ConsumerName, Seq)>),
    /// The breaker of a consumer has changed.
    Tell(ConsumerName, Change),
    /// So many events were lost to an ephemeral consumer that does not keep up.
    Lost(ConsumerName, u64),
}

/// A consumer whose recovery is under way.
#[derive(Default)]
struct Joining {
    /// As it was deployed, from which sequence on: the recovery may have been read before or after any of it.
    deployed: Vec<(Seq, Option<Consumer>)>,
    /// What became durable meanwhile, which the recovery may have been read too early to know.
    missed: Vec<Commit>,
    /// How it flowed before its keys are found anew; whether that is under way, and the rules by which it was done last.
    flow: Option<Flow>,
    rekeying: bool,
    rekeyed: Option<KeyRules>,
}

impl Joining {
    fn of(from: Seq, consumer: Option<Consumer>) -> Self {
        Self { deployed: vec![(from, consumer)], ..Self::default() }
    }

    /// As it is deployed now.
    fn consumer(&self) -> Option<&Consumer> {
        self.deployed.last().and_then(|(_, consumer)| consumer.as_ref())
    }
}

pub struct Core {
    lanes: Lanes,
    /// Consumers whose recovery is under way.
    joining: BTreeMap<ConsumerName, Joining>,
    prepared: Option<Snapshot>,
    generation: Generation,
    /// Attempts that may run at once, over all lanes.
    slots: usize,
    running: usize,
    /// Calls that are over and give up their slot before what they came to is in the log.
    settling: usize,
    /// Those of them that belong to slow consumers, by the first delivery of the call.
    slow: BTreeSet<DeliveryId>,
    /// The one in hand of those that were in hand at crashes.
    suspect: Option<DeliveryId>,
    streams: Streams,
    /// The lane served last: the next one is served first, so that every lane gets its turn.
    served: Option<ConsumerName>,
    draining: bool,
    /// When positions were last told for the sake of time.
    advanced_at: Timestamp,
    bell: Bell,
}

impl Core {
    /// `head` is the last event in the log.
    pub fn new(head: Seq) -> Self {
        Self {
            lanes: Lanes::new(head),
            joining: BTreeMap::new(),
            prepared: None,
            generation: Generation(0),
            slots: 0,
            running: 0,
            settling: 0,
            slow: BTreeSet::new(),
            suspect: None,
            streams: Streams::default(),
            served: None,
            draining: false,
            advanced_at: Timestamp(0),
            bell: Bell::default(),
        }
    }

    /// Takes in what happened until `now`, in order, and says what to do. Many at once cost little more than one.
    pub fn handle(&mut self, wakes: impl IntoIterator<Item = Wake>, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        self.lanes.begin(now);
        for wake in wakes {
            self.note(wake, now, &mut actions);
        }
        if !self.draining {
            self.turn_over(&mut actions);
            self.fill(now, &mut actions);
            self.start(now, &mut actions);
            self.stream(&mut actions);
            if self.bell.rings(now) {
                actions.push(Action::Ring);
            }
        }
        let moved = self.lanes.advanced(ADVANCE_STEP);
        advance(moved, &mut actions);
        self.lanes.end(now);
        actions
    }

    fn note(&mut self, wake: Wake, now: Moment, actions: &mut Vec<Action>) {
        match wake {
            Wake::Commit(commit) => self.committed(commit, now, actions),
            Wake::Prepared(snapshot) => self.prepared = snapshot,
            Wake::Recovered(name, recovery) => self.recovered(name, recovery, now, actions),
            Wake::Rekeyed(name, rules) => {
                if let Some(joining) = self.joining.get_mut(&name) {
                    (joining.rekeying, joining.rekeyed) = (false, Some(rules));
                    actions.push(Action::Recover(name));
                }
            }
            Wake::Page(name, events) => {
                let head = self.head();
                self.with(&name, |lane| match events {
                    Some(events) => lane.page(&events, head, now),
                    None => lane.page_failed(),
                });
            }
            Wake::Loaded(name, priority, page) => self.with(&name, |lane| match page {
                Some(page) => lane.loaded(priority, page, PAGE_WAITING),
                None => lane.load_failed(priority),
            }),
            Wake::Fetched(id, fetched) => self.with(&id.consumer.clone(), |lane| lane.fetched(&id, fetched, now)),
            Wake::Rang(next) => self.bell.rang(next, now),
            Wake::Parked(name, ids) => self.with(&name, |lane| lane.parked(&ids, now)),
            Wake::Unparked { consumer, wanted, page } => {
                self.with(&consumer, |lane| lane.unparked(&wanted, page, now));
            }
            Wake::Called(ids) => ids.iter().for_each(|id| self.called(id)),
            Wake::Ended(ended) => ended.into_iter().for_each(|ended| self.ended(ended, now, actions)),
            Wake::Streamed { consumer, took } => self.streams.ended(&consumer, took),
            Wake::Tick => {
                if now.wall.since(self.advanced_at) >= ADVANCE_EVERY || now.wall < self.advanced_at {
                    self.advanced_at = now.wall;
                    advance(self.lanes.all_advanced(1), actions);
                }
            }
            Wake::Drain => {
                self.draining = true;
                advance(self.lanes.all_advanced(1), actions);
            }
        }
    }

    fn with(&mut self, name: &ConsumerName, act: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.lanes.touch(name) {
            act(lane);
        }
    }

    fn committed(&mut self, commit: Commit, now: Moment, actions: &mut Vec<Action>) {
        match commit {
            Commit::Events(events) => {
                self.lanes.offer(&events, now);
                let lost = self.streams.offer(&events);
                actions.extend(lost.into_iter().map(|(name, lost)| Action::Lost(name, lost)));
            }
            Commit::Redriven(waiting) => {
                for waiting in waiting {
                    let name = waiting.id.consumer.clone();
                    self.tell(&name, Commit::Redriven(vec![waiting]), now);
                }
            }
            Commit::Withdrawn(waiting) => {
                for waiting in waiting {
                    let name = waiting.id.consumer.clone();
                    self.tell(&name, Commit::Withdrawn(vec![waiting]), now);
                }
            }
            Commit::Timer(at) => self.bell.set(at),
            Commit::Paused(ref name, paused) => {
                let name = name.clone();
                let lost = self.streams.pause(&name, paused);
                lose(&name, lost, actions);
                self.tell(&name, commit, now);
            }
            Commit::Released(ref name, _) => {
                let name = name.clone();
                self.tell(&name, commit, now);
            }
            Commit::Activated(activated) => self.activated(activated, actions),
            // The attempt that is settled reports by itself.
            Commit::Settled(..) => {}
        }
    }

    /// Tells a lane what concerns it alone; or keeps it until there is one.
    fn tell(&mut self, name: &ConsumerName, commit: Commit, now: Moment) {
        match (self.lanes.touch(name), self.joining.get_mut(name)) {
            (Some(lane), _) => told(lane, commit, now),
            (None, Some(joining)) => joining.missed.push(commit),
            (None, None) => {}
        }
    }

    fn activated(&mut self, activated: Activated, actions: &mut Vec<Action>) {
        let Some(snapshot) = self.prepared.take() else { return };
        self.generation = activated.generation;
        let slots = usize::try_from(snapshot.deployment.ceilings.attempts).unwrap_or(usize::MAX);
        let (streams, durable): (Vec<&Consumer>, Vec<&Consumer>) =
            snapshot.consumers.values().partition(|consumer| consumer.spec.delivery.mode == Mode::Ephemeral);
        let lost = self.streams.deploy(streams, slots);
        actions.extend(lost.into_iter().map(|(name, lost)| Action::Lost(name, lost)));
        actions.extend(self.streams.unknown().cloned().map(Action::Recover));
        self.slots = slots.saturating_sub(self.streams.slots()).max(1);
        let durable: BTreeMap<_, _> =
            durable.into_iter().map(|consumer| (consumer.spec.name.clone(), consumer)).collect();
        self.lanes.deploy(|name, lane| lane.deploy(activated.from, durable.get(name).copied().cloned()));
        for (name, joining) in &mut self.joining {
            joining.deployed.push((activated.from, durable.get(name).copied().cloned()));
        }
        for (name, consumer) in durable {
            if !self.lanes.has(&name) && !self.joining.contains_key(&name) {
                self.joining.insert(name.clone(), Joining::of(activated.from, Some(consumer.clone())));
                actions.push(Action::Recover(name));
            }
        }
    }

    fn recovered(&mut self, name: ConsumerName, mut recovery: Recovery, now: Moment, actions: &mut Vec<Action>) {
        let lost = self.streams.recovered(&name, recovery.paused);
        lose(&name, lost, actions);
        let Some(joining) = self.joining.get_mut(&name).filter(|joining| !joining.rekeying) else { return };
        if let Some(consumer) = joining.consumer() {
            let rules = Some(KeyRules::of(&consumer.spec.delivery));
            if joining.rekeyed == rules {
                recovery.keyed_by = rules;
            } else if recovery.keyed_by != rules {
                actions.push(Action::Rekey(consumer.spec.clone()));
                joining.rekeying = true;
                return;
            }
        }
        let Some(joining) = self.joining.remove(&name) else { return };
        let mut lane = Lane::new(name.clone(), recovery);
        joining.deployed.into_iter().for_each(|(from, consumer)| lane.deploy(from, consumer));
        if let Some(flow) = joining.flow {
            lane.flow_on(flow);
        }
        joining.missed.into_iter().for_each(|commit| told(&mut lane, commit, now));
        self.lanes.insert(name, lane);
    }

    /// Lanes of consumers whose keys a reload has changed, once nothing of theirs is under way, begin anew on what the log has.
    fn turn_over(&mut self, actions: &mut Vec<Action>) {
        let from = self.head() + 1;
        for (name, lane) in self.lanes.take_if(|lane| lane.is_turning() && lane.has_come_to_rest()) {
            let joining = Joining::of(from, lane.consumer().cloned());
            self.joining.insert(name.clone(), Joining { flow: Some(lane.into_flow()), ..joining });
            actions.push(Action::Recover(name));
        }
    }

    /// The slot of a call that is over is another's, if its consumer allows that.
    fn called(&mut self, id: &DeliveryId) {
        if self.lanes.touch(&id.consumer).is_some_and(|lane| lane.called(id)) {
            self.running = self.running.saturating_sub(1);
            self.settling += 1;
            self.slow.remove(id);
        }
    }

    fn ended(&mut self, ended: Ended, now: Moment, actions: &mut Vec<Action>) {
        let Ended { consumer: name, left, took } = ended;
        let first = left.first().map(|(id, _)| id);
        let settling = first.is_some_and(|id| self.lanes.get(&name).is_some_and(|lane| lane.is_settling(id)));
        let calls = if settling { &mut self.settling } else { &mut self.running };
        *calls = calls.saturating_sub(1);
        for (id, _) in &left {
            self.slow.remove(id);
            self.suspect.take_if(|suspect| suspect == id);
        }
        self.with(&name, |lane| {
            // What was not called says nothing about what a call takes.
            if took > Duration::ZERO {
                lane.meter.note(took);
            }
            let changes = lane.ended(left, now);
            actions.extend(changes.into_iter().map(|change| Action::Tell(name.clone(), change)));
        });
    }

    /// Sees that lanes with room get more to do.
    fn fill(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let head = self.head();
        self.lanes.each_touched(|name, lane| {
            lane.go_on_after_recovery(now);
            if let Some(after) = lane.wants_page(head) {
                actions.push(Action::Read(name.clone(), after));
            }
            let waiting = lane.wants_waiting().into_iter();
            actions.extend(waiting.map(|(priority, after)| Action::Load(name.clone(), priority, after)));
            actions.extend(lane.fall_due(now).into_iter().map(|(id, errand)| Action::Fetch(id, errand)));
            let parked = lane.wants_parked(now);
            if !parked.is_empty() {
                actions.push(Action::Park(name.clone(), parked));
            }
            let blocked = lane.wants_blocked().into_iter();
            actions.extend(blocked.map(|wanted| Action::Unpark(name.clone(), wanted)));
        });
    }

    /// Starts attempts, one lane after the other, while there are slots.
    fn start(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.running >= self.slots {
            return;
        }
        let mut order = self.lanes.ready_after(self.served.as_ref());
        while self.running < self.slots && !order.is_empty() {
            order.retain(|name| {
                let started = self.running < self.slots && self.start_one(name, now, actions);
                if started {
                    self.served = Some(name.clone());
                }
                started
            });
        }
    }

    fn start_one(&mut self, name: &ConsumerName, now: Moment, actions: &mut Vec<Action>) -> bool {
        let generation = self.generation;
        let Some(lane) = self.lanes.touch(name) else { return false };
        let pace = lane.meter.pace();
        let prepared = self.prepared.as_ref().filter(|_| planted::is(Bug::ReloadSwapsRunningCode));
        let swapped = prepared.and_then(|snapshot| snapshot.consumers.get(name)).cloned();
        if pace == Pace::Slow && self.slow.len() >= slots_for_slow(self.slots) {
            return false;
        }
        let Some((claimed, consumer)) =
            lane.claim(now, self.suspect.is_none()).zip(swapped.or_else(|| lane.consumer().cloned()))
        else {
            return false;
        };
        let claims: Vec<Claim> = claimed.iter().map(|ready| claim(lane, ready, &consumer, generation)).collect();
        let Some(first) = claims.first().map(|claim| claim.id.clone()) else { return false };
        self.running += 1;
        if pace == Pace::Slow {
            self.slow.insert(first.clone());
        }
        if lane.is_suspect(&first) && claims.iter().all(|claim| claim.instead.is_none()) {
            self.suspect = Some(first);
        }
        let batch = consumer.spec.delivery.batch.is_some();
        actions.extend(match (batch, claims) {
            (true, claims) => Some(Action::Batch(claims, pace)),
            (false, claims) => claims.into_iter().next().map(|claim| Action::Attempt(Box::new(claim), pace)),
        });
        true
    }

    /// Ephemeral consumers have slots of their own: neither kind waits for the other.
    fn stream(&mut self, actions: &mut Vec<Action>) {
        let generation = self.generation;
        for (claim, pace) in self.streams.start(generation) {
            actions.push(Action::Stream(Box::new(claim), pace));
        }
    }

    /// How long from now until something is to be done that nobody will tell of.
    pub fn next_wake(&self, now: Moment) -> Option<Duration> {
        if self.draining {
            return None;
        }
        self.lanes.next_wake(now).into_iter().chain(self.bell.next(now)).min()
    }

    /// Whether no deployed consumer has anything left to do about events up to `through`.
    pub fn is_settled(&mut self, through: Seq) -> bool {
        self.joining.is_empty() && self.prepared.is_none() && self.lanes.is_settled(through)
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub fn head(&self) -> Seq {
        self.lanes.head()
    }

    /// Calls in hand until they are settled, those of ephemeral consumers included.
    pub fn running(&self) -> usize {
        self.running + self.settling + self.streams.running()
    }

    /// How those consumers stand that may stand otherwise than when this was asked last.
    pub fn standings(&mut self) -> Vec<(ConsumerName, Standing)> {
        let untold = self.lanes.take_untold();
        let anew =
            |name: &ConsumerName| self.joining.get(name).and_then(|joining| Some(joining.flow.as_ref()?.standing()));
        let of = |name: &ConsumerName| self.lanes.get(name).map(Lane::standing).or_else(|| anew(name));
        let lanes = untold.into_iter().filter_map(|name| of(&name).map(|standing| (name, standing)));
        lanes.chain(self.streams.standings().map(|(name, standing)| (name.clone(), standing))).collect()
    }
}

fn lose(name: &ConsumerName, lost: u64, actions: &mut Vec<Action>) {
    if lost > 0 {
        actions.push(Action::Lost(name.clone(), lost));
    }
}

fn advance(moved: Vec<(ConsumerName, Seq)>, actions: &mut Vec<Action>) {
    if !moved.is_empty() {
        actions.push(Action::Advance(moved));
    }
}

/// What concerns one consumer alone.
fn told(lane: &mut Lane, commit: Commit, now: Moment) {
    match commit {
        Commit::Redriven(waiting) => waiting.into_iter().for_each(|waiting| lane.wait(waiting)),
        Commit::Withdrawn(waiting) => lane.withdraw(waiting, now),
        Commit::Paused(_, paused) => lane.pause(paused),
        Commit::Released(_, holders) => lane.released(&holders, now),
        _ => {}
    }
}

fn claim(lane: &Lane, ready: &Ready, consumer: &Consumer, generation: Generation) -> Claim {
    // What is ready is pending, so a claim is always legal; the time and the number do not matter to it.
    let leased = ready.delivery.step(Input::Claim, &consumer.spec.retry, Timestamp::MIN, 0);
    Claim {
        id: ready.id.clone(),
        delivery: leased.unwrap_or(ready.delivery),
        event: ready.event.clone(),
        consumer: consumer.clone(),
        generation,
        stored: ready.stored,
        key: ready.key.as_ref().map(ToString::to_string),
        mark: ready.mark.as_ref().map(ToString::to_string),
        frees: lane.frees(ready),
        careful: lane.is_careful(ready),
        instead: ready.instead.clone(),
        errand: ready.errand.clone(),
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
pub(super) mod tests;
