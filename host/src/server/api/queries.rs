//! `/queries`: a question and its answer, and what came of the questions of the past.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Response, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};

use super::{Answer, Path, json, look, operate, query};
use crate::log;
use crate::model::event::{QUERY_ANSWERED, is_json};
use crate::model::limit::{QUESTION_BYTES_MAX, QUESTION_MS, QUESTION_MS_MAX};
use crate::model::query::QuestionQuery;
use crate::model::question::{Asker, Question, Refusal, Reply, Unanswered};
use crate::model::record::QueryRecord;
use crate::model::{Envelope, Payload, Seq, route};
use crate::server::app::App;
use crate::server::body::Incoming;
use crate::server::problem::Problem;

/// Which question this is the answer to, and whose answer it is.
const QUERY: HeaderName = HeaderName::from_static("tidegate-query");
const RESPONDER: HeaderName = HeaderName::from_static("tidegate-responder");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    timeout: Option<String>,
    correlation: Option<String>,
    #[serde(default)]
    log: bool,
}

pub(super) async fn ask(app: &Arc<App>, parts: &mut Parts, body: Body) -> Answer {
    let path = Path::of(parts).await?;
    let whole = Incoming::whole(body, &parts.headers, QUESTION_BYTES_MAX, &app.room).await?;
    if app.is_stopping() {
        return Err(log::Error::Closed.into());
    }
    let asked: Asked = query(&parts.uri)?;
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let content_type = text(CONTENT_TYPE.as_str()).unwrap_or_default();
    let query_type = path.get("type").unwrap_or_default();
    route::check_type(query_type).map_err(|why| Problem::bad_request(format!("The question's type: {why}.")))?;
    let question = Question {
        query_type: query_type.to_owned(),
        payload: Payload { content_type, data: whole.bytes.clone() },
        correlation_id: asked.correlation,
        traceparent: text("traceparent"),
        asker: Asker::Client,
        depth: 1,
        until: app.parts.clock.monotonic() + time(asked.timeout.as_deref())?,
    };
    let _place = app.asker_place()?;
    let reply = app.parts.control.ask(question.clone()).await;
    if asked.log {
        app.parts.log.append(vec![event(app, &question, &reply)]).await?;
    }
    answered(reply, query_type)
}

fn time(text: Option<&str>) -> Result<Duration, Problem> {
    let wrong = || {
        let detail = "timeout: a duration such as 500ms or 30s is needed, at most 5m.";
        Problem::new(StatusCode::BAD_REQUEST, "unknown-parameter", detail)
    };
    let Some(text) = text else { return Ok(Duration::from_millis(QUESTION_MS)) };
    operate::duration(text).filter(|time| *time <= Duration::from_millis(QUESTION_MS_MAX)).ok_or_else(wrong)
}

fn answered(reply: Reply, query_type: &str) -> Answer {
    let payload = match reply.answer {
        Ok(payload) => payload,
        Err(unanswered) => {
            let problem = unanswered_problem(&unanswered, query_type)
                .with("outcome", unanswered.outcome().as_str())
                .with("query", reply.id)
                .with("reason", unanswered.reason());
            return Err(match reply.responder {
                Some(responder) => problem.with("responder", responder.as_str()),
                None => problem,
            });
        }
    };
    let mut response = Response::new(Body::from(payload.data));
    let responder = reply.responder.as_ref().map(|name| name.as_str()).unwrap_or_default();
    for (name, text) in [(CONTENT_TYPE, payload.content_type.as_str()), (QUERY, &reply.id), (RESPONDER, responder)] {
        if let (false, Ok(value)) = (text.is_empty(), HeaderValue::from_str(text)) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// Each way to have no answer has a status and a type of its own.
fn unanswered_problem(unanswered: &Unanswered, query_type: &str) -> Problem {
    let why = unanswered.reason();
    match unanswered {
        Unanswered::NoResponder => Problem::new(
            StatusCode::NOT_FOUND,
            "no-responder",
            format!(
                "Nobody answers '{query_type}'. Deploy a consumer that says `answers: {query_type}`, or correct the type."
            ),
        ),
        Unanswered::TimedOut(_) => Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "query-timed-out",
            format!("No answer to '{query_type}' in time: {why}. Ask again, or wait longer (timeout)."),
        ),
        Unanswered::Refused(Refusal::Invalid(_)) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "query-invalid",
            format!("Whoever answers '{query_type}' takes the question for invalid: {why}."),
        ),
        Unanswered::Refused(Refusal::NotFound(_)) => Problem::new(
            StatusCode::NOT_FOUND,
            "query-not-found",
            format!("Whoever answers '{query_type}' has found nothing: {why}."),
        ),
        Unanswered::Refused(Refusal::Unavailable(_)) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "query-unavailable",
            format!("'{query_type}' cannot be answered now: {why}. Ask again after a moment."),
        )
        .after(1),
        Unanswered::Failed(..) => Problem::new(
            StatusCode::BAD_GATEWAY,
            "query-failed",
            format!("Whoever answers '{query_type}' failed: {why}. The record has what it logged."),
        )
        .see("/queries?outcome=failed&newest=true"),
    }
}

/// The question as an event, for who wants it in the log.
fn event(app: &App, question: &Question, reply: &Reply) -> Envelope {
    let ceiling = app.parts.registry.current().deployment.ceilings.event_bytes;
    let answer = reply.answer.as_ref().ok();
    // An envelope takes a little room as well.
    let size = question.payload.data.len() + answer.map_or(0, |answer| answer.data.len()) + (4 << 10);
    let shown = |payload: &Payload| if size <= ceiling { shown(payload) } else { Value::Null };
    let data = value!({
        "type": question.query_type,
        "responder": reply.responder,
        "outcome": reply.outcome(),
        "reason": reply.answer.as_ref().err().map(Unanswered::reason),
        "durationMs": u64::try_from(reply.duration.as_millis()).unwrap_or(u64::MAX),
        "question": shown(&question.payload),
        "answer": answer.map(shown),
    });
    Envelope {
        subject: Some(reply.id.clone()),
        correlation_id: reply.correlation_id.clone(),
        traceparent: question.traceparent.clone(),
        ..Envelope::of_host(QUERY_ANSWERED, reply.id.clone(), app.parts.clock.now(), &data)
    }
}

/// JSON as it is, other text as a string, and of the rest nothing.
fn shown(payload: &Payload) -> Value {
    let json = || is_json(&payload.content_type).then(|| serde_json::from_slice(&payload.data).ok()).flatten();
    let text = || std::str::from_utf8(&payload.data).ok().filter(|text| !text.is_empty()).map(Value::from);
    json().or_else(text).unwrap_or_default()
}

pub(super) async fn list(app: &Arc<App>, uri: &Uri) -> Answer {
    #[derive(Serialize)]
    struct Queries {
        queries: Vec<QueryRecord>,
        next: Option<Seq>,
    }

    let mut asked: QuestionQuery = query(uri)?;
    let limit = look::bounded(asked.limit)?;
    asked.limit = Some(limit);
    let queries = app.read(move |reader| reader.queries(&asked)).await?;
    let next = look::next(&queries, limit, QueryRecord::bytes, |query| query.number);
    json(StatusCode::OK, &Queries { queries, next })
}
