//! A log in memory, for simulations: the same promises as on a disk, kept for as long as the value lives. What a crash
//! leaves is [`MemoryLog::reopen`].

use std::collections::{BTreeMap, HashMap};
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Activated, Activation, Appended, AttemptRecord, Commit, DeadDecision, DeadSelection, Error, EventLog, Pending,
    Recovery, Settled, Settlement, Waiting,
};
use crate::clock::Clock;
use crate::model::delivery::DeathCause;
use crate::model::outcome::StateWrite;
use crate::model::{
    ConsumerName, Delivery, DeliveryId, Digest, Envelope, Event, Generation, Seq, State, StateChanges, Timestamp,
};
use crate::store::{Subscriptions, timeline};

/// What is kept.
#[derive(Default)]
struct Kept {
    /// In order, from sequence 1.
    events: Vec<Arc<Event>>,
    by_id: HashMap<(String, String), Seq>,
    outcomes: BTreeMap<(DeliveryId, u32), AttemptRecord>,
    waiting: BTreeMap<DeliveryId, Delivery>,
    dead: BTreeMap<DeliveryId, Dead>,
    generations: Vec<(Digest, Seq, Subscriptions)>,
    positions: BTreeMap<ConsumerName, Seq>,
    state: BTreeMap<(ConsumerName, String), Value>,
    revisions: BTreeMap<ConsumerName, u64>,
    /// The version of the last state write.
    version: u64,
}

struct Dead {
    cause: DeathCause,
    died_at: Timestamp,
    decided: bool,
}

struct Value {
    value: Bytes,
    version: u64,
    expires_at: Option<Timestamp>,
}

impl Value {
    fn lives(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }
}

/// See the module.
pub struct MemoryLog {
    kept: Arc<Mutex<Kept>>,
    clock: Arc<dyn Clock>,
    commits: mpsc::UnboundedSender<Commit>,
}

impl MemoryLog {
    /// Empty. The receiver gets every commit, in the order of the log.
    pub fn new(clock: Arc<dyn Clock>) -> (Self, mpsc::UnboundedReceiver<Commit>) {
        let (commits, feed) = mpsc::unbounded_channel();
        (Self { kept: Arc::default(), clock, commits }, feed)
    }

    /// A host that starts anew on what this one has kept. This one must not be used any more.
    pub fn reopen(&self) -> (Self, mpsc::UnboundedReceiver<Commit>) {
        let (commits, feed) = mpsc::unbounded_channel();
        (Self { kept: Arc::clone(&self.kept), clock: Arc::clone(&self.clock), commits }, feed)
    }

    /// Every attempt's record, by delivery and call.
    pub fn outcomes(&self) -> Vec<(DeliveryId, AttemptRecord)> {
        self.kept().outcomes.iter().map(|((id, _), record)| (id.clone(), record.clone())).collect()
    }

    /// Dead letters that nobody has decided about.
    pub fn dead(&self) -> Vec<DeliveryId> {
        self.kept().dead.iter().filter(|(_, dead)| !dead.decided).map(|(id, _)| id.clone()).collect()
    }

    /// A value of a consumer's state and its version; none if it is absent or has expired.
    pub fn state_get(&self, consumer: &ConsumerName, key: &str) -> Option<(Bytes, u64)> {
        let now = self.clock.now();
        let kept = self.kept();
        let found = kept.state.get(&(consumer.clone(), key.to_owned())).filter(|value| value.lives(now))?;
        Some((found.value.clone(), found.version))
    }

    /// Keys in byte order, and the revision of the consumer's state.
    pub fn state_keys(&self, consumer: &ConsumerName, prefix: &str) -> (Vec<String>, u64) {
        let now = self.clock.now();
        let kept = self.kept();
        let mine = kept
            .state
            .iter()
            .filter(|((owner, key), value)| owner == consumer && key.starts_with(prefix) && value.lives(now));
        let keys = mine.map(|((_, key), _)| key.clone()).collect();
        (keys, kept.revisions.get(consumer).copied().unwrap_or(0))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` and tells what has become durable before anybody else can write.
    fn commit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Kept, Timestamp, &mut Vec<Commit>) -> Result<T, Error>,
    ) -> Pending<T> {
        let mut commits = Vec::new();
        let mut kept = self.kept();
        let answer = work(&mut kept, self.clock.now(), &mut commits);
        for commit in commits {
            drop(self.commits.send(commit));
        }
        drop(kept);
        Box::pin(ready(answer))
    }
}

impl Kept {
    fn end(&self) -> Seq {
        self.events.len() as Seq
    }

    fn event(&self, seq: Seq) -> Option<&Arc<Event>> {
        self.events.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    fn taken(&self, envelope: &Envelope) -> Option<&Arc<Event>> {
        let seq = self.by_id.get(&(envelope.source.clone(), envelope.id.clone()))?;
        self.event(*seq)
    }

    fn push(&mut self, envelope: Envelope, now: Timestamp) -> Arc<Event> {
        let seq = self.end() + 1;
        self.by_id.insert((envelope.source.clone(), envelope.id.clone()), seq);
        let event = Arc::new(Event { seq, accepted_at: now, envelope });
        self.events.push(Arc::clone(&event));
        event
    }

    fn truncate(&mut self, end: Seq) {
        for event in self.events.drain(usize::try_from(end).unwrap_or(usize::MAX).min(self.events.len())..) {
            self.by_id.remove(&(event.envelope.source.clone(), event.envelope.id.clone()));
        }
    }

    fn append(
        &mut self,
        events: Vec<Envelope>,
        now: Timestamp,
        commits: &mut Vec<Commit>,
    ) -> Result<Vec<Appended>, Error> {
        let before = self.end();
        let (mut answer, mut new) = (Vec::with_capacity(events.len()), Vec::new());
        for (index, envelope) in events.into_iter().enumerate() {
            match self.taken(&envelope) {
                Some(known) if known.envelope.same_statement(&envelope) => {
                    answer.push(Appended { seq: known.seq, duplicate: true });
                }
                Some(known) => {
                    let seq = known.seq;
                    self.truncate(before);
                    return Err(Error::Conflict { index, source_name: envelope.source, id: envelope.id, seq });
                }
                None => {
                    let event = self.push(envelope, now);
                    answer.push(Appended { seq: event.seq, duplicate: false });
                    new.push(event);
                }
            }
        }
        announce(new, commits);
        Ok(answer)
    }

    fn settle(&mut self, settlement: Settlement, now: Timestamp, commits: &mut Vec<Commit>) -> Settled {
        let settled = self.decide(&settlement, now);
        commits.push(Commit::Settled(settlement.delivery.clone(), settled));
        if settled != Settled::Committed {
            return settled;
        }
        let Settlement { delivery, next, record, events, state, death, .. } = settlement;
        self.write(&delivery.consumer, state);
        self.waiting.remove(&delivery);
        if let State::Pending { .. } = next.state {
            self.waiting.insert(delivery.clone(), next);
        }
        if let Some(cause) = death {
            self.dead.insert(delivery.clone(), Dead { cause, died_at: now, decided: false });
        }
        self.outcomes.insert((delivery, record.call), record);
        let new: Vec<_> =
            events.into_iter().filter_map(|e| self.taken(&e).is_none().then(|| self.push(e, now))).collect();
        announce(new, commits);
        settled
    }

    fn decide(&self, settlement: &Settlement, now: Timestamp) -> Settled {
        let Settlement { delivery, record, state, state_quota, .. } = settlement;
        let waits = self.waiting.get(delivery).map(|waiting| waiting.calls);
        let later = record.call > 1 || delivery.round > 0;
        if self.outcomes.contains_key(&(delivery.clone(), record.call))
            || later && waits.is_none_or(|calls| calls + 1 != record.call)
        {
            return Settled::Fenced;
        }
        let consumer = &delivery.consumer;
        let version = |key: &String| {
            let found = self.state.get(&(consumer.clone(), key.clone())).filter(|value| value.lives(now));
            found.map_or(0, |value| value.version)
        };
        let revision = self.revisions.get(consumer).copied().unwrap_or(0);
        if state.reads.iter().any(|(key, read)| version(key) != *read)
            || state.listed_at.is_some_and(|listed| listed != revision)
        {
            return Settled::Conflict;
        }
        let (before, after) = self.sizes(consumer, state, now);
        if after > before && after > *state_quota { Settled::OverQuota } else { Settled::Committed }
    }

    /// Bytes that a consumer keeps, before and after its writes.
    fn sizes(&self, consumer: &ConsumerName, changes: &StateChanges, now: Timestamp) -> (u64, u64) {
        let size = |key: &str, value: &Bytes| (key.len() + value.len()) as u64;
        let mine = || self.state.iter().filter(|((owner, _), value)| owner == consumer && value.lives(now));
        let before = mine().map(|((_, key), value)| size(key, &value.value)).sum();
        let kept: u64 = mine()
            .filter(|((_, key), _)| !changes.writes.contains_key(key))
            .map(|((_, key), value)| size(key, &value.value))
            .sum();
        let written = changes.writes.iter().map(|(key, write)| match write {
            StateWrite::Set { value, .. } => size(key, value),
            StateWrite::Delete => 0,
        });
        (before, kept + written.sum::<u64>())
    }

    fn write(&mut self, consumer: &ConsumerName, changes: StateChanges) {
        if changes.writes.is_empty() {
            return;
        }
        self.version += 1;
        self.revisions.insert(consumer.clone(), self.version);
        for (key, write) in changes.writes {
            let key = (consumer.clone(), key);
            match write {
                StateWrite::Set { value, expires_at } => {
                    self.state.insert(key, Value { value, version: self.version, expires_at });
                }
                StateWrite::Delete => {
                    self.state.remove(&key);
                }
            }
        }
    }

    fn activate(&mut self, activation: Activation, commits: &mut Vec<Commit>) -> Activated {
        let from = self.end() + 1;
        if self.generations.last().is_none_or(|(digest, ..)| *digest != activation.digest) {
            for (consumer, _) in &activation.subscriptions {
                self.positions.entry(consumer.clone()).or_insert(from - 1);
            }
            self.generations.push((activation.digest, from, activation.subscriptions.into_iter().collect()));
        }
        let from = self.generations.last().map_or(from, |(_, from, _)| *from);
        let activated = Activated { generation: Generation(self.generations.len() as u64), from };
        commits.push(Commit::Activated(activated));
        activated
    }

    fn decide_dead(
        &mut self,
        selection: &DeadSelection,
        decision: DeadDecision,
        now: Timestamp,
        commits: &mut Vec<Commit>,
    ) -> Vec<DeliveryId> {
        let mut chosen: Vec<(Timestamp, DeliveryId)> = self
            .dead
            .iter()
            .filter(|(id, dead)| self.fits(selection, id, dead))
            .map(|(id, d)| (d.died_at, id.clone()))
            .collect();
        chosen.sort();
        chosen.truncate(selection.limit.unwrap_or(usize::MAX));
        let mut ids: Vec<DeliveryId> = chosen.into_iter().map(|(_, id)| id).collect();
        for id in &ids {
            if let Some(dead) = self.dead.get_mut(id) {
                dead.decided = true;
            }
        }
        if decision == DeadDecision::Redrive && !ids.is_empty() {
            for id in &mut ids {
                id.round += 1;
                self.waiting.insert(id.clone(), Delivery::new(now));
            }
            let made = ids.iter().map(|id| Waiting {
                id: id.clone(),
                delivery: Delivery::new(now),
                key: None,
                blocked: false,
            });
            commits.push(Commit::Redriven(made.collect()));
        }
        ids
    }

    fn fits(&self, selection: &DeadSelection, id: &DeliveryId, dead: &Dead) -> bool {
        let type_of = |seq| self.event(seq).map(|event| event.envelope.event_type.as_str());
        !dead.decided
            && (selection.ids.is_empty() || selection.ids.contains(id))
            && selection.consumer.as_ref().is_none_or(|consumer| *consumer == id.consumer)
            && selection.event_type.as_deref().is_none_or(|wanted| type_of(id.seq) == Some(wanted))
            && selection.since.is_none_or(|since| dead.died_at >= since)
            && selection.until.is_none_or(|until| dead.died_at < until)
            && selection.cause.is_none_or(|cause| dead.cause == cause)
    }

    fn recover(&self, consumer: &ConsumerName) -> Recovery {
        let Some(position) = self.positions.get(consumer).copied() else {
            return Recovery { position: self.end(), ..Recovery::default() };
        };
        let settled = self.outcomes.keys().map(|(id, _)| id);
        let mut settled: Vec<Seq> = settled
            .filter(|id| id.consumer == *consumer && id.round == 0 && id.seq > position)
            .map(|id| id.seq)
            .collect();
        settled.dedup();
        let generations: Vec<_> = self.generations.iter().map(|(_, from, held)| (*from, held.clone())).collect();
        Recovery { position, settled, timeline: timeline(&generations, consumer), ..Recovery::default() }
    }

    fn page(&self, consumer: &ConsumerName, after: Option<&(Timestamp, DeliveryId)>, limit: usize) -> Vec<Waiting> {
        let due = |delivery: &Delivery| match delivery.state {
            State::Pending { due_at } => due_at,
            _ => Timestamp::MIN,
        };
        let mine = self.waiting.iter().filter(|(id, _)| id.consumer == *consumer);
        let mut page: Vec<Waiting> = mine
            .filter(|(id, delivery)| after.is_none_or(|(at, last)| (due(delivery), *id) > (*at, last)))
            .map(|(id, delivery)| Waiting { id: id.clone(), delivery: *delivery, key: None, blocked: false })
            .collect();
        page.sort_by_key(|waiting| (due(&waiting.delivery), waiting.id.clone()));
        page.truncate(limit);
        page
    }
}

/// Adjoining events of one commit go out together.
fn announce(new: Vec<Arc<Event>>, commits: &mut Vec<Commit>) {
    if !new.is_empty() {
        commits.push(Commit::Events(new));
    }
}

impl EventLog for MemoryLog {
    fn append(&self, events: Vec<Envelope>) -> Pending<Vec<Appended>> {
        self.commit(|kept, now, commits| kept.append(events, now, commits))
    }

    fn settle(&self, mut settlements: Vec<Settlement>) -> Pending<Settled> {
        let Some(settlement) = settlements.pop() else { return Box::pin(ready(Err(Error::Closed))) };
        self.commit(|kept, now, commits| Ok(kept.settle(settlement, now, commits)))
    }

    fn park(&self, _waiting: Vec<Waiting>) -> Pending<()> {
        Box::pin(ready(Err(Error::Closed)))
    }

    fn claim(&self, _delivery: DeliveryId) -> Pending<()> {
        Box::pin(ready(Err(Error::Closed)))
    }

    fn pause(&self, _consumer: ConsumerName, _paused: bool) -> Pending<bool> {
        Box::pin(ready(Err(Error::Closed)))
    }

    fn release(&self, _consumer: ConsumerName, _keys: Vec<String>) -> Pending<Vec<String>> {
        Box::pin(ready(Err(Error::Closed)))
    }

    fn blocked(&self, _consumer: ConsumerName, _key: String, _limit: usize) -> Pending<Vec<Waiting>> {
        Box::pin(ready(Err(Error::Closed)))
    }

    fn marked(&self, _consumer: ConsumerName, _key: String) -> Pending<Option<DeliveryId>> {
        Box::pin(ready(Err(Error::Closed)))
    }

    fn activate(&self, activation: Activation) -> Pending<Activated> {
        self.commit(|kept, _, commits| Ok(kept.activate(activation, commits)))
    }

    fn decide_dead(&self, dead: DeadSelection, decision: DeadDecision) -> Pending<Vec<DeliveryId>> {
        self.commit(|kept, now, commits| Ok(kept.decide_dead(&dead, decision, now, commits)))
    }

    fn advance(&self, positions: Vec<(ConsumerName, Seq)>) {
        let mut kept = self.kept();
        for (consumer, seq) in positions {
            let position = kept.positions.entry(consumer).or_default();
            *position = seq.max(*position);
        }
    }

    fn read(&self, after: Seq, limit: usize) -> Pending<Vec<Arc<Event>>> {
        let from = usize::try_from(after).unwrap_or(usize::MAX);
        let events = self.kept().events.iter().skip(from).take(limit).cloned().collect();
        Box::pin(ready(Ok(events)))
    }

    fn recover(&self, consumer: ConsumerName) -> Pending<Recovery> {
        Box::pin(ready(Ok(self.kept().recover(&consumer))))
    }

    fn waiting(
        &self,
        consumer: ConsumerName,
        after: Option<(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Pending<Vec<Waiting>> {
        Box::pin(ready(Ok(self.kept().page(&consumer, after.as_ref(), limit))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use mpsc::UnboundedReceiver;

    use super::*;
    use crate::clock::SystemClock;
    use crate::log::conformance::{Subject, conforms};

    /// Holds what was kept, and nothing of the log that kept it.
    struct InMemory {
        kept: Option<MemoryLog>,
        current: Weak<MemoryLog>,
    }

    impl Subject for InMemory {
        type Log = MemoryLog;

        fn new() -> Self {
            Self { kept: None, current: Weak::new() }
        }

        fn open(&mut self) -> (Arc<MemoryLog>, UnboundedReceiver<Commit>) {
            let (log, feed) = match &self.kept {
                Some(kept) => kept.reopen(),
                None => MemoryLog::new(Arc::new(SystemClock::new())),
            };
            let log = Arc::new(log);
            self.current = Arc::downgrade(&log);
            (log, feed)
        }

        fn crash(&mut self, log: Arc<MemoryLog>) {
            self.kept = Some(log.reopen().0);
            drop(log);
            assert_eq!(self.current.strong_count(), 0);
        }

        fn state(&self, log: &MemoryLog, consumer: &ConsumerName, key: &str) -> Option<(Bytes, u64)> {
            log.state_get(consumer, key)
        }

        fn keys(&self, log: &MemoryLog, consumer: &ConsumerName, prefix: &str) -> (Vec<String>, u64) {
            log.state_keys(consumer, prefix)
        }
    }

    conforms!(InMemory);
}
