//! What came of one attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::pipeline::errand::Signal;
use super::{Envelope, Payload, Timestamp};

/// The table of outcomes. The first four are the guest's word, the rest the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    Retry,
    Defer,
    Reject,
    /// The guest trapped, or broke its contract.
    Trapped,
    TimedOut,
    OutOfFuel,
    OutOfMemory,
    /// A limit other than fuel, time and memory: host calls, handles, output.
    OverLimit,
    /// The handler failed after the host had refused it something that another attempt would be refused as well.
    Refused,
    /// Stopped or given back by the host; costs no attempt.
    Interrupted,
    /// Not run: another delivery of the same idempotency key is done.
    Duplicate,
    /// Not run: it was not settled within the consumer's `expires-after`.
    Expired,
    /// Not run: it was in hand each time that the host died.
    Crashed,
    /// Not run: the run that it is a step of has given it up.
    Withdrawn,
}

impl Outcome {
    pub const ALL: [Self; 15] = [
        Self::Done,
        Self::Retry,
        Self::Defer,
        Self::Reject,
        Self::Trapped,
        Self::TimedOut,
        Self::OutOfFuel,
        Self::OutOfMemory,
        Self::OverLimit,
        Self::Refused,
        Self::Interrupted,
        Self::Duplicate,
        Self::Expired,
        Self::Crashed,
        Self::Withdrawn,
    ];

    /// The word used in SQL, metrics, JSON and prose.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Defer => "defer",
            Self::Reject => "reject",
            Self::Trapped => "trapped",
            Self::TimedOut => "timed-out",
            Self::OutOfFuel => "out-of-fuel",
            Self::OutOfMemory => "out-of-memory",
            Self::OverLimit => "over-limit",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
            Self::Duplicate => "duplicate",
            Self::Expired => "expired",
            Self::Crashed => "crashed",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// What an attempt used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub duration: Duration,
    /// Guest instructions.
    pub fuel: u64,
    /// Bytes of linear memory at the highest.
    pub memory_peak: u64,
}

/// One structured log line of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// `trace`, `debug`, `info`, `warn`, `error`; `stdout` and `stderr` for what the guest printed.
    pub level: String,
    pub message: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl LogLine {
    pub fn bytes(&self) -> usize {
        let fields = self.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.message.len() + fields
    }
}

/// What an attempt read from and wants to write to its consumer's state. Reads are checked at settlement: if another
/// attempt has changed one of them in the meantime, this attempt's settlement is a conflict and it runs again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateChanges {
    /// Key to the version that was read; 0 is *absent*.
    pub reads: BTreeMap<String, u64>,
    /// The consumer's state revision under which keys were listed, if they were.
    pub listed_at: Option<u64>,
    pub writes: BTreeMap<String, StateWrite>,
}

impl StateChanges {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateWrite {
    Set { value: bytes::Bytes, expires_at: Option<Timestamp> },
    Delete,
}

/// Everything an attempt came to, as the sandbox reports it. A value: a guest's failure is data.
#[derive(Clone, Debug)]
pub struct Report {
    pub outcome: Outcome,
    /// The guest's reason, or what the host has to say about it.
    pub reason: Option<String>,
    /// The delay that the guest asked for, with *retry* and *defer*; the host, with *interrupted*.
    pub after: Option<Duration>,
    pub output: Option<Payload>,
    /// Held back until the settlement, which keeps them only if the outcome is *done*. Their ids are final, their
    /// timestamps are set at settlement.
    pub published: Vec<Envelope>,
    pub state: StateChanges,
    /// What the event means for runs, if it was delivered to a pipeline.
    pub signal: Option<Signal>,
    pub logs: Vec<LogLine>,
    /// Log lines beyond the limit, counted and not kept.
    pub logs_dropped: u64,
    pub started_at: Timestamp,
    pub usage: Usage,
}

impl Report {
    /// An attempt of which nothing is known but how it ended.
    pub fn bare(outcome: Outcome, reason: impl Into<Option<String>>, started_at: Timestamp) -> Self {
        Self {
            outcome,
            reason: reason.into(),
            after: None,
            output: None,
            published: Vec::new(),
            state: StateChanges::default(),
            signal: None,
            logs: Vec::new(),
            logs_dropped: 0,
            started_at,
            usage: Usage::default(),
        }
    }
}
