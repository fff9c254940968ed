//! The composition root: builds the parts from a deployment, connects them, starts and stops them. Nothing is decided
//! here.

mod control;
mod presence;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thread_priority::ThreadPriority;
#[cfg(target_os = "linux")]
use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy};
use tokio::sync::{broadcast, watch};

pub use self::presence::Announcement;
use self::presence::Presence;
use crate::clock::{Clock, SystemClock};
use crate::dispatch::replay::Replayer;
use crate::dispatch::{self, Dispatcher};
use crate::log::Feed;
use crate::log::sqlite::{self, SqliteLog};
use crate::manifest::{self, Compiled, Diagnostics};
use crate::model::spec::Ceilings;
use crate::model::{Deployment, Generation, Seq};
use crate::query::{self, Desk};
use crate::random::Random;
use crate::registry::coordinator::NoRuns;
use crate::registry::load::{Loaded, Loader};
use crate::registry::reload::{self, Reloader};
use crate::registry::{Registry, Snapshot};
use crate::sandbox::{self, Sandbox};
use crate::schedule::{self, Schedules};
use crate::server;
use crate::store;
use crate::telemetry::Metrics;

use self::control::{Activator, HostControl, Stream};

/// Subscribers to the live stream that fall behind lose the oldest of so many.
const LIVE_MAX: usize = 1_024;
/// How long a start waits for a holder of its database that was killed, and how often it looks.
const DYING_MAX: Duration = Duration::from_secs(5);
const DYING_AGAIN: Duration = Duration::from_millis(20);

pub struct Options {
    pub manifest: PathBuf,
    /// Go on although the log has lost events from this sequence on.
    pub accept_loss_from: Option<Seq>,
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest, or a component in it.
    #[error("the manifest is not valid")]
    Manifest(Diagnostics),
    #[error(transparent)]
    Log(#[from] sqlite::OpenError),
    #[error("the store cannot be read: {0}")]
    Store(#[from] store::Error),
    #[error("the sandbox cannot be set up: {0}")]
    Sandbox(#[from] sandbox::Error),
    #[error(transparent)]
    Listen(#[from] server::Error),
    #[error("failed to {doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
    /// The log failed while running; everything acknowledged before is safe.
    #[error("the log failed: {0}")]
    LogFailed(String),
    /// Told to stop twice.
    #[error("stopped at once, with attempts in hand; the next start runs them again")]
    Impatient,
}

/// Compiles the manifest and loads every component, as `run` would, and starts nothing.
pub fn check(path: &Path) -> Result<Compiled, Error> {
    let compiled = compile(path)?;
    let runtime =
        runtime("tidegate-check", 1).build().map_err(|source| Error::Io { doing: "start a thread", source })?;
    runtime.block_on(async {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let sandbox = Arc::new(sandbox(&compiled, clock.clone())?);
        let (state, asker) = (Arc::new(sandbox::NoState), Arc::new(sandbox::NoAnswers));
        let loader = Loader::new(sandbox, state, asker, Arc::new(NoRuns), clock);
        let loaded =
            loader.load(compiled.clone(), None).await.map_err(|refused| Error::Manifest(refused.diagnostics))?;
        Ok(Compiled { warnings: loaded.warnings, ..compiled })
    })
}

fn compile(path: &Path) -> Result<Compiled, Error> {
    manifest::load(path, &manifest::environment).map_err(Error::Manifest)
}

/// Runs a host until it is told to stop.
pub fn run(options: &Options) -> Result<(), Error> {
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let doing = |source| Error::Io { doing: "start the host's threads", source };
    // What watches and what is watched never share a thread, nor do quick guests and slow ones.
    let quick = runtime("tidegate-quick", workers).build().map_err(doing)?;
    let slow = runtime("tidegate-slow", workers).on_thread_start(step_back).build().map_err(doing)?;
    let control = runtime("tidegate-host", 2).build().map_err(doing)?;
    let guests = dispatch::Guests { quick: quick.handle().clone(), slow: slow.handle().clone(), threads: workers };
    let result = control.block_on(run_on(options, guests));
    quick.shutdown_background();
    slow.shutdown_background();
    control.shutdown_background();
    result
}

fn runtime(name: &'static str, workers: usize) -> tokio::runtime::Builder {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(workers).thread_name(name).enable_all();
    builder
}

/// This thread runs when no other wants to. A nice value would not do: whoever wakes up waits until a thread of the lowest one has
/// finished its slice, which takes up to 4 ms of a Linux 6.18 that ticks 250 times a second; one that is idle gives way at once.
fn step_back() {
    #[cfg(target_os = "linux")]
    let stepped_back = thread_priority::set_thread_priority_and_policy(
        thread_priority::thread_native_id(),
        ThreadPriority::Min,
        ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle),
    );
    #[cfg(not(target_os = "linux"))]
    let stepped_back = thread_priority::set_current_thread_priority(ThreadPriority::Min);
    if let Err(error) = stepped_back {
        tracing::warn!(?error, "slow guests run at the same priority as quick ones");
    }
}

async fn run_on(options: &Options, guests: dispatch::Guests) -> Result<(), Error> {
    let compiled = compile(&options.manifest)?;
    let clock = options.clock.clone();
    let mut signals = stop::Signals::listen().map_err(|source| Error::Io { doing: "listen for signals", source })?;

    let metrics = Arc::new(Metrics::default());
    // The lock first: whoever has it may touch the rest.
    let (log, commits) = open(&clock, || sqlite::Options {
        accept_loss_from: options.accept_loss_from,
        retention: Some(compiled.deployment.retention),
        metrics: Some(metrics.clone()),
        ballast: compiled.deployment.ceilings.ballast,
        ..sqlite::Options::new(&compiled.deployment.database, clock.clone())
    })
    .await?;
    let log = Arc::new(log);
    let started = start(options, Given { compiled, clock, metrics, log: log.clone(), commits, guests }).await;
    let running = match started {
        Ok(running) => running,
        Err(error) => {
            close(&log).await;
            return Err(error);
        }
    };
    let ended = running.until_stopped(&mut signals).await;
    close(&log).await;
    ended
}

/// Whoever starts a host right after it was killed need not wait for the last of its threads.
async fn open(
    clock: &Arc<dyn Clock>,
    options: impl Fn() -> sqlite::Options,
) -> Result<(SqliteLog, Feed), store::OpenError> {
    let until = clock.monotonic() + DYING_MAX;
    loop {
        match SqliteLog::open(options()) {
            Err(store::OpenError::InUse { pid, .. }) if clock.monotonic() < until && store::is_dying(pid) => {
                clock.sleep_until(clock.monotonic() + DYING_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

async fn close(log: &SqliteLog) {
    // A log that failed says so by itself; what was acknowledged is safe in any case.
    if let Err(error) = log.close().await {
        tracing::warn!(%error, "the log was not closed cleanly; the next start checks it");
    }
}

/// Everything that runs.
struct Running {
    log: Arc<SqliteLog>,
    dispatch: dispatch::Handle,
    reload: reload::Handle,
    /// True: serve nothing new.
    closing: watch::Sender<bool>,
    /// True: attempts end at once.
    cancel: watch::Sender<bool>,
    /// True: the loops end.
    stop: watch::Sender<bool>,
    control: Arc<HostControl>,
    grace: Duration,
    clock: Arc<dyn Clock>,
    tasks: tokio::task::JoinSet<()>,
    _presence: Presence,
}

/// What is there before anything runs.
struct Given {
    compiled: Compiled,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    log: Arc<SqliteLog>,
    commits: Feed,
    guests: dispatch::Guests,
}

async fn start(options: &Options, given: Given) -> Result<Running, Error> {
    let Given { compiled, clock, metrics, log, commits, guests } = given;
    let deployment = Arc::new(compiled.deployment.clone());
    let listener = server::bind(&deployment.server).await?;
    // People's questions must not keep a guest waiting for its state.
    let (reader, state) = (store::Reader::open(&deployment.database)?, store::Reader::open(&deployment.database)?);
    let random = randomness()?;
    let asking = (log.clone(), clock.clone(), random.clone(), metrics.clone());
    let desk = desk(asking, guests.clone(), &deployment.ceilings, state.clone());
    let sandbox = Arc::new(sandbox(&compiled, clock.clone())?);
    let (state, runs) = (Arc::new(control::Committed(state)), Arc::new(control::Runs(reader.clone())));
    let loader = Loader::new(sandbox, state, Arc::new(desk.clone()), runs, clock.clone());
    let loaded = loader.load(compiled, None).await.map_err(|refused| Error::Manifest(refused.diagnostics))?;
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{}", warning.render(false)));

    let (closing, closed) = watch::channel(false);
    let (cancel, cancelled) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let live = broadcast::Sender::new(LIVE_MAX);
    let tools = dispatch::attempt::Tools {
        log: log.clone(),
        clock: clock.clone(),
        random: random.clone(),
        metrics: metrics.clone(),
        witness: Arc::new(Stream(live.clone())),
        cancelled,
    };
    let (dispatcher, dispatch) = Dispatcher::new(dispatch::Options { tools, head: log.head(), commits, guests });

    let digest = loaded.digest;
    let registry = Arc::new(Registry::new(snapshot(&loaded, Generation(0))));
    desk.serve(registry.clone());
    let activator = Arc::new(Activator::new(log.clone(), dispatch.clone(), registry.clone(), metrics.clone()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(dispatcher.run(stopped.clone()));
    let generation = reload::Activate::activate(activator.as_ref(), loaded).await.map_err(Error::LogFailed)?;

    let (reloader, reload) = Reloader::new(reload::Options {
        manifest: options.manifest.clone(),
        loader,
        registry: registry.clone(),
        activate: activator,
        clock: clock.clone(),
        depth: control::depth(reader.clone()),
        witness: control::witness(log.clone(), clock.clone(), metrics.clone(), live.clone()),
        digest,
    });
    tasks.spawn(reloader.run(stopped.clone()));

    let (replayer, replays) = Replayer::new(log.clone(), registry.clone(), clock.clone(), metrics.clone());
    tasks.spawn(replayer.run(closed.clone()));
    tasks.spawn(schedules(&registry, log.clone(), clock.clone()).run(stopped));
    let control = Arc::new(HostControl::new(dispatch.clone(), reload.clone(), log.clone(), replays, desk));
    let presence = Presence::announce(&options.manifest, &listener, &deployment.database, clock.now())?;
    log.announce(presence.url().to_owned());
    let counted = reader.clone();
    let parts = server::Parts {
        log: log.clone(),
        reader,
        registry: registry.clone(),
        metrics,
        clock: clock.clone(),
        control: control.clone(),
        boot_token: presence.token().to_owned(),
        live,
    };
    say_listening(&presence, generation, &deployment);
    // Much may wait, and it is counted one by one: no start is kept by that.
    drop(tokio::task::spawn_blocking(move || control::say_removed(&counted)));
    tasks.spawn(server::serve(listener, parts, closed));
    let grace = deployment.server.grace;
    Ok(Running { log, dispatch, reload, closing, cancel, stop, control, grace, clock, tasks, _presence: presence })
}

/// Where questions are asked. Who answers is known once something is live.
fn desk(
    (log, clock, random, metrics): (Arc<SqliteLog>, Arc<dyn Clock>, Arc<Random>, Arc<Metrics>),
    guests: dispatch::Guests,
    ceilings: &Ceilings,
    reader: store::Reader,
) -> Desk {
    Desk::new(query::Options {
        clock,
        random,
        metrics,
        guests,
        slots: usize::try_from(ceilings.answers_from_outside()).unwrap_or(1),
        paused: control::paused(reader),
        record: Arc::new(move |note| log.note_query(note)),
    })
}

fn randomness() -> Result<Arc<Random>, Error> {
    let failed = |error: getrandom::Error| Error::Io {
        doing: "draw randomness",
        source: std::io::Error::other(error.to_string()),
    };
    Ok(Arc::new(Random::from_system().map_err(failed)?))
}

fn say_listening(presence: &Presence, generation: Generation, deployment: &Deployment) {
    let (parts, database) = (deployment.parts(), &deployment.database);
    // As it is found by others, not as the manifest leads there.
    let database = database.canonicalize().unwrap_or_else(|_| database.clone());
    let (url, database) = (presence.url(), database.display());
    tracing::info!("listening on {url}, generation {generation}, {parts}, log {database}");
}

fn schedules(registry: &Registry, log: Arc<SqliteLog>, clock: Arc<dyn Clock>) -> Schedules {
    Schedules::new(schedule::Options { log, clock, deployments: registry.deployments() })
}

fn snapshot(loaded: &Loaded, generation: Generation) -> Snapshot {
    Snapshot {
        generation,
        deployment: loaded.deployment.clone(),
        consumers: Arc::new(loaded.consumers.clone()),
        catalogue: loaded.catalogue.clone(),
    }
}

/// Beside the database: the compile cache, and outside of it the key that authenticates its entries.
fn sandbox(compiled: &Compiled, clock: Arc<dyn Clock>) -> Result<Sandbox, Error> {
    let data = compiled.deployment.database.parent().unwrap_or(Path::new("."));
    let program = std::env::current_exe().map_err(|source| Error::Io { doing: "find the program itself", source })?;
    let sandbox = Sandbox::new(sandbox::Options {
        ceilings: compiled.deployment.ceilings,
        cache: Some(sandbox::CacheOptions { directory: data.join("compiled"), key_file: data.join("compiled.key") }),
        compiler: sandbox::Compiler::Child { program, args: vec!["compile-component".into()] },
        clock,
    })?;
    Ok(sandbox)
}
