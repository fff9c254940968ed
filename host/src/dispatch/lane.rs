//! A consumer's lane: what it has still to do, how much of it may run at once, and how far it has come. Pure: told
//! what happened, asked what to do next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::log::{Recovery, Waiting};
use crate::model::spec::SubscriptionSpec;
use crate::model::{ConsumerName, Delivery, DeliveryId, Event, Seq, State, Timestamp};
use crate::registry::Consumer;

/// Deliveries held ready in memory; beyond it, the log keeps them until there is room.
pub const READY_MAX: usize = 1_024;
/// Below it, more is read from the log.
const READY_LOW: usize = 256;
/// Payload bytes held ready in memory, beyond one page of the log; a few large events are enough to be busy with.
pub const READY_BYTES_MAX: usize = 4 << 20;
/// Waiting deliveries held in memory, the soonest.
pub const WAITING_MAX: usize = 10_000;
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
    /// A page of the log is on its way.
    reading: bool,
    /// Settled before the last stop, beyond the cursor.
    settled: BTreeSet<Seq>,
    /// First attempts, in log order.
    ready: VecDeque<Ready>,
    /// Payload bytes in it.
    ready_bytes: usize,
    /// Further attempts that are due.
    again: VecDeque<Ready>,
    /// Which of the two queues is next, so that neither starves the other.
    again_first: bool,
    /// Deliveries that lost their races for state: each runs alone.
    alone: VecDeque<Ready>,
    running_alone: bool,
    /// Waiting deliveries, soonest first.
    waiting: BTreeMap<WaitKey, Delivery>,
    /// Which of the waiting deliveries are in the store only.
    stored: Stored,
    loading: bool,
    /// Began to wait while a page of waiting deliveries was on its way, which may not have seen them.
    late: Vec<(DeliveryId, Delivery)>,
    /// Due, and their events on their way.
    fetching: BTreeMap<DeliveryId, Delivery>,
    /// Running attempts, their settlement included.
    in_hand: BTreeMap<DeliveryId, (Arc<Event>, u32)>,
    /// Events whose first delivery is neither settled nor stored as waiting: they hold the cursor back.
    open: BTreeSet<Seq>,
    /// The cursor as the log was last told.
    told: Seq,
}

impl Lane {
    pub fn new(name: ConsumerName, recovery: Recovery) -> Self {
        Self {
            name,
            consumer: None,
            timeline: recovery.timeline,
            read_at: recovery.position,
            reading: false,
            settled: recovery.settled.into_iter().collect(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            again: VecDeque::new(),
            again_first: true,
            alone: VecDeque::new(),
            running_alone: false,
            waiting: BTreeMap::new(),
            stored: Stored::After(None),
            loading: false,
            late: Vec::new(),
            fetching: BTreeMap::new(),
            in_hand: BTreeMap::new(),
            open: BTreeSet::new(),
            told: recovery.position,
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
            let full = self.ready.len() >= READY_MAX || self.ready_bytes >= READY_BYTES_MAX;
            if event.seq != self.read_at + 1 || self.reading || full {
                return;
            }
            self.take(event, now);
        }
    }

    /// A page of the log that was asked for.
    pub fn page(&mut self, events: &[Arc<Event>], now: Timestamp) {
        self.reading = false;
        for event in events {
            if event.seq > self.read_at {
                self.take(event, now);
            }
        }
    }

    /// A page could not be read; it is asked for again.
    pub fn page_failed(&mut self) {
        self.reading = false;
    }

    fn take(&mut self, event: &Arc<Event>, now: Timestamp) {
        let next = self.read_at + 1;
        self.read_at = event.seq;
        debug_assert!(event.seq >= next, "the log is read in order");
        // A chain of host events that cause one another is recorded to its end and delivered only so deep.
        let deepest = self.consumer.as_ref().map_or(u32::MAX, |c| c.spec.limits.chain_depth);
        if self.settled.remove(&event.seq) || !self.subscribes(event) || event.envelope.depth > deepest {
            return;
        }
        let id = DeliveryId { seq: event.seq, consumer: self.name.clone(), round: 0 };
        self.open.insert(event.seq);
        let due_at = event.envelope.not_before.unwrap_or(event.accepted_at);
        let delivery = Delivery::new(due_at);
        if due_at > now {
            self.waiting.insert((due_at, id), delivery);
        } else {
            self.ready_bytes += event.envelope.data_len();
            self.ready.push_back(Ready { id, delivery, event: event.clone(), conflicts: 0 });
        }
    }

    fn first_ready(&mut self) -> Option<Ready> {
        let ready = self.ready.pop_front()?;
        self.ready_bytes -= ready.event.envelope.data_len();
        Some(ready)
    }

    /// The sequence after which to read, if the lane wants more of the log, whose last event is `head`.
    pub fn wants_page(&mut self, head: Seq) -> Option<Seq> {
        let room = self.ready.len() < READY_LOW && self.ready_bytes < READY_BYTES_MAX;
        let hungry = room && self.open.len() < READY_MAX + WAITING_MAX;
        let wants = self.consumer.is_some() && hungry && self.read_at < head && !self.reading;
        self.reading |= wants;
        wants.then_some(self.read_at)
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
        room.then(|| self.waiting.first_key_value().map(|((due_at, _), _)| *due_at)).flatten()
    }

    /// Deliveries that have become due, whose events must be fetched.
    pub fn fall_due(&mut self, now: Timestamp) -> Vec<DeliveryId> {
        let mut due = Vec::new();
        while self.next_due().is_some_and(|due_at| due_at <= now) {
            let Some(((_, id), delivery)) = self.waiting.pop_first() else { break };
            self.fetching.insert(id.clone(), delivery);
            due.push(id);
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
                self.waiting.insert((now.plus(std::time::Duration::from_secs(1)), id.clone()), delivery);
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
        let next = match self.alone.pop_front() {
            Some(alone) => alone,
            None if self.again_first => self.again.pop_front().or_else(|| self.first_ready())?,
            None => self.first_ready().or_else(|| self.again.pop_front())?,
        };
        self.again_first = !self.again_first;
        self.in_hand.insert(next.id.clone(), (next.event.clone(), next.conflicts));
        Some(next)
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
        let Some((event, conflicts)) = self.released(id) else { return };
        let ready = Ready { id: id.clone(), delivery, event, conflicts: conflicts + 1 };
        if ready.conflicts >= CONFLICTS_MAX { self.alone.push_back(ready) } else { self.again.push_front(ready) }
    }

    /// The attempt ended and could not be settled: the log knows the delivery as unsettled, the next start runs it.
    pub fn abandoned(&mut self, id: &DeliveryId) {
        self.released(id);
    }

    fn released(&mut self, id: &DeliveryId) -> Option<(Arc<Event>, u32)> {
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
            && !self.waiting.keys().any(|(_, id)| within(id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::scripted;
    use crate::model::Outcome;

    fn large(seq: Seq) -> Arc<Event> {
        let mut event = scripted::event(seq, "big.made");
        if let Some(payload) = &mut event.envelope.payload {
            payload.data = vec![0; 1 << 20].into();
        }
        Arc::new(event)
    }

    #[test]
    fn large_events_are_left_in_the_log_until_there_is_room() {
        let consumer = scripted::consumer("slow", "big.made", |_| Outcome::Done);
        let mut lane = Lane::new(consumer.spec.name.clone(), Recovery::default());
        lane.deploy(1, Some(consumer));
        let log: Vec<_> = (1..=40).map(large).collect();
        lane.offer(&log, Timestamp(0));
        let mut seen = Vec::new();
        while seen.len() < log.len() {
            assert!(lane.ready_bytes <= READY_BYTES_MAX + (2 << 20), "{} bytes", lane.ready_bytes);
            if let Some(after) = lane.wants_page(40) {
                lane.page(
                    &log.iter().filter(|event| event.seq > after).take(2).cloned().collect::<Vec<_>>(),
                    Timestamp(0),
                );
            }
            let ready = lane.claim().unwrap();
            lane.settled(&ready.id, Delivery { state: State::Succeeded, ..ready.delivery });
            seen.push(ready.id.seq);
        }
        assert_eq!(seen, (1..=40).collect::<Vec<_>>());
        assert_eq!(lane.ready_bytes, 0);
    }
}
