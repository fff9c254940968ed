//! Traps in its start.
wit_bindgen::generate!({ world: "consumer", path: "../../../wit", generate_all });

use exports::tidegate::consumer::handler::{Delivery, Failure, Guest, Payload};

struct Handler;

impl Guest for Handler {
    fn handle(_delivery: Delivery) -> Result<Option<Payload>, Failure> {
        Ok(None)
    }
}

export!(Handler);

/// Called when the component is instantiated.
#[unsafe(export_name = "_initialize")]
extern "C" fn start() {
    std::process::abort()
}
