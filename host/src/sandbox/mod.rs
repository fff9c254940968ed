//! Where handlers run. Wasmtime lives here and nowhere else.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Event, Report};

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
    /// A number drawn for this attempt, the seed of all its randomness.
    pub seed: u64,
}

/// A consumer that can be called: a component in wasmtime, or a scripted handler in tests. Limits, grants and name
/// are the consumer's own.
pub trait Invoke: Send + Sync {
    /// Runs one attempt in a fresh instance. Never fails: what went wrong is the report's outcome. Dropping the
    /// future ends the attempt at once and leaves nothing behind.
    fn invoke(&self, call: Call) -> Pin<Box<dyn Future<Output = Report> + Send + '_>>;
}

/// How much longer than its time limit an attempt may take to be ended.
pub const OVERRUN: Duration = Duration::from_millis(250);
