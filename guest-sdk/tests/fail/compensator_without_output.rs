use tidegate_sdk::prelude::*;

#[compensator]
fn undo(_event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
