//! What is in hand: which delivery is claimed next, and what becomes of those whose attempt is over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::queue::{Kind, Ready};
use super::waiting::Held;
use super::{AGAIN_AFTER, CONFLICTS_MAX, Lane, Left, Standing};
use crate::dispatch::settle::Instead;
use crate::model::breaker::Change;
use crate::model::spec::BatchSpec;
use crate::model::{DeliveryId, Moment, Outcome, Priority, Seq, State};
use crate::planted::{self, Bug};

/// Calls of a consumer that are over and not in the log yet, at most: so many more may be made again after a crash.
const SETTLING_MAX: usize = 256;
/// Payloads of a batch may take so small a share of the guest's memory.
const BATCH_MEMORY_SHARE: u64 = 16;

/// An idempotency key in hand.
#[derive(Debug)]
pub(super) struct MarkLine {
    /// The delivery that may be attempted.
    pub(super) owner: DeliveryId,
    /// Those that wait to see what comes of it.
    pub(super) aside: VecDeque<Ready>,
}

impl Lane {
    /// The next deliveries to attempt in one call, if the lane may start one more: one of them, but for a batch. They are in
    /// hand from now on. `suspects`: whether one that was in hand at crashes may run.
    pub fn claim(&mut self, now: Moment, suspects: bool) -> Option<Vec<Ready>> {
        let consumer = self.served()?.clone();
        let spec = &consumer.spec.delivery;
        if !self.has_place() {
            return None;
        }
        let idle = self.in_hand.is_empty();
        if self.gate.free_at(spec, idle, now.monotonic).is_none_or(|at| at > now.monotonic) {
            return None;
        }
        let mut claimed = if !self.alone.is_empty() {
            // It runs when nothing else does, and nothing else starts before it has.
            let next = if idle { self.pick_alone() } else { None };
            self.running_alone = next.is_some();
            vec![next?]
        } else if let Some(suspect) = suspects.then(|| self.suspects.pop_front()).flatten() {
            vec![suspect]
        } else if let Some(batch) = spec.batch {
            self.gather(batch, consumer.spec.limits.memory, now)?
        } else {
            vec![self.pick(now)?]
        };
        let retry = claimed.iter().any(|ready| ready.delivery.attempts > 0);
        self.gate.start(spec, retry, now.monotonic);
        self.calls += 1;
        for ready in &mut claimed {
            self.expire(ready, spec.expires_after, now);
            let step = ready.errand.as_ref().and_then(|errand| errand.step.as_ref());
            let withdrawn = step.is_some_and(|step| step.withdrawn) || self.withdrawn.contains(&ready.id);
            if withdrawn && !planted::is(Bug::WithdrawnRuns) {
                ready.instead = Some(Instead::Withdrawn);
            }
            self.in_hand.insert(ready.id.clone(), ready.clone());
        }
        Some(claimed)
    }

    /// Whether there is anything that could be claimed, if its time has come and the gate lets it through.
    pub fn may_start(&self) -> bool {
        let ready = !self.queues.is_empty() || !self.alone.is_empty() || !self.suspects.is_empty();
        ready && !self.gate.paused && self.has_place()
    }

    /// Whether the consumer may be called once more beside the calls that are made.
    fn has_place(&self) -> bool {
        let Some(consumer) = self.served().filter(|_| !self.running_alone) else { return false };
        let most = usize::try_from(consumer.spec.limits.concurrency).unwrap_or(usize::MAX);
        self.calls < most + usize::from(planted::is(Bug::OneTooMany))
    }

    fn pick_alone(&mut self) -> Option<Ready> {
        while let Some(ready) = self.alone.pop_front() {
            if let Some(ready) = self.exclude(ready) {
                return Some(ready);
            }
        }
        None
    }

    fn pick(&mut self, now: Moment) -> Option<Ready> {
        let retries = self.gate.retries_at(now.monotonic) <= now.monotonic;
        while let Some(ready) = self.queues.pop(retries) {
            if let Some(ready) = self.exclude(ready) {
                return Some(ready);
            }
        }
        None
    }

    /// Sets the delivery aside if another one with its idempotency key is in hand: that may make it a duplicate.
    fn exclude(&mut self, ready: Ready) -> Option<Ready> {
        let Some(mark) = ready.mark.clone().filter(|_| ready.instead.is_none()) else { return Some(ready) };
        let owner = || MarkLine { owner: ready.id.clone(), aside: VecDeque::new() };
        let line = self.marks.entry(mark).or_insert_with(owner);
        if line.owner == ready.id {
            return Some(ready);
        }
        line.aside.push_back(ready);
        None
    }

    /// A batch, once it is full or has waited long enough. Payloads of more than a share of the guest's memory go into the next
    /// one: it must hold them, and what it makes of them.
    fn gather(&mut self, batch: BatchSpec, memory: u64, now: Moment) -> Option<Vec<Ready>> {
        let size = usize::try_from(batch.size).unwrap_or(usize::MAX).max(1);
        let waited = self.gathering_since.is_some_and(|since| now.monotonic >= since + batch.wait);
        let single = self.queues.iter().any(|ready| ready.single);
        if !waited && !single && self.gatherable(now) < size {
            return None;
        }
        let room = usize::try_from(memory / BATCH_MEMORY_SHARE).unwrap_or(usize::MAX);
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        while gathered.len() < size
            && let Some(ready) = self.pick(now)
        {
            bytes += ready.event.envelope.data_len();
            if !ready.single && (gathered.is_empty() || bytes <= room) {
                gathered.push(ready);
            } else if gathered.is_empty() {
                gathered.push(ready);
                break;
            } else {
                self.queues.push_front(ready);
                break;
            }
        }
        self.gathering_since = (self.gatherable(now) > 0).then_some(now.monotonic);
        (!gathered.is_empty()).then_some(gathered)
    }

    fn gatherable(&mut self, now: Moment) -> usize {
        let retries = self.gate.retries_at(now.monotonic) <= now.monotonic;
        let kinds: &[Kind] = if retries { &[Kind::First, Kind::Turn, Kind::Retry] } else { &[Kind::First, Kind::Turn] };
        self.queues.len(kinds)
    }

    /// A delivery that an operator has asked for again does not expire: its event is old by nature.
    fn expire(&self, ready: &mut Ready, after: Option<Duration>, now: Moment) {
        let from = ready.event.envelope.not_before.unwrap_or(ready.event.accepted_at);
        let over = after.filter(|after| now.wall >= from.plus(*after));
        if let Some(after) = over
            && !planted::is(Bug::ExpiredRuns)
            && ready.id.round == 0
            && ready.instead.is_none()
        {
            ready.instead = Some(Instead::Expired { after, from });
        }
    }

    /// Whether the delivery is redriven out of a dead letter that holds its key. A step of a run is not, even if the dead letter is
    /// of its event.
    pub fn frees(&self, ready: &Ready) -> bool {
        ready.id.round > 0 && !ready.is_step() && ready.key.as_ref().is_some_and(|key| self.lines.is_held(key))
    }

    /// Whether its claim must be noted before it is attempted.
    pub fn is_careful(&self, ready: &Ready) -> bool {
        ready.id.seq <= self.careful_to && ready.instead.is_none()
    }

    /// Whether it was in hand at so many crashes that no other such one may run beside it.
    pub fn is_suspect(&self, id: &DeliveryId) -> bool {
        self.crashes.get(id).is_some_and(|crashes| *crashes >= super::CRASHES_ALONE)
    }

    /// A call is over, and what it came to is on its way into the log. Whether another may take its place meanwhile: so that a
    /// consumer's pace is that of its handler and not that of the disk. Not where the next attempt would read the state that
    /// this one has written, and not of a suspect.
    pub fn called(&mut self, id: &DeliveryId) -> bool {
        let keeps_state = self.consumer.as_ref().is_none_or(|consumer| consumer.spec.grants.state.is_some());
        let makes_room = self.in_hand.contains_key(id)
            && !self.settling.contains(id)
            && !keeps_state
            && !self.running_alone
            && !self.is_suspect(id)
            && self.settling.len() < SETTLING_MAX;
        if makes_room {
            self.calls = self.calls.saturating_sub(1);
            self.settling.insert(id.clone());
        }
        makes_room
    }

    pub fn is_settling(&self, id: &DeliveryId) -> bool {
        self.settling.contains(id)
    }

    /// A call is settled, and this is how it left its deliveries.
    pub fn ended(&mut self, left: Vec<(DeliveryId, Left)>, now: Moment) -> Vec<Change> {
        if !left.iter().any(|(id, _)| self.settling.remove(id)) {
            self.calls = self.calls.saturating_sub(1);
            self.running_alone = false;
        }
        let mut changes = Vec::new();
        let mut judged = false;
        for (id, left) in left {
            let Some(ready) = self.in_hand.remove(&id) else { continue };
            let freed = self.freed.remove(&id);
            let left = match (left, &ready.key) {
                // Its key was released before it could say here that it holds it, instead of those of earlier rounds.
                (Left::Settled { next, outcome, hold: Some(true) }, Some(key)) if freed => {
                    self.lines.hold(key, (id.seq, id.round));
                    self.lines.let_go((id.seq, id.round));
                    Left::Settled { next, outcome, hold: Some(false) }
                }
                (left, _) => left,
            };
            // A call that failed as a whole is one failure.
            let outcome = match left {
                Left::Settled { outcome, .. } => Some(outcome),
                Left::Apart(_, outcome) => (!judged).then_some(outcome),
                Left::Conflict(_) | Left::Unsettled => Some(Outcome::Interrupted),
            };
            judged = true;
            self.pages.leave(&id);
            if let Some(outcome) = outcome {
                // Of a consumer that is gone nothing is known any more, nor that its breaker waits for a probe.
                let spec = self.consumer.as_ref().map(|consumer| consumer.spec.delivery.clone()).unwrap_or_default();
                let retry = ready.delivery.attempts > 0;
                changes.extend(self.gate.end(&spec, outcome, retry, now.monotonic));
            }
            let mark = ready.mark.clone();
            self.left(ready, left, now);
            self.unmark(mark, &id, now);
        }
        changes
    }

    fn left(&mut self, ready: Ready, left: Left, now: Moment) {
        match left {
            Left::Settled { next, hold, .. } => self.settled(ready, next, hold, now),
            Left::Conflict(delivery) => {
                let ready = Ready { delivery, conflicts: ready.conflicts + 1, ..ready };
                if self.is_suspect(&ready.id) {
                    self.suspects.push_front(ready);
                } else if ready.conflicts >= CONFLICTS_MAX {
                    self.alone.push_back(ready);
                } else {
                    self.gathering_since.get_or_insert(now.monotonic);
                    self.queues.push_front(ready);
                }
            }
            Left::Apart(delivery, _) if self.is_suspect(&ready.id) => {
                self.suspects.push_front(Ready { delivery, single: true, ..ready });
            }
            Left::Apart(delivery, _) => {
                self.gathering_since.get_or_insert(now.monotonic);
                self.queues.push(Ready { delivery, single: true, ..ready });
            }
            Left::Unsettled => {
                let Ready { id, delivery, key, stored, single, errand, priority, .. } = ready;
                let held = Held { delivery, key, stored, single, errand: errand.is_some(), priority };
                self.windows.delay(now.monotonic + AGAIN_AFTER, id, held);
            }
        }
    }

    fn settled(&mut self, ready: Ready, next: crate::model::Delivery, hold: Option<bool>, now: Moment) {
        self.closed(&ready.id);
        let waits = matches!(next.state, State::Pending { .. });
        let keeps = self.turns.1 && !planted::is(Bug::OrderIgnoredInRetry);
        if let Some(key) = &ready.key {
            // That it is free again, the log says: another dead letter may hold it as well.
            if hold == Some(true) {
                self.lines.hold(key, (ready.id.seq, ready.id.round));
            }
            if waits && keeps || hold == Some(true) {
                if !waits {
                    self.lines.leave(key, &ready.id);
                }
                let behind = self.lines.rest(key);
                self.to_park.extend(behind.into_iter().map(|ready| (ready, true)));
            } else {
                self.lines.leave(key, &ready.id);
            }
            self.go_on(key, now);
        }
        if waits {
            let Ready { id, key, single, errand, priority, .. } = ready;
            let held = Held { delivery: next, key, stored: true, single, errand: errand.is_some(), priority };
            if self.withdrawn.contains(&id) {
                self.windows.delay(now.monotonic, id, held);
            } else {
                self.windows.wait(id, held);
            }
        } else {
            self.withdrawn.remove(&ready.id);
            self.crashes.remove(&ready.id);
        }
    }

    /// Whoever waits for the idempotency key may find out what it is now.
    fn unmark(&mut self, mark: Option<Arc<str>>, id: &DeliveryId, now: Moment) {
        let Some(mark) = mark else { return };
        let Some(line) = self.marks.get_mut(&mark).filter(|line| line.owner == *id) else { return };
        match line.aside.pop_front() {
            Some(next) => {
                line.owner = next.id.clone();
                self.gathering_since.get_or_insert(now.monotonic);
                self.queues.push_front(next);
            }
            None => drop(self.marks.remove(&mark)),
        }
    }

    pub(super) fn closed(&mut self, id: &DeliveryId) {
        if id.round == 0 {
            self.open.remove(&id.seq);
        }
    }

    /// How long from now until the lane has something to do that nobody will tell it of.
    pub fn next_wake(&mut self, now: Moment) -> Option<Duration> {
        let consumer = self.served()?.clone();
        let spec = &consumer.spec.delivery;
        let due = Priority::ALL.into_iter().filter_map(|priority| {
            self.has_fetch_room(priority).then(|| self.windows.of(priority).next_due(now)).flatten()
        });
        let due = due.min();
        let concurrency = usize::try_from(consumer.spec.limits.concurrency).unwrap_or(usize::MAX);
        let gate = if self.calls < concurrency { self.next_start(spec, now) } else { None };
        due.into_iter().chain(gate).min()
    }

    /// How long until what is ready may start, if it may not yet.
    fn next_start(&mut self, spec: &crate::model::spec::DeliverySpec, now: Moment) -> Option<Duration> {
        let others = self.queues.len(&[Kind::First, Kind::Turn]) + self.alone.len() + self.suspects.len();
        if others + self.queues.len(&[Kind::Retry]) == 0 {
            return None;
        }
        let mut at = self.gate.free_at(spec, self.in_hand.is_empty(), now.monotonic)?;
        if others == 0 {
            at = at.max(self.gate.retries_at(now.monotonic));
        }
        if let Some((batch, since)) = spec.batch.zip(self.gathering_since) {
            at = at.max(since + batch.wait);
        }
        // What may start already waits for a place, and will be told when there is one.
        (at > now.monotonic).then(|| at.saturating_sub(now.monotonic))
    }

    pub fn standing(&self) -> Standing {
        Standing {
            running: self.in_hand.len().saturating_sub(self.settling.len()),
            ready: self.queues.len(&[Kind::First, Kind::Turn, Kind::Retry]) + self.alone.len() + self.suspects.len(),
            blocked: self.lines.blocked(),
            breaker: self.gate.breaker(),
            paused: self.gate.paused,
        }
    }

    /// Whether nothing of the events up to `through` is left to do. What waits for a person is not asked: a removed or paused
    /// consumer's work, and what a dead letter holds.
    pub fn is_settled(&self, through: Seq) -> bool {
        if self.consumer.is_none() || self.gate.paused {
            return true;
        }
        let within = |id: &DeliveryId| id.seq <= through;
        let ready = self.queues.iter().chain(&self.alone).chain(&self.suspects);
        let aside = self.marks.values().flat_map(|line| &line.aside);
        !self.turning
            && self.read_at >= through
            && self.open.first().is_none_or(|seq| *seq > through)
            && !self.in_hand.keys().any(within)
            && !ready.chain(aside).any(|ready| within(&ready.id))
            && !self.is_parking(within)
            && self.windows.is_settled(through)
            && self.lines.is_settled(through)
    }

    /// How far everything is settled or stored.
    pub fn position(&self) -> Seq {
        let passes = planted::is(Bug::CursorPassesOpen);
        self.open.first().filter(|_| !passes).map_or(self.read_at, |first| first - 1)
    }

    /// The position, if it is at least `step` further than the log was last told.
    pub fn advanced(&mut self, step: u64) -> Option<Seq> {
        let position = self.position();
        let further = position >= self.told.saturating_add(step.max(1));
        if further {
            self.told = position;
        }
        further.then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::scripted;
    use crate::log::Recovery;
    use crate::model::keys::HeldKey;
    use crate::model::pipeline::errand::{Errand, StepErrand};
    use crate::model::pipeline::run::RunId;
    use crate::model::{ConsumerName, Delivery, Timestamp};

    /// A step may be for an event whose other delivery is dead, to the same consumer.
    #[test]
    fn what_is_redriven_frees_its_key_and_a_step_of_a_run_does_not() {
        let name = ConsumerName::new("greet").unwrap();
        let lane = Lane::new(
            name.clone(),
            Recovery { held: vec![HeldKey { key: "a".into(), seq: 1, round: 0 }], ..Recovery::default() },
        );
        let id = DeliveryId { seq: 1, consumer: name.clone(), round: 1 };
        let ready = Ready::new(id, Delivery::new(Timestamp(0)), Arc::new(scripted::event(1, "order.created")));
        let redriven = Ready { key: Some("a".into()), ..ready };
        assert!(lane.frees(&redriven));
        let run = RunId { seq: 1, pipeline: name };
        let step = StepErrand { run, index: 0, name: "pay".into(), outputs: vec![], undo: None, withdrawn: false };
        let errand = Errand { step: Some(step), ..Errand::default() };
        assert!(!lane.frees(&Ready { errand: Some(Arc::new(errand)), ..redriven }));
    }
}
