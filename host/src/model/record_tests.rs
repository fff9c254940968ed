use std::collections::BTreeMap;

use serde_json::json;

use super::*;

/// The names in the first column of the tables, by the heading that they stand under.
fn documented() -> BTreeMap<String, Vec<String>> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json.md")).unwrap();
    let (mut tables, mut heading) = (BTreeMap::new(), String::new());
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            heading = title.to_owned();
        } else if heading.is_empty() {
            // The table of the commands, before the first record.
        } else if let Some((field, _)) = line.strip_prefix("| `").and_then(|row| row.split_once('`')) {
            tables.entry(heading.clone()).or_insert_with(Vec::new).push(field.to_owned());
        }
    }
    tables
}

/// Reads `full`, which has every field, as a `T`, and gives the fields that are written again.
fn fields<T: Serialize + serde::de::DeserializeOwned>(full: &Value) -> Vec<String> {
    let record: T = serde_json::from_value(full.clone()).unwrap();
    let Value::Object(object) = serde_json::to_value(&record).unwrap() else { panic!("not an object") };
    assert_eq!(object.len(), full.as_object().unwrap().len(), "a field of the example is not one of the record");
    object.keys().cloned().collect()
}

#[test]
fn every_field_is_documented_and_no_other() {
    let now = "2026-02-01T11:59:00Z";
    // `data`, `dataText` and `dataBase64` are never there together, but a record holds them all.
    let event = json!({ "sequence": 1, "id": "e", "type": "a.b", "source": "/s", "subject": "s", "key": "k",
        "dataVersion": "1.0.0", "timestamp": now, "acceptedAt": now, "correlationId": "c", "causationId": "d",
        "traceparent": "t", "notBefore": now, "job": { "to": "c" }, "depth": 0, "contentType": "application/json",
        "attributes": { "a": 1 }, "data": 1, "dataText": "x", "dataBase64": "eA==" });
    let line = json!({ "level": "info", "message": "m", "fields": { "a": "b" } });
    let outcome = json!({ "sequence": 1, "eventId": "e", "eventType": "a.b", "consumer": "c", "round": 0, "origin": "replay", "call": 1,
        "attempt": 1, "outcome": "done", "state": "succeeded", "reason": "r", "startedAt": now, "durationMs": 0.5,
        "fuel": 1, "memoryPeak": 1, "published": 0, "generation": 1, "component": "00", "output": "x",
        "logs": [line], "logsDropped": 1 });
    let letter = json!({ "id": "1/c", "sequence": 1, "eventId": "e", "eventType": "a.b", "consumer": "c", "round": 0,
        "cause": "rejected", "outcome": "reject", "reason": "r", "attempts": 1, "diedAt": now, "status": "dead" });
    let consumer = json!({ "name": "c", "kind": "pipeline", "status": "active", "on": ["a.b"], "component": "00", "running": 0,
        "depth": 0, "waiting": 0, "oldestWaitingSince": now, "succeeded": 0, "failedAttempts": 0, "deadLetters": 0,
        "paused": false, "breaker": "open", "blocked": 0, "heldKeys": 0, "ephemeralLost": 0 });
    let replay = json!({ "id": 1, "status": "done", "from": 1, "to": 2, "type": "a.*", "key": "k", "correlation": "c",
        "consumer": "c", "rate": "100/s", "position": 2, "made": 1, "finished": 1, "dead": 0, "failing": 0, "skipped": 0,
        "createdAt": now, "endedAt": now });
    let content = json!({ "path": "/a", "bytes": 1, "lastSequence": 1, "hash": "00", "events": 1, "outcomes": 1, "waiting": 0,
        "deadLetters": 0 });
    let stats = json!({ "events": 1, "lastSequence": 1, "outcomes": { "done": 1 }, "waiting": 0, "deadLetters": 0,
        "generation": 1, "databaseBytes": 1, "firstEventAt": now, "lastEventAt": now, "lastOutcomeAt": now });
    let state = json!({ "consumer": "c", "key": "k", "version": 1, "bytes": 1, "expiresAt": now, "value": "v",
        "valueBase64": "dg==" });
    let query = json!({ "number": 1, "id": "q", "type": "a.b", "askedAt": now, "responder": "c", "askedBy": "delivery",
        "consumer": "d", "delivery": "1/d", "call": 1, "parent": "p", "correlationId": "c", "depth": 1, "outcome": "failed",
        "reason": "r", "durationMs": 0.5, "fuel": 1, "questionBytes": 1, "answerBytes": 0, "generation": 1, "logs": [line] });
    let asked = json!({ "query": query, "queries": [{ "query": query }] });
    let delivery = json!({ "consumer": "c", "round": 0, "step": "s", "undo": true, "state": "dead",
        "dueAt": now, "blocked": true, "outcomes": [],
        "queries": [asked], "events": [] });
    let leaf = json!({ "event": event, "deliveries": [] });
    let run = json!({ "id": "1/p", "pipeline": "p", "key": "k", "status": "stuck", "sequence": 1, "eventId": "e",
        "eventType": "a.b", "beganAt": now, "endedAt": now, "durationMs": 1.5, "definition": "00",
        "stepCounts": { "done": 1 }, "failure": "f" });
    let work = json!({ "consumer": "c", "beganAt": now, "endedAt": now, "durationMs": 1.5, "attempts": 1,
        "deliveries": ["1/c/1"], "dueAt": now, "blocked": true, "reason": "r" });
    let step = json!({ "name": "s", "after": ["r"], "state": "undo-failed", "work": work,
        "wait": { "type": "a.c", "key": "k", "until": now, "sequence": 2 }, "resolved": true, "compensation": work,
        "output": 1, "outputText": "x", "outputBase64": "eA==" });
    let journal = json!({ "line": 0, "at": now, "entry": "done", "step": "s", "reason": "r", "cause": "timed-out",
        "until": now, "event": 2, "status": "stuck" });
    let run_node = json!({ "run": run, "deliveries": [delivery], "events": [leaf] });
    let tree = json!({ "event": event, "deliveries": [delivery], "runs": [run_node], "queries": [asked],
        "events": [leaf] });
    let records = [
        ("Query", fields::<QueryRecord>(&query)),
        ("Query node", fields::<QueryNode>(&asked)),
        ("Run node", fields::<RunNode>(&run_node)),
        ("Run", fields::<RunRecord>(&run)),
        ("Step", fields::<StepRecord>(&step)),
        ("Work", fields::<WorkRecord>(&work)),
        ("Journal line", fields::<JournalRecord>(&journal)),
        ("Event", fields::<EventRecord>(&event)),
        ("Outcome", fields::<OutcomeRecord>(&outcome)),
        ("Log line", fields::<LogLine>(&line)),
        ("Dead letter", fields::<DeadLetterRecord>(&letter)),
        ("Consumer", fields::<ConsumerRecord>(&consumer)),
        ("Replay", fields::<ReplayRecord>(&replay)),
        ("Content", fields::<ContentRecord>(&content)),
        ("Stats", fields::<StatsRecord>(&stats)),
        ("State", fields::<StateRecord>(&state)),
        ("Tree", fields::<EventTree>(&tree)),
        ("Delivery", fields::<DeliveryNode>(&delivery)),
    ];
    let documented = documented();
    for (heading, found) in &records {
        assert_eq!(documented.get(*heading), Some(found), "docs/json.md, {heading}");
    }
    assert_eq!(documented.len(), records.len(), "docs/json.md describes a record that is not checked here");
}
