//! Bounds what appends may wait for the writer. Settlements pass: attempts are bounded, and an attempt that has run must
//! be able to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug)]
pub(super) struct Gate {
    events: AtomicUsize,
    bytes: AtomicUsize,
    events_max: usize,
    bytes_max: usize,
}

/// A place in the queue, given back when dropped.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    events: usize,
    bytes: usize,
}

impl Gate {
    pub(super) fn new(events_max: usize, bytes_max: usize) -> Self {
        Self { events: AtomicUsize::new(0), bytes: AtomicUsize::new(0), events_max, bytes_max }
    }

    /// A place, if there is one. One append always fits into an empty queue, however large it is.
    pub(super) fn enter(self: &Arc<Self>, events: usize, bytes: usize) -> Option<Pass> {
        let before = self.events.fetch_add(events, Ordering::Relaxed);
        let before_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let pass = Pass { gate: Arc::clone(self), events, bytes };
        let fits = before + events <= self.events_max && before_bytes + bytes <= self.bytes_max;
        (fits || before == 0).then_some(pass)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.events.fetch_sub(self.events, Ordering::Relaxed);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
