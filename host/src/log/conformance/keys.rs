//! Batches, keys, pauses, crashes, and where consumers begin.

use std::time::Duration;

use super::{
    NOW, Subject, activate, call, consumer, delivery, done, drain, event, event_seqs, settlement, subscriptions,
    with_events, writing,
};
use crate::log::{Activation, Commit, DeadDecision, DeadSelection, EventLog, Hold, Mark, Settled, Settlement, Waiting};
use crate::model::delivery::KeyStanding;

use crate::model::spec::StartFrom;
use crate::model::{Delivery, DeliveryId, Digest, Expression, Outcome, Priority, Seq, State, Timestamp};

fn parked(id: DeliveryId, due: i64, key: Option<&str>, blocked: bool) -> Waiting {
    let (delivery, key) = (Delivery::new(Timestamp(due)), key.map(str::to_owned));
    Waiting { id, delivery, key, blocked, errand: false, priority: Priority::Normal }
}

fn seqs(waiting: &[Waiting]) -> Vec<Seq> {
    waiting.iter().map(|waiting| waiting.id.seq).collect()
}

/// A dead letter that holds its key.
fn holding(seq: Seq, key: &str) -> Settlement {
    Settlement {
        hold: Some(Hold::Begin(key.into())),
        key: Some(key.into()),
        ..settlement(delivery(seq, "mail", 0), Outcome::Reject, State::Dead)
    }
}

/// Which dead letters hold nothing any more, by commit.
fn released(commits: Vec<Commit>) -> Vec<(String, Vec<(Seq, u32)>)> {
    let of = |commit| match commit {
        Commit::Released(consumer, holders) => Some((consumer.as_str().to_owned(), holders)),
        _ => None,
    };
    commits.into_iter().filter_map(of).collect()
}

/// Done, and remembered.
fn marking(seq: Seq, name: &str, key: &str, until: Timestamp) -> Settlement {
    Settlement { mark: Some(Mark { key: key.into(), until }), ..done(seq, name) }
}

pub(crate) async fn a_batch_settles_whole_or_not_at_all<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = with_events(&mut subject, 4).await;
    drain(&mut feed);
    let mut first = writing(1, "k", 0, "one");
    first.events = vec![event("p1", "b")];
    let stale = writing(3, "k", 7, "three");
    let batch = vec![first.clone(), done(2, "mail"), stale];
    assert_eq!(log.settle(batch).await.unwrap(), Settled::Conflict);
    assert_eq!(log.settle(vec![first.clone(), done(2, "mail"), done(2, "mail")]).await.unwrap(), Settled::Fenced);
    assert_eq!(subject.state(&log, &consumer("mail"), "k"), None);
    assert!(log.recover(consumer("mail")).await.unwrap().settled.is_empty());
    let told = |commits: &[Commit]| -> Vec<(Seq, Settled)> {
        let told =
            commits.iter().filter_map(|c| if let Commit::Settled(id, s) = c { Some((id.seq, *s)) } else { None });
        told.collect()
    };
    let commits = drain(&mut feed);
    assert_eq!(told(&commits)[..3], [1, 2, 3].map(|seq| (seq, Settled::Conflict)));
    assert_eq!(event_seqs(&commits), Vec::<Seq>::new());
    let due_at = Timestamp(9);
    let retry = settlement(delivery(2, "mail", 0), Outcome::Retry, State::Pending { due_at });
    assert_eq!(log.settle(vec![first, retry, done(3, "mail")]).await.unwrap(), Settled::Committed);
    let commits = drain(&mut feed);
    assert_eq!(told(&commits), [1, 2, 3].map(|seq| (seq, Settled::Committed)));
    assert_eq!(event_seqs(&commits), [5], "what was undone has left no gap");
    assert_eq!(log.recover(consumer("mail")).await.unwrap().settled, [1, 2, 3]);
    assert_eq!(seqs(&log.waiting(consumer("mail"), Priority::Normal, None, 9).await.unwrap()), [2]);
}

pub(crate) async fn settlements_that_come_together_stand_each_by_itself<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = with_events(&mut subject, 4).await;
    drain(&mut feed);
    let stale = writing(2, "k", 7, "stale");
    let mut last = done(4, "mail");
    last.events = vec![event("p1", "b")];
    let each = vec![writing(1, "k", 0, "one"), stale, writing(1, "k", 0, "again"), last];
    let settled = log.settle_each(each, false).await.unwrap();
    assert_eq!(settled, [Settled::Committed, Settled::Conflict, Settled::Fenced, Settled::Committed]);
    assert_eq!(
        subject.state(&log, &consumer("mail"), "k").map(|(value, _)| value),
        Some(bytes::Bytes::from_static(b"one"))
    );
    assert_eq!(log.recover(consumer("mail")).await.unwrap().settled, [1, 4]);
    let commits = drain(&mut feed);
    let told = commits.iter().filter_map(|c| if let Commit::Settled(id, s) = c { Some((id.seq, *s)) } else { None });
    assert_eq!(told.collect::<Vec<_>>(), [1, 2, 1, 4].into_iter().zip(settled).collect::<Vec<_>>());
    assert_eq!(event_seqs(&commits), [5]);
    assert_eq!(log.settle_each(Vec::new(), true).await.unwrap(), []);
}

pub(crate) async fn what_was_published_is_counted<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 2).await;
    log.append(vec![event("p1", "b"), event("p2", "something-else")]).await.unwrap();
    let mut all = done(1, "mail");
    all.events = vec![event("p3", "b"), event("p4", "b")];
    let mut some = done(2, "mail");
    // Said before, taken by another statement, and new.
    some.events = vec![event("p1", "b"), event("p2", "b"), event("p5", "b")];
    assert_eq!(log.settle(vec![all]).await.unwrap(), Settled::Committed);
    assert_eq!(log.settle(vec![some]).await.unwrap(), Settled::Committed);
    assert_eq!(subject.published(&log, &delivery(1, "mail", 0), 1), Some(2));
    assert_eq!(subject.published(&log, &delivery(2, "mail", 0), 1), Some(1));
}

pub(crate) async fn a_first_call_may_wait<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 3).await;
    let mail = consumer("mail");
    let later = parked(delivery(2, "mail", 0), 50, None, false);
    log.park(vec![later.clone()]).await.unwrap();
    log.park(vec![later.clone()]).await.unwrap();
    assert_eq!(log.settle(vec![done(1, "mail")]).await.unwrap(), Settled::Committed);
    log.park(vec![parked(delivery(1, "mail", 0), 50, None, false)]).await.unwrap();
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(
        log.waiting(mail.clone(), Priority::Normal, None, 9).await.unwrap(),
        [later],
        "what is settled waits no more"
    );
    assert_eq!(log.recover(mail.clone()).await.unwrap().settled, [1, 2]);
    let mut second = done(2, "mail");
    second.stored = true;
    second.record.call = 2;
    assert_eq!(log.settle(vec![second.clone()]).await.unwrap(), Settled::Fenced, "its first call is not made");
    second.record.call = 1;
    assert_eq!(log.settle(vec![second.clone()]).await.unwrap(), Settled::Committed);
    assert!(log.waiting(mail, Priority::Normal, None, 9).await.unwrap().is_empty());
    let mut third = done(3, "mail");
    third.stored = true;
    assert_eq!(log.settle(vec![third]).await.unwrap(), Settled::Fenced, "it has no row");
    let mut redriven = settlement(delivery(3, "mail", 1), Outcome::Done, State::Succeeded);
    redriven.stored = false;
    assert_eq!(log.settle(vec![redriven]).await.unwrap(), Settled::Fenced, "nobody has redriven it");
}

pub(crate) async fn deliveries_wait_for_their_key<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 6).await;
    let mail = consumer("mail");
    let due_at = Timestamp(7);
    let mut retry = settlement(delivery(1, "mail", 0), Outcome::Retry, State::Pending { due_at });
    retry.key = Some("a".into());
    assert_eq!(log.settle(vec![retry]).await.unwrap(), Settled::Committed);
    let line = [(5, "a"), (3, "a"), (4, "b")];
    log.park(line.map(|(seq, key)| parked(delivery(seq, "mail", 0), 1, Some(key), true)).into()).await.unwrap();
    log.park(vec![parked(delivery(2, "mail", 0), 1, Some("c"), false)]).await.unwrap();
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(seqs(&log.blocked(mail.clone(), "a".into(), false, 9).await.unwrap()), [3, 5]);
    assert_eq!(seqs(&log.blocked(mail.clone(), "a".into(), false, 1).await.unwrap()), [3]);
    assert!(log.blocked(mail.clone(), "z".into(), false, 9).await.unwrap().is_empty());
    assert!(log.blocked(consumer("nobody"), "a".into(), false, 9).await.unwrap().is_empty());
    let waiting = log.waiting(mail.clone(), Priority::Normal, None, 9).await.unwrap();
    assert_eq!(seqs(&waiting), [2, 1], "no due time counts for those that are blocked");
    assert_eq!(waiting.last().and_then(|w| w.key.as_deref()), Some("a"));
    let keys = [("a", true, Some(5)), ("b", false, Some(4)), ("c", true, None)];
    let keys = keys.map(|(key, taken, blocked_to)| KeyStanding { key: key.into(), taken, blocked_to, later: false });
    assert_eq!(log.recover(mail.clone()).await.unwrap().keys, keys);
    // The one in front is done, the next one is called, and then has to wait for its key once more.
    assert_eq!(log.settle(vec![call(done(1, "mail"), 2)]).await.unwrap(), Settled::Committed);
    let mut next = settlement(delivery(3, "mail", 0), Outcome::Retry, State::Pending { due_at });
    (next.stored, next.key) = (true, Some("a".into()));
    assert_eq!(log.settle(vec![next]).await.unwrap(), Settled::Committed);
    assert_eq!(seqs(&log.blocked(mail.clone(), "a".into(), false, 9).await.unwrap()), [5]);
    let mut again = parked(delivery(3, "mail", 0), 1, Some("a"), true);
    log.park(vec![again.clone()]).await.unwrap();
    assert_eq!(
        seqs(&log.blocked(mail.clone(), "a".into(), false, 9).await.unwrap()),
        [5],
        "what is out of date changes nothing"
    );
    (again.delivery.attempts, again.delivery.calls) = (1, 1);
    log.park(vec![again]).await.unwrap();
    assert_eq!(seqs(&log.blocked(mail.clone(), "a".into(), false, 9).await.unwrap()), [3, 5]);
    assert_eq!(log.settle(vec![call(done(3, "mail"), 2)]).await.unwrap(), Settled::Committed);
    assert_eq!(seqs(&log.blocked(mail.clone(), "a".into(), false, 9).await.unwrap()), [5]);
    log.park(vec![parked(delivery(6, "mail", 1), 1, Some("a"), true)]).await.unwrap();
    assert_eq!(seqs(&log.blocked(mail.clone(), "a".into(), false, 9).await.unwrap()), [5, 6]);
    assert_eq!(seqs(&log.blocked(mail.clone(), "a".into(), true, 9).await.unwrap()), [6], "of later rounds");
    let keys = log.recover(mail).await.unwrap().keys;
    let later: Vec<(&str, bool)> = keys.iter().map(|standing| (standing.key.as_str(), standing.later)).collect();
    assert_eq!(later, [("a", true), ("b", false), ("c", false)]);
}

pub(crate) async fn a_dead_letter_holds_its_key<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 3).await;
    let mail = consumer("mail");
    for (seq, key) in [(1, "a"), (2, "a"), (3, "b")] {
        assert_eq!(log.settle(vec![holding(seq, key)]).await.unwrap(), Settled::Committed);
    }
    subject.crash(log);
    let (log, mut feed) = subject.open();
    let held = async || {
        let held = log.recover(mail.clone()).await.unwrap().held;
        held.into_iter().map(|held| (held.key, held.seq, held.round)).collect::<Vec<_>>()
    };
    let holds = |key: &str, seq: Seq| (key.to_owned(), seq, 0);
    assert_eq!(held().await, [holds("a", 1), holds("a", 2), holds("b", 3)]);
    let only = |seq| DeadSelection { ids: vec![delivery(seq, "mail", 0)], ..DeadSelection::default() };
    log.decide_dead(only(1), DeadDecision::Redrive).await.unwrap();
    assert_eq!(held().await, [holds("a", 1), holds("a", 2), holds("b", 3)], "until it is done");
    let commits = drain(&mut feed);
    let [Commit::Redriven(redriven)] = commits.as_slice() else { panic!("{commits:?}") };
    assert_eq!(redriven[0].key, None, "its key is found again: the rules may be others by then");
    assert_eq!(log.waiting(mail.clone(), Priority::Normal, None, 9).await.unwrap(), *redriven);
    let mut redriven = settlement(delivery(1, "mail", 1), Outcome::Done, State::Succeeded);
    redriven.hold = Some(Hold::End("a".into()));
    assert_eq!(log.settle(vec![redriven]).await.unwrap(), Settled::Committed);
    assert_eq!(held().await, [holds("a", 2), holds("b", 3)], "another dead letter holds it as well");
    assert_eq!(released(drain(&mut feed)), [("mail".to_owned(), vec![(1, 0)])]);
    log.decide_dead(only(2), DeadDecision::Discard).await.unwrap();
    assert_eq!(held().await, [holds("b", 3)]);
    assert_eq!(released(drain(&mut feed)), [("mail".to_owned(), vec![(2, 0)])]);
    log.decide_dead(only(3), DeadDecision::Redrive).await.unwrap();
    drain(&mut feed);
    let mut redriven = settlement(delivery(3, "mail", 1), Outcome::Done, State::Succeeded);
    redriven.hold = Some(Hold::End("b".into()));
    assert_eq!(log.settle(vec![redriven]).await.unwrap(), Settled::Committed);
    assert!(held().await.is_empty());
    assert_eq!(released(drain(&mut feed)), [("mail".to_owned(), vec![(3, 0)])]);
}

/// Replays may die beside the dead letter that their event has left already, and not in the order of their rounds.
pub(crate) async fn what_an_earlier_round_lets_go_is_not_what_a_later_one_holds<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = with_events(&mut subject, 1).await;
    let mail = consumer("mail");
    log.settle(vec![holding(1, "a")]).await.unwrap();
    let rounds = async || -> Vec<u32> {
        let held = log.recover(mail.clone()).await.unwrap().held;
        held.into_iter().map(|held| held.round).collect()
    };
    for (round, held) in [(2, vec![2]), (1, vec![1, 2])] {
        log.park(vec![parked(delivery(1, "mail", round), 0, None, false)]).await.unwrap();
        let mut later = holding(1, "a");
        (later.delivery.round, later.stored) = (round, true);
        assert_eq!(log.settle(vec![later]).await.unwrap(), Settled::Committed);
        assert_eq!(rounds().await, held, "in place of those before it");
    }
    drain(&mut feed);
    let only = |round| DeadSelection { ids: vec![delivery(1, "mail", round)], ..DeadSelection::default() };
    log.decide_dead(only(0), DeadDecision::Discard).await.unwrap();
    assert_eq!((rounds().await, drain(&mut feed).len()), (vec![1, 2], 0));
    for round in [1, 2] {
        log.decide_dead(only(round), DeadDecision::Discard).await.unwrap();
        assert_eq!(released(drain(&mut feed)), [("mail".to_owned(), vec![(1, round)])]);
    }
    assert!(rounds().await.is_empty());
}

pub(crate) async fn held_keys_are_released<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = with_events(&mut subject, 4).await;
    let mail = consumer("mail");
    for (seq, key) in [(1, "a"), (2, "b"), (3, "c"), (4, "c")] {
        log.settle(vec![holding(seq, key)]).await.unwrap();
    }
    drain(&mut feed);
    let release = async |keys: &[&str]| {
        let keys = keys.iter().map(|&key| key.to_owned()).collect();
        log.release(mail.clone(), keys).await.unwrap()
    };
    assert_eq!(release(&["b", "z"]).await, ["b"]);
    assert_eq!(release(&["b"]).await, Vec::<String>::new());
    assert!(log.release(consumer("other"), Vec::new()).await.unwrap().is_empty());
    assert_eq!(release(&[]).await, ["a", "c"]);
    assert!(log.recover(mail.clone()).await.unwrap().held.is_empty());
    let mail = || "mail".to_owned();
    assert_eq!(released(drain(&mut feed)), [(mail(), vec![(2, 0)]), (mail(), vec![(1, 0), (3, 0), (4, 0)])]);
    assert_eq!(log.decide_dead(DeadSelection::default(), DeadDecision::Discard).await.unwrap().len(), 4);
    assert!(drain(&mut feed).is_empty(), "what holds nothing frees nothing");
}

pub(crate) async fn an_idempotency_key_is_settled_once<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 6).await;
    let mail = consumer("mail");
    let long = Timestamp::MAX;
    assert_eq!(log.marked(mail.clone(), "k".into()).await.unwrap(), None);
    let mut failed = marking(1, "mail", "k", long);
    (failed.record.outcome, failed.next.state) = (Outcome::Retry, State::Pending { due_at: Timestamp(9) });
    assert_eq!(log.settle(vec![failed]).await.unwrap(), Settled::Committed);
    assert_eq!(log.marked(mail.clone(), "k".into()).await.unwrap(), None, "only what is done is remembered");
    assert_eq!(log.settle(vec![marking(2, "mail", "k", long)]).await.unwrap(), Settled::Committed);
    assert_eq!(log.settle(vec![marking(2, "mail", "k", long)]).await.unwrap(), Settled::Fenced);
    subject.crash(log);
    let (log, mut feed) = subject.open();
    assert_eq!(log.marked(mail.clone(), "k".into()).await.unwrap(), Some(delivery(2, "mail", 0)));
    assert_eq!(log.marked(consumer("index"), "k".into()).await.unwrap(), None);
    let mut second = Settlement { mark: Some(Mark { key: "k".into(), until: long }), ..writing(3, "x", 0, "x") };
    second.events = vec![event("p", "b")];
    assert_eq!(log.settle(vec![second]).await.unwrap(), Settled::Duplicate);
    assert_eq!(subject.state(&log, &mail, "x"), None);
    assert_eq!(log.recover(mail.clone()).await.unwrap().settled, [1, 2]);
    let commits = drain(&mut feed);
    assert!(matches!(commits.as_slice(), [Commit::Settled(id, Settled::Duplicate)] if id.seq == 3), "{commits:?}");
    let recorded = settlement(delivery(3, "mail", 0), Outcome::Duplicate, State::Succeeded);
    assert_eq!(log.settle(vec![recorded]).await.unwrap(), Settled::Committed);
    // Two of one batch, another consumer, and one that is no longer remembered.
    let batch = vec![marking(4, "mail", "l", long), marking(5, "mail", "l", long)];
    assert_eq!(log.settle(batch).await.unwrap(), Settled::Duplicate);
    assert_eq!(log.marked(mail.clone(), "l".into()).await.unwrap(), None);
    assert_eq!(log.settle(vec![marking(2, "index", "k", NOW)]).await.unwrap(), Settled::Committed);
    assert_eq!(log.marked(consumer("index"), "k".into()).await.unwrap(), None);
    assert_eq!(log.settle(vec![marking(3, "index", "k", long)]).await.unwrap(), Settled::Committed);
    assert_eq!(log.marked(consumer("index"), "k".into()).await.unwrap(), Some(delivery(3, "index", 0)));
}

pub(crate) async fn outcomes_without_a_call_are_kept<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 3).await;
    for (seq, outcome, state) in [
        (1, Outcome::Duplicate, State::Succeeded),
        (2, Outcome::Expired, State::Dead),
        (3, Outcome::Crashed, State::Dead),
    ] {
        let settled = log.settle(vec![settlement(delivery(seq, "mail", 0), outcome, state)]).await.unwrap();
        assert_eq!(settled, Settled::Committed, "{outcome:?}");
    }
    let made = log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap();
    assert_eq!(made, [delivery(2, "mail", 1), delivery(3, "mail", 1)]);
}

pub(crate) async fn a_pause_is_kept<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = with_events(&mut subject, 1).await;
    let mail = consumer("mail");
    drain(&mut feed);
    assert!(!log.pause(mail.clone(), false).await.unwrap());
    assert!(log.pause(mail.clone(), true).await.unwrap());
    assert!(!log.pause(mail.clone(), true).await.unwrap());
    let commits = drain(&mut feed);
    assert!(matches!(commits.as_slice(), [Commit::Paused(name, true)] if *name == mail), "{commits:?}");
    subject.crash(log);
    let (log, mut feed) = subject.open();
    assert!(log.recover(mail.clone()).await.unwrap().paused);
    assert!(!log.recover(consumer("index")).await.unwrap().paused);
    assert!(log.pause(mail.clone(), false).await.unwrap());
    assert!(!log.recover(mail).await.unwrap().paused);
    assert!(matches!(drain(&mut feed).as_slice(), [Commit::Paused(_, false)]));
}

pub(crate) async fn crashes_are_counted<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = with_events(&mut subject, 3).await;
    let mail = consumer("mail");
    assert_eq!(log.recover(mail.clone()).await.unwrap().careful_to, 0, "nothing has crashed yet");
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(log.recover(mail.clone()).await.unwrap().careful_to, 3);
    let (one, two) = (delivery(1, "mail", 0), delivery(2, "mail", 0));
    log.append(vec![event("4", "a")]).await.unwrap();
    log.claim(one.clone()).await.unwrap();
    log.claim(one.clone()).await.unwrap();
    log.claim(two.clone()).await.unwrap();
    let second = Settlement { claimed: true, ..done(2, "mail") };
    assert_eq!(log.settle(vec![second]).await.unwrap(), Settled::Committed);
    subject.crash(log);
    let (log, _feed) = subject.open();
    let recovery = log.recover(mail.clone()).await.unwrap();
    assert_eq!((recovery.careful_to, recovery.crashes), (4, vec![(one.clone(), 2)]));
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(log.recover(mail.clone()).await.unwrap().crashes, [(one.clone(), 2)], "it was not in hand");
    log.claim(one.clone()).await.unwrap();
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(log.recover(mail.clone()).await.unwrap().crashes, [(one.clone(), 3)]);
    assert!(log.recover(consumer("index")).await.unwrap().crashes.is_empty());
    log.claim(one).await.unwrap();
    subject.stop(log).await;
    let (log, _feed) = subject.open();
    let recovery = log.recover(mail).await.unwrap();
    assert_eq!((recovery.careful_to, recovery.crashes), (0, Vec::new()), "it ended cleanly");
}

pub(crate) async fn a_new_consumer_begins_where_it_is_told<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    activate(&*log, "one", &[("old", &["a"])]).await;
    log.append((1..=3).map(|n| event(&n.to_string(), "a")).collect()).await.unwrap();
    let time = log.read(0, 9).await.unwrap().last().unwrap().accepted_at.plus(Duration::from_micros(1));
    let all = ["old", "start", "two", "past", "future", "far", "end"];
    let mut of: Vec<(&str, &[&str])> = all.iter().map(|name| (*name, &["a"][..])).collect();
    let from = [
        ("old", StartFrom::Start),
        ("start", StartFrom::Start),
        ("two", StartFrom::Sequence(2)),
        ("past", StartFrom::Time(Timestamp(0))),
        ("future", StartFrom::Time(time)),
        ("far", StartFrom::Sequence(9)),
    ];
    let activation = |digest: &str, of: &[(&str, &[&str])]| Activation {
        digest: Digest::of(digest.as_bytes()),
        subscriptions: subscriptions(of),
        from: from.iter().map(|(name, start)| (consumer(name), *start)).collect(),
    };
    log.activate(activation("two", &of)).await.unwrap();
    log.append(vec![event("4", "a")]).await.unwrap();
    // The next deployment says the same of where they begin, and something else of what they are for.
    of.iter_mut().for_each(|(_, patterns)| *patterns = &["b"]);
    log.activate(activation("three", &of)).await.unwrap();
    subject.crash(log);
    let (log, _feed) = subject.open();
    let mut shown = Vec::new();
    for name in all {
        let recovery = log.recover(consumer(name)).await.unwrap();
        let froms: Vec<Seq> = recovery.timeline.iter().map(|(from, _)| *from).collect();
        shown.push((name, recovery.position, froms));
    }
    assert_eq!(
        shown,
        [
            ("old", 0, vec![1, 5]),
            ("start", 0, vec![1, 5]),
            ("two", 1, vec![2, 5]),
            ("past", 0, vec![1, 5]),
            ("future", 3, vec![4, 5]),
            ("far", 8, vec![9]),
            ("end", 3, vec![4, 5]),
        ]
    );
}

pub(crate) async fn conditions_are_part_of_a_timeline<S: Subject>() {
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    let mut of = subscriptions(&[("mail", &["a", "b"])]);
    let condition = Expression::parse("data.total").unwrap();
    of[0].1[0].condition = Some(condition);
    let expected = of[0].1.clone();
    let activation = Activation { digest: Digest::of(b"one"), subscriptions: of, from: Vec::new() };
    log.activate(activation).await.unwrap();
    subject.crash(log);
    let (log, _feed) = subject.open();
    let timeline = log.recover(consumer("mail")).await.unwrap().timeline;
    assert_eq!(timeline, [(1, expected)]);
}
