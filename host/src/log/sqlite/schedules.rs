//! Schedules on SQLite.

use super::{SqliteLog, apply};
use crate::log::Pending;
use crate::log::schedules::ScheduleLog;
use crate::model::{Envelope, Timestamp};

impl ScheduleLog for SqliteLog {
    fn plan(&self, schedules: Vec<(String, String)>, now: Timestamp) -> Pending<Vec<Timestamp>> {
        self.write(move |store, _, _| store.plan(&schedules, now))
    }

    fn fire(&self, schedule: String, slot: Timestamp, event: Envelope) -> Pending<bool> {
        self.write(move |store, now, commits| {
            if !store.pass(&schedule, slot)? {
                return Ok(false);
            }
            // Its id is the slot's: what is there already was emitted by it before.
            let appended = apply::append(store, vec![event], now, commits)?;
            Ok(appended.is_ok_and(|appended| appended.iter().all(|one| !one.duplicate)))
        })
    }
}
