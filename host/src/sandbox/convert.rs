//! Values of the contract to values of the model and back. Total: nothing a guest says can make these fail other
//! than with a sentence for it.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::bindings::{AskedQuestion, types};
use super::{Call, QuestionCall};
use crate::model::{Payload, Timestamp};

/// A media type, in bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 256;

pub(super) fn delivery(call: &Call, consumer: &str) -> types::Delivery {
    types::Delivery {
        event: event(call),
        consumer: consumer.to_owned(),
        attempt: call.attempt,
        attempts_max: call.attempts_max,
        replayed: call.replayed,
        run: call.run.as_ref().map(|run| types::Run {
            id: run.id.clone(),
            pipeline: run.pipeline.to_string(),
            step: run.step.clone(),
            outputs: run.outputs.iter().map(step_output).collect(),
        }),
    }
}

fn step_output((step, output): &(String, Option<Payload>)) -> types::StepOutput {
    types::StepOutput { step: step.clone(), output: output.as_ref().map(given) }
}

pub(super) fn given(payload: &Payload) -> types::Payload {
    types::Payload { content_type: payload.content_type.clone(), data: payload.data.to_vec() }
}

/// `left`: how long there is for the answer.
pub(super) fn question(call: &QuestionCall, left: Duration) -> AskedQuestion {
    AskedQuestion {
        id: call.id.clone(),
        type_: call.question.query_type.clone(),
        correlation_id: call.correlation_id.clone(),
        payload: given(&call.question.payload),
        deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    }
}

fn event(call: &Call) -> types::Event {
    let envelope = &call.event.envelope;
    types::Event {
        id: envelope.id.clone(),
        type_: envelope.event_type.clone(),
        source: envelope.source.clone(),
        subject: envelope.subject.clone(),
        key: envelope.key.clone(),
        data_version: envelope.data_version.clone(),
        timestamp: instant(envelope.timestamp),
        correlation_id: envelope.correlation_id.clone(),
        causation_id: envelope.causation_id.clone(),
        traceparent: envelope.traceparent.clone(),
        sequence: (!call.ephemeral).then_some(call.event.seq),
        payload: envelope.payload.as_ref().map_or_else(no_data, given),
        attributes: envelope.attributes.iter().map(|(name, value)| (name.clone(), attribute(value))).collect(),
    }
}

fn no_data() -> types::Payload {
    types::Payload { content_type: String::new(), data: Vec::new() }
}

/// Strings as they are, the rest as JSON.
fn attribute(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn instant(at: Timestamp) -> types::Instant {
    let nanoseconds = u32::try_from(at.0.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    types::Instant { seconds: at.0.div_euclid(1_000_000), nanoseconds }
}

pub(super) fn timestamp(at: types::Instant) -> Result<Timestamp, String> {
    let micros = at.seconds.checked_mul(1_000_000).and_then(|s| s.checked_add(i64::from(at.nanoseconds) / 1_000));
    micros
        .map(Timestamp)
        .filter(|at| (Timestamp::MIN..=Timestamp::MAX).contains(at))
        .ok_or_else(|| "not-before: a time in the years -9999 to 9999".to_owned())
}

/// None: an empty media type and no bytes, which is how the contract says *no data*.
pub(super) fn payload(payload: types::Payload) -> Result<Option<Payload>, String> {
    let types::Payload { content_type, data } = payload;
    if content_type.len() > CONTENT_TYPE_BYTES_MAX || content_type.chars().any(char::is_control) {
        return Err(format!("payload: a content type has at most {CONTENT_TYPE_BYTES_MAX} plain characters"));
    }
    if content_type.is_empty() && data.is_empty() {
        return Ok(None);
    }
    Ok(Some(Payload { content_type, data: Bytes::from(data) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ephemeral_event_has_no_place_in_the_log() {
        let call = crate::sandbox::testing::call(crate::sandbox::testing::event("{}"));
        assert_eq!(delivery(&call, "c").event.sequence, Some(7));
        assert_eq!(delivery(&Call { ephemeral: true, ..call }, "c").event.sequence, None);
    }

    #[test]
    fn times_survive_both_ways() {
        for at in [0, 1, -1, 1_795_000_000_123_456, Timestamp::MIN.0, Timestamp::MAX.0] {
            assert_eq!(timestamp(instant(Timestamp(at))), Ok(Timestamp(at)));
        }
        assert!(timestamp(types::Instant { seconds: i64::MAX, nanoseconds: 0 }).is_err());
        assert!(timestamp(types::Instant { seconds: 0, nanoseconds: u32::MAX }).is_ok());
    }
}
