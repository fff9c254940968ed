//! The event that a test gives to its handler.

use serde::Serialize;

use crate::testing::{Attempted, Test};
use crate::{Event, Raw, RawEvent, Run, Timestamp};

/// The id of an event whose test does not say one.
const MADE_UP_ID: &str = "event-1";

/// An event to be handled; what is not said is made up.
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct Given<'a> {
    test: &'a Test,
    event: RawEvent,
    /// What the step that is undone left behind.
    output: Option<Raw>,
}

impl<'a> Given<'a> {
    pub(crate) fn new(test: &'a Test, event_type: &str, data: Raw) -> Self {
        let event = Event {
            data,
            id: MADE_UP_ID.into(),
            event_type: event_type.into(),
            source: "/test".into(),
            subject: None,
            key: None,
            data_version: "1.0.0".into(),
            timestamp: Timestamp { seconds: 1_767_225_600, nanoseconds: 0 },
            correlation_id: MADE_UP_ID.into(),
            causation_id: None,
            traceparent: None,
            sequence: Some(1),
            attributes: Vec::new(),
            consumer: "test".into(),
            attempt: 1,
            attempts_max: 3,
            replayed: false,
            run: None,
        };
        Self { test, event, output: None }
    }

    /// The event's id; also its correlation id, unless that is set afterwards.
    pub fn id(self, id: &str) -> Self {
        self.with(|event| {
            event.id = id.into();
            event.correlation_id = id.into();
        })
    }

    pub fn source(self, source: &str) -> Self {
        self.with(|event| event.source = source.into())
    }

    pub fn subject(self, subject: &str) -> Self {
        self.with(|event| event.subject = Some(subject.into()))
    }

    pub fn key(self, key: &str) -> Self {
        self.with(|event| event.key = Some(key.into()))
    }

    pub fn data_version(self, version: &str) -> Self {
        self.with(|event| event.data_version = version.into())
    }

    pub fn timestamp(self, time: impl Into<Timestamp>) -> Self {
        self.with(|event| event.timestamp = time.into())
    }

    pub fn correlation_id(self, id: &str) -> Self {
        self.with(|event| event.correlation_id = id.into())
    }

    pub fn causation_id(self, id: &str) -> Self {
        self.with(|event| event.causation_id = Some(id.into()))
    }

    pub fn traceparent(self, traceparent: &str) -> Self {
        self.with(|event| event.traceparent = Some(traceparent.into()))
    }

    pub fn sequence(self, sequence: u64) -> Self {
        self.with(|event| event.sequence = Some(sequence))
    }

    /// As a consumer with `delivery: ephemeral` gets it: with no place in the log.
    pub fn ephemeral(self) -> Self {
        self.with(|event| event.sequence = None)
    }

    pub fn attribute(self, name: &str, value: &str) -> Self {
        self.with(|event| event.attributes.push((name.into(), value.into())))
    }

    pub fn consumer(self, name: &str) -> Self {
        self.with(|event| event.consumer = name.into())
    }

    /// The attempt's number, from 1.
    pub fn attempt(self, attempt: u32) -> Self {
        self.with(|event| event.attempt = attempt)
    }

    pub fn attempts_max(self, attempts: u32) -> Self {
        self.with(|event| event.attempts_max = attempts)
    }

    pub fn replayed(self) -> Self {
        self.with(|event| event.replayed = true)
    }

    /// As a step of a pipeline run, after steps that left these outputs behind.
    pub fn step(self, pipeline: &str, step: &str, outputs: Vec<(String, Option<Raw>)>) -> Self {
        let run = Run { id: format!("1/{pipeline}"), pipeline: pipeline.into(), step: step.into(), outputs };
        self.with(|event| event.run = Some(run))
    }

    /// The run's id; `1/` and the pipeline's name unless it is set. After [`Given::step`].
    pub fn run_id(self, id: &str) -> Self {
        self.with(|event| event.run.get_or_insert_default().id = id.into())
    }

    /// For a compensator: what the step that it undoes had returned with `done_with`. Nothing, unless it is said.
    ///
    /// # Panics
    /// If the output has no JSON form.
    #[expect(clippy::expect_used, reason = "a test's own value")]
    pub fn output(mut self, output: impl Serialize) -> Self {
        self.output = Some(Raw::json(&output).expect("the step's output has a JSON form"));
        self
    }

    /// Makes one attempt.
    ///
    /// # Panics
    /// If an [`output`](Given::output) was given to what is no compensator.
    pub fn run(self) -> Attempted {
        self.test.attempt(self.event, self.output)
    }

    /// The event, as the `n`th of a batch.
    pub(super) fn into_event(self, n: u64) -> RawEvent {
        let mut event = self.event;
        for id in [&mut event.id, &mut event.correlation_id] {
            if id == MADE_UP_ID {
                *id = format!("event-{n}");
            }
        }
        if event.sequence == Some(1) {
            event.sequence = Some(n);
        }
        event
    }

    fn with(mut self, set: impl FnOnce(&mut RawEvent)) -> Self {
        set(&mut self.event);
        self
    }
}
