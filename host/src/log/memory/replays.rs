//! Replays.

use std::collections::BTreeMap;

use super::kept::Kept;
use crate::log::{Commit, Waiting};
use crate::model::replay::{OPEN_MAX, Replay, ReplaySpec, ReplayStatus, ReplayStep, fit};
use crate::model::{ConsumerName, Delivery, DeliveryId, Priority, Seq, State, Timestamp};
use crate::planted::{self, Bug};

#[derive(Clone, Default)]
pub(super) struct Replays {
    all: BTreeMap<u64, Replay>,
    /// Which replay has made a delivery that is not final.
    open: BTreeMap<DeliveryId, u64>,
}

impl Replays {
    pub(super) fn start(&mut self, spec: ReplaySpec, now: Timestamp) -> u64 {
        let id = self.all.len() as u64 + 1;
        let replay = Replay {
            id,
            position: spec.from.saturating_sub(1),
            spec,
            status: ReplayStatus::Running,
            made: 0,
            open: 0,
            dead: 0,
            skipped: 0,
            created_at: now,
            ended_at: None,
        };
        self.all.insert(id, replay);
        id
    }

    pub(super) fn cancel(&mut self, id: u64, now: Timestamp) -> bool {
        let running = self.all.get_mut(&id).filter(|replay| replay.status == ReplayStatus::Running);
        running.map(|replay| (replay.status, replay.ended_at) = (ReplayStatus::Cancelled, Some(now))).is_some()
    }

    pub(super) fn running(&self) -> Vec<Replay> {
        self.all.values().filter(|replay| replay.status == ReplayStatus::Running).cloned().collect()
    }

    /// Up to where those that are running have come.
    pub(super) fn positions(&self) -> impl Iterator<Item = Seq> {
        self.all.values().filter(|replay| replay.status == ReplayStatus::Running).map(|replay| replay.position)
    }

    pub(super) fn all(&self) -> Vec<Replay> {
        self.all.values().cloned().collect()
    }

    /// A delivery is final.
    pub(super) fn settled(&mut self, id: &DeliveryId, state: State, now: Timestamp) {
        if !state.is_final() {
            return;
        }
        let Some(replay) = self.open.remove(id).and_then(|replay| self.all.get_mut(&replay)) else { return };
        replay.open -= 1;
        replay.dead += u64::from(state == State::Dead);
        if replay.status == ReplayStatus::Made && replay.open == 0 {
            replay.ended_at = Some(now);
        }
    }
}

impl Kept {
    pub(super) fn step_replay(
        &mut self,
        step: &ReplayStep,
        now: Timestamp,
        commits: &mut Vec<Commit>,
    ) -> Option<Replay> {
        let mut replay = self.replays.all.get(&step.id)?.clone();
        if replay.status != ReplayStatus::Running || replay.position != step.after {
            return None;
        }
        let room = step.room.min(OPEN_MAX.saturating_sub(replay.open));
        let (taken, position) = fit(step, room, |(seq, consumer)| self.is_final(*seq, consumer));
        let mut made = Vec::new();
        for (seq, consumer) in step.deliveries.iter().take(taken) {
            if !self.is_final(*seq, consumer) {
                replay.skipped += 1;
                continue;
            }
            let first = DeliveryId { seq: *seq, consumer: consumer.clone(), round: 0 };
            let id = DeliveryId { round: self.next_round(&first), ..first };
            let waiting = Waiting {
                id: id.clone(),
                delivery: Delivery::new(now),
                key: None,
                blocked: false,
                errand: false,
                priority: Priority::Normal,
            };
            self.waiting.insert(id.clone(), waiting.clone());
            self.replays.open.insert(id, step.id);
            made.push(waiting);
        }
        if !planted::is(Bug::ReplayForgetsPosition) || position >= replay.spec.to {
            replay.position = position.min(replay.spec.to);
        }
        replay.made += made.len() as u64;
        replay.open += made.len() as u64;
        if position >= replay.spec.to {
            replay.status = ReplayStatus::Made;
            replay.ended_at = (replay.open == 0).then_some(now);
        }
        self.replays.all.insert(step.id, replay.clone());
        if !made.is_empty() {
            commits.push(Commit::Redriven(made));
        }
        Some(replay)
    }

    /// Whether no delivery of the event to the consumer is under way or to come.
    fn is_final(&self, seq: Seq, consumer: &ConsumerName) -> bool {
        let of = |id: &DeliveryId| id.seq == seq && id.consumer == *consumer;
        if self.waiting.keys().any(of) {
            return false;
        }
        let Some(position) = self.positions.get(consumer) else { return true };
        // What a step of a run came to says nothing of what the consumer subscribes to.
        if seq <= *position || self.outcomes.keys().any(|(id, _)| of(id) && id.round == 0) {
            return true;
        }
        let timeline = self.recover(consumer).timeline;
        let held = timeline.iter().rev().find(|(from, _)| *from <= seq);
        let meant = held.zip(self.event(seq)).is_some_and(|((_, subscriptions), event)| {
            let envelope = &event.envelope;
            envelope.job.is_none()
                && subscriptions.iter().any(|s| s.matches_type(&envelope.event_type, &envelope.data_version))
        });
        !meant
    }
}
