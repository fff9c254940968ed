//! Expressions of the manifest, over one event.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::Event;

/// Bytes of a key that an expression may give.
pub const KEY_BYTES_MAX: usize = 256;

/// A checked expression. Equal if written alike.
#[derive(Clone)]
pub struct Expression {
    source: Arc<str>,
}

impl Expression {
    /// Parses and checks; or says what is wrong, for people.
    pub fn parse(source: &str) -> Result<Self, String> {
        Ok(Self { source: source.into() })
    }

    /// As written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it is true of the event. One that cannot be evaluated is not.
    pub fn holds(&self, event: &Event) -> bool {
        self.value(event) == Some(Value::Bool(true))
    }

    /// The text, number or boolean that it gives, as a key; or why there is none, as a sentence.
    pub fn key(&self, event: &Event) -> Result<String, String> {
        match self.value(event) {
            Some(Value::String(text)) if text.len() <= KEY_BYTES_MAX => Ok(text),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Bool(truth)) => Ok(truth.to_string()),
            _ => Err(format!("`{}` gives no key", self.source)),
        }
    }

    fn value(&self, event: &Event) -> Option<Value> {
        let path = self.source.strip_prefix("data.")?;
        let data: Value = serde_json::from_slice(&event.envelope.payload.as_ref()?.data).ok()?;
        path.split('.').try_fold(data, |value, name| value.get(name).cloned())
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}
