//! `/replays`: events of the past, delivered again.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};

use super::{Answer, Nothing, Path, json, query};
use crate::model::query::{LIMIT, LIMIT_MAX};
use crate::model::record::{ReplayPlan, ReplayRecord};
use crate::model::replay::{RateText, Refusal, ReplaySpec};
use crate::model::{ConsumerName, Event, Seq, Timestamp, TypePattern};
use crate::registry::Snapshot;
use crate::server::app::App;
use crate::server::problem::Problem;

/// Events read at once for a plan.
const PAGE_EVENTS: usize = 512;

/// A place in the log: an event's number, or a time.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a sequence number, or a time as in RFC 3339, such as 2026-03-01T12:00:00Z")]
enum Place {
    Sequence(Seq),
    Time(Timestamp),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    from: Option<Place>,
    to: Option<Place>,
    #[serde(rename = "type")]
    event_type: Option<TypePattern>,
    key: Option<String>,
    correlation: Option<String>,
    consumer: Option<ConsumerName>,
    rate: Option<RateText>,
    #[serde(default)]
    dry_run: bool,
    /// Needed where nothing is chosen: to deliver the whole log again is a slip more often than a wish.
    #[serde(default)]
    all: bool,
}

impl Asked {
    /// Whether it says which events, or to whom: one or the other, everything or a choice.
    fn check(&self) -> Result<(), Problem> {
        let chosen = self.from.is_some()
            || self.to.is_some()
            || self.event_type.is_some()
            || self.key.is_some()
            || self.correlation.is_some()
            || self.consumer.is_some();
        if chosen != self.all {
            return Ok(());
        }
        Err(Problem::bad_request(
            "The selection cannot be used: say which events to replay (from, to, type, key, correlation, consumer), or else \
             \"all\": true.",
        ))
    }
}

fn refused(why: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "replay-refused", format!("Nothing is replayed: {why}."))
}

/// With the place where somebody finds what to choose instead.
fn pointless(refusal: &Refusal, deployed: &Snapshot) -> Problem {
    match refusal {
        Refusal::NoConsumer(name) => match deployed.nearest(name) {
            Some(near) => refused(refusal).with("nearest", near.as_str()),
            None => refused(refusal).see("/consumers"),
        },
        Refusal::NotSubscribed { name, .. } => refused(refusal).see(format!("/consumers/{name}")),
        Refusal::Ephemeral(_) | Refusal::Nobody(_) => refused(refusal).see("/consumers"),
        Refusal::Reversed { .. } => refused(refusal).see("/events?newest=true"),
    }
}

pub(super) async fn start(app: &Arc<App>, parts: &Parts, body: Body) -> Answer {
    let asked: Asked = super::operate::read(app, parts, body).await?;
    asked.check()?;
    let dry_run = asked.dry_run;
    let spec = resolve(app, asked).await?;
    let deployed = app.parts.registry.current();
    let consumers = deployed.consumers.values().map(|consumer| consumer.spec.as_ref());
    spec.check(consumers).map_err(|refusal| pointless(&refusal, &deployed))?;
    if dry_run {
        return json(StatusCode::OK, &plan(app, &spec).await?);
    }
    let id = app.parts.log.start_replay(spec).await?;
    app.parts.control.replay_begun();
    json(StatusCode::ACCEPTED, &find(app, id).await?)
}

/// The range as it is now, and never one of which retention has taken something away without a word.
async fn resolve(app: &Arc<App>, asked: Asked) -> Result<ReplaySpec, Problem> {
    let (whole_from, end) = app.read(crate::store::Reader::range).await?;
    let from = match asked.from {
        None => whole_from,
        Some(Place::Sequence(seq)) => seq.max(1),
        Some(Place::Time(time)) => app.read(move |reader| reader.first_at(time)).await?,
    };
    let to = match asked.to {
        None => end,
        Some(Place::Sequence(seq)) => seq.min(end),
        Some(Place::Time(time)) => app.read(move |reader| reader.first_at(time)).await?.saturating_sub(1),
    };
    if whole_from > end {
        let why = match end {
            0 => "there is no event yet".to_owned(),
            _ => format!("all events up to #{end} are past their retention and gone, and none has come since"),
        };
        return Err(refused(why));
    }
    if from > end {
        return Err(refused(format!("there is no event from there on; the last is #{end}")).see("/events?newest=true"));
    }
    if from <= to && from < whole_from {
        let gone = if to < whole_from { "all" } else { "some" };
        return Err(refused(format!(
            "{gone} events from #{from} to #{to} are past their retention and gone; from #{whole_from} on all are there"
        ))
        .with("oldest", whole_from));
    }
    Ok(ReplaySpec {
        from,
        to,
        event_type: asked.event_type,
        key: asked.key,
        correlation: asked.correlation,
        consumer: asked.consumer,
        rate: asked.rate.map(|RateText(rate)| rate),
    })
}

/// What a replay would do, as things stand.
async fn plan(app: &Arc<App>, spec: &ReplaySpec) -> Result<ReplayPlan, Problem> {
    let mut plan = ReplayPlan { from: spec.from, to: spec.to, ..ReplayPlan::default() };
    let deployed = app.parts.registry.current();
    let mut after = spec.from.saturating_sub(1);
    while after < spec.to {
        let page: Vec<Arc<Event>> = app.parts.log.read(after, PAGE_EVENTS).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        let deliveries = spec.plan(&page, deployed.consumers.values().map(|consumer| consumer.spec.as_ref()));
        plan.events += deliveries.chunk_by(|a, b| a.0 == b.0).count() as u64;
        for (_, consumer) in &deliveries {
            *plan.deliveries.entry(consumer.clone()).or_default() += 1;
        }
        if !deliveries.is_empty() {
            plan.skipped += app.read(move |reader| reader.unfinished(&deliveries)).await?;
        }
    }
    Ok(plan)
}

pub(super) async fn list(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Limit {
        limit: Option<usize>,
    }

    #[derive(Serialize)]
    struct Replays {
        replays: Vec<ReplayRecord>,
    }

    let Limit { limit } = query(uri)?;
    let limit = limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let found = app.read(move |reader| reader.replays(limit)).await?;
    let replays = found.iter().map(|(replay, failing)| ReplayRecord::new(replay, *failing)).collect();
    json(StatusCode::OK, &Replays { replays })
}

pub(super) async fn one(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    let Nothing {} = query(uri)?;
    json(StatusCode::OK, &find(app, number(path)?).await?)
}

pub(super) async fn cancel(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    let Nothing {} = query(uri)?;
    let id = number(path)?;
    let record = find(app, id).await?;
    if !app.parts.log.cancel_replay(id).await? {
        let detail = match record.status.as_str() {
            "running" => "All its deliveries are made; they go on as any others do.".to_owned(),
            word => format!("The replay is {word} already."),
        };
        return Err(Problem::new(StatusCode::CONFLICT, "not-running", detail).see(format!("/replays/{id}")));
    }
    json(StatusCode::OK, &find(app, id).await?)
}

fn missing() -> Problem {
    Problem::not_found("There is no such replay.").see("/replays")
}

fn number(path: &Path) -> Result<u64, Problem> {
    path.get("id").and_then(|id| id.parse().ok()).ok_or_else(missing)
}

async fn find(app: &Arc<App>, id: u64) -> Result<ReplayRecord, Problem> {
    let found = app.read(move |reader| reader.replay(id)).await?;
    found.map(|(replay, failing)| ReplayRecord::new(&replay, failing)).ok_or_else(missing)
}
