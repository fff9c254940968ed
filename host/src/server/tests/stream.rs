//! `GET /stream`: what is shown, resumed, filtered and ended.

use axum::body::Body;
use http_body_util::BodyExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::support::{Fixture, request};
use crate::model::record::OutcomeRecord;
use crate::model::{ConsumerName, Generation, Outcome, Timestamp};
use crate::server::app::Wire;
use crate::server::framing::Framing;
use crate::server::{Live, Reloaded};

struct Follow(Body);

impl Follow {
    async fn new(fixture: &Fixture, path: &str, headers: &[(&str, &str)]) -> Self {
        let wire = Wire { framing: Framing::Clear, local: None };
        let response = fixture.app.handle(request("GET", path, headers, ""), wire).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut follow = Self(response.into_body());
        assert!(follow.next().await.unwrap().starts_with("retry: "));
        follow
    }

    async fn next(&mut self) -> Option<String> {
        let frame = self.0.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }
}

async fn publish(fixture: &Fixture, id: &str, event_type: &str) {
    let event = format!("{{\"id\":\"{id}\",\"type\":\"{event_type}\",\"source\":\"/s\",\"data\":[1,\r\n2]}}");
    assert_eq!(fixture.post("/events", "application/json", event).await.status, 202);
    let event = fixture.log.events.lock().unwrap().last().cloned().unwrap();
    fixture.live.send(Live::Event(event)).ok();
}

fn outcome(consumer: &str) -> OutcomeRecord {
    OutcomeRecord {
        sequence: 1,
        event_id: "a".into(),
        event_type: "order.created".into(),
        consumer: ConsumerName::new(consumer).unwrap(),
        round: 0,
        origin: None,
        call: 1,
        attempt: 1,
        outcome: Outcome::Done,
        state: "succeeded".into(),
        reason: None,
        started_at: Timestamp(0),
        duration_ms: 1.0,
        fuel: 1,
        memory_peak: 1,
        published: 0,
        generation: Generation(1),
        component: String::new(),
        output: None,
        logs: Vec::new(),
        logs_dropped: 0,
    }
}

#[tokio::test]
async fn what_happens_is_shown_in_order() {
    let fixture = Fixture::new();
    let mut follow = Follow::new(&fixture, "/stream", &[]).await;
    publish(&fixture, "a", "order.created").await;
    fixture.live.send(Live::Outcome(outcome("mailer"))).unwrap();
    fixture.live.send(Live::Reloaded(Reloaded { generation: Generation(2), changes: Vec::new() })).unwrap();
    let event = follow.next().await.unwrap();
    assert!(event.starts_with("event: event\nid: 1\ndata: {") && event.ends_with("2]}\n\n"), "{event:?}");
    assert!(!event.contains('\r') && event.lines().filter(|l| !l.is_empty()).all(|l| l.contains(": ")), "{event:?}");
    assert!(follow.next().await.unwrap().starts_with("event: outcome\ndata: {\"sequence\":1,"));
    assert_eq!(follow.next().await.unwrap(), "event: reloaded\ndata: {\"generation\":2,\"changes\":[]}\n\n");
}

#[tokio::test]
async fn a_client_that_comes_back_misses_no_event() {
    let fixture = Fixture::new();
    for n in 1..=300 {
        publish(&fixture, &n.to_string(), "order.created").await;
    }
    let mut follow = Follow::new(&fixture, "/stream?after=7", &[("last-event-id", "2")]).await;
    // More than the channel holds, so that the follower is lapped while it catches up.
    for n in 301..=340 {
        publish(&fixture, &n.to_string(), "order.created").await;
    }
    let mut expected = 3;
    while expected <= 340 {
        let frame = follow.next().await.unwrap();
        if frame.starts_with("event: missed") {
            continue;
        }
        assert!(frame.starts_with(&format!("event: event\nid: {expected}\n")), "{frame}");
        expected += 1;
    }
}

#[tokio::test]
async fn a_client_that_is_lapped_reads_what_it_missed() {
    let fixture = Fixture::new();
    let mut follow = Follow::new(&fixture, "/stream", &[]).await;
    publish(&fixture, "1", "order.created").await;
    assert!(follow.next().await.unwrap().contains("\nid: 1\n"));
    // The channel holds sixteen.
    for n in 2..=60 {
        publish(&fixture, &n.to_string(), "order.created").await;
    }
    assert_eq!(follow.next().await.unwrap(), "event: missed\ndata: {\"count\":43}\n\n");
    for n in 2..=60 {
        let frame = follow.next().await.unwrap();
        assert!(frame.starts_with(&format!("event: event\nid: {n}\n")), "{frame}");
    }
}

#[tokio::test]
async fn filters_hold() {
    let fixture = Fixture::new();
    let mut by_type = Follow::new(&fixture, "/stream?type=order.*", &[]).await;
    let mut by_consumer = Follow::new(&fixture, "/stream?consumer=mailer", &[]).await;
    publish(&fixture, "a", "payment.settled").await;
    publish(&fixture, "b", "order.created").await;
    fixture.live.send(Live::Outcome(outcome("index"))).unwrap();
    fixture.live.send(Live::Outcome(outcome("mailer"))).unwrap();
    assert!(by_type.next().await.unwrap().contains("\nid: 2\n"));
    assert!(by_consumer.next().await.unwrap().contains("\"consumer\":\"mailer\""));
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_and_a_stop_ends_it() {
    let fixture = Fixture::new();
    let mut follow = Follow::new(&fixture, "/stream", &[]).await;
    let heart = tokio::time::timeout(Duration::from_secs(16), follow.next()).await.unwrap();
    assert_eq!(heart.unwrap(), ": alive\n\n");
    fixture.stop.send(true).unwrap();
    assert_eq!(follow.next().await, None);
    drop(Arc::clone(&fixture.app));
}

#[tokio::test]
async fn an_event_too_large_to_be_kept_is_read_from_the_log() {
    let fixture = Fixture::new();
    publish(&fixture, "before", "order.created").await;
    let mut follow = Follow::new(&fixture, "/stream", &[]).await;
    let event = "{\"id\":\"large\",\"type\":\"order.created\",\"source\":\"/s\"}";
    assert_eq!(fixture.post("/events", "application/json", event).await.status, 202);
    fixture.live.send(Live::Large(2)).unwrap();
    publish(&fixture, "after", "order.created").await;
    for id in ["large", "after"] {
        let frame = follow.next().await.unwrap();
        assert!(frame.contains(&format!("\"id\":\"{id}\"")), "{frame}");
    }
}

#[tokio::test]
async fn followers_are_so_many_and_no_more() {
    let fixture = Fixture::new();
    let mut follows = Vec::new();
    for _ in 0..128 {
        follows.push(Follow::new(&fixture, "/stream", &[]).await);
    }
    fixture.get("/stream").await.problem(429, "busy");
    follows.pop();
    follows.push(Follow::new(&fixture, "/stream", &[]).await);
}
