//! Which event types a grant covers, and which addresses a stub answers.

/// Whether `text` can be an event type.
pub(crate) fn check_type(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let dotted = text.split(['.', ':']).all(|segment| !segment.is_empty() && segment.chars().all(plain));
    if dotted { Ok(()) } else { Err(format!("{text:?} is no event type: dotted words, such as order.created")) }
}

/// Whether the type is one of the host's own, which no consumer may publish.
pub(crate) fn is_host_type(event_type: &str) -> bool {
    event_type.split('.').next() == Some("tidegate")
}

/// `*` is any one segment, `**` the rest.
pub(crate) fn matches(pattern: &str, event_type: &str) -> bool {
    let mut segments = event_type.split('.');
    for wanted in pattern.split('.') {
        match (wanted, segments.next()) {
            ("**", _) => return true,
            (_, None) => return false,
            (wanted, Some(segment)) if wanted != "*" && wanted != segment => return false,
            _ => {}
        }
    }
    segments.next().is_none()
}

/// The same address, or one that begins as the stub's does before its `*`.
pub(crate) fn address(stub: &str, url: &str) -> bool {
    match stub.strip_suffix('*') {
        Some(beginning) => url.starts_with(beginning),
        None => stub == url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_match_by_segment() {
        for (pattern, event_type, expected) in [
            ("order.confirmed", "order.confirmed", true),
            ("order.confirmed", "order.confirmed.late", false),
            ("order.*", "order.confirmed", true),
            ("order.*", "order", false),
            ("order.**", "order.line.added", true),
            ("order.**", "invoice.sent", false),
        ] {
            assert_eq!(matches(pattern, event_type), expected, "{pattern} ~ {event_type}");
        }
    }

    #[test]
    fn malformed_types_are_refused() {
        assert!(check_type("order.created").is_ok() && check_type("shop:order.created").is_ok());
        for text in ["", "order.", "order created", "ordér"] {
            assert!(check_type(text).is_err(), "{text:?}");
        }
    }
}
