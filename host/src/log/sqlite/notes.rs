//! What came of questions, until there is a transaction to write it with.

use std::time::Duration;

use crate::model::question::QueryNote;
use crate::store::{Error, Writer};

/// They are written with the first transaction after this, or by themselves.
const EVERY: Duration = Duration::from_millis(200);
/// What is kept until then, in notes and in bytes; more is lost.
const NOTES_MAX: usize = 10_000;
const BYTES_MAX: usize = 8 << 20;

#[derive(Default)]
pub(super) struct Notes {
    held: Vec<QueryNote>,
    bytes: usize,
    due: Option<Duration>,
    lost: u64,
}

impl Notes {
    pub(super) fn add(&mut self, note: QueryNote, now: Duration) {
        if self.held.len() >= NOTES_MAX || self.bytes >= BYTES_MAX {
            self.lost += 1;
            return;
        }
        self.bytes += note.bytes();
        self.held.push(note);
        self.due.get_or_insert(now + EVERY);
    }

    /// When they are to be written, on the monotonic clock.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Writes all of them within a transaction; they are forgotten with [`Notes::written`].
    pub(super) fn write(&self, store: &mut Writer) -> Result<(), Error> {
        self.held.iter().try_for_each(|note| store.note_query(note))
    }

    /// The transaction is on disk, or there was no room for it on the disk: nothing is worth a second try.
    pub(super) fn written(&mut self) {
        if self.lost > 0 {
            tracing::warn!(questions = self.lost, "so many questions came that these are not taken down");
        }
        *self = Self::default();
    }
}
