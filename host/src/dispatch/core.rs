//! Every decision of the dispatcher, without a runtime: something happened, so do these things. The production loop
//! and a simulator drive the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::lane::{Lane, Ready, WaitKey};
use super::pace::{Pace, slots_for_slow};
use super::settle::Claim;
use crate::log::{Activated, Commit, Recovery, Waiting};
use crate::model::delivery::Input;
use crate::model::{ConsumerName, Delivery, DeliveryId, Event, Generation, Seq, Timestamp};
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
    /// None where reading failed; it is asked for again.
    Page(ConsumerName, Option<Vec<Arc<Event>>>),
    Loaded(ConsumerName, Option<Vec<Waiting>>),
    Fetched(DeliveryId, Option<Arc<Event>>),
    /// An attempt and its settlement are over.
    /// With what the call of the handler took.
    Ended(DeliveryId, Ended, Duration),
    /// Time has passed.
    Tick,
    /// Claim nothing more.
    Drain,
}

/// How an attempt left its delivery.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    Settled(Delivery),
    /// A lost race for state: nothing was kept.
    Conflict(Delivery),
    /// The log did not take the settlement: the delivery stays as the log knows it, and is tried again.
    Unsettled,
}

/// Something to do.
pub enum Action {
    Attempt(Box<Claim>, Pace),
    Recover(ConsumerName),
    Read(ConsumerName, Seq),
    Load(ConsumerName, Option<WaitKey>),
    Fetch(DeliveryId),
    Advance(Vec<(ConsumerName, Seq)>),
}

pub struct Core {
    lanes: BTreeMap<ConsumerName, Lane>,
    /// Consumers whose recovery is under way, as they are deployed.
    joining: BTreeMap<ConsumerName, Option<Consumer>>,
    prepared: Option<Snapshot>,
    generation: Generation,
    live_from: Seq,
    head: Seq,
    /// Attempts that may run at once, over all lanes.
    slots: usize,
    running: usize,
    /// Those of them that belong to slow consumers.
    slow: BTreeSet<DeliveryId>,
    /// The lane served last: the next one is served first, so that every lane gets its turn.
    served: Option<ConsumerName>,
    draining: bool,
    /// When positions were last told for the sake of time.
    advanced_at: Timestamp,
}

impl Core {
    /// `head` is the last event in the log.
    pub fn new(head: Seq) -> Self {
        Self {
            lanes: BTreeMap::new(),
            joining: BTreeMap::new(),
            prepared: None,
            generation: Generation(0),
            live_from: head + 1,
            head,
            slots: 0,
            running: 0,
            slow: BTreeSet::new(),
            served: None,
            draining: false,
            advanced_at: Timestamp(0),
        }
    }

    /// Takes in what happened until `now`, in order, and says what to do. Many at once cost little more than one.
    pub fn handle(&mut self, wakes: impl IntoIterator<Item = Wake>, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        for wake in wakes {
            self.note(wake, now, &mut actions);
        }
        if !self.draining {
            self.fill(now, &mut actions);
            self.start(&mut actions);
        }
        self.advance(ADVANCE_STEP, &mut actions);
        actions
    }

    fn note(&mut self, wake: Wake, now: Timestamp, actions: &mut Vec<Action>) {
        match wake {
            Wake::Commit(commit) => self.committed(commit, now, actions),
            Wake::Prepared(snapshot) => self.prepared = snapshot,
            Wake::Recovered(name, recovery) => self.recovered(name, recovery),
            Wake::Page(name, events) => {
                let head = self.head;
                self.with(&name, |lane| match events {
                    Some(events) => lane.page(&events, head, now),
                    None => lane.page_failed(),
                });
            }
            Wake::Loaded(name, page) => self.with(&name, |lane| match page {
                Some(page) => lane.loaded(page, PAGE_WAITING),
                None => lane.load_failed(),
            }),
            Wake::Fetched(id, event) => self.with(&id.consumer.clone(), |lane| lane.fetched(&id, event, now)),
            Wake::Ended(id, ended, took) => self.ended(&id, ended, took, now),
            Wake::Tick => {
                if now.since(self.advanced_at) >= ADVANCE_EVERY || now < self.advanced_at {
                    self.advanced_at = now;
                    self.advance(1, actions);
                }
            }
            Wake::Drain => {
                self.draining = true;
                self.advance(1, actions);
            }
        }
    }

    fn with(&mut self, name: &ConsumerName, act: impl FnOnce(&mut Lane)) {
        if let Some(lane) = self.lanes.get_mut(name) {
            act(lane);
        }
    }

    fn committed(&mut self, commit: Commit, now: Timestamp, actions: &mut Vec<Action>) {
        match commit {
            Commit::Events(events) => {
                if let Some(last) = events.last() {
                    self.head = self.head.max(last.seq);
                }
                self.lanes.values_mut().for_each(|lane| lane.offer(&events, now));
            }
            Commit::Redriven(waiting) => {
                for Waiting { id, delivery, .. } in waiting {
                    self.with(&id.consumer.clone(), |lane| lane.wait(id, delivery));
                }
            }
            Commit::Activated(activated) => self.activated(activated, actions),
            // The attempt that is settled reports by itself.
            Commit::Settled(..) | Commit::Paused(..) | Commit::Released(..) => {}
        }
    }

    fn activated(&mut self, activated: Activated, actions: &mut Vec<Action>) {
        let Some(snapshot) = self.prepared.take() else { return };
        self.generation = activated.generation;
        self.live_from = activated.from;
        self.slots = usize::try_from(snapshot.deployment.ceilings.attempts).unwrap_or(usize::MAX);
        for (name, lane) in &mut self.lanes {
            lane.deploy(activated.from, snapshot.consumers.get(name).cloned());
        }
        for (name, joining) in &mut self.joining {
            *joining = snapshot.consumers.get(name).cloned();
        }
        for (name, consumer) in snapshot.consumers.iter() {
            if !self.lanes.contains_key(name) && !self.joining.contains_key(name) {
                self.joining.insert(name.clone(), Some(consumer.clone()));
                actions.push(Action::Recover(name.clone()));
            }
        }
    }

    fn recovered(&mut self, name: ConsumerName, recovery: Recovery) {
        let Some(consumer) = self.joining.remove(&name) else { return };
        let mut lane = Lane::new(name.clone(), recovery);
        lane.deploy(self.live_from, consumer);
        self.lanes.insert(name, lane);
    }

    fn ended(&mut self, id: &DeliveryId, ended: Ended, took: Duration, now: Timestamp) {
        self.running = self.running.saturating_sub(1);
        self.slow.remove(id);
        self.with(&id.consumer, |lane| {
            lane.meter.note(took);
            match ended {
                Ended::Settled(next) => lane.settled(id, next),
                Ended::Conflict(delivery) => lane.conflicted(id, delivery),
                Ended::Unsettled => lane.abandoned(id, now),
            }
        });
    }

    /// Sees that lanes with room get more to do.
    fn fill(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let head = self.head;
        for (name, lane) in &mut self.lanes {
            if let Some(after) = lane.wants_page(head) {
                actions.push(Action::Read(name.clone(), after));
            }
            if let Some(after) = lane.wants_waiting() {
                actions.push(Action::Load(name.clone(), after));
            }
            actions.extend(lane.fall_due(now).into_iter().map(Action::Fetch));
        }
    }

    /// Starts attempts, one lane after the other, while there are slots.
    fn start(&mut self, actions: &mut Vec<Action>) {
        let mut order: Vec<ConsumerName> = self.lanes.keys().cloned().collect();
        if let Some(served) = &self.served {
            let first = order.partition_point(|name| name <= served);
            order.rotate_left(first);
        }
        while self.running < self.slots && !order.is_empty() {
            order.retain(|name| {
                let started = self.running < self.slots && self.start_one(name, actions);
                if started {
                    self.served = Some(name.clone());
                }
                started
            });
        }
    }

    fn start_one(&mut self, name: &ConsumerName, actions: &mut Vec<Action>) -> bool {
        let generation = self.generation;
        let Some(lane) = self.lanes.get_mut(name) else { return false };
        let pace = lane.meter.pace();
        if pace == Pace::Slow && self.slow.len() >= slots_for_slow(self.slots) {
            return false;
        }
        let Some((ready, consumer)) = lane.claim().zip(lane.consumer().cloned()) else { return false };
        let Ready { id, delivery, event, .. } = ready;
        // What is ready is pending, so a claim is always legal; the time and the number do not matter to it.
        let Ok(delivery) = delivery.step(Input::Claim, &consumer.spec.retry, Timestamp::MIN, 0) else { return false };
        self.running += 1;
        if pace == Pace::Slow {
            self.slow.insert(id.clone());
        }
        actions.push(Action::Attempt(Box::new(Claim { id, delivery, event, consumer, generation }), pace));
        true
    }

    fn advance(&mut self, step: u64, actions: &mut Vec<Action>) {
        let moved: Vec<_> =
            self.lanes.iter_mut().filter_map(|(name, lane)| Some((name.clone(), lane.advanced(step)?))).collect();
        if !moved.is_empty() {
            actions.push(Action::Advance(moved));
        }
    }

    /// When something will be due next.
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.draining { None } else { self.lanes.values().filter_map(Lane::next_due).min() }
    }

    /// Whether no deployed consumer has anything left to do about events up to `through`.
    pub fn is_settled(&self, through: Seq) -> bool {
        self.joining.is_empty() && self.prepared.is_none() && self.lanes.values().all(|lane| lane.is_settled(through))
    }

    pub fn is_draining(&self) -> bool {
        self.draining
    }

    pub fn head(&self) -> Seq {
        self.head
    }

    /// Attempts in hand, over all lanes and of each.
    pub fn running(&self) -> usize {
        self.running
    }

    pub fn running_of(&self) -> impl Iterator<Item = (&ConsumerName, usize)> {
        self.lanes.iter().map(|(name, lane)| (name, lane.running()))
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
