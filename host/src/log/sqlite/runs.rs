//! Runs, as SQLite keeps them.

use std::sync::Arc;

use crate::log::Waiting;
use crate::log::runs::{Ledger, Written};
use crate::model::pipeline::errand::Begins;
use crate::model::pipeline::kept::{Kept, StepDelivery};
use crate::model::pipeline::run::RunId;
use crate::model::{ConsumerName, Delivery, Envelope, Event, Priority, Seq, Timestamp};
use crate::store::{Error, Inserted, WaitingRow, Writer};

impl Ledger for Writer {
    type Error = Error;

    fn run_of(&self, pipeline: &ConsumerName, key: &str) -> Result<Option<RunId>, Error> {
        self.run_with_key(pipeline, key)
    }

    fn create(&mut self, run: &RunId, begins: &Begins, now: Timestamp) -> Result<(), Error> {
        self.create_run(run, &begins.key, &begins.definition, now)
    }

    fn kept(&mut self, run: &RunId) -> Result<Option<Kept>, Error> {
        self.run(run)
    }

    fn write(&mut self, run: &RunId, written: &Written<'_>, now: Timestamp) -> Result<(), Error> {
        self.write_journal(run, written.before, written.entries, now)?;
        for (step, output) in written.outputs {
            self.write_output(run, *step, output)?;
        }
        self.set_run_status(run, written.status, now)
    }

    fn make(
        &mut self,
        run: &RunId,
        consumer: &ConsumerName,
        step: StepDelivery,
        now: Timestamp,
    ) -> Result<Waiting, Error> {
        let id = self.make_step(run, consumer, step, now)?;
        Ok(Waiting {
            id,
            delivery: Delivery::new(now),
            key: None,
            blocked: false,
            errand: true,
            priority: Priority::Normal,
        })
    }

    fn withdraw(&mut self, run: &RunId, now: Timestamp) -> Result<Vec<Waiting>, Error> {
        let row = |WaitingRow { id, delivery, key, blocked, errand, priority }| Waiting {
            id,
            delivery,
            key,
            blocked,
            errand,
            priority,
        };
        Ok(self.withdraw_steps(run, now)?.into_iter().map(row).collect())
    }

    fn wait_for(&mut self, run: &RunId, step: (usize, &str), key: &str) -> Result<(), Error> {
        Self::wait_for(self, run, step, key)
    }

    fn wait_no_more(&mut self, run: &RunId, step: usize) -> Result<(), Error> {
        self.wait_for_no_more(run, step)
    }

    fn waiting_for(&mut self, pipeline: &ConsumerName, step: &str, key: &str) -> Result<Vec<(RunId, usize)>, Error> {
        Self::waiting_for(self, pipeline, step, key)
    }

    fn arrived(&mut self, pipeline: &ConsumerName, step: &str, key: &str, event: Seq) -> Result<(), Error> {
        self.note_arrival(pipeline, step, key, event)
    }

    fn arrival(&mut self, pipeline: &ConsumerName, step: &str, key: &str, after: Seq) -> Result<Option<Seq>, Error> {
        Self::arrival(self, pipeline, step, key, after)
    }

    fn set_timer(&mut self, run: &RunId, step: Option<usize>, at: Timestamp) -> Result<(), Error> {
        Self::set_timer(self, run, step, at)
    }

    fn stop_timer(&mut self, run: &RunId, step: Option<usize>) -> Result<(), Error> {
        Self::stop_timer(self, run, step)
    }

    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<(RunId, Option<usize>)>, Error> {
        self.due_timers(now, limit)
    }

    fn next_timer(&mut self) -> Result<Option<Timestamp>, Error> {
        Self::next_timer(self)
    }

    fn event(&mut self, seq: Seq) -> Result<Option<Arc<Event>>, Error> {
        Ok(Self::event(self, seq)?.map(Arc::new))
    }

    fn publish(&mut self, envelope: Envelope, now: Timestamp) -> Result<Option<Arc<Event>>, Error> {
        match self.append(&envelope, now)? {
            Inserted::New(seq) => Ok(Some(Arc::new(Event { seq, accepted_at: now, envelope }))),
            Inserted::Duplicate(_) | Inserted::Conflict(_) => Ok(None),
        }
    }
}
