//! Books every event once: a counter, a key and, for an order, a published event, so that loss and doubling show.
use tidegate_sdk::prelude::*;

#[consumer]
fn book(event: Event<serde_json::Value>) -> Outcome {
    state::increment("total", 1)?;
    state::set(&format!("seen/{}", event.id), &event.attempt)?;
    if event.event_type != "order.booked" {
        publish("order.booked", json!({ "of": event.id }))?;
    }
    done()
}
