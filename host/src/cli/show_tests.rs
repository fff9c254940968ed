use super::super::output::tests::captured;
use super::*;
use crate::model::record::RunRecord;
use crate::model::{Generation, LogLine, Outcome, Timestamp};

pub(crate) fn event(sequence: u64, event_type: &str) -> EventRecord {
    let at = Timestamp::from_millis(i64::try_from(sequence).unwrap() * 1_000);
    serde_json::from_str(&format!(
        r#"{{"sequence":{sequence},"id":"id-{sequence}","type":"{event_type}","source":"/shop","dataVersion":"1.0.0",
        "timestamp":"{at}","acceptedAt":"{at}","correlationId":"c-1","depth":0,"data":{{"n":{sequence}}}}}"#
    ))
    .unwrap()
}

pub(crate) fn outcome(sequence: u64, consumer: &str, attempt: u32, outcome: Outcome) -> OutcomeRecord {
    OutcomeRecord {
        sequence,
        event_id: format!("id-{sequence}"),
        event_type: "order.created".into(),
        consumer: ConsumerName::new(consumer).unwrap(),
        round: 0,
        origin: None,
        call: attempt,
        attempt,
        outcome,
        state: "succeeded".into(),
        reason: None,
        started_at: Timestamp::from_millis(1_000),
        duration_ms: 12.0,
        fuel: 21_800,
        memory_peak: 1 << 20,
        published: 0,
        generation: Generation(1),
        component: "ab".repeat(32),
        output: None,
        logs: Vec::new(),
        logs_dropped: 0,
    }
}

fn bare(seq: u64, event_type: &str) -> EventTree {
    EventTree {
        event: event(seq, event_type),
        deliveries: Vec::new(),
        runs: Vec::new(),
        queries: Vec::new(),
        events: Vec::new(),
    }
}

/// What a call of a delivery's handler asked, and what its responder asked in turn.
fn asked(responder: Option<&str>, call: Option<u32>, outcome: QueryOutcome, queries: Vec<QueryNode>) -> QueryNode {
    let query = QueryRecord {
        number: 1,
        id: "q".into(),
        query_type: "stock.check".into(),
        asked_at: Timestamp::from_millis(1_000),
        responder: responder.and_then(|name| ConsumerName::new(name).ok()),
        asked_by: "delivery".into(),
        consumer: ConsumerName::new("send-confirmation").ok(),
        delivery: Some("12/send-confirmation".into()),
        call,
        parent: None,
        correlation_id: "c-1".into(),
        depth: 1,
        outcome,
        reason: (outcome != QueryOutcome::Answered).then(|| "why\u{1b}[2J".into()),
        duration_ms: 3.0,
        fuel: 0,
        question_bytes: 2,
        answer_bytes: 2,
        generation: Generation(1),
        logs: Vec::new(),
    };
    QueryNode { query, queries }
}

fn node(consumer: &str, state: &str, outcomes: Vec<OutcomeRecord>, events: Vec<EventTree>) -> DeliveryNode {
    let consumer = ConsumerName::new(consumer).unwrap();
    DeliveryNode {
        consumer,
        round: 0,
        step: None,
        undo: false,
        state: state.into(),
        due_at: None,
        blocked: false,
        outcomes,
        queries: Vec::new(),
        events,
    }
}

/// One step was done and undone, another has failed.
fn compensated() -> RunNode {
    let run = RunRecord {
        id: "12/fulfil".into(),
        pipeline: ConsumerName::new("fulfil").unwrap(),
        key: None,
        status: Status::Compensated,
        sequence: 12,
        event_id: "id-12".into(),
        event_type: "order.created".into(),
        began_at: Timestamp(0),
        ended_at: Some(Timestamp(0)),
        duration_ms: Some(40.0),
        definition: "00".into(),
        step_counts: [("failed".to_owned(), 1), ("pending".to_owned(), 2), ("undone".to_owned(), 1)].into(),
        failure: Some("step 'pay' has failed: \u{1b}[2J".into()),
    };
    let did = |consumer, undo| DeliveryNode {
        step: Some("reserve".into()),
        undo,
        round: 1,
        ..node(consumer, "succeeded", vec![outcome(12, consumer, 1, Outcome::Done)], vec![])
    };
    let deliveries = vec![did("stock", false), did("release", true)];
    RunNode { run, deliveries, events: vec![bare(15, "tidegate.run.compensated")] }
}

#[test]
fn a_tree_shows_what_caused_what() {
    let mut retry = outcome(12, "send-confirmation", 1, Outcome::Retry);
    retry.reason = Some("mail server\nsays 503".into());
    let (leaf, alarm) = (bare(13, "order.confirmed"), bare(14, "tidegate.dead-lettered"));
    let attempts = vec![retry, outcome(12, "send-confirmation", 2, Outcome::Done)];
    let mut mail = node("send-confirmation", "succeeded", attempts, vec![leaf]);
    let nested = asked(None, None, QueryOutcome::NoResponder, vec![]);
    mail.queries = vec![
        asked(Some("stock"), Some(1), QueryOutcome::Unavailable, vec![]),
        asked(Some("stock"), Some(2), QueryOutcome::Answered, vec![nested]),
        asked(Some("stock"), Some(3), QueryOutcome::Answered, vec![]),
    ];
    let whole = EventTree {
        event: event(12, "order.created"),
        deliveries: vec![
            mail,
            node("fraud-check", "dead", vec![outcome(12, "fraud-check", 1, Outcome::Reject)], vec![]),
            node("slow", "pending", vec![], vec![]),
            DeliveryNode { due_at: Some(Timestamp(0)), ..node("later", "pending", vec![], vec![]) },
            DeliveryNode { blocked: true, ..node("behind", "pending", vec![], vec![]) },
            node("fulfil", "succeeded", vec![outcome(12, "fulfil", 1, Outcome::Done)], vec![]),
        ],
        runs: vec![compensated()],
        queries: vec![asked(Some("stock"), Some(1), QueryOutcome::Answered, vec![])],
        events: vec![alarm],
    };
    let (out, _, _) = captured(false);
    assert_eq!(
        tree(&whole, &out).join("\n"),
        "\
order.created  #12  1970-01-01T00:00:12.000Z  id-12
├─ send-confirmation  succeeded
│  ├─ attempt 1  retry  12 ms  21.8k fuel  1.00 MiB  mail server\\nsays 503
│  │  └─ asked stock.check of stock  unavailable  3.00 ms  1970-01-01T00:00:01.000Z  why\\x1b[2J
│  ├─ attempt 2  done  12 ms  21.8k fuel  1.00 MiB
│  │  └─ asked stock.check of stock  answered  3.00 ms  1970-01-01T00:00:01.000Z
│  │     └─ asked stock.check  no-responder  3.00 ms  1970-01-01T00:00:01.000Z  why\\x1b[2J
│  ├─ asked stock.check of stock  answered  3.00 ms  1970-01-01T00:00:01.000Z
│  └─ order.confirmed  #13  1970-01-01T00:00:13.000Z  id-13
│     └─ no durable consumer subscribes to it
├─ fraud-check  dead
│  └─ attempt 1  reject  12 ms  21.8k fuel  1.00 MiB
├─ slow  pending
│  └─ not attempted yet
├─ later  pending, due 1970-01-01T00:00:00.000Z
│  └─ not attempted yet
├─ behind  pending, waits for its key
│  └─ not attempted yet
├─ asked stock.check of stock  answered  3.00 ms  1970-01-01T00:00:01.000Z
├─ run 12/fulfil  compensated  40 ms  1 failed, 2 not begun, 1 undone  step 'pay' has failed: \\x1b[2J
│  ├─ step reserve  stock  succeeded
│  │  └─ attempt 1  done  12 ms  21.8k fuel  1.00 MiB
│  ├─ undo reserve  release  succeeded
│  │  └─ attempt 1  done  12 ms  21.8k fuel  1.00 MiB
│  └─ tidegate.run.compensated  #15  1970-01-01T00:00:15.000Z  id-15
│     └─ no durable consumer subscribes to it
└─ tidegate.dead-lettered  #14  1970-01-01T00:00:14.000Z  id-14
   └─ no durable consumer subscribes to it"
    );
}

#[test]
fn delivery_ids_are_read_as_they_are_shown() {
    for (text, seq, consumer, round) in [("12/send-mail", 12, "send-mail", 0), ("7/a/2", 7, "a", 2)] {
        let id = delivery_id(text).unwrap();
        assert_eq!((id.seq, id.consumer.as_str(), id.round, id.to_string().as_str()), (seq, consumer, round, text));
    }
    for text in ["", "12", "x/a", "12/", "12/A", "12/a/x", "12/a/1/2", "-1/a"] {
        assert!(delivery_id(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_guests_log_cannot_steer_the_terminal() {
    let (mut out, seen, _) = captured(false);
    let mut record = outcome(1, "a", 1, Outcome::Done);
    record.logs.push(LogLine {
        level: "info".into(),
        message: "\u{1b}[2J".into(),
        fields: [("k\n".to_owned(), "\u{202e}v".to_owned())].into(),
    });
    record.logs_dropped = 2;
    logs(&record, "  ", &mut out).unwrap();
    assert_eq!(seen.text(), "  info   \\x1b[2J  k\\n=\\u{202e}v\n  and 2 more lines over the limit\n");
}

#[test]
fn payloads_are_shown_in_every_form() {
    let mut record = event(1, "a.b");
    assert_eq!(data(&record).unwrap(), "{\"n\":1}");
    record.data = None;
    assert_eq!(data(&record), None);
    record.data_text = Some("a\u{1b}".into());
    assert_eq!(data(&record).unwrap(), "a\\x1b");
    record.data_text = None;
    record.data_base64 = Some("AAA=".into());
    assert_eq!(data(&record).unwrap(), "base64:AAA=");
}
