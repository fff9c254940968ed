//! Lengths of time: `250ms`, `5s`, `1m30s`, `7d`.

use std::borrow::Cow;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::Quantity;
use crate::model::time;

const UNITS: [(&str, i128); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Millis(pub u64);

impl Millis {
    pub(crate) const fn seconds(n: u64) -> Self {
        Self(n * 1_000)
    }

    pub(crate) const fn days(n: u64) -> Self {
        Self(n * 86_400_000)
    }

    pub(crate) fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl Quantity for Millis {
    const CODE: &'static str = codes::DURATION;
    const WHAT: &'static str = "a duration";

    fn parse(text: &str) -> Result<i128, String> {
        let (sign, mut rest) = match text.trim().strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.trim()),
        };
        let mut total: i128 = 0;
        let mut units = UNITS.as_slice();
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_').len();
            let (number, after) = rest.split_at(digits);
            let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
            let (unit, next) = after.split_at(letters);
            let at = units.iter().position(|(name, _)| *name == unit);
            let (Some(at), false) = (at, number.is_empty()) else { return Err(hint(text)) };
            let size = units.get(at).map_or(0, |(_, size)| *size);
            total = total.saturating_add(super::count::digits(number).ok_or_else(|| hint(text))?.saturating_mul(size));
            // Each unit at most once, from large to small.
            units = units.get(at + 1..).unwrap_or_default();
            rest = next;
        }
        if text.trim().is_empty() { Err(hint(text)) } else { Ok(sign * total) }
    }

    fn new(base: u64) -> Self {
        Self(base)
    }

    fn show(self) -> String {
        time::written(self.duration())
    }
}

fn hint(text: &str) -> String {
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    let unit: String = text.trim().chars().skip(digits.len()).filter(|c| !c.is_whitespace()).collect();
    let meant = match unit.to_ascii_lowercase().as_str() {
        "" => "s",
        "sec" | "secs" | "second" | "seconds" | "s" => "s",
        "min" | "mins" | "minute" | "minutes" | "m" => "m",
        "hr" | "hrs" | "hour" | "hours" | "h" => "h",
        "day" | "days" | "d" => "d",
        "msec" | "millis" | "milliseconds" | "ms" => "ms",
        _ => {
            return "durations are written like 250ms, 5s, 1m30s or 7d, in whole numbers, larger units first"
                .to_owned();
        }
    };
    if digits.is_empty() || digits.len() > 18 {
        return "durations are written like 250ms, 5s, 1m30s or 7d".to_owned();
    }
    format!("a duration is a number and a unit without a space, here perhaps `{digits}{meant}`")
}

impl JsonSchema for Millis {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A length of time in whole numbers with units, larger units first: `250ms`, `5s`, `1m30s`, `7d`.",
            "type": "string",
            "pattern": r"^([0-9_]+d)?([0-9_]+h)?([0-9_]+m)?([0-9_]+s)?([0-9_]+ms)?$|\$\{",
            "minLength": 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_in_order() {
        for (text, expected) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("1m30s", 90_000),
            ("7d", 604_800_000),
            ("1d2h3m4s5ms", 93_784_005),
            ("1_000ms", 1_000),
            ("0s", 0),
            ("-1s", -1_000),
            ("90m", 5_400_000),
        ] {
            assert_eq!(Millis::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "5", "s", "5 s", "1.5s", "30sec", "1s1m", "1s1s", "5S", "_s", "1e3s", "--1s", "٣s"] {
            assert!(Millis::parse(text).is_err(), "{text}");
        }
        assert_eq!(Millis::parse(&format!("{}d", "9".repeat(60))), Ok(i128::MAX));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for millis in [0, 1, 999, 1_000, 90_000, 86_400_000, 93_784_005, u64::MAX] {
            assert_eq!(Millis::parse(&Millis(millis).show()), Ok(i128::from(millis)));
        }
    }

    #[test]
    fn the_hint_guesses_the_unit() {
        for (text, expected) in
            [("30", "`30s`"), ("5 minutes", "`5m`"), ("100msec", "`100ms`"), ("1.5s", "whole numbers")]
        {
            assert!(hint(text).contains(expected), "{text}: {}", hint(text));
        }
    }
}
