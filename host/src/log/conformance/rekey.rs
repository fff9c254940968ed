//! Keys found anew, after a reload that changed the rules for them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Subject, activate, consumer, delivery, event, settlement};
use crate::log::{DeadDecision, DeadSelection, EventLog, Hold, Mark, Rekey, Settlement, Waiting};
use crate::model::keys::{HeldKey, KeyRules};
use crate::model::retry::RetryPolicy;
use crate::model::spec::{DeliverySpec, IdempotencySpec, KeySpec, OnDead, OrderSpec};
use crate::model::{
    ConsumerSpec, Delivery, Envelope, Expression, Grants, Limits, Outcome, Payload, Priority, Seq, State, Timestamp,
};

/// More than any log changes in one step.
const EVENTS: Seq = 300;

fn keyed_event(n: Seq) -> Envelope {
    let data = Bytes::from(format!("{{\"one\":\"all\",\"of-two\":\"{}\",\"m\":\"{n}\"}}", n % 2));
    let payload = Some(Payload { content_type: "application/json".into(), data });
    Envelope { payload, ..event(&n.to_string(), "a") }
}

fn mail(order: Option<&str>, mark: Option<&str>) -> Arc<ConsumerSpec> {
    let path = |path: &str| Expression::parse(path).unwrap();
    let order = order.map(|by| OrderSpec { by: KeySpec::Of(path(by)), on_dead: OnDead::Hold });
    let idempotency = mark.map(|key| IdempotencySpec { key: path(key), window: std::time::Duration::from_secs(60) });
    Arc::new(ConsumerSpec {
        name: consumer("mail"),
        component: "mail.wasm".into(),
        digest: None,
        subscriptions: Vec::new(),
        answers: Vec::new(),
        delivery: DeliverySpec { order, idempotency, ..DeliverySpec::default() },
        limits: Limits::default(),
        retry: RetryPolicy::default(),
        grants: Grants::default(),
    })
}

async fn step(log: &impl EventLog, of: &Arc<ConsumerSpec>, after: Option<(Seq, u32)>) -> Option<(Seq, u32)> {
    log.rekey(Rekey { consumer: of.clone(), after }).await.unwrap()
}

/// To the end; answers in how many steps.
async fn rekey(log: &impl EventLog, of: &Arc<ConsumerSpec>) -> u32 {
    let (mut after, mut steps) = (None, 1);
    while let Some(next) = step(log, of, after).await {
        (after, steps) = (Some(next), steps + 1);
    }
    steps
}

/// One waits for a retry, one is dead and holds its key and is redriven, one is done and remembered; all others wait behind.
async fn crowd(log: &impl EventLog) {
    activate(log, "one", &[("mail", &["a"])]).await;
    log.append((1..=EVENTS).map(keyed_event).collect()).await.unwrap();
    let retry = settlement(delivery(1, "mail", 0), Outcome::Retry, State::Pending { due_at: Timestamp(70) });
    let dead = settlement(delivery(2, "mail", 0), Outcome::Reject, State::Dead);
    let dead = Settlement { hold: Some(Hold::Begin("old".into())), key: Some("old".into()), ..dead };
    let done = settlement(delivery(3, "mail", 0), Outcome::Done, State::Succeeded);
    let done = Settlement { mark: Some(Mark { key: "3".into(), until: Timestamp::MAX }), ..done };
    for one in [retry, dead, done] {
        log.settle(vec![one]).await.unwrap();
    }
    log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap();
    let behind = |seq| Waiting {
        id: delivery(seq, "mail", 0),
        delivery: Delivery::new(Timestamp(1)),
        key: Some("old".into()),
        blocked: true,
        errand: false,
        priority: Priority::Normal,
    };
    log.park((4..=EVENTS).map(behind).collect()).await.unwrap();
}

pub(crate) async fn keys_are_found_anew<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    crowd(&*log).await;
    assert_eq!(log.recover(consumer("mail")).await.unwrap().keyed_by, Some(KeyRules::default()));
    let of_two = mail(Some("data['of-two']"), None);
    assert!(rekey(&*log, &of_two).await > 1);
    subject.crash(log);
    let (log, _feed) = subject.open();
    let recovery = log.recover(consumer("mail")).await.unwrap();
    assert_eq!(recovery.keyed_by, Some(KeyRules::of(&of_two.delivery)));
    assert_eq!(
        recovery.held,
        [HeldKey { key: "0".into(), seq: 2, round: 0 }],
        "the dead letter holds the key that it has now"
    );
    let line = async |key: &str| log.blocked(consumer("mail"), key.into(), false, 999).await.unwrap();
    let odd = line("1").await;
    let seqs: Vec<Seq> = odd.iter().map(|waiting| waiting.id.seq).collect();
    assert_eq!(seqs, [1].into_iter().chain((5..=EVENTS).step_by(2)).collect::<Vec<_>>());
    assert_eq!(odd[0].delivery.state, State::Pending { due_at: Timestamp(70) }, "it will still wait for its retry");
    assert!(line("old").await.is_empty());
    let waiting = log.waiting(consumer("mail"), Priority::Normal, None, 9).await.unwrap();
    assert_eq!(waiting.len(), 1, "what was redriven waits for nobody");
    assert_eq!((waiting[0].id.clone(), waiting[0].key.as_deref()), (delivery(2, "mail", 1), Some("0")));
    // And without any rules.
    let none = mail(None, None);
    rekey(&*log, &none).await;
    let recovery = log.recover(consumer("mail")).await.unwrap();
    assert!(recovery.keys.is_empty() && recovery.held.is_empty());
    assert_eq!(log.waiting(consumer("mail"), Priority::Normal, None, 999).await.unwrap().len() as Seq, EVENTS - 1);
    assert_eq!(log.marked(consumer("mail"), "3".into()).await.unwrap(), Some(delivery(3, "mail", 0)));
}

/// Its event may have a time before which nobody was to get it; who replays it has not.
pub(crate) async fn what_was_asked_for_again_waits_for_its_key_and_for_no_time<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    log.append(vec![Envelope { not_before: Some(Timestamp(99)), ..keyed_event(1) }]).await.unwrap();
    let behind = |round| Waiting {
        id: delivery(1, "mail", round),
        delivery: Delivery::new(Timestamp(1)),
        key: Some("old".into()),
        blocked: true,
        errand: false,
        priority: Priority::Normal,
    };
    log.park(vec![behind(0), behind(1)]).await.unwrap();
    rekey(&*log, &mail(None, None)).await;
    let waiting = log.waiting(consumer("mail"), Priority::Normal, None, 9).await.unwrap();
    let dues: Vec<_> = waiting.iter().map(|waiting| (waiting.id.round, waiting.delivery.state)).collect();
    let due = |at| State::Pending { due_at: Timestamp(at) };
    assert_eq!(dues, [(1, due(0)), (0, due(99))]);
}

pub(crate) async fn keys_that_a_crash_left_half_changed_are_known_as_such<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    crowd(&*log).await;
    let one = mail(Some("data.one"), None);
    assert!(step(&*log, &one, None).await.is_some());
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(log.recover(consumer("mail")).await.unwrap().keyed_by, None);
    rekey(&*log, &one).await;
    let recovery = log.recover(consumer("mail")).await.unwrap();
    assert_eq!(recovery.keyed_by, Some(KeyRules::of(&one.delivery)));
    assert_eq!(recovery.held, [HeldKey { key: "all".into(), seq: 2, round: 0 }]);
    assert_eq!(log.blocked(consumer("mail"), "all".into(), false, 999).await.unwrap().len() as Seq, EVENTS - 2);
    // A discarded dead letter frees the key that it holds now, whatever it died with.
    let dead = settlement(delivery(2, "mail", 1), Outcome::Reject, State::Dead);
    log.settle(vec![Settlement { key: Some("all".into()), hold: Some(Hold::Begin("all".into())), ..dead }])
        .await
        .unwrap();
    rekey(&*log, &mail(Some("data['of-two']"), None)).await;
    log.decide_dead(DeadSelection::default(), DeadDecision::Discard).await.unwrap();
    assert!(log.recover(consumer("mail")).await.unwrap().held.is_empty());
}

pub(crate) async fn what_was_settled_by_another_rule_is_forgotten<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    crowd(&*log).await;
    let marked = async || log.marked(consumer("mail"), "3".into()).await.unwrap();
    rekey(&*log, &mail(Some("data.one"), None)).await;
    assert_eq!(marked().await, Some(delivery(3, "mail", 0)), "the rule for it is the same");
    let by_m = mail(Some("data.one"), Some("data.m"));
    rekey(&*log, &by_m).await;
    assert_eq!(marked().await, None);
    assert_eq!(log.recover(consumer("mail")).await.unwrap().keyed_by, Some(KeyRules::of(&by_m.delivery)));
}
