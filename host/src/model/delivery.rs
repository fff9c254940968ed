//! The life of a delivery: THE state machine. State, input and time in; state, or *illegal*, out.
//!
//! ```text
//!            claim                    done
//!  pending ---------> leased -----------------------> succeeded
//!     ^                 |  reject, refused, last attempt
//!     |                 +-----------------------------> dead
//!     |  retry, defer,  |
//!     |  give back      |                 cancel
//!     +-----------------+     pending -----------> cancelled
//! ```
//!
//! A dead or cancelled delivery never lives again: a redrive makes a new one, of the next *round*.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::retry::{Backoff, Jitter, RetryPolicy};
use super::{ConsumerName, Outcome, Seq, Timestamp, limit};

/// One event for one consumer. Round 0 is what the subscription caused; each redrive is one more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    pub seq: Seq,
    pub consumer: ConsumerName,
    pub round: u32,
}

impl fmt::Display for DeliveryId {
    /// `SEQ/CONSUMER`, and `/ROUND` where it is not the first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.seq, self.consumer)?;
        if self.round > 0 { write!(f, "/{}", self.round) } else { Ok(()) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits until it is due.
    Pending {
        due_at: Timestamp,
    },
    /// One host may attempt it.
    Leased,
    Succeeded,
    Dead,
    Cancelled,
}

impl State {
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Dead | Self::Cancelled)
    }

    /// The word used in SQL, JSON and prose.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Leased => "leased",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub state: State,
    /// Attempts charged so far. The next one bears this number plus one.
    pub attempts: u32,
    /// Calls of the handler so far, those included that cost no attempt (*defer*, *interrupted*).
    pub calls: u32,
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Claim,
    /// The attempt ended. `after` is the delay that the guest asked for, or the host with *interrupted*.
    Ended {
        outcome: Outcome,
        after: Option<Duration>,
    },
    /// The claim is given back with nothing run, or nothing kept: a crash, a lost race for state.
    GiveBack,
    Cancel,
}

/// An input that a state does not allow; the delivery stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {} delivery cannot take {input:?}", .state.as_str())]
pub struct Illegal {
    pub state: State,
    pub input: Input,
}

impl Delivery {
    /// As it begins.
    pub fn new(due_at: Timestamp) -> Self {
        Self { state: State::Pending { due_at }, attempts: 0, calls: 0 }
    }

    /// The next state. `random` spreads the delay of a retry.
    pub fn step(self, input: Input, policy: &RetryPolicy, now: Timestamp, random: u64) -> Result<Self, Illegal> {
        match (self.state, input) {
            (State::Pending { .. }, Input::Claim) => Ok(Self { state: State::Leased, ..self }),
            (State::Pending { .. }, Input::Cancel) => Ok(Self { state: State::Cancelled, ..self }),
            (State::Leased, Input::GiveBack) => Ok(Self { state: State::Pending { due_at: now }, ..self }),
            (State::Leased, Input::Ended { outcome, after }) => Ok(self.ended(outcome, after, policy, now, random)),
            (state, input) => Err(Illegal { state, input }),
        }
    }

    fn ended(
        self,
        outcome: Outcome,
        after: Option<Duration>,
        policy: &RetryPolicy,
        now: Timestamp,
        random: u64,
    ) -> Self {
        let calls = self.calls.saturating_add(1);
        let charged = self.attempts.saturating_add(1);
        let pending = |attempts, delay| Self { state: State::Pending { due_at: now.plus(delay) }, attempts, calls };
        match outcome {
            // The handler was not called: nothing is charged.
            Outcome::Duplicate => Self { state: State::Succeeded, calls, ..self },
            Outcome::Expired | Outcome::Crashed => Self { state: State::Dead, calls, ..self },
            Outcome::Withdrawn => Self { state: State::Cancelled, calls, ..self },
            Outcome::Done => Self { state: State::Succeeded, attempts: charged, calls },
            Outcome::Reject | Outcome::Refused => Self { state: State::Dead, attempts: charged, calls },
            Outcome::Defer => {
                let least = least_defer(self.calls.saturating_sub(self.attempts));
                pending(self.attempts, bounded(after.unwrap_or(least)).max(least))
            }
            Outcome::Interrupted => {
                let free = self.calls.saturating_sub(self.attempts);
                pending(self.attempts, after.map_or(Duration::ZERO, |after| apart(after, free, random)))
            }
            Outcome::Retry
            | Outcome::Trapped
            | Outcome::TimedOut
            | Outcome::OutOfFuel
            | Outcome::OutOfMemory
            | Outcome::OverLimit => {
                if charged >= policy.attempts {
                    return Self { state: State::Dead, attempts: charged, calls };
                }
                pending(charged, after.map_or_else(|| policy.delay(charged, random), bounded))
            }
        }
    }
}

/// How long a *defer* waits at least, after so many calls that were not charged.
fn least_defer(free_calls: u32) -> Duration {
    let doubled = 1_u64.checked_shl(free_calls / limit::DEFERS_DOUBLE).unwrap_or(u64::MAX);
    let least = limit::DEFER_MS_MIN.saturating_mul(doubled).min(limit::DEFER_MS_LEAST_MAX);
    Duration::from_millis(least)
}

/// Whoever had no room because of others comes back later each time, and not together with them.
fn apart(first: Duration, free_calls: u32, random: u64) -> Duration {
    let policy = RetryPolicy {
        backoff: Backoff::Exponential,
        initial: first,
        factor: 2.0,
        max: first.saturating_mul(64),
        jitter: Jitter::Equal,
        ..RetryPolicy::default()
    };
    policy.delay(free_calls.saturating_add(1), random)
}

fn bounded(delay: Duration) -> Duration {
    delay.min(Duration::from_millis(limit::DELAY_MS_MAX))
}

/// How the deliveries with one ordering key wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStanding {
    pub key: String,
    /// One of them waits for its due time and has the turn: it has been called already, or is the first of its event.
    pub taken: bool,
    /// The highest sequence of those that wait for the key itself, if any do.
    pub blocked_to: Option<Seq>,
    /// Of those, some are of later rounds.
    pub later: bool,
}

/// Why a delivery died: the word that dead letters carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeathCause {
    /// The handler said *reject*.
    Rejected,
    /// The host refused what the handler wanted; see [`Outcome::Refused`].
    Refused,
    /// The last attempt failed.
    AttemptsExhausted,
    /// It was not settled within the consumer's `expires-after`.
    Expired,
    /// The host died three times while it was in hand.
    Crashed,
}

impl DeathCause {
    /// Why a delivery whose last attempt ended so is dead.
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Reject => Self::Rejected,
            Outcome::Refused => Self::Refused,
            Outcome::Expired => Self::Expired,
            Outcome::Crashed => Self::Crashed,
            _ => Self::AttemptsExhausted,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::AttemptsExhausted => "attempts-exhausted",
            Self::Expired => "expired",
            Self::Crashed => "crashed",
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
