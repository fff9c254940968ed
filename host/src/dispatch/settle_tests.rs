use std::sync::Arc;

use super::*;
use crate::dispatch::scripted;
use crate::model::delivery::Input;
use crate::model::outcome::StateWrite;

const NOW: Timestamp = Timestamp(1_795_000_000_000_000);

fn claim(attempts: u32) -> Claim {
    let consumer = scripted::consumer("greet", "order.*", |_| Outcome::Done);
    let delivery =
        Delivery { attempts, ..Delivery::new(NOW) }.step(Input::Claim, &consumer.spec.retry, NOW, 0).unwrap();
    let id = DeliveryId { seq: 7, consumer: consumer.spec.name.clone(), round: 0 };
    Claim {
        id,
        delivery,
        event: Arc::new(scripted::event(7, "order.created")),
        consumer,
        generation: Generation(2),
        stored: delivery.calls > 0,
        key: None,
        mark: None,
        frees: false,
        careful: false,
        instead: None,
        errand: None,
    }
}

fn report(outcome: Outcome) -> Report {
    let mut report = Report::bare(outcome, "because".to_owned(), NOW);
    report.published = vec![scripted::event(0, "order.confirmed").envelope];
    report.state.writes.insert("stock".into(), StateWrite::Delete);
    report.output = Some(Payload { content_type: "application/json".into(), data: Bytes::from_static(b"1") });
    report
}

#[test]
fn only_done_keeps_what_the_guest_wanted() {
    for outcome in Outcome::ALL {
        let settlement = settlement(&claim(0), report(outcome), NOW, 0).unwrap();
        let kept = outcome == Outcome::Done;
        let published = settlement.events.iter().filter(|e| e.event_type == "order.confirmed").count();
        assert_eq!(published, usize::from(kept), "{outcome:?}");
        assert_eq!(settlement.state.writes.len(), usize::from(kept), "{outcome:?}");
        assert_eq!(settlement.record.output.is_some(), kept, "{outcome:?}");
    }
}

#[test]
fn every_dead_letter_causes_one_event_and_nothing_else_does() {
    for outcome in Outcome::ALL {
        for attempts in 0..3 {
            let settlement = settlement(&claim(attempts), report(outcome), NOW, 0).unwrap();
            let dead = settlement.next.state == State::Dead;
            let alarms: Vec<_> = settlement.events.iter().filter(|e| e.event_type == DEAD_LETTERED).collect();
            assert_eq!(alarms.len(), usize::from(dead), "{outcome:?} after {attempts}");
            assert_eq!(settlement.death.is_some(), dead);
            for alarm in alarms {
                assert_eq!(alarm.causation_id.as_deref(), Some("event-7"));
                assert_eq!(alarm.depth, 1);
                let data: serde_json::Value = serde_json::from_slice(&alarm.payload.as_ref().unwrap().data).unwrap();
                assert_eq!(data["deadLetter"], "7/greet");
                assert_eq!(data["reason"], "because");
            }
        }
    }
}

#[test]
fn ids_are_derived_from_the_delivery_and_nothing_else() {
    let id = |attempts, seq| {
        let mut claim = claim(attempts);
        claim.id.seq = seq;
        settlement(&claim, report(Outcome::Reject), NOW, 9).unwrap().events.pop().unwrap().id
    };
    assert_eq!(id(0, 7), id(2, 7));
    assert_ne!(id(0, 7), id(0, 8));
    assert_ne!(derived_id(&["ab", "c"]), derived_id(&["a", "bc"]), "parts do not run together");
    assert_eq!(uuid::Uuid::parse_str(&id(0, 7)).unwrap().get_version_num(), 8);
}

#[test]
fn a_call_that_costs_no_attempt_is_still_a_call_of_its_own() {
    let deferred = settlement(&claim(1), report(Outcome::Defer), NOW, 0).unwrap();
    assert_eq!((deferred.record.attempt, deferred.record.call, deferred.next.attempts), (2, 1, 1));
}

#[test]
fn a_long_reason_is_cut_on_a_character() {
    let mut long = report(Outcome::Retry);
    long.reason = Some("é".repeat(limit::REASON_BYTES_MAX));
    let settled = settlement(&claim(0), long, NOW, 0).unwrap();
    assert_eq!(settled.record.reason.unwrap().len(), limit::REASON_BYTES_MAX);
}

#[test]
fn what_has_expired_says_after_how_long_and_since_when() {
    let report = Instead::Expired { after: Duration::from_secs(90), from: Timestamp(NOW.0 + 1) }.report(NOW);
    assert_eq!(report.outcome, Outcome::Expired);
    assert_eq!(
        report.reason.unwrap(),
        "it was not settled within the consumer's expires-after, 1m30s from 2026-11-18T11:06:40.000Z on"
    );
}
