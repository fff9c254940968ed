//! Events of the past, delivered again: to the right ones, once each, also when the host is killed meanwhile.

use std::process::Stdio;

use tidegate_tests::{Project, until};

const MANIFEST: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s, retry: { attempts: 2, initial: 10ms, max: 10ms } }
consumers:
  ledger:
    component: ledger.wasm
    on: [order.created, order.paid]
    grants: { publish: [order.booked], state: true }
  audit:
    component: ledger.wasm
    on: order.created
    grants: { publish: [order.booked], state: true }
";

fn project() -> Project {
    let project = Project::new(MANIFEST);
    project.install("ledger", "ledger.wasm");
    project
}

/// Many events in one go, every third of them paid.
fn feed(project: &Project, count: usize) {
    let line = |n: usize| {
        let kind = if n.is_multiple_of(3) { "paid" } else { "created" };
        format!("{{\"id\":\"o-{n}\",\"source\":\"shop\",\"type\":\"order.{kind}\",\"data\":{{\"n\":{n}}}}}\n")
    };
    let lines: String = (1..=count).map(line).collect();
    let output = project.feed(&["emit", "--ndjson"], lines.as_bytes());
    assert!(output.status.success(), "{output:?}");
    project.ok(&["wait", "--all", "--timeout", "5m"]);
}

fn replayed(project: &Project, what: &str) -> i64 {
    project.count(&format!(
        "SELECT count(*) FROM outcomes JOIN events USING (sequence) WHERE origin = 'replay' AND {what}"
    ))
}

#[test]
fn what_is_asked_for_is_delivered_once_more() {
    let project = project();
    let host = project.start();
    feed(&project, 30);
    let before = project.count("SELECT count(*) FROM outcomes");

    let plan = project.json(&["replay", "--type", "order.*", "--to", "12", "--dry-run", "--json"]);
    assert_eq!((plan[0]["events"].as_u64(), plan[0]["skipped"].as_u64()), (Some(12), Some(0)));
    assert_eq!(plan[0]["deliveries"], serde_json::json!({ "audit": 8, "ledger": 12 }));
    assert_eq!(project.count("SELECT count(*) FROM replays"), 0, "a dry run leaves nothing");
    assert_eq!(project.count("SELECT count(*) FROM outcomes"), before);

    let made = project.json(&["replay", "--type", "order.*", "--to", "12", "--yes", "--json"]);
    let number = |field: &str| made[0][field].as_u64();
    assert_eq!(
        (number("made"), number("finished"), number("dead"), number("skipped")),
        (Some(20), Some(20), Some(0), Some(0))
    );
    assert_eq!(made[0]["status"], "done");
    assert_eq!(replayed(&project, "consumer = 'ledger' AND sequence <= 12 AND round = 1 AND state = 'succeeded'"), 12);
    assert_eq!(replayed(&project, "consumer = 'audit' AND type = 'order.created' AND sequence <= 12"), 8);
    assert_eq!(replayed(&project, "true"), 20, "and no more");

    // Once more, to one of them: the next round.
    project.ok(&["replay", "--from", "1", "--to", "1", "--consumer", "ledger", "--yes"]);
    assert_eq!(replayed(&project, "round = 2"), 1);
    let tree = project.ok(&["event", "1"]);
    assert!(tree.contains("ledger (replay, round 1)") && tree.contains("ledger (replay, round 2)"), "{tree}");
    let tree = project.json(&["event", "1", "--json"]);
    for delivery in tree[0]["deliveries"].as_array().unwrap() {
        let (published, events) = (&delivery["outcomes"][0]["published"], delivery["events"].as_array().unwrap());
        assert_eq!((published, events.len()), (&serde_json::json!(1), 1), "each round shows what it published");
    }
    let metrics = String::from_utf8(host.client().get("/metrics").unwrap().body).unwrap();
    assert!(metrics.contains("\ntidegate_replay_deliveries_total 21\n"), "{metrics}");
    assert_eq!(project.json(&["replay", "list", "--json"]).len(), 2);
    assert_eq!(host.stop().0, 0);
    let shown = project.json(&["replay", "show", "1", "--json"]);
    assert_eq!(shown[0], made[0], "the record says the same without a host");
}

#[test]
fn a_replay_goes_on_after_a_kill_and_makes_nothing_twice() {
    let project = project();
    let mut host = project.start();
    feed(&project, 300);
    let mut command = project.command(&[
        "replay",
        "--from",
        "1",
        "--consumer",
        "ledger",
        "--type",
        "order.*",
        "--rate",
        "200/s",
        "--yes",
    ]);
    let mut watching = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let position = || project.count("SELECT coalesce(max(position), 0) FROM replays");
    // Twice: what is in hand at a third one is a dead letter.
    for kill in 1..=2 {
        until(|| position() >= kill * 60);
        host.kill();
        host = project.start();
    }
    drop(watching.kill());
    drop(watching.wait());
    until(|| project.count("SELECT count(*) FROM replays WHERE status = 'done'") != 0);
    let shown = project.json(&["replay", "show", "1", "--json"]);
    let number = |field: &str| shown[0][field].as_u64();
    assert_eq!((number("made"), number("finished"), number("skipped")), (Some(300), Some(300), Some(0)));
    let rounds =
        "SELECT count(*) FROM outcomes WHERE consumer = 'ledger' AND origin = 'replay' AND state = 'succeeded'";
    let others = "SELECT sequence, call, outcome, state, reason, origin FROM outcomes WHERE consumer = 'ledger' AND round = 1 AND outcome <> 'done'";
    assert_eq!(project.count(rounds), 300, "{:?}", project.rows(others));
    assert_eq!(project.count("SELECT max(round) FROM outcomes WHERE consumer = 'ledger'"), 1, "nothing twice");
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_replay_can_be_cancelled() {
    let project = project();
    let host = project.start();
    feed(&project, 60);
    let mut command = project.command(&["replay", "--from", "1", "--rate", "1/m", "--yes", "--json"]);
    let watching = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| project.count("SELECT count(*) FROM replays") != 0);
    project.ok(&["replay", "cancel", "1"]);
    let output = watching.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let ended: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(ended["status"], "cancelled");
    assert!(ended["made"].as_u64().unwrap() < 5, "{ended}");
    let again = project.run(&["replay", "cancel", "1"]);
    assert_eq!(again.status.code(), Some(4), "{again:?}");
    assert_eq!(host.stop().0, 0);
}

#[test]
fn what_nothing_can_come_of_is_refused() {
    let project = project();
    let host = project.start();
    feed(&project, 6);
    let refused = |arguments: &[&str]| {
        let output = project.run(&[&["replay", "--yes"], arguments].concat());
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused(&["--consumer", "nobody"]).contains("no consumer nobody is deployed"));
    let said = refused(&["--consumer", "audit", "--type", "order.paid"]);
    assert!(said.contains("audit does not subscribe to order.paid, but to order.created"), "{said}");
    assert!(refused(&["--type", "payment.*"]).contains("no consumer subscribes to payment.*"));
    assert!(refused(&["--from", "4", "--to", "2"]).contains("before it begins"));
    assert!(refused(&["--from", "1000"]).contains("the last is #"));
    assert_eq!(project.count("SELECT count(*) FROM replays"), 0);
    assert_eq!(host.stop().0, 0);
}

#[test]
fn what_an_idempotent_consumer_has_done_is_not_done_again() {
    let project = Project::new(&MANIFEST.replace(
        "    on: [order.created, order.paid]\n",
        "    on: [order.created, order.paid]\n    idempotency-key: event.id\n",
    ));
    project.install("ledger", "ledger.wasm");
    let host = project.start();
    feed(&project, 9);
    let made = project.json(&["replay", "--type", "order.*", "--consumer", "ledger", "--yes", "--json"]);
    assert_eq!((made[0]["made"].as_u64(), made[0]["finished"].as_u64()), (Some(9), Some(9)));
    assert_eq!(replayed(&project, "outcome = 'duplicate' AND state = 'succeeded'"), 9);
    let total = project.json(&["state", "ledger", "--prefix", "total", "--json"]);
    assert_eq!(total[0]["value"], "9", "booked once each");
    // The other one has made no such choice.
    project.ok(&["replay", "--type", "order.*", "--consumer", "audit", "--yes"]);
    let total = project.json(&["state", "audit", "--prefix", "total", "--json"]);
    assert_eq!(total[0]["value"], "12", "booked twice each");
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_range_of_which_retention_has_taken_something_is_refused() {
    let project =
        Project::new(&MANIFEST.replace("consumers:", "retention: { events: 3650d, outcomes: 3650d }\nconsumers:"));
    project.install("ledger", "ledger.wasm");
    let clock = project.path("clock");
    let start = || project.start_faulty(&[("TIDEGATE_FAULTY_CLOCK", clock.to_str().unwrap())]).unwrap();
    let host = start();
    feed(&project, 6);
    // At a stop consumers say how far they are: retention takes nothing beyond it.
    assert_eq!(host.stop().0, 0);
    let host = start();
    // A year later, more comes; and then somebody decides to keep a month.
    project.write("clock", (365 * 24 * 3_600_000_000_i64).to_string());
    host.emit("late", "order.created");
    project.ok(&["wait", "--all", "--timeout", "60s"]);
    project.write(
        "tidegate.yaml",
        MANIFEST.replace("consumers:", "retention: { events: 30d, outcomes: 30d }\nconsumers:"),
    );
    project.ok(&["reload"]);
    until(|| project.count("SELECT count(*) FROM events WHERE type = 'order.paid'") == 0);
    let oldest = project.count("SELECT min(sequence) FROM events");
    assert!(oldest > 6, "six orders are gone, and what they caused");

    let refused = |arguments: &[&str]| {
        let output = project.run(&[&["replay", "--yes"], arguments].concat());
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = refused(&["--from", "3"]);
    let way_out = format!("from #{oldest} on all are there");
    assert!(said.contains("some events from #3 to #") && said.contains(&way_out), "{said}");
    assert!(refused(&["--from", "1", "--to", "4"]).contains("all events from #1 to #4 are past their retention"));
    assert_eq!(project.count("SELECT count(*) FROM replays"), 0);
    // What is there is delivered again.
    let made = project.json(&["replay", "--from", &oldest.to_string(), "--consumer", "audit", "--yes", "--json"]);
    assert_eq!(made[0]["status"], "done");
    assert!(made[0]["made"].as_u64().unwrap() >= 1, "{made:?}");
    assert_eq!(host.stop().0, 0);
}
