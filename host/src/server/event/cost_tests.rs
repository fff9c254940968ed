//! What it costs to read an event.

use super::{Defaults, native};
use crate::cost::{allocations, hold};
use crate::model::Timestamp;

#[test]
fn reading_an_event_costs_no_more_than_its_budget() {
    let items: Vec<_> = (1..=7).map(|k| format!(r#"{{"sku":"SKU-{k:05}","quantity":{k},"price":"7.99"}}"#)).collect();
    let items = items.join(",");
    let text = format!(
        r#"{{"type":"order.created","source":"/bench","data":{{"orderId":"ord-1","total":"1.5","items":[{items}]}}}}"#
    );
    let defaults = Defaults {
        now: Timestamp(1_767_225_600_000_000),
        source: None,
        traceparent: None,
        event_bytes: 1 << 20,
        version: &|_| None,
        id: &|_| "01939c2e-0000-7000-8000-000000000001".to_owned(),
    };
    let (count, event) = allocations(|| native(text.as_bytes(), &defaults));
    assert!(event.unwrap().data_len() > 300);
    hold(1, &[("read.allocations", count)]);
}
