use tidegate_sdk::prelude::*;

#[consumer]
fn handle(event: Event<Value>) {}

fn main() {}
