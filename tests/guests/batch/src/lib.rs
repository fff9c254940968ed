//! Takes batches, and does with each delivery what its payload says: `{"then": "retry"}`. README.md lists the words.
wit_bindgen::generate!({ world: "batch-consumer", path: "../../../wit", generate_all });

use exports::tidegate::consumer::batch_handler::{Delivery, Failure, Guest};
use tidegate::consumer::types::{Deferral, Payload, Retry};
use tidegate::consumer::{attempt, log, publisher};

struct Handler;

impl Guest for Handler {
    fn handle_batch(deliveries: Vec<Delivery>) -> Vec<Result<(), Failure>> {
        log::write(log::Level::Info, &format!("a batch of {}", deliveries.len()), &[]);
        let mut results: Vec<_> = deliveries.iter().map(item).collect();
        if deliveries.iter().any(|delivery| word(delivery) == "short") {
            results.pop();
        }
        if deliveries.iter().any(|delivery| word(delivery) == "long") {
            results.push(Ok(()));
        }
        results
    }
}

export!(Handler);

fn word(delivery: &Delivery) -> &str {
    let data = str::from_utf8(&delivery.event.payload.data).unwrap_or_default();
    data.split_once("\"then\"").and_then(|(_, rest)| rest.split('"').nth(1)).unwrap_or("done")
}

fn item(delivery: &Delivery) -> Result<(), Failure> {
    match word(delivery) {
        "retry" => Err(retry("later")),
        "defer" => Err(Failure::Defer(Deferral { reason: "not now".into(), after_ms: 5_000 })),
        "reject" => Err(Failure::Reject("never".into())),
        "publish" => publish("order.noted", delivery),
        "publish-ungranted" => publish("payment.taken", delivery),
        "trap" => panic!("poison"),
        "spin" => loop {
            std::hint::black_box(());
        },
        "in-progress" => {
            attempt::in_progress();
            Ok(())
        }
        _ => Ok(()),
    }
}

fn publish(event_type: &str, delivery: &Delivery) -> Result<(), Failure> {
    let draft = publisher::Draft {
        type_: event_type.into(),
        payload: Payload { content_type: "text/plain".into(), data: delivery.event.id.clone().into_bytes() },
        subject: None,
        key: None,
        data_version: None,
        not_before: None,
        attributes: Vec::new(),
    };
    publisher::publish(&draft).map(drop).map_err(|error| retry(&error.to_string()))
}

fn retry(reason: &str) -> Failure {
    Failure::Retry(Retry { reason: reason.into(), after_ms: None })
}
