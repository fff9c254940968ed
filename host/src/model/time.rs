//! A point in time as a number, so that rules can compare times without knowing where time comes from.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since the Unix epoch, UTC. Shown and read as RFC 3339. Years -9999 to 9999; finer digits are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Now, on both clocks: the wall's, by which deliveries are due, and one that nobody can set, by which rates are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub wall: Timestamp,
    /// Since some fixed moment; never goes back.
    pub monotonic: Duration,
}

impl Timestamp {
    /// The earliest and the latest time that RFC 3339 can write.
    pub const MIN: Self = Self(-377_705_023_201_000_000);
    pub const MAX: Self = Self(253_402_207_200_999_999);

    pub fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000))
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Later by `by`; never past [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let micros = i64::try_from(by.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).min(Self::MAX.0))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339, with any offset.
    pub fn parse(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>().map(|t| Self(t.as_microsecond())).map_err(|_| not_a_time(text))
    }
}

/// What to write instead: the same sentence wherever a time is read.
fn not_a_time(text: &str) -> String {
    let whole = jiff::fmt::temporal::Pieces::parse(text).ok().filter(|pieces| pieces.time().is_some());
    match whole.and_then(|pieces| pieces.offset()) {
        Some(_) => format!("expected a time between {} and {}", Timestamp::MIN, Timestamp::MAX),
        None => "expected a time as in RFC 3339, such as 2026-03-01T12:00:00Z".to_owned(),
    }
}

/// A length of time as the manifest writes it: `250ms`, `30s`, `1m30s`.
pub fn written(span: Duration) -> String {
    let (mut left, mut out) = (u64::try_from(span.as_millis()).unwrap_or(u64::MAX), String::new());
    for (name, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if left >= millis {
            out.push_str(&format!("{}{name}", left / millis));
            left %= millis;
        }
    }
    if out.is_empty() { "0s".into() } else { out }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, or with microseconds where there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By its parts: as a number of microseconds the last second would be beyond what is read.
        let (seconds, micros) = (self.0.div_euclid(1_000_000), self.0.rem_euclid(1_000_000));
        match jiff::Timestamp::new(seconds, i32::try_from(micros * 1_000).unwrap_or(0)) {
            Ok(t) if self.0.rem_euclid(1_000) == 0 => write!(f, "{t:.3}"),
            Ok(t) => write!(f, "{t:.6}"),
            Err(_) => f.write_str("out of range"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_is_told_how_one_is_written() {
        let written = "expected a time as in RFC 3339, such as 2026-03-01T12:00:00Z";
        for text in ["", "tomorrow", "2026-11-29", "2026-11-29T08:00:00", "2026-02-30T08:00:00Z", "20261129"] {
            assert_eq!(Timestamp::parse(text), Err(written.to_owned()), "{text}");
        }
        for text in ["9999-12-31T23:59:59Z", "-009999-01-01T00:00:00+14:00"] {
            let said = Timestamp::parse(text).unwrap_err();
            assert!(said.ends_with("and 9999-12-30T22:00:00.999999Z"), "{text}: {said}");
        }
        for time in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(Timestamp::parse(&time.to_string()), Ok(time), "what is said to be read is read");
        }
    }
}
