//! Ephemeral consumers: events go straight from the commit that made them durable to the handler, at most once. Nothing
//! about it is kept but counts, and what does not fit is lost and counted: the durable path never waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::lane::Standing;
use super::pace::{Meter, Pace};
use super::settle::Claim;
use crate::model::{ConsumerName, Delivery, DeliveryId, Event, Generation, State};
use crate::registry::Consumer;

/// Events that may wait for one ephemeral consumer, and bytes of their payloads.
pub const QUEUE_MAX: usize = 1_024;
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Share of the host's slots that belongs to ephemeral consumers, if there are any: one in so many.
const SLOTS_SHARE: usize = 8;

struct Stream {
    consumer: Consumer,
    queue: VecDeque<Arc<Event>>,
    bytes: usize,
    running: usize,
    meter: Meter,
    /// Not known until the log was asked; nothing begins before that.
    paused: Option<bool>,
}

impl Stream {
    fn new(consumer: Consumer) -> Self {
        Self { consumer, queue: VecDeque::new(), bytes: 0, running: 0, meter: Meter::default(), paused: None }
    }

    /// A paused one is not called, and nothing is kept for it. Answers how many events that costs.
    fn pause(&mut self, paused: bool) -> u64 {
        self.paused = Some(paused);
        if !paused {
            return 0;
        }
        self.bytes = 0;
        self.queue.drain(..).count() as u64
    }

    /// Answers how many of the events it has lost.
    fn offer(&mut self, events: &[Arc<Event>]) -> u64 {
        let mut lost = 0;
        let paused = self.paused == Some(true);
        let wanted = |event: &&Arc<Event>| self.consumer.spec.subscriptions.iter().any(|s| s.matches(event));
        for event in events.iter().filter(wanted) {
            if !paused && self.queue.len() < QUEUE_MAX && self.bytes < QUEUE_BYTES_MAX {
                self.bytes += event.envelope.data_len();
                self.queue.push_back(event.clone());
            } else {
                lost += 1;
            }
        }
        lost
    }

    fn start(&mut self, generation: Generation) -> Option<(Claim, Pace)> {
        let concurrency = usize::try_from(self.consumer.spec.limits.concurrency).unwrap_or(usize::MAX);
        if self.running >= concurrency || self.paused != Some(false) {
            return None;
        }
        let event = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(event.envelope.data_len());
        self.running += 1;
        let id = DeliveryId { seq: event.seq, consumer: self.consumer.spec.name.clone(), round: 0 };
        let claim = Claim {
            id,
            delivery: Delivery { state: State::Leased, attempts: 0, calls: 0 },
            event,
            consumer: self.consumer.clone(),
            generation,
            stored: false,
            key: None,
            mark: None,
            frees: false,
            careful: false,
            instead: None,
            errand: None,
        };
        Some((claim, self.meter.pace()))
    }
}

/// The ephemeral consumers of a deployment.
#[derive(Default)]
pub struct Streams {
    streams: BTreeMap<ConsumerName, Stream>,
    slots: usize,
    running: usize,
    /// Calls of consumers that were removed meanwhile.
    served: Option<ConsumerName>,
}

impl Streams {
    /// These are the ephemeral consumers from now on, on a host with so many slots. Answers what those that are gone have
    /// lost.
    pub fn deploy(&mut self, consumers: Vec<&Consumer>, slots: usize) -> Vec<(ConsumerName, u64)> {
        self.slots = if consumers.is_empty() { 0 } else { slots.div_ceil(SLOTS_SHARE).max(1) };
        let mut before = std::mem::take(&mut self.streams);
        for consumer in consumers {
            let name = consumer.spec.name.clone();
            let stream = match before.remove(&name) {
                Some(known) => Stream { consumer: consumer.clone(), ..known },
                None => Stream::new(consumer.clone()),
            };
            self.streams.insert(name, stream);
        }
        let gone = before.into_iter().map(|(name, stream)| (name, stream.queue.len() as u64));
        gone.filter(|(_, lost)| *lost > 0).collect()
    }

    /// Slots that belong to ephemeral consumers.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Events that have just become durable. Answers who has lost how many.
    pub fn offer(&mut self, events: &[Arc<Event>]) -> Vec<(ConsumerName, u64)> {
        let lost = self.streams.iter_mut().map(|(name, stream)| (name.clone(), stream.offer(events)));
        lost.filter(|(_, lost)| *lost > 0).collect()
    }

    /// The calls to make now: one consumer after the other, while there are slots.
    pub fn start(&mut self, generation: Generation) -> Vec<(Claim, Pace)> {
        let mut started = Vec::new();
        let waiting = self.streams.iter().filter(|(_, stream)| !stream.queue.is_empty());
        let mut order: Vec<ConsumerName> = waiting.map(|(name, _)| name.clone()).collect();
        if let Some(served) = &self.served {
            let first = order.partition_point(|name| name <= served);
            order.rotate_left(first);
        }
        while self.running < self.slots && !order.is_empty() {
            order.retain(|name| {
                let free = self.running < self.slots;
                let claim = self.streams.get_mut(name).filter(|_| free).and_then(|stream| stream.start(generation));
                let Some(claim) = claim else { return false };
                self.running += 1;
                self.served = Some(name.clone());
                started.push(claim);
                true
            });
        }
        started
    }

    /// Those of which it is not known whether they are paused.
    pub fn unknown(&self) -> impl Iterator<Item = &ConsumerName> {
        self.streams.iter().filter(|(_, stream)| stream.paused.is_none()).map(|(name, _)| name)
    }

    /// What the log says about one that is new; what was told since is newer. Answers how many events are lost to it.
    pub fn recovered(&mut self, name: &ConsumerName, paused: bool) -> u64 {
        let stream = self.streams.get_mut(name).filter(|stream| stream.paused.is_none());
        stream.map_or(0, |stream| stream.pause(paused))
    }

    /// Answers how many events are lost to it.
    pub fn pause(&mut self, name: &ConsumerName, paused: bool) -> u64 {
        self.streams.get_mut(name).map_or(0, |stream| stream.pause(paused))
    }

    pub fn ended(&mut self, name: &ConsumerName, took: Duration) {
        self.running = self.running.saturating_sub(1);
        if let Some(stream) = self.streams.get_mut(name) {
            stream.running = stream.running.saturating_sub(1);
            stream.meter.note(took);
        }
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn standings(&self) -> impl Iterator<Item = (&ConsumerName, Standing)> {
        self.streams.iter().map(|(name, stream)| {
            let (running, ready) = (stream.running, stream.queue.len());
            let paused = stream.paused == Some(true);
            (name, Standing { running, ready, paused, ..Standing::default() })
        })
    }
}
