//! Tidegate: a declarative consumer host that runs WebAssembly handlers. The modules in the order in which an event
//! visits them; ARCHITECTURE.md says who may import whom.

/// Values and rules: no I/O, no clock.
pub mod model;

/// Text of a manifest in, a deployment out, or diagnostics.
pub mod manifest;

/// What is loaded now, and how it is exchanged while running.
pub mod registry;

/// How events get in and people look in: HTTP.
pub mod server;

/// The durable, ordered sequence of events.
pub mod log;

/// SQLite.
pub mod store;

/// Which delivery is attempted when.
pub mod dispatch;

/// Questions and who answers them.
pub mod query;

/// Events at times of the clock.
pub mod schedule;

/// Where handlers run: wasmtime.
pub mod sandbox;

/// Builds the parts from a deployment; start and stop.
pub mod host;

/// The command line.
pub mod cli;

/// Time, given to whoever needs it.
pub mod clock;

/// Randomness, given to whoever needs it.
pub mod random;

/// Names of metrics; the numbers behind them.
pub mod telemetry;

/// Mistakes on purpose, that the tests must find.
mod planted;

/// Budgets of what an event may cost, counted.
#[cfg(test)]
mod cost;

/// Seeded schedules of everything that may happen to a host.
#[cfg(test)]
mod simulation;
