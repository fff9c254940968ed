//! Expressions (CEL), with the place of what is wrong inside of them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::{At, Reader};
use super::super::yaml::{Node, Span};
use crate::model::Expression;
use crate::model::expression::Kind;

/// For the JSON Schema.
pub(crate) struct Text;

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Expression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "CEL over one event. `data` is the payload, if it is JSON; `event` has the attributes under their JSON names (`event.type`, `event.source`, `event.subject`, `event.key`, `event.attributes.tenant` …). Besides operators there are `has(x.y)`, `size`, `contains`, `startsWith`, `endsWith`, `string`, `int`, `uint`, `double` and `bool`; there are no loops and no regular expressions.",
            "type": ["string", "boolean"],
            "maxLength": 1024,
        })
    }
}

/// An expression that is true or false.
pub(crate) fn condition(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    let condition = read(reader, node, what)?;
    let kind = condition.value.kind();
    if kind.may_be(Kind::Bool) {
        return Some(condition);
    }
    let message = format!("{what} must be true or false, and this gives {}", kind.as_str());
    let help = "compare it with something, as in `data.total > 100`";
    reader.error(codes::EXPRESSION_KIND, condition.span, message, "", help);
    None
}

/// An expression that gives a key.
pub(crate) fn key(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    let key = read(reader, node, what)?;
    let kind = key.value.kind();
    if [Kind::Text, Kind::Number, Kind::Bool].into_iter().any(|wanted| kind.may_be(wanted)) {
        return Some(key);
    }
    let message = format!("{what} must be text, a number or a boolean, and this gives {}", kind.as_str());
    reader.error(codes::EXPRESSION_KIND, key.span, message, "", "name one value, as in `data.orderId`");
    None
}

fn read(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    let text = reader.scalar(node, what, "an expression")?;
    match Expression::parse(text) {
        Ok(value) => Some(At { value, span: node.span.clone() }),
        Err(fault) => {
            match inside(reader, &node.span, text, &fault.at) {
                Some(span) => reader.error(codes::EXPRESSION, span, fault.message, "", fault.help),
                // What came from a variable is not shown.
                None => {
                    let message =
                        format!("{what} is not an expression once it is unquoted and its variables are expanded");
                    let help = "write it on one line, without escapes and variables, to see where";
                    reader.error(codes::EXPRESSION, node.span.clone(), message, "", help);
                }
            }
            None
        }
    }
}

/// A place inside the scalar at `span`; none unless the scalar stands in the file as it reads.
pub(crate) fn inside(reader: &Reader, span: &Span, text: &str, at: &Span) -> Option<Span> {
    let written = reader.source.text.get(span.clone())?;
    let quote = written.len() - written.trim_start_matches(['"', '\'']).len();
    let start = span.start + quote.min(1);
    if reader.source.text.get(start..start + text.len())? != text {
        return None;
    }
    // Where something is missing, the last character shows it.
    let end = (start + at.end).max(start + at.start);
    if at.is_empty() && at.start >= text.trim_end().len() {
        let last = text.char_indices().next_back().map_or(0, |(index, _)| index);
        return Some(start + last..start + text.len().max(1));
    }
    Some(start + at.start..end)
}
