use tidegate_sdk::prelude::*;

#[consumer]
fn handle(event: Event<Value>) -> Result<(), String> {
    Ok(())
}

fn main() {}
