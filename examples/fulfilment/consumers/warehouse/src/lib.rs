//! Puts what was ordered aside, and puts it back if the order comes to nothing. How many pieces there are of each article
//! is this consumer's state, which the step, its compensation and the answer to *how many are there* share.

use tidegate_sdk::prelude::*;

#[derive(Deserialize)]
struct Order {
    sku: String,
    quantity: u32,
}

/// What the step leaves behind: all that its compensation needs to know.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reserved {
    sku: String,
    quantity: u32,
    in_stock: bool,
}

fn pieces(sku: &str) -> Result<u32, Failure> {
    let initial = config::parse("initial-stock")?.unwrap_or(100);
    Ok(state::get(&key(sku))?.unwrap_or(initial))
}

fn key(sku: &str) -> String {
    format!("stock/{sku}")
}

#[consumer]
fn reserve(order: Event<Order>) -> Outcome {
    let Order { sku, quantity } = order.data;
    let Some(left) = pieces(&sku)?.checked_sub(quantity) else {
        return reject(format!("there are not {quantity} of {sku}"));
    };
    state::set(&key(&sku), left)?;
    done_with(Reserved { sku, quantity, in_stock: true })
}

#[compensator]
fn put_back(_: Event<Order>, reserved: Option<Reserved>) -> Outcome {
    let Some(Reserved { sku, quantity, .. }) = reserved else { return done() };
    let pieces = pieces(&sku)? + quantity;
    state::set(&key(&sku), pieces)?;
    done()
}

#[derive(Deserialize)]
struct Check {
    sku: String,
}

#[responder]
fn check(question: Question<Check>) -> Answer {
    let pieces = pieces(&question.data.sku).map_err(|_| Refusal::Unavailable("the setting is not a number".into()))?;
    answer(json!({ "sku": question.data.sku, "pieces": pieces }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::testing::Test;

    #[test]
    fn what_is_not_there_is_not_reserved() {
        let test = Test::new(reserve).config("initial-stock", "3");
        let order = |quantity: u32| test.event("order.created", json!({ "sku": "tea", "quantity": quantity })).run();
        assert_eq!(order(2).state::<u32>("stock/tea"), Some(1));
        assert!(order(2).is_reject());
    }
}
