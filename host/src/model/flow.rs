//! How fast: a rate that is not passed, and a budget for retries. Time is given, and never the wall clock: a clock that is
//! set must not start a burst or a pause.

use std::time::Duration;

/// So many per so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    /// At least a millisecond.
    pub per: Duration,
}

impl Rate {
    /// From one to the next.
    fn interval(self) -> Duration {
        self.per / self.count.max(1)
    }
}

/// Keeps a [`Rate`], with bursts of at most a tenth of a second's worth: the generic cell rate algorithm (ITU-T I.371), which
/// needs one number for a state.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pacer {
    /// When the next one would come if they came evenly.
    next: Duration,
}

const BURST: Duration = Duration::from_millis(100);

impl Pacer {
    /// When one more may start, at or after `now`.
    pub fn free_at(&self, rate: Rate, now: Duration) -> Duration {
        let tolerance = BURST.saturating_sub(rate.interval());
        self.next.saturating_sub(tolerance).max(now)
    }

    /// One more starts now.
    pub fn take(&mut self, rate: Rate, now: Duration) {
        self.next = self.next.max(now) + rate.interval();
    }
}

/// Bounds retries by what succeeds, so that a failing dependency is not buried under them, and a heap of overdue ones starts
/// slowly: each doubles its room only by succeeding. Shares and floor are those of Finagle's retry budget (20 % of first
/// attempts, 10 a second at least); giving room back on success is what the AWS SDKs' standard retry mode does.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    tokens: f64,
    refilled_at: Duration,
}

const BUDGET_MAX: f64 = 1_000.0;
const BUDGET_FIRST: f64 = 100.0;
const BUDGET_PER_SECOND: f64 = 10.0;
const BUDGET_PER_FIRST_ATTEMPT: f64 = 0.2;
const BUDGET_PER_SUCCESS: f64 = 2.0;

impl Budget {
    pub fn new(now: Duration) -> Self {
        Self { tokens: BUDGET_FIRST, refilled_at: now }
    }

    /// When a retry may start, at or after `now`.
    pub fn free_at(&mut self, now: Duration) -> Duration {
        self.refill(now);
        let lacking = (1.0 - self.tokens).max(0.0) / BUDGET_PER_SECOND;
        now + Duration::from_secs_f64(lacking)
    }

    /// A retry starts.
    pub fn retried(&mut self) {
        self.tokens = (self.tokens - 1.0).max(0.0);
    }

    /// A first attempt starts.
    pub fn attempted(&mut self) {
        self.earn(BUDGET_PER_FIRST_ATTEMPT);
    }

    /// A retry has succeeded.
    pub fn succeeded(&mut self) {
        self.earn(BUDGET_PER_SUCCESS);
    }

    fn refill(&mut self, now: Duration) {
        self.earn(now.saturating_sub(self.refilled_at).as_secs_f64() * BUDGET_PER_SECOND);
        self.refilled_at = self.refilled_at.max(now);
    }

    fn earn(&mut self, tokens: f64) {
        self.tokens = (self.tokens + tokens).min(BUDGET_MAX);
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
