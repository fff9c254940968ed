use tidegate_sdk::prelude::*;

#[consumer]
#[responder]
fn handle(event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
