//! What the effects of an attempt derive from: one delivery, or all deliveries of a batch.
//!
//! Ids of published events are made from it, so that the same deliveries, called again, publish events of the same ids:
//! whoever was told of an id in an attempt that failed finds the event under it later. A batch of other deliveries has other
//! ids; a batch of one has those of the delivery alone. The number of the call does not count, because at most one call of
//! the same deliveries is *done*: each delivery that is done is in no later batch.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Call, QuestionCall, RunCall};
use crate::model::question::Asker;
use crate::model::{ConsumerName, DeliveryId, Envelope, Event, Timestamp};

/// Begins what is hashed for a batch; no length of an id is so large.
const BATCH: u64 = u64::MAX;

pub(super) struct Cause {
    first: Origin,
    /// Of the batch's other deliveries, in its order.
    others: Vec<Origin>,
    /// It is no delivery but a question.
    question: Option<QuestionCall>,
}

/// What tells one delivery from all others of its consumer.
struct Origin {
    event: Arc<Event>,
    round: u32,
    call: u32,
    run: Option<Arc<RunCall>>,
}

impl Origin {
    fn of(call: &Call) -> Self {
        Self { event: Arc::clone(&call.event), round: call.round, call: call.call, run: call.run.clone() }
    }
}

impl Cause {
    pub(super) fn new(first: &Call, others: &[Call]) -> Self {
        Self { first: Origin::of(first), others: others.iter().map(Origin::of).collect(), question: None }
    }

    /// A question, for which its text stands as an event that is in no log.
    pub(super) fn question(call: &QuestionCall) -> Self {
        let question = &call.question;
        let envelope = Envelope {
            correlation_id: call.correlation_id.clone(),
            traceparent: question.traceparent.clone(),
            ..Envelope::of_host(&question.query_type, call.id.clone(), Timestamp::default(), &serde_json::Value::Null)
        };
        let event = Arc::new(Event { seq: 0, accepted_at: Timestamp::default(), envelope });
        let first = Origin { event, round: 0, call: 1, run: None };
        Self { first, others: Vec::new(), question: Some(call.clone()) }
    }

    /// Whether nothing that is done here leaves anything behind.
    pub(super) fn is_question(&self) -> bool {
        self.question.is_some()
    }

    /// Who it is that asks from here, and how deep questions have caused one another to come here.
    pub(super) fn asker(&self, consumer: &ConsumerName) -> (Asker, u32) {
        match &self.question {
            Some(call) => {
                (Asker::Responder { query: call.id.clone(), consumer: consumer.clone() }, call.question.depth)
            }
            None => {
                let Origin { event, round, call, .. } = &self.first;
                let id = DeliveryId { seq: event.seq, consumer: consumer.clone(), round: *round };
                (Asker::Delivery { id, call: *call }, 0)
            }
        }
    }

    /// The event that counts as the cause: of a batch the first, whichever of them the handler had in mind.
    pub(super) fn event(&self) -> &Event {
        &self.first.event
    }

    /// The longest chain of causes that leads here.
    pub(super) fn depth(&self) -> u32 {
        self.deliveries().map(|delivery| delivery.event.envelope.depth).max().unwrap_or(0)
    }

    fn deliveries(&self) -> impl Iterator<Item = &Origin> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The id of the event that is published as the `index`th: a UUID of version 8.
    pub(super) fn published_id(&self, consumer: &ConsumerName, index: usize) -> String {
        let mut hash = Sha256::new();
        if self.others.is_empty() {
            named(&mut hash, self.event());
            text(&mut hash, consumer.as_str());
            hash.update(self.first.round.to_be_bytes());
        } else {
            self.all(&mut hash);
            self.deliveries().for_each(|delivery| hash.update(delivery.round.to_be_bytes()));
            text(&mut hash, consumer.as_str());
        }
        hash.update((index as u64).to_be_bytes());
        uuid(hash)
    }

    /// What an attempt's requests are told apart by, the same in every attempt. One event comes to a consumer as several
    /// steps of its run, and to be undone: requests of the one are no repetitions of the other's.
    pub(super) fn key(&self) -> String {
        if self.others.is_empty() && self.first.run.is_none() {
            return self.event().envelope.id.clone();
        }
        let mut hash = Sha256::new();
        self.all(&mut hash);
        self.deliveries().filter_map(|delivery| delivery.run.as_ref()).for_each(|run| stepped(&mut hash, run));
        uuid(hash)
    }

    fn all(&self, hash: &mut Sha256) {
        hash.update(BATCH.to_be_bytes());
        hash.update((self.others.len() as u64).to_be_bytes());
        self.deliveries().for_each(|delivery| named(hash, &delivery.event));
    }
}

fn stepped(hash: &mut Sha256, run: &RunCall) {
    text(hash, &run.id);
    text(hash, &run.step);
    hash.update([u8::from(run.undo.is_some())]);
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
    use crate::sandbox::Undo;
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
    fn requests_of_two_steps_and_of_their_undoing_are_no_repetitions_of_one_another() {
        let delivery = named("1", "s", 1);
        let stepped = |step: &str, undo: bool, round: u32| {
            let undo = undo.then_some(Undo { output: None });
            let run = RunCall { id: "7/p".into(), pipeline: consumer("p"), step: step.into(), outputs: vec![], undo };
            Call { run: Some(Arc::new(run)), round, ..delivery.clone() }
        };
        let keys = [delivery.clone(), stepped("a", false, 1), stepped("b", false, 2), stepped("a", true, 3)];
        let keys: BTreeSet<String> = keys.into_iter().map(|call| cause(&[call]).key()).collect();
        assert_eq!(keys.len(), 4);
        let key = |round| cause(&[stepped("a", false, round)]).key();
        assert_eq!(key(1), key(9), "a step that is tried anew repeats its requests");
    }

    #[test]
    fn a_batch_is_as_deep_as_its_deepest_event() {
        let [shallow, mut deep] = [event("{}"), event("{}")];
        deep.envelope.depth = 5;
        assert_eq!(cause(&[call(shallow), call(deep)]).depth(), 5);
    }
}
