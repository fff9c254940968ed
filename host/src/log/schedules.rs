//! What the log remembers of schedules: for each the last slot that is over, so that each slot fires once.

use super::Pending;
use crate::model::{Envelope, Timestamp};

/// The part of a log that schedules need.
pub trait ScheduleLog: Send + Sync {
    /// These schedules, by name and rule, are the ones there are; the others are forgotten. Answers for each the last slot
    /// that is over. For a schedule that is new, or has another rule now, that is `now`.
    fn plan(&self, schedules: Vec<(String, String)>, now: Timestamp) -> Pending<Vec<Timestamp>>;

    /// Appends a slot's event and notes that the slot is over, or neither: a slot that is not after the last one, and one of a
    /// schedule that is not planned, fires nothing. Answers whether it fired.
    fn fire(&self, schedule: String, slot: Timestamp, event: Envelope) -> Pending<bool>;
}
