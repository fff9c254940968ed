use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// The slots after a time, as RFC 3339 to the minute.
fn next(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let slots = Slots::new(cron, zone).unwrap();
    let mut time = at(after);
    (0..count)
        .map(|_| {
            time = slots.after(time).unwrap();
            time.to_string().replace(":00.000Z", "Z")
        })
        .collect()
}

#[test]
fn fields_are_values_ranges_lists_and_steps() {
    for (cron, after, expected) in [
        ("0 3 * * *", "2026-03-01T03:00:00Z", "2026-03-02T03:00Z"),
        ("0 3 * * *", "2026-03-01T02:59:59.999999Z", "2026-03-01T03:00Z"),
        ("*/15 * * * *", "2026-03-01T03:01:00Z", "2026-03-01T03:15Z"),
        ("5-10/5 * * * *", "2026-03-01T03:05:00Z", "2026-03-01T03:10Z"),
        ("0 9 * * MON-FRI", "2026-03-06T09:00:00Z", "2026-03-09T09:00Z"),
        ("0 9 * * 7", "2026-03-02T00:00:00Z", "2026-03-08T09:00Z"),
        ("0 9 * * 0", "2026-03-02T00:00:00Z", "2026-03-08T09:00Z"),
        ("0 0 1 jan,Jul *", "2026-02-01T00:00:00Z", "2026-07-01T00:00Z"),
        ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00Z"),
        ("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00Z"),
        // A day that is one of either.
        ("0 0 13 * FRI", "2026-03-07T00:00:00Z", "2026-03-13T00:00Z"),
        ("0 0 13 * FRI", "2026-03-13T00:00:00Z", "2026-03-20T00:00Z"),
        ("0 0 */2 * MON", "2026-03-01T00:00:00Z", "2026-03-09T00:00Z"),
    ] {
        assert_eq!(next(cron, "UTC", after, 1), [expected], "{cron}");
    }
}

#[test]
fn what_is_no_rule_is_refused() {
    for cron in [
        "",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "5/2 * * * *",
        "a * * * *",
        "-1 * * * *",
        "1,,2 * * * *",
        "* * L * *",
        "* * * FOO *",
        "*/100 * * * *",
        "1e1 * * * *",
        "* * * * MON#2",
        "٣ * * * *",
    ] {
        assert!(matches!(Slots::new(cron, "UTC"), Err(Fault::Cron(_))), "{cron}");
    }
    for (word, fields) in
        [("@daily", Some("0 0 * * *")), ("@Hourly", Some("0 * * * *")), ("@reboot", None), ("@", None)]
    {
        assert_eq!(Slots::new(word, "UTC").unwrap_err(), Fault::Word(fields), "{word}");
        assert!(fields.is_none_or(|fields| Slots::new(fields, "UTC").is_ok()));
    }
    for cron in ["0 0 30 2 *", "0 0 31 4,6,9,11 *"] {
        assert_eq!(Slots::new(cron, "UTC").unwrap_err(), Fault::Never, "{cron}");
    }
    assert!(Slots::new("0 0 30 2 MON", "UTC").is_ok(), "every Monday of February");
    for zone in ["", "Mars/Olympus", "../etc/passwd", "+02:00"] {
        assert_eq!(Slots::new("* * * * *", zone).unwrap_err(), Fault::Zone, "{zone}");
    }
}

/// New York skips 02:00 to 03:00 on 2026-03-08 (at 07:00Z), and has 01:00 to 02:00 twice on 2026-11-01 (until 06:00Z).
#[test]
fn a_time_that_clocks_pass_over_fires_at_the_moment_after() {
    let zone = "America/New_York";
    let expected = ["2026-03-07T07:30Z", "2026-03-08T07:00Z", "2026-03-09T06:30Z"];
    assert_eq!(next("30 2 * * *", zone, "2026-03-07T00:00:00Z", 3), expected);
    // Together with that moment's own slot.
    assert_eq!(
        next("*/20 * * * *", zone, "2026-03-08T06:30:00Z", 3),
        ["2026-03-08T06:40Z", "2026-03-08T07:00Z", "2026-03-08T07:20Z"]
    );
    assert_eq!(next("0 3 * * *", zone, "2026-03-08T00:00:00Z", 2), ["2026-03-08T07:00Z", "2026-03-09T07:00Z"]);
}

#[test]
fn a_time_that_comes_twice_fires_once_unless_every_hour_does() {
    let zone = "America/New_York";
    let expected = ["2026-11-01T05:30Z", "2026-11-02T06:30Z"];
    assert_eq!(next("30 1 * * *", zone, "2026-11-01T00:00:00Z", 2), expected);
    let hourly = ["2026-11-01T04:30Z", "2026-11-01T05:30Z", "2026-11-01T06:30Z", "2026-11-01T07:30Z"];
    assert_eq!(next("30 * * * *", zone, "2026-11-01T04:00:00Z", 4), hourly);
}

/// Samoa had no 30 December 2011.
#[test]
fn a_day_that_was_skipped_fires_once() {
    let days = next("0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", 3);
    assert_eq!(days, ["2011-12-29T22:00Z", "2011-12-30T10:00Z", "2011-12-30T22:00Z"]);
}

#[test]
fn half_hours_and_odd_offsets_are_zones_too() {
    assert_eq!(next("0 9 * * *", "Asia/Kathmandu", "2026-01-01T00:00:00Z", 1), ["2026-01-01T03:15Z"]);
    // Lord Howe moves by half an hour: 02:00 to 02:30 is skipped on 2026-10-04, at 15:30Z of the day before.
    assert_eq!(next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 1), ["2026-10-03T15:30Z"]);
}

fn rules() -> impl Strategy<Value = (String, &'static str)> {
    let cron = prop::sample::select(vec![
        "* * * * *",
        "*/7 * * * *",
        "30 * * * *",
        "30 2 * * *",
        "0 0 * * *",
        "15 1 * * SUN",
        "0 12 1 * *",
        "0 0 29 2 *",
        "59 23 31 12 *",
        "0,30 1-3 * 3,10,11 *",
    ]);
    let zone = prop::sample::select(vec![
        "UTC",
        "America/New_York",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/St_Johns",
    ]);
    (cron.prop_map(str::to_owned), zone)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Both searches see the same slots, and none lies between a time and the next slot.
    #[test]
    fn forward_and_backward_agree((cron, zone) in rules(), seconds in 1_000_000_000_i64..2_500_000_000) {
        let slots = Slots::new(&cron, zone).unwrap();
        let time = Timestamp(seconds * 1_000_000);
        let next = slots.after(time).unwrap();
        prop_assert!(next > time);
        prop_assert_eq!(slots.last_between(time, next), Some(next));
        prop_assert_eq!(slots.last_between(time, Timestamp(next.0 - 1)), None);
        let second = slots.after(next).unwrap();
        prop_assert_eq!(slots.last_between(time, second), Some(second));
        prop_assert_eq!(slots.last_between(next, second), Some(second));
    }

    #[test]
    fn no_rule_panics(cron in "[0-9*/,A-Za-z -]{0,30}", zone in "[A-Za-z/_+-]{0,20}") {
        drop(Slots::new(&cron, &zone));
    }
}
