//! Coarse clocks, so that a guest cannot measure its neighbours: the wall clock stands still at the attempt's start,
//! the monotonic clock counts milliseconds from it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::{self, Instant};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::{self, Datetime};
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::super::instance::Host;
use crate::clock::Clock;

const RESOLUTION_NS: u64 = 1_000_000;

impl wall_clock::Host for Host {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        self.account.enter(0)?;
        let micros = u64::try_from(self.started_at.0).unwrap_or(0);
        let nanoseconds = u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
        Ok(Datetime { seconds: micros / 1_000_000, nanoseconds })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        self.account.enter(0)?;
        Ok(Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}

impl monotonic_clock::Host for Host {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        self.account.enter(0)?;
        Ok(self.elapsed_ns())
    }

    fn resolution(&mut self) -> wasmtime::Result<Instant> {
        self.account.enter(0)?;
        Ok(RESOLUTION_NS)
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        self.account.enter(0)?;
        self.timer(when)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.account.enter(0)?;
        let when = self.elapsed_ns().saturating_add(duration);
        self.timer(when)
    }
}

impl Host {
    fn elapsed_ns(&self) -> u64 {
        let elapsed = self.clock.monotonic().saturating_sub(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).saturating_mul(RESOLUTION_NS)
    }

    fn timer(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        // Whatever lies behind the deadline will not be seen: a year is as good as an hour.
        let unseen = self.deadline.latest().saturating_add(Duration::from_secs(3_600));
        let at = self.started.saturating_add(Duration::from_nanos(when)).min(unseen);
        let timer = self.table.push(Timer { at, clock: Arc::clone(&self.clock) })?;
        subscribe(&mut self.table, timer)
    }
}

struct Timer {
    at: Duration,
    clock: Arc<dyn Clock>,
}

impl Pollable for Timer {
    fn ready<'life0, 'async_trait>(&'life0 mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        if self.clock.monotonic() >= self.at {
            return Box::pin(std::future::ready(()));
        }
        self.clock.sleep_until(self.at)
    }
}
