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

use super::bindings::types::{Failure, Payload};
use super::bindings::{ConsumerPre, types};
use super::classify::{self, Verdict};
use super::engine::Ticker;
use super::instance::{Consumer, Host};
use super::limits::{MemoryBudget, Stop};
use super::{Call, Invoke, convert};
use crate::clock::Clock;
use crate::model::{Limits, Outcome, Report, StateChanges, Usage};

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

/// A consumer's component, compiled, linked and checked.
pub struct LoadedComponent {
    pub(super) runtime: Arc<Runtime>,
    pub(super) pre: ConsumerPre<Host>,
    pub(super) consumer: Arc<Consumer>,
}

impl std::fmt::Debug for LoadedComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedComponent").field("consumer", &self.consumer.name).finish_non_exhaustive()
    }
}

impl Invoke for LoadedComponent {
    fn invoke_batch(&self, _: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        let reason = "the component takes no batches".to_owned();
        let report = Report::bare(Outcome::Trapped, reason, crate::model::Timestamp(0));
        Box::pin(std::future::ready(Err(report)))
    }

    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(self.attempt(call))
    }
}

/// How the work inside the store ended.
enum Ended<T> {
    Returned(T),
    Failed(wasmtime::Error),
    Panicked,
}

impl LoadedComponent {
    async fn attempt(&self, call: Call) -> Report {
        // Taken before the store is made and given back after it is dropped, so that the pool always has room.
        let Ok(_permit) = self.runtime.permits.acquire().await else {
            return Report::bare(Outcome::Interrupted, "the sandbox is closed".to_owned(), self.runtime.clock.now());
        };
        let _ticking = self.runtime.ticker.tick();
        let mut store = match self.store(&call, self.consumer.limits.timeout) {
            Ok(store) => store,
            Err(error) => {
                let report = Report::bare(Outcome::Interrupted, error.to_string(), self.runtime.clock.now());
                return Report { after: Some(NO_STORE_AGAIN), ..report };
            }
        };
        let delivery = convert::delivery(&call, self.consumer.name.as_str());
        let ended = self.bounded(&mut store, async |store| self.handle(store, &delivery).await).await;
        self.report(store, ended)
    }

    /// Instantiates and drops: what would fail in every attempt fails here.
    pub(super) async fn dry_run(&self, call: Call, timeout: Duration) -> Result<(), Verdict> {
        let Ok(_permit) = self.runtime.permits.acquire().await else { return Ok(()) };
        let _ticking = self.runtime.ticker.tick();
        let mut store = self.store(&call, timeout).map_err(|e| Verdict::new(Outcome::Trapped, e.to_string()))?;
        let start = async |store: &mut Store<Host>| self.pre.instantiate_async(store).await.map(drop);
        match self.bounded(&mut store, start).await {
            Ended::Returned(()) => Ok(()),
            ended => Err(self.verdict(&mut store, ended).1),
        }
    }

    fn store(&self, call: &Call, timeout: Duration) -> wasmtime::Result<Store<Host>> {
        let Runtime { engine, clock, memory, event_bytes_max, .. } = &*self.runtime;
        let host = Host::new(&self.consumer, call, clock, memory, timeout);
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
        let deadline = self.runtime.clock.sleep_until(store.data().deadline);
        let work = AssertUnwindSafe(work(store)).catch_unwind();
        tokio::select! {
            biased;
            result = work => match result {
                Ok(Ok(value)) => Ended::Returned(value),
                Ok(Err(error)) => Ended::Failed(error),
                Err(_) => Ended::Panicked,
            },
            () = deadline => Ended::Failed(Stop::Time.into()),
        }
    }

    async fn handle(
        &self,
        store: &mut Store<Host>,
        delivery: &types::Delivery,
    ) -> wasmtime::Result<Result<Option<Payload>, Failure>> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        instance.tidegate_consumer_handler().call_handle(store, delivery).await
    }

    fn verdict<T>(&self, store: &mut Store<Host>, ended: Ended<T>) -> (Option<T>, Verdict) {
        let limits = &self.consumer.limits;
        match ended {
            Ended::Returned(value) => (Some(value), Verdict::new(Outcome::Done, "")),
            Ended::Failed(error) => {
                let host = store.data();
                // A start alone has less time than an attempt.
                let limits = &Limits { timeout: host.deadline.saturating_sub(host.started), ..*limits };
                let mut book = host.log.lock().unwrap_or_else(PoisonError::into_inner);
                book.settle();
                (None, classify::error(&error, limits, &host.limiter, book.lines()))
            }
            Ended::Panicked => {
                self.runtime.panics.fetch_add(1, Ordering::Relaxed);
                let reason = "the host failed while it served this attempt; this is a mistake in Tidegate itself";
                (None, Verdict::new(Outcome::Trapped, reason))
            }
        }
    }

    fn report(&self, mut store: Store<Host>, ended: Ended<Result<Option<Payload>, Failure>>) -> Report {
        let limits = &self.consumer.limits;
        let (returned, mut verdict) = self.verdict(&mut store, ended);
        let fuel_left = store.get_fuel().unwrap_or(0);
        let mut host = store.into_data();
        let fuel = limits.fuel.saturating_sub(fuel_left).saturating_add(host.account.debt());
        if let Some(returned) = returned {
            verdict = classify::word(returned, host.refused());
            if fuel > limits.fuel {
                // What the host did for it counts as well, and may be known only now.
                verdict = classify::stopped(&Stop::Fuel, limits);
            }
        }
        let duration = host.clock.monotonic().saturating_sub(host.started);
        let usage = Usage { duration, fuel, memory_peak: host.limiter.peak() };
        let (logs, logs_dropped) = host.log.lock().unwrap_or_else(PoisonError::into_inner).finish();
        let kept = verdict.outcome == Outcome::Done;
        Report {
            outcome: verdict.outcome,
            reason: verdict.reason,
            after: verdict.after,
            output: verdict.output,
            published: if kept { std::mem::take(&mut host.held.events) } else { Vec::new() },
            state: if kept { host.state.into_changes() } else { StateChanges::default() },
            logs,
            logs_dropped,
            started_at: host.started_at,
            usage,
        }
    }
}
