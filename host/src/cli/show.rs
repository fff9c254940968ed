//! Records as lines: what several commands draw.

use super::error::Error;
use super::output::{Colour, Output};
use super::text;
use crate::model::pipeline::run::{Status, StepState};
use crate::model::record::{DeliveryNode, EventRecord, EventTree, OutcomeRecord, QueryNode, QueryRecord, RunNode};
use crate::model::{ConsumerName, DeliveryId, Job, Outcome, QueryOutcome, TypePattern, time};

/// Reads an event type with `*` and `**`.
pub(super) fn pattern(text: &str) -> Result<String, String> {
    TypePattern::new(text).map(String::from)
}

/// Reads `SEQ/CONSUMER` or `SEQ/CONSUMER/ROUND`.
pub(super) fn delivery_id(text: &str) -> Result<DeliveryId, String> {
    let wrong =
        || "write it as `dead list` shows it: SEQ/CONSUMER or SEQ/CONSUMER/ROUND, such as 12/send-mail".to_owned();
    let mut parts = text.split('/');
    let seq = parts.next().and_then(|seq| seq.parse().ok()).ok_or_else(wrong)?;
    let consumer = ConsumerName::new(parts.next().ok_or_else(wrong)?)?;
    let round = parts.next().map_or(Ok(0), |round| round.parse().map_err(|_| wrong()))?;
    if parts.next().is_some() { Err(wrong()) } else { Ok(DeliveryId { seq, consumer, round }) }
}

/// An event's payload on one safe line; nothing if it has none.
pub(super) fn data(event: &EventRecord) -> Option<String> {
    if let Some(json) = &event.data {
        return Some(text::escape_json(json.get()));
    }
    if let Some(plain) = &event.data_text {
        return Some(text::escape(plain));
    }
    event.data_base64.as_ref().map(|base64| format!("base64:{base64}"))
}

/// `attempt 2  retry  12 ms  0.30M fuel  1.20 MiB  reason`.
pub(super) fn attempt(outcome: &OutcomeRecord, out: &Output) -> String {
    let word = out.paint(Colour::of(outcome.outcome), outcome.outcome.as_str());
    let mut line = format!(
        "attempt {}  {word}  {}  {} fuel  {}",
        outcome.attempt,
        text::millis(outcome.duration_ms),
        text::rough(outcome.fuel),
        text::bytes(outcome.memory_peak),
    );
    if let Some(reason) = &outcome.reason {
        line.push_str("  ");
        line.push_str(&text::escape(reason));
    }
    line
}

/// A delivery's state in its colour.
fn state(word: &str, out: &Output) -> String {
    let colour = match word {
        "succeeded" => Colour::Good,
        "dead" => Colour::Bad,
        _ => Colour::Wait,
    };
    out.paint(colour, &text::escape(word))
}

/// What stands under a line of a tree.
enum Branch<'a> {
    Event(&'a EventTree),
    Delivery(&'a DeliveryNode),
    Run(&'a RunNode),
    /// With what was asked during it.
    Attempt(&'a OutcomeRecord, Vec<&'a QueryNode>),
    Query(&'a QueryNode),
    /// A line that has nothing under it.
    Note(String),
}

/// Draws an event with its deliveries, their attempts, what these asked, and the events they caused in turn. A stack instead of
/// recursion: how deep a tree is was for guests to decide.
pub(super) fn tree(tree: &EventTree, out: &Output) -> Vec<String> {
    let mut lines = vec![event_line(&tree.event, out)];
    let mut stack = Vec::new();
    push(&mut stack, "", children_of_event(tree));
    while let Some((prefix, last, branch)) = stack.pop() {
        let (line, children) = match branch {
            Branch::Event(tree) => (event_line(&tree.event, out), children_of_event(tree)),
            Branch::Delivery(node) => (delivery_line(node, out), children_of_delivery(node)),
            Branch::Run(node) => (run_line(node, out), children_of_run(node)),
            Branch::Attempt(outcome, asked) => (attempt(outcome, out), asked.into_iter().map(Branch::Query).collect()),
            Branch::Query(node) => (query_line(&node.query, out), node.queries.iter().map(Branch::Query).collect()),
            Branch::Note(line) => (line, Vec::new()),
        };
        lines.push(format!("{prefix}{} {line}", if last { "└─" } else { "├─" }));
        push(&mut stack, &format!("{prefix}{}", if last { "   " } else { "│  " }), children);
    }
    lines
}

fn push<'a>(stack: &mut Vec<(String, bool, Branch<'a>)>, prefix: &str, children: Vec<Branch<'a>>) {
    let count = children.len();
    let numbered: Vec<_> = children.into_iter().enumerate().collect();
    stack.extend(numbered.into_iter().rev().map(|(i, child)| (prefix.to_owned(), i + 1 == count, child)));
}

fn children_of_event(tree: &EventTree) -> Vec<Branch<'_>> {
    // That a pipeline has taken its event is said by the run that it began.
    let began = |node: &&DeliveryNode| {
        let plain = node.state == "succeeded" && node.outcomes.iter().all(|outcome| outcome.outcome == Outcome::Done);
        plain && node.events.is_empty() && tree.runs.iter().any(|of| of.run.pipeline == node.consumer)
    };
    let deliveries = tree.deliveries.iter().filter(|node| !began(node));
    let mut children: Vec<_> = deliveries.map(Branch::Delivery).collect();
    children.extend(tree.queries.iter().map(Branch::Query));
    children.extend(tree.runs.iter().map(Branch::Run));
    children.extend(tree.events.iter().map(Branch::Event));
    if children.is_empty() {
        // Of those to ephemeral consumers nothing is kept.
        let why = match tree.event.job {
            Some(_) => "its delivery is past retention",
            None => "no durable consumer subscribes to it",
        };
        children.push(Branch::Note(why.into()));
    }
    children
}

/// A step's state. Of a run that is over nothing is pending any more, as long as nobody takes it up again.
pub(super) fn step_state(state: &str, open: bool) -> &str {
    if state == StepState::Pending.as_str() && !open { "not begun" } else { state }
}

/// `run 17/fulfil  completed  1.24 s  2 done, 1 skipped`.
fn run_line(node: &RunNode, out: &Output) -> String {
    let run = &node.run;
    let status = out.paint(run_colour(run.status), run.status.as_str());
    let word = |state| text::escape(step_state(state, run.status.is_open()));
    let steps: Vec<String> = run.step_counts.iter().map(|(state, n)| format!("{n} {}", word(state))).collect();
    let took = run.duration_ms.map_or_else(|| "not over yet".to_owned(), text::millis);
    let mut line = format!("run {}  {status}  {took}  {}", text::escape(&run.id), steps.join(", "));
    if let Some(failure) = &run.failure {
        line.push_str("  ");
        line.push_str(&text::escape(failure));
    }
    line
}

pub(super) fn run_colour(status: Status) -> Colour {
    match status {
        Status::Completed => Colour::Good,
        Status::Running | Status::Compensating => Colour::Wait,
        _ => Colour::Bad,
    }
}

fn children_of_run(node: &RunNode) -> Vec<Branch<'_>> {
    let mut children: Vec<_> = node.deliveries.iter().map(Branch::Delivery).collect();
    children.extend(node.events.iter().map(Branch::Event));
    children
}

fn children_of_delivery(node: &DeliveryNode) -> Vec<Branch<'_>> {
    let during = |call: u32| node.queries.iter().filter(|asked| asked.query.call == Some(call)).collect();
    let attempt = |outcome| Branch::Attempt(outcome, during(outcome.call));
    let mut children: Vec<_> = node.outcomes.iter().map(attempt).collect();
    // An attempt that is in hand, or was when the host died, has asked and left nothing else yet.
    let known = |call: &Option<u32>| node.outcomes.iter().any(|outcome| Some(outcome.call) == *call);
    let others = node.queries.iter().filter(|asked| !known(&asked.query.call));
    children.extend(others.map(Branch::Query));
    if children.is_empty() {
        children.push(Branch::Note("not attempted yet".into()));
    }
    children.extend(node.events.iter().map(Branch::Event));
    children
}

/// An event's type, and for whom it is if it is a job.
pub(super) fn name(event: &EventRecord) -> String {
    let event_type = text::cut(&event.event_type, 40);
    event.job.as_ref().map_or(event_type.clone(), |job| format!("{event_type} → {}", job.to))
}

/// For whom a job is, how it is to be started, and how it is retried if it says so itself.
fn job(job: &Job) -> String {
    let mut shown = format!("for {}, priority {}", job.to, job.priority.as_str());
    if let Some(retry) = &job.retry {
        let (initial, max) = (time::written(retry.initial), time::written(retry.max));
        let attempts = text::count(u64::from(retry.attempts), "attempt");
        shown.push_str(&format!(", {attempts} of its own, {initial} to {max} apart"));
    }
    shown
}

fn event_line(event: &EventRecord, out: &Output) -> String {
    let name = out.paint(Colour::Strong, &text::escape(&name(event)));
    let rest = format!("#{}  {}  {}", event.sequence, text::time(event.accepted_at), text::escape(&event.id));
    format!("{name}  {}", out.paint(Colour::Faint, &rest))
}

/// `asked stock.check of stock  answered  12 ms  2026-02-01T11:59:00.000Z`.
fn query_line(query: &QueryRecord, out: &Output) -> String {
    let whom = query.responder.as_ref().map_or_else(String::new, |responder| format!(" of {responder}"));
    let colour = if query.outcome == QueryOutcome::Answered { Colour::Good } else { Colour::Bad };
    let word = out.paint(colour, query.outcome.as_str());
    let event_type = text::escape(&text::cut(&query.query_type, 40));
    let (took, at) = (text::millis(query.duration_ms), text::time(query.asked_at));
    let mut line = format!("asked {event_type}{whom}  {word}  {took}  {}", out.paint(Colour::Faint, &at));
    if let Some(reason) = &query.reason {
        line.push_str("  ");
        line.push_str(&text::escape(reason));
    }
    line
}

fn delivery_line(node: &DeliveryNode, out: &Output) -> String {
    let name = match &node.step {
        Some(step) => format!("{} {}  {}", if node.undo { "undo" } else { "step" }, text::escape(step), node.consumer),
        None => {
            let origin = node.outcomes.iter().find_map(|outcome| outcome.origin.as_deref());
            format!("{}{}", node.consumer, text::origin(origin, node.round))
        }
    };
    let mut line = format!("{name}  {}", state(&node.state, out));
    if node.blocked {
        line.push_str(", waits for its key");
    }
    if let Some(due_at) = node.due_at {
        line.push_str(&format!(", due {}", text::time(due_at)));
    }
    line
}

/// What is known of an event, name and value a line.
pub(super) fn details(event: &EventRecord, out: &mut Output) -> Result<(), Error> {
    let optional = |name: &'static str, value: &Option<String>| value.as_ref().map(|value| (name, value.clone()));
    let mut rows = vec![("id", event.id.clone()), ("source", event.source.clone())];
    rows.extend(optional("subject", &event.subject));
    rows.extend(optional("key", &event.key));
    rows.push(("data version", event.data_version.clone()));
    rows.push(("timestamp", text::time(event.timestamp)));
    rows.push(("accepted", text::time(event.accepted_at)));
    rows.push(("correlation", event.correlation_id.clone()));
    rows.extend(optional("causation", &event.causation_id));
    rows.extend(optional("traceparent", &event.traceparent));
    rows.extend(event.not_before.map(|at| ("not before", text::time(at))));
    rows.extend(event.job.as_ref().map(|of| ("job", job(of))));
    for (name, value) in rows {
        out.line(format!("{name:<12}  {}", text::escape(&value)))?;
    }
    for (name, value) in &event.attributes {
        out.line(format!("{:<12}  {}", text::escape(name), text::escape_json(&value.to_string())))?;
    }
    match data(event) {
        Some(data) => out.line(format!("{:<12}  {data}", "data")),
        None => Ok(()),
    }
}

/// What a handler wrote to its log during an attempt.
pub(super) fn logs(outcome: &OutcomeRecord, indent: &str, out: &mut Output) -> Result<(), Error> {
    for log in &outcome.logs {
        let fields: String = log
            .fields
            .iter()
            .map(|(name, value)| format!("  {}={}", text::escape(name), text::escape(value)))
            .collect();
        out.line(format!("{indent}{:<6} {}{fields}", text::escape(&log.level), text::escape(&log.message)))?;
    }
    if outcome.logs_dropped > 0 {
        out.line(format!("{indent}and {} over the limit", text::count(outcome.logs_dropped, "more line")))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "show_tests.rs"]
pub(super) mod tests;
