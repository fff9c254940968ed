//! How an attempt ended: a guest's word or an engine's error, as an outcome with a reason.

use std::time::Duration;

use wasmtime::Trap;
use wasmtime::component::ResourceTableError;

use super::bindings::types::{Failure, Payload};
use super::engine::STACK_BYTES;
use super::limits::{Denied, Limiter, Stop};
use super::{convert, text};
use crate::model::limit::{DEFER_MS_MIN, DELAY_MS_MAX, OUTPUT_BYTES_MAX};
use crate::model::{self, Limits, LogLine, Outcome};

/// An attempt that found the host's memory used up by others runs again after this.
const MEMORY_AGAIN: Duration = Duration::from_secs(1);

/// An outcome, before the rest of the report is filled in.
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) reason: Option<String>,
    pub(super) after: Option<Duration>,
    pub(super) output: Option<model::Payload>,
}

impl Verdict {
    pub(super) fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: Some(reason.into()), after: None, output: None }
    }
}

/// What the guest said. `refused` is what the host had denied it for good.
pub(super) fn word(result: Result<Option<Payload>, Failure>, refused: Option<String>) -> Verdict {
    match (result, refused) {
        (Ok(output), _) => done(output),
        (Err(Failure::Retry(retry)), Some(refused)) => {
            let reason = text::reason(&format!("{refused} (the handler says: {})", retry.reason));
            Verdict::new(Outcome::Refused, reason)
        }
        (Err(Failure::Retry(retry)), None) => {
            let after = retry.after_ms.map(|ms| Duration::from_millis(ms.min(DELAY_MS_MAX)));
            Verdict { after, ..Verdict::new(Outcome::Retry, text::reason(&retry.reason)) }
        }
        (Err(Failure::Defer(deferral)), _) => {
            let after = Duration::from_millis(deferral.after_ms.clamp(DEFER_MS_MIN, DELAY_MS_MAX));
            Verdict { after: Some(after), ..Verdict::new(Outcome::Defer, text::reason(&deferral.reason)) }
        }
        (Err(Failure::Reject(reason)), _) => Verdict::new(Outcome::Reject, text::reason(&reason)),
    }
}

fn done(output: Option<Payload>) -> Verdict {
    let size = output.as_ref().map_or(0, |output| output.data.len());
    if size > OUTPUT_BYTES_MAX {
        return Verdict::new(Outcome::OverLimit, format!("an output of {size} bytes; the limit is {OUTPUT_BYTES_MAX}"));
    }
    match output.map(convert::payload).transpose() {
        Ok(output) => Verdict { outcome: Outcome::Done, reason: None, after: None, output: output.flatten() },
        Err(problem) => Verdict::new(Outcome::Trapped, format!("the handler's output is not valid: {problem}")),
    }
}

/// What the engine says. `printed` may hold what a panicking guest had to say about it.
pub(super) fn error(error: &wasmtime::Error, limits: &Limits, limiter: &Limiter, printed: &[LogLine]) -> Verdict {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return stopped(stop, limits);
    }
    if let Some(ResourceTableError::Full) = error.downcast_ref() {
        return Verdict::new(Outcome::OverLimit, "too many streams and timers open at once; the limit is 256");
    }
    let trap = error.downcast_ref::<Trap>();
    match trap {
        Some(Trap::OutOfFuel) => return stopped(&Stop::Fuel, limits),
        Some(Trap::Interrupt) => return stopped(&Stop::Time, limits),
        Some(Trap::StackOverflow) => {
            let reason = format!("stack overflow: calls nested deeper than {} KiB of stack", STACK_BYTES >> 10);
            return Verdict::new(Outcome::Trapped, reason);
        }
        _ => {}
    }
    let root = error.root_cause().to_string();
    if let Some(reason) = over_limit(&root) {
        return Verdict::new(Outcome::OverLimit, reason);
    }
    match limiter.denied() {
        Some(denied) => out_of_memory(denied),
        None => Verdict::new(Outcome::Trapped, text::reason(&said(&root, printed))),
    }
}

pub(super) fn stopped(stop: &Stop, limits: &Limits) -> Verdict {
    match stop {
        Stop::Time => Verdict::new(Outcome::TimedOut, format!("still running after {:?}", limits.timeout)),
        Stop::Fuel => Verdict::new(Outcome::OutOfFuel, format!("used up its {} units of fuel", limits.fuel)),
        Stop::Exit(_) => Verdict::new(Outcome::Trapped, stop.to_string()),
        Stop::HostCalls(_) | Stop::Random { .. } | Stop::Cap { .. } => {
            Verdict::new(Outcome::OverLimit, stop.to_string())
        }
    }
}

fn out_of_memory(denied: Denied) -> Verdict {
    match denied {
        Denied::Attempt(max) => {
            Verdict::new(Outcome::OutOfMemory, format!("asked for more than its {max} bytes of memory"))
        }
        // Its neighbours' doing, so it costs nothing.
        Denied::Host(max) => Verdict {
            after: Some(MEMORY_AGAIN),
            ..Verdict::new(
                Outcome::Interrupted,
                format!("all attempts together had used up the host's {max} bytes of memory"),
            )
        },
    }
}

/// Two limits that the engine reports as text only; a test with a guest that passes each pins the words.
fn over_limit(root: &str) -> Option<String> {
    if root.contains("fuel allocated for hostcalls has been exhausted") {
        return Some("passed more data to the host in one call than is allowed".into());
    }
    root.contains("store handle limit exceeded").then(|| "too many resource handles open at once".into())
}

/// A short reason for a trap: the engine's words, and a Rust guest's panic message if it printed one.
fn said(root: &str, printed: &[LogLine]) -> String {
    let trap = root.strip_prefix("wasm trap: ").unwrap_or(root);
    let from = printed.iter().rposition(|line| line.level == "stderr" && line.message.contains("panicked at"));
    let Some(from) = from else { return trap.to_owned() };
    let lines = printed.iter().skip(from).filter(|line| line.level == "stderr" && !line.message.starts_with("note: "));
    let lines: Vec<&str> = lines.map(|line| line.message.trim()).filter(|line| !line.is_empty()).take(4).collect();
    format!("{} ({trap})", lines.join(" "))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmtime::ResourceLimiter as _;

    use super::super::limits::MemoryBudget;
    use super::*;

    fn ended(limiter: &Limiter) -> Verdict {
        error(&wasmtime::Error::msg("wasm trap: unreachable"), &Limits::default(), limiter, &[])
    }

    #[test]
    fn memory_that_neighbours_have_used_up_costs_no_attempt() {
        let budget = Arc::new(MemoryBudget::new(100));
        let mut neighbour = Limiter::new(budget.clone(), 100);
        assert!(neighbour.memory_growing(0, 60, None).unwrap());
        let mut limiter = Limiter::new(budget, 200);
        assert!(!limiter.memory_growing(0, 50, None).unwrap());
        let verdict = ended(&limiter);
        assert_eq!((verdict.outcome, verdict.after), (Outcome::Interrupted, Some(MEMORY_AGAIN)));
        drop(neighbour);
        assert!(limiter.memory_growing(0, 50, None).unwrap());
        assert!(!limiter.memory_growing(50, 101, None).unwrap(), "more than there is for all");
        assert_eq!(ended(&limiter).outcome, Outcome::OutOfMemory);
    }
}
