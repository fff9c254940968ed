//! Whether runs of pipelines keep their promises. A run is followed by what its journal says line by line; each line must be due
//! by what came before it and by what deliveries came to, and nothing that is due may be missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Checked, Model, Violation, hold};
use crate::log::memory::RunStanding;
use crate::log::{Settled, Settlement};
use crate::model::pipeline::errand::{Order, RunChange, StepErrand};
use crate::model::pipeline::run::{Cause, Entry, Input, Run, RunId, Status};
use crate::model::pipeline::{Definition, OnFailure, StepSpec, WaitSpec};
use crate::model::{ConsumerName, DeliveryId, Payload, Seq, State, Timestamp};
use crate::simulation::changes::Change;

/// How a step that is over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Skipped,
    Failed,
    Withdrawn,
}

/// A run, as far as it has been followed.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    pub(super) id: RunId,
    pub(super) definition: Arc<Definition>,
    journal: Vec<Entry>,
    status: Status,
    /// Deliveries that are under way, and waits with their time.
    under_way: BTreeMap<usize, Option<Timestamp>>,
    over: BTreeMap<usize, End>,
    /// Done and not undone, in the order of their finishing.
    done: Vec<usize>,
    undoing: Option<usize>,
    failing: Option<Cause>,
    outputs: BTreeMap<usize, Payload>,
    /// When its own time is up.
    deadline: Option<Timestamp>,
    /// A step has failed, and the definition says that the run fails with it.
    must_fail: bool,
}

/// What a change may mean for a run: where a line of its journal can come from.
struct Told<'a> {
    /// Ends of its steps' deliveries.
    ended: Vec<(&'a StepErrand, State)>,
    order: Option<&'a Order>,
    now: Timestamp,
}

impl Followed {
    fn new(standing: &RunStanding) -> Self {
        Self {
            id: standing.id.clone(),
            definition: standing.definition.clone(),
            journal: Vec::new(),
            status: Status::Running,
            under_way: BTreeMap::new(),
            over: BTreeMap::new(),
            done: Vec::new(),
            undoing: None,
            failing: None,
            outputs: BTreeMap::new(),
            deadline: None,
            must_fail: false,
        }
    }

    fn spec(&self, step: usize) -> &StepSpec {
        &self.definition.steps[step]
    }

    fn wait(&self, step: usize) -> Option<&WaitSpec> {
        self.spec(step).work.wait()
    }

    fn is_undoable(&self, step: usize) -> bool {
        self.spec(step).work.call().is_some_and(|call| call.compensate.is_some())
    }

    /// Nothing begins before what it comes after is over, nor twice, nor once the run fails.
    fn begins(&self, step: usize) -> Checked {
        let of = || format!("{} of run {}", self.spec(step).name, self.id);
        hold!(self.failing.is_none() && self.status == Status::Running, "I25: step {} begins, and it fails", of());
        let new = !self.under_way.contains_key(&step) && !self.over.contains_key(&step);
        hold!(new, "I25: step {} begins twice", of());
        for before in &self.spec(step).after {
            let passed = match self.over.get(before) {
                Some(End::Done | End::Skipped) => true,
                Some(End::Failed) => self.definition.on_failure == OnFailure::Continue,
                Some(End::Withdrawn) | None => false,
            };
            hold!(passed, "I25: step {} begins before {}", of(), self.spec(*before).name);
        }
        Ok(())
    }

    /// Whether its condition is true, as far as it has one that can be true or false.
    fn wanted(&self, step: usize) -> Option<bool> {
        let when = self.spec(step).when.as_ref()?;
        let name = when.source().trim_start_matches("steps.").trim_end_matches(".ok");
        let output = self.outputs.get(&self.definition.step(name)?)?;
        serde_json::from_slice::<serde_json::Value>(&output.data).ok()?.get("ok")?.as_bool()
    }

    /// It goes on, as somebody has ordered. What was given up is to be done after all.
    fn is_taken_up(&mut self, step: usize) {
        if self.status == Status::Stuck {
            self.status = Status::Compensating;
            return;
        }
        self.over.retain(|at, end| *at != step && *end != End::Withdrawn);
        (self.status, self.failing) = (Status::Running, None);
    }

    fn ends(&self, status: Status) -> Checked {
        hold!(self.under_way.is_empty() && self.undoing.is_none(), "I25: run {} ends, and is not over", self.id);
        let left = self.done.iter().any(|step| self.is_undoable(*step));
        let passed = |end: &End| matches!(end, End::Done | End::Skipped);
        let all = self.over.len() == self.definition.steps.len();
        let cancelled = self.failing == Some(Cause::Cancelled);
        let may = match status {
            Status::Completed => all && self.over.values().all(passed) && self.failing.is_none(),
            Status::Partial => self.definition.on_failure == OnFailure::Continue && !cancelled,
            Status::Stopped => self.definition.on_failure == OnFailure::Stop && !cancelled,
            Status::Compensated => !left && !cancelled && self.definition.on_failure == OnFailure::Compensate,
            Status::Cancelled => !left && cancelled,
            Status::Running | Status::Compensating | Status::Stuck => false,
        };
        hold!(may, "I25: {self:?} ends as {}", status.as_str());
        Ok(())
    }

    /// Takes in a line of its journal, if it may stand there.
    fn take(&mut self, entry: &Entry, told: &Told<'_>) -> Checked {
        let ended = |step: usize, undo: bool, state: State| {
            told.ended.iter().any(|(of, to)| of.index == step && of.undo.is_some() == undo && *to == state)
        };
        let last = self.journal.last();
        let id = &self.id;
        match entry {
            Entry::Compensating
            | Entry::UndoBegan { .. }
            | Entry::Undone { .. }
            | Entry::UndoFailed { .. }
            | Entry::Ended { .. } => self.take_end(entry, &ended)?,
            Entry::Began => hold!(self.journal.is_empty(), "I25: run {id} begins twice"),
            Entry::StepBegan { step } => {
                self.begins(*step)?;
                let wanted = self.spec(*step).when.is_none() || self.wanted(*step) == Some(true);
                hold!(wanted, "I25: {step} of run {id} begins against its condition");
                self.under_way.insert(*step, None);
            }
            Entry::WaitBegan { step, until } => {
                self.begins(*step)?;
                self.under_way.insert(*step, Some(*until));
            }
            Entry::Skipped { step } => {
                self.begins(*step)?;
                hold!(self.wanted(*step) == Some(false), "I25: {step} of run {id} is skipped against its condition");
                self.over.insert(*step, End::Skipped);
            }
            Entry::Done { step, event } => {
                match event {
                    Some(event) => {
                        hold!(*event > id.seq, "I25: run {id} waited for event {event}, which came before it");
                        if self.under_way.remove(step).is_none() {
                            self.begins(*step)?;
                        }
                    }
                    None if last == Some(&Entry::Resolved { step: *step }) => {}
                    None => {
                        hold!(ended(*step, false, State::Succeeded), "I25: {step} of run {id} is done by nobody");
                        self.under_way.remove(step);
                    }
                }
                self.over.insert(*step, End::Done);
                self.done.push(*step);
            }
            Entry::Failed { step, .. } => self.fails(*step, told, ended(*step, false, State::Dead))?,
            Entry::Withdrawn { step } => {
                hold!(self.failing.is_some(), "I25: {step} of run {id} is given up, and it does not fail");
                let waited = self.under_way.remove(step).flatten().is_some();
                hold!(waited || ended(*step, false, State::Cancelled), "I25: {step} of run {id} is given up in hand");
                self.over.insert(*step, End::Withdrawn);
            }
            Entry::Failing { cause, .. } => {
                let may = match cause {
                    Cause::StepFailed => matches!(last, Some(Entry::Failed { .. })),
                    Cause::TimedOut => self.deadline.is_some_and(|deadline| deadline <= told.now),
                    Cause::Cancelled => matches!(told.order, Some(Order::Cancel { .. })),
                };
                hold!(may, "I25: run {id} fails without a reason: {cause:?}");
                (self.failing, self.must_fail) = (Some(*cause), false);
            }
            Entry::Retried { step } | Entry::Resolved { step } => {
                hold!(told.order.is_some(), "I25: {step} of run {id} is taken up, and nobody wanted it");
                self.is_taken_up(*step);
            }
        }
        if matches!(entry, Entry::Began | Entry::Retried { .. } | Entry::Resolved { .. }) {
            self.deadline = self.definition.timeout.map(|timeout| told.now.plus(timeout));
        }
        self.journal.push(entry.clone());
        Ok(())
    }

    /// A line about what is undone, or about the end.
    fn take_end(&mut self, entry: &Entry, ended: &dyn Fn(usize, bool, State) -> bool) -> Checked {
        let last = self.journal.last();
        let id = &self.id;
        match entry {
            Entry::Compensating => {
                hold!(self.failing.is_some() && self.under_way.is_empty(), "I25: run {id} is undone while it goes on");
                self.status = Status::Compensating;
            }
            Entry::UndoBegan { step } => {
                let next = self.done.iter().rev().find(|step| self.is_undoable(**step));
                hold!(self.status == Status::Compensating, "I25: {step} of run {id} is undone, and it is not to be");
                let now = self.undoing.is_none() && next == Some(step);
                hold!(now, "I25: {step} of run {id} is undone, the next one is {next:?} of {:?}", self.done);
                self.undoing = Some(*step);
            }
            Entry::Undone { step } => {
                let resolved = last == Some(&Entry::Resolved { step: *step });
                let is = self.undoing == Some(*step) && ended(*step, true, State::Succeeded);
                hold!(resolved || is, "I25: {step} of run {id} is undone by nobody");
                self.undoing = None;
                self.done.retain(|done| done != step);
            }
            Entry::UndoFailed { step, .. } => {
                hold!(ended(*step, true, State::Dead), "I25: undoing {step} of run {id} fails, and nobody tried");
                (self.undoing, self.status) = (None, Status::Stuck);
            }
            Entry::Ended { status } => {
                self.ends(*status)?;
                self.status = *status;
            }
            _ => {}
        }
        Ok(())
    }

    fn fails(&mut self, step: usize, told: &Told<'_>, dead: bool) -> Checked {
        let id = &self.id;
        match self.under_way.remove(&step) {
            Some(Some(until)) => hold!(until <= told.now, "I25: {step} of run {id} waited to {until}, and no longer"),
            Some(None) => hold!(dead, "I25: {step} of run {id} has failed, and its delivery has not"),
            None => {
                self.begins(step)?;
                let asks = self.spec(step).when.is_some() || self.wait(step).is_some();
                hold!(asks, "I25: {step} of run {id} has failed before it began");
            }
        }
        self.over.insert(step, End::Failed);
        self.must_fail |= self.failing.is_none() && self.definition.on_failure != OnFailure::Continue;
        Ok(())
    }

    /// After all that followed from one input, it rests on something that will move it, or it is over.
    fn rests(&self) -> Checked {
        let rests = match self.status {
            Status::Running => !self.under_way.is_empty() && !self.must_fail,
            Status::Compensating => self.undoing.is_some(),
            _ => true,
        };
        hold!(rests, "I25: a run that nothing will move: {self:?}");
        Ok(())
    }

    fn stands_still(&self) -> bool {
        matches!(self.status, Status::Stuck | Status::Stopped)
    }

    fn is_open(&self) -> bool {
        matches!(self.status, Status::Running | Status::Compensating)
    }
}

impl Model {
    /// Runs as they are after a change.
    pub(super) fn follow(&mut self, change: &Change, standings: &[RunStanding]) -> Checked {
        let (ended, order): (Vec<_>, _) = match change {
            Change::Settled(settlements, Settled::Committed) => {
                let ends =
                    settlements.iter().filter_map(|one| Some((&one.delivery, one.next.state, one.run.as_ref()?)));
                (ends.collect(), None)
            }
            Change::Ordered(run, order, Some(Ok(_))) => (Vec::new(), Some((run, order))),
            _ => (Vec::new(), None),
        };
        for standing in standings {
            self.follow_one(standing, &ended, order)?;
        }
        let made = self.fresh.first();
        hold!(made.is_none(), "I25: {made:?} is made, and no journal tells of it");
        for (id, state, of) in ended {
            match of {
                RunChange::Step(..) => self.heard(id, state)?,
                RunChange::Signal(signal) => {
                    for (step, key) in &signal.arrives {
                        let pipeline = id.consumer.clone();
                        self.arrived((pipeline, step.clone(), key.clone()), id.seq)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn follow_one(
        &mut self,
        standing: &RunStanding,
        ended: &[(&DeliveryId, State, &RunChange)],
        order: Option<(&RunId, &Order)>,
    ) -> Checked {
        let known = self.runs.get(&standing.id).cloned();
        let is_new = known.is_none();
        let mut run = known.unwrap_or_else(|| Followed::new(standing));
        let before = run.journal.len();
        hold!(standing.journal.starts_with(&run.journal), "I25: run {} has forgotten its journal", run.id);
        if standing.journal.len() == before {
            hold!(standing.status == run.status, "I25: run {} is {:?} all at once", run.id, standing.status);
            return Ok(());
        }
        if is_new {
            let other = self.keyed_runs.insert((run.id.pipeline.clone(), standing.key.clone()), run.id.clone());
            hold!(other.is_none(), "I25: run {} has the key of {other:?}", run.id);
        }
        let steps: Vec<(StepErrand, State)> =
            ended.iter().filter_map(|(id, state, _)| Some((self.errands.get(*id)?.step.clone()?, *state))).collect();
        let mine = steps.iter().filter(|(step, _)| step.run == run.id).map(|(step, state)| (step, *state)).collect();
        let order = order.filter(|(of, _)| **of == run.id).map(|(_, order)| order);
        let told = Told { ended: mine, order, now: self.now };
        for entry in &standing.journal[before..] {
            if let Entry::Done { step, event: Some(event) } = entry {
                self.was_waited_for(&run, *step, *event)?;
                run.outputs.extend(self.event(*event).envelope.payload.clone().map(|payload| (*step, payload)));
            }
            if let Entry::Done { step, event: None } = entry {
                let given = match order {
                    Some(Order::Resolve { output, .. }) => output.clone(),
                    _ => self.given.remove(&(run.id.clone(), *step)),
                };
                run.outputs.extend(given.map(|payload| (*step, payload)));
            }
            run.take(entry, &told)?;
            if let Entry::WaitBegan { step, .. } = entry {
                self.waits_rightly(&run, *step)?;
            }
        }
        run.rests()?;
        let replayed = Run::replayed(&standing.definition, &standing.journal);
        let same = (replayed.status, standing.status) == (run.status, run.status);
        hold!(same, "I25: {run:?} is shown as {:?} and replayed as {replayed:?}", standing.status);
        self.made_for(&run, &standing.journal[before..])?;
        self.runs.insert(run.id.clone(), run);
        Ok(())
    }

    /// Each delivery that the journal tells of is made, once, and to whom it should be.
    fn made_for(&mut self, run: &Followed, entries: &[Entry]) -> Checked {
        let wanted = entries.iter().filter_map(|entry| match entry {
            Entry::StepBegan { step } => Some((*step, false)),
            Entry::UndoBegan { step } => Some((*step, true)),
            _ => None,
        });
        for (step, undo) in wanted {
            let call = run.spec(step).work.call();
            let consumer = call.and_then(|call| if undo { call.compensate.as_ref() } else { Some(&call.consumer) });
            let fits = |(id, of): &(DeliveryId, StepErrand)| {
                id.seq == run.id.seq
                    && Some(&id.consumer) == consumer
                    && of.run == run.id
                    && (of.index, of.undo.is_some()) == (step, undo)
            };
            let at = self.fresh.iter().position(fits);
            hold!(at.is_some(), "I25: {step} of run {} begins (undo: {undo}), and no delivery is made", run.id);
            drop(at.map(|at| self.fresh.remove(at)));
        }
        Ok(())
    }

    /// Whatever a step's delivery came to, its run has heard of it.
    fn heard(&self, id: &DeliveryId, state: State) -> Checked {
        let Some(step) = self.errands.get(id).and_then(|errand| errand.step.as_ref()) else {
            return Err(Violation(format!("I25: {id} tells a run that it is no step of")));
        };
        let Some(run) = self.runs.get(&step.run) else { return Ok(()) };
        let hears = if step.undo.is_some() {
            run.undoing != Some(step.index)
        } else {
            !run.under_way.contains_key(&step.index)
        };
        hold!(hears, "I25: run {} has not heard that {id} is {state:?}", run.id);
        Ok(())
    }

    /// An event came that some may wait for.
    fn arrived(&mut self, wait: (ConsumerName, String, String), event: Seq) -> Checked {
        let (pipeline, step, _) = &wait;
        for run in self.runs.values().filter(|run| run.id.pipeline == *pipeline && run.id.seq < event) {
            let Some(at) = run.definition.step(step).filter(|at| run.under_way.contains_key(at)) else { continue };
            let waits = self.was_waited_for(run, at, event).is_ok();
            hold!(!waits, "I25: event {event} has come, and {step} of run {} waits for it", run.id);
        }
        self.arrivals.entry(wait).or_default().insert(event);
        Ok(())
    }

    /// Nobody waits for what has come, nor for what nobody would tell it of.
    fn waits_rightly(&self, run: &Followed, step: usize) -> Checked {
        let Some(wait) = run.wait(step) else { return Err(Violation(format!("I25: {step} waits for nothing"))) };
        let key = self.text(run.id.seq, &wait.run).unwrap_or_default().to_owned();
        let name = run.spec(step).name.clone();
        let of = (run.id.pipeline.clone(), name, key);
        let mut come = self.arrivals.get(&of).into_iter().flat_map(|events| events.range(run.id.seq + 1..));
        let early = come.find(|event| self.was_waited_for(run, step, **event).is_ok());
        hold!(early.is_none(), "I25: {of:?} of run {} waits for event {early:?}, which has come", run.id);
        let deployed = self.generations.last().and_then(|(_, plan)| plan.deployed(&run.id.pipeline));
        let told = deployed.is_some_and(|deployed| deployed.spec.subscriptions.contains(&wait.subscription()));
        // What began after it was replaced may have been replaced again while nobody knew of it.
        hold!(
            told || self.late_runs.contains(&run.id),
            "I25: {of:?} of run {} waits for what its pipeline is not told of",
            run.id
        );
        Ok(())
    }

    /// After a reload, what waits is still told of what it waits for.
    pub(super) fn waits_are_served(&self) -> Checked {
        for run in self.runs.values() {
            let waits = run.under_way.iter().filter(|(_, until)| until.is_some());
            waits.map(|(step, _)| *step).try_for_each(|step| self.waits_rightly(run, step))?;
        }
        Ok(())
    }

    fn was_waited_for(&self, run: &Followed, step: usize, event: Seq) -> Checked {
        let Some(wait) = run.wait(step) else { return Err(Violation(format!("I25: {step} waits for nothing"))) };
        let is = wait.pattern.matches(&self.event(event).envelope.event_type);
        let (mine, its) = (self.text(run.id.seq, &wait.run), self.text(event, &wait.event));
        hold!(is && mine.is_some() && mine == its, "I25: {step} of run {} waited for another than {event}", run.id);
        Ok(())
    }

    /// What a pipeline makes of an event is what its definition says.
    pub(super) fn signals(&self, settlement: &Settlement) -> Checked {
        let Settlement { delivery: id, record, run, .. } = settlement;
        let Some(plan) = self.deployed(record.generation).filter(|plan| plan.is_coordinator(&id.consumer)) else {
            return Ok(());
        };
        let Some(RunChange::Signal(signal)) = run else { return Err(Violation(format!("I25: {id} means nothing"))) };
        let event = self.event(id.seq);
        let spec = plan.pipelines.get(&id.consumer);
        let spec = spec.filter(|spec| spec.subscriptions.iter().any(|one| one.matches(event)));
        let begins = signal.begins.as_ref().map(|begins| (begins.key.clone(), begins.definition.as_ref()));
        let wanted = spec.map(|spec| {
            let key = spec.key.as_ref().and_then(|key| self.text(id.seq, key)).map(ToOwned::to_owned);
            (key.unwrap_or_else(|| format!("#{}", id.seq)), &spec.definition)
        });
        hold!(begins == wanted, "I25: {id} begins {begins:?}, and should begin {wanted:?}");
        let steps = plan.pipelines.get(&id.consumer).into_iter().flat_map(|spec| &spec.definition.steps);
        for (step, wait) in steps.filter_map(|step| Some((step, step.work.wait()?))) {
            let key = self.text(id.seq, &wait.event).filter(|_| wait.pattern.matches(&event.envelope.event_type));
            let is = key.is_none_or(|key| signal.arrives.contains(&(step.name.clone(), key.to_owned())));
            hold!(is, "I25: {id} does not say that it is for {}", step.name);
        }
        Ok(())
    }

    /// What a settlement tells a run is what became of the delivery.
    pub(super) fn tells(&self, settlement: &Settlement, step: &StepErrand) -> Checked {
        let Settlement { delivery: id, next, run, .. } = settlement;
        let at = step.index;
        let is = match (next.state, run) {
            (State::Pending { .. }, None) => true,
            (_, Some(RunChange::Step(of, input))) if *of == step.run => {
                match (next.state, step.undo.is_some(), input) {
                    (State::Succeeded, false, Input::Done { step })
                    | (State::Succeeded, true, Input::Undone { step })
                    | (State::Dead, false, Input::Failed { step, .. })
                    | (State::Dead, true, Input::UndoFailed { step, .. })
                    | (State::Cancelled, false, Input::Withdrawn { step }) => *step == at,
                    _ => false,
                }
            }
            _ => false,
        };
        hold!(is, "I25: {id} is {:?}, and tells its run {run:?}", next.state);
        Ok(())
    }

    /// What a handler is told of its run.
    pub(super) fn is_told_of_its_run(&self, id: &DeliveryId, call: &crate::sandbox::Call, asks: bool) -> Checked {
        let step = self.errands.get(id).and_then(|errand| errand.step.as_ref());
        let (Some(step), Some(told)) = (step, &call.run) else {
            hold!(step.is_none() && call.run.is_none(), "I25: {id} is called as a step, or should be");
            return Ok(());
        };
        let Some(run) = self.runs.get(&step.run) else { return Err(Violation(format!("I25: {id} is of no run"))) };
        let given = |step: usize| (run.spec(step).name.clone(), run.outputs.get(&step).cloned());
        let outputs: Vec<_> = run.definition.before(step.index).into_iter().map(given).collect();
        let is = told.id == step.run.to_string() && told.step == step.name && told.outputs == outputs;
        hold!(is, "I25: {id} is called with {told:?}, and should be with {outputs:?}");
        let undo = told.undo.as_ref().map(|undo| undo.output.clone());
        let done = step.undo.is_some().then(|| run.outputs.get(&step.index).cloned());
        hold!(undo == done, "I25: {id} is to undo {undo:?}, and should undo {done:?}");
        let given_up = self.told_withdrawn.contains(id) && !asks;
        hold!(!given_up, "I25: {id} is called, and its run has given it up");
        Ok(())
    }

    /// How many events of the host's follow from lines of journals.
    pub(super) fn events_of_runs(&self, standings: &[RunStanding]) -> u64 {
        let tells = |entry: &&Entry| {
            matches!(entry, Entry::Began | Entry::Compensating | Entry::UndoFailed { .. } | Entry::Ended { .. })
        };
        let new = |run: &RunStanding| {
            let before = self.runs.get(&run.id).map_or(0, |known| known.journal.len());
            run.journal.iter().skip(before).filter(tells).count() as u64
        };
        standings.iter().map(new).sum()
    }

    /// When the next run will be told that a time has come.
    pub(in crate::simulation) fn next_timer(&self) -> Option<Timestamp> {
        let open = self.runs.values().filter(|run| run.status == Status::Running);
        open.flat_map(|run| run.under_way.values().copied().flatten().chain(run.deadline)).min()
    }

    /// Runs that something is still to come of by itself.
    pub(in crate::simulation) fn open_runs(&self) -> impl Iterator<Item = &RunId> {
        self.runs.values().filter(|run| run.is_open()).map(|run| &run.id)
    }

    pub(in crate::simulation) fn every_run(&self) -> impl Iterator<Item = &RunId> {
        self.runs.keys()
    }

    pub(in crate::simulation) fn any_run_stands_still(&self) -> bool {
        self.runs.values().any(Followed::stands_still)
    }

    /// Runs that stand still until somebody sees to them, and the steps that could be taken up.
    pub(in crate::simulation) fn runs_that_stand_still(&self) -> impl Iterator<Item = (&RunId, BTreeSet<&str>)> {
        self.runs.values().filter(|run| run.stands_still()).map(|run| {
            let given_up = run.over.iter().filter(|(_, end)| matches!(end, End::Failed | End::Withdrawn));
            let steps: Vec<usize> = match run.status {
                Status::Stuck => run.done.clone(),
                _ => given_up.map(|(step, _)| *step).collect(),
            };
            (&run.id, steps.into_iter().map(|step| run.spec(step).name.as_str()).collect())
        })
    }

    /// How runs stand, counted.
    pub(in crate::simulation) fn stand(&self) -> BTreeMap<String, u64> {
        let mut stand = BTreeMap::new();
        self.runs.values().for_each(|run| *stand.entry(run.status.as_str().to_owned()).or_default() += 1);
        stand
    }

    pub(super) fn journals(&self) -> impl Iterator<Item = (&RunId, &[Entry])> {
        self.runs.iter().map(|(id, run)| (id, run.journal.as_slice()))
    }

    pub(super) fn needs(&self, seq: Seq) -> Option<&RunId> {
        self.runs.values().find(|run| run.id.seq == seq && run.status.is_open()).map(|run| &run.id)
    }
}
