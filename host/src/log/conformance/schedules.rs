//! Each slot of a schedule fires once.

use super::*;
use crate::log::schedules::ScheduleLog;

fn rules(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(name, rule)| ((*name).to_owned(), (*rule).to_owned())).collect()
}

pub(crate) async fn a_slot_fires_once<S: Subject>()
where
    S::Log: ScheduleLog,
{
    let mut subject = S::new();
    let (log, mut feed) = subject.open();
    let plan = rules(&[("daily", "0 3 * * *"), ("hourly", "0 * * * *")]);
    assert_eq!(log.plan(plan.clone(), Timestamp(100)).await.unwrap(), [Timestamp(100); 2]);
    assert_eq!(log.plan(plan.clone(), Timestamp(500)).await.unwrap(), [Timestamp(100); 2], "not new any more");
    let fire = |slot: i64, id: &str| log.fire("daily".into(), Timestamp(slot), event(id, "report.requested"));
    assert!(!fire(100, "early").await.unwrap(), "over already");
    assert!(fire(200, "200").await.unwrap());
    assert!(!fire(200, "again").await.unwrap());
    assert!(!fire(150, "before").await.unwrap(), "a clock that was set back");
    assert!(!log.fire("nobody".into(), Timestamp(200), event("nobody", "a")).await.unwrap(), "not planned");
    assert_eq!(event_seqs(&drain(&mut feed)), [1]);
    // Noted, and nothing appended: what has this id was emitted before.
    assert!(!fire(250, "200").await.unwrap());
    assert_eq!(log.plan(plan, Timestamp(900)).await.unwrap(), [Timestamp(250), Timestamp(100)]);
}

pub(crate) async fn slots_are_remembered_and_forgotten<S: Subject>()
where
    S::Log: ScheduleLog,
{
    let mut subject = S::new();
    let (log, _feed) = subject.open();
    let both = rules(&[("daily", "0 3 * * *"), ("hourly", "0 * * * *")]);
    log.plan(both.clone(), Timestamp(100)).await.unwrap();
    assert!(log.fire("daily".into(), Timestamp(200), event("1", "a")).await.unwrap());
    subject.crash(log);
    let (log, _feed) = subject.open();
    assert!(!log.fire("daily".into(), Timestamp(200), event("2", "a")).await.unwrap(), "fired before the crash");
    assert_eq!(log.plan(both.clone(), Timestamp(300)).await.unwrap(), [Timestamp(200), Timestamp(100)]);
    // Another rule is another schedule, and so is one that was gone.
    let other = rules(&[("daily", "0 4 * * *")]);
    assert_eq!(log.plan(other, Timestamp(400)).await.unwrap(), [Timestamp(400)]);
    assert_eq!(log.plan(both, Timestamp(500)).await.unwrap(), [Timestamp(500); 2]);
}
