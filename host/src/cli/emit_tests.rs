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
fn a_duplicate_is_told_apart() {
    let fake = Fake::start(taken(true));
    let (code, out, _) = tidegate(Some(&fake), &["emit", "order.created", "--id", "a"]);
    assert_eq!((code, out.as_str()), (0, "duplicate: the event a was accepted before, as #12\n"));
    let (_, out, _) = tidegate(Some(&fake), &["emit", "order.created", "--id", "a", "--json"]);
    assert_eq!(out, "{\"id\":\"a\",\"sequence\":12,\"duplicate\":true}\n");
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
