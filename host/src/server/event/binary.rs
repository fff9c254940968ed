//! CloudEvents 1.0 over HTTP, binary mode: the attributes are headers, the payload is the body, untouched.

use bytes::Bytes;
use serde_json::Value;

use super::cloudevents::{check_foreign, check_specversion};
use super::draft::{Draft, FIELDS};
use super::{Defaults, EventError};
use crate::model::Envelope;

/// Reads one event. `headers` are those that begin with `ce-`, in lower case, each with its value as it came.
pub fn binary<'h>(
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    content_type: Option<&str>,
    body: Bytes,
    defaults: &Defaults<'_>,
) -> Result<Envelope, EventError> {
    let mut draft = Draft::default();
    let mut seen: Vec<&str> = Vec::new();
    for (header, value) in headers {
        let Some(name) = header.strip_prefix("ce-") else { continue };
        if seen.contains(&name) {
            return Err(EventError::new(header, "the header is there twice; an attribute has one value"));
        }
        seen.push(name);
        let text = decode(header, value)?;
        match name {
            "specversion" => check_specversion(header, Some(&text))?,
            "datacontenttype" => {
                return Err(EventError::new(header, "in binary mode the payload's type is the Content-Type header"));
            }
            _ => match FIELDS.iter().find(|(_, _, attribute)| *attribute == name) {
                Some((field, ..)) => draft.set(*field, header, &text)?,
                None => {
                    check_foreign(header, name, Some(&text))?;
                    draft.attribute(header, name, Value::String(text))?;
                }
            },
        }
    }
    for name in ["specversion", "id", "source", "type"] {
        if !seen.contains(&name) {
            return Err(EventError::new(format!("ce-{name}"), "the header is missing; CloudEvents requires it"));
        }
    }
    if !body.is_empty() {
        if let Some(content_type) = content_type {
            draft.content_type("content-type", content_type)?;
        }
        draft.data("body", body)?;
    }
    draft.finish("body", defaults)
}

/// Undoes a double-quoted string, then exactly one round of percent-encoding.
fn decode(header: &str, value: &[u8]) -> Result<String, EventError> {
    let wrong = |message: &str| EventError::new(header, message);
    let value = unquote(value).ok_or_else(|| wrong("the quoted value has no end"))?;
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_slice();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(|| wrong("'%' without two hex digits after it"))?;
        let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.ok_or_else(|| wrong("'%' without two hex digits after it; write '%' itself as %25"))?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8 once its percent-encoding is undone"))
}

fn unquote(value: &[u8]) -> Option<Vec<u8>> {
    let Some(inner) = value.strip_prefix(b"\"") else {
        return Some(value.to_vec());
    };
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => plain.push(*bytes.next()?),
            b'"' => return bytes.next().is_none().then_some(plain),
            byte => plain.push(byte),
        }
    }
    None
}
