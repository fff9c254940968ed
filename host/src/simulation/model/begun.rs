//! Whether a handler may be called now.

use std::time::Duration;

use super::{Checked, Model, Violation, hold};
use crate::model::spec::Mode;
use crate::model::{ConsumerSpec, DeliveryId};
use crate::sandbox::Call;
use crate::simulation::guests::Begun;

/// The pacer lets so much come early.
const BURST: Duration = Duration::from_millis(100);

impl Model {
    pub(in crate::simulation) fn began(&mut self, begun: &Begun) -> Checked {
        if self.failed {
            return Ok(());
        }
        let Begun { spec, digest, calls, .. } = begun;
        let name = &spec.name;
        let live = self.live.and_then(|live| self.deployed(live));
        let Some(plan) = live else { return Err(Violation(format!("I13: {name} runs before anything is live"))) };
        let slots = usize::try_from(plan.slots).unwrap();
        // What had to be asked or noted first may begin on what was live when it was claimed.
        let asks = calls.iter().any(|call| self.asks(begun, call));
        if !asks {
            let held = plan.consumers.get(name);
            hold!(held.is_some_and(|held| held.digest == *digest), "I13: {name} runs on what is not live");
            hold!(!self.draining, "I24: {name} begins while the host stops");
            let ephemeral = spec.delivery.mode == Mode::Ephemeral;
            // A recovery may know of a resume before the dispatcher is told.
            let paused = self.told_paused.contains(name) && self.paused.contains(name);
            hold!(ephemeral || !paused, "{name} is paused, and begins");
        }
        if spec.delivery.mode == Mode::Ephemeral {
            let new = begun.ids().all(|id| self.streamed.insert(id));
            hold!(new, "{name} was given an event twice, and is ephemeral");
            return Ok(());
        }
        for (id, call) in begun.ids().zip(calls) {
            self.may_run(&id, call, begun)?;
            self.is_told_of_its_run(&id, call, asks)?;
            self.running.insert(id.clone(), begun.token);
            self.in_hand.insert(id);
        }
        if asks {
            // It counted when it was claimed, among fewer or under another limit.
            return Ok(());
        }
        self.let_through(begun)?;
        self.rate(begun)?;
        self.crowd(begun, slots)
    }

    /// Whether the log is asked or told about a delivery before it is attempted.
    fn asks(&self, begun: &Begun, call: &Call) -> bool {
        let id = DeliveryId { seq: call.event.seq, consumer: begun.spec.name.clone(), round: call.round };
        // Others of a batch may have been settled before it is called.
        begun.batch || begun.spec.delivery.idempotency.is_some() || self.claims.contains_key(&id)
    }

    fn may_run(&self, id: &DeliveryId, call: &Call, begun: &Begun) -> Checked {
        let spec = &begun.spec.delivery;
        let Some(known) = self.deliveries.get(id) else {
            return Err(Violation(format!("I4: {id} runs, and nobody subscribed to it")));
        };
        hold!(known.end.is_none(), "I4: {id} runs after its end");
        hold!(!self.running.contains_key(id), "I7: {id} runs twice at once");
        hold!(call.attempt == known.attempts + 1, "I8: attempt {} of {id} follows {}", call.attempt, known.attempts);
        let due = self.not_before(id, known);
        hold!(due <= self.latest, "I14: {id} runs before it is due, at {due}");
        hold!(*call.event == **self.event(id.seq), "I1: {id} got another event");
        let crashes = self.crashes.get(id).copied().unwrap_or_default();
        hold!(crashes < 3, "{id} runs, and was in hand at {crashes} crashes");
        let suspect = |id: &DeliveryId| self.claims.get(id).is_some_and(|claim| claim.crashes >= 2);
        let other = self.running.keys().find(|other| suspect(other));
        hold!(!suspect(id) || other.is_none(), "{id} runs beside {other:?}, and both were in hand at crashes");
        if let Some(after) = spec.expires_after.filter(|_| id.round == 0 && !self.asks(begun, call)) {
            let from = call.event.envelope.not_before.unwrap_or(call.event.accepted_at);
            hold!(begun.started_at < from.plus(after), "{id} has expired, and runs");
        }
        let is_step = self.errands.get(id).is_some_and(|errand| errand.step.is_some());
        if let Some(mark) = self.mark(id.seq, spec).filter(|_| !is_step) {
            let settled = self.marks.get(&(id.consumer.clone(), mark.to_owned()));
            let by = settled.filter(|(by, until)| by != id && *until > self.latest);
            // One that was settled while the log was being asked is found out when this one is settled.
            hold!(by.is_none() || self.asks(begun, call), "{id} runs, and {mark} is settled");
        }
        self.order(id, &begun.spec)
    }

    /// One after another, in the order of the log.
    fn order(&self, id: &DeliveryId, spec: &ConsumerSpec) -> Checked {
        let Some(order) = &spec.delivery.order else { return self.share(id, spec) };
        let Some(key) = self.key(id.seq, &order.by) else {
            return Err(Violation(format!("{id} runs, and has no key")));
        };
        let same = |seq: u64| self.key(seq, &order.by) == Some(key);
        let beside = self.running.keys().find(|other| other.consumer == id.consumer && same(other.seq));
        hold!(beside.is_none(), "I10: {id} runs beside {beside:?}, key {key}");
        if id.round > 0 {
            return Ok(());
        }
        let held = self.held.contains_key(&(id.consumer.clone(), key.to_owned()));
        hold!(!held, "I10: {id} runs, and a dead letter holds {key}");
        // A job comes to its line when it is due, before or after what came before it.
        if self.is_job(id.seq) {
            return Ok(());
        }
        let unfinished = self.unfinished.get(&id.consumer);
        let before = unfinished.and_then(|seqs| seqs.range(..id.seq).copied().find(|seq| same(*seq)));
        hold!(before.is_none(), "I10: {id} runs before {before:?}, key {key}");
        Ok(())
    }

    fn share(&self, id: &DeliveryId, spec: &ConsumerSpec) -> Checked {
        let Some(share) = &spec.delivery.share else { return Ok(()) };
        // A reload that lowers the limit does not stop what has its turn.
        let specs = self.generations.iter().filter_map(|(_, plan)| plan.consumers.get(&id.consumer));
        let limits = specs.filter_map(|deployed| Some(deployed.spec.delivery.share.as_ref()?.limit));
        let most = limits.max().unwrap_or(share.limit);
        let Some(key) = self.text(id.seq, &share.key) else {
            return Err(Violation(format!("{id} runs, and has no key")));
        };
        let same = |other: &&DeliveryId| other.consumer == id.consumer && self.text(other.seq, &share.key) == Some(key);
        let beside = self.running.keys().filter(same).count();
        hold!(beside < usize::try_from(most).unwrap(), "I17: {id} runs beside {beside} of its key");
        Ok(())
    }

    fn rate(&mut self, begun: &Begun) -> Checked {
        let Some(rate) = begun.spec.delivery.rate else { return Ok(()) };
        let starts = self.starts.entry(begun.spec.name.clone()).or_default();
        while starts.front().is_some_and(|at| *at + rate.per <= begun.at) {
            starts.pop_front();
        }
        starts.push_back(begun.at);
        let early = BURST.as_micros() * u128::from(rate.count) / rate.per.as_micros();
        let most = u128::from(rate.count) + early + 1;
        let count = starts.len();
        hold!(count as u128 <= most, "I17: {} began {count} times in {:?}", begun.spec.name, rate.per);
        Ok(())
    }

    fn crowd(&self, begun: &Begun, slots: usize) -> Checked {
        let name = &begun.spec.name;
        let calls = |mine: bool| {
            let running = self.running.iter().filter(|(id, _)| !mine || id.consumer == *name);
            let mut tokens: Vec<u64> = running.map(|(_, token)| *token).collect();
            tokens.sort_unstable();
            tokens.dedup();
            tokens.len()
        };
        let (mine, all) = (calls(true), calls(false));
        let most = usize::try_from(begun.spec.limits.concurrency).unwrap();
        hold!(mine <= most, "I17: {name} runs {mine} at once, {most} are allowed");
        hold!(all <= slots, "I17: {all} run at once, there are {slots} slots");
        Ok(())
    }
}
