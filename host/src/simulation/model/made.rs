//! Deliveries that are made in the log: of runs, and of jobs.

use super::{Checked, Known, Model, Violation, hold};
use crate::log::{Commit, Waiting};
use crate::model::pipeline::errand::Errand;
use crate::model::{DeliveryId, Seq, State, Timestamp};

impl Model {
    /// Deliveries that a change has made, and those that it took from their steps.
    pub(super) fn made(&mut self, commits: &[Commit], errands: Vec<(DeliveryId, Errand)>) -> Checked {
        self.errands.extend(errands.iter().cloned());
        for commit in commits {
            match commit {
                Commit::Events(events) => {
                    let job = events.iter().find(|event| event.envelope.job.is_some());
                    let after = commits.iter().any(|commit| matches!(commit, Commit::Redriven(_)));
                    hold!(job.is_none() || after, "{job:?} is a job, and nothing is made of it");
                }
                Commit::Redriven(made) => made.iter().try_for_each(|waiting| self.made_one(waiting))?,
                Commit::Withdrawn(withdrawn) => withdrawn.iter().try_for_each(|waiting| self.withdrawn(waiting))?,
                _ => {}
            }
        }
        let steps = errands.into_iter().filter_map(|(id, errand)| Some((id, errand.step?)));
        self.fresh.extend(steps);
        Ok(())
    }

    fn made_one(&mut self, waiting: &Waiting) -> Checked {
        let Waiting { id, delivery, priority, errand, .. } = waiting;
        hold!(!self.deliveries.contains_key(id), "I4: {id} is made, and was there already");
        let job = self.event(id.seq).envelope.job.clone().filter(|job| id.round == 0 && job.to == id.consumer);
        let is_step = self.errands.get(id).is_some_and(|errand| errand.step.is_some());
        hold!(job.is_some() || is_step, "I4: {id} is made for nobody");
        if let Some(job) = job {
            let event = self.event(id.seq);
            let wanted = State::Pending { due_at: event.envelope.not_before.unwrap_or(event.accepted_at) };
            let is = (delivery.state, *priority, *errand) == (wanted, job.priority, job.retry.is_some());
            hold!(is, "{id} is made as {waiting:?}, and is the job {job:?}");
        }
        let State::Pending { due_at: due } = delivery.state else {
            return Err(Violation(format!("I4: {id} is made, and does not wait")));
        };
        self.alive.insert(id.clone());
        self.deliveries.insert(id.clone(), Known { due, stored: true, ..Known::default() });
        Ok(())
    }

    fn withdrawn(&mut self, waiting: &Waiting) -> Checked {
        let step = self.errands.get(&waiting.id).and_then(|errand| errand.step.as_ref());
        hold!(step.is_some_and(|step| step.undo.is_none()), "I25: {} is given up, and is no step", waiting.id);
        self.withdrawn.insert(waiting.id.clone());
        if let (Some(known), State::Pending { due_at }) = (self.deliveries.get_mut(&waiting.id), waiting.delivery.state)
        {
            known.due = due_at;
        }
        Ok(())
    }

    /// A job is delivered to whom it says, and to nobody else.
    pub(super) fn is_job(&self, seq: Seq) -> bool {
        self.event(seq).envelope.job.is_some()
    }

    /// Before when a delivery is not called. A job that has come out of a line has no due time but the one that its event has.
    pub(super) fn not_before(&self, id: &DeliveryId, known: &Known) -> Timestamp {
        if id.round == 0 && known.calls == 0 && self.is_job(id.seq) {
            return self.event(id.seq).envelope.not_before.unwrap_or(Timestamp::MIN);
        }
        known.due
    }

    /// Whoever is told that all up to here is settled: nothing is left of what the dispatcher is to do by itself.
    pub(in crate::simulation) fn nothing_is_left(&self, through: Seq) -> Checked {
        let Some(plan) = self.live.and_then(|live| self.deployed(live)) else { return Ok(()) };
        let waits_for_somebody = |id: &DeliveryId| {
            !plan.is_deployed(&id.consumer)
                || self.paused.contains(&id.consumer)
                || self.told_paused.contains(&id.consumer)
                || self.held.keys().any(|(name, _)| *name == id.consumer)
        };
        let left = self.unfinished().find(|(id, _)| id.seq <= through && !waits_for_somebody(id));
        hold!(left.is_none(), "I21: all up to {through} is said to be settled, and {left:?} is not");
        Ok(())
    }
}
