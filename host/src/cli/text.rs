//! Values as text for people: pure, so that every line a command prints can be tested without a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::Timestamp;

/// Text that guests, clients or files brought, made safe for a terminal: what would move the cursor, colour, hide or
/// reorder text is written out. The result is one line.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && u32::from(c) < 0x100 => _ = write!(out, "\\x{:02x}", u32::from(c)),
            c if is_hidden(c) => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
            c => out.push(c),
        }
    }
    out
}

/// As [`escape`], keeping line breaks.
pub(super) fn escape_lines(text: &str) -> String {
    text.split('\n').map(|line| escape(line.strip_suffix('\r').unwrap_or(line))).collect::<Vec<_>>().join("\n")
}

/// JSON as it came, with the same characters written as JSON escapes: it means the same, and is safe to show. They can
/// only stand inside JSON strings, because JSON's own signs are plain ASCII.
pub(super) fn escape_json(json: &str) -> String {
    if !json.chars().any(|c| c.is_control() || is_hidden(c)) {
        return json.to_owned();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Between values white space is allowed, and inside strings JSON forbids it raw.
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || is_hidden(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// Characters that show nothing themselves but change or hide what is around them: direction marks and overrides, line
/// separators, zero-width spaces, tags. The joiners that scripts and emoji need are not among them.
fn is_hidden(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x61c | 0x180e | 0x200b | 0x200e | 0x200f | 0x2028..=0x202e | 0x2060..=0x2064 | 0x2066..=0x206f
        | 0xfeff | 0xfff9..=0xfffb | 0xe0000..=0xe007f)
}

/// At most `max` characters, the last one `…` where something was cut.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// `1 event`, `2 events`.
pub(super) fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{} {noun}s", number(n)) }
}

/// `1 delivery`, `2 deliveries`.
pub(super) fn deliveries(n: u64) -> String {
    if n == 1 { "1 delivery".into() } else { format!("{} deliveries", number(n)) }
}

/// Digits in groups of three: `12,345`.
pub(super) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A large number in three digits: `950`, `12.3k`, `4.50M`.
pub(super) fn rough(n: u64) -> String {
    scaled(n, 1_000, &["", "k", "M", "G", "T"])
}

/// `950 B`, `12.3 KiB`.
pub(super) fn bytes(n: u64) -> String {
    scaled(n, 1_024, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(n: u64, step: u64, units: &[&str]) -> String {
    let (mut unit, mut value) = (0, n as f64);
    while value >= step as f64 && unit + 1 < units.len() {
        value /= step as f64;
        unit += 1;
    }
    let name = units.get(unit).copied().unwrap_or_default();
    match (unit, value) {
        (0, _) => format!("{n}{name}"),
        (_, v) if v < 10.0 => format!("{v:.2}{name}"),
        (_, v) if v < 100.0 => format!("{v:.1}{name}"),
        (_, v) => format!("{v:.0}{name}"),
    }
}

/// How long an attempt took: `0.42 ms`, `12 ms`, `3.20 s`.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.2} s", ms / 1_000.0),
        ms => age(Duration::from_secs_f64(ms / 1_000.0)),
    }
}

/// A span of time in its two weightiest units: `0s`, `45s`, `3m 20s`, `2d 4h`.
pub(super) fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `3m 20s ago`, or `in 20s`.
pub(super) fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", age(at.since(now))) } else { format!("{} ago", age(now.since(at))) }
}

/// A time as tables show it: UTC, to the millisecond.
pub(super) fn time(at: Timestamp) -> String {
    Timestamp::from_millis(at.as_millis()).to_string()
}

/// What was most likely meant, if anything is near enough.
pub(super) fn nearest<'a>(text: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |word: &&str| strsim::damerau_levenshtein(text, word);
    words.into_iter().min_by_key(near).filter(|word| near(word) <= (text.chars().count() / 3).max(1))
}

/// Rows in columns, two spaces apart. Columns named in `right` stand to the right; the last column is cut so that a
/// row fits `width`, if there is one.
pub(super) struct Table {
    pub(super) head: &'static [&'static str],
    pub(super) right: &'static [usize],
    pub(super) rows: Vec<Vec<String>>,
}

impl Table {
    /// Lines, the heading first. Cells are escaped.
    pub(super) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let head = self.head.iter().map(|&cell| cell.to_owned()).collect();
        let rows: Vec<Vec<String>> = std::iter::once(head)
            .chain(self.rows.iter().map(|row| row.iter().map(|cell| escape(cell)).collect()))
            .collect();
        let mut widths = vec![0; self.head.len()];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        rows.iter().map(|row| self.line(row, &widths, width)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize], total: Option<usize>) -> String {
        let mut line = String::new();
        let mut used = 0;
        for (index, (cell, &width)) in row.iter().zip(widths).enumerate() {
            if index > 0 {
                line.push_str("  ");
                used += 2;
            }
            if index + 1 == widths.len() && !self.right.contains(&index) {
                let room = total.map_or(usize::MAX, |total| total.saturating_sub(used).max(12));
                line.push_str(&cut(cell, room));
            } else if self.right.contains(&index) {
                _ = write!(line, "{cell:>width$}");
            } else {
                _ = write!(line, "{cell:<width$}");
            }
            used += width;
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// What made a delivery, behind its consumer's name: nothing for a subscription's. The number of a redrive's or a replay's is the
/// delivery's own and says so: it is not that of the replay.
pub(super) fn origin(origin: Option<&str>, round: u32) -> String {
    match origin {
        Some("job") => " (job)".to_owned(),
        _ if round == 0 => String::new(),
        Some(origin @ ("step" | "compensation")) => format!(" ({origin})"),
        Some(origin) => format!(" ({}, round {round})", escape(origin)),
        None => format!(" (round {round})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_comes_through() {
        for (text, shown) in [
            ("plain text, ümläut, 日本, 👩‍💻", "plain text, ümläut, 日本, 👩‍💻"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\x1b[2J\\x1b]0;title\\x07"),
            ("a\nb\r\tc\0", "a\\nb\\r\\tc\\x00"),
            ("\u{7f}\u{9b}31m", "\\x7f\\x9b31m"),
            ("user\u{202e}txt.exe", "user\\u{202e}txt.exe"),
            ("\u{2066}a\u{2069}\u{200f}\u{61c}", "\\u{2066}a\\u{2069}\\u{200f}\\u{61c}"),
            ("a\u{2028}b\u{200b}c\u{feff}", "a\\u{2028}b\\u{200b}c\\u{feff}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(escape(text), shown);
            assert_eq!(escape(&escape(text)), shown, "what is shown is safe");
        }
    }

    #[test]
    fn escaped_json_means_the_same() {
        let json = "{\"a\":\"\u{7f}\u{9b}\u{202e}x\u{e0041}\",\n \"b\": 1.0}";
        let safe = escape_json(json);
        assert_eq!(safe, "{\"a\":\"\\u007f\\u009b\\u202ex\\udb40\\udc41\",  \"b\": 1.0}");
        let (one, two): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(json).unwrap(), serde_json::from_str(&safe).unwrap());
        assert_eq!(one, two);
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(escape_lines("a\u{1b}\r\nb"), "a\\x1b\nb");
    }

    #[test]
    fn what_made_a_delivery_is_not_taken_for_the_number_of_a_replay() {
        for (made_by, round, shown) in [
            (Some("subscription"), 0, ""),
            (Some("job"), 0, " (job)"),
            (Some("step"), 3, " (step)"),
            (Some("replay"), 2, " (replay, round 2)"),
            (Some("redrive"), 1, " (redrive, round 1)"),
            (None, 2, " (round 2)"),
            (None, 0, ""),
        ] {
            assert_eq!(origin(made_by, round), shown);
        }
    }

    #[test]
    fn numbers_read_at_a_glance() {
        assert_eq!([number(0), number(999), number(1_000), number(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([rough(999), rough(1_500), rough(45_600), rough(4_560_000)], ["999", "1.50k", "45.6k", "4.56M"]);
        assert_eq!([bytes(0), bytes(1_023), bytes(1_024), bytes(200 << 20)], ["0 B", "1023 B", "1.00 KiB", "200 MiB"]);
        assert_eq!(
            [millis(0.416), millis(12.4), millis(3_200.0), millis(90_000.0)],
            ["0.42 ms", "12 ms", "3.20 s", "1m 30s"]
        );
        assert_eq!([count(1, "event"), count(2_000, "event")], ["1 event", "2,000 events"]);
    }

    #[test]
    fn ages_have_two_units() {
        for (seconds, shown) in [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3_700, "1h 1m"), (190_000, "2d 4h")] {
            assert_eq!(age(Duration::from_secs(seconds)), shown);
        }
        let now = Timestamp::from_millis(100_000);
        assert_eq!(relative(Timestamp::from_millis(80_000), now), "20s ago");
        assert_eq!(relative(Timestamp::from_millis(120_000), now), "in 20s");
    }

    #[test]
    fn tables_align_cut_and_escape() {
        let table = Table {
            head: &["name", "n", "reason"],
            right: &[1],
            rows: vec![
                vec!["a".into(), "1".into(), "the mail server answered 503".into()],
                vec!["long-name".into(), "1,000".into(), "x\u{1b}y".into()],
            ],
        };
        assert_eq!(
            table.lines(Some(34)),
            ["name           n  reason", "a              1  the mail server…", "long-name  1,000  x\\x1by"]
        );
        assert_eq!(table.lines(None)[1], "a              1  the mail server answered 503");
    }
}
