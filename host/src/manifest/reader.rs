//! What the readers of `elements/` share: they walk the tree, take what they know, and put every problem on one list.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::yaml::{Entry, Key, Kind, Node, Span, Value, quoted};
use super::{Source, codes};

/// A checked value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        T::json_schema(generator)
    }
}

/// A number with a unit, as the manifest writes it.
pub(super) trait Quantity: Copy + Ord {
    /// Of a text that is not one.
    const CODE: &'static str;
    /// What it is, with its article.
    const WHAT: &'static str;

    /// In the base unit; Err says what is wrong and how to write it. Numbers beyond an i128 are its ends.
    fn parse(text: &str) -> Result<i128, String>;
    fn new(base: u64) -> Self;
    /// As the manifest would write it.
    fn show(self) -> String;
}

/// What a quantity may be, ends included.
#[derive(Clone, Debug)]
pub(super) struct Bound<Q>(pub RangeInclusive<Q>);

impl<Q: Quantity> Bound<Q> {
    pub(super) fn show(&self) -> String {
        format!("{} to {}", self.0.start().show(), self.0.end().show())
    }
}

/// The source and what is wrong with it so far.
pub(super) struct Reader {
    pub source: Arc<Source>,
    /// Folder of the manifest, absolute: relative paths start here.
    pub base: PathBuf,
    problems: Vec<Diagnostic>,
}

impl Reader {
    pub(super) fn new(source: Arc<Source>, base: PathBuf) -> Self {
        Self { source, base, problems: Vec::new() }
    }

    pub(super) fn push(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    pub(super) fn error(
        &mut self,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        remark: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Diagnostic::error(code, message).at(&self.source, span, remark).help(help));
    }

    pub(super) fn into_problems(self) -> Diagnostics {
        Diagnostics::new(self.problems)
    }

    /// What is written at a place. Messages quote this and not the value, which may come from the environment.
    pub(super) fn written(&self, node: &Node) -> String {
        quoted(self.source.text.get(node.span.clone()).unwrap_or_default().trim())
    }

    fn wrong_type(&mut self, node: &Node, what: &str, expected: &str) {
        let found = match &node.value {
            Value::Map(_) => "a map",
            Value::List(_) => "a list",
            Value::Scalar(scalar) => match scalar.kind {
                Kind::Null => "nothing",
                Kind::Bool(_) => "a boolean",
                Kind::Number => "a number",
                Kind::Text => "a string",
                Kind::Broken => return,
            },
        };
        let message = format!("{what} is {expected}, not {found}");
        let help = if found == "nothing" {
            "give it a value, or leave the key out"
        } else {
            "the reference, docs/manifest.md, shows how it is written"
        };
        self.error(codes::WRONG_TYPE, node.span.clone(), message, format!("expected {expected}"), help);
    }

    /// The text of a scalar that may be a number or a boolean as well as a string.
    pub(super) fn scalar<'n>(&mut self, node: &'n Node, what: &str, expected: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(scalar) if !matches!(scalar.kind, Kind::Null | Kind::Broken) => Some(&scalar.text),
            _ => {
                self.wrong_type(node, what, expected);
                None
            }
        }
    }

    /// A string that is not empty.
    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<At<String>> {
        match &node.value {
            Value::Scalar(scalar) if scalar.kind == Kind::Text && !scalar.text.is_empty() => {
                Some(At { value: scalar.text.clone(), span: node.span.clone() })
            }
            Value::Scalar(scalar) if scalar.kind == Kind::Text => {
                let message = format!("{what} is empty");
                self.error(codes::WRONG_TYPE, node.span.clone(), message, "", "give it a value, or leave the key out");
                None
            }
            _ => {
                self.wrong_type(node, what, "a string");
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, node: &Node, what: &str) -> Option<At<bool>> {
        let value = match &node.value {
            Value::Scalar(scalar) => match (scalar.kind, scalar.text.as_str()) {
                (Kind::Bool(value), _) => Some(value),
                // From a variable.
                (Kind::Text, "true") => Some(true),
                (Kind::Text, "false") => Some(false),
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            self.wrong_type(node, what, "true or false");
        }
        value.map(|value| At { value, span: node.span.clone() })
    }

    pub(super) fn quantity<Q: Quantity>(&mut self, node: &Node, what: &str, bound: &Bound<Q>) -> Option<At<Q>> {
        let text = self.scalar(node, what, Q::WHAT)?;
        let span = node.span.clone();
        let written = self.written(node);
        match Q::parse(text) {
            Ok(base) => {
                let value = u64::try_from(base).ok().map(Q::new).filter(|value| bound.0.contains(value));
                if value.is_none() {
                    let message = format!("{what} must be {}, not {written}", bound.show());
                    let help = format!("choose {} from {}", Q::WHAT, bound.show());
                    self.error(codes::OUT_OF_RANGE, span.clone(), message, "out of range", help);
                }
                value.map(|value| At { value, span })
            }
            Err(reason) => {
                let message = format!("{written} is not {}", Q::WHAT);
                let help = format!("{reason}; {what} may be {}", bound.show());
                self.error(Q::CODE, span, message, format!("expected {}", Q::WHAT), help);
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, node: &Node, what: &str, choices: &[(&str, T)]) -> Option<At<T>> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let text = self.scalar(node, what, &format!("one of {}", names.join(", ")))?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(At { value: *value, span: node.span.clone() });
        }
        let help = suggestion(text, names.iter().copied(), "use one of");
        let message = format!("{} is not a choice for {what}", self.written(node));
        self.error(codes::CHOICE, node.span.clone(), message, "", help);
        None
    }

    /// The items of a list, or a single value as a list of one.
    pub(super) fn one_or_many<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => std::slice::from_ref(node),
        }
    }

    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.wrong_type(node, what, "a list");
                &[]
            }
        }
    }

    /// The entries of a map whose keys are the author's own names; nothing at all is an empty map.
    pub(super) fn named<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(&'n Key, &'n Node)> {
        let entries = match &node.value {
            Value::Map(entries) => entries.as_slice(),
            Value::Scalar(scalar) if scalar.kind == Kind::Null => &[],
            _ => {
                self.wrong_type(node, what, "a map");
                &[]
            }
        };
        self.without_duplicates(entries)
    }

    /// The entries of a map whose keys are ours.
    pub(super) fn fields<'n>(&mut self, node: &'n Node, shape: &Shape) -> Option<Fields<'n>> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            _ => {
                self.wrong_type(node, shape.what, "a map");
                return None;
            }
        };
        let entries = self.without_duplicates(entries);
        for (key, _) in &entries {
            self.check_key(key, shape);
        }
        let entries = entries.into_iter().filter(|(key, _)| shape.keys.contains(&key.text.as_str())).collect();
        Some(Fields { what: shape.what, span: node.span.clone(), entries })
    }

    fn without_duplicates<'n>(&mut self, entries: &'n [Entry]) -> Vec<(&'n Key, &'n Node)> {
        let mut seen: Vec<(&Key, &Node)> = Vec::with_capacity(entries.len());
        let mut places = std::collections::HashMap::with_capacity(entries.len());
        for Entry { key, value } in entries {
            let Some(first) = places.insert(key.text.as_str(), key.span.clone()) else {
                seen.push((key, value));
                continue;
            };
            places.insert(key.text.as_str(), first.clone());
            let message = format!("{} is written twice", quoted(&key.text));
            let problem = Diagnostic::error(codes::DUPLICATE_KEY, message)
                .at(&self.source, key.span.clone(), "again here")
                .at(&self.source, first, "first here")
                .help("keep one of the two");
            self.push(problem);
        }
        seen
    }

    fn check_key(&mut self, key: &Key, shape: &Shape) {
        let text = key.text.as_str();
        if shape.keys.contains(&text) {
            return;
        }
        let shown = quoted(text);
        let span = key.span.clone();
        if shape.later.contains(&text) {
            let message = format!("{shown} is not served by this version of Tidegate");
            let help = "leave it out: this version would not do what it says";
            return self.error(codes::NOT_SERVED, span, message, "planned, and not there yet", help);
        }
        if text == "<<" {
            let help = "repeat the values, or put what is common under `defaults`";
            return self.error(codes::ALIAS, span, "merge keys (`<<`) are not supported", "", help);
        }
        let message = format!("{shown} is not a key of {}", shape.what);
        let help = match super::elements::home_of(text) {
            Some(home) if nearest(text, shape.keys.iter().copied()).is_none() => format!("`{text}` is a key of {home}"),
            _ => suggestion(text, shape.keys.iter().copied(), "its keys are"),
        };
        self.error(codes::UNKNOWN_KEY, span, message, "unknown key", help);
    }

    pub(super) fn missing(&mut self, fields: &Fields<'_>, key: &str, help: impl Into<String>) {
        let message = format!("{} needs the key `{key}`", fields.what);
        self.error(codes::MISSING_KEY, fields.span.clone(), message, format!("`{key}` is missing"), help);
    }

    /// A path, absolute.
    pub(super) fn path(&mut self, node: &Node, what: &str) -> Option<At<PathBuf>> {
        let text = self.text(node, what)?;
        let reason = if text.value.contains('\0') {
            "a path cannot contain a NUL character"
        } else if text.value.contains("://") || text.value.starts_with("file:") {
            "this is a URL; a path is expected"
        } else {
            let value = absolute(&self.base, Path::new(&text.value));
            return Some(At { value, span: text.span });
        };
        let help = "paths are relative to the manifest's folder";
        self.error(codes::PATH, text.span, format!("{what} is not a path"), reason, help);
        None
    }
}

/// `path` as seen from `base`, with `.` and `..` taken out where that needs no look at the file system.
pub(super) fn absolute(base: &Path, path: &Path) -> PathBuf {
    let joined = base.join(path);
    joined.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

/// The keys of one kind of map.
pub(super) struct Shape {
    /// With its article or possessive: "a consumer".
    pub what: &'static str,
    pub keys: &'static [&'static str],
    /// Keys of the whole product that this version does not serve.
    pub later: &'static [&'static str],
}

/// The known entries of a map.
pub(super) struct Fields<'n> {
    pub what: &'static str,
    pub span: Span,
    entries: Vec<(&'n Key, &'n Node)>,
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(known, _)| known.text == key).map(|(_, node)| *node)
    }

    /// Where the key itself stands.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|(known, _)| known.text == key).map(|(known, _)| known.span.clone())
    }
}

/// The known word that somebody probably meant.
pub(super) fn nearest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let wanted = plain(text);
    let limit = (wanted.chars().count() / 3).max(1);
    known
        .map(|word| (strsim::damerau_levenshtein(&wanted, &plain(word)), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `chain_depth`, `chainDepth` and `Chain-Depth` are the same slip.
fn plain(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars().take(100) {
        if c.is_ascii_uppercase() && !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
        out.push(if c == '_' { '-' } else { c.to_ascii_lowercase() });
    }
    out
}

/// "did you mean" where something is near, else the whole list.
pub(super) fn suggestion<'k>(text: &str, known: impl Iterator<Item = &'k str> + Clone, lead: &str) -> String {
    match nearest(text, known.clone()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let list: Vec<String> = known.map(|word| format!("`{word}`")).collect();
            format!("{lead} {}", list.join(", "))
        }
    }
}
