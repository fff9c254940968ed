//! Jobs: work for one consumer, with a priority, a delay and a retry of its own. The test moves the consumer by hand.

use serde_json::{Value, json};
use tidegate_tests::hand::Hand;
use tidegate_tests::http::Response;
use tidegate_tests::{Host, Project, until};

const HEAD: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0, grace: 1s }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s }
consumers:
";

/// `worker` is moved by the hand, `ledger` does what it does, and `feed` is ephemeral.
fn project(hand: &Hand, more: &str) -> Project {
    let worker = hand.consumer("worker", "order.created", more);
    let ledger = "  ledger:\n    component: ledger.wasm\n    on: order.created\n    grants: { publish: [order.booked], state: true }\n";
    let feed = "  feed: { component: feed.wasm, on: order.created, delivery: ephemeral }\n";
    let project = Project::new(&format!("{HEAD}{worker}{ledger}{feed}"));
    project.install("puppet", "puppet.wasm");
    project.install("ledger", "ledger.wasm");
    // It judges orders, and needs no grant for it.
    project.install("fraud_check", "feed.wasm");
    project
}

/// Enqueues so many jobs, in order.
fn enqueue(project: &Project, name: &str, count: usize, options: &[&str]) {
    for n in 1..=count {
        let id = format!("{name}-{n}");
        let args: Vec<&str> =
            ["emit", "--to", "worker", "{\"a\": 1}", "--id", &id].iter().chain(options).copied().collect();
        project.ok(&args);
    }
}

fn id(asked: &Value) -> &str {
    asked["id"].as_str().unwrap()
}

/// A backlog of more than a lane ever has at hand.
const BACKLOG: usize = 60;

/// Answers until the urgent job asks; how many others asked before it.
fn until_urgent(hand: &Hand) -> usize {
    let mut before = 0;
    loop {
        let asked = hand.asked();
        let urgent = id(&asked.what).starts_with("urgent");
        asked.done();
        if urgent {
            return before;
        }
        before += 1;
    }
}

#[test]
fn an_urgent_job_overtakes_a_backlog_also_across_a_crash() {
    let hand = Hand::new();
    let project = project(&hand, "    concurrency: 1\n");
    let host = project.start();
    enqueue(&project, "low", BACKLOG, &["--priority", "low"]);
    let first = hand.expect("worker", "low-1", 1);
    enqueue(&project, "urgent", 1, &["--priority", "high"]);
    let metrics = String::from_utf8(host.client().get("/metrics").unwrap().body).unwrap();
    for (priority, n) in [("low", BACKLOG), ("normal", 0), ("high", 1)] {
        let line = format!("tidegate_jobs_depth{{consumer=\"worker\",priority=\"{priority}\"}} {n}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert!(!metrics.contains("tidegate_jobs_depth{consumer=\"feed\""), "an ephemeral consumer has none");
    first.done();
    let before = until_urgent(&hand);
    assert!(before < BACKLOG - 1, "{before} others came first");
    enqueue(&project, "urgent-again", 1, &["--priority", "high"]);
    host.kill();

    let host = project.start();
    let before = until_urgent(&hand);
    assert!(before < BACKLOG - 2, "{before} others came first");
    hand.answer_all(json!({}));
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    let done = "SELECT count(DISTINCT sequence) FROM outcomes WHERE consumer = 'worker' AND outcome = 'done'";
    assert_eq!(project.count(done), i64::try_from(BACKLOG).unwrap() + 2);
    let others = "SELECT count(*) FROM outcomes WHERE consumer <> 'worker' OR origin <> 'job'";
    assert_eq!(project.count(others), 0, "a job is for nobody else, whatever its type");
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_job_has_a_retry_of_its_own_and_keeps_it() {
    let hand = Hand::new();
    let project = project(&hand, "    retry: { attempts: 9, initial: 1ms }\n");
    let host = project.start();
    let fail = |attempt: u32| hand.expect("worker", "j-1", attempt).answer(&json!({ "then": "retry" }));
    enqueue(&project, "j", 1, &["--retry-attempts", "2", "--retry-initial", "1ms", "--retry-backoff", "fixed"]);
    fail(1);
    // In hand when the host dies, so that it is made once more.
    let second = hand.expect("worker", "j-1", 2);
    host.kill();
    drop(second);
    let host = project.start();
    fail(2);
    until(|| project.count("SELECT count(*) FROM dead_letters") != 0);
    let dead = &project.json(&["dead", "list", "--json"])[0];
    assert_eq!((&dead["cause"], &dead["attempts"]), (&"attempts-exhausted".into(), &2.into()));
    let shown = project.ok(&["event", "1"]);
    assert!(shown.contains("for worker, priority normal, 2 attempts of its own, 1ms to 1m apart"), "{shown}");
    assert!(shown.contains("worker (job)  dead"), "{shown}");

    project.ok(&["dead", "redrive", "--all", "--yes"]);
    fail(1);
    fail(2);
    until(|| project.count("SELECT count(*) FROM dead_letters") >= 2);
    let origins = project.rows("SELECT origin, attempt FROM outcomes ORDER BY round, call");
    let expected = [("job", 1), ("job", 2), ("redrive", 1), ("redrive", 2)].map(|(o, a)| vec![json!(o), json!(a)]);
    assert_eq!(origins, expected);
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_job_waits_for_its_time() {
    let hand = Hand::new();
    let project = project(&hand, "    concurrency: 1\n");
    let host = project.start();
    enqueue(&project, "later", 1, &["--delay", "1h"]);
    enqueue(&project, "soon", 1, &["--delay", "300ms", "--priority", "low"]);
    hand.expect("worker", "soon-1", 1).done();
    let early = "SELECT count(*) FROM outcomes JOIN events USING (sequence) WHERE started_at < not_before";
    until(|| !project.calls("worker").is_empty());
    assert_eq!(project.count(early), 0);
    assert!(hand.asked_already().is_empty(), "the other is not due");
    let waiting = project.rows("SELECT sequence, priority, attempts FROM waiting");
    assert_eq!(waiting, [[json!(1), json!("normal"), json!(0)]]);
    assert_eq!(host.stop().0, 0);
}

fn post(host: &Host, content_type: &str, body: &Value) -> Response {
    host.client().send("POST", "/events", content_type, body.to_string().as_bytes()).unwrap()
}

#[test]
fn jobs_come_over_http_and_are_shown_as_they_came() {
    let hand = Hand::new();
    let project = project(&hand, "");
    let host = project.start();
    let job = json!({ "to": "worker", "priority": "high", "retry": { "attempts": 4 } });
    let native = json!({ "id": "n", "type": "a.b", "source": "/s", "job": job });
    assert_eq!(post(&host, "application/json", &native).status, 202);
    hand.expect("worker", "n", 1).done();
    assert_eq!(post(&host, "application/json", &native).json()["duplicates"], 1);
    let mut other = native.clone();
    other["job"]["priority"] = "low".into();
    assert_eq!(post(&host, "application/json", &other).json()["type"], "urn:tidegate:problem:id-conflict");

    let cloud = json!({ "specversion": "1.0", "id": "c", "type": "a.b", "source": "/s", "job": "worker" });
    assert_eq!(post(&host, "application/cloudevents+json", &cloud).status, 202);
    hand.expect("worker", "c", 1).done();
    let mut client = host.client();
    let shown = client.get("/events/n").unwrap().json();
    let retry = json!({ "attempts": 4, "backoff": "exponential", "initialMs": 1000, "factor": 2.0, "maxMs": 60000, "jitter": "full" });
    assert_eq!(shown["job"], json!({ "to": "worker", "priority": "high", "retry": retry }));
    assert_eq!(client.get("/events/c").unwrap().json()["job"], json!({ "to": "worker", "priority": "normal" }));
    let shown = client.get_as("/events/c", "application/cloudevents+json").unwrap().json();
    assert_eq!(shown["job"], r#"{"to":"worker","priority":"normal"}"#);
    // As it is shown, it can be sent elsewhere.
    assert_eq!(post(&host, "application/cloudevents+json", &shown).json()["duplicates"], 1);
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_job_for_nobody_is_refused() {
    let hand = Hand::new();
    let project = project(&hand, "");
    let host = project.start();
    for (to, kind, said) in [
        ("wroker", "unknown-consumer", "No consumer is called 'wroker'. Did you mean 'worker'?"),
        ("accounts", "unknown-consumer", "No consumer is called 'accounts'."),
        ("feed", "not-a-target", "'feed' is ephemeral"),
    ] {
        let event = json!({ "type": "a.b", "source": "/s", "job": to });
        let refused = post(&host, "application/json", &event);
        let problem = refused.json();
        assert_eq!((refused.status, &problem["type"]), (422, &json!(format!("urn:tidegate:problem:{kind}"))), "{to}");
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
        let batch = json!([{ "type": "a.b", "source": "/s" }, event]);
        assert_eq!(post(&host, "application/json", &batch).json()["index"], 1, "and nothing of its batch is accepted");
        let output = project.run(&["emit", "--to", to]);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && err.contains(said), "{err}");
    }
    let odd = json!({ "type": "a.b", "source": "/s", "job": { "to": "worker", "priority": "urgent" } });
    let problem = post(&host, "application/json", &odd).json();
    assert_eq!(problem["errors"][0]["pointer"], "#/job", "{problem}");
    assert_eq!(project.count("SELECT count(*) FROM events"), 0);
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_job_for_a_consumer_that_is_removed_waits_for_it() {
    let hand = Hand::new();
    let project = project(&hand, "");
    let manifest = std::fs::read_to_string(project.path("tidegate.yaml")).unwrap();
    let host = project.start();
    project.ok(&["consumers", "pause", "worker"]);
    enqueue(&project, "j", 1, &[]);
    let without = manifest.split("  ledger:").nth(1).unwrap();
    project.write("tidegate.yaml", format!("{HEAD}  ledger:{without}"));
    project.ok(&["reload"]);
    let resumed = project.ok(&["consumers", "resume", "worker"]);
    assert!(resumed.contains("worker is not paused any more, but removed"), "{resumed}");
    let shown = project.json(&["consumers", "--json"]);
    let worker = shown.iter().find(|consumer| consumer["name"] == "worker").unwrap();
    assert_eq!((&worker["status"], &worker["depth"]), (&"removed".into(), &1.into()));
    let refused = post(&host, "application/json", &json!({ "type": "a.b", "source": "/s", "job": "worker" }));
    let refused = refused.json();
    assert_eq!(refused["type"], "urn:tidegate:problem:unknown-consumer");
    assert!(refused["detail"].as_str().unwrap().starts_with("'worker' is removed"), "{refused}");
    project.write("tidegate.yaml", manifest);
    project.ok(&["reload"]);
    hand.expect("worker", "j-1", 1).done();
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_guest_gives_jobs_once_with_what_else_it_causes() {
    let hand = Hand::new();
    let project = project(&hand, "");
    let manifest = std::fs::read_to_string(project.path("tidegate.yaml")).unwrap();
    let giver = |grants: &str| format!("{manifest}  giver: {{ component: jobs.wasm, on: work.wanted{grants} }}\n");
    project.install("jobs", "jobs.wasm");
    project.write("tidegate.yaml", giver(""));
    let refused = project.run(&["check"]);
    let said = String::from_utf8_lossy(&refused.stdout) + String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("TG410"), "{said}");
    assert!(said.contains("add `grants: { jobs: [ledger] }` to `giver`"), "as it can be copied: {said}");

    project.write("tidegate.yaml", giver(", grants: { jobs: worker }"));
    let host = project.start();
    project.ok(&["emit", "work.wanted", r#"[{"to":"worker","type":"mail.requested","priority":"high"}]"#]);
    let asked = hand.asked();
    assert_eq!((&asked.what["type"], &asked.what["consumer"]), (&"mail.requested".into(), &"worker".into()));
    let cause = project.rows("SELECT id FROM events WHERE sequence = 1")[0][0].clone();
    assert_eq!(asked.what["data"], json!({ "from": cause }));
    asked.done();
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    let shown = project.ok(&["event", "1"]);
    assert!(shown.contains("mail.requested → worker") && shown.contains("worker (job)  succeeded"), "{shown}");

    // Nothing of an attempt that is refused one of its jobs is kept.
    let two = r#"[{"to":"worker","type":"a.b"},{"to":"ledger","type":"a.b"}]"#;
    project.ok(&["emit", "work.wanted", two]);
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'a.b'"), 0);
    let dead = &project.json(&["dead", "list", "--json"])[0];
    assert!(dead["reason"].as_str().unwrap().contains("grants.jobs"), "{dead}");
    assert_eq!(host.stop().0, 0);
}
