use super::*;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: BreakerPolicy =
    BreakerPolicy { failures: 3, window: Duration::from_secs(10), recovery: Duration::from_secs(30) };

fn failed_at(seconds: &[u32]) -> (Breaker, Vec<Option<Change>>) {
    let mut breaker = Breaker::default();
    let changes = seconds.iter().map(|at| breaker.end(POLICY, Verdict::Bad, SECOND * *at)).collect();
    (breaker, changes)
}

#[test]
fn it_opens_after_so_many_failures_within_the_window_only() {
    assert_eq!(failed_at(&[0, 5, 10]).1, [None, None, Some(Change::Opened)]);
    assert_eq!(failed_at(&[0, 5, 11, 16]).1, [None, None, None, None]);
    assert_eq!(failed_at(&[0, 5, 11, 15]).1, [None, None, None, Some(Change::Opened)]);
}

#[test]
fn open_it_waits_for_recovery_then_lets_one_probe_through() {
    let (mut breaker, _) = failed_at(&[0, 0, 0]);
    assert_eq!(breaker.free_at(SECOND), Some(SECOND * 30));
    assert_eq!(breaker.free_at(SECOND * 31), Some(SECOND * 31));
    breaker.start();
    assert_eq!((breaker.state(), breaker.free_at(SECOND * 99)), (BreakerState::Probing, None));
}

#[test]
fn the_probe_decides() {
    for (verdict, change, state) in [
        (Verdict::Good, Some(Change::Closed), BreakerState::Closed),
        (Verdict::Bad, None, BreakerState::Open { until: SECOND * 70 }),
        (Verdict::None, None, BreakerState::Open { until: SECOND * 40 }),
    ] {
        let (mut breaker, _) = failed_at(&[0, 0, 0]);
        breaker.start();
        assert_eq!(breaker.end(POLICY, verdict, SECOND * 40), change);
        assert_eq!(breaker.state(), state);
    }
}

#[test]
fn attempts_that_started_before_it_opened_change_nothing() {
    for verdict in [Verdict::Good, Verdict::Bad, Verdict::None] {
        let (mut breaker, _) = failed_at(&[0, 0, 0]);
        assert_eq!(breaker.end(POLICY, verdict, SECOND), None);
        assert_eq!(breaker.state(), BreakerState::Open { until: SECOND * 30 });
    }
}

#[test]
fn it_keeps_no_more_failures_than_it_counts() {
    let mut breaker = Breaker::default();
    for at in 0..10_000 {
        breaker.end(BreakerPolicy { failures: 7, window: SECOND, ..POLICY }, Verdict::Bad, SECOND * at);
    }
    assert!(breaker.failed.len() <= 7);
}
