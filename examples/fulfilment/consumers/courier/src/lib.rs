//! Sends what was ordered on its way.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
}

#[consumer]
fn ship(order: Event<Order>) -> Outcome {
    let order_id = order.data.order_id;
    let parcel = format!("P-{order_id}");
    Publish::new("order.shipped", json!({ "orderId": order_id, "parcel": parcel })).subject(order_id).send()?;
    done_with(json!({ "parcel": parcel }))
}

#[compensator]
fn call_back(order: Event<Order>, _: Option<Value>) -> Outcome {
    let order_id = order.data.order_id;
    Publish::new("order.called-back", json!({ "orderId": order_id })).subject(order_id).send()?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn an_order_is_one_parcel() {
        let attempt = Test::new(ship).event("order.created", json!({ "orderId": "A-1" })).run();
        assert_eq!(attempt.published()[0].data["parcel"], "P-A-1");
    }
}
