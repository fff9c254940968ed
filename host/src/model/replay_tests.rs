use bytes::Bytes;

use super::*;
use crate::model::event::{Envelope, Payload};
use crate::model::retry::RetryPolicy;
use crate::model::spec::{DeliverySpec, Grants, Limits};

fn event(seq: Seq, event_type: &str, key: Option<&str>) -> Arc<Event> {
    let envelope = Envelope {
        id: format!("e-{seq}"),
        event_type: event_type.into(),
        source: "/test".into(),
        subject: None,
        key: key.map(Into::into),
        data_version: "1.0.0".into(),
        timestamp: Timestamp(0),
        correlation_id: format!("c-{}", seq % 2),
        causation_id: None,
        traceparent: None,
        not_before: None,
        job: None,
        attributes: serde_json::Map::new(),
        payload: Some(Payload { content_type: "application/json".into(), data: Bytes::from_static(b"{}") }),
        depth: 0,
    };
    Arc::new(Event { seq, accepted_at: Timestamp(0), envelope })
}

fn consumer(name: &str, patterns: &[&str]) -> ConsumerSpec {
    let subscription = |pattern: &&str| SubscriptionSpec {
        pattern: TypePattern::new(pattern).unwrap(),
        version: None,
        condition: None,
    };
    ConsumerSpec {
        name: ConsumerName::new(name).unwrap(),
        component: "a.wasm".into(),
        digest: None,
        subscriptions: patterns.iter().map(subscription).collect(),
        answers: Vec::new(),
        delivery: DeliverySpec::default(),
        limits: Limits::default(),
        retry: RetryPolicy::default(),
        grants: Grants::default(),
    }
}

fn ephemeral(name: &str, patterns: &[&str]) -> ConsumerSpec {
    let mut spec = consumer(name, patterns);
    spec.delivery.mode = Mode::Ephemeral;
    spec
}

fn planned(spec: &ReplaySpec, consumers: &[ConsumerSpec]) -> Vec<String> {
    let events = [
        event(1, "order.created", Some("a")),
        event(2, "order.paid", Some("a")),
        event(3, "order.created", Some("b")),
        event(4, "tidegate.reloaded", None),
    ];
    spec.plan(&events, consumers.iter()).iter().map(|(seq, name)| format!("{seq}/{name}")).collect()
}

fn all() -> ReplaySpec {
    ReplaySpec { from: 1, to: 100, ..ReplaySpec::default() }
}

#[test]
fn a_plan_is_what_is_asked_for_and_subscribed_to() {
    let consumers =
        [consumer("audit", &["order.**"]), consumer("mail", &["order.created", "order.*"]), ephemeral("feed", &["**"])];
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(planned(&all(), &consumers), ["1/audit", "1/mail", "2/audit", "2/mail", "3/audit", "3/mail"]);
    assert_eq!(planned(&ReplaySpec { from: 3, ..all() }, &consumers), ["3/audit", "3/mail"]);
    assert_eq!(planned(&ReplaySpec { to: 1, ..all() }, &consumers), ["1/audit", "1/mail"]);
    let paid = TypePattern::new("order.paid").ok();
    assert_eq!(planned(&ReplaySpec { event_type: paid, ..all() }, &consumers), ["2/audit", "2/mail"]);
    assert_eq!(planned(&ReplaySpec { key: text("b"), ..all() }, &consumers), ["3/audit", "3/mail"]);
    assert_eq!(planned(&ReplaySpec { correlation: text("c-0"), ..all() }, &consumers), ["2/audit", "2/mail"]);
    let mail = ConsumerName::new("mail").ok();
    assert_eq!(planned(&ReplaySpec { consumer: mail, ..all() }, &consumers), ["1/mail", "2/mail", "3/mail"]);
    let feed = ConsumerName::new("feed").ok();
    assert!(planned(&ReplaySpec { consumer: feed, ..all() }, &consumers).is_empty());
}

#[test]
fn what_nothing_can_come_of_is_refused() {
    let consumers = [consumer("mail", &["order.created", "order.paid"]), ephemeral("feed", &["payment.*"])];
    let check = |spec: ReplaySpec| spec.check(consumers.iter());
    let of = |name: &str, pattern: &str| ReplaySpec {
        consumer: ConsumerName::new(name).ok(),
        event_type: TypePattern::new(pattern).ok(),
        ..all()
    };
    assert_eq!(check(all()), Ok(()));
    assert_eq!(check(of("mail", "order.*")), Ok(()));
    for (spec, why) in [
        (ReplaySpec { to: 0, ..all() }, "the range ends (at event 0) before it begins (at event 1)"),
        (of("mial", "order.*"), "no consumer mial is deployed"),
        (of("mail", "payment.*"), "mail does not subscribe to payment.*, but to order.created, order.paid"),
        (of("feed", "payment.*"), "feed is ephemeral: it gets events only as they come"),
        (ReplaySpec { consumer: None, ..of("", "payment.*") }, "no consumer subscribes to payment.*"),
    ] {
        assert_eq!(check(spec).unwrap_err().to_string(), why);
    }
}

#[test]
fn a_step_takes_whole_events_while_there_is_room() {
    let name = |name: &str| ConsumerName::new(name).unwrap();
    let step = ReplayStep {
        through: 50,
        deliveries: vec![(3, name("a")), (3, name("b")), (7, name("a")), (9, name("a")), (9, name("b"))],
        ..ReplayStep::default()
    };
    let all = |_: &(Seq, ConsumerName)| true;
    assert_eq!(fit(&step, 100, all), (5, 50));
    assert_eq!(fit(&step, 5, all), (5, 50));
    assert_eq!(fit(&step, 4, all), (3, 8), "an event is not split");
    assert_eq!(fit(&step, 2, all), (2, 6));
    assert_eq!(fit(&step, 1, all), (2, 6), "the first goes in any case");
    assert_eq!(fit(&step, 0, all), (0, 2), "where there is any room");
    assert_eq!(fit(&step, 0, |(seq, _)| *seq > 3), (2, 6));
    assert_eq!(fit(&step, 3, |(_, consumer)| consumer.as_str() == "a"), (5, 50), "what is skipped takes no room");
    assert_eq!(fit(&ReplayStep { deliveries: Vec::new(), ..step }, 0, all), (0, 50));
}

#[test]
fn rates_read_as_they_are_written() {
    for text in ["100/s", "1/m", "5000/h"] {
        assert_eq!(RateText::try_from(text.to_owned()).unwrap().to_string(), text);
    }
    assert_eq!(RateText::try_from("1_000/s".to_owned()).unwrap().0.count, 1_000);
    for text in ["", "100", "0/s", "-1/s", "1.5/s", "1/d", "/s"] {
        assert!(RateText::try_from(text.to_owned()).is_err(), "{text}");
    }
}
