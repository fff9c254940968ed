//! The thread that writes the watermark: always behind the commits, and never in their way.

use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::model::Seq;
use crate::store::watermark::Watermark;
use crate::store::{Head, OpenError, Writer};

pub(super) struct Marker {
    /// The last one that was asked for.
    pub(super) marked: Seq,
    heads: Option<mpsc::Sender<Head>>,
    thread: Option<JoinHandle<()>>,
}

impl Marker {
    /// Writes where the log stands now, and then whatever is asked for.
    pub(super) fn start(store: &Writer, fail: watch::Sender<Option<String>>) -> Result<Self, OpenError> {
        let mut file = Watermark::open(store.path(), store.database_id())?;
        let head = store.head();
        // Into both slots: what an older one says may be what was just accepted as lost.
        file.write(head)?;
        file.write(head)?;
        let (heads, asked) = mpsc::channel();
        #[cfg(test)]
        let planted = crate::planted::switches();
        let thread = std::thread::Builder::new().name("log-watermark".into()).spawn(move || {
            #[cfg(test)]
            planted.take();
            run(file, &asked, &fail);
        })?;
        Ok(Self { marked: head.seq, heads: Some(heads), thread: Some(thread) })
    }

    pub(super) fn mark(&mut self, head: Head) {
        self.marked = head.seq;
        if let Some(heads) = &self.heads {
            // Without its thread the log has failed already.
            let _ = heads.send(head);
        }
    }

    /// Returns when everything asked for is written.
    pub(super) fn stop(&mut self) {
        self.heads = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(mut file: Watermark, asked: &mpsc::Receiver<Head>, fail: &watch::Sender<Option<String>>) {
    while let Ok(head) = asked.recv() {
        // Only the newest counts.
        let head = asked.try_iter().last().unwrap_or(head);
        match file.write(head) {
            Ok(()) => {}
            // An older watermark only says less. Most file systems need no space for this.
            Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                tracing::warn!("no space to write the watermark; the next one is tried");
            }
            Err(e) => {
                fail.send_replace(Some(format!("the watermark cannot be written: {e}")));
                return;
            }
        }
    }
}
