//! Requests to the origins that the manifest grants: `http: [https://mail.example.com]`.
//!
//! The host adds `Idempotency-Key`, the same in every attempt at the same delivery, and `traceparent`, unless the request
//! has its own. Redirects are not followed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host;

pub fn get(url: impl Into<String>) -> RequestBuilder {
    request("GET", url)
}

pub fn post(url: impl Into<String>) -> RequestBuilder {
    request("POST", url)
}

pub fn put(url: impl Into<String>) -> RequestBuilder {
    request("PUT", url)
}

pub fn patch(url: impl Into<String>) -> RequestBuilder {
    request("PATCH", url)
}

pub fn delete(url: impl Into<String>) -> RequestBuilder {
    request("DELETE", url)
}

/// A request with any method.
pub fn request(method: impl Into<String>, url: impl Into<String>) -> RequestBuilder {
    let request = Request { method: method.into(), url: url.into(), headers: Vec::new(), body: None, timeout: None };
    RequestBuilder { request }
}

/// A request, as it is handed to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Vec<u8>>,
    pub timeout: Option<Duration>,
}

impl Request {
    /// The header's first value; names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body read from JSON.
    ///
    /// # Errors
    /// [`Error::Body`] if it does not read as `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.body.as_deref().unwrap_or_default()).map_err(Error::Body)
    }
}

/// A request being put together.
#[derive(Clone, Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct RequestBuilder {
    request: Request,
}

impl RequestBuilder {
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.headers.push((name.into(), value.into()));
        self
    }

    /// A JSON body, with its `content-type` unless there is one already.
    ///
    /// # Errors
    /// [`Error::Body`] if the value has no JSON form.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        let body = serde_json::to_vec(value).map_err(Error::Body)?;
        let typed = self.request.header("content-type").is_some();
        Ok(if typed { self } else { self.header("content-type", "application/json") }.body(body))
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.request.body = Some(body.into());
        self
    }

    /// The longest to wait for the whole response; the attempt's own limit holds besides.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.request.timeout = Some(timeout);
        self
    }

    /// Sends the request and waits for the whole response. Any status is a response: see
    /// [`Response::error_for_status`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn send(self) -> Result<Response, Error> {
        host::http_send(self.request)
    }
}

/// A response, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    /// For tests: see [`crate::testing`].
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The header's first value; names are compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body read from JSON.
    ///
    /// # Errors
    /// [`Error::Body`] if it does not read as `T`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(Error::Body)
    }

    /// The response itself, if its status says success.
    ///
    /// # Errors
    /// [`Error::Status`] otherwise, with the beginning of the body.
    pub fn error_for_status(self) -> Result<Self, Error> {
        if self.is_success() {
            return Ok(self);
        }
        let body = self.text().chars().take(STATUS_BODY_CHARS_MAX).collect();
        Err(Error::Status { status: self.status, body })
    }
}

/// How much of a body an error quotes.
const STATUS_BODY_CHARS_MAX: usize = 200;

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Why there is no (usable) response.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The origin or address is not granted.
    NotGranted(String),
    Invalid(String),
    TimedOut,
    /// Name resolution, connection or TLS.
    Unreachable(String),
    /// The limit passed, in bytes.
    TooLarge(u64),
    /// The number of requests one attempt may make.
    TooMany(u32),
    /// The server answered with a status other than 2xx; from [`Response::error_for_status`] only.
    Status {
        status: u16,
        body: String,
    },
    /// The body has no JSON form, or does not read as the type asked for.
    Body(serde_json::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(what) => write!(f, "http is not granted: {what}"),
            Self::Invalid(why) => write!(f, "http request is not valid: {why}"),
            Self::TimedOut => f.write_str("http request timed out"),
            Self::Unreachable(why) => write!(f, "http server is unreachable: {why}"),
            Self::TooLarge(max) => write!(f, "http body is larger than {max} bytes"),
            Self::TooMany(max) => write!(f, "more than {max} http requests in one attempt"),
            Self::Status { status, body } if body.is_empty() => write!(f, "http status {status}"),
            Self::Status { status, body } => write!(f, "http status {status}: {body}"),
            Self::Body(error) => write!(f, "http body does not fit: {error}"),
        }
    }
}

impl std::error::Error for Error {}
