//! The thread that carries the write-ahead log over to the database while the writer goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::store::{self, OpenError, Writer};

pub(super) struct Checkpointer {
    requests: Option<mpsc::SyncSender<()>>,
    busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    pub(super) fn start(store: &Writer, fail: watch::Sender<Option<String>>) -> Result<Self, OpenError> {
        let connection = store::Checkpointer::open(store.path())?;
        let (requests, asked) = mpsc::sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&busy);
        #[cfg(test)]
        let planted = crate::planted::switches();
        let thread = std::thread::Builder::new().name("log-checkpoint".into()).spawn(move || {
            #[cfg(test)]
            planted.take();
            run(&connection, &asked, &shared, &fail);
        })?;
        Ok(Self { requests: Some(requests), busy, thread: Some(thread) })
    }

    /// Whether it is at work: only one checkpoint can be made at a time.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Begins one, unless it is at work.
    pub(super) fn ask(&self) {
        if !self.busy.swap(true, Ordering::AcqRel)
            && let Some(requests) = &self.requests
        {
            // Without its thread the log has failed already.
            let _ = requests.try_send(());
        }
    }

    /// Returns when what it does is done.
    pub(super) fn stop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(
    connection: &store::Checkpointer,
    asked: &mpsc::Receiver<()>,
    busy: &AtomicBool,
    fail: &watch::Sender<Option<String>>,
) {
    while asked.recv().is_ok() {
        if let Err(e) = connection.run() {
            fail.send_replace(Some(format!("the write-ahead log cannot be carried over: {e}")));
            return;
        }
        busy.store(false, Ordering::Release);
    }
}
