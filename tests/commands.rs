//! The commands, as a person or a script meets them: beside a running host and with nothing but its database.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use tidegate_tests::hand::Hand;
use tidegate_tests::http::Stream;
use tidegate_tests::{Host, Project, root};

fn manifest(consumers: &str) -> String {
    format!(
        "
tidegate: 1
server: {{ listen: 127.0.0.1:0 }}
log: sqlite:data/tidegate.db
defaults: {{ timeout: 60s, retry: {{ attempts: 2, initial: 1ms, max: 1ms }} }}
consumers:
{consumers}"
    )
}

const LEDGER: &str =
    "  ledger: { component: ledger.wasm, on: order.created, grants: { publish: [order.booked], state: true } }\n";

fn ledger() -> Project {
    let project = Project::new(&manifest(LEDGER));
    project.install("ledger", "ledger.wasm");
    project
}

/// A project with some of everything in its record.
fn eventful(hand: &Hand) -> (Project, Host) {
    let project = Project::new(&manifest(&(hand.consumer("worker", "order.*", "") + LEDGER)));
    project.install("ledger", "ledger.wasm");
    project.install("puppet", "puppet.wasm");
    let host = project.start();
    let answers = [
        json!({ "publish": [["parcel.sent", { "ä\u{1}": [1.0, "\u{1F600}"] }]], "increment": "n" }),
        json!({ "then": "reject", "reason": "a\u{1b}[2J \"quoted\"\nreason" }),
        json!({ "then": "retry", "reason": "later", "afterMs": 3_600_000 }),
    ];
    for (n, answer) in answers.iter().enumerate() {
        let mut stream = Stream::open(&host.address()).unwrap();
        host.emit(&format!("o-{n}"), "order.paid");
        hand.expect("worker", &format!("o-{n}"), 1).answer(answer);
        stream.next("outcome").unwrap();
    }
    let mut client = host.client();
    let odd = [
        r#"{"id":"deep","source":"a b/ü","type":"order.made","subject":"S","key":"K","dataVersion":"2.1.0","correlationId":"c-1",
            "timestamp":"2026-01-31T08:00:00.123456Z","attributes":{"flag":true,"number":-7,"text":"ü"},
            "data":{"big":123456789012345678901234567890,"again":1,"again":2,"n":1.0}}"#,
        r#"{"id":"text","source":"s","type":"memo.left","contentType":"text/plain","dataText":"hello\u0000"}"#,
        r#"{"id":"bytes","source":"s","type":"memo.left","contentType":"image/png","dataBase64":"iVBORw0KGgr/"}"#,
        r#"{"id":"none","source":"s","type":"memo.left"}"#,
        r#"{"id":"null","source":"s","type":"memo.left","data":null}"#,
        r#"{"id":"l-1","source":"s","type":"order.created","data":{}}"#,
    ];
    for event in odd {
        let response = client.post("/events", event.as_bytes()).unwrap();
        assert_eq!(response.status, 202, "{}", String::from_utf8_lossy(&response.body));
    }
    // Order.* is the worker's as well: made, created and what the ledger books.
    for _ in 0..3 {
        hand.asked().done();
    }
    // One delivery waits for an hour, so there is no end to wait for.
    let mut stream = Stream::open(&host.address()).unwrap();
    while project.count("SELECT count(*) FROM outcomes WHERE outcome = 'done'") < 5 {
        stream.next("outcome").unwrap();
    }
    (project, host)
}

fn reading_commands() -> Vec<Vec<&'static str>> {
    let lines = [
        "events",
        "events --type order.**",
        "events --source shop --limit 2",
        "events --correlation c-1",
        "events --after 2 --limit 3",
        "events --subject S",
        "event o-0",
        "event o-1",
        "event deep",
        "event text",
        "event bytes",
        "event s#null",
        "event 1",
        "outcomes",
        "outcomes --consumer worker --outcome retry",
        "outcomes --sequence 1",
        "dead list",
        "dead list --status all --cause rejected",
        "dead show 3/worker",
        "consumers",
        "stats",
        "state worker",
        "state ledger --prefix seen/",
    ];
    lines.iter().map(|line| line.split(' ').collect()).collect()
}

/// What a command prints with `--json` and these arguments, as text: numbers are not to be rounded on the way.
fn printed(project: &Project, command: &[&str], more: &[&str]) -> String {
    project.ok(&[command, more, &["--json"]].concat())
}

#[test]
fn reading_commands_say_the_same_with_a_host_and_without() {
    let hand = Hand::new();
    let (project, host) = eventful(&hand);
    let dead = project.json(&["dead", "list", "--json"]);
    assert_eq!(dead[0]["id"], "3/worker", "{dead:?}");
    let file = ["--database", "data/tidegate.db"];
    // The size of the file is the only thing that may move while nothing happens.
    let steady = |text: String| -> Vec<String> {
        let steady = |line: &str| match serde_json::from_str::<Value>(line) {
            Ok(mut row) if row.get("databaseBytes").is_some() => {
                row["databaseBytes"] = Value::Null;
                row.to_string()
            }
            _ => line.to_owned(),
        };
        text.lines().map(steady).collect()
    };
    let mut with_host = Vec::new();
    for command in reading_commands() {
        let told = steady(printed(&project, &command, &[]));
        assert!(!told.is_empty(), "{command:?} shows nothing");
        for line in &told {
            assert!(serde_json::from_str::<Value>(line).is_ok_and(|row| row.is_object()), "{command:?}: {line}");
            assert!(!line.contains('\u{1b}'), "{command:?}: {line}");
        }
        assert_eq!(told, steady(printed(&project, &command, &file)), "{command:?} beside the host, from the file");
        with_host.push(told);
    }
    assert_eq!(host.stop().0, 0);
    for (command, told) in reading_commands().iter().zip(with_host) {
        assert_eq!(told, steady(printed(&project, command, &[])), "{command:?} without a host");
    }
}

#[test]
fn rows_have_the_documented_fields() {
    let hand = Hand::new();
    let (project, _host) = eventful(&hand);
    let cases: [(&[&str], &str); 7] = [
        (
            &["events", "--correlation", "c-1"],
            "sequence id type source subject key dataVersion timestamp acceptedAt correlationId depth contentType attributes data",
        ),
        (
            &["outcomes", "--sequence", "1"],
            "sequence eventId eventType consumer round call attempt outcome state startedAt durationMs fuel memoryPeak \
             published generation component",
        ),
        (&["dead", "list"], "id sequence eventId eventType consumer round cause outcome reason attempts diedAt status"),
        (&["dead", "show", "3/worker"], "deadLetter outcomes event"),
        (&["consumers"], "name kind status on component running depth waiting succeeded failedAttempts deadLetters"),
        (
            &["stats"],
            "events lastSequence outcomes waiting deadLetters generation databaseBytes firstEventAt lastEventAt lastOutcomeAt",
        ),
        (&["state", "worker"], "consumer key version bytes value"),
    ];
    for (command, fields) in cases {
        let row = &project.json(&[command, &["--json"]].concat())[0];
        for field in fields.split_whitespace() {
            assert!(row.get(field).is_some(), "{command:?} has no '{field}': {row}");
        }
    }
    let tree = &project.json(&["event", "o-0", "--json"])[0];
    assert_eq!(tree["event"]["id"], "o-0");
    assert_eq!(tree["deliveries"][0]["outcomes"][0]["outcome"], "done", "{tree}");
    assert_eq!(tree["deliveries"][0]["events"][0]["event"]["type"], "parcel.sent");
    let later = &project.json(&["event", "o-2", "--json"])[0]["deliveries"][0];
    assert!(later["dueAt"].as_str().is_some_and(|at| at.ends_with('Z')) && later["blocked"].is_null(), "{later}");
    assert!(project.ok(&["event", "o-2"]).contains("worker  pending, due 20"));
    let stats = &project.json(&["stats", "--json"])[0];
    assert_eq!((&stats["waiting"], &stats["deadLetters"]), (&json!(1), &json!(1)), "{stats}");
    // As it came, number for number.
    let deep = project.ok(&["events", "--correlation", "c-1", "--json"]);
    assert!(deep.contains(r#""data":{"big":123456789012345678901234567890,"again":1,"again":2,"n":1.0}"#), "{deep}");
    assert!(deep.contains(r#""attributes":{"flag":true,"number":-7,"text":"ü"}"#), "{deep}");
}

#[test]
fn what_is_not_there_has_its_own_exit_code() {
    let project = ledger();
    let output = project.run(&["events"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("data/tidegate.db") && said.contains("tidegate run"), "no host, no database: {said}");
    let host = project.start();
    for (command, code) in [
        (["event", "nobody"].as_slice(), 4),
        (&["dead", "show", "1/ledger"], 4),
        (&["dead", "redrive", "1/ledger", "--yes"], 4),
        (&["state", "nobody"], 4),
        (&["events", "--since", "yesterday"], 2),
        (&["emit", "order.created", "{"], 2),
        (&["emit", "Not A Type", "{}"], 2),
        (&["emit", "tidegate.reloaded", "{}"], 2),
    ] {
        let output = project.run(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{command:?}: {said}");
        assert!(said.starts_with("error"), "{command:?}: {said}");
    }
    assert_eq!(host.stop().0, 0);
    assert_eq!(project.run(&["emit", "order.created", "{}"]).status.code(), Some(5), "nobody to send it to");
    assert_eq!(project.run(&["wait"]).status.code(), Some(5));
}

#[test]
fn waiting_has_an_end() {
    let hand = Hand::new();
    let project = Project::new(&manifest(&hand.consumer("worker", "order.created", "")));
    project.install("puppet", "puppet.wasm");
    let host = project.start();
    let first = host.emit("o-1", "order.paid");
    host.emit("o-2", "order.created");
    let in_hand = hand.asked();
    let output = project.run(&["wait", "--timeout", "50ms"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("1 delivery"), "{said}");
    let through = first.to_string();
    let settled = project.json(&["wait", "--through", &through, "--timeout", "5m", "--json"]);
    assert_eq!(settled, [json!({ "settled": true, "through": first })]);
    in_hand.done();
    project.ok(&["wait", "--timeout", "5m"]);
}

#[test]
fn events_are_sent_in_every_way() {
    let project = ledger();
    let host = project.start();
    let named = ["--id", "i-1", "--source", "/till", "--correlation", "c-9", "--key", "k", "--subject", "s", "--json"];
    let sent =
        project.json(&[["emit", "order.paid", r#"{"n":1.0}"#, "--attribute", "flag=true"].as_slice(), &named].concat());
    assert_eq!(sent, [json!({ "id": "i-1", "sequence": 1, "duplicate": false })]);
    let again =
        project.json(&[["emit", "order.paid", r#"{"n":1.0}"#, "--attribute", "flag=true"].as_slice(), &named].concat());
    assert_eq!(again, [json!({ "id": "i-1", "sequence": 1, "duplicate": true })]);
    let other = project.run(&[["emit", "order.paid", r#"{"n":2}"#].as_slice(), &named].concat());
    assert_eq!(other.status.code(), Some(4), "another event of that id: {}", String::from_utf8_lossy(&other.stderr));
    let event = &project.json(&["events", "--type", "order.paid", "--json"])[0];
    for (field, value) in [("id", "i-1"), ("source", "/till"), ("correlationId", "c-9"), ("key", "k"), ("subject", "s")]
    {
        assert_eq!(event[field], value, "{event}");
    }
    assert_eq!(event["attributes"], json!({ "flag": true }));

    project.write("payload.json", " {\"from\": \"a file\"}\n");
    project.ok(&["emit", "memo.left", "--file", "payload.json"]);
    let fed = project.feed(&["emit", "memo.left", "--file", "-"], b"[\"standard input\"]");
    assert!(fed.status.success(), "{}", String::from_utf8_lossy(&fed.stderr));
    let memos = project.json(&["events", "--type", "memo.left", "--json"]);
    let data: Vec<_> = memos.iter().map(|memo| memo["data"].clone()).collect();
    assert_eq!(data, [json!({ "from": "a file" }), json!(["standard input"])]);

    let line = |n: u32| format!(r#"{{"id":"n-{n}","source":"s","type":"order.counted","data":{n}}}"#) + "\n";
    let lines: String = (0..1_000).map(line).collect();
    project.write("lines.ndjson", &lines);
    let fed = project.json(&["emit", "--ndjson", "--file", "lines.ndjson", "--json"]);
    assert_eq!((&fed[0]["accepted"], &fed[0]["duplicates"]), (&json!(1_000), &json!(0)), "{fed:?}");
    let more = lines.clone() + &line(1_000);
    let fed = project.feed(&["emit", "--ndjson", "--json"], more.as_bytes());
    let fed: Value = serde_json::from_slice(&fed.stdout).unwrap();
    assert_eq!((&fed["accepted"], &fed["duplicates"]), (&json!(1), &json!(1_000)), "{fed}");
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.counted'"), 1_001);

    // A line that is no event ends it, with its number; what came before it stands, unless the host took a batch whole.
    let known = |id: &str| project.count(&format!("SELECT count(*) FROM events WHERE id = '{id}'"));
    for (wrong, sent) in [("{\"type\": ", true), ("{\"type\": 7}", false)] {
        let bad = line(2_000) + wrong + "\n" + &line(2_001);
        let output = project.feed(&["emit", "--ndjson"], bad.as_bytes());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("line 2 of "), "{said}");
        assert_eq!(said.contains("None of lines 1 to 3"), !sent, "{said}");
        assert_eq!((known("n-2000"), known("n-2001")), (1, 0), "{said}");
    }
    let bad = line(3_000) + "{\"type\": 7}\n" + &line(3_001);
    let refused = host.client().send("POST", "/events", "application/x-ndjson", bad.as_bytes()).unwrap();
    let problem = refused.json();
    assert_eq!((refused.status, &problem["line"], &problem["accepted"]), (400, &json!(2), &json!(1)), "{problem}");
    assert_eq!((known("n-3000"), known("n-3001")), (1, 0));
}

#[test]
fn tail_shows_what_comes() {
    let project = ledger();
    let host = project.start();
    let mut command = project.command(&["tail", "--json", "--type", "order.created"]);
    let mut tail = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(tail.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    // Nobody knows when it has begun to watch, so events are sent until one is seen.
    let mut told = Vec::new();
    for n in 0.. {
        host.emit(&format!("o-{n}"), "order.created");
        host.emit(&format!("p-{n}"), "order.paid");
        project.ok(&["wait", "--all", "--timeout", "5m"]);
        told.extend(lines.try_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap()));
        if ["event", "outcome"].iter().all(|kind| told.iter().any(|told| told["kind"] == *kind)) {
            break;
        }
        assert!(n < 500, "tail shows nothing");
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    let event = told.iter().find(|told| told["kind"] == "event").unwrap();
    assert_eq!(event["record"]["type"], "order.created");
    let outcome = told.iter().find(|told| told["kind"] == "outcome").unwrap();
    assert_eq!((&outcome["record"]["consumer"], &outcome["record"]["outcome"]), (&json!("ledger"), &json!("done")));
    assert!(!told.iter().any(|told| told["record"]["type"] == "order.paid"), "that was not asked for");
}

#[test]
fn state_is_shown_by_prefix() {
    let project = ledger();
    let host = project.start();
    for n in 0..60 {
        host.emit(&format!("o-{n}"), "order.created");
    }
    project.ok(&["wait", "--all", "--timeout", "5m"]);
    assert_eq!(project.json(&["state", "ledger", "--json"]).len(), 50, "fifty unless more are asked for");
    assert_eq!(project.json(&["state", "ledger", "--limit", "all", "--json"]).len(), 61);
    let some = project.json(&["state", "ledger", "--prefix", "seen/o-1", "--json"]);
    assert_eq!(some.len(), 11, "{some:?}");
    assert_eq!(project.json(&["state", "ledger", "--prefix", "total", "--json"])[0]["value"], "60");
    assert!(project.ok(&["state", "ledger", "--prefix", "total"]).contains("60"));
}

#[test]
fn a_reload_says_what_came_of_it() {
    let project = ledger();
    assert_eq!(project.run(&["reload"]).status.code(), Some(5), "no host");
    let _host = project.start();
    let same = project.json(&["reload", "--json"]);
    assert_eq!(same, [json!({ "generation": 1, "changes": [] })]);
    project.write("tidegate.yaml", manifest(&LEDGER.replace("state: true", "state: true, http: nonsense")));
    let output = project.run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("error[TG") && said.contains("tidegate.yaml:7"), "{said}");
    let check = project.run(&["check"]);
    assert_eq!(check.status.code(), Some(3));
    project.write("tidegate.yaml", manifest(&LEDGER.replace("order.created", "order.paid")));
    // The host may have seen the change by itself by now.
    let live = &project.json(&["reload", "--json"])[0];
    assert_eq!(live["generation"], 2, "{live}");
    assert_eq!(project.count("SELECT max(generation) FROM generations"), 2);
}

#[test]
fn a_beginning_that_has_not_come_is_warned_of() {
    let project = ledger();
    let from = |time: &str| manifest(&LEDGER.replace("on: order.created", &format!("on: order.created, from: {time}")));
    project.write("tidegate.yaml", from("2999-01-01T00:00:00Z"));
    let check = project.run(&["check"]);
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(0), "{said}");
    assert!(said.contains("warning[TG323]: `ledger` is to begin at 2999-01-01T00:00:00.000Z"), "{said}");
    assert!(said.contains("tidegate.yaml:"), "{said}");
    project.write("tidegate.yaml", from("2020-01-01T00:00:00Z"));
    assert_eq!(project.json(&["check", "--json"])[0]["warnings"], 0);
}

#[test]
fn the_schema_accepts_the_examples_and_nothing_else() {
    let project = ledger();
    let schema: Value = serde_json::from_str(&project.ok(&["schema"])).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
    let mut examples = 0;
    for entry in std::fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path().join("tidegate.yaml");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let errors: Vec<String> = validator.iter_errors(&read(&text)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        examples += 1;
    }
    assert!(examples > 0);
    assert!(validator.is_valid(&read(&manifest(LEDGER))));
    for wrong in ["component: ledger.wsm: 1", "on: [7]", "grants: { state: maybe }", "tiemout: 5s"] {
        let text = format!("tidegate: 1\nconsumers:\n  a:\n    component: a.wasm\n    {wrong}\n");
        if let Ok(value) = serde_saphyr::from_str::<Value>(&text) {
            assert!(!validator.is_valid(&value), "{wrong}");
        }
    }
}

#[test]
fn a_shell_understands_its_completions() {
    let project = ledger();
    for shell in ["bash", "zsh", "fish"] {
        let script = project.ok(&["completions", shell]);
        for word in ["redrive", "emit", "--correlation"] {
            assert!(script.contains(word.trim_start_matches('-')), "{shell}: no {word}");
        }
    }
    project.write("completions.bash", project.ok(&["completions", "bash"]));
    let status = std::process::Command::new("bash").arg("-n").arg(project.path("completions.bash")).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_batch_of_cloudevents_goes_out_and_comes_back_the_same() {
    let hand = Hand::new();
    let (project, host) = eventful(&hand);
    let batch = "application/cloudevents-batch+json";
    let mut client = host.client();
    // What consumers and the host publish cannot be sent by anybody else.
    let types = ["order.paid", "order.made", "memo.left"];
    for event_type in types {
        let out = client.get_as(&format!("/events?type={event_type}"), batch).unwrap();
        assert_eq!(out.status, 200);
        assert!(out.headers.to_lowercase().contains(&format!("content-type: {batch}")), "{}", out.headers);
        let events = out.json();
        let rows = project.json(&["events", "--type", event_type, "--json"]);
        assert_eq!(events.as_array().unwrap().len(), rows.len());
        for (event, row) in events.as_array().unwrap().iter().zip(&rows) {
            assert_eq!(event["specversion"], "1.0");
            for (theirs, ours) in
                [("id", "id"), ("type", "type"), ("source", "source"), ("correlationid", "correlationId")]
            {
                assert_eq!(event[theirs], row[ours], "{event}");
            }
        }
        let back = client.send("POST", "/events", batch, &out.body).unwrap();
        assert_eq!(back.status, 202, "{}", String::from_utf8_lossy(&back.body));
        let back = back.json();
        assert_eq!((&back["accepted"], &back["duplicates"]), (&json!(0), &json!(rows.len())), "{event_type}: {back}");
    }
}

#[test]
fn a_new_consumer_builds_passes_its_test_and_runs() {
    let project = Project::new("tidegate: 1\nserver: { listen: 127.0.0.1:0 }\nfolder: drop\n");
    let sdk = root().join("guest-sdk");
    project.ok(&["new", "consumer", "greet", "--type", "guest.arrived", "--sdk", sdk.to_str().unwrap()]);
    let cargo = |arguments: &[&str]| {
        let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(project.path("greet")).args(arguments);
        // Kept from run to run: only the consumer itself is new.
        cargo.env("CARGO_TARGET_DIR", root().join("target/scaffold")).env_remove("RUSTFLAGS");
        let output = cargo.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(cargo(&["test"]).contains("2 passed"));
    // Not for release: that is optimised for a minute.
    cargo(&["build", "--target", "wasm32-wasip2"]);
    let component = std::fs::read(root().join("target/scaffold/wasm32-wasip2/debug/greet.wasm")).unwrap();
    project.write("drop/guest.arrived/greet.wasm", component);
    let _host = project.start();
    project.ok(&["emit", "guest.arrived", r#"{"name":"Ada"}"#]);
    project.ok(&["wait", "--timeout", "5m"]);
    let outcome = &project.json(&["outcomes", "--consumer", "greet", "--json"])[0];
    assert_eq!(
        (&outcome["outcome"], &outcome["output"]),
        (&json!("done"), &json!(r#"{"handled":"Ada"}"#)),
        "{outcome}"
    );
    assert_eq!(outcome["logs"][0]["message"], "guest.arrived for Ada");
}
