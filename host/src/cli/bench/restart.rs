//! How long a start takes where much is left to do: of a host that was stopped, and of one that died.

use std::time::Duration;

use serde_json::Value;

use super::super::error::Error;
use super::bed::CONSUMER;
use super::load::Target;
use super::subject::Subject;
use super::{AS_LONG_AS_IT_TAKES, Bench};

impl Bench<'_> {
    /// The consumer is paused while events come, so that each of them is a delivery that is still to be made when the host stops.
    pub(super) async fn restart(&mut self) -> Result<(), Error> {
        let (subject, target) = self.start(&self.deployed())?;
        order(&target, "pause").await?;
        let first = target.one().await?;
        let more = target.streamed(AS_LONG_AS_IT_TAKES, u64::from(self.args.pending.saturating_sub(1))).await?;
        all_are_pending(&target, more.events + 1).await?;
        self.stop(subject, &target).await?;

        let began = self.context.clock.monotonic();
        let (subject, target, ready) = self.ready(began).await?;
        order(&target, "resume").await?;
        target.settled_through(first).await?;
        let settled = self.since(began);
        self.figures.time("restart.ready", ready);
        self.figures.time("restart.first", settled);

        // It has hardly begun, so almost as many are pending as before.
        subject.kill()?;
        let began = self.context.clock.monotonic();
        let (subject, target, ready) = self.ready(began).await?;
        self.figures.time("restart.crashed", ready);
        self.stop(subject, &target).await
    }

    /// A host on the database that is there, once it says that it is ready; and how long that took.
    async fn ready(&self, began: Duration) -> Result<(Subject, Target, Duration), Error> {
        let subject = Subject::start(&self.bed)?;
        let target = self.target(subject.base.clone());
        drop(target.get("/readyz").await?);
        Ok((subject, target, self.since(began)))
    }
}

async fn order(target: &Target, what: &str) -> Result<(), Error> {
    target.order(&format!("/consumers/{CONSUMER}/{what}")).await
}

/// A restart that has nothing to do would be a fast one. How deep the backlog is would be counted event by event; that nothing came of
/// any of them is known.
async fn all_are_pending(target: &Target, many: u64) -> Result<(), Error> {
    let stats: Value = serde_json::from_slice(&target.get("/stats").await?).unwrap_or_default();
    let events = stats.get("events").and_then(Value::as_u64);
    let outcomes = stats.get("outcomes").and_then(Value::as_object).into_iter().flatten();
    let settled: u64 = outcomes.filter_map(|(_, count)| count.as_u64()).sum();
    if events == Some(many) && settled == 0 {
        return Ok(());
    }
    Err(Error::bug(format!(
        "{many} events were to be pending, but of {} {settled} are settled",
        events.unwrap_or_default()
    )))
}
