use tidegate_sdk::prelude::*;

#[consumer]
async fn handle(_event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
