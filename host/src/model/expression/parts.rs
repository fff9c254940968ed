//! Of payloads, the parts that an expression looks at, as values of the interpreter. Nothing else is built.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use cel::Value;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::check::Step;
use super::payload::{Whose, bytes};
use crate::model::Payload;

/// Levels of what an expression looks at.
pub const DEPTH_MAX: usize = 64;
/// From here on, not every integer is a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

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

    /// Whether nothing but members is looked at.
    pub(super) fn only_members(&self) -> bool {
        !self.all
    }
}

/// What was noticed on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// A number that a double may not hold.
    pub inexact: bool,
}

/// The needed parts of an event's payload; none without one that says it is JSON.
pub(super) fn data(payload: Option<&Payload>, needed: &Needed, seen: &mut Seen) -> Result<Option<Value>, String> {
    let Ok(bytes) = bytes(payload, Whose::Event) else { return Ok(None) };
    build(bytes, needed, seen).map(Some).map_err(|error| Whose::Event.malformed(&error))
}

/// The needed parts of the output of step `name`; none if it has none that is JSON.
pub(super) fn output(
    payload: Option<&Payload>,
    name: &str,
    needed: &Needed,
    seen: &mut Seen,
) -> Result<Option<Value>, String> {
    let whose = Whose::Step(name);
    let Ok(bytes) = bytes(payload, whose) else { return Ok(None) };
    match build(bytes, needed, seen) {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_data() => Err(whose.malformed(&error)),
        Err(_) => Ok(None),
    }
}

fn build(bytes: &[u8], needed: &Needed, seen: &mut Seen) -> Result<Value, serde_json::Error> {
    let inexact = Cell::new(false);
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Build { needed: Some(needed), depth: 0, inexact: &inexact }.deserialize(&mut json)?;
    json.end()?;
    seen.inexact |= inexact.get();
    Ok(value)
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
