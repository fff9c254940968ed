use tidegate_sdk::prelude::*;

#[consumer]
fn handle(_event: impl Clone) -> Outcome {
    done()
}

fn main() {}
