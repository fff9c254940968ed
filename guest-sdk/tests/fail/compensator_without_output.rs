use tidegate_sdk::prelude::*;

#[compensator]
fn undo(event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
