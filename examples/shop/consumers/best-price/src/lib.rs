//! Finds the best combination of an order's vouchers by trying every one of them. Two vouchers are four combinations;
//! thirty are a billion, and the attempt ends when its fuel does: no other consumer notices.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OrderCreated {
    total_cents: u64,
    #[serde(default)]
    vouchers: Vec<Voucher>,
}

#[derive(Deserialize)]
struct Voucher {
    /// Taken off before percentages.
    cents: u64,
    percent: u64,
}

/// More than this may not be taken off in all.
const PERCENT_MAX: u64 = 50;

#[consumer]
fn price(order: Event<OrderCreated>) -> Outcome {
    let OrderCreated { total_cents, vouchers } = order.data;
    let combinations = 1_u64.checked_shl(u32::try_from(vouchers.len())?).unwrap_or(u64::MAX);
    let best = (0..combinations).filter_map(|chosen| with_vouchers(total_cents, &vouchers, chosen)).min();
    done_with(json!({ "priceCents": best.unwrap_or(total_cents), "combinations": combinations }))
}

/// The price with the vouchers whose bits are set; none if they may not be combined.
fn with_vouchers(total: u64, vouchers: &[Voucher], chosen: u64) -> Option<u64> {
    let chosen = vouchers.iter().enumerate().filter(|(n, _)| chosen >> n & 1 == 1).map(|(_, voucher)| voucher);
    let (cents, percent) = chosen.fold((0, 0), |(cents, percent), one| (cents + one.cents, percent + one.percent));
    let price = total.saturating_sub(cents) * 100_u64.saturating_sub(percent) / 100;
    (price >= total * (100 - PERCENT_MAX) / 100).then_some(price)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    fn best(vouchers: Value) -> Option<Value> {
        let order = json!({ "totalCents": 10_000, "vouchers": vouchers });
        Test::new(price).event("order.created", order).run().output()
    }

    #[test]
    fn the_best_combination_wins() {
        let voucher = |cents: u64, percent: u64| json!({ "code": "X", "cents": cents, "percent": percent });
        assert_eq!(best(json!([])), Some(json!({ "priceCents": 10_000, "combinations": 1 })));
        assert_eq!(
            best(json!([voucher(500, 0), voucher(0, 10)])),
            Some(json!({ "priceCents": 8_550, "combinations": 4 }))
        );
        // Both together would be more than half off.
        assert_eq!(best(json!([voucher(0, 45), voucher(3_000, 0)])).unwrap()["priceCents"], 5_500);
    }

    #[test]
    fn an_order_without_vouchers_costs_what_it_costs() {
        let attempt = Test::new(price).event("order.created", json!({ "totalCents": 7 })).run();
        assert_eq!(attempt.output::<Value>().unwrap()["priceCents"], 7);
    }
}
