//! Everything above unit level, in one binary.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on must say so and end"
)]

mod backup;
mod bad_input;
mod bench;
mod clock;
mod commands;
mod crash;
mod delivery;
mod disk;
mod faults;
mod fulfilment;
mod greedy;
mod hostile;
mod https;
mod jobs;
mod metrics;
mod operated;
mod pause;
mod pipelines;
mod pressure;
mod promises;
mod queries;
mod reload;
mod replay;
mod stop;
mod tidy;
mod two_hosts;
