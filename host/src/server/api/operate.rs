//! What changes how things stand: dead letters, the live deployment. And waiting until all is settled.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use serde_json::json as value;

use super::{Answer, Nothing, json, look, query};
use crate::log::{DeadDecision, DeadSelection};
use crate::model::delivery::DeathCause;
use crate::model::{ConsumerName, Seq, Timestamp};
use crate::server::app::App;
use crate::server::body::Incoming;
use crate::server::event;
use crate::server::problem::Problem;

/// A selection, in bytes.
const BODY_BYTES: usize = 1 << 20;
/// How long `/wait` waits, unless asked otherwise, and at most.
const WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Which dead letters, as JSON says it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Selection {
    ids: Vec<String>,
    consumer: Option<ConsumerName>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    cause: Option<DeathCause>,
    limit: Option<usize>,
    /// Needed where nothing else is said: an empty selection is a slip more often than a wish.
    all: bool,
}

impl Selection {
    fn resolve(self) -> Result<DeadSelection, String> {
        let narrow = !self.ids.is_empty()
            || self.consumer.is_some()
            || self.event_type.is_some()
            || self.since.is_some()
            || self.until.is_some()
            || self.cause.is_some();
        if narrow == self.all {
            return Err(
                "say which dead letters (ids, consumer, type, since, until, cause), or else \"all\": true".into()
            );
        }
        let read =
            |id: &String| look::delivery(id).ok_or_else(|| format!("{id:?} is not SEQ/CONSUMER or SEQ/CONSUMER/ROUND"));
        Ok(DeadSelection {
            ids: self.ids.iter().map(read).collect::<Result<_, _>>()?,
            consumer: self.consumer,
            event_type: self.event_type,
            since: self.since,
            until: self.until,
            cause: self.cause,
            limit: self.limit,
        })
    }
}

pub(super) async fn redrive(app: &Arc<App>, parts: &Parts, body: Body) -> Answer {
    decide(app, parts, body, DeadDecision::Redrive).await
}

pub(super) async fn discard(app: &Arc<App>, parts: &Parts, body: Body) -> Answer {
    decide(app, parts, body, DeadDecision::Discard).await
}

async fn decide(app: &Arc<App>, parts: &Parts, body: Body, decision: DeadDecision) -> Answer {
    #[derive(Serialize)]
    struct Decided {
        count: usize,
        deliveries: Vec<String>,
    }

    let selection: Selection = read(app, parts, body).await?;
    let selection =
        selection.resolve().map_err(|why| Problem::bad_request(format!("The selection cannot be used: {why}.")))?;
    let decided = app.parts.log.decide_dead(selection, decision).await?;
    let deliveries: Vec<String> = decided.iter().map(ToString::to_string).collect();
    json(StatusCode::OK, &Decided { count: deliveries.len(), deliveries })
}

/// What a request asks for, as JSON says it.
pub(super) async fn read<T: serde::de::DeserializeOwned>(
    app: &Arc<App>,
    parts: &Parts,
    body: Body,
) -> Result<T, Problem> {
    let whole = Incoming::whole(body, &parts.headers, BODY_BYTES, &app.room).await?;
    let Nothing {} = query(&parts.uri)?;
    expect_json(&parts.headers)?;
    serde_json::from_slice(&whole.bytes)
        .map_err(|error| Problem::bad_request(format!("What is asked for cannot be read: {error}.")))
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if event::is_json(content_type) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "What is asked for is JSON. Send it with Content-Type: application/json.",
    ))
}

pub(super) async fn reload(app: &Arc<App>, uri: &Uri) -> Answer {
    let Nothing {} = query(uri)?;
    match app.parts.control.reload().await {
        Ok(reloaded) => json(StatusCode::OK, &reloaded),
        Err(diagnostics) => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "reload-refused",
            "The manifest or a component is faulty, so nothing was changed: the last good generation goes on. Correct \
             what `diagnostics` lists and reload again.",
        )
        .with("diagnostics", diagnostics)),
    }
}

pub(super) async fn wait(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        through: Option<String>,
        timeout: Option<String>,
    }

    let asked: Asked = query(uri)?;
    let wrong = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "unknown-parameter", detail);
    let last =
        || async { app.read(crate::store::Reader::stats).await.map(|stats| stats.map_or(0, |s| s.last_sequence)) };
    let through: Option<Seq> = match asked.through.as_deref() {
        None | Some("now") => Some(last().await?),
        Some("all") => None,
        Some(text) => Some(text.parse().map_err(|_| wrong("through: a sequence number, now or all is needed."))?),
    };
    let timeout = match asked.timeout.as_deref() {
        None => WAIT,
        Some(text) => duration(text).ok_or_else(|| wrong("timeout: a duration such as 30s or 500ms is needed."))?,
    };
    let _place = app.wait_place()?;
    let mut stop = app.stop.clone();
    tokio::select! {
        waited = tokio::time::timeout(timeout.min(WAIT_MAX), app.parts.control.wait_settled(through)) => match waited {
            Ok(through) => json(StatusCode::OK, &value!({ "settled": true, "through": through })),
            Err(_) => {
                let through = match through {
                    Some(through) => through,
                    None => last().await?,
                };
                let unsettled = app.read(move |reader| reader.unsettled(through)).await?;
                Err(Problem::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "not-settled",
                    format!(
                        "{unsettled} deliveries of events up to {through} are not settled yet. Ask again, or see what waits."
                    ),
                )
                .see("/consumers")
                .with("unsettled", unsettled)
                .with("through", through))
            }
        },
        () = crate::server::accept::stopped(&mut stop) => Err(crate::log::Error::Closed.into()),
    }
}

/// `500ms`, `30s`, `2m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "" | "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.saturating_mul(60))),
        _ => None,
    }
}
