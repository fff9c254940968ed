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
//! [`publish()`] and [`Publish`], [`enqueue()`] and [`Enqueue`], [`state`], [`queries`], [`http`], [`config`], [`secrets`], [`log`],
//! [`attempt`]. Published events, jobs
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
//! # Steps of a pipeline
//!
//! A consumer is a step of a pipeline if the manifest says so; it needs nothing of its own for it. What it says with [`done_with`]
//! is the step's output. `event.run` says which run and step this is, and [`Event::output_of`] gives what an earlier step left
//! behind. `#[compensator]` makes a function undo a step that had finished; a crate may have one beside its `#[consumer]`, or alone:
//!
//! ```no_run
//! use tidegate_sdk::prelude::*;
//!
//! #[derive(Deserialize, Serialize)]
//! struct Payment {
//!     id: String,
//! }
//!
//! #[consumer]
//! fn pay(order: Event<Value>) -> Outcome {
//!     let price: u64 = order.output_of("price").ok_or("there is no price yet")?;
//!     let reply = http::post("https://pay.example.com/charges").json(&json!({ "amount": price }))?.send()?;
//!     done_with(reply.error_for_status()?.json::<Payment>()?)
//! }
//!
//! #[compensator]
//! fn refund(_order: Event<Value>, payment: Option<Payment>) -> Outcome {
//!     let Some(payment) = payment else { return done() };
//!     http::post(format!("https://pay.example.com/charges/{}/refund", payment.id)).send()?.error_for_status()?;
//!     done()
//! }
//! # fn main() {}
//! ```
//!
//! An undoing is retried like any delivery, and what it publishes and writes takes effect when it is done. Requests of a step, of its
//! undoing and of other steps have an `Idempotency-Key` each.
//!
//! # Questions and answers
//!
//! [`queries::ask`] asks, and waits. `#[responder]` makes a function answer; the manifest says what: `answers: stock.check`.
//!
//! ```no_run
//! use tidegate_sdk::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Check {
//!     sku: String,
//! }
//!
//! #[responder]
//! fn check_stock(question: Question<Check>) -> Answer {
//!     match state::get::<u32>(&question.data.sku)? {
//!         Some(in_stock) => answer(in_stock),
//!         None => Err(Refusal::NotFound(format!("no stock of {}", question.data.sku))),
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! A [`Refusal`] says whether the question is *invalid*, there is *nothing to be found*, or no answer *now*; `?` on any error means
//! the last. A question whose data does not fit the type in [`Question<T>`] is refused as invalid before the responder is called. An
//! answer is a look at things: a responder reads state, asks, and calls services, but what it would publish or write is refused. A crate
//! may be a handler and a responder, which then share their state.
//!
//! # Testing
//!
//! [`testing::Test`] runs a handler natively, without a host: of one event, of batches, the undoing of a step,
//! or an answer.

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
pub mod jobs;
pub mod log;
mod outcome;
pub mod publisher;
pub mod queries;
pub mod secrets;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
mod time;
#[cfg(target_family = "wasm")]
mod wasm;

pub use answer::{Answer, Question, Refusal, answer};
pub use event::{Data, Event, Raw, RawEvent, Run};
pub use jobs::{Enqueue, Priority, enqueue};
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
        Answer, Enqueue, Event, Failure, OrFail, Outcome, Priority, Publish, Question, Raw, RawEvent, Refusal,
        Timestamp, answer, attempt, batch_consumer, compensator, config, consumer, defer, done, done_with, enqueue,
        http, jobs, log, publish, queries, reject, responder, retry, retry_after, secrets, state,
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
