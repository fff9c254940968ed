//! Every capability, as a handler uses it and a test sees it.

use tidegate_sdk::prelude::*;
use tidegate_sdk::testing::Test;
use tidegate_sdk::{log::Level, publisher};

#[test]
fn published_events_are_seen_whole() {
    let test = Test::new(|event: Event<Value>| {
        let first = publish("order.confirmed", json!({ "id": 1 }))?;
        let second = Publish::new("order.reminder-due", [1, 2])
            .subject("A-1")
            .key("customer-1")
            .data_version("1.2.0")
            .not_before(event.timestamp.plus(Duration::from_secs(60)))
            .attribute("channel", "mail")
            .send()?;
        Publish::raw("order.printed", "application/pdf", *b"%PDF").send()?;
        done_with([first, second])
    });
    let attempt = test.event("order.created", json!({})).run();
    let [confirmed, reminder, printed] = attempt.published() else { panic!("{attempt:?}") };
    assert_eq!((confirmed.event_type.as_str(), &confirmed.data), ("order.confirmed", &json!({ "id": 1 })));
    assert_eq!(reminder.subject.as_deref(), Some("A-1"));
    assert_eq!(reminder.key.as_deref(), Some("customer-1"));
    assert_eq!(reminder.data_version.as_deref(), Some("1.2.0"));
    assert_eq!(reminder.not_before.unwrap().to_string(), "2026-01-01T00:01:00Z");
    assert_eq!(reminder.attributes, [("channel".to_owned(), "mail".to_owned())]);
    assert_eq!((printed.raw.content_type.as_str(), printed.raw.bytes.as_slice()), ("application/pdf", &b"%PDF"[..]));
    assert_eq!(attempt.output(), Some([confirmed.id.clone(), reminder.id.clone()]));
}

#[test]
fn jobs_are_seen_apart_from_what_is_published() {
    let test = Test::new(|event: Event<Value>| {
        publish("user.welcomed", ())?;
        let first = enqueue("mailer", "mail.requested", json!({ "to": "a@example.com" }))?;
        Enqueue::new("index", "index.requested", 7)
            .priority(Priority::High)
            .not_before(event.timestamp.plus(Duration::from_secs(60)))
            .send()?;
        Enqueue::event("mailer", Publish::new("mail.requested", ()).key("k"))
            .delay(Duration::from_secs(5))
            .priority(Priority::Low)
            .send()?;
        done_with(first)
    });
    let attempt = test.event("user.created", json!({})).run();
    assert_eq!(attempt.published().len(), 1);
    let [mail, index, late] = attempt.enqueued() else { panic!("{attempt:?}") };
    assert_eq!((mail.to.as_str(), mail.priority), ("mailer", Priority::Normal));
    assert_eq!(mail.event.data, json!({ "to": "a@example.com" }));
    assert_eq!(attempt.output(), Some(mail.event.id.clone()));
    assert_eq!((index.to.as_str(), index.priority, &index.event.data), ("index", Priority::High, &json!(7)));
    assert_eq!(index.event.not_before.unwrap().to_string(), "2026-01-01T00:01:00Z");
    assert_eq!((late.event.key.as_deref(), late.priority), (Some("k"), Priority::Low));
    assert!(late.event.not_before.is_some());
}

#[test]
fn jobs_without_a_grant_are_refused_as_the_host_does() {
    let test = Test::new(|event: Event<String>| {
        enqueue(event.data, "mail.requested", ())?;
        done()
    });
    let test = test.grant_jobs("mailer");
    assert_eq!(test.event("go", "mailer").run().enqueued().len(), 1);
    let refused = test.event("go", "index").run();
    assert_eq!(refused.reason(), "publish is not granted: index");
    assert!(refused.enqueued().is_empty(), "nothing leaves an attempt that is not done");
}

#[test]
fn publishing_without_a_grant_is_refused_as_the_host_does() {
    let publish_all = |event: Event<Vec<String>>| {
        for event_type in event.data {
            publish(event_type, ())?;
        }
        done()
    };
    let test = Test::new(publish_all).grant_publish("order.*");
    assert!(test.event("go", ["order.confirmed", "order.sent"]).run().is_done());
    let refused = test.event("go", ["order.confirmed", "invoice.sent"]).run();
    assert_eq!(refused.outcome(), &retry("publish is not granted: invoice.sent"));
    assert!(refused.published().is_empty(), "nothing leaves an attempt that is not done");
    assert!(test.event("go", ["no type"]).run().reason().contains("not valid"));

    let unrestricted = Test::new(publish_all);
    assert_eq!(
        unrestricted.event("go", ["tidegate.reloaded"]).run().reason(),
        "publish is not granted: tidegate.reloaded"
    );

    let flood = vec!["order.sent"; 257];
    assert_eq!(test.event("go", flood).run().reason(), "more than 256 events published in one attempt");
}

#[test]
fn an_event_too_large_or_without_a_json_form_is_refused() {
    let large = Test::new(|_: Event<()>| {
        Publish::raw("photo.taken", "image/png", vec![0; (1 << 20) + 1]).send()?;
        done()
    });
    assert_eq!(large.event("go", ()).run().reason(), "published event is larger than 1048576 bytes");
    let formless = Test::new(|_: Event<()>| match publish("a.b", std::collections::BTreeMap::from([((1, 2), 3)])) {
        Err(publisher::Error::Data(_)) => done(),
        other => reject(format!("{other:?}")),
    });
    assert!(formless.event("go", ()).run().is_done());
}

#[test]
fn state_is_kept_only_if_the_attempt_is_done() {
    let test = Test::new(|event: Event<u32>| {
        let seen = state::increment("seen", 1)?;
        state::set("last", event.data)?;
        if event.data == 0 { retry("zero") } else { done_with(seen) }
    })
    .state("seen", 10);
    assert_eq!(test.event("drawn", 5).run().output(), Some(11));
    let failed = test.event("drawn", 0).run();
    assert_eq!((failed.state::<i64>("seen"), failed.state::<u32>("last")), (Some(11), Some(5)));
    assert_eq!(test.event("drawn", 6).run().output(), Some(12));
}

#[test]
fn state_in_all_its_forms() {
    let test = Test::new(|_: Event<()>| {
        state::set("stock/a", json!({ "left": 3 }))?;
        state::set_for("stock/b", 1, Duration::from_secs(60))?;
        state::set_bytes("raw", *b"\x00\xff", None)?;
        state::set("gone", true)?;
        state::delete("gone")?;
        state::delete("never there")?;
        assert_eq!(state::get::<bool>("gone")?, None);
        assert_eq!(state::get_bytes("raw")?, Some(b"\x00\xff".to_vec()));
        assert!(!state::compare_and_set("stock/b", Some(&2), &5)?);
        assert!(state::compare_and_set("stock/b", Some(&1), &5)?);
        assert!(state::compare_and_set("stock/c", None, &9)?);
        assert!(matches!(state::get::<u32>("raw"), Err(state::Error::Value { .. })));
        assert!(matches!(state::increment("raw", 1), Err(state::Error::Invalid(_))));
        assert!(matches!(state::get::<u32>(""), Err(state::Error::Invalid(_))));
        assert!(matches!(state::set_bytes("big", vec![0; 300_000], None), Err(state::Error::TooLarge(_))));
        done_with(state::keys("stock/").collect::<Result<Vec<_>, _>>()?)
    });
    let attempt = test.event("go", ()).run();
    assert_eq!(
        attempt.output(),
        Some(vec!["stock/a".to_owned(), "stock/b".to_owned(), "stock/c".to_owned()]),
        "{attempt:?}"
    );
    assert_eq!(attempt.state_keys(), ["raw", "stock/a", "stock/b", "stock/c"]);
    assert_eq!(attempt.state_bytes("raw"), Some(&b"\x00\xff"[..]));
    assert_eq!(attempt.state_ttl("stock/a"), None);
}

#[test]
fn keys_go_on_past_the_first_page() {
    let test = Test::new(|_: Event<()>| {
        for n in 0..300 {
            state::set(&format!("k/{n:03}"), n)?;
        }
        state::set("z", 0)?;
        let keys = state::keys("k/").collect::<Result<Vec<_>, _>>()?;
        done_with((keys.len(), keys.first().cloned(), keys.last().cloned()))
    });
    let output: (usize, String, String) = test.event("go", ()).run().output().unwrap();
    assert_eq!(output, (300, "k/000".into(), "k/299".into()));
}

#[test]
fn a_time_to_live_is_seen() {
    let test = Test::new(|_: Event<()>| {
        state::set_for("session", 1, Duration::from_secs(60))?;
        done()
    });
    assert_eq!(test.event("go", ()).run().state_ttl("session"), Some(Duration::from_secs(60)));
}

#[test]
fn requests_are_answered_by_stubs_and_kept() {
    let test = Test::new(|order: Event<Value>| {
        let reply = http::post("https://mail.example.com/send")
            .header("authorization", format!("Bearer {}", secrets::placeholder("api-key")))
            .timeout(Duration::from_secs(2))
            .json(&order.data)?
            .send()?
            .error_for_status()?;
        let answer: Value = reply.json()?;
        done_with((reply.status(), reply.header("X-Id").map(str::to_owned), answer["ok"].clone()))
    })
    .http("POST", "https://mail.example.com/*", |request| match request.json::<Value>() {
        Ok(body) if body["email"] == "bad" => http::Response::new(422).with_body("no such mailbox"),
        _ => http::Response::new(200).with_header("x-id", "7").with_body(r#"{"ok":true}"#),
    });
    let sent = test.event("order.created", json!({ "email": "ada@example.com" })).run();
    assert_eq!(sent.output(), Some((200_u16, Some("7".to_owned()), true)), "{sent:?}");
    let [request] = sent.requests() else { panic!("{sent:?}") };
    assert_eq!((request.method.as_str(), request.url.as_str()), ("POST", "https://mail.example.com/send"));
    assert_eq!(request.header("Content-Type"), Some("application/json"));
    assert_eq!(request.header("authorization"), Some("Bearer {secret:api-key}"));
    assert_eq!(request.timeout, Some(Duration::from_secs(2)));

    let refused = test.event("order.created", json!({ "email": "bad" })).run();
    assert_eq!(refused.outcome(), &retry("http status 422: no such mailbox"));
}

#[test]
fn a_request_that_no_stub_answers_is_not_granted() {
    let call = |event: Event<String>| {
        http::get(event.data).send()?;
        done()
    };
    let test = Test::new(call).http("GET", "https://a.example/x", |_| Err(http::Error::TimedOut));
    let reason = |url: &str| test.event("go", url).run().reason().to_owned();
    assert_eq!(reason("https://a.example/x"), "http request timed out");
    assert_eq!(reason("https://b.example:8443/y?z"), "http is not granted: https://b.example:8443");
    assert!(reason("/relative").contains("not an absolute address"));
}

#[test]
fn lines_are_kept_with_their_fields() {
    let test = Test::new(|event: Event<u32>| {
        let items = event.data;
        log::info!(order = "A-1", items = items, "reserved {items} of {}", 9);
        log::warn!("low stock");
        log::debug("plain");
        log::write(Level::Error, "last", &[("code", &7)]);
        done()
    });
    let attempt = test.event("go", 3).run();
    let lines: Vec<_> = attempt.logs().iter().map(|line| (line.level, line.message.as_str())).collect();
    assert_eq!(
        lines,
        [(Level::Info, "reserved 3 of 9"), (Level::Warn, "low stock"), (Level::Debug, "plain"), (Level::Error, "last"),]
    );
    let fields = [("order".to_owned(), "A-1".to_owned()), ("items".to_owned(), "3".to_owned())];
    assert_eq!(attempt.logs()[0].fields, fields);
}

#[test]
fn settings_are_read_and_parsed() {
    let test = Test::new(|_: Event<()>| {
        let limit: u32 = config::parse("limit")?.unwrap_or(5);
        done_with((config::get("sender"), limit, config::all().len()))
    });
    assert_eq!(test.event("go", ()).run().output(), Some((None::<String>, 5_u32, 0_usize)));
    let test = test.config("sender", "shop@example.com").config("limit", "many");
    let attempt = test.event("go", ()).run();
    assert_eq!(attempt.outcome(), &retry(r#"setting "limit" is "many": invalid digit found in string"#));
}

#[test]
fn secrets_are_used_and_seen_only_if_granted() {
    let test = Test::new(|_: Event<()>| {
        let mac = secrets::hmac_sha256("key", *b"what do ya want for nothing?")?;
        assert!(matches!(secrets::reveal("key"), Err(secrets::Error::NotRevealable(_))));
        assert!(matches!(secrets::hmac_sha256("other", ""), Err(secrets::Error::NotGranted(_))));
        done_with((mac.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), secrets::reveal("open")?))
    })
    .secret("key", "Jefe")
    .revealed_secret("open", "sesame");
    // RFC 4231, test case 2.
    let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(test.event("go", ()).run().output(), Some((expected.to_owned(), "sesame".to_owned())));
}

#[test]
fn the_budget_is_what_the_test_says() {
    let test = Test::new(|_: Event<()>| {
        let left = attempt::remaining();
        if left.fuel < 1_000 {
            return defer("not enough fuel", Duration::from_secs(5));
        }
        done_with(attempt::in_progress().as_secs())
    });
    assert_eq!(test.event("go", ()).run().output(), Some(30));
    assert!(test.budget(Duration::from_secs(1), 999, 1 << 20).event("go", ()).run().is_defer());
}

#[test]
#[should_panic(expected = "run the handler through `tidegate_sdk::testing::Test::new(handler)")]
fn a_capability_outside_a_harness_says_what_to_do() {
    drop(publish("order.confirmed", ()));
}

#[test]
fn a_panic_in_a_handler_leaves_no_harness_behind() {
    let test = Test::new(|_: Event<()>| -> Outcome { panic!("handler's own") });
    let run = std::panic::AssertUnwindSafe(|| test.event("go", ()).run());
    assert!(std::panic::catch_unwind(run).is_err());
    assert!(std::panic::catch_unwind(|| config::get("x")).is_err(), "the harness is gone");
}

fn look_up(event: Event<Value>) -> Outcome {
    let say =
        |found: Result<Value, queries::Error>| found.map_or_else(|error| error.to_string(), |value| value.to_string());
    done_with(say(queries::ask(event.data.as_str().unwrap_or_default(), &json!({ "sku": "tea" }))))
}

#[test]
fn each_way_to_have_no_answer_is_told_apart() {
    let test = Test::new(look_up)
        .grant_queries("stock.*")
        .responder("stock.check", |question: &Question| answer(json!({ "asked": question.data.bytes.len() })))
        .responder("stock.invalid", |_: &Question| -> Answer { Err(Refusal::Invalid("no such sku".into())) })
        .responder("stock.gone", |_: &Question| -> Answer { Err(Refusal::NotFound("none".into())) })
        .responder("stock.later", |_: &Question| -> Answer { Err(Refusal::Unavailable("counting".into())) })
        .responder("stock.slow", |_: &Question| Err::<Raw, _>(queries::Error::TimedOut))
        .responder("stock.broken", |_: &Question| Err::<Raw, _>(queries::Error::Failed("trapped: oops".into())));
    for (query_type, said) in [
        ("stock.check", r#"{"asked":13}"#),
        ("stock.none", "nobody answers questions of this type"),
        ("stock.invalid", "the question was refused as invalid: no such sku"),
        ("stock.gone", "nothing was found: none"),
        ("stock.later", "the question cannot be answered now: counting"),
        ("stock.slow", "there was no answer in time"),
        ("stock.broken", "the responder failed: trapped: oops"),
        ("price.check", "asking is not granted: price.check"),
    ] {
        let attempt = test.event("order.created", query_type).run();
        assert_eq!(attempt.output::<String>().as_deref(), Some(said), "{query_type}");
        let answered = !matches!(query_type, "stock.none" | "price.check");
        assert_eq!(attempt.questions().len(), usize::from(answered), "{query_type}");
    }
    let many = Test::new(|_: Event<Value>| {
        let asked = (0..40).map(|_| queries::ask::<_, u32>("stock.check", "tea")).take_while(Result::is_ok).count();
        done_with(asked)
    });
    let attempt = many.responder("stock.check", |_: &Question| answer(1)).event("order.created", ()).run();
    assert_eq!(attempt.output::<usize>(), Some(32));
}

#[test]
fn a_responder_reads_and_leaves_nothing_behind() {
    let test = Test::of_responder(|question: Question<Value>| -> Answer {
        match question.data.as_str() {
            Some("read") => answer(state::get::<u32>("tea")?),
            Some("write") => answer(state::set("tea", 9).unwrap_err().to_string()),
            Some("publish") => answer(publish("a.b", ()).unwrap_err().to_string()),
            Some("fail") => Ok(state::get::<String>("tea").map(|_| Raw::default())?),
            _ => Err(Refusal::NotFound("what?".into())),
        }
    })
    .state("tea", 7);
    assert_eq!(test.ask("stock.check", "read"), answer(7));
    assert!(
        test.ask("stock.check", "write")
            .is_ok_and(|raw| String::from_utf8_lossy(&raw.bytes).contains("writes nothing"))
    );
    assert!(
        test.ask("stock.check", "publish")
            .is_ok_and(|raw| String::from_utf8_lossy(&raw.bytes).contains("publishes nothing"))
    );
    assert_eq!(test.ask("stock.check", "other"), Err(Refusal::NotFound("what?".into())));
    assert!(matches!(test.ask("stock.check", "fail"), Err(Refusal::Unavailable(_))), "`?` means not now");
    let typed = Test::of_responder(|question: Question<u32>| answer(question.data));
    assert!(
        matches!(typed.ask("stock.check", "x"), Err(Refusal::Invalid(why)) if why.starts_with("data of stock.check does not fit"))
    );
}
