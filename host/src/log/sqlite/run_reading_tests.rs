//! Runs as people read them, from a database that a log has written.

use std::sync::Arc;
use std::time::Duration;

use super::SqliteLog;
use super::tests::OnDisk;
use crate::log::EventLog as _;
use crate::log::conformance::{
    PIPELINE, Subject, begin, call_step, consumer, definition, ends, event, made, run, saga, wait_step,
};
use crate::model::Outcome;
use crate::model::pipeline::errand::Order;
use crate::model::pipeline::run::{Status, StepState};
use crate::model::pipeline::{Definition, OnFailure};
use crate::model::query::{RunQuery, RunStatus};
use crate::store::Reader;

fn reader(disk: &OnDisk) -> Reader {
    Reader::open(&disk.path()).unwrap()
}

/// A saga of which reserve is done, pay is rejected, and what undoes reserve is under way.
async fn failed(disk: &mut OnDisk) -> Arc<SqliteLog> {
    let (log, mut feed) = disk.open();
    log.append(vec![event("1", "order.created"), event("2", "order.created")]).await.unwrap();
    log.settle(vec![begin(1, "o-1", &saga())]).await.unwrap();
    let (id, errand) = made(&*log, &mut feed).await;
    log.settle(vec![ends(&id, &errand, Outcome::Done, Some("{\"a\":  1}"))]).await.unwrap();
    let (id, errand) = made(&*log, &mut feed).await;
    log.settle(vec![ends(&id, &errand, Outcome::Reject, None)]).await.unwrap();
    let (id, _) = made(&*log, &mut feed).await;
    assert_eq!(id.consumer, consumer("release"));
    log
}

#[tokio::test]
async fn a_run_is_told_step_by_step() {
    let mut disk = OnDisk::new();
    let _log = failed(&mut disk).await;
    let detail = reader(&disk).run_detail(&run(1)).unwrap().unwrap();
    assert_eq!((detail.run.status, detail.run.key.as_deref()), (Status::Compensating, Some("o-1")));
    assert_eq!((detail.run.event_id.as_str(), detail.run.event_type.as_str()), ("1", "order.created"));
    assert_eq!((detail.on_failure, detail.run.ended_at), (OnFailure::Compensate, None));
    assert_eq!(detail.run.failure.as_deref(), Some("step 'pay' has failed: because"));
    let counts: Vec<_> = detail.run.step_counts.iter().map(|(state, n)| (state.as_str(), *n)).collect();
    assert_eq!(counts, [("failed", 1), ("pending", 1), ("undoing", 1)]);

    let [reserve, pay, ship] = detail.steps.as_slice() else { panic!("{:?}", detail.steps) };
    assert_eq!(
        (reserve.state, reserve.work.attempts, reserve.work.deliveries.as_slice()),
        (StepState::Undoing, 1, &["1/reserve/1".to_owned()][..])
    );
    assert_eq!(reserve.output.as_ref().unwrap().get(), "{\"a\":  1}", "as it came");
    let undo = reserve.compensation.as_ref().unwrap();
    assert_eq!((undo.consumer.as_ref(), undo.attempts), (Some(&consumer("release")), 0));
    assert_eq!(undo.deliveries, ["1/release/1"]);
    assert!(undo.began_at.is_some() && undo.ended_at.is_none() && undo.due_at.is_some(), "{undo:?}");
    assert_eq!(
        (pay.state, pay.work.reason.as_deref(), pay.after.as_slice()),
        (StepState::Failed, Some("because"), &["reserve".to_owned()][..])
    );
    assert!(pay.compensation.is_none() && pay.output.is_none());
    assert_eq!((ship.state, ship.work.began_at), (StepState::Pending, None));
    let words: Vec<_> = detail.journal.iter().map(|line| (line.word(), line.text("step").unwrap_or("-"))).collect();
    assert_eq!(
        words,
        [
            ("began", "-"),
            ("step-began", "reserve"),
            ("done", "reserve"),
            ("step-began", "pay"),
            ("failed", "pay"),
            ("failing", "-"),
            ("compensating", "-"),
            ("undo-began", "reserve"),
        ]
    );
    assert!(reader(&disk).run_detail(&run(2)).unwrap().is_none());
}

/// A stopped run may be taken up again: then it must be told of what it waits for, whatever is deployed.
#[tokio::test]
async fn what_open_and_stopped_runs_go_by_is_kept_at_hand() {
    let mut disk = OnDisk::new();
    let (log, mut feed) = disk.open();
    log.append(vec![event("1", "order.created")]).await.unwrap();
    let stops = Definition { on_failure: OnFailure::Stop, ..saga() };
    log.settle(vec![begin(1, "o-1", &stops)]).await.unwrap();
    assert_eq!(reader(&disk).open_definitions().unwrap(), std::slice::from_ref(&stops));
    let (id, errand) = made(&*log, &mut feed).await;
    log.settle(vec![ends(&id, &errand, Outcome::Reject, None)]).await.unwrap();
    assert_eq!(reader(&disk).run_detail(&run(1)).unwrap().unwrap().run.status, Status::Stopped);
    assert_eq!(reader(&disk).open_definitions().unwrap(), [stops]);
    log.order_run(run(1), Order::Cancel { reason: "x".into() }).await.unwrap();
    assert_eq!(reader(&disk).open_definitions().unwrap(), [], "nothing is left of it to do");
}

#[tokio::test]
async fn a_wait_says_for_what_and_until_when() {
    let mut disk = OnDisk::new();
    let (log, _feed) = disk.open();
    log.append(vec![event("1", "order.created")]).await.unwrap();
    let waits = definition(vec![wait_step("paid", &[], Duration::from_secs(60))], Some(Duration::from_secs(600)));
    log.settle(vec![begin(1, "o-1", &waits)]).await.unwrap();
    let detail = reader(&disk).run_detail(&run(1)).unwrap().unwrap();
    let wait = detail.steps[0].wait.as_ref().unwrap();
    assert_eq!((wait.event_type.as_str(), wait.key.as_deref()), ("payment.settled", Some("order-1")));
    let began = detail.steps[0].work.began_at.unwrap();
    assert_eq!(wait.until, Some(began.plus(Duration::from_secs(60))));
    assert_eq!(detail.until, Some(detail.run.began_at.plus(Duration::from_secs(600))));
    assert_eq!((detail.steps[0].state, detail.steps[0].work.consumer.as_ref()), (StepState::Waiting, None));
}

#[tokio::test]
async fn runs_are_listed_by_how_they_stand() {
    let mut disk = OnDisk::new();
    let log = failed(&mut disk).await;
    let one = definition(vec![call_step("ship", &[], None)], None);
    log.settle(vec![begin(2, "o-2", &one)]).await.unwrap();
    let refused = log.order_run(run(2), Order::Retry { step: "ship".into() }).await.unwrap().unwrap();
    assert!(refused.is_err());
    log.order_run(run(2), Order::Cancel { reason: "a mistake".into() }).await.unwrap();
    let reader = reader(&disk);
    let ids = |query: RunQuery| -> Vec<String> { reader.runs(&query).unwrap().into_iter().map(|run| run.id).collect() };
    let both = ["1/fulfil", "2/fulfil"];
    assert_eq!(ids(RunQuery::default()), both);
    assert_eq!(ids(RunQuery { newest: true, limit: Some(1), ..RunQuery::default() }), ["2/fulfil"]);
    assert_eq!(ids(RunQuery { after: Some(1), ..RunQuery::default() }), ["2/fulfil"]);
    assert_eq!(ids(RunQuery { key: Some("o-1".into()), ..RunQuery::default() }), ["1/fulfil"]);
    assert_eq!(ids(RunQuery { pipeline: Some(consumer("other")), ..RunQuery::default() }), [] as [&str; 0]);
    assert_eq!(ids(RunQuery { pipeline: Some(consumer(PIPELINE)), ..RunQuery::default() }), both);
    let stands = |status| ids(RunQuery { status: Some(status), ..RunQuery::default() });
    assert_eq!(stands(RunStatus::Is(Status::Compensating)), ["1/fulfil"]);
    assert_eq!(stands(RunStatus::Is(Status::Completed)), [] as [&str; 0]);
    assert_eq!(stands(RunStatus::Open), both, "what is in hand is waited for");
    let open = reader.open_runs().unwrap();
    assert_eq!(open, [(consumer(PIPELINE), Status::Compensating, 1), (consumer(PIPELINE), Status::Running, 1)]);
    let cancelled = reader.run_detail(&run(2)).unwrap().unwrap();
    assert_eq!(cancelled.run.failure.as_deref(), Some("a mistake"));
}

#[tokio::test]
async fn the_tree_of_an_event_has_its_runs() {
    let mut disk = OnDisk::new();
    let _log = failed(&mut disk).await;
    let (tree, cut) = reader(&disk).tree(1, 100).unwrap().unwrap();
    assert!(!cut);
    let consumers: Vec<_> = tree.deliveries.iter().map(|node| node.consumer.as_str()).collect();
    assert_eq!(consumers, [PIPELINE], "the others are the run's");
    let [node] = tree.runs.as_slice() else { panic!("{:?}", tree.runs) };
    assert_eq!(node.run.id, "1/fulfil");
    let steps: Vec<_> =
        node.deliveries.iter().map(|node| (node.step.as_deref().unwrap(), node.undo, node.state.as_str())).collect();
    assert_eq!(steps, [("reserve", false, "succeeded"), ("pay", false, "dead"), ("reserve", true, "pending")]);
    let told: Vec<_> = node.events.iter().map(|tree| tree.event.event_type.as_str()).collect();
    assert_eq!(told, ["tidegate.run.started", "tidegate.run.compensating"]);
    assert!(tree.events.is_empty());
}
