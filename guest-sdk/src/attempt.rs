//! The attempt itself: what it may still use.

use std::time::Duration;

use crate::host;

/// What is left of the attempt's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    pub time: Duration,
    /// Guest instructions.
    pub fuel: u64,
    /// Linear memory, in bytes.
    pub memory: u64,
}

pub fn remaining() -> Budget {
    host::attempt_remaining()
}

/// Still working: extends the time limit as far as the manifest allows, and gives the time that remains.
pub fn in_progress() -> Duration {
    host::attempt_in_progress()
}
