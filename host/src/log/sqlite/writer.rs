//! The thread that writes: group commit, lazy positions, watermark, checkpoints, retention, and what happens when the
//! disk is full or fails.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Options;
use super::command::{Answer, Command, Reply, Settling, apply_one};
use super::linger::{LINGER_MAX, Linger};
use super::marker::Marker;
use super::notes::Notes;
use super::reader::error;
use super::room::Room;
use super::schedule::Queue;
use crate::clock::Clock;
use crate::log::feed::Teller;
use crate::log::{Commit, Error};
use crate::model::pipeline::run;
use crate::model::spec::Retention;
use crate::model::{ConsumerName, Seq};
use crate::planted::{self, Bug};
use crate::store::{self, Ballast, Class, OpenError, Writer};
use crate::telemetry::Metrics;

/// Commands taken in before a transaction.
const GATHER_MAX: usize = 10_000;
/// A watermark is written when so many events are new, or so long after the first of them.
const MARK_EVENTS: u64 = 1_000;
const MARK_EVERY: Duration = Duration::from_secs(1);
/// Positions are written with the first transaction after this, or by themselves.
const POSITIONS_EVERY: Duration = Duration::from_secs(1);
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Between steps of retention while there is more to take away.
const PRUNE_STEP_EVERY: Duration = Duration::from_millis(50);
/// Settlements that found the disk full are tried again after this.
const FULL_RETRY: Duration = Duration::from_millis(500);
/// Settlements kept while the disk is full; more are answered `Full`.
const HELD_MAX: usize = 10_000;

struct Service {
    store: Writer,
    clock: Arc<dyn Clock>,
    inbox: mpsc::UnboundedReceiver<Command>,
    queue: Queue<Command>,
    linger: Linger,
    teller: Teller,
    fail: watch::Sender<Option<String>>,
    retention: Option<Retention>,
    metrics: Option<Arc<Metrics>>,
    positions: BTreeMap<ConsumerName, Seq>,
    positions_at: Option<Duration>,
    notes: Notes,
    marker: Marker,
    mark_at: Option<Duration>,
    prune_at: Duration,
    /// Settlements that found the disk full.
    held: VecDeque<Settling>,
    retry_at: Option<Duration>,
    room: Room,
}

/// Why a loop ends.
enum End {
    Closed(Reply<()>),
    Abandoned,
    Failed,
}

pub(super) fn start(
    (store, short): (Writer, bool),
    options: Options,
    inbox: mpsc::UnboundedReceiver<Command>,
    teller: Teller,
    fail: watch::Sender<Option<String>>,
) -> Result<JoinHandle<()>, OpenError> {
    let marker = Marker::start(&store, fail.clone())?;
    let now = options.clock.monotonic();
    let prune_at = now + PRUNE_EVERY;
    let ballast = Ballast::new(store.path(), options.ballast);
    let room = Room::new(ballast, short, options.metrics.clone(), now);
    // The machine's clock is tokio's, so the thread needs a runtime to wait in.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let service = Service {
        store,
        clock: options.clock,
        inbox,
        queue: Queue::new(),
        linger: Linger::default(),
        teller,
        fail,
        retention: options.retention,
        metrics: options.metrics,
        positions: BTreeMap::new(),
        positions_at: None,
        notes: Notes::default(),
        marker,
        mark_at: None,
        prune_at,
        held: VecDeque::new(),
        retry_at: None,
        room,
    };
    #[cfg(test)]
    let planted = planted::switches();
    let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || {
        #[cfg(test)]
        planted.take();
        service.run(&runtime);
    })?;
    Ok(thread)
}

/// A panic must not leave a host that only looks alive.
struct PanicGuard(watch::Sender<Option<String>>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.send_replace(Some("the writer has panicked; this is a bug in the host".into()));
        }
    }
}

impl Service {
    fn run(mut self, runtime: &tokio::runtime::Runtime) {
        let _guard = PanicGuard(self.fail.clone());
        let mut ending = None;
        let end = loop {
            if ending.is_none() {
                ending = self.take_in(runtime);
            }
            let group = self.queue.group();
            if let Err(e) = self.work(group) {
                self.fail_with(&e);
                break End::Failed;
            }
            // What came before the end is written before the end.
            if self.queue.is_empty()
                && let Some(end) = ending.take()
            {
                break end;
            }
            if self.fail.borrow().is_some() {
                break End::Failed;
            }
        };
        self.end(end);
    }

    /// Takes in what the next transaction is made of: waits for the first, and then for more if that is worth it. What was left over
    /// from the last one waits for nothing.
    fn take_in(&mut self, runtime: &tokio::runtime::Runtime) -> Option<End> {
        self.linger = Linger::default();
        if !self.queue.is_empty() {
            return self.gather(None);
        }
        let first = runtime.block_on(self.next());
        let mut ending = self.gather(first);
        let until = self.clock.monotonic() + LINGER_MAX;
        while ending.is_none() && self.linger.can_wait() {
            let Some(more) = runtime.block_on(self.next_until(until)) else { break };
            ending = self.gather(Some(more));
        }
        ending
    }

    /// The next command, or none when something is due.
    async fn next(&mut self) -> Option<Command> {
        let due = [self.positions_at, self.notes.due(), self.mark_at, self.retry_at, self.room.due()];
        let due = due.into_iter().flatten().min();
        self.next_until(due.map_or(self.prune_at, |due| due.min(self.prune_at))).await
    }

    async fn next_until(&mut self, until: Duration) -> Option<Command> {
        tokio::select! {
            biased;
            command = self.inbox.recv() => Some(command.unwrap_or(Command::Abandon)),
            () = self.clock.sleep_until(until) => None,
        }
    }

    /// Takes in what has come in the meantime: whatever comes while a group is committed is for a later one.
    fn gather(&mut self, first: Option<Command>) -> Option<End> {
        let mut next = first.or_else(|| self.inbox.try_recv().ok());
        let mut taken = 0;
        while let Some(command) = next {
            match command {
                Command::Close(reply) => return Some(End::Closed(reply)),
                Command::Abandon => return Some(End::Abandoned),
                Command::Advance(positions) => self.note(positions),
                Command::Note(note) => self.notes.add(*note, self.clock.monotonic()),
                Command::Announce(listen) => {
                    drop(self.store.announce(self.clock.now(), Some(listen)));
                }
                Command::Retain(retention) => self.retain(retention),
                Command::LimitPages(pages) => drop(self.store.limit_pages(pages)),
                command => {
                    self.linger.add(command.urgency());
                    let bytes = command.bytes();
                    self.queue.push(command, bytes);
                }
            }
            taken += 1;
            next = if taken < GATHER_MAX { self.inbox.try_recv().ok() } else { None };
        }
        None
    }

    /// What is past a shorter retention goes at once, and not only when the next round is due.
    fn retain(&mut self, retention: Retention) {
        if self.retention.replace(retention).is_some_and(|before| before != retention) {
            self.prune_at = self.clock.monotonic();
        }
    }

    fn note(&mut self, positions: Vec<(ConsumerName, Seq)>) {
        for (consumer, seq) in positions {
            let position = self.positions.entry(consumer).or_default();
            *position = seq.max(*position);
        }
        self.positions_at.get_or_insert(self.clock.monotonic() + POSITIONS_EVERY);
    }

    /// One round: what was held back, the new group, and what is due. An error ends the log.
    fn work(&mut self, group: VecDeque<Command>) -> Result<(), store::Error> {
        let now = self.clock.monotonic();
        if self.room.due().is_some_and(|at| at <= now) {
            self.room.look(now);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_held()?;
        }
        let group = if self.room.is_short() { refuse_new(group) } else { group };
        let due = [self.positions_at, self.notes.due()].into_iter().flatten().any(|at| at <= now);
        if !group.is_empty() || due {
            self.transact(group)?;
        }
        if self.mark_at.is_some_and(|at| at <= now) {
            self.mark_at = None;
            self.marker.mark(self.store.head());
        }
        if self.prune_at <= now {
            self.prune_at = now + PRUNE_EVERY;
            if let Some(retention) = self.retention
                && self.held.is_empty()
                && self.prune(retention)?
            {
                self.prune_at = now + PRUNE_STEP_EVERY;
            }
        }
        Ok(())
    }

    fn retry_held(&mut self) -> Result<(), store::Error> {
        let held = mem::take(&mut self.held);
        self.retry_at = None;
        self.transact(held.into_iter().map(Command::Settle).collect())
    }

    fn observe(&self, answers: &[Answer], commits: &[Commit], began: Duration) {
        let Some(metrics) = &self.metrics else { return };
        for commit in commits {
            let Commit::Events(events) = commit else { continue };
            metrics.accepted(events.len() as u64);
            for (run, status) in events.iter().filter_map(|event| run::ended(&event.envelope)) {
                metrics.run_ended(&run.pipeline, status);
            }
        }
        let settled =
            |answer: &Answer| if let Answer::Settle { settling, .. } = answer { settling.settlements.len() } else { 0 };
        let settlements = answers.iter().map(settled).sum::<usize>() as u64;
        if settlements > 0 {
            metrics.settled(settlements, self.clock.monotonic().saturating_sub(began));
        }
    }

    /// One transaction; answers only after it is on disk.
    fn transact(&mut self, mut group: VecDeque<Command>) -> Result<(), store::Error> {
        let mut commits = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        let positions = mem::take(&mut self.positions);
        self.positions_at = None;
        let began = self.clock.monotonic();
        let tried = self.attempt(&mut group, &positions, &mut commits, &mut answers);
        self.notes.written();
        match tried {
            Ok(()) => self.observe(&answers, &commits, began),
            Err(e) => {
                self.note(positions.into_iter().collect());
                return self.undo(e, answers, group);
            }
        }
        // Nothing above this line has told anybody anything.
        self.teller.tell(commits);
        for answer in answers {
            answer.send();
        }
        self.after_commit()
    }

    fn attempt(
        &mut self,
        group: &mut VecDeque<Command>,
        positions: &BTreeMap<ConsumerName, Seq>,
        commits: &mut Vec<Commit>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), store::Error> {
        self.store.begin()?;
        let now = self.clock.now();
        while let Some(command) = group.pop_front() {
            apply_one(&mut self.store, command, now, commits, answers)?;
        }
        for (consumer, seq) in positions {
            self.store.advance(consumer, *seq)?;
        }
        self.notes.write(&mut self.store)?;
        if planted::is(Bug::AckBeforeCommit) {
            answers.drain(..).for_each(Answer::send);
        }
        if planted::is(Bug::WatermarkBeforeCommit) {
            self.marker.mark(self.store.head());
        }
        self.store.commit()
    }

    /// Takes a transaction back. If the disk is full, settlements are kept: what an attempt came to is not thrown away
    /// for want of space.
    fn undo(&mut self, error: store::Error, answers: Vec<Answer>, rest: VecDeque<Command>) -> Result<(), store::Error> {
        let undone = self.store.rollback();
        let class = if undone.is_ok() { error.class() } else { Class::Fatal };
        // Before anybody hears that the disk is full.
        let now = self.clock.monotonic();
        let more_room = class == Class::Full && self.room.full(now);
        let refusal = || match class {
            Class::Full => Error::Full,
            Class::Busy => Error::Busy,
            Class::Fatal => Error::Failed(error.to_string()),
        };
        let mut others = false;
        for answer in answers.into_iter().chain(rest.into_iter().filter_map(Answer::unapplied)) {
            match answer {
                Answer::Settle { settling, .. } if class != Class::Fatal && self.held.len() < HELD_MAX => {
                    self.held.push_back(settling);
                }
                answer => {
                    others = true;
                    answer.refuse(refusal());
                }
            }
        }
        if class == Class::Fatal {
            return Err(error);
        }
        if more_room {
            self.prune_at = now;
            // Before the write-ahead log grows into all of it.
            self.store.checkpoint()?;
        }
        if !self.held.is_empty() {
            // Without the appends, or with what the ballast took, the settlements may fit.
            let delay = if others || more_room { Duration::ZERO } else { FULL_RETRY };
            self.retry_at = Some(now + delay);
        }
        Ok(())
    }

    fn after_commit(&mut self) -> Result<(), store::Error> {
        let head = self.store.head();
        if head.seq >= self.marker.marked + MARK_EVENTS {
            self.mark_at = None;
            self.marker.mark(head);
        } else if head.seq > self.marker.marked {
            self.mark_at.get_or_insert(self.clock.monotonic() + MARK_EVERY);
        }
        // What room is left is not for a long write-ahead log.
        if self.room.is_short() { self.store.checkpoint() } else { self.store.checkpoint_if_due() }
    }

    /// One step; answers whether there may be more to take away.
    fn prune(&mut self, retention: Retention) -> Result<bool, store::Error> {
        let now = self.clock.now();
        let step = (|| {
            self.store.begin()?;
            let gone = self.store.prune(retention, now)?;
            self.store.commit()?;
            Ok(gone)
        })();
        match step {
            Ok(gone) => {
                self.store.checkpoint_if_due()?;
                Ok(gone > 0)
            }
            Err(e) => self.undo(e, Vec::new(), VecDeque::new()).map(|()| false),
        }
    }

    fn fail_with(&self, error: &store::Error) {
        self.fail.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert_with(|| error.to_string());
            first
        });
    }

    fn end(mut self, end: End) {
        let End::Closed(reply) = end else {
            // As a crash would leave it.
            self.marker.stop();
            return;
        };
        let mut flushed = self.retry_held();
        if flushed.is_ok() && !self.held.is_empty() {
            // The disk was full, and there may be more room now.
            flushed = self.retry_held();
        }
        let flushed = flushed.and_then(|()| self.transact(VecDeque::new()));
        let head = self.store.head();
        self.marker.mark(head);
        self.marker.stop();
        let closed = flushed.and_then(|()| self.store.close());
        drop(reply.send(closed.map_err(error)));
    }
}

/// What was to be appended is refused; all else is still done.
fn refuse_new(group: VecDeque<Command>) -> VecDeque<Command> {
    let (new, rest): (VecDeque<_>, VecDeque<_>) =
        group.into_iter().partition(|command| matches!(command, Command::Append { .. }));
    new.into_iter().filter_map(Answer::unapplied).for_each(|answer| answer.refuse(Error::Full));
    rest
}
