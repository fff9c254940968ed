use tidegate_sdk::prelude::*;

#[consumer]
fn handle() -> Outcome {
    done()
}

fn main() {}
