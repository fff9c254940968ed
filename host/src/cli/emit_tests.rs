use super::super::fake::{Asked, Fake, Reply, ok, reply};
use super::super::tests::tidegate;
use super::*;

fn taken(duplicate: bool) -> impl Fn(&Asked) -> Reply {
    move |asked| {
        let event: Value = serde_json::from_str(&asked.body).unwrap();
        let accepted = u8::from(!duplicate);
        ok(&format!(
            r#"{{"accepted":{accepted},"duplicates":{},"events":[{{"id":{},"sequence":12,"duplicate":{duplicate}}}]}}"#,
            1 - accepted,
            event["id"]
        ))
    }
}

#[test]
fn an_event_is_sent_as_it_was_given() {
    let fake = Fake::start(taken(false));
    let args = [
        "emit",
        "order.created",
        "{\"n\": 1.50}",
        "--id",
        "a",
        "--subject",
        "s",
        "--correlation",
        "c",
        "--key",
        "k",
        "--data-version",
        "1.2.0",
        "--not-before",
        "2026-03-01T00:00:00Z",
        "--attribute",
        "tenant=blue",
        "--attribute",
        "n=5",
    ];
    let (code, out, err) = tidegate(Some(&fake), &args);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "accepted #12  a\n", ""));
    assert_eq!(
        fake.asked()[0].body,
        concat!(
            r#"{"id":"a","type":"order.created","source":"/cli","subject":"s","correlationId":"c","key":"k","#,
            r#""dataVersion":"1.2.0","notBefore":"2026-03-01T00:00:00.000Z","attributes":{"tenant":"blue","n":5},"data":{"n": 1.50}}"#
        )
    );
    assert!(fake.asked()[0].headers.contains("content-type: application/json"));
}

#[test]
fn the_payload_may_have_a_name_before_it() {
    let fake = Fake::start(taken(false));
    let (code, _, err) = tidegate(Some(&fake), &["emit", "order.created", "--data", "{\"n\":1}", "--id", "a"]);
    assert_eq!(code, 0, "{err}");
    assert!(fake.asked()[0].body.ends_with(r#""data":{"n":1}}"#), "{}", fake.asked()[0].body);
    let (code, _, err) = tidegate(Some(&fake), &["emit", "order.created", "1", "--data", "2"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn a_duplicate_is_told_apart() {
    let fake = Fake::start(taken(true));
    let (code, out, _) = tidegate(Some(&fake), &["emit", "order.created", "--id", "a"]);
    assert_eq!((code, out.as_str()), (0, "duplicate: the event a was accepted before, as #12\n"));
    let (_, out, _) = tidegate(Some(&fake), &["emit", "order.created", "--id", "a", "--json"]);
    assert_eq!(out, "{\"id\":\"a\",\"sequence\":12,\"duplicate\":true}\n");
}

#[test]
fn a_busy_host_is_waited_for() {
    let host = || {
        let answered = std::sync::atomic::AtomicU32::new(0);
        Fake::start(move |asked| match answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0..3 => reply(429, r#"{"detail":"busy"}"#).header("retry-after: 1"),
            _ => taken(false)(asked),
        })
    };
    let fake = host();
    let (code, out, err) = tidegate(Some(&fake), &["emit", "order.created", "--id", "a"]);
    assert_eq!((code, out.as_str()), (0, "accepted #12  a\n"));
    assert_eq!(err, "not accepted yet; the host has no room at the moment: waiting until it has\n");
    let bodies: Vec<_> = fake.asked().into_iter().map(|asked| asked.body).collect();
    assert!(bodies.len() == 4 && bodies.windows(2).all(|two| two[0] == two[1]), "the same event each time");
    let (code, out, _) = tidegate(Some(&host()), &["emit", "order.created", "--id", "a", "--json"]);
    assert_eq!((code, out.as_str()), (0, "{\"id\":\"a\",\"sequence\":12,\"duplicate\":false}\n"));
}

#[test]
fn refusals_keep_the_hosts_words() {
    let fake = Fake::start(|_| {
        reply(409, r#"{"type":"urn:tidegate:problem:id-conflict","detail":"the id is taken by event 7"}"#)
    });
    let (code, _, err) = tidegate(Some(&fake), &["emit", "order.created", "--id", "a"]);
    assert_eq!(code, 4);
    assert!(err.starts_with("error: the id is taken by event 7\nhint: "), "{err}");
}

#[test]
fn text_that_is_no_json_gets_its_quotes_suggested() {
    let fake = Fake::start(taken(false));
    let (code, _, err) = tidegate(Some(&fake), &["emit", "order.created", "hello"]);
    assert_eq!(code, 2);
    assert!(err.contains("quote it for JSON: '\"hello\"'"), "{err}");
    assert!(fake.asked().is_empty());
}

#[test]
fn attributes_are_json_or_text() {
    assert_eq!(attribute("a=1"), Ok(("a".into(), 1.into())));
    assert_eq!(attribute("a=x=y"), Ok(("a".into(), "x=y".into())));
    assert!(attribute("a").is_err() && attribute("=x").is_err() && attribute("A=x").is_err());
}

#[test]
fn a_type_that_nobody_wants_is_noticed() {
    let consumers = |on: &str| {
        let consumer = format!(
            r#"{{"name":"mail","status":"active","on":["{on}"],"component":"","running":0,"depth":0,"waiting":0,"succeeded":0,
            "failedAttempts":0,"deadLetters":0}}"#
        );
        Fake::start(move |_| ok(&format!(r#"{{"consumers":[{consumer}]}}"#)))
    };
    for (on, nobody) in [("order.*", false), ("order.created ^1", false), ("payment.**", true)] {
        let fake = consumers(on);
        let host = Client::new(client::Base::parse(&fake.url).unwrap(), None).unwrap();
        assert_eq!(is_for_nobody(&host, "order.created"), nobody, "{on}");
    }
    let refusing = Fake::start(|_| reply(403, "{}"));
    let host = Client::new(client::Base::parse(&refusing.url).unwrap(), None).unwrap();
    assert!(!is_for_nobody(&host, "order.created"));
}

#[test]
fn a_job_is_for_one_consumer_and_needs_no_type() {
    let fake = Fake::start(taken(false));
    let sent = |args: &[&str]| {
        let args: Vec<&str> = ["emit", "--id", "a"].iter().chain(args).copied().collect();
        assert_eq!(tidegate(Some(&fake), &args).0, 0, "{args:?}");
        let body = fake.asked().last().unwrap().body.clone();
        body.strip_prefix(r#"{"id":"a","#).unwrap().to_owned()
    };
    assert_eq!(
        sent(&["--to", "mailer", "{\"n\": 1}"]),
        r#""type":"job.requested","source":"/cli","job":{"to":"mailer","priority":"normal"},"data":{"n": 1}}"#
    );
    assert_eq!(
        sent(&["mail.requested", "5", "--to", "mailer", "--priority", "high", "--retry-attempts", "7"]),
        concat!(
            r#""type":"mail.requested","source":"/cli","job":{"to":"mailer","priority":"high","retry":{"attempts":7,"#,
            r#""backoff":"exponential","initialMs":1000,"factor":2.0,"maxMs":60000,"jitter":"full"}},"data":5}"#
        )
    );
    assert_eq!(
        sent(&["--to", "mailer", "--priority", "low", "--retry-backoff", "fixed", "--retry-initial", "250ms"]),
        concat!(
            r#""type":"job.requested","source":"/cli","job":{"to":"mailer","priority":"low","retry":{"attempts":3,"#,
            r#""backoff":"fixed","initialMs":250,"factor":2.0,"maxMs":60000,"jitter":"full"}}}"#
        )
    );
}

#[test]
fn a_delay_is_a_time_from_now() {
    let fake = Fake::start(taken(false));
    assert_eq!(tidegate(Some(&fake), &["emit", "a.b", "--delay", "2h"]).0, 0);
    let body: Value = serde_json::from_str(&fake.asked()[0].body).unwrap();
    assert_eq!(body["notBefore"], "2026-02-01T14:00:00.000Z");
}

#[test]
fn what_only_a_job_can_have_is_refused_without_one() {
    for args in [
        &["emit", "a.b", "--priority", "high"][..],
        &["emit", "a.b", "--retry-attempts", "2"],
        &["emit", "a.b", "--to", "Mailer"],
        &["emit", "a.b", "--to", "mailer", "--priority", "urgent"],
        &["emit", "a.b", "--to", "mailer", "--retry-attempts", "0"],
        &["emit", "a.b", "--delay", "1s", "--not-before", "2026-03-01T00:00:00Z"],
        &["emit", "{\"n\": 1}"],
        &["emit", "{\"n\": 1}", "{\"n\": 1}", "--to", "mailer"],
    ] {
        let (code, _, err) = tidegate(None, args);
        assert_eq!(code, 2, "{args:?}: {err}");
    }
}
