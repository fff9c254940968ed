use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::args::MANIFEST;
use super::error::Error;
use super::link;
use super::text::{self, Table};
use crate::host;
use crate::manifest::Compiled;
use crate::model::pipeline::PipelineSpec;
use crate::model::spec::{ScheduleSpec, SubscriptionSpec};
use crate::model::{ConsumerSpec, Deployment, Grants, time};

/// Check the manifest and its components, and start nothing.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The manifest.
    #[arg(short, long, value_name = "PATH", default_value = MANIFEST)]
    manifest: PathBuf,
    /// Answer in JSON: a diagnostic a line, then what the manifest comes to.
    #[arg(long)]
    json: bool,
}

/// What `--json` ends with if the manifest may be served.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    valid: bool,
    warnings: usize,
    digest: String,
    consumers: Vec<ConsumerSummary>,
    pipelines: Vec<PipelineSummary>,
    schedules: Vec<ScheduleSummary>,
}

#[derive(Serialize)]
struct ConsumerSummary {
    name: String,
    on: Vec<String>,
    answers: Vec<String>,
    component: String,
    grants: Vec<&'static str>,
}

#[derive(Serialize)]
struct PipelineSummary {
    name: String,
    on: Vec<String>,
    /// Their names, in the order written.
    steps: Vec<String>,
}

#[derive(Serialize)]
struct ScheduleSummary {
    name: String,
    emits: String,
}

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let compiled = match host::check(&args.manifest) {
        Ok(compiled) => compiled,
        Err(host::Error::Manifest(diagnostics)) if args.json => {
            diagnostics.iter().try_for_each(|diagnostic| context.out.json(diagnostic))?;
            return Err(link::refused(&diagnostics, &args.manifest));
        }
        Err(e) => return Err(link::host_error(e, &args.manifest, context)),
    };
    if args.json {
        compiled.warnings.iter().try_for_each(|diagnostic| context.out.json(diagnostic))?;
        return context.out.json(&summary(&compiled));
    }
    link::show(&compiled.warnings, context);
    print(&compiled, args, context)
}

fn summary(compiled: &Compiled) -> Summary {
    let consumer = |spec: &ConsumerSpec| ConsumerSummary {
        name: spec.name.to_string(),
        on: on(&spec.subscriptions),
        answers: spec.answers.clone(),
        component: spec.component.display().to_string(),
        grants: grants(&spec.grants),
    };
    let pipeline = |spec: &PipelineSpec| PipelineSummary {
        name: spec.name.to_string(),
        on: on(&spec.subscriptions),
        steps: spec.definition.steps.iter().map(|step| step.name.clone()).collect(),
    };
    let schedule =
        |(name, spec): (&String, &ScheduleSpec)| ScheduleSummary { name: name.clone(), emits: spec.event_type.clone() };
    let deployment = &compiled.deployment;
    Summary {
        valid: true,
        warnings: compiled.warnings.len(),
        digest: compiled.digest.to_string(),
        consumers: deployment.consumers.values().map(consumer).collect(),
        pipelines: deployment.pipelines.values().map(pipeline).collect(),
        schedules: deployment.schedules.iter().map(schedule).collect(),
    }
}

fn print(compiled: &Compiled, args: &Args, context: &mut Context) -> Result<(), Error> {
    let Deployment { consumers, pipelines, .. } = &compiled.deployment;
    if !consumers.is_empty() {
        context.out.table(&table(consumers.values()))?;
        context.out.line("")?;
    }
    if !pipelines.is_empty() {
        context.out.table(&pipeline_table(pipelines.values()))?;
        context.out.line("")?;
    }
    let warnings = match compiled.warnings.len() {
        0 => String::new(),
        n => format!(", with {}", text::count(n as u64, "warning")),
    };
    let path = text::escape(&args.manifest.display().to_string());
    context.out.line(format!("{path} is valid: {}{warnings}", compiled.deployment.parts()))?;
    context.out.tip(format!("Serve it with `tidegate run -m {}`.", args.manifest.display()));
    Ok(())
}

fn table<'a>(consumers: impl Iterator<Item = &'a ConsumerSpec>) -> Table {
    let row = |spec: &ConsumerSpec| {
        let answered = |query_type: &String| format!("answers {query_type}");
        vec![
            spec.name.to_string(),
            listed(on(&spec.subscriptions).into_iter().chain(spec.answers.iter().map(answered)).collect()),
            time::written(spec.limits.timeout),
            text::rough(spec.limits.fuel),
            text::bytes(spec.limits.memory),
            spec.limits.concurrency.to_string(),
            spec.retry.attempts.to_string(),
            listed(grants(&spec.grants).into_iter().map(str::to_owned).collect()),
        ]
    };
    Table {
        head: &["consumer", "on", "timeout", "fuel", "memory", "concurrency", "attempts", "grants"],
        right: &[2, 3, 4, 5, 6],
        rows: consumers.map(row).collect(),
    }
}

fn listed(words: Vec<String>) -> String {
    if words.is_empty() { "-".to_owned() } else { words.join(", ") }
}

fn pipeline_table<'a>(pipelines: impl Iterator<Item = &'a PipelineSpec>) -> Table {
    let row = |spec: &PipelineSpec| {
        let steps = &spec.definition.steps;
        let undone = steps.iter().filter(|step| step.work.call().is_some_and(|call| call.compensate.is_some())).count();
        let timeout = spec.definition.timeout.map_or_else(|| "-".to_owned(), time::written);
        vec![
            spec.name.to_string(),
            listed(on(&spec.subscriptions)),
            text::number(steps.len() as u64),
            text::number(undone as u64),
            spec.key.as_ref().map_or_else(|| "-".to_owned(), |key| text::cut(key.source(), 40)),
            timeout,
            spec.definition.on_failure.as_str().to_owned(),
        ]
    };
    Table {
        head: &["pipeline", "on", "steps", "compensations", "key", "timeout", "on-failure"],
        right: &[2, 3, 5],
        rows: pipelines.map(row).collect(),
    }
}

fn on(subscriptions: &[SubscriptionSpec]) -> Vec<String> {
    let words = subscriptions.iter().map(|on| match &on.version {
        Some(version) => format!("{} {version}", on.pattern),
        None => on.pattern.to_string(),
    });
    words.collect()
}

/// The names of what is granted; what exactly stands in the manifest.
fn grants(grants: &Grants) -> Vec<&'static str> {
    let all = [
        (!grants.publish.is_empty(), "publish"),
        (!grants.jobs.is_empty(), "jobs"),
        (!grants.queries.is_empty(), "queries"),
        (!grants.http.is_empty(), "http"),
        (grants.state.is_some(), "state"),
        (grants.config.is_some(), "config"),
        (grants.secrets.is_some(), "secrets"),
    ];
    all.into_iter().filter_map(|(granted, name)| granted.then_some(name)).collect()
}
