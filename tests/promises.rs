//! The keys of the manifest that say how deliveries reach a consumer, on the real host: order, idempotency, rates, breakers,
//! batches, time, ephemeral consumers, crash loops. The test moves the consumers by hand.

use serde_json::{Value, json};
use tidegate_tests::hand::Hand;
use tidegate_tests::http::Stream;
use tidegate_tests::{Host, Project, until};

const HEAD: &str = "
tidegate: 1
server: { listen: 127.0.0.1:0, grace: 1s }
log: sqlite:data/tidegate.db
defaults: { timeout: 60s, retry: { attempts: 2, initial: 1ms, max: 1ms } }
consumers:
";

fn project(consumers: &str) -> Project {
    let project = Project::new(&format!("{HEAD}{consumers}"));
    project.install("puppet", "puppet.wasm");
    project
}

/// Sends an `order.created` with this payload; its sequence.
fn emit(host: &Host, id: &str, data: &Value) -> u64 {
    emit_with(host, id, data, json!({}))
}

fn emit_with(host: &Host, id: &str, data: &Value, more: Value) -> u64 {
    let mut event = json!({ "id": id, "source": "shop", "type": "order.created", "data": data });
    for (name, value) in more.as_object().unwrap() {
        event[name] = value.clone();
    }
    let response = host.client().post("/events", event.to_string().as_bytes()).unwrap();
    assert_eq!(response.status, 202, "{}", String::from_utf8_lossy(&response.body));
    response.json()["events"][0]["sequence"].as_u64().unwrap()
}

fn settle(project: &Project) {
    project.ok(&["wait", "--all", "--timeout", "5m"]);
}

/// Ids of events in the order in which their deliveries became final, with what came of them.
fn ends(project: &Project, consumer: &str) -> Vec<(String, String)> {
    let sql = format!(
        "SELECT e.id, o.outcome FROM outcomes AS o JOIN events AS e USING (sequence) WHERE o.consumer = '{consumer}' \
         AND o.state <> 'pending' ORDER BY o.started_at, o.sequence"
    );
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    project.rows(&sql).iter().map(|row| (text(&row[0]), text(&row[1]))).collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(id, outcome)| ((*id).to_owned(), (*outcome).to_owned())).collect()
}

#[test]
fn a_key_keeps_its_order_through_retries_and_a_kill_and_other_keys_go_on() {
    let hand = Hand::new();
    let more = "    order-by: data.customer\n    retry: { attempts: 9, initial: 1h, max: 1h, jitter: none }\n";
    let project = project(&hand.consumer("worker", "order.created", more));
    let host = project.start();
    for (id, customer) in [("a-1", "a"), ("a-2", "a"), ("b-1", "b")] {
        emit(&host, id, &json!({ "customer": customer }));
    }
    let mut first = [hand.asked(), hand.asked()];
    first.sort_by_key(|asked| asked.what["id"].to_string());
    let [a, b] = first;
    assert_eq!((a.what["id"].as_str(), b.what["id"].as_str()), (Some("a-1"), Some("b-1")));
    a.answer(&json!({ "then": "retry", "afterMs": 3_600_000 }));
    b.done();
    let sequence = emit(&host, "b-2", &json!({ "customer": "b" }));
    hand.expect("worker", "b-2", 1).done();
    host.client().settled("worker", sequence);
    assert!(hand.asked_already().is_empty(), "a-2 stands behind a-1");
    host.kill();
    let host = project.start();
    emit(&host, "b-3", &json!({ "customer": "b" }));
    hand.expect("worker", "b-3", 1).done();
    assert!(hand.asked_already().is_empty(), "a-2 still stands behind a-1");
    assert_eq!(project.count("SELECT count(*) FROM waiting"), 2);
    drop(host.stop());
}

#[test]
fn a_dead_letter_holds_its_key_until_it_is_released() {
    let hand = Hand::new();
    let project =
        project(&hand.consumer("worker", "order.created", "    order-by: data.customer\n    on-dead: hold\n"));
    let host = project.start();
    emit(&host, "a-1", &json!({ "customer": "a" }));
    hand.expect("worker", "a-1", 1).answer(&json!({ "then": "reject" }));
    emit(&host, "a-2", &json!({ "customer": "a" }));
    emit(&host, "b-1", &json!({ "customer": "b" }));
    hand.expect("worker", "b-1", 1).done();
    settle(&project);
    drop(host.stop());
    let host = project.start();
    assert!(hand.asked_already().is_empty(), "a is held, also after a restart");
    let released = project.ok(&["consumers", "release", "worker", "a", "--yes"]);
    assert!(released.contains('a'), "{released}");
    hand.expect("worker", "a-2", 1).done();
    settle(&project);
    assert_eq!(ends(&project, "worker"), pairs(&[("a-1", "reject"), ("b-1", "done"), ("a-2", "done")]));
    drop(host.stop());
}

#[test]
fn a_payload_without_its_order_key_is_a_dead_letter_with_that_reason() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", "    order-by: data.customer\n"));
    let host = project.start();
    emit(&host, "o-1", &json!({ "total": 3 }));
    settle(&project);
    let dead = &project.json(&["dead", "list", "--json"])[0];
    assert_eq!(dead["cause"], "refused");
    assert!(dead["reason"].as_str().unwrap().contains("data.customer"), "{dead}");
    assert!(hand.asked_already().is_empty());
    drop(host.stop());
}

#[test]
fn of_deliveries_with_one_idempotency_key_one_is_done() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", "    idempotency-key: data.order\n"));
    let host = project.start();
    emit(&host, "o-1", &json!({ "order": 7 }));
    emit(&host, "o-2", &json!({ "order": 7 }));
    let asked = hand.expect("worker", "o-1", 1);
    assert!(hand.asked_already().is_empty(), "the second one waits to see what becomes of the first");
    asked.answer(&json!({ "publish": [["order.booked", 1]] }));
    settle(&project);
    assert_eq!(ends(&project, "worker"), pairs(&[("o-1", "done"), ("o-2", "duplicate")]));
    host.kill();
    let host = project.start();
    emit(&host, "o-3", &json!({ "order": 7 }));
    settle(&project);
    assert_eq!(ends(&project, "worker").last().unwrap().1, "duplicate");
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.booked'"), 1);
    assert!(hand.asked_already().is_empty());
    drop(host.stop());
}

#[test]
fn a_breaker_opens_waits_and_closes_and_says_so() {
    let hand = Hand::new();
    let more = "    concurrency: 1\n    breaker: { failures: 2, window: 60s, recovery: 1s }\n    retry: { attempts: 9, initial: 1ms, max: 1ms }\n";
    let project = project(&hand.consumer("worker", "order.created", more));
    let host = project.start();
    let mut stream = Stream::open(&host.address()).unwrap();
    emit(&host, "o-1", &json!({}));
    for attempt in 1..=2 {
        hand.expect("worker", "o-1", attempt).answer(&json!({ "then": "retry" }));
    }
    let opened = std::iter::repeat_with(|| stream.next("event").unwrap());
    let opened = opened.map(|event| event["type"].clone()).find(|name| name != "order.created").unwrap();
    assert_eq!(opened, "tidegate.breaker.opened");
    assert!(hand.asked_already().is_empty(), "it is open");
    hand.expect("worker", "o-1", 3).done();
    settle(&project);
    while stream.next("event").unwrap()["type"] != "tidegate.breaker.closed" {}
    let kinds = "SELECT type FROM events WHERE type LIKE 'tidegate.breaker.%' ORDER BY sequence";
    let kinds: Vec<_> = project.rows(kinds).iter().map(|row| row[0].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["tidegate.breaker.opened", "tidegate.breaker.closed"]);
    drop(host.stop());
}

#[test]
fn a_batch_has_a_result_for_each_and_poison_in_it_charges_nobody_else() {
    let consumer = "  index:\n    component: batch.wasm\n    on: order.created\n    batch: { size: 5, wait: 60s }\n    \
                    retry: { attempts: 2, initial: 1ms, max: 1ms }\n    grants: { publish: ['order.**'] }\n";
    let project = project(consumer);
    project.install("batch", "batch.wasm");
    let host = project.start();
    for (n, then) in ["done", "publish", "trap", "reject", "done"].iter().enumerate() {
        emit(&host, &format!("o-{n}"), &json!({ "then": then }));
    }
    // The poison is tried twice by itself; a batch of one does not wait to be full.
    settle(&project);
    let mut ends = ends(&project, "index");
    ends.sort();
    let expected = [("o-0", "done"), ("o-1", "done"), ("o-2", "trapped"), ("o-3", "reject"), ("o-4", "done")];
    assert_eq!(ends, pairs(&expected));
    assert_eq!(project.count("SELECT count(*) FROM outcomes WHERE consumer = 'index'"), 6, "nobody else was charged");
    assert_eq!(project.count("SELECT count(*) FROM events WHERE type = 'order.noted'"), 1);
    drop(host.stop());
}

#[test]
fn what_is_not_due_waits_in_the_log_and_what_is_late_expires() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", "    timeout: 1s\n    expires-after: 2s\n"));
    let host = project.start();
    let mut told = Stream::open(&host.address()).unwrap();
    emit_with(&host, "far", &json!({}), json!({ "notBefore": "2126-01-01T00:00:00Z" }));
    emit(&host, "o-1", &json!({}));
    hand.expect("worker", "o-1", 1).answer(&json!({ "then": "defer", "afterMs": 2100 }));
    let dead = told.next("dead-letter").unwrap();
    assert_eq!(dead["cause"], "expired");
    let reason = dead["reason"].as_str().unwrap();
    let accepted = project.json(&["event", "o-1", "--json"])[0]["event"]["acceptedAt"].clone();
    // As tables show it: to the millisecond.
    let since = &accepted.as_str().unwrap()[.."2026-03-01T00:00:00.000".len()];
    assert!(reason.contains(&format!("expires-after, 2s from {since}Z")), "{reason}; accepted {accepted}");
    host.kill();
    let host = project.start();
    let due = project.rows("SELECT due_at FROM waiting");
    assert_eq!(due, [[json!("2126-01-01T00:00:00.000Z")]], "it waits, in a row, through a kill");
    assert!(hand.asked_already().is_empty());
    drop(host.stop());
}

#[test]
fn a_delivery_that_is_in_hand_each_time_the_host_dies_is_given_up() {
    let hand = Hand::new();
    let project = project(&hand.consumer("worker", "order.created", ""));
    let host = project.start();
    emit(&host, "poison", &json!({}));
    let mut asked = vec![hand.expect("worker", "poison", 1)];
    host.kill();
    for _ in 0..2 {
        let host = project.start();
        asked.push(hand.expect("worker", "poison", 1));
        host.kill();
    }
    let host = project.start();
    settle(&project);
    assert_eq!(ends(&project, "worker"), pairs(&[("poison", "crashed")]));
    assert!(hand.asked_already().is_empty(), "it was not called again");
    emit(&host, "o-1", &json!({}));
    hand.expect("worker", "o-1", 1).done();
    project.ok(&["dead", "redrive", "--cause", "crashed", "--yes"]);
    hand.expect("worker", "poison", 1).done();
    settle(&project);
    drop(host.stop());
}

#[test]
fn a_paused_consumer_stays_paused_through_a_restart() {
    let hand = Hand::new();
    let project =
        project(&[hand.consumer("worker", "order.created", ""), hand.consumer("other", "order.created", "")].concat());
    let host = project.start();
    project.ok(&["consumers", "pause", "worker"]);
    emit(&host, "o-1", &json!({}));
    hand.expect("other", "o-1", 1).done();
    drop(host.stop());
    let host = project.start();
    emit(&host, "o-2", &json!({}));
    // The other one has come as far as what was sent now; the paused one, had it forgotten, would have been called before.
    hand.expect("other", "o-2", 1).done();
    settle(&project);
    let worker = project.json(&["consumers", "--json"]).into_iter().find(|one| one["name"] == "worker").unwrap();
    assert_eq!((worker["paused"].as_bool(), worker["depth"].as_u64()), (Some(true), Some(2)), "{worker}");
    assert!(hand.asked_already().is_empty());
    project.ok(&["consumers", "resume", "worker"]);
    let mut asked = [hand.asked(), hand.asked()];
    asked.sort_by_key(|asked| asked.what["id"].to_string());
    assert_eq!(asked.each_ref().map(|asked| asked.what["id"].clone()), ["o-1", "o-2"]);
    asked.into_iter().for_each(tidegate_tests::hand::Asked::done);
    settle(&project);
    drop(host.stop());
}

#[test]
fn an_ephemeral_consumer_is_called_at_once_and_nothing_about_it_is_kept() {
    let project =
        Project::new(&format!("{HEAD}  feed: {{ component: feed.wasm, on: order.created, delivery: ephemeral }}\n"));
    // It judges orders, and needs no grant for it.
    project.install("fraud_check", "feed.wasm");
    let host = project.start();
    emit(&host, "o-1", &json!({ "orderId": "A-1" }));
    let mut client = host.client();
    let called = || {
        let metrics = String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
        metrics
            .lines()
            .any(|line| line.starts_with("tidegate_attempts_total{consumer=\"feed\"") && !line.ends_with(" 0"))
    };
    until(called);
    settle(&project);
    let feed = &project.json(&["consumers", "--json"])[0];
    assert_eq!((feed["name"].as_str(), feed["status"].as_str()), (Some("feed"), Some("ephemeral")));
    for table in ["outcomes", "waiting", "dead_letters"] {
        assert_eq!(project.count(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    drop(host.stop());
}

#[test]
fn a_paused_ephemeral_consumer_is_not_called_and_its_losses_are_counted() {
    let project =
        Project::new(&format!("{HEAD}  feed: {{ component: feed.wasm, on: order.created, delivery: ephemeral }}\n"));
    project.install("fraud_check", "feed.wasm");
    let host = project.start();
    let said = project.ok(&["consumers", "pause", "feed"]);
    assert!(said.starts_with("feed is paused"), "{said}");
    host.kill();
    // It outlives a kill.
    let host = project.start();
    emit(&host, "o-1", &json!({ "orderId": "A-1" }));
    let shown = || project.json(&["consumers", "feed", "--json"]).remove(0);
    until(|| shown()["ephemeralLost"] == 1);
    let feed = shown();
    assert_eq!((feed["status"].as_str(), feed["paused"].as_bool()), (Some("ephemeral"), Some(true)), "{feed}");
    let table = project.ok(&["consumers"]);
    assert!(
        table.lines().any(|line| line.starts_with("feed") && line.contains("ephemeral, paused, 1 lost")),
        "{table}"
    );
    project.ok(&["consumers", "resume", "feed"]);
    emit(&host, "o-2", &json!({ "orderId": "A-2" }));
    let mut client = host.client();
    let called = "tidegate_attempts_total{consumer=\"feed\"";
    let mut calls = || -> u64 {
        let metrics = String::from_utf8(client.get("/metrics").unwrap().body).unwrap();
        let of_feed = metrics.lines().filter(|line| line.starts_with(called));
        of_feed.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
    };
    until(|| calls() != 0);
    assert_eq!((calls(), &shown()["ephemeralLost"]), (1, &1.into()));
    drop(host.stop());
}

#[test]
fn a_new_consumer_may_begin_at_the_start_of_the_log_and_asks_only_for_what_it_wants() {
    let hand = Hand::new();
    let old = hand.consumer("worker", "stock.counted", "");
    let project = project(&old);
    let host = project.start();
    for (id, total) in [("o-1", 50), ("o-2", 150), ("o-3", 250)] {
        emit(&host, id, &json!({ "total": total }));
    }
    let on = "{ type: order.created, where: data.total > 100 }";
    project.write(
        "tidegate.yaml",
        format!("{HEAD}{old}{}", hand.consumer("late", on, "    from: start\n    order-by: '*'\n")),
    );
    project.ok(&["reload"]);
    hand.expect("late", "o-2", 1).done();
    hand.expect("late", "o-3", 1).done();
    settle(&project);
    host.kill();
    let host = project.start();
    settle(&project);
    assert!(hand.asked_already().is_empty(), "nothing is delivered a second time");
    drop(host.stop());
}
