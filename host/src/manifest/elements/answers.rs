//! `answers`: the questions to which a consumer replies.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::diagnostic::Diagnostic;
use super::super::reader::{At, Reader};
use super::super::yaml::Node;
use crate::model::event::HOST_SEGMENT;
use crate::model::route;

pub(crate) struct QuestionType;

impl JsonSchema for QuestionType {
    fn schema_name() -> Cow<'static, str> {
        "QuestionType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The type of a question, such as `stock.check`; no pattern.",
            "type": "string",
            "minLength": 1,
            "maxLength": 256,
        })
    }
}

pub(crate) fn read(reader: &mut Reader, node: &Node) -> Vec<At<String>> {
    let mut types: Vec<At<String>> = Vec::new();
    for item in reader.one_or_many(node) {
        let Some(text) = reader.text(item, "`answers`") else { continue };
        if let Err(reason) = route::check_type(&text.value) {
            let message = format!("{} is not the type of a question", reader.written(item));
            reader.error(codes::EVENT_TYPE, text.span, message, "", reason);
        } else if route::is_host_type(&text.value) {
            let message = format!("`{HOST_SEGMENT}.…` is for the host's own events");
            reader.error(codes::RESERVED_TYPE, text.span, message, "", "choose another first word");
        } else if let Some(first) = types.iter().find(|other| other.value == text.value) {
            let problem = Diagnostic::error(codes::REPEATED, format!("`{}` is answered twice", text.value))
                .at(&reader.source, text.span, "again here")
                .at(&reader.source, first.span.clone(), "first here")
                .help("keep one of the two");
            reader.push(problem);
        } else {
            types.push(text);
        }
    }
    types
}
