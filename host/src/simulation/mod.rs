//! The proof by simulation: schedules of everything that may happen to a host, each drawn from a seed, drive the production dispatcher,
//! its attempts and its settlements with a clock, a disk and guests that belong to the schedule. After each step a model of a few
//! lists says whether the promises still hold. The same seed gives the same schedule:
//!
//! ```text
//! TIDEGATE_SEED=4711 cargo test -p tidegate --lib simulation::schedules -- --nocapture    one schedule again, with its trace
//! TIDEGATE_SCHEDULES=1000000 …                                                            more of them
//! ```
//!
//! What is real: `dispatch` with its loop, core, lanes, attempts and settlements, and the log port's promises as `log/memory.rs` keeps
//! them. What is simulated: time, when and whether a commit becomes durable and who is told when, crashes, what handlers do.

mod changes;
mod clock;
mod dice;
mod disk;
mod guests;
mod model;
mod moves;
mod people;
mod pipelines;
mod plan;
mod steps;
mod tests;
mod world;

use std::panic::AssertUnwindSafe;

use self::model::Violation;
use self::steps::Coverage;
use self::world::World;

/// Steps of a schedule before peace: short ones are many, long ones go deep.
fn steps(seed: u64) -> u32 {
    40 + u32::try_from(seed % 121).unwrap()
}

/// A schedule that broke a promise.
struct Failure {
    seed: u64,
    what: String,
}

/// Runs one schedule.
fn schedule(seed: u64, steps: u32) -> Result<Coverage, Failure> {
    let mut world = World::new(seed, false);
    match attempt(&mut world, steps) {
        Ok(()) => Ok(std::mem::take(&mut world.coverage)),
        Err(Violation(what)) => Err(Failure { seed, what }),
    }
}

/// The same again, with the trace of what happened.
fn replay(seed: u64, steps: u32) -> (Vec<String>, Result<(), Violation>) {
    let mut world = World::new(seed, true);
    let result = attempt(&mut world, steps);
    (world.trace.take().unwrap_or_default(), result)
}

fn attempt(world: &mut World, steps: u32) -> Result<(), Violation> {
    std::panic::catch_unwind(AssertUnwindSafe(|| world.run(steps))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        Err(Violation(format!("panic: {}", text.unwrap_or_default())))
    })
}

/// The shortest beginning of a schedule, in powers of two and thereabouts, that breaks a promise as well.
fn shorten(seed: u64) -> u32 {
    let fails = |steps: &u32| schedule(seed, *steps).is_err();
    [5, 10, 20, 30, 40, 60, 80, 100, 140].into_iter().find(fails).unwrap_or_else(|| steps(seed))
}
