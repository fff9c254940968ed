//! Watch → compile → load → swap. Whole or not at all: whatever fails, the generation that is live goes on.
//!
//! A hint (a file event, a poll every few seconds) makes the reloader compare what is on disk with what it tried last.
//! Only a difference is tried, so neither its own reading nor a refused save makes it go round in circles. A request
//! (`tidegate reload`, `SIGHUP`) is tried in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

use super::file::Stamp;
use super::load::{Loaded, Loader, Refused};
use super::watch::Watch;
use super::{Registry, Snapshot};
use crate::clock::Clock;
use crate::manifest::{self, Diagnostics};
use crate::model::{ConsumerName, Deployment, Digest, Generation};

/// After a hint, this long without another one …
const QUIET: Duration = Duration::from_millis(60);
/// … but no longer than this altogether.
const QUIET_MAX: Duration = Duration::from_millis(400);
/// Without any hint.
const POLL: Duration = Duration::from_secs(10);
/// A file that is being written is tried again after this, then twice as long, up to the poll.
const AGAIN: Duration = Duration::from_millis(200);
/// After a refusal, hints that show no difference in the files that are known are worth a try only so often.
const REFUSED_AGAIN: Duration = Duration::from_millis(500);

const REMOVED: &str = "removed";

/// Makes what was loaded live; the host knows how.
pub trait Activate: Send + Sync {
    fn activate(&self, loaded: Loaded) -> Pin<Box<dyn Future<Output = Result<Generation, String>> + Send + '_>>;
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    pub generation: Generation,
    /// False: what is on disk was live already.
    pub changed: bool,
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub consumer: ConsumerName,
    /// `added`, `changed`, `removed`.
    pub change: String,
    /// Of a consumer that was removed: deliveries that are not final. They wait until it comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// Of a pipeline that was removed: runs that have not ended. They go on as they began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
}

/// Why a request for a reload was not fulfilled.
#[derive(Debug)]
pub enum NotReloaded {
    Refused(Diagnostics),
    /// The log did not take the activation, or the host is stopping.
    Failed(String),
}

type Answer = Result<Reloaded, NotReloaded>;

/// What a consumer or a pipeline that is gone has left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    /// Deliveries that are not final.
    pub deliveries: u64,
    /// Runs that have not ended.
    pub runs: u64,
}

/// Counts what is left, if that can be told.
pub type Depth = Arc<dyn Fn(&ConsumerName) -> Option<Left> + Send + Sync>;

/// Told of every reload that was tried.
pub type Witness = Arc<dyn Fn(&Result<Reloaded, Diagnostics>) + Send + Sync>;

#[derive(Clone)]
pub struct Handle {
    requests: mpsc::UnboundedSender<oneshot::Sender<Answer>>,
}

impl Handle {
    /// Reloads now; answers when the new generation is live, or refused.
    pub async fn reload(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        let stopping = || NotReloaded::Failed("the host is stopping".into());
        self.requests.send(answer).map_err(|_| stopping())?;
        answered.await.unwrap_or_else(|_| Err(stopping()))
    }
}

pub struct Options {
    pub manifest: PathBuf,
    pub loader: Loader,
    pub registry: Arc<Registry>,
    pub activate: Arc<dyn Activate>,
    pub clock: Arc<dyn Clock>,
    pub witness: Witness,
    pub depth: Depth,
    /// Digest of what is live, see [`Loaded::digest`].
    pub digest: Digest,
}

/// Files and how they stood.
type Stamps = BTreeMap<PathBuf, Option<Stamp>>;

enum Woken {
    Asked(oneshot::Sender<Answer>),
    Hint,
    Poll,
}

pub struct Reloader {
    options: Options,
    requests: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>,
    watch: Watch,
    tried: Stamps,
    /// The deployment that was tried last, as far as it is known: its files are watched as well as the live one's.
    wanted: Option<Arc<Deployment>>,
    /// The text of the last refusal, so that it is said once.
    said: Option<String>,
    again: Option<Duration>,
    /// When files were last looked at without a hint, or tried.
    tried_at: Duration,
    /// Something has happened since a refusal that may have been what was lacking.
    hinted: bool,
}

impl Reloader {
    pub fn new(options: Options) -> (Self, Handle) {
        let (ask, requests) = mpsc::unbounded_channel();
        let deployment = options.registry.current().deployment.clone();
        let tried = stamps(&options.manifest, &deployment);
        let (watch, tried_at) = (Watch::new(), options.clock.monotonic());
        let mut reloader =
            Self { options, requests, watch, tried, wanted: None, said: None, again: None, tried_at, hinted: false };
        reloader.follow();
        (reloader, Handle { requests: ask })
    }

    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        // What was saved while the first generation was loaded gave no hint.
        drop(self.reload().await);
        loop {
            let pause = self.again.unwrap_or(if self.hinted { REFUSED_AGAIN } else { POLL });
            let poll = self.options.clock.sleep_until(self.tried_at + pause);
            let stopped = async { stop.wait_for(|yes| *yes).await.is_ok() };
            let woken = tokio::select! {
                biased;
                _ = stopped => return,
                Some(request) = self.requests.recv() => Woken::Asked(request),
                () = self.watch.changed() => Woken::Hint,
                () = poll => Woken::Poll,
            };
            let differs = match woken {
                Woken::Asked(answer) => {
                    // Whoever asked may have gone.
                    let _gone = answer.send(self.reload().await).is_err();
                    false
                }
                Woken::Hint => {
                    self.quiet().await;
                    // A folder may be new, or another one of the same name.
                    self.follow();
                    self.hinted = self.said.is_some();
                    self.stamps() != self.tried
                }
                Woken::Poll => {
                    (self.tried_at, self.hinted) = (self.options.clock.monotonic(), false);
                    // What a refused manifest lacked may be anywhere, so after a refusal everything is worth a look.
                    self.again.is_some() || self.said.is_some() || self.stamps() != self.tried
                }
            };
            if differs {
                drop(self.reload().await);
            }
        }
    }

    fn pause(&self, time: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.options.clock.sleep_until(self.options.clock.monotonic() + time)
    }

    /// Waits until whoever is writing seems to have finished.
    async fn quiet(&self) {
        let end = self.pause(QUIET_MAX);
        tokio::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                () = self.pause(QUIET) => return,
                () = self.watch.changed() => {}
            }
        }
    }

    /// What is wanted, or else what is live.
    fn deployment(&self) -> Arc<Deployment> {
        self.wanted.clone().unwrap_or_else(|| self.options.registry.current().deployment.clone())
    }

    fn stamps(&self) -> Stamps {
        stamps(&self.options.manifest, &self.deployment())
    }

    async fn reload(&mut self) -> Answer {
        let answer = self.try_reload().await;
        (self.tried_at, self.hinted) = (self.options.clock.monotonic(), false);
        answer
    }

    async fn try_reload(&mut self) -> Answer {
        let live = self.options.registry.current();
        // Before reading: what changes from here on is a difference.
        self.tried = self.stamps();
        let tried = self.load().await;
        self.follow();
        let loaded = match tried {
            Ok(loaded) => loaded,
            Err(refused) => return Err(self.refuse(refused)),
        };
        let again = self.later();
        self.again = None;
        self.said = None;
        if loaded.digest == self.options.digest {
            return Ok(Reloaded { generation: live.generation, changed: false, changes: Vec::new() });
        }
        let (digest, changes) = (loaded.digest, diff(&live, &loaded));
        for warning in loaded.warnings.iter() {
            tracing::warn!("{}", warning.render(false));
        }
        let generation = match self.options.activate.activate(loaded).await {
            Ok(generation) => generation,
            Err(why) => {
                tracing::warn!("the new generation is not live, the log did not take it: {why}; it is tried again");
                self.again = Some(again);
                return Err(NotReloaded::Failed(why));
            }
        };
        self.options.digest = digest;
        let reloaded = Reloaded { generation, changed: true, changes: self.counted(changes) };
        (self.options.witness)(&Ok(reloaded.clone()));
        Ok(reloaded)
    }

    /// What was removed, with what it has left.
    fn counted(&self, mut changes: Vec<Change>) -> Vec<Change> {
        for change in changes.iter_mut().filter(|change| change.change == REMOVED) {
            let Left { deliveries, runs } = (self.options.depth)(&change.consumer).unwrap_or_default();
            // What takes the events for them is there for as long as there are runs.
            (change.runs, change.waiting) = match runs {
                0 => (None, Some(deliveries).filter(|waiting| *waiting > 0)),
                runs => (Some(runs), None),
            };
        }
        changes
    }

    /// How long to wait before the next try.
    fn later(&self) -> Duration {
        self.again.map_or(AGAIN, |last| (last * 2).min(POLL))
    }

    async fn load(&mut self) -> Result<Loaded, Refused> {
        let live = self.options.registry.current();
        self.wanted = None;
        let compiled = manifest::load(&self.options.manifest, &manifest::environment)
            .map_err(|diagnostics| Refused { diagnostics, unstable: false })?;
        let wanted = Arc::new(compiled.deployment.clone());
        // The manifest may name other files than before; those that were there before keep the stamp from before the
        // reading, and what has come into the drop folder since is a difference.
        let named = files(&self.options.manifest, &wanted);
        let mut tried = stamps(&self.options.manifest, &wanted);
        for (path, stamp) in &mut tried {
            *stamp = self.tried.get(path).copied().unwrap_or_else(|| stamp.filter(|_| named.contains(path)));
        }
        self.tried = tried;
        self.wanted = Some(wanted);
        if compiled.deployment.database != live.deployment.database {
            let diagnostics =
                Diagnostics::new(vec![manifest::log_moved(&self.options.manifest, &live.deployment.database)]);
            return Err(Refused { diagnostics, unstable: false });
        }
        if compiled.deployment.server.listen != live.deployment.server.listen {
            tracing::warn!(listen = %live.deployment.server.listen, "server.listen takes effect at the next start");
        }
        self.options.loader.load(compiled, Some(&live)).await
    }

    fn refuse(&mut self, refused: Refused) -> NotReloaded {
        self.again = refused.unstable.then(|| self.later());
        let text = refused.diagnostics.render(false);
        if self.said.as_ref() != Some(&text) {
            (self.options.witness)(&Err(refused.diagnostics.clone()));
            self.said = Some(text);
        }
        NotReloaded::Refused(refused.diagnostics)
    }

    fn follow(&mut self) {
        let deployment = self.deployment();
        let files = files(&self.options.manifest, &deployment);
        self.watch.follow(files.iter().map(PathBuf::as_path), deployment.folder.as_deref());
    }
}

/// Every file that a deployment is made of.
fn files(manifest: &Path, deployment: &Deployment) -> Vec<PathBuf> {
    let components = deployment.consumers.values().map(|spec| spec.component.clone());
    let schemas = deployment.events.values().filter_map(|event| Some(event.schema.as_ref()?.path.clone()));
    std::iter::once(manifest.to_owned()).chain(components).chain(schemas).collect()
}

/// How everything on disk stands that a reload would read: the files, and what lies in the drop folder.
fn stamps(manifest: &Path, deployment: &Deployment) -> Stamps {
    let mut paths = files(manifest, deployment);
    if let Some(folder) = &deployment.folder {
        let list = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        paths.extend(list(folder).filter(|path| path.is_dir()).flat_map(|inside| list(&inside)));
    }
    paths.into_iter().map(|path| (path.clone(), Stamp::of(&path))).collect()
}

/// Which consumers and pipelines are new, different or gone. One that the manifest does not have is gone, though it may still be
/// there for its runs.
fn diff(live: &Snapshot, loaded: &Loaded) -> Vec<Change> {
    let (old, new) = (deployed(&live.deployment), deployed(&loaded.deployment));
    let change = |consumer: &ConsumerName, change: &str| Change {
        consumer: consumer.clone(),
        change: change.into(),
        waiting: None,
        runs: None,
    };
    let same = |name: &ConsumerName| match (live.consumers.get(name), loaded.consumers.get(name)) {
        (Some(a), Some(b)) => a.digest == b.digest && a.spec == b.spec,
        _ => false,
    };
    let added = new.difference(&old).map(|name| change(name, "added"));
    let changed = new.intersection(&old).filter(|name| !same(name)).map(|name| change(name, "changed"));
    let mut changes: Vec<Change> = added.chain(changed).collect();
    changes.sort_by(|a, b| a.consumer.cmp(&b.consumer));
    changes.extend(old.difference(&new).map(|name| change(name, REMOVED)));
    changes
}

fn deployed(deployment: &Deployment) -> BTreeSet<&ConsumerName> {
    deployment.consumers.keys().chain(deployment.pipelines.keys()).collect()
}
