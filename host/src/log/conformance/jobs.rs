//! Jobs: events with a delivery of their own.

use super::{NOW, Subject, activate, consumer, delivery, done, drain, event, event_seqs, settlement};
use crate::log::{Appended, Commit, DeadDecision, DeadSelection, Error, EventLog, Settled, Settlement, Waiting};
use crate::model::delivery::DeathCause;
use crate::model::pipeline::errand::Errand;
use crate::model::replay::{ReplaySpec, ReplayStep};
use crate::model::retry::RetryPolicy;
use crate::model::{Envelope, Job, Outcome, Priority, Seq, State, Timestamp};

fn own_retry() -> RetryPolicy {
    RetryPolicy { attempts: 9, factor: 1.5, ..RetryPolicy::default() }
}

fn job(id: &str, to: &str, priority: Priority) -> Envelope {
    Envelope { job: Some(Job { priority, ..Job::to(consumer(to)) }), ..event(id, "mail.requested") }
}

fn retried(mut event: Envelope) -> Envelope {
    event.job.as_mut().unwrap().retry = Some(own_retry());
    event
}

async fn waiting(log: &impl EventLog, name: &str, priority: Priority) -> Vec<Waiting> {
    log.waiting(consumer(name), priority, None, 100).await.unwrap()
}

fn seqs(waiting: &[Waiting]) -> Vec<Seq> {
    waiting.iter().map(|waiting| waiting.id.seq).collect()
}

/// Deliveries that commits told of as made.
fn made(commits: &[Commit]) -> Vec<Waiting> {
    let made = commits.iter().filter_map(|commit| if let Commit::Redriven(made) = commit { Some(made) } else { None });
    made.flatten().cloned().collect()
}

pub(crate) async fn a_job_is_kept_with_its_delivery<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    activate(log.as_ref(), "one", &[("mail", &["**"]), ("audit", &["**"])]).await;
    drain(&mut feed);
    let later = NOW.plus(std::time::Duration::from_secs(1_000_000_000));
    let events = vec![
        event("e-1", "mail.requested"),
        job("j-2", "mail", Priority::High),
        retried(job("j-3", "mail", Priority::Low)),
        Envelope { not_before: Some(later), ..job("j-4", "mail", Priority::Low) },
        job("j-5", "audit", Priority::Normal),
    ];
    log.append(events.clone()).await.unwrap();
    let commits = drain(&mut feed);
    assert_eq!(event_seqs(&commits), [1, 2, 3, 4, 5]);
    let told = made(&commits);
    assert_eq!(seqs(&told), [2, 3, 4, 5]);
    subject.crash(log);

    let (log, _feed) = subject.open();
    let read = log.read(0, 10).await.unwrap();
    assert!(read.iter().map(|event| &event.envelope).eq(&events), "{read:?}");
    let of = |one: &Waiting| (one.priority, one.errand, one.id.round, one.key.clone(), one.blocked);
    let high = waiting(log.as_ref(), "mail", Priority::High).await;
    assert_eq!(high, told[..1]);
    assert_eq!(of(&high[0]), (Priority::High, false, 0, None, false));
    assert_eq!(high[0].delivery.state, State::Pending { due_at: read[1].accepted_at });
    let low = waiting(log.as_ref(), "mail", Priority::Low).await;
    assert_eq!(low, told[1..3]);
    assert_eq!(of(&low[0]), (Priority::Low, true, 0, None, false));
    assert_eq!(low[1].delivery.state, State::Pending { due_at: later });
    assert!(waiting(log.as_ref(), "mail", Priority::Normal).await.is_empty());
    assert_eq!(waiting(log.as_ref(), "audit", Priority::Normal).await, told[3..]);
    // What waits is not left for the subscriptions, which match it as little as before the crash.
    assert_eq!(log.recover(consumer("mail")).await.unwrap().settled, [2, 3, 4]);
    assert_eq!(log.errand(low[0].id.clone()).await.unwrap(), Some(own()));
}

fn own() -> Errand {
    Errand { retry: Some(own_retry()), ..Errand::default() }
}

pub(crate) async fn a_job_is_a_statement_of_its_own<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    log.append(vec![retried(job("j", "mail", Priority::High))]).await.unwrap();
    drain(&mut feed);
    let again = log.append(vec![retried(job("j", "mail", Priority::High))]).await.unwrap();
    assert_eq!(again, [Appended { seq: 1, duplicate: true }]);
    for other in [
        event("j", "mail.requested"),
        job("j", "mail", Priority::High),
        retried(job("j", "audit", Priority::High)),
        retried(job("j", "mail", Priority::Low)),
    ] {
        let refused = log.append(vec![job("new", "mail", Priority::Low), other]).await;
        assert!(matches!(refused, Err(Error::Conflict { index: 1, seq: 1, .. })), "{refused:?}");
    }
    assert!(drain(&mut feed).is_empty(), "nothing of it is told");
    assert_eq!(waiting(log.as_ref(), "mail", Priority::High).await.len(), 1);
    assert!(waiting(log.as_ref(), "mail", Priority::Low).await.is_empty(), "nor kept");
}

pub(crate) async fn published_jobs_are_made_with_the_settlement<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    activate(log.as_ref(), "one", &[("mail", &["order.**"])]).await;
    log.append(vec![event("e", "order.created"), event("f", "order.created")]).await.unwrap();
    drain(&mut feed);
    let publishing = |seq| Settlement { events: vec![job("p", "audit", Priority::High)], ..done(seq, "mail") };
    let stale = Settlement { stored: true, ..publishing(1) };
    assert_eq!(log.settle(vec![stale]).await.unwrap(), Settled::Fenced);
    assert!(made(&drain(&mut feed)).is_empty());
    assert_eq!(log.settle(vec![publishing(1)]).await.unwrap(), Settled::Committed);
    assert_eq!(made(&drain(&mut feed)), waiting(log.as_ref(), "audit", Priority::High).await);
    // Said before.
    assert_eq!(log.settle(vec![publishing(2)]).await.unwrap(), Settled::Committed);
    assert!(made(&drain(&mut feed)).is_empty());
    assert_eq!(seqs(&waiting(log.as_ref(), "audit", Priority::High).await), [3]);
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert_eq!(seqs(&waiting(log.as_ref(), "audit", Priority::High).await), [3]);
}

pub(crate) async fn a_job_that_is_retried_keeps_its_priority_and_redriven_its_retry<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    activate(log.as_ref(), "one", &[("mail", &[])]).await;
    log.append(vec![retried(job("j", "mail", Priority::High))]).await.unwrap();
    let first = Settlement { stored: true, errand: true, ..done(1, "mail") };
    let due_at = Timestamp(5);
    let failed = settlement(delivery(1, "mail", 0), Outcome::Retry, State::Pending { due_at });
    let retry = Settlement { stored: true, errand: true, ..failed };
    assert_eq!(log.settle(vec![retry]).await.unwrap(), Settled::Committed);
    let [one] = &waiting(log.as_ref(), "mail", Priority::High).await[..] else { panic!("it waits") };
    assert_eq!((one.delivery.calls, one.errand), (1, true));
    let dead = settlement(delivery(1, "mail", 0), Outcome::Reject, State::Dead);
    let dead = Settlement { stored: true, errand: true, death: Some(DeathCause::Rejected), ..dead };
    assert_eq!(log.settle(vec![super::call(dead, 2)]).await.unwrap(), Settled::Committed);
    assert_eq!(log.errand(delivery(1, "mail", 0)).await.unwrap(), None, "it is over");
    drain(&mut feed);

    log.decide_dead(DeadSelection::default(), DeadDecision::Redrive).await.unwrap();
    let redriven = waiting(log.as_ref(), "mail", Priority::Normal).await;
    assert_eq!(redriven, made(&drain(&mut feed)));
    assert_eq!((redriven[0].id.round, redriven[0].errand), (1, true));
    assert_eq!(log.errand(delivery(1, "mail", 1)).await.unwrap(), Some(own()));
    assert_eq!(
        log.settle(vec![Settlement { delivery: delivery(1, "mail", 1), ..first }]).await.unwrap(),
        Settled::Committed
    );
    assert!(waiting(log.as_ref(), "mail", Priority::Normal).await.is_empty());
}

pub(crate) async fn a_replay_makes_nothing_of_a_job_that_waits<S: Subject>() {
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    activate(log.as_ref(), "one", &[("mail", &["**"])]).await;
    log.append(vec![job("j", "audit", Priority::Normal), job("k", "mail", Priority::Normal)]).await.unwrap();
    drain(&mut feed);
    let spec =
        ReplaySpec { from: 1, to: 2, event_type: None, key: None, correlation: None, consumer: None, rate: None };
    let id = log.start_replay(spec).await.unwrap();
    // Only what is under way is skipped: nobody subscribes to the first.
    let deliveries = vec![(1, consumer("mail")), (2, consumer("mail"))];
    let after = log.step_replay(ReplayStep { id, after: 0, through: 2, deliveries, room: 9 }).await.unwrap().unwrap();
    assert_eq!((after.made, after.skipped), (1, 1));
    assert_eq!(seqs(&made(&drain(&mut feed))), [1]);
}
