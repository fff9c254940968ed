//! The table of routes: what can be asked, how, and with which scope. docs/http.md has a part for each.

use axum::http::Method;

use crate::model::spec::Scope;

/// What a caller needs, where tokens are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: probes.
    Open,
    Scope(Scope),
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
    Redrive,
    Discard,
    Consumers,
    Stats,
    State,
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

pub static ROUTES: [Route; 19] = [
    post("/events", PUBLISH, Endpoint::Append),
    get("/events", READ, Endpoint::Events),
    get("/events/{ref}", READ, Endpoint::Event),
    get("/outcomes", READ, Endpoint::Outcomes),
    get("/dead-letters", READ, Endpoint::DeadLetters),
    get("/dead-letters/{seq}/{consumer}", READ, Endpoint::DeadLetter),
    get("/dead-letters/{seq}/{consumer}/{round}", READ, Endpoint::DeadLetter),
    post("/dead-letters/redrive", OPERATE, Endpoint::Redrive),
    post("/dead-letters/discard", OPERATE, Endpoint::Discard),
    get("/consumers", READ, Endpoint::Consumers),
    get("/stats", READ, Endpoint::Stats),
    get("/state/{consumer}", READ, Endpoint::State),
    post("/reload", OPERATE, Endpoint::Reload),
    get("/wait", READ, Endpoint::Wait),
    get("/stream", READ, Endpoint::Stream),
    get("/livez", Access::Open, Endpoint::Livez),
    get("/readyz", Access::Open, Endpoint::Readyz),
    get("/healthz", Access::Open, Endpoint::Healthz),
    get("/metrics", READ, Endpoint::Metrics),
];
