//! Many deliveries in one call, and the one report of the call as a report for each of them.

use wasmtime::Store;

use super::Call;
use super::attempt::{LoadedComponent, Remains};
use super::bindings::BatchConsumerPre;
use super::bindings::types::Failure;
use super::cause::Cause;
use super::classify::{self, Verdict};
use super::convert;
use super::instance::Host;
use super::text;
use crate::model::{Limits, Outcome, Report, Usage};

impl LoadedComponent {
    /// One call with all of them, in which each has at least what it is allowed by itself.
    pub(super) async fn many(&self, pre: &BatchConsumerPre<Host>, calls: Vec<Call>) -> Result<Vec<Report>, Report> {
        let Some((first, others)) = calls.split_first() else { return Ok(Vec::new()) };
        let deliveries: Vec<_> =
            calls.iter().map(|call| convert::delivery(call, self.consumer.name.as_str())).collect();
        let handle = async |store: &mut Store<Host>| {
            let instance = pre.instantiate_async(&mut *store).await?;
            instance.tidegate_consumer_batch_handler().call_handle_batch(store, &deliveries).await
        };
        let (results, remains) = self.attempt(Cause::new(first, others), self.largest(&calls), handle).await?;
        if results.len() != calls.len() {
            let count = |n: usize, one: &str, several: &str| format!("{n} {}", if n == 1 { one } else { several });
            let given = count(results.len(), "result", "results");
            let reason = format!("gave {given} for {}", count(calls.len(), "delivery", "deliveries"));
            return Err(remains.report(Verdict::new(Outcome::Trapped, reason)));
        }
        Ok(reports(results, remains))
    }

    /// A batch of one.
    pub(super) async fn alone(&self, pre: &BatchConsumerPre<Host>, call: Call) -> Report {
        match self.many(pre, vec![call]).await.map(|reports| reports.into_iter().next()) {
            Ok(Some(report)) | Err(report) => report,
            Ok(None) => Report::bare(Outcome::Trapped, "gave no result".to_owned(), self.runtime.clock.now()),
        }
    }

    fn largest(&self, calls: &[Call]) -> Limits {
        let each = calls.iter().map(|call| self.limits(call));
        let larger = |a: Limits, b: Limits| Limits {
            timeout: a.timeout.max(b.timeout),
            fuel: a.fuel.max(b.fuel),
            memory: a.memory.max(b.memory),
            ..a
        };
        each.reduce(larger).unwrap_or(self.consumer.limits)
    }
}

/// One report a delivery, in order, at least one. Together they say what the call used, except that each took all its time
/// and memory; logs stand with the first, effects with the first that is *done*.
fn reports(results: Vec<Result<(), Failure>>, mut remains: Remains) -> Vec<Report> {
    let refused = remains.refused.take();
    let several = results.len() > 1;
    let verdicts = results.into_iter().map(|result| verdict(result, refused.as_deref(), several));
    let mut usages = split(remains.usage, verdicts.len());
    let mut logs = Some((remains.logs, remains.logs_dropped));
    let mut effects = Some((remains.published, remains.state));
    verdicts
        .map(|verdict| {
            let (logs, logs_dropped) = logs.take().unwrap_or_default();
            let done = verdict.outcome == Outcome::Done;
            let (published, state) = effects.take_if(|_| done).unwrap_or_default();
            let (started_at, usage) = (remains.started_at, usages.next().unwrap_or_default());
            Remains { started_at, usage, logs, logs_dropped, refused: None, published, state }.report(verdict)
        })
        .collect()
}

/// What became of one delivery. Which of several the host's refusal was about is not known, so none of them dies of it: it
/// is retried, and alone it will be refused again if it was the one.
fn verdict(result: Result<(), Failure>, refused: Option<&str>, several: bool) -> Verdict {
    let result = result.map(|()| None);
    if !several {
        return classify::word(result, refused.map(ToOwned::to_owned));
    }
    let verdict = classify::word(result, None);
    match (refused, &verdict.reason) {
        (Some(refused), Some(reason)) if verdict.outcome == Outcome::Retry => {
            let reason = text::reason(&format!("{reason} (to a handler of this batch the host said: {refused})"));
            Verdict { reason: Some(reason), ..verdict }
        }
        _ => verdict,
    }
}

/// Fuel in equal parts, whose sum is what was used: the first has what is left over.
fn split(usage: Usage, parts: usize) -> impl Iterator<Item = Usage> {
    let parts = parts.max(1) as u64;
    let (share, rest) = (usage.fuel / parts, usage.fuel % parts);
    (0..parts).map(move |n| Usage { fuel: if n == 0 { share + rest } else { share }, ..usage })
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
