//! The breaker of a consumer: after too many failures nothing is tried for a while, then one delivery is.
//!
//! ```text
//!            `failures` within `window`              `recovery` is over
//!   closed ---------------------------> open ---------------------------> probing
//!      ^                                  ^            the probe failed       |
//!      |                                  +-----------------------------------+
//!      |                         the probe succeeded                          |
//!      +----------------------------------------------------------------------+
//! ```
//!
//! Time is given, and never the wall clock.

use std::collections::VecDeque;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// At least 1.
    pub failures: u32,
    pub window: Duration,
    pub recovery: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self { failures: 5, window: Duration::from_secs(60), recovery: Duration::from_secs(30) }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerState {
    #[default]
    Closed,
    Open {
        until: Duration,
    },
    /// One attempt decides.
    Probing,
}

impl BreakerState {
    /// The word used in JSON, metrics and prose.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::Probing => "probing",
        }
    }
}

/// What a step changed, for those who want to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Opened,
    Closed,
}

#[derive(Clone, Debug, Default)]
pub struct Breaker {
    state: BreakerState,
    /// When the latest attempts failed, oldest first; at most `failures` of them.
    failed: VecDeque<Duration>,
}

impl Breaker {
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// When an attempt may start, at or after `now`; none while a probe is in hand.
    pub fn free_at(&self, now: Duration) -> Option<Duration> {
        match self.state {
            BreakerState::Closed => Some(now),
            BreakerState::Open { until } => Some(until.max(now)),
            BreakerState::Probing => None,
        }
    }

    /// An attempt starts, which [`Breaker::free_at`] allowed.
    pub fn start(&mut self) {
        if let BreakerState::Open { .. } = self.state {
            self.state = BreakerState::Probing;
        }
    }

    /// An attempt ended: in success, in failure, or in nothing that says anything about the consumer.
    pub fn end(&mut self, policy: BreakerPolicy, verdict: Verdict, now: Duration) -> Option<Change> {
        match (self.state, verdict) {
            (BreakerState::Probing, Verdict::Good) => {
                self.state = BreakerState::Closed;
                self.failed.clear();
                Some(Change::Closed)
            }
            (BreakerState::Probing, Verdict::Bad) => {
                self.state = BreakerState::Open { until: now + policy.recovery };
                None
            }
            // The probe said nothing: the next one may, at once.
            (BreakerState::Probing, Verdict::None) => {
                self.state = BreakerState::Open { until: now };
                None
            }
            (BreakerState::Closed, Verdict::Bad) => self.fail(policy, now),
            // What started before it opened changes nothing.
            _ => None,
        }
    }

    fn fail(&mut self, policy: BreakerPolicy, now: Duration) -> Option<Change> {
        self.failed.push_back(now);
        while self.failed.front().is_some_and(|at| now.saturating_sub(*at) > policy.window) {
            self.failed.pop_front();
        }
        let failed = u32::try_from(self.failed.len()).unwrap_or(u32::MAX);
        (failed >= policy.failures.max(1)).then(|| {
            self.failed.clear();
            self.state = BreakerState::Open { until: now + policy.recovery };
            Change::Opened
        })
    }
}

/// What an attempt's outcome says about whether its consumer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Bad,
    None,
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
