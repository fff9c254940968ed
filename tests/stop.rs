//! A stop is not a failure: what is in hand finishes or is given back, nothing is charged, nothing is lost.

use std::process::Stdio;

use serde_json::json;
use tidegate_tests::hand::Hand;
use tidegate_tests::http::Client;
use tidegate_tests::{Host, Project};

fn project(hand: &Hand, grace: &str) -> Project {
    let worker = hand.consumer("worker", "order.created", "    concurrency: 2\n    retry: { attempts: 1 }\n");
    let project = Project::new(&format!(
        "
tidegate: 1
server: {{ listen: 127.0.0.1:0, grace: {grace} }}
log: sqlite:data/tidegate.db
defaults: {{ timeout: 60s }}
consumers:
{worker}"
    ));
    project.install("puppet", "puppet.wasm");
    project
}

/// Sends events until the host takes no more; how many it took.
fn accepted_until_refused(address: &str) -> i64 {
    let event = |n: i64| format!(r#"{{"id":"late-{n}","source":"shop","type":"order.paid","data":{{}}}}"#);
    for n in 0.. {
        let answer = Client::connect(address).and_then(|mut client| client.post("/events", event(n).as_bytes()));
        match answer {
            Ok(response) if response.status == 202 => {}
            Ok(response) => {
                assert_eq!(response.status, 503, "{}", String::from_utf8_lossy(&response.body));
                return n;
            }
            Err(_) => return n,
        }
    }
    unreachable!()
}

fn is_ready(address: &str) -> bool {
    let answer = Client::connect(address).and_then(|mut client| client.get("/readyz"));
    answer.is_ok_and(|response| response.status == 200)
}

/// Asks the host to stop, and waits until it takes nothing new.
fn begin_stop(host: &mut Host, project: &Project, signal: &str) {
    let address = host.address();
    assert!(is_ready(&address));
    host.signal(signal);
    host.hear("stopping").unwrap();
    let taken = accepted_until_refused(&address);
    assert!(!is_ready(&address), "a host that stops is not ready");
    assert_eq!(project.count("SELECT count(*) FROM events WHERE id LIKE 'late-%'"), taken, "what it took is there");
}

#[test]
fn attempts_in_hand_finish_and_nothing_new_is_begun() {
    for signal in ["TERM", "INT"] {
        let hand = Hand::new();
        let project = project(&hand, "1h");
        let mut host = project.start();
        for id in ["o-1", "o-2", "o-3"] {
            host.emit(id, "order.created");
        }
        let in_hand = [hand.asked(), hand.asked()];
        begin_stop(&mut host, &project, signal);
        assert!(host.alive(), "it waits for what is in hand");
        for asked in in_hand {
            asked.answer(&json!({ "publish": [["order.booked", 1]] }));
        }
        let (code, said) = host.ended();
        assert_eq!(code, 0, "{said}");
        assert!(hand.asked_already().is_empty(), "nothing new is begun");
        assert_eq!(project.outcomes().values().sum::<i64>(), 2);
        assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.booked'"), 2);

        let host = project.start();
        hand.expect("worker", "o-3", 1).done();
        project.ok(&["wait", "--timeout", "5m"]);
        assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE outcome = 'done'"), 3);
        assert_eq!(host.stop().0, 0);
    }
}

#[test]
fn what_outlasts_the_grace_is_given_back_and_not_charged() {
    let hand = Hand::new();
    let project = project(&hand, "100ms");
    let mut host = project.start();
    host.emit("o-1", "order.created");
    let asked = hand.expect("worker", "o-1", 1);
    begin_stop(&mut host, &project, "TERM");
    let (code, said) = host.ended();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the grace period is over"), "{said}");
    asked.done();
    let interrupted = |attempt| (attempt, "interrupted".to_owned(), "pending".to_owned());
    assert_eq!(project.calls("worker"), [interrupted(1)]);
    let known = project.count("SELECT count(*) FROM outcomes WHERE outcome = 'interrupted' AND duration_ms > 0");
    assert_eq!(known, 1, "how long it ran is known");

    // Its only attempt is still its own, however often this happens.
    let host = project.start();
    let asked = hand.expect("worker", "o-1", 1);
    assert_eq!(asked.what["last"], true);
    assert_eq!(host.stop().0, 0);
    let _host = project.start();
    hand.expect("worker", "o-1", 1).done();
    project.ok(&["wait", "--timeout", "5m"]);
    let done = (1, "done".to_owned(), "succeeded".to_owned());
    assert_eq!(project.calls("worker"), [interrupted(1), interrupted(1), done]);
    assert_eq!(project.count("SELECT count(*) FROM dead_letters"), 0);
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let hand = Hand::new();
    let project = project(&hand, "1h");
    let mut host = project.start();
    for id in ["o-1", "o-2", "o-3"] {
        host.emit(id, "order.created");
    }
    let _in_hand = [hand.asked(), hand.asked()];
    begin_stop(&mut host, &project, "TERM");
    host.signal("TERM");
    let (code, said) = host.ended();
    assert_eq!(code, 130, "{said}");
    assert!(said.contains("the next start runs them again"), "{said}");

    let _host = project.start();
    for _ in 0..3 {
        let asked = hand.asked();
        assert_eq!(asked.what["attempt"], 1);
        asked.done();
    }
    project.ok(&["wait", "--timeout", "5m"]);
    let done = "SELECT count(*), count(DISTINCT sequence) FROM outcomes WHERE outcome = 'done'";
    assert_eq!(project.rows(done), [[json!(3), json!(3)]]);
    assert_eq!(project.count("SELECT count(*) FROM dead_letters"), 0);
}

#[test]
fn what_waits_for_its_time_does_not_hold_a_stop_up() {
    let hand = Hand::new();
    let project = project(&hand, "1h");
    let host = project.start();
    let mut stream = tidegate_tests::http::Stream::open(&host.address()).unwrap();
    host.emit("o-1", "order.created");
    hand.expect("worker", "o-1", 1).answer(&json!({ "then": "defer", "afterMs": 3_600_000 }));
    stream.next("outcome").unwrap();
    assert_eq!(host.stop().0, 0);
    assert_eq!(project.count("SELECT count(*) FROM waiting"), 1);
}

#[test]
fn nobody_is_told_that_all_is_settled_because_the_host_ended() {
    let hand = Hand::new();
    let project = project(&hand, "100ms");
    let host = project.start();
    host.emit("o-1", "order.created");
    let _in_hand = hand.asked();
    let mut waits: Vec<_> = (0..4)
        .map(|_| {
            let mut command = project.command(&["wait", "--timeout", "5m"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut raw = host.client();
    let waiting = std::thread::spawn(move || raw.get("/wait?timeout=60s").map(|response| response.status));
    assert_eq!(host.stop().0, 0);
    assert_ne!(waiting.join().unwrap().ok(), Some(200), "it was not settled");
    for wait in &mut waits {
        assert!(!wait.wait().unwrap().success(), "it was not settled");
    }
}
