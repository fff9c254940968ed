//! Who may ask: the `Host` that is served (against DNS rebinding), the site a browser's request came from, and tokens
//! with their scopes.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;
use super::route::Access;
use crate::model::spec::{Scope, ServerSpec};

/// Checks what every request must satisfy, before anything else is looked at.
pub(super) fn check_site(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    server: &ServerSpec,
    local: Option<SocketAddr>,
) -> Result<(), Problem> {
    let host = one_host(headers)?;
    let name = host_name(host).ok_or_else(|| Problem::bad_request("The Host header is not a host name."))?;
    let served = |name: &str| is_served(name, server, local);
    let target = uri.authority().map(|authority| host_name(authority.as_str()));
    if !served(&name) || target.is_some_and(|target| !target.as_deref().is_some_and(served)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-host",
            "This host does not answer to that name. Ask it by its address, or add the name to server.hosts.",
        ));
    }
    let reads = matches!(*method, Method::GET | Method::HEAD);
    if !reads && is_foreign(headers, host) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "foreign-origin",
            "A page of another site may not send this. Send it from a program, or from a page served here.",
        ));
    }
    Ok(())
}

fn one_host(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            host.to_str().map_err(|_| Problem::bad_request("The Host header holds bytes that no name has."))
        }
        (None, _) => Err(Problem::bad_request("The Host header is missing. Send it once.")),
        (Some(_), Some(_)) => Err(Problem::bad_request("The Host header is there twice. Send it once.")),
    }
}

/// The name or address of `host[:port]`, in lower case; an IPv6 address without brackets.
fn host_name(host: &str) -> Option<String> {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_fits = match port.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    let name_fits =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'));
    (port_fits && name_fits).then(|| name.to_ascii_lowercase())
}

fn is_served(name: &str, server: &ServerSpec, local: Option<SocketAddr>) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name == "localhost" || server.hosts.iter().any(|host| host.eq_ignore_ascii_case(name)) {
        return true;
    }
    name.parse::<IpAddr>().is_ok_and(|ip| {
        let ip = ip.to_canonical();
        ip.is_loopback()
            || ip == server.listen.ip().to_canonical()
            || local.is_some_and(|local| local.ip().to_canonical() == ip)
    })
}

/// Whether a browser says that another site's page makes it send this.
fn is_foreign(headers: &HeaderMap, host: &str) -> bool {
    if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
        return true;
    }
    headers.get_all(header::ORIGIN).iter().any(|origin| {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
        !authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    })
}

/// Whether the request's token allows `access`. Without tokens in the manifest everybody on this machine may, but for what is
/// [`Access::Always`] asked for.
pub(super) fn check_token(
    headers: &HeaderMap,
    access: Access,
    server: &ServerSpec,
    boot_token: &str,
) -> Result<(), Problem> {
    let scope = match access {
        Access::Open => return Ok(()),
        Access::Scope(_) if server.tokens.is_empty() => return Ok(()),
        Access::Scope(scope) | Access::Always(scope) => scope,
    };
    let unauthorized = |detail: &str| Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
    let Some(token) = bearer(headers) else {
        return unauthorized("A token is needed. Send it as: Authorization: Bearer TOKEN");
    };
    let given = Sha256::digest(token);
    // Every token is compared, and over its whole digest, so that the time says nothing.
    let boot = same(&given, boot_token);
    let known = server.tokens.iter().fold(None, |found, entry| {
        let hit = same(&given, entry.token.expose());
        if hit { Some(entry) } else { found }
    });
    if boot || known.is_some_and(|entry| entry.scopes.contains(&scope)) {
        return Ok(());
    }
    match known {
        None => unauthorized("The token is not known here. Use one that the manifest lists under server.tokens."),
        Some(_) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            format!("The token lacks the scope {}. Use one that has it.", word(scope)),
        )),
    }
}

fn word(scope: Scope) -> &'static str {
    match scope {
        Scope::Publish => "publish",
        Scope::Read => "read",
        Scope::Operate => "operate",
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii()).filter(|token| !token.is_empty())
}

fn same(given: &[u8], token: &str) -> bool {
    let wanted = Sha256::digest(token.as_bytes());
    let difference = given.iter().zip(wanted.iter()).fold(0_u8, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
    difference == 0 && !token.is_empty()
}
