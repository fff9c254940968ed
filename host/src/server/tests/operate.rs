//! Replays, backups and pauses, as far as requests are read and refused; what they do is shown with a real database.

use super::support::{Fixture, request, server, token};
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
    assert!(ask().await.status == 202);
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
    fixture.post("/replays", "text/plain", "{}").await.problem(415, "unsupported-media-type");
    let refused = fixture.post("/replays", JSON, r#"{"from":5}"#).await.problem(422, "replay-refused");
    assert!(refused["detail"].as_str().unwrap().contains("there is no event from there on"), "{refused}");
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
