//! Asks what its event says, and says what it was told.
use std::time::Duration;

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ask {
    #[serde(rename = "type")]
    query_type: String,
    question: Value,
    #[serde(default = "long")]
    timeout_ms: u64,
    /// How often.
    #[serde(default = "once")]
    times: u32,
}

fn long() -> u64 {
    3_600_000
}

fn once() -> u32 {
    1
}

#[consumer]
fn ask(event: Event<Ask>) -> Outcome {
    let Ask { query_type, question, timeout_ms, times } = event.data;
    let timeout = Duration::from_millis(timeout_ms);
    let mut said = Value::Null;
    for _ in 0..times {
        said = match queries::ask_within::<_, Value>(&query_type, &question, timeout) {
            Ok(answer) => json!({ "answer": answer }),
            Err(error) => json!({ "error": word(&error), "says": error.to_string() }),
        };
    }
    done_with(said)
}

fn word(error: &queries::Error) -> &'static str {
    match error {
        queries::Error::NotGranted(_) => "not-granted",
        queries::Error::Invalid(_) => "not-valid",
        queries::Error::TooLarge(_) => "too-large",
        queries::Error::TooMany(_) => "too-many",
        queries::Error::ChainTooDeep(_) => "chain-too-deep",
        queries::Error::NoResponder => "no-responder",
        queries::Error::TimedOut => "timed-out",
        queries::Error::Refused(Refusal::Invalid(_)) => "invalid",
        queries::Error::Refused(Refusal::NotFound(_)) => "not-found",
        queries::Error::Refused(Refusal::Unavailable(_)) => "unavailable",
        queries::Error::Failed(_) => "failed",
        _ => "other",
    }
}
