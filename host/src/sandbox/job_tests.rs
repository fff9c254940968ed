//! What a guest that gives jobs may do, and what becomes of them.

use std::time::Duration;

use super::testing::{self, all_grants, load, sandbox};
use super::{LoadError, Ungranted};
use crate::model::{ConsumerName, Grants, Job, Limits, Outcome, Priority, Report};

fn limits() -> Limits {
    Limits { timeout: Duration::from_secs(60), fuel: 100_000_000, ..Limits::default() }
}

fn worker() -> ConsumerName {
    ConsumerName::new("worker").unwrap()
}

async fn given(data: &str) -> Report {
    let sandbox = sandbox();
    let guest = load(&sandbox, "jobs", &testing::spec(limits(), all_grants())).await.unwrap();
    testing::run(&guest, data).await
}

#[tokio::test]
async fn jobs_are_held_back_like_published_events() {
    let report = given(
        r#"[{"to":"worker","type":"mail.requested","priority":"high"},{"to":"worker","type":"a.b","priority":"low","delayMs":50}]"#,
    )
    .await;
    assert_eq!(report.outcome, Outcome::Done, "{:?}", report.reason);
    let [first, second] = &report.published[..] else { panic!("{:?}", report.published) };
    let job = |priority| Some(Job { priority, ..Job::to(worker()) });
    assert_eq!((first.event_type.as_str(), &first.job), ("mail.requested", &job(Priority::High)));
    assert_eq!((second.event_type.as_str(), &second.job), ("a.b", &job(Priority::Low)));
    assert_eq!((first.depth, first.source.as_str(), first.not_before), (1, "/consumers/guest", None));
    assert!(second.not_before.is_some());
    let told: Vec<String> = serde_json::from_slice(&report.output.unwrap().data).unwrap();
    assert_eq!(told, [first.id.clone(), second.id.clone()], "and ids are as derived as theirs");
    assert_ne!(first.id, second.id);
}

#[tokio::test]
async fn a_job_needs_a_grant_that_names_its_consumer() {
    for (wanted, reason) in [
        (r#"[{"to":"mailer","type":"a.b"}]"#, "a job of type 'a.b' for 'mailer' is not granted"),
        (
            r#"[{"to":"worker","type":"tidegate.reloaded"}]"#,
            "a job of type 'tidegate.reloaded' for 'worker' is not granted",
        ),
    ] {
        let report = given(wanted).await;
        assert_eq!(report.outcome, Outcome::Refused, "{:?}", report.reason);
        assert!(report.reason.as_ref().unwrap().contains(reason), "{:?}", report.reason);
    }
    let sandbox = sandbox();
    let without = Grants { jobs: Vec::new(), ..all_grants() };
    match load(&sandbox, "jobs", &testing::spec(limits(), without)).await.unwrap_err() {
        LoadError::Imports { not_granted, .. } => {
            assert_eq!(not_granted, [Ungranted { import: "tidegate:consumer/jobs@0.1.0".into(), grant: "jobs" }]);
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn jobs_make_chains_no_longer_than_events_do() {
    let sandbox = sandbox();
    let short = Limits { chain_depth: 0, ..limits() };
    let guest = load(&sandbox, "jobs", &testing::spec(short, all_grants())).await.unwrap();
    let report = testing::run(&guest, r#"[{"to":"worker","type":"a.b"}]"#).await;
    assert_eq!(report.outcome, Outcome::Refused);
    assert!(report.reason.unwrap().contains("would make a chain of more than 0 events"));
}

#[tokio::test]
async fn an_attempt_causes_only_so_much() {
    let sandbox = sandbox();
    let roomy = Limits { fuel: 2_000_000_000, ..limits() };
    let guest = load(&sandbox, "jobs", &testing::spec(roomy, all_grants())).await.unwrap();
    let wanted = |count: usize| format!("[{}]", vec![r#"{"to":"worker","type":"a.b"}"#; count].join(","));
    let most = testing::run(&guest, &wanted(256)).await;
    assert_eq!((most.outcome, most.published.len()), (Outcome::Done, 256), "{:?}", most.reason);
    let more = testing::run(&guest, &wanted(257)).await;
    assert_eq!((more.outcome, more.published.len()), (Outcome::Refused, 0), "another attempt would want as much");
    let reason = more.reason.unwrap();
    assert!(reason.starts_with("an attempt publishes at most 256 events and jobs: publish one event that"), "{reason}");
}
