//! Keys found anew.

use std::collections::{BTreeMap, BTreeSet};

use super::kept::{Kept, Keyed, due};
use crate::log::Rekey;
use crate::model::keys::{KeyRules, Place, held_key, place};
use crate::model::{ConsumerName, DeliveryId, Seq, State};

/// Rows of one step: few, so that a simulation sees more than one.
const STEP: usize = 8;

impl Kept {
    pub(super) fn keyed_by(&self, consumer: &ConsumerName) -> Option<KeyRules> {
        let Keyed { lines, marks } = self.keyed.get(consumer).cloned().unwrap_or_default();
        Some(KeyRules { lines: lines?, marks: marks? })
    }

    /// One step; answers where the next one goes on.
    pub(super) fn rekey(&mut self, step: &Rekey) -> Option<(Seq, u32)> {
        let (name, rules) = (&step.consumer.name, KeyRules::of(&step.consumer.delivery));
        let keyed = self.keyed.entry(name.clone()).or_default();
        keyed.lines = None;
        if keyed.marks.as_ref() != Some(&rules.marks) {
            keyed.marks = None;
            self.marks.retain(|(owner, _), _| owner != name);
        }
        let places = self.places(name, step.after);
        for id in &places {
            self.rekey_waiting(step, id);
        }
        let last = places.last().map(|id| (id.seq, id.round));
        self.rekey_held(step, last);
        if last.is_none() {
            self.keyed.insert(name.clone(), Keyed { lines: Some(rules.lines), marks: Some(rules.marks) });
        }
        last
    }

    /// The next ones that wait.
    fn places(&self, consumer: &ConsumerName, after: Option<(Seq, u32)>) -> Vec<DeliveryId> {
        let mine = self.waiting.keys().filter(|id| id.consumer == *consumer);
        mine.filter(|id| after.is_none_or(|after| (id.seq, id.round) > after)).take(STEP).cloned().collect()
    }

    fn rekey_waiting(&mut self, step: &Rekey, id: &DeliveryId) {
        let Some(event) = self.event(id.seq).cloned() else { return };
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let before = Place { key: waiting.key.take(), blocked: waiting.blocked, due_at: due(waiting) };
        let called = (id.round, waiting.delivery.calls);
        let Place { key, blocked, due_at } = place(&step.consumer.delivery, &event, called, &before);
        (waiting.key, waiting.blocked, waiting.delivery.state) = (key, blocked, State::Pending { due_at });
    }

    /// What dead letters hold, of events up to there.
    fn rekey_held(&mut self, step: &Rekey, last: Option<(Seq, u32)>) {
        let name = &step.consumer.name;
        let first = step.after.map_or(0, |(seq, _)| seq + 1);
        let range = first..=last.map_or(Seq::MAX, |(seq, _)| seq);
        let mut moved: BTreeMap<String, BTreeSet<(Seq, u32)>> = BTreeMap::new();
        for ((owner, _), holders) in &mut self.held {
            if owner != name {
                continue;
            }
            for (seq, round) in holders.extract_if(.., |(seq, _)| range.contains(seq)) {
                let at = usize::try_from(seq).unwrap_or(usize::MAX).saturating_sub(1);
                let key = self.events.get(at).and_then(|event| held_key(&step.consumer.delivery, event));
                if let Some(key) = key {
                    moved.entry(key).or_default().insert((seq, round));
                }
            }
        }
        self.held.retain(|_, holders| !holders.is_empty());
        for (key, holders) in moved {
            self.held.entry((name.clone(), key)).or_default().extend(holders);
        }
    }
}
