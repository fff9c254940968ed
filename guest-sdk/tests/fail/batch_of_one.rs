use tidegate_sdk::prelude::*;

#[batch_consumer]
fn handle(_event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
