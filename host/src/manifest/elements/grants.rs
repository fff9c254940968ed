//! `grants`: what a consumer may do besides computing.

use std::borrow::Cow;
use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::super::codes;
use super::super::reader::{At, Reader, Shape};
use super::super::yaml::{Kind, Node, Scalar, Span, Value, quoted};
use super::bounds;
use super::http::{self, Origin};
use super::size::Bytes;
use super::step::consumer_name;
use super::subscription::{Pattern, pattern};
use crate::model::event::HOST_SEGMENT;
use crate::model::spec::{OriginSpec, Secret as SecretValue, SecretSpec};
use crate::model::{ConsumerName, TypePattern, limit};

pub(crate) const SHAPE: Shape = Shape {
    what: "`grants`",
    keys: &["publish", "jobs", "queries", "http", "state", "config", "secrets"],
    later: &["streams"],
};

pub(crate) const STATE_SHAPE: Shape = Shape { what: "`state`", keys: &["quota"], later: &[] };

pub(crate) const SECRET_SHAPE: Shape = Shape { what: "a secret", keys: &["value", "reveal"], later: &[] };

const KEY_BYTES_MAX: usize = 128;

/// What a consumer may do besides computing. Nothing, unless it is said here.
#[derive(Clone, Debug, Default, JsonSchema)]
#[schemars(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Grants {
    /// Event types that it may publish; `order.*` and `order.**` are patterns.
    #[schemars(with = "Option<OneOrMany<Pattern>>")]
    pub publish: Vec<At<TypePattern>>,
    /// Consumers that it may give jobs to, by name.
    #[schemars(with = "Option<OneOrMany<String>>")]
    pub jobs: Vec<At<ConsumerName>>,
    /// Types of questions that it may ask; `stock.*` and `stock.**` are patterns.
    #[schemars(with = "Option<OneOrMany<Pattern>>")]
    pub queries: Vec<At<TypePattern>>,
    /// Origins that it may send requests to.
    #[schemars(with = "Option<OneOrMany<Origin>>")]
    pub http: Vec<At<OriginSpec>>,
    /// Key-value state of its own: `true`, or a map with the quota.
    #[schemars(with = "Option<StateOrTrue>")]
    pub state: Option<At<u64>>,
    /// Values that it can ask for by name. Numbers and booleans are passed on as they are written.
    pub config: Option<BTreeMap<String, Text>>,
    /// Secrets that it can use by name without seeing them, in headers of requests and to sign.
    #[schemars(with = "Option<BTreeMap<String, SecretOrString>>")]
    pub secrets: Option<BTreeMap<String, SecretSpec>>,
}

/// One or a list.
pub(crate) struct OneOrMany<T>(std::marker::PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Text(pub String);

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }
}

/// Key-value state of its own.
#[derive(JsonSchema)]
#[schemars(rename = "State", deny_unknown_fields)]
struct StateFields {
    /// What it may keep in all. Default `64MiB`.
    quota: Option<At<Bytes>>,
}

struct StateOrTrue;

impl JsonSchema for StateOrTrue {
    fn schema_name() -> Cow<'static, str> {
        "StateOrTrue".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<StateFields>();
        json_schema!({ "anyOf": [{ "type": "boolean" }, map] })
    }
}

/// A secret that is more than its value.
#[derive(JsonSchema)]
#[schemars(rename = "Secret", deny_unknown_fields)]
struct SecretFields {
    /// The secret itself, best taken from the environment: `${MAIL_API_KEY}`.
    value: String,
    /// Whether the consumer may see the value. Default false.
    reveal: Option<At<bool>>,
}

struct SecretOrString;

impl JsonSchema for SecretOrString {
    fn schema_name() -> Cow<'static, str> {
        "SecretOrString".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<SecretFields>();
        json_schema!({ "anyOf": [{ "type": "string" }, map] })
    }
}

pub(crate) fn read(reader: &mut Reader, node: &Node) -> Option<Grants> {
    let fields = reader.fields(node, &SHAPE)?;
    Some(Grants {
        publish: fields.get("publish").map(|node| publish(reader, node)).unwrap_or_default(),
        jobs: fields.get("jobs").map(|node| jobs(reader, node)).unwrap_or_default(),
        queries: fields.get("queries").map(|node| queries(reader, node)).unwrap_or_default(),
        http: fields.get("http").map(|node| http::read(reader, node)).unwrap_or_default(),
        state: fields.get("state").and_then(|node| state(reader, node)),
        config: fields.get("config").map(|node| config(reader, node)),
        secrets: fields.get("secrets").map(|node| secrets(reader, node)),
    })
}

fn publish(reader: &mut Reader, node: &Node) -> Vec<At<TypePattern>> {
    let mut types: Vec<At<TypePattern>> = Vec::new();
    for item in reader.one_or_many(node) {
        let Some(granted) = pattern(reader, item, "`publish`") else { continue };
        if crate::model::route::is_host_type(granted.value.as_str()) {
            let message = format!("`{HOST_SEGMENT}.…` is for the host's own events");
            reader.error(codes::RESERVED_TYPE, granted.span, message, "", "choose another first word");
        } else if types.iter().all(|other| other.value != granted.value) {
            types.push(granted);
        }
    }
    types
}

fn jobs(reader: &mut Reader, node: &Node) -> Vec<At<ConsumerName>> {
    let mut targets: Vec<At<ConsumerName>> = Vec::new();
    for item in reader.one_or_many(node) {
        let target = consumer_name(reader, item, "an entry of `jobs`");
        targets.extend(target.filter(|target| targets.iter().all(|other| other.value != target.value)));
    }
    targets
}

fn queries(reader: &mut Reader, node: &Node) -> Vec<At<TypePattern>> {
    let mut types: Vec<At<TypePattern>> = Vec::new();
    for item in reader.one_or_many(node) {
        let granted = pattern(reader, item, "`queries`");
        types.extend(granted.filter(|granted| types.iter().all(|other| other.value != granted.value)));
    }
    types
}

fn state(reader: &mut Reader, node: &Node) -> Option<At<u64>> {
    let span = node.span.clone();
    if !matches!(node.value, Value::Map(_)) {
        let granted = reader.boolean(node, "`state`")?;
        return granted.value.then_some(At { value: limit::STATE_QUOTA_BYTES, span });
    }
    let fields = reader.fields(node, &STATE_SHAPE)?;
    let state = StateFields {
        quota: fields.get("quota").and_then(|node| reader.quantity(node, "`quota`", &bounds::STATE_QUOTA)),
    };
    let quota = state.quota.map_or(limit::STATE_QUOTA_BYTES, |quota| quota.value.0);
    Some(At { value: quota, span })
}

fn config(reader: &mut Reader, node: &Node) -> BTreeMap<String, Text> {
    let mut values = BTreeMap::new();
    for (key, node) in reader.named(node, "`config`") {
        if let Some(text) = scalar(reader, node, "a value of `config`")
            && check_key(reader, &key.text, key.span.clone())
        {
            values.insert(key.text.clone(), Text(text));
        }
    }
    values
}

fn secrets(reader: &mut Reader, node: &Node) -> BTreeMap<String, SecretSpec> {
    let mut secrets = BTreeMap::new();
    for (key, node) in reader.named(node, "`secrets`") {
        let secret = secret(reader, node);
        if let Some(secret) = secret
            && check_key(reader, &key.text, key.span.clone())
        {
            secrets.insert(key.text.clone(), secret);
        }
    }
    secrets
}

fn secret(reader: &mut Reader, node: &Node) -> Option<SecretSpec> {
    if !matches!(node.value, Value::Map(_)) {
        let value = scalar(reader, node, "a secret")?;
        return Some(SecretSpec { value: SecretValue::new(value), reveal: false });
    }
    let SecretFields { value, reveal } = secret_fields(reader, node)?;
    Some(SecretSpec { value: SecretValue::new(value), reveal: reveal.is_some_and(|reveal| reveal.value) })
}

fn secret_fields(reader: &mut Reader, node: &Node) -> Option<SecretFields> {
    let fields = reader.fields(node, &SECRET_SHAPE)?;
    let reveal = fields.get("reveal").and_then(|node| reader.boolean(node, "`reveal`"));
    let Some(value) = fields.get("value") else {
        reader.missing(&fields, "value", "write it like `value: ${NAME}`");
        return None;
    };
    Some(SecretFields { value: scalar(reader, value, "`value`")?, reveal })
}

/// A string, which may be empty, or a number or boolean as it is written.
fn scalar(reader: &mut Reader, node: &Node, what: &str) -> Option<String> {
    match &node.value {
        Value::Scalar(Scalar { kind: Kind::Text | Kind::Number | Kind::Bool(_), text }) => Some(text.clone()),
        _ => reader.scalar(node, what, "a string").map(str::to_owned),
    }
}

fn check_key(reader: &mut Reader, key: &str, span: Span) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let valid = !key.is_empty() && key.len() <= KEY_BYTES_MAX && key.chars().all(plain);
    if !valid {
        let message = format!("{} cannot be the name of a value", quoted(key));
        let help = format!("a name has 1 to {KEY_BYTES_MAX} characters of a-z, A-Z, 0-9, '-', '_' and '.'");
        reader.error(codes::NAME, span, message, "", help);
    }
    valid
}
