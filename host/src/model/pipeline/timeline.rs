//! When what became of a run's steps: its journal, seen step by step.

use super::Definition;
use super::run::{Entry, Run, StepState};
use crate::model::{Seq, Timestamp};

/// One step of a run, as far as the journal tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepLine {
    pub state: StepState,
    /// Doing it, or waiting.
    pub work: Stretch,
    /// Undoing it, once that has begun.
    pub undo: Option<Stretch>,
    /// Until when it waits, or waited.
    pub until: Option<Timestamp>,
    /// The event that ended its wait.
    pub event: Option<Seq>,
    /// Somebody has said that it is done, or undone.
    pub resolved: bool,
}

/// From when to when, and why it failed if it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    pub began_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub reason: Option<String>,
}

impl Stretch {
    fn begin(at: Timestamp) -> Self {
        Self { began_at: Some(at), ..Self::default() }
    }

    fn end(&mut self, at: Timestamp, reason: Option<&str>) {
        self.began_at.get_or_insert(at);
        self.ended_at = Some(at);
        self.reason = reason.map(str::to_owned);
    }
}

/// A line a step, in the order of the definition. A step that was taken up again tells of the last time.
pub fn lines(definition: &Definition, journal: &[(Timestamp, Entry)]) -> Vec<StepLine> {
    let mut lines = vec![StepLine::default(); definition.steps.len()];
    for (at, entry) in journal {
        if let Some(line) = entry.step().and_then(|step| lines.get_mut(step)) {
            take(line, *at, entry);
        }
    }
    let run = Run::replayed(definition, journal.iter().map(|(_, entry)| entry));
    for (step, line) in lines.iter_mut().enumerate() {
        line.state = run.state(step);
    }
    lines
}

fn take(line: &mut StepLine, at: Timestamp, entry: &Entry) {
    match entry {
        Entry::StepBegan { .. } => *line = StepLine { work: Stretch::begin(at), ..StepLine::default() },
        Entry::WaitBegan { until, .. } => {
            *line = StepLine { work: Stretch::begin(at), until: Some(*until), ..StepLine::default() };
        }
        Entry::Done { event, .. } => {
            line.event = *event;
            line.work.end(at, None);
        }
        Entry::Skipped { .. } | Entry::Withdrawn { .. } => line.work.end(at, None),
        Entry::Failed { reason, .. } => line.work.end(at, Some(reason)),
        Entry::UndoBegan { .. } => line.undo = Some(Stretch::begin(at)),
        Entry::Undone { .. } => line.undo.get_or_insert_default().end(at, None),
        Entry::UndoFailed { reason, .. } => line.undo.get_or_insert_default().end(at, Some(reason)),
        Entry::Resolved { .. } => line.resolved = true,
        // What follows says what becomes of it.
        Entry::Retried { .. } => {}
        Entry::Began | Entry::Failing { .. } | Entry::Compensating | Entry::Ended { .. } => {}
    }
}

/// Why a run did not go as planned, if it did not: what holds it up now, else the last thing that failed it, else the first
/// step that failed.
pub fn failure(definition: &Definition, journal: &[(Timestamp, Entry)]) -> Option<String> {
    let name = |step: &usize| definition.steps.get(*step).map_or("", |step| step.name.as_str());
    let (mut stuck, mut failing, mut failed) = (None, None, None);
    for (_, entry) in journal {
        match entry {
            Entry::UndoFailed { step, reason } => {
                stuck = Some(format!("the compensation of step '{}' has failed: {reason}", name(step)));
            }
            Entry::Failing { reason, .. } => failing = Some(reason.clone()),
            Entry::Failed { step, reason } if failed.is_none() => {
                failed = Some(format!("step '{}' has failed: {reason}", name(step)));
            }
            Entry::Retried { .. } | Entry::Resolved { .. } if stuck.is_some() => stuck = None,
            // It goes on as if it had not failed.
            Entry::Retried { .. } | Entry::Resolved { .. } => (failing, failed) = (None, None),
            _ => {}
        }
    }
    stuck.or(failing).or(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pipeline::run::{Cause, Status};
    use crate::model::pipeline::{CallSpec, OnFailure, StepLimits, StepSpec, Work};
    use crate::model::{ConsumerName, Timestamp};

    fn definition() -> Definition {
        let consumer = ConsumerName::new("a").unwrap();
        let call = CallSpec {
            consumer: consumer.clone(),
            compensate: Some(consumer.clone()),
            retry: None,
            limits: StepLimits::default(),
        };
        let step =
            |name: &str, after| StepSpec { name: name.into(), after, when: None, work: Work::Call(call.clone()) };
        let steps = vec![step("reserve", vec![]), step("pay", vec![0])];
        Definition { pipeline: consumer, steps, timeout: None, on_failure: OnFailure::Compensate }
    }

    fn journal(entries: &[(i64, Entry)]) -> Vec<(Timestamp, Entry)> {
        entries.iter().map(|(at, entry)| (Timestamp(*at), entry.clone())).collect()
    }

    #[test]
    fn each_step_says_when_what_became_of_it() {
        let journal = journal(&[
            (1, Entry::Began),
            (1, Entry::StepBegan { step: 0 }),
            (5, Entry::Done { step: 0, event: None }),
            (5, Entry::StepBegan { step: 1 }),
            (9, Entry::Failed { step: 1, reason: "declined".into() }),
            (9, Entry::Failing { cause: Cause::StepFailed, reason: "step 'pay' has failed: declined".into() }),
            (9, Entry::Compensating),
            (9, Entry::UndoBegan { step: 0 }),
            (12, Entry::UndoFailed { step: 0, reason: "no shelf".into() }),
        ]);
        let lines = lines(&definition(), &journal);
        let [reserve, pay] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!((reserve.state, pay.state), (StepState::UndoFailed, StepState::Failed));
        assert_eq!((reserve.work.began_at, reserve.work.ended_at), (Some(Timestamp(1)), Some(Timestamp(5))));
        let undo = reserve.undo.as_ref().unwrap();
        assert_eq!((undo.began_at, undo.ended_at), (Some(Timestamp(9)), Some(Timestamp(12))));
        assert_eq!(undo.reason.as_deref(), Some("no shelf"));
        assert_eq!((pay.work.reason.as_deref(), &pay.undo), (Some("declined"), &None));
        let failure = failure(&definition(), &journal).unwrap();
        assert_eq!(failure, "the compensation of step 'reserve' has failed: no shelf");
    }

    #[test]
    fn what_is_taken_up_again_tells_of_the_last_time() {
        let mut entries = vec![
            (1, Entry::StepBegan { step: 0 }),
            (5, Entry::Failed { step: 0, reason: "gone".into() }),
            (5, Entry::Failing { cause: Cause::StepFailed, reason: "step 'reserve' has failed: gone".into() }),
            (5, Entry::Ended { status: Status::Stopped }),
        ];
        assert!(failure(&definition(), &journal(&entries)).is_some());
        entries.push((20, Entry::Retried { step: 0 }));
        assert_eq!(failure(&definition(), &journal(&entries)), None);
        entries.push((20, Entry::StepBegan { step: 0 }));
        let line = &lines(&definition(), &journal(&entries))[0];
        assert_eq!((line.state, line.work.began_at), (StepState::Running, Some(Timestamp(20))));
        assert_eq!((line.work.ended_at, &line.work.reason), (None, &None));
    }

    #[test]
    fn a_step_that_never_began_has_no_times_but_its_end() {
        let journal = journal(&[(1, Entry::Began), (3, Entry::Skipped { step: 0 })]);
        let lines = lines(&definition(), &journal);
        assert_eq!((lines[0].state, lines[0].work.ended_at), (StepState::Skipped, Some(Timestamp(3))));
        assert_eq!(lines[1], StepLine::default());
        assert_eq!(failure(&definition(), &journal), None);
    }
}
