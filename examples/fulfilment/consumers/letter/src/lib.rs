//! Tells the customer what was put aside. A step beside others: nothing waits for it but the end of its block.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
}

#[consumer]
fn tell(order: Event<Order>) -> Outcome {
    let order_id = order.data.order_id;
    Publish::new("order.confirmed", json!({ "orderId": order_id })).subject(order_id).send()?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn the_customer_is_told() {
        let attempt = Test::new(tell).event("order.created", json!({ "orderId": "A-1" })).run();
        assert_eq!(attempt.published()[0].event_type, "order.confirmed");
    }
}
