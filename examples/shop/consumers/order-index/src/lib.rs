//! Knows where each order stands. It takes many events in one call, and writes each order once, however many of the events are
//! about it. `tidegate state order-index` shows the index.

use std::collections::BTreeMap;

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    order_id: String,
}

/// The latest that was heard of an order.
#[derive(Deserialize, Serialize)]
struct Standing {
    latest: String,
    sequence: Option<u64>,
}

#[batch_consumer]
fn index(events: Vec<Event<About>>) -> Vec<Outcome> {
    let mut latest: BTreeMap<&str, &Event<About>> = BTreeMap::new();
    for event in &events {
        let known = latest.entry(&event.data.order_id).or_insert(event);
        if event.sequence > known.sequence {
            *known = event;
        }
    }
    let written: BTreeMap<_, _> = latest.into_iter().map(|(order, event)| (order, write(order, event))).collect();
    // The fate of an order is that of all events about it.
    events.iter().map(|event| written[event.data.order_id.as_str()].clone()).collect()
}

fn write(order: &str, event: &Event<About>) -> Outcome {
    // A retried event may come after a later one.
    let known: Option<Standing> = state::get(order)?;
    if known.is_none_or(|known| known.sequence < event.sequence) {
        state::set(order, Standing { latest: event.event_type.clone(), sequence: event.sequence })?;
    }
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn the_latest_of_each_order_is_kept() {
        let test = Test::of_batches(index);
        let event = |kind: &str, order: &str| test.event(kind, json!({ "orderId": order }));
        let batch = test.run_batch([
            event("order.created", "A-1"),
            event("order.created", "A-2"),
            event("order.confirmed", "A-1"),
            test.event("order.noted", json!({})),
        ]);
        assert!(batch.outcomes()[..3].iter().all(Result::is_ok) && batch.outcomes()[3].is_err());
        let latest = |order| batch.attempt().state::<Standing>(order).map(|standing| standing.latest);
        assert_eq!(latest("A-1").as_deref(), Some("order.confirmed"));
        assert_eq!(latest("A-2").as_deref(), Some("order.created"));
    }

    #[test]
    fn what_comes_late_changes_nothing() {
        let test = Test::of_batches(index);
        let event = |kind: &str, sequence| test.event(kind, json!({ "orderId": "A-1" })).sequence(sequence);
        event("order.shipped", 9).run();
        let late = event("order.created", 3).run();
        assert_eq!(late.state::<Standing>("A-1").map(|standing| standing.latest).as_deref(), Some("order.shipped"));
    }
}
