//! `docs/manifest.md`: the reference of the manifest, written from its JSON Schema.

use std::fmt::Write as _;

use serde_json::Value;

use super::elements::SHAPES;

const INTRODUCTION: &str = "\
# The manifest

<!-- Made from the doc comments of host/src/manifest; `UPDATE_DOCS=1 cargo test -p tidegate --lib reference` writes it anew. -->

A manifest is one YAML file, `tidegate.yaml`, that says what a host serves. `tidegate check` reads it and reports everything
that is wrong with it at once; `tidegate explain CODE` says more about a code; `tidegate schema` prints the JSON Schema for
editors.

- YAML 1.2: `on`, `yes` and `no` are strings. Unknown keys, duplicate keys, aliases, merge keys and unknown tags are refused.
- `${NAME}` in a value stands for an environment variable, `${NAME:-default}` for it or a default, `$${` for `${`. It is
  expanded after the file is parsed, so a value can never become a key.
- Paths are relative to the manifest's folder.
- At most 1 MiB, 24 levels and 20,000 keys and values.
";

/// The reference, in Markdown.
pub(super) fn reference() -> String {
    let schema = super::schema();
    let mut out = INTRODUCTION.to_owned();
    for (name, shape) in SHAPES {
        let definition = if *name == "Manifest" { Some(&schema) } else { definition(&schema, name) };
        let Some(definition) = definition else { continue };
        section(&mut out, name, definition);
        if !shape.later.is_empty() {
            let list: Vec<String> = shape.later.iter().map(|key| format!("`{key}`")).collect();
            let _ = writeln!(out, "\nNot served by this version, and refused: {}.", list.join(", "));
        }
    }
    for (name, definition) in schema.get("$defs").and_then(Value::as_object).into_iter().flatten() {
        if !SHAPES.iter().any(|(shape, _)| shape == name) {
            section(&mut out, name, definition);
        }
    }
    out
}

fn definition<'s>(schema: &'s Value, name: &str) -> Option<&'s Value> {
    schema.get("$defs")?.get(name)
}

fn section(out: &mut String, name: &str, definition: &Value) {
    let _ = writeln!(out, "\n## {name}");
    if let Some(text) = definition.get("description").and_then(Value::as_str) {
        let _ = writeln!(out, "\n{text}");
    }
    if let Some(choices) = definition.get("oneOf").and_then(Value::as_array) {
        out.push('\n');
        for choice in choices {
            words(out, choice);
        }
    }
    let Some(properties) = definition.get("properties").and_then(Value::as_object) else { return };
    let required = definition.get("required").and_then(Value::as_array);
    out.push_str("\n| key | value | meaning |\n|---|---|---|\n");
    for (key, property) in properties {
        let needed = required.is_some_and(|list| list.iter().any(|name| name == key));
        let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let needed = if needed { " Required." } else { "" };
        let _ = writeln!(out, "| `{key}` | {} | {}{needed} |", kind(property), description.replace('\n', " "));
    }
}

/// One word of a choice, or several without a remark.
fn words(out: &mut String, choice: &Value) {
    let description = choice.get("description").and_then(Value::as_str);
    let single = choice.get("const").into_iter();
    let several = choice.get("enum").and_then(Value::as_array).into_iter().flatten();
    for word in single.chain(several).filter_map(Value::as_str) {
        let _ = match description {
            Some(text) => writeln!(out, "- `{word}`: {text}"),
            None => writeln!(out, "- `{word}`"),
        };
    }
}

fn kind(schema: &Value) -> String {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let name = target.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
        // That a map may be left empty needs no mention.
        let choices = choices.iter().filter(|choice| choice.get("const").is_none_or(|value| !value.is_null()));
        let mut kinds: Vec<String> = choices.map(kind).collect();
        if let [one, list] = kinds.as_slice()
            && *list == format!("list of {one}")
        {
            return format!("{one}, or a list");
        }
        kinds.dedup();
        return kinds.join(" or ");
    }
    match schema.get("type") {
        Some(Value::String(name)) if name == "array" => {
            format!("list of {}", schema.get("items").map(kind).unwrap_or_default())
        }
        Some(Value::String(name)) if name == "object" => {
            format!("map of names to {}", schema.get("additionalProperties").map(kind).unwrap_or_default())
        }
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
        _ => "value".to_owned(),
    }
}
