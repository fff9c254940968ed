//! What the effects of an attempt derive from: one delivery, or all deliveries of a batch.
//!
//! Ids of published events are made from it, so that the same deliveries, called again, publish events of the same ids:
//! whoever was told of an id in an attempt that failed finds the event under it later. A batch of other deliveries has other
//! ids; a batch of one has those of the delivery alone. The number of the call does not count, because at most one call of
//! the same deliveries is *done*: each delivery that is done is in no later batch.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Call;
use crate::model::{ConsumerName, Event};

/// Begins what is hashed for a batch; no length of an id is so large.
const BATCH: u64 = u64::MAX;

pub(super) struct Cause {
    first: (Arc<Event>, u32),
    /// The batch's other events and rounds, in its order.
    others: Vec<(Arc<Event>, u32)>,
}

impl Cause {
    pub(super) fn new(first: &Call, others: &[Call]) -> Self {
        let delivery = |call: &Call| (Arc::clone(&call.event), call.round);
        Self { first: delivery(first), others: others.iter().map(delivery).collect() }
    }

    /// The event that counts as the cause: of a batch the first, whichever of them the handler had in mind.
    pub(super) fn event(&self) -> &Event {
        &self.first.0
    }

    /// The longest chain of causes that leads here.
    pub(super) fn depth(&self) -> u32 {
        self.deliveries().map(|(event, _)| event.envelope.depth).max().unwrap_or(0)
    }

    fn deliveries(&self) -> impl Iterator<Item = &(Arc<Event>, u32)> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The id of the event that is published as the `index`th: a UUID of version 8.
    pub(super) fn published_id(&self, consumer: &ConsumerName, index: usize) -> String {
        let mut hash = Sha256::new();
        if self.others.is_empty() {
            let (event, round) = &self.first;
            named(&mut hash, event);
            text(&mut hash, consumer.as_str());
            hash.update(round.to_be_bytes());
        } else {
            self.all(&mut hash);
            self.deliveries().for_each(|(_, round)| hash.update(round.to_be_bytes()));
            text(&mut hash, consumer.as_str());
        }
        hash.update((index as u64).to_be_bytes());
        uuid(hash)
    }

    /// What an attempt's requests are told apart by, the same in every attempt.
    pub(super) fn key(&self) -> String {
        if self.others.is_empty() {
            return self.event().envelope.id.clone();
        }
        let mut hash = Sha256::new();
        self.all(&mut hash);
        uuid(hash)
    }

    fn all(&self, hash: &mut Sha256) {
        hash.update(BATCH.to_be_bytes());
        hash.update((self.others.len() as u64).to_be_bytes());
        self.deliveries().for_each(|(event, _)| named(hash, event));
    }
}

fn named(hash: &mut Sha256, event: &Event) {
    text(hash, &event.envelope.id);
    text(hash, &event.envelope.source);
}

/// The length keeps ("a", "bc") and ("ab", "c") apart.
fn text(hash: &mut Sha256, part: &str) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part.as_bytes());
}

fn uuid(hash: Sha256) -> String {
    let digest: [u8; 32] = hash.finalize().into();
    let [high, low] = [0, 1].map(|half| digest.iter().skip(half * 8).take(8).fold(0, |n, b| n << 8 | u64::from(*b)));
    let high = high & !0xf000 | 0x8000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    uuid::Uuid::from_u64_pair(high, low).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sandbox::testing::{call, event};

    fn named(id: &str, source: &str, round: u32) -> Call {
        let mut event = event("{}");
        event.envelope.id = id.into();
        event.envelope.source = source.into();
        Call { round, ..call(event) }
    }

    fn cause(calls: &[Call]) -> Cause {
        let (first, others) = calls.split_first().unwrap();
        Cause::new(first, others)
    }

    fn consumer(name: &str) -> ConsumerName {
        ConsumerName::new(name).unwrap()
    }

    #[test]
    fn ids_are_stable_uuids_that_differ_by_each_part() {
        let delivery = |id, source, round| cause(&[named(id, source, round)]);
        let id = delivery("1", "s", 0).published_id(&consumer("a"), 0);
        assert_eq!(id, delivery("1", "s", 0).published_id(&consumer("a"), 0));
        let parsed = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!((parsed.get_version_num(), parsed.get_variant()), (8, uuid::Variant::RFC4122));
        for different in [
            delivery("1", "s", 0).published_id(&consumer("b"), 0),
            delivery("1", "s", 1).published_id(&consumer("a"), 0),
            delivery("1", "s", 0).published_id(&consumer("a"), 1),
            delivery("1", "t", 0).published_id(&consumer("a"), 0),
            delivery("2", "s", 0).published_id(&consumer("a"), 0),
        ] {
            assert_ne!(id, different);
        }
    }

    #[test]
    fn the_same_batch_has_the_same_ids_and_every_other_one_has_others() {
        let [a, b, c] = ["a", "b", "c"].map(|id| named(id, "s", 0));
        let again = Call { attempt: 2, seed: 9, ..a.clone() };
        let id = |calls: &[Call]| cause(calls).published_id(&consumer("x"), 0);
        let together = id(&[a.clone(), b.clone()]);
        assert_eq!(together, id(&[again, b.clone()]), "whichever attempt it is");
        let redriven = Call { round: 1, ..b.clone() };
        let batches = [
            vec![a.clone()],
            vec![b.clone()],
            vec![a.clone(), b.clone()],
            vec![b.clone(), a.clone()],
            vec![a.clone(), c.clone()],
            vec![a.clone(), b.clone(), c],
            vec![a.clone(), redriven],
            vec![named("ab", "s", 0), named("", "s", 0)],
            vec![a.clone(), named("s", "b", 0)],
        ];
        let ids: BTreeSet<String> = batches.iter().map(|batch| id(batch)).collect();
        assert_eq!(ids.len(), batches.len());
        let keys: BTreeSet<String> = batches.iter().map(|batch| cause(batch).key()).collect();
        assert_eq!(keys.len(), batches.len() - 1, "requests of a redrive are repetitions");
        assert_eq!(cause(&[a]).key(), "a");
    }

    #[test]
    fn a_batch_is_as_deep_as_its_deepest_event() {
        let [shallow, mut deep] = [event("{}"), event("{}")];
        deep.envelope.depth = 5;
        assert_eq!(cause(&[call(shallow), call(deep)]).depth(), 5);
    }
}
