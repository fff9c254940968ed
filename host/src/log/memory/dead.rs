//! Dead letters, and the keys that they hold.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use super::kept::{Dead, Kept};
use crate::log::{Commit, DeadDecision, DeadSelection, Waiting};
use crate::model::{ConsumerName, Delivery, DeliveryId, Priority, Seq, Timestamp};
use crate::planted::{self, Bug};

impl Kept {
    pub(super) fn hold(&mut self, dead: &DeliveryId, key: &str) {
        self.let_go(&dead.consumer, dead.seq, ..dead.round);
        self.held.entry((dead.consumer.clone(), key.to_owned())).or_default().insert((dead.seq, dead.round));
    }

    /// The event's dead letters up to this round hold nothing any more. Answers which did.
    pub(super) fn hold_no_more(&mut self, of: &DeliveryId) -> Vec<(Seq, u32)> {
        self.let_go(&of.consumer, of.seq, ..=of.round)
    }

    fn let_go(&mut self, consumer: &ConsumerName, seq: Seq, rounds: impl RangeBounds<u32>) -> Vec<(Seq, u32)> {
        let meant = |holder: &(Seq, u32)| holder.0 == seq && rounds.contains(&holder.1);
        let mine = self.held.iter_mut().filter(|((owner, _), _)| owner == consumer);
        let freed = mine.flat_map(|(_, holders)| holders.extract_if(.., meant).collect::<Vec<_>>()).collect();
        self.held.retain(|_, holders| !holders.is_empty());
        freed
    }

    pub(super) fn release(
        &mut self,
        consumer: &ConsumerName,
        keys: &[String],
        commits: &mut Vec<Commit>,
    ) -> Vec<String> {
        let meant =
            |(owner, key): &(ConsumerName, String)| owner == consumer && (keys.is_empty() || keys.contains(key));
        let (freed, holders): (Vec<String>, Vec<_>) =
            self.held.extract_if(.., |key, _| meant(key)).map(|((_, key), holders)| (key, holders)).unzip();
        if !freed.is_empty() {
            commits.push(Commit::Released(consumer.clone(), holders.into_iter().flatten().collect()));
        }
        freed
    }

    pub(super) fn decide_dead(
        &mut self,
        selection: &DeadSelection,
        decision: DeadDecision,
        now: Timestamp,
        commits: &mut Vec<Commit>,
    ) -> Vec<DeliveryId> {
        let fitting = self.dead.iter().filter(|(id, dead)| self.fits(selection, id, dead));
        let mut chosen: Vec<(Timestamp, DeliveryId)> = fitting.map(|(id, dead)| (dead.died_at, id.clone())).collect();
        chosen.sort();
        chosen.truncate(selection.limit.unwrap_or(usize::MAX));
        let mut decided = Vec::with_capacity(chosen.len());
        for (_, id) in chosen {
            let Some(dead) = self.dead.get_mut(&id) else { continue };
            dead.decided = true;
            decided.push(id);
        }
        match decision {
            DeadDecision::Redrive => self.redrive(decided, now, commits),
            DeadDecision::Discard => self.discard(decided, commits),
        }
    }

    fn redrive(&mut self, decided: Vec<DeliveryId>, now: Timestamp, commits: &mut Vec<Commit>) -> Vec<DeliveryId> {
        let mut made = Vec::with_capacity(decided.len());
        for id in decided {
            let round = if planted::is(Bug::RedriveEditsOldRound) { id.round } else { self.next_round(&id) };
            let id = DeliveryId { round, ..id };
            let job = self.event(id.seq).and_then(|event| event.envelope.job.as_ref());
            // A job keeps its own retry; in all else it is redriven as any other.
            let errand = job.is_some_and(|job| job.retry.is_some());
            let (delivery, priority) = (Delivery::new(now), Priority::Normal);
            let waiting = Waiting { id: id.clone(), delivery, key: None, blocked: false, errand, priority };
            self.waiting.insert(id, waiting.clone());
            made.push(waiting);
        }
        let ids = made.iter().map(|waiting| waiting.id.clone()).collect();
        if !made.is_empty() {
            commits.push(Commit::Redriven(made));
        }
        ids
    }

    /// What nobody needs any more holds no key.
    fn discard(&mut self, decided: Vec<DeliveryId>, commits: &mut Vec<Commit>) -> Vec<DeliveryId> {
        let mut freed: BTreeMap<ConsumerName, Vec<(Seq, u32)>> = BTreeMap::new();
        for id in &decided {
            let holders = self.hold_no_more(id);
            freed.entry(id.consumer.clone()).or_default().extend(holders);
        }
        let freed = freed.into_iter().filter(|(_, holders)| !holders.is_empty());
        commits.extend(freed.map(|(consumer, holders)| Commit::Released(consumer, holders)));
        decided
    }

    pub(super) fn next_round(&self, id: &DeliveryId) -> u32 {
        let known = self.outcomes.keys().map(|(known, _)| known).chain(self.waiting.keys());
        let rounds = known.filter(|known| known.seq == id.seq && known.consumer == id.consumer);
        rounds.map(|known| known.round).fold(id.round, u32::max) + 1
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
}
