//! Counts every event about orders, by type. `tidegate state audit` shows the counts.

use tidegate_sdk::prelude::*;

#[consumer]
fn count(event: RawEvent) -> Outcome {
    let seen = state::increment(&format!("seen/{}", event.event_type), 1)?;
    if seen == 1 {
        state::set(&format!("first/{}", event.event_type), json!({ "id": event.id, "at": event.timestamp }))?;
    }
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn events_are_counted_by_type() {
        let test = Test::new(count);
        for (n, event_type) in ["order.created", "order.confirmed", "order.created"].iter().enumerate() {
            assert!(test.raw_event(event_type, "", []).id(&format!("e-{n}")).run().is_done());
        }
        let last = test.event("order.created", ()).run();
        assert_eq!(last.state::<i64>("seen/order.created"), Some(3));
        assert_eq!(last.state::<i64>("seen/order.confirmed"), Some(1));
        assert_eq!(last.state::<Value>("first/order.created").unwrap()["id"], "e-0");
    }
}
