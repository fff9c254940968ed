use tidegate_sdk::prelude::*;

#[consumer]
fn handle(_event: Event<Value>, _attempt: u32) -> Outcome {
    done()
}

fn main() {}
