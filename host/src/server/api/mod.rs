//! What each route does.

mod append;
mod backups;
mod consumers;
mod health;
mod lines;
mod look;
mod metrics;
mod operate;
mod queries;
mod replays;
mod runs;
mod stream;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts as _, Query, RawPathParams, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::app::App;
use super::problem::Problem;
use super::route::Endpoint;

type Answer = Result<Response<Body>, Problem>;

pub(super) async fn answer(app: &Arc<App>, endpoint: Endpoint, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    match endpoint {
        Endpoint::Append => return append::append(app, &parts, body).await,
        Endpoint::Redrive => return operate::redrive(app, &parts, body).await,
        Endpoint::Discard => return operate::discard(app, &parts, body).await,
        Endpoint::Backup => return backups::start(app, &parts, body).await,
        Endpoint::Replay => return replays::start(app, &parts, body).await,
        Endpoint::Ask => return queries::ask(app, &mut parts, body).await,
        Endpoint::RunCancel => return runs::cancel(app, &mut parts, body).await,
        Endpoint::StepResolve => return runs::resolve(app, &mut parts, body).await,
        Endpoint::Release => return consumers::release(app, &mut parts, body).await,
        _ => super::body::discard(body, &parts.headers).await,
    }
    let path = Path::of(&mut parts).await?;
    match endpoint {
        Endpoint::Events => look::events(app, &parts).await,
        Endpoint::Event => look::event(app, &parts, &path).await,
        Endpoint::Outcomes => look::outcomes(app, &parts.uri).await,
        Endpoint::Queries => queries::list(app, &parts.uri).await,
        Endpoint::DeadLetters => look::dead_letters(app, &parts.uri).await,
        Endpoint::DeadLetter => look::dead_letter(app, &parts.uri, &path).await,
        Endpoint::Consumers => consumers::list(app, &parts.uri).await,
        Endpoint::Consumer => consumers::one(app, &parts.uri, &path).await,
        Endpoint::Pause => consumers::pause(app, &parts.uri, &path, true).await,
        Endpoint::Resume => consumers::pause(app, &parts.uri, &path, false).await,
        Endpoint::Replays => replays::list(app, &parts.uri).await,
        Endpoint::ReplayOne => replays::one(app, &parts.uri, &path).await,
        Endpoint::ReplayCancel => replays::cancel(app, &parts.uri, &path).await,
        Endpoint::Runs => runs::list(app, &parts.uri).await,
        Endpoint::RunOne => runs::one(app, &parts.uri, &path).await,
        Endpoint::StepRetry => runs::retry(app, &parts.uri, &path).await,
        Endpoint::Stats => look::stats(app, &parts.uri).await,
        Endpoint::State => look::state(app, &parts.uri, &path).await,
        Endpoint::Backups => backups::list(app, &parts.uri),
        Endpoint::BackupOne => backups::one(app, &parts.uri, &path),
        Endpoint::Reload => operate::reload(app, &parts.uri).await,
        Endpoint::Wait => operate::wait(app, &parts.uri).await,
        Endpoint::Stream => stream::stream(app, &parts),
        Endpoint::Livez => health::livez(&parts.uri),
        Endpoint::Readyz | Endpoint::Healthz => health::readyz(app, &parts),
        Endpoint::Metrics => metrics::metrics(app, &parts).await,
        Endpoint::Append
        | Endpoint::Redrive
        | Endpoint::Discard
        | Endpoint::Ask
        | Endpoint::Backup
        | Endpoint::Replay
        | Endpoint::RunCancel
        | Endpoint::StepResolve
        | Endpoint::Release => Err(Problem::not_found("There is no such route.")),
    }
}

/// The variable parts of a path.
struct Path(RawPathParams);

impl Path {
    async fn of(parts: &mut Parts) -> Result<Self, Problem> {
        let read = RawPathParams::from_request_parts(parts, &()).await;
        read.map(Self).map_err(|_| Problem::bad_request("The path is not UTF-8 once its percent-encoding is undone."))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// The query parameters, each known by name.
fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let Query(query) = Query::<T>::try_from_uri(uri).map_err(|error| {
        let detail = error.to_string();
        let detail = detail.strip_prefix("Failed to deserialize query string: ").unwrap_or(&detail).to_owned();
        Problem::new(
            StatusCode::BAD_REQUEST,
            "unknown-parameter",
            format!("{detail}. docs/http.md lists the parameters."),
        )
    })?;
    Ok(query)
}

/// For routes that take no parameters.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    typed(status, "application/json", value)
}

fn typed(status: StatusCode, content_type: &'static str, value: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer could not be written");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The answer could not be written, which is a bug.")
    })?;
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

fn text(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Which of `offers` the client wants most; the first one if it does not care. None: it wants something else.
fn negotiate(headers: &HeaderMap, offers: &[&'static str]) -> Option<&'static str> {
    let accepted: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    if accepted.is_empty() {
        return offers.first().copied();
    }
    let ranges: Vec<(String, f32)> = accepted.iter().flat_map(|value| value.split(',')).map(range).collect();
    // The most specific range that fits an offer decides about it.
    let weight = |offer: &str| {
        let family = offer.split('/').next().unwrap_or_default();
        let exact = |wanted: &str| ranges.iter().find(|(range, _)| range == wanted).map(|(_, weight)| *weight);
        exact(offer).or_else(|| exact(&format!("{family}/*"))).or_else(|| exact("*/*")).unwrap_or(0.0)
    };
    let mut best: Option<(&'static str, f32)> = None;
    for offer in offers {
        let weight = weight(offer);
        if weight > best.map_or(0.0, |(_, best)| best) {
            best = Some((offer, weight));
        }
    }
    best.map(|(offer, _)| offer)
}

fn range(text: &str) -> (String, f32) {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().unwrap_or_default().to_ascii_lowercase();
    let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
    (range, weight.filter(|weight| weight.is_finite()).unwrap_or(1.0))
}

fn not_acceptable(offers: &[&str]) -> Problem {
    let detail = format!("None of what Accept asks for is offered here. Ask for one of: {}.", offers.join(", "));
    Problem::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", detail)
}
