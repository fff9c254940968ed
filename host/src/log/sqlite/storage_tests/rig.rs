//! A log on a disk of its own, one step at a time: no sync begins before the test has taken in every answer that was given before.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use tidegate_vfs::{Disk, Kind};
use tokio::sync::mpsc;

use super::super::tests::ManualClock;
use crate::clock::Clock;
use crate::log::sqlite::{Options, SqliteLog};
use crate::model::Timestamp;
use crate::model::spec::Retention;
use crate::store::{Checkpoints, OpenError};

pub(super) use crate::log::Feed;

/// Small, so that a short story has checkpoints and cuts of the write-ahead log in it.
const CHECKPOINTS: Checkpoints = Checkpoints { passive: 60, truncate: 200, truncate_again: 20 };

/// Holds up syncs until the test lets them go.
#[derive(Default)]
struct Pace {
    state: Mutex<PaceState>,
    changed: Condvar,
}

#[derive(Default)]
struct PaceState {
    held: bool,
    asked: u64,
    granted: u64,
}

impl Pace {
    fn set(&self, change: impl FnOnce(&mut PaceState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// A clock that moves when told to, and tells when somebody waits for it.
struct RigClock {
    inner: Arc<ManualClock>,
    waits: mpsc::UnboundedSender<Duration>,
}

impl Clock for RigClock {
    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn monotonic(&self) -> Duration {
        self.inner.monotonic()
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let _gone = self.waits.send(at).is_err();
        self.inner.sleep_until(at)
    }
}

pub(super) struct Rig {
    pub(super) disk: Disk,
    clock: Arc<ManualClock>,
    waits: mpsc::UnboundedReceiver<Duration>,
    wait: mpsc::UnboundedSender<Duration>,
    /// From which place in the record on the clock stood where.
    pub(super) times: Vec<(usize, Timestamp)>,
    /// Whoever waits for the clock for a second or less while an answer is due need not: what is held back on a full disk is
    /// tried again.
    pub(super) impatient: bool,
    folder: tempfile::TempDir,
    pace: Arc<Pace>,
    syncs: mpsc::UnboundedReceiver<()>,
}

impl Rig {
    /// With a record of everything.
    pub(super) fn recording() -> Self {
        Self::on(Disk::attach)
    }

    /// Without.
    pub(super) fn forgetful() -> Self {
        Self::on(Disk::forgetful)
    }

    fn on(disk: impl FnOnce(&Path) -> Disk) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = disk(folder.path());
        let pace = Arc::new(Pace::default());
        let (ask, syncs) = mpsc::unbounded_channel();
        let gate = pace.clone();
        disk.before(move |kind, _| {
            let mut state = gate.state.lock().unwrap();
            if kind != Kind::Sync || !state.held {
                return None;
            }
            state.asked += 1;
            let mine = state.asked;
            let _gone = ask.send(()).is_err();
            drop(gate.changed.wait_while(state, |state| state.held && state.granted < mine).unwrap());
            None
        });
        let clock = ManualClock::new();
        let times = vec![(0, clock.now())];
        let (wait, waits) = mpsc::unbounded_channel();
        Self { disk, clock, waits, wait, times, impatient: false, folder, pace, syncs }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.times.push((self.disk.position(), self.now().plus(by)));
        self.clock.advance(by);
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("tidegate.db")
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn options(&self) -> Options {
        let clock: Arc<dyn Clock> = Arc::new(RigClock { inner: self.clock.clone(), waits: self.wait.clone() });
        Options { retention: Some(RETENTION), checkpoints: CHECKPOINTS, ..Options::new(self.path(), clock) }
    }

    pub(super) fn open(&self) -> Result<(SqliteLog, Feed), OpenError> {
        SqliteLog::open(self.options())
    }

    /// From now on each sync waits for [`Rig::meanwhile`].
    pub(super) fn hold(&self) {
        self.pace.set(|state| state.held = true);
    }

    /// Nothing waits any more.
    pub(super) fn let_go(&self) {
        self.pace.set(|state| {
            state.held = false;
            state.granted = state.asked;
        });
    }

    /// Waits, and lets one sync after the other go whenever there is nothing to take in.
    pub(super) async fn meanwhile<T>(&mut self, mut answer: impl Future<Output = T> + Unpin) -> T {
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                Some(()) = self.syncs.recv() => self.pace.set(|state| state.granted += 1),
                Some(until) = self.waits.recv(), if self.impatient => {
                    let left = until.saturating_sub(self.clock.monotonic());
                    if left <= Duration::from_secs(1) {
                        self.advance(left);
                    }
                }
            }
        }
    }
}

pub(super) const RETENTION: Retention =
    Retention { events: Duration::from_secs(3_600), outcomes: Duration::from_secs(3_600) };
