use tidegate_sdk::prelude::*;

#[consumer]
#[responder]
fn handle(_event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
