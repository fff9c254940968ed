//! What the writer is told to do, and how it answers.

use tokio::sync::oneshot;

use super::gate::Pass;
use super::linger::Urgency;
use super::{apply, settle};
use crate::log::{Appended, Commit, Error, Settled, Settlement};
use crate::model::question::QueryNote;
use crate::model::spec::Retention;
use crate::model::{ConsumerName, Envelope, Seq, Timestamp};
use crate::store::{self, Writer};

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Command {
    Append {
        events: Vec<Envelope>,
        pass: Pass,
        reply: Reply<Vec<Appended>>,
    },
    Settle(Settling),
    Work(Box<dyn Work>),
    Advance(Vec<(ConsumerName, Seq)>),
    /// What came of a question.
    Note(Box<QueryNote>),
    Announce(String),
    Retain(Retention),
    LimitPages(u32),
    Close(Reply<()>),
    /// The log was dropped.
    Abandon,
}

/// Settlements, and whether they stand or fall together. Then the one answer is for all of them; else there is one for each.
pub(super) struct Settling {
    pub(super) settlements: Vec<Settlement>,
    pub(super) together: bool,
    /// Others will follow in a moment.
    pub(super) more: bool,
    pub(super) reply: Reply<Vec<Settled>>,
}

impl Command {
    /// About what it adds to its transaction.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append { events, .. } => events.iter().map(Envelope::data_len).sum(),
            Self::Settle(settling) => settling.settlements.iter().map(Settlement::bytes).sum(),
            _ => 0,
        }
    }
}

impl Command {
    /// Whether somebody waits for it.
    pub(super) fn urgency(&self) -> Urgency {
        match self {
            Self::Settle(Settling { settlements, together: false, more, .. })
                if settlements.iter().all(Settlement::is_unhurried) =>
            {
                Urgency::CanWait { settlements: settlements.len(), more: *more }
            }
            _ => Urgency::Now,
        }
    }
}

/// Any other change. If its transaction is undone, it is refused and not tried again.
pub(super) trait Work: Send {
    fn apply(&mut self, store: &mut Writer, now: Timestamp, commits: &mut Vec<Commit>) -> Result<(), store::Error>;

    /// Answers that it is on disk, or why not.
    fn answer(self: Box<Self>, done: Result<(), Error>);
}

/// Work that gives a value.
pub(super) struct Task<T, F> {
    work: Option<F>,
    value: Option<T>,
    reply: Reply<T>,
}

impl<T, F> Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Writer, Timestamp, &mut Vec<Commit>) -> Result<T, store::Error> + Send,
{
    pub(super) fn new(work: F, reply: Reply<T>) -> Self {
        Self { work: Some(work), value: None, reply }
    }
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnOnce(&mut Writer, Timestamp, &mut Vec<Commit>) -> Result<T, store::Error> + Send,
{
    fn apply(&mut self, store: &mut Writer, now: Timestamp, commits: &mut Vec<Commit>) -> Result<(), store::Error> {
        if let Some(work) = self.work.take() {
            self.value = Some(work(store, now, commits)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, done: Result<(), Error>) {
        let Self { value, reply, .. } = *self;
        // Whoever has gone does not need the answer.
        drop(reply.send(done.and_then(|()| value.ok_or(Error::Closed))));
    }
}

/// A command that was applied, until its transaction is durable or undone.
pub(super) enum Answer {
    Append { result: Result<Vec<Appended>, Error>, reply: Reply<Vec<Appended>>, pass: Pass },
    Settle { settling: Settling, result: Vec<Settled> },
    Work(Box<dyn Work>),
}

impl Answer {
    /// The transaction is on disk. Whoever has gone does not need the answer.
    pub(super) fn send(self) {
        match self {
            Self::Append { result, reply, pass } => {
                // Its place is free before the answer says so.
                drop(pass);
                drop(reply.send(result));
            }
            Self::Settle { settling, result } => drop(settling.reply.send(Ok(result))),
            Self::Work(work) => work.answer(Ok(())),
        }
    }

    /// The transaction was undone.
    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Append { reply, pass, .. } => {
                drop(pass);
                drop(reply.send(Err(error)));
            }
            Self::Settle { settling, .. } => drop(settling.reply.send(Err(error))),
            Self::Work(work) => work.answer(Err(error)),
        }
    }

    /// Of a command that was not reached before its transaction was undone.
    pub(super) fn unapplied(command: Command) -> Option<Self> {
        match command {
            Command::Append { pass, reply, .. } => Some(Self::Append { result: Err(Error::Closed), reply, pass }),
            Command::Settle(settling) => Some(Self::Settle { settling, result: Vec::new() }),
            Command::Work(work) => Some(Self::Work(work)),
            _ => None,
        }
    }
}

/// Applies a command within the transaction. Its answer is kept even if that fails: somebody waits for it.
pub(super) fn apply_one(
    store: &mut Writer,
    command: Command,
    now: Timestamp,
    commits: &mut Vec<Commit>,
    answers: &mut Vec<Answer>,
) -> Result<(), store::Error> {
    match command {
        Command::Append { events, pass, reply } => {
            let (result, done) = split(apply::append(store, events, now, commits), Err(Error::Closed));
            answers.push(Answer::Append { result, reply, pass });
            done
        }
        Command::Settle(settling) => {
            let (result, done) = split(settle::settle(store, &settling, now, commits), Vec::new());
            answers.push(Answer::Settle { settling, result });
            done
        }
        Command::Work(mut work) => {
            let done = work.apply(store, now, commits);
            answers.push(Answer::Work(work));
            done
        }
        _ => Ok(()),
    }
}

fn split<T>(result: Result<T, store::Error>, otherwise: T) -> (T, Result<(), store::Error>) {
    match result {
        Ok(value) => (value, Ok(())),
        Err(e) => (otherwise, Err(e)),
    }
}
