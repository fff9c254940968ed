//! Does this event type match this pattern.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::event::HOST_SEGMENT;
use super::limit::TYPE_BYTES_MAX;

/// Whether `text` can be an event type: dotted segments of `[A-Za-z0-9_-]`, or `module:resource.action`.
pub fn check_type(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    // A dash alone is somebody's "standard input", not a name.
    let named = |segment: &str| segment.chars().any(|c| c.is_ascii_alphanumeric());
    let segments = text.split(['.', ':']).all(|segment| named(segment) && segment.chars().all(plain));
    if text.len() > TYPE_BYTES_MAX {
        return Err(format!("an event type has at most {TYPE_BYTES_MAX} bytes"));
    }
    if !segments || text.matches(':').count() > 1 {
        return Err(
            "an event type is dotted words of letters, digits, '-' and '_', such as order.created or shop:order.created"
                .into(),
        );
    }
    Ok(())
}

/// Whether the type is one of the host's own.
pub fn is_host_type(event_type: &str) -> bool {
    event_type.split('.').next() == Some(HOST_SEGMENT)
}

/// A pattern over event types, segment by segment: `*` is any one segment, `**` is any number, none included, and
/// stands last. The host's own events (`tidegate.…`) match only a pattern that names `tidegate` itself, so that a
/// consumer of everything is not fed its own alarms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TypePattern(String);

impl TypePattern {
    pub fn new(text: &str) -> Result<Self, String> {
        let segments: Vec<&str> = text.split('.').collect();
        let Some((last, init)) = segments.split_last() else {
            return Err("an event type is missing".into());
        };
        if init.contains(&"**") {
            return Err("'**' stands for the rest of an event type, so it can only be the last segment".into());
        }
        let words: Vec<&str> = segments.iter().copied().filter(|s| *s != "*" && *s != "**").collect();
        if words.iter().any(|word| word.contains('*')) {
            return Err("'*' and '**' stand for whole segments, as in order.* or order.**".into());
        }
        if !words.is_empty() {
            check_type(&words.join("."))?;
        }
        let _ = last;
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern is one event type and no wildcard.
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }

    pub fn matches(&self, event_type: &str) -> bool {
        if is_host_type(event_type) && !is_host_type(&self.0) {
            return false;
        }
        let mut segments = event_type.split('.');
        for wanted in self.0.split('.') {
            match (wanted, segments.next()) {
                ("**", _) => return true,
                (_, None) => return false,
                ("*", Some(_)) => {}
                (wanted, Some(segment)) if wanted == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl TypePattern {
    /// Whether there can be an event type that both match.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Only a pattern that names the host's events matches any of them.
        if is_host_type(&self.0) != is_host_type(&other.0) {
            return false;
        }
        let (mut left, mut right) = (self.0.split('.'), other.0.split('.'));
        loop {
            match (left.next(), right.next()) {
                (Some("**"), _) | (_, Some("**")) | (None, None) => return true,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for TypePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for TypePattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text)
    }
}

impl From<TypePattern> for String {
    fn from(pattern: TypePattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_segment() {
        for (pattern, event_type, expected) in [
            ("order.created", "order.created", true),
            ("order.created", "order.created.late", false),
            ("order.*", "order.created", true),
            ("order.*", "order", false),
            ("order.*", "order.line.added", false),
            ("*.created", "order.created", true),
            ("order.**", "order.line.added", true),
            ("order.**", "order", true),
            ("order.**", "orders.created", false),
            ("**", "a.b.c", true),
            ("**", "tidegate.dead-lettered", false),
            ("*.dead-lettered", "tidegate.dead-lettered", false),
            ("tidegate.**", "tidegate.dead-lettered", true),
            ("tidegate.dead-lettered", "tidegate.dead-lettered", true),
            ("shop:order.*", "shop:order.created", true),
        ] {
            assert_eq!(TypePattern::new(pattern).unwrap().matches(event_type), expected, "{pattern} ~ {event_type}");
        }
    }

    #[test]
    fn patterns_overlap_where_a_type_can_match_both() {
        for (one, other, expected) in [
            ("order.created", "order.created", true),
            ("order.created", "order.paid", false),
            ("order.*", "*.created", true),
            ("order.*", "payment.*", false),
            ("order.*", "order", false),
            ("order.**", "order", true),
            ("order.**", "order.line.added", true),
            ("**", "a.b", true),
            ("**", "tidegate.dead-lettered", false),
            ("tidegate.**", "tidegate.dead-lettered", true),
        ] {
            let (one, other) = (TypePattern::new(one).unwrap(), TypePattern::new(other).unwrap());
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (expected, expected), "{one} {other}");
        }
    }

    #[test]
    fn malformed_patterns_and_types_are_refused() {
        for text in ["", ".", "order.", "or*er.x", "**.created", "a b", "a..b", "a:b:c", "***"] {
            assert!(TypePattern::new(text).is_err(), "{text:?}");
        }
        for text in ["", "-", "order.-", "order.*", "order created", "ordér", &"x".repeat(300)] {
            assert!(check_type(text).is_err(), "{text:?}");
        }
    }
}
