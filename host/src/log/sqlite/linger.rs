//! Whether a transaction begins at once, or lets in what comes a moment later. Pure.
//!
//! A transaction costs a flush and the pages that it touches, however little is in it. Settlements that nobody waits for spare
//! most of that where attempts take microseconds and more of them are under way: they wait for those, a moment at most. (PostgreSQL's
//! `commit_delay` does so for a fixed time whenever enough others are at work.) Where none are under way, nothing waits.

use std::time::Duration;

/// No transaction waits for longer.
pub(super) const LINGER_MAX: Duration = Duration::from_millis(1);
/// Nor for more than so many settlements: far fewer than a consumer may have under way to the log, so that none of its calls waits.
const ENOUGH: usize = 128;

/// Whether somebody waits for what a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Now,
    /// So many settlements that can wait, and whether more will follow.
    CanWait {
        settlements: usize,
        more: bool,
    },
}

/// What has come for a transaction.
#[derive(Debug, Default)]
pub(super) struct Linger {
    settlements: usize,
    /// As the last of them has said.
    more: bool,
    hurried: bool,
}

impl Linger {
    pub(super) fn add(&mut self, urgency: Urgency) {
        match urgency {
            Urgency::Now => self.hurried = true,
            Urgency::CanWait { settlements, more } => {
                self.settlements += settlements;
                self.more = more;
            }
        }
    }

    /// Whether it may wait for more.
    pub(super) fn can_wait(&self) -> bool {
        self.more && !self.hurried && self.settlements < ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn can_wait(urgencies: &[Urgency]) -> bool {
        let mut linger = Linger::default();
        urgencies.iter().for_each(|urgency| linger.add(*urgency));
        linger.can_wait()
    }

    #[test]
    fn only_settlements_that_nobody_waits_for_wait_for_more_of_their_kind() {
        let some = |settlements, more| Urgency::CanWait { settlements, more };
        assert!(!can_wait(&[]));
        assert!(can_wait(&[some(1, true)]));
        assert!(!can_wait(&[some(1, false)]), "nothing follows");
        assert!(!can_wait(&[some(1, true), some(1, false)]), "nothing follows any more");
        assert!(can_wait(&[some(1, false), some(1, true)]));
        assert!(!can_wait(&[some(1, true), Urgency::Now]));
        assert!(!can_wait(&[Urgency::Now, some(1, true)]));
        assert!(can_wait(&[some(ENOUGH - 1, true)]));
        assert!(!can_wait(&[some(ENOUGH - 1, true), some(1, true)]));
    }
}
