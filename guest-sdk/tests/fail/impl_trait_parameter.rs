use tidegate_sdk::prelude::*;

#[consumer]
fn handle(event: impl Clone) -> Outcome {
    done()
}

fn main() {}
