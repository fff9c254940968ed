//! What one attempt came to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::host::{Harness, Kept};
use crate::jobs::Priority;
use crate::publisher::Draft;
use crate::testing::Line;
use crate::{Failure, Outcome, Question, Raw, Timestamp, http};

/// One attempt, after the fact.
#[derive(Debug)]
pub struct Attempted {
    outcome: Outcome,
    published: Vec<Published>,
    enqueued: Vec<Enqueued>,
    state: BTreeMap<String, Kept>,
    logs: Vec<Line>,
    requests: Vec<http::Request>,
    questions: Vec<Question>,
    in_progress: u32,
}

/// What one call with a batch came to.
#[derive(Debug)]
pub struct AttemptedBatch {
    outcomes: Vec<Outcome>,
    attempt: Attempted,
}

impl AttemptedBatch {
    pub(crate) fn new(outcomes: Vec<Outcome>, harness: Harness) -> Self {
        let whole = outcomes.iter().find(|outcome| outcome.is_ok()).or(outcomes.first()).cloned();
        Self { outcomes, attempt: Attempted::new(whole.unwrap_or_else(crate::done), harness) }
    }

    /// What the handler said of each event, in their order: compare with `[done(), reject("…")]`.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// What the call did as a whole: it is done if one of the events is.
    pub fn attempt(&self) -> &Attempted {
        &self.attempt
    }

    pub(crate) fn into_attempt(self) -> Attempted {
        self.attempt
    }
}

/// An event that the handler published.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Published {
    /// What `publish` returned.
    pub id: String,
    pub event_type: String,
    /// The data as JSON; null if it is none. See `raw` for the bytes.
    pub data: Value,
    pub raw: Raw,
    pub subject: Option<String>,
    pub key: Option<String>,
    pub data_version: Option<String>,
    pub not_before: Option<Timestamp>,
    pub attributes: Vec<(String, String)>,
}

/// A job that the handler gave to a consumer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Enqueued {
    /// The consumer.
    pub to: String,
    pub priority: Priority,
    /// Its type, its arguments as data, and the rest.
    pub event: Published,
}

impl Published {
    fn new(id: String, draft: Draft) -> Self {
        Self {
            id,
            event_type: draft.event_type,
            data: serde_json::from_slice(&draft.data.bytes).unwrap_or_default(),
            raw: draft.data,
            subject: draft.subject,
            key: draft.key,
            data_version: draft.data_version,
            not_before: draft.not_before,
            attributes: draft.attributes,
        }
    }
}

impl Attempted {
    pub(crate) fn new(outcome: Outcome, harness: Harness) -> Self {
        let (mut published, mut enqueued) = (Vec::new(), Vec::new());
        for (id, draft, job) in harness.published {
            let event = Published::new(id, draft);
            match job {
                Some((to, priority)) => enqueued.push(Enqueued { to, priority, event }),
                None => published.push(event),
            }
        }
        Self {
            outcome,
            published,
            enqueued,
            state: harness.state,
            logs: harness.logs,
            requests: harness.requests,
            questions: harness.questions,
            in_progress: harness.in_progress,
        }
    }

    /// What the handler said: compare with `&done()`, `&reject("…")` and so on.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    pub fn is_done(&self) -> bool {
        self.outcome.is_ok()
    }

    pub fn is_retry(&self) -> bool {
        matches!(self.outcome, Err(Failure::Retry { .. }))
    }

    pub fn is_defer(&self) -> bool {
        matches!(self.outcome, Err(Failure::Defer { .. }))
    }

    pub fn is_reject(&self) -> bool {
        matches!(self.outcome, Err(Failure::Reject { .. }))
    }

    /// The reason given; empty if the attempt is done.
    pub fn reason(&self) -> &str {
        self.outcome.as_ref().err().map_or("", Failure::reason)
    }

    /// The output of `done_with`, if there is one that reads as `T`.
    pub fn output<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.outcome.as_ref().ok()?.output.as_ref()?.bytes).ok()
    }

    /// Events published, in order. None unless the attempt is done.
    pub fn published(&self) -> &[Published] {
        &self.published
    }

    /// Jobs given to consumers, in order. None unless the attempt is done.
    pub fn enqueued(&self) -> &[Enqueued] {
        &self.enqueued
    }

    /// A value in state after the attempt, if there is one that reads as `T`.
    pub fn state<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        serde_json::from_slice(&self.state.get(key)?.value).ok()
    }

    /// A value in state after the attempt, as bytes.
    pub fn state_bytes(&self, key: &str) -> Option<&[u8]> {
        self.state.get(key).map(|kept| kept.value.as_slice())
    }

    /// How long a value is kept, if it was set for a time.
    pub fn state_ttl(&self, key: &str) -> Option<Duration> {
        self.state.get(key)?.ttl
    }

    /// All keys in state after the attempt, in byte order.
    pub fn state_keys(&self) -> Vec<&str> {
        self.state.keys().map(String::as_str).collect()
    }

    /// Lines logged, in order.
    pub fn logs(&self) -> &[Line] {
        &self.logs
    }

    /// Requests that a stub answered, in order.
    pub fn requests(&self) -> &[http::Request] {
        &self.requests
    }

    /// Questions that were asked and answered by a stub, in order.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// How often the handler asked for more time.
    pub fn in_progress(&self) -> u32 {
        self.in_progress
    }
}
