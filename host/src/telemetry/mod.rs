//! Numbers about the host, for Prometheus. [`names`] lists every series there is; [`Metrics`] holds those that are counted as
//! things happen, in atomics, so that counting costs nothing worth measuring; the rest is read when somebody asks ([`Gauges`]).
//! Labels are consumers, pipelines, outcomes and statuses only, never anything a client can choose.

pub mod names;
pub mod process;
mod render;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use crate::model::outcome::Usage;
use crate::model::pipeline::run::Status;
use crate::model::record::ConsumerRecord;
use crate::model::{ConsumerName, Generation, Outcome, Priority, QueryOutcome, Timestamp};

pub use render::{Format, render};

/// Upper bounds of the attempts' durations, in seconds.
pub const ATTEMPT_BUCKETS: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// Upper bounds of a commit's duration, in seconds.
pub const COMMIT_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0];
/// Upper bounds of how many settlements one commit held.
pub const BATCH_BUCKETS: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// A histogram with fixed bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than there are bounds; the last is beyond all of them.
    buckets: Vec<AtomicU64>,
    /// In millionths.
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts a value of so many millionths.
    fn observe(&self, millionths: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a bucket need not be exact to 53 bits")]
        let value = millionths as f64 / 1e6;
        let at = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(millionths, Relaxed);
    }
}

#[derive(Debug)]
struct ConsumerNumbers {
    /// By outcome, in the order of [`Outcome::ALL`].
    attempts: [AtomicU64; Outcome::ALL.len()],
    duration: Histogram,
    fuel: AtomicU64,
    dead_letters: AtomicU64,
    conflicts: AtomicU64,
    ephemeral_lost: AtomicU64,
}

impl Default for ConsumerNumbers {
    fn default() -> Self {
        Self {
            attempts: Default::default(),
            duration: Histogram::new(&ATTEMPT_BUCKETS),
            fuel: AtomicU64::new(0),
            dead_letters: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
            ephemeral_lost: AtomicU64::new(0),
        }
    }
}

/// Of one responder, or of questions that reached none.
#[derive(Debug)]
struct QueryNumbers {
    /// By outcome, in the order of [`QueryOutcome::ALL`].
    outcomes: [AtomicU64; QueryOutcome::ALL.len()],
    duration: Histogram,
}

impl Default for QueryNumbers {
    fn default() -> Self {
        Self { outcomes: Default::default(), duration: Histogram::new(&ATTEMPT_BUCKETS) }
    }
}

/// What is counted as it happens.
#[derive(Debug)]
pub struct Metrics {
    /// By responder; none for questions that reached nobody.
    queries: RwLock<BTreeMap<Option<ConsumerName>, Arc<QueryNumbers>>>,
    consumers: RwLock<BTreeMap<ConsumerName, Arc<ConsumerNumbers>>>,
    replayed: AtomicU64,
    /// By pipeline and how they ended.
    runs: RwLock<BTreeMap<(ConsumerName, &'static str), u64>>,
    accepted: AtomicU64,
    duplicates: AtomicU64,
    settle_batch: Histogram,
    settle_duration: Histogram,
    reloads_done: AtomicU64,
    reloads_refused: AtomicU64,
    host_panics: AtomicU64,
    generation: AtomicU64,
    ballast: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            queries: RwLock::new([(None, Arc::default())].into()),
            consumers: RwLock::default(),
            replayed: AtomicU64::new(0),
            runs: RwLock::default(),
            accepted: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            settle_batch: Histogram::new(&BATCH_BUCKETS),
            settle_duration: Histogram::new(&COMMIT_BUCKETS),
            reloads_done: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            host_panics: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            ballast: AtomicU64::new(0),
        }
    }
}

impl Metrics {
    /// Starts the series of these consumers at zero, so that a first failure is seen as an increase.
    pub fn consumers<'a>(&self, names: impl IntoIterator<Item = &'a ConsumerName>) {
        for name in names {
            drop(self.consumer(name));
        }
    }

    fn consumer(&self, name: &ConsumerName) -> Arc<ConsumerNumbers> {
        let known = self.consumers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        known.unwrap_or_else(|| {
            let mut consumers = self.consumers.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(consumers.entry(name.clone()).or_default())
        })
    }

    /// An attempt has ended.
    pub fn attempt(&self, consumer: &ConsumerName, outcome: Outcome, usage: Usage) {
        let numbers = self.consumer(consumer);
        let at = Outcome::ALL.iter().position(|known| *known == outcome);
        if let Some(count) = at.and_then(|at| numbers.attempts.get(at)) {
            count.fetch_add(1, Relaxed);
        }
        numbers.duration.observe(micros(usage.duration));
        numbers.fuel.fetch_add(usage.fuel, Relaxed);
    }

    /// Starts the series of these responders at zero.
    pub fn responders<'a>(&self, names: impl IntoIterator<Item = &'a ConsumerName>) {
        for name in names {
            drop(self.responder(Some(name)));
        }
    }

    fn responder(&self, name: Option<&ConsumerName>) -> Arc<QueryNumbers> {
        let name = name.cloned();
        let known = self.queries.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        known.unwrap_or_else(|| {
            let mut queries = self.queries.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(queries.entry(name).or_default())
        })
    }

    /// A question is over.
    pub fn query(&self, responder: Option<&ConsumerName>, outcome: QueryOutcome, duration: Duration) {
        let numbers = self.responder(responder);
        let at = QueryOutcome::ALL.iter().position(|known| *known == outcome);
        if let Some(count) = at.and_then(|at| numbers.outcomes.get(at)) {
            count.fetch_add(1, Relaxed);
        }
        numbers.duration.observe(micros(duration));
    }

    /// A delivery has died.
    pub fn dead_letter(&self, consumer: &ConsumerName) {
        self.consumer(consumer).dead_letters.fetch_add(1, Relaxed);
    }

    /// Events have become durable.
    pub fn accepted(&self, events: u64) {
        self.accepted.fetch_add(events, Relaxed);
    }

    /// How many events an ephemeral consumer did not get so far.
    pub fn lost(&self, consumer: &ConsumerName) -> u64 {
        let consumers = self.consumers.read().unwrap_or_else(PoisonError::into_inner);
        consumers.get(consumer).map_or(0, |numbers| numbers.ephemeral_lost.load(Relaxed))
    }

    /// A replay has made deliveries.
    pub fn replayed(&self, deliveries: u64) {
        self.replayed.fetch_add(deliveries, Relaxed);
    }

    /// A run has ended.
    pub fn run_ended(&self, pipeline: &ConsumerName, status: Status) {
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        *runs.entry((pipeline.clone(), status.as_str())).or_default() += 1;
    }

    /// Starts the series of these pipelines at zero.
    pub fn pipelines<'a>(&self, names: impl IntoIterator<Item = &'a ConsumerName>) {
        let mut runs = self.runs.write().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            for status in Status::ALL.into_iter().filter(|status| !status.is_open()) {
                runs.entry((name.clone(), status.as_str())).or_default();
            }
        }
    }

    /// Events were sent that were there already.
    pub fn duplicates(&self, events: u64) {
        self.duplicates.fetch_add(events, Relaxed);
    }

    /// A commit of `settlements` took `duration`, from its first settlement's arrival to the disk.
    pub fn settled(&self, settlements: u64, duration: Duration) {
        self.settle_batch.observe(settlements.saturating_mul(1_000_000));
        self.settle_duration.observe(micros(duration));
    }

    /// So much room is kept on the disk from now on.
    pub fn ballast(&self, bytes: u64) {
        self.ballast.store(bytes, Relaxed);
    }

    /// A settlement came to nothing because what the attempt had read was no longer true.
    pub fn conflict(&self, consumer: &ConsumerName) {
        self.consumer(consumer).conflicts.fetch_add(1, Relaxed);
    }

    /// Events did not reach an ephemeral consumer, because it did not keep up.
    pub fn ephemeral_lost(&self, consumer: &ConsumerName, events: u64) {
        self.consumer(consumer).ephemeral_lost.fetch_add(events, Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn host_panics(&self) -> u64 {
        self.host_panics.load(Relaxed)
    }

    /// The host itself panicked, and caught it.
    pub fn host_panic(&self) {
        self.host_panics.fetch_add(1, Relaxed);
    }

    /// A generation has become live, with these consumers.
    pub fn generation<'a>(&self, generation: Generation, consumers: impl IntoIterator<Item = &'a ConsumerName>) {
        self.generation.store(generation.0, Relaxed);
        self.consumers(consumers);
    }

    /// A reload has made a new generation live, or was refused.
    pub fn reload(&self, done: bool) {
        let count = if done { &self.reloads_done } else { &self.reloads_refused };
        count.fetch_add(1, Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What is read from elsewhere when somebody asks for the numbers.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    pub now: Timestamp,
    /// With `running` filled in.
    pub consumers: Vec<ConsumerRecord>,
    /// Deliveries of jobs that are not final, by consumer and priority.
    pub jobs: Vec<(ConsumerName, Priority, u64)>,
    /// Runs that have not ended, by pipeline and status.
    pub runs: Vec<(ConsumerName, Status, u64)>,
    pub log_bytes: u64,
    pub last_sequence: u64,
    pub process: process::Process,
}

#[cfg(test)]
mod tests;
