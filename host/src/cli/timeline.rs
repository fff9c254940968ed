//! A run as a timeline: a line a step, with a bar where it lies between the run's beginning and its end.

use super::error::Error;
use super::output::Output;
use super::show;
use super::text::{self, Table};
use crate::model::Timestamp;
use crate::model::pipeline::run::{Status, StepState};
use crate::model::record::{RunDetail, StepRecord, WorkRecord};

/// Characters of a bar.
const BAR: usize = 24;
/// Characters of an output that are shown.
const OUTPUT: usize = 80;

/// The head, then the steps.
pub(super) fn draw(detail: &RunDetail, now: Timestamp, out: &mut Output) -> Result<(), Error> {
    let run = &detail.run;
    let status = out.paint(show::run_colour(run.status), run.status.as_str());
    let took = run.duration_ms.map_or_else(
        || format!("for {} so far", text::age(now.since(run.began_at))),
        |ms| format!("in {}", text::millis(ms)),
    );
    out.line(format!("{}  {status}  {took}", text::escape(&run.id)))?;
    let mut rows = Vec::new();
    rows.extend(run.failure.clone().map(|why| ("failure", why)));
    rows.extend(run.key.clone().map(|key| ("key", key)));
    rows.push(("event", format!("#{} {}  {}", run.sequence, run.event_type, run.event_id)));
    rows.push(("began", text::time(run.began_at)));
    rows.extend(run.ended_at.map(|at| ("ended", text::time(at))));
    if run.status.is_open() {
        rows.extend(detail.until.map(|at| ("time is up", format!("{} ({})", text::time(at), text::relative(at, now)))));
    }
    for (name, value) in rows {
        out.line(format!("  {name:<10}  {}", text::escape(&value)))?;
    }
    out.line("")?;
    out.table(&table(detail, now))
}

fn table(detail: &RunDetail, now: Timestamp) -> Table {
    let scale = Scale { from: detail.run.began_at, to: detail.run.ended_at.unwrap_or(now) };
    let mut rows = Vec::new();
    let open = detail.run.status.is_open();
    for step in &detail.steps {
        rows.push(row(step, open, &scale, now));
        if let Some(undo) = &step.compensation {
            rows.push(undo_row(step, undo, &scale, now));
        }
    }
    Table {
        head: &["step", "state", "from … to", "began", "took", "attempts", "who", "what"], right: &[3, 4, 5], rows
    }
}

fn row(step: &StepRecord, open: bool, scale: &Scale, now: Timestamp) -> Vec<String> {
    let who = match (&step.work.consumer, &step.wait) {
        (Some(consumer), _) => consumer.to_string(),
        (None, Some(wait)) => wait.event_type.clone(),
        (None, None) => String::new(),
    };
    // What became of the step itself; that it is undone is said by the line below.
    let state = match step.state {
        StepState::Undoing | StepState::Undone | StepState::UndoFailed => StepState::Done,
        state => state,
    };
    let state = show::step_state(state.as_str(), open);
    let attempts = if step.wait.is_some() { "-".to_owned() } else { step.work.attempts.to_string() };
    cells((&step.name, state), &step.work, (attempts, who, what(step, now)), scale, now)
}

fn undo_row(step: &StepRecord, undo: &WorkRecord, scale: &Scale, now: Timestamp) -> Vec<String> {
    let who = undo.consumer.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut what = under_way(undo, now);
    if step.resolved {
        what.push("an operator has seen to it".to_owned());
    }
    cells(("  undo", step.state.as_str()), undo, (undo.attempts.to_string(), who, what.join("; ")), scale, now)
}

fn cells(
    (name, state): (&str, &str),
    work: &WorkRecord,
    (attempts, who, what): (String, String, String),
    scale: &Scale,
    now: Timestamp,
) -> Vec<String> {
    let began = work.began_at.map_or_else(String::new, |at| format!("+{}", scale.after(at)));
    let took = match (work.duration_ms, work.began_at) {
        (Some(ms), _) => text::millis(ms),
        (None, Some(at)) => text::age(now.since(at)),
        (None, None) => String::new(),
    };
    vec![name.to_owned(), state.to_owned(), scale.bar(work), began, took, attempts, who, what]
}

/// What it left behind, why it failed, or what it waits for.
fn what(step: &StepRecord, now: Timestamp) -> String {
    let mut parts = under_way(&step.work, now);
    if let Some(wait) = &step.wait {
        if step.state == StepState::Waiting {
            parts.extend(wait.key.as_ref().map(|key| format!("for one with the key {key}")));
            parts.extend(wait.until.map(|at| format!("until {} ({})", text::time(at), text::relative(at, now))));
        }
        parts.extend(wait.sequence.map(|seq| format!("event #{seq} has come")));
    }
    if step.resolved && step.compensation.is_none() {
        parts.push("an operator has seen to it".to_owned());
    }
    let plain =
        step.output_text.clone().or_else(|| step.output_base64.as_ref().map(|base64| format!("base64:{base64}")));
    let output = step.output.as_ref().map(|raw| text::escape_json(raw.get())).or(plain);
    parts.extend(output.map(|output| text::cut(&output, OUTPUT)));
    parts.join("; ")
}

/// Why something failed, or what keeps it.
fn under_way(work: &WorkRecord, now: Timestamp) -> Vec<String> {
    let mut parts: Vec<String> = work.reason.clone().into_iter().collect();
    if work.blocked {
        parts.push("waits for others with its key".to_owned());
    }
    if let Some(due) = work.due_at.filter(|due| *due > now) {
        parts.push(format!("attempt {} is due {}", work.attempts + 1, text::relative(due, now)));
    }
    parts
}

/// From the run's beginning to its end, or to now.
struct Scale {
    from: Timestamp,
    to: Timestamp,
}

impl Scale {
    /// How long after the run's beginning.
    fn after(&self, at: Timestamp) -> String {
        text::millis(at.since(self.from).as_secs_f64() * 1e3)
    }

    /// Where a time lies, in characters.
    fn place(&self, at: Timestamp) -> usize {
        let whole = self.to.since(self.from).as_micros().max(1);
        let part = at.since(self.from).as_micros().min(whole);
        usize::try_from(part * BAR as u128 / whole).unwrap_or(BAR)
    }

    /// At least one character for what has begun; what is not over ends in an arrow.
    fn bar(&self, work: &WorkRecord) -> String {
        let Some(began) = work.began_at else { return String::new() };
        let from = self.place(began).min(BAR - 1);
        let to = work.ended_at.map_or(BAR, |end| self.place(end)).clamp(from + 1, BAR);
        let mut bar: String = " ".repeat(from) + &"━".repeat(to - from);
        if work.ended_at.is_none() {
            bar.pop();
            bar.push('▶');
        }
        bar
    }
}

/// Everything that the journal says, a line an entry.
pub(super) fn journal(detail: &RunDetail, out: &mut Output) -> Result<(), Error> {
    out.line("")?;
    let row = |line: &crate::model::record::JournalRecord| {
        let more = ["reason", "cause", "status", "until"].iter().filter_map(|member| line.text(member));
        let event = line.entry.get("event").map(|seq| format!("event #{seq}"));
        let more: Vec<String> = more.map(str::to_owned).chain(event).collect();
        vec![
            text::time(line.at),
            line.word().to_owned(),
            line.text("step").unwrap_or_default().to_owned(),
            more.join("; "),
        ]
    };
    let rows = detail.journal.iter().map(row).collect();
    out.table(&Table { head: &["at", "entry", "step", "more"], right: &[], rows })
}

/// The step that the run stands still for.
pub(super) fn mendable(detail: &RunDetail) -> Option<&str> {
    let wanted = match detail.run.status {
        Status::Stuck => StepState::UndoFailed,
        Status::Stopped => StepState::Failed,
        _ => return None,
    };
    detail.steps.iter().find(|step| step.state == wanted).map(|step| step.name.as_str())
}
