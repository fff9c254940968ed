//! The thread that reads for the log.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::command::Reply;
use crate::log::{Error, Recovery, Waiting};
use crate::model::{ConsumerName, DeliveryId, Event, Seq, Timestamp};
use crate::store::{self, LogReader, Standing, WaitingRow};

pub(super) enum Question {
    Read { after: Seq, limit: usize, reply: Reply<Vec<Arc<Event>>> },
    Recover { consumer: ConsumerName, reply: Reply<Recovery> },
    Waiting { consumer: ConsumerName, after: Option<(Timestamp, DeliveryId)>, limit: usize, reply: Reply<Vec<Waiting>> },
    Blocked { consumer: ConsumerName, key: String, limit: usize, reply: Reply<Vec<Waiting>> },
    Marked { consumer: ConsumerName, key: String, now: Timestamp, reply: Reply<Option<DeliveryId>> },
    Stop,
}

/// `careful_to`: see [`Recovery`].
pub(super) fn run(store: &LogReader, careful_to: Seq, mut questions: mpsc::UnboundedReceiver<Question>) {
    while let Some(question) = questions.blocking_recv() {
        // Whoever has gone does not need an answer.
        match question {
            Question::Read { after, limit, reply } => {
                drop(reply.send(store.events(after, limit).map_err(error)));
            }
            Question::Recover { consumer, reply } => {
                let recovery = store.standing(&consumer).map(|standing| recovery(standing, careful_to));
                drop(reply.send(recovery.map_err(error)));
            }
            Question::Waiting { consumer, after, limit, reply } => {
                drop(reply.send(waiting(store.waiting(&consumer, after.as_ref(), limit))));
            }
            Question::Blocked { consumer, key, limit, reply } => {
                drop(reply.send(waiting(store.blocked(&consumer, &key, limit))));
            }
            Question::Marked { consumer, key, now, reply } => {
                drop(reply.send(store.marked(&consumer, &key, now).map_err(error)));
            }
            Question::Stop => return,
        }
    }
}

fn recovery(standing: Standing, careful_to: Seq) -> Recovery {
    let Standing { position, settled, timeline, keys, held, paused, crashes } = standing;
    Recovery { position, settled, timeline, keys, held, paused, careful_to, crashes }
}

fn waiting(page: Result<Vec<WaitingRow>, store::Error>) -> Result<Vec<Waiting>, Error> {
    let row = |WaitingRow { id, delivery, key, blocked }| Waiting { id, delivery, key, blocked };
    page.map(|page| page.into_iter().map(row).collect()).map_err(error)
}

pub(super) fn error(error: store::Error) -> Error {
    match error.class() {
        store::Class::Full => Error::Full,
        store::Class::Busy => Error::Busy,
        store::Class::Fatal => Error::Failed(error.to_string()),
    }
}
