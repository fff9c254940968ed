//! Jobs: work for one consumer. They leave with what the attempt publishes: once it is done, all of them, once.
//!
//! Grant: `jobs: [mailer]`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::publisher::Error;
use crate::{Publish, Timestamp, host};

/// Gives a consumer a job: an event of this type with `arguments` as its data, for nobody else. Gives the id that the event
/// will have.
///
/// # Errors
/// See [`Error`].
pub fn enqueue(
    consumer: impl Into<String>,
    event_type: impl Into<String>,
    arguments: impl Serialize,
) -> Result<String, Error> {
    Enqueue::new(consumer, event_type, arguments).send()
}

/// Who goes first, where more is due than may start: high, normal and low share a consumer's starts 4 : 2 : 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

/// A job with more than a consumer, a type and arguments.
///
/// ```
/// use tidegate_sdk::prelude::*;
///
/// fn welcome(user: Event<Value>) -> Outcome {
///     Enqueue::new("mailer", "mail.requested", json!({ "to": user.data["mail"] }))
///         .priority(Priority::Low)
///         .delay(Duration::from_secs(3_600))
///         .send()?;
///     done()
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing is enqueued before `send`"]
pub struct Enqueue {
    consumer: String,
    priority: Priority,
    event: Publish,
}

impl Enqueue {
    /// A job whose data is `arguments` as JSON.
    pub fn new(consumer: impl Into<String>, event_type: impl Into<String>, arguments: impl Serialize) -> Self {
        Self::event(consumer, Publish::new(event_type, arguments))
    }

    /// An event with all that it can have, for this consumer alone.
    pub fn event(consumer: impl Into<String>, event: Publish) -> Self {
        Self { consumer: consumer.into(), priority: Priority::Normal, event }
    }

    /// Before others of its consumer, or behind them.
    pub fn priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    #[expect(clippy::disallowed_methods, reason = "a guest has no clock but the one that its host lends it")]
    /// Deliver no earlier than so long from now.
    pub fn delay(self, delay: Duration) -> Self {
        self.not_before(Timestamp::from(SystemTime::now()).plus(delay))
    }

    /// Deliver no earlier.
    pub fn not_before(self, time: impl Into<Timestamp>) -> Self {
        Self { event: self.event.not_before(time), ..self }
    }

    /// Hands the job over and gives the id that its event will have: the same in every attempt at the same delivery.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn send(self) -> Result<String, Error> {
        host::enqueue(&self.consumer, self.event.into_draft()?, self.priority)
    }
}
