use tidegate_sdk::prelude::*;

#[responder]
fn reply(_question: Question<Value>) -> Outcome {
    done()
}

fn main() {}
