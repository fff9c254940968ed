//! One run of a pipeline: THE state machine of a saga. What a run has come to is the fold of its journal; an input and
//! the journal so far give the entries that follow, and the log carries out what they say.
//!
//! ```text
//!            all steps over                      ┌─> completed, partial
//!  running ───────────────────────────────────────
//!     │ ^    a step fails, time is up, cancel    └─> stopped (on-failure: stop) ── retry, resolve ──> running
//!     │ └────────────────────────────────────────
//!     v   once nothing of it is in hand
//!  compensating ── every finished step is undone, the last one first ──> compensated, cancelled
//!     │  ^
//!     v  │ retry, resolve
//!   stuck: a compensation is dead
//! ```

pub use super::journal::{Cause, Entry, Input, Refusal, RunId, Status, StepState, ended};
use super::{Definition, OnFailure};
use crate::model::{Seq, Timestamp};

/// What the machine asks about the world as it is when a step's turn has come.
pub trait Scene {
    /// Whether the step's condition is true; or why that cannot be said.
    fn holds(&mut self, step: usize) -> Result<bool, String>;

    /// What the step waits for: until when, or the event if it has come already; or why it has no key.
    fn awaits(&mut self, step: usize) -> Result<Awaited, String>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    Until(Timestamp),
    Here(Seq),
}

/// What a run has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub status: Status,
    pub steps: Vec<StepState>,
    /// Steps that were done, in the order in which they were.
    pub finished: Vec<usize>,
    pub failing: Option<Cause>,
}

impl Run {
    /// Before its first entry.
    pub fn new(definition: &Definition) -> Self {
        let steps = vec![StepState::Pending; definition.steps.len()];
        Self { status: Status::Running, steps, finished: Vec::new(), failing: None }
    }

    pub fn replayed<'a>(definition: &Definition, journal: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut run = Self::new(definition);
        journal.into_iter().for_each(|entry| run.apply(entry));
        run
    }

    pub fn state(&self, step: usize) -> StepState {
        self.steps.get(step).copied().unwrap_or_default()
    }

    fn set(&mut self, step: usize, state: StepState) {
        if let Some(place) = self.steps.get_mut(step) {
            *place = state;
        }
    }

    fn any(&self, state: StepState) -> bool {
        self.steps.contains(&state)
    }

    /// Takes in one line of the journal.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Began => self.status = Status::Running,
            Entry::StepBegan { step } => self.set(*step, StepState::Running),
            Entry::WaitBegan { step, .. } => self.set(*step, StepState::Waiting),
            Entry::Skipped { step } => self.set(*step, StepState::Skipped),
            Entry::Done { step, .. } => {
                self.set(*step, StepState::Done);
                self.finished.push(*step);
            }
            Entry::Failed { step, .. } => self.set(*step, StepState::Failed),
            Entry::Withdrawn { step } => self.set(*step, StepState::Withdrawn),
            Entry::Failing { cause, .. } => self.failing = Some(*cause),
            Entry::Compensating => self.status = Status::Compensating,
            Entry::UndoBegan { step } => {
                self.status = Status::Compensating;
                self.set(*step, StepState::Undoing);
            }
            Entry::Undone { step } => self.set(*step, StepState::Undone),
            Entry::UndoFailed { step, .. } => {
                self.status = Status::Stuck;
                self.set(*step, StepState::UndoFailed);
            }
            Entry::Ended { status } => self.status = *status,
            Entry::Retried { step } | Entry::Resolved { step } => self.taken_up(*step),
        }
    }

    /// A run that stands still goes on. What was given up with the failed step is to be done after all.
    fn taken_up(&mut self, step: usize) {
        if self.status == Status::Stuck {
            self.status = Status::Compensating;
            return;
        }
        self.status = Status::Running;
        self.failing = None;
        self.set(step, StepState::Pending);
        for state in self.steps.iter_mut().filter(|state| **state == StepState::Withdrawn) {
            *state = StepState::Pending;
        }
    }

    /// What follows from an input, in order: nothing if it comes too late to matter. Only what a person orders is ever
    /// refused.
    pub fn step(&self, definition: &Definition, input: &Input, scene: &mut dyn Scene) -> Result<Vec<Entry>, Refusal> {
        let mut next = Next { definition, run: self.clone(), entries: Vec::new(), scene };
        next.take(input)?;
        if !next.entries.is_empty() {
            next.go_on();
        }
        Ok(next.entries)
    }
}

/// A run on its way from one input to where it rests.
struct Next<'a> {
    definition: &'a Definition,
    run: Run,
    entries: Vec<Entry>,
    scene: &'a mut dyn Scene,
}

impl Next<'_> {
    fn note(&mut self, entry: Entry) {
        self.run.apply(&entry);
        self.entries.push(entry);
    }

    fn take(&mut self, input: &Input) -> Result<(), Refusal> {
        let is = |step: &usize, state| self.run.state(*step) == state;
        match input {
            Input::Begin => self.note(Entry::Began),
            Input::Done { step } if is(step, StepState::Running) => self.note(Entry::Done { step: *step, event: None }),
            Input::Failed { step, reason } if is(step, StepState::Running) => self.failed(*step, reason.clone()),
            Input::Withdrawn { step } if is(step, StepState::Running) && self.run.failing.is_some() => {
                self.note(Entry::Withdrawn { step: *step });
            }
            Input::Undone { step } if is(step, StepState::Undoing) => self.note(Entry::Undone { step: *step }),
            Input::UndoFailed { step, reason } if is(step, StepState::Undoing) => {
                self.note(Entry::UndoFailed { step: *step, reason: reason.clone() });
            }
            Input::Arrived { step, event } if is(step, StepState::Waiting) => {
                self.note(Entry::Done { step: *step, event: Some(*event) });
            }
            Input::Late { step } if is(step, StepState::Waiting) => {
                self.failed(*step, "the event that it waits for did not come in time".to_owned());
            }
            Input::TimedOut if self.run.status == Status::Running && self.run.failing.is_none() => {
                self.note(Entry::Failing { cause: Cause::TimedOut, reason: "the run's time is up".to_owned() });
            }
            Input::Cancel { reason } => self.cancel(reason)?,
            Input::Retry { step } => {
                self.may_take_up(*step)?;
                let stuck = self.run.status == Status::Stuck;
                self.note(Entry::Retried { step: *step });
                if stuck {
                    self.note(Entry::UndoBegan { step: *step });
                }
            }
            Input::Resolve { step } => {
                self.may_take_up(*step)?;
                let stuck = self.run.status == Status::Stuck;
                self.note(Entry::Resolved { step: *step });
                self.note(if stuck { Entry::Undone { step: *step } } else { Entry::Done { step: *step, event: None } });
            }
            _ => {}
        }
        Ok(())
    }

    fn failed(&mut self, step: usize, reason: String) {
        let name = self.definition.steps.get(step).map_or("", |step| step.name.as_str());
        let why = format!("step '{name}' has failed: {reason}");
        self.note(Entry::Failed { step, reason });
        if self.definition.on_failure != OnFailure::Continue && self.run.failing.is_none() {
            self.note(Entry::Failing { cause: Cause::StepFailed, reason: why });
        }
    }

    fn cancel(&mut self, reason: &str) -> Result<(), Refusal> {
        match self.run.status {
            Status::Running => {
                let reason = reason.to_owned();
                self.note(Entry::Failing { cause: Cause::Cancelled, reason });
                Ok(())
            }
            // It has left things done that whoever cancels it wants undone.
            Status::Stopped => {
                let reason = reason.to_owned();
                self.note(Entry::Failing { cause: Cause::Cancelled, reason });
                self.note(Entry::Compensating);
                Ok(())
            }
            Status::Compensating | Status::Stuck => Err(Refusal::Undoing),
            over => Err(Refusal::Over(over)),
        }
    }

    fn may_take_up(&self, step: usize) -> Result<(), Refusal> {
        if !matches!(self.run.status, Status::Running | Status::Compensating | Status::Stuck | Status::Stopped) {
            return Err(Refusal::Over(self.run.status));
        }
        if self.stands_still_for(step) {
            return Ok(());
        }
        let steps = self.definition.steps.iter().enumerate();
        let stands = steps.filter(|(n, _)| self.stands_still_for(*n)).map(|(_, step)| step.name.clone()).collect();
        let name = self.definition.steps.get(step).map_or_else(String::new, |step| step.name.clone());
        Err(Refusal::NotFailed { step: name, state: self.run.state(step), stands })
    }

    fn stands_still_for(&self, step: usize) -> bool {
        matches!(
            (self.run.status, self.run.state(step)),
            (Status::Stuck, StepState::UndoFailed) | (Status::Stopped, StepState::Failed | StepState::Withdrawn)
        )
    }

    /// Everything that follows by itself.
    fn go_on(&mut self) {
        loop {
            let before = self.entries.len();
            match (self.run.status, self.run.failing) {
                (Status::Running, None) => self.begin_what_can(),
                (Status::Running, Some(cause)) => self.give_up(cause),
                (Status::Compensating, _) => self.undo(),
                _ => {}
            }
            if self.entries.len() == before {
                return;
            }
        }
    }

    fn begin_what_can(&mut self) {
        let ready = (0..self.definition.steps.len()).find(|step| self.can_begin(*step));
        if let Some(step) = ready {
            return self.begin(step);
        }
        if self.run.any(StepState::Running) || self.run.any(StepState::Waiting) {
            return;
        }
        let failed = self.run.any(StepState::Failed);
        let over = !self.run.any(StepState::Pending);
        let status = match (over, failed) {
            (true, false) => Status::Completed,
            (true, true) if self.definition.on_failure == OnFailure::Continue => Status::Partial,
            // It was taken up again, and another step of it is still failed.
            _ => Status::Stopped,
        };
        self.note(Entry::Ended { status });
    }

    fn can_begin(&self, step: usize) -> bool {
        let over = |step: &usize| match self.run.state(*step) {
            StepState::Done | StepState::Skipped => true,
            StepState::Failed => self.definition.on_failure == OnFailure::Continue,
            _ => false,
        };
        let after = self.definition.steps.get(step).map(|step| step.after.as_slice()).unwrap_or_default();
        self.run.state(step) == StepState::Pending && after.iter().all(over)
    }

    fn begin(&mut self, step: usize) {
        let Some(spec) = self.definition.steps.get(step) else { return };
        let wanted = if spec.when.is_some() { self.scene.holds(step) } else { Ok(true) };
        match wanted {
            Err(reason) => self.failed(step, reason),
            Ok(false) => self.note(Entry::Skipped { step }),
            Ok(true) if spec.work.wait().is_none() => self.note(Entry::StepBegan { step }),
            Ok(true) => match self.scene.awaits(step) {
                Err(reason) => self.failed(step, reason),
                Ok(Awaited::Until(until)) => self.note(Entry::WaitBegan { step, until }),
                Ok(Awaited::Here(event)) => self.note(Entry::Done { step, event: Some(event) }),
            },
        }
    }

    /// Nothing more begins. What is in hand is waited for: nobody knows yet what it did.
    fn give_up(&mut self, cause: Cause) {
        let waiting = |state: &StepState| *state == StepState::Waiting;
        while let Some(step) = self.run.steps.iter().position(waiting) {
            self.note(Entry::Withdrawn { step });
        }
        if self.run.any(StepState::Running) {
            return;
        }
        self.note(match (cause, self.definition.on_failure) {
            (Cause::Cancelled, _) | (_, OnFailure::Compensate) => Entry::Compensating,
            (_, OnFailure::Stop) => Entry::Ended { status: Status::Stopped },
            (_, OnFailure::Continue) => Entry::Ended { status: Status::Partial },
        });
    }

    /// One after the other, the last one that was done first.
    fn undo(&mut self) {
        if self.run.any(StepState::Undoing) {
            return;
        }
        let undoable = |step: &&usize| {
            let call = self.definition.steps.get(**step).and_then(|step| step.work.call());
            self.run.state(**step) == StepState::Done && call.is_some_and(|call| call.compensate.is_some())
        };
        let next = self.run.finished.iter().rev().find(undoable).copied();
        self.note(match next {
            Some(step) => Entry::UndoBegan { step },
            None if self.run.failing == Some(Cause::Cancelled) => Entry::Ended { status: Status::Cancelled },
            None => Entry::Ended { status: Status::Compensated },
        });
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
