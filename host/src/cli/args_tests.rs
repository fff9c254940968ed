use super::*;

#[test]
fn durations_are_written_as_in_the_manifest() {
    for (text, ms) in [("250ms", 250), ("5s", 5_000), ("1m30s", 90_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "5", "s", "5 s", "1.5s", "-5s", "5y", "99999999999999999999s", "300000000000000d"] {
        assert!(duration(text).is_err(), "{text:?}");
    }
}

#[test]
fn times_are_absolute_or_ago() {
    let now = Timestamp::parse("2026-02-01T12:00:00Z").unwrap();
    for (text, at) in [
        ("2026-01-31T08:00:00Z", "2026-01-31T08:00:00.000Z"),
        ("2026-01-31T08:00:00+02:00", "2026-01-31T06:00:00.000Z"),
        ("2026-01-31", "2026-01-31T00:00:00.000Z"),
        ("15m", "2026-02-01T11:45:00.000Z"),
        ("1d", "2026-01-31T12:00:00.000Z"),
    ] {
        assert_eq!(When::parse(text).unwrap().at(now).to_string(), at, "{text}");
    }
    assert!(When::parse("yesterday").unwrap_err().contains("15m"));
}

/// Rows as a log would hold them: (sequence, consumer), `fan` for each sequence.
fn rows(seqs: u64, fan: u64) -> Vec<(Seq, u64)> {
    (1..=seqs).flat_map(|seq| (0..fan).map(move |c| (seq, c))).collect()
}

fn read(span: &Span, rows: &[(Seq, u64)]) -> Vec<(Seq, u64)> {
    let mut seen = Vec::new();
    let fetch = |page: Page| {
        assert!(page.limit <= LIMIT_MAX);
        let mut all: Vec<_> = rows
            .iter()
            .copied()
            .filter(|r| page.after.is_none_or(|a| r.0 > a) && page.before.is_none_or(|b| r.0 < b))
            .collect();
        if page.newest {
            all.reverse();
        }
        all.truncate(page.limit);
        Ok(all)
    };
    let each = |row| {
        seen.push(row);
        Ok(())
    };
    pages(span, |row| *row, fetch, each).unwrap();
    seen
}

#[test]
fn pages_are_read_without_gap_or_repetition() {
    for fan in [1, 3, 7] {
        let rows = rows(700, fan);
        let all = Span { limit: Limit(usize::MAX), ..Span::default() };
        assert_eq!(read(&all, &rows), rows, "all, {fan} a sequence");
        let newest = Span { limit: Limit(1_501), ..Span::default() };
        assert_eq!(read(&newest, &rows), rows[rows.len().saturating_sub(1_501)..], "newest, {fan} a sequence");
        let after = Span { after: Some(10), limit: Limit(25), ..Span::default() };
        let from = usize::try_from(10 * fan).unwrap();
        assert_eq!(read(&after, &rows), rows[from..from + 25], "after 10, {fan} a sequence");
    }
    assert_eq!(read(&Span::default(), &[]), []);
}
