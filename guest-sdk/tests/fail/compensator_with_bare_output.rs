use tidegate_sdk::prelude::*;

#[compensator]
fn undo(_event: Event<Value>, _output: u32) -> Outcome {
    done()
}

fn main() {}
