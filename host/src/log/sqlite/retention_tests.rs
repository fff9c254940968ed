//! What retention takes away, and what it leaves.

use std::sync::Arc;
use std::time::Duration;

use super::tests::{ManualClock, OnDisk, events, verified};
use super::{Options, SqliteLog};
use crate::clock::Clock;
use crate::log::conformance::{
    NOW, Subject as _, activate, begin, call, call_step, consumer, definition, delivery, done, ends, run, settlement,
};
use crate::log::{DeadDecision, DeadSelection, EventLog as _, Hold, Mark, Settled, Settlement, Waiting};
use crate::model::pipeline::errand::Order;
use crate::model::pipeline::{Definition, OnFailure};
use crate::model::query::QuestionQuery;
use crate::model::question::{Asker, QueryNote, Question};
use crate::model::replay::{ReplaySpec, ReplayStep};
use crate::model::spec::Retention;
use crate::model::{Delivery, Generation, Outcome, Payload, Priority, QueryOutcome, Seq, State, Timestamp};

const HOUR: Duration = Duration::from_secs(3_600);

/// A log that keeps everything for an hour, and its clock.
fn open(disk: &OnDisk) -> (SqliteLog, Arc<ManualClock>) {
    let clock = ManualClock::new();
    let retention = Some(Retention { events: HOUR, outcomes: HOUR });
    let options = Options { clock: Arc::clone(&clock) as Arc<dyn Clock>, retention, ..disk.options() };
    (SqliteLog::open(options).unwrap().0, clock)
}

/// Lets time pass until these events are left.
async fn left(log: &SqliteLog, clock: &ManualClock, expected: &[Seq]) {
    for _ in 0..1_000 {
        clock.advance(Duration::from_secs(61));
        log.append(Vec::new()).await.unwrap();
        if log.read(0, 100).await.unwrap().iter().map(|e| e.seq).collect::<Vec<_>>() == expected {
            return;
        }
    }
    panic!("{:?}", log.read(0, 100).await.unwrap().iter().map(|e| e.seq).collect::<Vec<_>>());
}

/// Lets retention look around so often that it would have taken everything that it may.
async fn stays(log: &SqliteLog, clock: &ManualClock, expected: &[Seq]) {
    left(log, clock, expected).await;
    for _ in 0..20 {
        clock.advance(Duration::from_secs(61));
        log.append(Vec::new()).await.unwrap();
    }
    left(log, clock, expected).await;
}

#[tokio::test]
async fn retention_takes_what_nobody_needs_and_the_chain_still_verifies() {
    let disk = OnDisk::new();
    let (log, clock) = open(&disk);
    activate(&log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=10)).await.unwrap();
    for seq in [1, 2, 4, 5, 6] {
        log.settle(vec![done(seq, "mail")]).await.unwrap();
    }
    log.settle(vec![settlement(delivery(3, "mail", 0), Outcome::Reject, State::Dead)]).await.unwrap();
    log.advance(vec![(consumer("mail"), 6)]);
    clock.advance(HOUR * 2);
    log.append(events(11..=11)).await.unwrap();
    left(&log, &clock, &[3, 7, 8, 9, 10, 11]).await;
    verified(&disk.path()).unwrap();
    let outcomes: Vec<i64> = {
        let conn = disk.stranger();
        let mut statement = conn.prepare("SELECT sequence FROM outcomes").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(outcomes, [3]);
    log.decide_dead(DeadSelection::default(), DeadDecision::Discard).await.unwrap();
    log.advance(vec![(consumer("mail"), 11)]);
    left(&log, &clock, &[11]).await;
    log.close().await.unwrap();
    assert_eq!(verified(&disk.path()).unwrap().last_sequence, 11);
    let gaps: i64 = disk.stranger().query_row("SELECT count(*) FROM raw_gaps", [], |row| row.get(0)).unwrap();
    assert_eq!(gaps, 1);
    let (log, _feed) = SqliteLog::open(disk.options()).unwrap();
    assert_eq!(log.append(events(12..=12)).await.unwrap()[0].seq, 12);
}

#[tokio::test]
async fn what_is_unfinished_keeps_its_event() {
    let disk = OnDisk::new();
    let (log, clock) = open(&disk);
    activate(&log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=11)).await.unwrap();
    let settle = async |settlement: Settlement| {
        assert_eq!(log.settle(vec![settlement]).await.unwrap(), Settled::Committed);
    };
    for seq in [1, 6, 7, 8] {
        settle(done(seq, "mail")).await;
    }
    // 2 waits for its retry, 3 for its key, 4 holds a key although it is done, 5 is dead, 9 to 11 nobody has come to.
    settle(settlement(delivery(2, "mail", 0), Outcome::Retry, State::Pending { due_at: Timestamp::MAX })).await;
    let blocked = Delivery::new(NOW);
    log.park(vec![Waiting {
        id: delivery(3, "mail", 0),
        delivery: blocked,
        key: Some("k".into()),
        blocked: true,
        errand: false,
        priority: Priority::Normal,
    }])
    .await
    .unwrap();
    let held = settlement(delivery(4, "mail", 0), Outcome::Reject, State::Dead);
    settle(Settlement { hold: Some(Hold::Begin("k".into())), ..held }).await;
    log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap();
    settle(settlement(delivery(4, "mail", 1), Outcome::Done, State::Succeeded)).await;
    settle(settlement(delivery(5, "mail", 0), Outcome::Reject, State::Dead)).await;
    log.advance(vec![(consumer("mail"), 8)]);
    clock.advance(HOUR * 2);
    stays(&log, &clock, &[2, 3, 4, 5, 9, 10, 11]).await;
    settle(call(done(2, "mail"), 2)).await;
    stays(&log, &clock, &[3, 4, 5, 9, 10, 11]).await;
    settle(Settlement { stored: true, ..done(3, "mail") }).await;
    stays(&log, &clock, &[4, 5, 9, 10, 11]).await;
    log.release(consumer("mail"), Vec::new()).await.unwrap();
    stays(&log, &clock, &[5, 9, 10, 11]).await;
    log.decide_dead(DeadSelection::default(), DeadDecision::Discard).await.unwrap();
    stays(&log, &clock, &[9, 10, 11]).await;
    log.advance(vec![(consumer("mail"), 10)]);
    stays(&log, &clock, &[11]).await;
}

#[tokio::test]
async fn marks_are_taken_away_when_their_time_is_over() {
    let disk = OnDisk::new();
    let (log, clock) = open(&disk);
    activate(&log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=2)).await.unwrap();
    for (seq, key, until) in [(1, "short", NOW.plus(HOUR / 2)), (2, "long", NOW.plus(HOUR * 24 * 365))] {
        let mark = Some(Mark { key: key.into(), until });
        log.settle(vec![Settlement { mark, ..done(seq, "mail") }]).await.unwrap();
    }
    let marks = || -> Vec<String> {
        let conn = disk.stranger();
        let mut statement = conn.prepare("SELECT key FROM idempotency_keys ORDER BY key").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    assert_eq!(marks(), ["long", "short"]);
    for _ in 0..100 {
        clock.advance(Duration::from_secs(61));
        log.append(Vec::new()).await.unwrap();
    }
    assert_eq!(marks(), ["long"]);
}

#[tokio::test]
async fn what_a_replay_has_yet_to_read_stays() {
    let disk = OnDisk::new();
    let (log, clock) = open(&disk);
    activate(&log, "one", &[("mail", &["a"])]).await;
    log.append(events(1..=6)).await.unwrap();
    log.settle((1..=6).map(|seq| done(seq, "mail")).collect()).await.unwrap();
    log.advance(vec![(consumer("mail"), 6)]);
    let id = log.start_replay(ReplaySpec { from: 3, to: 6, ..ReplaySpec::default() }).await.unwrap();
    clock.advance(HOUR * 2);
    left(&log, &clock, &[3, 4, 5, 6]).await;
    let step = ReplayStep { id, after: 2, through: 4, room: 10, ..ReplayStep::default() };
    log.step_replay(ReplayStep { deliveries: vec![(3, consumer("mail"))], ..step }).await.unwrap().unwrap();
    // What it has made waits, and needs its event.
    left(&log, &clock, &[3, 5, 6]).await;
    log.settle(vec![settlement(delivery(3, "mail", 1), Outcome::Done, State::Succeeded)]).await.unwrap();
    assert!(log.cancel_replay(id).await.unwrap());
    left(&log, &clock, &[6]).await;
}

#[tokio::test]
async fn a_run_that_has_stopped_keeps_its_event_for_as_long_as_it_can_be_taken_up() {
    let disk = OnDisk::new();
    let (log, clock) = open(&disk);
    log.append(events(1..=2)).await.unwrap();
    let stops = Definition { on_failure: OnFailure::Stop, ..definition(vec![call_step("pay", &[], None)], None) };
    log.settle(vec![begin(1, "o-1", &stops)]).await.unwrap();
    let [step] = log.waiting(consumer("pay"), Priority::Normal, None, 10).await.unwrap().try_into().unwrap();
    let errand = log.errand(step.id.clone()).await.unwrap().unwrap();
    clock.advance(HOUR * 5 / 6);
    log.settle(vec![ends(&step.id, &errand, Outcome::Reject, None)]).await.unwrap();
    clock.advance(HOUR / 4);
    // What the host told of its end stays as the last event.
    stays(&log, &clock, &[1, 4]).await;
    let again = log.order_run(run(1), Order::Retry { step: "nothing".into() }).await.unwrap();
    assert!(again.unwrap().is_err(), "it is still here, and has no such step");
    clock.advance(HOUR);
    left(&log, &clock, &[4]).await;
    assert_eq!(log.order_run(run(1), Order::Retry { step: "pay".into() }).await.unwrap(), None);
}

pub(super) fn note(id: &str, asked_at: Timestamp) -> QueryNote {
    let question = Question {
        query_type: "stock.check".into(),
        payload: Payload::nothing(),
        correlation_id: None,
        traceparent: None,
        asker: Asker::Delivery { id: delivery(3, "mail", 1), call: 2 },
        depth: 1,
        until: Duration::ZERO,
    };
    QueryNote {
        question: Arc::new(question),
        id: id.into(),
        correlation_id: "c-1".into(),
        asked_at,
        responder: Some(consumer("stock")),
        generation: Generation(1),
        outcome: QueryOutcome::NotFound,
        reason: Some("none left".into()),
        duration: Duration::from_micros(1_500),
        fuel: 7,
        answer_bytes: 0,
        logs: Vec::new(),
    }
}

#[tokio::test]
async fn questions_are_written_with_what_comes_next_and_go_with_outcomes() {
    let disk = OnDisk::new();
    let (log, clock) = open(&disk);
    let reader = crate::store::Reader::open(log.path()).unwrap();
    let ids = || -> Vec<String> {
        let all = reader.queries(&QuestionQuery::default()).unwrap();
        all.into_iter().map(|query| query.id).collect()
    };
    log.note_query(note("q-1", clock.now()));
    log.append(Vec::new()).await.unwrap();
    let shown = reader.queries(&QuestionQuery { correlation: Some("c-1".into()), ..QuestionQuery::default() }).unwrap();
    let [query] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((query.delivery.as_deref(), query.call), (Some("3/mail/1"), Some(2)));
    assert_eq!((query.outcome, query.duration_ms, query.fuel), (QueryOutcome::NotFound, 1.5, 7));
    clock.advance(HOUR * 2);
    log.note_query(note("q-2", clock.now()));
    log.append(Vec::new()).await.unwrap();
    for _ in 0..50 {
        if ids() == ["q-2"] {
            return;
        }
        clock.advance(Duration::from_secs(61));
        log.append(Vec::new()).await.unwrap();
    }
    panic!("{:?}", ids());
}
