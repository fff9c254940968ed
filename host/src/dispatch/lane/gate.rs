//! Whether a consumer may start one more attempt, or when: its pause, its rate, its breaker and its budget for retries. To
//! reach a limit is to wait, never an error.

use std::time::Duration;

use crate::model::Outcome;
use crate::model::breaker::{Breaker, BreakerState, Change, Verdict};
use crate::model::flow::{Budget, Pacer};
use crate::model::spec::DeliverySpec;
use crate::planted::{self, Bug};

#[derive(Debug)]
pub(super) struct Gate {
    pub(super) paused: bool,
    pacer: Pacer,
    budget: Budget,
    breaker: Breaker,
}

impl Gate {
    pub(super) fn new(paused: bool) -> Self {
        Self { paused, pacer: Pacer::default(), budget: Budget::new(Duration::ZERO), breaker: Breaker::default() }
    }

    /// When an attempt may start, at or after `now`; none: not before something else has happened. A probe runs with nothing
    /// beside it, so that it is the probe's end that decides.
    pub(super) fn free_at(&self, spec: &DeliverySpec, idle: bool, now: Duration) -> Option<Duration> {
        if self.paused {
            return None;
        }
        let paced = spec.rate.map_or(now, |rate| self.pacer.free_at(rate, now));
        if spec.breaker.is_none() || planted::is(Bug::BreakerIgnored) {
            return Some(paced);
        }
        if self.breaker.state() != BreakerState::Closed && !idle {
            return None;
        }
        Some(paced.max(self.breaker.free_at(now)?))
    }

    /// When a retry may start, as far as the budget goes.
    pub(super) fn retries_at(&mut self, now: Duration) -> Duration {
        self.budget.free_at(now)
    }

    /// An attempt starts.
    pub(super) fn start(&mut self, spec: &DeliverySpec, retry: bool, now: Duration) {
        if let Some(rate) = spec.rate.filter(|_| !planted::is(Bug::RateIgnored)) {
            self.pacer.take(rate, now);
        }
        if retry {
            self.budget.retried()
        } else {
            self.budget.attempted()
        }
        self.breaker.start();
    }

    /// An attempt ended.
    pub(super) fn end(&mut self, spec: &DeliverySpec, outcome: Outcome, retry: bool, now: Duration) -> Option<Change> {
        if retry && outcome == Outcome::Done {
            self.budget.succeeded();
        }
        match spec.breaker {
            Some(policy) => self.breaker.end(policy, verdict(outcome), now),
            None => {
                self.breaker = Breaker::default();
                None
            }
        }
    }

    /// What the breaker knows, it knows no more.
    pub(super) fn forget(&mut self) {
        self.breaker = Breaker::default();
    }

    pub(super) fn breaker(&self) -> BreakerState {
        self.breaker.state()
    }
}

/// A guest that rejects has answered; one that defers has said nothing about itself.
fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Done | Outcome::Reject => Verdict::Good,
        Outcome::Retry
        | Outcome::Trapped
        | Outcome::TimedOut
        | Outcome::OutOfFuel
        | Outcome::OutOfMemory
        | Outcome::OverLimit => Verdict::Bad,
        Outcome::Defer
        | Outcome::Refused
        | Outcome::Interrupted
        | Outcome::Duplicate
        | Outcome::Expired
        | Outcome::Crashed
        | Outcome::Withdrawn => Verdict::None,
    }
}
