use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Context;
use super::args::Reach;
use super::client::{self, Ask, Problem};
use super::error::Error;
use super::locate;
use super::text;

/// Load the manifest and its components again.
///
/// Returns when the new generation is live (exit code 0), or refused (4) with the reasons; the last good one then goes
/// on. A running host does the same by itself when a file changes.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Deserialize, Serialize)]
struct Reloaded {
    generation: u64,
    #[serde(default)]
    changes: Vec<Value>,
}

/// Components may have to be compiled.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(args: &Args, context: &mut Context) -> Result<(), Error> {
    let host = locate::host(context, &args.reach)?;
    let ask = Ask::post("/reload", "application/json", Bytes::new()).within(LIMIT);
    let reloaded: Reloaded = match host.json(ask) {
        Ok(reloaded) => reloaded,
        Err(client::Error::Problem(problem)) if problem.status == 422 => return refused(&problem, args, context),
        Err(e) => return Err(e.into()),
    };
    if args.json {
        return context.out.json(&reloaded);
    }
    if reloaded.changes.is_empty() {
        return context.out.line(format!("nothing has changed: generation {} goes on", reloaded.generation));
    }
    context.out.line(format!("generation {} is live", reloaded.generation))?;
    reloaded.changes.iter().try_for_each(|change| context.out.line(format!("  {}", words(change))))
}

/// A change as a line: the host says it in words, or as an object of which every field is shown.
fn words(change: &Value) -> String {
    match change {
        Value::String(words) => text::escape(words),
        Value::Object(fields) => {
            let value = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            text::escape(&fields.values().map(value).collect::<Vec<_>>().join(" "))
        }
        other => text::escape(&other.to_string()),
    }
}

fn refused(problem: &Problem, args: &Args, context: &mut Context) -> Result<(), Error> {
    for diagnostic in &problem.diagnostics {
        if args.json {
            context.out.json(diagnostic)?;
        } else {
            context.out.note(format!("{}\n", rendered(diagnostic)));
        }
    }
    let count = text::count(problem.diagnostics.len() as u64, "problem");
    let error = Error::state(format!("the new manifest was refused with {count}; the last good generation goes on"));
    Err(match (problem.diagnostics.is_empty(), &problem.detail) {
        (true, Some(detail)) => error.because(detail.clone()),
        _ => error,
    }
    .hint("Mend what is named and save: the host notices by itself. Try it first with `tidegate check`."))
}

/// A diagnostic as the host drew it, or in a few lines.
fn rendered(diagnostic: &Value) -> String {
    let field = |name: &str| diagnostic.get(name).and_then(Value::as_str).unwrap_or_default();
    if !field("rendered").is_empty() {
        return text::escape_lines(field("rendered").trim_end());
    }
    let code = if field("code").is_empty() { String::new() } else { format!("[{}]", field("code")) };
    let mut lines = vec![format!("{}{code}: {}", field("severity"), field("message"))];
    if !field("file").is_empty() {
        let number =
            |name: &str| diagnostic.get(name).and_then(Value::as_u64).map(|n| format!(":{n}")).unwrap_or_default();
        lines.push(format!(" --> {}{}{}", field("file"), number("line"), number("column")));
    }
    if !field("help").is_empty() {
        lines.push(format!("  = help: {}", field("help")));
    }
    lines.iter().map(|line| text::escape(line)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_words_whatever_their_shape() {
        assert_eq!(words(&json!("added a\u{1b}")), "added a\\x1b");
        assert_eq!(words(&json!({ "change": "added", "consumer": "a" })), "added a");
    }

    #[test]
    fn a_diagnostic_is_shown_as_drawn() {
        assert_eq!(
            rendered(&json!({ "rendered": "error[M001]: x\n --> a.yaml:1:2\n" })),
            "error[M001]: x\n --> a.yaml:1:2"
        );
        assert_eq!(rendered(&json!({ "code": "M001", "severity": "error", "message": "x" })), "error[M001]: x");
        let placed =
            json!({ "severity": "error", "message": "x", "file": "a.yaml", "line": 3, "column": 5, "help": "y" });
        assert_eq!(rendered(&placed), "error: x\n --> a.yaml:3:5\n  = help: y");
    }
}
