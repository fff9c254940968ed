//! Whether breakers open when they must, and hold as long as they must.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Checked, Model, hold};
use crate::model::breaker::{BreakerPolicy, BreakerState};
use crate::model::{ConsumerName, DeliveryId, Digest, Outcome};
use crate::simulation::guests::Begun;

/// What is known of a breaker, in one life of the process and of the consumer's deployment.
pub(super) struct Breaker {
    digest: Digest,
    seen: BreakerState,
    /// When attempts failed since it was last seen otherwise than closed.
    failed: VecDeque<Duration>,
    /// The latest of them, which the dispatcher may not have come to yet.
    fresh: Vec<Duration>,
}

impl Model {
    /// The host has settled an attempt, and knows it.
    pub(super) fn judged(&mut self, id: &DeliveryId, now: Duration) {
        let calls = self.deliveries.get(id).map_or(0, |known| known.calls);
        let failed = self.records.get(&(id.clone(), calls)).is_some_and(|outcome| is_failure(*outcome));
        if let Some(breaker) = self.breakers.get_mut(&id.consumer).filter(|_| failed) {
            breaker.fresh.push(now);
        }
    }

    /// Of a consumer that is gone, or another, nothing is known any more.
    pub(super) fn redeployed(&mut self) {
        let deployed = self.live.and_then(|live| self.deployed(live)).map(|plan| plan.consumers.clone());
        let deployed = deployed.unwrap_or_default();
        self.breakers.retain(|name, breaker| deployed.get(name).is_some_and(|now| now.digest == breaker.digest));
    }

    /// Consumers with breakers, of those that are live: not of those that somebody would like to deploy.
    pub(in crate::simulation) fn guarded(&self) -> Vec<ConsumerName> {
        let plan = self.live.and_then(|live| self.deployed(live));
        let consumers = plan.into_iter().flat_map(|plan| &plan.consumers);
        let guarded = consumers.filter(|(_, deployed)| deployed.spec.delivery.breaker.is_some());
        guarded.map(|(name, _)| name.clone()).collect()
    }

    /// No call begins while the breaker is open.
    pub(super) fn let_through(&self, begun: &Begun) -> Checked {
        let breaker = self.breakers.get(&begun.spec.name).filter(|breaker| breaker.digest == begun.digest);
        if let Some(BreakerState::Open { until }) = breaker.map(|breaker| breaker.seen) {
            hold!(
                begun.at >= until,
                "{} begins at {:?}, its breaker is open until {until:?}",
                begun.spec.name,
                begun.at
            );
        }
        Ok(())
    }

    /// How the breaker of a consumer stands when nothing happens any more at this time.
    pub(in crate::simulation) fn stands_at(
        &mut self,
        name: &ConsumerName,
        state: BreakerState,
        now: Duration,
    ) -> Checked {
        let plan = self.live.and_then(|live| self.deployed(live));
        let deployed = plan.and_then(|plan| plan.consumers.get(name)).cloned();
        let Some((deployed, policy)) = deployed.and_then(|d| Some((d.clone(), d.spec.delivery.breaker?))) else {
            self.breakers.remove(name);
            return Ok(());
        };
        let new = || Breaker { digest: deployed.digest, seen: state, failed: VecDeque::new(), fresh: Vec::new() };
        let breaker = self.breakers.entry(name.clone()).or_insert_with(new);
        if breaker.digest != deployed.digest {
            *breaker = new();
            return Ok(());
        }
        // A batch is judged when all of it is settled.
        if state == BreakerState::Closed && deployed.spec.delivery.batch.is_none() {
            let failures = breaker.within(policy, now);
            hold!(failures < policy.failures, "{name} failed {failures} times, and its breaker is closed");
            breaker.failed.extend(std::mem::take(&mut breaker.fresh));
        } else {
            breaker.failed.clear();
            breaker.fresh.clear();
        }
        if let (BreakerState::Closed, BreakerState::Open { until }) = (breaker.seen, state) {
            hold!(until == now + policy.recovery, "{name}: its breaker opens at {now:?} until {until:?}");
        }
        breaker.seen = state;
        Ok(())
    }
}

impl Breaker {
    fn within(&mut self, policy: BreakerPolicy, now: Duration) -> u32 {
        while self.failed.front().is_some_and(|at| now.saturating_sub(*at) > policy.window) {
            self.failed.pop_front();
        }
        u32::try_from(self.failed.len()).unwrap()
    }
}

fn is_failure(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Retry
            | Outcome::Trapped
            | Outcome::TimedOut
            | Outcome::OutOfFuel
            | Outcome::OutOfMemory
            | Outcome::OverLimit
    )
}
