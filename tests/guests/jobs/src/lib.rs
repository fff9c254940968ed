//! Imports `jobs`, which the host does not provide yet.
wit_bindgen::generate!({ world: "consumer", path: "../../../wit", generate_all });

use exports::tidegate::consumer::handler::{Delivery, Failure, Guest, Payload};

struct Handler;

impl Guest for Handler {
    fn handle(_delivery: Delivery) -> Result<Option<Payload>, Failure> {
        let payload = tidegate::consumer::types::Payload { content_type: String::new(), data: Vec::new() };
        let draft = tidegate::consumer::publisher::Draft {
            type_: "a.b".into(),
            payload,
            subject: None,
            key: None,
            data_version: None,
            not_before: None,
            attributes: Vec::new(),
        };
        let _ = tidegate::consumer::jobs::enqueue("other", &draft, tidegate::consumer::jobs::Priority::Low);
        Ok(None)
    }
}

export!(Handler);
