//! One attempt of many deliveries in one call: call, settle all or none, report each.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::attempt::{self, Tools};
use super::lane::Left;
use super::settle::{Claim, settlement};
use crate::log::{Settled, Settlement};
use crate::model::delivery::Input;
use crate::model::{DeliveryId, Outcome, Report, Usage};

/// Runs the attempts that the claims allow, and says how each delivery was left and what the call itself took.
pub(super) async fn run(tools: &Tools, claims: Vec<Claim>) -> (Vec<(DeliveryId, Left)>, Duration) {
    let mut left = Vec::with_capacity(claims.len());
    let mut called = Vec::with_capacity(claims.len());
    for mut claim in claims {
        if !attempt::prepare(tools, &mut claim).await {
            left.push((claim.id, Left::Unsettled));
        } else if let Some(instead) = claim.instead.take() {
            let id = claim.id.clone();
            left.push((id, attempt::instead(tools, claim, instead).await));
        } else {
            called.push(claim);
        }
    }
    if called.is_empty() {
        return (left, Duration::ZERO);
    }
    let (more, took) = together(tools, called).await;
    left.extend(more);
    (left, took)
}

async fn together(tools: &Tools, mut claims: Vec<Claim>) -> (Vec<(DeliveryId, Left)>, Duration) {
    let called = call(tools, &claims).await;
    let took = match &called {
        Ok(reports) => reports.first().map_or(Duration::ZERO, |report| report.usage.duration),
        Err(report) => report.usage.duration,
    };
    let mut reports = called.map_or_else(|report| (vec![report], false), |reports| (reports, true));
    if claims.len() == 1
        && let Some((claim, report)) = claims.pop().zip(reports.0.pop())
    {
        let id = claim.id.clone();
        return (vec![(id, attempt::make_durable(tools, claim, report).await)], took);
    }
    let left = match reports {
        (reports, true) => settle(tools, &claims, reports).await,
        (reports, false) => failed(tools, &claims, reports).await,
    };
    (claims.into_iter().map(|claim| claim.id).zip(left).collect(), took)
}

/// A report for each; or one about the call, which failed as a whole.
async fn call(tools: &Tools, claims: &[Claim]) -> Result<Vec<Report>, Report> {
    let (started_at, began) = (tools.clock.now(), tools.clock.monotonic());
    let Some(consumer) = claims.first().map(|claim| claim.consumer.clone()) else { return Ok(Vec::new()) };
    let calls = claims.iter().map(|claim| attempt::called(tools, claim)).collect();
    let stopped = attempt::stopped(tools);
    let called = AssertUnwindSafe(consumer.handler.invoke_batch(calls)).catch_unwind();
    tokio::select! {
        biased;
        reports = called => match reports {
            Ok(reports) => reports,
            Err(_) => {
                tools.metrics.host_panic();
                tracing::error!(consumer = %consumer.spec.name, "the host panicked in an attempt; please report this");
                let reason = "the host failed while it ran the handler; its log says more".to_owned();
                Err(Report::bare(Outcome::Trapped, reason, started_at))
            }
        },
        () = stopped => Err(Report {
            usage: Usage { duration: tools.clock.monotonic().saturating_sub(began), ..Usage::default() },
            ..Report::bare(Outcome::Interrupted, "the host was stopping".to_owned(), started_at)
        }),
    }
}

/// All are settled together, because what the call published and wrote is of one piece. If that cannot be, each runs
/// again by itself, at no cost.
async fn settle(tools: &Tools, claims: &[Claim], reports: Vec<Report>) -> Vec<Left> {
    let now = tools.clock.now();
    let each = claims.iter().zip(reports).map(|(claim, report)| settlement(claim, report, now, tools.random.draw()));
    let settlements: Result<Vec<Settlement>, _> = each.collect();
    let Ok(settlements) = settlements else { return vec![Left::Unsettled; claims.len()] };
    match tools.log.settle(settlements.clone()).await {
        Ok(Settled::Committed) => {
            for (claim, settlement) in claims.iter().zip(&settlements) {
                attempt::report_settled(tools, claim, settlement);
            }
            settlements.iter().map(attempt::left).collect()
        }
        Ok(_) => claims.iter().map(|claim| apart(tools, claim, Outcome::Interrupted)).collect(),
        Err(error) => {
            tracing::warn!(deliveries = claims.len(), %error, "a batch could not be settled; it will run again");
            vec![Left::Unsettled; claims.len()]
        }
    }
}

/// One poisonous item must not charge its neighbours: each runs again by itself, and only one that fails by itself is
/// charged. What the host interrupted is settled as such.
async fn failed(tools: &Tools, claims: &[Claim], reports: Vec<Report>) -> Vec<Left> {
    let Some(report) = reports.into_iter().next() else { return vec![Left::Unsettled; claims.len()] };
    if report.outcome == Outcome::Interrupted {
        return settle(tools, claims, vec![report; claims.len()]).await;
    }
    claims.iter().map(|claim| apart(tools, claim, report.outcome)).collect()
}

fn apart(tools: &Tools, claim: &Claim, outcome: Outcome) -> Left {
    match claim.delivery.step(Input::GiveBack, &claim.consumer.spec.retry, tools.clock.now(), 0) {
        Ok(delivery) => Left::Apart(delivery, outcome),
        Err(_) => Left::Unsettled,
    }
}
