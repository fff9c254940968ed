use tidegate_sdk::prelude::*;

#[batch_consumer]
fn handle(event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
