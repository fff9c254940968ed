//! Write a [Tidegate](https://github.com/tidegate/tidegate) consumer as one Rust function.
//!
//! ```no_run
//! use tidegate_sdk::prelude::*;
//!
//! #[derive(Deserialize, Serialize)]
//! struct OrderCreated {
//!     order_id: String,
//!     email: String,
//! }
//!
//! #[consumer]
//! fn send_confirmation(order: Event<OrderCreated>) -> Outcome {
//!     let reply = http::post("https://mail.example.com/send").json(&order.data)?.send()?;
//!     log::info!(status = reply.status(), "confirmation sent");
//!     publish("order.confirmed", json!({ "orderId": order.data.order_id }))?;
//!     done()
//! }
//! # fn main() {}
//! ```
//!
//! Build the crate (`crate-type = ["cdylib"]`) with `cargo build --release --target wasm32-wasip2`: the `.wasm` file is
//! the consumer. What it uses must be granted in the manifest; what it does not use is not imported.
//!
//! # What a handler says
//!
//! An [`Outcome`] is a `Result`, so `?` works on any error and means *retry*, with the error's text as the reason.
//! [`done`], [`done_with`], [`retry`], [`retry_after`], [`defer`] and [`reject`] make the others. Data that does not fit
//! the type in [`Event<T>`] is *rejected* before the handler is called: no number of attempts would make it fit.
//!
//! # What a handler may do
//!
//! [`publish()`] and [`Publish`], [`state`], [`http`], [`config`], [`secrets`], [`log`], [`attempt`]. Published events
//! and state writes are held back until the attempt is done, and then take effect together, once.
//!
//! # Batches
//!
//! A consumer whose entry in the manifest says `batch` is one function of many events, made with `#[batch_consumer]`, that gives
//! an outcome for each:
//!
//! ```no_run
//! use tidegate_sdk::prelude::*;
//!
//! #[batch_consumer]
//! fn index(orders: Vec<Event<Value>>) -> Vec<Outcome> {
//!     let lines: Vec<Value> = orders.iter().map(|order| order.data.clone()).collect();
//!     let sent = || http::post("https://search.example.com/bulk").json(&lines)?.send()?.error_for_status();
//!     let said = match sent() {
//!         Ok(_) => done(),
//!         Err(error) => retry(error.to_string()),
//!     };
//!     vec![said; orders.len()]
//! }
//! # fn main() {}
//! ```
//!
//! The limits of the consumer hold for the whole call. Events that are not done come again, perhaps with others; one that brings
//! the call down (a panic, a limit) costs the others nothing, because all of them then come alone. What the call published and
//! wrote to state takes effect if at least one event is done. Published events have the batch's first event as their cause, and
//! requests without an `Idempotency-Key` of their own get one that stands for exactly these events together: if an event must
//! have an effect only once, whatever batch it comes in, give its request a key made from its id.
//!
//! # Testing
//!
//! [`testing::Test`] runs a handler natively, without a host; of one event or of batches.

// The attributes and derives name this crate by its path; inside it the path must mean the same.
extern crate self as tidegate_sdk;

mod answer;
pub mod attempt;
pub mod config;
mod event;
#[cfg(target_family = "wasm")]
#[path = "wasm/imports.rs"]
mod host;
#[cfg(not(target_family = "wasm"))]
#[path = "testing/harness.rs"]
mod host;
pub mod http;
mod invoke;
pub mod log;
mod outcome;
pub mod publisher;
pub mod secrets;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;
#[cfg(target_family = "wasm")]
mod wasm;

pub use answer::{Answer, Question, Refusal, answer};
pub use event::{Data, Event, Raw, RawEvent, Run};
pub use outcome::{Done, Failure, OrFail, Outcome, defer, done, done_with, reject, retry, retry_after};
pub use publisher::{Publish, publish};
pub use serde;
pub use serde_json;
pub use tidegate_sdk_macros::{batch_consumer, compensator, consumer, responder};
pub use time::Timestamp;

/// Everything a consumer usually needs: `use tidegate_sdk::prelude::*;`.
///
/// `Deserialize` and `Serialize` are serde's traits, with derives that need no dependency on serde of your own.
pub mod prelude {
    pub use crate::{
        Answer, Event, Failure, OrFail, Outcome, Publish, Question, Raw, RawEvent, Refusal, Timestamp, answer, attempt,
        batch_consumer, compensator, config, consumer, defer, done, done_with, http, log, publish, reject, responder,
        retry, retry_after, secrets, state,
    };
    pub use serde::de::Deserialize;
    pub use serde::ser::Serialize;
    pub use serde_json::{Value, json};
    pub use std::time::Duration;
    pub use tidegate_sdk_macros::{Deserialize, Serialize};
}

/// What the attributes' code refers to. Not for others: it may change in any release.
#[doc(hidden)]
pub mod __private {
    pub use crate::answer::IsAnswer;
    pub use crate::event::IsEvent;
    pub use crate::invoke::{answered, batch, compensate, handle};
    pub use crate::outcome::IsOutcome;
    #[cfg(target_family = "wasm")]
    pub use crate::wasm::{batch_handler, compensator, glue, handler, responder};
    #[cfg(target_family = "wasm")]
    pub use wit_bindgen;
}
