//! Deliveries that only need a free place to be attempted.

use std::collections::VecDeque;
use std::sync::Arc;

use super::waiting::due;
use crate::dispatch::settle::Instead;
use crate::model::pipeline::errand::Errand;
use crate::model::{Delivery, DeliveryId, Event, Priority, Timestamp};

/// What a delivery that is due needs from the log.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub event: Arc<Event>,
    pub errand: Option<Arc<Errand>>,
}

/// A delivery with its event, ready to be attempted.
#[derive(Clone, Debug)]
pub struct Ready {
    pub id: DeliveryId,
    pub delivery: Delivery,
    pub event: Arc<Event>,
    /// It has a row in the log.
    pub stored: bool,
    /// That row waits for the key, so that the delivery is read back with others of its line.
    pub parked: bool,
    /// By which it waits for others of its consumer.
    pub key: Option<Arc<str>>,
    /// It is in that row.
    pub keyed: bool,
    /// Its idempotency key.
    pub mark: Option<Arc<str>>,
    /// What becomes of it without a call.
    pub instead: Option<Instead>,
    /// What it is for, if it is for more than its event.
    pub errand: Option<Arc<Errand>>,
    /// Lost races for state in a row.
    pub conflicts: u32,
    /// It is not to share a call with others: a batch that it was in has failed as a whole.
    pub single: bool,
    pub priority: Priority,
}

impl Ready {
    pub fn new(id: DeliveryId, delivery: Delivery, event: Arc<Event>) -> Self {
        Self {
            id,
            delivery,
            event,
            stored: false,
            parked: false,
            key: None,
            keyed: false,
            mark: None,
            instead: None,
            errand: None,
            conflicts: 0,
            single: false,
            priority: Priority::Normal,
        }
    }

    /// Whether it is a step of a run.
    pub(super) fn is_step(&self) -> bool {
        self.errand.as_ref().is_some_and(|errand| errand.step.is_some())
    }

    /// Whether it may not be attempted yet although it is its turn: the event says so; or it waited for a retry when other
    /// rules gave it this key, behind others.
    pub(super) fn waits_after_its_turn(&self, now: Timestamp) -> bool {
        // A job waits for its time before it waits for its turn.
        if self.delivery.calls == 0 && self.event.envelope.job.is_none() {
            let not_before = self.event.envelope.not_before;
            return self.id.round == 0 && not_before.is_some_and(|not_before| not_before > now);
        }
        self.parked && due(self.delivery).is_some_and(|due| due > now)
    }

    /// Whether it failed before and is charged for it.
    fn is_retry(&self) -> bool {
        self.delivery.attempts > 0
    }
}

/// Which of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// First attempts, in log order.
    First,
    /// Those whose turn has come: behind others of their key, redriven, deferred, interrupted.
    Turn,
    /// Charged retries.
    Retry,
}

const KINDS: [Kind; 3] = [Kind::First, Kind::Turn, Kind::Retry];

/// Those of one priority. Takes turns between its three kinds, so that none starves another.
#[derive(Debug, Default)]
struct Kinds {
    queues: [VecDeque<Ready>; 3],
    /// Whose turn is next.
    next: usize,
}

impl Kinds {
    /// The next one, of the kinds that may start.
    fn pop(&mut self, retries: bool) -> Option<(Kind, Ready)> {
        for turn in 0..KINDS.len() {
            let at = (self.next + turn) % KINDS.len();
            let Some(kind) = KINDS.get(at).copied() else { continue };
            if kind == Kind::Retry && !retries {
                continue;
            }
            if let Some(ready) = self.of(kind).pop_front() {
                self.next = at + 1;
                return Some((kind, ready));
            }
        }
        None
    }

    fn of(&mut self, kind: Kind) -> &mut VecDeque<Ready> {
        let [first, turn, retry] = &mut self.queues;
        match kind {
            Kind::First => first,
            Kind::Turn => turn,
            Kind::Retry => retry,
        }
    }

    fn len(&self, kind: Kind) -> usize {
        self.queues.get(kind as usize).map_or(0, VecDeque::len)
    }
}

/// Whose turn it is, one after the other and then from the start: of seven, high has four, normal two and low one. Who has
/// nothing to start gives the turn to the next.
const TURNS: [Priority; 7] =
    [Priority::High, Priority::Normal, Priority::High, Priority::Low, Priority::High, Priority::Normal, Priority::High];

/// Takes turns between priorities, and within each between kinds.
#[derive(Debug, Default)]
pub(super) struct Queues {
    low: Kinds,
    normal: Kinds,
    high: Kinds,
    /// Payload bytes of first attempts.
    first_bytes: usize,
    /// Whose turn is next, in [`TURNS`].
    next: usize,
}

impl Queues {
    /// A first attempt, read from the log.
    pub(super) fn push_first(&mut self, ready: Ready) {
        self.first_bytes += ready.event.envelope.data_len();
        self.of(ready.priority).of(Kind::First).push_back(ready);
    }

    /// Anything that was held back before.
    pub(super) fn push(&mut self, ready: Ready) {
        let kind = if ready.is_retry() { Kind::Retry } else { Kind::Turn };
        self.of(ready.priority).of(kind).push_back(ready);
    }

    /// Before all others of its kind, whose turn is next: what was taken and put back would otherwise lose its turn each time.
    pub(super) fn push_front(&mut self, ready: Ready) {
        let kind = if ready.is_retry() { Kind::Retry } else { Kind::Turn };
        let back = |by: &usize| TURNS.get((self.next + TURNS.len() - by) % TURNS.len()) == Some(&ready.priority);
        let by = (1..=TURNS.len()).find(back).unwrap_or(0);
        self.next = (self.next + TURNS.len() - by) % TURNS.len();
        let kinds = self.of(ready.priority);
        kinds.next = kind as usize;
        kinds.of(kind).push_front(ready);
    }

    /// The next one, of the kinds that may start.
    pub(super) fn pop(&mut self, retries: bool) -> Option<Ready> {
        for turn in 0..TURNS.len() {
            let at = (self.next + turn) % TURNS.len();
            let Some(priority) = TURNS.get(at).copied() else { continue };
            if let Some((kind, ready)) = self.of(priority).pop(retries) {
                self.next = (at + 1) % TURNS.len();
                if kind == Kind::First {
                    self.first_bytes = self.first_bytes.saturating_sub(ready.event.envelope.data_len());
                }
                return Some(ready);
            }
        }
        None
    }

    pub(super) fn first(&self) -> (usize, usize) {
        (self.len(&[Kind::First]), self.first_bytes)
    }

    /// How many there are; retries apart.
    pub(super) fn len(&self, kinds: &[Kind]) -> usize {
        let of = |by: &Kinds| kinds.iter().map(|kind| by.len(*kind)).sum::<usize>();
        self.all().into_iter().map(of).sum()
    }

    /// How many of a priority were held back before.
    pub(super) fn held_back(&mut self, priority: Priority) -> usize {
        let by = self.of(priority);
        by.len(Kind::Turn) + by.len(Kind::Retry)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all().into_iter().all(|by| by.queues.iter().all(VecDeque::is_empty))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ready> {
        self.all().into_iter().flat_map(|by| by.queues.iter().flatten())
    }

    /// Those that were held back before.
    pub(super) fn later(&self) -> impl Iterator<Item = &Ready> {
        self.all().into_iter().flat_map(|by| by.queues.iter().skip(1).flatten())
    }

    fn of(&mut self, priority: Priority) -> &mut Kinds {
        match priority {
            Priority::Low => &mut self.low,
            Priority::Normal => &mut self.normal,
            Priority::High => &mut self.high,
        }
    }

    fn all(&self) -> [&Kinds; 3] {
        [&self.low, &self.normal, &self.high]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::scripted;
    use crate::model::{ConsumerName, Timestamp};

    fn ready(seq: u64) -> Ready {
        let id = DeliveryId { seq, consumer: ConsumerName::new("greet").unwrap(), round: 0 };
        Ready::new(id, Delivery::new(Timestamp(0)), Arc::new(scripted::event(seq, "order.created")))
    }

    /// As a batch does with one that must run by itself: it takes it, finds that it has others already, and puts it back.
    #[test]
    fn what_is_put_back_comes_before_what_is_new() {
        let mut queues = Queues::default();
        (1..=9).for_each(|seq| queues.push_first(ready(seq)));
        queues.push(ready(100));
        assert_eq!(queues.pop(true).map(|one| one.id.seq), Some(1));
        let single = queues.pop(true).unwrap();
        assert_eq!(single.id.seq, 100);
        queues.push_front(single);
        assert_eq!(queues.pop(true).map(|one| one.id.seq), Some(100));
    }
}
