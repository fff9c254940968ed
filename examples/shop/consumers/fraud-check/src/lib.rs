//! Rejects orders that look like fraud: a dead letter is what a person looks at. It needs no grant, so it can be dropped
//! into the folder of its event type and runs without a word in the manifest.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated {
    customer: Customer,
    payment: Payment,
    ship_to: Address,
    total_cents: u64,
}

#[derive(Deserialize)]
struct Customer {
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payment {
    card_country: Option<String>,
    attempts_today: u32,
}

#[derive(Deserialize)]
struct Address {
    country: String,
}

/// From here on an order is looked at by a person.
const SCORE_MAX: u32 = 60;

#[consumer]
fn check(order: Event<OrderCreated>) -> Outcome {
    let findings = findings(&order.data);
    let score: u32 = findings.iter().map(|(points, _)| points).sum();
    if score >= SCORE_MAX {
        let reasons: Vec<_> = findings.iter().map(|(_, why)| *why).collect();
        return reject(format!("looks like fraud ({score} points): {}", reasons.join(", ")));
    }
    done_with(json!({ "score": score }))
}

/// What is odd about an order, and how odd it is.
fn findings(order: &OrderCreated) -> Vec<(u32, &'static str)> {
    let abroad = order.payment.card_country.as_ref().is_some_and(|country| *country != order.ship_to.country);
    let throwaway = ["mailinator.example", "tempmail.example"].iter().any(|host| order.customer.email.ends_with(host));
    [
        (abroad, 35, "card from another country"),
        (order.total_cents > 80_000, 30, "unusually large"),
        (order.payment.attempts_today > 4, 40, "many cards tried today"),
        (throwaway, 40, "throw-away mailbox"),
    ]
    .into_iter()
    .filter_map(|(found, points, why)| found.then_some((points, why)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::{Attempted, Test};

    fn order(email: &str, card: Option<&str>, attempts: u32, cents: u64) -> Attempted {
        let order = json!({
            "customer": { "email": email },
            "payment": { "cardCountry": card, "attemptsToday": attempts },
            "shipTo": { "country": "DE" },
            "totalCents": cents,
        });
        Test::new(check).event("order.created", order).run()
    }

    #[test]
    fn ordinary_orders_pass() {
        assert_eq!(order("ada@example.com", Some("DE"), 1, 4_990).output(), Some(json!({ "score": 0 })));
        assert_eq!(order("ada@example.com", Some("FR"), 1, 4_990).output(), Some(json!({ "score": 35 })));
        assert!(order("ada@example.com", None, 1, 99_900).is_done());
    }

    #[test]
    fn two_oddities_are_too_many() {
        let attempt = order("ada@example.com", Some("FR"), 1, 99_900);
        let reason = "looks like fraud (65 points): card from another country, unusually large";
        assert_eq!(attempt.outcome(), &reject(reason));
        assert!(order("x@tempmail.example", Some("DE"), 9, 100).is_reject());
    }
}
