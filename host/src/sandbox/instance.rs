//! What stands behind one attempt's store: made for it, used once, dropped with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::component::ResourceTable;

use super::Dependencies;
use super::capability::http::Network;
use super::capability::log::Logbook;
use super::capability::publisher::Held;
use super::capability::state::Overlay;
use super::cause::Cause;
use super::deadline::{Allowance, Deadline};
use super::limits::{Account, Limiter, MemoryBudget};
use crate::clock::Clock;
use crate::model::limit::HOST_CALLS_MAX;
use crate::model::{ConsumerName, Grants, Limits, Timestamp};

/// Entries of an attempt's table of streams, pollables and the like.
const TABLE_MAX: usize = 256;

/// What the host knows of a consumer, shared by all its attempts.
pub(super) struct Consumer {
    pub(super) name: ConsumerName,
    pub(super) limits: Limits,
    pub(super) grants: Grants,
    pub(super) dependencies: Dependencies,
    pub(super) network: Network,
    pub(super) event_bytes_max: usize,
}

pub(super) struct Host {
    pub(super) table: ResourceTable,
    pub(super) limiter: Limiter,
    pub(super) account: Account,
    pub(super) consumer: Arc<Consumer>,
    /// What holds for this attempt, which may be other than for the consumer.
    pub(super) limits: Limits,
    pub(super) cause: Cause,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) started_at: Timestamp,
    /// On the monotonic clock, as is the deadline.
    pub(super) started: Duration,
    pub(super) deadline: Deadline,
    pub(super) log: Arc<Mutex<Logbook>>,
    pub(super) held: Held,
    pub(super) state: Overlay,
    pub(super) requests: u32,
    pub(super) questions: u32,
    refused: Option<String>,
}

impl Host {
    pub(super) fn new(
        consumer: &Arc<Consumer>,
        cause: Cause,
        clock: &Arc<dyn Clock>,
        budget: &Arc<MemoryBudget>,
        limits: Limits,
        allowance: Allowance,
    ) -> Self {
        let started = clock.monotonic();
        let mut table = ResourceTable::new();
        table.set_max_capacity(TABLE_MAX);
        Self {
            table,
            limiter: Limiter::new(Arc::clone(budget), limits.memory),
            account: Account::new(HOST_CALLS_MAX, limits.fuel),
            consumer: Arc::clone(consumer),
            limits,
            cause,
            clock: Arc::clone(clock),
            started_at: clock.now(),
            started,
            deadline: Deadline::new(started, allowance),
            log: Arc::default(),
            held: Held::default(),
            state: Overlay::default(),
            requests: 0,
            questions: 0,
            refused: None,
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline.is_over(self.clock.monotonic())
    }

    pub(super) fn remaining(&self) -> Duration {
        self.deadline.at().saturating_sub(self.clock.monotonic())
    }

    pub(super) fn remaining_ms(&self) -> u64 {
        u64::try_from(self.remaining().as_millis()).unwrap_or(u64::MAX)
    }

    /// Remembers that the host has said no to something that another attempt would be refused as well.
    pub(super) fn refuse(&mut self, why: String) {
        self.refused.get_or_insert(why);
    }

    pub(super) fn refused(&mut self) -> Option<String> {
        self.refused.take()
    }
}
