//! What the user wrote, as values that have each been checked for themselves and know their place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;

use super::codes;
use super::elements::consumer::{self, Consumer, Named};
use super::elements::defaults::{self, Defaults};
use super::elements::event::{self, EventType};
use super::elements::host::{self, HostLimits, Retention};
use super::elements::pipeline::{self, Pipeline};
use super::elements::schedule::{self, Schedule};
use super::elements::server::{self, Server};
use super::reader::{At, Fields, Reader, Shape};
use super::yaml::Node;

pub(super) const SHAPE: Shape = Shape {
    what: "a manifest",
    keys: &[
        "tidegate",
        "server",
        "log",
        "folder",
        "retention",
        "limits",
        "defaults",
        "events",
        "consumers",
        "pipelines",
        "schedules",
    ],
    later: &[],
};

/// A manifest: what a Tidegate host serves.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Manifest {
    #[expect(dead_code, reason = "there is one version only: what is read is checked and not kept")]
    /// Version of the manifest's language.
    #[schemars(with = "Language", required)]
    pub tidegate: (),
    /// Where people and producers reach the host.
    pub server: Option<Server>,
    /// Where events and outcomes are kept: `sqlite:` and the path of a file. Default `sqlite:data/tidegate.db`.
    #[schemars(with = "Option<String>")]
    pub log: Option<At<PathBuf>>,
    /// The drop folder. `<event type>/<name>.wasm` in it is the consumer `<name>` of that type, without another word.
    #[schemars(with = "Option<String>")]
    pub folder: Option<At<PathBuf>>,
    /// How long things are kept.
    pub retention: Option<Retention>,
    /// Bounds of the whole host.
    pub limits: Option<HostLimits>,
    /// What holds for every consumer that does not say otherwise.
    pub defaults: Option<Defaults>,
    /// The catalogue of event types. Optional, but what is declared is checked.
    #[schemars(with = "Option<OrNothing<BTreeMap<String, OrNothing<EventType>>>>")]
    pub events: Vec<(At<String>, EventType)>,
    /// Who handles events, by name: `a-z`, `0-9`, `-` and `_`.
    #[schemars(with = "Option<OrNothing<BTreeMap<String, OrNothing<Consumer>>>>")]
    pub consumers: Vec<Named>,
    /// Steps that an event begins, by name: `a-z`, `0-9`, `-` and `_`. No consumer has the same name.
    #[schemars(with = "Option<OrNothing<BTreeMap<String, Pipeline>>>")]
    pub pipelines: Vec<pipeline::Named>,
    /// Events at times of the clock, by name: `a-z`, `0-9`, `-` and `_`.
    #[schemars(with = "Option<OrNothing<BTreeMap<String, Schedule>>>")]
    pub schedules: Vec<(At<String>, Schedule)>,
}

/// A map that may also be left empty: `order.created:` and nothing after it.
struct OrNothing<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OrNothing<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("OrNothing{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let map = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [map, { "const": null }] })
    }
}

struct Language;

impl JsonSchema for Language {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Language".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "const": 1 })
    }
}

pub(super) fn read(reader: &mut Reader, node: &Node) -> Manifest {
    let Some(fields) = reader.fields(node, &SHAPE) else { return Manifest::default() };
    language(reader, &fields);
    Manifest {
        tidegate: (),
        server: fields.get("server").and_then(|node| server::read(reader, node)),
        log: fields.get("log").and_then(|node| host::log(reader, node)),
        folder: fields.get("folder").and_then(|node| reader.path(node, "`folder`")),
        retention: fields.get("retention").and_then(|node| host::retention(reader, node)),
        limits: fields.get("limits").and_then(|node| host::limits(reader, node)),
        defaults: fields.get("defaults").and_then(|node| defaults::read(reader, node)),
        events: fields.get("events").map(|node| event::read_all(reader, node)).unwrap_or_default(),
        consumers: fields.get("consumers").map(|node| consumer::read_all(reader, node)).unwrap_or_default(),
        pipelines: fields.get("pipelines").map(|node| pipeline::read_all(reader, node)).unwrap_or_default(),
        schedules: fields.get("schedules").map(|node| schedule::read_all(reader, node)).unwrap_or_default(),
    }
}

fn language(reader: &mut Reader, fields: &Fields<'_>) {
    let Some(node) = fields.get("tidegate") else {
        return reader.missing(fields, "tidegate", "begin the manifest with `tidegate: 1`");
    };
    if let Some(text) = reader.scalar(node, "`tidegate`", "the number 1")
        && text != "1"
    {
        let message = format!("this version of Tidegate does not know manifests of version {}", reader.written(node));
        reader.error(codes::LANGUAGE, node.span.clone(), message, "", "write `tidegate: 1`");
    }
}
