//! What every log promises, in code. Each log runs the whole suite.

mod jobs;
mod keys;
mod rekey;
mod replays;
pub(crate) mod runs;
mod schedules;

pub(crate) use jobs::*;
pub(crate) use keys::*;
pub(crate) use rekey::*;
pub(crate) use replays::*;
pub(crate) use runs::*;
pub(crate) use schedules::*;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::log::Feed;
use bytes::Bytes;

use super::{
    Activation, AttemptRecord, Commit, DeadDecision, DeadSelection, Error, EventLog, Settled, Settlement, Waiting,
};
use crate::model::delivery::DeathCause;
use crate::model::outcome::StateWrite;
use crate::model::spec::SubscriptionSpec;
use crate::model::{
    ConsumerName, Delivery, DeliveryId, Digest, Envelope, Event, Generation, LogLine, Outcome, Payload, Priority, Seq,
    State, StateChanges, Timestamp, TypePattern, Usage,
};

/// A log under test, and how to start it anew on what it has kept.
pub(crate) trait Subject: Sized {
    type Log: EventLog;

    fn new() -> Self;

    fn open(&mut self) -> (Arc<Self::Log>, Feed);

    /// Lets go of a log as a crash would.
    fn crash(&mut self, log: Arc<Self::Log>);

    /// Ends it cleanly.
    async fn stop(&mut self, log: Arc<Self::Log>);

    /// How many events a call published, as its outcome says.
    fn published(&self, log: &Self::Log, id: &DeliveryId, call: u32) -> Option<usize>;

    /// A value of a consumer's state and its version.
    fn state(&self, log: &Self::Log, consumer: &ConsumerName, key: &str) -> Option<(Bytes, u64)>;

    fn keys(&self, log: &Self::Log, consumer: &ConsumerName, prefix: &str) -> (Vec<String>, u64);
}

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000_000);

pub(crate) fn consumer(name: &str) -> ConsumerName {
    ConsumerName::new(name).unwrap()
}

pub(crate) fn event(id: &str, event_type: &str) -> Envelope {
    Envelope {
        id: id.into(),
        event_type: event_type.into(),
        source: "/test".into(),
        subject: Some("order-1".into()),
        key: None,
        data_version: "1.0.0".into(),
        timestamp: Timestamp(1_699_999_999_123_456),
        correlation_id: id.into(),
        causation_id: None,
        traceparent: None,
        not_before: None,
        job: None,
        attributes: serde_json::Map::new(),
        payload: Some(Payload { content_type: "application/json".into(), data: Bytes::from_static(b"{\"a\": 1}") }),
        depth: 0,
    }
}

pub(crate) fn delivery(seq: Seq, name: &str, round: u32) -> DeliveryId {
    DeliveryId { seq, consumer: consumer(name), round }
}

/// An attempt that ended so, as the first call of its delivery.
pub(crate) fn settlement(id: DeliveryId, outcome: Outcome, state: State) -> Settlement {
    let dead = state == State::Dead;
    Settlement {
        stored: id.round > 0,
        delivery: id,
        next: Delivery { state, attempts: 1, calls: 1 },
        record: AttemptRecord {
            call: 1,
            attempt: 1,
            outcome,
            reason: (outcome != Outcome::Done).then(|| "because".into()),
            output: None,
            logs: Vec::new(),
            logs_dropped: 0,
            started_at: NOW,
            usage: Usage { duration: Duration::from_micros(1_500), fuel: 21_800, memory_peak: 1 << 20 },
            generation: Generation(1),
            component: Digest::of(b"component"),
        },
        events: Vec::new(),
        state: StateChanges::default(),
        errand: false,
        run: None,
        state_quota: 1 << 20,
        death: dead.then(|| DeathCause::of(outcome)),
        key: None,
        hold: None,
        mark: None,
        claimed: false,
    }
}

pub(crate) fn done(seq: Seq, name: &str) -> Settlement {
    settlement(delivery(seq, name, 0), Outcome::Done, State::Succeeded)
}

/// The settlement of a later call.
pub(crate) fn call(mut settlement: Settlement, call: u32) -> Settlement {
    settlement.stored = true;
    settlement.record.call = call;
    settlement.record.attempt = call;
    settlement.next.calls = call;
    settlement.next.attempts = call;
    settlement
}

pub(crate) fn subscriptions(of: &[(&str, &[&str])]) -> Vec<(ConsumerName, Vec<SubscriptionSpec>)> {
    let spec = |p: &&str| SubscriptionSpec { pattern: TypePattern::new(p).unwrap(), version: None, condition: None };
    of.iter().map(|(name, patterns)| (consumer(name), patterns.iter().map(spec).collect())).collect()
}

pub(crate) async fn activate(log: &impl EventLog, digest: &str, of: &[(&str, &[&str])]) -> (Generation, Seq) {
    let activation =
        Activation { digest: Digest::of(digest.as_bytes()), subscriptions: subscriptions(of), from: Vec::new() };
    let activated = log.activate(activation).await.unwrap();
    (activated.generation, activated.from)
}

/// The row of a delivery that nobody has come to.
fn new(id: &DeliveryId) -> Waiting {
    let (id, delivery) = (id.clone(), Delivery::new(NOW));
    Waiting { id, delivery, key: None, blocked: false, errand: false, priority: Priority::Normal }
}

/// Everything that has become durable so far.
fn drain(feed: &mut Feed) -> Vec<Commit> {
    let mut all = Vec::new();
    while let Ok(commit) = feed.try_recv() {
        all.push(commit);
    }
    all
}

fn event_seqs(commits: &[Commit]) -> Vec<Seq> {
    let events = commits.iter().filter_map(|c| if let Commit::Events(events) = c { Some(events) } else { None });
    events.flatten().map(|e| e.seq).collect()
}

fn ids(events: &[Arc<Event>]) -> Vec<(Seq, &str)> {
    events.iter().map(|e| (e.seq, e.envelope.id.as_str())).collect()
}

/// Makes one test a case of the suite.
macro_rules! suite {
    ($subject:ty: $($case:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $case() {
            $crate::log::conformance::$case::<$subject>().await;
        })*
    };
}
pub(crate) use suite;

/// Every case, so that no log forgets one.
macro_rules! conforms {
    ($subject:ty) => {
        $crate::log::conformance::suite!($subject:
            a_run_goes_from_step_to_step,
            a_failed_step_is_no_dead_letter_and_what_was_done_is_undone,
            one_run_has_a_key,
            a_run_goes_on_after_a_crash_where_it_was,
            an_event_that_a_step_waits_for_may_come_before_or_after,
            a_wait_ends_with_what_its_own_definition_means_and_what_came_later,
            an_event_begins_one_run_whatever_its_key_becomes,
            time_that_is_up_fails_a_step_and_a_run,
            what_a_person_orders_of_a_run_is_done_or_refused,
            sequences_are_dense_and_events_read_back_as_they_came,
            an_id_is_accepted_once,
            a_conflict_leaves_nothing_of_its_append,
            a_failed_append_does_not_spoil_its_neighbours,
            everything_survives_a_crash,
            a_settlement_is_whole,
            an_outcome_is_recorded_once,
            a_retry_waits_and_only_its_next_call_settles_it,
            stale_reads_are_a_conflict_and_leave_no_trace,
            a_listing_is_stale_once_anything_was_written,
            the_quota_holds,
            expired_state_is_absent,
            generations_are_told_apart_by_digest,
            recovery_gives_what_is_left,
            a_timeline_follows_the_deployments,
            waiting_deliveries_come_by_due_time,
            dead_letters_are_redriven_once,
            dead_letters_are_chosen,
            commits_come_in_log_order,
            a_batch_settles_whole_or_not_at_all,
            settlements_that_come_together_stand_each_by_itself,
            what_was_published_is_counted,
            a_first_call_may_wait,
            deliveries_wait_for_their_key,
            a_dead_letter_holds_its_key,
            what_an_earlier_round_lets_go_is_not_what_a_later_one_holds,
            held_keys_are_released,
            an_idempotency_key_is_settled_once,
            outcomes_without_a_call_are_kept,
            a_pause_is_kept,
            crashes_are_counted,
            a_new_consumer_begins_where_it_is_told,
            conditions_are_part_of_a_timeline,
            keys_are_found_anew,
            what_was_asked_for_again_waits_for_its_key_and_for_no_time,
            keys_that_a_crash_left_half_changed_are_known_as_such,
            what_was_settled_by_another_rule_is_forgotten,
            a_replay_makes_the_next_round,
            what_is_not_final_is_skipped,
            a_replay_stands_where_it_stood_after_a_crash,
            a_step_makes_what_there_is_room_for,
            a_replay_has_only_so_many_deliveries_open,
            a_replay_counts_what_becomes_of_it,
            a_dead_letter_that_was_replayed_is_redriven_beyond_it,
            a_cancelled_replay_makes_no_more,
            a_job_is_kept_with_its_delivery,
            a_job_is_a_statement_of_its_own,
            published_jobs_are_made_with_the_settlement,
            a_job_that_is_retried_keeps_its_priority_and_redriven_its_retry,
            a_replay_makes_nothing_of_a_job_that_waits,
        );
    };
}
pub(crate) use conforms;

pub(crate) async fn sequences_are_dense_and_events_read_back_as_they_came<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    let mut odd = event("0190a5c4-1c7e-7000-8000-00000000abcd", "order.created");
    odd.attributes.insert("tenant".into(), serde_json::json!("a"));
    odd.attributes.insert("big".into(), serde_json::json!(18_446_744_073_709_551_615_u64));
    odd.not_before = Some(Timestamp(-1));
    odd.causation_id = Some("0190A5C4-1C7E-7000-8000-00000000ABCD".into());
    odd.correlation_id = "c".into();
    odd.traceparent = Some("00-1-2-01".into());
    odd.key = Some(String::new());
    odd.depth = 7;
    odd.payload = Some(Payload { content_type: String::new(), data: Bytes::from_static(&[0, 255, 10]) });
    let mut bare = event("bare", "a");
    (bare.payload, bare.subject) = (None, None);
    let first = log.append(vec![event("1", "a"), odd.clone()]).await.unwrap();
    let second = log.append(vec![bare.clone()]).await.unwrap();
    assert_eq!(
        first.iter().chain(&second).map(|a| (a.seq, a.duplicate)).collect::<Vec<_>>(),
        [(1, false), (2, false), (3, false)]
    );
    let read = log.read(0, 10).await.unwrap();
    assert_eq!(read.iter().map(|e| e.envelope.clone()).collect::<Vec<_>>(), [event("1", "a"), odd, bare]);
    assert_eq!(ids(&log.read(1, 1).await.unwrap()).first().map(|(seq, _)| *seq), Some(2));
    assert!(log.read(3, 10).await.unwrap().is_empty());
    assert!(log.append(Vec::new()).await.unwrap().is_empty());
}

pub(crate) async fn an_id_is_accepted_once<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    log.append(vec![event("1", "a")]).await.unwrap();
    let mut again = event("1", "a");
    again.timestamp = Timestamp(5);
    let answer = log.append(vec![event("2", "a"), again, event("2", "a")]).await.unwrap();
    assert_eq!(answer.iter().map(|a| (a.seq, a.duplicate)).collect::<Vec<_>>(), [(2, false), (1, true), (2, true)]);
    let mut elsewhere = event("1", "a");
    elsewhere.source = "/other".into();
    assert_eq!(log.append(vec![elsewhere]).await.unwrap().first().map(|a| a.seq), Some(3));
}

pub(crate) async fn a_conflict_leaves_nothing_of_its_append<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![event("1", "a")]).await.unwrap();
    let answer = log.append(vec![event("2", "a"), event("1", "b")]).await;
    let Err(Error::Conflict { index: 1, source_name, id, seq: 1 }) = answer else { panic!("{answer:?}") };
    assert_eq!((source_name.as_str(), id.as_str()), ("/test", "1"));
    let within = log.append(vec![event("3", "a"), event("3", "b")]).await;
    assert!(matches!(within, Err(Error::Conflict { index: 1, .. })), "{within:?}");
    assert!(matches!(log.append(vec![event("1", "b")]).await, Err(Error::Conflict { index: 0, .. })));
    assert_eq!(log.append(vec![event("4", "a")]).await.unwrap().first().map(|a| a.seq), Some(2));
    assert_eq!(ids(&log.read(0, 10).await.unwrap()), [(1, "1"), (2, "4")]);
    assert_eq!(event_seqs(&drain(&mut feed)), [1, 2]);
}

pub(crate) async fn a_failed_append_does_not_spoil_its_neighbours<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    log.append(vec![event("1", "a")]).await.unwrap();
    // Sent together, so that they share a commit where there is one.
    let pending: Vec<_> =
        ["2", "1", "3"].map(|id| log.append(vec![event(&format!("x{id}"), "a"), event(id, "b")])).into();
    let mut answers = Vec::new();
    for answer in pending {
        answers.push(answer.await.ok().map(|a| a.iter().map(|a| a.seq).collect::<Vec<_>>()));
    }
    assert_eq!(answers, [Some(vec![2, 3]), None, Some(vec![4, 5])]);
    assert_eq!(log.read(0, 10).await.unwrap().len(), 5);
}

pub(crate) async fn everything_survives_a_crash<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("mail", &["order.*"])]).await;
    log.append(vec![event("1", "order.created"), event("2", "order.created")]).await.unwrap();
    let mut settlement = done(1, "mail");
    settlement.events.push(event("p1", "order.confirmed"));
    settlement.state.writes.insert("k".into(), StateWrite::Set { value: Bytes::from_static(b"v"), expires_at: None });
    assert_eq!(log.settle(vec![settlement]).await.unwrap(), Settled::Committed);
    subject.crash(log);
    let (log, mut feed) = subject.open();
    assert_eq!(ids(&log.read(0, 10).await.unwrap()), [(1, "1"), (2, "2"), (3, "p1")]);
    assert_eq!(log.recover(consumer("mail")).await.unwrap().settled, [1]);
    assert_eq!(subject.state(&log, &consumer("mail"), "k").map(|(value, _)| value), Some(Bytes::from_static(b"v")));
    assert_eq!(log.append(vec![event("1", "order.created"), event("4", "a")]).await.unwrap().last().unwrap().seq, 4);
    assert_eq!(event_seqs(&drain(&mut feed)), [4]);
}

pub(crate) async fn a_settlement_is_whole<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    log.append(vec![event("1", "a"), event("p2", "b")]).await.unwrap();
    drain(&mut feed);
    let mut settlement = done(1, "mail");
    // One of them is there already, from before a crash.
    settlement.events = vec![event("p1", "b"), event("p2", "b"), event("p3", "b")];
    settlement.record.logs = vec![LogLine { level: "info".into(), message: "hello".into(), fields: BTreeMap::new() }];
    settlement.record.output = Some(Payload { content_type: "text/plain".into(), data: Bytes::from_static(b"out") });
    assert_eq!(log.settle(vec![settlement]).await.unwrap(), Settled::Committed);
    assert_eq!(ids(&log.read(2, 10).await.unwrap()), [(3, "p1"), (4, "p3")]);
    let commits = drain(&mut feed);
    assert!(matches!(commits.first(), Some(Commit::Settled(id, Settled::Committed)) if id.seq == 1), "{commits:?}");
    assert_eq!(event_seqs(&commits), [3, 4]);
}

pub(crate) async fn an_outcome_is_recorded_once<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    log.append(vec![event("1", "a")]).await.unwrap();
    let mut settlement = done(1, "mail");
    settlement.events = vec![event("p1", "b")];
    settlement.state.reads.insert("k".into(), 0);
    settlement.state.writes.insert("k".into(), StateWrite::Set { value: Bytes::from_static(b"v"), expires_at: None });
    let mut late = settlement.clone();
    late.events = vec![event("p2", "b")];
    assert_eq!(log.settle(vec![settlement]).await.unwrap(), Settled::Committed);
    let before = subject.state(&log, &consumer("mail"), "k");
    assert_eq!(log.settle(vec![late]).await.unwrap(), Settled::Fenced);
    assert_eq!(subject.state(&log, &consumer("mail"), "k"), before);
    assert_eq!(log.read(0, 10).await.unwrap().len(), 2);
    assert_eq!(log.settle(vec![call(done(1, "mail"), 2)]).await.unwrap(), Settled::Fenced, "it is final");
}

pub(crate) async fn a_retry_waits_and_only_its_next_call_settles_it<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    log.append(vec![event("1", "a")]).await.unwrap();
    let due_at = NOW.plus(Duration::from_secs(1));
    let retry = settlement(delivery(1, "mail", 0), Outcome::Retry, State::Pending { due_at });
    assert_eq!(log.settle(vec![retry.clone()]).await.unwrap(), Settled::Committed);
    subject.crash(log);
    let (log, _feed) = subject.open();
    let waiting = log.waiting(consumer("mail"), Priority::Normal, None, 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].delivery, Delivery { state: State::Pending { due_at }, attempts: 1, calls: 1 });
    assert_eq!(log.settle(vec![retry.clone()]).await.unwrap(), Settled::Fenced);
    assert_eq!(log.settle(vec![call(done(1, "mail"), 3)]).await.unwrap(), Settled::Fenced);
    assert_eq!(log.settle(vec![call(retry, 2)]).await.unwrap(), Settled::Committed);
    assert_eq!(log.waiting(consumer("mail"), Priority::Normal, None, 10).await.unwrap()[0].delivery.calls, 2);
    assert_eq!(log.settle(vec![call(done(1, "mail"), 3)]).await.unwrap(), Settled::Committed);
    assert!(log.waiting(consumer("mail"), Priority::Normal, None, 10).await.unwrap().is_empty());
}

/// A settlement of `seq` that read `key` at `version` and writes `value`.
fn writing(seq: Seq, key: &str, version: u64, value: &'static str) -> Settlement {
    let mut settlement = done(seq, "mail");
    settlement.state.reads.insert(key.into(), version);
    let value = Bytes::from_static(value.as_bytes());
    settlement.state.writes.insert(key.into(), StateWrite::Set { value, expires_at: None });
    settlement
}

async fn with_events<S: Subject>(subject: &mut S, count: usize) -> (Arc<S::Log>, Feed) {
    let (log, feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    log.append((1..=count).map(|n| event(&n.to_string(), "a")).collect()).await.unwrap();
    (log, feed)
}

pub(crate) async fn stale_reads_are_a_conflict_and_leave_no_trace<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 4).await;
    let mail = consumer("mail");
    // Sent together: only one of them can have read what is so.
    let (one, two) = (log.settle(vec![writing(1, "k", 0, "one")]), log.settle(vec![writing(2, "k", 0, "two")]));
    assert_eq!((one.await.unwrap(), two.await.unwrap()), (Settled::Committed, Settled::Conflict));
    let (value, version) = subject.state(&log, &mail, "k").unwrap();
    assert_eq!(value, Bytes::from_static(b"one"));
    assert_eq!(log.recover(mail.clone()).await.unwrap().settled, [1]);
    assert_eq!(log.settle(vec![writing(2, "k", version, "two")]).await.unwrap(), Settled::Committed);
    let (_, newer) = subject.state(&log, &mail, "k").unwrap();
    assert!(newer > version);
    let mut delete = done(3, "mail");
    delete.state.writes.insert("k".into(), StateWrite::Delete);
    assert_eq!(log.settle(vec![delete]).await.unwrap(), Settled::Committed);
    assert_eq!(log.settle(vec![writing(4, "k", 0, "four")]).await.unwrap(), Settled::Committed);
    let (_, newest) = subject.state(&log, &mail, "k").unwrap();
    assert!(newest > newer, "a version never comes again");
}

pub(crate) async fn a_listing_is_stale_once_anything_was_written<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 3).await;
    let mail = consumer("mail");
    assert_eq!(subject.keys(&log, &mail, ""), (Vec::new(), 0));
    log.settle(vec![writing(1, "a/1", 0, "x")]).await.unwrap();
    let mut stale = done(2, "mail");
    stale.state.listed_at = Some(0);
    assert_eq!(log.settle(vec![stale.clone()]).await.unwrap(), Settled::Conflict);
    let (keys, revision) = subject.keys(&log, &mail, "a/");
    assert_eq!(keys, ["a/1"]);
    assert_eq!(subject.keys(&log, &mail, "b").0, Vec::<String>::new());
    stale.state.listed_at = Some(revision);
    assert_eq!(log.settle(vec![stale]).await.unwrap(), Settled::Committed);
}

pub(crate) async fn the_quota_holds<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 3).await;
    let mut first = writing(1, "k", 0, "12345");
    first.state_quota = 6;
    assert_eq!(log.settle(vec![first]).await.unwrap(), Settled::Committed);
    let mut second = writing(2, "l", 0, "");
    second.state_quota = 6;
    assert_eq!(log.settle(vec![second.clone()]).await.unwrap(), Settled::OverQuota);
    assert_eq!(subject.state(&log, &consumer("mail"), "l"), None);
    assert_eq!(log.recover(consumer("mail")).await.unwrap().settled, [1]);
    second.state.writes.insert("k".into(), StateWrite::Delete);
    assert_eq!(log.settle(vec![second]).await.unwrap(), Settled::Committed, "what it deletes makes room");
}

pub(crate) async fn expired_state_is_absent<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 3).await;
    let mut first = done(1, "mail");
    let value = Bytes::from_static(b"12345");
    first.state.writes.insert("k".into(), StateWrite::Set { value, expires_at: Some(NOW) });
    first.state_quota = 6;
    assert_eq!(log.settle(vec![first]).await.unwrap(), Settled::Committed);
    assert_eq!(subject.state(&log, &consumer("mail"), "k"), None);
    assert!(subject.keys(&log, &consumer("mail"), "").0.is_empty());
    let mut second = writing(2, "k", 0, "1234");
    second.state.writes.insert("l".into(), StateWrite::Set { value: Bytes::new(), expires_at: None });
    second.state_quota = 6;
    assert_eq!(log.settle(vec![second]).await.unwrap(), Settled::Committed, "it takes no room either");
}

pub(crate) async fn generations_are_told_apart_by_digest<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    assert_eq!(activate(&*log, "one", &[("mail", &["a"])]).await, (Generation(1), 1));
    log.append(vec![event("1", "a")]).await.unwrap();
    assert_eq!(activate(&*log, "one", &[("mail", &["a"])]).await, (Generation(1), 1));
    assert_eq!(activate(&*log, "two", &[("mail", &["b"])]).await, (Generation(2), 2));
    subject.crash(log);
    let activated = drain(&mut feed).iter().filter(|c| matches!(c, Commit::Activated(_))).count();
    assert_eq!(activated, 3);
    let (log, _feed) = subject.open();
    assert_eq!(activate(&*log, "two", &[("mail", &["b"])]).await, (Generation(2), 2));
    assert_eq!(activate(&*log, "one", &[("mail", &["a"])]).await, (Generation(3), 2));
}

pub(crate) async fn recovery_gives_what_is_left<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 6).await;
    let mail = consumer("mail");
    log.settle(vec![done(1, "mail")]).await.unwrap();
    log.settle(vec![done(2, "mail")]).await.unwrap();
    let due_at = NOW.plus(Duration::from_secs(9));
    log.settle(vec![settlement(delivery(5, "mail", 0), Outcome::Retry, State::Pending { due_at })]).await.unwrap();
    log.settle(vec![settlement(delivery(4, "mail", 0), Outcome::Reject, State::Dead)]).await.unwrap();
    log.settle(vec![done(4, "other")]).await.unwrap();
    log.advance(vec![(mail.clone(), 1)]);
    log.advance(vec![(mail.clone(), 2)]);
    log.append(vec![event("7", "a")]).await.unwrap();
    subject.crash(log);
    let (log, _feed) = subject.open();
    let recovery = log.recover(mail.clone()).await.unwrap();
    assert!(recovery.position <= 2);
    let beyond: Vec<Seq> = recovery.settled.iter().copied().filter(|seq| *seq > 2).collect();
    assert_eq!(beyond, [4, 5]);
    assert!((recovery.position + 1..=2).all(|seq| recovery.settled.contains(&seq)), "{recovery:?}");
    let never = log.recover(consumer("never")).await.unwrap();
    assert_eq!((never.position, never.settled.len(), never.timeline.len()), (7, 0, 0));
    activate(&*log, "two", &[("mail", &["a"]), ("late", &["a"])]).await;
    log.append(vec![event("8", "a")]).await.unwrap();
    assert_eq!(log.recover(consumer("late")).await.unwrap().position, 7, "a new consumer starts at the end");
}

pub(crate) async fn a_timeline_follows_the_deployments<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    let mail: &[(&str, &[&str])] = &[("mail", &["a"])];
    activate(&*log, "one", &[("other", &["x"])]).await;
    log.append(vec![event("1", "a")]).await.unwrap();
    activate(&*log, "two", mail).await;
    log.append(vec![event("2", "a")]).await.unwrap();
    activate(&*log, "three", &[("mail", &["a"]), ("other", &["x"])]).await;
    log.append(vec![event("3", "a")]).await.unwrap();
    activate(&*log, "four", &[]).await;
    activate(&*log, "five", &[("other", &["x"])]).await;
    log.append(vec![event("4", "a")]).await.unwrap();
    activate(&*log, "six", &[("mail", &["b.**", "c"])]).await;
    let timeline = log.recover(consumer("mail")).await.unwrap().timeline;
    let shown: Vec<(Seq, Vec<&str>)> =
        timeline.iter().map(|(from, specs)| (*from, specs.iter().map(|s| s.pattern.as_str()).collect())).collect();
    assert_eq!(shown, [(2, vec!["a"]), (4, vec![]), (5, vec!["b.**", "c"])]);
}

pub(crate) async fn waiting_deliveries_come_by_due_time<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 4).await;
    for (seq, due) in [(1, 30), (2, 10), (3, 10), (4, 20)] {
        let state = State::Pending { due_at: Timestamp(due) };
        log.settle(vec![settlement(delivery(seq, "mail", 0), Outcome::Retry, state)]).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = log.waiting(consumer("mail"), Priority::Normal, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        let State::Pending { due_at } = last.delivery.state else { panic!("{last:?}") };
        after = Some((due_at, last.id.clone()));
        seen.extend(page.into_iter().map(|w| w.id.seq));
    }
    assert_eq!(seen, [2, 3, 4, 1]);
    assert!(log.waiting(consumer("nobody"), Priority::Normal, None, 2).await.unwrap().is_empty());
}

pub(crate) async fn dead_letters_are_redriven_once<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = with_events(&mut subject, 1).await;
    log.settle(vec![settlement(delivery(1, "mail", 0), Outcome::Reject, State::Dead)]).await.unwrap();
    drain(&mut feed);
    let made = log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap();
    assert_eq!(made, [delivery(1, "mail", 1)]);
    let commits = drain(&mut feed);
    let [Commit::Redriven(redriven)] = commits.as_slice() else { panic!("{commits:?}") };
    assert_eq!((redriven[0].id.round, redriven[0].delivery.attempts), (1, 0));
    assert_eq!(log.waiting(consumer("mail"), Priority::Normal, None, 10).await.unwrap(), *redriven);
    assert!(log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap().is_empty());
    let again = settlement(delivery(1, "mail", 1), Outcome::Reject, State::Dead);
    assert_eq!(log.settle(vec![again]).await.unwrap(), Settled::Committed);
    assert!(log.waiting(consumer("mail"), Priority::Normal, None, 10).await.unwrap().is_empty());
    let made = log.decide_dead(DeadSelection::default(), DeadDecision::Discard).await.unwrap();
    assert_eq!(made, [delivery(1, "mail", 1)]);
    assert!(log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap().is_empty());
}

pub(crate) async fn dead_letters_are_chosen<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("mail", &["**"]), ("index", &["**"])]).await;
    log.append(vec![event("1", "a"), event("2", "b"), event("3", "a"), event("4", "a")]).await.unwrap();
    for (seq, name, outcome) in [
        (1, "mail", Outcome::Reject),
        (2, "mail", Outcome::Refused),
        (3, "index", Outcome::Trapped),
        (4, "mail", Outcome::Retry),
    ] {
        log.settle(vec![settlement(delivery(seq, name, 0), outcome, State::Dead)]).await.unwrap();
    }
    let discard = |selection: DeadSelection| {
        let pending = log.decide_dead(selection, DeadDecision::Discard);
        async move { pending.await.unwrap().into_iter().map(|id| id.seq).collect::<Vec<_>>() }
    };
    let all = DeadSelection::default;
    assert!(discard(DeadSelection { until: Some(Timestamp(0)), ..all() }).await.is_empty());
    assert!(discard(DeadSelection { since: Some(Timestamp::MAX), ..all() }).await.is_empty());
    assert!(discard(DeadSelection { ids: vec![delivery(1, "mail", 1)], ..all() }).await.is_empty());
    assert!(discard(DeadSelection { consumer: Some(consumer("none")), ..all() }).await.is_empty());
    assert_eq!(discard(DeadSelection { cause: Some(DeathCause::Refused), ..all() }).await, [2]);
    assert_eq!(discard(DeadSelection { consumer: Some(consumer("index")), ..all() }).await, [3]);
    assert_eq!(discard(DeadSelection { event_type: Some("a".into()), limit: Some(1), ..all() }).await, [1]);
    assert_eq!(discard(DeadSelection { ids: vec![delivery(4, "mail", 0)], ..all() }).await, [4]);
}

pub(crate) async fn commits_come_in_log_order<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    let pending: Vec<_> = (0..200).map(|n| log.append(vec![event(&n.to_string(), "a")])).collect();
    for answer in pending {
        answer.await.unwrap();
    }
    let commits = drain(&mut feed);
    assert!(matches!(commits.first(), Some(Commit::Activated(_))));
    assert_eq!(event_seqs(&commits), (1..=200).collect::<Vec<_>>());
}
