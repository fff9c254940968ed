//! Questions to the real host: every way to have an answer or none, over HTTP, with the command and from a handler.

use serde_json::{Value, json};
use tidegate_tests::{Host, Project, until};

/// Two that answer alike, one that nobody may wake, and one that asks.
fn project() -> Project {
    let project = Project::new(
        "
tidegate: 1
server: { listen: 127.0.0.1:0, grace: 1s }
log: sqlite:data/tidegate.db
# A handler that waits has the only slot there is for handlers.
limits: { attempts: 1 }
defaults: { timeout: 60s, fuel: 100_000_000, retry: { attempts: 1 } }
consumers:
  stock:
    component: stock.wasm
    on: stock.counted
    answers: [stock.check, stock.only]
    grants: { state: true, queries: stock.*, publish: stock.told }
  twin:
    component: stock.wasm
    answers: stock.check
    grants: { state: true, queries: stock.*, publish: stock.told }
  asker:
    component: asker.wasm
    on: question.asked
    grants: { queries: [stock.*, price.check] }
",
    );
    project.install("stock", "stock.wasm");
    project.install("asker", "asker.wasm");
    project
}

fn rows(project: &Project, count: i64) {
    until(|| project.count("SELECT count(*) FROM queries") >= count);
}

/// Sends an event to the asker, and gives what it was told.
fn told(project: &Project, host: &Host, id: &str, ask: &Value) -> Value {
    let event = json!({ "id": id, "source": "/tests", "type": "question.asked", "data": ask });
    assert_eq!(host.client().post("/events", event.to_string().as_bytes()).unwrap().status, 202);
    let sql = format!(
        "SELECT o.output FROM outcomes AS o JOIN events USING (sequence) WHERE o.consumer = 'asker' AND events.id = '{id}'"
    );
    until(|| !project.rows(&sql).is_empty());
    serde_json::from_str(project.rows(&sql)[0][0].as_str().unwrap_or("null")).unwrap()
}

/// What a responder is told, and what comes of it: exit code, status, problem, word.
const TABLE: [(&str, &str, i32, u16, &str, &str); 8] = [
    ("stock.only", "echo", 0, 200, "", "answered"),
    ("price.check", "echo", 4, 404, "no-responder", "no-responder"),
    ("stock.only", "sleep", 6, 504, "query-timed-out", "timed-out"),
    ("stock.only", "invalid", 8, 422, "query-invalid", "invalid"),
    ("stock.only", "not-found", 9, 404, "query-not-found", "not-found"),
    ("stock.only", "unavailable", 10, 503, "query-unavailable", "unavailable"),
    ("stock.only", "panic", 11, 502, "query-failed", "failed"),
    ("stock.only", "spin", 11, 502, "query-failed", "failed"),
];

#[test]
fn every_way_to_have_an_answer_or_none_is_told_apart_everywhere() {
    let project = project();
    let host = project.start();
    let mut client = host.client();
    for (n, (query_type, then, code, status, kind, word)) in TABLE.into_iter().enumerate() {
        let data = json!({ "then": then }).to_string();
        let timeout = if then == "sleep" { "50ms" } else { "60s" };
        let arguments = ["ask", query_type, "--data", &data, "--timeout", timeout, "--json"];
        let output = project.run(&arguments);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said["outcome"].as_str()), (Some(code), Some(word)), "{then}: {said} {err}");
        assert_eq!(err.contains("hint: "), code != 0, "{then}: {err}");
        let path = format!("/queries/{query_type}?timeout={timeout}&correlation=c-{n}");
        let answer = client.post(&path, data.as_bytes()).unwrap();
        assert_eq!(answer.status, status, "{then}");
        match kind {
            "" => assert_eq!(answer.json(), json!({ "told": "echo", "n": 0 })),
            _ => assert_eq!(answer.json()["type"], format!("urn:tidegate:problem:{kind}"), "{then}"),
        }
        let timeout = if then == "sleep" { 50 } else { 60_000 };
        let ask = json!({ "type": query_type, "question": { "then": then }, "timeoutMs": timeout });
        let told = told(&project, &host, &format!("a-{n}"), &ask);
        match word {
            "answered" => assert_eq!(told["answer"], json!({ "told": "echo", "n": 0 })),
            _ => assert_eq!(told["error"], word, "{told}"),
        }
    }
    rows(&project, 3 * TABLE.len() as i64);
    for (n, (query_type, _, _, _, _, word)) in TABLE.into_iter().enumerate() {
        let listed = project.json(&["queries", "--correlation", &format!("c-{n}"), "--json"]).remove(0);
        assert_eq!((&listed["type"], &listed["outcome"]), (&json!(query_type), &json!(word)), "{listed}");
        assert_eq!(listed["askedBy"], "client");
        // Whose time is up before it is its turn is asked of nobody.
        let of_nobody = word == "no-responder" || word == "timed-out" && listed["responder"].is_null();
        assert_eq!(listed["responder"], if of_nobody { Value::Null } else { json!("stock") });
        assert_eq!(listed["reason"].is_null(), word == "answered", "{listed}");
    }
    let delivered = "SELECT outcome FROM queries JOIN events ON events.sequence = queries.sequence AND events.correlation_id = \
                     queries.correlation_id WHERE asked_by = 'delivery' AND consumer = 'asker' AND round = 0 AND call = 1";
    assert_eq!(project.rows(delivered).len(), TABLE.len());
    let fuel = "SELECT count(*) FROM queries WHERE responder IS NOT NULL AND outcome <> 'timed-out' AND fuel = 0";
    assert_eq!(project.count(fuel), 0, "what a responder used is known");
    // The other connection may have been idle for too long by now.
    let metrics = String::from_utf8(host.client().get("/metrics").unwrap().body).unwrap();
    assert!(metrics.contains("tidegate_queries_total{responder=\"stock\",outcome=\"answered\"} 3"), "{metrics}");
    assert!(metrics.contains("tidegate_queries_total{responder=\"\",outcome=\"no-responder\"} 3"), "{metrics}");
    assert_eq!(
        project.count("SELECT count(*) FROM events WHERE type LIKE 'tidegate.query%'"),
        0,
        "no question is an event"
    );
    drop(host.stop());
    assert_eq!(project.json(&["queries", "--limit", "all", "--json"]).len(), 3 * TABLE.len(), "read without a host");
}

#[test]
fn those_who_answer_alike_take_turns_and_those_who_are_paused_none() {
    let project = project();
    let host = project.start();
    let mut client = host.client();
    let mut ask = || client.post("/queries/stock.check?timeout=60s", br#"{"then":"echo"}"#).unwrap();
    let responder = |headers: &str| {
        let find = |line: &str| line.to_ascii_lowercase().strip_prefix("tidegate-responder: ").map(str::to_owned);
        headers.lines().find_map(find).unwrap_or_default().trim().to_owned()
    };
    let who: Vec<String> = (0..4).map(|_| responder(&ask().headers)).collect();
    assert!(who == ["stock", "twin", "stock", "twin"], "{who:?}");
    project.ok(&["consumers", "pause", "twin"]);
    assert!((0..3).all(|_| responder(&ask().headers) == "stock"));
    project.ok(&["consumers", "pause", "stock"]);
    let paused = ask();
    assert_eq!(paused.status, 503);
    assert!(paused.json()["detail"].as_str().unwrap().contains("is paused: stock, twin"), "{}", paused.json());
    project.ok(&["consumers", "resume", "twin"]);
    assert_eq!(responder(&ask().headers), "twin");
}

#[test]
fn an_answer_sees_what_its_consumer_keeps_and_leaves_nothing() {
    let project = project();
    let host = project.start();
    let mut client = host.client();
    let mut answer = |then: &str| {
        client.post("/queries/stock.only?timeout=60s", json!({ "then": then }).to_string().as_bytes()).unwrap().json()
    };
    assert_eq!(answer("count"), 0);
    let event = json!({ "id": "n-1", "source": "/tests", "type": "stock.counted", "data": { "n": 7 } });
    assert_eq!(host.client().post("/events", event.to_string().as_bytes()).unwrap().status, 202);
    project.ok(&["wait", "--timeout", "60s"]);
    assert_eq!(answer("count"), 7, "what the handler has kept");
    for then in ["write", "publish"] {
        assert!(answer(then).as_str().unwrap().contains("nothing"), "{then}");
    }
    assert_eq!(answer("count"), 7);
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'stock.told'"), 0);
    // Nested questions have slots of their own, though the host has one for handlers.
    assert_eq!(answer("nest"), 8);
    rows(&project, 6 + 7);
    let nested = "SELECT count(*) FROM queries AS q JOIN queries AS p ON p.id = q.parent WHERE q.asked_by = 'query' \
                  AND q.consumer = 'stock' AND q.depth = p.depth + 1 AND q.correlation_id = p.correlation_id";
    assert_eq!(project.count(nested), 7);
}

#[test]
fn an_event_shows_what_was_asked_while_it_was_handled() {
    let project = project();
    let host = project.start();
    let ask = json!({ "type": "stock.only", "question": { "then": "nest" } });
    assert_eq!(told(&project, &host, "a-1", &ask)["answer"], 8);
    rows(&project, 8);
    let tree = host.client().get("/events/1?tree=true").unwrap().json();
    assert_eq!(tree["cut"], false);
    let mut asked = &tree["deliveries"][0];
    for depth in 1..=8 {
        asked = &asked["queries"][0];
        assert_eq!(
            (&asked["query"]["depth"], &asked["query"]["responder"]),
            (&json!(depth), &json!("stock")),
            "{tree}"
        );
    }
    assert_eq!(asked["queries"], Value::Null);
    let drawn = project.ok(&["event", "1"]);
    let attempt = drawn.lines().position(|line| line.contains("attempt 1  done")).expect("an attempt");
    let below: Vec<&str> = drawn.lines().skip(attempt + 1).collect();
    assert_eq!(below.len(), 8, "{drawn}");
    assert!(below.iter().all(|line| line.contains("└─ asked stock.only of stock  answered  ")), "{drawn}");
    drop(host.stop());
    let [read] = project.json(&["event", "1", "--json"]).try_into().expect("one tree");
    let Value::Object(mut served) = tree else { panic!("an object") };
    drop(served.remove("cut"));
    assert_eq!(read, Value::Object(served), "read without a host");
}

#[test]
fn a_question_is_an_event_if_its_asker_wants_it() {
    let project = project();
    let host = project.start();
    project.ok(&[
        "ask",
        "stock.only",
        "--data",
        r#"{"then":"echo"}"#,
        "--correlation",
        "c-1",
        "--log",
        "--timeout",
        "60s",
    ]);
    let missing = project.run(&["ask", "price.check", "--log"]);
    assert_eq!(missing.status.code(), Some(4));
    let logged = project.rows(
        "SELECT data, correlation_id, subject FROM events WHERE type = 'tidegate.query.answered' ORDER BY sequence",
    );
    let data = |row: &[Value]| -> Value { serde_json::from_str(row[0].as_str().unwrap()).unwrap() };
    assert_eq!((logged.len(), &logged[0][1]), (2, &json!("c-1")));
    let (answered, none) = (data(&logged[0]), data(&logged[1]));
    assert_eq!((&answered["question"], &answered["answer"]["told"]), (&json!({ "then": "echo" }), &json!("echo")));
    assert_eq!((&answered["outcome"], &none["outcome"]), (&json!("answered"), &json!("no-responder")));
    drop(host.stop());
}

#[test]
fn a_reload_says_who_answers_from_now_on() {
    let project = project();
    let host = project.start();
    let ask = || host.client().post("/queries/stock.only?timeout=60s", br#"{"then":"echo"}"#).unwrap().status;
    assert_eq!(ask(), 200);
    let text = std::fs::read_to_string(project.path("tidegate.yaml")).unwrap();
    project.write("tidegate.yaml", text.replace("answers: [stock.check, stock.only]", "answers: stock.check"));
    project.ok(&["reload"]);
    assert_eq!(ask(), 404);
    // What does not fit together changes nothing.
    for (from, to, said) in [
        ("    answers: [stock.check, stock.only]\n", "", "answers questions, and it is not said which"),
        ("on: question.asked", "on: question.asked\n    answers: price.check", "answers no questions"),
    ] {
        project.write("tidegate.yaml", text.replace(from, to));
        let checked = project.run(&["check"]);
        let err = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.code() == Some(3) && err.contains("TG440") && err.contains(said), "{err}");
        assert_eq!(project.run(&["reload"]).status.code(), Some(4));
        assert_eq!(ask(), 404);
    }
}
