//! Confirms every order.
use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated {
    order_id: String,
    email: String,
}

#[consumer]
fn confirm(order: Event<OrderCreated>) -> Outcome {
    publish("order.confirmed", json!({ "orderId": order.data.order_id, "sentTo": order.data.email }))?;
    done()
}
