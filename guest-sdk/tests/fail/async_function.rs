use tidegate_sdk::prelude::*;

#[consumer]
async fn handle(event: Event<Value>) -> Outcome {
    done()
}

fn main() {}
