//! Requests to granted origins: exact origins, our own look at every resolved address, no redirects, bounded in
//! number, bytes and time.

mod address;
mod exchange;
mod target;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Uri};

use self::target::Target;
use super::super::bindings::http::{self, HttpError, Request, Response};
use super::super::instance::Host;
use super::super::text;
use crate::model::limit::{HTTP_BODY_BYTES_MAX, HTTP_REQUESTS_MAX};
use crate::model::spec::OriginSpec;

const HEADERS_MAX: usize = 64;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Headers that are the host's business, because they say where a message ends or who it is for.
const OURS: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

type Resolved = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;
/// From a name and a port to addresses; a seam for tests of names that resolve to what they should not.
pub(in crate::sandbox) type Resolver = Arc<dyn Fn(String, u16) -> Resolved + Send + Sync>;

/// What a consumer's requests have in common.
pub(in crate::sandbox) struct Network {
    origins: Vec<OriginSpec>,
    resolver: Resolver,
}

impl Network {
    pub(in crate::sandbox) fn new(origins: &[OriginSpec], resolver: Resolver) -> Self {
        Self { origins: origins.to_vec(), resolver }
    }
}

/// The machine's resolver.
pub(in crate::sandbox) fn system_resolver() -> Resolver {
    Arc::new(|host, port| Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }))
}

impl http::Host for Host {
    async fn send(&mut self, request: Request) -> wasmtime::Result<Result<Response, HttpError>> {
        let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.account.enter(request.url.len() + headers + request.body.as_ref().map_or(0, Vec::len))?;
        if self.requests >= HTTP_REQUESTS_MAX {
            return Ok(Err(HttpError::TooMany(HTTP_REQUESTS_MAX)));
        }
        self.requests += 1;
        let answer = self.request(request).await;
        if let Ok(response) = &answer {
            self.account.charge(response.body.len());
        }
        Ok(answer)
    }
}

impl Host {
    async fn request(&mut self, request: Request) -> Result<Response, HttpError> {
        let wait = request.timeout_ms.map_or(self.remaining(), Duration::from_millis).min(self.remaining());
        let until = self.clock.monotonic() + wait;
        let (target, private) = self.granted(&request.url)?;
        let prepared = self.prepare(&target, request)?;
        let consumer = Arc::clone(&self.consumer);
        let clock = Arc::clone(&self.clock);
        let exchange = async {
            let addresses = exchange::addresses(&target, &consumer.network.resolver).await?;
            // An origin written as an address is granted as such; a name may point anywhere.
            let open = private || target.address().is_some();
            let (reachable, kept): (Vec<_>, Vec<_>) =
                addresses.into_iter().partition(|address| open || address::is_public(address.ip()));
            if let (Some(hidden), true) = (kept.first(), reachable.is_empty()) {
                let hidden = hidden.ip();
                return Err(HttpError::NotGranted(format!(
                    "{} resolves to {hidden}, which is not public; the grant would have to say private",
                    target.host
                )));
            }
            exchange::exchange(&target, &reachable, prepared).await
        };
        let answer = tokio::select! {
            biased;
            answer = exchange => answer,
            () = clock.sleep_until(until) => Err(HttpError::TimedOut),
        };
        if let Err(HttpError::NotGranted(why)) = &answer {
            self.refuse(format!("request not granted: {why}"));
        }
        answer
    }

    fn granted(&mut self, url: &str) -> Result<(Target, bool), HttpError> {
        let target = Target::parse(url).map_err(|why| HttpError::Invalid(format!("url: {why}")))?;
        if let Some(origin) = self.consumer.network.origins.iter().find(|origin| target.is(origin)) {
            return Ok((target, origin.private));
        }
        let origin = target.origin();
        self.refuse(format!("a request to {origin} is not granted: name the origin under grants.http"));
        Err(HttpError::NotGranted(origin))
    }

    fn prepare(&mut self, target: &Target, request: Request) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
        let invalid = |what: &str| HttpError::Invalid(what.to_owned());
        let body = request.body.unwrap_or_default();
        if body.len() > HTTP_BODY_BYTES_MAX {
            return Err(HttpError::TooLarge(HTTP_BODY_BYTES_MAX as u64));
        }
        let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid("method: not a method"))?;
        if matches!(method, Method::CONNECT | Method::TRACE) {
            return Err(invalid("method: CONNECT and TRACE are not for consumers"));
        }
        let headers = self.headers(target, request.headers)?;
        let mut prepared = hyper::Request::new(Full::new(Bytes::from(body)));
        *prepared.method_mut() = method;
        *prepared.uri_mut() = Uri::try_from(&target.path).map_err(|_| invalid("url: not a path"))?;
        *prepared.headers_mut() = headers;
        Ok(prepared)
    }

    fn headers(&mut self, target: &Target, given: Vec<(String, String)>) -> Result<HeaderMap, HttpError> {
        if given.len() > HEADERS_MAX {
            return Err(HttpError::Invalid(format!("headers: at most {HEADERS_MAX}")));
        }
        let mut headers = HeaderMap::with_capacity(given.len() + 4);
        for (name, value) in given {
            let shown = text::safe(&name, 64);
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| HttpError::Invalid(format!("header '{shown}': not a header's name")))?;
            if OURS.contains(&name.as_str()) {
                return Err(HttpError::Invalid(format!("header '{shown}': is set by the host")));
            }
            let value = self.with_secrets(value)?;
            let mut value = HeaderValue::from_bytes(value.as_bytes())
                .map_err(|_| HttpError::Invalid(format!("header '{shown}': a value has no control characters")))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        self.add_own(target, &mut headers);
        Ok(headers)
    }

    fn add_own(&self, target: &Target, headers: &mut HeaderMap) {
        // The handler's first request has the plain key; were a second one to have the same, its receiver would take
        // it for a repetition of the first.
        let nth = if self.requests > 1 { format!("/{}", self.requests) } else { String::new() };
        let key = format!("{}/{}{nth}", self.cause.key(), self.consumer.name);
        let own = [
            (HOST, Some(target.authority())),
            (USER_AGENT, Some(concat!("tidegate/", env!("CARGO_PKG_VERSION")).to_owned())),
            (IDEMPOTENCY_KEY, Some(key)),
            (TRACEPARENT, self.cause.event().envelope.traceparent.clone()),
        ];
        for (name, value) in own {
            if let Some(Ok(value)) = value.map(|value| HeaderValue::from_bytes(value.as_bytes())) {
                headers.entry(name).or_insert(value);
            }
        }
    }

    /// Fills in `{secret:NAME}`.
    fn with_secrets(&mut self, value: String) -> Result<String, HttpError> {
        let mut filled = String::new();
        let mut rest = value.as_str();
        while let Some((before, after)) = rest.split_once("{secret:") {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| HttpError::Invalid("a {secret:NAME} in a header has no end".to_owned()))?;
            let Some(secret) = self.secret(name) else {
                let name = text::safe(name, 256);
                self.refuse(format!("secret '{name}' is not granted: name it under grants.secrets"));
                return Err(HttpError::NotGranted(format!("secret {name}")));
            };
            filled.push_str(before);
            filled.push_str(secret.value.expose());
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}
