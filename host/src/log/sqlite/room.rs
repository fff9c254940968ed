//! What the writer does about a disk that is full: it gives the ballast back, so that what attempts come to can still be written, and
//! takes in nothing new until the ballast is there again.

use std::sync::Arc;
use std::time::Duration;

use crate::store::Ballast;
use crate::telemetry::Metrics;

/// How often a ballast that is missing is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Room {
    ballast: Ballast,
    /// The ballast had to be given back, and is not there again.
    short: bool,
    look_at: Option<Duration>,
    metrics: Option<Arc<Metrics>>,
}

impl Room {
    /// `short`: it was given back so that the log could be opened.
    pub(super) fn new(ballast: Ballast, short: bool, metrics: Option<Arc<Metrics>>, now: Duration) -> Self {
        let mut room = Self { short: short && ballast.is_missing(), ballast, look_at: None, metrics };
        room.looked(now);
        room
    }

    /// Nothing new is taken in.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// The disk is full. Whether there is more room now.
    pub(super) fn full(&mut self, now: Duration) -> bool {
        let released = self.ballast.release();
        if released {
            tracing::warn!(
                "the disk is full: the ballast is given back, so that what is under way can be finished; nothing new is \
                 accepted until there is room for it again"
            );
            self.short = true;
        }
        self.looked(now);
        released
    }

    pub(super) fn due(&self) -> Option<Duration> {
        self.look_at
    }

    /// Looks whether there is room for the ballast again.
    pub(super) fn look(&mut self, now: Duration) {
        if self.ballast.restore() && self.short {
            tracing::info!("there is room on the disk again, and events are accepted");
            self.short = false;
        }
        self.looked(now);
    }

    fn looked(&mut self, now: Duration) {
        self.short &= self.ballast.is_missing();
        self.look_at = self.ballast.is_missing().then(|| now + LOOK_EVERY);
        if let Some(metrics) = &self.metrics {
            metrics.ballast(self.ballast.held());
        }
    }
}
