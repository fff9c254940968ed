//! When a schedule fires: five cron fields on the wall clock of a time zone.
//!
//! - Where clocks jump forward, a time that they pass over fires at the moment after the jump, together with that moment's
//!   own slot if it has one.
//! - Where clocks are set back, a time that comes twice fires the first time; a rule for every hour fires in both.
//! - If both days of the month and days of the week are restricted, a day that is one of either counts, as in every cron.

use std::fmt;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};

use super::Timestamp;

/// Days searched: the 29th of February is at most eight years away.
const DAYS_MAX: i32 = 12 * 366;

/// A checked rule. Equal if written alike.
#[derive(Clone)]
pub struct Slots {
    cron: String,
    zone: String,
    fields: Fields,
    time_zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Why the five fields are none, for people.
    Cron(String),
    /// A word that other crons take instead of fields; the fields that mean the same, if there are any.
    Word(Option<&'static str>),
    /// No such time zone.
    Zone,
    /// There is no such day.
    Never,
}

/// A bit for each value that a field allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// 0 is Sunday.
    weekdays: u64,
    any_day: bool,
    any_weekday: bool,
}

impl Slots {
    /// `cron` of five fields, `zone` by its IANA name.
    pub fn new(cron: &str, zone: &str) -> Result<Self, Fault> {
        if let Some(word) = cron.trim().strip_prefix('@') {
            return Err(Fault::Word(fields_of(word)));
        }
        let fields = Fields::parse(cron).map_err(Fault::Cron)?;
        let time_zone = if zone == "UTC" { TimeZone::UTC } else { TimeZone::get(zone).map_err(|_| Fault::Zone)? };
        let slots = Self { cron: cron.to_owned(), zone: zone.to_owned(), fields, time_zone };
        slots.after(Timestamp(0)).ok_or(Fault::Never)?;
        Ok(slots)
    }

    pub fn cron(&self) -> &str {
        &self.cron
    }

    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The next slot after a time.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        // What was skipped at the end of a day may fire on the next one.
        let mut date = self.civil(time)?.date().yesterday().ok()?;
        for _ in 0..DAYS_MAX {
            if let Some(slot) = self.slots_of(date).into_iter().find(|slot| *slot > time) {
                return Some(slot);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last slot after one time and not after the other.
    pub fn last_between(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let mut date = self.civil(until)?.date().tomorrow().ok()?;
        let end = self.civil(after)?.date().yesterday().ok()?;
        for _ in 0..DAYS_MAX {
            if date < end {
                return None;
            }
            let slots = self.slots_of(date);
            if let Some(slot) = slots.into_iter().rev().find(|slot| *slot > after && *slot <= until) {
                return Some(slot);
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    fn civil(&self, time: Timestamp) -> Option<DateTime> {
        let time = jiff::Timestamp::from_microsecond(time.0).ok()?;
        Some(self.time_zone.to_datetime(time))
    }

    /// The slots of a day, in order.
    fn slots_of(&self, date: Date) -> Vec<Timestamp> {
        let mut slots = Vec::new();
        if self.fields.day(date) {
            for hour in bits(self.fields.hours) {
                for minute in bits(self.fields.minutes) {
                    self.instants(date.at(hour, minute, 0, 0), &mut slots);
                }
            }
        }
        // Both passes of an hour that comes twice, and what was skipped, stand where time has them.
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn instants(&self, at: DateTime, slots: &mut Vec<Timestamp>) {
        let ambiguous = self.time_zone.to_ambiguous_timestamp(at);
        let mut push = |time: Option<jiff::Timestamp>| slots.extend(time.map(|time| Timestamp(time.as_microsecond())));
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { offset } => push(offset.to_timestamp(at).ok()),
            AmbiguousOffset::Gap { .. } => {
                // The skipped time read with the offset after the jump lies before the jump, which is the next transition.
                let before = ambiguous.earlier().ok();
                push(before.and_then(|time| self.time_zone.following(time).next().map(|jump| jump.timestamp())));
            }
            AmbiguousOffset::Fold { before, after } => {
                push(before.to_timestamp(at).ok());
                if self.fields.every_hour() {
                    push(after.to_timestamp(at).ok());
                }
            }
        }
    }
}

fn bits(set: u64) -> impl Iterator<Item = i8> {
    (0..60_i8).filter(move |bit| set >> bit & 1 == 1)
}

impl PartialEq for Slots {
    fn eq(&self, other: &Self) -> bool {
        self.cron == other.cron && self.zone == other.zone
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} in {:?}", self.cron, self.zone)
    }
}

/// What `@hourly` and the like stand for; `@reboot` is no time of the clock.
fn fields_of(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_lowercase().as_str() {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => return None,
    })
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Fields {
    fn parse(cron: &str) -> Result<Self, String> {
        let fields: Vec<&str> = cron.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            let more = if fields.len() > 5 { "; there are none for seconds and years" } else { "" };
            return Err(match fields.len() {
                1 => "there is 1 field".to_owned(),
                number => format!("there are {number} fields{more}"),
            });
        };
        let names = |list: &'static [&'static str], first| Names { list, first };
        let weekdays_set = field(weekdays, "a day of the week", 0, 7, names(&WEEKDAYS, 0))?;
        Ok(Self {
            minutes: field(minutes, "a minute", 0, 59, names(&[], 0))?,
            hours: field(hours, "an hour", 0, 23, names(&[], 0))?,
            days: field(days, "a day of the month", 1, 31, names(&[], 0))?,
            months: field(months, "a month", 1, 12, names(&MONTHS, 1))?,
            // 7 is Sunday as well.
            weekdays: (weekdays_set | weekdays_set >> 7) & 0x7f,
            any_day: days.starts_with('*'),
            any_weekday: weekdays.starts_with('*'),
        })
    }

    fn every_hour(self) -> bool {
        self.hours == (1 << 24) - 1
    }

    fn day(self, date: Date) -> bool {
        let has = |set: u64, bit: i8| set >> bit & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, Weekday::to_sunday_zero_offset(date.weekday()));
        let either = if self.any_day || self.any_weekday { day && weekday } else { day || weekday };
        has(self.months, date.month()) && either
    }
}

/// Words that stand for numbers.
struct Names {
    list: &'static [&'static str],
    first: u32,
}

/// `*`, a value, a range, either with a step, and lists of them.
fn field(text: &str, what: &str, min: u32, max: u32, names: Names) -> Result<u64, String> {
    let wrong = |part: &str| {
        format!("{part:?} is not {what} ({min} to {max}), a range of them, `*`, or one of these with a step")
    };
    let value = |word: &str| -> Option<u32> {
        let named = names.list.iter().position(|name| name.eq_ignore_ascii_case(word));
        let number = match named {
            Some(index) => u32::try_from(index).ok()? + names.first,
            None if word.len() <= 2 && word.bytes().all(|byte| byte.is_ascii_digit()) => word.parse().ok()?,
            None => return None,
        };
        (min..=max).contains(&number).then_some(number)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = Some(step).filter(|step| step.len() <= 2).and_then(|step| step.parse::<u32>().ok());
                (
                    range,
                    step.filter(|step| *step > 0 && part.starts_with('*') | part.contains('-'))
                        .ok_or_else(|| wrong(part))?,
                )
            }
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (min, max),
            Some((from, to)) => (value(from).ok_or_else(|| wrong(part))?, value(to).ok_or_else(|| wrong(part))?),
            None => value(range).map(|value| (value, value)).ok_or_else(|| wrong(part))?,
        };
        if from > to {
            return Err(format!("{part:?} ends before it begins"));
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        for number in (from..=to).step_by(step) {
            set |= 1_u64 << number;
        }
    }
    Ok(set)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
