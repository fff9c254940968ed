use super::Context;
use super::error::Error;
use crate::manifest;

/// Print the JSON Schema of the manifest, for editors.
///
/// Save it with `tidegate schema > tidegate.schema.json` and put `# yaml-language-server: $schema=tidegate.schema.json`
/// on the manifest's first line.
#[derive(clap::Args, Debug)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, context: &mut Context) -> Result<(), Error> {
    let schema = serde_json::to_string_pretty(&manifest::schema());
    context.out.line(schema.map_err(|e| Error::bug("cannot write the schema").because(e))?)
}
