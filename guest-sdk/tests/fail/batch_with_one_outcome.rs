use tidegate_sdk::prelude::*;

#[batch_consumer]
fn handle(_events: Vec<Event<Value>>) -> Outcome {
    done()
}

fn main() {}
