//! Where handlers run. Wasmtime lives here and nowhere else.
//!
//! [`Sandbox::load`] turns the bytes of a component into a [`LoadedComponent`], after every check that can be made
//! before the first event; calling that makes a fresh instance, runs one attempt under its limits and reports.

mod answer;
mod attempt;
mod batch;
mod bindings;
mod capability;
mod cause;
mod classify;
mod code_cache;
mod compile;
mod convert;
mod deadline;
mod engine;
mod exports;
mod instance;
mod kind;
mod limits;
mod load;
mod shared;
mod text;
mod wasi;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod job_tests;
#[cfg(test)]
mod step_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::model::outcome::Usage;
use crate::model::pipeline::StepLimits;
use crate::model::question::{Question, Unanswered};
use crate::model::{ConsumerName, Event, LogLine, Payload, Report, Timestamp};

pub use attempt::LoadedComponent;
pub use capability::state::{List, NoState, StateRead};
pub use code_cache::CacheOptions;
pub use compile::{Compiler, compile_child};
pub use exports::Exports;
pub use kind::Kind;
pub use load::{Counters, Error, LoadError, Options, Sandbox, Ungranted};

/// The version of wasmtime that is built in; wasmtime does not say it itself. A test compares it with `Cargo.lock`.
pub const WASMTIME: &str = "48.0.8";

/// Says whether a payload is what the catalogue's schema of the event type allows; if not, where.
pub type Check = Arc<dyn Fn(&str, &Payload) -> Result<(), String> + Send + Sync>;
/// The catalogue's current version of an event type.
pub type Version = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a loaded consumer asks of the rest of the host.
#[derive(Clone)]
pub struct Dependencies {
    pub state: Arc<dyn StateRead>,
    pub check: Check,
    pub version: Version,
    pub asker: Arc<dyn Ask>,
}

/// Finds somebody who answers a question. Whoever drops the future no longer waits.
pub trait Ask: Send + Sync {
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Result<Payload, Unanswered>> + Send + '_>>;
}

/// Where nobody answers anything.
pub struct NoAnswers;

impl Ask for NoAnswers {
    fn ask(&self, _: Question) -> Pin<Box<dyn Future<Output = Result<Payload, Unanswered>> + Send + '_>> {
        Box::pin(std::future::ready(Err(Unanswered::NoResponder)))
    }
}

impl Dependencies {
    /// No committed state and an empty catalogue.
    pub fn none() -> Self {
        Self {
            state: Arc::new(NoState),
            check: Arc::new(|_, _| Ok(())),
            version: Arc::new(|_| None),
            asker: Arc::new(NoAnswers),
        }
    }
}

/// One delivery on its way to a handler.
#[derive(Clone, Debug)]
pub struct Call {
    pub event: Arc<Event>,
    pub round: u32,
    /// Of the handler for this delivery, from 1; deferrals count.
    pub call: u32,
    /// From 1.
    pub attempt: u32,
    pub attempts_max: u32,
    /// An operator has replayed or redriven it.
    pub replayed: bool,
    /// At most once: the event has no place in the log that the handler could count on.
    pub ephemeral: bool,
    /// A number drawn for this attempt, the seed of all its randomness.
    pub seed: u64,
    /// What holds for this attempt instead of the consumer's limits, be it more or less.
    pub limits: StepLimits,
    /// The run of a pipeline that this is a step of.
    pub run: Option<Arc<RunCall>>,
}

/// What a step is told of its run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunCall {
    /// The run: `17/fulfil-order`.
    pub id: String,
    pub pipeline: ConsumerName,
    /// The step that is done, or undone.
    pub step: String,
    /// What earlier steps left behind, in the order of the definition; none for a step without output.
    pub outputs: Vec<(String, Option<Payload>)>,
    /// The component's compensator is called instead of its handler.
    pub undo: Option<Undo>,
}

/// A step that had finished is undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// What the step's own handler returned.
    pub output: Option<Payload>,
}

/// One question on its way to a responder.
#[derive(Clone, Debug)]
pub struct QuestionCall {
    pub id: String,
    pub correlation_id: String,
    pub question: Arc<Question>,
}

/// What came of a call of a responder.
#[derive(Clone, Debug)]
pub struct Answered {
    pub answer: Result<Payload, Unanswered>,
    pub started_at: Timestamp,
    pub usage: Usage,
    pub logs: Vec<LogLine>,
}

impl Answered {
    /// A call of which nothing else is known.
    pub fn bare(answer: Result<Payload, Unanswered>, started_at: Timestamp) -> Self {
        Self { answer, started_at, usage: Usage::default(), logs: Vec::new() }
    }
}

impl Call {
    /// What is to be undone, if something is.
    fn undo(&self) -> Option<&Undo> {
        self.run.as_ref()?.undo.as_ref()
    }
}

/// A consumer that can be called: a component in wasmtime, or a scripted handler in tests. Limits, grants and name
/// are the consumer's own, except for limits that a call brings with it.
pub trait Invoke: Send + Sync {
    /// What there is to be called. A call of something else is reported as *refused*.
    fn exports(&self) -> Exports;

    /// Runs one attempt in a fresh instance. Never fails: what went wrong is the report's outcome. Dropping the
    /// future ends the attempt at once and leaves nothing behind.
    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>>;

    /// Has the responder answer, within the consumer's limits and for as long as somebody waits. Never fails and leaves nothing
    /// behind: what the responder publishes or writes is refused. Who has no responder answers nothing.
    fn answer(&self, _: QuestionCall) -> Pin<Box<dyn Future<Output = Answered> + Send + '_>> {
        Box::pin(std::future::ready(Answered::bare(Err(Unanswered::NoResponder), Timestamp::default())))
    }

    /// Runs one attempt of each of these deliveries in one call of a component that takes batches, within the limits of one
    /// attempt (where calls bring their own, the largest): a report for each, in order, of which the first that is *done*
    /// carries what the call published and wrote to state, and the first of all its logs. Their fuel adds up to that of the
    /// call; duration and memory are the call's in each. Or, if the call as a whole failed, one report about that.
    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>>;
}
