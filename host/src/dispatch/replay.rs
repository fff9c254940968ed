//! Replays: a loop beside the dispatcher's own reads the log once more and has the next deliveries made, in bounded steps. How far
//! it is stands in the log, so it goes on after a restart. The deliveries themselves are the dispatcher's, like any that wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::clock::Clock;
use crate::log::{Error, EventLog};
use crate::model::Seq;
use crate::model::flow::{Pacer, Rate};
use crate::model::replay::{OPEN_MAX, Replay, ReplayStatus, ReplayStep};
use crate::registry::Registry;
use crate::telemetry::Metrics;

/// Events looked at in one step.
const PAGE_EVENTS: usize = 256;
/// Until there may be room again for more deliveries, or the log can be read again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const FAILED_AGAIN: Duration = Duration::from_secs(1);
/// Deliveries made in one step, so that others do not wait long for the log.
const STEP_MAX: u64 = 100;

/// Tells the loop that a replay was begun.
#[derive(Clone, Default)]
pub struct Handle {
    begun: Arc<Notify>,
}

impl Handle {
    pub fn begun(&self) {
        self.begun.notify_one();
    }
}

pub struct Replayer {
    log: Arc<dyn EventLog>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    handle: Handle,
}

/// What came of one step of one replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Went {
    /// There is more to do at once.
    On,
    /// Nothing can be made before this (monotonic) time.
    Until(Duration),
}

impl Replayer {
    pub fn new(
        log: Arc<dyn EventLog>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> (Self, Handle) {
        let handle = Handle::default();
        (Self { log, registry, clock, metrics, handle: handle.clone() }, handle)
    }

    /// Runs until `stop` says so.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let stopped = async { drop(stop.wait_for(|yes| *yes).await) };
        tokio::select! {
            () = stopped => {}
            () = self.each() => {}
        }
    }

    async fn each(&self) {
        let mut pacers = BTreeMap::new();
        loop {
            match self.round(&mut pacers).await {
                Ok(None) => self.handle.begun.notified().await,
                Ok(Some(Went::On)) => {}
                Ok(Some(Went::Until(at))) => {
                    tokio::select! {
                        () = self.clock.sleep_until(at) => {}
                        () = self.handle.begun.notified() => {}
                    }
                }
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(%error, "a replay could not go on; trying again");
                    self.clock.sleep_until(self.clock.monotonic() + FAILED_AGAIN).await;
                }
            }
        }
    }

    /// One step of each; none if there is nothing to replay.
    async fn round(&self, pacers: &mut BTreeMap<u64, Pacer>) -> Result<Option<Went>, Error> {
        let replays = self.log.running_replays().await?;
        pacers.retain(|id, _| replays.iter().any(|replay| replay.id == *id));
        let mut soonest = None;
        for replay in replays {
            let went = self.step(&replay, pacers.entry(replay.id).or_default()).await?;
            soonest = Some(match (soonest, went) {
                (Some(Went::Until(known)), Went::Until(at)) => Went::Until(at.min(known)),
                (None, went) => went,
                _ => Went::On,
            });
        }
        Ok(soonest)
    }

    async fn step(&self, replay: &Replay, pacer: &mut Pacer) -> Result<Went, Error> {
        let (now, spec) = (self.clock.monotonic(), &replay.spec);
        let room = match spec.rate {
            None => STEP_MAX,
            Some(rate) if pacer.free_at(rate, now) > now => return Ok(Went::Until(pacer.free_at(rate, now))),
            Some(rate) => burst(*pacer, rate, now),
        };
        let events = self.log.read(replay.position, PAGE_EVENTS).await?;
        let end = events.last().map_or(spec.to, |event| event.seq.min(spec.to));
        let snapshot = self.registry.current();
        // A consumer that is not deployed at the moment is waited for.
        if spec.consumer.as_ref().is_some_and(|name| !snapshot.consumers.contains_key(name)) {
            return Ok(Went::Until(now + FAILED_AGAIN));
        }
        let deliveries = spec.plan(&events, snapshot.consumers.values().map(|consumer| consumer.spec.as_ref()));
        let step = ReplayStep { id: replay.id, after: replay.position, through: end, deliveries, room };
        let Some(after) = self.log.step_replay(step).await? else { return Ok(Went::On) };
        let made = after.made.saturating_sub(replay.made);
        self.metrics.replayed(made);
        if let Some(rate) = spec.rate {
            (0..made).for_each(|_| pacer.take(rate, now));
        }
        Ok(went(&after, made, end, now))
    }
}

/// How many may be made at once.
fn burst(mut pacer: Pacer, rate: Rate, now: Duration) -> u64 {
    let mut room = 0;
    while room < STEP_MAX && pacer.free_at(rate, now) <= now {
        pacer.take(rate, now);
        room += 1;
    }
    room
}

fn went(after: &Replay, made: u64, wanted: Seq, now: Duration) -> Went {
    if after.status != ReplayStatus::Running {
        tracing::info!("replay {}: all {} deliveries are made", after.id, after.made);
        return Went::On;
    }
    // As many as may be are not final: there is room again when some are.
    let is_full = after.position < wanted && (made == 0 || after.open >= OPEN_MAX);
    if is_full { Went::Until(now + AGAIN_AFTER) } else { Went::On }
}
