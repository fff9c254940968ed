//! A consumer's lane: what it has still to do, how much of it may run at once, and how far it has come. Pure: told
//! what happened, asked what to do next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::pace::Meter;
use crate::log::{Recovery, Waiting};
use crate::model::event::HOST_SOURCE;
use crate::model::spec::SubscriptionSpec;
use crate::model::{ConsumerName, Delivery, DeliveryId, Event, Seq, State, Timestamp};
use crate::registry::Consumer;

/// Deliveries held ready in memory; beyond it, the log keeps them until there is room.
pub const READY_MAX: usize = 1_024;
/// Below it, more is read from the log.
const READY_LOW: usize = 256;
/// Payload bytes of deliveries held ready in memory, but for the last page; and below which more is read.
pub const READY_BYTES_MAX: usize = 16 << 20;
const READY_BYTES_LOW: usize = 8 << 20;
/// Waiting deliveries held in memory, the soonest.
pub const WAITING_MAX: usize = 10_000;
/// Deliveries held in memory until their events may be delivered (`notBefore`): the log has no row for them, so they
/// cannot be left to it. With more of them, the lane reads on only as they fall due.
pub const DELAYED_MAX: usize = 100_000;
/// A delivery whose attempt could not be settled, or whose event could not be read, is due again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Events fetched at once for deliveries that became due.
const FETCHES_MAX: usize = 16;
/// Lost races for state in a row after which a delivery runs alone.
const CONFLICTS_MAX: u32 = 3;

/// A delivery with its event, ready to be attempted.
#[derive(Clone, Debug)]
pub struct Ready {
    pub id: DeliveryId,
    pub delivery: Delivery,
    pub event: Arc<Event>,
    conflicts: u32,
}

/// The order in which waiting deliveries come due.
pub type WaitKey = (Timestamp, DeliveryId);

/// Which waiting deliveries are in the store and not in memory.
enum Stored {
    Nothing,
    /// Those after this one; all, if there is none.
    After(Option<WaitKey>),
}

impl Stored {
    fn has(&self, key: &WaitKey) -> bool {
        match self {
            Self::Nothing => false,
            Self::After(cut) => cut.as_ref().is_none_or(|cut| key > cut),
        }
    }
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
    /// Settled before the last stop, beyond the cursor.
    settled: BTreeSet<Seq>,
    /// First attempts, in log order.
    ready: VecDeque<Ready>,
    /// Bytes of their payloads.
    ready_bytes: usize,
    /// Further attempts that are due.
    again: VecDeque<Ready>,
    /// Which of the two is next, so that neither starves the other.
    again_first: bool,
    /// Deliveries that lost their races for state: each runs alone.
    alone: VecDeque<Ready>,
    running_alone: bool,
    /// Waiting deliveries as the store has them, soonest first.
    waiting: BTreeMap<WaitKey, Delivery>,
    /// Those that wait until then and that the store does not have, or not with this due time: events that may not be
    /// delivered yet, and what is tried again after a failure to read or settle.
    delayed: BTreeMap<WaitKey, Delivery>,
    /// Which of the waiting deliveries are in the store only.
    stored: Stored,
    loading: bool,
    /// Began to wait while a page of waiting deliveries was on its way, which may not have seen them.
    late: Vec<(DeliveryId, Delivery)>,
    /// Due, and their events on their way.
    fetching: BTreeMap<DeliveryId, Delivery>,
    /// Running attempts, their settlement included.
    in_hand: BTreeMap<DeliveryId, Ready>,
    /// Events whose first delivery is neither settled nor stored as waiting: they hold the cursor back.
    open: BTreeSet<Seq>,
    /// The cursor as the log was last told.
    told: Seq,
    /// What attempts take.
    pub(super) meter: Meter,
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
            ready: VecDeque::new(),
            ready_bytes: 0,
            again: VecDeque::new(),
            again_first: true,
            alone: VecDeque::new(),
            running_alone: false,
            waiting: BTreeMap::new(),
            delayed: BTreeMap::new(),
            stored: Stored::After(None),
            loading: false,
            late: Vec::new(),
            fetching: BTreeMap::new(),
            in_hand: BTreeMap::new(),
            open: BTreeSet::new(),
            told: recovery.position,
            meter: Meter::default(),
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
        self.consumer = consumer;
    }

    fn subscribes(&self, event: &Event) -> bool {
        let entry = self.timeline.iter().rev().find(|(from, _)| *from <= event.seq);
        entry.is_some_and(|(_, subscriptions)| subscriptions.iter().any(|s| s.matches(event)))
    }

    /// Events as they were committed. Taken if the lane is up to date and has room; otherwise read later.
    pub fn offer(&mut self, events: &[Arc<Event>], now: Timestamp) {
        for event in events {
            if event.seq != self.read_at + 1 || self.reading.is_some() || !self.has_room(READY_MAX, READY_BYTES_MAX) {
                return;
            }
            self.take(event, now);
        }
    }

    fn has_room(&self, ready: usize, bytes: usize) -> bool {
        self.ready.len() < ready && self.ready_bytes < bytes && self.open.len() < READY_MAX + DELAYED_MAX
    }

    /// A page of the log that was asked for, while `head` is the last event that commits told of. A page may run ahead
    /// of the commits, and what lies beyond them may belong to a generation that is not known yet: it is read again.
    pub fn page(&mut self, events: &[Arc<Event>], head: Seq, now: Timestamp) {
        let Some(asked_at) = self.reading.take() else { return };
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

    fn take(&mut self, event: &Arc<Event>, now: Timestamp) {
        let next = self.read_at + 1;
        self.read_at = event.seq;
        debug_assert!(event.seq >= next, "the log is read in order");
        if self.settled.remove(&event.seq) || !self.subscribes(event) || self.is_too_deep(event) {
            return;
        }
        let id = DeliveryId { seq: event.seq, consumer: self.name.clone(), round: 0 };
        self.open.insert(event.seq);
        let due_at = event.envelope.not_before.unwrap_or(event.accepted_at);
        let delivery = Delivery::new(due_at);
        if due_at > now {
            self.delayed.insert((due_at, id), delivery);
        } else {
            self.ready_bytes += event.envelope.data_len();
            self.ready.push_back(Ready { id, delivery, event: event.clone(), conflicts: 0 });
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
        let wants = self.consumer.is_some() && hungry && self.read_at < head && self.reading.is_none();
        if !wants {
            return None;
        }
        self.reading = Some(head);
        Some(self.read_at)
    }

    /// After which waiting delivery to load more of them, if there are more and there is room.
    pub fn wants_waiting(&mut self) -> Option<Option<WaitKey>> {
        let Stored::After(key) = &self.stored else { return None };
        if self.loading || self.waiting.len() > WAITING_MAX / 2 {
            return None;
        }
        self.loading = true;
        Some(key.clone())
    }

    /// Waiting deliveries that were asked for; fewer than `limit` if there are no more.
    pub fn loaded(&mut self, page: Vec<Waiting>, limit: usize) {
        self.loading = false;
        let last = page.last().and_then(|w| Some((due(w.delivery)?, w.id.clone())));
        self.stored = if page.len() < limit { Stored::Nothing } else { Stored::After(last) };
        for waiting in page {
            self.await_due(waiting.id, waiting.delivery);
        }
        for (id, delivery) in std::mem::take(&mut self.late) {
            self.wait(id, delivery);
        }
    }

    pub fn load_failed(&mut self) {
        self.loading = false;
    }

    /// A delivery that the store has as waiting.
    pub fn wait(&mut self, id: DeliveryId, delivery: Delivery) {
        let Some(due_at) = due(delivery) else { return };
        if self.loading {
            self.late.push((id, delivery));
            return;
        }
        if self.stored.has(&(due_at, id.clone())) {
            return;
        }
        self.await_due(id, delivery);
        while self.waiting.len() > WAITING_MAX && self.waiting.pop_last().is_some() {
            self.stored = Stored::After(self.waiting.last_key_value().map(|(key, _)| key.clone()));
        }
    }

    fn await_due(&mut self, id: DeliveryId, delivery: Delivery) {
        let known = self.fetching.contains_key(&id)
            || self.in_hand.contains_key(&id)
            || self.again.iter().chain(&self.alone).any(|ready| ready.id == id);
        if let (Some(due_at), false) = (due(delivery), known) {
            self.waiting.insert((due_at, id), delivery);
        }
    }

    /// When the next waiting delivery is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.consumer.as_ref()?;
        let room = self.fetching.len() + self.again.len() < FETCHES_MAX;
        let soonest = [&self.waiting, &self.delayed].into_iter().filter_map(|held| Some(held.first_key_value()?.0.0));
        room.then(|| soonest.min()).flatten()
    }

    /// Deliveries that have become due, whose events must be fetched.
    pub fn fall_due(&mut self, now: Timestamp) -> Vec<DeliveryId> {
        let mut due = Vec::new();
        while self.next_due().is_some_and(|due_at| due_at <= now) {
            let delayed = self.delayed.first_key_value().is_some_and(|((due_at, _), _)| *due_at <= now);
            let held = if delayed { &mut self.delayed } else { &mut self.waiting };
            let Some(((_, id), delivery)) = held.pop_first() else { break };
            if !self.in_hand.contains_key(&id) && self.fetching.insert(id.clone(), delivery).is_none() {
                due.push(id);
            }
        }
        due
    }

    /// The event of a delivery that has become due.
    pub fn fetched(&mut self, id: &DeliveryId, event: Option<Arc<Event>>, now: Timestamp) {
        let Some(delivery) = self.fetching.remove(id) else { return };
        match event {
            Some(event) => self.again.push_back(Ready { id: id.clone(), delivery, event, conflicts: 0 }),
            // The log could not be read: it is due again in a moment.
            None => {
                self.delayed.insert((now.plus(AGAIN_AFTER), id.clone()), delivery);
            }
        }
    }

    /// The next delivery to attempt, if the lane may run one more. It is in hand from now on.
    pub fn claim(&mut self) -> Option<Ready> {
        let concurrency = self.consumer.as_ref()?.spec.limits.concurrency;
        if self.running_alone || self.in_hand.len() >= usize::try_from(concurrency).unwrap_or(usize::MAX) {
            return None;
        }
        if !self.alone.is_empty() {
            if !self.in_hand.is_empty() {
                return None;
            }
            self.running_alone = true;
        }
        let again_first = self.again_first && !self.again.is_empty();
        let next = match self.alone.pop_front() {
            Some(alone) => alone,
            None if again_first || self.ready.is_empty() => self.again.pop_front()?,
            None => self.pop_ready()?,
        };
        self.again_first = !self.again_first;
        self.in_hand.insert(next.id.clone(), next.clone());
        Some(next)
    }

    fn pop_ready(&mut self) -> Option<Ready> {
        let ready = self.ready.pop_front()?;
        self.ready_bytes = self.ready_bytes.saturating_sub(ready.event.envelope.data_len());
        Some(ready)
    }

    /// The attempt's settlement is durable, and the delivery stands so.
    pub fn settled(&mut self, id: &DeliveryId, next: Delivery) {
        self.released(id);
        self.closed(id);
        if let State::Pending { .. } = next.state {
            self.wait(id.clone(), next);
        }
    }

    /// The attempt lost a race for state: nothing of it was kept, it runs again.
    pub fn conflicted(&mut self, id: &DeliveryId, delivery: Delivery) {
        let Some(ready) = self.released(id) else { return };
        let ready = Ready { delivery, conflicts: ready.conflicts + 1, ..ready };
        if ready.conflicts >= CONFLICTS_MAX { self.alone.push_back(ready) } else { self.again.push_front(ready) }
    }

    /// The attempt ended and could not be settled: for the log it never ran. If the log goes on, it runs again after a
    /// moment; if not, after the next start.
    pub fn abandoned(&mut self, id: &DeliveryId, now: Timestamp) {
        if let Some(ready) = self.released(id) {
            self.delayed.insert((now.plus(AGAIN_AFTER), ready.id), ready.delivery);
        }
    }

    fn released(&mut self, id: &DeliveryId) -> Option<Ready> {
        self.running_alone = false;
        self.in_hand.remove(id)
    }

    fn closed(&mut self, id: &DeliveryId) {
        if id.round == 0 {
            self.open.remove(&id.seq);
        }
    }

    pub fn running(&self) -> usize {
        self.in_hand.len()
    }

    /// Whether nothing of the events up to `through` is left to do. A removed consumer's work waits and is not asked.
    pub fn is_settled(&self, through: Seq) -> bool {
        if self.consumer.is_none() {
            return true;
        }
        let within = |id: &DeliveryId| id.seq <= through;
        self.read_at >= through
            && self.open.first().is_none_or(|seq| *seq > through)
            && !self.in_hand.keys().any(within)
            && !self.fetching.keys().any(within)
            && !self.again.iter().chain(&self.alone).any(|ready| within(&ready.id))
            && matches!(self.stored, Stored::Nothing)
            && self.late.is_empty()
            && !self.waiting.keys().chain(self.delayed.keys()).any(|(_, id)| within(id))
    }

    /// How far everything is settled or waiting.
    pub fn position(&self) -> Seq {
        self.open.first().map_or(self.read_at, |first| first - 1)
    }

    /// The position, if it is at least `step` further than the log was last told.
    pub fn advanced(&mut self, step: u64) -> Option<Seq> {
        let position = self.position();
        let further = position >= self.told.saturating_add(step.max(1));
        if further {
            self.told = position;
        }
        further.then_some(position)
    }
}

fn due(delivery: Delivery) -> Option<Timestamp> {
    match delivery.state {
        State::Pending { due_at } => Some(due_at),
        _ => None,
    }
}
