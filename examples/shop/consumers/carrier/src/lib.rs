//! Books a shipment for every confirmed order with a carrier that is often busy: about one order in three needs more than
//! one attempt, and nothing ever leaves from a depot that is closed.
//!
//! How busy it is follows from the order's id and the attempt's number, so that every run of the example tells the
//! same story.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderConfirmed {
    order_id: String,
    ship_to: Address,
}

#[derive(Deserialize)]
struct Address {
    city: String,
    country: String,
}

/// No carrier goes here; the orders wait as dead letters until one does.
const CLOSED_DEPOT: &str = "IS";

#[consumer]
fn book(order: Event<OrderConfirmed>) -> Outcome {
    let OrderConfirmed { order_id, ship_to } = &order.data;
    if ship_to.country == CLOSED_DEPOT {
        return retry(format!("no carrier goes to {} at the moment", ship_to.city));
    }
    if order.attempt <= refusals(order_id) {
        log::warn!(order = order_id, attempt = order.attempt, "carrier is busy");
        return retry("carrier answers 503: busy");
    }
    let tracking = format!("TRK{:016X}", hash(order_id));
    Publish::new("order.shipped", json!({ "orderId": order_id, "tracking": tracking })).subject(order_id).send()?;
    done_with(json!({ "tracking": tracking }))
}

/// How often the carrier refuses this order before it takes it: 0 to 3 times.
fn refusals(order_id: &str) -> u32 {
    match hash(order_id) % 12 {
        0 => 3,
        1 => 2,
        2 | 3 => 1,
        _ => 0,
    }
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::{Attempted, Test};

    fn attempt(order_id: &str, country: &str, attempt: u32) -> Attempted {
        let order = json!({ "orderId": order_id, "shipTo": { "city": "Somewhere", "country": country } });
        Test::new(book).grant_publish("order.shipped").event("order.confirmed", order).attempt(attempt).run()
    }

    #[test]
    fn a_busy_carrier_takes_the_order_in_the_end() {
        let ids: Vec<_> = (1001..1201).map(|n| format!("A-{n}")).collect();
        for id in &ids {
            let refused = refusals(id);
            assert!((1..=refused).all(|n| attempt(id, "DE", n).is_retry()), "{id}");
            let taken = attempt(id, "DE", refused + 1);
            assert_eq!(taken.published()[0].event_type, "order.shipped", "{id}");
        }
        let busy = ids.iter().filter(|id| refusals(id) > 0).count();
        assert!((40..90).contains(&busy), "{busy} of 200 orders need more than one attempt");
    }

    #[test]
    fn a_closed_depot_never_answers_otherwise() {
        assert!((1..9).all(|n| attempt("A-1001", "IS", n).is_retry()));
    }
}
