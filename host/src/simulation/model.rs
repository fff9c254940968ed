//! What must be true, as a few lists: fed with everything that became durable, began, ended or was told, it says at once what is wrong.
//! The numbers are those of the invariants in `docs/guarantees.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::disk::{Applied, Change};
use super::guests::{Begun, number};
use super::plan::{Deployed, Plan};
use crate::log::memory::MemoryLog;
use crate::log::{Appended, AttemptRecord, Commit, DeadDecision, Error, Settled, Settlement, Waiting};
use crate::model::delivery::DeathCause;
use crate::model::event::{DEAD_LETTERED, HOST_SOURCE};
use crate::model::outcome::StateWrite;
use crate::model::{
    ConsumerName, DeliveryId, Digest, Envelope, Event, Generation, Outcome, Report, Seq, State, Timestamp,
};

/// What is wrong: the invariant and what was seen.
#[derive(Debug)]
pub(super) struct Violation(pub(super) String);

pub(super) type Checked = Result<(), Violation>;

macro_rules! hold {
    ($true:expr, $($what:tt)+) => {
        if !$true {
            return Err($crate::simulation::model::Violation(format!($($what)+)));
        }
    };
}
pub(super) use hold;

/// A delivery as the log must have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) attempts: u32,
    pub(super) calls: u32,
    /// Not before.
    pub(super) due: Timestamp,
    /// It has a row of its own.
    pub(super) stored: bool,
    pub(super) end: Option<Outcome>,
    pub(super) dead: bool,
    /// Somebody has redriven or discarded it.
    pub(super) decided: bool,
}

#[derive(Default)]
pub(super) struct Model {
    events: Vec<Arc<Event>>,
    by_id: HashMap<(String, String), Seq>,
    /// From which sequence on what is deployed, by generation from 1.
    pub(super) generations: Vec<(Seq, Plan)>,
    /// Plans on their way, by digest.
    pub(super) plans: BTreeMap<Digest, Plan>,
    pub(super) deliveries: BTreeMap<DeliveryId, Known>,
    /// Of each consumer, first rounds that are neither over nor stored.
    open: BTreeMap<ConsumerName, BTreeSet<Seq>>,
    records: BTreeMap<(DeliveryId, u32), Outcome>,
    state: BTreeMap<(ConsumerName, String), u64>,
    /// In the hands of guests.
    running: BTreeMap<DeliveryId, (ConsumerName, u64)>,
    /// What the latest call of each came to, until it is settled.
    staged: BTreeMap<DeliveryId, Report>,
    /// The generation that the dispatcher knows of, and whether it may begin anything.
    live: Option<Generation>,
    pub(super) draining: bool,
    /// The log has failed: what the process believes is worth nothing any more, and it can do no harm.
    pub(super) failed: bool,
    /// The latest that the wall clock has shown in this process's life.
    latest: Timestamp,
    /// What was counted, for the table of coverage.
    pub(super) outcomes: BTreeMap<Outcome, u64>,
    pub(super) answers: BTreeMap<String, u64>,
}

impl Model {
    pub(super) fn head(&self) -> Seq {
        self.events.len() as Seq
    }

    pub(super) fn event(&self, seq: Seq) -> &Arc<Event> {
        &self.events[usize::try_from(seq).unwrap() - 1]
    }

    fn deployed(&self, generation: Generation) -> Option<&Plan> {
        let at = usize::try_from(generation.0).ok()?.checked_sub(1)?;
        self.generations.get(at).map(|(_, plan)| plan)
    }

    pub(super) fn time(&mut self, now: Timestamp) {
        self.latest = self.latest.max(now);
    }

    /// A process is gone, and all that only it knew.
    pub(super) fn crashed(&mut self, now: Timestamp) {
        self.running.clear();
        self.staged.clear();
        self.live = None;
        self.draining = false;
        self.failed = false;
        self.latest = now;
    }

    /// Something has become durable.
    pub(super) fn apply(&mut self, applied: Applied) -> Checked {
        let Applied { change, commits } = applied;
        match change {
            Change::Appended(envelopes, answer) => self.appended(&envelopes, answer, &commits),
            Change::Settled(settlements, answer) => self.settled(&settlements, answer, &commits),
            Change::Activated(activation, activated) => {
                let known = self.generations.len() as u64;
                let plan = self.plans.get(&activation.digest).cloned();
                match plan {
                    Some(plan) if activated.generation.0 == known + 1 => {
                        hold!(activated.from == self.head() + 1, "I20: live from {}, not from the end", activated.from);
                        self.generations.push((activated.from, plan));
                    }
                    Some(plan) => {
                        let same = self.generations.last().is_some_and(|(_, last)| last.digest() == plan.digest());
                        hold!(same && activated.generation.0 == known, "I20: generation {known} became another");
                    }
                    None => return Err(Violation("I20: nobody has asked for this activation".into())),
                }
                Ok(())
            }
            Change::Decided(decision, ids) => self.decided(decision, &ids, &commits),
            Change::Advanced(positions) => self.advanced(&positions),
            Change::Parked(_) | Change::Claimed(_) | Change::Paused(..) | Change::Released(..) => Ok(()),
        }
    }

    fn appended(
        &mut self,
        envelopes: &[Envelope],
        answer: Result<Vec<Appended>, Error>,
        commits: &[Commit],
    ) -> Checked {
        let taken = |model: &Self, e: &Envelope| model.by_id.get(&(e.source.clone(), e.id.clone())).copied();
        match answer {
            Ok(answers) => {
                let mut expected = self.head();
                for (envelope, answer) in envelopes.iter().zip(&answers) {
                    let known = taken(self, envelope);
                    // The same event twice in one request has its sequence from the first.
                    let known = known.or_else(|| {
                        let twin = envelopes.iter().position(|e| e.id == envelope.id && e.source == envelope.source)?;
                        Some(answers[twin].seq).filter(|_| answer.duplicate)
                    });
                    match known {
                        Some(seq) => {
                            hold!(answer.seq == seq && answer.duplicate, "I3: {} has two sequences", envelope.id)
                        }
                        None => {
                            expected += 1;
                            hold!(answer.seq == expected && !answer.duplicate, "I2: {} is not the next", answer.seq);
                        }
                    }
                }
                self.announced(commits)?;
                hold!(self.head() == expected, "I1: {expected} was acknowledged, {} are in the log", self.head());
                Ok(())
            }
            Err(Error::Conflict { index, seq, .. }) => {
                let other = self.event(seq).envelope.clone();
                hold!(!other.same_statement(&envelopes[index]), "I3: the same statement was called a conflict");
                hold!(commits.is_empty(), "I3: a conflict left something behind");
                Ok(())
            }
            Err(error) => Err(Violation(format!("the memory log refused: {error}"))),
        }
    }

    /// Events that the feed tells of become known, and with them what they cause.
    fn announced(&mut self, commits: &[Commit]) -> Checked {
        for commit in commits {
            let Commit::Events(events) = commit else { continue };
            for event in events {
                hold!(event.seq == self.head() + 1, "I2: {} follows {}", event.seq, self.head());
                let id = (event.envelope.source.clone(), event.envelope.id.clone());
                hold!(self.by_id.insert(id, event.seq).is_none(), "I3: event {} was there already", event.seq);
                self.events.push(event.clone());
                self.route(event);
            }
        }
        Ok(())
    }

    fn route(&mut self, event: &Arc<Event>) {
        let Some((_, plan)) = self.generations.last() else { return };
        for (name, Deployed { spec, .. }) in &plan.consumers {
            let deep = event.envelope.source == HOST_SOURCE && event.envelope.depth > spec.limits.chain_depth;
            if !deep && spec.subscriptions.iter().any(|subscription| subscription.matches(event)) {
                let id = DeliveryId { seq: event.seq, consumer: name.clone(), round: 0 };
                let due = event.envelope.not_before.unwrap_or(event.accepted_at);
                self.deliveries.insert(id, Known { due, ..Known::default() });
                self.open.entry(name.clone()).or_default().insert(event.seq);
            }
        }
    }

    fn settled(&mut self, settlements: &[Settlement], answer: Settled, commits: &[Commit]) -> Checked {
        *self.answers.entry(format!("{answer:?}")).or_default() += 1;
        if answer != Settled::Committed {
            let silent = commits.iter().all(|commit| matches!(commit, Commit::Settled(..)));
            hold!(silent, "I5: a settlement that was answered {answer:?} left something behind");
            return Ok(());
        }
        let before = self.head();
        for settlement in settlements {
            self.settled_one(settlement)?;
        }
        // All that was published is there, once.
        self.announced(commits)?;
        let mut expected = before;
        for envelope in settlements.iter().flat_map(|settlement| &settlement.events) {
            let seq = self.by_id.get(&(envelope.source.clone(), envelope.id.clone()));
            hold!(seq.is_some(), "I5: {} was published, and is not in the log", envelope.id);
            expected += u64::from(seq.is_some_and(|seq| *seq > before));
        }
        hold!(self.head() == expected, "I12: the log has more than was published");
        Ok(())
    }

    fn settled_one(&mut self, settlement: &Settlement) -> Checked {
        let Settlement { delivery: id, next, record, .. } = settlement;
        let Some(known) = self.deliveries.get(id).cloned() else {
            return Err(Violation(format!("I4: {id} was settled, and nobody subscribed to it")));
        };
        hold!(known.end.is_none(), "I4: {id} has a second end: {:?} after {:?}", record.outcome, known.end);
        hold!(record.call == known.calls + 1, "I6: call {} of {id} follows {}", record.call, known.calls);
        let plan = self.deployed(record.generation);
        let Some(Deployed { spec, digest }) = plan.and_then(|plan| plan.consumers.get(&id.consumer)).cloned() else {
            return Err(Violation(format!(
                "I13: {id} ran in generation {}, which has no such consumer",
                record.generation
            )));
        };
        hold!(digest == record.component, "I13: {id} ran on a component that generation {} has not", record.generation);
        self.effects(settlement)?;

        let free = matches!(record.outcome, Outcome::Defer | Outcome::Interrupted);
        let attempts = known.attempts + u32::from(!free);
        hold!(
            next.attempts == attempts,
            "I8: {id} has {} attempts after {:?}, not {attempts}",
            next.attempts,
            record.outcome
        );
        hold!(
            record.attempt == known.attempts + 1,
            "I8: attempt {} of {id} follows {}",
            record.attempt,
            known.attempts
        );
        hold!(next.calls == record.call, "I8: call {} of {id} left {} calls", record.call, next.calls);
        let end = expected_end(record, attempts >= spec.retry.attempts);
        let is = (next.state == State::Dead, next.state.is_final());
        hold!(is == end, "I8: {id} is {:?} after {:?}, attempt {attempts}", next.state, record.outcome);
        hold!(settlement.death == is.0.then(|| cause(record.outcome)), "I9: {id} died of {:?}", settlement.death);
        self.stands(settlement, known);
        Ok(())
    }

    /// What the settlement keeps is what the call came to.
    fn effects(&mut self, settlement: &Settlement) -> Checked {
        let Settlement { delivery: id, record, events, state, death, .. } = settlement;
        let staged = self.staged.remove(id);
        let deaths = events.iter().filter(|event| event.event_type == DEAD_LETTERED).count();
        hold!(deaths == usize::from(death.is_some()), "I9: {deaths} events say that {id} is dead");
        let published: Vec<&Envelope> = events.iter().filter(|event| event.event_type != DEAD_LETTERED).collect();
        if record.outcome != Outcome::Done {
            hold!(published.is_empty() && state.is_empty(), "I5: {id} was {:?} and has effects", record.outcome);
            return Ok(());
        }
        let Some(staged) = staged.filter(|staged| staged.outcome == Outcome::Done) else {
            return Err(Violation(format!("I6: {id} is done, and no call of it was")));
        };
        let same = staged.published.iter().map(|event| &event.id).eq(published.iter().map(|event| &event.id));
        hold!(same, "I12: {id} published {}, {} are kept", staged.published.len(), published.len());
        hold!(staged.state == *state, "I11: {id} wrote something else to state");
        for (key, write) in &state.writes {
            let value = match write {
                StateWrite::Set { value, .. } => number(value),
                StateWrite::Delete => 0,
            };
            let kept = self.state.entry((id.consumer.clone(), key.clone())).or_default();
            hold!(value == *kept + 1 || value == 0, "I11: {key} of {} went from {kept} to {value}", id.consumer);
            *kept = value;
        }
        Ok(())
    }

    fn stands(&mut self, settlement: &Settlement, known: Known) {
        let Settlement { delivery: id, next, record, .. } = settlement;
        *self.outcomes.entry(record.outcome).or_default() += 1;
        self.records.insert((id.clone(), record.call), record.outcome);
        if id.round == 0
            && let Some(open) = self.open.get_mut(&id.consumer)
        {
            open.remove(&id.seq);
        }
        let due = if let State::Pending { due_at } = next.state { due_at } else { known.due };
        let known = Known {
            attempts: next.attempts,
            calls: next.calls,
            due,
            stored: !next.state.is_final(),
            end: next.state.is_final().then_some(record.outcome),
            dead: next.state == State::Dead,
            decided: false,
        };
        self.deliveries.insert(id.clone(), known);
    }

    fn decided(&mut self, decision: DeadDecision, ids: &[DeliveryId], commits: &[Commit]) -> Checked {
        let mut made: BTreeMap<&DeliveryId, Timestamp> = BTreeMap::new();
        for commit in commits {
            let Commit::Redriven(waiting) = commit else { continue };
            for Waiting { id, delivery, .. } in waiting {
                if let State::Pending { due_at } = delivery.state {
                    made.insert(id, due_at);
                }
            }
        }
        for id in ids {
            // A redrive answers what it made.
            let redrive = decision == DeadDecision::Redrive;
            let dead = DeliveryId { round: id.round.saturating_sub(u32::from(redrive)), ..id.clone() };
            let Some(known) = self.deliveries.get_mut(&dead).filter(|known| known.dead && !known.decided) else {
                return Err(Violation(format!("I9: {dead} was decided, and is no open dead letter")));
            };
            known.decided = true;
            if redrive {
                let Some(due) = made.get(id).copied() else {
                    return Err(Violation(format!("I9: nobody is told of the redrive {id}")));
                };
                hold!(!self.deliveries.contains_key(id), "I9: the redrive {id} was there already");
                self.deliveries.insert(id.clone(), Known { due, stored: true, ..Known::default() });
            }
        }
        Ok(())
    }

    fn advanced(&self, positions: &[(ConsumerName, Seq)]) -> Checked {
        for (consumer, position) in positions {
            let first = self.open.get(consumer).and_then(|open| open.first().copied());
            hold!(
                first.is_none_or(|first| first > *position),
                "I21: {consumer} is said to be at {position}, and {first:?} is neither settled nor stored"
            );
            hold!(*position <= self.head(), "I21: {consumer} is said to be at {position}, beyond the log");
        }
        Ok(())
    }

    /// The dispatcher has been told.
    pub(super) fn told(&mut self, commits: &[Commit]) {
        for commit in commits {
            if let Commit::Activated(activated) = commit {
                self.live = Some(activated.generation);
            }
        }
    }

    /// A handler is called.
    pub(super) fn began(&mut self, begun: &Begun) -> Checked {
        if self.failed {
            return Ok(());
        }
        let Begun { spec, digest, calls, .. } = begun;
        let name = &spec.name;
        let live = self.live.and_then(|live| self.deployed(live));
        let Some(plan) = live else { return Err(Violation(format!("I13: {name} runs before anything is live"))) };
        let (slots, held) = (plan.slots, plan.consumers.get(name));
        hold!(held.is_some_and(|held| held.digest == *digest), "I13: {name} runs on what is not live");
        hold!(!self.draining, "I24: {name} begins while the host stops");
        for (id, call) in begun.ids().zip(calls) {
            let Some(known) = self.deliveries.get(&id) else {
                return Err(Violation(format!("I4: {id} runs, and nobody subscribed to it")));
            };
            hold!(known.end.is_none(), "I4: {id} runs after its end");
            hold!(!self.running.contains_key(&id), "I7: {id} runs twice at once");
            hold!(
                call.attempt == known.attempts + 1,
                "I8: attempt {} of {id} follows {}",
                call.attempt,
                known.attempts
            );
            hold!(known.due <= self.latest, "I14: {id} runs before it is due, at {}", known.due);
            hold!(*call.event == **self.event(id.seq), "I1: {id} got another event");
            self.running.insert(id, (name.clone(), begun.token));
        }
        let calls = |of: &mut dyn Iterator<Item = &(ConsumerName, u64)>| {
            of.map(|(_, token)| token).collect::<BTreeSet<_>>().len()
        };
        let mine = calls(&mut self.running.values().filter(|(consumer, _)| consumer == name));
        let all = calls(&mut self.running.values());
        let most = usize::try_from(spec.limits.concurrency).unwrap();
        hold!(mine <= most, "I17: {name} runs {mine} at once, {most} are allowed");
        hold!(all <= usize::try_from(slots).unwrap(), "I17: {all} run at once, there are {slots} slots");
        Ok(())
    }

    /// A call came to this, for each of its deliveries.
    pub(super) fn ended(&mut self, ids: impl Iterator<Item = DeliveryId>, reports: &Result<Vec<Report>, Report>) {
        for (at, id) in ids.enumerate() {
            self.running.remove(&id);
            match reports {
                Ok(reports) => drop(self.staged.insert(id, reports[at].clone())),
                Err(_) => drop(self.staged.remove(&id)),
            }
        }
    }

    pub(super) fn dropped(&mut self, ids: &[DeliveryId]) {
        for id in ids {
            self.running.remove(id);
            self.staged.remove(id);
        }
    }

    /// What the log has kept is what it must have.
    pub(super) fn compare(&self, log: &MemoryLog, events: &[Arc<Event>]) -> Checked {
        hold!(events.len() == self.events.len(), "I1: {} events of {} are there", events.len(), self.events.len());
        for (kept, known) in events.iter().zip(&self.events) {
            hold!(**kept == **known, "I1: event {} is another one", known.seq);
        }
        let records = log.outcomes();
        let kept = records.iter().map(|(id, record)| (id.clone(), record.call, record.outcome));
        let known = self.records.iter().map(|((id, call), outcome)| (id.clone(), *call, *outcome));
        hold!(kept.eq(known), "I5: the outcomes in the log are not those that were settled");
        let dead = self.deliveries.iter().filter(|(_, known)| known.dead && !known.decided).map(|(id, _)| id);
        hold!(log.dead().iter().eq(dead), "I9: the dead letters in the log are not those that died");
        for ((consumer, key), value) in &self.state {
            let kept = log.state_get(consumer, key).map_or(0, |(value, _)| number(&value));
            hold!(kept == *value, "I11: {key} of {consumer} is {kept}, and should be {value}");
        }
        Ok(())
    }

    /// Consumers with work left.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = (&DeliveryId, &Known)> {
        self.deliveries.iter().filter(|(_, known)| known.end.is_none())
    }

    /// Open dead letters.
    pub(super) fn dead(&self) -> Vec<DeliveryId> {
        let dead = self.deliveries.iter().filter(|(_, known)| known.dead && !known.decided);
        dead.map(|(id, _)| id.clone()).collect()
    }

    /// How each consumer that was ever deployed was deployed last.
    pub(super) fn everybody(&self) -> BTreeMap<ConsumerName, Deployed> {
        self.generations.iter().flat_map(|(_, plan)| plan.consumers.clone()).collect()
    }
}

/// Whether a delivery is dead, and whether it is over, after an attempt that came to this, which was or was not its last.
fn expected_end(record: &AttemptRecord, last: bool) -> (bool, bool) {
    match record.outcome {
        Outcome::Done | Outcome::Duplicate => (false, true),
        Outcome::Reject | Outcome::Refused | Outcome::Expired | Outcome::Crashed => (true, true),
        Outcome::Defer | Outcome::Interrupted => (false, false),
        Outcome::Retry
        | Outcome::Trapped
        | Outcome::TimedOut
        | Outcome::OutOfFuel
        | Outcome::OutOfMemory
        | Outcome::OverLimit => (last, last),
    }
}

fn cause(outcome: Outcome) -> DeathCause {
    match outcome {
        Outcome::Reject => DeathCause::Rejected,
        Outcome::Refused => DeathCause::Refused,
        Outcome::Expired => DeathCause::Expired,
        Outcome::Crashed => DeathCause::Crashed,
        _ => DeathCause::AttemptsExhausted,
    }
}
