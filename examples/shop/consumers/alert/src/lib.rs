//! Tells somebody about every dead letter. It consumes one of the host's own events like any other.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeadLettered {
    /// What `tidegate dead show` takes.
    dead_letter: String,
    event_id: String,
    event_type: String,
    consumer: String,
    /// `rejected`, `refused` or `attempts-exhausted`.
    cause: String,
    reason: Option<String>,
    attempts: u32,
}

#[consumer]
fn alert(event: Event<DeadLettered>) -> Outcome {
    let DeadLettered { dead_letter, event_id, event_type, consumer, cause, reason, attempts } = event.data;
    if consumer == event.consumer {
        // An alert about an alert, or a dead letter about a dead letter, could go on for ever.
        log::error!(dead_letter = dead_letter, "an alert could not be raised");
        return done();
    }
    let reason = reason.unwrap_or_else(|| "no reason given".into());
    let severity = if cause == "rejected" { "notice" } else { "warning" };
    let text = format!("{consumer} gave up on {event_type} {event_id} after {attempts}: {reason}");
    log::error!(consumer = consumer, cause = cause, dead_letter = dead_letter, "{text}");
    Publish::new("alert.raised", json!({ "severity": severity, "text": text, "deadLetter": dead_letter }))
        .subject(consumer)
        .send()?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::{log::Level, testing::Test};

    fn dead(consumer: &str, cause: &str) -> Value {
        json!({
            "deadLetter": format!("12/{consumer}"), "sequence": 12, "eventId": "order-A-1001", "eventType": "order.created",
            "source": "/shop/web", "consumer": consumer, "round": 0, "cause": cause, "outcome": "retry", "reason": "busy",
            "attempts": 4,
        })
    }

    #[test]
    fn a_dead_letter_raises_an_alert() {
        let test = Test::new(alert).grant_publish("alert.raised");
        let attempt =
            test.event("tidegate.dead-lettered", dead("carrier", "attempts-exhausted")).consumer("alert").run();
        assert_eq!(attempt.outcome(), &done());
        let raised = &attempt.published()[0].data;
        assert_eq!(raised["text"], "carrier gave up on order.created order-A-1001 after 4: busy");
        assert_eq!((&raised["severity"], &raised["deadLetter"]), (&json!("warning"), &json!("12/carrier")));
        assert_eq!(attempt.logs()[0].level, Level::Error);
    }

    #[test]
    fn what_was_rejected_is_only_worth_a_notice() {
        let attempt = Test::new(alert).event("tidegate.dead-lettered", dead("fraud-check", "rejected")).run();
        assert_eq!(attempt.published()[0].data["severity"], "notice");
    }

    #[test]
    fn its_own_dead_letter_raises_none() {
        let event = dead("alert", "attempts-exhausted");
        let attempt = Test::new(alert).event("tidegate.dead-lettered", event).consumer("alert").run();
        assert!(attempt.is_done() && attempt.published().is_empty(), "{attempt:?}");
    }
}
