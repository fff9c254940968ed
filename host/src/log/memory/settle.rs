//! Settlements.

use bytes::Bytes;

use super::kept::{Dead, Kept, Value};
use crate::log::jobs::announce;
use crate::log::{Commit, Hold, Settled, Settlement, Waiting, runs};
use crate::model::outcome::StateWrite;
use crate::model::{ConsumerName, Envelope, Priority, State, StateChanges, Timestamp};
use crate::planted::{self, Bug};

impl Kept {
    /// All of them or none: the first that cannot stand is the answer for all.
    pub(super) fn settle(
        &mut self,
        settlements: Vec<Settlement>,
        now: Timestamp,
        commits: &mut Vec<Commit>,
    ) -> Settled {
        let ids: Vec<_> = settlements.iter().map(|settlement| settlement.delivery.clone()).collect();
        let before = (commits.len(), (settlements.len() > 1).then(|| self.clone()));
        for settlement in settlements {
            let settled = self.settle_one(settlement, now, commits);
            if settled != Settled::Committed {
                commits.truncate(before.0);
                commits.extend(ids.into_iter().map(|id| Commit::Settled(id, settled)));
                if let Some(kept) = before.1 {
                    *self = kept;
                }
                return settled;
            }
        }
        Settled::Committed
    }

    fn settle_one(&mut self, settlement: Settlement, now: Timestamp, commits: &mut Vec<Commit>) -> Settled {
        let settled = self.decide(&settlement, now);
        if planted::is(Bug::MarkOutsideSettlement)
            && let Some(mark) = settlement.marks()
        {
            let key = (settlement.delivery.consumer.clone(), mark.key.clone());
            self.marks.entry(key).or_insert((settlement.delivery.clone(), mark.clone()));
        }
        if settled != Settled::Committed {
            return settled;
        }
        commits.push(Commit::Settled(settlement.delivery.clone(), settled));
        let mut released = Vec::new();
        match &settlement.hold {
            Some(Hold::Begin(key)) => self.hold(&settlement.delivery, key),
            Some(Hold::End(_)) => released = self.hold_no_more(&settlement.delivery),
            None => {}
        }
        if let Some(mark) = settlement.marks() {
            let key = (settlement.delivery.consumer.clone(), mark.key.clone());
            self.marks.insert(key, (settlement.delivery.clone(), mark.clone()));
        }
        if settlement.claimed {
            self.claims.remove(&settlement.delivery);
        }
        let (of_attempt, key) = (settlement.published(), settlement.kept_key().map(str::to_owned));
        let Settlement { delivery, next, record, events, state, death, errand, run, .. } = settlement;
        self.write(&delivery.consumer, state);
        let priority = self.waiting.remove(&delivery).map_or_else(Priority::default, |waiting| waiting.priority);
        self.replays.settled(&delivery, next.state, now);
        if let State::Pending { .. } = next.state {
            let waiting = Waiting { id: delivery.clone(), delivery: next, key, blocked: false, errand, priority };
            self.waiting.insert(delivery.clone(), waiting);
        }
        if let Some(cause) = death {
            self.dead.insert(delivery.clone(), Dead { cause, died_at: now, decided: false });
        }
        let published = self.publish(events, of_attempt, now, commits);
        let consumer = delivery.consumer.clone();
        let (seq, output) = (delivery.seq, record.output.clone());
        self.outcomes.insert((delivery, record.call), (record, published));
        if !released.is_empty() {
            commits.push(Commit::Released(consumer.clone(), released));
        }
        if let Some(run) = run {
            let Ok(()) = runs::change(self, (seq, &consumer), &run, output.as_ref(), now, commits);
        }
        settled
    }

    /// Answers how many of the attempt's own events are new; what follows them is the dead letter's.
    fn publish(
        &mut self,
        events: Vec<Envelope>,
        of_attempt: usize,
        now: Timestamp,
        commits: &mut Vec<Commit>,
    ) -> usize {
        let (mut new, mut published) = (Vec::new(), 0);
        for (index, envelope) in events.into_iter().enumerate() {
            if self.taken(&envelope).is_none() {
                new.push(self.push(envelope, now));
                published += usize::from(index < of_attempt);
            }
        }
        announce(new, commits);
        published
    }

    fn decide(&self, settlement: &Settlement, now: Timestamp) -> Settled {
        let Settlement { delivery, record, state, state_quota, run, .. } = settlement;
        let expected = if settlement.stored {
            self.waiting.get(delivery).map(|waiting| waiting.delivery.calls + 1)
        } else {
            (delivery.round == 0).then_some(1)
        };
        let stale = expected != Some(record.call) || self.outcomes.contains_key(&(delivery.clone(), record.call));
        if stale && !planted::is(Bug::OutcomeWithoutFence) {
            return Settled::Fenced;
        }
        let consumer = &delivery.consumer;
        if let Some(mark) = settlement.marks()
            && self.marked(consumer, &mark.key, now).is_some_and(|by| by != *delivery)
        {
            return Settled::Duplicate;
        }
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
        if let Some(change) = run
            && let Ok(false) = runs::may(self, consumer, change)
        {
            return Settled::Duplicate;
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
}
