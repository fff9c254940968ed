//! Imports sockets through the standard library.
wit_bindgen::generate!({ world: "consumer", path: "../../../wit", generate_all });

use exports::tidegate::consumer::handler::{Delivery, Failure, Guest, Payload};

struct Handler;

impl Guest for Handler {
    fn handle(_delivery: Delivery) -> Result<Option<Payload>, Failure> {
        let _ = std::net::TcpStream::connect("127.0.0.1:1");
        Ok(None)
    }
}

export!(Handler);
