//! Runs a handler natively, without a host: give it an event, see what it published, stored, logged and called.
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Test;
//!
//! #[consumer]
//! fn confirm(order: Event<Value>) -> Outcome {
//!     let sender = config::get("sender").unwrap_or_default();
//!     http::post("https://mail.example.com/send").json(&json!({ "from": sender }))?.send()?.error_for_status()?;
//!     publish("order.confirmed", json!({ "orderId": order.data["orderId"] }))?;
//!     done()
//! }
//!
//! # fn main() -> Result<(), http::Error> {
//! let test = Test::new(confirm)
//!     .config("sender", "shop@example.com")
//!     .http("POST", "https://mail.example.com/send", |_| http::Response::new(202));
//!
//! let attempt = test.event("order.created", json!({ "orderId": "A-1" })).run();
//!
//! assert_eq!(attempt.outcome(), &done());
//! assert_eq!(attempt.published()[0].event_type, "order.confirmed");
//! assert_eq!(attempt.published()[0].data, json!({ "orderId": "A-1" }));
//! assert_eq!(attempt.requests()[0].json::<Value>()?["from"], "shop@example.com");
//! # Ok(())
//! # }
//! ```
//!
//! A handler of batches is tested the same way, with several events in one call:
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Test;
//!
//! #[batch_consumer]
//! fn index(orders: Vec<Event<Value>>) -> Vec<Outcome> {
//!     let one = |order: &Event<Value>| match order.data["orderId"].as_str() {
//!         None => reject("no orderId"),
//!         Some(id) => {
//!             state::set(id, order.sequence)?;
//!             done()
//!         }
//!     };
//!     orders.iter().map(one).collect()
//! }
//!
//! # fn main() {
//! let test = Test::of_batches(index);
//!
//! let batch = test.run_batch([
//!     test.event("order.created", json!({ "orderId": "A-1" })),
//!     test.event("order.created", json!({})),
//! ]);
//!
//! assert_eq!(batch.outcomes(), [done(), reject("no orderId")]);
//! assert_eq!(batch.attempt().state::<u64>("A-1"), Some(1));
//! # }
//! ```
//!
//! As in the host, published events and state writes take effect only if the attempt is done. Capabilities that were not
//! set up answer as the host does when a grant is missing. Limits of time, fuel and memory are not enforced here:
//! they belong to the compiled component.

mod attempted;
mod given;
pub(crate) mod limit;
pub(crate) mod pattern;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;

use crate::attempt::Budget;
use crate::event::{IsBatch, IsEvent, RawEvent};
use crate::host::{Harness, Kept, Secret, Stub};
use crate::log::Level;
use crate::outcome::{Done, IsOutcome, IsOutcomes, Outcome};
use crate::{Raw, http};

pub use attempted::{Attempted, AttemptedBatch, Published};
pub use given::Given;

/// A line that the handler logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

/// A handler and the world it runs in. State is kept from one event to the next.
pub struct Test {
    handler: Box<dyn Fn(Vec<RawEvent>) -> Vec<Outcome>>,
    harness: RefCell<Harness>,
}

/// What a stub answers with.
pub trait Reply {
    /// # Errors
    /// What `send` fails with.
    fn into_reply(self) -> Result<http::Response, http::Error>;
}

impl Reply for http::Response {
    fn into_reply(self) -> Result<http::Response, http::Error> {
        Ok(self)
    }
}

impl Reply for Result<http::Response, http::Error> {
    fn into_reply(self) -> Result<http::Response, http::Error> {
        self
    }
}

impl Test {
    /// A handler, in a world where every event may be published, state is empty and nobody answers requests.
    pub fn new<E: IsEvent + 'static, O: IsOutcome + 'static>(handler: impl Fn(E) -> O + 'static) -> Self {
        Self::of(move |events| events.into_iter().map(|event| crate::invoke::handle(event, &handler)).collect())
    }

    /// A handler of batches, in the same world. [`Test::run_batch`] gives it several events in one call; an event that is
    /// [run](Given::run) alone is a batch of one.
    pub fn of_batches<B: IsBatch + 'static, O: IsOutcomes + 'static>(handler: impl Fn(B) -> O + 'static) -> Self {
        Self::of(move |events| {
            let results = crate::invoke::batch(events, &handler);
            results.into_iter().map(|result| result.map(|()| Done::default())).collect()
        })
    }

    fn of(handler: impl Fn(Vec<RawEvent>) -> Vec<Outcome> + 'static) -> Self {
        let budget = Budget { time: Duration::from_secs(30), fuel: 1_000_000_000, memory: 64 << 20 };
        let harness = Harness {
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            publish: None,
            stubs: Vec::new(),
            budget,
            state: BTreeMap::new(),
            published: Vec::new(),
            logs: Vec::new(),
            requests: Vec::new(),
            in_progress: 0,
        };
        Self { handler: Box::new(handler), harness: RefCell::new(harness) }
    }

    /// A setting of the manifest.
    #[must_use]
    pub fn config(self, key: &str, value: &str) -> Self {
        self.with(|harness| harness.config.insert(key.into(), value.into()))
    }

    /// A secret that may be used and not seen.
    #[must_use]
    pub fn secret(self, name: &str, value: &str) -> Self {
        self.with(|harness| harness.secrets.insert(name.into(), Secret { value: value.into(), reveal: false }))
    }

    /// A secret with `reveal: true`.
    #[must_use]
    pub fn revealed_secret(self, name: &str, value: &str) -> Self {
        self.with(|harness| harness.secrets.insert(name.into(), Secret { value: value.into(), reveal: true }))
    }

    /// Grants publishing this type (`order.confirmed`, `order.*`, `order.**`) and, from now on, no other that is not
    /// granted in the same way.
    #[must_use]
    pub fn grant_publish(self, pattern: &str) -> Self {
        self.with(|harness| harness.publish.get_or_insert_default().push(pattern.into()))
    }

    /// A value that is in state already, as JSON. A number is a counter, too.
    ///
    /// # Panics
    /// If the value has no JSON form.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test's own value")]
    pub fn state(self, key: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_vec(&value).expect("the value for state has a JSON form");
        self.with(|harness| harness.state.insert(key.into(), Kept { value, ttl: None }))
    }

    /// Answers requests with this method and address (`https://mail.example.com/send`, or `https://mail.example.com/*`).
    /// A request that no stub answers is not granted.
    #[must_use]
    pub fn http<R: Reply>(self, method: &str, url: &str, answer: impl Fn(&http::Request) -> R + 'static) -> Self {
        let answer = Rc::new(move |request: &http::Request| answer(request).into_reply());
        self.with(|harness| harness.stubs.push(Stub { method: method.into(), url: url.into(), answer }))
    }

    /// What [`crate::attempt::remaining`] says.
    #[must_use]
    pub fn budget(self, time: Duration, fuel: u64, memory: u64) -> Self {
        self.with(|harness| harness.budget = Budget { time, fuel, memory })
    }

    /// An event whose data is JSON.
    ///
    /// # Panics
    /// If the data has no JSON form.
    #[expect(clippy::expect_used, reason = "a test's own value")]
    pub fn event(&self, event_type: &str, data: impl Serialize) -> Given<'_> {
        Given::new(self, event_type, Raw::json(&data).expect("the event's data has a JSON form"))
    }

    /// An event whose data is any bytes.
    pub fn raw_event(&self, event_type: &str, content_type: &str, bytes: impl Into<Vec<u8>>) -> Given<'_> {
        Given::new(self, event_type, Raw { content_type: content_type.into(), bytes: bytes.into() })
    }

    fn with<T>(self, set: impl FnOnce(&mut Harness) -> T) -> Self {
        set(&mut self.harness.borrow_mut());
        self
    }

    /// Makes one attempt of all these events in one call of a handler of batches. Ids that were not said are `event-1`,
    /// `event-2` and so on, and sequences likewise.
    ///
    /// What it published and wrote to state takes effect if at least one of them is done.
    ///
    /// # Panics
    /// If the handler does not give an outcome for each event, which the host does not forgive either.
    pub fn run_batch<'a>(&'a self, events: impl IntoIterator<Item = Given<'a>>) -> AttemptedBatch {
        let events = events.into_iter().enumerate().map(|(n, given)| given.into_event(n as u64 + 1)).collect();
        self.attempt_all(events)
    }

    fn attempt(&self, event: RawEvent) -> Attempted {
        self.attempt_all(vec![event]).into_attempt()
    }

    /// One attempt. What it did to state stays if it is done.
    fn attempt_all(&self, events: Vec<RawEvent>) -> AttemptedBatch {
        let (before, given) = (self.harness.borrow().clone(), events.len());
        let (mut after, outcomes) = crate::host::during(before.clone(), || (self.handler)(events));
        assert!(outcomes.len() == given, "the handler gave {} outcomes for {given} events", outcomes.len());
        if !outcomes.iter().any(Result::is_ok) {
            after.published.clear();
            after.state = before.state;
        }
        self.harness.borrow_mut().state.clone_from(&after.state);
        AttemptedBatch::new(outcomes, after)
    }
}

impl std::fmt::Debug for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Test").finish_non_exhaustive()
    }
}
