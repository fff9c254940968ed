//! One attempt: a store made for it, the handler called in a fresh instance, a report.

use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use wasmtime::component::Component;
use wasmtime::{Engine, Store, UpdateDeadline};

use super::bindings::{CompensatingPre, ConsumerPre, types};
use super::cause::Cause;
use super::classify::{self, Verdict};
use super::deadline::Allowance;
use super::engine::Ticker;
use super::exports::{Entries, Exports};
use super::instance::{Consumer, Host};
use super::limits::{MemoryBudget, Stop};
use super::{Answered, Call, Invoke, QuestionCall, Undo, convert};
use crate::clock::Clock;
use crate::model::limit::ANSWER_PAYLOAD_BYTES_MAX;
use crate::model::question::Unanswered;
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
    pub(super) answer_permits: Semaphore,
    pub(super) memory: Arc<MemoryBudget>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) event_bytes_max: usize,
    /// Panics of the host itself during attempts.
    pub(super) panics: AtomicU64,
}

/// A consumer's component, compiled, linked and checked.
pub struct LoadedComponent {
    pub(super) runtime: Arc<Runtime>,
    pub(super) entries: Entries,
    pub(super) consumer: Arc<Consumer>,
    /// For others of the same bytes to find, for as long as this one is used.
    #[expect(dead_code, reason = "held until it is dropped")]
    pub(super) component: Arc<Component>,
}

impl std::fmt::Debug for LoadedComponent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedComponent").field("consumer", &self.consumer.name).finish_non_exhaustive()
    }
}

impl Invoke for LoadedComponent {
    fn exports(&self) -> Exports {
        self.entries.exports()
    }

    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        match (&self.entries, call.undo().cloned()) {
            (Entries { compensator: Some(pre), .. }, Some(undo)) => Box::pin(self.compensate(pre, call, undo)),
            (_, Some(_)) => Box::pin(ready(self.without("compensator"))),
            (Entries { handler: Some(pre), .. }, None) => Box::pin(self.one(pre, call)),
            (Entries { batch_handler: Some(pre), .. }, None) => Box::pin(self.alone(pre, call)),
            (_, None) => Box::pin(ready(self.without("handler"))),
        }
    }

    fn answer(&self, call: QuestionCall) -> Pin<Box<dyn Future<Output = Answered> + Send + '_>> {
        match &self.entries.responder {
            Some(pre) => Box::pin(self.respond(pre, call)),
            None => {
                let reason = self.without("responder").reason.unwrap_or_default();
                let failed = Err(Unanswered::Failed(Outcome::Refused, reason));
                Box::pin(ready(Answered::bare(failed, self.runtime.clock.now())))
            }
        }
    }

    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        // A compensator has no batches: what is undone comes alone.
        if calls.iter().any(|call| call.undo().is_some()) {
            return Box::pin(ready(Err(self.without("compensator of batches"))));
        }
        match &self.entries.batch_handler {
            Some(pre) => Box::pin(self.many(pre, calls)),
            None => Box::pin(ready(Err(self.without("batch handler")))),
        }
    }
}

/// What a handler returns.
type Word = Result<Option<types::Payload>, types::Failure>;

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
        said(self.attempt(Cause::new(&call, &[]), self.limits(&call), handle).await)
    }

    async fn compensate(&self, pre: &CompensatingPre<Host>, call: Call, undo: Undo) -> Report {
        let delivery = convert::delivery(&call, self.consumer.name.as_str());
        let output = undo.output.as_ref().map(convert::given);
        let handle = async |store: &mut Store<Host>| {
            let instance = pre.instantiate_async(&mut *store).await?;
            let compensator = instance.tidegate_consumer_compensator();
            let word = compensator.call_compensate(store, &delivery, output.as_ref()).await?;
            Ok(word.map(|()| None))
        };
        said(self.attempt(Cause::new(&call, &[]), self.limits(&call), handle).await)
    }

    /// What is called is not there. No attempt would be better off, and whoever asks beforehand does not come here.
    fn without(&self, export: &str) -> Report {
        let reason = format!("the component of `{}` exports no {export}", self.consumer.name);
        Report::bare(Outcome::Refused, reason, self.runtime.clock.now())
    }

    /// What holds for this attempt.
    pub(super) fn limits(&self, call: &Call) -> Limits {
        self.consumer.limits.with(call.limits)
    }

    /// One attempt of everything in `cause`: what the handler returned, or the report of its failure.
    pub(super) async fn attempt<T>(
        &self,
        cause: Cause,
        limits: Limits,
        work: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
    ) -> Result<(T, Remains), Report> {
        self.under(cause, limits, Allowance::of(&limits), work).await
    }

    /// As [`Self::attempt`], of a handler or a responder, with so much time.
    pub(super) async fn under<T>(
        &self,
        cause: Cause,
        limits: Limits,
        allowance: Allowance,
        work: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
    ) -> Result<(T, Remains), Report> {
        let bare = |reason: String| Report::bare(Outcome::Interrupted, reason, self.runtime.clock.now());
        // Whoever waits for an answer has a permit and keeps it, so answers have their own.
        let permits = if cause.is_question() { &self.runtime.answer_permits } else { &self.runtime.permits };
        // Taken before the store is made and given back after it is dropped, so that the pool always has room.
        let Ok(_permit) = permits.acquire().await else {
            return Err(bare("the sandbox is closed".to_owned()));
        };
        let _ticking = self.runtime.ticker.tick();
        let mut store = self
            .store(cause, limits, allowance)
            .map_err(|error| Report { after: Some(NO_STORE_AGAIN), ..bare(error.to_string()) })?;
        let ended = self.bounded(&mut store, work).await;
        let ended = self.judged(&mut store, ended);
        let remains = self.remains(store);
        match ended {
            // What the host did for it counts as well, and may be known only now.
            Ok(_) if remains.usage.fuel > limits.fuel => Err(remains.report(classify::stopped(&Stop::Fuel, &limits))),
            Ok(value) => Ok((value, remains)),
            Err(verdict) => Err(remains.report(verdict)),
        }
    }

    /// Instantiates and drops: what would fail in every attempt fails here.
    pub(super) async fn dry_run(&self, cause: Cause, timeout: Duration) -> Result<(), Verdict> {
        let Ok(_permit) = self.runtime.permits.acquire().await else { return Ok(()) };
        let _ticking = self.runtime.ticker.tick();
        let store = self.store(cause, self.consumer.limits, Allowance::fixed(timeout));
        let mut store = store.map_err(|e| Verdict::new(Outcome::Trapped, e.to_string()))?;
        let start = async |store: &mut Store<Host>| self.entries.instance.instantiate_async(store).await.map(drop);
        let ended = self.bounded(&mut store, start).await;
        self.judged(&mut store, ended)
    }

    fn store(&self, cause: Cause, limits: Limits, allowance: Allowance) -> wasmtime::Result<Store<Host>> {
        let Runtime { engine, clock, memory, event_bytes_max, .. } = &*self.runtime;
        let host = Host::new(&self.consumer, cause, clock, memory, limits, allowance);
        let mut store = Store::try_new(engine, host)?;
        store.limiter(|host| &mut host.limiter);
        store.set_fuel(limits.fuel)?;
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
        store.set_hostcall_fuel((*event_bytes_max).max(ANSWER_PAYLOAD_BYTES_MAX).saturating_mul(HOSTCALL_PAYLOADS));
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
                let limits = &Limits { timeout: host.deadline.allowed(), ..host.limits };
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
        let fuel = host.limits.fuel.saturating_sub(fuel_left).saturating_add(host.account.debt());
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

/// A handler's word, or the failure that kept it from giving one.
fn said(ended: Result<(Word, Remains), Report>) -> Report {
    match ended {
        Ok((word, mut remains)) => {
            let verdict = classify::word(word, remains.refused.take());
            remains.report(verdict)
        }
        Err(failed) => failed,
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
            signal: None,
            logs: self.logs,
            logs_dropped: self.logs_dropped,
            started_at: self.started_at,
            usage: self.usage,
        }
    }
}
