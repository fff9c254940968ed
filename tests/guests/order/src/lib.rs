//! Reads an order and does nothing with it: what benchmarks call.
use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    quantity: u64,
}

#[consumer]
fn read(order: Event<Order>) -> Outcome {
    let pieces: u64 = order.data.items.iter().map(|item| item.quantity).sum();
    if pieces == 0 {
        return reject(format!("nothing is ordered in {}", order.data.order_id));
    }
    done()
}
