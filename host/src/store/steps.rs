//! How much SQLite has to do: for tests that hold it against a budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Writer;

impl Writer {
    /// Counts the steps of SQLite's machine from now on. A statement more costs at least a few of them.
    pub(crate) fn count_steps(&mut self) -> Arc<AtomicU64> {
        let steps = Arc::new(AtomicU64::new(0));
        let shared = steps.clone();
        let count = move || {
            shared.fetch_add(1, Ordering::Relaxed);
            false
        };
        self.conn.progress_handler(1, Some(count)).unwrap();
        steps
    }
}
