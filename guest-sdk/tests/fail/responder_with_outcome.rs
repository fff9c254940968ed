use tidegate_sdk::prelude::*;

#[responder]
fn reply(question: Question<Value>) -> Outcome {
    done()
}

fn main() {}
