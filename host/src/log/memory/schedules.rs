//! Schedules in memory.

use std::collections::BTreeMap;

use super::MemoryLog;
use super::kept::Kept;
use crate::log::schedules::ScheduleLog;
use crate::log::{Commit, Error, Pending};
use crate::model::{Envelope, Timestamp};
use crate::planted::{self, Bug};

/// Rule and last slot, by name.
pub(super) type Schedules = BTreeMap<String, (String, Timestamp)>;

impl ScheduleLog for MemoryLog {
    fn plan(&self, schedules: Vec<(String, String)>, now: Timestamp) -> Pending<Vec<Timestamp>> {
        self.commit(|kept, _, _| {
            kept.schedules.retain(|name, (rule, _)| schedules.iter().any(|one| one.0 == *name && one.1 == *rule));
            let last = |(name, rule)| kept.schedules.entry(name).or_insert((rule, now)).1;
            Ok(schedules.into_iter().map(last).collect())
        })
    }

    fn fire(&self, schedule: String, slot: Timestamp, event: Envelope) -> Pending<bool> {
        self.commit(|kept, now, commits| kept.fire(&schedule, slot, event, now, commits))
    }
}

impl Kept {
    fn fire(
        &mut self,
        schedule: &str,
        slot: Timestamp,
        event: Envelope,
        now: Timestamp,
        commits: &mut Vec<Commit>,
    ) -> Result<bool, Error> {
        match self.schedules.get_mut(schedule) {
            Some((_, last)) if *last < slot => *last = slot,
            _ => return Ok(false),
        }
        if planted::is(Bug::SlotWithoutEvent) {
            return Ok(true);
        }
        // Its id is the slot's: what is there already was emitted by it before.
        Ok(self.append(vec![event], now, commits).is_ok_and(|appended| appended.iter().all(|one| !one.duplicate)))
    }
}
