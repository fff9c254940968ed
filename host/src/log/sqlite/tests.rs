//! The suite on SQLite, and what only a database on a disk can suffer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Options, SqliteLog};
use crate::clock::SystemClock;
use crate::log::Commit;
use crate::log::conformance::{Subject, conforms};
use crate::model::{ConsumerName, Timestamp};
use crate::store::Reader;

struct OnDisk {
    folder: tempfile::TempDir,
}

impl OnDisk {
    fn options(&self) -> Options {
        Options::new(self.folder.path().join("tidegate.db"), Arc::new(SystemClock::new()))
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.folder.path().join("tidegate.db")).unwrap()
    }
}

fn now() -> Timestamp {
    crate::clock::Clock::now(&SystemClock::new())
}

impl Subject for OnDisk {
    type Log = SqliteLog;

    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&mut self) -> (Arc<SqliteLog>, UnboundedReceiver<Commit>) {
        let (log, feed) = SqliteLog::open(self.options()).unwrap();
        (Arc::new(log), feed)
    }

    fn crash(&mut self, log: Arc<SqliteLog>) {
        drop(log);
    }

    fn state(&self, _log: &SqliteLog, consumer: &ConsumerName, key: &str) -> Option<(Bytes, u64)> {
        self.reader().state_get(consumer, key, now()).unwrap()
    }

    fn keys(&self, _log: &SqliteLog, consumer: &ConsumerName, prefix: &str) -> (Vec<String>, u64) {
        self.reader().state_keys(consumer, prefix, None, 100, now()).unwrap()
    }
}

conforms!(OnDisk);
