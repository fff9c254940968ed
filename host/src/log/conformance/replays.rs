//! Replays.

use std::sync::Arc;

use super::{Subject, activate, call, consumer, delivery, done, event, new, settlement};
use crate::log::{Commit, DeadDecision, DeadSelection, EventLog};
use crate::model::replay::{OPEN_MAX, Replay, ReplaySpec, ReplayStatus, ReplayStep};
use crate::model::{Outcome, Priority, Seq, State, Timestamp};

fn spec(from: Seq, to: Seq) -> ReplaySpec {
    ReplaySpec { from, to, ..ReplaySpec::default() }
}

fn step(id: u64, after: Seq, through: Seq, deliveries: &[(Seq, &str)]) -> ReplayStep {
    let deliveries = deliveries.iter().map(|(seq, name)| (*seq, consumer(name))).collect();
    ReplayStep { id, after, through, deliveries, room: u64::MAX }
}

async fn waiting(log: &impl EventLog, name: &str) -> Vec<String> {
    let page = log.waiting(consumer(name), Priority::Normal, None, 10_000).await.unwrap();
    page.iter().map(|waiting| waiting.id.to_string()).collect()
}

async fn running(log: &impl EventLog) -> Vec<(Seq, u64, u64, u64)> {
    let replays = log.running_replays().await.unwrap();
    replays.iter().map(|r| (r.position, r.made, r.open, r.skipped)).collect()
}

fn numbers(replay: &Option<Replay>) -> (ReplayStatus, Seq, u64, u64, u64) {
    let replay = replay.as_ref().unwrap();
    (replay.status, replay.position, replay.made, replay.open, replay.skipped)
}

/// Four events, all of them settled for `mail`; `index` has come to none of them.
async fn settled<S: Subject>(subject: &mut S) -> (Arc<S::Log>, crate::log::Feed) {
    let (log, mut feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"]), ("index", &["a"])]).await;
    log.append(vec![event("1", "a"), event("2", "a"), event("3", "b"), event("4", "a")]).await.unwrap();
    for seq in [1, 2, 4] {
        log.settle(vec![done(seq, "mail")]).await.unwrap();
    }
    while feed.try_recv().is_ok() {}
    (log, feed)
}

pub(crate) async fn a_replay_makes_the_next_round<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = settled(&mut subject).await;
    let id = log.start_replay(spec(1, 4)).await.unwrap();
    assert_eq!(running(&*log).await, [(0, 0, 0, 0)]);
    // Event 3 was never meant for it, so it gets it for the first time: still as a delivery of a later round.
    let made = log.step_replay(step(id, 0, 4, &[(1, "mail"), (2, "mail"), (3, "mail"), (4, "mail")])).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Made, 4, 4, 4, 0));
    assert!(!made.unwrap().is_over());
    assert_eq!(waiting(&*log, "mail").await, ["1/mail/1", "2/mail/1", "3/mail/1", "4/mail/1"]);
    let told: Vec<Commit> = std::iter::from_fn(|| feed.try_recv().ok()).collect();
    let [Commit::Redriven(told)] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(told.iter().map(|waiting| waiting.id.to_string()).collect::<Vec<_>>(), waiting(&*log, "mail").await);
    assert!(told.iter().all(|waiting| waiting.delivery.calls == 0 && !waiting.blocked));
    assert_eq!(running(&*log).await, []);
}

pub(crate) async fn what_is_not_final_is_skipped<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = settled(&mut subject).await;
    let retry = State::Pending { due_at: Timestamp(5) };
    log.settle(vec![settlement(delivery(1, "index", 0), Outcome::Retry, retry)]).await.unwrap();
    // A step of a run has an outcome for an event that its consumer has not come to.
    let step_of_run = delivery(2, "index", 1);
    log.park(vec![new(&step_of_run)]).await.unwrap();
    log.settle(vec![crate::log::Settlement { delivery: step_of_run, stored: true, ..done(2, "index") }]).await.unwrap();
    let id = log.start_replay(spec(1, 4)).await.unwrap();
    // Waiting, and not come to yet.
    let made = log.step_replay(step(id, 0, 3, &[(1, "index"), (1, "mail"), (2, "index")])).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Running, 3, 1, 1, 2));
    // Its own deliveries are not final either.
    let other = log.start_replay(spec(1, 1)).await.unwrap();
    let made = log.step_replay(step(other, 0, 1, &[(1, "mail")])).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Made, 1, 0, 0, 1));
    assert!(made.unwrap().is_over());
}

pub(crate) async fn a_replay_stands_where_it_stood_after_a_crash<S: Subject>() {
    let mut subject = S::new();
    let (log, feed) = settled(&mut subject).await;
    let id = log.start_replay(spec(1, 4)).await.unwrap();
    log.step_replay(step(id, 0, 1, &[(1, "mail")])).await.unwrap().unwrap();
    drop(feed);
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(running(&*log).await, [(1, 1, 1, 0)]);
    // The same step again is of a position that is past.
    assert_eq!(log.step_replay(step(id, 0, 1, &[(1, "mail")])).await.unwrap(), None);
    assert_eq!(waiting(&*log, "mail").await, ["1/mail/1"]);
    log.settle(vec![settlement(delivery(1, "mail", 1), Outcome::Done, State::Succeeded)]).await.unwrap();
    let made = log.step_replay(step(id, 1, 4, &[(2, "mail"), (4, "mail")])).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Made, 4, 3, 2, 0));
    assert_eq!(log.step_replay(step(id, 4, 4, &[(4, "mail")])).await.unwrap(), None, "it has ended");
}

pub(crate) async fn a_step_makes_what_there_is_room_for<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = settled(&mut subject).await;
    let id = log.start_replay(spec(1, 4)).await.unwrap();
    let all = step(id, 0, 4, &[(1, "mail"), (2, "mail"), (4, "mail")]);
    let made = log.step_replay(ReplayStep { room: 2, ..all.clone() }).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Running, 3, 2, 2, 0), "up to before the event that was not made");
    let rest = ReplayStep { after: 3, ..step(id, 3, 4, &[(4, "mail")]) };
    let made = log.step_replay(ReplayStep { room: 0, ..rest.clone() }).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Running, 3, 2, 2, 0));
    let made = log.step_replay(rest).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Made, 4, 3, 3, 0));
}

pub(crate) async fn a_replay_has_only_so_many_deliveries_open<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    let count = OPEN_MAX + 50;
    log.append((1..=count).map(|n| event(&n.to_string(), "a")).collect()).await.unwrap();
    log.advance(vec![(consumer("mail"), count)]);
    log.settle((1..=count).map(|seq| done(seq, "mail")).collect()).await.unwrap();
    let id = log.start_replay(spec(1, count)).await.unwrap();
    let all: Vec<(Seq, &str)> = (1..=count).map(|seq| (seq, "mail")).collect();
    let made = log.step_replay(step(id, 0, count, &all)).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Running, OPEN_MAX, OPEN_MAX, OPEN_MAX, 0));
    let rest = step(id, OPEN_MAX, count, &all[usize::try_from(OPEN_MAX).unwrap()..]);
    let made = log.step_replay(rest.clone()).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Running, OPEN_MAX, OPEN_MAX, OPEN_MAX, 0));
    for seq in 1..=7 {
        log.settle(vec![settlement(delivery(seq, "mail", 1), Outcome::Done, State::Succeeded)]).await.unwrap();
    }
    let made = log.step_replay(rest).await.unwrap();
    assert_eq!(numbers(&made), (ReplayStatus::Running, OPEN_MAX + 7, OPEN_MAX + 7, OPEN_MAX, 0));
}

pub(crate) async fn a_replay_counts_what_becomes_of_it<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = settled(&mut subject).await;
    let id = log.start_replay(spec(1, 9)).await.unwrap();
    log.step_replay(step(id, 0, 8, &[(1, "mail"), (2, "mail"), (4, "mail")])).await.unwrap().unwrap();
    let retry = State::Pending { due_at: Timestamp(5) };
    log.settle(vec![settlement(delivery(1, "mail", 1), Outcome::Retry, retry)]).await.unwrap();
    log.settle(vec![settlement(delivery(2, "mail", 1), Outcome::Reject, State::Dead)]).await.unwrap();
    log.settle(vec![settlement(delivery(4, "mail", 1), Outcome::Done, State::Succeeded)]).await.unwrap();
    assert_eq!(running(&*log).await, [(8, 3, 1, 0)]);
    let last = call(settlement(delivery(1, "mail", 1), Outcome::Done, State::Succeeded), 2);
    log.settle(vec![last]).await.unwrap();
    let replays = log.running_replays().await.unwrap();
    assert_eq!((replays[0].made, replays[0].open, replays[0].dead), (3, 0, 1));
    // What died of it is redriven as a round of its own, and counts no more.
    let ids = log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap();
    assert_eq!(ids, [delivery(2, "mail", 2)]);
    log.settle(vec![settlement(delivery(2, "mail", 2), Outcome::Reject, State::Dead)]).await.unwrap();
    let replays = log.running_replays().await.unwrap();
    assert_eq!((replays[0].made, replays[0].open, replays[0].dead), (3, 0, 1));
    let made = log.step_replay(step(id, 8, 9, &[])).await.unwrap().unwrap();
    assert!(made.is_over() && made.ended_at.is_some());
}

pub(crate) async fn a_dead_letter_that_was_replayed_is_redriven_beyond_it<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("mail", &["a"])]).await;
    log.append(vec![event("1", "a")]).await.unwrap();
    log.settle(vec![settlement(delivery(1, "mail", 0), Outcome::Reject, State::Dead)]).await.unwrap();
    let id = log.start_replay(spec(1, 1)).await.unwrap();
    log.step_replay(step(id, 0, 1, &[(1, "mail")])).await.unwrap().unwrap();
    log.settle(vec![settlement(delivery(1, "mail", 1), Outcome::Done, State::Succeeded)]).await.unwrap();
    let ids = log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap();
    assert_eq!(ids, [delivery(1, "mail", 2)]);
}

pub(crate) async fn a_cancelled_replay_makes_no_more<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = settled(&mut subject).await;
    let id = log.start_replay(spec(1, 4)).await.unwrap();
    log.step_replay(step(id, 0, 1, &[(1, "mail")])).await.unwrap().unwrap();
    assert!(log.cancel_replay(id).await.unwrap());
    assert!(!log.cancel_replay(id).await.unwrap());
    assert!(!log.cancel_replay(99).await.unwrap());
    assert_eq!(log.step_replay(step(id, 1, 4, &[(2, "mail")])).await.unwrap(), None);
    assert_eq!(running(&*log).await, []);
    assert_eq!(waiting(&*log, "mail").await, ["1/mail/1"], "what is made goes on");
}
