//! Replays, backups and pauses, as far as requests are read and refused; what they do is shown with a real database.

use super::support::{Fixture, request, server, token};
use crate::model::Payload;
use crate::model::pipeline::errand::Order;
use crate::model::spec::Scope;

const JSON: &str = "application/json";

#[tokio::test]
async fn a_backup_needs_a_token_though_none_is_configured() {
    let fixture = Fixture::new();
    let body = r#"{"path":"/nowhere/at/all/copy.db"}"#;
    fixture.post("/backups", JSON, body).await.problem(401, "unauthorized");
    let with = |token: &str, body: &'static str| {
        let authorization = format!("Bearer {token}");
        request("POST", "/backups", &[("content-type", JSON), ("authorization", &authorization)], body)
    };
    fixture.send(with("wrong", body)).await.problem(401, "unauthorized");
    let answer = fixture.send(with("boot-token", body)).await;
    assert_eq!((answer.status.as_u16(), answer.json()["status"].as_str()), (202, Some("copying")), "{}", answer.text());
    let mut spec = server();
    spec.tokens = vec![token("reader", "read-token", &[Scope::Read]), token("op", "operate-token", &[Scope::Operate])];
    let fixture = Fixture::of(spec);
    fixture.send(with("read-token", body)).await.problem(403, "forbidden");
    assert_eq!(fixture.send(with("operate-token", body)).await.status, 202);
    for wrong in [r#"{"path":"copy.db"}"#, r#"{"path":"/a","other":1}"#, "{}", "[]", ""] {
        fixture.send(with("operate-token", wrong)).await.problem(400, "malformed-request");
    }
}

#[tokio::test]
async fn one_backup_at_a_time() {
    let fixture = Fixture::new();
    let ask = || {
        let headers = [("content-type", JSON), ("authorization", "Bearer boot-token")];
        fixture.send(request("POST", "/backups", &headers, r#"{"path":"/nowhere/at/all/copy.db"}"#))
    };
    assert_eq!(ask().await.json()["id"], 1);
    // There is no such folder, so it fails; until then it is the one that runs.
    loop {
        let answer = fixture.get("/backups/1").await.json();
        if answer["status"] == "failed" {
            assert!(answer["error"].as_str().unwrap().contains("there is no folder"), "{answer}");
            break;
        }
        let busy = ask().await;
        if busy.status == 409 {
            assert_eq!(busy.problem(409, "backup-running")["backup"]["id"], 1);
        }
        tokio::task::yield_now().await;
    }
    // One that was asked for meanwhile may still run.
    while ask().await.status != 202 {
        tokio::task::yield_now().await;
    }
    assert!(fixture.get("/backups").await.json()["backups"].as_array().unwrap().len() >= 2);
    fixture.get("/backups/99").await.problem(404, "not-found");
}

#[tokio::test]
async fn replays_are_read_strictly() {
    let fixture = Fixture::new();
    for wrong in [
        r#"{"from":"yesterday"}"#,
        r#"{"from":-1}"#,
        r#"{"type":"a..b"}"#,
        r#"{"rate":"0/s"}"#,
        r#"{"consumer":"no name"}"#,
        r#"{"dryrun":true}"#,
        "[]",
    ] {
        fixture.post("/replays", JSON, wrong).await.problem(400, "malformed-request");
    }
    for unclear in ["{}", r#"{"dryRun":true}"#, r#"{"rate":"1/s"}"#, r#"{"all":true,"consumer":"a"}"#] {
        let refused = fixture.post("/replays", JSON, unclear).await.problem(400, "malformed-request");
        assert!(refused["detail"].as_str().unwrap().contains("or else \"all\": true"), "{unclear}: {refused}");
    }
    let refused = fixture.post("/replays", JSON, r#"{"from":"yesterday"}"#).await.problem(400, "malformed-request");
    assert!(refused["detail"].as_str().unwrap().contains("a sequence number, or a time"), "{refused}");
    fixture.post("/replays", "text/plain", "{}").await.problem(415, "unsupported-media-type");
    for chosen in [r#"{"from":5}"#, r#"{"all":true}"#] {
        let refused = fixture.post("/replays", JSON, chosen).await.problem(422, "replay-refused");
        assert!(refused["detail"].as_str().unwrap().contains("there is no event yet"), "{refused}");
    }
    assert!(fixture.log.replays.lock().unwrap().is_empty());
    for path in ["/replays/1", "/replays/x"] {
        fixture.get(path).await.problem(404, "not-found");
    }
    fixture.post("/replays/1/cancel", JSON, "").await.problem(404, "not-found");
}

#[tokio::test]
async fn consumers_that_are_not_there_are_named() {
    let fixture = Fixture::new();
    for path in ["/consumers/nobody/pause", "/consumers/nobody/resume", "/consumers/No!/pause"] {
        fixture.post(path, JSON, "").await.problem(404, "not-found");
    }
    fixture.get("/consumers/nobody").await.problem(404, "not-found");
    fixture.post("/consumers/nobody/release", JSON, r#"{"keys":["a"]}"#).await.problem(404, "not-found");
    for unclear in ["{}", r#"{"keys":["a"],"all":true}"#, r#"{"keys":[]}"#] {
        fixture.post("/consumers/nobody/release", JSON, unclear).await.problem(400, "malformed-request");
    }
}

#[tokio::test]
async fn orders_about_runs_are_read_and_their_refusals_told() {
    let fixture = Fixture::new();
    let done = fixture.post("/runs/1/fulfil/cancel", JSON, r#"{"reason":"a mistake"}"#).await;
    assert_eq!(done.json(), serde_json::json!({ "run": "1/fulfil", "status": "compensating" }), "{}", done.text());
    assert_eq!(fixture.post("/runs/1/fulfil/cancel", JSON, "").await.status, 200);
    assert_eq!(fixture.post("/runs/1/fulfil/steps/pay/retry", JSON, "").await.status, 200);
    assert_eq!(fixture.post("/runs/1/fulfil/steps/pay/resolve", JSON, "").await.status, 200);
    assert_eq!(fixture.post("/runs/1/fulfil/steps/pay/resolve", JSON, "{\"n\":  1}").await.status, 200);
    assert_eq!(fixture.post("/runs/1/fulfil/steps/pay/resolve", "text/plain", "paid").await.status, 200);
    let orders: Vec<Order> = fixture.log.orders.lock().unwrap().drain(..).map(|(_, order)| order).collect();
    let resolve = |output: Option<(&str, &'static str)>| Order::Resolve {
        step: "pay".into(),
        output: output.map(|(content_type, data)| Payload { content_type: content_type.into(), data: data.into() }),
    };
    assert_eq!(
        orders,
        [
            Order::Cancel { reason: "a mistake".into() },
            Order::Cancel { reason: "an operator has cancelled it".into() },
            Order::Retry { step: "pay".into() },
            resolve(None),
            resolve(Some((JSON, "{\"n\":  1}"))),
            resolve(Some(("text/plain", "paid"))),
        ]
    );
    let refused = fixture.post("/runs/2/fulfil/steps/pay/retry", JSON, "").await.problem(409, "run-refused");
    assert_eq!(
        (&refused["detail"], &refused["see"]),
        (&"The run has ended as completed.".into(), &"/runs/2/fulfil".into())
    );
    fixture.post("/runs/3/fulfil/steps/x/retry", JSON, "").await.problem(404, "not-found");
    for path in ["/runs/9/fulfil/cancel", "/runs/x/fulfil/cancel", "/runs/1/No!/cancel"] {
        fixture.post(path, JSON, "").await.problem(404, "not-found");
    }
    fixture.log.orders.lock().unwrap().clear();
    for wrong in ["{", r#"{"reason":1}"#, r#"{"because":1}"#] {
        fixture.post("/runs/1/fulfil/cancel", JSON, wrong).await.problem(400, "malformed-request");
    }
    fixture.post("/runs/1/fulfil/steps/pay/resolve", JSON, "paid").await.problem(400, "malformed-request");
    let long = format!("\"{}\"", "x".repeat(64 << 10));
    fixture.post("/runs/1/fulfil/steps/pay/resolve", JSON, long).await.problem(413, "too-large");
    assert!(fixture.log.orders.lock().unwrap().is_empty());
    for path in ["/runs/1/fulfil", "/runs/x/fulfil", "/runs/1/No!"] {
        fixture.get(path).await.problem(404, "not-found");
    }
    fixture.get("/runs?status=done").await.problem(400, "unknown-parameter");
    assert_eq!(
        fixture.get("/runs?status=open&newest=true").await.json(),
        serde_json::json!({ "runs": [], "next": null })
    );
}

#[tokio::test]
async fn who_may_only_read_orders_nothing() {
    let mut spec = server();
    spec.tokens = vec![token("reader", "read-token", &[Scope::Read])];
    let fixture = Fixture::of(spec);
    let headers = [("content-type", JSON), ("authorization", "Bearer read-token")];
    for path in ["/runs/1/fulfil/cancel", "/runs/1/fulfil/steps/pay/retry", "/runs/1/fulfil/steps/pay/resolve"] {
        fixture.send(request("POST", path, &headers, "")).await.problem(403, "forbidden");
    }
    assert_eq!(fixture.send(request("GET", "/runs", &headers, "")).await.status, 200);
    assert!(fixture.log.orders.lock().unwrap().is_empty());
}
