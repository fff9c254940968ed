//! The wall clock set back and forth, and the process stopped for a while: nothing is lost, nothing happens twice, and what runs
//! goes on.

use std::fs;

use serde_json::json;
use tidegate_tests::hand::{Asked, Hand};
use tidegate_tests::{Host, Project};

const HOUR: i64 = 3_600_000_000;
const YEARS: i64 = 10 * 365 * 24 * HOUR;
const MINUTE: i64 = HOUR / 60;

fn project(hand: &Hand) -> Project {
    let worker = hand.consumer("worker", "order.created", "    concurrency: 8\n    retry: { attempts: 3 }\n");
    let project = Project::new(&format!(
        "
tidegate: 1
server: {{ listen: 127.0.0.1:0 }}
log: sqlite:data/tidegate.db
retention: {{ events: 3650d, outcomes: 3650d }}
defaults: {{ timeout: 60s }}
consumers:
{worker}"
    ));
    project.install("puppet", "puppet.wasm");
    project
}

/// The clock, and the host that goes by it.
struct Moved {
    project: Project,
    host: Host,
}

impl Moved {
    fn start(hand: &Hand) -> Self {
        let project = project(hand);
        let clock = project.path("clock");
        let host = project.start_faulty(&[("TIDEGATE_FAULTY_CLOCK", clock.to_str().unwrap())]).unwrap();
        Self { project, host }
    }

    fn set(&self, by: i64) {
        self.project.write("clock", by.to_string());
    }
}

/// What asks, by the event's id, until all of these have.
fn asked(hand: &Hand, ids: &[String]) -> Vec<Asked> {
    let all: Vec<Asked> = ids.iter().map(|_| hand.asked()).collect();
    let mut found: Vec<&str> = all.iter().map(|asked| asked.what["id"].as_str().unwrap()).collect();
    let mut wanted: Vec<&str> = ids.iter().map(String::as_str).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    all
}

#[test]
fn a_clock_that_is_set_neither_loses_nor_repeats_anything() {
    let hand = Hand::new();
    let moved = Moved::start(&hand);
    let mut waiting: Vec<(String, i64)> = Vec::new();
    let mut clock = 0;
    for (round, by) in [HOUR, -HOUR, YEARS, -YEARS, 0, YEARS + HOUR].into_iter().enumerate() {
        let (runs, waits, nudge) = (format!("runs-{round}"), format!("waits-{round}"), format!("nudge-{round}"));
        let sequence = moved.host.emit(&waits, "order.created");
        hand.expect("worker", &waits, 1).answer(&json!({ "then": "defer", "afterMs": 60_000 }));
        moved.host.client().settled("worker", sequence);
        waiting.push((waits, clock + MINUTE));
        moved.host.emit(&runs, "order.created");
        let in_hand = hand.expect("worker", &runs, 1);
        clock = by;
        moved.set(by);
        // It has run for a moment, whatever the clock says.
        in_hand.done();
        // The dispatcher looks at the clock when something happens, or twice a minute.
        moved.host.emit(&nudge, "order.created");
        let mut expected: Vec<String> = waiting.extract_if(.., |(_, due)| *due < clock).map(|(id, _)| id).collect();
        expected.push(nudge);
        asked(&hand, &expected).into_iter().for_each(Asked::done);
    }
    assert!(waiting.is_empty());
    moved.project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert!(hand.asked_already().is_empty(), "nothing runs twice");
    // What is settled and so old may be taken away meanwhile; what is there is there once.
    let finals = "SELECT count(*) - count(DISTINCT sequence) FROM outcomes WHERE state <> 'pending'";
    assert_eq!(moved.project.count(finals), 0);
    assert_eq!(moved.project.count("SELECT count(*) FROM waiting"), 0);
    assert_eq!(moved.project.count("SELECT count(*) FROM outcomes WHERE outcome NOT IN ('done', 'defer')"), 0);
    assert_eq!(moved.project.count("SELECT count(*) FROM dead_letters"), 0);
    let (code, said) = moved.host.stop();
    assert_eq!(code, 0, "{said}");
    // At another time again: what is settled stays settled.
    let host = moved.project.start();
    moved.project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert!(hand.asked_already().is_empty());
    assert_eq!(host.stop().0, 0);
}

/// Waits until the kernel says that it is stopped.
fn stopped(host: &Host) {
    loop {
        let stat = fs::read_to_string(format!("/proc/{}/stat", host.pid())).unwrap();
        if stat.rsplit(')').next().unwrap().trim_start().starts_with('T') {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_process_that_is_stopped_for_a_while_goes_on_where_it_stood() {
    let hand = Hand::new();
    let project = project(&hand);
    let host = project.start();
    for round in 0..5 {
        let ids: Vec<String> = (0..4).map(|n| format!("o-{round}-{n}")).collect();
        ids.iter().for_each(|id| assert!(host.emit(id, "order.created") > 0));
        let in_hand = asked(&hand, &ids);
        host.signal("STOP");
        stopped(&host);
        // Answers and new work come while it cannot look.
        in_hand.into_iter().for_each(Asked::done);
        let address = host.address();
        let late = format!("late-{round}");
        let event = format!(r#"{{"id":"{late}","source":"shop","type":"order.created","data":{{}}}}"#);
        let sender = std::thread::spawn(move || {
            let mut client = tidegate_tests::http::Client::connect(&address).unwrap();
            client.post("/events", event.as_bytes()).unwrap().status
        });
        host.signal("CONT");
        assert_eq!(sender.join().unwrap(), 202);
        hand.expect("worker", &late, 1).done();
    }
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert!(hand.asked_already().is_empty(), "nothing runs twice");
    let row = &project.rows("SELECT count(*), count(DISTINCT sequence) FROM outcomes")[0];
    assert_eq!(row, &[json!(25), json!(25)], "one outcome each, and all at the first attempt");
    assert_eq!(host.stop().0, 0);
}
