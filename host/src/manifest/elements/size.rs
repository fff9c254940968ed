//! Sizes: `64KiB`, `1MiB`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::Quantity;

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub u64);

impl Quantity for Bytes {
    const CODE: &'static str = codes::SIZE;
    const WHAT: &'static str = "a size";

    fn parse(text: &str) -> Result<i128, String> {
        let (sign, rest) = match text.trim().strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.trim()),
        };
        let found = UNITS.iter().find_map(|(name, shift)| Some((rest.strip_suffix(name)?, *shift)));
        let (number, shift) = found.ok_or_else(|| hint(text))?;
        let number = super::count::digits(number).ok_or_else(|| hint(text))?;
        Ok(sign * number.saturating_mul(1 << shift))
    }

    fn new(base: u64) -> Self {
        Self(base)
    }

    fn show(self) -> String {
        let fits = |shift: u32| self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift);
        let unit = UNITS.iter().find(|(_, shift)| fits(*shift));
        unit.map_or_else(|| "0B".to_owned(), |(name, shift)| format!("{}{name}", self.0 >> shift))
    }
}

fn hint(text: &str) -> String {
    let digits: String = text.trim().chars().take_while(char::is_ascii_digit).collect();
    let unit: String = text.trim().chars().skip(digits.len()).filter(|c| !c.is_whitespace()).collect();
    let meant = match unit.to_ascii_lowercase().as_str() {
        "k" | "kb" | "ki" | "kib" => "KiB",
        "m" | "mb" | "mi" | "mib" => "MiB",
        "g" | "gb" | "gi" | "gib" => "GiB",
        "t" | "tb" | "ti" | "tib" => "TiB",
        "b" | "byte" | "bytes" => "B",
        _ => "",
    };
    if digits.is_empty() || digits.len() > 18 || meant.is_empty() {
        return "sizes are written like 512B, 64KiB, 1MiB or 2GiB, in whole numbers".to_owned();
    }
    format!("sizes count in steps of 1024 and are written without a space, here perhaps `{digits}{meant}`")
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes with its unit, in steps of 1024: `512B`, `64KiB`, `1MiB`, `2GiB`.",
            "type": "string",
            "pattern": r"^[0-9_]+(B|KiB|MiB|GiB|TiB)$|\$\{",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        for (text, expected) in
            [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("1_024MiB", 1 << 30), ("2TiB", 2 << 40), ("-1KiB", -1_024)]
        {
            assert_eq!(Bytes::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "64", "64KB", "64K", "KiB", "64 KiB", "1.5MiB", "64kib", "--1B"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
        assert!(hint("64MB").contains("`64MiB`"));
        assert_eq!(Bytes::parse(&format!("{}TiB", "9".repeat(60))), Ok(i128::MAX));
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1_023, 1_024, 1 << 20, (1 << 20) + 1, 3 << 30, u64::MAX] {
            assert_eq!(Bytes::parse(&Bytes(bytes).show()), Ok(i128::from(bytes)));
        }
    }
}
