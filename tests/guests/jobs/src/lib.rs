//! Gives the jobs that its event lists, and publishes nothing.
use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    to: String,
    #[serde(rename = "type")]
    event_type: String,
    priority: Option<String>,
    delay_ms: Option<u64>,
}

#[consumer]
fn give(event: Event<Vec<Wanted>>) -> Outcome {
    let mut given = Vec::new();
    for wanted in &event.data {
        let priority = match wanted.priority.as_deref() {
            Some("low") => Priority::Low,
            Some("high") => Priority::High,
            _ => Priority::Normal,
        };
        let mut job = Enqueue::new(&wanted.to, &wanted.event_type, json!({ "from": event.id })).priority(priority);
        if let Some(delay) = wanted.delay_ms {
            job = job.delay(Duration::from_millis(delay));
        }
        given.push(job.send()?);
    }
    done_with(given)
}
