//! Takes payments and gives them back. What is in the till, in cents, is this consumer's state: at the end of the day it is
//! the sum of the orders that were not undone, to the cent.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
    cents: i64,
    /// What the card's bank says to it; absent: yes.
    #[serde(default)]
    declined: bool,
}

#[derive(Serialize, Deserialize)]
struct Paid {
    cents: i64,
}

const BALANCE: &str = "balance";

#[consumer]
fn take(order: Event<Order>) -> Outcome {
    let Order { order_id, cents, declined } = order.data;
    if declined {
        return reject("the card was declined");
    }
    state::increment(BALANCE, cents)?;
    Publish::new("payment.taken", json!({ "orderId": order_id, "cents": cents })).subject(order_id).send()?;
    done_with(Paid { cents })
}

#[compensator]
fn give_back(order: Event<Order>, paid: Option<Paid>) -> Outcome {
    let Some(Paid { cents }) = paid else { return done() };
    state::increment(BALANCE, -cents)?;
    let order_id = order.data.order_id;
    Publish::new("payment.refunded", json!({ "orderId": order_id, "cents": cents })).subject(order_id).send()?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn a_declined_card_leaves_the_till_as_it_was() {
        let test = Test::new(take);
        let order = |declined: bool| {
            test.event("order.created", json!({ "orderId": "A-1", "cents": 1250, "declined": declined })).run()
        };
        assert_eq!(order(false).state::<i64>(BALANCE), Some(1250));
        let declined = order(true);
        assert!(declined.is_reject() && declined.published().is_empty());
    }
}
