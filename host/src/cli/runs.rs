use bytes::Bytes;
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::Context;
use super::args::{Page, Reach, Reading, Span, pages};
use super::backend::Backend;
use super::client::{Ask, encode};
use super::error::Error;
use super::locate;
use super::text::{self, Table};
use super::timeline;
use crate::model::ConsumerName;
use crate::model::pipeline::run::{RunId, Status};
use crate::model::query::{RunQuery, RunStatus};
use crate::model::record::RunRecord;

/// List runs of pipelines, show one as a timeline, cancel it, or take up a step that failed.
#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    look: Look,
}

#[derive(clap::Args, Debug)]
struct Look {
    /// Show this one as a timeline: SEQ/PIPELINE. Without one, list the newest, or those that fit.
    #[arg(value_name = "RUN", conflicts_with_all = ["pipeline", "status", "key", "since", "until", "after", "before"])]
    run: Option<RunId>,
    /// Of this pipeline.
    #[arg(long, value_name = "NAME", value_parser = ConsumerName::new)]
    pipeline: Option<ConsumerName>,
    /// That stand so: running, compensating, stuck, completed, partial, compensated, stopped, cancelled; or `open`, all that have
    /// not ended.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    status: Option<RunStatus>,
    /// With this key.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    span: Span,
    /// With the timeline, everything that the run's journal says.
    #[arg(long, requires = "run")]
    journal: bool,
    #[command(flatten)]
    reading: Reading,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Cancel a run: nothing more of it begins, and what is done is undone.
    Cancel(Cancel),
    /// Have a step of a run that stands still tried again: one that failed, or whose compensation did.
    RetryStep(RetryStep),
    /// Say that a step of a run that stands still is done, or undone: somebody has seen to it.
    Resolve(Resolve),
}

#[derive(clap::Args, Debug)]
struct Cancel {
    /// As `runs` shows it: SEQ/PIPELINE.
    #[arg(value_name = "RUN")]
    run: RunId,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args, Debug)]
struct RetryStep {
    /// As `runs` shows it: SEQ/PIPELINE.
    #[arg(value_name = "RUN")]
    run: RunId,
    #[arg(value_name = "STEP")]
    step: String,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(clap::Args, Debug)]
struct Resolve {
    /// As `runs` shows it: SEQ/PIPELINE.
    #[arg(value_name = "RUN")]
    run: RunId,
    #[arg(value_name = "STEP")]
    step: String,
    /// What the step should have left behind: later steps get it.
    #[arg(long, value_name = "JSON", value_parser = output)]
    output: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

const JSON: &str = "application/json";

fn status(word: &str) -> Result<RunStatus, String> {
    RunStatus::try_from(word.to_owned())
}

/// JSON as it is written: what is passed on is what was typed.
fn output(text: &str) -> Result<String, String> {
    let json: Result<serde::de::IgnoredAny, _> = serde_json::from_str(text);
    json.map(|_| text.to_owned())
        .map_err(|e| format!("this is not JSON: {e}; text stands in quotes of its own: '\"text\"'"))
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    match (&args.verb, &args.look.run) {
        (None, None) => list(&args.look, context),
        (None, Some(run)) => one(run, &args.look, context),
        (Some(Verb::Cancel(args)), _) => cancel(args, context),
        (Some(Verb::RetryStep(args)), _) => retry(args, context),
        (Some(Verb::Resolve(args)), _) => resolve(args, context),
    }
}

fn list(args: &Look, context: &mut Context) -> Result<(), Error> {
    let backend = Backend::find(context, &args.reading)?;
    let now = context.now();
    let query = RunQuery {
        pipeline: args.pipeline.clone(),
        status: args.status,
        key: args.key.clone(),
        since: args.span.since.map(|when| when.at(now)),
        until: args.span.until.map(|when| when.at(now)),
        ..RunQuery::default()
    };
    let fetch = |Page { after, before, newest, limit }: Page| {
        backend.runs(&RunQuery { after, before, newest, limit: Some(limit), ..query.clone() })
    };
    let (mut shown, mut any) = (Vec::new(), false);
    pages(
        &args.span,
        |run: &RunRecord| (run.sequence, run.pipeline.clone()),
        fetch,
        |run| {
            any = true;
            if args.reading.json {
                return context.out.json(&run);
            }
            shown.push(run);
            Ok(())
        },
    )?;
    if !any {
        args.pipeline.iter().try_for_each(|name| backend.expect(name))?;
    }
    if args.reading.json {
        return Ok(());
    }
    let Some(last) = shown.iter().rev().find(|run| run.status == Status::Stuck).or(shown.last()) else {
        return context.out.none("no runs fit; `pipelines` of the manifest say which events begin one");
    };
    context.out.table(&table(&shown, now))?;
    context.out.tip(format!("See one step by step with `tidegate runs {}`.", last.id));
    Ok(())
}

fn table(runs: &[RunRecord], now: crate::model::Timestamp) -> Table {
    let row = |run: &RunRecord| {
        let total: u32 = run.step_counts.values().sum();
        let over: u32 = ["done", "skipped"].iter().filter_map(|state| run.step_counts.get(*state)).sum();
        vec![
            run.id.clone(),
            run.status.as_str().to_owned(),
            text::time(run.began_at),
            run.duration_ms.map_or_else(|| format!("{} so far", text::age(now.since(run.began_at))), text::millis),
            format!("{over}/{total}"),
            run.key.clone().map_or_else(|| "-".to_owned(), |key| text::cut(&key, 40)),
            run.failure.clone().unwrap_or_default(),
        ]
    };
    Table {
        head: &["run", "status", "began", "took", "steps done", "key", "failure"],
        right: &[4],
        rows: runs.iter().map(row).collect(),
    }
}

fn one(run: &RunId, args: &Look, context: &mut Context) -> Result<(), Error> {
    let found = Backend::find(context, &args.reading)?.run(run)?;
    let Some(detail) = found else {
        return Err(Error::state(format!("there is no run {run}")).hint("List them with `tidegate runs`."));
    };
    if args.reading.json {
        return context.out.json(&detail);
    }
    let now = context.now();
    timeline::draw(&detail, now, &mut context.out)?;
    if args.journal {
        timeline::journal(&detail, &mut context.out)?;
    }
    if let Some(step) = timeline::mendable(&detail) {
        context.out.tip(format!(
            "Have it tried again with `tidegate runs retry-step {run} {step}`, or say that somebody has seen to it with \
             `tidegate runs resolve {run} {step}`."
        ));
    }
    Ok(())
}

#[derive(Deserialize, Serialize)]
struct Ordered {
    run: String,
    status: Status,
}

fn order(reach: &Reach, context: &mut Context, path: &str, body: (&str, Bytes)) -> Result<Ordered, Error> {
    let host = locate::host(context, reach)?;
    Ok(host.json(Ask::post(path, body.0, body.1))?)
}

fn cancel(args: &Cancel, context: &mut Context) -> Result<(), Error> {
    let question = format!("Cancel run {}? Nothing more of it begins, and what is done is undone.", args.run);
    context.confirm(&question, args.yes)?;
    let body = serde_json::json!({ "reason": args.reason });
    let body = (JSON, Bytes::from(body.to_string()));
    let ordered = order(&args.reach, context, &format!("/runs/{}/cancel", args.run), body)?;
    said(&ordered, args.json, context)
}

fn retry(args: &RetryStep, context: &mut Context) -> Result<(), Error> {
    let path = format!("/runs/{}/steps/{}/retry", args.run, encode(&args.step));
    let ordered = order(&args.reach, context, &path, (JSON, Bytes::new()))?;
    said(&ordered, args.json, context)
}

fn resolve(args: &Resolve, context: &mut Context) -> Result<(), Error> {
    let question =
        format!("Is step {} of run {} seen to? The run goes on as if it were.", text::escape(&args.step), args.run);
    context.confirm(&question, args.yes)?;
    let path = format!("/runs/{}/steps/{}/resolve", args.run, encode(&args.step));
    let body = Bytes::from(args.output.clone().unwrap_or_default());
    let ordered = order(&args.reach, context, &path, (JSON, body))?;
    said(&ordered, args.json, context)
}

fn said(ordered: &Ordered, json: bool, context: &mut Context) -> Result<(), Error> {
    if json {
        return context.out.json(ordered);
    }
    context.out.line(format!("run {} is {}", text::escape(&ordered.run), ordered.status.as_str()))?;
    context.out.tip(format!("See it step by step with `tidegate runs {}`.", text::escape(&ordered.run)));
    Ok(())
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
