use tidegate_sdk::prelude::*;

#[consumer]
unsafe fn handle(event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
