//! Where a path leads in a payload, read in one pass and exactly. What lies beside may be as deep or odd as JSON can be.

use std::fmt;

use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::check::Step;
use super::number;
use crate::model::{Payload, event};

/// What a path leads to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Leaf {
    Text(String),
    /// In its canonical form.
    Number(String),
    Bool(bool),
    Null,
    List,
    Map,
}

impl Leaf {
    /// With its article.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Null => "null",
            Self::List => "a list",
            Self::Map => "an object",
        }
    }
}

/// Whose payload it is, in reasons.
#[derive(Clone, Copy)]
pub(super) enum Whose<'a> {
    Event,
    Step(&'a str),
}

impl Whose<'_> {
    fn missing(self) -> String {
        match self {
            Self::Event => MISSING.to_owned(),
            Self::Step(name) => format!("is not in the output of step `{name}`"),
        }
    }

    fn none(self) -> String {
        match self {
            Self::Event => format!("{MISSING}, which has no data"),
            Self::Step(name) => format!("needs an output of step `{name}`, which has none"),
        }
    }

    fn not_json(self) -> String {
        match self {
            Self::Event => format!("{MISSING}, whose data is not JSON"),
            Self::Step(name) => format!("needs the output of step `{name}`, which is not JSON"),
        }
    }

    pub(super) fn malformed(self, error: &serde_json::Error) -> String {
        if error.is_data() {
            return format!("cannot be read: {}", error.to_string().split(" at line").next().unwrap_or_default());
        }
        self.not_json()
    }
}

pub(super) const MISSING: &str = "is not in the event";

/// Where the path leads in the payload; or why nowhere, to follow "it".
pub(super) fn leaf(payload: Option<&Payload>, whose: Whose<'_>, steps: &[Step]) -> Result<Leaf, String> {
    let malformed = |error| whose.malformed(&error);
    let mut json = serde_json::Deserializer::from_slice(bytes(payload, whose)?);
    let found = Walk(steps).deserialize(&mut json).map_err(malformed)?;
    json.end().map_err(malformed)?;
    let raw = found.ok_or_else(|| whose.missing())?.get();
    Ok(match raw.as_bytes().first() {
        Some(b'"') => Leaf::Text(serde_json::from_str(raw).map_err(malformed)?),
        Some(b'{') => Leaf::Map,
        Some(b'[') => Leaf::List,
        Some(b'n') => Leaf::Null,
        Some(b't') => Leaf::Bool(true),
        Some(b'f') => Leaf::Bool(false),
        _ => Leaf::Number(number::canonical(raw).ok_or("is a number that cannot be written out")?),
    })
}

/// If it is JSON by its media type; or why there is none, to follow "it".
pub(super) fn bytes<'p>(payload: Option<&'p Payload>, whose: Whose<'_>) -> Result<&'p [u8], String> {
    let payload = payload.ok_or_else(|| whose.none())?;
    if payload.content_type.is_empty() || event::is_json(&payload.content_type) {
        return Ok(&payload.data);
    }
    Err(whose.not_json())
}

/// Follows a path.
struct Walk<'p>(&'p [Step]);

type Found<'de> = Option<&'de RawValue>;

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return <&RawValue>::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let (wanted, rest) = match self.0.split_first() {
            Some((Step::Member(name), rest)) => (Some(name.as_str()), rest),
            _ => (None, &[] as &[Step]),
        };
        while let Some(here) = map.next_key_seed(IsNamed(wanted))? {
            if here {
                // Of two members of one name the last counts, as everywhere.
                found = map.next_value_seed(Walk(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        if let Some((Step::Item(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                if items.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = items.next_element_seed(Walk(rest))?.flatten();
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Compares a member's name without keeping it.
struct IsNamed<'p>(Option<&'p str>);

impl<'de> DeserializeSeed<'de> for IsNamed<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsNamed<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}
