//! The prelude's derives do what serde's do, without the user's crate depending on serde.

use std::collections::BTreeMap;

use tidegate_sdk::prelude::*;
use tidegate_sdk::serde_json::{from_str, from_value, to_value};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Order {
    order_id: String,
    #[serde(default)]
    lines: Vec<Line>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Box<Order>>,
    /// A comment, which the copy must not trip over.
    payment: Payment,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    sku: String,
    #[serde(alias = "qty")]
    quantity: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Payment {
    Card { last: u16 },
    OnAccount,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Page<T, const N: usize = 1>
where
    T: Clone,
{
    items: Vec<T>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Cents(u64);

#[derive(Debug, PartialEq, Deserialize)]
struct Borrowed<'a> {
    name: &'a str,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
#[derive(Clone)]
struct Even(u64);

impl TryFrom<u64> for Even {
    type Error = String;

    fn try_from(n: u64) -> Result<Self, String> {
        if n.is_multiple_of(2) { Ok(Self(n)) } else { Err(format!("{n} is odd")) }
    }
}

impl From<Even> for u64 {
    fn from(even: Even) -> Self {
        even.0
    }
}

#[test]
fn structs_and_enums_go_both_ways() {
    let text = json!({ "orderId": "A-1", "lines": [{ "sku": "tea", "qty": 2 }, {}], "payment": { "kind": "card", "last": 42 } });
    let order: Order = from_value(text).unwrap();
    assert_eq!(order.lines, [Line { sku: "tea".into(), quantity: 2 }, Line::default()]);
    assert_eq!(order.payment, Payment::Card { last: 42 });
    let parent =
        Order { order_id: "A-2".into(), lines: vec![], parent: Some(Box::new(order)), payment: Payment::OnAccount };
    let back = to_value(&parent).unwrap();
    assert_eq!(back["parent"]["lines"][0], json!({ "sku": "tea", "quantity": 2 }));
    assert_eq!(from_value::<Order>(back).unwrap(), parent);
}

#[test]
fn errors_are_serdes_own() {
    let error = |value: Value| from_value::<Order>(value).unwrap_err().to_string();
    assert_eq!(error(json!({ "orderId": "A" })), "missing field `payment`");
    assert_eq!(error(json!("A")), "invalid type: string \"A\", expected struct Order");
    assert!(error(json!({ "orderID": 1 })).starts_with("unknown field `orderID`"));
    assert_eq!(from_value::<Even>(json!(3)).unwrap_err().to_string(), "3 is odd");
}

#[test]
fn generics_lifetimes_and_conversions_work() {
    let page: Page<Cents2> = from_value(json!({ "items": [1, 2], "next": 3 })).unwrap();
    assert_eq!((page.items.len(), page.rest["next"].clone()), (2, json!(3)));
    assert_eq!(to_value(&page).unwrap(), json!({ "items": [1, 2], "next": 3 }));
    assert_eq!(from_str::<Borrowed<'_>>(r#"{"name":"Ada"}"#).unwrap().name, "Ada");
    assert_eq!(to_value(from_value::<Even>(json!(4)).unwrap()).unwrap(), json!(4));
    assert_eq!(to_value(Cents(5)).unwrap(), json!(5));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Cents2 {
    cents: u64,
}
