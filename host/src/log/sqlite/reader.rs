//! The thread that reads for the log.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::command::Reply;
use crate::log::{Error, Recovery, Waiting};
use crate::model::pipeline::errand::Errand;
use crate::model::pipeline::run::RunId;
use crate::model::replay::Replay;
use crate::model::{ConsumerName, DeliveryId, Event, Priority, Seq, Timestamp};
use crate::store::{self, LogReader, Standing, WaitingRow};

pub(super) enum Question {
    Read {
        after: Seq,
        limit: usize,
        reply: Reply<Vec<Arc<Event>>>,
    },
    Recover {
        consumer: ConsumerName,
        reply: Reply<Recovery>,
    },
    Waiting {
        consumer: ConsumerName,
        priority: Priority,
        after: Option<(Timestamp, DeliveryId)>,
        limit: usize,
        reply: Reply<Vec<Waiting>>,
    },
    Blocked {
        consumer: ConsumerName,
        key: String,
        later: bool,
        limit: usize,
        reply: Reply<Vec<Waiting>>,
    },
    Marked {
        consumer: ConsumerName,
        key: String,
        now: Timestamp,
        reply: Reply<Option<DeliveryId>>,
    },
    Errand {
        delivery: DeliveryId,
        reply: Reply<Option<Errand>>,
    },
    RunOf {
        pipeline: ConsumerName,
        key: String,
        reply: Reply<Option<RunId>>,
    },
    Replays {
        reply: Reply<Vec<Replay>>,
    },
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
            Question::Waiting { consumer, priority, after, limit, reply } => {
                drop(reply.send(waiting(store.waiting(&consumer, priority, after.as_ref(), limit))));
            }
            Question::Blocked { consumer, key, later, limit, reply } => {
                drop(reply.send(waiting(store.blocked(&consumer, &key, later, limit))));
            }
            Question::Marked { consumer, key, now, reply } => {
                drop(reply.send(store.marked(&consumer, &key, now).map_err(error)));
            }
            Question::Errand { delivery, reply } => drop(reply.send(store.errand(&delivery).map_err(error))),
            Question::RunOf { pipeline, key, reply } => {
                drop(reply.send(store.run_with_key(&pipeline, &key).map_err(error)));
            }
            Question::Replays { reply } => drop(reply.send(store.running_replays().map_err(error))),
            Question::Stop => return,
        }
    }
}

fn recovery(standing: Standing, careful_to: Seq) -> Recovery {
    let Standing { position, settled, timeline, keys, held, keyed_by, paused, crashes } = standing;
    Recovery { position, settled, timeline, keys, held, keyed_by, paused, careful_to, crashes }
}

fn waiting(page: Result<Vec<WaitingRow>, store::Error>) -> Result<Vec<Waiting>, Error> {
    let row = |WaitingRow { id, delivery, key, blocked, errand, priority }| Waiting {
        id,
        delivery,
        key,
        blocked,
        errand,
        priority,
    };
    page.map(|page| page.into_iter().map(row).collect()).map_err(error)
}

pub(super) fn error(error: store::Error) -> Error {
    match error.class() {
        store::Class::Full => Error::Full,
        store::Class::Busy => Error::Busy,
        store::Class::Fatal => Error::Failed(error.to_string()),
    }
}
