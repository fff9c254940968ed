//! Mistakes on purpose: each is a way to break a promise, planted where the code could have made it, and switched on by a test
//! only. The suites must find every one of them, or they prove nothing. Outside tests every switch is off and compiles to nothing.
//!
//! ```ignore
//! if crate::planted::is(Bug::NormalSync) { "NORMAL" } else { "FULL" }      // in the code
//! let _planted = crate::planted::plant(Bug::NormalSync);                   // in a test, until it is dropped
//! ```
//!
//! The switch belongs to the thread. A thread that production code starts takes it over: [`switches`] before, [`Switches::take`] in it.

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Bug {
    /// `append` answers before its transaction is committed.
    AckBeforeCommit,
    /// SQLite runs with `synchronous=NORMAL`.
    NormalSync,
    /// An outcome is written although the call has one, or is not the one that is due.
    OutcomeWithoutFence,
    /// What an attempt published and wrote is committed apart from its outcome.
    EffectsOutsideTransaction,
    /// The folder of a new file is not synced.
    NoDirectorySync,
    /// The watermark says that events are durable before they are.
    WatermarkBeforeCommit,
    /// After a failed fsync the log goes on as if it had not happened.
    FsyncErrorIgnored,
    /// A host that was superseded goes on writing.
    ClaimWithoutEpoch,
    /// A cached artefact is used without its authentication code being checked.
    CacheWithoutMac,

    /// An attempt counts as lost when the wall clock says that it took too long.
    LeaseByWallClock,
    /// A waiting delivery forgets its attempts when it is read back.
    RetriesResetOnRestart,
    /// What is about to be deployed runs before it is live.
    ReloadSwapsRunningCode,
    /// Only recent events are compared with a new one for its (source, id).
    DedupeByWindow,
    /// While a delivery waits for its retry, others of its key go on.
    OrderIgnoredInRetry,
    /// A dead letter's hold on its key is not read back.
    HoldForgottenOnRestart,
    /// An idempotency key is remembered although the settlement is not committed.
    MarkOutsideSettlement,
    /// A consumer's position passes deliveries that are not settled.
    CursorPassesOpen,
    /// A redrive brings the dead delivery back to life.
    RedriveEditsOldRound,
    /// A paused consumer goes on after a restart.
    PauseForgottenOnRestart,
    /// A delivery past its `expires-after` is attempted.
    ExpiredRuns,
    /// How often a delivery was in hand when the host died is not counted.
    CrashesForgotten,
    /// Published events are kept whatever the outcome.
    EffectsOfFailures,
    /// An attempt that the host interrupted is charged.
    InterruptedIsCharged,
    /// One more attempt than `concurrency` allows.
    OneTooMany,
    /// A delivery that begins to wait while a page of others is read is forgotten.
    LateWaitingForgotten,
    /// After a reload that changes keys, what waits keeps those that it had.
    KeysNotFoundAnew,
    /// Calls begin although the breaker is open.
    BreakerIgnored,
    /// A rate forgets what it has let through.
    RateIgnored,
    /// A replay does not note how far it is.
    ReplayForgetsPosition,
    /// A slot of a schedule is noted as over without its event.
    SlotWithoutEvent,
    /// Retention takes events that deliveries wait for.
    RetentionTakesWaiting,

    /// A run undoes its steps in the order in which they finished.
    UndoneFirstFirst,
    /// A step's delivery is not read back after a restart.
    StepForgottenOnRestart,
    /// An event that came before its step's turn is forgotten.
    EarlyArrivalForgotten,
    /// An event from before the run, or one that another definition means, ends a wait.
    AnyArrivalCounts,
    /// After a restart nobody asks which runs' time has come.
    TimersLostOnRestart,
    /// A step that its run has given up is called.
    WithdrawnRuns,
    /// A second run begins with the key of one that there is.
    KeyTakenTwice,
}

/// Which suite finds it.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Seeded schedules: `simulation`.
    Simulator,
    /// Crash images under the real SQLite code.
    Images,
    /// Tests of one promise.
    Single,
}

#[cfg(test)]
pub(crate) use switched::{Found, is, plant, switches, table};

/// Whether this mistake is to be made.
#[cfg(not(test))]
pub(crate) const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(test)]
mod switched {
    use std::cell::Cell;

    use super::{Bug, Suite};

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    impl Bug {
        pub(crate) const ALL: [(Self, Suite); 38] = [
            (Self::AckBeforeCommit, Suite::Images),
            (Self::NormalSync, Suite::Images),
            (Self::EffectsOutsideTransaction, Suite::Images),
            (Self::NoDirectorySync, Suite::Images),
            (Self::WatermarkBeforeCommit, Suite::Images),
            (Self::FsyncErrorIgnored, Suite::Images),
            (Self::ClaimWithoutEpoch, Suite::Single),
            (Self::CacheWithoutMac, Suite::Single),
            (Self::OutcomeWithoutFence, Suite::Simulator),
            (Self::LeaseByWallClock, Suite::Simulator),
            (Self::RetriesResetOnRestart, Suite::Simulator),
            (Self::ReloadSwapsRunningCode, Suite::Simulator),
            (Self::DedupeByWindow, Suite::Simulator),
            (Self::OrderIgnoredInRetry, Suite::Simulator),
            (Self::HoldForgottenOnRestart, Suite::Simulator),
            (Self::MarkOutsideSettlement, Suite::Simulator),
            (Self::CursorPassesOpen, Suite::Simulator),
            (Self::RedriveEditsOldRound, Suite::Simulator),
            (Self::PauseForgottenOnRestart, Suite::Simulator),
            (Self::ExpiredRuns, Suite::Simulator),
            (Self::CrashesForgotten, Suite::Simulator),
            (Self::EffectsOfFailures, Suite::Simulator),
            (Self::InterruptedIsCharged, Suite::Simulator),
            (Self::OneTooMany, Suite::Simulator),
            (Self::LateWaitingForgotten, Suite::Simulator),
            (Self::KeysNotFoundAnew, Suite::Simulator),
            (Self::BreakerIgnored, Suite::Simulator),
            (Self::RateIgnored, Suite::Simulator),
            (Self::ReplayForgetsPosition, Suite::Simulator),
            (Self::SlotWithoutEvent, Suite::Simulator),
            (Self::RetentionTakesWaiting, Suite::Simulator),
            (Self::UndoneFirstFirst, Suite::Simulator),
            (Self::StepForgottenOnRestart, Suite::Simulator),
            (Self::EarlyArrivalForgotten, Suite::Simulator),
            (Self::AnyArrivalCounts, Suite::Simulator),
            (Self::TimersLostOnRestart, Suite::Simulator),
            (Self::WithdrawnRuns, Suite::Simulator),
            (Self::KeyTakenTwice, Suite::Simulator),
        ];
    }

    /// Whether this mistake is to be made on this thread.
    pub(crate) fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }

    /// Makes the mistake on this thread until the guard is dropped.
    pub(crate) fn plant(bug: Bug) -> Planted {
        PLANTED.set(Some(bug));
        Planted(())
    }

    pub(crate) struct Planted(());

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(None);
        }
    }

    /// What is planted on this thread, to be taken over by another.
    pub(crate) fn switches() -> Switches {
        Switches(PLANTED.get())
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Switches(Option<Bug>);

    impl Switches {
        /// This thread makes the same mistake, for the rest of its life.
        pub(crate) fn take(self) {
            PLANTED.set(self.0);
        }
    }

    /// How a bug was found.
    pub(crate) struct Found {
        /// Schedules, images or cases tried, the one that found it included.
        pub(crate) tries: u64,
        /// What was seen.
        pub(crate) seen: String,
    }

    /// Hunts every bug of a suite, each planted while it is hunted; prints the table; fails if one was not found.
    pub(crate) fn table(suite: Suite, mut hunt: impl FnMut(Bug) -> Option<Found>) {
        let mut lost = Vec::new();
        println!("{:<28} {:<10} {:>7}  seen", "planted bug", "suite", "tries");
        for (bug, _) in Bug::ALL.into_iter().filter(|(_, of)| *of == suite) {
            let planted = plant(bug);
            let found = hunt(bug);
            drop(planted);
            let name = format!("{bug:?}");
            match found {
                Some(Found { tries, seen }) => {
                    let seen = seen.lines().next().unwrap_or_default();
                    println!("{name:<28} {:<10} {tries:>7}  {seen}", format!("{suite:?}"));
                }
                None => {
                    println!("{name:<28} {:<10}       -  NOT FOUND", format!("{suite:?}"));
                    lost.push(name);
                }
            }
        }
        assert!(lost.is_empty(), "the suite does not find: {}", lost.join(", "));
    }

    #[test]
    fn a_bug_is_planted_on_its_thread_until_its_guard_is_dropped() {
        let planted = plant(Bug::NormalSync);
        assert!(is(Bug::NormalSync) && !is(Bug::AckBeforeCommit));
        let switches = switches();
        let inherits = std::thread::spawn(move || {
            let before = is(Bug::NormalSync);
            switches.take();
            (before, is(Bug::NormalSync))
        });
        assert_eq!(inherits.join().unwrap(), (false, true));
        drop(planted);
        assert!(!is(Bug::NormalSync));
    }

    #[test]
    fn the_table_names_every_bug_once() {
        let mut bugs: Vec<Bug> = Bug::ALL.into_iter().map(|(bug, _)| bug).collect();
        bugs.sort();
        bugs.dedup();
        assert_eq!(bugs.len(), Bug::ALL.len());
        assert_eq!(bugs.last().map(|bug| *bug as usize + 1), Some(bugs.len()), "one is missing from the table");
    }
}
