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
//! A step of a pipeline is given its run, and a compensator what the step had returned:
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Test;
//!
//! #[compensator]
//! fn release(order: Event<Value>, reserved: Option<u32>) -> Outcome {
//!     state::increment("stock", reserved.unwrap_or_default().into())?;
//!     done()
//! }
//!
//! # fn main() {
//! let test = Test::of_compensator(release).state("stock", 4);
//!
//! let attempt = test.event("order.created", json!({ "orderId": "A-1" })).step("fulfil-order", "reserve", vec![]).output(3).run();
//!
//! assert_eq!(attempt.state::<i64>("stock"), Some(7));
//! # }
//! ```
//!
//! A responder is asked, and a handler that asks is answered by a stub:
//!
//! ```
//! use tidegate_sdk::prelude::*;
//! use tidegate_sdk::testing::Test;
//!
//! #[responder]
//! fn check(question: Question<Value>) -> Answer {
//!     let sku = question.data["sku"].as_str().ok_or_else(|| Refusal::Invalid("no sku".into()))?;
//!     answer(state::get::<u32>(sku)?.unwrap_or_default())
//! }
//!
//! #[consumer]
//! fn order(order: Event<Value>) -> Outcome {
//!     let in_stock: u32 = queries::ask("stock.check", &json!({ "sku": order.data["sku"] }))?;
//!     if in_stock == 0 { reject("sold out") } else { done() }
//! }
//!
//! # fn main() {
//! let stock = Test::of_responder(check).state("tea", 7);
//! assert_eq!(stock.ask("stock.check", json!({ "sku": "tea" })), answer(7));
//! assert_eq!(stock.ask("stock.check", json!({})), Err(Refusal::Invalid("no sku".into())));
//!
//! let orders = Test::new(order).responder("stock.check", |_| answer(0));
//! assert_eq!(orders.event("order.created", json!({ "sku": "tea" })).run().outcome(), &reject("sold out"));
//! # }
//! ```
//!
//! As in the host, published events, jobs and state writes take effect only if the attempt is done. Capabilities that were not
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

use crate::answer::{IsAnswer, IsQuestion};
use crate::attempt::Budget;
use crate::event::{IsBatch, IsEvent, IsOutput, RawEvent};
use crate::host::{Harness, Kept, Secret, Stub};
use crate::log::Level;
use crate::outcome::{Done, IsOutcome, IsOutcomes, Outcome};
use crate::{Answer, Question, Raw, http, queries};

pub use attempted::{Attempted, AttemptedBatch, Enqueued, Published};
pub use given::Given;

/// A line that the handler logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

/// What the host would call.
enum Handler {
    Of(Box<dyn Fn(Vec<RawEvent>) -> Vec<Outcome>>),
    Compensator(Box<dyn Fn(RawEvent, Option<Raw>) -> Outcome>),
    Responder(Box<dyn Fn(Question) -> Answer>),
}

#[expect(clippy::panic, reason = "a test that asks the wrong thing must fail, and say how to mend it")]
fn no_events() -> ! {
    panic!("a responder is given questions, not events: `test.ask(\"stock.check\", json!({{ … }}))`")
}

#[expect(clippy::panic, reason = "a test that asks the wrong thing must fail, and say how to mend it")]
fn no_questions() -> ! {
    panic!("only a responder is asked: make the test with `Test::of_responder`")
}

impl Handler {
    fn call(&self, events: Vec<RawEvent>, output: Option<Raw>) -> Vec<Outcome> {
        match self {
            Self::Of(handler) => {
                assert!(
                    output.is_none(),
                    "an output is given to a compensator: make the test with `Test::of_compensator`"
                );
                handler(events)
            }
            Self::Responder(_) => no_events(),
            Self::Compensator(undo) => events.into_iter().map(|event| undo(event, output.clone())).collect(),
        }
    }
}

/// A handler and the world it runs in. State is kept from one event to the next.
pub struct Test {
    handler: Handler,
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

/// What a stub answers a question with.
pub trait Replying {
    /// # Errors
    /// What `queries::ask` fails with.
    fn into_reply(self) -> Result<Raw, queries::Error>;
}

impl Replying for Answer {
    fn into_reply(self) -> Result<Raw, queries::Error> {
        self.map_err(queries::Error::Refused)
    }
}

impl Replying for Result<Raw, queries::Error> {
    fn into_reply(self) -> Result<Raw, queries::Error> {
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

    /// A compensator, in the same world. What the step left behind is said with [`Given::output`].
    pub fn of_compensator<E, P, O>(compensator: impl Fn(E, P) -> O + 'static) -> Self
    where
        E: IsEvent + 'static,
        P: IsOutput + 'static,
        O: IsOutcome + 'static,
    {
        Self::with_handler(Handler::Compensator(Box::new(move |event, output| {
            // The contract has no output of an undoing.
            crate::invoke::compensate(event, output, &compensator).map(|_| Done::default())
        })))
    }

    /// A responder, in the same world; [`Test::ask`] asks it.
    pub fn of_responder<Q: IsQuestion + 'static, A: IsAnswer + 'static>(responder: impl Fn(Q) -> A + 'static) -> Self {
        let answer = move |question| crate::invoke::answered(question, &responder);
        Self::with_handler(Handler::Responder(Box::new(answer)))
    }

    fn of(handler: impl Fn(Vec<RawEvent>) -> Vec<Outcome> + 'static) -> Self {
        Self::with_handler(Handler::Of(Box::new(handler)))
    }

    fn with_handler(handler: Handler) -> Self {
        let budget = Budget { time: Duration::from_secs(30), fuel: 1_000_000_000, memory: 64 << 20 };
        let harness = Harness {
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            publish: None,
            jobs: None,
            queries: None,
            responders: BTreeMap::new(),
            answering: false,
            stubs: Vec::new(),
            budget,
            state: BTreeMap::new(),
            published: Vec::new(),
            logs: Vec::new(),
            requests: Vec::new(),
            questions: Vec::new(),
            in_progress: 0,
        };
        Self { handler, harness: RefCell::new(harness) }
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

    /// Grants giving jobs to this consumer and, from now on, to no other that is not granted in the same way.
    #[must_use]
    pub fn grant_jobs(self, consumer: &str) -> Self {
        self.with(|harness| harness.jobs.get_or_insert_default().push(consumer.into()))
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

    /// Answers questions of this type, for `queries::ask`. One that nobody answers has no responder.
    #[must_use]
    pub fn responder<R: Replying>(self, query_type: &str, answer: impl Fn(&Question) -> R + 'static) -> Self {
        let answer = Rc::new(move |question: &Question| answer(question).into_reply());
        self.with(|harness| harness.responders.insert(query_type.into(), answer))
    }

    /// Grants questions of this type (`stock.check`, `stock.*`) and, from now on, no other that is not granted in the same way.
    #[must_use]
    pub fn grant_queries(self, pattern: &str) -> Self {
        self.with(|harness| harness.queries.get_or_insert_default().push(pattern.into()))
    }

    /// Asks the responder under test, with data as JSON. It leaves nothing behind: what it would publish or write is refused.
    ///
    /// # Errors
    /// What the responder says instead of an answer.
    ///
    /// # Panics
    /// If the data has no JSON form, or the test is not of a responder.
    #[expect(clippy::expect_used, reason = "a test's own value")]
    pub fn ask(&self, query_type: &str, data: impl Serialize) -> Answer {
        let Handler::Responder(responder) = &self.handler else { no_questions() };
        let question = Question {
            data: Raw::json(&data).expect("the question's data has a JSON form"),
            id: "question-1".into(),
            question_type: query_type.into(),
            correlation_id: "question-1".into(),
            deadline: queries::TIMEOUT,
        };
        let harness = Harness { answering: true, ..self.harness.borrow().clone() };
        crate::host::during(harness, || responder(question)).1
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
        self.attempt_all(events, None)
    }

    fn attempt(&self, event: RawEvent, output: Option<Raw>) -> Attempted {
        self.attempt_all(vec![event], output).into_attempt()
    }

    /// One attempt. What it did to state stays if it is done.
    fn attempt_all(&self, events: Vec<RawEvent>, output: Option<Raw>) -> AttemptedBatch {
        let (before, given) = (self.harness.borrow().clone(), events.len());
        let (mut after, outcomes) = crate::host::during(before.clone(), || self.handler.call(events, output));
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
