//! Questions as far as HTTP goes: what is asked, and a status and a type for each way to have no answer.

use serde_json::json;

use super::support::{Fixture, NOW, request, server, token};
use crate::model::question::{Asker, Refusal, Unanswered};
use crate::model::spec::Scope;
use crate::model::{Outcome, Payload};

const JSON: &str = "application/json";

fn payload(content_type: &str, data: &'static [u8]) -> Payload {
    Payload { content_type: content_type.into(), data: data.into() }
}

#[tokio::test]
async fn an_answer_comes_as_it_was_given_with_its_responder() {
    let fixture = Fixture::new();
    let answers = || fixture.control.answers.lock().unwrap();
    answers().push(Ok(payload("image/png", b"\x89PNG\0\xff")));
    let headers = [("content-type", "text/plain"), ("traceparent", "00-1-2-01")];
    let path = "/queries/stock.check?timeout=250ms&correlation=c-1";
    let answer = fixture.send(request("POST", path, &headers, "tea?")).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_slice()), (200, &b"\x89PNG\0\xff"[..]));
    assert_eq!((answer.header("content-type"), answer.header("x-content-type-options")), ("image/png", "nosniff"));
    assert_eq!((answer.header("tidegate-query"), answer.header("tidegate-responder")), ("q-1", "stock"));
    let asked = fixture.control.asked.lock().unwrap().pop().unwrap();
    assert_eq!((asked.query_type.as_str(), asked.payload), ("stock.check", payload("text/plain", b"tea?")));
    assert_eq!((asked.correlation_id.as_deref(), asked.traceparent.as_deref()), (Some("c-1"), Some("00-1-2-01")));
    assert_eq!((asked.asker, asked.depth), (Asker::Client, 1));
    answers().push(Ok(Payload::nothing()));
    let empty = fixture.post("/queries/stock.check", JSON, "").await;
    assert_eq!((empty.status.as_u16(), empty.body.len(), empty.header("content-type")), (200, 0, ""));
    assert!(fixture.log.envelopes().is_empty(), "a question is no event");
}

#[tokio::test]
async fn each_way_to_have_no_answer_is_a_problem_of_its_own() {
    let fixture = Fixture::new();
    let refused = |refusal: fn(String) -> Refusal| Unanswered::Refused(refusal("why it is so".to_owned()));
    for (n, (unanswered, status, kind, outcome)) in (1..).zip([
        (Unanswered::NoResponder, 404, "no-responder", "no-responder"),
        (Unanswered::TimedOut("why it is so".into()), 504, "query-timed-out", "timed-out"),
        (refused(Refusal::Invalid), 422, "query-invalid", "invalid"),
        (refused(Refusal::NotFound), 404, "query-not-found", "not-found"),
        (refused(Refusal::Unavailable), 503, "query-unavailable", "unavailable"),
        (Unanswered::Failed(Outcome::Trapped, "why it is so".into()), 502, "query-failed", "failed"),
    ]) {
        fixture.control.answers.lock().unwrap().push(Err(unanswered));
        let answer = fixture.post("/queries/stock.check", JSON, "{}").await;
        let problem = answer.problem(status, kind);
        assert_eq!((&problem["outcome"], &problem["query"]), (&json!(outcome), &json!(format!("q-{n}"))));
        assert_eq!(problem["detail"].as_str().unwrap().contains("why it is so"), kind != "no-responder", "{problem}");
        assert_eq!(answer.header("retry-after"), if status == 503 { "1" } else { "" });
    }
}

#[tokio::test]
async fn a_question_is_logged_if_its_asker_wants_it() {
    let fixture = Fixture::new();
    let answers = || fixture.control.answers.lock().unwrap();
    answers().push(Ok(payload(JSON, b"[7, true]")));
    let asked = fixture.post("/queries/stock.check?log=true&correlation=c-9", JSON, r#"{"sku":"tea"}"#).await;
    assert_eq!(asked.status, 200);
    answers().push(Err(Unanswered::Failed(Outcome::OutOfFuel, "all of it".into())));
    fixture.post("/queries/stock.check?log=true", "text/plain", "tea?").await.problem(502, "query-failed");
    let [answered, failed] = &fixture.log.envelopes()[..] else { panic!("{:?}", fixture.log.envelopes()) };
    assert_eq!((answered.event_type.as_str(), answered.source.as_str()), ("tidegate.query.answered", "/tidegate"));
    assert_eq!((answered.subject.as_deref(), answered.correlation_id.as_str()), (Some("q-1"), "c-9"));
    assert_eq!(answered.timestamp, NOW);
    let data = |of: &crate::model::Envelope| -> serde_json::Value {
        serde_json::from_slice(&of.payload.as_ref().unwrap().data).unwrap()
    };
    let expected = json!({
        "type": "stock.check", "responder": "stock", "outcome": "answered", "reason": null, "durationMs": 7,
        "question": { "sku": "tea" }, "answer": [7, true],
    });
    assert_eq!(data(answered), expected);
    let data = data(failed);
    assert_eq!(
        (&data["outcome"], &data["question"], &data["answer"]),
        (&json!("failed"), &json!("tea?"), &json!(null))
    );
    fixture.log.refusals.lock().unwrap().push(crate::log::Error::Full);
    answers().push(Ok(payload(JSON, b"7")));
    let unlogged = fixture.post("/queries/stock.check?log=true", JSON, "{}").await;
    unlogged.problem(503, "disk-full");
}

#[tokio::test]
async fn questions_are_read_strictly() {
    let fixture = Fixture::new();
    for path in [
        "/queries/stock.check?timeout=soon",
        "/queries/stock.check?timeout=6m",
        "/queries/stock.check?wait=1s",
        "/queries/stock.check?log=maybe",
    ] {
        fixture.post(path, JSON, "{}").await.problem(400, "unknown-parameter");
    }
    fixture.post("/queries/stock%20check", JSON, "{}").await.problem(400, "malformed-request");
    fixture.post("/queries/stock.check", JSON, vec![b' '; (256 << 10) + 1]).await.problem(413, "too-large");
    fixture.get("/queries/stock.check").await.problem(405, "method-not-allowed");
    fixture.get("/queries?outcome=none").await.problem(400, "unknown-parameter");
    assert!(fixture.control.asked.lock().unwrap().is_empty());
    assert_eq!(fixture.get("/queries?outcome=not-found&limit=3").await.json(), json!({ "queries": [], "next": null }));
    let mut spec = server();
    spec.tokens = vec![token("reader", "read-token", &[Scope::Read]), token("asker", "ask-token", &[Scope::Publish])];
    let fixture = Fixture::of(spec);
    let with = |method, path, token: &str| {
        let authorization = format!("Bearer {token}");
        request(method, path, &[("content-type", JSON), ("authorization", &authorization)], "")
    };
    fixture.send(with("POST", "/queries/stock.check", "read-token")).await.problem(403, "forbidden");
    fixture.send(with("POST", "/queries/stock.check", "ask-token")).await.problem(404, "no-responder");
    fixture.send(with("GET", "/queries", "ask-token")).await.problem(403, "forbidden");
}
