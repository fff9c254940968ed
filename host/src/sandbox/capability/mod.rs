//! What a guest may import besides the standard library, a file each. Log and attempt are always there; the others
//! are linked only if the manifest grants them.

pub(super) mod attempt;
pub(super) mod config;
pub(super) mod http;
pub(super) mod jobs;
pub(super) mod log;
pub(super) mod publisher;
pub(super) mod queries;
pub(super) mod secrets;
pub(super) mod state;

use wasmtime::component::{HasSelf, Linker};

use super::bindings;
use super::instance::Host;
use crate::model::Grants;

/// The interfaces that a grant opens: name in the contract, name in the manifest.
const GRANTED: [(&str, &str); 7] = [
    ("publisher", "publish"),
    ("jobs", "jobs"),
    ("queries", "queries"),
    ("http", "http"),
    ("state", "state"),
    ("config", "config"),
    ("secrets", "secrets"),
];
/// Those that need none.
const FREE: [&str; 2] = ["attempt", "log"];

/// What stands between a consumer and an interface of the contract.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Access {
    Open,
    /// This entry of `grants` is missing.
    Missing(&'static str),
    /// Not an interface that this host provides.
    Unknown,
}

pub(super) fn access(interface: &str, grants: &Grants) -> Access {
    if FREE.contains(&interface) {
        return Access::Open;
    }
    match GRANTED.iter().find(|(name, _)| *name == interface) {
        Some((_, grant)) if is_granted(grant, grants) => Access::Open,
        Some((_, grant)) => Access::Missing(grant),
        None => Access::Unknown,
    }
}

fn is_granted(grant: &str, grants: &Grants) -> bool {
    match grant {
        "publish" => !grants.publish.is_empty(),
        "jobs" => !grants.jobs.is_empty(),
        "queries" => !grants.queries.is_empty(),
        "http" => !grants.http.is_empty(),
        "state" => grants.state.is_some(),
        "config" => grants.config.is_some(),
        "secrets" => grants.secrets.is_some(),
        _ => false,
    }
}

/// Links what the grants open, and nothing else.
pub(super) fn link(linker: &mut Linker<Host>, grants: &Grants) -> wasmtime::Result<()> {
    type Own = HasSelf<Host>;
    attempt::link(linker)?;
    bindings::log::add_to_linker::<Host, Own>(linker, |host| host)?;
    for (_, grant) in GRANTED.iter().filter(|(_, grant)| is_granted(grant, grants)) {
        match *grant {
            "publish" => bindings::publisher::add_to_linker::<Host, Own>(linker, |host| host)?,
            "jobs" => bindings::jobs::add_to_linker::<Host, Own>(linker, |host| host)?,
            "queries" => bindings::queries::add_to_linker::<Host, Own>(linker, |host| host)?,
            "http" => bindings::http::add_to_linker::<Host, Own>(linker, |host| host)?,
            "state" => bindings::state::add_to_linker::<Host, Own>(linker, |host| host)?,
            "config" => bindings::config::add_to_linker::<Host, Own>(linker, |host| host)?,
            _ => bindings::secrets::add_to_linker::<Host, Own>(linker, |host| host)?,
        }
    }
    Ok(())
}
