//! The accept loop and the life of a connection. Our own, because the framework's loop sets no time-outs: a client could
//! hold a connection for ever with half a header.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::app::{App, Wire};
use super::io::{Guarded, SharedWatch};

/// Connections at once, if the system lets us have twice as many files.
const CONNECTIONS_MAX: usize = 1_024;
/// Connections of one address, unless it is this machine's own.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 128;
/// A request's head has come within this time, counted from the connection or from the answer before: so it bounds the
/// first byte, a dribbled header and an idle connection alike.
const HEAD: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64;
const HEAD_BYTES: usize = 32 << 10;
const BUFFER_BYTES: usize = 64 << 10;
/// After a failed accept (too many open files, mostly): long enough for something to close.
const BACK_OFF: Duration = Duration::from_millis(200);
/// What a stop lets requests in hand take.
const STOP: Duration = Duration::from_secs(5);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 5\r\n\
Content-Length: 154\r\nConnection: close\r\n\r\n{\"type\":\"urn:tidegate:problem:busy\",\"title\":\"Busy\",\"status\":503,\
\"detail\":\"The host has as many connections as it takes. Connect again after a moment.\"}";

/// Accepts until `stop`, then waits a little for the connections that are left.
pub(super) async fn run(listener: TcpListener, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let places = Places::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match places.take(peer.ip()) {
                Some(place) => {
                    let (app, stop) = (Arc::clone(&app), stop.clone());
                    connections.spawn(async move {
                        let local = stream.local_addr().ok();
                        // Answers are written whole, so waiting for more to send only delays them.
                        stream.set_nodelay(true).ok();
                        connection(stream, local, app, stop).await;
                        drop(place);
                    });
                }
                None => turn_away(&stream),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                back_off().await;
            }
        }
    }
    drop(listener);
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP, rest).await.is_err() {
        connections.shutdown().await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a pause of the network, which tests move with tokio's own clock")]
async fn back_off() {
    tokio::time::sleep(BACK_OFF).await;
}

/// Ends when `stop` is true, or when nobody is left to say so.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    stop.wait_for(|stop| *stop).await.ok();
}

/// Serves one connection to its end.
pub(super) async fn connection<T>(stream: T, local: Option<SocketAddr>, app: Arc<App>, mut stop: watch::Receiver<bool>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let watch = SharedWatch::default();
    let guarded = TokioIo::new(Guarded::new(stream, Arc::clone(&watch)));
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let framing = watch.lock().unwrap_or_else(PoisonError::into_inner).verdict();
        let app = Arc::clone(&app);
        async move { Ok::<_, io::Error>(app.handle(request.map(Body::new), Wire { framing, local }).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .half_close(true)
        .keep_alive(true)
        .serve_connection(guarded, service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection was cut");
    }
}

/// Says that there is no room, if the connection takes it without waiting.
fn turn_away(stream: &TcpStream) {
    stream.try_write(FULL).ok();
}

/// Who has connections, and how many are left.
struct Places {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

struct Place {
    _permit: OwnedSemaphorePermit,
    address: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Places {
    fn new() -> Self {
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let half = files.map_or(CONNECTIONS_MAX, |files| usize::try_from(files / 2).unwrap_or(CONNECTIONS_MAX));
        Self { all: Arc::new(Semaphore::new(half.clamp(16, CONNECTIONS_MAX))), by_address: Arc::default() }
    }

    fn take(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= CONNECTIONS_PER_ADDRESS_MAX && !address.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Place { _permit: permit, address, by_address: Arc::clone(&self.by_address) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}
