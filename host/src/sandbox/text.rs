//! Guests' texts on their way out: bounded, and without anything that a terminal or a log reader would obey.

use std::fmt::Write;

use crate::model::limit;

/// `text` with control characters and bidirectional overrides written as escapes, cut to `max` bytes.
pub(super) fn safe(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars() {
        if out.len() >= max {
            break;
        }
        if is_unsafe(c) {
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    limit::cut(&mut out, max);
    out
}

/// A reason as it is kept with an outcome.
pub(super) fn reason(text: &str) -> String {
    safe(text, limit::REASON_BYTES_MAX)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let out = safe("a\u{1b}[31m\r\nb\0\u{202e}c\u{9b}d", 100);
        assert_eq!(out, "a\\u{1b}[31m\\r\\nb\\u{0}\\u{202e}c\\u{9b}d");
        assert!(out.chars().all(|c| !is_unsafe(c)));
    }

    #[test]
    fn what_is_cut_is_cut_between_characters() {
        assert_eq!(safe("ééé", 3), "é");
        assert_eq!(safe("", 3), "");
    }
}
