//! Emits the events of schedules. Each slot fires once, whatever happens to the host and its clock: the log notes the last
//! slot that is over in the same transaction as the slot's event.
//!
//! Of the slots that were missed, because the host was stopped or its clock jumped forward, only the latest fires. A clock that
//! is set back fires nothing until it has come as far as it was. A new schedule begins with its next slot.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Map;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::log::Error;
use crate::log::schedules::ScheduleLog;
use crate::model::event::SCHEDULE_SOURCE_PREFIX;
use crate::model::spec::ScheduleSpec;
use crate::model::{Deployment, Envelope, Payload, Timestamp};

/// The wall clock may be set at any time, and a sleep does not notice: it is looked at so often at least.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// After the log had no room.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// A last slot so far ahead of the clock is worth a word: the clock was wrong then, or is now.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);

pub struct Options {
    pub log: Arc<dyn ScheduleLog>,
    pub clock: Arc<dyn Clock>,
    /// What is live.
    pub deployments: watch::Receiver<Arc<Deployment>>,
}

/// Fires until it is told to stop.
pub struct Schedules {
    options: Options,
    planned: Vec<Planned>,
    /// The deployment has changed since it was last planned.
    stale: bool,
}

struct Planned {
    name: String,
    spec: ScheduleSpec,
    /// The last slot that is over.
    last: Timestamp,
    next: Option<Timestamp>,
}

impl Schedules {
    pub fn new(options: Options) -> Self {
        Self { options, planned: Vec::new(), stale: true }
    }

    pub async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let wait = match self.step().await {
                Ok(wait) => wait,
                Err(error) => {
                    // The host itself learns from the log why it must stop.
                    tracing::warn!(%error, "schedules fire no more");
                    return;
                }
            };
            let clock = &self.options.clock;
            let slept = clock.sleep_until(clock.monotonic() + wait);
            tokio::select! {
                () = slept => {}
                Ok(()) = self.options.deployments.changed() => self.stale = true,
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Fires what is due now; answers how long nothing will be.
    async fn step(&mut self) -> Result<Duration, Error> {
        match self.fire().await {
            Err(Error::Busy | Error::Full) => Ok(TRY_AGAIN),
            other => other,
        }
    }

    async fn fire(&mut self) -> Result<Duration, Error> {
        let now = self.options.clock.now();
        if self.stale {
            self.plan(now).await?;
        }
        for planned in &mut self.planned {
            let due = planned.next.is_some_and(|next| next <= now);
            let Some(slot) = due.then(|| planned.spec.slots.last_between(planned.last, now)).flatten() else {
                continue;
            };
            let event = event(&planned.name, &planned.spec, slot);
            if self.options.log.fire(planned.name.clone(), slot, event).await? {
                tracing::debug!(schedule = planned.name, %slot, "fired");
            }
            planned.last = slot;
            planned.next = planned.spec.slots.after(slot);
        }
        let next = self.planned.iter().filter_map(|planned| planned.next).min();
        Ok(next.map_or(LOOK_AGAIN, |next| next.since(now).min(LOOK_AGAIN)))
    }

    async fn plan(&mut self, now: Timestamp) -> Result<(), Error> {
        let deployment = Arc::clone(&self.options.deployments.borrow_and_update());
        let schedules = &deployment.schedules;
        let rule = |spec: &ScheduleSpec| format!("{} {}", spec.slots.cron(), spec.slots.zone());
        let rules = schedules.iter().map(|(name, spec)| (name.clone(), rule(spec))).collect();
        let last = self.options.log.plan(rules, now).await?;
        let planned = schedules.iter().zip(last).map(|((name, spec), last)| {
            if last.since(now) > AHEAD_MAX {
                tracing::warn!(
                    "schedule {name} fires again after {last}: the clock was ahead when it fired last, or is behind"
                );
            }
            Planned { name: name.clone(), spec: spec.clone(), last, next: spec.slots.after(last) }
        });
        self.planned = planned.collect();
        self.stale = false;
        Ok(())
    }
}

/// A slot's event. Its id and its timestamp are the slot.
fn event(name: &str, spec: &ScheduleSpec, slot: Timestamp) -> Envelope {
    let (id, source) = (slot.to_string(), format!("{SCHEDULE_SOURCE_PREFIX}{name}"));
    let payload = |data: &serde_json::Value| Payload {
        content_type: "application/json".into(),
        data: Bytes::from(data.to_string()),
    };
    let attributes = Map::from_iter([("slot".to_owned(), id.clone().into())]);
    Envelope {
        correlation_id: format!("{source}#{id}"),
        id,
        event_type: spec.event_type.clone(),
        source,
        subject: spec.subject.clone(),
        key: spec.key.clone(),
        data_version: spec.data_version.clone(),
        timestamp: slot,
        causation_id: None,
        traceparent: None,
        not_before: None,
        job: None,
        attributes,
        payload: spec.data.as_ref().map(payload),
        depth: 0,
    }
}

#[cfg(test)]
mod tests;
