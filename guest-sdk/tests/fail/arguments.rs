use tidegate_sdk::prelude::*;

#[consumer(on = "order.created")]
fn handle(_event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
