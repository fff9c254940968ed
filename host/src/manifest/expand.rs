//! `${VAR}` and `${VAR:-default}` inside string values, after parsing: a value from the environment can never become
//! syntax. `$${` stands for `${`.

use super::reader::Reader;
use super::yaml::{Kind, Node, Value, quoted};
use super::{Environment, codes};

/// Bytes of a string after expansion.
const BYTES_MAX: usize = 64 << 10;

enum Problem {
    Unset(String),
    Malformed(String),
}

/// Expands every string value of the tree in place; what cannot be expanded is reported and marked as broken.
pub(super) fn expand(reader: &mut Reader, node: &mut Node, env: &Environment<'_>) {
    match &mut node.value {
        Value::Map(entries) => entries.iter_mut().for_each(|entry| expand(reader, &mut entry.value, env)),
        Value::List(items) => items.iter_mut().for_each(|item| expand(reader, item, env)),
        Value::Scalar(scalar) if scalar.kind == Kind::Text && scalar.text.contains("${") => {
            match expanded(&scalar.text, env) {
                Ok(text) => scalar.text = text,
                Err(problem) => {
                    scalar.kind = Kind::Broken;
                    report(reader, node, problem);
                }
            }
        }
        Value::Scalar(_) => {}
    }
}

fn report(reader: &mut Reader, node: &Node, problem: Problem) {
    let span = node.span.clone();
    match problem {
        Problem::Unset(name) => {
            let message = format!("the environment variable `{name}` is not set");
            let help = format!("set `{name}`, or give a default: `${{{name}:-default}}`");
            reader.error(codes::UNSET_VARIABLE, span, message, "used here", help);
        }
        Problem::Malformed(reason) => {
            let help = "write `${NAME}` or `${NAME:-default}`; for the characters themselves write `$${`";
            reader.error(codes::MALFORMED_VARIABLE, span, reason, "", help);
        }
    }
}

fn expanded(text: &str, env: &Environment<'_>) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        let inner = from.strip_prefix("${").unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = inner;
            continue;
        }
        out.push_str(before);
        let Some((reference, after)) = inner.split_once('}') else {
            return Err(Problem::Malformed("`${` is never closed".to_owned()));
        };
        out.push_str(&value_of(reference, env)?);
        if out.len() > BYTES_MAX {
            return Err(Problem::Malformed(format!("longer than {BYTES_MAX} bytes after expansion")));
        }
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(reference: &str, env: &Environment<'_>) -> Result<String, Problem> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let mut chars = name.chars();
    let valid = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        return Err(Problem::Malformed(format!("{} is not the name of an environment variable", quoted(name))));
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Problem::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".to_owned()),
            "ODD" => Some("a: [b, ${HOST}".to_owned()),
            "NOTHING" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_expand_once_and_as_plain_text() {
        for (text, expected) in [
            ("https://${HOST}/x", "https://example.com/x"),
            ("${HOST}${HOST}", "example.comexample.com"),
            ("${PORT:-7420}", "7420"),
            ("${PORT:-}", ""),
            ("${NOTHING:-x}", "x"),
            ("${NOTHING}", ""),
            ("${ODD}", "a: [b, ${HOST}"),
            ("$${HOST}", "${HOST}"),
            ("$HOST $ {HOST}", "$HOST $ {HOST}"),
            ("${URL:-http://a:1}", "http://a:1"),
        ] {
            assert_eq!(expanded(text, &env).ok().as_deref(), Some(expected), "{text}");
        }
        for text in ["${", "${HOST", "${}", "${A B}", "${1A}", "${HOST-x}", "${PORT}"] {
            assert!(expanded(text, &env).is_err(), "{text}");
        }
    }
}
