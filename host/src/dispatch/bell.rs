//! When runs are to be told that their time has come. The log knows of which; this knows when to ask it.

use std::time::Duration;

use crate::model::{Moment, Timestamp};
use crate::planted::{self, Bug};

/// A question that was not answered is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Bell {
    /// The next time, as far as is known.
    at: Option<Timestamp>,
    /// The log is being asked. With the soonest time that was set since.
    asked: bool,
    /// Not before, after a failure.
    not_before: Duration,
}

impl Default for Bell {
    /// What there was before the start is not known: the log is asked at once.
    fn default() -> Self {
        let at = (!planted::is(Bug::TimersLostOnRestart)).then_some(Timestamp::MIN);
        Self { at, asked: false, not_before: Duration::ZERO }
    }
}

impl Bell {
    /// There is something to do at this time.
    pub(super) fn set(&mut self, at: Timestamp) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }

    /// Whether the log is to be asked now.
    pub(super) fn rings(&mut self, now: Moment) -> bool {
        let due = self.at.is_some_and(|at| at <= now.wall) && self.not_before <= now.monotonic;
        if !due || self.asked {
            return false;
        }
        (self.asked, self.at) = (true, None);
        true
    }

    /// What the log answered; none if it did not.
    pub(super) fn rang(&mut self, next: Option<Option<Timestamp>>, now: Moment) {
        self.asked = false;
        match next {
            Some(Some(at)) => self.set(at),
            Some(None) => {}
            None => {
                self.set(Timestamp::MIN);
                self.not_before = now.monotonic + AGAIN_AFTER;
            }
        }
    }

    /// How long until it rings.
    pub(super) fn next(&self, now: Moment) -> Option<Duration> {
        let at = self.at.filter(|_| !self.asked)?;
        let held_back = self.not_before.saturating_sub(now.monotonic);
        Some(at.since(now.wall).max(held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        let wall = Timestamp(0).plus(Duration::from_secs(second));
        Moment { wall, monotonic: Duration::from_secs(second) }
    }

    #[test]
    fn the_log_is_asked_at_the_start_and_at_each_time_that_was_set() {
        let mut bell = Bell::default();
        assert!(bell.rings(at(0)) && !bell.rings(at(0)), "asked once");
        bell.set(at(9).wall);
        bell.rang(Some(Some(at(5).wall)), at(1));
        assert_eq!(bell.next(at(1)), Some(Duration::from_secs(4)));
        assert!(!bell.rings(at(4)) && bell.rings(at(5)));
        bell.rang(Some(None), at(5));
        assert_eq!(bell.next(at(5)), None, "the answer knows of everything that was set before the question");
    }

    #[test]
    fn what_is_set_while_the_log_is_asked_is_not_forgotten_and_a_failure_is_asked_again() {
        let mut bell = Bell::default();
        assert!(bell.rings(at(0)));
        bell.set(at(3).wall);
        bell.rang(None, at(1));
        assert!(!bell.rings(at(1)) && bell.rings(at(2)));
        bell.rang(Some(None), at(2));
        bell.set(at(3).wall);
        assert!(bell.rings(at(3)));
    }
}
