//! The split of one call's report, by itself and with a guest that takes batches.

use std::time::Duration;

use super::*;
use crate::model::spec::{BatchSpec, ConsumerSpec, DeliverySpec};
use crate::model::{Grants, Limits, LogLine, StateChanges, Timestamp, TypePattern};
use crate::sandbox::bindings::types::{Deferral, Retry};
use crate::sandbox::{Invoke, LoadError, Sandbox, testing};

fn remains() -> Remains {
    let line = LogLine { level: "info".into(), message: "hello".into(), fields: Default::default() };
    let published = vec![testing::event("{}").envelope];
    let usage = Usage { duration: Duration::from_millis(7), fuel: 103, memory_peak: 1 << 20 };
    let state = StateChanges { listed_at: Some(3), ..StateChanges::default() };
    Remains { started_at: Timestamp(5), usage, logs: vec![line], logs_dropped: 2, refused: None, published, state }
}

fn retry() -> Result<(), Failure> {
    Err(Failure::Retry(Retry { reason: "later".into(), after_ms: None }))
}

#[test]
fn the_first_that_is_done_carries_the_effects_and_the_first_the_logs() {
    let defer = Err(Failure::Defer(Deferral { reason: "not now".into(), after_ms: 500 }));
    let reject = Err(Failure::Reject("never".into()));
    let reports = reports(vec![retry(), Ok(()), defer, Ok(()), reject], remains());
    let seen: Vec<_> = reports
        .iter()
        .map(|r| (r.outcome.as_str(), r.published.len(), r.state.listed_at, r.logs.len(), r.logs_dropped, r.usage.fuel))
        .collect();
    assert_eq!(
        seen,
        [
            ("retry", 0, None, 1, 2, 23),
            ("done", 1, Some(3), 0, 0, 20),
            ("defer", 0, None, 0, 0, 20),
            ("done", 0, None, 0, 0, 20),
            ("reject", 0, None, 0, 0, 20),
        ]
    );
    for report in &reports {
        assert_eq!((report.started_at, report.usage.duration), (Timestamp(5), Duration::from_millis(7)));
        assert_eq!(report.usage.memory_peak, 1 << 20);
    }
}

#[test]
fn effects_of_a_batch_of_which_nothing_is_done_are_nobodys() {
    let reports = reports(vec![retry(), retry()], remains());
    assert!(reports.iter().all(|r| r.published.is_empty() && r.state == StateChanges::default()));
}

#[test]
fn a_refusal_kills_the_one_that_is_alone_and_none_of_several() {
    let refused = || Remains { refused: Some("publishing 'x' is not granted".into()), ..remains() };
    let alone = reports(vec![retry()], refused());
    assert_eq!(alone.first().map(|r| r.outcome), Some(Outcome::Refused));
    for report in reports(vec![retry(), retry()], refused()) {
        assert_eq!(report.outcome, Outcome::Retry);
        assert!(report.reason.unwrap().contains("is not granted"));
    }
}

fn spec(batch: bool, limits: Limits) -> ConsumerSpec {
    let batch = batch.then_some(BatchSpec { size: 100, wait: Duration::from_millis(200) });
    let grants = Grants { publish: vec![TypePattern::new("order.**").unwrap()], ..Grants::default() };
    ConsumerSpec { delivery: DeliverySpec { batch, ..DeliverySpec::default() }, ..testing::spec(limits, grants) }
}

fn limits() -> Limits {
    Limits { timeout: Duration::from_secs(60), fuel: 20_000_000, ..Limits::default() }
}

async fn taker(sandbox: &Sandbox) -> LoadedComponent {
    testing::load(sandbox, "batch", &spec(true, limits())).await.unwrap()
}

/// A delivery of its own for each word.
fn calls(words: &[&str]) -> Vec<Call> {
    let call = |(n, word): (usize, &&str)| {
        let mut event = testing::event(&format!("{{\"then\": \"{word}\"}}"));
        event.envelope.id = format!("event-{n}");
        event.envelope.correlation_id = format!("correlation-{n}");
        testing::call(event)
    };
    words.iter().enumerate().map(call).collect()
}

fn words(reports: &[Report]) -> Vec<&str> {
    reports.iter().map(|report| report.outcome.as_str()).collect()
}

#[tokio::test]
async fn each_delivery_of_a_batch_has_its_own_result() {
    let sandbox = testing::sandbox();
    let taker = taker(&sandbox).await;
    let said = ["retry", "done", "publish", "reject", "defer", "publish"];
    let reports = taker.invoke_batch(calls(&said)).await.unwrap();
    assert_eq!(words(&reports), ["retry", "done", "done", "reject", "defer", "done"]);
    assert_eq!(reports.iter().map(|r| r.published.len()).collect::<Vec<_>>(), [0, 2, 0, 0, 0, 0]);
    assert_eq!(reports.iter().map(|r| r.logs.len()).collect::<Vec<_>>(), [1, 0, 0, 0, 0, 0]);
    assert_eq!(reports[0].logs[0].message, "a batch of 6", "one call");
    assert_eq!(reports[4].after, Some(Duration::from_secs(5)));
    let event = &reports[1].published[0];
    assert_eq!(event.causation_id.as_deref(), Some("event-0"), "the first of the batch");
    assert_eq!(event.correlation_id, "correlation-0");
    let again = taker.invoke_batch(calls(&said)).await.unwrap();
    let ids = |reports: &[Report]| reports[1].published.iter().map(|event| event.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&reports), ids(&again), "the same batch, the same ids");
    let used = |reports: &[Report]| reports.iter().map(|report| report.usage.fuel).sum::<u64>();
    assert!(used(&reports) > 10_000 && used(&reports) == used(&again));
    assert!(taker.invoke_batch(Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_batch_fails_as_a_whole_and_without_effects() {
    let sandbox = testing::sandbox();
    let taker = taker(&sandbox).await;
    for (word, outcome, reason) in [
        ("trap", Outcome::Trapped, "poison"),
        ("spin", Outcome::OutOfFuel, "20000000 units"),
        ("short", Outcome::Trapped, "gave 2 results for 3 deliveries"),
        ("long", Outcome::Trapped, "gave 4 results for 3 deliveries"),
    ] {
        let failed = taker.invoke_batch(calls(&["publish", word, "done"])).await.unwrap_err();
        assert_eq!(failed.outcome, outcome, "{word}");
        assert!(failed.reason.as_ref().unwrap().contains(reason), "{:?}", failed.reason);
        assert!(failed.published.is_empty() && !failed.logs.is_empty() && failed.usage.fuel > 0, "{word}");
    }
    let alone = taker.invoke(calls(&["short"]).remove(0)).await;
    assert_eq!((alone.outcome, alone.reason.as_deref()), (Outcome::Trapped, Some("gave 0 results for 1 delivery")));
}

#[tokio::test]
async fn what_comes_alone_is_a_batch_of_one() {
    let sandbox = testing::sandbox();
    let taker = taker(&sandbox).await;
    let alone = taker.invoke(calls(&["publish"]).remove(0)).await;
    assert_eq!((alone.outcome, alone.published.len(), alone.logs.len()), (Outcome::Done, 1, 1));
    let batch = taker.invoke_batch(calls(&["publish"])).await.unwrap();
    assert_eq!(alone.published[0].id, batch[0].published[0].id);
    assert_eq!(taker.invoke(calls(&["publish-ungranted"]).remove(0)).await.outcome, Outcome::Refused);
    let together = taker.invoke_batch(calls(&["publish-ungranted", "done"])).await.unwrap();
    assert_eq!(words(&together), ["retry", "done"], "nobody dies of a neighbour's refusal");
}

#[tokio::test]
async fn what_it_exports_and_the_manifest_must_agree() {
    let sandbox = testing::sandbox();
    let load = async |guest, batch| {
        let spec = ConsumerSpec { grants: testing::all_grants(), ..spec(batch, limits()) };
        testing::load(&sandbox, guest, &spec).await.unwrap_err()
    };
    assert!(matches!(load("batch", false).await, LoadError::NoBatches));
    assert!(matches!(load("ledger", true).await, LoadError::NoBatchHandler));
    assert!(matches!(load("no_handler", true).await, LoadError::NoHandler { .. }));
    for batch in [false, true] {
        let none = crate::sandbox::Dependencies::none();
        let both = sandbox.load(testing::exporting(&["handler", "batch-handler"]), &spec(batch, limits()), none).await;
        assert!(matches!(both.unwrap_err(), LoadError::BothHandlers));
    }
}
