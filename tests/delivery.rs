//! What becomes of a delivery: retries, deferrals, rejections, dead letters and what an attempt leaves behind. The test
//! moves the consumers by hand.

use serde_json::{Value, json};
use tidegate_tests::hand::Hand;
use tidegate_tests::http::Stream;
use tidegate_tests::{Host, Project};

const HEAD: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0, grace: 1s }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s, retry: { attempts: 3, initial: 1ms, max: 1ms } }
consumers:
";

fn project(consumers: &str) -> Project {
    let project = Project::new(&format!("{HEAD}{consumers}"));
    project.install("puppet", "puppet.wasm");
    project
}

fn settle(project: &Project) {
    project.ok(&["wait", "--all", "--timeout", "5m"]);
}

fn calls(expected: &[(i64, &str, &str)]) -> Vec<(i64, String, String)> {
    expected.iter().map(|&(attempt, outcome, state)| (attempt, outcome.to_owned(), state.to_owned())).collect()
}

fn texts(project: &Project, sql: &str) -> Vec<String> {
    project.rows(sql).iter().map(|row| row[0].as_str().unwrap_or_default().to_owned()).collect()
}

/// Milliseconds between the end of each attempt and the start of the next.
fn gaps(project: &Project) -> Vec<f64> {
    let times = project.rows("SELECT julianday(started_at) * 86400000.0, duration_ms FROM outcomes ORDER BY call");
    let number = |row: &Vec<Value>, column: usize| row[column].as_f64().unwrap();
    // The view shows whole milliseconds.
    times.windows(2).map(|two| number(&two[1], 0) - number(&two[0], 0) - number(&two[0], 1) + 2.0).collect()
}

/// Rejects one event and waits for its end; what the event then is to `dead`.
fn kill_one(hand: &Hand, host: &Host, project: &Project, id: &str) -> String {
    let mut stream = Stream::open(&host.address()).unwrap();
    host.emit(id, "order.created");
    hand.expect("worker", id, 1).answer(&json!({ "then": "reject", "reason": "never" }));
    let dead = stream.next("dead-letter").unwrap()["id"].as_str().unwrap().to_owned();
    let shown = project.ok(&["dead", "show", &dead]);
    assert!(shown.contains("never") && shown.contains(id), "{shown}");
    dead
}

#[test]
fn a_failed_attempt_is_followed_by_another_later_and_later_and_only_the_last_one_counts() {
    let hand = Hand::new();
    let more = "    retry: { attempts: 5, initial: 50ms, factor: 2, max: 10s, jitter: none }\n";
    let project = project(&hand.consumer("worker", "order.created", more));
    let host = project.start();
    host.emit("o-1", "order.created");
    for attempt in 1..=3 {
        let asked = hand.expect("worker", "o-1", attempt);
        assert_eq!(asked.what["last"], false);
        asked.answer(&json!({ "then": "retry", "increment": "n", "publish": [["order.booked", attempt]] }));
    }
    hand.expect("worker", "o-1", 4).answer(&json!({ "increment": "n", "publish": [["order.booked", 4]] }));
    settle(&project);
    let pending = |attempt| (attempt, "retry", "pending");
    let expected = [pending(1), pending(2), pending(3), (4, "done", "succeeded")];
    assert_eq!(project.calls("worker"), calls(&expected));
    for (gap, least) in gaps(&project).into_iter().zip([50.0, 100.0, 200.0]) {
        assert!(gap >= least, "{gap} ms and not {least}");
    }
    let booked = project.json(&["events", "--type", "order.booked", "--json"]);
    assert_eq!(booked.iter().map(|event| event["data"].clone()).collect::<Vec<_>>(), [json!(4)]);
    assert_eq!(project.json(&["state", "worker", "--json"])[0]["value"], "1");
    assert_eq!(project.json(&["outcomes", "--outcome", "done", "--json"])[0]["published"], 1);
    assert_eq!(project.json(&["outcomes", "--outcome", "retry", "--json"])[0]["published"], 0);
}

#[test]
fn a_consumer_may_say_itself_how_long_to_wait() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", ""));
    let host = project.start();
    host.emit("o-1", "order.created");
    hand.expect("worker", "o-1", 1).answer(&json!({ "then": "retry", "afterMs": 300 }));
    hand.expect("worker", "o-1", 2).done();
    settle(&project);
    assert!(gaps(&project)[0] >= 300.0, "{:?}", gaps(&project));
}

#[test]
fn a_deferral_costs_no_attempt() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", "    retry: { attempts: 2 }\n"));
    let host = project.start();
    host.emit("o-1", "order.created");
    for _ in 0..5 {
        hand.expect("worker", "o-1", 1).answer(&json!({ "then": "defer", "afterMs": 1 }));
    }
    hand.expect("worker", "o-1", 1).answer(&json!({ "then": "retry" }));
    hand.expect("worker", "o-1", 2).answer(&json!({ "then": "defer", "afterMs": 1 }));
    let last = hand.expect("worker", "o-1", 2);
    assert_eq!(last.what["last"], true);
    last.done();
    settle(&project);
    let defer = |attempt| (attempt, "defer", "pending");
    let mut expected = vec![defer(1); 5];
    expected.extend([(1, "retry", "pending"), defer(2), (2, "done", "succeeded")]);
    assert_eq!(project.calls("worker"), calls(&expected));
    let numbers: Vec<i64> = project.rows("SELECT call FROM outcomes").iter().map(|r| r[0].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<_>>(), "calls are counted over all");
}

#[test]
fn a_rejected_event_is_a_dead_letter_at_once_and_an_event_of_its_own() {
    let (hand, other) = (Hand::new(), Hand::new());
    let alert = other.consumer("alert", "tidegate.dead-lettered", "");
    let project = project(&(hand.consumer("worker", "order.created", "") + &alert));
    let host = project.start();
    let mut stream = Stream::open(&host.address()).unwrap();
    let sequence = host.emit("o-1", "order.created");
    let what =
        json!({ "then": "reject", "reason": "no such shop", "increment": "n", "publish": [["order.booked", 1]] });
    hand.expect("worker", "o-1", 1).answer(&what);
    let told = other.asked();
    assert_eq!(told.what["type"], "tidegate.dead-lettered");
    let data = told.what["data"].clone();
    told.done();
    settle(&project);
    let id = format!("{sequence}/worker");
    let expected = [
        ("deadLetter", json!(id)),
        ("sequence", json!(sequence)),
        ("eventId", json!("o-1")),
        ("eventType", json!("order.created")),
        ("source", json!("shop")),
        ("consumer", json!("worker")),
        ("round", json!(0)),
        ("cause", json!("rejected")),
        ("outcome", json!("reject")),
        ("reason", json!("no such shop")),
        ("attempts", json!(1)),
    ];
    for (field, value) in expected {
        assert_eq!(data[field], value, "{field} in {data}");
    }
    assert_eq!(project.calls("worker"), calls(&[(1, "reject", "dead")]));
    // The host's own event is not the attempt's; and what is told at once is what is kept.
    let kept = project.json(&["outcomes", "--consumer", "worker", "--json"])[0].clone();
    assert_eq!(kept["published"], 0);
    assert_eq!(stream.next("outcome").unwrap(), kept);
    assert_eq!(project.count("SELECT count(*) FROM events"), 2, "the order and its dead letter, nothing published");
    assert_eq!(project.count("SELECT count(*) FROM state"), 0);
    let dead = &project.json(&["dead", "list", "--json"])[0];
    assert_eq!(
        (&dead["id"], &dead["cause"], &dead["reason"]),
        (&json!(id), &json!("rejected"), &json!("no such shop"))
    );
    let tree = project.ok(&["event", "o-1"]);
    assert!(tree.contains("tidegate.dead-lettered") && tree.contains("alert"), "{tree}");
}

#[test]
fn after_the_last_attempt_there_is_no_other() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", ""));
    let host = project.start();
    host.emit("o-1", "order.created");
    for attempt in 1..=3 {
        let asked = hand.expect("worker", "o-1", attempt);
        assert_eq!(asked.what["last"], attempt == 3);
        asked.answer(&json!({ "then": "retry", "reason": format!("failure {attempt}") }));
    }
    settle(&project);
    let expected = [(1, "retry", "pending"), (2, "retry", "pending"), (3, "retry", "dead")];
    assert_eq!(project.calls("worker"), calls(&expected));
    let dead = &project.json(&["dead", "list", "--json"])[0];
    assert_eq!(dead["cause"], "attempts-exhausted");
    assert_eq!((&dead["attempts"], &dead["reason"]), (&json!(3), &json!("failure 3")));
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'tidegate.dead-lettered'"), 1);
}

#[test]
fn a_dead_letter_is_redriven_into_a_round_of_its_own() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", ""));
    let host = project.start();
    let first = kill_one(&hand, &host, &project, "o-1");
    let made = project.json(&["dead", "redrive", &first, "--yes", "--json"]);
    assert_eq!(made.len(), 1, "{made:?}");
    let asked = hand.expect("worker", "o-1", 1);
    assert_eq!(asked.what["replayed"], true);
    asked.answer(&json!({ "then": "reject", "reason": "still not" }));
    settle(&project);
    let second = format!("{first}/1");
    let listed = |status| -> Vec<Value> {
        let rows = project.json(&["dead", "list", "--status", status, "--json"]);
        rows.iter().map(|row| row["id"].clone()).collect()
    };
    assert_eq!((listed("dead"), listed("redriven")), (vec![json!(second)], vec![json!(first)]));
    project.ok(&["dead", "redrive", &second, "--yes"]);
    hand.expect("worker", "o-1", 1).answer(&json!({ "publish": [["order.booked", 1]], "increment": "n" }));
    settle(&project);
    assert!(listed("dead").is_empty());
    let rounds = project.rows("SELECT round, outcome FROM outcomes ORDER BY round");
    assert_eq!(rounds, [[json!(0), json!("reject")], [json!(1), json!("reject")], [json!(2), json!("done")]]);
    let tree = project.ok(&["event", "o-1"]);
    assert!(tree.contains("order.booked"), "what the redrive published belongs to the event's tree:\n{tree}");
    // What was decided cannot be decided again.
    let again = project.run(&["dead", "redrive", &first, "--yes"]);
    assert_eq!(again.status.code(), Some(4), "{}", String::from_utf8_lossy(&again.stderr));
}

#[test]
fn dead_letters_are_redriven_by_filter_and_discarded() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.**", ""));
    let host = project.start();
    let [first, second, third] = ["o-1", "o-2", "o-3"].map(|id| kill_one(&hand, &host, &project, id));
    host.emit("p-1", "order.paid");
    hand.expect("worker", "p-1", 1).answer(&json!({ "then": "reject" }));
    settle(&project);
    assert!(project.run(&["dead", "redrive", "--yes"]).status.code() == Some(2), "what to redrive must be said");
    project.ok(&["dead", "discard", &first, "--yes"]);
    let made = project.json(&["dead", "redrive", "--type", "order.created", "--yes", "--json"]);
    assert_eq!(made.len(), 2, "not the discarded one, not the payment: {made:?}");
    let mut again: Vec<Value> = (0..2)
        .map(|_| {
            let asked = hand.asked();
            let id = asked.what["id"].clone();
            asked.done();
            id
        })
        .collect();
    again.sort_by_key(ToString::to_string);
    assert_eq!(again, ["o-2", "o-3"]);
    settle(&project);
    let statuses = project.rows("SELECT id, status FROM dead_letters WHERE type = 'order.created' ORDER BY sequence");
    let status = |id: &String, status: &str| vec![json!(id), json!(status)];
    assert_eq!(statuses, [status(&first, "discarded"), status(&second, "redriven"), status(&third, "redriven")]);
    assert_eq!(project.json(&["dead", "list", "--json"]).len(), 1, "the payment is still dead");
}

#[test]
fn a_chain_of_causes_ends_where_the_manifest_says() {
    let hand = Hand::new();
    let project = project(&hand.consumer("mirror", "loop.turned", "    chain-depth: 5\n    retry: { attempts: 3 }\n"));
    let host = project.start();
    host.emit("l-1", "loop.turned");
    hand.answer_all(json!({ "publish": [["loop.turned", 1]] }));
    settle(&project);
    let depths = project.rows("SELECT depth FROM events WHERE type = 'loop.turned' ORDER BY sequence");
    assert_eq!(depths, (0..=5).map(|depth| [json!(depth)]).collect::<Vec<_>>(), "one from outside and five caused");
    assert_eq!(project.count("SELECT count(*) FROM events"), 7, "and one dead letter");
    let outcomes = project.calls("mirror");
    assert_eq!(outcomes.last().unwrap(), &(1, "refused".to_owned(), "dead".to_owned()), "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|(_, outcome, _)| outcome == "done").count(), 5);
    let dead = &project.json(&["dead", "list", "--json"])[0];
    assert_eq!(dead["cause"], "refused");
    assert!(dead["reason"].as_str().unwrap().contains("chain of more than 5"), "{dead}");
    assert_eq!(project.json(&["events", "--correlation", "l-1", "--json"]).len(), 7, "all of one correlation");
}

#[test]
fn the_hosts_own_events_come_only_to_those_who_name_them() {
    let hand = Hand::new();
    let everything = hand.consumer("everything", "'**'", "");
    let host_events = hand.consumer("curious", "tidegate.**", "");
    let project = project(&(everything + &host_events));
    let mut host = project.start();
    host.emit("o-1", "order.created");
    hand.expect("everything", "o-1", 1).answer(&json!({ "then": "reject" }));
    let told = hand.asked();
    assert_eq!((&told.what["consumer"], &told.what["type"]), (&json!("curious"), &json!("tidegate.dead-lettered")));
    told.done();
    project.ok(&["reload"]);
    let manifest = std::fs::read_to_string(project.path("tidegate.yaml")).unwrap();
    project.write("tidegate.yaml", manifest.replace("60s", "61s"));
    host.hear("generation 2 is live").unwrap();
    let told = hand.asked();
    assert_eq!((&told.what["consumer"], &told.what["type"]), (&json!("curious"), &json!("tidegate.reloaded")));
    told.done();
    settle(&project);
    let seen = texts(&project, "SELECT type FROM outcomes JOIN events USING (sequence) WHERE consumer = 'everything'");
    assert_eq!(seen, ["order.created"]);
}

#[test]
fn a_consumer_gets_the_versions_that_it_understands() {
    let (one, rest) = (Hand::new(), Hand::new());
    let first = one.consumer("first", "{ type: order.created, version: ^1.2 }", "");
    let others = rest.consumer("others", "[order.paid, { type: 'order.*', version: '>=2, <4' }]", "");
    let project = project(&(first + &others));
    let host = project.start();
    one.answer_all(json!({}));
    rest.answer_all(json!({}));
    for version in ["1.1.9", "1.2.0", "1.9.3", "2.0.0", "3.9.9", "4.0.0"] {
        let id = ["--id", version, "--data-version", version];
        project.ok(&[["emit", "order.created", "{}"].as_slice(), &id].concat());
    }
    host.emit("paid", "order.paid");
    settle(&project);
    let of = |name: &str| {
        let sql = format!(
            "SELECT id FROM outcomes JOIN events USING (sequence) WHERE consumer = '{name}' AND outcome = 'done' \
             ORDER BY sequence"
        );
        texts(&project, &sql)
    };
    assert_eq!(of("first"), ["1.2.0", "1.9.3"]);
    assert_eq!(of("others"), ["2.0.0", "3.9.9", "paid"]);
}

#[test]
fn no_more_attempts_run_at_once_than_allowed() {
    let (few, many) = (Hand::new(), Hand::new());
    let bounded = few.consumer("bounded", "order.created", "    concurrency: 3\n");
    let project = project(&(bounded + &many.consumer("wide", "order.created", "    concurrency: 12\n")));
    let host = project.start();
    for n in 0..12 {
        host.emit(&format!("o-{n}"), "order.created");
    }
    let mut held: Vec<_> = (0..3).map(|_| few.asked()).collect();
    // Beside them another consumer has begun all twelve, so there was room and time to begin a fourth.
    (0..12).map(|_| many.asked()).collect::<Vec<_>>().into_iter().for_each(|asked| asked.done());
    let mut seen = 3;
    while !held.is_empty() {
        let more = few.asked_already();
        assert!(more.is_empty(), "{} attempts run at once", held.len() + more.len());
        let consumers = project.json(&["consumers", "--json"]);
        let row = consumers.iter().find(|row| row["name"] == "bounded").unwrap();
        assert!(row["running"].as_u64().unwrap() <= 3, "{row}");
        held.remove(0).done();
        if seen < 12 {
            held.push(few.asked());
            seen += 1;
        }
    }
    settle(&project);
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE outcome = 'done' AND consumer = 'bounded'"), 12);
}

#[test]
fn concurrent_increments_add_up() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", "    concurrency: 16\n"));
    let host = project.start();
    for n in 0..16 {
        host.emit(&format!("o-{n}"), "order.created");
    }
    let all: Vec<_> = (0..16).map(|_| hand.asked()).collect();
    let answer = json!({ "increment": "total", "publish": [["order.booked", 1]] });
    all.into_iter().for_each(|asked| asked.answer(&answer));
    // Those that lose the race run again, and ask again.
    hand.answer_all(answer);
    settle(&project);
    assert_eq!(project.json(&["state", "worker", "--json"])[0]["value"], "16");
    assert_eq!(project.calls("worker"), calls(&[(1, "done", "succeeded"); 16]), "a lost race costs nothing");
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.booked'"), 16);
}

#[test]
fn a_new_consumer_begins_at_the_end_of_the_log() {
    let hand = Hand::new();
    let old = hand.consumer("old", "order.created", "");
    let new = hand.consumer("new", "order.created", "");
    let project = project(&old);
    let host = project.start();
    hand.answer_all(json!({}));
    for n in 0..3 {
        host.emit(&format!("o-{n}"), "order.created");
    }
    project.write("tidegate.yaml", format!("{HEAD}{old}{new}"));
    project.ok(&["reload"]);
    host.emit("o-3", "order.created");
    settle(&project);
    let seen = "SELECT id FROM outcomes JOIN events USING (sequence) WHERE consumer =";
    assert_eq!(texts(&project, &format!("{seen} 'new'")), ["o-3"]);
    assert_eq!(texts(&project, &format!("{seen} 'old'")), ["o-0", "o-1", "o-2", "o-3"]);
    // Nor does a restart change where it began.
    assert_eq!(host.stop().0, 0);
    let _host = project.start();
    settle(&project);
    assert_eq!(texts(&project, &format!("{seen} 'new'")), ["o-3"]);
}

#[test]
fn a_removed_consumer_keeps_what_waits_for_it_and_goes_on_when_it_is_back() {
    let hand = Hand::new();
    let (stays, leaves) = (hand.consumer("stays", "order.paid", ""), hand.consumer("leaves", "order.created", ""));
    let project = project(&format!("{stays}{leaves}"));
    let host = project.start();
    let mut stream = Stream::open(&host.address()).unwrap();
    host.emit("o-1", "order.created");
    let in_hand = hand.expect("leaves", "o-1", 1);
    project.write("tidegate.yaml", format!("{HEAD}{stays}"));
    project.ok(&["reload"]);
    in_hand.answer(&json!({ "then": "retry", "afterMs": 1 }));
    assert_eq!(stream.next("outcome").unwrap()["outcome"], "retry", "what was in hand is settled all the same");
    host.emit("o-2", "order.created");
    host.emit("p-1", "order.paid");
    hand.expect("stays", "p-1", 1).done();
    settle(&project);
    let rows = project.json(&["consumers", "--json"]);
    let row = rows.iter().find(|row| row["name"] == "leaves").expect("it is still shown");
    assert_eq!((&row["status"], &row["depth"]), (&json!("removed"), &json!(1)));

    // Neither a restart nor the time makes it go away.
    assert_eq!(host.stop().0, 0);
    let _host = project.start();
    settle(&project);
    assert!(hand.asked_already().is_empty());
    project.write("tidegate.yaml", format!("{HEAD}{stays}{leaves}"));
    project.ok(&["reload"]);
    hand.expect("leaves", "o-1", 2).done();
    settle(&project);
    assert_eq!(project.calls("leaves"), calls(&[(1, "retry", "pending"), (2, "done", "succeeded")]));
}

#[test]
fn an_outcome_tells_which_code_it_came_from() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", ""));
    let sum = || {
        let file = project.path("puppet.wasm");
        let output = std::process::Command::new("sha256sum").arg(file).output().unwrap();
        String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().to_owned()
    };
    let mut host = project.start();
    let before = sum();
    host.emit("o-1", "order.created");
    let in_hand = hand.expect("worker", "o-1", 1);
    // A custom section at the end: other bytes, the same behaviour.
    let mut bytes = std::fs::read(project.path("puppet.wasm")).unwrap();
    bytes.extend_from_slice(&[0, 5, 4, b'n', b'o', b't', b'e']);
    project.write("puppet.wasm", bytes);
    host.hear("generation 2 is live: changed worker").unwrap();
    // What was in hand stays what it was; its next attempt is the new code's.
    in_hand.answer(&json!({ "then": "retry" }));
    hand.expect("worker", "o-1", 2).done();
    settle(&project);
    let after = sum();
    assert_ne!(before, after);
    let rows = project.rows("SELECT generation, component FROM outcomes WHERE consumer = 'worker' ORDER BY call");
    assert_eq!(rows, [[json!(1), json!(before)], [json!(2), json!(after)]]);
}

#[test]
fn a_delivery_after_a_kill_publishes_the_same_ids() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", ""));
    let answer = json!({ "tell": true, "publish": [["order.booked", 1], ["order.booked", 2]] });
    let host = project.start();
    host.emit("o-1", "order.created");
    hand.expect("worker", "o-1", 1).answer(&answer);
    let asked = hand.asked();
    let first = asked.what["published"].clone();
    host.kill();
    drop(asked);
    let _host = project.start();
    hand.expect("worker", "o-1", 1).answer(&answer);
    let asked = hand.asked();
    let second = asked.what["published"].clone();
    asked.answer(&json!({ "then": "retry" }));
    hand.expect("worker", "o-1", 2).answer(&answer);
    let asked = hand.asked();
    let third = asked.what["published"].clone();
    asked.done();
    settle(&project);
    assert_eq!((&first, &second), (&second, &third));
    let ids = texts(&project, "SELECT id FROM events WHERE type = 'order.booked' ORDER BY sequence");
    assert_eq!(json!(ids), first);
    assert_ne!(ids[0], ids[1]);
}
