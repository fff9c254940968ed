use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::model::{Envelope, Event, Payload, Timestamp};

fn event_of(data: impl Into<Vec<u8>>) -> Event {
    let mut attributes = Map::new();
    attributes.insert("tenant".into(), json!("blue"));
    attributes.insert("shard".into(), json!(7));
    Event {
        seq: 42,
        accepted_at: Timestamp(1_000_000),
        envelope: Envelope {
            id: "e-1".into(),
            event_type: "order.created".into(),
            source: "/shop".into(),
            subject: None,
            key: Some("k".into()),
            data_version: "1.2.0".into(),
            timestamp: Timestamp(0),
            correlation_id: "c".into(),
            causation_id: None,
            traceparent: None,
            not_before: None,
            job: None,
            attributes,
            payload: Some(Payload { content_type: "application/json".into(), data: Bytes::from(data.into()) }),
            depth: 0,
        },
    }
}

fn key(source: &str, data: &str) -> Result<String, String> {
    Expression::parse(source).unwrap().key(&event_of(data))
}

fn holds(source: &str, data: &str) -> bool {
    Expression::parse(source).unwrap().holds(&event_of(data))
}

#[test]
fn a_path_gives_the_key_that_is_there() {
    let data = r#"{"id":"a-1","n":7,"yes":true,"deep":{"er":[{"x":"y"}]},"odd name":"o","id":"last"}"#;
    for (source, expected) in [
        ("data.id", "last"),
        ("data.n", "7"),
        ("data.yes", "true"),
        ("data.deep.er[0].x", "y"),
        ("data[\"odd name\"]", "o"),
        ("(data.id)", "last"),
        ("event.type", "order.created"),
        ("event.key", "k"),
        ("event.sequence", "42"),
        ("event.timestamp", "1970-01-01T00:00:00.000Z"),
        ("event.attributes.tenant", "blue"),
        ("event.attributes.shard", "7"),
        ("event.source + \":\" + string(data.n)", "/shop:7"),
        ("data.n > 5 ? \"big\" : \"small\"", "big"),
        ("data.n / 2", "3"),
        ("double(data.n) / 2.0", "3.5"),
    ] {
        assert_eq!(key(source, data).as_deref(), Ok(expected), "{source}");
    }
    assert_eq!(key("data", "5").as_deref(), Ok("5"));
}

#[test]
fn what_gives_no_key_says_why_and_names_the_expression() {
    let data = r#"{"none":null,"list":[1],"map":{},"text":"x"}"#;
    for (source, expected) in [
        ("data.gone", "`data.gone` gives no key: it is not in the event"),
        ("data.text.more", "it is not in the event"),
        ("data.list[5]", "it is not in the event"),
        ("data.map[0]", "it is not in the event"),
        ("data.none", "it is null"),
        ("data.list", "it is a list"),
        ("data", "it is an object"),
        ("event.subject", "it is not in the event"),
        ("event.attributes.gone", "it is not in the event"),
        ("data.gone + 1", "needs \"gone\", which is not in the event"),
        ("1 / 0", "divides by zero"),
        ("data.text - 1", "values of these types"),
        ("1.0 / 0.0", "neither text nor a number"),
        ("[data.text]", "it is a list"),
    ] {
        let reason = key(source, data).unwrap_err();
        assert!(reason.contains(expected) && reason.contains(source), "{source}: {reason}");
    }
    for text in ["", "{", "{\"id\":1} x", "\u{0}", "[1,", "{\"id\":1"] {
        let reason = key("data.id", text).unwrap_err();
        assert!(reason.contains("is not JSON"), "{text}: {reason}");
    }
    let mut bare = event_of("");
    bare.envelope.payload = None;
    assert!(Expression::parse("data.id").unwrap().key(&bare).unwrap_err().contains("no data"));
    assert!(Expression::parse("data.id + 1").unwrap().key(&bare).unwrap_err().contains("none that is JSON"));
    let mut text = event_of("{\"id\":1}");
    text.envelope.payload = Some(Payload { content_type: "text/plain".into(), data: "{\"id\":1}".into() });
    assert!(Expression::parse("data.id").unwrap().key(&text).unwrap_err().contains("not JSON"));
}

#[test]
fn a_key_has_a_bound() {
    let text = |length: usize| format!("{{\"id\":\"{}\"}}", "x".repeat(length));
    for source in ["data.id", "data.id + \"\""] {
        assert_eq!(key(source, &text(256)).unwrap().len(), 256);
        assert!(key(source, &text(257)).unwrap_err().contains("257 bytes"), "{source}");
    }
}

#[test]
fn numbers_that_differ_never_share_a_key() {
    let numbers = [
        "9007199254740992",
        "9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551617",
        "123456789012345678901234567890",
        "123456789012345678901234567891",
        "-9223372036854775808",
        "-9223372036854775809",
        "0.1",
        "0.10000000000000000001",
        "1e400",
        "1e401",
        "-0.5",
    ];
    let keys: std::collections::BTreeSet<_> =
        numbers.iter().map(|number| key("data.n", &format!("{{\"n\":{number}}}")).unwrap()).collect();
    assert_eq!(keys.len(), numbers.len(), "{keys:?}");
    // The interpreter computes with doubles, and says so rather than guess.
    let reason = key("string(data.n)", "{\"n\":18446744073709551617}").unwrap_err();
    assert!(reason.contains("too large to be exact"), "{reason}");
    assert_eq!(key("string(data.n)", "{\"n\":18446744073709551615}").unwrap(), "18446744073709551615");
    assert!(holds("data.n > 100", "{\"n\":18446744073709551617}"));
}

#[test]
fn equal_numbers_share_a_key() {
    for (text, expected) in [
        ("1", "1"),
        ("1.0", "1"),
        ("1e0", "1"),
        ("10e-1", "1"),
        ("-0", "0"),
        ("0.0", "0"),
        ("1500", "1500"),
        ("1.5e3", "1500"),
        ("0.00012", "0.00012"),
        ("12.50", "12.5"),
        ("1e41", "1e41"),
        ("10e40", "1e41"),
        ("1e-60", "1e-60"),
    ] {
        assert_eq!(key("data", text).as_deref(), Ok(expected), "{text}");
    }
    assert!(key("data", "1e99999999999999999999").is_err());
}

#[test]
fn a_condition_is_true_or_it_is_not() {
    let data = r#"{"total":150.5,"count":3,"state":"paid","tags":["a","b"],"vip":false,"deep":{"x":1}}"#;
    for (source, expected) in [
        ("data.total > 100", true),
        ("data.total > 100 && data.state == \"paid\"", true),
        ("data.count == 3.0", true),
        ("data.state in [\"paid\", \"sent\"]", true),
        ("\"a\" in data.tags", true),
        ("size(data.tags) == 2", true),
        ("data.state.startsWith(\"pa\")", true),
        ("has(data.deep.x)", true),
        ("has(data.deep.y)", false),
        ("!has(data.deep.y)", true),
        ("event.type == \"order.created\"", true),
        ("has(event.subject)", false),
        ("has(event.attributes.tenant) && event.attributes.tenant == \"blue\"", true),
        ("data.vip", false),
        ("!data.vip", true),
        ("data.gone", false),
        ("data.gone == 1", false),
        ("data.gone == 1 || data.count == 3", true),
        ("data.state", false),
        ("data.state > 1", false),
        ("true", true),
    ] {
        assert_eq!(holds(source, data), expected, "{source}");
    }
    assert!(!holds("data.total > 100", "not JSON"));
    assert!(holds("true || data.total > 1", "{}"));
}

#[test]
fn what_is_beside_may_be_as_deep_as_it_likes() {
    let deep =
        |levels: usize| format!("{{\"deep\":{}1{},\"id\":\"x\",\"n\":2}}", "[".repeat(levels), "]".repeat(levels));
    let text = deep(100_000);
    assert_eq!(key("data.id", &text).as_deref(), Ok("x"));
    assert!(holds("data.n > 1", &text));
    assert!(holds("size(data.deep) == 1", &deep(63)));
    assert!(!holds("size(data.deep) == 1", &deep(65)));
    let reason = key("string(size(data.deep))", &deep(65)).unwrap_err();
    assert!(reason.contains("more than 64 levels"), "{reason}");
}

/// The place, the message.
fn fault(source: &str) -> (String, String) {
    let fault = Expression::parse(source).unwrap_err();
    assert!(!fault.help.is_empty());
    (source.get(fault.at).expect("a place inside the expression").to_owned(), fault.message)
}

#[test]
fn faults_say_where_and_what() {
    for (source, place, message) in [
        ("", "", "missing"),
        ("data.total >", "", "ends too early"),
        ("data.total = 1", "=", "cannot stand here"),
        ("data.", "", "ends too early"),
        ("data.x and data.y", "and", "cannot stand here"),
        ("order.total", "order", "not a variable"),
        ("data.order-id", "id", "not a variable"),
        ("\"é\" + name", "name", "not a variable"),
        ("data.a ==\n nope", "nope", "not a variable"),
        ("event.kind", "event.kind", "no \"kind\""),
        ("event.type.x", "event.type.x", "has no members"),
        ("event", "event", "all attributes"),
        ("steps", "steps", "all outputs"),
        ("steps[0].x", "steps[0].x", "by its name"),
        ("steps[data.name].x", "steps", "all outputs"),
        ("steps.reserve-stock.x", "stock", "not a variable"),
        ("lower(data.a)", "lower", "not a function"),
        ("data.a.matches(\"(a+)+\")", "matches", "regular expressions"),
        ("data.a.size(1)", "size", "not called like this"),
        ("data.xs.all(x, x > 1)", "all", "loops"),
        ("data.xs.map(x, x)", "map", "loops"),
        ("event.type == 1", "==", "never equal"),
        ("event.type && true", "event.type", "text, not true or false"),
        ("data.a < [1]", "<", "no order"),
        ("1 + \"a\"", "+", "no sum"),
        ("\"a\" * 2", "\"", "text, not a number"),
        ("data.xs[-1]", "1", "from 0"),
        ("x{a: 1}", "{", "messages"),
        ("1 in 2", "in", "looks into a list"),
        ("data.?a", "", "cannot stand here"),
    ] {
        let (at, said) = fault(source);
        assert!(said.contains(message), "{source}: {said}");
        if !place.is_empty() {
            assert!(at.contains(place) || place == at, "{source}: {at:?} is not at {place:?}");
        }
    }
}

#[test]
fn size_and_nesting_are_bounded() {
    for source in [
        "x".repeat(1_025),
        format!("{}1{}", "(".repeat(49), ")".repeat(49)),
        format!("{}c", "a?b:".repeat(49)),
        format!("1{}", "<1".repeat(200)),
        format!("data.s{}", "+data.s".repeat(17)),
    ] {
        assert!(fault(&source).1.contains("at most"), "{source}");
    }
    // What is allowed fits on a small stack.
    let sources = [
        format!("{}1{}", "(".repeat(48), ")".repeat(48)),
        format!("{}1{}", "[".repeat(48), "]".repeat(48)),
        format!("{}data.a", "!".repeat(200)),
        format!("data.a{}", " && true".repeat(80)),
        format!("data.a{}", " - 1".repeat(120)),
        format!("data{}", ".a".repeat(64)),
        format!("{}2", "true?1:".repeat(48)),
    ];
    let small = std::thread::Builder::new().stack_size(1 << 20).spawn(move || {
        for source in sources {
            let expression = Expression::parse(&source).unwrap_or_else(|fault| panic!("{source}: {fault}"));
            drop(expression.key(&event_of("{\"a\":true}")));
        }
    });
    small.unwrap().join().unwrap();
}

#[test]
fn what_it_gives_and_looks_at_is_known() {
    for (source, kind) in [
        ("data.a", Kind::Any),
        ("data.a == 1", Kind::Bool),
        ("event.type", Kind::Text),
        ("event.sequence", Kind::Number),
        ("[1]", Kind::List),
        ("size(data.a)", Kind::Number),
        ("data.a + \"x\"", Kind::Text),
        ("data.a + data.b", Kind::Any),
        ("null", Kind::Null),
        ("data.a ? 1 : 2", Kind::Number),
        ("data.a ? 1 : \"x\"", Kind::Any),
    ] {
        assert_eq!(Expression::parse(source).unwrap().kind(), kind, "{source}");
    }
    let source = "has(data.a.b) && data.items[0].id == event.id && data[\"x y\"] > 1";
    let expression = Expression::parse(source).unwrap();
    let paths: Vec<_> = expression.paths().iter().map(|path| (&source[path.at.clone()], path.tested)).collect();
    let expected = [("data.a.b", true), ("data.items[0].id", false), ("event.id", false), ("data[\"x y\"]", false)];
    assert_eq!(paths, expected);
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i64>().prop_map(|n| json!(n)),
        any::<u64>().prop_map(|n| json!(n)),
        (-1e9_f64..1e9).prop_map(|n| json!(n)),
        "[a-cé\"\\\\]{0,5}".prop_map(|s| json!(s)),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn source() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("data".to_owned()),
        Just("data.a".to_owned()),
        Just("data.b.c".to_owned()),
        Just("data.a[0]".to_owned()),
        Just("event.type".to_owned()),
        Just("event.attributes".to_owned()),
        Just("has(data.a)".to_owned()),
        Just("steps.a".to_owned()),
        Just("steps.b.a".to_owned()),
        Just("has(steps.c)".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        Just("9223372036854775807".to_owned()),
        Just("1e308".to_owned()),
        Just("0".to_owned()),
        Just("\"a\"".to_owned()),
        Just("b\"a\"".to_owned()),
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in"]);
        let function = prop::sample::select(vec!["size", "string", "int", "uint", "double", "bool", "-", "!"]);
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (function, inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}.contains({b})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{{{a}: [{b}]}}")),
        ]
    })
}

fn output(content_type: &str, data: impl Into<Vec<u8>>) -> Option<Payload> {
    Some(Payload { content_type: content_type.into(), data: Bytes::from(data.into()) })
}

/// What three steps left: one JSON, one nothing, one text; and one that only says that it is JSON.
fn outputs() -> Vec<(String, Option<Payload>)> {
    let reserve =
        r#"{"inStock":true,"left":9007199254740993,"shelf":{"row":"B"},"none":null,"total":12.5,"beside":[[[1]]]}"#;
    vec![
        ("reserve".into(), output("application/json", reserve)),
        ("notify".into(), None),
        ("note".into(), output("text/plain", "{\"x\":1}")),
        ("broken".into(), output("", "{\"x\":1")),
    ]
}

#[test]
fn steps_are_the_outputs_of_a_run() {
    let (event, outputs) = (event_of(r#"{"total":12.5,"row":"B"}"#), outputs());
    let scene = Scene { event: &event, outputs: &outputs };
    for (source, expected) in [
        ("steps.reserve.left", Ok("9007199254740993")),
        ("steps.reserve.shelf.row", Ok("B")),
        ("steps[\"reserve\"].shelf[\"row\"]", Ok("B")),
        ("steps.reserve.shelf.row + \":\" + data.row", Ok("B:B")),
        ("has(steps.notify.x) ? steps.notify.x : data.row", Ok("B")),
        ("steps.reserve.none", Err("it is null")),
        ("steps.reserve", Err("it is an object")),
        ("steps.reserve.gone", Err("is not in the output of step `reserve`")),
        ("steps.reserve.left.more", Err("is not in the output of step `reserve`")),
        ("steps.notify.x", Err("needs an output of step `notify`, which has none")),
        ("steps.later.x", Err("needs an output of step `later`, which has none")),
        ("steps.note.x", Err("the output of step `note`, which is not JSON")),
        ("steps.broken.x", Err("the output of step `broken`, which is not JSON")),
        ("steps.later.x + \"\"", Err("needs \"x\", which is neither in the event nor among the outputs")),
        ("steps.broken.x + \"\"", Err("needs \"x\", which is neither")),
        ("has(steps.later) ? \"\" : steps.later.x", Err("needs \"later\", which is neither")),
        ("string(steps.reserve.left)", Ok("9007199254740993")),
    ] {
        let found = Expression::parse(source).unwrap().key_in(&scene);
        match expected {
            Ok(key) => assert_eq!(found.as_deref(), Ok(key), "{source}"),
            Err(reason) => assert!(found.as_ref().is_err_and(|said| said.contains(reason)), "{source}: {found:?}"),
        }
    }
}

#[test]
fn a_condition_of_a_run_is_true_or_false_or_says_why_not() {
    let (event, outputs) = (event_of(r#"{"total":12.5,"row":"B","text":"x"}"#), outputs());
    let scene = Scene { event: &event, outputs: &outputs };
    for (source, expected) in [
        ("steps.reserve.inStock", Ok(true)),
        ("!steps.reserve.inStock", Ok(false)),
        ("steps.reserve.total == data.total", Ok(true)),
        ("has(steps.reserve)", Ok(true)),
        ("has(steps.reserve.shelf)", Ok(true)),
        ("has(steps.reserve.gone)", Ok(false)),
        ("has(steps.notify)", Ok(false)),
        ("has(steps.note)", Ok(false)),
        ("has(steps.broken)", Ok(false)),
        ("has(steps.notify.x)", Ok(false)),
        ("has(steps.broken.x) || !has(steps.later.x)", Ok(true)),
        ("has(steps.notify) && has(steps.notify.x)", Ok(false)),
        ("true || steps.later.x", Ok(true)),
        ("data.text", Err("it is text")),
        ("data.text + \"\"", Err("it is text")),
        ("steps.reserve.left", Err("it is a number")),
        ("steps.reserve.none", Err("it is null")),
        ("[steps.reserve.left]", Err("it is a list")),
        ("steps.later.x", Err("which has none")),
        ("steps.reserve.gone == 1", Err("needs \"gone\"")),
        ("steps.reserve.left / 0 > 1", Err("divides by zero")),
    ] {
        let expression = Expression::parse(source).unwrap();
        let found = expression.truth(&scene);
        match expected {
            Ok(truth) => assert_eq!(found, Ok(truth), "{source}"),
            Err(reason) => {
                let said = found.unwrap_err();
                assert!(said.contains(reason) && said.contains("is neither true nor false"), "{source}: {said}");
            }
        }
    }
    // Outside of a run nothing is there.
    assert!(!Expression::parse("steps.reserve.inStock").unwrap().holds(&event));
    assert!(Expression::parse("!has(steps.reserve)").unwrap().holds(&event));
}

#[test]
fn what_lies_beside_in_an_output_may_be_as_deep_as_it_likes() {
    let deep = format!("{{\"deep\":{}1{},\"id\":\"x\"}}", "[".repeat(50_000), "]".repeat(50_000));
    let (event, outputs) = (event_of("{}"), [("a".to_owned(), output("application/json", deep))]);
    let scene = Scene { event: &event, outputs: &outputs };
    for source in ["steps.a.id", "steps.a.id + \"\""] {
        assert_eq!(Expression::parse(source).unwrap().key_in(&scene).as_deref(), Ok("x"), "{source}");
    }
    let reason = Expression::parse("string(size(steps.a.deep))").unwrap().key_in(&scene).unwrap_err();
    assert!(reason.contains("more than 64 levels"), "{reason}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_that_is_written_panics(text in "\\PC{0,80}") {
        if let Err(fault) = Expression::parse(&text) {
            prop_assert!(text.get(fault.at).is_some());
        }
    }

    #[test]
    fn nothing_that_looks_like_cel_panics(text in "[a-z.\\[\\](){}?:!=&|<>+*/%,\"'0-9 -]{0,60}") {
        if let Err(fault) = Expression::parse(&text) {
            prop_assert!(text.get(fault.at).is_some());
        }
    }

    #[test]
    fn evaluation_gives_a_key_or_a_sentence(text in source(), data in json_value(), left in json_value()) {
        let event = event_of(data.to_string());
        let outputs = [("a".to_owned(), output("application/json", left.to_string())), ("b".to_owned(), None)];
        let scene = Scene { event: &event, outputs: &outputs };
        match Expression::parse(&text) {
            Ok(expression) => {
                prop_assert!(expression.truth(&scene).map_or_else(|reason| reason.len() > 20, |_| true));
                match expression.key_in(&scene) {
                    Ok(key) => prop_assert!(key.len() <= KEY_BYTES_MAX),
                    Err(reason) => prop_assert!(reason.ends_with(|c: char| !c.is_whitespace())),
                }
            }
            Err(fault) => prop_assert!(text.get(fault.at).is_some()),
        }
    }

    /// The short way and the interpreter agree wherever both give a key.
    #[test]
    fn a_path_means_what_the_interpreter_says(
        path in prop::sample::select(vec![
            "data", "data.a", "data.b", "data.a.b", "data.a[0]", "data.b.c[1].a", "event.type", "steps.a", "steps.a.b[0]",
        ]),
        data in json_value(),
    ) {
        let event = event_of(data.to_string());
        let outputs = [("a".to_owned(), output("", data.to_string()))];
        let scene = Scene { event: &event, outputs: &outputs };
        let short = Expression::parse(path).unwrap();
        let long = Expression::parse(&format!("true ? {path} : {path}")).unwrap();
        let apart = matches!((&short.0.form, &long.0.form), (Form::Path(_), Form::Program { .. }));
        prop_assert!(apart, "both went the same way");
        prop_assert_eq!(short.key_in(&scene).ok(), long.key_in(&scene).ok());
        prop_assert_eq!(short.truth(&scene).ok(), long.truth(&scene).ok());
    }
}
