//! Reserves what was ordered, or says what is short. What is left of each article is this consumer's state.
//!
//! Either everything in an order is reserved or nothing is, and what the attempt changed and published takes effect
//! together. Two attempts at once could both see the last piece, so the manifest gives it `concurrency: 1`.

use std::collections::BTreeMap;

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated {
    order_id: String,
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    sku: String,
    quantity: u32,
}

/// What the manifest does not set.
const INITIAL_STOCK: u32 = 50;

#[consumer]
fn reserve(order: Event<OrderCreated>) -> Outcome {
    let OrderCreated { order_id, lines } = order.data;
    let initial = config::parse("initial-stock")?.unwrap_or(INITIAL_STOCK);
    let mut wanted = BTreeMap::<String, u32>::new();
    for line in lines {
        *wanted.entry(line.sku).or_default() += line.quantity;
    }

    let mut left = BTreeMap::new();
    let mut missing = BTreeMap::new();
    for (sku, quantity) in wanted {
        let stock = state::get(&stock_key(&sku))?.unwrap_or(initial);
        match stock.checked_sub(quantity) {
            Some(rest) => drop(left.insert(sku, rest)),
            None => drop(missing.insert(sku, quantity - stock)),
        }
    }

    if !missing.is_empty() {
        log::warn!(order = order_id, articles = missing.len(), "short");
        Publish::new("inventory.short", json!({ "orderId": order_id, "missing": missing })).subject(order_id).send()?;
        return done_with(json!({ "reserved": false }));
    }
    for (sku, rest) in &left {
        state::set(&stock_key(sku), rest)?;
    }
    Publish::new("inventory.reserved", json!({ "orderId": order_id, "left": left })).subject(order_id).send()?;
    done_with(json!({ "reserved": true }))
}

fn stock_key(sku: &str) -> String {
    format!("stock/{sku}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::{Attempted, Test};

    fn order(test: &Test, lines: &[(&str, u32)]) -> Attempted {
        let lines: Vec<_> = lines.iter().map(|(sku, quantity)| json!({ "sku": sku, "quantity": quantity })).collect();
        test.event("order.created", json!({ "orderId": "A-1", "lines": lines })).run()
    }

    #[test]
    fn stock_is_counted_down_from_one_order_to_the_next() {
        let test = Test::new(reserve).config("initial-stock", "5");
        let first = order(&test, &[("tea", 1), ("cup", 2), ("tea", 1)]);
        assert_eq!(first.published()[0].event_type, "inventory.reserved");
        assert_eq!((first.state::<u32>("stock/tea"), first.state::<u32>("stock/cup")), (Some(3), Some(3)));
        assert_eq!(order(&test, &[("tea", 3)]).state::<u32>("stock/tea"), Some(0));
    }

    #[test]
    fn an_order_is_reserved_whole_or_not_at_all() {
        let test = Test::new(reserve).state("stock/tea", 1);
        let short = order(&test, &[("cup", 1), ("tea", 4)]);
        assert!(short.is_done(), "{short:?}");
        assert_eq!(short.published()[0].event_type, "inventory.short");
        assert_eq!(short.published()[0].data["missing"], json!({ "tea": 3 }));
        assert_eq!(short.state_keys(), ["stock/tea"], "the cup stays in stock");
    }

    #[test]
    fn an_unreadable_setting_is_tried_again_once_it_is_mended() {
        let attempt = order(&Test::new(reserve).config("initial-stock", "lots"), &[("tea", 1)]);
        assert!(attempt.is_retry(), "{attempt:?}");
    }
}
