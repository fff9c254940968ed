//! More time, on a clock that the test moves: the guest that asks, and everything that ends it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::Clock;
use crate::model::spec::Ceilings;
use crate::model::{Grants, Limits, Outcome, Report};
use crate::sandbox::testing::{self, LookedAtClock, ManualClock};

const TIMEOUT: Duration = Duration::from_millis(300);

fn limits(timeout_max: Option<u64>) -> Limits {
    let timeout_max = timeout_max.map(Duration::from_millis);
    Limits { timeout: TIMEOUT, timeout_max, fuel: u64::MAX / 4, ..Limits::default() }
}

/// Runs a mode of the hostile guest while time passes in steps of 200 ms, each when it is waited for.
async fn run(mode: &str, timeout_max: Option<u64>) -> Report {
    let clock = ManualClock::new();
    let sandbox = testing::sandbox_on(clock.clone(), Ceilings { attempts: 1, ..Ceilings::default() });
    let spec = testing::spec(limits(timeout_max), testing::all_grants());
    let guest = testing::load(&sandbox, "hostile", &spec).await.unwrap();
    let (start, data) = (clock.monotonic(), format!("{{\"mode\": \"{mode}\"}}"));
    let time = async {
        for step in 1.. {
            clock.reach(start + Duration::from_millis(200) * step).await;
        }
    };
    tokio::select! {
        report = testing::run(&guest, &data) => report,
        // When nobody waits for the next step, the deadline is all that is left.
        () = time => unreachable!(),
    }
}

#[tokio::test]
async fn each_call_gives_the_time_anew_up_to_the_most() {
    let report = run("in-progress-in-steps", Some(1_000)).await;
    assert_eq!(report.outcome, Outcome::Done, "{:?}", report.reason);
    assert_eq!(report.output.unwrap().data, "300 300 300 200", "what remained after 200, 400, 600 and 800 ms");
    assert_eq!(report.usage.duration, Duration::from_millis(800));
}

#[tokio::test]
async fn the_most_is_the_end_whatever_the_guest_does() {
    let report = run("in-progress-and-sleep", Some(1_000)).await;
    assert_eq!(report.outcome, Outcome::TimedOut);
    assert_eq!(report.reason.as_deref(), Some("still running after 1s"));
    assert_eq!(report.usage.duration, Duration::from_secs(1));
}

#[tokio::test]
async fn a_guest_that_computes_and_asks_ends_at_the_most() {
    let clock = Arc::new(LookedAtClock::default());
    let sandbox = testing::sandbox_on(clock.clone(), Ceilings { attempts: 1, ..Ceilings::default() });
    for (timeout_max, end) in [(Some(2_000), "2s"), (None, "300ms")] {
        let spec = testing::spec(limits(timeout_max), testing::all_grants());
        let guest = testing::load(&sandbox, "hostile", &spec).await.unwrap();
        let report = testing::run(&guest, "{\"mode\": \"in-progress-and-spin\"}").await;
        assert_eq!(report.outcome, Outcome::TimedOut);
        assert_eq!(report.reason, Some(format!("still running after {end}")));
    }
}

#[tokio::test]
async fn it_is_charged_as_a_call_and_does_not_bring_back_what_is_over() {
    let clock = ManualClock::new();
    let mut host = testing::host_at(
        clock.clone(),
        crate::sandbox::Dependencies::none(),
        limits(Some(1_000)),
        Grants::default(),
        super::super::http::system_resolver(),
    );
    let end = clock.monotonic() + TIMEOUT;
    assert_eq!(host.in_progress().unwrap(), 300);
    assert!(host.account.debt() > 0);
    drop(clock.sleep_until(end));
    clock.reach(end).await;
    let error = host.in_progress().unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(Stop::Time)), "{error}");
    assert_eq!(host.deadline.at(), end);
}
