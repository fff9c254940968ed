//! What is loaded now: an immutable snapshot behind an atomic swap.

pub mod catalogue;
pub mod coordinator;
pub mod file;
pub mod load;
pub mod reload;
mod snippet;
pub mod target;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch as signal;

use self::catalogue::Catalogue;
use crate::model::{ConsumerName, ConsumerSpec, Deployment, Digest, Generation};
use crate::sandbox::Invoke;

/// A consumer, loaded.
#[derive(Clone)]
pub struct Consumer {
    pub spec: Arc<ConsumerSpec>,
    /// SHA-256 of the component's file.
    pub digest: Digest,
    pub handler: Arc<dyn Invoke>,
}

/// A generation: a deployment with everything it needs, whole.
#[derive(Clone)]
pub struct Snapshot {
    pub generation: Generation,
    pub deployment: Arc<Deployment>,
    pub consumers: Arc<BTreeMap<ConsumerName, Consumer>>,
    /// What events are declared to be.
    pub catalogue: Arc<Catalogue>,
}

/// The live generation. Cheap to read, exchanged as a whole.
pub struct Registry {
    current: ArcSwap<Snapshot>,
    /// For whoever must act when it changes.
    deployment: signal::Sender<Arc<Deployment>>,
}

impl Registry {
    pub fn new(first: Snapshot) -> Self {
        let deployment = signal::Sender::new(Arc::clone(&first.deployment));
        Self { current: ArcSwap::from_pointee(first), deployment }
    }

    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub fn replace(&self, next: Snapshot) {
        let deployment = Arc::clone(&next.deployment);
        self.current.store(Arc::new(next));
        self.deployment.send_replace(deployment);
    }

    /// The live deployment, and word of each that follows it.
    pub fn deployments(&self) -> signal::Receiver<Arc<Deployment>> {
        self.deployment.subscribe()
    }
}
