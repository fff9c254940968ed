//! Asks its test over HTTP what to do, and does it. While it waits for the answer the attempt is in hand, for as long as the
//! test likes.
use std::time::Duration;

use tidegate_sdk::prelude::*;

/// What the test answers.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    /// Events to publish: type and data.
    publish: Vec<(String, serde_json::Value)>,
    /// Whether to ask again once they are published, and tell their ids.
    tell: bool,
    /// A key of the state to count up.
    increment: Option<String>,
    /// `done`, `retry`, `defer` or `reject`.
    then: String,
    reason: String,
    after_ms: Option<u64>,
}

impl Default for Answer {
    fn default() -> Self {
        let (then, reason) = ("done".into(), "as told".into());
        Self { publish: Vec::new(), tell: false, increment: None, then, reason, after_ms: None }
    }
}

#[consumer]
fn puppet(event: Event<serde_json::Value>) -> Outcome {
    let hand = config::get("hand").ok_or("the manifest gives no `hand`")?;
    let mut asked = json!({
        "consumer": event.consumer,
        "id": event.id,
        "type": event.event_type,
        "attempt": event.attempt,
        "last": event.is_last_attempt(),
        "replayed": event.replayed,
        "data": event.data,
    });
    let mut answer: Answer = http::post(&hand).json(&asked)?.send()?.json()?;
    let mut published = Vec::new();
    for (event_type, data) in std::mem::take(&mut answer.publish) {
        published.push(publish(event_type, data)?);
    }
    if answer.tell {
        asked["published"] = json!(published);
        answer = http::post(&hand).json(&asked)?.send()?.json()?;
    }
    if let Some(key) = answer.increment {
        state::increment(&key, 1)?;
    }
    let after = answer.after_ms.map(Duration::from_millis);
    match (answer.then.as_str(), after) {
        ("done", _) => done(),
        ("retry", None) => retry(answer.reason),
        ("retry", Some(after)) => retry_after(answer.reason, after),
        ("defer", after) => defer(answer.reason, after.unwrap_or_default()),
        _ => reject(answer.reason),
    }
}
