//! What is kept, and how it changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::replays::Replays;
use super::runs::Runs;
use super::schedules::Schedules;
use crate::log::jobs::{self, announce};
use crate::log::{Activated, Activation, Appended, AttemptRecord, Commit, Error, Mark, Recovery, Waiting};
use crate::model::delivery::{DeathCause, KeyStanding};
use crate::model::keys::HeldKey;
use crate::model::spec::StartFrom;
use crate::model::{ConsumerName, DeliveryId, Digest, Envelope, Event, Generation, Priority, Seq, State, Timestamp};
use crate::planted::{self, Bug};
use crate::store::{Subscriptions, timeline};

/// A key of a consumer.
pub(super) type Key = (ConsumerName, String);

#[derive(Clone, Default)]
pub(super) struct Kept {
    /// In order, from sequence 1; those that retention has taken are not there for anybody.
    pub(super) events: Vec<Arc<Event>>,
    pub(super) gone: BTreeSet<Seq>,
    by_id: HashMap<(String, String), Seq>,
    /// By call, with how many events it published.
    pub(super) outcomes: BTreeMap<(DeliveryId, u32), (AttemptRecord, usize)>,
    pub(super) waiting: BTreeMap<DeliveryId, Waiting>,
    pub(super) dead: BTreeMap<DeliveryId, Dead>,
    /// Keys that dead letters hold, and of which events and rounds these are.
    pub(super) held: BTreeMap<Key, BTreeSet<(Seq, u32)>>,
    pub(super) marks: BTreeMap<Key, (DeliveryId, Mark)>,
    /// By which rules the keys of a consumer were found; not while that is being changed. None: by none.
    pub(super) keyed: BTreeMap<ConsumerName, Keyed>,
    paused: BTreeSet<ConsumerName>,
    pub(super) claims: BTreeMap<DeliveryId, Claim>,
    generations: Vec<(Digest, Seq, Subscriptions)>,
    pub(super) positions: BTreeMap<ConsumerName, Seq>,
    /// The first event that a consumer is for, if it did not begin with its deployment.
    begins: BTreeMap<ConsumerName, Seq>,
    pub(super) schedules: Schedules,
    pub(super) state: BTreeMap<Key, Value>,
    pub(super) revisions: BTreeMap<ConsumerName, u64>,
    /// The version of the last state write.
    pub(super) version: u64,
    pub(super) replays: Replays,
    pub(super) runs: Runs,
    /// The host that used it ended cleanly.
    pub(super) closed: bool,
}

#[derive(Clone)]
pub(super) struct Keyed {
    pub(super) lines: Option<String>,
    pub(super) marks: Option<String>,
}

impl Default for Keyed {
    fn default() -> Self {
        Self { lines: Some(String::new()), marks: Some(String::new()) }
    }
}

#[derive(Clone)]
pub(super) struct Dead {
    pub(super) cause: DeathCause,
    pub(super) died_at: Timestamp,
    pub(super) decided: bool,
}

#[derive(Clone)]
pub(super) struct Claim {
    crashes: u32,
    in_hand: bool,
}

#[derive(Clone)]
pub(super) struct Value {
    pub(super) value: Bytes,
    pub(super) version: u64,
    pub(super) expires_at: Option<Timestamp>,
}

impl Value {
    pub(super) fn lives(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }
}

/// When a delivery is due.
pub(super) fn due(waiting: &Waiting) -> Timestamp {
    match waiting.delivery.state {
        State::Pending { due_at } => due_at,
        _ => Timestamp::MIN,
    }
}

impl Kept {
    pub(super) fn end(&self) -> Seq {
        self.events.len() as Seq
    }

    pub(super) fn event(&self, seq: Seq) -> Option<&Arc<Event>> {
        let event = self.events.get(usize::try_from(seq.checked_sub(1)?).ok()?);
        event.filter(|_| !self.gone.contains(&seq))
    }

    pub(super) fn taken(&self, envelope: &Envelope) -> Option<&Arc<Event>> {
        const WINDOW: Seq = 20;
        let seq = *self.by_id.get(&(envelope.source.clone(), envelope.id.clone()))?;
        let forgotten = planted::is(Bug::DedupeByWindow) && seq + WINDOW <= self.end();
        self.event(seq).filter(|_| !forgotten)
    }

    pub(super) fn push(&mut self, envelope: Envelope, now: Timestamp) -> Arc<Event> {
        let seq = self.end() + 1;
        self.by_id.insert((envelope.source.clone(), envelope.id.clone()), seq);
        let event = Arc::new(Event { seq, accepted_at: now, envelope });
        self.events.push(Arc::clone(&event));
        self.waiting.extend(jobs::waiting(&event).map(|waiting| (waiting.id.clone(), waiting)));
        event
    }

    fn truncate(&mut self, end: Seq) {
        for event in self.events.drain(usize::try_from(end).unwrap_or(usize::MAX).min(self.events.len())..) {
            self.by_id.remove(&(event.envelope.source.clone(), event.envelope.id.clone()));
            self.waiting.retain(|id, _| id.seq != event.seq);
        }
    }

    pub(super) fn append(
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

    /// A host begins to use it. Answers up to where it must be careful.
    pub(super) fn start(&mut self) -> Seq {
        if std::mem::take(&mut self.closed) {
            self.claims.clear();
            return 0;
        }
        let counted = !planted::is(Bug::CrashesForgotten);
        for claim in self.claims.values_mut().filter(|claim| claim.in_hand && counted) {
            *claim = Claim { crashes: claim.crashes + 1, in_hand: false };
        }
        self.end()
    }

    pub(super) fn claim(&mut self, id: DeliveryId) {
        self.claims.entry(id).or_insert(Claim { crashes: 1, in_hand: true }).in_hand = true;
    }

    pub(super) fn pause(&mut self, consumer: ConsumerName, paused: bool, commits: &mut Vec<Commit>) -> bool {
        let news = if paused { self.paused.insert(consumer.clone()) } else { self.paused.remove(&consumer) };
        if news {
            commits.push(Commit::Paused(consumer, paused));
        }
        news
    }

    /// One that has been called or settled since is left alone.
    pub(super) fn park(&mut self, parked: Waiting) {
        let known = self.waiting.get(&parked.id);
        let news = match known {
            Some(known) => known.delivery.calls == parked.delivery.calls,
            None => parked.delivery.calls == 0 && !self.outcomes.contains_key(&(parked.id.clone(), 1)),
        };
        if !news || !matches!(parked.delivery.state, State::Pending { .. }) {
            return;
        }
        let attempts = known.map_or(parked.delivery.attempts, |known| known.delivery.attempts);
        let key = parked.key.or_else(|| known.and_then(|known| known.key.clone()));
        let mut waiting = Waiting { blocked: parked.blocked && key.is_some(), key, ..parked };
        waiting.delivery.attempts = attempts;
        self.waiting.insert(waiting.id.clone(), waiting);
    }

    pub(super) fn activate(&mut self, activation: Activation, commits: &mut Vec<Commit>) -> Activated {
        let next = self.end() + 1;
        if self.generations.last().is_none_or(|(digest, ..)| *digest != activation.digest) {
            for (consumer, _) in &activation.subscriptions {
                if self.positions.contains_key(consumer) {
                    continue;
                }
                let begins = activation.from.iter().find(|(name, _)| name == consumer);
                let begins = begins.and_then(|(_, start)| self.begins(*start));
                self.positions.insert(consumer.clone(), begins.unwrap_or(next) - 1);
                if let Some(begins) = begins {
                    self.begins.insert(consumer.clone(), begins);
                }
            }
            self.generations.push((activation.digest, next, activation.subscriptions.into_iter().collect()));
        }
        let from = self.generations.last().map_or(next, |(_, from, _)| *from);
        let activated = Activated { generation: Generation(self.generations.len() as u64), from };
        commits.push(Commit::Activated(activated));
        activated
    }

    /// The first event that a consumer which starts so is for; none: the next one.
    fn begins(&self, start: StartFrom) -> Option<Seq> {
        match start {
            StartFrom::End => None,
            StartFrom::Start => Some(1),
            StartFrom::Sequence(seq) => Some(seq.max(1)),
            StartFrom::Time(time) => {
                let before = self.events.iter().take_while(|event| event.accepted_at < time).count();
                Some(before as Seq + 1)
            }
        }
    }

    pub(super) fn recover(&self, consumer: &ConsumerName) -> Recovery {
        let mut recovery = Recovery {
            position: self.end(),
            keys: self.keys(consumer),
            held: self.held_keys(consumer).collect(),
            keyed_by: self.keyed_by(consumer),
            paused: self.paused.contains(consumer),
            ..Recovery::default()
        };
        let mine = self.claims.iter().filter(|(id, _)| id.consumer == *consumer);
        recovery.crashes = mine.map(|(id, claim)| (id.clone(), claim.crashes)).collect();
        let Some(position) = self.positions.get(consumer).copied() else { return recovery };
        let beyond = self.outcomes.keys().map(|(id, _)| id).chain(self.waiting.keys());
        let settled: BTreeSet<Seq> = beyond
            .filter(|id| id.consumer == *consumer && id.round == 0 && id.seq > position)
            .map(|id| id.seq)
            .collect();
        let generations: Vec<_> = self.generations.iter().map(|(_, from, held)| (*from, held.clone())).collect();
        let timeline = timeline(&generations, consumer, self.begins.get(consumer).copied());
        Recovery { position, settled: settled.into_iter().collect(), timeline, ..recovery }
    }

    /// What dead letters of the consumer hold.
    pub(super) fn held_keys(&self, consumer: &ConsumerName) -> impl Iterator<Item = HeldKey> {
        let mine = self.held.iter().filter(move |((owner, _), _)| owner == consumer);
        mine.flat_map(|((_, key), holders)| {
            holders.iter().map(|(seq, round)| HeldKey { key: key.clone(), seq: *seq, round: *round })
        })
    }

    fn keys(&self, consumer: &ConsumerName) -> Vec<KeyStanding> {
        let mut keys: BTreeMap<&str, KeyStanding> = BTreeMap::new();
        for waiting in self.waiting.values().filter(|waiting| waiting.id.consumer == *consumer) {
            let Some(key) = &waiting.key else { continue };
            let new = || KeyStanding { key: key.clone(), taken: false, blocked_to: None, later: false };
            let standing = keys.entry(key).or_insert_with(new);
            standing.blocked_to = standing.blocked_to.max(waiting.blocked.then_some(waiting.id.seq));
            standing.later |= waiting.blocked && waiting.id.round > 0;
            standing.taken |= !waiting.blocked && (waiting.delivery.calls > 0 || waiting.id.round == 0);
        }
        keys.into_values().collect()
    }

    pub(super) fn page(
        &self,
        consumer: &ConsumerName,
        priority: Priority,
        after: Option<&(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Vec<Waiting> {
        let mine = self.waiting.values().filter(|waiting| waiting.id.consumer == *consumer && !waiting.blocked);
        let mut page: Vec<Waiting> = mine
            .filter(|waiting| waiting.priority == priority)
            .filter(|waiting| after.is_none_or(|(at, last)| (due(waiting), &waiting.id) > (*at, last)))
            .cloned()
            .collect();
        page.sort_by_key(|waiting| (due(waiting), waiting.id.clone()));
        page.truncate(limit);
        page
    }

    pub(super) fn blocked(&self, consumer: &ConsumerName, key: &str, later: bool, limit: usize) -> Vec<Waiting> {
        let mine = self.waiting.values().filter(|waiting| waiting.id.consumer == *consumer && waiting.blocked);
        let mine = mine.filter(|waiting| !later || waiting.id.round > 0);
        // In the order of the ids, which is that of sequence and round.
        mine.filter(|waiting| waiting.key.as_deref() == Some(key)).take(limit).cloned().collect()
    }

    pub(super) fn marked(&self, consumer: &ConsumerName, key: &str, now: Timestamp) -> Option<DeliveryId> {
        let (by, mark) = self.marks.get(&(consumer.clone(), key.to_owned()))?;
        (mark.until > now).then(|| by.clone())
    }
}
