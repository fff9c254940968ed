//! A run as a log keeps it, and what its deliveries are for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::errand::{Errand, StepErrand, Undo};
use super::run::{Entry, Run, RunId};
use super::{Definition, StepLimits};
use crate::model::expression::Scene;
use crate::model::{Event, Payload};

/// A run as a log has it.
pub struct Kept {
    /// That began it.
    pub event: Arc<Event>,
    pub key: String,
    pub definition: Arc<Definition>,
    pub journal: Vec<Entry>,
    /// What its steps left behind, by index.
    pub outputs: BTreeMap<usize, Payload>,
}

impl Kept {
    pub fn run(&self) -> Run {
        Run::replayed(&self.definition, &self.journal)
    }

    /// What the steps before a step left behind.
    pub fn outputs_before(&self, step: usize) -> Vec<(String, Option<Payload>)> {
        let before = self.definition.before(step).into_iter();
        before
            .filter_map(|at| Some((self.definition.steps.get(at)?.name.clone(), self.outputs.get(&at).cloned())))
            .collect()
    }

    /// Whether a step waits for this event: one that came after the run's own, and that the run's own definition means, whatever
    /// another calls by the same name.
    pub fn waits_for(&self, step: usize, event: &Event) -> bool {
        let Some(wait) = self.definition.steps.get(step).and_then(|step| step.work.wait()) else { return false };
        let outputs = self.outputs_before(step);
        let key = wait.run.key_in(&Scene { event: &self.event, outputs: &outputs });
        let is_of_type = wait.pattern.matches(&event.envelope.event_type);
        is_of_type && event.seq > self.event.seq && key.is_ok() && wait.event.key(event) == key
    }

    /// What the delivery of a step is for.
    pub fn errand(&self, run: RunId, at: &StepDelivery) -> Option<Errand> {
        let step = self.definition.steps.get(at.step)?;
        let call = step.work.call()?;
        Some(Errand {
            step: Some(StepErrand {
                run,
                index: at.step,
                name: step.name.clone(),
                outputs: self.outputs_before(at.step),
                undo: at.undo.then(|| Undo { output: self.outputs.get(&at.step).cloned() }),
                withdrawn: at.withdrawn,
            }),
            // A compensation goes by its own consumer's policy and limits: what was set for the step was set for another.
            retry: call.retry.filter(|_| !at.undo),
            limits: if at.undo { StepLimits::default() } else { call.limits },
        })
    }
}

/// A delivery that a run has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDelivery {
    pub step: usize,
    pub undo: bool,
    pub withdrawn: bool,
}
