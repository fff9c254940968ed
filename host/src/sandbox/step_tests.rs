//! Steps of a pipeline: what they are told of their run, limits of their own, and their undoing.

use std::sync::Arc;
use std::time::Duration;

use super::testing::{self, all_grants, exporting, sandbox};
use super::{Call, Dependencies, Exports, Invoke, LoadError, LoadedComponent, RunCall, Sandbox, Undo};
use crate::model::pipeline::StepLimits;
use crate::model::spec::{BatchSpec, ConsumerSpec, DeliverySpec, SubscriptionSpec};
use crate::model::{ConsumerName, Limits, Outcome, Payload, Report, TypePattern};

fn limits() -> Limits {
    Limits { timeout: Duration::from_secs(60), fuel: 20_000_000, ..Limits::default() }
}

async fn loaded(sandbox: &Sandbox, guest: &str) -> LoadedComponent {
    testing::load(sandbox, guest, &testing::spec(limits(), all_grants())).await.unwrap()
}

fn json(text: &str) -> Payload {
    Payload { content_type: "application/json".into(), data: text.to_owned().into() }
}

/// The step *pay* of a run, after three others.
fn run(undo: Option<Undo>) -> Option<Arc<RunCall>> {
    let outputs = vec![
        ("reserve".to_owned(), Some(json(r#"{"inStock":true}"#))),
        ("note".to_owned(), None),
        ("price".to_owned(), Some(json("7"))),
    ];
    let pipeline = ConsumerName::new("fulfil-order").unwrap();
    Some(Arc::new(RunCall { id: "7/fulfil-order".into(), pipeline, step: "pay".into(), outputs, undo }))
}

fn call(data: &str, undo: Option<Undo>) -> Call {
    Call { run: run(undo), ..testing::call(testing::event(data)) }
}

const RUN: &str = r#"{"id":"7/fulfil-order","outputs":[["reserve",{"inStock":true}],["note",null],["price",7]],"pipeline":"fulfil-order","step":"pay"}"#;

#[tokio::test]
async fn a_step_is_told_of_its_run_and_others_of_none() {
    let sandbox = sandbox();
    let step = loaded(&sandbox, "step").await;
    let report = step.invoke(call("{}", None)).await;
    assert_eq!(report.outcome, Outcome::Done, "{:?}", report.reason);
    assert_eq!(report.output.unwrap(), json(RUN));
    assert_eq!(testing::run(&step, "{}").await.output.unwrap(), json("null"));
}

#[tokio::test]
async fn an_undoing_calls_the_compensator_with_what_the_step_returned() {
    let sandbox = sandbox();
    let step = loaded(&sandbox, "step").await;
    for (output, told) in [(Some(json(r#"{"paid":3}"#)), r#"{"paid":3}"#), (None, "null")] {
        let report = step.invoke(call("{}", Some(Undo { output }))).await;
        assert_eq!((report.outcome, report.output), (Outcome::Done, None), "{:?}", report.reason);
        let [undone] = &report.published[..] else { panic!("{:?}", report.published) };
        assert_eq!(undone.payload.as_ref().unwrap().data, format!(r#"{{"output":{told},"run":{RUN}}}"#));
    }
    for (word, outcome) in [("retry", Outcome::Retry), ("reject", Outcome::Reject), ("spin", Outcome::OutOfFuel)] {
        let report = step.invoke(call(&format!(r#"{{"undo":"{word}"}}"#), Some(Undo { output: None }))).await;
        assert_eq!(report.outcome, outcome, "{:?}", report.reason);
        assert!(report.published.is_empty(), "what failed has no effects");
    }
}

async fn ended(step: &LoadedComponent, word: &str, limits: StepLimits) -> Report {
    step.invoke(Call { limits, ..call(&format!(r#"{{"step":"{word}"}}"#), None) }).await
}

#[tokio::test]
async fn limits_of_a_call_hold_instead_of_the_consumers() {
    let sandbox = sandbox();
    let of = |fuel, memory| StepLimits { timeout: None, fuel, memory };
    let step = loaded(&sandbox, "step").await;
    for (word, limits, outcome, reason) in [
        ("spin", of(Some(1_000_000), None), Outcome::OutOfFuel, "its 1000000 units"),
        ("spin", of(Some(40_000_000), None), Outcome::OutOfFuel, "its 40000000 units"),
        ("grow", of(None, None), Outcome::Done, ""),
        ("grow", of(None, Some(3 << 20)), Outcome::OutOfMemory, "3145728 bytes"),
    ] {
        let report = ended(&step, word, limits).await;
        let said = report.reason.unwrap_or_default();
        assert!(report.outcome == outcome && said.contains(reason), "{word}: {:?} {said}", report.outcome);
        if let Some(fuel) = limits.fuel {
            assert!((fuel..fuel + 1_000).contains(&report.usage.fuel), "{} of {fuel}", report.usage.fuel);
        }
    }
    let small =
        ConsumerSpec { limits: Limits { memory: 3 << 20, ..limits() }, ..testing::spec(limits(), all_grants()) };
    let small = testing::load(&sandbox, "step", &small).await.unwrap();
    assert_eq!(ended(&small, "grow", of(None, None)).await.outcome, Outcome::OutOfMemory);
    assert_eq!(ended(&small, "grow", of(None, Some(64 << 20))).await.outcome, Outcome::Done, "more is more");
    let short = StepLimits { timeout: Some(Duration::from_millis(200)), fuel: Some(u64::MAX / 4), memory: None };
    let late = ended(&step, "spin", short).await;
    assert_eq!((late.outcome, late.reason.as_deref()), (Outcome::TimedOut, Some("still running after 200ms")));
}

#[tokio::test]
async fn a_call_of_what_is_not_there_is_refused() {
    let sandbox = sandbox();
    let (undo, ledger) = (loaded(&sandbox, "undo").await, loaded(&sandbox, "ledger").await);
    let undoing = || call("{}", Some(Undo { output: Some(json("3")) }));
    let undone = undo.invoke(undoing()).await;
    assert_eq!((undone.outcome, undone.logs[0].message.as_str()), (Outcome::Done, "undone: 3"));
    let refused = [
        (undo.invoke(call("{}", None)).await, "exports no handler"),
        (ledger.invoke(undoing()).await, "exports no compensator"),
        (undo.invoke_batch(vec![call("{}", None)]).await.unwrap_err(), "exports no batch handler"),
        (undo.invoke_batch(vec![undoing()]).await.unwrap_err(), "exports no compensator of batches"),
    ];
    for (report, reason) in refused {
        assert_eq!(report.outcome, Outcome::Refused);
        assert_eq!(report.reason, Some(format!("the component of `guest` {reason}")));
    }
}

/// What is made of a component with these exports: what is there to be called, or why not.
async fn made(sandbox: &Sandbox, exports: &[&str], batch: bool, subscribed: bool) -> String {
    let batch = batch.then_some(BatchSpec { size: 2, wait: Duration::ZERO });
    let all = SubscriptionSpec { pattern: TypePattern::new("order.*").unwrap(), version: None, condition: None };
    let answers = exports.contains(&"responder").then(|| "stock.check".to_owned());
    let spec = ConsumerSpec {
        answers: answers.into_iter().collect(),
        delivery: DeliverySpec { batch, ..DeliverySpec::default() },
        subscriptions: subscribed.then_some(all).into_iter().collect(),
        ..testing::spec(limits(), all_grants())
    };
    match sandbox.load(exporting(exports), &spec, Dependencies::none()).await {
        Ok(_) => "loaded".into(),
        // An empty interface has the right name and nothing in it, so it is found out one check later.
        Err(LoadError::Contract(_)) => "fits".into(),
        Err(error) => error.to_string().replace("tidegate:consumer/", "").replace("@0.1.0", ""),
    }
}

#[tokio::test]
async fn which_exports_make_what_is_a_table() {
    let sandbox = sandbox();
    let mut table = String::new();
    for exports in [
        &["handler"][..],
        &["batch-handler"],
        &["compensator"],
        &["handler", "compensator"],
        &["batch-handler", "compensator"],
        &["handler", "batch-handler"],
        &["handler", "batch-handler", "compensator"],
        &["reducer"],
        &[],
        &["responder"],
        &["handler", "responder"],
    ] {
        for (batch, subscribed) in [(false, false), (false, true), (true, true)] {
            let made = made(&sandbox, exports, batch, subscribed).await;
            let wanted = format!("{}{}", if subscribed { "on " } else { "" }, if batch { "batch" } else { "" });
            table += format!("{:40} {:9} {made}", exports.join(" "), wanted.trim()).trim_end();
            table.push('\n');
        }
    }
    insta::assert_snapshot!(table);
    let exports = [loaded(&sandbox, "step").await, loaded(&sandbox, "undo").await, loaded(&sandbox, "ledger").await]
        .map(|component| component.exports());
    let none = Exports::default();
    let expected = [
        Exports { handler: true, compensator: true, ..none },
        Exports { compensator: true, ..none },
        Exports { handler: true, ..none },
    ];
    assert_eq!(exports, expected);
}
