//! `events`: the catalogue of event types.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::regular;
use super::super::yaml::{Key, Kind, Node, Scalar, Value, quoted};
use crate::model::event::HOST_SEGMENT;
use crate::model::route;
use crate::model::spec::SchemaSpec;

pub(crate) const SHAPE: Shape = Shape {
    what: "an event type",
    keys: &["version", "schema", "owner", "description", "examples"],
    later: &["upcasters"],
};

/// What `version` is if the manifest does not say.
pub(crate) const VERSION: &str = "1.0.0";

const SCHEMA_BYTES_MAX: u64 = 1 << 20;

/// An event type of the catalogue. What is declared is checked.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct EventType {
    /// Version of the payload's schema, in three parts: what an event gets that does not say. Default `1.0.0`.
    pub version: Option<At<String>>,
    /// File of a JSON Schema (2020-12) that payloads must satisfy.
    #[schemars(with = "Option<String>")]
    pub schema: Option<SchemaSpec>,
    /// Who answers for it.
    pub owner: Option<At<String>>,
    /// What has happened when this event appears.
    pub description: Option<At<String>>,
    /// Files of example payloads.
    #[schemars(with = "Option<Vec<String>>")]
    pub examples: Vec<At<PathBuf>>,
}

pub(crate) fn read_all(reader: &mut Reader, node: &Node) -> Vec<(At<String>, EventType)> {
    let mut events = Vec::new();
    for (key, node) in reader.named(node, "`events`") {
        let known = name(reader, key);
        let event = match &node.value {
            // Declared, and nothing more to say.
            Value::Scalar(Scalar { kind: Kind::Null, .. }) => Some(EventType::default()),
            _ => read(reader, node),
        };
        if let (Some(name), Some(event)) = (known, event) {
            events.push((name, event));
        }
    }
    events
}

fn name(reader: &mut Reader, key: &Key) -> Option<At<String>> {
    let span = key.span.clone();
    if let Err(reason) = route::check_type(&key.text) {
        let message = format!("{} is not an event type", quoted(&key.text));
        reader.error(codes::EVENT_TYPE, span, message, "", reason);
        return None;
    }
    if route::is_host_type(&key.text) {
        let message = format!("`{HOST_SEGMENT}.…` is for the host's own events");
        reader.error(codes::RESERVED_TYPE, span, message, "", "they need no declaration; leave it out");
        return None;
    }
    Some(At { value: key.text.clone(), span })
}

fn read(reader: &mut Reader, node: &Node) -> Option<EventType> {
    let fields = reader.fields(node, &SHAPE)?;
    Some(EventType {
        version: fields.get("version").and_then(|node| version(reader, node)),
        schema: fields.get("schema").and_then(|node| schema(reader, node)),
        owner: fields.get("owner").and_then(|node| reader.text(node, "`owner`")),
        description: fields.get("description").and_then(|node| reader.text(node, "`description`")),
        examples: fields.get("examples").map(|node| examples(reader, node)).unwrap_or_default(),
    })
}

fn version(reader: &mut Reader, node: &Node) -> Option<At<String>> {
    let text = reader.scalar(node, "`version`", "a version")?;
    match semver::Version::parse(text) {
        Ok(_) => Some(At { value: text.to_owned(), span: node.span.clone() }),
        Err(error) => {
            let message = format!("{} is not a version", reader.written(node));
            let help = "write three numbers, such as 1.2.0 (semantic versioning)";
            reader.error(codes::VERSION, node.span.clone(), message, error.to_string(), help);
            None
        }
    }
}

fn examples(reader: &mut Reader, node: &Node) -> Vec<At<PathBuf>> {
    let mut paths = Vec::new();
    for item in reader.list(node, "`examples`") {
        let Some(path) = reader.path(item, "an example") else { continue };
        if path.value.is_file() {
            paths.push(path);
        } else {
            let message = format!("the example {} is not there", reader.written(item));
            let help = format!("it was looked for at {}", path.value.display());
            reader.error(codes::EXAMPLE, path.span, message, "no such file", help);
        }
    }
    paths
}

fn schema(reader: &mut Reader, node: &Node) -> Option<SchemaSpec> {
    let path = reader.path(node, "`schema`")?;
    match load(&path.value) {
        Ok(document) => Some(SchemaSpec { path: path.value, document }),
        Err((reason, help)) => {
            let message = format!("the schema {} cannot be used: {reason}", reader.written(node));
            reader.error(codes::SCHEMA, path.span, message, "", help);
            None
        }
    }
}

/// Why a schema cannot be used, and what to do about it.
type Unusable = (String, String);

fn load(path: &Path) -> Result<serde_json::Value, Unusable> {
    let place = path.display();
    let looked = |error: std::io::Error| (error.to_string(), format!("it was looked for at {place}"));
    let Some(file) = regular::open(path).map_err(looked)? else {
        return Err(("not a file".to_owned(), format!("name a file; {place} is none")));
    };
    let mut bytes = Vec::new();
    file.take(SCHEMA_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(looked)?;
    if bytes.len() as u64 > SCHEMA_BYTES_MAX {
        return Err(("too large".to_owned(), format!("a schema has at most {SCHEMA_BYTES_MAX} bytes")));
    }
    let document: serde_json::Value = serde_json::from_slice(&bytes)
        .map_err(|error| (format!("not JSON: {}", quoted(&error.to_string())), format!("correct {place}")))?;
    let wrong = |error: jsonschema::ValidationError<'_>| {
        let at = error.instance_path().to_string();
        let at = if at.is_empty() { "at its top".to_owned() } else { format!("at {}", quoted(&at)) };
        let error = error.to_string();
        let hint = if error.ends_with("is not a \"regex\"") {
            "; a pattern has no look-around and no back-references"
        } else {
            ""
        };
        (format!("not a JSON Schema (2020-12), {at}: {}", quoted(&error)), format!("correct {place}{hint}"))
    };
    jsonschema::draft202012::meta::validate(&document).map_err(wrong)?;
    // Also finds references that lead nowhere.
    compile(&document).map_err(wrong)?;
    Ok(document)
}

/// A schema ready to check payloads: without a resolver (nothing is fetched) and with a regular expression engine whose
/// time is linear. What is refused here could not be served either.
pub(crate) fn compile(
    document: &serde_json::Value,
) -> Result<jsonschema::Validator, jsonschema::ValidationError<'static>> {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(document)
}
