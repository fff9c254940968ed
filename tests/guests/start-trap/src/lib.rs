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

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = trap;

extern "C" fn trap() {
    std::process::abort()
}
