//! One level of JSON at a time: the members of an object or the elements of an array, each as the text it came as.
//! Nothing below that level is looked at, so depth costs nothing.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::EventError;

/// Text of a scalar attribute, in bytes, escapes included: more is not worth reading.
const SCALAR_TEXT_MAX: usize = 16 << 10;

pub(super) fn text(body: &[u8]) -> Result<&str, EventError> {
    std::str::from_utf8(body).map_err(|error| {
        EventError::new("#", format!("not UTF-8 at byte {}; JSON is always UTF-8", error.valid_up_to()))
    })
}

/// An object's members in order, no name twice.
pub(super) struct Members<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format_args!("the member {name:?} is there twice")));
                    }
                    if members.len() >= MEMBERS_MAX {
                        return Err(A::Error::custom(format_args!("more than {MEMBERS_MAX} members")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// More than an event can have; keeps the search for a name that comes twice short.
const MEMBERS_MAX: usize = 256;

/// A name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

pub(super) fn members<'a>(pointer: &str, text: &'a str) -> Result<Members<'a>, EventError> {
    serde_json::from_str(text).map_err(|error| EventError::new(pointer, format!("expected a JSON object: {error}")))
}

pub(super) fn elements(text: &str) -> Result<Vec<&RawValue>, EventError> {
    serde_json::from_str(text).map_err(|error| EventError::new("#", format!("expected a JSON array: {error}")))
}

/// A value that is null, a boolean, a number or a string; anything else is refused.
pub(super) fn scalar(pointer: &str, raw: &RawValue) -> Result<Value, EventError> {
    if raw.get().len() > SCALAR_TEXT_MAX {
        return Err(EventError::too_large(pointer, format!("longer than {SCALAR_TEXT_MAX} bytes")));
    }
    match serde_json::from_str(raw.get()) {
        Ok(Value::Array(_) | Value::Object(_)) => {
            Err(EventError::new(pointer, "expected a string, a number, true or false; objects and arrays go into data"))
        }
        Ok(value) => Ok(value),
        Err(error) => Err(EventError::new(pointer, format!("not a value: {error}"))),
    }
}

/// The text of a JSON string of any length.
pub(super) fn string(pointer: &str, raw: &RawValue) -> Result<String, EventError> {
    serde_json::from_str(raw.get()).map_err(|error| EventError::new(pointer, format!("expected a string: {error}")))
}

/// Of a name, so much is shown.
const STEP_BYTES_MAX: usize = 64;

/// `name` as a step of a JSON pointer in a URI fragment.
pub(super) fn step(name: &str) -> String {
    if name.len() <= STEP_BYTES_MAX && !name.bytes().any(|b| matches!(b, b'~' | b'/')) {
        return ["#/", name].concat();
    }
    let mut name = name.replace('~', "~0").replace('/', "~1");
    crate::model::limit::cut(&mut name, STEP_BYTES_MAX);
    format!("#/{name}")
}
