//! Pipelines on the real host: steps and what they leave behind, waits, compensation, kills and reloads in the middle of a run.

use serde_json::{Value, json};
use tidegate_tests::hand::Hand;
use tidegate_tests::{Host, Project, until};

const HEAD: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0, grace: 1s }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s, retry: { attempts: 2, initial: 1ms, max: 1ms } }
consumers:
  step: { component: step.wasm, grants: { publish: [order.undone] } }
  other: { component: step.wasm, grants: { publish: [order.undone] } }
";

fn project(consumers: &str, pipelines: &str) -> Project {
    let project = Project::new(&manifest(consumers, pipelines));
    project.install("puppet", "puppet.wasm");
    project.install("step", "step.wasm");
    project
}

fn manifest(consumers: &str, pipelines: &str) -> String {
    format!("{HEAD}{consumers}pipelines:\n{pipelines}")
}

fn emit(host: &Host, id: &str, event_type: &str, data: &Value) -> u64 {
    let event = json!({ "id": id, "source": "shop", "type": event_type, "data": data });
    let response = host.client().post("/events", event.to_string().as_bytes()).unwrap();
    assert_eq!(response.status, 202, "{}", String::from_utf8_lossy(&response.body));
    response.json()["events"][0]["sequence"].as_u64().unwrap()
}

fn settle(project: &Project) {
    project.ok(&["wait", "--all", "--timeout", "5m"]);
}

/// The status of a run, by the id of its event.
fn status(project: &Project, event: &str) -> String {
    let sql = format!("SELECT status FROM runs JOIN events USING (sequence) WHERE events.id = '{event}'");
    project.rows(&sql).first().map_or_else(String::new, |row| row[0].as_str().unwrap().to_owned())
}

/// What became of a run, line by line.
fn journal(project: &Project, event: &str) -> Vec<String> {
    let sql = format!(
        "SELECT entry, step FROM run_journal AS j JOIN runs AS r ON r.id = j.run JOIN events AS e ON e.sequence = r.sequence \
         WHERE e.id = '{event}' ORDER BY line"
    );
    let word = |value: &Value| value.as_str().map_or_else(String::new, |text| format!(" {text}"));
    project.rows(&sql).iter().map(|row| format!("{}{}", row[0].as_str().unwrap(), word(&row[1]))).collect()
}

fn types(project: &Project, like: &str) -> Vec<String> {
    let sql = format!("SELECT type FROM events WHERE type LIKE '{like}' ORDER BY sequence");
    project.rows(&sql).iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

const SAGA: &str = "
  fulfil:
    on: order.created
    key: data.order
    steps:
      - { name: reserve, consumer: step, compensate: step }
      - parallel:
          - { name: pay, consumer: other, compensate: other }
          - { name: gift, consumer: step, when: data.gift }
      - { name: last, consumer: worker }
";

fn worker(hand: &Hand) -> String {
    // A step's consumer subscribes to nothing.
    hand.consumer("worker", "nothing.else", "")
}

#[test]
fn steps_see_what_the_steps_before_them_left_behind() {
    let hand = Hand::new();
    let project = project(&worker(&hand), SAGA);
    let host = project.start();
    emit(&host, "1", "order.created", &json!({ "order": "A", "gift": false }));
    let asked = hand.expect("worker", "1", 1);
    assert_eq!(status(&project, "1"), "running");
    asked.done();
    settle(&project);
    assert_eq!(
        journal(&project, "1"),
        [
            "began",
            "step-began reserve",
            "done reserve",
            "step-began pay",
            "skipped gift",
            "done pay",
            "step-began last",
            "done last",
            "ended"
        ]
    );
    let sql = "SELECT output FROM run_journal WHERE entry = 'done' AND step = 'pay'";
    let output: Value = serde_json::from_str(project.rows(sql)[0][0].as_str().unwrap()).unwrap();
    assert_eq!(
        (&output["id"], &output["pipeline"], &output["step"]),
        (&json!("1/fulfil"), &json!("fulfil"), &json!("pay"))
    );
    assert_eq!(output["outputs"][0][0], "reserve");
    assert_eq!(output["outputs"][0][1]["step"], "reserve", "what the step before returned");
    assert_eq!(types(&project, "tidegate.run.%"), ["tidegate.run.started", "tidegate.run.completed"]);
    let origins = project.rows("SELECT consumer, origin FROM outcomes ORDER BY consumer");
    assert_eq!(origins[0], [json!("fulfil"), json!("subscription")]);
    assert_eq!(origins[1], [json!("other"), json!("step")]);
    host.stop();
}

#[test]
fn a_step_that_fails_has_everything_before_it_undone_the_last_one_first() {
    let hand = Hand::new();
    let project = project(&worker(&hand), SAGA);
    let host = project.start();
    emit(&host, "1", "order.created", &json!({ "order": "A", "gift": false }));
    hand.expect("worker", "1", 1).answer(&json!({ "then": "retry" }));
    hand.expect("worker", "1", 2).answer(&json!({ "then": "reject", "reason": "out of parcels" }));
    settle(&project);
    assert_eq!(status(&project, "1"), "compensated");
    let lines = journal(&project, "1");
    assert_eq!(
        lines[lines.len() - 8..],
        [
            "failed last",
            "failing",
            "compensating",
            "undo-began pay",
            "undone pay",
            "undo-began reserve",
            "undone reserve",
            "ended"
        ]
    );
    assert_eq!(project.count("SELECT count(*) FROM dead_letters"), 0, "the run has dealt with it");
    let undone = project.rows("SELECT source, data FROM events WHERE type = 'order.undone' ORDER BY sequence");
    assert_eq!(undone[0][0], "/consumers/other");
    let data: Value = serde_json::from_str(undone[0][1].as_str().unwrap()).unwrap();
    assert_eq!(data["output"]["step"], "pay", "it is told what the step had returned");
    let told = project.rows("SELECT data FROM events WHERE type = 'tidegate.run.compensated'");
    let told: Value = serde_json::from_str(told[0][0].as_str().unwrap()).unwrap();
    assert_eq!(told["reason"], "step 'last' has failed: out of parcels");
    host.stop();
}

#[test]
fn a_key_has_one_run() {
    let hand = Hand::new();
    let project = project(&worker(&hand), SAGA);
    let host = project.start();
    emit(&host, "1", "order.created", &json!({ "order": "A", "gift": true }));
    // Of events that come at the same time either may be the first.
    let last = hand.expect("worker", "1", 1);
    emit(&host, "2", "order.created", &json!({ "order": "A", "gift": true }));
    last.done();
    settle(&project);
    emit(&host, "3", "order.created", &json!({ "order": "A", "gift": true }));
    emit(&host, "4", "order.created", &json!({ "gift": true }));
    settle(&project);
    assert_eq!(project.count("SELECT count(*) FROM runs"), 1);
    let outcomes =
        project.rows("SELECT sequence, outcome, reason FROM outcomes WHERE consumer = 'fulfil' AND outcome <> 'done'");
    let words: Vec<_> = outcomes.iter().map(|row| row[1].as_str().unwrap()).collect();
    assert_eq!(words, ["duplicate", "duplicate", "refused"]);
    assert_eq!(outcomes[0][2], "run 1/fulfil has the same key");
    assert_eq!(project.count("SELECT count(*) FROM dead_letters WHERE consumer = 'fulfil'"), 1, "it has no key");
    host.stop();
}

#[test]
fn a_killed_host_goes_on_at_the_step_that_it_had_reached() {
    let hand = Hand::new();
    let project = project(&worker(&hand), SAGA);
    let host = project.start();
    emit(&host, "1", "order.created", &json!({ "order": "A", "gift": true }));
    let asked = hand.expect("worker", "1", 1);
    host.kill();
    drop(asked);
    let host = project.start();
    hand.expect("worker", "1", 1).done();
    settle(&project);
    assert_eq!(status(&project, "1"), "completed");
    assert_eq!(
        project.count("SELECT count(*) FROM outcomes WHERE consumer IN ('step', 'other')"),
        3,
        "each of them once"
    );
    host.stop();
}

#[test]
fn a_wait_ends_with_its_event_whenever_that_comes_or_with_its_time() {
    let hand = Hand::new();
    let pipelines = "
  settle:
    on: order.created
    key: data.order
    steps:
      - { name: begin, consumer: worker }
      - { name: settled, wait-for: payment.settled, match: { event: data.for, run: data.order }, timeout: 1h }
      - { name: end, consumer: step, when: steps.settled.good }
  expect:
    on: order.lost
    steps:
      - { name: never, wait-for: payment.lost, match: data.order, timeout: 1ms }
";
    let project = project(&worker(&hand), pipelines);
    let host = project.start();
    emit(&host, "1", "order.created", &json!({ "order": "A" }));
    emit(&host, "2", "order.created", &json!({ "order": "B" }));
    let (first, second) = (hand.asked(), hand.asked());
    // For the one it comes before its turn, for the other after.
    emit(&host, "3", "payment.settled", &json!({ "for": "A", "good": true }));
    first.done();
    second.done();
    emit(&host, "4", "payment.settled", &json!({ "for": "B", "good": false }));
    emit(&host, "5", "order.lost", &json!({ "order": "C" }));
    settle(&project);
    // Nobody delivers what never comes: its time has to pass.
    until(|| status(&project, "5") == "compensated");
    assert_eq!((status(&project, "1"), status(&project, "2")), ("completed".into(), "completed".into()));
    assert!(journal(&project, "1").contains(&"done end".into()), "{:?}", journal(&project, "1"));
    assert!(journal(&project, "2").contains(&"skipped end".into()), "{:?}", journal(&project, "2"));
    let late = project.rows("SELECT DISTINCT reason FROM run_journal WHERE entry = 'failed'");
    assert_eq!(late, [[json!("the event that it waits for did not come in time")]]);
    host.stop();
}

#[test]
fn a_run_goes_by_the_definition_that_it_began_with() {
    let hand = Hand::new();
    let before = "
  fulfil:
    on: order.created
    steps:
      - { name: one, consumer: worker }
      - { name: settled, wait-for: payment.settled, match: data.order, timeout: 1h }
      - { name: two, consumer: step }
";
    let project = project(&worker(&hand), before);
    let mut host = project.start();
    emit(&host, "1", "order.created", &json!({ "order": "A" }));
    let asked = hand.expect("worker", "1", 1);
    let after = "
  fulfil:
    on: order.created
    steps: [{ name: only, consumer: other }]
";
    project.write("tidegate.yaml", manifest(&worker(&hand), after));
    project.ok(&["reload"]);
    emit(&host, "2", "order.created", &json!({ "order": "B" }));
    asked.done();
    settle(&project);
    // The pipeline as a whole is gone now; the run that it has left still gets what it waits for.
    project.write(
        "tidegate.yaml",
        manifest(&worker(&hand), "  other-one: { on: a.b, steps: [{ name: x, consumer: step }] }\n"),
    );
    host.hear("removed fulfil (its open run goes on as it began)").unwrap();
    let standing = |name: &str| -> (Value, Value) {
        let mut listed = project.json(&["consumers", "--json"]).into_iter();
        let found = listed.find(|consumer| consumer["name"] == name).unwrap();
        (found["kind"].clone(), found["status"].clone())
    };
    let (pipeline, removed) = (json!("pipeline"), json!("removed"));
    assert_eq!(standing("fulfil"), (pipeline.clone(), removed.clone()), "it is there for its run alone");
    let (code, said) = host.stop();
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("go on when it is back"), "{said}");
    assert_eq!(standing("fulfil"), (pipeline.clone(), removed));
    let mut host = project.start();
    emit(&host, "3", "payment.settled", &json!({ "order": "A" }));
    settle(&project);
    assert_eq!((status(&project, "1"), status(&project, "2")), ("completed".into(), "completed".into()));
    assert_eq!(journal(&project, "2"), ["began", "step-began only", "done only", "ended"]);
    assert!(journal(&project, "1").contains(&"done two".into()), "{:?}", journal(&project, "1"));
    emit(&host, "4", "order.created", &json!({ "order": "C" }));
    settle(&project);
    assert_eq!(project.count("SELECT count(*) FROM runs"), 2, "what is gone begins nothing");
    // It comes back under a definition of its own.
    project.write("tidegate.yaml", manifest(&worker(&hand), after));
    host.hear("is live: added fulfil,").unwrap();
    assert_eq!(standing("fulfil"), (pipeline, json!("active")));
    emit(&host, "5", "order.created", &json!({ "order": "D" }));
    settle(&project);
    assert_eq!(journal(&project, "5"), ["began", "step-began only", "done only", "ended"]);
    host.stop();
}

#[test]
fn what_a_failure_does_to_a_run_is_the_manifests_to_say() {
    let hand = Hand::new();
    let steps = "
    steps:
      - { name: one, consumer: step, compensate: step }
      - { name: two, consumer: other }
      - { name: three, consumer: step }
";
    let pipelines = format!(
        "  stops:\n    on: order.created\n    on-failure: stop{steps}  continues:\n    on: order.created\n    on-failure: continue{steps}"
    );
    let project = project(&worker(&hand), &pipelines);
    let host = project.start();
    emit(&host, "1", "order.created", &json!({ "order": "A" }));
    settle(&project);
    assert_eq!(project.count("SELECT count(*) FROM runs WHERE status = 'completed'"), 2);
    // Only the step of `other` fails: it alone is told so.
    project.write(
        "tidegate.yaml",
        manifest(&worker(&hand), &pipelines)
            .replace("other: { component: step.wasm,", "other: { component: step.wasm, fuel: 1_000,"),
    );
    project.ok(&["reload"]);
    emit(&host, "2", "order.created", &json!({ "order": "B" }));
    settle(&project);
    let of = |pipeline: &str| {
        let sql = format!(
            "SELECT status FROM runs JOIN events USING (sequence) WHERE events.id = '2' AND pipeline = '{pipeline}'"
        );
        project.rows(&sql)[0][0].as_str().unwrap().to_owned()
    };
    assert_eq!((of("stops"), of("continues")), ("stopped".into(), "partial".into()));
    let told = project.rows("SELECT data FROM events WHERE type = 'tidegate.run.partial'");
    let told: Value = serde_json::from_str(told[0][0].as_str().unwrap()).unwrap();
    let states: Vec<_> = told["steps"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["done", "failed", "done"], "each step's result");
    assert!(told["steps"][1]["reason"].as_str().unwrap().contains("fuel"), "{told}");
    assert_eq!(types(&project, "order.undone"), [""; 0]);
    host.stop();
}

#[test]
fn a_cancelled_run_waits_for_what_is_in_hand_and_for_no_retry() {
    let hand = Hand::new();
    let worker =
        hand.consumer("worker", "nothing.else", "    retry: { attempts: 9, initial: 1h, max: 1h, jitter: none }\n");
    let project = project(&worker, SAGA);
    let host = project.start();
    let first = emit(&host, "1", "order.created", &json!({ "order": "A", "gift": false }));
    let second = emit(&host, "2", "order.created", &json!({ "order": "B", "gift": false }));
    let (one, two) = (hand.asked(), hand.asked());
    let (waits, works) = if one.what["id"] == "1" { (one, two) } else { (two, one) };
    waits.answer(&json!({ "then": "retry" }));
    until(|| project.count("SELECT count(*) FROM waiting WHERE consumer = 'worker' AND attempts = 1") != 0);
    for run in [first, second] {
        project.ok(&["runs", "cancel", &format!("{run}/fulfil"), "--yes"]);
    }
    until(|| status(&project, "1") == "cancelled");
    assert!(journal(&project, "1").contains(&"withdrawn last".into()), "{:?}", journal(&project, "1"));
    assert_eq!(status(&project, "2"), "running", "nobody knows yet what its step has done");
    works.done();
    settle(&project);
    assert_eq!(status(&project, "2"), "cancelled");
    let lines = journal(&project, "2");
    assert!(lines.contains(&"done last".into()) && lines.contains(&"undone reserve".into()), "{lines:?}");
    assert!(hand.asked_already().is_empty(), "what is withdrawn is not called again");
    host.stop();
}

#[test]
fn a_pipeline_is_called_one_wherever_it_stands() {
    let hand = Hand::new();
    let project = project(&worker(&hand), SAGA);
    let checked = project.ok(&["check"]);
    assert!(checked.contains("tidegate.yaml is valid: 3 consumers, 1 pipeline, "), "{checked}");
    let summary = project.json(&["check", "--json"]).pop().unwrap();
    let fulfil = json!({ "name": "fulfil", "on": ["order.created"], "steps": ["reserve", "pay", "gift", "last"] });
    assert_eq!((&summary["pipelines"], &summary["schedules"]), (&json!([fulfil]), &json!([])));
    let kinds = || -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        let listed = project.json(&["consumers", "--json"]);
        listed.iter().map(|consumer| (word(&consumer["name"]), word(&consumer["kind"]))).collect()
    };
    let expected = [("fulfil", "pipeline"), ("other", "consumer"), ("step", "consumer"), ("worker", "consumer")];
    let expected = expected.map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    let host = project.start();
    assert_eq!(kinds(), expected);
    // What was a pipeline may become a consumer, and the other way round.
    let other = "  other-one: { on: a.b, steps: [{ name: x, consumer: step }] }\n";
    let text = manifest(&(worker(&hand) + &hand.consumer("fulfil", "order.created", "")), other);
    project.write("tidegate.yaml", text);
    project.ok(&["reload"]);
    host.stop();
    let now = kinds();
    assert_eq!(now[0], ("fulfil".to_owned(), "consumer".to_owned()), "also without a host: {now:?}");
    assert!(now.contains(&("other-one".to_owned(), "pipeline".to_owned())), "{now:?}");
}
