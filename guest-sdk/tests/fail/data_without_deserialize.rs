use tidegate_sdk::prelude::*;

struct Order {
    id: String,
}

#[consumer]
fn handle(order: Event<Order>) -> Outcome {
    done_with(order.data.id)
}

fn main() {}
