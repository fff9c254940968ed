//! Runs that stand still, and the people who see to them: over HTTP and with commands, and what they are told when it is not
//! theirs to do.

use serde_json::{Value, json};
use tidegate_tests::hand::Hand;
use tidegate_tests::{Host, Project};

/// `worker` is moved by the hand. The consumer that undoes has so little fuel that it cannot, until somebody gives it more.
fn manifest(hand: &Hand, fuel: &str) -> String {
    let worker = hand.consumer("worker", "nothing.else", "");
    format!(
        "
tidegate: 1
server: {{ listen: 127.0.0.1:0, grace: 1s }}
log: sqlite:data/tidegate.db
defaults: {{ timeout: 60s, retry: {{ attempts: 1 }} }}
consumers:
  does: {{ component: step.wasm, grants: {{ publish: [order.undone] }} }}
  undoes: {{ component: step.wasm, fuel: {fuel}, grants: {{ publish: [order.undone] }} }}
{worker}pipelines:
  stops:
    on: order.created
    on-failure: stop
    steps:
      - {{ name: one, consumer: does }}
      - {{ name: two, consumer: worker }}
      - {{ name: three, consumer: does }}
  undo:
    on: order.lost
    steps:
      - {{ name: reserve, consumer: does, compensate: undoes }}
      - {{ name: pay, consumer: worker }}
"
    )
}

const MUCH: &str = "100_000_000";

fn project(hand: &Hand, fuel: &str) -> Project {
    let project = Project::new(&manifest(hand, fuel));
    project.install("puppet", "puppet.wasm");
    project.install("step", "step.wasm");
    project
}

/// Begins a run whose step of the worker fails.
fn fails(project: &Project, host: &Host, hand: &Hand, id: &str, event_type: &str) {
    host.emit(id, event_type);
    hand.expect("worker", id, 1).answer(&json!({ "then": "reject", "reason": "out of parcels" }));
    settle(project);
}

fn settle(project: &Project) {
    project.ok(&["wait", "--all", "--timeout", "5m"]);
}

fn states(project: &Project, run: &str) -> (String, Vec<String>) {
    let shown = project.json(&["runs", run, "--json"]).remove(0);
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let steps = shown["steps"].as_array().unwrap().iter().map(|step| word(&step["state"])).collect();
    (word(&shown["run"]["status"]), steps)
}

/// Both ways in say the same, each pointing with what it has itself.
fn refused(project: &Project, host: &Host, order: (&str, &str, Option<&str>), expected: (u16, &str, &str, &str)) {
    let (verb, run, step) = order;
    let (status, detail, see, hint) = expected;
    let mut arguments = vec!["runs", verb, run];
    arguments.extend(step);
    if verb != "retry-step" {
        arguments.push("--yes");
    }
    let output = project.run(&arguments);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(err, format!("error: {detail}\nhint: {hint}\n"), "{arguments:?}");
    assert_eq!(output.status.code(), Some(4), "{arguments:?}");
    let path = match step {
        None => format!("/runs/{run}/{verb}"),
        Some(step) => format!("/runs/{run}/steps/{step}/{}", verb.trim_end_matches("-step")),
    };
    let response = host.client().post(&path, b"").unwrap();
    let problem = response.json();
    assert_eq!((response.status, &problem["detail"], &problem["see"]), (status, &json!(detail), &json!(see)), "{path}");
    assert!(!problem.to_string().contains("`tidegate "), "{problem}");
}

#[test]
fn a_run_that_has_stopped_is_taken_up_where_it_stands() {
    let hand = Hand::new();
    let project = project(&hand, MUCH);
    let host = project.start();
    fails(&project, &host, &hand, "o-1", "order.created");
    assert_eq!(states(&project, "1/stops"), ("stopped".into(), ["done", "failed", "pending"].map(String::from).into()));
    let (see, hint) = ("/runs/1/stops", "See how it stands with `tidegate runs 1/stops`.");
    for verb in ["retry-step", "resolve"] {
        let done = "The run does not stand still for step 'one', which is done; it does for 'two'.";
        refused(&project, &host, (verb, "1/stops", Some("one")), (409, done, see, hint));
        let unknown = "Pipeline 'stops' has no step 'tow'; its steps are one, two, three.";
        refused(&project, &host, (verb, "1/stops", Some("tow")), (404, unknown, see, hint));
    }
    let list = "List them with `tidegate runs`.";
    refused(&project, &host, ("cancel", "9/stops", None), (404, "There is no such run.", "/runs", list));
    refused(&project, &host, ("retry-step", "9/stops", Some("two")), (404, "There is no such run.", "/runs", list));

    assert_eq!(project.ok(&["runs", "retry-step", "1/stops", "two"]), "run 1/stops is running\n");
    let asked = hand.expect("worker", "o-1", 1);
    let running = "The run does not stand still for step 'two', which is running; it goes on by itself, and there is no step to \
                   take up again.";
    refused(&project, &host, ("retry-step", "1/stops", Some("two")), (409, running, see, hint));
    asked.done();
    settle(&project);
    assert_eq!(states(&project, "1/stops"), ("completed".into(), vec!["done".into(); 3]));
    let over = "The run has ended as completed.";
    refused(&project, &host, ("retry-step", "1/stops", Some("two")), (409, over, see, hint));
    refused(&project, &host, ("resolve", "1/stops", Some("two")), (409, over, see, hint));
    refused(&project, &host, ("cancel", "1/stops", None), (409, over, see, hint));
    host.stop();
}

#[test]
fn a_step_that_somebody_has_done_by_hand_leaves_what_they_say() {
    let hand = Hand::new();
    let project = project(&hand, MUCH);
    let host = project.start();
    fails(&project, &host, &hand, "o-1", "order.created");
    fails(&project, &host, &hand, "o-2", "order.created");
    let (first, second) = (run_of(&project, "o-1"), run_of(&project, "o-2"));
    let said = project.ok(&["runs", "resolve", &first, "two", "--output", r#"{"parcel": "P-1"}"#, "--yes"]);
    assert!(said == format!("run {first} is running\n"), "{said}");
    settle(&project);
    assert_eq!(states(&project, &first), ("completed".into(), vec!["done".into(); 3]));
    let shown = project.json(&["runs", &first, "--json"]).remove(0);
    let two = &shown["steps"][1];
    assert_eq!((&two["resolved"], &two["output"]["parcel"]), (&json!(true), &json!("P-1")), "{two}");
    assert_eq!(shown["steps"][2]["output"]["outputs"][1][1]["parcel"], "P-1", "the next step has seen it");
    // Whoever cancels one that has stopped wants undone what it has left.
    project.ok(&["runs", "cancel", &second, "--yes", "--reason", "nobody wants it"]);
    settle(&project);
    let shown = project.json(&["runs", &second, "--json"]).remove(0);
    assert_eq!((&shown["run"]["status"], &shown["run"]["failure"]), (&json!("cancelled"), &json!("nobody wants it")));
    host.stop();
}

fn run_of(project: &Project, event: &str) -> String {
    let rows =
        project.rows(&format!("SELECT runs.id FROM runs JOIN events USING (sequence) WHERE events.id = '{event}'"));
    rows[0][0].as_str().unwrap().to_owned()
}

#[test]
fn a_run_that_is_stuck_is_undone_again_or_by_hand() {
    let hand = Hand::new();
    let project = project(&hand, "1_000");
    let host = project.start();
    fails(&project, &host, &hand, "o-1", "order.lost");
    fails(&project, &host, &hand, "o-2", "order.lost");
    let (first, second) = (run_of(&project, "o-1"), run_of(&project, "o-2"));
    for run in [&first, &second] {
        assert_eq!(states(&project, run), ("stuck".into(), ["undo-failed", "failed"].map(String::from).into()));
        let see = format!("/runs/{run}");
        let hint = format!("See how it stands with `tidegate runs {run}`.");
        let other = "The run does not stand still for step 'pay', which is failed; it does for 'reserve'.";
        refused(&project, &host, ("retry-step", run, Some("pay")), (409, other, &see, &hint));
        let undoing = "The run is on its way to being undone already.";
        refused(&project, &host, ("cancel", run, None), (409, undoing, &see, &hint));
    }
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'tidegate.run.stuck'"), 2);

    // Tried again as it is, it fails again, and stands as before.
    assert_eq!(project.ok(&["runs", "retry-step", &first, "reserve"]), format!("run {first} is compensating\n"));
    settle(&project);
    assert_eq!(states(&project, &first).0, "stuck");
    project.write("tidegate.yaml", manifest(&hand, MUCH));
    project.ok(&["reload"]);
    project.ok(&["runs", "retry-step", &first, "reserve"]);
    settle(&project);
    let undone: Vec<String> = ["undone", "failed"].map(String::from).into();
    assert_eq!(states(&project, &first), ("compensated".into(), undone.clone()));
    assert_eq!(
        project.count("SELECT count(*) FROM events WHERE type = 'order.undone'"),
        1,
        "it was called for this one"
    );

    let said = project.ok(&["runs", "resolve", &second, "reserve", "--yes"]);
    assert_eq!(said, format!("run {second} is compensated\n"));
    settle(&project);
    assert_eq!(states(&project, &second), ("compensated".into(), undone));
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.undone'"), 1, "and not for this one");
    let drawn = project.ok(&["runs", &second]);
    assert!(drawn.contains("an operator has seen to it"), "{drawn}");
    host.stop();
}
