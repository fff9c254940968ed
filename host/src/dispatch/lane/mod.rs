//! A consumer's lane: what it has still to do, how much of it may run at once, and how far it has come. Pure: told
//! what happened, asked what to do next.
//!
//! A delivery's way through it: read from the log (*intake*), or due again (*waiting*); behind others of its key (*lines*);
//! ready (*queue*); let through by pause, rate, breaker and budget (*gate*); in hand.

mod gate;
mod hand;
mod lines;
mod pages;
mod queue;
mod rows;
mod waiting;
mod windows;

#[cfg(test)]
mod job_tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::gate::Gate;
use self::hand::MarkLine;
use self::lines::{Entered, Lines, Next};
use self::pages::Pages;
use self::queue::Queues;
use self::waiting::Held;
use self::windows::Windows;
use super::pace::Meter;
use super::settle::Instead;
use crate::log::{Recovery, Waiting};
use crate::model::breaker::BreakerState;
use crate::model::event::HOST_SOURCE;
use crate::model::keys::KeyRules;
use crate::model::spec::{DeliverySpec, SubscriptionSpec};
use crate::model::{ConsumerName, Delivery, DeliveryId, Event, Moment, Outcome, Seq};
use crate::planted::{self, Bug};
use crate::registry::Consumer;

pub use self::queue::{Fetched, Ready};
pub use self::rows::Parked;
#[cfg(test)]
pub(crate) use self::waiting::WAITING_MAX;
pub use self::waiting::WaitKey;

/// Deliveries held ready in memory; beyond it, the log keeps them until there is room.
pub const READY_MAX: usize = 1_024;
/// Below it, more is read from the log.
const READY_LOW: usize = 256;
/// Payload bytes of deliveries held ready in memory, but for the last page; and below which more is read.
pub const READY_BYTES_MAX: usize = 16 << 20;
const READY_BYTES_LOW: usize = 8 << 20;
/// Deliveries that are neither settled nor stored, over all places of the lane.
const OPEN_MAX: usize = 8 * READY_MAX;
/// A delivery whose attempt could not be settled, or whose event could not be read, is due again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Events of one priority fetched at once for deliveries that became due; of a consumer of batches, at least one batch.
const FETCHES_MAX: usize = 16;
/// Lost races for state in a row after which a delivery runs alone.
const CONFLICTS_MAX: u32 = 3;
/// A delivery that was in hand when the host died runs beside no other such one from this many times on, and not at all from
/// the other.
const CRASHES_ALONE: u32 = 2;
const CRASHES_MAX: u32 = 3;

/// How an attempt left its delivery, for the lane.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// Its settlement is durable, and the delivery stands so.
    Settled {
        next: Delivery,
        outcome: Outcome,
        /// Whether a dead letter holds its key from now on, if that has changed.
        hold: Option<bool>,
    },
    /// It lost a race for state: nothing of it was kept, it runs again.
    Conflict(Delivery),
    /// The batch that it was in failed as a whole, and nothing is charged: it runs again by itself.
    Apart(Delivery, Outcome),
    /// It could not be settled: for the log it never ran. If the log goes on, it runs again after a moment; if not, after the
    /// next start.
    Unsettled,
}

/// What a lane holds, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Deliveries in hand.
    pub running: usize,
    /// Ready, and waiting for a place.
    pub ready: usize,
    /// In memory behind others of their key.
    pub blocked: usize,
    pub breaker: BreakerState,
    pub paused: bool,
}

pub struct Lane {
    name: ConsumerName,
    /// None: the manifest no longer has it; its work waits.
    consumer: Option<Consumer>,
    /// From which sequence on which subscriptions held.
    timeline: Vec<(Seq, Vec<SubscriptionSpec>)>,
    /// Every event up to here has been looked at.
    read_at: Seq,
    /// A page of the log is on its way; it was asked for when the log's last event was this one.
    reading: Option<Seq>,
    /// Settled or stored before the last stop, beyond the cursor.
    settled: BTreeSet<Seq>,
    queues: Queues,
    /// Since when a batch has been waiting to be full.
    gathering_since: Option<Duration>,
    /// Deliveries that lost their races for state: each runs alone.
    alone: VecDeque<Ready>,
    running_alone: bool,
    /// Those that have been in hand at crashes: one at a time, over all lanes.
    suspects: VecDeque<Ready>,
    careful_to: Seq,
    crashes: BTreeMap<DeliveryId, u32>,
    lines: Lines,
    /// How many of one key may run at once, and whether a turn is kept while its delivery waits: as the rules have it by which the
    /// keys in here were found.
    turns: (usize, bool),
    /// Lines whose parked deliveries are to be read back.
    loads: Vec<Arc<str>>,
    /// To be given rows, and on their way to them.
    to_park: Vec<(Ready, bool)>,
    parking: BTreeMap<DeliveryId, (Held, bool)>,
    windows: Windows,
    pages: Pages,
    /// Idempotency keys in hand, and who waits for them to be settled.
    marks: BTreeMap<Arc<str>, MarkLine>,
    gate: Gate,
    /// Running attempts, their settlement included.
    in_hand: BTreeMap<DeliveryId, Ready>,
    /// Those of them that are dead letters by now and hold no key any more, and have not said yet that they do.
    freed: BTreeSet<DeliveryId>,
    /// Those that their runs have given up.
    withdrawn: BTreeSet<DeliveryId>,
    /// Calls that they are in, until they are over: a batch is one.
    calls: usize,
    /// Those whose call is over and made room for another, before what it came to is in the log.
    settling: BTreeSet<DeliveryId>,
    /// Events whose first delivery is neither settled nor stored: they hold the cursor back.
    open: BTreeSet<Seq>,
    /// The cursor as the log was last told.
    told: Seq,
    /// What attempts take.
    pub(super) meter: Meter,
    /// By which all keys in here, and those of the rows in the log, were found.
    rules: Option<KeyRules>,
    /// The consumer asks for others.
    turning: bool,
}

/// How a consumer has flowed: its rate, its breaker, its budget, and what its attempts take.
pub struct Flow {
    gate: Gate,
    meter: Meter,
}

impl Flow {
    /// While the lane is made anew, it has nothing; but its breaker is as it was.
    pub fn standing(&self) -> Standing {
        Standing { breaker: self.gate.breaker(), paused: self.gate.paused, ..Standing::default() }
    }
}

impl Lane {
    pub fn new(name: ConsumerName, recovery: Recovery) -> Self {
        Self {
            name,
            consumer: None,
            timeline: recovery.timeline,
            read_at: recovery.position,
            reading: None,
            settled: recovery.settled.into_iter().collect(),
            queues: Queues::default(),
            gathering_since: None,
            alone: VecDeque::new(),
            running_alone: false,
            suspects: VecDeque::new(),
            careful_to: recovery.careful_to,
            crashes: recovery.crashes.into_iter().collect(),
            lines: Lines::new(
                recovery.keys,
                if planted::is(Bug::HoldForgottenOnRestart) { Vec::new() } else { recovery.held },
            ),
            turns: (1, true),
            loads: Vec::new(),
            to_park: Vec::new(),
            parking: BTreeMap::new(),
            windows: Windows::new(),
            pages: Pages::default(),
            marks: BTreeMap::new(),
            gate: Gate::new(recovery.paused && !planted::is(Bug::PauseForgottenOnRestart)),
            in_hand: BTreeMap::new(),
            freed: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            calls: 0,
            settling: BTreeSet::new(),
            open: BTreeSet::new(),
            told: recovery.position,
            meter: Meter::default(),
            rules: recovery.keyed_by,
            turning: false,
        }
    }

    pub fn consumer(&self) -> Option<&Consumer> {
        self.consumer.as_ref()
    }

    /// From `from` on, the consumer is this one, or none.
    pub fn deploy(&mut self, from: Seq, consumer: Option<Consumer>) {
        let subscriptions = consumer.as_ref().map_or_else(Vec::new, |c| c.spec.subscriptions.clone());
        if self.timeline.last().is_none_or(|(_, held)| *held != subscriptions) {
            self.timeline.push((from, subscriptions));
        }
        if consumer.is_none() {
            // Nobody judges the attempts that end without it, a probe least of all.
            self.gate.forget();
        }
        let rules = consumer.as_ref().map(|consumer| KeyRules::of(&consumer.spec.delivery));
        self.turning =
            rules.is_some_and(|rules| self.rules.as_ref() != Some(&rules)) && !planted::is(Bug::KeysNotFoundAnew);
        // What stands in line by other rules goes on by them, until the lane is made anew.
        if let Some(consumer) = consumer.as_ref().filter(|_| !self.turning) {
            self.turns = turns(&consumer.spec.delivery);
        }
        self.consumer = consumer;
        if !self.turning && !self.turns.1 {
            self.lines.share();
        }
    }

    /// Whether the manifest asks for other keys than those by which everything here waits: then nothing more begins, and once
    /// nothing is on its way ([`Lane::has_come_to_rest`]), the lane is made anew of what the log has.
    pub fn is_turning(&self) -> bool {
        self.turning
    }

    /// Whether no attempt is in hand, and no question or change of the lane's on its way to the log.
    pub fn has_come_to_rest(&self) -> bool {
        let asks = self.reading.is_some() || self.pages.are_on_their_way() || self.windows.is_fetching();
        self.in_hand.is_empty() && !asks && self.parking.is_empty()
    }

    /// What outlives the lane: how it has flowed.
    pub fn into_flow(self) -> Flow {
        Flow { gate: self.gate, meter: self.meter }
    }

    /// Goes on as it has flowed before.
    pub fn flow_on(&mut self, flow: Flow) {
        let paused = self.gate.paused;
        self.gate = flow.gate;
        self.gate.paused = paused;
        self.meter = flow.meter;
    }

    /// The consumer, if it may be given anything.
    fn served(&self) -> Option<&Consumer> {
        self.consumer.as_ref().filter(|_| !self.turning)
    }

    /// No handler is to be called for these any more. What is in hand comes to its end first.
    pub fn withdraw(&mut self, withdrawn: Vec<Waiting>, now: Moment) {
        for waiting in withdrawn {
            self.withdrawn.insert(waiting.id.clone());
            if !self.windows.hurry(&waiting.id, now) && !waiting.blocked && !self.knows(&waiting.id) {
                self.wait(waiting);
            }
        }
    }

    pub fn pause(&mut self, paused: bool) {
        self.gate.paused = paused;
    }

    fn subscribes(&self, event: &Event) -> bool {
        let entry = self.timeline.iter().rev().find(|(from, _)| *from <= event.seq);
        let meant = entry.is_some_and(|(_, subscriptions)| subscriptions.iter().any(|s| s.matches(event)));
        meant && !event.envelope.is_of_breaker(&self.name)
    }

    /// Whether an event of this type may concern it, whatever else is asked of the event. Of all that it has subscribed to, because
    /// which of that holds depends on where the event stands in the log.
    pub fn may_want(&self, event_type: &str) -> bool {
        let mut subscriptions = self.timeline.iter().flat_map(|(_, subscriptions)| subscriptions);
        subscriptions.any(|subscription| subscription.pattern.matches(event_type))
    }

    /// Whether it has looked at every event up to `head`, and takes the next ones as they are committed. Without its consumer, a
    /// delivery's keys are not known: what is read then is read again.
    pub fn is_abreast(&self, head: Seq) -> bool {
        self.read_at == head && self.follows() && !self.lines.are_recovering()
    }

    /// Whether it has looked at every event up to `head`, and must be asked what it wants when there are more.
    pub fn is_ahead(&self, head: Seq) -> bool {
        self.read_at >= head && self.follows()
    }

    fn follows(&self) -> bool {
        self.served().is_some() && self.reading.is_none()
    }

    /// Nothing up to there concerns it that it has not looked at.
    pub fn passed(&mut self, seq: Seq) {
        self.read_at = self.read_at.max(seq);
    }

    /// Of the events up to `through` that were just committed, those that may concern it. It is abreast; they are taken while there is
    /// room, and read later from there on.
    pub fn offer(&mut self, events: &[&Arc<Event>], through: Seq, now: Moment) {
        for event in events {
            if !self.has_room(READY_MAX, READY_BYTES_MAX) {
                return self.passed(event.seq - 1);
            }
            self.take(event, now);
        }
        self.passed(through);
    }

    fn has_room(&self, ready: usize, bytes: usize) -> bool {
        let (held, held_bytes) = self.queues.first();
        held < ready && held_bytes < bytes && self.open.len() < OPEN_MAX
    }

    /// A page of the log that was asked for, while `head` is the last event that commits told of. A page may run ahead
    /// of the commits, and what lies beyond them may belong to a generation that is not known yet: it is read again.
    pub fn page(&mut self, events: &[Arc<Event>], head: Seq, now: Moment) {
        let Some(asked_at) = self.reading.take().filter(|_| self.served().is_some()) else { return };
        if events.first().is_none_or(|first| first.seq > asked_at) {
            // The log has nothing in between: a loss that was accepted, or what retention took.
            self.read_at = self.read_at.max(asked_at);
        }
        for event in events.iter().take_while(|event| event.seq <= head) {
            if event.seq > self.read_at {
                self.take(event, now);
            }
        }
    }

    /// A page could not be read; it is asked for again.
    pub fn page_failed(&mut self) {
        self.reading = None;
    }

    fn take(&mut self, event: &Arc<Event>, now: Moment) {
        self.read_at = event.seq;
        let known = self.settled.remove(&event.seq);
        if !known && self.subscribes(event) && !self.is_too_deep(event) {
            let id = DeliveryId { seq: event.seq, consumer: self.name.clone(), round: 0 };
            self.open.insert(event.seq);
            let due_at = event.envelope.not_before.unwrap_or(event.accepted_at);
            let ready = self.known_as(Ready::new(id, Delivery::new(due_at), event.clone()));
            self.admit(ready, true, now);
        }
    }

    /// Finds its keys; without those that the manifest asks for, it is refused.
    fn known_as(&self, mut ready: Ready) -> Ready {
        let Some(consumer) = &self.consumer else { return ready };
        let spec = &consumer.spec.delivery;
        let mut key = |of: Result<String, String>, what: &str| match of {
            Ok(key) => Some(Arc::from(key)),
            Err(reason) => {
                ready.instead = Some(Instead::Refused(format!("{what}: {reason}")));
                None
            }
        };
        let order = spec.order.as_ref().and_then(|order| key(order.by.of(&ready.event), "order-by"));
        let share = spec.share.as_ref().and_then(|share| key(share.key.key(&ready.event), "concurrency-per-key"));
        let mark = spec.idempotency.as_ref().and_then(|spec| key(spec.key.key(&ready.event), "idempotency-key"));
        ready.key = ready.key.or(order).or(share);
        // Of a run's steps each is done once, whatever else has the key.
        ready.mark = mark.filter(|_| !ready.is_step());
        ready
    }

    /// A delivery comes in that is not waiting for anything but its key.
    fn admit(&mut self, ready: Ready, fresh: bool, now: Moment) {
        // Also what is refused waits for its turn, if its key is known.
        let Some(key) = ready.key.clone() else { return self.stand(ready, fresh, now) };
        let (limit, keeps) = self.turns;
        match self.lines.enter(&key, ready, limit, keeps) {
            Entered::Go(ready) => self.stand(ready, fresh, now),
            Entered::Waits => {}
            Entered::Park(ready) => self.to_park.push((ready, true)),
        }
    }

    /// It is its turn: it is ready, unless it may not be delivered yet.
    fn stand(&mut self, mut ready: Ready, fresh: bool, now: Moment) {
        if ready.waits_after_its_turn(now.wall) {
            if let Some(key) = ready.key.as_ref().filter(|_| !self.turns.1) {
                self.lines.leave(key, &ready.id);
            }
            return self.to_park.push((ready, false));
        }
        let crashes = self.crashes.get(&ready.id).copied().unwrap_or(0);
        if crashes >= CRASHES_MAX && ready.instead.is_none() {
            ready.instead = Some(Instead::Crashed);
        }
        self.gathering_since.get_or_insert(now.monotonic);
        if crashes >= CRASHES_ALONE && ready.instead.is_none() {
            self.suspects.push_back(ready);
        } else if fresh {
            self.queues.push_first(ready);
        } else {
            self.queues.push(ready);
        }
    }

    /// Lets those of a line go whose turn it is.
    fn go_on(&mut self, key: &Arc<str>, now: Moment) {
        let (limit, keeps) = self.turns;
        loop {
            match self.lines.next(key, limit, keeps) {
                Next::Go(ready) => self.stand(ready, false, now),
                Next::Load => return self.loads.push(key.clone()),
                Next::Nobody => return,
            }
        }
    }

    /// Lines whose parked deliveries had to wait until the log was read so far.
    pub fn go_on_after_recovery(&mut self, now: Moment) {
        for key in self.lines.recovered(self.read_at) {
            self.go_on(&key, now);
        }
    }

    /// The host's own events could cause one another for ever, as when a consumer of dead letters dies of each: such a
    /// chain is recorded to its end and delivered only so deep. A guest is refused at the depth where it publishes.
    fn is_too_deep(&self, event: &Event) -> bool {
        let deepest = self.consumer.as_ref().map_or(u32::MAX, |c| c.spec.limits.chain_depth);
        let deep = event.envelope.source == HOST_SOURCE && event.envelope.depth > deepest;
        if deep {
            let (event, consumer) = (event.seq, &self.name);
            tracing::warn!(event, %consumer, "not delivered: the chain of causes is longer than chain-depth {deepest}");
        }
        deep
    }

    /// The sequence after which to read, if the lane wants more of the log, whose last event is `head`.
    pub fn wants_page(&mut self, head: Seq) -> Option<Seq> {
        let hungry = self.has_room(READY_LOW, READY_BYTES_LOW);
        let wants = self.served().is_some() && hungry && self.read_at < head && self.reading.is_none();
        if !wants {
            return None;
        }
        self.reading = Some(head);
        Some(self.read_at)
    }

    /// These dead letters, by sequence and round, hold no key any more.
    pub fn released(&mut self, holders: &[(Seq, u32)], now: Moment) {
        for (seq, round) in holders.iter().copied() {
            let id = DeliveryId { seq, consumer: self.name.clone(), round };
            if self.in_hand.contains_key(&id) {
                self.freed.insert(id);
            }
            if let Some(key) = self.lines.let_go((seq, round)) {
                self.go_on(&key, now);
            }
        }
    }
}

/// How many deliveries of one key may run at once, and whether a turn is kept while its delivery waits.
fn turns(spec: &DeliverySpec) -> (usize, bool) {
    spec.share.as_ref().map_or((1, true), |share| (usize::try_from(share.limit).unwrap_or(usize::MAX), false))
}
