use std::path::PathBuf;

use serde::Serialize;

use super::Context;
use super::args::MANIFEST;
use super::error::Error;
use super::link;
use super::text::{self, Table};
use crate::host;
use crate::manifest::Compiled;
use crate::model::{ConsumerSpec, Grants};

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
}

#[derive(Serialize)]
struct ConsumerSummary {
    name: String,
    on: Vec<String>,
    component: String,
    grants: Vec<&'static str>,
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
        on: on(spec),
        component: spec.component.display().to_string(),
        grants: grants(&spec.grants),
    };
    Summary {
        valid: true,
        warnings: compiled.warnings.len(),
        digest: compiled.digest.to_string(),
        consumers: compiled.deployment.consumers.values().map(consumer).collect(),
    }
}

fn print(compiled: &Compiled, args: &Args, context: &mut Context) -> Result<(), Error> {
    let consumers = &compiled.deployment.consumers;
    if !consumers.is_empty() {
        context.out.table(&table(consumers.values()))?;
        context.out.line("")?;
    }
    let count = text::count(consumers.len() as u64, "consumer");
    let warnings = match compiled.warnings.len() {
        0 => String::new(),
        n => format!(", with {}", text::count(n as u64, "warning")),
    };
    context.out.line(format!("{} is valid: {count}{warnings}", text::escape(&args.manifest.display().to_string())))?;
    context.out.tip(format!("Serve it with `tidegate run -m {}`.", args.manifest.display()));
    Ok(())
}

fn table<'a>(consumers: impl Iterator<Item = &'a ConsumerSpec>) -> Table {
    let row = |spec: &ConsumerSpec| {
        let listed = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(", ") };
        vec![
            spec.name.to_string(),
            listed(on(spec)),
            text::age_exact(spec.limits.timeout),
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

fn on(spec: &ConsumerSpec) -> Vec<String> {
    let words = spec.subscriptions.iter().map(|on| match &on.version {
        Some(version) => format!("{} {version}", on.pattern),
        None => on.pattern.to_string(),
    });
    words.collect()
}

/// The names of what is granted; what exactly stands in the manifest.
fn grants(grants: &Grants) -> Vec<&'static str> {
    let all = [
        (!grants.publish.is_empty(), "publish"),
        (!grants.http.is_empty(), "http"),
        (grants.state.is_some(), "state"),
        (grants.config.is_some(), "config"),
        (grants.secrets.is_some(), "secrets"),
    ];
    all.into_iter().filter_map(|(granted, name)| granted.then_some(name)).collect()
}
