//! One request: the checks that come before its route, its route, and what every answer carries.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONNECTION, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::RuntimeFlavor;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::framing::Framing;
use super::ids::Ids;
use super::problem::Problem;
use super::route::{Endpoint, ROUTES};
use super::{Parts, access, api, body};
use crate::random::Random;
use crate::store;
use crate::telemetry::Gauges;

/// Questions to the database at once: more would only wait for the disk, each holding a thread.
const READS_MAX: usize = 4;

/// Bodies at once whose reading and checking takes long: more would only wait for the processor.
const HEAVY_MAX: usize = 4;
/// Who waits or follows the stream at once: each has a connection for as long as it likes, and others need some too.
const WAITS_MAX: usize = 128;
const FOLLOWERS_MAX: usize = 128;
/// Who waits for an answer to a question at once.
const ASKERS_MAX: usize = 256;

/// What answers requests.
pub(super) struct App {
    pub parts: Parts,
    pub room: body::Room,
    pub ids: Ids,
    pub stop: watch::Receiver<bool>,
    pub backups: super::backups::Backups,
    pub gauges: tokio::sync::Mutex<Option<Gauges>>,
    reads: Arc<Semaphore>,
    heavy: Semaphore,
    waits: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    askers: Arc<Semaphore>,
    /// Room for answers until their clients have read them.
    pub answers: body::Room,
    router: std::sync::OnceLock<TowerToHyperService<Router>>,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// What is known of a request besides itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub framing: Framing,
    /// The address the connection was made to.
    pub local: Option<SocketAddr>,
}

fn random() -> Random {
    Random::from_system().unwrap_or_else(|error| {
        tracing::error!(%error, "the system has no randomness; ids are made of the time alone");
        Random::seeded(0)
    })
}

impl App {
    pub(super) fn new(parts: Parts, stop: watch::Receiver<bool>) -> Self {
        Self {
            parts,
            room: body::Room::new(body::HELD_BYTES_MAX),
            ids: Ids::new(random()),
            stop,
            backups: super::backups::Backups::default(),
            gauges: tokio::sync::Mutex::default(),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            heavy: Semaphore::new(HEAVY_MAX),
            waits: Arc::new(Semaphore::new(WAITS_MAX)),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            askers: Arc::new(Semaphore::new(ASKERS_MAX)),
            answers: body::Room::new(body::ANSWER_BYTES_MAX),
            router: std::sync::OnceLock::new(),
        }
    }

    /// Answers one request, whatever it is. A panic on the way is ours, and is answered too.
    pub(super) async fn handle(self: &Arc<Self>, request: Request, wire: Wire) -> Response<Body> {
        let close = request.headers().contains_key(TRANSFER_ENCODING) || wire.framing == Framing::Ambiguous;
        let answer = AssertUnwindSafe(self.checked(request, wire)).catch_unwind().await;
        let mut response = answer.unwrap_or_else(|_| {
            tracing::error!("a request's handler panicked");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Something unexpected went wrong, which is a bug. The host's own output has the details.",
            )
            .into_response()
        });
        response = self.held(response).await;
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The same answer, counted until its client has read it; or a refusal, if there is no room for it.
    async fn held(&self, response: Response<Body>) -> Response<Body> {
        let length = response.body().size_hint().exact().unwrap_or(0);
        if length <= body::ANSWER_BYTES_UNCOUNTED {
            return response;
        }
        let (parts, body) = response.into_parts();
        // It is whole already, so this copies nothing.
        let Ok(whole) = body.collect().await else { return Problem::unreadable().into_response() };
        match self.answers.answer(whole.to_bytes()) {
            Ok(bytes) => Response::from_parts(parts, Body::from(bytes)),
            Err(problem) => problem.into_response(),
        }
    }

    async fn checked(self: &Arc<Self>, request: Request, wire: Wire) -> Response<Body> {
        if wire.framing == Framing::Ambiguous {
            return Problem::new(
                StatusCode::BAD_REQUEST,
                "ambiguous-framing",
                "The request says in two ways, or in an odd one, where it ends. Send Content-Length once, or chunks.",
            )
            .into_response();
        }
        let server = Arc::clone(&self.parts.registry.current().deployment);
        let site = access::check_site(request.method(), request.uri(), request.headers(), &server.server, wire.local);
        if let Err(problem) = site {
            let (parts, unread) = request.into_parts();
            body::discard(unread, &parts.headers).await;
            return problem.into_response();
        }
        let router = self.router.get_or_init(|| TowerToHyperService::new(router(self)));
        match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Asks the database, where blocking is allowed.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&store::Reader) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.reads).acquire_owned().await.map_err(|_| Problem::unreadable())?;
        let reader = self.parts.reader.clone();
        let answer = tokio::task::spawn_blocking(move || {
            let answer = ask(&reader);
            drop(permit);
            answer
        });
        match answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => {
                tracing::error!(%error, "reading the record failed");
                Err(Problem::unreadable())
            }
        }
    }

    /// Does what may occupy a processor for long, so that everybody else's requests go on meanwhile.
    pub(super) async fn heavy<T>(&self, work: impl FnOnce() -> T) -> T {
        let _turn = self.heavy.acquire().await;
        match tokio::runtime::Handle::current().runtime_flavor() {
            RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
            _ => work(),
        }
    }

    /// A place for one that waits.
    pub(super) fn wait_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        place(&self.waits, "wait")
    }

    /// A place for one that follows the stream.
    pub(super) fn follower_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        place(&self.followers, "follow the stream")
    }

    /// A place for one that asks a question.
    pub(super) fn asker_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        place(&self.askers, "ask")
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.parts.control.stopping() || *self.stop.borrow() || self.stop.has_changed().is_err()
    }
}

fn place(places: &Arc<Semaphore>, doing: &str) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        Problem::busy(format!("As many clients {doing} as the host has room for. Ask again after a moment."))
    })
}

fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in &ROUTES {
        let filter = if route.method == Method::POST { MethodFilter::POST } else { MethodFilter::GET };
        let (endpoint, needed) = (route.endpoint, route.access);
        // The router is owned by the application, so it must not own it in turn.
        let app = Arc::downgrade(app);
        let handler = move |request: Request| {
            let app = app.upgrade();
            async move {
                match app {
                    Some(app) => routed(app, endpoint, needed, request).await,
                    None => Problem::from(crate::log::Error::Closed).into_response(),
                }
            }
        };
        router = router.route(route.path, on(filter, handler));
    }
    router.method_not_allowed_fallback(method_not_allowed).fallback(not_found)
}

async fn routed(app: Arc<App>, endpoint: Endpoint, needed: super::route::Access, request: Request) -> Response<Body> {
    let deployment = Arc::clone(&app.parts.registry.current().deployment);
    let token = access::check_token(request.headers(), needed, &deployment.server, &app.parts.boot_token);
    if let Err(problem) = token {
        let (parts, unread) = request.into_parts();
        body::discard(unread, &parts.headers).await;
        return problem.into_response();
    }
    api::answer(&app, endpoint, request).await.unwrap_or_else(Problem::into_response)
}

async fn not_found(request: Request) -> Response<Body> {
    let (parts, unread) = request.into_parts();
    body::discard(unread, &parts.headers).await;
    Problem::not_found(
        "There is no such route. The routes are: /events, /outcomes, /dead-letters, /consumers, /stats, \
                        /queries, /state/{consumer}, /replays, /runs, /backups, /reload, /wait, /stream, /livez, /readyz, /healthz, /metrics.",
    )
    .into_response()
}

async fn method_not_allowed(request: Request) -> Response<Body> {
    let (parts, unread) = request.into_parts();
    body::discard(unread, &parts.headers).await;
    let allowed = allowed(parts.uri.path());
    let detail = format!("{} is not possible here; what is: {allowed}.", parts.method);
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail).into_response();
    if let Ok(value) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

/// The methods of a path, as `Allow` lists them.
fn allowed(path: &str) -> String {
    let fits = |pattern: &str| {
        let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == given || wanted.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    let mut methods: Vec<&str> = Vec::new();
    for route in ROUTES.iter().filter(|route| fits(route.path)) {
        methods.push(route.method.as_str());
        if route.method == Method::GET {
            methods.push("HEAD");
        }
    }
    methods.sort_unstable();
    methods.dedup();
    methods.join(", ")
}
