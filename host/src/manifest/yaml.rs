//! The one door to the YAML parser: text in, a tree out in which every key and value knows its place.
//!
//! The parser is `serde-saphyr`. `serde_yaml`, the usual choice, has been archived since March 2024, gives no position
//! for a value, and its forks keep the last of two equal keys without a word. This one has spans, YAML 1.2 types and
//! a budget against documents made to exhaust the reader.

use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Error, Location, Options, Spanned};

use super::codes;

/// Bytes of the source text, from and to.
pub(super) type Span = Range<usize>;

/// Collections inside collections.
const DEPTH_MAX: usize = 24;
/// Keys, values and collections in all.
const NODES_MAX: usize = 20_000;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Map(Vec<Entry>),
    List(Vec<Node>),
    Scalar(Scalar),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: Key,
    pub value: Node,
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub span: Span,
    pub text: String,
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub kind: Kind,
    /// The value as text: a string's content, anything else as it was written.
    pub text: String,
}

/// Types of the YAML 1.2 core schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    Number,
    Text,
    /// Something is wrong with it and has been reported: readers pass over it.
    Broken,
}

/// Why a text is not a tree. Only the first reason is known: after it, nothing is certain.
pub(super) struct Refusal {
    pub code: &'static str,
    pub message: String,
    pub help: &'static str,
    pub span: Span,
}

impl Node {
    /// A document that holds anything at all.
    pub(super) fn filled(self) -> Result<Self, Refusal> {
        match self.value {
            Value::Scalar(Scalar { kind: Kind::Null, .. }) => {
                let (code, message, help) = EMPTY;
                Err(Refusal { code, message: message.to_owned(), help, span: 0..0 })
            }
            _ => Ok(self),
        }
    }
}

/// Reads one document. Duplicate and merge keys are left in the tree, for the readers to report with everything else.
pub(super) fn parse(text: &str) -> Result<Node, Refusal> {
    let raw: Raw = serde_saphyr::from_str_with_options(text, options()).map_err(|error| refusal(text, &error))?;
    Ok(raw.place(text))
}

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_depth: DEPTH_MAX,
        flow_nesting_limit: DEPTH_MAX,
        max_nodes: NODES_MAX,
        max_events: 3 * NODES_MAX,
        max_aliases: 0,
        max_anchors: 0,
        max_documents: 1,
        max_merge_keys: 0,
        max_inclusion_depth: 0,
    };
    serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    }
}

fn refusal(text: &str, error: &Error) -> Refusal {
    let error = error.without_snippet();
    let span = error.location().map_or(0..0, |location| place_of(text, &location));
    let (code, message, help) = match error {
        Error::Budget { breach, .. } => budget_refusal(breach),
        Error::MultipleDocuments { .. } => DOCUMENTS,
        Error::UnsupportedTag { tag, .. } => {
            let message = format!("the tag {} is not supported", quoted(tag));
            return Refusal {
                code: codes::TAG,
                message,
                help: "remove it; `${NAME}` takes a value from the environment",
                span,
            };
        }
        Error::UnknownAnchor { .. } => ALIASES,
        Error::Eof { .. } => EMPTY,
        // The scanner's own limit on nesting, which strikes before the budget does.
        other if reason(other).contains("recursion limit") => DEEP,
        other => {
            let message = format!("this is not YAML: {}", reason(other));
            return Refusal { code: codes::SYNTAX, message, help: syntax_help(text, &span), span };
        }
    };
    Refusal { code, message: message.to_owned(), help, span }
}

/// What the parser's words do not say about the usual slips.
fn syntax_help(text: &str, span: &Span) -> &'static str {
    let line_start = text.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let line = text.get(line_start..).unwrap_or_default().lines().next().unwrap_or_default();
    if line.trim_start_matches(' ').starts_with('\t') {
        return "indent with spaces, not with tabs";
    }
    if line.contains(": *") || line.contains("- *") {
        return "a value that begins with `*` needs quotes: `on: \"*.created\"`";
    }
    if line.contains(": @") || line.contains("- @") {
        return "a value that begins with `@` needs quotes; a cron expression has five fields: `cron: \"0 3 * * *\"`";
    }
    "look here and in the line above for indentation, quotes, brackets and the space after `:`"
}

/// Code, message, help.
type Words = (&'static str, &'static str, &'static str);

const ALIASES: Words = (
    codes::ALIAS,
    "anchors and aliases (`&name`, `*name`) are not supported",
    "write the value out; a pattern that begins with `*` needs quotes: `on: \"*.created\"`",
);
const DOCUMENTS: Words = (codes::DOCUMENTS, "a manifest is one document", "remove the `---` and what follows it");
const EMPTY: Words = (codes::EMPTY, "the manifest is empty", "begin with `tidegate: 1`");

const DEEP: Words = (codes::COMPLEX, "nested deeper than 24 levels", LOOK);
const LOOK: &str = "no manifest needs that; look for a generated or damaged part";

fn budget_refusal(breach: &serde_saphyr::budget::BudgetBreach) -> Words {
    use serde_saphyr::budget::BudgetBreach as B;
    let message = match breach {
        B::Aliases { .. } | B::Anchors { .. } | B::AliasAnchorRatio { .. } => return ALIASES,
        B::Documents { .. } => return DOCUMENTS,
        B::Depth { .. } => return DEEP,
        B::Nodes { .. } | B::Events { .. } => "more than 20,000 keys and values",
        _ => "the manifest asks more of its reader than a manifest may",
    };
    (codes::COMPLEX, message, LOOK)
}

/// The parser's own words, without the position that it appends.
fn reason(error: &Error) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    let cut = first.find(" at line ").unwrap_or(first.len());
    first.get(..cut).unwrap_or(first).trim_start_matches("error: ").to_owned()
}

/// A piece of somebody's text, fit for a message: short, in back-ticks. Diagnostics escape what could do harm.
pub(super) fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("`{}…`", text.get(..end).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}

fn span_of(text: &str, location: &Location) -> Span {
    let span = location.span();
    let start = span.byte_offset().and_then(|at| usize::try_from(at).ok()).unwrap_or(0);
    let length = span.byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let start = text.floor_char_boundary(start.min(text.len()));
    let end = text.floor_char_boundary(start.saturating_add(length).min(text.len()));
    start..end.max(start)
}

/// The place of an error. Those of the scanner know line and column only.
fn place_of(text: &str, location: &Location) -> Span {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).saturating_sub(1);
    let mut start = 0;
    for line in text.split_inclusive('\n').take(number(location.line())) {
        start += line.len();
    }
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let column = line.char_indices().nth(number(location.column())).map_or(line.len(), |(at, _)| at);
    let end = line.get(column..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    start + column..start + column + end
}

/// A node as the parser gives it, before it is placed in the text.
struct Raw {
    location: Location,
    value: RawValue,
}

enum RawValue {
    Map(Vec<(Raw, Raw)>),
    List(Vec<Raw>),
    Text(String),
    Number(String),
    Bool(bool),
    Null,
}

impl Raw {
    fn place(self, text: &str) -> Node {
        let span = span_of(text, &self.location);
        let written = text.get(span.clone()).unwrap_or_default().trim();
        let scalar = |kind, text: String| Value::Scalar(Scalar { kind, text });
        let as_written = |other: String| if written.is_empty() { other } else { written.to_owned() };
        let value = match self.value {
            RawValue::Map(entries) => {
                Value::Map(entries.into_iter().map(|(key, value)| entry(text, key, value)).collect())
            }
            RawValue::List(items) => Value::List(items.into_iter().map(|item| item.place(text)).collect()),
            RawValue::Text(value) => scalar(Kind::Text, value),
            RawValue::Number(value) => scalar(Kind::Number, as_written(value)),
            RawValue::Bool(value) => scalar(Kind::Bool(value), as_written(value.to_string())),
            RawValue::Null => scalar(Kind::Null, String::new()),
        };
        let span = match value {
            Value::Scalar(_) => span,
            Value::Map(_) | Value::List(_) => first_line(text, span.start),
        };
        Node { span, value }
    }
}

fn entry(text: &str, key: Raw, value: Raw) -> Entry {
    let key = key.place(text);
    let name = match key.value {
        Value::Scalar(Scalar { kind: Kind::Null, .. }) => "~".to_owned(),
        Value::Scalar(scalar) => scalar.text,
        // A collection as a key: no key of ours, so it is reported as an unknown one.
        Value::Map(_) | Value::List(_) => text.get(key.span.clone()).unwrap_or_default().to_owned(),
    };
    let mut value = value.place(text);
    if value.span.is_empty() {
        // An absent value has no place of its own.
        value.span = key.span.clone();
    }
    Entry { key: Key { span: key.span, text: name }, value }
}

/// What of a collection is pointed at: its first line.
fn first_line(text: &str, start: usize) -> Span {
    let rest = text.get(start..).unwrap_or_default();
    let length = rest.find(['\n', '\r']).unwrap_or(rest.len());
    let line = rest.get(..length).unwrap_or_default();
    start..start + line.trim_end().len()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<RawValue>::deserialize(deserializer)?;
        Ok(Self { location: spanned.referenced, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<RawValue, E> {
        Ok(RawValue::Text(String::from_utf8_lossy(value).into_owned()))
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Map(entries))
    }
}
