use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Context;
use super::args::{Reach, duration};
use super::client::{self, Ask, Problem, encode};
use super::emit;
use super::error::Error;
use super::locate;
use crate::model::limit::QUESTION_MS_MAX;
use crate::model::route;

/// What the answer takes on its way, beyond the time limit of the question itself.
const WAY: Duration = Duration::from_secs(10);

/// Ask a question and print the answer.
///
/// One of the consumers whose manifest entry says `answers: TYPE` answers: `tidegate ask stock.check --data '{"sku": "tea"}'`.
/// Each way to have no answer has an exit code of its own: 4 nobody answers the type, 6 no answer in time, 8 to 10 what the
/// responder says instead, 11 it failed.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Type of the question, such as stock.check.
    #[arg(value_name = "TYPE", value_parser = query_type)]
    query_type: String,
    /// What is asked, in JSON.
    #[arg(short, long, value_name = "JSON", conflicts_with = "file")]
    data: Option<String>,
    /// Read what is asked from a file; `-` is standard input.
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// How long to wait for the answer.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = timeout)]
    timeout: Duration,
    /// Correlation id.
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Append the question and what came of it to the log, as an event `tidegate.query.answered`.
    #[arg(long)]
    log: bool,
    /// Say in JSON what came of it: outcome, answer, responder, id.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

/// What came of it, for programs.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Said<'a> {
    id: Option<String>,
    #[serde(rename = "type")]
    query_type: &'a str,
    outcome: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    responder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// As it came, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<&'a RawValue>,
    /// Otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_text: Option<String>,
}

fn query_type(text: &str) -> Result<String, String> {
    route::check_type(text)?;
    Ok(text.to_owned())
}

fn timeout(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time > Duration::from_millis(QUESTION_MS_MAX) {
        return Err("a question waits for 5m at most".into());
    }
    Ok(time)
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let data = emit::payload(args.data.as_deref(), args.file.as_deref(), context)?;
    let host = locate::host(context, &args.reach)?;
    let mut path = format!("/queries/{}?timeout={}ms", encode(&args.query_type), args.timeout.as_millis());
    if args.log {
        path.push_str("&log=true");
    }
    if let Some(correlation) = &args.correlation {
        path = format!("{path}&correlation={}", encode(correlation));
    }
    let body = data.map_or_else(Bytes::new, |data| Bytes::from(data.get().to_owned()));
    let asked = Ask::post(&path, "application/json", body).within(args.timeout + WAY);
    match host.whole_patiently(asked) {
        Ok((headers, answer)) if args.json => {
            let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let json: Option<&RawValue> = serde_json::from_slice(&answer).ok();
            context.out.json(&Said {
                id: header("tidegate-query"),
                query_type: &args.query_type,
                outcome: "answered".into(),
                responder: header("tidegate-responder"),
                answer: json,
                answer_text: json.is_none().then(|| String::from_utf8_lossy(&answer).into_owned()),
                ..Said::default()
            })
        }
        Ok((_, answer)) => {
            context.out.raw(&answer)?;
            if answer.ends_with(b"\n") { Ok(()) } else { context.out.raw(b"\n") }
        }
        Err(client::Error::Problem(problem)) => {
            if let (true, Some(outcome)) = (args.json, problem.outcome.clone()) {
                context.out.json(&said(&problem, outcome, &args.query_type))?;
            }
            Err(client::Error::Problem(problem).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn said<'a>(problem: &Problem, outcome: String, query_type: &'a str) -> Said<'a> {
    Said {
        id: problem.query.clone(),
        query_type,
        outcome,
        responder: problem.responder.clone(),
        reason: problem.reason.clone(),
        ..Said::default()
    }
}
