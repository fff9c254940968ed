//! Errors as clients see them: RFC 9457 problem documents. Separate from inner errors, so that inner text cannot leak.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::event::{ErrorKind, EventError};
use crate::registry::target::NoTarget;
use crate::{log, store};

/// Prefix of every problem's `type`.
pub const URN: &str = "urn:tidegate:problem:";

/// One problem. `kind` is the last word of its `type` and never changes its meaning.
#[derive(Clone, Debug)]
pub struct Problem {
    pub kind: &'static str,
    pub status: StatusCode,
    /// What happened, and what to do next.
    pub detail: String,
    /// Members besides the standard's.
    pub more: Vec<(String, Value)>,
    /// Seconds after which another attempt makes sense.
    pub retry_after: Option<u32>,
}

/// Kind, title: every problem that exists. docs/http.md explains each.
pub const KINDS: [(&str, &str); 38] = [
    ("malformed-event", "Not an event"),
    ("malformed-request", "Request not understood"),
    ("schema-violation", "Payload does not match its schema"),
    ("unknown-consumer", "No such consumer"),
    ("not-a-target", "Consumer takes no jobs"),
    ("too-large", "Too large"),
    ("unsupported-media-type", "Format not understood"),
    ("not-acceptable", "Format not offered"),
    ("id-conflict", "Id taken by another event"),
    ("ambiguous", "Name fits several events"),
    ("too-costly", "Question takes too long"),
    ("unknown-parameter", "Query parameter not understood"),
    ("not-found", "Nothing here"),
    ("method-not-allowed", "Method not allowed here"),
    ("unauthorized", "Token missing or unknown"),
    ("forbidden", "Token lacks the scope"),
    ("foreign-host", "Host not served here"),
    ("foreign-origin", "Request from another site"),
    ("ambiguous-framing", "Request framed in two ways"),
    ("too-slow", "Body came too slowly"),
    ("cut-off", "Body ended early"),
    ("not-settled", "Not settled in time"),
    ("busy", "Busy"),
    ("disk-full", "Disk full"),
    ("log-failed", "Log failed"),
    ("stopping", "Stopping"),
    ("reload-refused", "Reload refused"),
    ("backup-running", "Backup running"),
    ("replay-refused", "Replay refused"),
    ("run-refused", "The run does not allow it"),
    ("not-running", "Not running"),
    ("no-responder", "Nobody answers this"),
    ("query-timed-out", "No answer in time"),
    ("query-invalid", "Question refused as invalid"),
    ("query-not-found", "Nothing found"),
    ("query-unavailable", "No answer now"),
    ("query-failed", "Responder failed"),
    ("internal", "Unexpected error"),
];

impl Problem {
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, status, detail: detail.into(), more: Vec::new(), retry_after: None }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed-request", detail)
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    pub fn busy(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", detail).after(1)
    }

    /// A job that cannot be for the consumer it names.
    pub fn no_target(why: &NoTarget) -> Self {
        let kind = if matches!(why, NoTarget::Unknown { .. } | NoTarget::Removed(_)) {
            "unknown-consumer"
        } else {
            "not-a-target"
        };
        let problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, kind, format!("{why} Nothing was accepted."));
        match why {
            NoTarget::Unknown { near: Some(near), .. } => problem.with("nearest", near.as_str()),
            NoTarget::Unknown { near: None, .. } => problem.see("/consumers"),
            NoTarget::Removed(name) => problem.see(format!("/consumers/{name}")),
            _ => problem,
        }
    }

    /// The record could not be read. What went wrong is for the host's own output.
    pub fn unreadable() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Reading the record failed. The host's own output has the details.",
        )
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.push((name.to_owned(), value.into()));
        self
    }

    /// Where to look next, as a path of this host: each way in has its own words for it.
    #[must_use]
    pub fn see(self, path: impl Into<String>) -> Self {
        self.with("see", path.into())
    }

    #[must_use]
    pub fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn title(&self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("Problem", |(_, title)| title)
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        let (status, kind) = match error.kind {
            ErrorKind::Malformed => (StatusCode::BAD_REQUEST, "malformed-event"),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            ErrorKind::Unsupported => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"),
        };
        let end = if error.message.ends_with('?') { "" } else { "." };
        let detail = format!("{}: {}{end} Nothing was accepted.", error.pointer, error.message);
        let problem = Self::new(status, kind, detail)
            .with("errors", json!([{ "pointer": error.pointer, "detail": error.message }]));
        match error.index {
            Some(index) => problem.with("index", index),
            None => problem,
        }
    }
}

impl From<log::Error> for Problem {
    fn from(error: log::Error) -> Self {
        let unavailable = |kind, detail: &str| Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, detail);
        match error {
            log::Error::Conflict { index, seq, .. } => Self::new(
                StatusCode::CONFLICT,
                "id-conflict",
                format!(
                    "the id of event {index} of this request is taken by event {seq} of the same source, which says \
                     something else. Nothing was accepted; give the new statement an id of its own."
                ),
            )
            .with("index", index)
            .with("sequence", seq),
            log::Error::Busy => Self::busy("Too much is waiting to be written. Send the same again after a moment."),
            log::Error::Full => unavailable(
                "disk-full",
                "The disk is full, so nothing new is accepted; what is under way is finished as far as there is room. Free some \
                 space, or shorten `retention`, and send the same again.",
            )
            .after(10),
            log::Error::Failed(_) => unavailable(
                "log-failed",
                "The log failed and the host stops. Its own output says why; send the same again once it runs.",
            )
            .after(10),
            log::Error::Closed => {
                unavailable("stopping", "The host is stopping. Send the same again once it runs.").after(5)
            }
        }
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::TimedOut { .. } => {
                return Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "too-costly",
                    "The answer would take too long. Ask for less at once (limit), or narrow it by type, time or consumer.",
                );
            }
            store::Error::Ambiguous { .. } => {
                return Self::new(
                    StatusCode::CONFLICT,
                    "ambiguous",
                    "More than one event has that id. Name it as source#id (percent-encoded) or by its sequence number.",
                );
            }
            _ => {}
        }
        tracing::error!(%error, "reading the record failed");
        Self::unreadable()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let mut document = json!({
            "type": format!("{URN}{}", self.kind),
            "title": self.title(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(members) = &mut document {
            members.extend(self.more);
        }
        let mut response = Response::new(Body::from(document.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tidegate\""));
        }
        response
    }
}
