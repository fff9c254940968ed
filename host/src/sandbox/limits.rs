//! What an attempt may use, counted as it uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

/// Memories, tables and core instances of one attempt. A composed component has several of each.
pub(super) const MEMORIES_MAX: u32 = 4;
pub(super) const TABLES_MAX: u32 = 8;
pub(super) const INSTANCES_MAX: u32 = 32;
/// Elements of one table.
pub(super) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Bytes of one table element, as the engine keeps it.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// Fuel for one call into the host, and for one byte that it carries: host work is no guest instruction, so the host
/// charges for it.
const CALL_FUEL: u64 = 1_000;
/// Work of the host for one guest after which other threads get the processor: a guest that calls in a loop computes little between
/// its calls, and would come late to the pauses that it makes for computing.
const ROOM_FUEL: u64 = 100_000;

/// Linear memory of all attempts of the process together.
pub(super) struct MemoryBudget {
    used: AtomicU64,
    max: u64,
}

impl MemoryBudget {
    pub(super) fn new(max: u64) -> Self {
        Self { used: AtomicU64::new(0), max }
    }

    fn take(&self, bytes: u64) -> bool {
        let taken = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Who said no to more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The consumer's own limit, in bytes.
    Attempt(u64),
    /// All attempts of the host together, in bytes.
    Host(u64),
}

/// One attempt's memory: the sum over all its memories and tables, not each by itself.
pub(super) struct Limiter {
    budget: Arc<MemoryBudget>,
    max: u64,
    used: u64,
    linear: u64,
    linear_peak: u64,
    denied: Option<Denied>,
    /// What was allowed last; given back if the growth then failed.
    last: u64,
}

impl Limiter {
    pub(super) fn new(budget: Arc<MemoryBudget>, max: u64) -> Self {
        Self { budget, max, used: 0, linear: 0, linear_peak: 0, denied: None, last: 0 }
    }

    pub(super) fn peak(&self) -> u64 {
        self.linear_peak
    }

    pub(super) fn denied(&self) -> Option<Denied> {
        self.denied
    }

    pub(super) fn remaining(&self) -> u64 {
        self.max.saturating_sub(self.used)
    }

    fn grow(&mut self, bytes: u64) -> bool {
        if self.used.checked_add(bytes).is_none_or(|sum| sum > self.max) {
            self.denied = Some(Denied::Attempt(self.max));
            return false;
        }
        if !self.budget.take(bytes) {
            // More than the host has for all is nobody else's doing.
            let alone = self.used.saturating_add(bytes) > self.budget.max;
            self.denied = Some(if alone { Denied::Attempt(self.budget.max) } else { Denied::Host(self.budget.max) });
            return false;
        }
        self.used += bytes;
        self.last = bytes;
        true
    }

    fn undo(&mut self) {
        let bytes = std::mem::take(&mut self.last);
        self.used -= bytes;
        self.budget.give(bytes);
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        self.budget.give(self.used);
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own maximum or the pool's: not granted, and nothing is counted.
            self.denied.get_or_insert(Denied::Attempt(self.max));
            return Ok(false);
        }
        let bytes = desired.saturating_sub(current) as u64;
        if !self.grow(bytes) {
            return Ok(false);
        }
        self.linear += bytes;
        self.linear_peak = self.linear_peak.max(self.linear);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.linear = self.linear.saturating_sub(self.last);
        self.undo();
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > TABLE_ELEMENTS_MAX || maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow(desired.saturating_sub(current) as u64 * TABLE_ELEMENT_BYTES))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.undo();
        Ok(())
    }

    fn instances(&self) -> usize {
        INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

/// Why the host ends an attempt.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    #[error("time limit reached")]
    Time,
    #[error("fuel limit reached")]
    Fuel,
    #[error("more than {0} calls into the host")]
    HostCalls(u32),
    #[error("asked for {asked} random bytes at once; the limit is {max}")]
    Random { asked: u64, max: u64 },
    #[error("asked for {asked} {what}; the limit is {max}")]
    Cap { what: &'static str, asked: usize, max: usize },
    #[error("the guest called exit({0})")]
    Exit(u8),
}

/// Calls into the host and what they cost.
pub(super) struct Account {
    calls: u32,
    calls_max: u32,
    /// Fuel for host work, added to the guest's own instructions.
    debt: u64,
    fuel_max: u64,
    /// The debt at which other threads get the processor next.
    room_at: u64,
}

impl Account {
    pub(super) fn new(calls_max: u32, fuel_max: u64) -> Self {
        Self { calls: 0, calls_max, debt: 0, fuel_max, room_at: ROOM_FUEL }
    }

    /// At the beginning of every import: counts the call and charges for it and for the `bytes` it carries.
    pub(super) fn enter(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.calls += 1;
        if self.calls > self.calls_max {
            return Err(Stop::HostCalls(self.calls_max).into());
        }
        self.charge(bytes);
        if self.debt > self.fuel_max { Err(Stop::Fuel.into()) } else { Ok(()) }
    }

    /// Charges without counting: for standard streams, whose writes never fail. What is owed is collected at the
    /// next tick and at the end.
    pub(super) fn charge(&mut self, bytes: usize) {
        self.debt = self.debt.saturating_add(CALL_FUEL).saturating_add(bytes as u64);
        if self.debt >= self.room_at {
            self.room_at = self.debt.saturating_add(ROOM_FUEL);
            std::thread::yield_now();
        }
    }

    pub(super) fn debt(&self) -> u64 {
        self.debt
    }
}
