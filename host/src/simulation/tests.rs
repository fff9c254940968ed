//! Runs schedules, and says which one failed.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::steps::Coverage;
use super::{Failure, replay, schedule, shorten, steps};
use crate::planted::{self, Found, Suite};

const SCHEDULES: u64 = 10_000;
/// How often each kind of step, and each with a crash right after it, happens at least in so many.
const TIMES_MIN: u64 = 10;
const THREADS: u64 = 2;
const TRACE_MAX: usize = 80;
/// Failures after which a run ends.
const FAILURES_MAX: usize = 40;

fn given(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Schedules from seed 1 on, until enough have failed.
fn run(schedules: u64) -> (Coverage, Vec<Failure>) {
    let next = AtomicU64::new(1);
    let failed = AtomicUsize::new(0);
    let work = || {
        let (mut coverage, mut failures) = (Coverage::default(), Vec::new());
        while failed.load(Ordering::Relaxed) < FAILURES_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > schedules {
                break;
            }
            match schedule(seed, steps(seed)) {
                Ok(seen) => coverage.add(seen),
                Err(failure) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    failures.push(failure);
                }
            }
        }
        (coverage, failures)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let (mut coverage, mut failures) = (Coverage::default(), Vec::new());
        for thread in threads {
            let (seen, failed) = thread.join().unwrap();
            coverage.add(seen);
            failures.extend(failed);
        }
        failures.sort_by_key(|failure: &Failure| failure.seed);
        (coverage, failures)
    })
}

fn explain(seed: u64) -> String {
    let (trace, result) = replay(seed, shorten(seed));
    let skipped = trace.len().saturating_sub(TRACE_MAX);
    let what = result.err().map_or_else(|| "(not again)".into(), |violation| violation.0);
    format!("{}\n\nseed {seed}: {what}\nagain: TIDEGATE_SEED={seed}", trace[skipped..].join("\n"))
}

#[test]
fn schedules() {
    if let Some(seed) = given("TIDEGATE_SEED") {
        let (trace, result) = replay(seed, shorten(seed));
        println!("{}", trace.join("\n"));
        assert!(result.is_ok(), "seed {seed}: {:?}", result.err());
        return;
    }
    let schedules = given("TIDEGATE_SCHEDULES").unwrap_or(SCHEDULES);
    let began = Instant::now();
    let (coverage, failures) = run(schedules);
    coverage.print();
    println!("in {:.1} s", began.elapsed().as_secs_f64());
    if let Some(first) = failures.first() {
        let seen: Vec<String> = failures.iter().map(|Failure { seed, what }| format!("seed {seed}: {what}")).collect();
        panic!("{}\n\n{}", explain(first.seed), seen.join("\n"));
    }
    // Of fewer schedules nothing is expected.
    let least = schedules / SCHEDULES * TIMES_MIN;
    assert_eq!(coverage.missing(least), Vec::<String>::new(), "happened less than {least} times");
}

/// Schedules within which every planted bug must be found.
const HUNT_MAX: u64 = 3_000;

#[test]
fn planted_bugs_are_found() {
    planted::table(Suite::Simulator, |_| {
        (1..=HUNT_MAX).find_map(|seed| {
            let Failure { what, .. } = schedule(seed, steps(seed)).err()?;
            Some(Found { tries: seed, seen: what })
        })
    });
}
