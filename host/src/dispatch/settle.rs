//! What an attempt causes, as one value. Pure: the log makes it durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::Digest as _;

use crate::log::{AttemptRecord, Hold, Mark, Settlement};
use crate::model::delivery::{self, DeathCause, Illegal};
use crate::model::event::{DEAD_LETTERED, HOST_SOURCE};
use crate::model::pipeline::errand::{Errand, RunChange, Signal, StepErrand};
use crate::model::pipeline::run::{Input, RunId};
use crate::model::retry::RetryPolicy;
use crate::model::spec::OnDead;
use crate::model::{
    Delivery, DeliveryId, Digest, Envelope, Event, Generation, Outcome, Payload, Report, State, StateChanges,
    Timestamp, limit, time,
};
use crate::planted::{self, Bug};
use crate::registry::Consumer;

/// The right to attempt a delivery, and what the attempt runs on: a reload does not change it.
#[derive(Clone)]
pub struct Claim {
    pub id: DeliveryId,
    /// Leased.
    pub delivery: Delivery,
    pub event: Arc<Event>,
    pub consumer: Consumer,
    pub generation: Generation,
    /// It has a row in the log.
    pub stored: bool,
    /// Its ordering key.
    pub key: Option<String>,
    /// Its idempotency key.
    pub mark: Option<String>,
    /// If it is done, its ordering key is free again.
    pub frees: bool,
    /// To be noted before the attempt: it may have been in hand when the host died.
    pub careful: bool,
    /// What becomes of it without a call.
    pub instead: Option<Instead>,
    /// What it is for, if it is for more than its event.
    pub errand: Option<Arc<Errand>>,
}

impl Claim {
    /// How often and how far apart it is attempted.
    pub fn retry(&self) -> &RetryPolicy {
        let own = self.errand.as_ref().and_then(|errand| errand.retry.as_ref());
        own.unwrap_or(&self.consumer.spec.retry)
    }

    /// The step of a run that it is.
    pub fn step(&self) -> Option<&StepErrand> {
        self.errand.as_ref()?.step.as_ref()
    }
}

/// What becomes of a delivery whose handler is not called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// It lacks what the manifest asks for; says what.
    Refused(String),
    /// It was not settled within `expires-after`, counted from when it could first have been made.
    Expired { after: Duration, from: Timestamp },
    /// It was in hand each time that the host died.
    Crashed,
    /// This delivery has settled its idempotency key.
    Duplicate(DeliveryId),
    /// This run has the key that it was to begin one with.
    Begun(RunId),
    /// The run that it is a step of has given it up.
    Withdrawn,
}

impl Instead {
    /// As if an attempt had come to it.
    pub fn report(&self, now: Timestamp) -> Report {
        let (outcome, reason) = match self {
            Self::Refused(reason) => (Outcome::Refused, reason.clone()),
            Self::Expired { after, from } => (Outcome::Expired, expired(*after, *from)),
            Self::Crashed => (
                Outcome::Crashed,
                "the host died three times while it was in hand; redrive it once the cause is mended".into(),
            ),
            Self::Duplicate(of) => (Outcome::Duplicate, format!("delivery {of} with the same idempotency key is done")),
            Self::Begun(run) => (Outcome::Duplicate, format!("run {run} has the same key")),
            Self::Withdrawn => (Outcome::Withdrawn, "its run has given it up".into()),
        };
        Report::bare(outcome, reason, now)
    }
}

fn expired(after: Duration, from: Timestamp) -> String {
    let from = Timestamp::from_millis(from.as_millis());
    format!("it was not settled within the consumer's expires-after, {} from {from} on", time::written(after))
}

/// Everything that the attempt on `claim` caused, at `now`. `random` spreads a retry.
pub fn settlement(claim: &Claim, report: Report, now: Timestamp, random: u64) -> Result<Settlement, Illegal> {
    let spec = &claim.consumer.spec;
    let input = delivery::Input::Ended { outcome: report.outcome, after: report.after };
    let mut next = claim.delivery.step(input, claim.retry(), now, random)?;
    if planted::is(Bug::InterruptedIsCharged) && report.outcome == Outcome::Interrupted {
        next.attempts += 1;
    }
    // A run deals with the steps that fail, so they are no dead letters.
    let dies = next.state == State::Dead && claim.step().is_none();
    let death = dies.then(|| DeathCause::of(report.outcome));
    let done = report.outcome == Outcome::Done;

    let keep = done || planted::is(Bug::EffectsOfFailures);
    let mut events = if keep { report.published } else { Vec::new() };
    for event in &mut events {
        event.timestamp = now;
    }
    let state = if done { report.state } else { StateChanges::default() };
    let mut reason = report.reason;
    if let Some(text) = &mut reason {
        limit::cut(text, limit::REASON_BYTES_MAX);
    }
    let record = AttemptRecord {
        call: next.calls,
        // A deferred or interrupted call bears the number of the attempt that it did not use up.
        attempt: claim.delivery.attempts.saturating_add(1),
        outcome: report.outcome,
        reason,
        output: if done { report.output } else { None },
        logs: report.logs,
        logs_dropped: report.logs_dropped,
        started_at: report.started_at,
        usage: report.usage,
        generation: claim.generation,
        component: claim.consumer.digest,
    };
    let run = run_change(claim, next, &record, report.signal);
    if let Some(cause) = death {
        events.push(dead_lettered(claim, &record, next.attempts, cause, now));
    }
    let state_quota = spec.grants.state.unwrap_or(0);
    Ok(Settlement {
        delivery: claim.id.clone(),
        next,
        record,
        events,
        state,
        state_quota,
        death,
        stored: claim.stored,
        key: claim.key.clone(),
        hold: hold(claim, next),
        mark: mark(claim, next, now),
        claimed: claim.careful,
        errand: claim.errand.is_some(),
        run,
    })
}

/// What a delivery that has come to an end means for its run; or what an event means for a pipeline's.
fn run_change(claim: &Claim, next: Delivery, record: &AttemptRecord, signal: Option<Signal>) -> Option<RunChange> {
    let Some(step) = claim.step() else {
        return signal.filter(|_| record.outcome == Outcome::Done).map(RunChange::Signal);
    };
    let input = match next.state {
        State::Succeeded => step.done(),
        State::Cancelled => Input::Withdrawn { step: step.index },
        State::Dead => {
            let reason = record.reason.clone().unwrap_or_else(|| record.outcome.as_str().to_owned());
            step.failed(reason)
        }
        _ => return None,
    };
    Some(RunChange::Step(step.run.clone(), input))
}

fn hold(claim: &Claim, next: Delivery) -> Option<Hold> {
    let key = claim.key.clone()?;
    let order = claim.consumer.spec.delivery.order.as_ref();
    match next.state {
        State::Dead if claim.step().is_none() && order.is_some_and(|order| order.on_dead == OnDead::Hold) => {
            Some(Hold::Begin(key))
        }
        State::Succeeded if claim.frees => Some(Hold::End(key)),
        _ => None,
    }
}

fn mark(claim: &Claim, next: Delivery, now: Timestamp) -> Option<Mark> {
    let window = claim.consumer.spec.delivery.idempotency.as_ref()?.window;
    let done = next.state == State::Succeeded && !matches!(claim.instead, Some(Instead::Duplicate(_)));
    let key = claim.mark.clone().filter(|_| done)?;
    Some(Mark { key, until: now.plus(window) })
}

/// The event that a dead letter causes. Its id is derived from the delivery, so it is made once.
fn dead_lettered(claim: &Claim, record: &AttemptRecord, attempts: u32, cause: DeathCause, now: Timestamp) -> Envelope {
    let envelope = &claim.event.envelope;
    let data = serde_json::json!({
        "deadLetter": claim.id.to_string(),
        "sequence": claim.id.seq,
        "eventId": envelope.id,
        "eventType": envelope.event_type,
        "source": envelope.source,
        "consumer": claim.id.consumer,
        "round": claim.id.round,
        "cause": cause.as_str(),
        "outcome": record.outcome.as_str(),
        "reason": record.reason,
        "attempts": attempts,
    });
    Envelope {
        id: derived_id(&[DEAD_LETTERED, &envelope.source, &envelope.id, &claim.id.to_string()]),
        event_type: DEAD_LETTERED.into(),
        source: HOST_SOURCE.into(),
        subject: Some(claim.id.to_string()),
        key: None,
        data_version: "1.0.0".into(),
        timestamp: now,
        correlation_id: envelope.correlation_id.clone(),
        causation_id: Some(envelope.id.clone()),
        traceparent: envelope.traceparent.clone(),
        not_before: None,
        job: None,
        attributes: serde_json::Map::new(),
        payload: Some(Payload { content_type: "application/json".into(), data: Bytes::from(data.to_string()) }),
        depth: envelope.depth.saturating_add(1),
    }
}

/// An id that the same parts always give (a UUID of version 8, RFC 9562: SHA-256 of the parts).
pub fn derived_id(parts: &[&str]) -> String {
    let mut hash = sha2::Sha256::new();
    for part in parts {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let Digest(bytes) = Digest(hash.finalize().into());
    let mut id = [0; 16];
    id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    uuid::Builder::from_custom_bytes(id).into_uuid().to_string()
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
