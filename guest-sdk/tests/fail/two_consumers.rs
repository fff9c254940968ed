use tidegate_sdk::prelude::*;

#[consumer]
fn first(_event: Event<Value>) -> Outcome {
    done()
}

#[consumer]
fn second(_event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
