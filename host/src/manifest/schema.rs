//! The manifest's JSON Schema, for editors. It is derived from the authored types, and its descriptions are their
//! doc comments.

use serde_json::{Map, Value};

use super::authored::Manifest;
use super::elements::bounds;

/// JSON Schema 2020-12.
pub fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let mut schema = settings.into_generator().into_root_schema_for::<Manifest>().to_value();
    without_null(&mut schema);
    for (name, key, range) in bounds::table() {
        if let Some(description) = property(&mut schema, name, key).and_then(|property| property.get_mut("description"))
        {
            *description = format!("{} From {range}.", description.as_str().unwrap_or_default()).into();
        }
    }
    schema
}

fn property<'s>(schema: &'s mut Value, name: &str, key: &str) -> Option<&'s mut Map<String, Value>> {
    schema.get_mut("$defs")?.get_mut(name)?.get_mut("properties")?.get_mut(key)?.as_object_mut()
}

/// An absent key is left out, never written as null, so null is taken out of every choice of types.
fn without_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Object(object) => {
            object.values_mut().for_each(without_null);
            object.retain(|key, value| !(key == "default" && value.is_null()));
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    object.insert("type".to_owned(), one);
                }
            }
            collapse(object);
        }
        _ => {}
    }
}

/// A choice of one thing or null is that thing.
fn collapse(object: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = object.get_mut("anyOf") else { return };
    let null = |choice: &Value| choice.get("type").is_some_and(|name| name == "null");
    if !choices.iter().any(null) {
        return;
    }
    choices.retain(|choice| !null(choice));
    if let [Value::Object(one)] = choices.as_slice() {
        let one = one.clone();
        object.remove("anyOf");
        for (key, value) in one {
            object.entry(key).or_insert(value);
        }
    }
}
