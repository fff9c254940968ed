use tidegate_sdk::prelude::*;

#[consumer]
fn handle(_event: Event<Value>) -> Result<(), String> {
    Ok(())
}

fn main() {}
