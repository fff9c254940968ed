//! `POST /events` and the other routes, through everything but the connection.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;

use super::support::{ALL_SETTLED, Fixture, NOW, request};
use crate::log::{DeadDecision, Error};
use crate::model::Payload;

const ONE: &str = r#"{"id":"a","type":"order.created","source":"/shop","data":{"n": 1}}"#;

#[tokio::test]
async fn one_event_is_accepted_completed_and_kept_as_it_came() {
    let fixture = Fixture::new();
    let answer = fixture.post("/events", "application/json; charset=utf-8", ONE).await;
    assert_eq!(answer.status, 202);
    let expected =
        json!({ "accepted": 1, "duplicates": 0, "events": [{ "id": "a", "sequence": 1, "duplicate": false }] });
    assert_eq!(answer.json(), expected);
    let event = &fixture.log.envelopes()[0];
    assert_eq!((event.correlation_id.as_str(), event.data_version.as_str(), event.timestamp), ("a", "1.0.0", NOW));
    let payload = Payload { content_type: "application/json".into(), data: Bytes::from_static(br#"{"n": 1}"#) };
    assert_eq!(event.payload, Some(payload));
    let again = fixture.post("/events", "application/json", ONE).await.json();
    assert_eq!(
        (&again["accepted"], &again["duplicates"], &again["events"][0]["sequence"]),
        (&json!(0), &json!(1), &json!(1))
    );
    let other = ONE.replace("1}", "2}");
    let conflict = fixture.post("/events", "application/json", other).await.problem(409, "id-conflict");
    assert_eq!(conflict["sequence"], 1);
}

#[tokio::test]
async fn a_batch_is_accepted_whole_or_not_at_all() {
    let fixture = Fixture::new();
    let event = |id: &str| json!({ "id": id, "type": "order.created", "source": "/shop" });
    let bad = json!([event("a"), { "id": "b", "source": "/shop" }]).to_string();
    let problem = fixture.post("/events", "application/json", bad).await.problem(400, "malformed-event");
    assert_eq!((&problem["index"], &problem["errors"][0]["pointer"]), (&json!(1), &json!("#/1")));
    let typo = r#"{"type":"a.b","source":"/s","tpye":1}"#;
    let problem = fixture.post("/events", "application/json", typo).await.problem(400, "malformed-event");
    assert!(
        problem["detail"].as_str().unwrap().ends_with(r#"did you mean "type"? Nothing was accepted."#),
        "{problem}"
    );
    assert!(fixture.log.envelopes().is_empty());
    let good = json!([event("a"), event("b"), event("a")]).to_string();
    let answer = fixture.post("/events", "application/json", format!(" \n{good}")).await.json();
    assert_eq!((&answer["accepted"], &answer["duplicates"]), (&json!(2), &json!(1)));
    assert_eq!(fixture.post("/events", "application/cloudevents-batch+json", "[]").await.status, 202);
}

#[tokio::test]
async fn a_payload_may_have_exactly_as_many_bytes_as_are_allowed() {
    let fixture = Fixture::new();
    let event =
        |size: usize| format!(r#"{{"type":"order.created","source":"/shop","data":"{}"}}"#, "x".repeat(size - 2));
    assert_eq!(fixture.post("/events", "application/json", event(1 << 20)).await.status, 202);
    fixture.post("/events", "application/json", event((1 << 20) + 1)).await.problem(413, "too-large");
    let headers = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "a.b")];
    let binary = |size: usize| request("POST", "/events", &headers, vec![0_u8; size]);
    assert_eq!(fixture.send(binary(1 << 20)).await.status, 202);
    fixture.send(binary((1 << 20) + 1)).await.problem(413, "too-large");
    fixture.post("/events", "application/json", vec![b' '; (8 << 20) + 1]).await.problem(413, "too-large");
    assert_eq!(fixture.log.envelopes().len(), 2);
}

#[tokio::test]
async fn odd_json_is_refused_or_kept_never_parsed() {
    let fixture = Fixture::new();
    let deep = "[".repeat(400_000) + &"]".repeat(400_000);
    let event = format!(r#"{{"type":"a.b","source":"/s","data":{deep}}}"#);
    assert_eq!(fixture.post("/events", "application/json", event).await.status, 202);
    assert_eq!(fixture.log.envelopes()[0].payload.as_ref().unwrap().data, deep.as_bytes());
    let shown = crate::server::event::show::record(&fixture.log.events.lock().unwrap()[0]);
    assert_eq!(shown.data.unwrap().get(), deep);
    for bad in [
        &b"{\"type\":\"a.b\",\"source\":\"/s\",\"data\":\"\xff\"}"[..],
        b"",
        b"[",
        b"[[[[",
        b"null",
        b"{\"type\":\"a.b\"",
        b"{\"type\":\"a.b\",\"type\":\"a.c\",\"source\":\"/s\"}",
        b"{\"type\":\"a.b\",\"source\":\"/s\",\"data\":1e}",
        "[".repeat(1_000_000).as_bytes(),
    ] {
        fixture.post("/events", "application/json", bad.to_vec()).await.problem(400, "malformed-event");
    }
}

#[tokio::test]
async fn declared_types_are_held_against_their_schema() {
    let fixture = Fixture::new();
    let event = |data: &str| format!(r#"{{"type":"order.checked","source":"/s","data":{data}}}"#);
    assert_eq!(fixture.post("/events", "application/json", event(r#"{"total":1}"#)).await.status, 202);
    assert_eq!(fixture.log.envelopes()[0].data_version, "1.2.0");
    let problem =
        fixture.post("/events", "application/json", event(r#"{"total":-1}"#)).await.problem(422, "schema-violation");
    assert_eq!(problem["errors"][0]["pointer"], "#/data/total");
    let batch = format!("[{},{}]", event(r#"{"total":1}"#), event("{}"));
    let problem = fixture.post("/events", "application/json", batch).await.problem(422, "schema-violation");
    assert_eq!((&problem["index"], &problem["errors"][0]["pointer"]), (&json!(1), &json!("#/1/data")));
    let missing = r#"{"type":"order.checked","source":"/s"}"#;
    fixture.post("/events", "application/json", missing).await.problem(422, "schema-violation");
    assert_eq!(fixture.log.envelopes().len(), 1);
}

fn parts(parts: &[&str]) -> Body {
    let parts: Vec<Result<Bytes, std::io::Error>> =
        parts.iter().map(|part| Ok(Bytes::copy_from_slice(part.as_bytes()))).collect();
    Body::from_stream(stream::iter(parts))
}

fn line(id: &str) -> String {
    json!({ "id": id, "type": "order.created", "source": "/shop" }).to_string()
}

#[tokio::test]
async fn a_stream_of_lines_is_appended_as_it_comes() {
    let fixture = Fixture::new();
    let (a, b, c) = (line("a"), line("b"), line("c"));
    let (head, tail) = b.split_at(10);
    let body = parts(&[&format!("{a}\r\n\n{head}"), &format!("{tail}\n{a}\n"), &c]);
    let answer = fixture.post("/events", "application/x-ndjson", body).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json(), json!({ "accepted": 3, "duplicates": 1, "lines": 5, "lastSequence": 3 }));
    assert_eq!(*fixture.log.groups.lock().unwrap(), [1, 2, 1]);
    let many: String = (0..1_200).map(|n| line(&format!("n{n}")) + "\n").collect();
    assert_eq!(fixture.post("/events", "application/x-ndjson", many).await.json()["accepted"], 1_200);
    assert!(fixture.log.groups.lock().unwrap().iter().all(|group| *group <= 512));
}

#[tokio::test]
async fn a_stream_ends_at_its_first_bad_line_and_says_which() {
    let fixture = Fixture::new();
    let body = format!("{}\n{}\n{{\"type\":\"a\"}}\n{}\n", line("a"), line("b"), line("c"));
    let problem = fixture.post("/events", "application/x-ndjson", body).await.problem(400, "malformed-event");
    assert_eq!((&problem["line"], &problem["accepted"], &problem["duplicates"]), (&json!(3), &json!(2), &json!(0)));
    assert!(!problem["detail"].as_str().unwrap().contains("Nothing was accepted"), "{problem}");
    let taken = line("b").replace("created", "cancelled");
    let body = format!("{}\n{taken}\n{}\n", line("c"), line("d"));
    let problem = fixture.post("/events", "application/x-ndjson", body).await.problem(409, "id-conflict");
    assert_eq!((&problem["line"], &problem["accepted"]), (&json!(2), &json!(1)));
    let ids: Vec<String> = fixture.log.envelopes().into_iter().map(|event| event.id).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let schema = format!("{}\n{{\"type\":\"order.checked\",\"source\":\"/s\",\"data\":{{}}}}\n", line("e"));
    let problem = fixture.post("/events", "application/x-ndjson", schema).await.problem(422, "schema-violation");
    assert_eq!((&problem["line"], &problem["accepted"]), (&json!(2), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_a_busy_log() {
    let fixture = Fixture::new();
    fixture.log.refusals.lock().unwrap().extend([Error::Busy, Error::Busy]);
    assert_eq!(fixture.post("/events", "application/x-ndjson", line("a")).await.json()["accepted"], 1);
}

#[tokio::test]
async fn what_the_log_refuses_is_told_apart() {
    let fixture = Fixture::new();
    for (error, status, kind, retry) in [
        (Error::Busy, 429, "busy", true),
        (Error::Full, 503, "disk-full", true),
        (Error::Failed("secret".into()), 503, "log-failed", true),
        (Error::Closed, 503, "stopping", true),
    ] {
        fixture.log.refusals.lock().unwrap().push(error);
        let answer = fixture.post("/events", "application/json", ONE).await;
        let problem = answer.problem(status, kind);
        assert!(!problem.to_string().contains("secret"));
        assert_eq!(!answer.header("retry-after").is_empty(), retry);
    }
}

#[tokio::test]
async fn formats_are_told_by_their_content_type() {
    let fixture = Fixture::new();
    let cloud = r#"{"specversion":"1.0","id":"1","source":"/s","type":"a.b"}"#;
    for (content_type, body, status) in [
        ("application/cloudevents+json", cloud, 202),
        ("APPLICATION/CloudEvents+JSON; charset=UTF-8", cloud, 202),
        ("application/cloudevents", cloud, 415),
        ("application/cloudevents+avro", cloud, 415),
        ("application/cloudevents-batch+xml", "[]", 415),
        ("application/cloudevents+json; charset=utf-16", cloud, 415),
        ("text/plain", "x", 415),
        ("application/x-www-form-urlencoded", "a=b", 415),
        ("multipart/form-data", "x", 415),
        ("", ONE, 415),
    ] {
        let answer = fixture.post("/events", content_type, body).await;
        assert_eq!(answer.status.as_u16(), status, "{content_type}: {}", answer.text());
    }
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "2"),
        ("ce-source", "/s"),
        ("ce-type", "a.b"),
        ("content-type", "text/plain"),
    ];
    assert_eq!(fixture.send(request("POST", "/events", &headers, "<script>")).await.status, 202);
    let twice = [("content-type", "application/json"), ("content-type", "text/plain")];
    fixture.send(request("POST", "/events", &twice, ONE)).await.problem(400, "malformed-request");
}

#[tokio::test]
async fn unknown_paths_methods_and_parameters_are_named() {
    let fixture = Fixture::new();
    fixture.get("/nothing").await.problem(404, "not-found");
    fixture.get("/events/").await.problem(404, "not-found");
    fixture.get("/events/7").await.problem(404, "not-found");
    fixture.get("/dead-letters/x/y").await.problem(404, "not-found");
    let answer = fixture.send(request("DELETE", "/events", &[], "")).await;
    answer.problem(405, "method-not-allowed");
    assert_eq!(answer.header("allow"), "GET, HEAD, POST");
    for path in [
        "/events?tpye=x",
        "/outcomes?limit=x",
        "/dead-letters?after=-1",
        "/stats?x",
        "/events?limit=0",
        "/events?type=a..b",
        "/consumers?x=1",
        "/state/mailer?prefixx=1",
        "/livez?x=1",
        "/wait?through=x",
        "/wait?timeout=x",
        "/stream?x=1",
    ] {
        fixture.get(path).await.problem(400, "unknown-parameter");
    }
    let problem = fixture.get("/events?tpye=x").await.json();
    assert!(problem["detail"].as_str().unwrap().contains("tpye"), "{problem}");
    fixture.send(request("GET", "/events", &[("accept", "text/html")], "")).await.problem(406, "not-acceptable");
}

#[tokio::test]
async fn answers_follow_accept() {
    let fixture = Fixture::new();
    for (accept, expected) in [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/cloudevents-batch+json", "application/cloudevents-batch+json"),
        ("application/json;q=0.5, application/cloudevents-batch+json", "application/cloudevents-batch+json"),
        ("application/json, */*;q=0.1", "application/json"),
    ] {
        let headers: &[(&str, &str)] = if accept.is_empty() { &[] } else { &[("accept", accept)] };
        let answer = fixture.send(request("GET", "/events", headers, "")).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, expected), "{accept}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
    }
    let prometheus = fixture.get("/metrics").await;
    assert_eq!(prometheus.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for _ in 0..2 {
        fixture.post("/events", "application/json", ONE).await;
    }
    let accept = [("accept", "application/openmetrics-text;version=1.0.0;q=0.9,text/plain;q=0.5")];
    let open = fixture.send(request("GET", "/metrics", &accept, "")).await;
    assert!(open.header("content-type").starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(open.text().contains("\ntidegate_events_duplicate_total 1\n") && open.text().ends_with("# EOF\n"));
}

#[tokio::test]
async fn dead_letters_are_decided_by_selection() {
    let fixture = Fixture::new();
    let body = json!({ "ids": ["7/mailer", "8/mailer/2"] }).to_string();
    let answer = fixture.post("/dead-letters/redrive", "application/json", body).await;
    assert_eq!(answer.json(), json!({ "count": 2, "deliveries": ["7/mailer", "8/mailer/2"] }));
    let body =
        json!({ "consumer": "mailer", "cause": "attempts-exhausted", "since": "2026-01-01T00:00:00Z" }).to_string();
    assert_eq!(fixture.post("/dead-letters/discard", "application/json", body).await.status, 200);
    let decided = fixture.log.decided.lock().unwrap().clone();
    assert_eq!((decided[0].1, decided[0].0.ids.len()), (DeadDecision::Redrive, 2));
    assert_eq!((decided[1].1, decided[1].0.since), (DeadDecision::Discard, Some(NOW)));
    for bad in ["", "{}", "[]", r#"{"ids":["x"]}"#, r#"{"consumr":"a"}"#, r#"{"all":true,"consumer":"a"}"#] {
        fixture.post("/dead-letters/discard", "application/json", bad).await.problem(400, "malformed-request");
    }
    let form = fixture.post("/dead-letters/discard", "text/plain", r#"{"all":true}"#).await;
    form.problem(415, "unsupported-media-type");
    assert_eq!(fixture.log.decided.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_reload_says_what_changed_or_why_not() {
    let fixture = Fixture::new();
    let answer = fixture.post("/reload", "application/json", "").await;
    assert_eq!(answer.json(), json!({ "generation": 2, "changes": ["added mailer"] }));
    *fixture.control.refuse_reload.lock().unwrap() = true;
    let problem = fixture.post("/reload", "application/json", "").await.problem(422, "reload-refused");
    assert_eq!(problem["diagnostics"][0]["code"], "unknown-key");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_all_is_settled_or_the_time_is_up() {
    let fixture = Fixture::new();
    let problem = fixture.get("/wait?through=7&timeout=250ms").await.problem(408, "not-settled");
    assert_eq!(problem["through"], 7);
    *fixture.control.settles.lock().unwrap() = true;
    assert_eq!(fixture.get("/wait?through=7").await.json(), json!({ "settled": true, "through": 7 }));
    assert_eq!(fixture.get("/wait?through=now&timeout=5s").await.status, 200);
    assert_eq!(fixture.get("/wait?through=all").await.json(), json!({ "settled": true, "through": ALL_SETTLED }));
}
