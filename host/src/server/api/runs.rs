//! `/runs`: how runs of pipelines stand, and what people may order of one.

use std::sync::Arc;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use serde::{Deserialize, Serialize};

use super::{Answer, Nothing, Path, json, look, query};
use crate::model::limit::OUTPUT_BYTES_MAX;
use crate::model::pipeline::errand::Order;
use crate::model::pipeline::run::{Refusal, RunId, Status};
use crate::model::query::RunQuery;
use crate::model::record::{RunDetail, RunRecord};
use crate::model::{Payload, Seq, event};
use crate::server::app::App;
use crate::server::body::Incoming;
use crate::server::problem::Problem;

/// Why a run is cancelled, unless somebody says.
const CANCELLED: &str = "an operator has cancelled it";
/// An order, in bytes.
const ORDER_BYTES: usize = 64 << 10;

pub(super) async fn list(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Serialize)]
    struct Runs {
        runs: Vec<RunRecord>,
        next: Option<Seq>,
    }

    let mut asked: RunQuery = query(uri)?;
    let limit = look::bounded(asked.limit)?;
    asked.limit = Some(limit);
    let runs = app.read(move |reader| reader.runs(&asked)).await?;
    let next = look::next(&runs, limit, |_| 0, |run| run.sequence);
    json(StatusCode::OK, &Runs { runs, next })
}

pub(super) async fn one(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    let Nothing {} = query(uri)?;
    let run = run(path)?;
    let found: Option<RunDetail> = app.read(move |reader| reader.run_detail(&run)).await?;
    json(StatusCode::OK, &found.ok_or_else(missing)?)
}

/// `POST …/cancel`, with `{"reason": …}` or nothing.
pub(super) async fn cancel(app: &Arc<App>, parts: &mut Parts, body: Body) -> Answer {
    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Asked {
        reason: Option<String>,
    }

    let path = Path::of(parts).await?;
    let whole = Incoming::whole(body, &parts.headers, ORDER_BYTES, &app.room).await?;
    let Nothing {} = query(&parts.uri)?;
    let asked = if whole.bytes.is_empty() {
        Asked::default()
    } else {
        serde_json::from_slice(&whole.bytes)
            .map_err(|error| Problem::bad_request(format!("What is asked for cannot be read: {error}.")))?
    };
    order(app, run(&path)?, Order::Cancel { reason: asked.reason.unwrap_or_else(|| CANCELLED.to_owned()) }).await
}

pub(super) async fn retry(app: &Arc<App>, uri: &Uri, path: &Path) -> Answer {
    let Nothing {} = query(uri)?;
    order(app, run(path)?, Order::Retry { step: step(path) }).await
}

/// `POST …/resolve`: the body, if there is one, is what the step should have left behind.
pub(super) async fn resolve(app: &Arc<App>, parts: &mut Parts, body: Body) -> Answer {
    let path = Path::of(parts).await?;
    let whole = Incoming::whole(body, &parts.headers, OUTPUT_BYTES_MAX, &app.room).await?;
    let Nothing {} = query(&parts.uri)?;
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    // Later steps look at it as JSON: better to say now that it is none.
    if !whole.bytes.is_empty() && event::is_json(&content_type) {
        serde_json::from_slice::<serde::de::IgnoredAny>(&whole.bytes).map_err(|error| {
            Problem::bad_request(format!("The output is not the JSON that it says it is: {error}."))
        })?;
    }
    let output = (!whole.bytes.is_empty()).then(|| Payload { content_type, data: whole.bytes.clone() });
    order(app, run(&path)?, Order::Resolve { step: step(&path), output }).await
}

async fn order(app: &Arc<App>, run: RunId, order: Order) -> Answer {
    #[derive(Serialize)]
    struct Ordered {
        run: String,
        status: Status,
    }

    let done = app.parts.log.order_run(run.clone(), order).await?.ok_or_else(missing)?;
    match done {
        Ok(status) => json(StatusCode::OK, &Ordered { run: run.to_string(), status }),
        Err(refusal) => {
            let detail = format!("{}.", sentence(&refusal));
            let problem = match refusal {
                Refusal::NoStep { .. } => Problem::not_found(detail),
                _ => Problem::new(StatusCode::CONFLICT, "run-refused", detail),
            };
            Err(problem.see(format!("/runs/{run}")))
        }
    }
}

/// With a capital letter.
fn sentence(refusal: &Refusal) -> String {
    let text = refusal.to_string();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn missing() -> Problem {
    Problem::not_found("There is no such run.").see("/runs")
}

fn run(path: &Path) -> Result<RunId, Problem> {
    let part = |name| path.get(name).unwrap_or_default();
    format!("{}/{}", part("seq"), part("pipeline")).parse().map_err(|_| missing())
}

fn step(path: &Path) -> String {
    path.get("step").unwrap_or_default().to_owned()
}
