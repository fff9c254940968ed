//! How a log tells what has become durable: what one transaction made comes as one, so that whoever listens is woken once for all
//! of it.

use std::collections::VecDeque;

use tokio::sync::mpsc::{self, error::TryRecvError};

use super::Commit;

/// The log's end.
#[derive(Clone, Debug)]
pub(crate) struct Teller(mpsc::UnboundedSender<Vec<Commit>>);

/// The listener's end: every commit, in the order of the log.
#[derive(Debug)]
pub struct Feed {
    told: mpsc::UnboundedReceiver<Vec<Commit>>,
    /// Of what was told last.
    rest: VecDeque<Commit>,
}

pub(crate) fn feed() -> (Teller, Feed) {
    let (teller, told) = mpsc::unbounded_channel();
    (Teller(teller), Feed { told, rest: VecDeque::new() })
}

impl Teller {
    /// Nobody may listen any more: the host is stopping.
    pub(crate) fn tell(&self, commits: Vec<Commit>) {
        if !commits.is_empty() {
            drop(self.0.send(commits));
        }
    }
}

impl Feed {
    /// The next one; none once the log is gone. Whoever drops the future loses nothing.
    pub async fn recv(&mut self) -> Option<Commit> {
        while self.rest.is_empty() {
            self.rest = self.told.recv().await?.into();
        }
        self.rest.pop_front()
    }

    /// The next one, if there is one by now.
    pub fn try_recv(&mut self) -> Result<Commit, TryRecvError> {
        loop {
            if let Some(commit) = self.rest.pop_front() {
                return Ok(commit);
            }
            self.rest = self.told.try_recv()?.into();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.told.is_empty()
    }
}
