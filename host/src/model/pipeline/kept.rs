//! A run as a log keeps it, and what its deliveries are for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::errand::{Errand, StepErrand, Undo};
use super::run::{Entry, Run, RunId};
use super::{Definition, StepLimits};
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
