//! Of a payload, what an expression looks at, read in one pass. Nothing else is built, and what lies beside may be as deep
//! or odd as JSON can be.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use cel::Value;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::check::Step;
use super::number;
use crate::model::Event;

/// Levels of what an expression looks at.
pub const DEPTH_MAX: usize = 64;
/// From here on, not every integer is a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

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

/// Where the path leads in the payload; or why nowhere, to follow "it".
pub(super) fn leaf(event: &Event, steps: &[Step]) -> Result<Leaf, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes(event)?);
    let found = Walk(steps).deserialize(&mut json).map_err(malformed)?;
    json.end().map_err(malformed)?;
    found.ok_or_else(|| MISSING.to_owned())?
}

pub(super) const MISSING: &str = "is not in the event";

fn bytes(event: &Event) -> Result<&[u8], String> {
    let payload = event.envelope.payload.as_ref().ok_or("is not in the event, which has no data")?;
    if payload.content_type.is_empty() || super::event::is_json(&payload.content_type) {
        return Ok(&payload.data);
    }
    Err("is not in the event, whose data is not JSON".to_owned())
}

fn malformed(error: serde_json::Error) -> String {
    if error.is_data() {
        return format!("cannot be read: {}", error.to_string().split(" at line").next().unwrap_or_default());
    }
    "is not in the event, whose data is not JSON".to_owned()
}

/// Follows a path.
struct Walk<'p>(&'p [Step]);

type Found = Option<Result<Leaf, String>>;

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        if self.0.is_empty() {
            return <&RawValue>::deserialize(deserializer).map(|raw| Some(classify(raw.get())));
        }
        deserializer.deserialize_any(self)
    }
}

fn classify(raw: &str) -> Result<Leaf, String> {
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

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found, A::Error> {
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
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

    fn visit_bool<E>(self, _: bool) -> Result<Found, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Found, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Found, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Found, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Found, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
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

/// Which parts of a payload an expression looks at.
#[derive(Debug, Default)]
pub(super) struct Needed {
    all: bool,
    members: BTreeMap<String, Self>,
}

impl Needed {
    pub(super) fn add(&mut self, steps: &[Step]) {
        match steps.split_first() {
            Some((Step::Member(name), rest)) => self.members.entry(name.clone()).or_default().add(rest),
            _ => self.all = true,
        }
    }
}

/// What was noticed on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// A number that a double may not hold.
    pub inexact: bool,
}

/// The needed parts of a payload; none without a payload.
pub(super) fn needed(event: &Event, needed: &Needed) -> Result<(Option<Value>, Seen), String> {
    let Ok(bytes) = bytes(event) else { return Ok((None, Seen::default())) };
    let inexact = Cell::new(false);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let build = Build { needed: Some(needed), depth: 0, inexact: &inexact };
    let value = build.deserialize(&mut json).map_err(malformed)?;
    json.end().map_err(malformed)?;
    Ok((Some(value), Seen { inexact: inexact.get() }))
}

#[derive(Clone, Copy)]
struct Build<'n> {
    /// None: all of it.
    needed: Option<&'n Needed>,
    depth: usize,
    inexact: &'n Cell<bool>,
}

impl<'n> Build<'n> {
    /// Of a member: none if nobody looks at it.
    fn member(self, name: &str) -> Option<Self> {
        let needed = match self.needed.filter(|needed| !needed.all) {
            Some(needed) => Some(needed.members.get(name)?),
            None => None,
        };
        Some(Self { needed, depth: self.depth + 1, ..self })
    }

    fn item(self) -> Self {
        Self { needed: None, depth: self.depth + 1, ..self }
    }

    fn bounded<E: serde::de::Error>(self) -> Result<(), E> {
        if self.depth < DEPTH_MAX {
            return Ok(());
        }
        Err(E::custom(format_args!("the data has more than {DEPTH_MAX} levels there")))
    }
}

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.bounded()?;
        let mut members: HashMap<String, Value> = HashMap::new();
        while let Some(name) = map.next_key::<String>()? {
            match self.member(&name) {
                Some(build) => drop(members.insert(name, map.next_value_seed(build)?)),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::from(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.bounded()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.item())? {
            list.push(item);
        }
        Ok(Value::from(list))
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::UInt(number), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        if number.abs() >= EXACT_MAX {
            self.inexact.set(true);
        }
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}
