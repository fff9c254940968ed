//! What the sandbox's own part of an attempt costs.

use super::Invoke as _;
use super::testing::{call, event, load, sandbox, spec};
use crate::cost::{allocations, hold};
use crate::model::{Grants, Limits, Outcome};

const WARM: u64 = 8;
const ATTEMPTS: u64 = 64;
const ORDER: &str = r#"{"orderId":"A-1","items":[{"sku":"SKU-1","quantity":1},{"sku":"SKU-2","quantity":2}]}"#;

#[test]
fn an_attempt_costs_the_sandbox_no_more_than_its_budget() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sandbox = sandbox();
    let loaded = runtime.block_on(load(&sandbox, "order", &spec(Limits::default(), Grants::default()))).unwrap();
    let attempt = || {
        let report = runtime.block_on(loaded.invoke(call(event(ORDER))));
        assert_eq!(report.outcome, Outcome::Done, "{:?}", report.reason);
    };
    (0..WARM).for_each(|_| attempt());
    let (count, ()) = allocations(|| (0..ATTEMPTS).for_each(|_| attempt()));
    hold(ATTEMPTS, &[("sandbox.allocations", count)]);
}
