//! A small HTTP client for a host's own API: one connection, kept; time limits everywhere; problem documents turned
//! into errors that say what to do.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{self, Kind};
use super::text;

/// Making the connection.
const CONNECT: Duration = Duration::from_secs(2);
/// An answer, unless a request says otherwise.
const ANSWER: Duration = Duration::from_secs(30);
/// An answer's body, in bytes.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Where a host listens: `http://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// As the `Host` header has it.
    pub(super) authority: String,
}

impl Base {
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        if url.starts_with("https://") {
            return Err("commands speak plain HTTP; use the http:// address of the host".into());
        }
        let uri: hyper::Uri = url.parse().map_err(|_| "it must look like http://127.0.0.1:7420".to_owned())?;
        let authority = match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) if !authority.as_str().contains('@') => authority.to_string(),
            _ => return Err("it must look like http://127.0.0.1:7420".into()),
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err("it must be an address alone, without a path".into());
        }
        Ok(Self { authority })
    }

    /// What a socket can be opened to.
    fn address(&self) -> String {
        let port = self.authority.rsplit_once(':').is_some_and(|(_, p)| p.parse::<u16>().is_ok());
        if port { self.authority.clone() } else { format!("{}:80", self.authority) }
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("no host answers at {0}")]
    Connect(Base, #[source] std::io::Error),
    #[error("the host at {base} did not answer within {}", text::age(*limit))]
    Late { base: Base, limit: Duration },
    #[error("the connection to the host at {0} broke")]
    Broken(Base, #[source] hyper::Error),
    #[error("{}", .0.words())]
    Problem(Box<Problem>),
    #[error("the host at {0} answered something that is not understood: {1}")]
    Garbled(Base, String),
    #[error("interrupted")]
    Interrupted,
    #[error("cannot start the client: {0}")]
    Start(#[source] std::io::Error),
}

/// A problem document (RFC 9457), as far as commands use it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) title: String,
    #[serde(skip_deserializing)]
    pub(super) status: u16,
    pub(super) detail: Option<String>,
    #[serde(alias = "help")]
    pub(super) hint: Option<String>,
    /// A path of the host where to look next.
    see: Option<String>,
    /// The first event from which on all are there.
    oldest: Option<u64>,
    /// What was most likely meant.
    nearest: Option<String>,
    /// Which of several events is meant, from 0.
    index: Option<usize>,
    /// How many deliveries are not settled, and up to which event that was asked.
    pub(super) unsettled: Option<u64>,
    pub(super) through: Option<u64>,
    /// What is wrong, each at its place in what was sent.
    errors: Vec<Fault>,
    pub(super) diagnostics: Vec<serde_json::Value>,
    /// What came of a question: its id, the word for it, who was asked and what they said.
    pub(super) query: Option<String>,
    pub(super) outcome: Option<String>,
    pub(super) responder: Option<String>,
    pub(super) reason: Option<String>,
    /// Seconds after which to try again, from `Retry-After`.
    #[serde(skip_deserializing)]
    pub(super) retry_after: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Fault {
    pointer: String,
    detail: String,
}

impl Problem {
    /// Which of several events is meant, from 0: as the host says it, or as the first pointer begins (`#/3/data`).
    pub(super) fn event(&self) -> Option<usize> {
        let pointed = || self.errors.first()?.pointer.strip_prefix("#/")?.split('/').next()?.parse().ok();
        self.index.or_else(pointed)
    }

    fn words(&self) -> String {
        match &self.detail {
            Some(detail) if !detail.is_empty() => detail.clone(),
            _ if !self.title.is_empty() => self.title.clone(),
            _ => format!("the host answered with status {}", self.status),
        }
    }

    fn error_kind(&self) -> Kind {
        match self.status {
            _ if self.kind.ends_with(":log-failed") => Kind::Log,
            _ if self.kind.ends_with(":schema-violation") => Kind::Usage,
            _ if self.kind.ends_with(":query-invalid") => Kind::Invalid,
            _ if self.kind.ends_with(":query-not-found") => Kind::NotFound,
            _ if self.kind.ends_with(":query-unavailable") => Kind::Unavailable,
            _ if self.kind.ends_with(":query-failed") => Kind::Failed,
            404 | 409 | 412 | 422 => Kind::State,
            408 | 504 => Kind::Timeout,
            401 | 403 | 429 => Kind::Environment,
            400..=499 => Kind::Usage,
            _ => Kind::Environment,
        }
    }

    /// What to do next: what the host says, else what this problem has that others of its kind do not, else the usual.
    fn best_hint(&self) -> Option<String> {
        let own = self.hint.clone().or_else(|| self.value_hint()).or_else(|| self.see_hint());
        own.or_else(|| self.default_hint().map(str::to_owned))
    }

    fn value_hint(&self) -> Option<String> {
        if let Some(oldest) = self.oldest {
            return Some(format!("Begin with the oldest that is there: `--from {oldest}`."));
        }
        // Some say it in their detail.
        let near = self.nearest.as_deref().filter(|_| !self.words().contains("Did you mean"))?;
        Some(format!("Did you mean '{}'?", text::escape(near)))
    }

    /// The command that shows what the path does to which the host points.
    fn see_hint(&self) -> Option<String> {
        let path = self.see.as_deref()?.split('?').next()?;
        let (room, of) = path.strip_prefix('/')?.split_once('/').unwrap_or((path.get(1..)?, ""));
        let of = text::escape(of);
        Some(match (room, of.as_str()) {
            ("consumers", "") => "List them with `tidegate consumers`.".to_owned(),
            ("consumers", consumer) => format!("See how it stands with `tidegate consumers {consumer}`."),
            ("events", "") => "List the newest with `tidegate events`.".to_owned(),
            ("runs", "") => "List them with `tidegate runs`.".to_owned(),
            ("runs", run) => format!("See how it stands with `tidegate runs {run}`."),
            ("replays", "") => "List them with `tidegate replay list`.".to_owned(),
            ("replays", replay) => format!("See how it stands with `tidegate replay show {replay}`."),
            ("dead-letters", "") => "List them with `tidegate dead list --status all`.".to_owned(),
            _ => return None,
        })
    }

    fn default_hint(&self) -> Option<&'static str> {
        match self.status {
            _ if self.kind.ends_with(":no-responder") => {
                Some("Look with `tidegate check` who answers what; a consumer says so with `answers`.")
            }
            _ if self.kind.ends_with(":query-timed-out") => {
                Some("Wait longer with `--timeout`; `tidegate queries` shows how long answers take.")
            }
            _ if self.kind.ends_with(":query-invalid") => Some("Correct what is asked: `--data`."),
            _ if self.kind.ends_with(":query-not-found") => Some("Ask for something else; this one is an answer, too."),
            _ if self.kind.ends_with(":query-unavailable") => {
                Some("Try again after a moment; `tidegate consumers` shows who is paused.")
            }
            _ if self.kind.ends_with(":query-failed") => {
                Some("See what it logged with `tidegate queries --outcome failed --json`.")
            }
            _ if self.kind.ends_with(":replay-refused") => Some("See what is in the log with `tidegate stats`."),
            _ if self.kind.ends_with(":backup-running") => Some("Wait until that one is done, and try again."),
            401 => Some("Set TIDEGATE_TOKEN to one of the tokens in the manifest's `server.tokens`."),
            403 => Some("Use a token whose `scopes` allow this; the manifest lists them under `server.tokens`."),
            404 if self.kind.is_empty() || self.kind == "about:blank" => {
                Some("If the host is of another version than this command, start the host again with this one.")
            }
            413 => Some("Send less at once, or raise `limits.event-size` in the manifest if it is one payload."),
            429 | 503 => Some("Try again after a moment; `tidegate stats` shows what is waiting."),
            507 => Some("Make room on the disk that holds the database; the host goes on by itself."),
            500 => Some("The host's own log says more."),
            _ => None,
        }
    }
}

impl From<Error> for error::Error {
    fn from(e: Error) -> Self {
        let words = e.to_string();
        match e {
            Error::Connect(_, source) => Self::environment(words)
                .because(source)
                .hint("Start one with `tidegate run`, or name another with `--url`."),
            Error::Late { .. } => Self::timeout(words).hint("Try again; if it stays so, look at the host's own log."),
            Error::Broken(_, source) => {
                Self::environment(words).because(source).hint("Is the host still running? `tidegate stats` tells.")
            }
            Error::Problem(problem) => {
                let mut error = Self::new(problem.error_kind(), words);
                for fault in problem.errors.iter().filter(|fault| !error.message.contains(&fault.detail)) {
                    let place = if fault.pointer.is_empty() { String::new() } else { format!("{}: ", fault.pointer) };
                    error.details.push(format!("{place}{}", fault.detail));
                }
                match problem.best_hint() {
                    Some(hint) => error.hint(hint),
                    None => error,
                }
            }
            Error::Garbled(..) => {
                Self::environment(words).hint("Is it a tidegate host, and of the same version? Check `--url`.")
            }
            Error::Interrupted => Self::interrupted(),
            Error::Start(source) => Self::environment("cannot start the client").because(source),
        }
    }
}

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Path and query, encoded.
    pub(super) path: &'a str,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: Bytes,
    pub(super) limit: Duration,
}

impl<'a> Ask<'a> {
    pub(super) fn get(path: &'a str) -> Self {
        Self { method: Method::GET, path, content_type: None, body: Bytes::new(), limit: ANSWER }
    }

    pub(super) fn post(path: &'a str, content_type: &'a str, body: Bytes) -> Self {
        Self { method: Method::POST, path, content_type: Some(content_type), body, limit: ANSWER }
    }

    #[must_use]
    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// A client of one host. Blocking: commands do one thing after the other.
pub(super) struct Client {
    pub(super) base: Base,
    token: Option<HeaderValue>,
    runtime: tokio::runtime::Runtime,
    connection: RefCell<Option<SendRequest<Full<Bytes>>>>,
}

impl Client {
    /// `token` is ignored if no header can carry it: the host then answers that one is missing.
    pub(super) fn new(base: Base, token: Option<&str>) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Start)?;
        let token = token.and_then(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Self { base, token, runtime, connection: RefCell::new(None) })
    }

    /// Whether a host answers there.
    pub(super) fn alive(&self) -> Result<(), Error> {
        self.text(Ask::get("/livez").within(CONNECT)).map(drop)
    }

    /// Asks and reads the answer as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Error> {
        let body = self.text(ask)?;
        serde_json::from_slice(&body).map_err(|e| Error::Garbled(self.base.clone(), e.to_string()))
    }

    /// As [`Client::json`]; nothing if there is no such thing.
    pub(super) fn find<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<Option<T>, Error> {
        match self.json(ask) {
            Err(Error::Problem(problem)) if problem.status == 404 => Ok(None),
            other => other.map(Some),
        }
    }

    /// Asks and reads the whole answer.
    pub(super) fn text(&self, ask: Ask<'_>) -> Result<Bytes, Error> {
        self.runtime.block_on(self.answer(ask))
    }

    /// Asks for a stream and hands over its pieces until it ends, Ctrl-C is pressed or `each` fails.
    pub(super) fn stream<E: From<Error>>(
        &self,
        path: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        let start = self.runtime.block_on(interruptible(&mut stop, async {
            let response = self.send(Ask::get(path)).await?;
            let (head, body) = response.into_parts();
            if head.status.is_success() {
                return Ok(body);
            }
            let body = self.read(body).await?;
            Err(problem(head.status, &head.headers, &body))
        }));
        let mut body = start?;
        loop {
            let frame = self.runtime.block_on(interruptible(&mut stop, async { Ok(body.frame().await) }))?;
            match frame {
                None => return Ok(()),
                Some(Err(e)) => return Err(Error::Broken(self.base.clone(), e).into()),
                Some(Ok(frame)) => frame.data_ref().map_or(Ok(()), |data| each(data))?,
            }
        }
    }

    /// As [`Client::json`], for what takes long: ends with Ctrl-C.
    pub(super) fn json_patiently<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Error> {
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        let body = self.runtime.block_on(interruptible(&mut stop, self.answer(ask)))?;
        serde_json::from_slice(&body).map_err(|e| Error::Garbled(self.base.clone(), e.to_string()))
    }

    /// Waits; ends with Ctrl-C.
    pub(super) fn pause_patiently(&self, clock: &dyn crate::clock::Clock, span: Duration) -> Result<(), Error> {
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        let wait = async {
            clock.sleep_until(clock.monotonic() + span).await;
            Ok(())
        };
        self.runtime.block_on(interruptible(&mut stop, wait))
    }

    /// The whole answer with its head, for what takes long: ends with Ctrl-C.
    pub(super) fn whole_patiently(&self, ask: Ask<'_>) -> Result<(hyper::HeaderMap, Bytes), Error> {
        let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
        self.runtime.block_on(interruptible(&mut stop, self.whole(ask)))
    }

    async fn answer(&self, ask: Ask<'_>) -> Result<Bytes, Error> {
        self.whole(ask).await.map(|(_, body)| body)
    }

    async fn whole(&self, ask: Ask<'_>) -> Result<(hyper::HeaderMap, Bytes), Error> {
        let limit = ask.limit;
        let whole = async {
            let response = self.send(ask).await?;
            let (head, body) = response.into_parts();
            let body = self.read(body).await?;
            if head.status.is_success() {
                Ok((head.headers, body))
            } else {
                Err(problem(head.status, &head.headers, &body))
            }
        };
        let answer = tokio::time::timeout(limit, whole)
            .await
            .unwrap_or_else(|_| Err(Error::Late { base: self.base.clone(), limit }));
        if answer.as_ref().is_err_and(|e| !matches!(e, Error::Problem(_))) {
            // A connection with half an answer in it serves nobody.
            self.connection.take();
        }
        answer
    }

    async fn send(&self, ask: Ask<'_>) -> Result<Response<Incoming>, Error> {
        let broken = |e| Error::Broken(self.base.clone(), e);
        let kept = self.connection.take();
        let request = self.request(&ask)?;
        let request = match kept {
            None => request,
            Some(mut sender) => match sender.try_send_request(request).await {
                Ok(response) => {
                    self.connection.replace(Some(sender));
                    return Ok(response);
                }
                // The host had closed the connection before a byte of this was sent.
                Err(mut e) => match e.take_message() {
                    Some(request) => request,
                    None => return Err(broken(e.into_error())),
                },
            },
        };
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(broken)?;
        self.connection.replace(Some(sender));
        Ok(response)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let socket = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(self.base.address()))
            .await
            .map_err(|_| Error::Connect(self.base.clone(), std::io::ErrorKind::TimedOut.into()))?
            .map_err(|e| Error::Connect(self.base.clone(), e))?;
        drop(socket.set_nodelay(true));
        let (sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|e| Error::Broken(self.base.clone(), e))?;
        // Ends with the connection; what went wrong with it is told by the request that needed it.
        drop(tokio::spawn(async move { drop(connection.await) }));
        Ok(sender)
    }

    fn request(&self, ask: &Ask<'_>) -> Result<Request<Full<Bytes>>, Error> {
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(ask.path)
            .header(header::HOST, &self.base.authority)
            .header(header::USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        if let Some(content_type) = ask.content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        let body = Full::new(ask.body.clone());
        request.body(body).map_err(|e| Error::Garbled(self.base.clone(), format!("cannot ask it: {e}")))
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Error> {
        let collected = Limited::new(body, BODY_BYTES_MAX).collect().await;
        collected.map(http_body_util::Collected::to_bytes).map_err(|e| match e.downcast::<hyper::Error>() {
            Ok(e) => Error::Broken(self.base.clone(), *e),
            Err(e) if e.is::<LengthLimitError>() => {
                Error::Garbled(self.base.clone(), format!("more than {}", text::bytes(BODY_BYTES_MAX as u64)))
            }
            Err(e) => Error::Garbled(self.base.clone(), e.to_string()),
        })
    }
}

/// Runs to the end or to Ctrl-C. Asked for only where a command waits for long: from then on Ctrl-C is ours to see.
async fn interruptible<T>(
    stop: &mut std::pin::Pin<&mut impl Future<Output = std::io::Result<()>>>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        Ok(()) = stop => Err(Error::Interrupted),
    }
}

fn problem(status: StatusCode, headers: &hyper::HeaderMap, body: &[u8]) -> Error {
    let mut problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    problem.status = status.as_u16();
    problem.retry_after =
        headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    Error::Problem(Box::new(problem))
}

/// A path segment or a query value, percent-encoded.
pub(super) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            byte => _ = write!(out, "%{byte:02X}"),
        }
    }
    out
}

/// A query of [`crate::model::query`] as `path?name=value&…`.
pub(super) fn with_query(path: &str, query: &impl serde::Serialize) -> String {
    let mut out = path.to_owned();
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else { return out };
    for (name, value) in fields {
        let value = match value {
            serde_json::Value::String(text) if !text.is_empty() => text,
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(true) => "true".to_owned(),
            _ => continue,
        };
        out.push(if out.contains('?') { '&' } else { '?' });
        out.push_str(&name);
        out.push('=');
        out.push_str(&encode(&value));
    }
    out
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
