//! Runs of pipelines: what a settlement means for one, and what follows, is one transaction with it.

use super::*;
use crate::model::pipeline::errand::{Begins, Errand, Order, RunChange, Signal};
use crate::model::pipeline::run::{Input, Refusal, RunId, Status};
use crate::model::pipeline::{CallSpec, Definition, OnFailure, StepLimits, StepSpec, WaitSpec, Work};
use crate::model::retry::RetryPolicy;
use crate::model::{Expression, Priority, TypePattern};

pub(crate) const PIPELINE: &str = "fulfil";

pub(crate) fn call_step(name: &str, after: &[usize], compensate: Option<&str>) -> StepSpec {
    let call = CallSpec {
        consumer: consumer(name),
        compensate: compensate.map(consumer),
        retry: Some(RetryPolicy { attempts: 7, ..RetryPolicy::default() }),
        limits: StepLimits { fuel: Some(5), ..StepLimits::default() },
    };
    StepSpec { name: name.into(), after: after.to_vec(), when: None, work: Work::Call(call) }
}

pub(crate) fn wait_step(name: &str, after: &[usize], timeout: Duration) -> StepSpec {
    let key = || Expression::parse("event.subject").unwrap();
    let pattern = TypePattern::new("payment.settled").unwrap();
    StepSpec {
        name: name.into(),
        after: after.to_vec(),
        when: None,
        work: Work::Wait(WaitSpec { pattern, event: key(), run: key(), timeout }),
    }
}

pub(crate) fn definition(steps: Vec<StepSpec>, timeout: Option<Duration>) -> Definition {
    Definition { pipeline: consumer(PIPELINE), steps, timeout, on_failure: OnFailure::Compensate }
}

/// Reserve, pay, ship; the first two can be undone.
pub(crate) fn saga() -> Definition {
    let steps = vec![
        call_step("reserve", &[], Some("release")),
        call_step("pay", &[0], Some("refund")),
        call_step("ship", &[1], None),
    ];
    definition(steps, None)
}

pub(crate) fn run(seq: Seq) -> RunId {
    RunId { seq, pipeline: consumer(PIPELINE) }
}

/// The pipeline's own delivery of an event that begins a run with this key.
pub(crate) fn begin(seq: Seq, key: &str, definition: &Definition) -> Settlement {
    let begins = Begins { key: key.into(), definition: Arc::new(definition.clone()) };
    let signal = Signal { begins: Some(begins), arrives: Vec::new() };
    Settlement { run: Some(RunChange::Signal(signal)), ..done(seq, PIPELINE) }
}

/// The pipeline's own delivery of an event that a step may wait for.
pub(crate) fn arrive(seq: Seq, step: &str, key: &str) -> Settlement {
    let signal = Signal { begins: None, arrives: vec![(step.into(), key.into())] };
    Settlement { run: Some(RunChange::Signal(signal)), ..done(seq, PIPELINE) }
}

fn json(text: &'static str) -> Payload {
    Payload { content_type: "application/json".into(), data: Bytes::from_static(text.as_bytes()) }
}

/// The end of a step's delivery.
pub(crate) fn ends(id: &DeliveryId, errand: &Errand, outcome: Outcome, output: Option<&'static str>) -> Settlement {
    let step = errand.step.as_ref().unwrap();
    let (state, input) = match outcome {
        Outcome::Done => (State::Succeeded, step.done()),
        Outcome::Withdrawn => (State::Cancelled, Input::Withdrawn { step: step.index }),
        _ => (State::Dead, step.failed("because".into())),
    };
    let mut settlement = settlement(id.clone(), outcome, state);
    // A run deals with what fails: it is no dead letter.
    settlement.death = None;
    settlement.errand = true;
    settlement.record.output = output.map(json);
    settlement.run = Some(RunChange::Step(step.run.clone(), input));
    settlement
}

/// The only delivery that was made since the last look, with what it is for.
pub(crate) async fn made(log: &impl EventLog, feed: &mut Feed) -> (DeliveryId, Errand) {
    let commits = drain(feed);
    let made: Vec<_> = commits
        .iter()
        .filter_map(|commit| if let Commit::Redriven(made) = commit { Some(made.clone()) } else { None })
        .flatten()
        .collect();
    let [one] = made.as_slice() else { panic!("{commits:?}") };
    assert!(one.errand && !one.blocked && one.delivery.calls == 0, "{one:?}");
    let kept = log.waiting(one.id.consumer.clone(), Priority::Normal, None, 10).await.unwrap();
    assert!(kept.contains(one), "{kept:?}");
    (one.id.clone(), log.errand(one.id.clone()).await.unwrap().unwrap())
}

/// The host's events about runs among what became durable since the last look.
fn told(commits: &[Commit]) -> Vec<String> {
    let events =
        commits.iter().filter_map(|commit| if let Commit::Events(events) = commit { Some(events) } else { None });
    events.flatten().map(|event| event.envelope.event_type.clone()).collect()
}

async fn drive(log: &impl EventLog, feed: &mut Feed, output: &'static str) -> DeliveryId {
    let (id, errand) = made(log, feed).await;
    assert_eq!(log.settle(vec![ends(&id, &errand, Outcome::Done, Some(output))]).await.unwrap(), Settled::Committed);
    id
}

pub(crate) async fn a_run_goes_from_step_to_step<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "order.created")]).await.unwrap();
    assert_eq!(log.settle(vec![begin(1, "o-1", &saga())]).await.unwrap(), Settled::Committed);
    assert_eq!(log.run_of(consumer(PIPELINE), "o-1".into()).await.unwrap(), Some(run(1)));
    let (id, errand) = made(&*log, &mut feed).await;
    assert_eq!(id, delivery(1, "reserve", 1));
    assert_eq!((errand.retry.unwrap().attempts, errand.limits.fuel), (7, Some(5)), "the step's own");
    let step = errand.step.clone().unwrap();
    assert_eq!((step.run, step.name.as_str(), step.undo), (run(1), "reserve", None));
    assert_eq!(
        log.settle(vec![ends(&id, &errand, Outcome::Done, Some("{\"a\":1}"))]).await.unwrap(),
        Settled::Committed
    );
    assert_eq!(log.errand(id).await.unwrap().map(|errand| errand.retry.is_some()), Some(true));

    let (id, errand) = made(&*log, &mut feed).await;
    assert_eq!(id, delivery(1, "pay", 1));
    let step = errand.step.clone().unwrap();
    assert_eq!(step.outputs, [("reserve".to_owned(), Some(json("{\"a\":1}")))]);
    log.settle(vec![ends(&id, &errand, Outcome::Done, None)]).await.unwrap();
    let (id, errand) = made(&*log, &mut feed).await;
    let outputs = errand.step.clone().unwrap().outputs;
    assert_eq!(outputs, [("reserve".to_owned(), Some(json("{\"a\":1}"))), ("pay".to_owned(), None)]);
    log.settle(vec![ends(&id, &errand, Outcome::Done, None)]).await.unwrap();
    assert_eq!(told(&drain(&mut feed)), ["tidegate.run.completed"]);
    let ended = &log.read(2, 10).await.unwrap()[0];
    assert_eq!(ended.envelope.subject.as_deref(), Some("1/fulfil"));
    assert_eq!((ended.envelope.correlation_id.as_str(), ended.envelope.depth), ("1", 1));
}

pub(crate) async fn a_failed_step_is_no_dead_letter_and_what_was_done_is_undone<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "order.created")]).await.unwrap();
    log.settle(vec![begin(1, "o-1", &saga())]).await.unwrap();
    drive(&*log, &mut feed, "1").await;
    drive(&*log, &mut feed, "2").await;
    let (id, errand) = made(&*log, &mut feed).await;
    log.settle(vec![ends(&id, &errand, Outcome::Reject, None)]).await.unwrap();
    for (undoes, output) in [("refund", "2"), ("release", "1")] {
        let (id, errand) = made(&*log, &mut feed).await;
        assert_eq!(id, delivery(1, undoes, 1), "the last one first");
        let undo = errand.step.clone().unwrap().undo.unwrap();
        assert_eq!(undo.output, Some(json(output)));
        assert_eq!((errand.retry, errand.limits), (None, StepLimits::default()), "those of the consumer that undoes");
        log.settle(vec![ends(&id, &errand, Outcome::Done, None)]).await.unwrap();
    }
    assert_eq!(told(&drain(&mut feed)), ["tidegate.run.compensated"]);
    let dead = log.decide_dead(DeadSelection::default(), DeadDecision::Discard).await.unwrap();
    assert_eq!(dead, []);
}

pub(crate) async fn one_run_has_a_key<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "order.created"), event("2", "order.created")]).await.unwrap();
    log.settle(vec![begin(1, "o-1", &saga())]).await.unwrap();
    let before = log.read(0, 10).await.unwrap().len();
    assert_eq!(log.settle(vec![begin(2, "o-1", &saga())]).await.unwrap(), Settled::Duplicate);
    assert_eq!(log.read(0, 10).await.unwrap().len(), before, "nothing was changed");
    drain(&mut feed);
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(log.settle(vec![begin(2, "o-1", &saga())]).await.unwrap(), Settled::Duplicate);
    assert_eq!(log.settle(vec![begin(2, "o-2", &saga())]).await.unwrap(), Settled::Committed);
    assert_eq!(log.run_of(consumer(PIPELINE), "o-3".into()).await.unwrap(), None);
}

pub(crate) async fn a_run_goes_on_after_a_crash_where_it_was<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "order.created")]).await.unwrap();
    log.settle(vec![begin(1, "o-1", &saga())]).await.unwrap();
    drive(&*log, &mut feed, "1").await;
    let (id, errand) = made(&*log, &mut feed).await;
    subject.crash(log);
    let (log, mut feed) = subject.open();
    let waiting = log.waiting(consumer("pay"), Priority::Normal, None, 10).await.unwrap();
    assert_eq!(
        waiting.iter().map(|waiting| (waiting.id.clone(), waiting.errand)).collect::<Vec<_>>(),
        [(id.clone(), true)]
    );
    assert_eq!(log.errand(id.clone()).await.unwrap(), Some(errand.clone()));
    let end = ends(&id, &errand, Outcome::Done, None);
    assert_eq!(log.settle(vec![end.clone()]).await.unwrap(), Settled::Committed);
    assert_eq!(made(&*log, &mut feed).await.0, delivery(1, "ship", 1));
    assert_eq!(log.settle(vec![end]).await.unwrap(), Settled::Fenced, "it is told once");
    assert_eq!(told(&drain(&mut feed)), [""; 0]);
}

pub(crate) async fn an_event_that_a_step_waits_for_may_come_before_or_after<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    let waits =
        || definition(vec![wait_step("settled", &[], Duration::from_secs(60)), call_step("ship", &[0], None)], None);
    let types = ["payment.settled", "order.created", "order.created", "payment.settled"];
    let events = types.iter().enumerate().map(|(at, of)| event(&(at + 1).to_string(), of)).collect();
    log.append(events).await.unwrap();
    // What came before the run's own event is another story.
    log.settle(vec![arrive(1, "settled", "order-1")]).await.unwrap();
    log.settle(vec![begin(2, "o-1", &waits())]).await.unwrap();
    let commits = drain(&mut feed);
    assert!(!commits.iter().any(|commit| matches!(commit, Commit::Redriven(_))), "it waits: {commits:?}");
    assert!(commits.iter().any(|commit| matches!(commit, Commit::Timer(_))), "{commits:?}");
    log.settle(vec![arrive(4, "settled", "order-1")]).await.unwrap();
    let (id, errand) = made(&*log, &mut feed).await;
    assert_eq!(id, delivery(2, "ship", 1));
    let settled = event("4", "payment.settled").payload;
    assert_eq!(errand.step.unwrap().outputs, [("settled".to_owned(), settled)], "what came is the step's output");
    // The other run comes to its step only now.
    log.settle(vec![begin(3, "o-2", &waits())]).await.unwrap();
    assert_eq!(made(&*log, &mut feed).await.0, delivery(3, "ship", 1));
    assert_eq!(log.ring().await.unwrap(), None, "no time is kept for what has come");
}

/// Whichever event the pipeline hears of first, and whatever a newer definition of it calls by the same name.
pub(crate) async fn a_wait_ends_with_what_its_own_definition_means_and_what_came_later<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    let waits =
        || definition(vec![wait_step("settled", &[], Duration::from_secs(60)), call_step("ship", &[0], None)], None);
    let types = ["payment.settled", "order.created", "order.created", "payment.refunded", "payment.settled"];
    let events = types.iter().enumerate().map(|(at, of)| event(&(at + 1).to_string(), of)).collect();
    log.append(events).await.unwrap();
    log.settle(vec![begin(2, "o-1", &waits())]).await.unwrap();
    log.settle(vec![arrive(1, "settled", "order-1")]).await.unwrap();
    log.settle(vec![arrive(4, "settled", "order-1")]).await.unwrap();
    log.settle(vec![begin(3, "o-2", &waits())]).await.unwrap();
    let commits = drain(&mut feed);
    assert!(!commits.iter().any(|commit| matches!(commit, Commit::Redriven(_))), "both wait: {commits:?}");
    log.settle(vec![arrive(5, "settled", "order-1")]).await.unwrap();
    let made = drain(&mut feed).into_iter().filter(|commit| matches!(commit, Commit::Redriven(_)));
    assert_eq!(made.count(), 2, "each goes on");
}

pub(crate) async fn an_event_begins_one_run_whatever_its_key_becomes<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "order.created")]).await.unwrap();
    log.settle(vec![begin(1, "o-1", &saga())]).await.unwrap();
    drive(&*log, &mut feed, "1").await;
    let (pay, errand) = made(&*log, &mut feed).await;
    // A replay, after a reload that changed the pipeline's key.
    let again = delivery(1, PIPELINE, 1);
    log.park(vec![new(&again)]).await.unwrap();
    let replayed = Settlement { delivery: again, stored: true, ..begin(1, "o-2", &saga()) };
    assert_eq!(log.settle(vec![replayed]).await.unwrap(), Settled::Committed);
    assert_eq!(log.run_of(consumer(PIPELINE), "o-2".into()).await.unwrap(), None);
    assert_eq!(log.run_of(consumer(PIPELINE), "o-1".into()).await.unwrap(), Some(run(1)));
    assert_eq!(told(&drain(&mut feed)), [""; 0]);
    log.settle(vec![ends(&pay, &errand, Outcome::Done, None)]).await.unwrap();
    assert_eq!(made(&*log, &mut feed).await.0.consumer, consumer("ship"), "it goes on where it was");
}

pub(crate) async fn time_that_is_up_fails_a_step_and_a_run<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "order.created"), event("2", "order.created")]).await.unwrap();
    let late = definition(vec![wait_step("settled", &[], Duration::ZERO)], None);
    log.settle(vec![begin(1, "o-1", &late)]).await.unwrap();
    let long = definition(vec![call_step("pay", &[], None)], Some(Duration::ZERO));
    log.settle(vec![begin(2, "o-2", &long)]).await.unwrap();
    let (id, _) = made(&*log, &mut feed).await;
    subject.crash(log);
    let (log, mut feed) = subject.open();
    assert_eq!(log.ring().await.unwrap(), None);
    let commits = drain(&mut feed);
    assert_eq!(told(&commits), ["tidegate.run.compensating", "tidegate.run.compensated"], "nothing was to be undone");
    let withdrawn =
        commits.iter().find_map(|commit| if let Commit::Withdrawn(all) = commit { Some(all) } else { None });
    assert_eq!(withdrawn.map(|all| all.iter().map(|one| one.id.clone()).collect::<Vec<_>>()), Some(vec![id.clone()]));
    // It may be in hand: the run waits for its end, whatever it is.
    let errand = log.errand(id.clone()).await.unwrap().unwrap();
    assert!(errand.step.as_ref().unwrap().withdrawn);
    log.settle(vec![ends(&id, &errand, Outcome::Withdrawn, None)]).await.unwrap();
    assert_eq!(told(&drain(&mut feed)), ["tidegate.run.compensating", "tidegate.run.compensated"]);
}

pub(crate) async fn what_a_person_orders_of_a_run_is_done_or_refused<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "order.created")]).await.unwrap();
    let order = |order| log.order_run(run(1), order);
    assert_eq!(order(Order::Cancel { reason: "x".into() }).await.unwrap(), None, "no such run");
    log.settle(vec![begin(1, "o-1", &saga())]).await.unwrap();
    let refused = order(Order::Retry { step: "refund".into() }).await.unwrap().unwrap();
    assert!(matches!(&refused, Err(Refusal::NoStep { known, .. }) if known.len() == 3), "{refused:?}");
    drive(&*log, &mut feed, "1").await;
    let (id, errand) = made(&*log, &mut feed).await;
    let cancelled = order(Order::Cancel { reason: "no longer wanted".into() }).await.unwrap();
    assert_eq!(cancelled, Some(Ok(Status::Running)), "a step is in hand");
    log.settle(vec![ends(&id, &errand, Outcome::Done, None)]).await.unwrap();
    let (id, errand) = made(&*log, &mut feed).await;
    assert_eq!(id, delivery(1, "refund", 1), "it was done after all, so it is undone");
    log.settle(vec![ends(&id, &errand, Outcome::Reject, None)]).await.unwrap();
    assert_eq!(told(&drain(&mut feed)), ["tidegate.run.stuck"]);
    assert_eq!(order(Order::Cancel { reason: "again".into() }).await.unwrap(), Some(Err(Refusal::Undoing)));
    assert_eq!(order(Order::Retry { step: "pay".into() }).await.unwrap(), Some(Ok(Status::Compensating)));
    let (id, errand) = made(&*log, &mut feed).await;
    assert_eq!(id, delivery(1, "refund", 2));
    log.settle(vec![ends(&id, &errand, Outcome::Reject, None)]).await.unwrap();
    let resolved = order(Order::Resolve { step: "pay".into(), output: None }).await.unwrap();
    assert_eq!(resolved, Some(Ok(Status::Compensating)));
    drain(&mut feed);
    assert_eq!(
        log.errand(delivery(1, "release", 1)).await.unwrap().map(|e| e.step.unwrap().name),
        Some("reserve".into())
    );
}
