//! How events get in and people look in: HTTP/1.1.
//!
//! A request goes through, in this order: [`accept`] (a connection, counted) → [`framing`] (where it begins and ends,
//! beyond doubt) → [`access`] (the host's name, the site, the token) → [`route`] (the table) → [`api`]. Everything that a client
//! sends is bounded in bytes and in time; every refusal is a [`problem`] document that says what to do next.
//!
//! It runs on a runtime that no guest can occupy, and reads the record through connections that cannot write.

mod accept;
mod access;
mod api;
mod app;
mod backups;
mod body;
pub mod event;
mod framing;
mod ids;
mod io;
pub mod problem;
pub mod route;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};

use crate::clock::Clock;
use crate::log::EventLog;
use crate::model::question::{Question, Reply};
use crate::model::record::{DeadLetterRecord, OutcomeRecord};
use crate::model::spec::ServerSpec;
use crate::model::{ConsumerName, Event, Generation, Seq};
use crate::registry::Registry;
use crate::store::Reader;
use crate::telemetry::Metrics;

/// What the server is made of.
#[derive(Clone)]
pub struct Parts {
    pub log: Arc<dyn EventLog>,
    pub reader: Reader,
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub control: Arc<dyn Control>,
    /// Has every scope: the host's own commands use it. Drawn anew at each start.
    pub boot_token: String,
    /// What `/stream` shows.
    pub live: broadcast::Sender<Live>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// The diagnostics of a refused reload, each as JSON.
pub type Diagnostics = Vec<serde_json::Value>;

/// What the server asks of the running host.
pub trait Control: Send + Sync {
    /// Each part of the host and whether it can do its work; the text says why not.
    fn ready(&self) -> Vec<(&'static str, Result<(), String>)>;

    /// Whether the host takes no more events: it finishes what it has, and answers questions until then.
    fn stopping(&self) -> bool {
        false
    }

    /// Attempts of a consumer that run now.
    fn running(&self, consumer: &ConsumerName) -> u64;

    /// How a consumer stands in the running host.
    fn standing(&self, consumer: &ConsumerName) -> Standing {
        Standing { running: self.running(consumer), ..Standing::default() }
    }

    /// Has a responder answer.
    fn ask(&self, question: Question) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;

    /// A replay was begun: whoever makes its deliveries may look at once.
    fn replay_begun(&self) {}

    /// Reads the manifest again and makes it live, whole or not at all.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Reloaded, Diagnostics>> + Send>>;

    /// Ends when every delivery of every event up to `through`, or of every event that there is by then, is final; answers
    /// up to which event that is.
    fn wait_settled(&self, through: Option<Seq>) -> Pin<Box<dyn Future<Output = Seq> + Send>>;
}

/// What only the running host knows of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Attempts that run now.
    pub running: u64,
    /// `closed`, `open` or `probing`.
    pub breaker: &'static str,
    /// Deliveries that are ready to be attempted, or that wait in memory for their ordering key.
    pub ready: u64,
    pub blocked: u64,
}

impl Default for Standing {
    fn default() -> Self {
        Self { running: 0, breaker: "closed", ready: 0, blocked: 0 }
    }
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reloaded {
    pub generation: Generation,
    /// What is different, in a line each; empty if nothing is.
    pub changes: Vec<String>,
}

/// Something that has just become durable, for those who watch.
#[derive(Clone, Debug)]
pub enum Live {
    Event(Arc<Event>),
    /// An event too large to be kept for slow followers: they read it from the log.
    Large(Seq),
    Outcome(OutcomeRecord),
    DeadLetter(DeadLetterRecord),
    Reloaded(Reloaded),
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{addr} is in use; {hint}")]
    AddrInUse { addr: SocketAddr, hint: String },
    #[error(
        "{addr} is not loopback and the manifest has no server.tokens: anybody who reaches it could publish and operate; add tokens, or listen on 127.0.0.1"
    )]
    Unprotected { addr: SocketAddr },
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
}

/// Listens where the deployment says.
pub async fn bind(server: &ServerSpec) -> Result<TcpListener, Error> {
    let addr = server.listen;
    if !addr.ip().to_canonical().is_loopback() && server.tokens.is_empty() {
        return Err(Error::Unprotected { addr });
    }
    TcpListener::bind(addr).await.map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => Error::AddrInUse {
            addr,
            hint: "another host may be running: stop it, or choose another server.listen (port 0 takes any free one)"
                .into(),
        },
        _ => Error::Listen { addr, source },
    })
}

/// Answers until `stop` turns true (or its sender is gone), then lets requests in hand finish.
pub async fn serve(listener: TcpListener, parts: Parts, stop: watch::Receiver<bool>) {
    let app = Arc::new(app::App::new(parts, stop.clone()));
    accept::run(listener, app, stop).await;
}

#[cfg(test)]
mod tests;
