//! `GET /metrics`. What is not counted as it happens is read from the record, at most once a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::request::Parts;

use super::{Answer, Nothing, negotiate, query, text};
use crate::model::pipeline::run::Status;
use crate::model::record::ConsumerRecord;
use crate::model::spec::ConsumerKind;
use crate::model::{ConsumerName, Deployment, Priority};
use crate::server::app::App;
use crate::server::problem::Problem;
use crate::telemetry::process::Process;
use crate::telemetry::{Format, Gauges, render};

/// How old a reading may be.
const FRESH: Duration = Duration::from_secs(1);
const PLAIN: &str = "text/plain";
const OPEN: &str = "application/openmetrics-text";

pub(super) async fn metrics(app: &Arc<App>, parts: &Parts) -> Answer {
    let Nothing {} = query(&parts.uri)?;
    // A scraper that wants something else entirely still gets the format that every scraper reads.
    let format = match negotiate(&parts.headers, &[PLAIN, OPEN]) {
        Some(OPEN) => Format::OpenMetrics,
        _ => Format::Prometheus,
    };
    let gauges = gauges(app).await?;
    Ok(text(StatusCode::OK, format.content_type(), render(&app.parts.metrics, &gauges, format)))
}

/// With zeros for the pipelines that are live: a gauge that is gone says nothing.
fn all_runs(deployment: &Deployment, open: Vec<(ConsumerName, Status, u64)>) -> Vec<(ConsumerName, Status, u64)> {
    let statuses = || Status::ALL.into_iter().filter(|status| status.is_open());
    let live = deployment.pipelines.keys().flat_map(|name| statuses().map(move |status| ((name.clone(), status), 0)));
    let mut counts: BTreeMap<(ConsumerName, Status), u64> = live.collect();
    counts.extend(open.into_iter().map(|(name, status, n)| ((name, status), n)));
    counts.into_iter().map(|((name, status), n)| (name, status, n)).collect()
}

/// With zeros for whoever may be given jobs.
fn all_jobs(
    consumers: &[ConsumerRecord],
    open: Vec<(ConsumerName, Priority, u64)>,
) -> Vec<(ConsumerName, Priority, u64)> {
    let may = |record: &&ConsumerRecord| record.kind == ConsumerKind::Consumer && record.status == "active";
    let live = consumers.iter().filter(may);
    let live = live.flat_map(|record| Priority::ALL.map(|priority| ((record.name.clone(), priority), 0)));
    let mut counts: BTreeMap<(ConsumerName, Priority), u64> = live.collect();
    counts.extend(open.into_iter().map(|(name, priority, n)| ((name, priority), n)));
    counts.into_iter().map(|((name, priority), n)| (name, priority, n)).collect()
}

async fn gauges(app: &Arc<App>) -> Result<Gauges, Problem> {
    let mut known = app.gauges.lock().await;
    let now = app.parts.clock.now();
    if let Some(gauges) = known.as_ref().filter(|gauges| gauges.now <= now && now.since(gauges.now) < FRESH) {
        return Ok(gauges.clone());
    }
    let read = app.read(|reader| {
        let open = (reader.open_jobs()?, reader.open_runs()?);
        Ok((reader.consumers()?, open, reader.stats()?, Process::read()))
    });
    let (mut consumers, (jobs, runs), stats, process) = read.await?;
    for consumer in &mut consumers {
        super::consumers::live(app, consumer);
    }
    let gauges = Gauges {
        now,
        jobs: all_jobs(&consumers, jobs),
        consumers,
        runs: all_runs(&app.parts.registry.current().deployment, runs),
        log_bytes: stats.as_ref().map_or(0, |stats| stats.database_bytes),
        last_sequence: stats.as_ref().map_or(0, |stats| stats.last_sequence),
        process,
    };
    *known = Some(gauges.clone());
    Ok(gauges)
}
