//! `GET /stream`: what becomes durable, as server-sent events. An `event` bears its sequence number as id, so a client that comes
//! back with `Last-Event-ID` misses no event: what it has not seen is read from the log. Outcomes and dead letters are shown as
//! they happen; a client too slow for them is told how many it missed.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

use super::{Answer, query};
use crate::model::{ConsumerName, Event, Seq, TypePattern};
use crate::server::Live;
use crate::server::accept::stopped;
use crate::server::app::App;
use crate::server::event::show;
use crate::server::problem::Problem;

/// Silence is broken by a comment, so that whoever stands between does not cut the connection.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events read from the log at once, at most, as long as so many have no more bytes than this.
const CATCH_UP: usize = 128;
const CATCH_UP_BYTES: usize = 256 << 10;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    /// A pattern over event types.
    #[serde(rename = "type")]
    event_type: Option<TypePattern>,
    /// Outcomes and dead letters of this consumer only, and no events unless `type` is given as well.
    consumer: Option<ConsumerName>,
    /// Events after this one; as `Last-Event-ID`, which wins.
    after: Option<Seq>,
}

struct Follower {
    app: Arc<App>,
    asked: Asked,
    live: broadcast::Receiver<Live>,
    /// The last event seen; none until one has been.
    seen: Option<Seq>,
    /// Whether the log holds events that were not shown.
    behind: bool,
    waiting: VecDeque<Bytes>,
    /// Read from the log, to be shown one at a time: text is made only when the client has room for it.
    caught: VecDeque<Arc<Event>>,
    /// How many to read next: a client that does not read must not keep many large ones.
    page: usize,
    _place: OwnedSemaphorePermit,
}

pub(super) fn stream(app: &Arc<App>, parts: &Parts) -> Answer {
    let asked: Asked = query(&parts.uri)?;
    let resumed = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<Seq>().ok());
    let seen = resumed.or(asked.after);
    let place = app.follower_place()?;
    let live = app.parts.live.subscribe();
    if app.is_stopping() {
        return Err(Problem::from(crate::log::Error::Closed));
    }
    let opening = VecDeque::from([Bytes::from_static(b"retry: 2000\n: tidegate\n\n")]);
    let follower = Follower {
        app: Arc::clone(app),
        asked,
        live,
        seen,
        behind: seen.is_some(),
        waiting: opening,
        caught: VecDeque::new(),
        page: 1,
        _place: place,
    };
    let frames = unfold(follower, |mut follower| async move {
        let bytes = follower.next().await?;
        Some((Ok::<_, Infallible>(bytes), follower))
    });
    let mut response = Response::new(Body::from_stream(frames));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

impl Follower {
    /// The next bytes to send; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.waiting.pop_front() {
                return Some(bytes);
            }
            if let Some(event) = self.caught.pop_front() {
                self.event(&event);
                // Each is work, and there may be many that this client does not want.
                tokio::task::yield_now().await;
                continue;
            }
            if self.behind {
                self.catch_up().await?;
                continue;
            }
            let mut stop = self.app.stop.clone();
            let live = tokio::select! {
                live = tokio::time::timeout(HEARTBEAT, self.live.recv()) => live,
                () = stopped(&mut stop) => return None,
            };
            match live {
                Err(_) => return Some(Bytes::from_static(b": alive\n\n")),
                Ok(Err(RecvError::Closed)) => return None,
                Ok(Err(RecvError::Lagged(missed))) => {
                    self.behind = self.seen.is_some();
                    self.push("missed", None, &json!({ "count": missed }));
                }
                Ok(Ok(live)) => self.show(live),
            }
        }
    }

    /// Reads on from the last event seen.
    async fn catch_up(&mut self) -> Option<()> {
        let after = self.seen.unwrap_or(0);
        let events = self.app.parts.log.read(after, self.page).await.ok()?;
        let bytes = events.iter().map(|event| event.envelope.data_len()).sum::<usize>();
        self.page = if bytes > CATCH_UP_BYTES { 1 } else { (self.page * 2).min(CATCH_UP) };
        self.behind = !events.is_empty();
        self.caught = events.into();
        Some(())
    }

    fn show(&mut self, live: Live) {
        match live {
            Live::Event(event) => self.event(&event),
            Live::Large(seq) => {
                self.seen.get_or_insert(seq.saturating_sub(1));
                self.behind = true;
            }
            Live::Outcome(outcome) => {
                if self.wants(&outcome.event_type, Some(&outcome.consumer)) {
                    self.push("outcome", None, &outcome);
                }
            }
            Live::DeadLetter(dead) => {
                if self.wants(&dead.event_type, Some(&dead.consumer)) {
                    self.push("dead-letter", None, &dead);
                }
            }
            Live::Reloaded(reloaded) => self.push("reloaded", None, &reloaded),
        }
    }

    fn event(&mut self, event: &Event) {
        // Shown already, while catching up.
        if self.seen.is_some_and(|seen| event.seq <= seen) {
            return;
        }
        self.seen = Some(event.seq);
        if self.wants(&event.envelope.event_type, None) {
            self.push("event", Some(event.seq), &show::record(event));
        }
    }

    fn wants(&self, event_type: &str, consumer: Option<&ConsumerName>) -> bool {
        let by_type = self.asked.event_type.as_ref().map(|pattern| pattern.matches(event_type));
        let by_consumer = self.asked.consumer.as_ref().map(|wanted| Some(wanted) == consumer);
        match (by_type, by_consumer) {
            (by_type, Some(false)) => consumer.is_none() && by_type == Some(true),
            (by_type, _) => by_type.unwrap_or(true),
        }
    }

    fn push(&mut self, name: &str, id: Option<Seq>, data: &impl serde::Serialize) {
        let Ok(data) = serde_json::to_string(data) else { return };
        let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
        // A payload is shown with the line ends it came with, and each line needs a field of its own.
        let mut frame = format!("event: {name}\n{id}");
        if data.contains('\n') || data.contains('\r') {
            data.split(['\r', '\n']).for_each(|line| frame.extend(["data: ", line, "\n"]));
        } else {
            frame.extend(["data: ", data.as_str(), "\n"]);
        }
        frame.push('\n');
        self.waiting.push_back(frame.into());
    }
}
