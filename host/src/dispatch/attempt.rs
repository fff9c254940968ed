//! One attempt, as a straight list of steps: call, settle, report.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::lane::Left;
use super::settle::{Claim, Instead, settlement};
use crate::clock::Clock;
use crate::log::{AttemptRecord, EventLog, Hold, Settled, Settlement};
use crate::model::delivery::Input;
use crate::model::pipeline::errand::{RunChange, Signal, StepErrand};
use crate::model::pipeline::run::RunId;
use crate::model::record::OutcomeRecord;
use crate::model::spec::Mode;
use crate::model::{Event, Outcome, Report, Usage};
use crate::planted::{self, Bug};
use crate::random::Random;
use crate::sandbox::{Call, RunCall, Undo};
use crate::telemetry::Metrics;

/// Told of what has become durable. Must return at once.
pub trait Witness: Send + Sync {
    fn appended(&self, events: &[Arc<Event>]);
    fn settled(&self, claim: &Claim, settlement: &Settlement);
}

/// What attempts share.
#[derive(Clone)]
pub struct Tools {
    pub log: Arc<dyn EventLog>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<Random>,
    pub metrics: Arc<Metrics>,
    pub witness: Arc<dyn Witness>,
    /// True once attempts must end at once.
    pub cancelled: watch::Receiver<bool>,
}

const OVER_QUOTA: &str = "the writes to state pass the consumer's quota; delete keys, or raise grants.state.quota";

/// An attempt whose call is over, and what the call itself took. No report: it could not begin.
pub(super) struct Called {
    pub(super) claim: Claim,
    pub(super) report: Option<Report>,
    pub(super) took: Duration,
}

/// Makes the call that `claim` allows, if there is to be one.
pub(super) async fn run(tools: &Tools, mut claim: Claim) -> Called {
    if !prepare(tools, &mut claim).await {
        return Called { claim, report: None, took: Duration::ZERO };
    }
    let report = match &claim.instead {
        Some(instead) => instead.report(tools.clock.now()),
        None => call(tools, &claim).await,
    };
    let took = report.usage.duration;
    let lost = planted::is(Bug::LeaseByWallClock)
        && tools.clock.now().since(report.started_at) > claim.consumer.spec.limits.timeout;
    let report = if lost { Report::bare(Outcome::TimedOut, None, report.started_at) } else { report };
    Called { claim, report: Some(report), took }
}

/// Calls an ephemeral consumer: whatever comes of it is counted, and nothing is kept.
pub async fn stream(tools: &Tools, claim: Claim) -> Duration {
    let report = call(tools, &claim).await;
    tools.metrics.attempt(&claim.id.consumer, report.outcome, report.usage);
    report.usage.duration
}

/// What must be known, and noted, before a handler is called. False if the log does not answer.
pub(super) async fn prepare(tools: &Tools, claim: &mut Claim) -> bool {
    if claim.instead.is_some() {
        return true;
    }
    if let Some(key) = claim.mark.clone() {
        match tools.log.marked(claim.id.consumer.clone(), key).await {
            Ok(Some(id)) if id != claim.id => claim.instead = Some(Instead::Duplicate(id)),
            Ok(_) => {}
            Err(error) => return unprepared(claim, &error),
        }
    }
    if claim.careful
        && claim.instead.is_none()
        && let Err(error) = tools.log.claim(claim.id.clone()).await
    {
        return unprepared(claim, &error);
    }
    true
}

fn unprepared(claim: &Claim, error: &crate::log::Error) -> bool {
    tracing::warn!(delivery = %claim.id, %error, "an attempt could not begin; it will be made again");
    false
}

/// Settles what an attempt came to.
pub(super) async fn make_durable(tools: &Tools, claim: Claim, report: Report) -> Left {
    match settle(tools, &claim, report).await {
        Some((settlement, settled)) => follow(tools, claim, settlement, settled).await,
        None => Left::Unsettled,
    }
}

/// How the log's answer leaves the delivery, which may take another settlement.
pub(super) async fn follow(tools: &Tools, claim: Claim, settlement: Settlement, settled: Settled) -> Left {
    match settled {
        // Fenced: the outcome stands in the log already, which is all that was wanted.
        Settled::Committed | Settled::Fenced => left(&settlement),
        Settled::Conflict => given_back(tools, &claim),
        Settled::OverQuota => {
            let AttemptRecord { started_at, usage, .. } = settlement.record;
            let report = Report { usage, ..Report::bare(Outcome::OverLimit, OVER_QUOTA.to_owned(), started_at) };
            let settled = settle(tools, &claim, report).await;
            settled.map_or(Left::Unsettled, |(settlement, _)| left(&settlement))
        }
        Settled::Duplicate if settlement.run.is_some() => match begun(tools, &claim, &settlement).await {
            Some(run) => instead(tools, claim, Instead::Begun(run)).await,
            None => Left::Unsettled,
        },
        // Another one was faster, for which this one does not wait: a redrive of long ago, or another window.
        Settled::Duplicate => {
            let mark = claim.mark.clone().unwrap_or_default();
            let Ok(Some(of)) = tools.log.marked(claim.id.consumer.clone(), mark).await else { return Left::Unsettled };
            instead(tools, claim, Instead::Duplicate(of)).await
        }
    }
}

/// Settles that no call's result counts, but this.
pub(super) async fn instead(tools: &Tools, claim: Claim, instead: Instead) -> Left {
    let report = instead.report(tools.clock.now());
    let claim = Claim { instead: Some(instead), ..claim };
    settle(tools, &claim, report).await.map_or(Left::Unsettled, |(settlement, _)| left(&settlement))
}

/// The run that has the key with which a settlement would have begun one.
async fn begun(tools: &Tools, claim: &Claim, settlement: &Settlement) -> Option<RunId> {
    let Some(RunChange::Signal(Signal { begins: Some(begins), .. })) = &settlement.run else { return None };
    tools.log.run_of(claim.id.consumer.clone(), begins.key.clone()).await.ok().flatten()
}

/// How a settlement that stands leaves its delivery.
pub(super) fn left(settlement: &Settlement) -> Left {
    // Whether a key is free again is the log's to say: another dead letter may hold it as well.
    let hold = matches!(settlement.hold, Some(Hold::Begin(_))).then_some(true);
    Left::Settled { next: settlement.next, outcome: settlement.record.outcome, hold }
}

/// Calls the handler. Its failure, the host's own panic and a stop are all reports.
async fn call(tools: &Tools, claim: &Claim) -> Report {
    let (started_at, began) = (tools.clock.now(), tools.clock.monotonic());
    let call = called(tools, claim);
    let stopped = stopped(tools);
    let called = AssertUnwindSafe(claim.consumer.handler.invoke(call)).catch_unwind();
    tokio::select! {
        biased;
        report = called => report.unwrap_or_else(|_| {
            tools.metrics.host_panic();
            tracing::error!(delivery = %claim.id, "the host panicked in an attempt; please report this");
            Report::bare(Outcome::Trapped, "the host failed while it ran the handler; its log says more".to_owned(), started_at)
        }),
        // What it used goes with it; how long it ran is known all the same.
        () = stopped => Report {
            usage: Usage { duration: tools.clock.monotonic().saturating_sub(began), ..Usage::default() },
            ..Report::bare(Outcome::Interrupted, "the host was stopping".to_owned(), started_at)
        },
    }
}

pub(super) fn called(tools: &Tools, claim: &Claim) -> Call {
    Call {
        event: claim.event.clone(),
        round: claim.id.round,
        call: claim.delivery.calls.saturating_add(1),
        attempt: claim.delivery.attempts.saturating_add(1),
        attempts_max: claim.retry().attempts,
        replayed: claim.id.round > 0 && claim.errand.is_none(),
        ephemeral: claim.consumer.spec.delivery.mode == Mode::Ephemeral,
        seed: tools.random.draw(),
        limits: claim.errand.as_ref().map(|errand| errand.limits).unwrap_or_default(),
        run: claim.step().map(|step| Arc::new(run_call(step))),
    }
}

/// A step as its handler sees it.
fn run_call(step: &StepErrand) -> RunCall {
    RunCall {
        id: step.run.to_string(),
        pipeline: step.run.pipeline.clone(),
        step: step.name.clone(),
        outputs: step.outputs.clone(),
        undo: step.undo.as_ref().map(|undo| Undo { output: undo.output.clone() }),
    }
}

/// Ends when attempts must end at once.
pub(super) fn stopped(tools: &Tools) -> impl Future<Output = ()> + Send + use<> {
    let mut cancelled = tools.cancelled.clone();
    async move {
        // An error means that nobody can stop us any more; then nobody does.
        if cancelled.wait_for(|yes| *yes).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What an attempt caused.
pub(super) fn caused(tools: &Tools, claim: &Claim, report: Report) -> Option<Settlement> {
    let caused = settlement(claim, report, tools.clock.now(), tools.random.draw());
    caused
        .inspect_err(|illegal| {
            tracing::error!(delivery = %claim.id, %illegal, "an attempt ended in a state that allows no end");
        })
        .ok()
}

async fn settle(tools: &Tools, claim: &Claim, report: Report) -> Option<(Settlement, Settled)> {
    let settlement = caused(tools, claim, report)?;
    match tools.log.settle(vec![settlement.clone()]).await {
        Ok(settled) => {
            if settled == Settled::Committed {
                report_settled(tools, claim, &settlement);
            }
            Some((settlement, settled))
        }
        Err(error) => {
            tracing::warn!(delivery = %claim.id, %error, "an attempt could not be settled; it will run again");
            None
        }
    }
}

pub(super) fn report_settled(tools: &Tools, claim: &Claim, settlement: &Settlement) {
    let record = &settlement.record;
    tools.metrics.attempt(&claim.id.consumer, record.outcome, record.usage);
    if settlement.death.is_some() {
        tools.metrics.dead_letter(&claim.id.consumer);
    }
    tools.witness.settled(claim, settlement);
}

/// The attempt as people see it.
pub fn shown(claim: &Claim, settlement: &Settlement) -> OutcomeRecord {
    let record = &settlement.record;
    OutcomeRecord {
        sequence: claim.id.seq,
        event_id: claim.event.envelope.id.clone(),
        event_type: claim.event.envelope.event_type.clone(),
        consumer: claim.id.consumer.clone(),
        round: claim.id.round,
        origin: origin(claim).map(str::to_owned),
        call: record.call,
        attempt: record.attempt,
        outcome: record.outcome,
        state: settlement.next.state.as_str().into(),
        reason: record.reason.clone(),
        started_at: record.started_at,
        duration_ms: milliseconds(record.usage.duration),
        fuel: record.usage.fuel,
        memory_peak: record.usage.memory_peak,
        published: u32::try_from(settlement.published()).unwrap_or(u32::MAX),
        generation: record.generation,
        component: record.component.to_string(),
        output: record.output.as_ref().map(|output| String::from_utf8_lossy(&output.data).into_owned()),
        logs: record.logs.clone(),
        logs_dropped: record.logs_dropped,
    }
}

/// What made the delivery, as far as that is known here.
fn origin(claim: &Claim) -> Option<&'static str> {
    match claim.step() {
        Some(step) if step.undo.is_some() => Some("compensation"),
        Some(_) => Some("step"),
        None if claim.id.round > 0 => None,
        None if claim.event.envelope.job.is_some() => Some("job"),
        None => Some("subscription"),
    }
}

/// Whole microseconds, as the log keeps them.
fn milliseconds(duration: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "microseconds of an attempt fit a double exactly")]
    let micros = duration.as_micros() as f64;
    micros / 1e3
}

pub(super) fn given_back(tools: &Tools, claim: &Claim) -> Left {
    tools.metrics.conflict(&claim.id.consumer);
    match claim.delivery.step(Input::GiveBack, claim.retry(), tools.clock.now(), 0) {
        Ok(delivery) => Left::Conflict(delivery),
        Err(_) => Left::Unsettled,
    }
}
