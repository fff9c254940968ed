//! What reaches a handler, and what its word turns into.

use tidegate_sdk::Done;
use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::Test;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    order_id: String,
    total: Option<u32>,
}

fn price(order: Event<Order>) -> Outcome {
    match order.data.total {
        None => reject("no total"),
        Some(0) if order.is_last_attempt() => retry_after("no price yet", Duration::from_secs(9)),
        Some(0) => defer("price list is being read", Duration::from_secs(1)),
        Some(total) => done_with(json!({ "order": order.data.order_id, "total": total })),
    }
}

#[test]
fn the_four_outcomes_come_back_as_they_were_said() {
    let test = Test::new(price);
    let order = |total: Value| test.event("order.created", json!({ "orderId": "A-1", "total": total }));
    assert_eq!(order(json!(null)).run().outcome(), &reject("no total"));
    assert_eq!(order(json!(0)).run().outcome(), &defer("price list is being read", Duration::from_secs(1)));
    let last = order(json!(0)).attempt(3).run();
    assert_eq!(last.outcome(), &retry_after("no price yet", Duration::from_secs(9)));
    let fine = order(json!(7)).run();
    assert_eq!(fine.output::<Value>(), Some(json!({ "order": "A-1", "total": 7 })));
    assert!(fine.is_done() && !fine.is_retry() && fine.reason().is_empty());
}

#[test]
fn data_that_does_not_fit_is_rejected_with_its_place() {
    let test = Test::new(price);
    let attempt = test.event("order.created", json!({ "orderId": 7 })).id("e-1").run();
    assert!(attempt.is_reject());
    assert_eq!(
        attempt.reason(),
        "data of order.created e-1 does not fit: invalid type: integer `7`, expected a string at line 1 column 12"
    );
    let garbage = test.raw_event("order.created", "application/json", [0xff, 0xfe]).run();
    assert!(garbage.is_reject(), "{garbage:?}");
}

#[test]
fn bytes_reach_a_handler_that_asks_for_them() {
    let test = Test::new(|event: RawEvent| {
        assert_eq!(event.data.content_type, "image/png");
        done_with(event.data.bytes.len())
    });
    let attempt = test.raw_event("photo.taken", "image/png", [0x89, 0x50]).run();
    assert_eq!(attempt.outcome().as_ref().unwrap().output.as_ref().unwrap().bytes, b"2");
}

#[test]
fn an_event_without_data_fits_what_may_be_absent() {
    let absent = |test: Test| test.raw_event("shop.opened", "", []).run();
    assert!(absent(Test::new(|_: Event<()>| done())).is_done());
    assert!(absent(Test::new(|event: Event<Option<u32>>| done_with(event.data))).is_done());
    assert!(
        absent(Test::new(|event: Event<Value>| if event.data.is_null() { done() } else { reject("data") })).is_done()
    );
    assert!(absent(Test::new(price)).is_reject());
}

#[test]
fn the_envelope_reaches_the_handler_whole() {
    let test = Test::new(|event: Event<()>| {
        done_with(json!([
            event.id,
            event.event_type,
            event.source,
            event.subject,
            event.key,
            event.data_version,
            event.timestamp,
            event.correlation_id,
            event.causation_id,
            event.traceparent,
            event.sequence,
            event.attribute("tenant"),
            event.consumer,
            event.attempt,
            event.attempts_max,
            event.replayed,
        ]))
    });
    let attempt = test
        .event("order.created", ())
        .id("e-7")
        .source("/web")
        .subject("A-1")
        .key("customer-1")
        .data_version("2.0.0")
        .timestamp(Timestamp { seconds: 0, nanoseconds: 0 })
        .correlation_id("c-1")
        .causation_id("e-6")
        .traceparent("00-1-2-01")
        .sequence(42)
        .attribute("tenant", "north")
        .consumer("orders")
        .attempt(2)
        .attempts_max(5)
        .replayed()
        .run();
    let expected = json!([
        "e-7",
        "order.created",
        "/web",
        "A-1",
        "customer-1",
        "2.0.0",
        "1970-01-01T00:00:00Z",
        "c-1",
        "e-6",
        "00-1-2-01",
        42,
        "north",
        "orders",
        2,
        5,
        true,
    ]);
    assert_eq!(attempt.output::<Value>(), Some(expected));
}

#[test]
fn a_pipeline_step_sees_what_earlier_steps_left() {
    let test = Test::new(|event: Event<()>| {
        let Some(run) = event.run else { return reject("no run") };
        done_with((run.step.clone(), run.output::<u32>("reserve"), run.output::<u32>("pay")))
    });
    let outputs = vec![("reserve".to_owned(), Some(Raw::json(&7).unwrap())), ("pay".to_owned(), None)];
    let attempt = test.event("order.created", ()).step("fulfil", "ship", outputs).run();
    assert_eq!(attempt.output(), Some(("ship".to_owned(), Some(7), None::<u32>)));
    assert!(test.event("order.created", ()).run().is_reject());
}

#[test]
fn a_compensator_is_given_what_the_step_left() {
    let test = Test::of_compensator(|event: Event<Value>, paid: Option<u64>| {
        let Some(run) = &event.run else { return reject("no run") };
        if event.is_last_attempt() {
            return retry("no more");
        }
        publish("payment.refunded", json!([run.id, run.step, paid, event.output_of::<u32>("reserve")]))?;
        done_with("which nobody sees")
    });
    let given = || {
        let outputs = vec![("reserve".to_owned(), Some(Raw::json(&7).unwrap()))];
        test.event("order.created", json!({})).step("fulfil", "pay", outputs)
    };
    let undone = given().output(12).run();
    assert_eq!(undone.outcome(), &done(), "an undoing has no output");
    assert_eq!(undone.published()[0].data, json!(["1/fulfil", "pay", 12, 7]));
    assert_eq!(given().run_id("17/fulfil").run().published()[0].data, json!(["17/fulfil", "pay", null, 7]));
    assert_eq!(given().output(12).attempt(3).run().outcome(), &retry("no more"));
    let unfit = given().output("twelve").run();
    assert!(unfit.reason().starts_with("output of the step does not fit: invalid type: string"), "{unfit:?}");
}

#[test]
#[should_panic(expected = "make the test with `Test::of_compensator`")]
fn an_output_for_what_is_no_compensator_fails_its_test() {
    drop(Test::new(|_: Event<Value>| done()).event("order.created", ()).output(1).run());
}

#[test]
fn a_batch_rejects_what_does_not_fit_and_keeps_the_order() {
    // The events are made by running them through a handler that keeps them.
    let kept = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let keep = std::rc::Rc::clone(&kept);
    let test = Test::new(move |event: RawEvent| {
        keep.borrow_mut().push(event);
        done()
    });
    for data in [json!(1), json!("two"), json!(3)] {
        test.event("number.drawn", data).run();
    }
    let events = kept.take();
    let double = |numbers: Vec<Event<u32>>| -> Vec<Outcome> {
        numbers.iter().map(|n| if n.data == 3 { retry("three") } else { done() }).collect()
    };
    let results = tidegate_sdk::__private::batch(events.clone(), double);
    assert!(matches!(&results[..], [Ok(()), Err(Failure::Reject { .. }), Err(Failure::Retry { .. })]), "{results:?}");

    let too_few = |_: Vec<Event<u32>>| -> Vec<Outcome> { vec![done()] };
    assert_eq!(tidegate_sdk::__private::batch(events.clone(), too_few).len(), 2, "the host sees that one is missing");
    let too_many = |_: Vec<Event<u32>>| -> Vec<Outcome> { vec![done(), done(), Ok(Done::default())] };
    assert_eq!(tidegate_sdk::__private::batch(events, too_many).len(), 4, "the host sees that one is too many");
}

fn count(orders: Vec<Event<Order>>) -> Vec<Outcome> {
    let one = |order: &Event<Order>| {
        attempt::in_progress();
        state::set(&order.data.order_id, json!([order.id, order.sequence]))?;
        order.data.total.ok_or("no total").or_reject()?;
        done()
    };
    orders.iter().map(one).collect()
}

#[test]
fn each_event_of_a_batch_has_its_outcome_and_effects_are_kept_if_one_is_done() {
    let test = Test::of_batches(count);
    let order = |id: &str, total: Value| test.event("order.created", json!({ "orderId": id, "total": total }));
    let unfit = test.event("order.created", json!({})).id("e-9");
    let batch = test.run_batch([order("A", json!(null)), unfit, order("B", json!(7))]);
    let why = "data of order.created e-9 does not fit: missing field `orderId` at line 1 column 2";
    assert_eq!(batch.outcomes(), [reject("no total"), reject(why), done()]);
    assert!(batch.attempt().is_done());
    assert_eq!(batch.attempt().state::<Value>("B"), Some(json!(["event-3", 3])));
    assert_eq!(batch.attempt().in_progress(), 2, "the one that does not fit is not seen");
    let none = test.run_batch([order("C", json!(null))]);
    assert_eq!((none.attempt().reason(), none.attempt().state_keys()), ("no total", vec!["A", "B"]));
    assert!(order("D", json!(1)).ephemeral().run().is_done(), "a batch of one");
}

#[test]
#[should_panic(expected = "the handler gave 1 outcomes for 2 events")]
fn a_batch_with_too_few_outcomes_fails_its_test() {
    let test = Test::of_batches(|_: Vec<Event<Value>>| vec![done()]);
    test.run_batch([test.event("a.b", 1), test.event("a.b", 2)]);
}
