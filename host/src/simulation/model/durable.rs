//! Whether what becomes durable may.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Checked, Claimed, Keys, Known, Model, Violation, hold};
use crate::log::{
    Activated, Activation, Appended, AttemptRecord, Commit, DeadDecision, DeadSelection, Error, Hold, Rekey, Settled,
    Settlement, Waiting,
};
use crate::model::delivery::DeathCause;
use crate::model::event::{DEAD_LETTERED, HOST_SOURCE};
use crate::model::outcome::StateWrite;
use crate::model::pipeline::run::RunId;
use crate::model::spec::{DeliverySpec, Mode, OnDead, StartFrom};
use crate::model::{ConsumerName, ConsumerSpec, DeliveryId, Envelope, Event, Outcome, Seq, State, Timestamp};
use crate::simulation::changes::{Applied, Change};
use crate::simulation::guests::number;
use crate::simulation::pipelines::is_pipeline;
use crate::simulation::plan::Deployed;

impl Model {
    /// Something has become durable.
    pub(in crate::simulation) fn apply(&mut self, applied: Applied) -> Checked {
        let Applied { change, commits, runs, errands } = applied;
        let of_runs = self.events_of_runs(&runs);
        match &change {
            Change::Appended(envelopes, answer) => self.appended(envelopes, answer, &commits)?,
            Change::Settled(settlements, answer) => self.settled(settlements, *answer, &commits, of_runs)?,
            Change::Ordered(..) | Change::Rang => self.moved(&commits, of_runs)?,
            Change::Activated(activation, activated) => self.activated(activation, *activated)?,
            Change::Decided(selection, decision, ids) => self.decided(selection, *decision, ids, &commits)?,
            Change::ReplayStarted(spec, id) => self.replay_started(spec.clone(), *id)?,
            Change::ReplayCancelled(id, running) => self.replay_cancelled(*id, *running),
            Change::Replayed(step, after) => self.replayed(step, after.clone(), &commits)?,
            Change::Fired(name, slot, event, true) => self.fired(name, *slot, event, &commits)?,
            Change::Planned => {}
            Change::Fired(_, _, event, false) => {
                hold!(commits.is_empty(), "a slot that did not fire left {} behind", event.id);
            }
            Change::Pruned(limit, gone) => self.pruned(*limit, gone)?,
            Change::Advanced(positions) => self.advanced(positions)?,
            Change::Parked(waiting) => self.parked(waiting)?,
            Change::Rekeyed(step, last) => self.rekeyed(step, *last),
            Change::Claimed(id) => {
                self.claims.entry(id.clone()).or_insert(Claimed { crashes: 1, in_hand: true }).in_hand = true;
            }
            Change::Paused(consumer, true) => drop(self.paused.insert(consumer.clone())),
            Change::Paused(consumer, false) => drop(self.paused.remove(consumer)),
            Change::Released(consumer, keys) => {
                keys.iter().for_each(|key| drop(self.held.remove(&(consumer.clone(), key.clone()))));
            }
        }
        match &change {
            // What these make, they look at themselves.
            Change::Decided(..) | Change::Replayed(..) => self.errands.extend(errands),
            _ => self.made(&commits, errands)?,
        }
        self.follow(&change, &runs)
    }

    /// Runs have been told something that is no end of a delivery.
    fn moved(&mut self, commits: &[Commit], of_runs: u64) -> Checked {
        let before = self.head();
        self.announced(commits)?;
        hold!(self.head() == before + of_runs, "I25: {} events, and runs tell {of_runs}", self.head() - before);
        Ok(())
    }

    fn activated(&mut self, activation: &Activation, activated: Activated) -> Checked {
        let known = self.generations.len() as u64;
        let Some(plan) = self.plans.get(&activation.digest).cloned() else {
            return Err(Violation("I20: nobody has asked for this activation".into()));
        };
        if activated.generation.0 != known + 1 {
            let same = self.generations.last().is_some_and(|(_, last)| last.digest() == plan.digest());
            hold!(same && activated.generation.0 == known, "I20: generation {known} became another");
            return Ok(());
        }
        hold!(activated.from == self.head() + 1, "I20: live from {}, not from the end", activated.from);
        for spec in plan.specs() {
            let name = &spec.name;
            let begins = match spec.delivery.from {
                StartFrom::Start => 1,
                StartFrom::Sequence(seq) => seq,
                _ => activated.from,
            };
            let new = !self.generations.iter().any(|(_, plan)| plan.is_deployed(name));
            if new {
                self.begins.insert(name.clone(), begins);
                for event in self.events.clone().iter().filter(|event| event.seq >= begins) {
                    self.route(event, spec);
                }
            }
        }
        self.generations.push((activated.from, plan));
        self.waits_are_served()
    }

    fn parked(&mut self, waiting: &[Waiting]) -> Checked {
        for Waiting { id, blocked, delivery, .. } in waiting {
            let not_before = self.event(id.seq).envelope.not_before.filter(|_| id.round == 0 && delivery.calls == 0);
            let Some(known) = self.deliveries.get_mut(id) else {
                return Err(Violation(format!("I4: {id} is parked, and nobody subscribed to it")));
            };
            if known.end.is_none() {
                known.stored = true;
                known.due = match delivery.state {
                    State::Pending { due_at } if !blocked => due_at,
                    // No due time counts any more but the event's own.
                    _ => not_before.unwrap_or(Timestamp::MIN),
                };
                self.open.entry(id.consumer.clone()).or_default().remove(&id.seq);
            }
        }
        Ok(())
    }

    /// What dead letters hold, of events between where a step began and where it ended, has other keys; and what was settled
    /// under another rule is forgotten.
    fn rekeyed(&mut self, step: &Rekey, last: Option<(Seq, u32)>) {
        let Rekey { consumer, after } = step;
        let (name, spec) = (&consumer.name, &consumer.delivery);
        let rule = spec.idempotency.as_ref().map(|idempotency| idempotency.key.source().to_owned()).unwrap_or_default();
        let known = self.marked_by.entry(name.clone()).or_insert_with(|| Some(String::new()));
        if known.as_ref() != Some(&rule) {
            *known = last.is_none().then_some(rule);
            self.marks.retain(|(owner, _), _| owner != name);
        }
        let range = after.map_or(0, |(seq, _)| seq + 1)..=last.map_or(Seq::MAX, |(seq, _)| seq);
        let mine = self.held.extract_if(.., |(owner, _), _| owner == name);
        let held: Vec<(String, (Seq, u32))> =
            mine.flat_map(|((_, key), holders)| holders.into_iter().map(move |holder| (key.clone(), holder))).collect();
        for (key, (seq, round)) in held {
            let key = if range.contains(&seq) {
                spec.order.as_ref().and_then(|order| self.key(seq, &order.by)).map(ToOwned::to_owned)
            } else {
                Some(key)
            };
            if let Some(key) = key {
                self.held.entry((name.clone(), key)).or_default().insert((seq, round));
            }
        }
    }

    fn appended(
        &mut self,
        envelopes: &[Envelope],
        answer: &Result<Vec<Appended>, Error>,
        commits: &[Commit],
    ) -> Checked {
        let taken = |model: &Self, e: &Envelope| {
            model.by_id.get(&(e.source.clone(), e.id.clone())).copied().filter(|seq| model.is_there(*seq))
        };
        match answer {
            Ok(answers) => {
                let mut expected = self.head();
                for (envelope, answer) in envelopes.iter().zip(answers) {
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
                let other = self.event(*seq).envelope.clone();
                hold!(!other.same_statement(&envelopes[*index]), "I3: the same statement was called a conflict");
                hold!(commits.is_empty(), "I3: a conflict left something behind");
                Ok(())
            }
            Err(error) => Err(Violation(format!("the memory log refused: {error}"))),
        }
    }

    /// Events that the feed tells of become known, and with them what they cause.
    pub(super) fn announced(&mut self, commits: &[Commit]) -> Checked {
        for commit in commits {
            let Commit::Events(events) = commit else { continue };
            for event in events {
                hold!(event.seq == self.head() + 1, "I2: {} follows {}", event.seq, self.head());
                let id = (event.envelope.source.clone(), event.envelope.id.clone());
                let before = self.by_id.insert(id, event.seq).filter(|seq| self.is_there(*seq));
                hold!(before.is_none(), "I3: event {} was there already", event.seq);
                self.events.push(event.clone());
                self.keys.push(Keys::of(event));
                let plan = self.generations.last().map(|(_, plan)| plan.clone());
                plan.iter().flat_map(|plan| plan.specs()).for_each(|spec| self.route(event, spec));
            }
        }
        Ok(())
    }

    /// What an event causes for a consumer that is deployed so.
    fn route(&mut self, event: &Arc<Event>, spec: &ConsumerSpec) {
        let deep = event.envelope.source == HOST_SOURCE && event.envelope.depth > spec.limits.chain_depth;
        let wanted =
            spec.subscriptions.iter().any(|subscription| subscription.pattern.matches(&event.envelope.event_type));
        let begins = self.begins.get(&spec.name).copied().unwrap_or_default();
        let own = event.envelope.event_type.starts_with("tidegate.breaker.")
            && event.envelope.subject.as_deref() == Some(spec.name.as_str());
        if own
            || event.envelope.job.is_some()
            || deep
            || !wanted
            || !self.is_there(event.seq)
            || event.seq < begins
            || spec.delivery.mode == Mode::Ephemeral
        {
            return;
        }
        let id = DeliveryId { seq: event.seq, consumer: spec.name.clone(), round: 0 };
        let due = event.envelope.not_before.unwrap_or(Timestamp::MIN);
        self.alive.insert(id.clone());
        self.deliveries.insert(id, Known { due, ..Known::default() });
        self.open.entry(spec.name.clone()).or_default().insert(event.seq);
        self.unfinished.entry(spec.name.clone()).or_default().insert(event.seq);
    }

    fn settled(&mut self, settlements: &[Settlement], answer: Settled, commits: &[Commit], of_runs: u64) -> Checked {
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
        hold!(self.head() == expected + of_runs, "I12: the log has more than was published");
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
        let Some(Deployed { spec, digest }) = plan.and_then(|plan| plan.deployed(&id.consumer)) else {
            return Err(Violation(format!(
                "I13: {id} ran in generation {}, which has no such consumer",
                record.generation
            )));
        };
        hold!(digest == record.component, "I13: {id} ran on a component that generation {} has not", record.generation);
        self.effects(settlement)?;

        let free = matches!(
            record.outcome,
            Outcome::Defer
                | Outcome::Interrupted
                | Outcome::Duplicate
                | Outcome::Expired
                | Outcome::Crashed
                | Outcome::Withdrawn
        );
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
        let errand = self.errands.get(id).cloned().unwrap_or_default();
        let most = errand.retry.map_or(spec.retry.attempts, |retry| retry.attempts);
        let end = expected_end(record, attempts >= most);
        let is = (next.state == State::Dead, next.state.is_final());
        hold!(is == end, "I8: {id} is {:?} after {:?}, attempt {attempts}", next.state, record.outcome);
        // A run sees to its steps that fail.
        let dies = is.0 && errand.step.is_none();
        hold!(settlement.death == dies.then(|| cause(record.outcome)), "I9: {id} died of {:?}", settlement.death);
        self.uncalled(id, record, &spec.delivery)?;
        match &errand.step {
            Some(step) => {
                self.tells(settlement, step)?;
                if let (Outcome::Done, None, Some(output)) = (record.outcome, &step.undo, &record.output) {
                    self.given.insert((step.run.clone(), step.index), output.clone());
                }
            }
            None if record.outcome == Outcome::Done => {
                self.signals(settlement)?;
                if record.generation.0 < self.generations.len() as u64 {
                    self.late_runs.insert(RunId { seq: id.seq, pipeline: id.consumer.clone() });
                }
                self.marked(settlement, &spec.delivery)?;
            }
            None => {}
        }
        self.holds(settlement, &spec.delivery)?;
        self.stands(settlement, known);
        Ok(())
    }

    /// Outcomes without a call have their reasons.
    fn uncalled(&self, id: &DeliveryId, record: &AttemptRecord, spec: &DeliverySpec) -> Checked {
        let event = self.event(id.seq);
        match record.outcome {
            Outcome::Expired => {
                let from = event.envelope.not_before.unwrap_or(event.accepted_at);
                let over = spec.expires_after.is_some_and(|after| self.latest >= from.plus(after));
                hold!(over && id.round == 0, "{id} expired before its time");
            }
            Outcome::Crashed => {
                let crashes = self.claims.get(id).map_or(0, |claim| claim.crashes);
                hold!(crashes >= 3, "{id} was given up after {crashes} crashes");
            }
            Outcome::Withdrawn => hold!(self.withdrawn.contains(id), "I25: {id} is given up, and its run goes on"),
            Outcome::Duplicate if is_pipeline(&id.consumer) => {
                let begun = self.keyed_runs.keys().any(|(pipeline, _)| *pipeline == id.consumer);
                hold!(begun, "I25: {id} is called a duplicate, and there is no run");
            }
            Outcome::Duplicate => {
                let mark = self.mark(id.seq, spec).unwrap_or_default();
                let by = self.marks.get(&(id.consumer.clone(), mark.to_owned()));
                let another = by.is_some_and(|(by, _)| by != id);
                hold!(another, "{id} is called a duplicate, and nobody has settled {mark}");
            }
            _ => {}
        }
        Ok(())
    }

    /// Of all deliveries with one idempotency key, one is done.
    fn marked(&mut self, settlement: &Settlement, spec: &DeliverySpec) -> Checked {
        let Settlement { delivery: id, mark, .. } = settlement;
        let wanted = self.mark(id.seq, spec);
        let same = mark.as_ref().map(|mark| mark.key.as_str()) == wanted;
        hold!(same, "{id} is done and settles {mark:?}, not {wanted:?}");
        let Some(mark) = mark.as_ref() else { return Ok(()) };
        let key = (id.consumer.clone(), mark.key.clone());
        let by = self.marks.get(&key).filter(|(by, until)| by != id && *until > self.now);
        hold!(by.is_none(), "{id} is done, and so is {by:?} with {}", mark.key);
        self.marks.insert(key, (id.clone(), mark.until));
        Ok(())
    }

    /// Dead letters hold their keys until they are done after all.
    fn holds(&mut self, settlement: &Settlement, spec: &DeliverySpec) -> Checked {
        let Settlement { delivery: id, hold, death, .. } = settlement;
        let order = spec.order.as_ref();
        let key = order.and_then(|order| self.key(id.seq, &order.by)).map(ToOwned::to_owned);
        let must = death.is_some() && order.is_some_and(|order| order.on_dead == OnDead::Hold);
        match hold {
            Some(Hold::Begin(held)) => {
                self.free(id, held);
                self.held.entry((id.consumer.clone(), held.clone())).or_default().insert((id.seq, id.round));
            }
            Some(Hold::End(freed)) => {
                let is_step = self.errands.get(id).is_some_and(|errand| errand.step.is_some());
                hold!(id.round > 0 && !is_step, "I10: {id} frees {freed}, and was never dead");
                self.free(id, freed);
            }
            None => {}
        }
        if let Some(key) = key.filter(|_| must) {
            let is = matches!(hold, Some(Hold::Begin(held)) if *held == key);
            hold!(is, "I10: {id} is dead, and does not hold {key}");
        }
        Ok(())
    }

    fn free(&mut self, id: &DeliveryId, key: &str) {
        let key = (id.consumer.clone(), key.to_owned());
        if let Some(holders) = self.held.get_mut(&key) {
            holders.retain(|(seq, round)| *seq != id.seq || *round > id.round);
            if holders.is_empty() {
                self.held.remove(&key);
            }
        }
    }

    /// What the settlement keeps is what the call came to.
    fn effects(&mut self, settlement: &Settlement) -> Checked {
        let Settlement { delivery: id, record, events, state, death, .. } = settlement;
        let staged = self.staged.remove(id);
        let deaths = events.iter().filter(|event| event.event_type == DEAD_LETTERED).count();
        hold!(deaths == usize::from(death.is_some()), "I9: {deaths} events say that {id} is dead");
        let published: Vec<&Envelope> = events.iter().filter(|event| event.event_type != DEAD_LETTERED).collect();
        let uncalled =
            matches!(record.outcome, Outcome::Duplicate | Outcome::Expired | Outcome::Crashed | Outcome::Withdrawn);
        let by_host = is_pipeline(&id.consumer)
            || matches!(record.outcome, Outcome::OverLimit | Outcome::Refused | Outcome::Interrupted)
            || uncalled;
        let came_to = staged.as_ref().map(|staged| staged.outcome);
        hold!(
            by_host || came_to == Some(record.outcome),
            "I14: {id} is settled as {:?}, and its call came to {came_to:?}",
            record.outcome
        );
        if record.outcome != Outcome::Done {
            hold!(published.is_empty() && state.is_empty(), "I5: {id} was {:?} and has effects", record.outcome);
            return Ok(());
        }
        if staged.is_none() && is_pipeline(&id.consumer) {
            return Ok(());
        }
        let Some(staged) = staged.filter(|staged| staged.outcome == Outcome::Done) else {
            return Err(Violation(format!("I6: {id} is done, and no call of it was")));
        };
        let same = staged.published.iter().map(|event| &event.id).eq(published.iter().map(|event| &event.id));
        hold!(same, "I12: {id} published {}, {} are kept", staged.published.len(), published.len());
        hold!(staged.state == *state, "I11: {id} wrote something else to state");
        hold!(staged.output == record.output, "I25: {id} returned something else");
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
        if next.state.is_final()
            && id.round == 0
            && let Some(unfinished) = self.unfinished.get_mut(&id.consumer)
        {
            unfinished.remove(&id.seq);
        }
        self.in_hand.remove(id);
        self.crashes.remove(id);
        if settlement.claimed {
            self.claims.remove(id);
        }
        let due = if let State::Pending { due_at } = next.state { due_at } else { known.due };
        let known = Known {
            attempts: next.attempts,
            calls: next.calls,
            due,
            stored: !next.state.is_final(),
            end: next.state.is_final().then_some(record.outcome),
        };
        if next.state.is_final() {
            self.alive.remove(id);
        }
        if settlement.death.is_some() {
            self.dead.insert(id.clone());
        }
        self.deliveries.insert(id.clone(), known);
    }

    fn decided(
        &mut self,
        selection: &DeadSelection,
        decision: DeadDecision,
        ids: &[DeliveryId],
        commits: &[Commit],
    ) -> Checked {
        let meant = |id: &DeliveryId| selection.ids.is_empty() || selection.ids.contains(id);
        let decided: Vec<DeliveryId> = self.dead.extract_if(.., |id| meant(id)).collect();
        hold!(decided.len() == ids.len(), "I9: of {} dead letters, {} were decided", decided.len(), ids.len());
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
            let of = |dead: &DeliveryId| dead.seq == id.seq && dead.consumer == id.consumer;
            hold!(decided.iter().any(of), "I9: {id} was decided, and is no open dead letter");
            if decision == DeadDecision::Discard {
                let held: Vec<_> = self.held.keys().filter(|(name, _)| *name == id.consumer).cloned().collect();
                held.into_iter().for_each(|(_, key)| self.free(id, &key));
                continue;
            }
            let Some(due) = made.get(id).copied() else {
                return Err(Violation(format!("I9: nobody is told of the redrive {id}")));
            };
            hold!(!self.deliveries.contains_key(id), "I9: the redrive {id} was there already");
            self.alive.insert(id.clone());
            self.deliveries.insert(id.clone(), Known { due, stored: true, ..Known::default() });
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
}

/// Whether a delivery is dead, and whether it is over, after an attempt that came to this, which was or was not its last.
fn expected_end(record: &AttemptRecord, last: bool) -> (bool, bool) {
    match record.outcome {
        Outcome::Done | Outcome::Duplicate => (false, true),
        Outcome::Reject | Outcome::Refused | Outcome::Expired | Outcome::Crashed => (true, true),
        Outcome::Withdrawn => (false, true),
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
