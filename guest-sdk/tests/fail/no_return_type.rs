use tidegate_sdk::prelude::*;

#[consumer]
fn handle(_event: Event<Value>) {}

fn main() {}
