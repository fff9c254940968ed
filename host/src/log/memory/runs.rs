//! Runs, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use super::kept::Kept as Log;
use crate::log::Waiting;
use crate::log::runs::{Ledger, Written};
use crate::model::pipeline::Definition;
use crate::model::pipeline::errand::{Begins, Errand};
use crate::model::pipeline::kept::{Kept, StepDelivery};
use crate::model::pipeline::run::{Entry, RunId, Status};
use crate::model::{ConsumerName, Delivery, DeliveryId, Envelope, Event, Payload, Priority, Seq, Timestamp};

/// A step's name in its pipeline, with a key: what waits for an event, and what an event is for.
type Wait = (ConsumerName, String, String);

#[derive(Clone, Default)]
pub(super) struct Runs {
    runs: BTreeMap<RunId, One>,
    errands: BTreeMap<DeliveryId, (RunId, StepDelivery)>,
    waits: BTreeMap<Wait, BTreeSet<(RunId, usize)>>,
    arrivals: BTreeMap<Wait, BTreeSet<Seq>>,
    timers: BTreeMap<(RunId, Option<usize>), Timestamp>,
}

#[derive(Clone)]
struct One {
    key: String,
    definition: Arc<Definition>,
    status: Status,
    journal: Vec<Entry>,
    outputs: BTreeMap<usize, Payload>,
}

impl Runs {
    /// Whether an event began a run that is open, or may be what one waits for.
    pub(super) fn need(&self, seq: Seq) -> bool {
        let open = self.runs.iter().any(|(id, run)| id.seq == seq && run.status.is_open());
        open || self.arrivals.values().any(|events| events.contains(&seq))
    }
}

/// A run as it is to be seen from outside.
#[derive(Clone, Debug)]
pub struct RunStanding {
    pub id: RunId,
    pub key: String,
    pub definition: Arc<Definition>,
    pub status: Status,
    pub journal: Vec<Entry>,
}

impl Log {
    pub(super) fn run_standings(&self) -> Vec<RunStanding> {
        let standing = |(id, run): (&RunId, &One)| RunStanding {
            id: id.clone(),
            key: run.key.clone(),
            definition: Arc::clone(&run.definition),
            status: run.status,
            journal: run.journal.clone(),
        };
        self.runs.runs.iter().map(standing).collect()
    }

    pub(super) fn errand(&self, id: &DeliveryId) -> Option<Errand> {
        if let Some((run, delivery)) = self.runs.errands.get(id) {
            return self.run(run)?.errand(run.clone(), delivery);
        }
        let job = self.event(id.seq)?.envelope.job.as_ref().filter(|_| self.waiting.contains_key(id))?;
        (job.to == id.consumer).then(|| Errand { retry: job.retry, ..Errand::default() })
    }

    pub(super) fn run_with(&self, pipeline: &ConsumerName, key: &str) -> Option<RunId> {
        let mut runs = self.runs.runs.iter();
        runs.find(|(id, run)| id.pipeline == *pipeline && run.key == key).map(|(id, _)| id.clone())
    }

    fn run(&self, id: &RunId) -> Option<Kept> {
        let One { key, definition, journal, outputs, .. } = self.runs.runs.get(id)?.clone();
        Some(Kept { event: Arc::clone(self.event(id.seq)?), key, definition, journal, outputs })
    }
}

impl Ledger for Log {
    type Error = Infallible;

    fn run_of(&self, pipeline: &ConsumerName, key: &str) -> Result<Option<RunId>, Infallible> {
        Ok(self.run_with(pipeline, key))
    }

    fn create(&mut self, run: &RunId, begins: &Begins, _: Timestamp) -> Result<(), Infallible> {
        let Begins { key, definition } = begins.clone();
        let one = One { key, definition, status: Status::Running, journal: Vec::new(), outputs: BTreeMap::new() };
        self.runs.runs.insert(run.clone(), one);
        Ok(())
    }

    fn kept(&mut self, run: &RunId) -> Result<Option<Kept>, Infallible> {
        Ok(self.run(run))
    }

    fn write(&mut self, run: &RunId, written: &Written<'_>, _: Timestamp) -> Result<(), Infallible> {
        if let Some(one) = self.runs.runs.get_mut(run) {
            one.status = written.status;
            one.journal.extend(written.entries.iter().cloned());
            one.outputs.extend(written.outputs.iter().cloned());
        }
        Ok(())
    }

    fn make(
        &mut self,
        run: &RunId,
        consumer: &ConsumerName,
        step: StepDelivery,
        now: Timestamp,
    ) -> Result<Waiting, Infallible> {
        let first = DeliveryId { seq: run.seq, consumer: consumer.clone(), round: 0 };
        let id = DeliveryId { round: self.next_round(&first), ..first };
        let waiting = Waiting {
            id: id.clone(),
            delivery: Delivery::new(now),
            key: None,
            blocked: false,
            errand: true,
            priority: Priority::Normal,
        };
        self.waiting.insert(id.clone(), waiting.clone());
        self.runs.errands.insert(id, (run.clone(), step));
        Ok(waiting)
    }

    fn withdraw(&mut self, run: &RunId, now: Timestamp) -> Result<Vec<Waiting>, Infallible> {
        let mut withdrawn = Vec::new();
        for (id, (of, step)) in &mut self.runs.errands {
            let Some(waiting) = self.waiting.get_mut(id) else { continue };
            if of == run && !step.undo && !step.withdrawn {
                step.withdrawn = true;
                waiting.delivery.state = Delivery::new(now).state;
                withdrawn.push(waiting.clone());
            }
        }
        Ok(withdrawn)
    }

    fn wait_for(&mut self, run: &RunId, (step, name): (usize, &str), key: &str) -> Result<(), Infallible> {
        let wait = (run.pipeline.clone(), name.to_owned(), key.to_owned());
        self.runs.waits.entry(wait).or_default().insert((run.clone(), step));
        Ok(())
    }

    fn wait_no_more(&mut self, run: &RunId, step: usize) -> Result<(), Infallible> {
        for waits in self.runs.waits.values_mut() {
            waits.remove(&(run.clone(), step));
        }
        Ok(())
    }

    fn waiting_for(
        &mut self,
        pipeline: &ConsumerName,
        step: &str,
        key: &str,
    ) -> Result<Vec<(RunId, usize)>, Infallible> {
        let wait = (pipeline.clone(), step.to_owned(), key.to_owned());
        Ok(self.runs.waits.get(&wait).into_iter().flatten().cloned().collect())
    }

    fn arrived(&mut self, pipeline: &ConsumerName, step: &str, key: &str, event: Seq) -> Result<(), Infallible> {
        let wait = (pipeline.clone(), step.to_owned(), key.to_owned());
        self.runs.arrivals.entry(wait).or_default().insert(event);
        Ok(())
    }

    fn arrival(
        &mut self,
        pipeline: &ConsumerName,
        step: &str,
        key: &str,
        after: Seq,
    ) -> Result<Option<Seq>, Infallible> {
        let wait = (pipeline.clone(), step.to_owned(), key.to_owned());
        Ok(self.runs.arrivals.get(&wait).and_then(|events| events.range(after + 1..).next().copied()))
    }

    fn set_timer(&mut self, run: &RunId, step: Option<usize>, at: Timestamp) -> Result<(), Infallible> {
        self.runs.timers.insert((run.clone(), step), at);
        Ok(())
    }

    fn stop_timer(&mut self, run: &RunId, step: Option<usize>) -> Result<(), Infallible> {
        self.runs.timers.remove(&(run.clone(), step));
        Ok(())
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<(RunId, Option<usize>)>, Infallible> {
        let mut due: Vec<_> = self.runs.timers.iter().filter(|(_, at)| **at <= now).collect();
        due.sort_by_key(|(timer, at)| (**at, (*timer).clone()));
        Ok(due.into_iter().take(limit).map(|(timer, _)| timer.clone()).collect())
    }

    fn next_timer(&mut self) -> Result<Option<Timestamp>, Infallible> {
        Ok(self.runs.timers.values().min().copied())
    }

    fn event(&mut self, seq: Seq) -> Result<Option<Arc<Event>>, Infallible> {
        Ok(Self::event(self, seq).cloned())
    }

    fn publish(&mut self, envelope: Envelope, now: Timestamp) -> Result<Option<Arc<Event>>, Infallible> {
        Ok(if self.taken(&envelope).is_some() { None } else { Some(self.push(envelope, now)) })
    }
}
