//! What entries of a journal cause.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::Ledger;
use crate::log::{Commit, Waiting};
use crate::model::event::RUN_PREFIX;
use crate::model::pipeline::kept::{Kept, StepDelivery};
use crate::model::pipeline::run::{Entry, Run, RunId};
use crate::model::{Envelope, Event, Timestamp};

pub(super) struct Carry<'a, L: Ledger> {
    ledger: &'a mut L,
    run: &'a RunId,
    /// As it was before the entries.
    kept: &'a Kept,
    after: &'a Run,
    now: Timestamp,
    made: Vec<Waiting>,
    withdrawn: Vec<Waiting>,
    events: Vec<Arc<Event>>,
    timer: Option<Timestamp>,
}

impl<'a, L: Ledger> Carry<'a, L> {
    pub(super) fn new(ledger: &'a mut L, run: &'a RunId, kept: &'a Kept, after: &'a Run, now: Timestamp) -> Self {
        let (made, withdrawn, events) = (Vec::new(), Vec::new(), Vec::new());
        Self { ledger, run, kept, after, now, made, withdrawn, events, timer: None }
    }

    /// Carries out what the entries say. `keys`: what steps that begin to wait are waiting for.
    pub(super) fn out(
        mut self,
        entries: &[Entry],
        mut keys: BTreeMap<usize, String>,
        commits: &mut Vec<Commit>,
    ) -> Result<(), L::Error> {
        for (at, entry) in (self.kept.journal.len()..).zip(entries) {
            match entry {
                Entry::WaitBegan { step, until } => {
                    self.wait(*step, *until, keys.remove(step).unwrap_or_default())?;
                }
                entry => self.one(entry, at, entries)?,
            }
        }
        let Self { made, withdrawn, events, timer, .. } = self;
        commits.extend((!made.is_empty()).then_some(Commit::Redriven(made)));
        commits.extend((!withdrawn.is_empty()).then_some(Commit::Withdrawn(withdrawn)));
        commits.extend((!events.is_empty()).then_some(Commit::Events(events)));
        commits.extend(timer.map(Commit::Timer));
        Ok(())
    }

    fn one(&mut self, entry: &Entry, at: usize, entries: &[Entry]) -> Result<(), L::Error> {
        match entry {
            Entry::Began => {
                self.set_deadline()?;
                self.publish("started", at, entries)
            }
            Entry::StepBegan { step } => self.make(*step, false),
            Entry::UndoBegan { step } => self.make(*step, true),
            Entry::Done { step, .. } | Entry::Failed { step, .. } | Entry::Withdrawn { step } => {
                self.wait_no_more(*step)
            }
            Entry::Failing { .. } => {
                self.withdrawn.extend(self.ledger.withdraw(self.run, self.now)?);
                Ok(())
            }
            Entry::Compensating => self.publish("compensating", at, entries),
            Entry::UndoFailed { .. } => self.publish("stuck", at, entries),
            Entry::Ended { status } => {
                self.ledger.stop_timer(self.run, None)?;
                self.publish(status.as_str(), at, entries)
            }
            // A run that was stopped has its time anew.
            Entry::Retried { .. } | Entry::Resolved { .. } => self.set_deadline(),
            Entry::Skipped { .. } | Entry::Undone { .. } | Entry::WaitBegan { .. } => Ok(()),
        }
    }

    fn make(&mut self, step: usize, undo: bool) -> Result<(), L::Error> {
        let call = self.kept.definition.steps.get(step).and_then(|step| step.work.call());
        let consumer = call.and_then(|call| if undo { call.compensate.as_ref() } else { Some(&call.consumer) });
        let Some(consumer) = consumer else { return Ok(()) };
        let delivery = StepDelivery { step, undo, withdrawn: false };
        self.made.push(self.ledger.make(self.run, consumer, delivery, self.now)?);
        Ok(())
    }

    fn wait(&mut self, step: usize, until: Timestamp, key: String) -> Result<(), L::Error> {
        let Some(spec) = self.kept.definition.steps.get(step) else { return Ok(()) };
        self.ledger.wait_for(self.run, (step, &spec.name), &key)?;
        self.set_timer(Some(step), until)
    }

    fn wait_no_more(&mut self, step: usize) -> Result<(), L::Error> {
        let waited = self.kept.definition.steps.get(step).is_some_and(|step| step.work.wait().is_some());
        if !waited {
            return Ok(());
        }
        self.ledger.wait_no_more(self.run, step)?;
        self.ledger.stop_timer(self.run, Some(step))
    }

    fn set_deadline(&mut self) -> Result<(), L::Error> {
        match self.kept.definition.timeout {
            Some(timeout) => self.set_timer(None, self.now.plus(timeout)),
            None => Ok(()),
        }
    }

    fn set_timer(&mut self, step: Option<usize>, at: Timestamp) -> Result<(), L::Error> {
        self.timer = Some(self.timer.map_or(at, |timer| timer.min(at)));
        self.ledger.set_timer(self.run, step, at)
    }

    /// Appends the host's event about the run. Its id derives from the place in the journal.
    fn publish(&mut self, word: &str, at: usize, entries: &[Entry]) -> Result<(), L::Error> {
        let cause = &self.kept.event.envelope;
        let mut data = Map::new();
        data.insert("run".into(), json!(self.run.to_string()));
        data.insert("pipeline".into(), json!(self.run.pipeline));
        data.insert("key".into(), json!(self.kept.key));
        data.insert("eventId".into(), json!(cause.id));
        data.insert("eventType".into(), json!(cause.event_type));
        if word != "started" {
            let reason = self.kept.journal.iter().chain(entries).rev().find_map(Entry::reason);
            data.insert("reason".into(), json!(reason));
            data.insert("steps".into(), self.steps(entries));
        }
        let id = format!("{}{}-{at}", RUN_PREFIX, self.run);
        let envelope = Envelope {
            subject: Some(self.run.to_string()),
            correlation_id: cause.correlation_id.clone(),
            causation_id: Some(cause.id.clone()),
            traceparent: cause.traceparent.clone(),
            depth: cause.depth.saturating_add(1),
            ..Envelope::of_host(&format!("{RUN_PREFIX}{word}"), id, self.now, &Value::Object(data))
        };
        self.events.extend(self.ledger.publish(envelope, self.now)?);
        Ok(())
    }

    /// How each step stands, and why it failed if it did.
    fn steps(&self, entries: &[Entry]) -> Value {
        let reason =
            |step: usize| self.kept.journal.iter().chain(entries).rev().find_map(|entry| entry.reason_of(step));
        let steps = self.kept.definition.steps.iter().enumerate().map(|(at, step)| {
            let mut shown = json!({ "name": step.name, "state": self.after.state(at).as_str() });
            if let (Some(shown), Some(reason)) = (shown.as_object_mut(), reason(at)) {
                shown.insert("reason".into(), json!(reason));
            }
            shown
        });
        Value::Array(steps.collect())
    }
}
