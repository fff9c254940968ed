use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How many start within `time` if as many are wanted as may.
fn started(rate: Rate, time: Duration) -> u32 {
    let (mut pacer, mut now, mut count) = (Pacer::default(), Duration::ZERO, 0);
    loop {
        now = pacer.free_at(rate, now);
        if now > time {
            return count;
        }
        pacer.take(rate, now);
        count += 1;
    }
}

#[test]
fn a_rate_is_kept_and_never_passed_by_more_than_a_short_burst() {
    for (count, per) in [(100, SECOND), (1, SECOND), (6, 60 * SECOND), (5_000, SECOND)] {
        let rate = Rate { count, per };
        let ten = started(rate, per * 10);
        let burst = count.div_ceil(10).max(1);
        assert!((count * 10..=count * 10 + burst + 1).contains(&ten), "{rate:?}: {ten} in ten periods");
    }
}

#[test]
fn time_that_nobody_used_is_not_saved_up() {
    let (rate, mut pacer) = (Rate { count: 100, per: SECOND }, Pacer::default());
    let late = 3_600 * SECOND;
    let at_once = std::iter::repeat_with(|| {
        let free = pacer.free_at(rate, late) == late;
        pacer.take(rate, late);
        free
    });
    assert_eq!(at_once.take(200).filter(|free| *free).count(), 10);
}

#[test]
fn retries_that_fail_are_held_to_the_floor_and_a_fifth_of_first_attempts() {
    let mut budget = Budget::new(Duration::ZERO);
    let mut retries = 0;
    // Ten seconds of 1,000 first attempts a second, each of which would like a retry at once.
    for millisecond in 0..10_000 {
        let now = Duration::from_millis(millisecond);
        budget.attempted();
        if budget.free_at(now) == now {
            budget.retried();
            retries += 1;
        }
    }
    let bound = 100 + 10 * 10 + 10_000 / 5;
    assert!((bound - 20..=bound + 1).contains(&retries), "{retries}, wanted about {bound}");
}

#[test]
fn retries_that_succeed_make_room_for_more() {
    let mut budget = Budget::new(Duration::ZERO);
    let mut rounds = 0;
    let mut left = 100_000_u32;
    while left > 0 {
        let mut now_running = 0;
        while left > 0 && budget.free_at(Duration::ZERO) == Duration::ZERO && now_running < 64 {
            budget.retried();
            now_running += 1;
            left -= 1;
        }
        assert!(now_running > 0, "stuck with {left} left");
        (0..now_running).for_each(|_| budget.succeeded());
        rounds += 1;
    }
    assert!(rounds <= 100_000_u32.div_ceil(64) + 10, "{rounds} rounds");
}
