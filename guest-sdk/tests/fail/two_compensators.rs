use tidegate_sdk::prelude::*;

#[compensator]
fn release(_event: Event<Value>, _output: Option<u32>) -> Outcome {
    done()
}

#[compensator]
fn refund(_event: Event<Value>, _output: Option<u32>) -> Outcome {
    done()
}

fn main() {}
