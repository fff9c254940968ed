//! When an attempt ends at the latest. Everything that enforces it holds the same one, because the guest may move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Limits;

/// How long an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// To begin with, and from each *in progress* on.
    pub(super) timeout: Duration,
    /// In all. Not above `timeout`: *in progress* moves nothing.
    pub(super) most: Duration,
}

impl Allowance {
    pub(super) fn of(limits: &Limits) -> Self {
        Self { timeout: limits.timeout, most: limits.timeout_max.unwrap_or_default().max(limits.timeout) }
    }

    pub(super) fn fixed(timeout: Duration) -> Self {
        Self { timeout, most: timeout }
    }
}

/// On the monotonic clock. Clones are the same deadline.
#[derive(Clone, Debug)]
pub(super) struct Deadline {
    started: Duration,
    allowance: Allowance,
    /// Nanoseconds. Only ever moves on.
    at: Arc<AtomicU64>,
}

impl Deadline {
    pub(super) fn new(started: Duration, allowance: Allowance) -> Self {
        let at = nanos(started.saturating_add(allowance.timeout));
        Self { started, allowance, at: Arc::new(at.into()) }
    }

    pub(super) fn at(&self) -> Duration {
        Duration::from_nanos(self.at.load(Ordering::Relaxed))
    }

    /// As far as it may ever be moved.
    pub(super) fn latest(&self) -> Duration {
        self.started.saturating_add(self.allowance.most)
    }

    /// What the attempt was allowed, as things stand.
    pub(super) fn allowed(&self) -> Duration {
        self.at().saturating_sub(self.started)
    }

    pub(super) fn is_over(&self, now: Duration) -> bool {
        now >= self.at()
    }

    /// Gives the attempt its time anew, as far as it may have it. Not if its time is over: there is no way back.
    pub(super) fn extend(&self, now: Duration) {
        if self.is_over(now) {
            return;
        }
        let at = now.saturating_add(self.allowance.timeout).min(self.latest());
        self.at.fetch_max(nanos(at), Ordering::Relaxed);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_moves_on_from_now_and_never_beyond_the_most() {
        let deadline = Deadline::new(ms(1_000), Allowance { timeout: ms(300), most: ms(1_000) });
        let seen = deadline.clone();
        assert_eq!(deadline.at(), ms(1_300));
        for (now, at) in [(1_000, 1_300), (1_200, 1_500), (1_499, 1_799), (1_750, 2_000), (1_999, 2_000)] {
            deadline.extend(ms(now));
            assert_eq!((deadline.at(), seen.at()), (ms(at), ms(at)), "at {now}");
        }
        assert_eq!((seen.latest(), seen.allowed()), (ms(2_000), ms(1_000)));
        deadline.extend(ms(2_000));
        assert!(deadline.is_over(ms(2_000)), "what is over stays over");
    }

    #[test]
    fn it_does_not_move_unless_the_limits_say_so() {
        let limits = Limits { timeout: ms(300), ..Limits::default() };
        for timeout_max in [None, Some(ms(100)), Some(ms(300))] {
            let deadline = Deadline::new(ms(0), Allowance::of(&Limits { timeout_max, ..limits }));
            deadline.extend(ms(200));
            assert_eq!((deadline.at(), deadline.latest()), (ms(300), ms(300)), "{timeout_max:?}");
        }
        let over = Deadline::new(ms(0), Allowance::of(&Limits { timeout_max: Some(ms(900)), ..limits }));
        over.extend(ms(300));
        assert_eq!(over.at(), ms(300), "too late");
    }
}
