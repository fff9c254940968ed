use tidegate_sdk::prelude::*;

#[consumer]
fn first(event: Event<Value>) -> Outcome {
    done()
}

#[consumer]
fn second(event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
