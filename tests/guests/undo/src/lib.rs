//! Undoes steps of others, and handles nothing itself.
use tidegate_sdk::prelude::*;

#[compensator]
fn undo(_: Event<Value>, output: Option<Value>) -> Outcome {
    log::info!("undone: {}", output.unwrap_or_default());
    done()
}
