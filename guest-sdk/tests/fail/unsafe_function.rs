use tidegate_sdk::prelude::*;

#[consumer]
unsafe fn handle(_event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
