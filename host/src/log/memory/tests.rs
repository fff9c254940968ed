//! The suite in memory.

use std::sync::Arc;

use crate::log::Feed;
use bytes::Bytes;

use super::MemoryLog;
use crate::clock::SystemClock;
use crate::log::conformance::{Subject, conforms, suite};
use crate::model::{ConsumerName, DeliveryId};

/// Holds what was kept while no host uses it.
struct InMemory {
    kept: Option<MemoryLog>,
}

impl Subject for InMemory {
    type Log = MemoryLog;

    fn new() -> Self {
        Self { kept: None }
    }

    fn open(&mut self) -> (Arc<MemoryLog>, Feed) {
        let (log, feed) = match self.kept.take() {
            Some(kept) => kept.reopen(),
            None => MemoryLog::new(Arc::new(SystemClock::new())),
        };
        (Arc::new(log), feed)
    }

    fn crash(&mut self, log: Arc<MemoryLog>) {
        self.kept = Some(Arc::into_inner(log).expect("nobody else uses it"));
    }

    async fn stop(&mut self, log: Arc<MemoryLog>) {
        log.close();
        self.crash(log);
    }

    fn published(&self, log: &MemoryLog, id: &DeliveryId, call: u32) -> Option<usize> {
        log.published(id, call)
    }

    fn state(&self, log: &MemoryLog, consumer: &ConsumerName, key: &str) -> Option<(Bytes, u64)> {
        log.state_get(consumer, key)
    }

    fn keys(&self, log: &MemoryLog, consumer: &ConsumerName, prefix: &str) -> (Vec<String>, u64) {
        log.state_keys(consumer, prefix)
    }
}

conforms!(InMemory);
suite!(InMemory: a_slot_fires_once, slots_are_remembered_and_forgotten);
