//! The table of routes: what can be asked, how, and with which scope. docs/http.md has a part for each.

use axum::http::Method;

use crate::model::spec::Scope;

/// What a caller needs, where tokens are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: probes.
    Open,
    Scope(Scope),
    /// A token with the scope even where none is configured: the host's own is in a file that only its user reads.
    Always(Scope),
}

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Append,
    Events,
    Event,
    Outcomes,
    DeadLetters,
    DeadLetter,
    Ask,
    Queries,
    Redrive,
    Discard,
    Consumers,
    Consumer,
    Pause,
    Resume,
    Release,
    Stats,
    State,
    Replay,
    Replays,
    ReplayOne,
    ReplayCancel,
    Runs,
    RunOne,
    RunCancel,
    StepRetry,
    StepResolve,
    Backup,
    Backups,
    BackupOne,
    Reload,
    Wait,
    Stream,
    Livez,
    Readyz,
    Healthz,
    Metrics,
}

#[derive(Clone, Debug)]
pub struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub endpoint: Endpoint,
}

const PUBLISH: Access = Access::Scope(Scope::Publish);
const READ: Access = Access::Scope(Scope::Read);
const OPERATE: Access = Access::Scope(Scope::Operate);

const fn get(path: &'static str, access: Access, endpoint: Endpoint) -> Route {
    Route { method: Method::GET, path, access, endpoint }
}

const fn post(path: &'static str, access: Access, endpoint: Endpoint) -> Route {
    Route { method: Method::POST, path, access, endpoint }
}

pub static ROUTES: [Route; 37] = [
    post("/events", PUBLISH, Endpoint::Append),
    get("/events", READ, Endpoint::Events),
    get("/events/{ref}", READ, Endpoint::Event),
    get("/outcomes", READ, Endpoint::Outcomes),
    post("/queries/{type}", PUBLISH, Endpoint::Ask),
    get("/queries", READ, Endpoint::Queries),
    get("/dead-letters", READ, Endpoint::DeadLetters),
    get("/dead-letters/{seq}/{consumer}", READ, Endpoint::DeadLetter),
    get("/dead-letters/{seq}/{consumer}/{round}", READ, Endpoint::DeadLetter),
    post("/dead-letters/redrive", OPERATE, Endpoint::Redrive),
    post("/dead-letters/discard", OPERATE, Endpoint::Discard),
    get("/consumers", READ, Endpoint::Consumers),
    get("/consumers/{consumer}", READ, Endpoint::Consumer),
    post("/consumers/{consumer}/pause", OPERATE, Endpoint::Pause),
    post("/consumers/{consumer}/resume", OPERATE, Endpoint::Resume),
    post("/consumers/{consumer}/release", OPERATE, Endpoint::Release),
    get("/stats", READ, Endpoint::Stats),
    get("/state/{consumer}", READ, Endpoint::State),
    post("/replays", OPERATE, Endpoint::Replay),
    get("/replays", READ, Endpoint::Replays),
    get("/replays/{id}", READ, Endpoint::ReplayOne),
    post("/replays/{id}/cancel", OPERATE, Endpoint::ReplayCancel),
    get("/runs", READ, Endpoint::Runs),
    get("/runs/{seq}/{pipeline}", READ, Endpoint::RunOne),
    post("/runs/{seq}/{pipeline}/cancel", OPERATE, Endpoint::RunCancel),
    post("/runs/{seq}/{pipeline}/steps/{step}/retry", OPERATE, Endpoint::StepRetry),
    post("/runs/{seq}/{pipeline}/steps/{step}/resolve", OPERATE, Endpoint::StepResolve),
    // It writes a file where the caller says.
    post("/backups", Access::Always(Scope::Operate), Endpoint::Backup),
    get("/backups", READ, Endpoint::Backups),
    get("/backups/{id}", READ, Endpoint::BackupOne),
    post("/reload", OPERATE, Endpoint::Reload),
    get("/wait", READ, Endpoint::Wait),
    get("/stream", READ, Endpoint::Stream),
    get("/livez", Access::Open, Endpoint::Livez),
    get("/readyz", Access::Open, Endpoint::Readyz),
    get("/healthz", Access::Open, Endpoint::Healthz),
    get("/metrics", READ, Endpoint::Metrics),
];
