//! Tables of what is an event and what is not, for each way of writing one.

use bytes::Bytes;
use serde_json::{Value, json};

use super::show::{CloudEvent, record};
use super::*;
use crate::model::Event;

const NOW: Timestamp = Timestamp(1_767_225_600_000_000);

fn defaults() -> Defaults<'static> {
    Defaults {
        now: NOW,
        source: None,
        traceparent: None,
        event_bytes: 64,
        version: &|event_type| (event_type == "order.created").then(|| "1.2.0".to_owned()),
        id: &|now| format!("made at {now}"),
    }
}

fn native_of(text: &str) -> Result<Envelope, EventError> {
    native(text.as_bytes(), &defaults())
}

fn cloud(extra: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"1","source":"/s","type":"a.b"{extra}}}"#)
}

fn payload(event: &Envelope) -> Option<(&str, &[u8])> {
    event.payload.as_ref().map(|payload| (payload.content_type.as_str(), payload.data.as_ref()))
}

#[test]
fn what_an_event_does_not_say_is_filled_in() {
    let event = native_of(r#"{"type":"order.created","source":"/shop"}"#).unwrap();
    assert_eq!(event.id, format!("made at {NOW}"));
    assert_eq!((&event.correlation_id, event.data_version.as_str(), event.timestamp), (&event.id, "1.2.0", NOW));
    assert_eq!((event.depth, event.payload), (0, None));
    let with_source = Defaults { source: Some("/cli"), traceparent: Some("nonsense"), ..defaults() };
    let event = native(br#"{"type":"a.b"}"#, &with_source).unwrap();
    assert_eq!((event.source.as_str(), event.data_version.as_str(), event.traceparent), ("/cli", "1.0.0", None));
}

#[test]
fn native_fields_are_all_read() {
    let text = r#"{"id":"i","type":"shop:order.created","source":"s","subject":"u","dataVersion":"2.0.0-rc.1",
        "timestamp":"2026-01-01T01:00:00+01:00","correlationId":"c","causationId":"p","key":"k",
        "traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","notBefore":"2026-01-02T00:00:00.25Z",
        "attributes":{"tenant":"x","retries":3,"hot":true,"none":null}, "data": {"b":1,  "a":2e400, "a":1} }"#;
    let event = native_of(text).unwrap();
    assert_eq!(payload(&event), Some(("application/json", &br#"{"b":1,  "a":2e400, "a":1}"#[..])));
    assert_eq!(event.timestamp, NOW);
    assert_eq!(event.not_before, Some(Timestamp(NOW.0 + 86_400_250_000)));
    assert_eq!(Value::Object(event.attributes), json!({ "tenant": "x", "retries": 3, "hot": true }));
    assert_eq!(
        (event.subject.as_deref(), event.key.as_deref(), event.causation_id.as_deref()),
        (Some("u"), Some("k"), Some("p"))
    );
    assert!(event.traceparent.is_some());
    let other = native_of(r#"{"type":"a.b","source":"s","dataBase64":"AAH/","contentType":"image/png"}"#).unwrap();
    assert_eq!(payload(&other), Some(("image/png", &[0, 1, 255][..])));
    let text = native_of(r#"{"type":"a.b","source":"s","dataText":"h\u00e9","contentType":"text/plain"}"#).unwrap();
    assert_eq!(payload(&text), Some(("text/plain", "hé".as_bytes())));
    let null = native_of(r#"{"type":"a.b","source":"s","subject":null,"data":null}"#).unwrap();
    assert_eq!(payload(&null), Some(("application/json", &b"null"[..])));
}

#[test]
fn what_is_no_native_event_says_where_and_why() {
    let long = format!(r#"{{"type":"a.b","source":"s","data":"{}"}}"#, "x".repeat(63));
    let id = format!(r#"{{"type":"a.b","source":"s","id":"{}"}}"#, "x".repeat(257));
    for (text, pointer, words) in [
        (r#"{"source":"s"}"#, "#", "no type"),
        (r#"{"type":"a.b"}"#, "#", "no source"),
        (r#"{"type":"a.b","source":"s","tpye":1}"#, "#/tpye", "did you mean \"type\""),
        (r#"{"type":"a.b","source":"s","time":"x"}"#, "#/time", "did you mean \"timestamp\""),
        (r#"{"type":"a.b","source":"s","correlationid":"x"}"#, "#/correlationid", "did you mean \"correlationId\""),
        (r#"{"type":"a.b","source":"s","tenant":"x"}"#, "#/tenant", "attributes"),
        (r#"{"type":"a.b","source":"s","sequence":1}"#, "#/sequence", "set by the host"),
        (r#"{"type":"a.b","source":"s","a/b~":1}"#, "#/a~1b~0", "not a field"),
        (r#"{"type":"a b","source":"s"}"#, "#/type", "dotted words"),
        (r#"{"type":7,"source":"s"}"#, "#/type", "expected a string"),
        (r#"{"type":"tidegate.reloaded","source":"s"}"#, "#/type", "host's own"),
        (r#"{"type":"tidegate","source":"s"}"#, "#/type", "host's own"),
        (r#"{"type":"a.b","source":"/tidegate"}"#, "#/source", "host's and its"),
        (r#"{"type":"a.b","source":"/tidegate/x"}"#, "#/source", "host's and its"),
        (r#"{"type":"a.b","source":"/consumers/mailer"}"#, "#/source", "host's and its"),
        (r#"{"type":"a.b","source":""}"#, "#/source", "empty"),
        (r#"{"type":"a.b","source":"a\u0007"}"#, "#/source", "U+0007"),
        (r#"{"type":"a.b","source":"a\uffff"}"#, "#/source", "U+FFFF"),
        (r#"{"type":"a.b","source":"a\ud800"}"#, "#/source", "not a value"),
        (r#"{"type":"a.b","source":"s","dataVersion":"2"}"#, "#/dataVersion", "1.0.0"),
        (r#"{"type":"a.b","source":"s","timestamp":"yesterday"}"#, "#/timestamp", "RFC 3339"),
        (r#"{"type":"a.b","source":"s","timestamp":"2026-01-01 00:00:00Z"}"#, "#/timestamp", "RFC 3339"),
        (r#"{"type":"a.b","source":"s","timestamp":"2026-01-01T00:00:00"}"#, "#/timestamp", "RFC 3339"),
        (r#"{"type":"a.b","source":"s","timestamp":"2026-02-30T00:00:00Z"}"#, "#/timestamp", "not a time"),
        (r#"{"type":"a.b","source":"s","timestamp":1767225600}"#, "#/timestamp", "expected a string"),
        (r#"{"type":"a.b","source":"s","attributes":{"Tenant":"x"}}"#, "#/attributes/Tenant", "a-z and 0-9"),
        (r#"{"type":"a.b","source":"s","attributes":{"id":"x"}}"#, "#/attributes/id", "field of the event"),
        (r#"{"type":"a.b","source":"s","attributes":{"n":1.5}}"#, "#/attributes/n", "whole number"),
        (r#"{"type":"a.b","source":"s","attributes":{"n":2147483648}}"#, "#/attributes/n", "32 bits"),
        (r#"{"type":"a.b","source":"s","attributes":{"n":[]}}"#, "#/attributes/n", "expected a string"),
        (r#"{"type":"a.b","source":"s","attributes":[]}"#, "#/attributes", "JSON object"),
        (r#"{"type":"a.b","source":"s","data":1,"dataText":"1"}"#, "#/dataText", "twice"),
        (r#"{"type":"a.b","source":"s","data":1,"contentType":"text/plain"}"#, "#/contentType", "dataText"),
        (r#"{"type":"a.b","source":"s","dataBase64":"%%"}"#, "#/dataBase64", "base64"),
        (r#"{"type":"a.b","source":"s","contentType":"json"}"#, "#/contentType", "media type"),
        (&long, "#/data", "65 bytes, at most 64"),
        (&id, "#/id", "257 bytes, at most 256"),
        ("[]", "#", "expected a JSON object"),
        (r#"{"type":"a.b","source":"s"} x"#, "#", "trailing"),
        (r#"{"type":"a.b","type":"a.b","source":"s"}"#, "#", "there twice"),
    ] {
        let error = native_of(text).expect_err(text);
        assert_eq!(error.pointer, pointer, "{text}: {error}");
        assert!(error.message.contains(words), "{text}: {error}");
    }
}

#[test]
fn cloudevents_are_read_as_the_standard_says() {
    for (extra, expected) in [
        ("", None),
        (r#","data":{"a":  1}"#, Some(("application/json", &br#"{"a":  1}"#[..]))),
        (r#","data":null"#, Some(("application/json", &b"null"[..]))),
        (r#","data":"text""#, Some(("application/json", &b"\"text\""[..]))),
        (
            r#","datacontenttype":"application/vnd.x+JSON; a=b","data":[1]"#,
            Some(("application/vnd.x+JSON; a=b", &b"[1]"[..])),
        ),
        (r#","datacontenttype":"text/xml","data":"<a\u002f>""#, Some(("text/xml", &b"<a/>"[..]))),
        (r#","data":"late","datacontenttype":"text/plain""#, Some(("text/plain", &b"late"[..]))),
        (r#","data_base64":"AAH/""#, Some(("", &[0, 1, 255][..]))),
        (r#","datacontenttype":"image/png","data_base64":"AAH/""#, Some(("image/png", &[0, 1, 255][..]))),
        (r#","data_base64":null,"subject":null"#, None),
    ] {
        let text = cloud(extra);
        assert_eq!(payload(&structured(text.as_bytes(), &defaults()).expect(&text)), expected, "{text}");
    }
    let extra = r#","partitionkey":"k","dataversion":"1.1.0","correlationid":"c","causationid":"p","notbefore":"2026-01-02T00:00:00Z",
        "time":"2026-01-01T00:00:00Z","dataschema":"https://schemas.example/a","comexample":7,"flag":false,"traceparent":"broken","sampledrate":"1""#;
    let event = structured(cloud(extra).as_bytes(), &defaults()).unwrap();
    assert_eq!(
        (event.key.as_deref(), event.data_version.as_str(), event.correlation_id.as_str()),
        (Some("k"), "1.1.0", "c")
    );
    assert_eq!((event.causation_id.as_deref(), event.timestamp, event.traceparent), (Some("p"), NOW, None));
    let kept = json!({ "dataschema": "https://schemas.example/a", "comexample": 7, "flag": false, "sampledrate": "1" });
    assert_eq!(Value::Object(event.attributes), kept);
}

#[test]
fn malformed_cloudevents_are_refused() {
    for (text, pointer) in [
        (r#"{"id":"1","source":"/s","type":"a.b"}"#.to_owned(), "#"),
        (r#"{"specversion":"1.0","source":"/s","type":"a.b"}"#.to_owned(), "#"),
        (r#"{"specversion":"1.0","id":"1","type":"a.b"}"#.to_owned(), "#"),
        (r#"{"specversion":"1.0","id":"1","source":"/s"}"#.to_owned(), "#"),
        (r#"{"specversion":"1.0","id":null,"source":"/s","type":"a.b"}"#.to_owned(), "#"),
        (r#"{"specversion":"0.3","id":"1","source":"/s","type":"a.b"}"#.to_owned(), "#/specversion"),
        (r#"{"specversion":1.0,"id":"1","source":"/s","type":"a.b"}"#.to_owned(), "#/specversion"),
        (r#"{"specversion":"1.0","id":"","source":"/s","type":"a.b"}"#.to_owned(), "#/id"),
        (r#"{"specversion":"1.0","id":1,"source":"/s","type":"a.b"}"#.to_owned(), "#/id"),
        (cloud(r#","subject":"""#), "#/subject"),
        (cloud(r#","partitionkey":5"#), "#/partitionkey"),
        (cloud(r#","time":"2026-01-01""#), "#/time"),
        (cloud(r#","dataschema":"relative/x""#), "#/dataschema"),
        (cloud(r#","dataschema":"""#), "#/dataschema"),
        (cloud(r#","datacontenttype":"""#), "#/datacontenttype"),
        (cloud(r#","datacontenttype":"text/plain","data":{}"#), "#/data"),
        (cloud(r#","data":1,"data_base64":"AA==""#), "#/data"),
        (cloud(r#","data_base64":"A""#), "#/data_base64"),
        (cloud(r#","data_base64":7"#), "#/data_base64"),
        (cloud(r#","comExample":"x""#), "#/comExample"),
        (cloud(r#","com_example":"x""#), "#/com_example"),
        (cloud(r#","comexample":1.5"#), "#/comexample"),
        (cloud(r#","comexample":-2147483649"#), "#/comexample"),
        (cloud(r#","comexample":{}"#), "#/comexample"),
        (cloud(r#","comexample":"a\u0085""#), "#/comexample"),
        (cloud(r#","id":"2""#), "#"),
        (cloud(r#","dataversion":"1""#), "#/dataversion"),
    ] {
        let error = structured(text.as_bytes(), &defaults()).expect_err(&text);
        assert_eq!(error.pointer, pointer, "{text}: {error}");
    }
}

fn from_headers(
    extra: &[(&'static str, &'static [u8])],
    content_type: Option<&str>,
    body: &'static [u8],
) -> Result<Envelope, EventError> {
    let required: [(&str, &[u8]); 4] =
        [("ce-specversion", b"1.0"), ("ce-id", b"1"), ("ce-source", b"/s"), ("ce-type", b"a.b")];
    let other: [(&str, &[u8]); 1] = [("x-other", b"\xff")];
    let headers = required.into_iter().chain(extra.iter().copied()).chain(other);
    binary(headers, content_type, Bytes::from_static(body), &defaults())
}

#[test]
fn binary_headers_are_decoded_once() {
    for (value, expected) in [
        (&b"plain"[..], "plain"),
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"Euro%20%e2%82%ac", "Euro €"),
        (b"%41%62c", "Abc"),
        (b"%2541", "%41"),
        (b"\"quoted \\\"b\\\" \\\\ %20x\"", "quoted \"b\" \\  x"),
        (b"a\"b", "a\"b"),
        (b"with space", "with space"),
        ("rå".as_bytes(), "rå"),
        (b"", ""),
        (b"\"\"", ""),
    ] {
        let event = from_headers(&[("ce-note", value)], None, b"").expect(expected);
        assert_eq!(event.attributes["note"], expected);
    }
    for value in
        [&b"%C0%A0"[..], b"%FF", b"\xff", b"%", b"%4", b"%zz", b"%+1", b"a%00b", b"\"open", b"\"a\"b", b"%ED%A0%80"]
    {
        let error = from_headers(&[("ce-note", value)], None, b"").expect_err(&String::from_utf8_lossy(value));
        assert_eq!(error.pointer, "ce-note");
    }
}

#[test]
fn binary_mode_keeps_the_body_untouched() {
    let event =
        from_headers(&[("ce-partitionkey", b"k"), ("ce-time", b"2026-01-01T00:00:00Z")], Some("text/xml"), b"<a>\xff")
            .unwrap();
    assert_eq!(payload(&event), Some(("text/xml", &b"<a>\xff"[..])));
    assert_eq!((event.key.as_deref(), event.timestamp), (Some("k"), NOW));
    assert_eq!(payload(&from_headers(&[], None, b"x").unwrap()), Some(("", &b"x"[..])));
    assert_eq!(payload(&from_headers(&[], Some("text/xml"), b"").unwrap()), None);
    for (extra, pointer) in [
        (("ce-datacontenttype", &b"text/plain"[..]), "ce-datacontenttype"),
        (("ce-id", b"2"), "ce-id"),
        (("ce-data", b"2"), "ce-data"),
        (("ce-bad_name", b"2"), "ce-bad_name"),
        (("ce-subject", b""), "ce-subject"),
    ] {
        assert_eq!(from_headers(&[extra], None, b"").expect_err(pointer).pointer, pointer);
    }
    let none: [(&str, &[u8]); 1] = [("ce-id", b"1")];
    assert_eq!(binary(none.into_iter(), None, Bytes::new(), &defaults()).unwrap_err().pointer, "ce-specversion");
    let large = from_headers(&[], None, &[b'x'; 65]).unwrap_err();
    assert_eq!(large.kind, ErrorKind::TooLarge);
}

#[test]
fn an_error_in_a_batch_says_which_event() {
    let text = format!("[{},{}]", cloud(""), cloud(r#","time":"x""#));
    let error = batch(text.as_bytes(), &defaults()).unwrap_err();
    assert_eq!((error.pointer.as_str(), error.index), ("#/1/time", Some(1)));
    assert_eq!(batch(b"[]", &defaults()).unwrap(), []);
    assert!(batch(b"{}", &defaults()).is_err());
    let many = format!("[{}1]", "1,".repeat(BATCH_EVENTS_MAX));
    assert_eq!(native_batch(many.as_bytes(), &defaults()).unwrap_err().kind, ErrorKind::TooLarge);
}

/// In, out as CloudEvents, and in again: nothing is lost, and the bytes of the payload are the same.
#[test]
fn cloudevents_survive_the_way_through() {
    for extra in [
        "",
        r#","data":{"a":  1e400}"#,
        r#","data":null"#,
        r#","datacontenttype":"text/plain","data":"5""#,
        r#","datacontenttype":"text/plain","data":"h\u00e9\n""#,
        r#","data_base64":"AAH/""#,
        r#","data_base64":"NQ==""#,
        r#","datacontenttype":"application/json","data_base64":"e2JhZA==""#,
        r#","datacontenttype":"image/png","data_base64":"AAH/""#,
        r#","comexample":7,"flag":true,"text":"x","partitionkey":"k","subject":"s","notbefore":"2026-01-02T00:00:00Z""#,
    ] {
        let first = structured(cloud(extra).as_bytes(), &defaults()).unwrap();
        let record = record(&Event { seq: 1, accepted_at: NOW, envelope: first.clone() });
        let text = serde_json::to_string(&CloudEvent(&record)).unwrap();
        let again = structured(text.as_bytes(), &defaults()).expect(&text);
        assert_eq!(again, first, "{text}");
        let shown = serde_json::to_string(&record).unwrap();
        let back: crate::model::record::EventRecord = serde_json::from_str(&shown).unwrap();
        assert_eq!(back.data.map(|raw| raw.get().to_owned()), record.data.map(|raw| raw.get().to_owned()));
    }
}

#[test]
fn trace_contexts_are_told_from_noise() {
    for (text, valid) in [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", true),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", true),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", false),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", false),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", false),
        ("", false),
    ] {
        assert_eq!(draft::is_traceparent(text), valid, "{text}");
    }
}
