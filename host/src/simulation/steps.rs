//! What may happen next, and how likely it is.

use std::collections::BTreeMap;

use super::dice::Dice;

macro_rules! steps {
    ($($(#[doc = $doc:literal])* $step:ident,)*) => {
        /// One thing that happens.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Step {
            $($(#[doc = $doc])* $step,)*
        }

        impl Step {
            pub(super) const ALL: &[Self] = &[$(Self::$step,)*];
        }
    };
}

steps! {
    /// Producers send new events.
    Ingest,
    /// A producer sends again what it sent before.
    Repeat,
    /// A producer sends something else under an id that is taken.
    Contradict,
    /// A call of a handler ends.
    GuestEnds,
    /// A call of a handler will not end by itself.
    GuestSpins,
    /// What has gathered is written and synced, or refused if the disk is full.
    Commit,
    /// A transaction begins, and its end takes a while.
    Begin,
    /// What is durable is told.
    Tell,
    /// One question to the log is looked up, or one answer arrives.
    Answer,
    /// A question to the log fails.
    FailRead,
    Wait,
    /// Until something is due.
    WaitDue,
    WaitLong,
    WallBack,
    WallForward,
    Crash,
    PowerLoss,
    Start,
    Reload,
    /// A reload that only changes how a consumer's deliveries find their keys.
    ReloadKeys,
    /// Told to stop: nothing new begins.
    Stop,
    /// The grace of a stop is over.
    Hurry,
    DiskFull,
    DiskFree,
    /// The disk takes its time.
    Stall,
    Unstall,
    /// An fsync fails.
    FsyncFails,
    Redrive,
    Discard,
    /// Somebody wants events of the past again.
    Replay,
    CancelReplay,
    /// Retention takes what is older than so long.
    Prune,
    /// Somebody pauses a consumer.
    Pause,
    Resume,
    /// Somebody frees the keys that dead letters hold.
    Release,
    /// Somebody cancels a run.
    CancelRun,
    /// Somebody has the step tried again that a run stands still for.
    TakeUp,
    /// Somebody has done what that step was to do.
    Resolve,
    /// Somebody asks to be told when all is settled.
    AskSettled,
    /// Somebody else settles a call that is settled, as a superseded host would.
    Echo,
}

/// Steps that are trouble: each schedule has its favourites.
const TROUBLE: [Step; 18] = [
    Step::Repeat,
    Step::Contradict,
    Step::GuestSpins,
    Step::Begin,
    Step::FailRead,
    Step::WallBack,
    Step::WallForward,
    Step::Crash,
    Step::PowerLoss,
    Step::Reload,
    Step::ReloadKeys,
    Step::Stop,
    Step::DiskFull,
    Step::Stall,
    Step::Echo,
    Step::Pause,
    Step::Redrive,
    Step::CancelRun,
];

/// Steps that few schedules come to: the process dies after them more often than by chance, so that each run of schedules has seen it.
const SELDOM: [Step; 9] = [
    Step::Stop,
    Step::Hurry,
    Step::Discard,
    Step::CancelReplay,
    Step::Release,
    Step::CancelRun,
    Step::TakeUp,
    Step::Resolve,
    Step::Echo,
];
const CRASH_AFTER_SELDOM: u32 = 300;

/// What a schedule is inclined to.
pub(super) struct Mood {
    favourites: Vec<Step>,
}

impl Mood {
    pub(super) fn new(dice: &Dice) -> Self {
        Self { favourites: (0..dice.within(0..=3)).map(|_| *dice.one(&TROUBLE)).collect() }
    }

    /// How likely `step` is after `before`.
    pub(super) fn weight(&self, step: Step, before: Step) -> u32 {
        let usual = match step {
            Step::Crash if SELDOM.contains(&before) => return CRASH_AFTER_SELDOM,
            Step::Ingest => 160,
            Step::GuestEnds => 260,
            Step::Commit | Step::Tell => 220,
            Step::Answer => 150,
            Step::Wait | Step::WaitDue => 70,
            Step::Start => 500,
            Step::Hurry | Step::DiskFree | Step::Unstall | Step::Resume | Step::Release => 40,
            Step::TakeUp | Step::Resolve => 400,
            Step::Reload | Step::Begin | Step::Repeat | Step::Redrive | Step::CancelRun => 16,
            Step::FsyncFails | Step::Contradict => 4,
            _ => 8,
        };
        if self.favourites.contains(&step) { usual * 8 } else { usual }
    }
}

/// What a run of schedules has seen.
#[derive(Default)]
pub(super) struct Coverage {
    pub(super) schedules: u64,
    pub(super) steps: BTreeMap<Step, u64>,
    /// Steps after which the process died at once.
    pub(super) crashed_after: BTreeMap<Step, u64>,
    pub(super) outcomes: BTreeMap<String, u64>,
    pub(super) answers: BTreeMap<String, u64>,
    /// How runs of pipelines stood in the end.
    pub(super) runs: BTreeMap<String, u64>,
}

impl Coverage {
    pub(super) fn add(&mut self, other: Self) {
        fn add<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            from.into_iter().for_each(|(key, count)| *to.entry(key).or_default() += count);
        }
        self.schedules += other.schedules;
        add(&mut self.steps, other.steps);
        add(&mut self.crashed_after, other.crashed_after);
        add(&mut self.outcomes, other.outcomes);
        add(&mut self.answers, other.answers);
        add(&mut self.runs, other.runs);
    }

    /// Kinds of steps, and kinds followed by a crash, that happened less often than so.
    pub(super) fn missing(&self, least: u64) -> Vec<String> {
        let seen = |of: &BTreeMap<Step, u64>, step: &Step| of.get(step).copied().unwrap_or_default() >= least;
        let steps = Step::ALL.iter().filter(|step| !seen(&self.steps, step)).map(|step| format!("{step:?}"));
        // A process that is down does not crash.
        let down = [Step::Crash, Step::PowerLoss];
        let pairs = Step::ALL.iter().filter(|step| !down.contains(step) && !seen(&self.crashed_after, step));
        steps.chain(pairs.map(|step| format!("a crash after {step:?}"))).collect()
    }

    pub(super) fn print(&self) {
        println!("{} schedules, {} steps", self.schedules, self.steps.values().sum::<u64>());
        println!("{:<14} {:>9} {:>12}", "step", "count", "then crash");
        for step in Step::ALL {
            let count = |of: &BTreeMap<Step, u64>| of.get(step).copied().unwrap_or_default();
            println!("{:<14} {:>9} {:>12}", format!("{step:?}"), count(&self.steps), count(&self.crashed_after));
        }
        let line = |of: &BTreeMap<String, u64>| {
            of.iter().map(|(what, count)| format!("{what} {count}")).collect::<Vec<_>>().join(", ")
        };
        println!("outcomes: {}", line(&self.outcomes));
        println!("settlements: {}", line(&self.answers));
        println!("runs: {}", line(&self.runs));
    }
}
