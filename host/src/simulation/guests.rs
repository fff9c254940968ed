//! Guests that do what the schedule says: each call of a handler hangs until it is told what it came to.

use std::collections::BTreeMap;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use super::clock::SimulatedClock;
use crate::clock::Clock as _;
use crate::log::memory::MemoryLog;
use crate::model::{ConsumerSpec, DeliveryId, Digest, Report, Timestamp};
use crate::sandbox::{Call, Exports, Invoke};

/// Keys of every consumer's state.
pub(super) const KEYS: [&str; 2] = ["count", "sum"];

/// What a process has of guests.
pub(super) struct Guests(Mutex<State>);

struct State {
    log: Arc<MemoryLog>,
    clock: SimulatedClock,
    running: Vec<Running>,
    notes: Vec<Note>,
    next: u64,
}

/// What happened in the sandbox, in order.
pub(super) enum Note {
    Begun(Begun),
    /// The host let go of it before it ended.
    Dropped(Vec<DeliveryId>),
}

/// A call of a handler.
#[derive(Clone)]
pub(super) struct Begun {
    pub(super) token: u64,
    pub(super) spec: Arc<ConsumerSpec>,
    pub(super) digest: Digest,
    /// One, or a batch.
    pub(super) calls: Vec<Arc<Call>>,
    pub(super) batch: bool,
    pub(super) at: Duration,
    pub(super) started_at: Timestamp,
    /// Of each key of state, its number and the version that was read.
    pub(super) state: BTreeMap<&'static str, (u64, u64)>,
    /// It does not end by itself.
    pub(super) spins: bool,
}

impl Begun {
    /// How long the call may take: a step's own limit holds instead of the consumer's.
    pub(super) fn timeout(&self) -> Duration {
        let own = self.calls.first().and_then(|call| call.limits.timeout);
        own.unwrap_or(self.spec.limits.timeout)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = DeliveryId> {
        self.calls.iter().map(|call| DeliveryId {
            seq: call.event.seq,
            consumer: self.spec.name.clone(),
            round: call.round,
        })
    }
}

struct Running {
    begun: Begun,
    reply: oneshot::Sender<Result<Vec<Report>, Report>>,
}

impl Guests {
    pub(super) fn new(log: Arc<MemoryLog>, clock: SimulatedClock) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { log, clock, running: Vec::new(), notes: Vec::new(), next: 1 })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(super) fn notes(&self) -> Vec<Note> {
        mem::take(&mut self.state().notes)
    }

    /// Counts the calls so far: whether anything is going on.
    pub(super) fn called(&self) -> u64 {
        self.state().next
    }

    /// Calls in hand that could end, oldest first.
    pub(super) fn running(&self) -> Vec<u64> {
        self.state().running.iter().filter(|running| !running.begun.spins).map(|running| running.begun.token).collect()
    }

    pub(super) fn begun(&self, token: u64) -> Option<Begun> {
        self.state().running.iter().find(|running| running.begun.token == token).map(|running| running.begun.clone())
    }

    /// From now on the call does not end before its limit.
    pub(super) fn spin(&self, token: u64) {
        if let Some(running) = self.state().running.iter_mut().find(|running| running.begun.token == token) {
            running.begun.spins = true;
        }
    }

    /// Calls whose time is up.
    pub(super) fn over_time(&self) -> Vec<u64> {
        let state = self.state();
        let now = state.clock.monotonic();
        let over = state.running.iter().filter(|running| running.begun.at + running.begun.timeout() <= now);
        over.map(|running| running.begun.token).collect()
    }

    /// A call comes to this.
    pub(super) fn end(&self, token: u64, reports: Result<Vec<Report>, Report>) {
        let mut state = self.state();
        if let Some(at) = state.running.iter().position(|running| running.begun.token == token) {
            let running = state.running.remove(at);
            drop(state);
            // The host may have let go of it.
            drop(running.reply.send(reports));
        }
    }

    fn begin(
        &self,
        guest: &Guest,
        calls: Vec<Call>,
        batch: bool,
    ) -> (u64, oneshot::Receiver<Result<Vec<Report>, Report>>) {
        let (reply, ended) = oneshot::channel();
        let mut state = self.state();
        let token = state.next;
        state.next += 1;
        let number = |key: &&'static str| {
            let found = state.log.state_get(&guest.spec.name, key);
            let found = found.map(|(value, version)| (number(&value), version));
            (*key, found.unwrap_or_default())
        };
        let begun = Begun {
            token,
            spec: guest.spec.clone(),
            digest: guest.digest,
            calls: calls.into_iter().map(Arc::new).collect(),
            batch,
            at: state.clock.monotonic(),
            started_at: state.clock.now(),
            state: KEYS.iter().map(number).collect(),
            spins: false,
        };
        state.notes.push(Note::Begun(begun.clone()));
        state.running.push(Running { begun, reply });
        (token, ended)
    }

    fn drop_call(&self, token: u64) {
        let mut state = self.state();
        if let Some(at) = state.running.iter().position(|running| running.begun.token == token) {
            let running = state.running.remove(at);
            state.notes.push(Note::Dropped(running.begun.ids().collect()));
        }
    }
}

/// A number as state keeps it; whatever stands behind a blank is filling.
pub(super) fn number(value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// A component.
pub(super) struct Guest {
    pub(super) spec: Arc<ConsumerSpec>,
    pub(super) digest: Digest,
    pub(super) guests: Arc<Guests>,
}

/// Tells the sandbox when its call is let go.
struct Held<'a>(&'a Guests, u64);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.drop_call(self.1);
    }
}

impl Guest {
    async fn call(&self, calls: Vec<Call>, batch: bool) -> Result<Vec<Report>, Report> {
        let (token, ended) = self.guests.begin(self, calls, batch);
        let _held = Held(&self.guests, token);
        match ended.await {
            Ok(reports) => reports,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Invoke for Guest {
    fn exports(&self) -> Exports {
        Exports::ALL
    }

    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>> {
        Box::pin(async move {
            match self.call(vec![call], false).await {
                Ok(mut reports) => reports.remove(0),
                Err(report) => report,
            }
        })
    }

    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>> {
        Box::pin(self.call(calls, true))
    }
}
