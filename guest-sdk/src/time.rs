//! A point in time, as events carry it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time, UTC, counted from the Unix epoch. Shown as RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Later by `by`; stays at the latest time there is rather than wrap.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        let nanoseconds = self.nanoseconds + by.subsec_nanos();
        let seconds = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        let seconds = self.seconds.saturating_add(seconds).saturating_add(i64::from(nanoseconds / 1_000_000_000));
        Self { seconds, nanoseconds: nanoseconds % 1_000_000_000 }
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self::default().plus(since),
            Err(before) => {
                let before = before.duration();
                let borrow = i64::from(before.subsec_nanos() > 0);
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                Self {
                    seconds: -seconds - borrow,
                    nanoseconds: (1_000_000_000 - before.subsec_nanos()) % 1_000_000_000,
                }
            }
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        match self.nanoseconds {
            0 => {}
            n if n % 1_000_000 == 0 => write!(f, ".{:03}", n / 1_000_000)?,
            n if n % 1_000 == 0 => write!(f, ".{:06}", n / 1_000)?,
            n => write!(f, ".{n:09}")?,
        }
        f.write_str("Z")
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar. Years are counted from
/// March, so that the leap day is the last of its year and every month but the last has a regular place.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_rfc_3339() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (1_785_542_400, 500_000_000, "2026-08-01T00:00:00.500Z"),
            (4_107_542_399, 1_000, "2100-02-28T23:59:59.000001Z"),
            (4_107_542_400, 1, "2100-03-01T00:00:00.000000001Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Timestamp { seconds, nanoseconds }.to_string(), text);
        }
    }

    #[test]
    fn system_times_before_and_after_the_epoch_are_kept() {
        let half = Duration::from_millis(500);
        assert_eq!(Timestamp::from(UNIX_EPOCH + half), Timestamp { seconds: 0, nanoseconds: 500_000_000 });
        assert_eq!(Timestamp::from(UNIX_EPOCH - half), Timestamp { seconds: -1, nanoseconds: 500_000_000 });
        assert_eq!(Timestamp { seconds: 1, nanoseconds: 600_000_000 }.plus(half).seconds, 2);
    }
}
