//! From the bytes of a file to a consumer that can be called: every check that can be made before the first event.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, Semaphore};
use wasmtime::Engine;
use wasmtime::component::types::{ComponentInstance, ComponentItem};
use wasmtime::component::{Component, Linker};

use super::attempt::{LoadedComponent, Runtime};
use super::capability::http::{Network, Resolver, system_resolver};
use super::capability::{self, Access};
use super::cause::Cause;
use super::code_cache::{CacheOptions, Code, CodeCache};
use super::compile::Compiler;
use super::engine::{self, Ticker};
use super::exports::{BATCH_HANDLER, Entries, Exports, HANDLER, RESPONDER};
use super::instance::Consumer;
use super::kind::Kind;
use super::limits::{MEMORIES_MAX, MemoryBudget, TABLE_ELEMENTS_MAX, TABLES_MAX};
use super::shared::Shared;
use super::{Call, Dependencies, text, wasi};
use crate::clock::Clock;
use crate::model::limit::COMPONENT_BYTES_MAX;
use crate::model::spec::{Ceilings, ConsumerSpec};
use crate::model::{Digest, Envelope, Event, Outcome};

/// The package whose interfaces grants open.
const CONTRACT: &str = "tidegate:consumer/";
const CONTRACT_VERSION: &str = "0.1.0";
/// A component that only starts must not take longer, whatever its own time limit.
const START: Duration = Duration::from_secs(5);
const PAGE_BYTES: u64 = 64 << 10;

/// What a sandbox needs to know.
pub struct Options {
    /// Attempts at once and their memory together; the sandbox enforces both itself.
    pub ceilings: Ceilings,
    /// None: everything is compiled at every start.
    pub cache: Option<CacheOptions>,
    pub compiler: Compiler,
    pub clock: Arc<dyn Clock>,
}

/// The sandbox cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start the WebAssembly engine: {0}")]
    Engine(String),
    #[error("open the cache of compiled code: {0}")]
    Cache(#[source] io::Error),
    #[error("start the sandbox's ticker: {0}")]
    Ticker(#[source] io::Error),
}

/// Why a component is refused. Values, so that the manifest's diagnostics can point and advise.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("is {kind}")]
    NotComponent { kind: Kind },
    #[error("has {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// Not a valid component for this engine; says where.
    #[error("is not a valid component: {0}")]
    Malformed(String),
    #[error("cannot be compiled within the limits: {0}")]
    CompileLimit(String),
    /// All interfaces of ours that the manifest does not grant, and all that this host does not provide at all.
    #[error("imports {}", imported(.not_granted, .not_provided))]
    Imports { not_granted: Vec<Ungranted>, not_provided: Vec<String> },
    /// An interface of the right name whose functions or types are not as in the contract.
    #[error("does not fit the contract {CONTRACT}*@{CONTRACT_VERSION}: {0}")]
    Contract(String),
    #[error("does not export {HANDLER}")]
    NoHandler { exports: Vec<String> },
    /// Deliveries come in batches, and it takes them one at a time.
    #[error("exports {HANDLER} and not {BATCH_HANDLER}, which batches need")]
    NoBatchHandler,
    /// Deliveries come one at a time, and it takes them in batches.
    #[error("exports {BATCH_HANDLER}, and its deliveries do not come in batches")]
    NoBatches,
    #[error("exports both {HANDLER} and {BATCH_HANDLER}")]
    BothHandlers,
    /// The manifest says that it answers questions, and it does not.
    #[error("does not export {RESPONDER}, which `answers` needs")]
    NoResponder,
    /// It answers questions, and the manifest does not say which.
    #[error("exports {RESPONDER}, and the manifest does not say what it answers")]
    NoAnswers,
    #[error("needs {number} {what}; the limit is {limit}")]
    Resources { what: &'static str, number: u64, limit: u64 },
    /// It could not even be started, and so would fail in every attempt.
    #[error("fails when it is started: {reason}")]
    Start { outcome: Outcome, reason: String },
    #[error("compile it: {0}")]
    Child(#[source] io::Error),
}

/// An interface that the manifest does not grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ungranted {
    pub import: String,
    /// The entry of `grants` that is missing.
    pub grant: &'static str,
}

fn imported(not_granted: &[Ungranted], not_provided: &[String]) -> String {
    let granted = not_granted.iter().map(|one| format!("{}, which needs grants.{}", one.import, one.grant));
    let provided = not_provided.iter().map(|import| format!("{import}, which this host does not provide"));
    granted.chain(provided).collect::<Vec<_>>().join("; ")
}

/// The engine and what goes with it; one in a process.
pub struct Sandbox {
    pub(super) runtime: Arc<Runtime>,
    cache: CodeCache,
    shared: Shared,
    compiler: Compiler,
    /// One compilation at a time.
    compiling: Mutex<()>,
    pub(super) resolver: Resolver,
}

/// What a sandbox counts about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Linear memory of running attempts, in bytes.
    pub memory_bytes: u64,
    /// Panics of the host during attempts.
    pub panics: u64,
    /// Cached code that did not verify.
    pub cache_rejected: u64,
    /// Times that native code was made executable.
    pub deserialised: u64,
}

impl Sandbox {
    pub fn new(options: Options) -> Result<Self, Error> {
        let engine_error = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let engine = Engine::new(&engine::config(&options.ceilings)).map_err(engine_error)?;
        let cache = CodeCache::open(&engine, options.cache.as_ref()).map_err(Error::Cache)?;
        let runtime = Runtime {
            ticker: Ticker::start(&engine).map_err(Error::Ticker)?,
            permits: Semaphore::new(options.ceilings.attempts.max(1) as usize),
            answer_permits: Semaphore::new(options.ceilings.answers() as usize),
            memory: Arc::new(MemoryBudget::new(options.ceilings.memory)),
            clock: options.clock,
            event_bytes_max: options.ceilings.event_bytes,
            panics: 0.into(),
            engine,
        };
        Ok(Self {
            runtime: Arc::new(runtime),
            cache,
            shared: Shared::default(),
            compiler: options.compiler,
            compiling: Mutex::default(),
            resolver: system_resolver(),
        })
    }

    pub fn counters(&self) -> Counters {
        Counters {
            memory_bytes: self.runtime.memory.used(),
            panics: self.runtime.panics.load(Ordering::Relaxed),
            cache_rejected: self.cache.rejected(),
            deserialised: self.cache.deserialised(),
        }
    }

    /// Checks, compiles, links and starts once the component in `bytes`, the contents of its file.
    pub async fn load(
        &self,
        bytes: Bytes,
        spec: &ConsumerSpec,
        dependencies: Dependencies,
    ) -> Result<LoadedComponent, LoadError> {
        if bytes.len() > COMPONENT_BYTES_MAX {
            return Err(LoadError::TooLarge { bytes: bytes.len(), limit: COMPONENT_BYTES_MAX });
        }
        match Kind::of(&bytes) {
            Kind::Component => {}
            kind => return Err(LoadError::NotComponent { kind }),
        }
        let component = self.compiled(&bytes).await?;
        let engine = &self.runtime.engine;
        check_imports(engine, &component, spec)?;
        check_resources(&component, spec)?;
        let exports = Exports::of(engine, &component);
        exports.check(engine, &component, spec)?;
        let entries = self
            .link(&component, spec, exports)
            .map_err(|error| LoadError::Contract(text::reason(&format!("{error:#}"))))?;
        let consumer = Arc::new(Consumer {
            name: spec.name.clone(),
            limits: spec.limits,
            grants: spec.grants.clone(),
            network: Network::new(&spec.grants.http, self.resolver.clone()),
            dependencies,
            event_bytes_max: self.runtime.event_bytes_max,
        });
        let loaded = LoadedComponent { runtime: Arc::clone(&self.runtime), entries, consumer, component };
        let started = loaded.dry_run(Cause::new(&no_call(), &[]), START.min(spec.limits.timeout)).await;
        started.map_err(|verdict| LoadError::Start {
            outcome: verdict.outcome,
            reason: verdict.reason.unwrap_or_default(),
        })?;
        Ok(loaded)
    }

    async fn compiled(&self, bytes: &Bytes) -> Result<Arc<Component>, LoadError> {
        let digest = Digest::of(bytes);
        let _one = self.compiling.lock().await;
        if let Some(component) = self.shared.get(&digest) {
            return Ok(component);
        }
        let code = match self.cache.get(&digest) {
            Some(code) => code,
            None => {
                let native = self.compiler.compile(&self.runtime.engine, bytes, &*self.runtime.clock).await?;
                let code = Code::compiled(native);
                if let Err(error) = self.cache.put(&digest, &code) {
                    tracing::warn!(%error, "compiled code is not cached");
                }
                code
            }
        };
        // The pool looks at sizes here, and says which is too large.
        let component = self.cache.deserialise(&self.runtime.engine, code);
        let component = component.map_err(|error| LoadError::Malformed(text::reason(&format!("{error:#}"))))?;
        Ok(self.shared.keep(digest, component))
    }

    fn link(&self, component: &Component, spec: &ConsumerSpec, exports: Exports) -> wasmtime::Result<Entries> {
        let mut linker = Linker::new(&self.runtime.engine);
        wasi::link(&mut linker)?;
        capability::link(&mut linker, &spec.grants)?;
        Entries::new(linker.instantiate_pre(component)?, exports)
    }
}

/// Collects every import that nothing answers: who mends them should not have to ask again after each.
fn check_imports(engine: &Engine, component: &Component, spec: &ConsumerSpec) -> Result<(), LoadError> {
    let (mut not_granted, mut not_provided) = (Vec::new(), Vec::new());
    for (name, item) in component.component_type().imports(engine) {
        if matches!(&item.ty, ComponentItem::ComponentInstance(instance) if is_types_only(engine, instance)) {
            continue;
        }
        let import = text::safe(name, 256);
        let (interface, version) = name.split_once('@').unwrap_or((name, ""));
        let provided = interface.strip_prefix("wasi:").is_some_and(|i| wasi::LINKED.contains(&i));
        if provided && version.starts_with("0.2.") {
            continue;
        }
        let own = interface.strip_prefix(CONTRACT).filter(|_| version == CONTRACT_VERSION);
        match own.map_or(Access::Unknown, |interface| capability::access(interface, &spec.grants)) {
            Access::Open => {}
            Access::Missing(grant) => not_granted.push(Ungranted { import, grant }),
            Access::Unknown => not_provided.push(import),
        }
    }
    if not_granted.is_empty() && not_provided.is_empty() {
        return Ok(());
    }
    Err(LoadError::Imports { not_granted, not_provided })
}

/// Types are no power.
fn is_types_only(engine: &Engine, instance: &ComponentInstance) -> bool {
    instance.exports(engine).all(|(_, item)| matches!(item.ty, ComponentItem::Type(_)))
}

fn check_resources(component: &Component, spec: &ConsumerSpec) -> Result<(), LoadError> {
    let Some(needs) = component.resources_required() else {
        return Err(LoadError::Resources { what: "modules from outside", number: 1, limit: 0 });
    };
    let memory = needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES);
    let elements = needs.max_initial_table_size.unwrap_or(0);
    for (what, number, limit) in [
        ("memories", u64::from(needs.num_memories), u64::from(MEMORIES_MAX)),
        ("tables", u64::from(needs.num_tables), u64::from(TABLES_MAX)),
        ("bytes of memory to begin with", memory, spec.limits.memory),
        ("table elements to begin with", elements, TABLE_ELEMENTS_MAX as u64),
    ] {
        if number > limit {
            return Err(LoadError::Resources { what, number, limit });
        }
    }
    Ok(())
}

/// A call without an event, for starting a component only.
fn no_call() -> Call {
    let envelope = Envelope {
        id: String::new(),
        event_type: String::new(),
        source: String::new(),
        subject: None,
        key: None,
        data_version: String::new(),
        timestamp: Default::default(),
        correlation_id: String::new(),
        causation_id: None,
        traceparent: None,
        not_before: None,
        job: None,
        attributes: Default::default(),
        payload: None,
        depth: 0,
    };
    let event = Event { seq: 0, accepted_at: Default::default(), envelope };
    Call {
        event: Arc::new(event),
        round: 0,
        call: 1,
        attempt: 1,
        attempts_max: 1,
        replayed: false,
        ephemeral: false,
        seed: 0,
        limits: Default::default(),
        run: None,
    }
}
