//! What passes between deliveries and runs: what a delivery is for, and what comes of it for a run.

use std::sync::Arc;

use super::run::{Input, RunId};
use super::{Definition, StepLimits};
use crate::model::retry::RetryPolicy;
use crate::model::{Payload, Seq};

/// What a delivery has of its own, where a subscription's has what its consumer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Errand {
    /// The step of a run that it is.
    pub step: Option<StepErrand>,
    /// Instead of the consumer's.
    pub retry: Option<RetryPolicy>,
    pub limits: StepLimits,
}

/// A step of a run, as a delivery.
#[derive(Clone, Debug, PartialEq)]
pub struct StepErrand {
    pub run: RunId,
    /// Its index in the run's definition.
    pub index: usize,
    pub name: String,
    /// What the steps before it left behind, in the order of the definition.
    pub outputs: Vec<(String, Option<Payload>)>,
    /// It undoes the step.
    pub undo: Option<Undo>,
    /// The run has given it up: no handler is called any more.
    pub withdrawn: bool,
}

/// What is undone.
#[derive(Clone, Debug, PartialEq)]
pub struct Undo {
    /// What the step's own handler returned.
    pub output: Option<Payload>,
}

impl StepErrand {
    /// What a delivery that is done means for the run.
    pub fn done(&self) -> Input {
        let step = self.index;
        if self.undo.is_some() { Input::Undone { step } } else { Input::Done { step } }
    }

    /// What a delivery that is dead means for the run.
    pub fn failed(&self, reason: String) -> Input {
        let step = self.index;
        if self.undo.is_some() { Input::UndoFailed { step, reason } } else { Input::Failed { step, reason } }
    }
}

/// What an event means for the runs of a pipeline.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signal {
    pub begins: Option<Begins>,
    /// Steps that wait for such an event, by name, and the key that it has for each.
    pub arrives: Vec<(String, String)>,
}

/// A run that the event begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Begins {
    pub key: String,
    pub definition: Arc<Definition>,
}

/// What a settlement changes about runs.
#[derive(Clone, Debug, PartialEq)]
pub enum RunChange {
    /// The delivery was a pipeline's own.
    Signal(Signal),
    /// The delivery was a run's step, and has come to an end.
    Step(RunId, Input),
}

/// What a person wants of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    Cancel {
        reason: String,
    },
    /// By the step's name.
    Retry {
        step: String,
    },
    /// With what the step should have returned.
    Resolve {
        step: String,
        output: Option<Payload>,
    },
}

/// The key of an event that a pipeline has no `key` for: every event is one of its own.
pub fn key_of_event(seq: Seq) -> String {
    format!("#{seq}")
}
