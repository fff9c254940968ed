//! What becomes of runs, inside a transaction: the machine of `model/pipeline/run.rs` says what follows, this carries it
//! out. The rule is the same for every log; each keeps runs in its own way ([`Ledger`]).

mod carry;
mod ledger;

use std::collections::BTreeMap;

use self::carry::Carry;
pub(super) use self::ledger::{Ledger, Written};
use super::Commit;
use crate::model::expression::Scene as Seen;
use crate::model::pipeline::errand::{Order, RunChange, Signal};
use crate::model::pipeline::kept::Kept;
use crate::model::pipeline::run::{Awaited, Input, Refusal, RunId, Scene, Status};
use crate::model::{ConsumerName, Payload, Seq, Timestamp};
use crate::planted::{self, Bug};

/// Runs whose time has come, told in one transaction.
const RING_MAX: usize = 256;

/// Whether a change can stand: a run whose key is taken cannot begin.
pub(super) fn may<L: Ledger>(ledger: &L, pipeline: &ConsumerName, change: &RunChange) -> Result<bool, L::Error> {
    match change {
        RunChange::Signal(Signal { begins: Some(begins), .. }) if !planted::is(Bug::KeyTakenTwice) => {
            Ok(ledger.run_of(pipeline, &begins.key)?.is_none())
        }
        _ => Ok(true),
    }
}

/// Makes a change that may stand: of the delivery of event `seq` to `consumer`, whose handler gave `output`.
pub(super) fn change<L: Ledger>(
    ledger: &mut L,
    (seq, consumer): (Seq, &ConsumerName),
    change: &RunChange,
    output: Option<&Payload>,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<(), L::Error> {
    match change {
        RunChange::Step(run, input) => drop(tell(ledger, run, input, output, now, commits)?),
        RunChange::Signal(signal) => {
            for (step, key) in &signal.arrives {
                ledger.arrived(consumer, step, key, seq)?;
                for (run, at) in ledger.waiting_for(consumer, step, key)? {
                    tell(ledger, &run, &Input::Arrived { step: at, event: seq }, None, now, commits)?;
                }
            }
            if let Some(begins) = &signal.begins {
                let run = RunId { seq, pipeline: consumer.clone() };
                // A replay of its event begins nothing, whatever the pipeline's key has become.
                if ledger.kept(&run)?.is_none() {
                    ledger.create(&run, begins, now)?;
                    tell(ledger, &run, &Input::Begin, None, now, commits)?;
                }
            }
        }
    }
    Ok(())
}

/// Carries out what a person wants.
pub(super) fn order<L: Ledger>(
    ledger: &mut L,
    run: &RunId,
    order: &Order,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Option<Result<Status, Refusal>>, L::Error> {
    let Some(kept) = ledger.kept(run)? else { return Ok(None) };
    let named = |step: &String| {
        let known = || kept.definition.steps.iter().map(|step| step.name.clone()).collect();
        let pipeline = kept.definition.pipeline.clone();
        kept.definition.step(step).ok_or_else(|| Refusal::NoStep { pipeline, step: step.clone(), known: known() })
    };
    let (input, output) = match order {
        Order::Cancel { reason } => (Ok(Input::Cancel { reason: reason.clone() }), None),
        Order::Retry { step } => (named(step).map(|step| Input::Retry { step }), None),
        Order::Resolve { step, output } => (named(step).map(|step| Input::Resolve { step }), output.as_ref()),
    };
    match input {
        Ok(input) => tell(ledger, run, &input, output, now, commits),
        Err(refusal) => Ok(Some(Err(refusal))),
    }
}

/// Tells the runs whose time has come.
pub(super) fn ring<L: Ledger>(
    ledger: &mut L,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Option<Timestamp>, L::Error> {
    for (run, step) in ledger.due(now, RING_MAX)? {
        ledger.stop_timer(&run, step)?;
        let input = step.map_or(Input::TimedOut, |step| Input::Late { step });
        tell(ledger, &run, &input, None, now, commits)?;
    }
    ledger.next_timer()
}

/// Everything that follows from one input to one run. None: there is no such run.
fn tell<L: Ledger>(
    ledger: &mut L,
    run: &RunId,
    input: &Input,
    output: Option<&Payload>,
    now: Timestamp,
    commits: &mut Vec<Commit>,
) -> Result<Option<Result<Status, Refusal>>, L::Error> {
    let Some(mut kept) = ledger.kept(run)? else { return Ok(None) };
    let given = match input {
        Input::Arrived { step, event } => {
            let event = ledger
                .event(*event)?
                .filter(|event| kept.waits_for(*step, event) || planted::is(Bug::AnyArrivalCounts));
            let Some(event) = event else { return Ok(Some(Ok(kept.run().status))) };
            event.envelope.payload.clone().map(|payload| (*step, payload))
        }
        input => input.gives().zip(output.cloned()),
    };
    kept.outputs.extend(given.clone());
    let mut before = kept.run();
    if planted::is(Bug::UndoneFirstFirst) {
        before.finished.reverse();
    }
    let definition = kept.definition.clone();
    let mut world =
        World { ledger, run, kept, now, keys: BTreeMap::new(), given: given.into_iter().collect(), failed: None };
    let entries = before.step(&definition, input, &mut world);
    let World { kept, keys, given, failed, .. } = world;
    if let Some(error) = failed {
        return Err(error);
    }
    let entries = match entries {
        Ok(entries) if entries.is_empty() => return Ok(Some(Ok(before.status))),
        Ok(entries) => entries,
        Err(refusal) => return Ok(Some(Err(refusal))),
    };
    let mut after = before;
    entries.iter().for_each(|entry| after.apply(entry));
    let before = kept.journal.len();
    ledger.write(run, &Written { before, entries: &entries, outputs: &given, status: after.status }, now)?;
    Carry::new(ledger, run, &kept, &after, now).out(&entries, keys, commits)?;
    Ok(Some(Ok(after.status)))
}

/// The world as the machine asks about it.
struct World<'a, L: Ledger> {
    ledger: &'a mut L,
    run: &'a RunId,
    kept: Kept,
    now: Timestamp,
    /// Of steps that begin to wait.
    keys: BTreeMap<usize, String>,
    /// What steps that are done leave behind.
    given: Vec<(usize, Payload)>,
    /// The first time that the log did not answer.
    failed: Option<L::Error>,
}

impl<L: Ledger> Scene for World<'_, L> {
    fn holds(&mut self, step: usize) -> Result<bool, String> {
        let Some(when) = self.kept.definition.steps.get(step).and_then(|step| step.when.as_ref()) else {
            return Ok(true);
        };
        let outputs = self.kept.outputs_before(step);
        let seen = Seen { event: &self.kept.event, outputs: &outputs };
        when.truth(&seen).map_err(|reason| format!("its condition: {reason}"))
    }

    fn awaits(&mut self, step: usize) -> Result<Awaited, String> {
        let definition = self.kept.definition.clone();
        let Some((spec, wait)) = definition.steps.get(step).and_then(|spec| Some((spec, spec.work.wait()?))) else {
            return Err("it waits for nothing".to_owned());
        };
        let outputs = self.kept.outputs_before(step);
        let seen = Seen { event: &self.kept.event, outputs: &outputs };
        let key = wait.run.key_in(&seen).map_err(|reason| format!("what it waits for: {reason}"))?;
        let early = self.early(step, &spec.name, &key).unwrap_or_else(|error| {
            self.failed.get_or_insert(error);
            None
        });
        self.keys.insert(step, key);
        Ok(early.map_or(Awaited::Until(self.now.plus(wait.timeout)), Awaited::Here))
    }
}

impl<L: Ledger> World<'_, L> {
    /// The event, if it came before anybody waited for it.
    fn early(&mut self, step: usize, name: &str, key: &str) -> Result<Option<Seq>, L::Error> {
        let mut after = if planted::is(Bug::EarlyArrivalForgotten) { Seq::MAX - 1 } else { self.run.seq };
        while let Some(seq) = self.ledger.arrival(&self.run.pipeline, name, key, after)? {
            let event = self.ledger.event(seq)?;
            if event.as_ref().is_none_or(|event| self.kept.waits_for(step, event)) {
                let payload = event.and_then(|event| event.envelope.payload.clone());
                self.given.extend(payload.map(|payload| (step, payload)));
                self.kept.outputs.extend(self.given.last().cloned());
                return Ok(Some(seq));
            }
            after = seq;
        }
        Ok(None)
    }
}
