//! The log on a disk that forgets and fails: nothing acknowledged is lost, nothing happens twice, nothing is half there.
//!
//! [`story`] makes the log live through a seeded workload and writes down what it was told, what it answered and when. [`check`] holds
//! a database against that. `images` cuts the power at any moment, `faults` fails the k-th call, `flips` changes bits.

mod check;
mod faults;
mod flips;
mod images;
mod rig;
mod story;
mod two_hosts;

/// A number that a long run may set.
fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// What a run begins with: `TIDEGATE_SEED` repeats one.
fn seed() -> u64 {
    number("TIDEGATE_SEED", 0x5eed)
}
