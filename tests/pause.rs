//! A paused consumer: nothing of its is attempted until it is resumed, whatever happens meanwhile.

use std::process::Stdio;

use tidegate_tests::hand::Hand;
use tidegate_tests::{Host, Project, until};

fn project(hand: &Hand) -> Project {
    let consumer = hand.consumer("worker", "order.created", "    concurrency: 1\n");
    let project = Project::new(&format!(
        "
tidegate: 1
server: {{ listen: 127.0.0.1:0, grace: 1s }}
log: sqlite:data/tidegate.db
defaults: {{ timeout: 60s }}
consumers:
{consumer}  ledger:
    component: ledger.wasm
    on: order.created
    grants: {{ publish: [order.booked], state: true }}
"
    ));
    project.install("puppet", "puppet.wasm");
    project.install("ledger", "ledger.wasm");
    project
}

/// Sends an event and waits until the other consumer is done with it: by then the paused one had every opportunity.
fn pass(project: &Project, host: &Host, id: &str) {
    host.emit(id, "order.created");
    let done =
        format!("SELECT count(*) FROM outcomes JOIN events USING (sequence) WHERE consumer = 'ledger' AND id = '{id}'");
    until(|| project.count(&done) != 0);
}

fn shown(project: &Project) -> serde_json::Value {
    project.json(&["consumers", "worker", "--json"]).remove(0)
}

#[test]
fn a_pause_outlives_restarts_and_keeps_what_comes() {
    let hand = Hand::new();
    let project = project(&hand);
    let host = project.start();
    host.emit("o-1", "order.created");
    let in_hand = hand.expect("worker", "o-1", 1);
    let said = project.ok(&["consumers", "pause", "worker"]);
    assert!(said.starts_with("worker is paused"), "{said}");
    assert!(project.ok(&["consumers", "pause", "worker"]).starts_with("worker was paused already"));
    // What was in hand finishes.
    in_hand.done();
    until(|| !project.calls("worker").is_empty());
    pass(&project, &host, "o-2");
    pass(&project, &host, "o-3");
    host.kill();
    let host = project.start();
    pass(&project, &host, "o-4");
    assert!(hand.asked_already().is_empty(), "it is paused");
    let consumer = shown(&project);
    assert_eq!((&consumer["paused"], &consumer["depth"], &consumer["running"]), (&true.into(), &3.into(), &0.into()));
    assert!(consumer["pausedSince"].is_string());
    let metrics = String::from_utf8(host.client().get("/metrics").unwrap().body).unwrap();
    assert!(metrics.contains("tidegate_consumer_paused{consumer=\"worker\"} 1"), "{metrics}");
    let table = project.ok(&["consumers"]);
    assert!(table.lines().any(|line| line.starts_with("worker") && line.contains("paused")), "{table}");

    project.ok(&["consumers", "resume", "worker"]);
    for id in ["o-2", "o-3", "o-4"] {
        hand.expect("worker", id, 1).done();
    }
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(shown(&project)["paused"], false);
    assert_eq!(host.stop().0, 0);
}

#[test]
fn a_replay_waits_for_a_paused_consumer() {
    let hand = Hand::new();
    let project = project(&hand);
    let host = project.start();
    for id in ["o-1", "o-2"] {
        host.emit(id, "order.created");
        hand.expect("worker", id, 1).done();
    }
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    project.ok(&["consumers", "pause", "worker"]);
    let mut command = project.command(&["replay", "--from", "1", "--consumer", "worker", "--yes", "--json"]);
    let watching = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until(|| project.count("SELECT coalesce(max(made), 0) FROM replays") >= 2);
    pass(&project, &host, "o-3");
    assert!(hand.asked_already().is_empty(), "it is paused");
    assert_eq!(project.count("SELECT finished FROM replays"), 0);

    project.ok(&["consumers", "resume", "worker"]);
    let mut asked = Vec::new();
    for _ in 0..3 {
        let one = hand.asked();
        asked.push((one.what["id"].as_str().unwrap().to_owned(), one.what["replayed"].as_bool().unwrap()));
        one.done();
    }
    asked.sort();
    assert_eq!(asked, [("o-1".into(), true), ("o-2".into(), true), ("o-3".into(), false)]);
    let output = watching.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let ended: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&ended["status"], &ended["made"], &ended["finished"]), (&"done".into(), &2.into(), &2.into()));
    assert_eq!(host.stop().0, 0);
}
