//! When the next attempt is due. Jitter is made from a given number, never from a generator.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backoff {
    /// `initial × factor^(n−1)` after the n-th attempt.
    Exponential,
    /// `initial × n`.
    Linear,
    /// `initial`, always.
    Fixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Jitter {
    /// Anywhere between nothing and the whole delay.
    Full,
    /// Half of the delay, and up to another half.
    Equal,
    None,
}

/// How often and how far apart a delivery is attempted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    pub backoff: Backoff,
    pub initial: Duration,
    /// Of exponential backoff, at least 1.
    pub factor: f64,
    /// No delay is longer.
    pub max: Duration,
    pub jitter: Jitter,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Backoff::Exponential,
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(60),
            jitter: Jitter::Full,
        }
    }
}

impl RetryPolicy {
    /// The delay after the n-th failed attempt (from 1), spread by `random`, a uniformly drawn number.
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let base = self.base(attempt.max(1));
        // The upper 53 bits make a float in [0, 1) without rounding up to 1.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
        match self.jitter {
            Jitter::None => base,
            Jitter::Full => base.mul_f64(share),
            Jitter::Equal => base.mul_f64(0.5 + share / 2.0),
        }
    }

    fn base(&self, attempt: u32) -> Duration {
        let times = match self.backoff {
            Backoff::Fixed => 1.0,
            Backoff::Linear => f64::from(attempt),
            Backoff::Exponential => self.factor.max(1.0).powf(f64::from(attempt - 1)),
        };
        let seconds = self.initial.as_secs_f64() * times;
        if seconds >= self.max.as_secs_f64() { self.max } else { Duration::from_secs_f64(seconds) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(backoff: Backoff, jitter: Jitter) -> RetryPolicy {
        RetryPolicy { attempts: 9, backoff, jitter, ..RetryPolicy::default() }
    }

    fn seconds(policy: RetryPolicy, random: u64) -> Vec<f64> {
        [1, 2, 3, 7, u32::MAX].map(|n| policy.delay(n, random).as_secs_f64()).to_vec()
    }

    #[test]
    fn delays_grow_as_the_policy_says_and_stop_at_the_cap() {
        assert_eq!(seconds(policy(Backoff::Exponential, Jitter::None), 7), [1.0, 2.0, 4.0, 60.0, 60.0]);
        assert_eq!(seconds(policy(Backoff::Linear, Jitter::None), 7), [1.0, 2.0, 3.0, 7.0, 60.0]);
        assert_eq!(seconds(policy(Backoff::Fixed, Jitter::None), 7), [1.0, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn jitter_spreads_over_its_range_and_never_beyond() {
        let full = policy(Backoff::Fixed, Jitter::Full);
        let equal = policy(Backoff::Fixed, Jitter::Equal);
        assert_eq!(full.delay(1, 0), Duration::ZERO);
        assert_eq!(equal.delay(1, 0), Duration::from_millis(500));
        for policy in [full, equal] {
            let most = policy.delay(1, u64::MAX);
            assert!(most <= Duration::from_secs(1) && most > Duration::from_millis(999), "{most:?}");
        }
        assert_eq!(full.delay(1, u64::MAX / 4 + 1), Duration::from_millis(250));
    }

    #[test]
    fn a_delay_never_passes_the_maximum_nor_panics() {
        proptest::proptest!(|(attempt: u32, random: u64, initial in 0_u64..u64::MAX / 2_000, factor in 0.0_f64..1e300)| {
            let policy = RetryPolicy { initial: Duration::from_millis(initial), factor, ..RetryPolicy::default() };
            proptest::prop_assert!(policy.delay(attempt, random) <= policy.max);
        });
    }
}
