use tidegate_sdk::prelude::*;

#[consumer]
fn handle(_order: Value) -> Outcome {
    done()
}

fn main() {}
