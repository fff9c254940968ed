//! Reading the record. Every answer is bounded; `next` says where to go on.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};

use super::{Answer, Nothing, Path, json, negotiate, not_acceptable, query, typed};
use crate::model::query::{DeadLetterQuery, EventQuery, LIMIT, LIMIT_MAX, OutcomeQuery, StateQuery, is_full};
use crate::model::record::{DeadLetterRecord, EventRecord, EventTree, OutcomeRecord, StateRecord};
use crate::model::{ConsumerName, DeliveryId, Seq};
use crate::server::app::App;
use crate::server::event::show::CloudEvent;
use crate::server::problem::Problem;

/// Events and questions of one causal tree, at most.
const TREE_NODES_MAX: usize = 1_000;
const JSON: &str = "application/json";
const BATCH: &str = "application/cloudevents-batch+json";
const STRUCTURED: &str = "application/cloudevents+json";

/// The rows asked for: never more than is good for the host.
pub(super) fn bounded(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(LIMIT) {
        0 => Err(Problem::new(StatusCode::BAD_REQUEST, "unknown-parameter", "limit: at least 1 is needed.")),
        limit => Ok(limit.min(LIMIT_MAX)),
    }
}

/// Where to go on: the last row's place, if the answer is full.
pub(super) fn next<T>(rows: &[T], limit: usize, bytes: impl Fn(&T) -> usize, place: impl Fn(&T) -> Seq) -> Option<Seq> {
    rows.last().filter(|_| is_full(rows, limit, bytes)).map(place)
}

pub(super) async fn events(app: &Arc<App>, parts: &Parts) -> Answer {
    #[derive(Serialize)]
    struct Events {
        events: Vec<EventRecord>,
        next: Option<Seq>,
    }

    let mut asked: EventQuery = query(&parts.uri)?;
    let limit = bounded(asked.limit)?;
    asked.limit = Some(limit);
    if let Some(pattern) = &asked.event_type {
        crate::model::TypePattern::new(pattern)
            .map_err(|why| Problem::new(StatusCode::BAD_REQUEST, "unknown-parameter", format!("type: {why}.")))?;
    }
    let offers = [JSON, BATCH];
    let format = negotiate(&parts.headers, &offers).ok_or_else(|| not_acceptable(&offers))?;
    let newest = asked.newest;
    let events = app.read(move |reader| reader.events(&asked)).await?;
    let next = next(&events, limit, EventRecord::bytes, |event| event.sequence);
    if format == JSON {
        return json(StatusCode::OK, &Events { events, next });
    }
    let batch: Vec<CloudEvent<'_>> = events.iter().map(CloudEvent).collect();
    let mut response = typed(StatusCode::OK, BATCH, &batch)?;
    // A batch has no room for `next`, so it goes where the web has always had it.
    let link = next.map(|seq| link(&parts.uri, if newest { "before" } else { "after" }, seq));
    if let Some(link) = link.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// The same question, from `seq` on.
fn link(uri: &Uri, parameter: &str, seq: Seq) -> String {
    let kept = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("after=") && !pair.starts_with("before="));
    let query: Vec<&str> = kept.collect();
    let separator = if query.is_empty() { "" } else { "&" };
    format!("<{}?{}{separator}{parameter}={seq}>; rel=\"next\"", uri.path(), query.join("&"))
}

pub(super) async fn event(app: &Arc<App>, parts: &Parts, path: &Path) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(default)]
        tree: bool,
    }

    #[derive(Serialize)]
    struct Tree {
        #[serde(flatten)]
        tree: EventTree,
        /// Whether there was more than is shown.
        cut: bool,
    }

    let asked: Asked = query(&parts.uri)?;
    let offers = [JSON, STRUCTURED];
    let format = negotiate(&parts.headers, &offers).ok_or_else(|| not_acceptable(&offers))?;
    let reference = path.get("ref").unwrap_or_default().to_owned();
    let missing = || {
        Problem::not_found(
            "There is no such event. Name it by its sequence number, by its id, or by source#id (percent-encoded).",
        )
    };
    let event = app.read(move |reader| reader.event(&reference)).await?.ok_or_else(missing)?;
    if asked.tree {
        let sequence = event.sequence;
        let read = app.read(move |reader| reader.tree(sequence, TREE_NODES_MAX)).await?;
        let (tree, cut) = read.ok_or_else(missing)?;
        return json(StatusCode::OK, &Tree { tree, cut });
    }
    match format {
        JSON => json(StatusCode::OK, &event),
        _ => typed(StatusCode::OK, STRUCTURED, &CloudEvent(&event)),
    }
}

pub(super) async fn outcomes(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Serialize)]
    struct Outcomes {
        outcomes: Vec<OutcomeRecord>,
        next: Option<Seq>,
    }

    let mut asked: OutcomeQuery = query(uri)?;
    let limit = bounded(asked.limit)?;
    asked.limit = Some(limit);
    let outcomes = app.read(move |reader| reader.outcomes(&asked)).await?;
    let next = next(&outcomes, limit, OutcomeRecord::bytes, |outcome| outcome.sequence);
    json(StatusCode::OK, &Outcomes { outcomes, next })
}

pub(super) async fn dead_letters(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct DeadLetters {
        dead_letters: Vec<DeadLetterRecord>,
        next: Option<Seq>,
    }

    let mut asked: DeadLetterQuery = query(uri)?;
    let limit = bounded(asked.limit)?;
    asked.limit = Some(limit);
    let dead_letters = app.read(move |reader| reader.dead_letters(&asked)).await?;
    let next = next(&dead_letters, limit, |_| 0, |dead| dead.sequence);
    json(StatusCode::OK, &DeadLetters { dead_letters, next })
}

pub(super) async fn dead_letter(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct DeadLetter {
        dead_letter: DeadLetterRecord,
        outcomes: Vec<OutcomeRecord>,
        event: EventRecord,
    }

    let Nothing {} = query(uri)?;
    let missing = || Problem::not_found("There is no such dead letter.").see("/dead-letters?status=all");
    let text = ["seq", "consumer", "round"].iter().filter_map(|name| path.get(name)).collect::<Vec<_>>().join("/");
    let id = delivery(&text).ok_or_else(missing)?;
    let read = app.read(move |reader| reader.dead_letter(&id)).await?;
    let (dead_letter, outcomes, event) = read.ok_or_else(missing)?;
    json(StatusCode::OK, &DeadLetter { dead_letter, outcomes, event })
}

/// Reads `SEQ/CONSUMER` or `SEQ/CONSUMER/ROUND`.
pub(super) fn delivery(text: &str) -> Option<DeliveryId> {
    let mut parts = text.split('/');
    let seq = parts.next()?.parse().ok()?;
    let consumer = ConsumerName::new(parts.next()?).ok()?;
    let round = parts.next().map_or(Some(0), |round| round.parse().ok())?;
    parts.next().is_none().then_some(DeliveryId { seq, consumer, round })
}

pub(super) async fn stats(app: &Arc<App>, uri: &Uri) -> Answer {
    let Nothing {} = query(uri)?;
    let stats = app.read(crate::store::Reader::stats).await?;
    json(StatusCode::OK, &stats.ok_or_else(|| Problem::not_found("The database is empty. Send a first event."))?)
}

pub(super) async fn state(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    #[derive(Serialize)]
    struct State {
        state: Vec<StateRecord>,
        next: Option<String>,
    }

    let mut asked: StateQuery = query(uri)?;
    let limit = bounded(asked.limit)?;
    asked.limit = Some(limit);
    let consumer = ConsumerName::new(path.get("consumer").unwrap_or_default())
        .map_err(|why| Problem::not_found(format!("There is no such consumer: {why}.")))?;
    let state = app.read(move |reader| reader.state(&consumer, &asked)).await?;
    let next = state.last().filter(|_| is_full(&state, limit, StateRecord::value_bytes)).map(|row| row.key.clone());
    json(StatusCode::OK, &State { state, next })
}
