//! What a log keeps of runs, and how it is asked.

use std::sync::Arc;

use crate::log::Waiting;
use crate::model::pipeline::errand::Begins;
use crate::model::pipeline::kept::{Kept, StepDelivery};
use crate::model::pipeline::run::{Entry, RunId, Status};
use crate::model::{ConsumerName, Envelope, Event, Payload, Seq, Timestamp};

/// A line of the journal as it is written: what followed from one input.
pub(in crate::log) struct Written<'a> {
    /// Entries that the journal has already.
    pub(in crate::log) before: usize,
    pub(in crate::log) entries: &'a [Entry],
    /// What steps that are done left behind.
    pub(in crate::log) outputs: &'a [(usize, Payload)],
    pub(in crate::log) status: Status,
}

/// What a log keeps of runs.
pub(in crate::log) trait Ledger {
    type Error;

    fn run_of(&self, pipeline: &ConsumerName, key: &str) -> Result<Option<RunId>, Self::Error>;
    fn create(&mut self, run: &RunId, begins: &Begins, now: Timestamp) -> Result<(), Self::Error>;
    fn kept(&mut self, run: &RunId) -> Result<Option<Kept>, Self::Error>;
    fn write(&mut self, run: &RunId, written: &Written<'_>, now: Timestamp) -> Result<(), Self::Error>;

    /// Makes a delivery of the run's event, due at once.
    fn make(
        &mut self,
        run: &RunId,
        consumer: &ConsumerName,
        step: StepDelivery,
        now: Timestamp,
    ) -> Result<Waiting, Self::Error>;
    /// Marks what the run has made and what is not over as withdrawn and due at once, but for compensations.
    fn withdraw(&mut self, run: &RunId, now: Timestamp) -> Result<Vec<Waiting>, Self::Error>;

    /// Notes that a step of the run waits for this key.
    fn wait_for(&mut self, run: &RunId, step: (usize, &str), key: &str) -> Result<(), Self::Error>;
    fn wait_no_more(&mut self, run: &RunId, step: usize) -> Result<(), Self::Error>;
    /// Steps of runs that wait for this key.
    fn waiting_for(
        &mut self,
        pipeline: &ConsumerName,
        step: &str,
        key: &str,
    ) -> Result<Vec<(RunId, usize)>, Self::Error>;
    /// Notes that an event has this key, whether or not anybody waits for it yet.
    fn arrived(&mut self, pipeline: &ConsumerName, step: &str, key: &str, event: Seq) -> Result<(), Self::Error>;
    /// The first event after the given one that had this key.
    fn arrival(
        &mut self,
        pipeline: &ConsumerName,
        step: &str,
        key: &str,
        after: Seq,
    ) -> Result<Option<Seq>, Self::Error>;

    /// `step`: none is the run itself.
    fn set_timer(&mut self, run: &RunId, step: Option<usize>, at: Timestamp) -> Result<(), Self::Error>;
    fn stop_timer(&mut self, run: &RunId, step: Option<usize>) -> Result<(), Self::Error>;
    fn due(&mut self, now: Timestamp, limit: usize) -> Result<Vec<(RunId, Option<usize>)>, Self::Error>;
    fn next_timer(&mut self) -> Result<Option<Timestamp>, Self::Error>;

    /// None: retention has taken it.
    fn event(&mut self, seq: Seq) -> Result<Option<Arc<Event>>, Self::Error>;
    /// None: it is in the log already.
    fn publish(&mut self, envelope: Envelope, now: Timestamp) -> Result<Option<Arc<Event>>, Self::Error>;
}
