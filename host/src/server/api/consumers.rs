//! `/consumers`: how they stand; pausing them, letting them go on, freeing their keys.

use std::sync::Arc;

use axum::body::Body;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};

use super::{Answer, Nothing, Path, json, query};
use crate::model::ConsumerName;
use crate::model::record::{ConsumerDetail, ConsumerRecord};
use crate::model::spec::{ConsumerKind, Mode};
use crate::registry::Consumer;
use crate::server::app::App;
use crate::server::problem::Problem;

/// Every consumer, with what only the running host knows.
pub(super) async fn all(app: &Arc<App>) -> Result<Vec<ConsumerRecord>, Problem> {
    let mut consumers = app.read(crate::store::Reader::consumers).await?;
    let paused = app.read(crate::store::Reader::paused).await?;
    let deployed = app.parts.registry.current();
    for consumer in deployed.consumers.values().filter(|consumer| is_ephemeral(consumer)) {
        // The log knows nothing of it, or only what it was before.
        consumers.retain(|record| record.name != consumer.spec.name || record.depth > 0);
        consumers.push(ephemeral(consumer, paused.contains_key(&consumer.spec.name)));
    }
    consumers.sort_by(|one, other| one.name.cmp(&other.name));
    for consumer in &mut consumers {
        live(app, consumer);
    }
    Ok(consumers)
}

fn is_ephemeral(consumer: &Consumer) -> bool {
    consumer.spec.delivery.mode == Mode::Ephemeral
}

fn ephemeral(consumer: &Consumer, paused: bool) -> ConsumerRecord {
    ConsumerRecord {
        name: consumer.spec.name.clone(),
        kind: ConsumerKind::Consumer,
        status: ConsumerRecord::EPHEMERAL.into(),
        on: consumer.spec.subscriptions.iter().map(ToString::to_string).collect(),
        component: consumer.digest.to_string(),
        running: 0,
        depth: 0,
        waiting: 0,
        oldest_waiting_since: None,
        succeeded: 0,
        failed_attempts: 0,
        dead_letters: 0,
        paused,
        breaker: "closed".into(),
        blocked: 0,
        held_keys: 0,
        ephemeral_lost: 0,
    }
}

/// Adds what only the running host knows.
pub(super) fn live(app: &App, consumer: &mut ConsumerRecord) {
    // The log knows the component of its last attempt, which may be another one or none; of what is removed there is no newer.
    if consumer.status != ConsumerRecord::REMOVED
        && let Some(deployed) = app.parts.registry.current().consumers.get(&consumer.name)
    {
        consumer.component = deployed.digest.to_string();
    }
    let standing = app.parts.control.standing(&consumer.name);
    consumer.running = standing.running;
    standing.breaker.clone_into(&mut consumer.breaker);
    consumer.blocked = consumer.blocked.max(standing.blocked);
    consumer.ephemeral_lost = app.parts.metrics.lost(&consumer.name);
}

pub(super) async fn list(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Serialize)]
    struct Consumers {
        consumers: Vec<ConsumerRecord>,
    }

    let Nothing {} = query(uri)?;
    json(StatusCode::OK, &Consumers { consumers: all(app).await? })
}

pub(super) async fn one(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    let Nothing {} = query(uri)?;
    json(StatusCode::OK, &find(app, name(path)?).await?)
}

async fn find(app: &Arc<App>, name: ConsumerName) -> Result<ConsumerDetail, Problem> {
    let asked = name.clone();
    let found = app.read(move |reader| Ok((reader.consumer(&asked)?, reader.paused()?))).await?;
    let (known, mut paused) = found;
    let deployed = app.parts.registry.current();
    let ephemeral = deployed.consumers.get(&name).filter(|consumer| is_ephemeral(consumer)).map(|consumer| {
        let paused_since = paused.remove(&name);
        ConsumerDetail { consumer: ephemeral(consumer, paused_since.is_some()), paused_since, held: Vec::new() }
    });
    // As in the list: what the log knows of one that is ephemeral now is what it was before.
    let known = known.filter(|detail| ephemeral.is_none() || detail.consumer.depth > 0);
    let mut detail = known.or(ephemeral).ok_or_else(|| missing("it is not in the database"))?;
    live(app, &mut detail.consumer);
    Ok(detail)
}

/// Whether there is such a consumer. What waits for it is not counted: however much that is, it can be paused and let go on.
async fn known(app: &Arc<App>, name: &ConsumerName) -> Result<(), Problem> {
    let asked = name.clone();
    let ephemeral = app.parts.registry.current().consumers.get(name).is_some_and(is_ephemeral);
    if ephemeral || app.read(move |reader| reader.has_consumer(&asked)).await? {
        return Ok(());
    }
    Err(missing("it is not in the database"))
}

fn missing(why: impl std::fmt::Display) -> Problem {
    Problem::not_found(format!("There is no such consumer: {why}.")).see("/consumers")
}

fn name(path: &Path) -> Result<ConsumerName, Problem> {
    ConsumerName::new(path.get("consumer").unwrap_or_default()).map_err(missing)
}

pub(super) async fn pause(app: &Arc<App>, uri: &Uri, path: &Path, paused: bool) -> Answer {
    #[derive(Serialize)]
    struct Paused {
        consumer: ConsumerName,
        paused: bool,
        /// Whether it was otherwise before.
        changed: bool,
        /// What comes while it is paused is lost.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ephemeral: bool,
        /// The manifest no longer has it: it does not go on, paused or not.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        removed: bool,
    }

    let Nothing {} = query(uri)?;
    let consumer = name(path)?;
    known(app, &consumer).await?;
    let changed = app.parts.log.pause(consumer.clone(), paused).await?;
    let deployed = app.parts.registry.current();
    let deployed = deployed.consumers.get(&consumer);
    let (ephemeral, removed) = (deployed.is_some_and(is_ephemeral), deployed.is_none());
    json(StatusCode::OK, &Paused { consumer, paused, changed, ephemeral, removed })
}

pub(super) async fn release(app: &Arc<App>, parts: &mut Parts, body: Body) -> Answer {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(default)]
        keys: Vec<String>,
        /// Needed where no key is named.
        #[serde(default)]
        all: bool,
    }

    #[derive(Serialize)]
    struct Released {
        consumer: ConsumerName,
        keys: Vec<String>,
    }

    let path = Path::of(parts).await?;
    let Asked { keys, all } = super::operate::read(app, parts, body).await?;
    if keys.is_empty() != all {
        return Err(Problem::bad_request("Say which keys to release (keys), or else \"all\": true."));
    }
    let consumer = name(&path)?;
    known(app, &consumer).await?;
    let keys = app.parts.log.release(consumer.clone(), keys).await?;
    json(StatusCode::OK, &Released { consumer, keys })
}
