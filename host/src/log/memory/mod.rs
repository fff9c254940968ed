//! A log in memory, for simulations: the same promises as on a disk, kept for as long as the value lives. What a crash
//! leaves is [`MemoryLog::reopen`].

mod dead;
mod kept;
mod rekey;
mod replays;
mod retention;
mod runs;
mod schedules;
mod settle;

#[cfg(test)]
mod tests;

use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::kept::Kept;
pub use self::runs::RunStanding;
use super::feed::{Teller, feed};
use super::{
    Activated, Activation, Appended, AttemptRecord, Commit, DeadDecision, DeadSelection, Error, EventLog, Feed,
    Pending, Recovery, Rekey, Settled, Settlement, Waiting, runs as rule,
};
use crate::clock::Clock;
use crate::model::pipeline::errand::{Errand, Order};
use crate::model::pipeline::run::{Refusal, RunId, Status};
use crate::model::replay::{Replay, ReplaySpec, ReplayStep};
use crate::model::{ConsumerName, DeliveryId, Envelope, Event, Priority, Seq, Timestamp};
use bytes::Bytes;

/// See the module.
pub struct MemoryLog {
    kept: Arc<Mutex<Kept>>,
    clock: Arc<dyn Clock>,
    teller: Teller,
    /// See [`Recovery::careful_to`].
    careful_to: Seq,
}

impl MemoryLog {
    /// Empty. The receiver gets every commit, in the order of the log.
    pub fn new(clock: Arc<dyn Clock>) -> (Self, Feed) {
        let (teller, feed) = feed();
        (Self { kept: Arc::default(), clock, teller, careful_to: 0 }, feed)
    }

    /// A host that starts anew on what this one has kept; after a crash, unless this one was closed. This one must not
    /// be used any more.
    pub fn reopen(&self) -> (Self, Feed) {
        let (teller, feed) = feed();
        let careful_to = self.kept().start();
        (Self { kept: Arc::clone(&self.kept), clock: Arc::clone(&self.clock), teller, careful_to }, feed)
    }

    /// Notes a clean end.
    pub fn close(&self) {
        self.kept().closed = true;
    }

    /// Every attempt's record, by delivery and call.
    pub fn outcomes(&self) -> Vec<(DeliveryId, AttemptRecord)> {
        self.kept().outcomes.iter().map(|((id, _), (record, _))| (id.clone(), record.clone())).collect()
    }

    /// How many events a call published.
    pub fn published(&self, id: &DeliveryId, call: u32) -> Option<usize> {
        self.kept().outcomes.get(&(id.clone(), call)).map(|(_, published)| *published)
    }

    /// Every replay, the oldest first.
    pub fn replays(&self) -> Vec<Replay> {
        self.kept().replays.all()
    }

    /// Every run, by event and pipeline.
    pub fn runs(&self) -> Vec<RunStanding> {
        self.kept().run_standings()
    }

    /// Dead letters that nobody has decided about.
    pub fn dead(&self) -> Vec<DeliveryId> {
        self.kept().dead.iter().filter(|(_, dead)| !dead.decided).map(|(id, _)| id.clone()).collect()
    }

    /// A value of a consumer's state and its version; none if it is absent or has expired.
    pub fn state_get(&self, consumer: &ConsumerName, key: &str) -> Option<(Bytes, u64)> {
        let now = self.clock.now();
        let kept = self.kept();
        let found = kept.state.get(&(consumer.clone(), key.to_owned())).filter(|value| value.lives(now))?;
        Some((found.value.clone(), found.version))
    }

    /// Keys in byte order, and the revision of the consumer's state.
    pub fn state_keys(&self, consumer: &ConsumerName, prefix: &str) -> (Vec<String>, u64) {
        let now = self.clock.now();
        let kept = self.kept();
        let mine = kept
            .state
            .iter()
            .filter(|((owner, key), value)| owner == consumer && key.starts_with(prefix) && value.lives(now));
        let keys = mine.map(|((_, key), _)| key.clone()).collect();
        (keys, kept.revisions.get(consumer).copied().unwrap_or(0))
    }

    /// Takes away events that were accepted before this, as the store's retention does it; answers which.
    pub fn prune(&self, limit: Timestamp) -> Vec<Seq> {
        self.kept().prune(limit)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` and tells what has become durable before anybody else can write.
    fn commit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Kept, Timestamp, &mut Vec<Commit>) -> Result<T, Error>,
    ) -> Pending<T> {
        let mut commits = Vec::new();
        let mut kept = self.kept();
        let answer = work(&mut kept, self.clock.now(), &mut commits);
        self.teller.tell(commits);
        drop(kept);
        Box::pin(ready(answer))
    }
}

impl EventLog for MemoryLog {
    fn append(&self, events: Vec<Envelope>) -> Pending<Vec<Appended>> {
        self.commit(|kept, now, commits| kept.append(events, now, commits))
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Pending<Settled> {
        self.commit(|kept, now, commits| Ok(kept.settle(settlements, now, commits)))
    }

    fn settle_each(&self, settlements: Vec<Settlement>, _: bool) -> Pending<Vec<Settled>> {
        self.commit(|kept, now, commits| {
            Ok(settlements.into_iter().map(|one| kept.settle(vec![one], now, commits)).collect())
        })
    }

    fn park(&self, waiting: Vec<Waiting>) -> Pending<()> {
        self.commit(|kept, _, _| {
            waiting.into_iter().for_each(|waiting| kept.park(waiting));
            Ok(())
        })
    }

    fn claim(&self, delivery: DeliveryId) -> Pending<()> {
        self.commit(|kept, _, _| {
            kept.claim(delivery);
            Ok(())
        })
    }

    fn pause(&self, consumer: ConsumerName, paused: bool) -> Pending<bool> {
        self.commit(|kept, _, commits| Ok(kept.pause(consumer, paused, commits)))
    }

    fn release(&self, consumer: ConsumerName, keys: Vec<String>) -> Pending<Vec<String>> {
        self.commit(|kept, _, commits| Ok(kept.release(&consumer, &keys, commits)))
    }

    fn rekey(&self, step: Rekey) -> Pending<Option<(Seq, u32)>> {
        self.commit(|kept, _, _| Ok(kept.rekey(&step)))
    }

    fn activate(&self, activation: Activation) -> Pending<Activated> {
        self.commit(|kept, _, commits| Ok(kept.activate(activation, commits)))
    }

    fn decide_dead(&self, dead: DeadSelection, decision: DeadDecision) -> Pending<Vec<DeliveryId>> {
        self.commit(|kept, now, commits| Ok(kept.decide_dead(&dead, decision, now, commits)))
    }

    fn start_replay(&self, spec: ReplaySpec) -> Pending<u64> {
        self.commit(|kept, now, _| Ok(kept.replays.start(spec, now)))
    }

    fn step_replay(&self, step: ReplayStep) -> Pending<Option<Replay>> {
        self.commit(|kept, now, commits| Ok(kept.step_replay(&step, now, commits)))
    }

    fn errand(&self, delivery: DeliveryId) -> Pending<Option<Errand>> {
        Box::pin(ready(Ok(self.kept().errand(&delivery))))
    }

    fn run_of(&self, pipeline: ConsumerName, key: String) -> Pending<Option<RunId>> {
        Box::pin(ready(Ok(self.kept().run_with(&pipeline, &key))))
    }

    fn order_run(&self, run: RunId, order: Order) -> Pending<Option<Result<Status, Refusal>>> {
        self.commit(|kept, now, commits| {
            let Ok(answer) = rule::order(kept, &run, &order, now, commits);
            Ok(answer)
        })
    }

    fn ring(&self) -> Pending<Option<Timestamp>> {
        self.commit(|kept, now, commits| {
            let Ok(next) = rule::ring(kept, now, commits);
            Ok(next)
        })
    }

    fn cancel_replay(&self, id: u64) -> Pending<bool> {
        self.commit(|kept, now, _| Ok(kept.replays.cancel(id, now)))
    }

    fn running_replays(&self) -> Pending<Vec<Replay>> {
        Box::pin(ready(Ok(self.kept().replays.running())))
    }

    fn advance(&self, positions: Vec<(ConsumerName, Seq)>) {
        let mut kept = self.kept();
        for (consumer, seq) in positions {
            let position = kept.positions.entry(consumer).or_default();
            *position = seq.max(*position);
        }
    }

    fn read(&self, after: Seq, limit: usize) -> Pending<Vec<Arc<Event>>> {
        let from = usize::try_from(after).unwrap_or(usize::MAX);
        let kept = self.kept();
        let there = kept.events.iter().skip(from).filter(|event| !kept.gone.contains(&event.seq));
        let events = there.take(limit).cloned().collect();
        Box::pin(ready(Ok(events)))
    }

    fn recover(&self, consumer: ConsumerName) -> Pending<Recovery> {
        let recovery = Recovery { careful_to: self.careful_to, ..self.kept().recover(&consumer) };
        Box::pin(ready(Ok(recovery)))
    }

    fn waiting(
        &self,
        consumer: ConsumerName,
        priority: Priority,
        after: Option<(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Pending<Vec<Waiting>> {
        Box::pin(ready(Ok(self.kept().page(&consumer, priority, after.as_ref(), limit))))
    }

    fn blocked(&self, consumer: ConsumerName, key: String, later: bool, limit: usize) -> Pending<Vec<Waiting>> {
        Box::pin(ready(Ok(self.kept().blocked(&consumer, &key, later, limit))))
    }

    fn marked(&self, consumer: ConsumerName, key: String) -> Pending<Option<DeliveryId>> {
        let by = self.kept().marked(&consumer, &key, self.clock.now());
        Box::pin(ready(Ok(by)))
    }
}
