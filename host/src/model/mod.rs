//! Values and rules, nothing else: no I/O, no async, no clock, no logging. Time, ids and randomness are given.

pub mod breaker;
pub mod delivery;
pub mod event;
pub mod expression;
pub mod flow;
pub mod id;
pub mod job;
pub mod keys;
pub mod limit;
pub mod outcome;
pub mod pipeline;
pub mod query;
pub mod question;
pub mod record;
pub mod replay;
pub mod retry;
pub mod route;
pub mod schedule;
pub mod spec;
pub mod time;

pub use delivery::{Delivery, DeliveryId, State};
pub use event::{Envelope, Event, Payload};
pub use expression::Expression;
pub use id::{ConsumerName, Digest, Generation, Seq};
pub use job::{Job, Priority};
pub use outcome::{LogLine, Outcome, Report, StateChanges, Usage};
pub use question::{QueryOutcome, Question};
pub use route::TypePattern;
pub use spec::{ConsumerSpec, Deployment, Grants, Limits};
pub use time::{Moment, Timestamp};
