//! What is wrong with a deployment, said to its author: code, place, reason, help. Drawn like a compiler's messages, or
//! as JSON.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::Source;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The deployment is refused.
    Error,
    /// The deployment is served, but probably not what was meant.
    Warning,
}

/// A place in a source, with a remark.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    span: Range<usize>,
    text: String,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Stable; `explain` prints a page about it.
    pub code: &'static str,
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    file: Option<PathBuf>,
    source: Option<Arc<Source>>,
    /// The first is the place of the problem, the others belong to it.
    labels: Vec<Label>,
}

impl Diagnostic {
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: harmless(&message.into()),
            help: None,
            file: None,
            source: None,
            labels: Vec::new(),
        }
    }

    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// The file as a whole.
    #[must_use]
    pub fn in_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// A place in a source: the first call names the problem's own, later calls places that belong to it.
    #[must_use]
    pub fn at(mut self, source: &Arc<Source>, span: Range<usize>, remark: impl Into<String>) -> Self {
        self.file = Some(source.path.clone());
        self.source = Some(Arc::clone(source));
        self.labels.push(Label { span: clip(&source.text, span), text: harmless(&remark.into()) });
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(harmless(&help.into()));
        self
    }

    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Line and column of the problem, from 1; the column counts characters.
    pub fn position(&self) -> Option<(usize, usize)> {
        let source = self.source.as_ref()?;
        let before = source.text.get(..self.labels.first()?.span.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Some((line, column))
    }

    /// Drawn with the offending lines; `colour` for a terminal that shows it.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(self.message.as_str()).id(self.code));
        let path = self.file.as_ref().map(|file| harmless(&file.to_string_lossy()));
        match (&self.source, path) {
            (Some(source), path) => group = group.element(self.snippet(source, path.as_deref().unwrap_or_default())),
            (None, Some(path)) => group = group.element(Origin::path(path)),
            (None, None) => {}
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        renderer.render(&[group])
    }

    /// Only the lines between the first and the last label are handed over: drawing costs as much as it is given.
    fn snippet<'a>(&'a self, source: &'a Source, path: &str) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let text = source.text.as_str();
        let first = self.labels.iter().map(|label| label.span.start).min().unwrap_or(0);
        let last = self.labels.iter().map(|label| label.span.end).max().unwrap_or(0);
        let before = text.get(..first).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let end = text.get(last..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| last + at);
        let annotations = self.labels.iter().enumerate().map(|(index, label)| {
            let kind = if index == 0 { AnnotationKind::Primary } else { AnnotationKind::Context };
            let remark = (!label.text.is_empty()).then_some(label.text.as_str());
            kind.span(label.span.start - start..label.span.end - start).label(remark)
        });
        Snippet::source(text.get(start..end).unwrap_or_default())
            .line_start(before.matches('\n').count() + 1)
            .path(path.to_owned())
            .annotations(annotations)
    }
}

/// Text that may quote somebody's file, without what a terminal or a log would obey: control characters, and those
/// that turn the direction of what follows.
fn harmless(text: &str) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(odd) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if odd(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A span that lies within the text, on character boundaries, and is not empty if it can be helped.
fn clip(text: &str, span: Range<usize>) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.ceil_char_boundary(span.end.min(text.len()));
    start..end.max(start)
}

impl fmt::Display for Diagnostic {
    /// One line, for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", harmless(&file.to_string_lossy()))?;
        }
        if let Some((line, column)) = self.position() {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}: {}", self.code, self.message)
    }
}

impl Serialize for Diagnostic {
    /// `code`, `severity`, `message`, `file`, `line`, `column`, `help`, of which the last four are null where there is
    /// none; and `rendered`, the whole as it is drawn for a person, with the lines of the source.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = self.position();
        let mut object = serializer.serialize_struct("Diagnostic", 8)?;
        object.serialize_field("code", self.code)?;
        object.serialize_field("severity", &self.severity)?;
        object.serialize_field("message", &self.message)?;
        object.serialize_field("file", &self.file.as_ref().map(|file| file.to_string_lossy()))?;
        object.serialize_field("line", &position.map(|(line, _)| line))?;
        object.serialize_field("column", &position.map(|(_, column)| column))?;
        object.serialize_field("help", &self.help)?;
        object.serialize_field("rendered", &self.render(false))?;
        object.end()
    }
}

/// Problems that are listed; further ones are counted.
const LISTED_MAX: usize = 100;

/// Everything that is wrong, in the order of the source. Never empty where it is an error.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(transparent)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    /// How many more there are.
    #[serde(skip)]
    hidden: usize,
}

impl Diagnostics {
    pub fn new(mut list: Vec<Diagnostic>) -> Self {
        let start = |diagnostic: &Diagnostic| diagnostic.labels.first().map(|label| label.span.start);
        let hidden = list.len().saturating_sub(LISTED_MAX);
        if hidden > 0 {
            // A warning never hides an error.
            list.sort_by_key(|diagnostic| (diagnostic.severity, start(diagnostic)));
            list.truncate(LISTED_MAX);
        }
        list.sort_by_key(start);
        Self { list, hidden }
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub fn extend(&mut self, others: impl IntoIterator<Item = Diagnostic>) {
        self.list.extend(others);
    }

    /// Whether one of them refuses the deployment.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// All of them drawn, an empty line between two.
    pub fn render(&self, colour: bool) -> String {
        let drawn: Vec<String> = self.list.iter().map(|diagnostic| diagnostic.render(colour)).collect();
        let mut text = drawn.join("\n\n");
        if self.hidden > 0 {
            text.push_str(&format!("\n\n… and {} more", self.hidden));
        }
        text
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self { list: vec![one], hidden: 0 }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}
