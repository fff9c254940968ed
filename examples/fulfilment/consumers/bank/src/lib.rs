//! Settles what the till has taken; some payments take their time, and some never arrive.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Taken {
    order_id: String,
    cents: i64,
}

#[consumer]
fn settle(taken: Event<Taken>) -> Outcome {
    let Taken { order_id, cents } = taken.data;
    // What this bank does not like, it does not settle, and says nothing.
    let refuses: Option<i64> = config::parse("refuses-cents")?;
    if refuses == Some(cents) {
        return done();
    }
    Publish::new("payment.settled", json!({ "orderId": order_id, "cents": cents })).subject(order_id).send()?;
    done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn what_was_taken_is_settled_unless_the_bank_does_not_like_it() {
        let test = Test::new(settle).config("refuses-cents", "666");
        let taken = |cents: i64| test.event("payment.taken", json!({ "orderId": "A-1", "cents": cents })).run();
        assert_eq!(taken(100).published()[0].event_type, "payment.settled");
        assert!(taken(666).published().is_empty());
    }
}
