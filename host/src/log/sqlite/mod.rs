//! The log on SQLite: one thread writes, one reads, and both answer through channels.
//!
//! The writer gathers whatever came while its last commit ran into the next one (group commit) and answers after that
//! commit is on disk. Reading has a thread and a connection of its own rather than the runtime's blocking pool: its
//! prepared statements stay warm, it needs no new thread when the machine has none to give, and a slow read never keeps one of
//! the runtime's threads.

mod apply;
mod command;
mod gate;
mod linger;
mod marker;
mod notes;
mod reader;
mod replays;
mod room;
mod runs;
mod schedule;
mod schedules;
mod settle;
mod writer;

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod query_reading_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod run_reading_tests;
#[cfg(test)]
mod storage_tests;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use super::feed::feed;
use super::{
    Activated, Activation, Appended, Commit, DeadDecision, DeadSelection, Error, EventLog, Feed, Pending, Recovery,
    Rekey, Settled, Settlement, Waiting, runs as rule,
};
use crate::clock::Clock;
use crate::model::pipeline::errand::{Errand, Order};
use crate::model::pipeline::run::{Refusal, RunId, Status};
use crate::model::question::QueryNote;
use crate::model::replay::{Replay, ReplaySpec, ReplayStep};
use crate::model::spec::Retention;
use crate::model::{ConsumerName, DeliveryId, Envelope, Event, Priority, Seq, Timestamp};
use crate::store::{self, Ballast, Checkpoints, KindNote, LogReader, Opening, WaitingRow, Writer};

pub use crate::store::OpenError;
use crate::telemetry::Metrics;
use command::{Command, Settling, Task};
use gate::Gate;
use reader::Question;

/// How to open a log.
#[derive(Clone)]
pub struct Options {
    pub path: PathBuf,
    pub clock: Arc<dyn Clock>,
    /// Go on although the log is damaged from this sequence on; the loss is recorded.
    pub accept_loss_from: Option<Seq>,
    /// Where the host's HTTP API listens: told to whoever finds the database in use.
    pub listen: Option<String>,
    /// What is taken away when the log has nothing else to do; none: nothing is.
    pub retention: Option<Retention>,
    /// Told of every commit with settlements in it.
    pub metrics: Option<Arc<Metrics>>,
    /// Appends that may wait for the writer: events, and bytes of their payloads. Beyond that they are `Busy`.
    pub queue_events_max: usize,
    pub queue_bytes_max: usize,
    /// The file may not grow past so many pages: a full disk for tests.
    pub pages_max: Option<u32>,
    pub checkpoints: Checkpoints,
    /// Room kept on the disk for when it is full, in bytes; on a small disk it is less.
    pub ballast: u64,
}

impl Options {
    pub fn new(path: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self {
            path: path.into(),
            clock,
            accept_loss_from: None,
            listen: None,
            retention: None,
            metrics: None,
            queue_events_max: 10_000,
            queue_bytes_max: 64 << 20,
            pages_max: None,
            checkpoints: Checkpoints::default(),
            ballast: 0,
        }
    }
}

/// The log in one SQLite file. Dropping it without [`SqliteLog::close`] is safe and is what a crash looks like: nothing
/// acknowledged is lost, and the next start takes a little longer.
pub struct SqliteLog {
    path: PathBuf,
    head: Seq,
    clock: Arc<dyn Clock>,
    commands: mpsc::UnboundedSender<Command>,
    questions: mpsc::UnboundedSender<Question>,
    gate: Arc<Gate>,
    failed: watch::Receiver<Option<String>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl SqliteLog {
    /// Opens or creates the database, and starts to write. Blocks while the end of the log is checked. The receiver
    /// gets every commit, in the order of the log.
    pub fn open(options: Options) -> Result<(Self, Feed), OpenError> {
        let opening = Opening {
            listen: options.listen.clone(),
            accept_loss_from: options.accept_loss_from,
            pages_max: options.pages_max,
            checkpoints: options.checkpoints,
            ..Opening::new(&options.path, options.clock.now())
        };
        let (store, short) = open_store(&opening)?;
        let path = store.path().to_owned();
        let (head, careful_to) = (store.head().seq, store.careful_to());
        let clock = Arc::clone(&options.clock);
        let log_reader = LogReader::open(&path)?;
        let (commands, inbox) = mpsc::unbounded_channel();
        let (questions, asked) = mpsc::unbounded_channel();
        let (teller, feed) = feed();
        let (fail, failed) = watch::channel(None);
        let gate = Arc::new(Gate::new(options.queue_events_max, options.queue_bytes_max));
        let writing = writer::start((store, short), options, inbox, teller, fail)?;
        let reading = std::thread::Builder::new()
            .name("log-reader".into())
            .spawn(move || reader::run(&log_reader, careful_to, asked))?;
        let threads = Mutex::new(vec![writing, reading]);
        Ok((Self { path, head, clock, commands, questions, gate, failed, threads }, feed))
    }

    /// The database's real path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last event when the log was opened; commits tell of those that came after.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// Holds the reason once the log can no longer write, be it a failed fsync or another host that took over: the
    /// host must stop.
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.clone()
    }

    /// Tells whoever finds the database in use where this host listens.
    pub fn announce(&self, listen: String) {
        drop(self.commands.send(Command::Announce(listen)));
    }

    /// Takes down what came of a question, with one of the next transactions. Nobody waits for it: what a crash takes away is
    /// lost, and so is what the writer has no room for.
    pub fn note_query(&self, note: QueryNote) {
        drop(self.commands.send(Command::Note(Box::new(note))));
    }

    /// Changes what is taken away, after a reload.
    pub fn retain(&self, retention: Retention) {
        drop(self.commands.send(Command::Retain(retention)));
    }

    /// What consumers are that the log knows: nothing but what is shown depends on it.
    pub fn note_kinds(&self, notes: Vec<KindNote>) -> Pending<()> {
        self.write(move |store, _, _| store.note_kinds(&notes))
    }

    /// Lets the file grow up to so many pages: a disk that fills up, or gets space again, for tests.
    pub fn limit_pages(&self, pages: u32) {
        drop(self.commands.send(Command::LimitPages(pages)));
    }

    /// Writes what is pending, notes a clean end and lets go of the database. Everything after it is `Closed`.
    pub async fn close(&self) -> Result<(), Error> {
        let (reply, done) = oneshot::channel();
        self.commands.send(Command::Close(reply)).map_err(|_| Error::Closed)?;
        drop(self.questions.send(Question::Stop));
        done.await.map_err(|_| Error::Closed)?
    }

    /// Sends a command and waits for its answer, or says at once why there will be none.
    fn ask<T: Send + 'static>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply)).is_ok();
        let failed = self.failed.clone();
        Box::pin(async move {
            if !sent {
                return Err(gone(&failed));
            }
            answer.await.unwrap_or_else(|_| Err(gone(&failed)))
        })
    }

    /// Makes a change in the next transaction.
    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer, Timestamp, &mut Vec<Commit>) -> Result<T, store::Error> + Send + 'static,
    ) -> Pending<T> {
        self.ask(|reply| Command::Work(Box::new(Task::new(work, reply))))
    }

    fn question<T: Send + 'static>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Question,
    ) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.questions.send(question(reply)).is_ok();
        Box::pin(async move {
            if !sent {
                return Err(Error::Closed);
            }
            answer.await.unwrap_or(Err(Error::Closed))
        })
    }
}

/// And whether the ballast had to be given back for it: even a start writes.
fn open_store(opening: &Opening) -> Result<(Writer, bool), OpenError> {
    match Writer::open(opening) {
        Err(OpenError::Store(e)) if e.is_full() && Ballast::drop_left(&store::real_path(&opening.path)?) => {
            tracing::warn!("the disk is full: the ballast is given back, so that the host can start");
            Ok((Writer::open(opening)?, true))
        }
        opened => Ok((opened?, false)),
    }
}

fn gone(failed: &watch::Receiver<Option<String>>) -> Error {
    failed.borrow().clone().map_or(Error::Closed, Error::Failed)
}

impl Drop for SqliteLog {
    fn drop(&mut self) {
        drop(self.commands.send(Command::Abandon));
        drop(self.questions.send(Question::Stop));
        // The lock is the writer's: who opens the database next must find it free.
        for thread in self.threads.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(thread.join());
        }
    }
}

impl EventLog for SqliteLog {
    fn append(&self, events: Vec<Envelope>) -> Pending<Vec<Appended>> {
        let Some(pass) = self.gate.enter(events.len(), events.iter().map(Envelope::data_len).sum()) else {
            return Box::pin(std::future::ready(Err(Error::Busy)));
        };
        self.ask(|reply| Command::Append { events, pass, reply })
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Pending<Settled> {
        let settled = self.ask(|reply| Command::Settle(Settling { settlements, together: true, more: false, reply }));
        Box::pin(async move { settled.await?.first().copied().ok_or(Error::Closed) })
    }

    fn settle_each(&self, settlements: Vec<Settlement>, more: bool) -> Pending<Vec<Settled>> {
        self.ask(|reply| Command::Settle(Settling { settlements, together: false, more, reply }))
    }

    fn park(&self, waiting: Vec<Waiting>) -> Pending<()> {
        let row = |Waiting { id, delivery, key, blocked, errand, priority }| WaitingRow {
            id,
            delivery,
            key,
            blocked,
            errand,
            priority,
        };
        let rows: Vec<WaitingRow> = waiting.into_iter().map(row).collect();
        self.write(move |store, _, _| rows.iter().try_for_each(|row| store.park(row)))
    }

    fn claim(&self, delivery: DeliveryId) -> Pending<()> {
        self.write(move |store, _, _| store.claim(&delivery))
    }

    fn pause(&self, consumer: ConsumerName, paused: bool) -> Pending<bool> {
        self.write(move |store, now, commits| apply::pause(store, consumer, paused, now, commits))
    }

    fn release(&self, consumer: ConsumerName, keys: Vec<String>) -> Pending<Vec<String>> {
        self.write(move |store, _, commits| apply::release(store, consumer, &keys, commits))
    }

    fn rekey(&self, step: Rekey) -> Pending<Option<(Seq, u32)>> {
        self.write(move |store, _, _| store.rekey(&step.consumer, step.after))
    }

    fn activate(&self, activation: Activation) -> Pending<Activated> {
        self.write(move |store, now, commits| apply::activate(store, &activation, now, commits))
    }

    fn decide_dead(&self, dead: DeadSelection, decision: DeadDecision) -> Pending<Vec<DeliveryId>> {
        self.write(move |store, now, commits| apply::decide_dead(store, dead, decision, now, commits))
    }

    fn start_replay(&self, spec: ReplaySpec) -> Pending<u64> {
        self.write(move |store, now, _| store.start_replay(&spec, now))
    }

    fn step_replay(&self, step: ReplayStep) -> Pending<Option<Replay>> {
        self.write(move |store, now, commits| replays::step(store, &step, now, commits))
    }

    fn errand(&self, delivery: DeliveryId) -> Pending<Option<Errand>> {
        self.question(|reply| Question::Errand { delivery, reply })
    }

    fn run_of(&self, pipeline: ConsumerName, key: String) -> Pending<Option<RunId>> {
        self.question(|reply| Question::RunOf { pipeline, key, reply })
    }

    fn order_run(&self, run: RunId, order: Order) -> Pending<Option<Result<Status, Refusal>>> {
        self.write(move |store, now, commits| rule::order(store, &run, &order, now, commits))
    }

    fn ring(&self) -> Pending<Option<Timestamp>> {
        self.write(rule::ring)
    }

    fn cancel_replay(&self, id: u64) -> Pending<bool> {
        self.write(move |store, now, _| store.cancel_replay(id, now))
    }

    fn running_replays(&self) -> Pending<Vec<Replay>> {
        self.question(|reply| Question::Replays { reply })
    }

    fn advance(&self, positions: Vec<(ConsumerName, Seq)>) {
        drop(self.commands.send(Command::Advance(positions)));
    }

    fn read(&self, after: Seq, limit: usize) -> Pending<Vec<Arc<Event>>> {
        self.question(|reply| Question::Read { after, limit, reply })
    }

    fn recover(&self, consumer: ConsumerName) -> Pending<Recovery> {
        self.question(|reply| Question::Recover { consumer, reply })
    }

    fn waiting(
        &self,
        consumer: ConsumerName,
        priority: Priority,
        after: Option<(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Pending<Vec<Waiting>> {
        self.question(|reply| Question::Waiting { consumer, priority, after, limit, reply })
    }
    fn blocked(&self, consumer: ConsumerName, key: String, later: bool, limit: usize) -> Pending<Vec<Waiting>> {
        self.question(|reply| Question::Blocked { consumer, key, later, limit, reply })
    }

    fn marked(&self, consumer: ConsumerName, key: String) -> Pending<Option<DeliveryId>> {
        let now = self.clock.now();
        self.question(|reply| Question::Marked { consumer, key, now, reply })
    }
}
