//! Expressions (CEL), with the place of what is wrong inside of them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::{At, Reader};
use super::super::yaml::{Node, Span};
use crate::model::Expression;
use crate::model::expression::{Kind, Path, Root};

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

/// For the JSON Schema: an expression of a pipeline's run.
pub(crate) struct RunText;

impl JsonSchema for RunText {
    fn schema_name() -> Cow<'static, str> {
        "RunExpression".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "CEL as an Expression, over the event that began the run (`event` and `data`) and `steps`: `steps.NAME` is the output of the step NAME, if it has one and that is JSON. Only steps that are over by then can be named; whether one has left something is asked with `has(steps.NAME.member)`.",
            "type": ["string", "boolean"],
            "maxLength": 1024,
        })
    }
}

/// What an expression is asked of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Event,
    Run,
    /// Of the event that a run waits for, and of the run's own.
    Both,
}

/// An expression that is true or false.
pub(crate) fn condition(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    true_or_false(reader, node, what, Over::Event)
}

/// The same of a run.
pub(crate) fn condition_of_run(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    true_or_false(reader, node, what, Over::Run)
}

/// An expression that gives a key.
pub(crate) fn key(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    text_or_number(reader, node, what, Over::Event)
}

/// The same of a run.
pub(crate) fn key_of_run(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    text_or_number(reader, node, what, Over::Run)
}

/// One expression for the event that is waited for and the run's own.
pub(crate) fn key_of_both(reader: &mut Reader, node: &Node, what: &str) -> Option<At<Expression>> {
    text_or_number(reader, node, what, Over::Both)
}

fn true_or_false(reader: &mut Reader, node: &Node, what: &str, over: Over) -> Option<At<Expression>> {
    let condition = read(reader, node, what, over)?;
    let kind = condition.value.kind();
    if kind.may_be(Kind::Bool) {
        return Some(condition);
    }
    let message = format!("{what} must be true or false, and this gives {}", kind.as_str());
    let help = "compare it with something, as in `data.total > 100`";
    reader.error(codes::EXPRESSION_KIND, condition.span, message, "", help);
    None
}

fn text_or_number(reader: &mut Reader, node: &Node, what: &str, over: Over) -> Option<At<Expression>> {
    let key = read(reader, node, what, over)?;
    let kind = key.value.kind();
    if [Kind::Text, Kind::Number, Kind::Bool].into_iter().any(|wanted| kind.may_be(wanted)) {
        return Some(key);
    }
    let message = format!("{what} must be text, a number or a boolean, and this gives {}", kind.as_str());
    reader.error(codes::EXPRESSION_KIND, key.span, message, "", "name one value, as in `data.orderId`");
    None
}

/// Outside of a run there are no outputs.
fn without_steps(reader: &mut Reader, expression: &At<Expression>, path: &Path, what: &str, over: Over) {
    let text = expression.value.source();
    let span = inside(reader, &expression.span, text, &path.at).unwrap_or_else(|| expression.span.clone());
    let help = match over {
        Over::Both => "write one for each: `match: { event: data.paymentId, run: steps.pay.paymentId }`",
        _ => "`when` and `match` of a pipeline's steps know them; here there are `event` and `data`",
    };
    let message = format!("{what} is asked of an event, which has no `steps`");
    reader.error(codes::NO_STEPS, span, message, "known in a run only", help);
}

fn read(reader: &mut Reader, node: &Node, what: &str, over: Over) -> Option<At<Expression>> {
    let text = reader.scalar(node, what, "an expression")?;
    match Expression::parse(text) {
        Ok(value) => {
            let expression = At { value, span: node.span.clone() };
            let path = expression.value.paths().iter().find(|path| path.root == Root::Steps).cloned();
            match path.filter(|_| over != Over::Run) {
                Some(path) => without_steps(reader, &expression, &path, what, over),
                None => return Some(expression),
            }
            None
        }
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
