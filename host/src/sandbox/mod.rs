//! Where handlers run. Wasmtime lives here and nowhere else.
//!
//! [`Sandbox::load`] turns the bytes of a component into a [`LoadedComponent`], after every check that can be made
//! before the first event; calling that makes a fresh instance, runs one attempt under its limits and reports.

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
mod instance;
mod kind;
mod limits;
mod load;
mod text;
mod wasi;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::model::{Event, Payload, Report};

pub use attempt::LoadedComponent;
pub use capability::state::{List, NoState, StateRead};
pub use code_cache::CacheOptions;
pub use compile::{Compiler, compile_child};
pub use kind::Kind;
pub use load::{Counters, Error, LoadError, Options, Sandbox};

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
}

impl Dependencies {
    /// No committed state and an empty catalogue.
    pub fn none() -> Self {
        Self { state: Arc::new(NoState), check: Arc::new(|_, _| Ok(())), version: Arc::new(|_| None) }
    }
}

/// One delivery on its way to a handler.
#[derive(Clone, Debug)]
pub struct Call {
    pub event: Arc<Event>,
    pub round: u32,
    /// From 1.
    pub attempt: u32,
    pub attempts_max: u32,
    /// An operator has replayed or redriven it.
    pub replayed: bool,
    /// At most once: the event has no place in the log that the handler could count on.
    pub ephemeral: bool,
    /// A number drawn for this attempt, the seed of all its randomness.
    pub seed: u64,
}

/// A consumer that can be called: a component in wasmtime, or a scripted handler in tests. Limits, grants and name
/// are the consumer's own.
pub trait Invoke: Send + Sync {
    /// Runs one attempt in a fresh instance. Never fails: what went wrong is the report's outcome. Dropping the
    /// future ends the attempt at once and leaves nothing behind.
    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>>;

    /// Runs one attempt of each of these deliveries in one call of a component that takes batches, within the consumer's
    /// limits for one attempt: a report for each, in order, of which the first that is *done* carries what the call published
    /// and wrote to state, and the first of all its logs. Their fuel adds up to that of the call; duration and memory are the
    /// call's in each. Or, if the call as a whole failed, one report about that.
    fn invoke_batch(&self, calls: Vec<Call>) -> Pin<Box<dyn Future<Output = Result<Vec<Report>, Report>> + Send + '_>>;
}
