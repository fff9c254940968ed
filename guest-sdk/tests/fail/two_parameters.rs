use tidegate_sdk::prelude::*;

#[consumer]
fn handle(event: Event<Value>, attempt: u32) -> Outcome {
    done()
}

fn main() {}
