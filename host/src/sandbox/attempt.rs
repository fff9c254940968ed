//! One attempt: a store made for it, the handler called in a fresh instance, a report.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use wasmtime::{Engine, Store, UpdateDeadline};

use super::bindings::{BatchConsumerPre, ConsumerPre};
use super::cause::Cause;
use super::classify::{self, Verdict};
use super::deadline::Allowance;
use super::engine::Ticker;
use super::instance::{Consumer, Host};
use super::limits::{MemoryBudget, Stop};
use super::{Call, Invoke, convert};
use crate::clock::Clock;
use crate::model::{Envelope, Limits, LogLine, Outcome, Report, StateChanges, Timestamp, Usage};

/// Fuel between two moments at which a guest lets others run; about 50 µs.
const YIELD_FUEL: u64 = 100_000;
/// Data that one call may carry from the guest to the host, as a multiple of the largest payload.
const HOSTCALL_PAYLOADS: usize = 4;
/// An attempt for which the host could not make a store runs again after this.
const NO_STORE_AGAIN: Duration = Duration::from_secs(1);
/// Resource handles of one attempt.
const HANDLES_MAX: usize = 1_000;

/// What all attempts of the process share.
pub(super) struct Runtime {
    pub(super) engine: Engine,
    pub(super) ticker: Ticker,
    pub(super) permits: Semaphore,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) event_bytes_max: usize,
    /// Panics of the host itself during attempts.
    pub(super) panics: AtomicU64,
}

/// What a component exports, ready to be started.
pub(super) enum Entry {
    Handler(ConsumerPre<Host>),
    BatchHandler(BatchConsumerPre<Host>),
}

/// A consumer's component, compiled, linked and checked.
pub struct LoadedComponent {
    pub(super) runtime: Arc<Runtime>,
    pub(super) entry: Entry,
    pub(super) consumer: Arc<Consumer>,
}

impl std::fmt::Debug for LoadedComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedComponent").field("consumer", &self.consumer.name).finish_non_exhaustive()
    }
}

impl Invoke for LoadedComponent {
    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        match &self.entry {
            Entry::Handler(pre) => Box::pin(self.one(pre, call)),
            Entry::BatchHandler(pre) => Box::pin(self.alone(pre, call)),
        }
    }

    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        match &self.entry {
            Entry::Handler(_) => Box::pin(std::future::ready(Err(self.takes_no_batches()))),
            Entry::BatchHandler(pre) => Box::pin(self.many(pre, calls)),
        }
    }
}

/// How the work inside the store ended.
enum Ended<T> {
    Returned(T),
    Failed(wasmtime::Error),
    Panicked,
}

impl LoadedComponent {
    async fn one(&self, pre: &ConsumerPre<Host>, call: Call) -> Report {
        let delivery = convert::delivery(&call, self.consumer.name.as_str());
        let handle = async |store: &mut Store<Host>| {
            let instance = pre.instantiate_async(&mut *store).await?;
            instance.tidegate_consumer_handler().call_handle(store, &delivery).await
        };
        match self.attempt(Cause::new(&call, &[]), handle).await {
            Ok((word, mut remains)) => {
                let verdict = classify::word(word, remains.refused.take());
                remains.report(verdict)
            }
            Err(failed) => failed,
        }
    }

    /// One attempt of everything in `cause`: what the handler returned, or the report of its failure.
    pub(super) async fn attempt<T>(
        &self,
        cause: Cause,
        work: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
    ) -> Result<(T, Remains), Report> {
        let bare = |reason: String| Report::bare(Outcome::Interrupted, reason, self.runtime.clock.now());
        // Taken before the store is made and given back after it is dropped, so that the pool always has room.
        let Ok(_permit) = self.runtime.permits.acquire().await else {
            return Err(bare("the sandbox is closed".to_owned()));
        };
        let _ticking = self.runtime.ticker.tick();
        let mut store = self
            .store(cause, Allowance::of(&self.consumer.limits))
            .map_err(|error| Report { after: Some(NO_STORE_AGAIN), ..bare(error.to_string()) })?;
        let ended = self.bounded(&mut store, work).await;
        let ended = self.judged(&mut store, ended);
        let remains = self.remains(store);
        match ended {
            // What the host did for it counts as well, and may be known only now.
            Ok(_) if remains.usage.fuel > self.consumer.limits.fuel => {
                Err(remains.report(classify::stopped(&Stop::Fuel, &self.consumer.limits)))
            }
            Ok(value) => Ok((value, remains)),
            Err(verdict) => Err(remains.report(verdict)),
        }
    }

    /// Instantiates and drops: what would fail in every attempt fails here.
    pub(super) async fn dry_run(&self, cause: Cause, timeout: Duration) -> Result<(), Verdict> {
        let Ok(_permit) = self.runtime.permits.acquire().await else { return Ok(()) };
        let _ticking = self.runtime.ticker.tick();
        let store = self.store(cause, Allowance::fixed(timeout));
        let mut store = store.map_err(|e| Verdict::new(Outcome::Trapped, e.to_string()))?;
        let start = async |store: &mut Store<Host>| match &self.entry {
            Entry::Handler(pre) => pre.instantiate_async(store).await.map(drop),
            Entry::BatchHandler(pre) => pre.instantiate_async(store).await.map(drop),
        };
        let ended = self.bounded(&mut store, start).await;
        self.judged(&mut store, ended)
    }

    fn store(&self, cause: Cause, allowance: Allowance) -> wasmtime::Result<Store<Host>> {
        let Runtime { engine, clock, memory, event_bytes_max, .. } = &*self.runtime;
        let host = Host::new(&self.consumer, cause, clock, memory, allowance);
        let mut store = Store::try_new(engine, host)?;
        store.limiter(|host| &mut host.limiter);
        store.set_fuel(self.consumer.limits.fuel)?;
        store.fuel_async_yield_interval(Some(YIELD_FUEL))?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            let host = context.data();
            if host.is_late() {
                return Err(Stop::Time.into());
            }
            if context.get_fuel()? < host.account.debt() {
                return Err(Stop::Fuel.into());
            }
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_hostcall_fuel(event_bytes_max.saturating_mul(HOSTCALL_PAYLOADS));
        store.set_max_component_handles(HANDLES_MAX);
        Ok(store)
    }

    /// Runs `work` until the deadline. A guest that computes is ended by the epoch, one that waits by the clock.
    async fn bounded<T>(
        &self,
        store: &mut Store<Host>,
        work: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
    ) -> Ended<T> {
        let (clock, deadline) = (&self.runtime.clock, store.data().deadline.clone());
        // The guest may have moved it by the time that it is reached.
        let late = async {
            while !deadline.is_over(clock.monotonic()) {
                clock.sleep_until(deadline.at()).await
            }
        };
        let work = AssertUnwindSafe(work(store)).catch_unwind();
        tokio::select! {
            biased;
            result = work => match result {
                Ok(Ok(value)) => Ended::Returned(value),
                Ok(Err(error)) => Ended::Failed(error),
                Err(_) => Ended::Panicked,
            },
            () = late => Ended::Failed(Stop::Time.into()),
        }
    }

    fn judged<T>(&self, store: &mut Store<Host>, ended: Ended<T>) -> Result<T, Verdict> {
        match ended {
            Ended::Returned(value) => Ok(value),
            Ended::Failed(error) => {
                let host = store.data();
                // What it was allowed in the end: a start has less than an attempt, *in progress* may have made it more.
                let limits = &Limits { timeout: host.deadline.allowed(), ..self.consumer.limits };
                let mut book = host.log.lock().unwrap_or_else(PoisonError::into_inner);
                book.settle();
                Err(classify::error(&error, limits, &host.limiter, book.lines()))
            }
            Ended::Panicked => {
                self.runtime.panics.fetch_add(1, Ordering::Relaxed);
                let reason = "the host failed while it served this attempt; this is a mistake in Tidegate itself";
                Err(Verdict::new(Outcome::Trapped, reason))
            }
        }
    }

    fn remains(&self, store: Store<Host>) -> Remains {
        let fuel_left = store.get_fuel().unwrap_or(0);
        let mut host = store.into_data();
        let fuel = self.consumer.limits.fuel.saturating_sub(fuel_left).saturating_add(host.account.debt());
        let duration = host.clock.monotonic().saturating_sub(host.started);
        let (logs, logs_dropped) = host.log.lock().unwrap_or_else(PoisonError::into_inner).finish();
        Remains {
            started_at: host.started_at,
            usage: Usage { duration, fuel, memory_peak: host.limiter.peak() },
            logs,
            logs_dropped,
            refused: host.refused(),
            published: std::mem::take(&mut host.held.events),
            state: host.state.into_changes(),
        }
    }
}

/// What an attempt leaves behind, however it ended.
pub(super) struct Remains {
    pub(super) started_at: Timestamp,
    pub(super) usage: Usage,
    pub(super) logs: Vec<LogLine>,
    pub(super) logs_dropped: u64,
    /// What the host had denied it for good.
    pub(super) refused: Option<String>,
    pub(super) published: Vec<Envelope>,
    pub(super) state: StateChanges,
}

impl Remains {
    /// All of it as one report. Effects are kept only with *done*.
    pub(super) fn report(self, verdict: Verdict) -> Report {
        let kept = verdict.outcome == Outcome::Done;
        Report {
            outcome: verdict.outcome,
            reason: verdict.reason,
            after: verdict.after,
            output: verdict.output,
            published: if kept { self.published } else { Vec::new() },
            state: if kept { self.state } else { StateChanges::default() },
            logs: self.logs,
            logs_dropped: self.logs_dropped,
            started_at: self.started_at,
            usage: self.usage,
        }
    }
}
