//! The thread that reads for the log.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::log::{Error, Recovery, Waiting};
use crate::model::{ConsumerName, DeliveryId, Event, Seq, Timestamp};
use crate::store::{self, LogReader};

type Reply<T> = oneshot::Sender<Result<T, Error>>;

pub(super) enum Question {
    Read { after: Seq, limit: usize, reply: Reply<Vec<Arc<Event>>> },
    Recover { consumer: ConsumerName, reply: Reply<Recovery> },
    Waiting { consumer: ConsumerName, after: Option<(Timestamp, DeliveryId)>, limit: usize, reply: Reply<Vec<Waiting>> },
    Stop,
}

pub(super) fn run(store: &LogReader, mut questions: mpsc::UnboundedReceiver<Question>) {
    while let Some(question) = questions.blocking_recv() {
        // Whoever has gone does not need an answer.
        match question {
            Question::Read { after, limit, reply } => {
                drop(reply.send(store.events(after, limit).map_err(error)));
            }
            Question::Recover { consumer, reply } => {
                let standing = store.standing(&consumer).map(|s| Recovery {
                    position: s.position,
                    settled: s.settled,
                    timeline: s.timeline,
                    ..Recovery::default()
                });
                drop(reply.send(standing.map_err(error)));
            }
            Question::Waiting { consumer, after, limit, reply } => {
                let page = store.waiting(&consumer, after.as_ref(), limit);
                let page = page.map(|page| {
                    let row = |(id, delivery)| Waiting { id, delivery, key: None, blocked: false };
                    page.into_iter().map(row).collect()
                });
                drop(reply.send(page.map_err(error)));
            }
            Question::Stop => return,
        }
    }
}

pub(super) fn error(error: store::Error) -> Error {
    match error.class() {
        store::Class::Full => Error::Full,
        store::Class::Busy => Error::Busy,
        store::Class::Fatal => Error::Failed(error.to_string()),
    }
}
