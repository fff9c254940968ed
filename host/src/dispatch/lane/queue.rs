//! Deliveries that only need a free place to be attempted.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::dispatch::settle::Instead;
use crate::model::{Delivery, DeliveryId, Event};

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
    /// Its idempotency key.
    pub mark: Option<Arc<str>>,
    /// What becomes of it without a call.
    pub instead: Option<Instead>,
    /// Lost races for state in a row.
    pub conflicts: u32,
    /// It is not to share a call with others: a batch that it was in has failed as a whole.
    pub single: bool,
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
            mark: None,
            instead: None,
            conflicts: 0,
            single: false,
        }
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

/// Takes turns between its three kinds, so that none starves another.
#[derive(Debug, Default)]
pub(super) struct Queues {
    queues: [VecDeque<Ready>; 3],
    /// Payload bytes of first attempts.
    first_bytes: usize,
    /// Whose turn is next.
    next: usize,
}

impl Queues {
    /// A first attempt, read from the log.
    pub(super) fn push_first(&mut self, ready: Ready) {
        self.first_bytes += ready.event.envelope.data_len();
        self.of(Kind::First).push_back(ready);
    }

    /// Anything that was held back before.
    pub(super) fn push(&mut self, ready: Ready) {
        let kind = if ready.is_retry() { Kind::Retry } else { Kind::Turn };
        self.of(kind).push_back(ready);
    }

    /// Before all others of its kind, whose turn is next: what was taken and put back would otherwise lose its turn each time.
    pub(super) fn push_front(&mut self, ready: Ready) {
        let kind = if ready.is_retry() { Kind::Retry } else { Kind::Turn };
        self.next = kind as usize;
        self.of(kind).push_front(ready);
    }

    /// The next one, of the kinds that may start.
    pub(super) fn pop(&mut self, retries: bool) -> Option<Ready> {
        for turn in 0..KINDS.len() {
            let at = (self.next + turn) % KINDS.len();
            let Some(kind) = KINDS.get(at).copied() else { continue };
            if kind == Kind::Retry && !retries {
                continue;
            }
            if let Some(ready) = self.of(kind).pop_front() {
                self.next = at + 1;
                if kind == Kind::First {
                    self.first_bytes = self.first_bytes.saturating_sub(ready.event.envelope.data_len());
                }
                return Some(ready);
            }
        }
        None
    }

    /// All of them, and whether each is a first attempt.
    pub(super) fn take(&mut self) -> Vec<(Ready, bool)> {
        self.first_bytes = 0;
        let [first, turn, retry] = std::mem::take(&mut self.queues);
        let later = turn.into_iter().chain(retry).map(|ready| (ready, false));
        first.into_iter().map(|ready| (ready, true)).chain(later).collect()
    }

    pub(super) fn first(&self) -> (usize, usize) {
        (self.queues.first().map_or(0, VecDeque::len), self.first_bytes)
    }

    /// How many there are; retries apart.
    pub(super) fn len(&self, kinds: &[Kind]) -> usize {
        kinds.iter().map(|kind| self.queues.get(*kind as usize).map_or(0, VecDeque::len)).sum()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ready> {
        self.queues.iter().flatten()
    }

    /// Those that were held back before.
    pub(super) fn later(&self) -> impl Iterator<Item = &Ready> {
        self.queues.iter().skip(1).flatten()
    }

    fn of(&mut self, kind: Kind) -> &mut VecDeque<Ready> {
        let [first, turn, retry] = &mut self.queues;
        match kind {
            Kind::First => first,
            Kind::Turn => turn,
            Kind::Retry => retry,
        }
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
