//! Everything above unit level, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must say so and end"
)]

mod bad_input;
mod commands;
mod crash;
mod delivery;
mod disk;
mod greedy;
mod hostile;
mod https;
mod metrics;
mod promises;
mod reload;
mod stop;
mod tidy;
