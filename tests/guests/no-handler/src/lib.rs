//! A component of the contract, but not one that handles events.
wit_bindgen::generate!({ world: "upcasting", path: "../../../wit", generate_all });

use exports::tidegate::consumer::upcaster::{Guest, Payload};

struct Upcaster;

impl Guest for Upcaster {
    fn upcast(_: String, version: String, payload: Payload) -> Result<(String, Payload), String> {
        Ok((version, payload))
    }
}

export!(Upcaster);
