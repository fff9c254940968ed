//! Bounds on the text, before the parser sees it: what it does with brackets, it does on the stack.

use std::ops::Range;

use super::Fault;

/// Bytes of an expression.
pub const SOURCE_BYTES_MAX: usize = 1_024;
/// Words, numbers and signs of an expression.
pub const TOKENS_MAX: usize = 256;
/// Brackets opened and questions asked: each may nest in the one before.
const NESTED_MAX: usize = 48;
/// Each sum may copy all of the text before it.
const SUMS_MAX: usize = 16;

/// Counts without telling code from what stands in quotes: a bound that can be talked round is none.
pub(super) fn bound(source: &str) -> Result<(), Fault> {
    let long = |what: &str, max: usize| {
        Err(Fault {
            at: 0..source.len(),
            message: format!("an expression has at most {max} {what}"),
            help: "write it more simply, or let the consumer decide".into(),
        })
    };
    if source.len() > SOURCE_BYTES_MAX {
        return long("bytes", SOURCE_BYTES_MAX);
    }
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = 0;
    let mut before = ' ';
    for c in source.chars() {
        let begins = word(c) && !word(before);
        tokens += usize::from(begins || !(word(c) || c.is_whitespace()));
        before = c;
    }
    if tokens > TOKENS_MAX {
        return long("words, numbers and signs", TOKENS_MAX);
    }
    if source.matches(['(', '[', '{', '?']).count() > NESTED_MAX {
        return long("brackets", NESTED_MAX);
    }
    if source.matches('+').count() > SUMS_MAX {
        return long("sums", SUMS_MAX);
    }
    Ok(())
}

/// What the parser says, in words of ours.
pub(super) fn syntax(source: &str, errors: &cel::ParseErrors) -> Fault {
    let Some(first) = errors.errors.first() else {
        return Fault { at: 0..source.len(), message: "not an expression".into(), help: HELP.into() };
    };
    let at = token(source, offset(source, first.pos));
    let text = source.get(at.clone()).unwrap_or_default();
    let message = match text {
        _ if source.trim().is_empty() => "an expression is missing".to_owned(),
        "" => "the expression ends too early".to_owned(),
        _ => format!("{text:?} cannot stand here"),
    };
    let help = match text {
        "=" => "equality is written `==`",
        "&" | "and" => "both is written `&&`",
        "|" | "or" => "either is written `||`",
        "not" => "not is written `!`",
        "`" => "a member with an odd name is written `data[\"order-id\"]`",
        _ => HELP,
    };
    Fault { at, message, help: help.into() }
}

const HELP: &str = "expressions are CEL, such as `data.total > 100 && event.source == \"/shop\"`";

/// Line and column, both from 1 and in characters, as an offset in bytes.
fn offset(source: &str, (line, column): (isize, isize)) -> usize {
    let before = usize::try_from(line - 1).unwrap_or(0);
    let start: usize = source.split_inclusive('\n').take(before).map(str::len).sum();
    let column = usize::try_from(column - 1).unwrap_or(0);
    let rest = source.get(start..).unwrap_or_default();
    start + rest.chars().take(column).map(char::len_utf8).sum::<usize>()
}

/// The word or sign at an offset.
pub(super) fn token(source: &str, at: usize) -> Range<usize> {
    let start = source.floor_char_boundary(at.min(source.len()));
    let rest = source.get(start..).unwrap_or_default();
    let word = rest.len() - rest.trim_start_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    let sign = rest.chars().next().map_or(0, char::len_utf8);
    start..start + word.max(sign)
}
