//! Never gets out of its start.
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
static START: extern "C" fn() = spin;

extern "C" fn spin() {
    loop {
        std::hint::black_box(());
    }
}
