//! Request bodies: counted while they stream, cut when they dribble, admitted by bytes and not by number.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::problem::Problem;

/// The longest silence within a body.
const IDLE: Duration = Duration::from_secs(10);
/// A body that is kept whole has come within this time.
const WHOLE: Duration = Duration::from_secs(30);
/// A line of a stream has come within this time, and the stream as a whole within the next.
const LINE: Duration = Duration::from_secs(30);
const STREAM: Duration = Duration::from_secs(3_600);
/// Bytes of bodies held in memory at once, over all connections.
pub(super) const HELD_BYTES_MAX: usize = 64 << 20;
/// Bytes of answers that their clients have not read yet, over all connections.
pub(super) const ANSWER_BYTES_MAX: usize = 128 << 20;
/// An answer so small is not counted.
pub(super) const ANSWER_BYTES_UNCOUNTED: u64 = 64 << 10;
/// Of a body that nobody will read, so much is read and thrown away, so that the answer is not lost in a reset.
const DISCARD_BYTES: usize = 4 << 20;
const DISCARD: Duration = Duration::from_secs(2);

const KIB: usize = 1 << 10;

/// Room for bodies. One permit is a KiB.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / KIB)))
    }

    /// Room for the unfinished line of a stream; a short one is not worth counting.
    pub(super) fn hold(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        if bytes <= 64 * KIB { Ok(None) } else { self.take(bytes) }
    }

    /// An answer that gives its room back when it has left the host, or its connection has gone.
    pub(super) fn answer(&self, bytes: Bytes) -> Result<Bytes, Problem> {
        struct Held(Bytes, #[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        let kib = u32::try_from(bytes.len().div_ceil(KIB)).unwrap_or(u32::MAX);
        let room = self.0.clone().try_acquire_many_owned(kib).map_err(|_| {
            Problem::busy(
                "The host holds as many unread answers as it has room for. Ask again after a moment, or for less.",
            )
        })?;
        Ok(Bytes::from_owner(Held(bytes, room)))
    }

    fn take(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let kib = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        self.0.clone().try_acquire_many_owned(kib).map(Some).map_err(|_| {
            Problem::busy(
                "The host holds as many request bodies as it has room for. Send the same again after a moment.",
            )
        })
    }
}

/// A body being read.
pub(super) struct Incoming {
    body: Body,
    /// No byte may come later than this.
    until: Instant,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

/// A whole body, and the room it takes for as long as it is held.
#[derive(Debug)]
pub(super) struct Whole {
    pub bytes: Bytes,
    _room: Vec<OwnedSemaphorePermit>,
}

impl Incoming {
    /// A body whose parts are handled as they come.
    pub(super) fn stream(body: Body) -> Self {
        Self { body, until: Instant::now() + STREAM }
    }

    /// The next part, or none at the end. `line_since`: since when the sender has owed the rest of a line.
    pub(super) async fn next(&mut self, line_since: Option<Instant>) -> Result<Option<Bytes>, Problem> {
        let line = line_since.map_or(self.until, |since| since + LINE);
        let deadline = self.until.min(line).min(Instant::now() + IDLE);
        loop {
            match timeout_at(deadline, self.body.frame()).await {
                Err(_) => return Err(too_slow()),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => {
                    return Err(Problem::new(
                        StatusCode::BAD_REQUEST,
                        "cut-off",
                        "The body ended early or is badly framed. Send the request again, whole.",
                    ));
                }
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    // Trailers carry nothing for us.
                    Err(_) => {}
                },
            }
        }
    }

    /// Reads a body of at most `max` bytes to its end.
    pub(super) async fn whole(body: Body, headers: &HeaderMap, max: usize, room: &Room) -> Result<Whole, Problem> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        let mut incoming = Self { body, until: Instant::now() + WHOLE };
        let mut held = Vec::new();
        if let Some(length) = announced {
            let refusal =
                if length > max { Some(too_large(max)) } else { room.take(length).map(|r| held.extend(r)).err() };
            if let Some(problem) = refusal {
                incoming.discard(headers).await;
                return Err(problem);
            }
        }
        let mut bytes = BytesMut::with_capacity(announced.unwrap_or(0));
        while let Some(part) = incoming.next(None).await? {
            if part.len() > max - bytes.len() {
                incoming.discard(headers).await;
                return Err(too_large(max));
            }
            if announced.is_none() {
                held.extend(room.take(part.len())?);
            }
            bytes.extend_from_slice(&part);
        }
        Ok(Whole { bytes: bytes.freeze(), _room: held })
    }

    /// Reads on for a moment and throws away: a client that is still sending would lose the answer otherwise.
    pub(super) async fn discard(&mut self, headers: &HeaderMap) {
        if headers.contains_key(header::EXPECT) {
            return;
        }
        let mut left = DISCARD_BYTES;
        self.until = Instant::now() + DISCARD;
        while let Ok(Some(part)) = self.next(None).await {
            match left.checked_sub(part.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// Throws away a body that will not be looked at.
pub(super) async fn discard(body: Body, headers: &HeaderMap) {
    if axum::body::HttpBody::is_end_stream(&body) {
        return;
    }
    Incoming::stream(body).discard(headers).await;
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "too-slow",
        "The body came too slowly and was cut. Send the request again without long pauses.",
    )
}

fn too_large(max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        format!(
            "The body has more than {max} bytes. Send fewer events at once, or a stream of lines \
             (application/x-ndjson), which has no such bound."
        ),
    )
}
