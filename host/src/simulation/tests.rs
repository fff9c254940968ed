//! Runs schedules, and says which one failed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::steps::Coverage;
use super::{Failure, STEPS, replay, schedule, shorten};

const SCHEDULES: u64 = 10_000;
const THREADS: u64 = 2;
const TRACE_MAX: usize = 80;

fn given(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Schedules from seed 1 on, until one fails.
fn run(schedules: u64) -> Result<Coverage, Failure> {
    let next = AtomicU64::new(1);
    let stop = AtomicBool::new(false);
    let work = || {
        let mut coverage = Coverage::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > schedules || stop.load(Ordering::Relaxed) {
                return Ok(coverage);
            }
            coverage.add(schedule(seed, STEPS).inspect_err(|_| stop.store(true, Ordering::Relaxed))?);
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        let mut all = Coverage::default();
        for thread in threads {
            all.add(thread.join().unwrap()?);
        }
        Ok(all)
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
    match run(schedules) {
        Ok(coverage) => {
            coverage.print();
            println!("in {:.1} s", began.elapsed().as_secs_f64());
            assert_eq!(coverage.missing(), Vec::<String>::new(), "never happened");
        }
        Err(Failure { seed, what }) => panic!("{}\n({what})", explain(seed)),
    }
}
