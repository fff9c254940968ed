//! Probes. Open to everybody, so they say which part is not ready, and why only to those who may read.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};

use super::Answer;
use crate::model::spec::Scope;
use crate::server::access;
use crate::server::app::App;
use crate::server::problem::Problem;
use crate::server::route::Access;

const PLAIN: &str = "text/plain; charset=utf-8";

/// The process answers; nothing else is asked.
pub(super) fn livez(uri: &Uri) -> Answer {
    let asked = Asked::of(uri)?;
    Ok(super::text(
        StatusCode::OK,
        PLAIN,
        if asked.verbose { "[+]process ok\nlivez check passed\n" } else { "ok" }.into(),
    ))
}

/// Whether the host can do its work now.
pub(super) fn readyz(app: &Arc<App>, parts: &Parts) -> Answer {
    let asked = Asked::of(&parts.uri)?;
    let mut checks = app.parts.control.ready();
    let running = if app.is_stopping() { Err("the host is stopping".to_owned()) } else { Ok(()) };
    checks.push(("running", running));
    if let Some(name) = asked.exclude.iter().find(|name| !checks.iter().any(|(known, _)| known == name)) {
        let known: Vec<&str> = checks.iter().map(|(name, _)| *name).collect();
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "unknown-parameter",
            format!("exclude: there is no check named {name:?}. The checks are: {}.", known.join(", ")),
        ));
    }
    checks.retain(|(name, _)| !asked.exclude.iter().any(|excluded| excluded == name));
    let failed = checks.iter().any(|(_, state)| state.is_err());
    let deployment = Arc::clone(&app.parts.registry.current().deployment);
    let read = Access::Scope(Scope::Read);
    let trusted = access::check_token(&parts.headers, read, &deployment.server, &app.parts.boot_token).is_ok();
    let line = |(name, state): &(&str, Result<(), String>)| match state {
        Ok(()) => format!("[+]{name} ok\n"),
        Err(reason) if trusted => format!("[-]{name} failed: {}\n", reason.replace(['\r', '\n'], " ")),
        Err(_) => format!("[-]{name} failed\n"),
    };
    let body = if failed || asked.verbose {
        let verdict = if failed { "failed" } else { "passed" };
        let lines: String = checks.iter().map(line).collect();
        format!("{lines}readyz check {verdict}\n")
    } else {
        "ok".to_owned()
    };
    let status = if failed { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    Ok(super::text(status, PLAIN, body))
}

#[derive(Default)]
struct Asked {
    verbose: bool,
    exclude: Vec<String>,
}

impl Asked {
    /// `?verbose` has no value, and `?exclude=` may stand several times: neither fits a plain record.
    fn of(uri: &Uri) -> Result<Self, Problem> {
        let mut asked = Self::default();
        let axum::extract::Query(pairs) = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::bad_request("The query cannot be read."))?;
        for (name, value) in pairs {
            match name.as_str() {
                "verbose" => asked.verbose = value != "false",
                "exclude" => asked.exclude.push(value),
                _ => {
                    return Err(Problem::new(
                        StatusCode::BAD_REQUEST,
                        "unknown-parameter",
                        format!("{name:?} is not a parameter here; verbose and exclude are."),
                    ));
                }
            }
        }
        Ok(asked)
    }
}
