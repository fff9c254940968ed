//! `tidegate bench`: what it measures, on what, and what it leaves alone. How fast anything is, no test asks.

use std::fs;

use serde_json::{Value, json};
use tidegate_tests::{Project, guest};

/// A folder without a host.
fn nowhere() -> Project {
    Project::new("tidegate: 1\n")
}

fn said(project: &Project, arguments: &[&str]) -> (Option<i32>, String) {
    let output = project.run(arguments);
    assert_eq!(output.stdout, b"", "what failed has no figures");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_measure_says_what_it_depends_on_and_leaves_nothing_behind() {
    let project = nowhere();
    let measured = project
        .json(&["bench", "--time", "20ms", "--rate", "200", "--consumers", "3", "--pending", "500", "--json"])
        .remove(0);
    let setting = &measured["setting"];
    assert!(setting["durability"].as_str().unwrap().contains("synchronous=FULL"), "{setting}");
    assert_eq!((&setting["consumers"], &setting["eventType"]), (&json!(3), &json!("order.created")));
    assert!(setting["payloadBytes"].as_u64().unwrap().abs_diff(450) < 50, "{setting}");
    let figures = measured["figures"].as_array().unwrap();
    assert!(figures.iter().all(|figure| figure["value"].as_f64().unwrap() > 0.0), "{figures:?}");
    let names: Vec<&str> = figures.iter().map(|figure| figure["name"].as_str().unwrap()).collect();
    for name in [
        "start.first",
        "restart.ready",
        "restart.first",
        "restart.crashed",
        "accept.1.rate",
        "accept.64.p99",
        "stream.settled",
        "stream.written",
        "memory.idle",
        "memory.peak",
        "latency.200.p50",
        "fan-out.settled",
        "runs.settled",
        "runs.200.max",
        "attempt.cost",
        "attempt.fuel",
    ] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    let left: Vec<_> = fs::read_dir(project.path(".")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["tidegate.yaml"]);
}

#[test]
fn a_long_history_is_measured_beside_a_short_one_where_it_is_asked_for() {
    let project = nowhere();
    let arguments = ["bench", "--only", "history", "--history", "2000", "--time", "20ms", "--json"];
    let measured = project.json(&arguments).remove(0);
    let figure = |name: &str| {
        let mut figures = measured["figures"].as_array().unwrap().iter();
        figures.find(|figure| figure["name"] == name).unwrap()["value"].as_f64().unwrap()
    };
    let (long, short) = (figure("history.long"), figure("history.short"));
    assert!(long > 0.0 && short > 0.0 && (figure("history.ratio") - long / short).abs() < 0.01, "{measured}");
}

#[test]
fn ones_own_component_is_measured_with_ones_own_events() {
    let project = nowhere();
    project.write("order.json", r#"{ "orderId": "A-1", "cents": 5 }"#);
    let letter = guest("letter");
    let arguments =
        ["bench", "--component", letter.to_str().unwrap(), "--data", "order.json", "--only", "start,attempt"];
    let shown = project.ok(&[&arguments[..], &["--time", "50ms"]].concat());
    for part in ["start.first", "attempt.cost", "letter.wasm", "synchronous=FULL", "wasmtime 48"] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
}

#[test]
fn what_fails_is_not_measured() {
    let project = nowhere();
    project.write("order.json", "[]");
    let letter = guest("letter");
    let arguments = ["bench", "--component", letter.to_str().unwrap(), "--data", "order.json", "--only", "stream"];
    let (code, said_of_events) = said(&project, &arguments);
    assert_eq!(code, Some(4), "{said_of_events}");
    assert!(said_of_events.contains("the component failed") && said_of_events.contains("--data"), "{said_of_events}");

    let batch = guest("batch");
    let (code, said_of_start) = said(&project, &["bench", "--component", batch.to_str().unwrap()]);
    assert_eq!(code, Some(3), "{said_of_start}");
    assert!(said_of_start.contains("did not start") && said_of_start.contains("handler"), "{said_of_start}");
    assert!(!project.path("tidegate-bench").exists());
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let project = nowhere();
    project.write("data/tidegate.db", "real");
    let (code, said) = said(&project, &["bench", "--folder", "data"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("tidegate.db") && said.contains("--folder"), "{said}");
    assert_eq!(fs::read_to_string(project.path("data/tidegate.db")).unwrap(), "real");
}

/// A database that somebody's host runs on is not touched, and neither is the host asked.
#[test]
fn a_host_that_runs_goes_on_undisturbed() {
    let project = Project::new("tidegate: 1\nserver: { listen: 127.0.0.1:0 }\nlog: sqlite:data/tidegate.db\n");
    let host = project.start();
    let before: Value = project.json(&["stats", "--json"]).remove(0);
    project.ok(&["bench", "--only", "start", "--time", "50ms"]);
    assert_eq!(project.json(&["stats", "--json"])[0]["lastSequence"], before["lastSequence"]);
    assert_eq!(host.stop().0, 0);
}
