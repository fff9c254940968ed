//! Between the contract's types and ours: total functions, one a type.

use std::time::Duration;

use super::glue::{AskedQuestion, Refusal};
use super::imports::tidegate::consumer::types;
use crate::{Event, Failure, Question, Raw, RawEvent, Run, Timestamp};

pub(super) fn event(delivery: types::Delivery) -> RawEvent {
    let event = delivery.event;
    Event {
        data: raw(event.payload),
        id: event.id,
        event_type: event.type_,
        source: event.source,
        subject: event.subject,
        key: event.key,
        data_version: event.data_version,
        timestamp: Timestamp { seconds: event.timestamp.seconds, nanoseconds: event.timestamp.nanoseconds },
        correlation_id: event.correlation_id,
        causation_id: event.causation_id,
        traceparent: event.traceparent,
        sequence: event.sequence,
        attributes: event.attributes,
        consumer: delivery.consumer,
        attempt: delivery.attempt,
        attempts_max: delivery.attempts_max,
        replayed: delivery.replayed,
        run: delivery.run.map(run),
    }
}

fn run(run: types::Run) -> Run {
    let outputs = run.outputs.into_iter().map(|step| (step.step, step.output.map(raw))).collect();
    Run { id: run.id, pipeline: run.pipeline, step: run.step, outputs }
}

pub(crate) fn raw(payload: types::Payload) -> Raw {
    Raw { content_type: payload.content_type, bytes: payload.data }
}

pub(crate) fn payload(raw: Raw) -> types::Payload {
    types::Payload { content_type: raw.content_type, data: raw.bytes }
}

pub(super) fn failure(failure: Failure) -> types::Failure {
    match failure {
        Failure::Retry { reason, after } => types::Failure::Retry(types::Retry { reason, after_ms: after.map(millis) }),
        Failure::Defer { reason, after } => types::Failure::Defer(types::Deferral { reason, after_ms: millis(after) }),
        Failure::Reject { reason } => types::Failure::Reject(reason),
    }
}

pub(super) fn question(question: AskedQuestion) -> Question {
    Question {
        data: raw(question.payload),
        id: question.id,
        question_type: question.type_,
        correlation_id: question.correlation_id,
        deadline: Duration::from_millis(question.deadline_ms),
    }
}

pub(super) fn refusal(refusal: crate::Refusal) -> Refusal {
    match refusal {
        crate::Refusal::Invalid(why) => Refusal::Invalid(why),
        crate::Refusal::NotFound(why) => Refusal::NotFound(why),
        crate::Refusal::Unavailable(why) => Refusal::Unavailable(why),
    }
}

/// Whole milliseconds, rounded up: a delay is never shorter than asked for.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
