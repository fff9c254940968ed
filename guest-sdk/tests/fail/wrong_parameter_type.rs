use tidegate_sdk::prelude::*;

#[consumer]
fn handle(order: Value) -> Outcome {
    done()
}

fn main() {}
