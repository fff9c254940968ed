//! A small compiler: text in, a deployment out, or everything that is wrong with it.
//!
//! | stage | what it is | where |
//! |---|---|---|
//! | text | the file as read, with a bound on its size | [`read`] |
//! | tree | keys and values that know their place; variables expanded | `yaml.rs`, `expand.rs` |
//! | authored | each value checked for itself; keys known | `authored.rs`, `elements/` |
//! | checked | values checked together, with what the drop folder holds | `check.rs`, `check_*.rs`, `folder.rs` |
//! | resolved | defaults filled in, paths absolute, steps in one list | `resolve.rs`, `resolve_pipelines.rs` |
//!
//! No stage stops at the first problem: only a text that is no YAML at all hides what else is wrong.

mod authored;
mod check;
mod check_cycles;
mod check_delivery;
mod check_jobs;
mod check_paths;
mod check_pipelines;
mod check_schedules;
pub mod codes;
pub mod component;
mod diagnostic;
mod elements;
mod expand;
mod flat;
mod folder;
mod payload_schema;
mod reader;
// Only a test writes the document, and compares it.
#[cfg(test)]
mod reference;
pub mod regular;
mod resolve;
mod resolve_pipelines;
mod schema;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use codes::{explain, title};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub(crate) use elements::event::compile as compile_schema;
pub use folder::{Found, scan_folder};
pub use schema::schema;

use crate::model::limit::MANIFEST_BYTES_MAX;
use crate::model::{ConsumerName, Deployment, Digest};

/// Looks an environment variable up.
pub type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// All codes that a diagnostic can have.
pub fn codes() -> &'static [&'static str] {
    codes::ALL
}

/// A manifest's file as read.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// As it was named; messages name it so.
    pub path: PathBuf,
    pub text: String,
}

impl std::fmt::Debug for Source {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A manifest that may be served.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub deployment: Deployment,
    /// Of the resolved manifest, secrets included: two deployments with the same digest behave the same. It does not
    /// cover the components' files.
    pub digest: Digest,
    pub warnings: Diagnostics,
    /// For problems that show only when components are loaded.
    pub spans: Spans,
}

/// Where in the manifest each consumer is described, and called.
#[derive(Clone, Debug)]
pub struct Spans {
    pub source: Arc<Source>,
    pub consumers: BTreeMap<ConsumerName, ConsumerSpans>,
    pub demands: Vec<Demand>,
}

/// What a step asks of a consumer's component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    pub pipeline: ConsumerName,
    pub step: String,
    pub consumer: ConsumerName,
    pub role: Role,
    /// Where the step names the consumer.
    pub span: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It exports `handler`.
    Step,
    /// It exports `compensator`.
    Compensation,
}

impl Role {
    /// What the component must export.
    pub fn export(self) -> &'static str {
        match self {
            Self::Step => "handler",
            Self::Compensation => "compensator",
        }
    }
}

/// Places, in bytes of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpans {
    /// The manifest says something of it; others are known from the drop folder alone.
    pub described: bool,
    /// The consumer's name; for a consumer that only the drop folder knows, the value of `folder`.
    pub entry: Range<usize>,
    /// The value of `component`, else the entry.
    pub component: Range<usize>,
    pub sha256: Option<Range<usize>>,
    pub on: Option<Range<usize>>,
    /// The first of `answers`.
    pub answers: Option<Range<usize>>,
    /// The keys.
    pub grants: Option<Range<usize>>,
    pub batch: Option<Range<usize>>,
    /// The value of `from`.
    pub from: Option<Range<usize>>,
}

/// Reads a manifest's file: a regular file, UTF-8, at most 1 MiB.
pub fn read(path: &Path) -> Result<Source, Diagnostics> {
    let failed = |error: std::io::Error| {
        let message = format!("the manifest cannot be read: {error}");
        let help = "name another with `--manifest`, or begin one that says `tidegate: 1`";
        Diagnostic::error(codes::UNREADABLE, message).in_file(path).help(help)
    };
    let Some(file) = regular::open(path).map_err(failed)? else {
        let problem = Diagnostic::error(codes::NOT_A_FILE, "the manifest is not a regular file").in_file(path);
        return Err(problem.help("name the file itself, such as `tidegate.yaml`").into());
    };
    let mut bytes = Vec::new();
    let limit = MANIFEST_BYTES_MAX as u64 + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MANIFEST_BYTES_MAX {
        let message = format!("the manifest is larger than {MANIFEST_BYTES_MAX} bytes");
        let help = "move schemas, examples and data into files of their own";
        return Err(Diagnostic::error(codes::TOO_LARGE, message).in_file(path).help(help).into());
    }
    decode(path, bytes)
}

fn decode(path: &Path, bytes: Vec<u8>) -> Result<Source, Diagnostics> {
    match String::from_utf8(bytes) {
        Ok(text) => {
            let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
            Ok(Source { path: path.to_owned(), text })
        }
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = Arc::new(Source { path: path.to_owned(), text });
            let problem = Diagnostic::error(codes::NOT_UTF8, "the manifest is not UTF-8")
                .at(&source, at..at + 1, "the first byte that is not")
                .help("save the file as UTF-8");
            Err(problem.into())
        }
    }
}

/// A manifest up to the point where the drop folder is needed.
struct Front {
    reader: reader::Reader,
    manifest: authored::Manifest,
}

fn front(source: &Source, env: &Environment<'_>) -> Result<Front, Diagnostics> {
    let source = Arc::new(source.clone());
    let mut tree = yaml::parse(&source.text).and_then(yaml::Node::filled).map_err(|refusal| {
        Diagnostic::error(refusal.code, refusal.message).at(&source, refusal.span, "").help(refusal.help)
    })?;
    let mut reader = reader::Reader::new(Arc::clone(&source), base_of(&source.path));
    expand::expand(&mut reader, &mut tree, env);
    let manifest = authored::read(&mut reader, &tree);
    Ok(Front { reader, manifest })
}

/// The folder in which the manifest lies, absolute.
fn base_of(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn back(front: Front, found: &[Found]) -> Result<Compiled, Diagnostics> {
    let Front { mut reader, manifest } = front;
    let consumers = check::check(&mut reader, &manifest, found);
    let resolved = resolve::resolve(&reader, &manifest, consumers);
    let demands = resolve_pipelines::demands(&manifest);
    let source = Arc::clone(&reader.source);
    let problems = reader.into_problems();
    if problems.has_errors() {
        return Err(problems);
    }
    let (deployment, consumers) = resolved;
    let digest = resolve::digest(&deployment);
    Ok(Compiled { deployment, digest, warnings: problems, spans: Spans { source, consumers, demands } })
}

/// Compiles a manifest, given what its drop folder holds. Reads the JSON Schemas that it names.
pub fn compile(source: &Source, env: &Environment<'_>, found: &[Found]) -> Result<Compiled, Diagnostics> {
    back(front(source, env)?, found)
}

/// The drop folder that a manifest names, absolute; none also if the manifest cannot be read so far.
pub fn folder_of(source: &Source, env: &Environment<'_>) -> Option<PathBuf> {
    front(source, env).ok()?.manifest.folder.map(|folder| folder.value)
}

/// Reads, scans and compiles.
pub fn load(path: &Path, env: &Environment<'_>) -> Result<Compiled, Diagnostics> {
    let source = read(path)?;
    let mut front = front(&source, env)?;
    let mut found = Vec::new();
    if let Some(folder) = front.manifest.folder.clone() {
        match scan_folder(&folder.value) {
            Ok(list) => found = list,
            Err(problems) => {
                for problem in problems {
                    let source = Arc::clone(&front.reader.source);
                    front.reader.push(problem.at(&source, folder.span.clone(), "the drop folder"));
                }
            }
        }
    }
    back(front, &found)
}

/// The log cannot be exchanged under a running host, which goes on with `live`.
pub fn log_moved(manifest: &Path, live: &Path) -> Diagnostic {
    Diagnostic::error(codes::LOG_MOVED, format!("`log` has changed, and the host runs on {}", live.display()))
        .in_file(manifest)
        .help("put it back, or stop the host and start it again")
}

/// The environment of this process.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
