//! Whole numbers, with `_` between digits if that reads better: `1_000_000_000`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::Quantity;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Count(pub u64);

impl Count {
    pub(crate) fn small(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

/// Digits and, between them, `_`. More than fit are as many as fit.
pub(super) fn digits(text: &str) -> Option<i128> {
    let plain = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    if text.is_empty() || !plain || !text.chars().all(|c| c.is_ascii_digit() || c == '_') {
        return None;
    }
    let digits = text.chars().filter_map(|c| c.to_digit(10));
    Some(digits.fold(0, |sum: i128, digit| sum.saturating_mul(10).saturating_add(i128::from(digit))))
}

impl Quantity for Count {
    const CODE: &'static str = codes::COUNT;
    const WHAT: &'static str = "a whole number";

    fn parse(text: &str) -> Result<i128, String> {
        let (sign, number) = match text.strip_prefix('-') {
            Some(number) => (-1, number),
            None => (1, text),
        };
        let octal = number.len() > 1 && number.starts_with('0');
        match digits(number) {
            Some(number) if !octal => Ok(sign * number),
            _ if octal => Err("write it without the leading zero".to_owned()),
            _ => Err("write it in digits, with `_` between them if you like: 1_000_000".to_owned()),
        }
    }

    fn new(base: u64) -> Self {
        Self(base)
    }

    fn show(self) -> String {
        let digits = self.0.to_string();
        let mut out = String::new();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                out.push('_');
            }
            out.push(digit);
        }
        out
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A whole number; digits may be grouped with `_`: `1_000_000`.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": r"^[0-9]+(_[0-9]+)*$|\$\{" },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_digits() {
        for (text, expected) in [("0", 0), ("1_000", 1_000), ("-1", -1), ("16", 16)] {
            assert_eq!(Count::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "_1", "1_", "1__0", "010", "1.0", "1e3", "0x10", "ten", "+1", "--1"] {
            assert!(Count::parse(text).is_err(), "{text}");
        }
        assert_eq!(Count::parse(&"9".repeat(60)), Ok(i128::MAX));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for count in [0, 999, 1_000, 1_000_000_000, u64::MAX] {
            assert_eq!(Count::parse(&Count(count).show()), Ok(i128::from(count)));
        }
        assert_eq!(Count(1_000_000).show(), "1_000_000");
    }
}
