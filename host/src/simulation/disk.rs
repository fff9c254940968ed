//! The log as the schedule has it. Every promise is kept by the memory log beneath; this one decides when a commit becomes durable,
//! whether it does, who learns of it when, and when a question is answered. Its groups, refusals and what it keeps for a full disk are
//! those of `log/sqlite/writer.rs`.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};

use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use super::changes::{Applied, Change};
use crate::log::feed::{Teller, feed};
use crate::log::memory::MemoryLog;
use crate::log::schedules::ScheduleLog;
use crate::log::{
    Activated, Activation, Appended, Commit, DeadDecision, DeadSelection, Error, EventLog, Feed, Pending, Recovery,
    Rekey, Settled, Settlement, Waiting,
};
use crate::model::pipeline::errand::{Errand, Order};
use crate::model::pipeline::run::{Refusal, RunId, Status};
use crate::model::replay::{Replay, ReplaySpec, ReplayStep};
use crate::model::{ConsumerName, DeliveryId, Envelope, Event, Priority, Seq, Timestamp};

type Reply<T> = oneshot::Sender<Result<T, Error>>;
type Tell = Box<dyn FnOnce() + Send>;
/// Evaluates a question on the log, or on none if it cannot be read; what comes out tells the answer.
type Question = Box<dyn FnOnce(Option<&MemoryLog>) -> Tell + Send>;

enum Write {
    Append(Vec<Envelope>, Reply<Vec<Appended>>),
    Settle(Vec<Settlement>, Reply<Settled>),
    Park(Vec<Waiting>, Reply<()>),
    Claim(DeliveryId, Reply<()>),
    Pause(ConsumerName, bool, Reply<bool>),
    Release(ConsumerName, Vec<String>, Reply<Vec<String>>),
    Rekey(Rekey, Reply<Option<(Seq, u32)>>),
    Activate(Activation, Reply<Activated>),
    Decide(DeadSelection, DeadDecision, Reply<Vec<DeliveryId>>),
    Order(RunId, Order, Reply<Option<Result<Status, Refusal>>>),
    Ring(Reply<Option<Timestamp>>),
    StartReplay(ReplaySpec, Reply<u64>),
    StepReplay(ReplayStep, Reply<Option<Replay>>),
    CancelReplay(u64, Reply<bool>),
    Plan(Vec<(String, String)>, Timestamp, Reply<Vec<Timestamp>>),
    Fire(String, Timestamp, Box<Envelope>, Reply<bool>),
    Prune(Timestamp),
}

struct State {
    log: Arc<MemoryLog>,
    made: Feed,
    teller: Teller,
    /// Not yet in a transaction.
    queue: VecDeque<Write>,
    /// In a transaction whose fate is open.
    flight: Vec<Write>,
    /// Durable, and nobody knows it.
    untold: VecDeque<(Vec<Commit>, Tell)>,
    questions: Vec<Question>,
    answers: Vec<Tell>,
    positions: Vec<(ConsumerName, Seq)>,
    applied: Vec<Applied>,
    /// The latest settlements that were committed.
    latest: VecDeque<Vec<Settlement>>,
    failed: bool,
    closed: bool,
    /// Counts what was asked of it: whether anything is going on.
    asked: u64,
}

/// Settlements remembered to be sent again.
const LATEST_MAX: usize = 8;

/// One process's view of the disk.
pub(super) struct Disk(Mutex<State>);

impl Disk {
    /// A host opens the log. The receiver gets every commit, as its dispatcher does.
    pub(super) fn open(log: MemoryLog, made: Feed) -> (Arc<Self>, Feed) {
        let (teller, commits) = feed();
        let state = State {
            log: Arc::new(log),
            made,
            teller,
            queue: VecDeque::new(),
            flight: Vec::new(),
            untold: VecDeque::new(),
            questions: Vec::new(),
            answers: Vec::new(),
            positions: Vec::new(),
            applied: Vec::new(),
            latest: VecDeque::new(),
            failed: false,
            closed: false,
            asked: 0,
        };
        (Arc::new(Self(Mutex::new(state))), commits)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What is kept, as it can be read now.
    pub(super) fn log(&self) -> Arc<MemoryLog> {
        self.state().log.clone()
    }

    pub(super) fn asked(&self) -> u64 {
        self.state().asked
    }

    /// What has become durable since this was asked last.
    pub(super) fn applied(&self) -> Vec<Applied> {
        mem::take(&mut self.state().applied)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.state().failed
    }

    pub(super) fn has_writes(&self) -> bool {
        let state = self.state();
        !state.queue.is_empty() || !state.flight.is_empty() || !state.positions.is_empty()
    }

    pub(super) fn has_untold(&self) -> bool {
        !self.state().untold.is_empty()
    }

    /// Questions that are not answered, and answers that are not there yet.
    pub(super) fn questions(&self) -> usize {
        let state = self.state();
        state.questions.len() + state.answers.len()
    }

    /// A transaction begins, with what has gathered.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        if state.flight.is_empty() {
            state.flight = state.queue.drain(..).collect();
        }
    }

    /// It is on disk.
    pub(super) fn sync(&self) {
        self.state().sync();
    }

    /// There is room for what is under way only: what is new is refused.
    pub(super) fn refuse_new(&self) {
        let mut state = self.state();
        let flight = mem::take(&mut state.flight);
        let (new, rest): (Vec<_>, Vec<_>) = flight.into_iter().partition(|write| matches!(write, Write::Append(..)));
        new.into_iter().for_each(|write| write.refuse(|| Error::Full));
        state.flight = rest;
    }

    /// There is no room: it is taken back. Settlements are kept and tried again.
    pub(super) fn refuse_for_space(&self) {
        let mut state = self.state();
        let flight = mem::take(&mut state.flight);
        let mut held = VecDeque::new();
        for write in flight {
            match write {
                Write::Settle(settlements, reply) => held.push_back(Write::Settle(settlements, reply)),
                other => other.refuse(|| Error::Full),
            }
        }
        held.append(&mut state.queue);
        state.queue = held;
    }

    /// The disk did not keep what it was given: nobody knows what is there.
    pub(super) fn fail(&self, survives: bool) {
        let mut state = self.state();
        state.failed = true;
        if survives {
            state.sync();
        }
        // The host stops: nobody is told anything any more.
        state.untold.clear();
        let lost = mem::take(&mut state.flight).into_iter().chain(mem::take(&mut state.queue));
        lost.for_each(|write| write.refuse(|| Error::Failed("the disk did not keep what it was given".into())));
    }

    /// Up to `limit` transactions' writes are told, in their order.
    /// Answers what was told.
    pub(super) fn tell(&self, limit: usize) -> Vec<Commit> {
        let mut told = Vec::new();
        for _ in 0..limit {
            let Some((commits, tell)) = self.state().untold.pop_front() else { break };
            let teller = self.state().teller.clone();
            told.extend(commits.iter().cloned());
            teller.tell(commits);
            tell();
        }
        told
    }

    /// One question is looked up, or one answer arrives.
    pub(super) fn answer(&self, pick: usize, readable: bool) {
        let mut state = self.state();
        let pick = pick % (state.questions.len() + state.answers.len()).max(1);
        if pick < state.answers.len() {
            let answer = state.answers.remove(pick);
            drop(state);
            answer();
        } else if pick - state.answers.len() < state.questions.len() {
            let question = pick - state.answers.len();
            let question = state.questions.remove(question);
            let log = state.log.clone();
            state.answers.push(question(readable.then_some(&log)));
        }
    }

    /// Every question is answered at once.
    pub(super) fn answer_all(&self) {
        loop {
            let mut state = self.state();
            let questions = mem::take(&mut state.questions);
            let log = state.log.clone();
            let answers = mem::take(&mut state.answers);
            drop(state);
            if questions.is_empty() && answers.is_empty() {
                return;
            }
            answers
                .into_iter()
                .chain(questions.into_iter().map(|question| question(Some(&log))))
                .for_each(|tell| tell());
        }
    }

    /// Retention takes what is older.
    pub(super) fn prune(&self, limit: Timestamp) {
        let mut state = self.state();
        if !state.failed {
            state.queue.push_back(Write::Prune(limit));
        }
    }

    /// One of the latest settlements comes again, as from a host that does not know that it was superseded.
    pub(super) fn echo(&self, pick: usize) {
        let mut state = self.state();
        if !state.latest.is_empty() && !state.failed {
            let settlements = state.latest[pick % state.latest.len()].clone();
            // Nobody waits for the answer.
            state.queue.push_back(Write::Settle(settlements, oneshot::channel().0));
        }
    }

    pub(super) fn can_echo(&self) -> bool {
        !self.state().latest.is_empty()
    }

    /// The process is gone. A transaction in flight is there or not; what was not yet in one is not.
    pub(super) fn crash(&self, survives: bool) {
        let mut state = self.state();
        state.closed = true;
        if survives {
            state.sync();
        }
        state.queue.clear();
        state.flight.clear();
        state.untold.clear();
        state.questions.clear();
        state.answers.clear();
        state.positions.clear();
    }

    fn write<T: Send + 'static>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        state.asked += 1;
        if state.failed || state.closed {
            return Box::pin(async { Err(Error::Failed("the disk did not keep what it was given".into())) });
        }
        state.queue.push_back(write(reply));
        drop(state);
        Box::pin(async move { answer.await.unwrap_or(Err(Error::Closed)) })
    }

    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(&MemoryLog) -> Pending<T> + Send + 'static) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        state.asked += 1;
        state.questions.push(Box::new(move |log| {
            let found = log.map_or(Err(Error::Busy), |log| now(ask(log)));
            Box::new(move || drop(reply.send(found)))
        }));
        drop(state);
        Box::pin(async move { answer.await.unwrap_or(Err(Error::Closed)) })
    }
}

/// The memory log answers at once.
fn now<T>(pending: Pending<T>) -> Result<T, Error> {
    pending.now_or_never().expect("the memory log answers at once")
}

impl State {
    fn sync(&mut self) {
        for write in mem::take(&mut self.flight) {
            let (change, tell) = write.apply(&self.log);
            if let Change::Settled(settlements, Settled::Committed) = &change {
                self.latest.truncate(LATEST_MAX - 1);
                self.latest.push_front(settlements.clone());
            }
            let mut commits = Vec::new();
            while let Ok(commit) = self.made.try_recv() {
                commits.push(commit);
            }
            self.applied.push(Applied::new(change, commits.clone(), &self.log));
            self.untold.push_back((commits, tell));
        }
        let positions = mem::take(&mut self.positions);
        if !positions.is_empty() {
            self.log.advance(positions);
        }
    }
}

impl Write {
    fn apply(self, log: &MemoryLog) -> (Change, Tell) {
        match self {
            Self::Append(events, reply) => {
                let answer = now(log.append(events.clone()));
                let told = answer.as_ref().map_err(again).cloned();
                (Change::Appended(events, told), tell(reply, answer))
            }
            Self::Settle(settlements, reply) => {
                let answer = now(log.settle(settlements.clone())).unwrap();
                (Change::Settled(settlements, answer), tell(reply, Ok(answer)))
            }
            Self::Park(waiting, reply) => {
                let answer = now(log.park(waiting.clone()));
                (Change::Parked(waiting), tell(reply, answer))
            }
            Self::Claim(id, reply) => {
                let answer = now(log.claim(id.clone()));
                (Change::Claimed(id), tell(reply, answer))
            }
            Self::Pause(consumer, paused, reply) => {
                let answer = now(log.pause(consumer.clone(), paused));
                (Change::Paused(consumer, paused), tell(reply, answer))
            }
            Self::Release(consumer, keys, reply) => {
                let answer = now(log.release(consumer.clone(), keys));
                let freed = answer.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
                (Change::Released(consumer, freed), tell(reply, answer))
            }
            Self::Rekey(step, reply) => {
                let last = now(log.rekey(step.clone())).unwrap();
                (Change::Rekeyed(step, last), tell(reply, Ok(last)))
            }
            Self::Activate(activation, reply) => {
                let answer = now(log.activate(activation.clone())).unwrap();
                (Change::Activated(activation, answer), tell(reply, Ok(answer)))
            }
            Self::Decide(dead, decision, reply) => {
                let chosen = now(log.decide_dead(dead.clone(), decision)).unwrap();
                (Change::Decided(dead, decision, chosen.clone()), tell(reply, Ok(chosen)))
            }
            Self::Order(run, order, reply) => {
                let answer = now(log.order_run(run.clone(), order.clone())).unwrap();
                (Change::Ordered(run, order, answer.clone()), tell(reply, Ok(answer)))
            }
            Self::Ring(reply) => {
                let answer = now(log.ring());
                (Change::Rang, tell(reply, answer))
            }
            Self::StartReplay(spec, reply) => {
                let id = now(log.start_replay(spec.clone())).unwrap();
                (Change::ReplayStarted(spec, id), tell(reply, Ok(id)))
            }
            Self::StepReplay(step, reply) => {
                let after = now(log.step_replay(step.clone())).unwrap();
                (Change::Replayed(step, after.clone()), tell(reply, Ok(after)))
            }
            Self::CancelReplay(id, reply) => {
                let running = now(log.cancel_replay(id)).unwrap();
                (Change::ReplayCancelled(id, running), tell(reply, Ok(running)))
            }
            Self::Plan(schedules, at, reply) => {
                let last = now(log.plan(schedules, at)).unwrap();
                (Change::Planned, tell(reply, Ok(last)))
            }
            Self::Fire(schedule, slot, event, reply) => {
                let fired = now(log.fire(schedule.clone(), slot, (*event).clone())).unwrap();
                (Change::Fired(schedule, slot, event, fired), tell(reply, Ok(fired)))
            }
            Self::Prune(limit) => (Change::Pruned(limit, log.prune(limit)), Box::new(|| {})),
        }
    }

    fn refuse(self, why: impl Fn() -> Error) {
        match self {
            Self::Append(_, reply) => drop(reply.send(Err(why()))),
            Self::Settle(_, reply) => drop(reply.send(Err(why()))),
            Self::Park(_, reply) | Self::Claim(_, reply) => drop(reply.send(Err(why()))),
            Self::Pause(_, _, reply) => drop(reply.send(Err(why()))),
            Self::Release(_, _, reply) => drop(reply.send(Err(why()))),
            Self::Rekey(_, reply) => drop(reply.send(Err(why()))),
            Self::Activate(_, reply) => drop(reply.send(Err(why()))),
            Self::Decide(_, _, reply) => drop(reply.send(Err(why()))),
            Self::Order(_, _, reply) => drop(reply.send(Err(why()))),
            Self::Ring(reply) => drop(reply.send(Err(why()))),
            Self::StartReplay(_, reply) => drop(reply.send(Err(why()))),
            Self::StepReplay(_, reply) => drop(reply.send(Err(why()))),
            Self::CancelReplay(_, reply) | Self::Fire(_, _, _, reply) => drop(reply.send(Err(why()))),
            Self::Plan(_, _, reply) => drop(reply.send(Err(why()))),
            Self::Prune(_) => {}
        }
    }
}

fn tell<T: Send + 'static>(reply: Reply<T>, answer: Result<T, Error>) -> Tell {
    // Whoever asked may have gone.
    Box::new(move || drop(reply.send(answer)))
}

/// The same error once more, as far as the model is concerned.
fn again(error: &Error) -> Error {
    match error {
        Error::Conflict { index, source_name, id, seq } => {
            Error::Conflict { index: *index, source_name: source_name.clone(), id: id.clone(), seq: *seq }
        }
        other => Error::Failed(other.to_string()),
    }
}

impl EventLog for Disk {
    fn append(&self, events: Vec<Envelope>) -> Pending<Vec<Appended>> {
        self.write(|reply| Write::Append(events, reply))
    }

    fn settle(&self, settlements: Vec<Settlement>) -> Pending<Settled> {
        self.write(|reply| Write::Settle(settlements, reply))
    }

    /// All of them get into the same transaction.
    fn settle_each(&self, settlements: Vec<Settlement>, _: bool) -> Pending<Vec<Settled>> {
        Box::pin(try_join_all(settlements.into_iter().map(|one| self.settle(vec![one]))))
    }

    fn park(&self, waiting: Vec<Waiting>) -> Pending<()> {
        self.write(|reply| Write::Park(waiting, reply))
    }

    fn claim(&self, delivery: DeliveryId) -> Pending<()> {
        self.write(|reply| Write::Claim(delivery, reply))
    }

    fn pause(&self, consumer: ConsumerName, paused: bool) -> Pending<bool> {
        self.write(|reply| Write::Pause(consumer, paused, reply))
    }

    fn release(&self, consumer: ConsumerName, keys: Vec<String>) -> Pending<Vec<String>> {
        self.write(|reply| Write::Release(consumer, keys, reply))
    }

    fn rekey(&self, step: Rekey) -> Pending<Option<(Seq, u32)>> {
        self.write(|reply| Write::Rekey(step, reply))
    }

    fn activate(&self, activation: Activation) -> Pending<Activated> {
        self.write(|reply| Write::Activate(activation, reply))
    }

    fn decide_dead(&self, dead: DeadSelection, decision: DeadDecision) -> Pending<Vec<DeliveryId>> {
        self.write(|reply| Write::Decide(dead, decision, reply))
    }

    fn errand(&self, delivery: DeliveryId) -> Pending<Option<Errand>> {
        self.ask(move |log| log.errand(delivery))
    }

    fn run_of(&self, pipeline: ConsumerName, key: String) -> Pending<Option<RunId>> {
        self.ask(move |log| log.run_of(pipeline, key))
    }

    fn order_run(&self, run: RunId, order: Order) -> Pending<Option<Result<Status, Refusal>>> {
        self.write(|reply| Write::Order(run, order, reply))
    }

    fn ring(&self) -> Pending<Option<Timestamp>> {
        self.write(Write::Ring)
    }

    fn start_replay(&self, spec: ReplaySpec) -> Pending<u64> {
        self.write(|reply| Write::StartReplay(spec, reply))
    }

    fn step_replay(&self, step: ReplayStep) -> Pending<Option<Replay>> {
        self.write(|reply| Write::StepReplay(step, reply))
    }

    fn cancel_replay(&self, id: u64) -> Pending<bool> {
        self.write(|reply| Write::CancelReplay(id, reply))
    }

    fn running_replays(&self) -> Pending<Vec<Replay>> {
        self.ask(EventLog::running_replays)
    }

    fn advance(&self, positions: Vec<(ConsumerName, Seq)>) {
        let mut state = self.state();
        state.positions.extend(positions.clone());
        let change = Change::Advanced(positions);
        state.applied.push(Applied { change, commits: Vec::new(), runs: Vec::new(), errands: Vec::new() });
    }

    fn read(&self, after: Seq, limit: usize) -> Pending<Vec<Arc<Event>>> {
        self.ask(move |log| log.read(after, limit))
    }

    fn recover(&self, consumer: ConsumerName) -> Pending<Recovery> {
        self.ask(move |log| log.recover(consumer))
    }

    fn waiting(
        &self,
        consumer: ConsumerName,
        priority: Priority,
        after: Option<(Timestamp, DeliveryId)>,
        limit: usize,
    ) -> Pending<Vec<Waiting>> {
        self.ask(move |log| log.waiting(consumer, priority, after, limit))
    }

    fn blocked(&self, consumer: ConsumerName, key: String, later: bool, limit: usize) -> Pending<Vec<Waiting>> {
        self.ask(move |log| log.blocked(consumer, key, later, limit))
    }

    fn marked(&self, consumer: ConsumerName, key: String) -> Pending<Option<DeliveryId>> {
        self.ask(move |log| log.marked(consumer, key))
    }
}

impl ScheduleLog for Disk {
    fn plan(&self, schedules: Vec<(String, String)>, now: Timestamp) -> Pending<Vec<Timestamp>> {
        self.write(|reply| Write::Plan(schedules, now, reply))
    }

    fn fire(&self, schedule: String, slot: Timestamp, event: Envelope) -> Pending<bool> {
        self.write(|reply| Write::Fire(schedule, slot, Box::new(event), reply))
    }
}
