//! From a compiled manifest to consumers that can be called. All of them, or diagnostics about every one that failed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalogue::Catalogue;
use super::coordinator::{self, Beginnings, OpenRuns};
use super::file::{self, ReadError};
use super::{Consumer, Snapshot, snippet};
use crate::clock::Clock;
use crate::manifest::component::{Subject, begins_later};
use crate::manifest::{Compiled, Demand, Diagnostic, Diagnostics, Role};
use crate::model::pipeline::Definition;
use crate::model::spec::StartFrom;
use crate::model::{ConsumerName, ConsumerSpec, Deployment, Digest, Outcome, Timestamp, limit};
use crate::sandbox::{self, Kind, LoadError, Sandbox, Ungranted};

/// What loading takes besides the manifest.
pub struct Loader {
    sandbox: Arc<Sandbox>,
    state: Arc<dyn sandbox::StateRead>,
    asker: Arc<dyn sandbox::Ask>,
    runs: Arc<dyn OpenRuns>,
    beginnings: Beginnings,
    clock: Arc<dyn Clock>,
}

/// A deployment with everything in it loaded, not yet live.
pub struct Loaded {
    pub deployment: Arc<Deployment>,
    pub consumers: BTreeMap<ConsumerName, Consumer>,
    pub catalogue: Arc<Catalogue>,
    /// Of the resolved manifest and every component: what makes one generation differ from another.
    pub digest: Digest,
    pub warnings: Diagnostics,
    /// A file was being written while it was read, or the machine had trouble: it is worth trying again soon.
    pub unstable: bool,
}

/// Why nothing was loaded.
pub struct Refused {
    pub diagnostics: Diagnostics,
    pub unstable: bool,
}

impl Loader {
    pub fn new(
        sandbox: Arc<Sandbox>,
        state: Arc<dyn sandbox::StateRead>,
        asker: Arc<dyn sandbox::Ask>,
        runs: Arc<dyn OpenRuns>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { sandbox, state, asker, runs, beginnings: Beginnings::default(), clock }
    }

    /// Loads everything. A consumer that has not changed since `previous` is taken over as it is.
    pub async fn load(&self, compiled: Compiled, previous: Option<&Snapshot>) -> Result<Loaded, Refused> {
        let deployment = Arc::new(compiled.deployment.clone());
        let catalogue = Arc::new(Catalogue::new(&deployment));
        let earlier = self.earlier();
        let previous = previous.filter(|snapshot| snapshot.deployment.events == deployment.events);
        let (mut consumers, mut problems, mut unstable) = (BTreeMap::new(), Vec::new(), false);
        let total = deployment.consumers.len();
        for (n, (name, spec)) in deployment.consumers.iter().enumerate() {
            tracing::debug!(consumer = %name, "loading {} of {total}", n + 1);
            let known = previous.and_then(|snapshot| snapshot.consumers.get(name));
            match self.consumer(spec, &catalogue, known).await {
                Ok(consumer) => drop(consumers.insert(name.clone(), consumer)),
                Err(problem) => {
                    unstable |= problem.is_passing();
                    problems.extend(problem.diagnostics(&compiled, name, spec));
                }
            }
        }
        problems.extend(unmet(&compiled, &consumers));
        let later = later(&compiled, self.clock.now());
        let mut warnings = compiled.warnings;
        warnings.extend(later);
        if !problems.is_empty() {
            let mut diagnostics = warnings;
            diagnostics.extend(problems);
            return Err(Refused { diagnostics, unstable });
        }
        let digest = whole(compiled.digest, &consumers);
        consumers.extend(coordinator::consumers(&deployment, &earlier, &self.beginnings, &self.clock));
        Ok(Loaded { deployment, consumers, catalogue, digest, warnings, unstable })
    }

    /// Definitions that runs may go by which are not to be seen in the manifest: of those that are open, of those that begin while
    /// the next generation is on its way, and of those whose beginning is.
    fn earlier(&self) -> Vec<Definition> {
        // In this order: what somebody no longer holds when it is asked, the log has when it is asked after that.
        let beginning = self.beginnings.definitions();
        beginning.into_iter().chain(self.runs.definitions()).collect()
    }

    async fn consumer(
        &self,
        spec: &ConsumerSpec,
        catalogue: &Arc<Catalogue>,
        known: Option<&Consumer>,
    ) -> Result<Consumer, Problem> {
        let file = file::read(&spec.component)?;
        if spec.digest.is_some_and(|expected| expected != file.digest) {
            return Err(Problem::Pin { found: file.digest });
        }
        if let Some(known) = known.filter(|known| known.digest == file.digest && *known.spec == *spec) {
            return Ok(known.clone());
        }
        let (versions, checks) = (catalogue.clone(), catalogue.clone());
        let dependencies = sandbox::Dependencies {
            version: Arc::new(move |event_type| versions.version(event_type).map(ToOwned::to_owned)),
            check: Arc::new(move |event_type, payload| {
                aside(|| checks.check(event_type, payload)).map_err(|e| e.to_string())
            }),
            state: self.state.clone(),
            asker: self.asker.clone(),
        };
        let handler = self.sandbox.load(file.bytes, spec, dependencies).await?;
        Ok(Consumer { spec: Arc::new(spec.clone()), digest: file.digest, handler: Arc::new(handler) })
    }
}

/// What pipelines ask of components that do not have it.
fn unmet(compiled: &Compiled, consumers: &BTreeMap<ConsumerName, Consumer>) -> Vec<Diagnostic> {
    let met = |demand: &&Demand| {
        let exports = consumers.get(&demand.consumer).map(|consumer| consumer.handler.exports());
        exports.is_none_or(|exports| match demand.role {
            Role::Step => exports.handler,
            Role::Compensation => exports.compensator,
        })
    };
    let unmet = compiled.spans.demands.iter().filter(|demand| !met(demand));
    unmet.map(|demand| demand.unmet(&compiled.spans)).collect()
}

/// Consumers that are to begin at a time that has not come.
fn later(compiled: &Compiled, now: Timestamp) -> Vec<Diagnostic> {
    let later = compiled.deployment.consumers.iter().filter_map(|(name, spec)| match spec.delivery.from {
        StartFrom::Time(time) if time > now => Some(begins_later(&compiled.spans, name, time)),
        _ => None,
    });
    later.collect()
}

/// Does what no fuel is charged for, so that the other guests of this thread go on meanwhile.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Handle::try_current();
    match runtime.map(|runtime| runtime.runtime_flavor()) {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// One digest over the manifest's and every component's.
fn whole(manifest: Digest, consumers: &BTreeMap<ConsumerName, Consumer>) -> Digest {
    let mut text = manifest.to_string();
    for (name, consumer) in consumers {
        text.push_str(&format!("\n{name} {}", consumer.digest));
    }
    Digest::of(text.as_bytes())
}

enum Problem {
    Read(ReadError),
    Pin { found: Digest },
    Load(LoadError),
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        Self::Load(error)
    }
}

impl Problem {
    /// Whether the same file may well load a moment later.
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Read(ReadError::Unstable)
                | Self::Load(LoadError::Child(_) | LoadError::Start { outcome: Outcome::Interrupted, .. })
        )
    }

    /// The same as diagnostics, at the place in the manifest that can mend it.
    fn diagnostics(&self, compiled: &Compiled, consumer: &ConsumerName, spec: &ConsumerSpec) -> Vec<Diagnostic> {
        let subject = Subject { spans: &compiled.spans, consumer, path: &spec.component };
        match self {
            Self::Read(error) => vec![read_problem(&subject, error)],
            Self::Pin { found } => vec![subject.digest_mismatch(*found)],
            Self::Load(LoadError::Imports { not_granted, not_provided }) => {
                let granted = (!not_granted.is_empty()).then(|| missing_grants(&subject, not_granted, compiled, spec));
                let provided = (!not_provided.is_empty()).then(|| subject.imports_not_served(not_provided));
                granted.into_iter().chain(provided).collect()
            }
            Self::Load(error) => vec![load_problem(&subject, error)],
        }
    }
}

fn read_problem(subject: &Subject<'_>, error: &ReadError) -> Diagnostic {
    match error {
        ReadError::Missing => subject.missing(),
        ReadError::NotRegular => subject.not_a_file(),
        ReadError::TooLarge { .. } => subject.too_large(limit::COMPONENT_BYTES_MAX as u64),
        ReadError::Unstable => subject.unstable(),
        ReadError::Io(error) => subject.io(error),
    }
}

fn load_problem(subject: &Subject<'_>, error: &LoadError) -> Diagnostic {
    match error {
        LoadError::NotComponent { kind: Kind::CoreModule } => subject.core_module(),
        LoadError::NotComponent { kind: Kind::Precompiled } => subject.precompiled(),
        LoadError::NotComponent { .. } => subject.not_wasm(),
        LoadError::TooLarge { limit, .. } => subject.too_large(*limit as u64),
        LoadError::Malformed(reason) => subject.invalid(reason),
        LoadError::CompileLimit(what) => subject.costly(what),
        // Told by whoever knows the deployment.
        LoadError::Imports { not_provided, .. } => subject.imports_not_served(not_provided),
        LoadError::NoHandler { exports } => subject.export_missing(exports),
        LoadError::NoBatchHandler => subject.no_batch_handler(),
        LoadError::NoBatches => subject.no_batches(),
        LoadError::BothHandlers => subject.both_handlers(),
        LoadError::NoResponder => subject.no_responder(),
        LoadError::NoAnswers => subject.no_answers(),
        LoadError::Contract(reason) => subject.contract(reason),
        LoadError::Resources { what, number, limit } => subject.resources(what, *number, *limit),
        LoadError::Start { outcome, reason } => subject.start(outcome.as_str(), reason),
        LoadError::Child(error) => subject.compiler(error),
    }
}

/// All at once, each as it would be written.
fn missing_grants(
    subject: &Subject<'_>,
    missing: &[Ungranted],
    compiled: &Compiled,
    spec: &ConsumerSpec,
) -> Diagnostic {
    let imports: Vec<&str> = missing.iter().map(|one| one.import.as_str()).collect();
    let grants: Vec<_> = missing.iter().map(|one| snippet::grant(one.grant, spec, &compiled.deployment)).collect();
    subject.imports_not_granted(&imports, &grants, missing.iter().any(|one| snippet::is_example(one.grant)))
}
