//! Confirms every order. Others act on `order.confirmed`: one event leads to the next.

use tidegate_sdk::prelude::*;

/// What this consumer needs of an order; the rest of the data may change without it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated {
    order_id: String,
    customer: Customer,
    ship_to: Value,
    total_cents: u64,
}

#[derive(Deserialize)]
struct Customer {
    name: String,
    email: String,
}

#[consumer]
fn confirm(order: Event<OrderCreated>) -> Outcome {
    let OrderCreated { order_id, customer, ship_to, total_cents } = order.data;
    let sender = config::get("sender").unwrap_or_else(|| "shop@example.com".into());
    let text = format!(
        "Dear {}, we have your order {order_id} of {}.{:02} EUR.",
        customer.name,
        total_cents / 100,
        total_cents % 100
    );
    log::info!(order = order_id, to = customer.email, "confirmed");
    Publish::new(
        "order.confirmed",
        json!({ "orderId": order_id, "from": sender, "to": customer.email, "text": text, "shipTo": ship_to }),
    )
    .subject(order_id)
    .send()?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn an_order_is_confirmed_to_its_customer() {
        let test = Test::new(confirm).grant_publish("order.confirmed").config("sender", "hello@shop.example");
        let order = json!({
            "orderId": "A-1001",
            "customer": { "id": "C-7", "name": "Ada", "email": "ada@example.com" },
            "shipTo": { "country": "DE" },
            "totalCents": 1205,
        });
        let attempt = test.event("order.created", order).run();
        assert_eq!(attempt.outcome(), &done());
        let [confirmed] = attempt.published() else { panic!("{attempt:?}") };
        assert_eq!((confirmed.event_type.as_str(), confirmed.subject.as_deref()), ("order.confirmed", Some("A-1001")));
        assert_eq!(confirmed.data["from"], "hello@shop.example");
        assert_eq!(confirmed.data["text"], "Dear Ada, we have your order A-1001 of 12.05 EUR.");
        assert_eq!(confirmed.data["shipTo"]["country"], "DE");
    }

    #[test]
    fn an_order_without_a_customer_is_rejected() {
        let attempt = Test::new(confirm).event("order.created", json!({ "orderId": "A-1001" })).run();
        assert!(attempt.is_reject() && attempt.reason().contains("missing field `customer`"), "{attempt:?}");
    }
}
