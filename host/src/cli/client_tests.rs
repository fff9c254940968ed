use super::*;
use crate::model::query::EventQuery;

#[test]
fn addresses_are_checked() {
    for (url, expected) in [
        ("http://127.0.0.1:7420", Some("127.0.0.1:7420")),
        ("http://[::1]:7420/", Some("[::1]:7420")),
        ("http://tide.example", Some("tide.example:80")),
        ("https://tide.example", None),
        ("127.0.0.1:7420", None),
        ("http://user@host:1", None),
        ("http://host:1/path", None),
        ("", None),
    ] {
        assert_eq!(Base::parse(url).ok().map(|base| base.address()).as_deref(), expected, "{url}");
    }
}

#[test]
fn queries_are_encoded_and_empty_fields_left_out() {
    let query = EventQuery {
        event_type: Some("order.*".into()),
        source: Some("/a b&c=d".into()),
        newest: true,
        limit: Some(5),
        ..EventQuery::default()
    };
    assert_eq!(with_query("/events", &query), "/events?type=order.%2A&source=%2Fa%20b%26c%3Dd&newest=true&limit=5");
    assert_eq!(with_query("/events", &EventQuery::default()), "/events");
    assert_eq!(encode("/shop#1ü"), "%2Fshop%231%C3%BC");
}

#[test]
fn a_problem_becomes_an_error_with_the_exit_code_of_its_kind() {
    for (status, code) in [
        (400, 2),
        (401, 5),
        (403, 5),
        (404, 4),
        (408, 6),
        (409, 4),
        (413, 2),
        (422, 4),
        (429, 5),
        (500, 5),
        (503, 5),
        (507, 5),
    ] {
        let problem = Problem { status, title: "t".into(), detail: Some("what happened".into()), ..Problem::default() };
        let error = error::Error::from(Error::Problem(Box::new(problem)));
        assert_eq!((error.kind.exit_code(), error.message.as_str()), (code, "what happened"), "{status}");
    }
    let own = Problem { status: 401, hint: Some("Do this.".into()), ..Problem::default() };
    assert_eq!(error::Error::from(Error::Problem(Box::new(own))).hints, ["Do this."]);
}

#[test]
fn a_refusal_says_what_to_do_instead() {
    let hints = |document: &str| {
        let problem: Problem = serde_json::from_str(document).unwrap();
        error::Error::from(Error::Problem(Box::new(Problem { status: 422, ..problem }))).hints
    };
    for (members, hint) in [
        (r#""oldest":41"#, "Begin with the oldest that is there: `--from 41`."),
        (r#""nearest":"mailer""#, "Did you mean 'mailer'?"),
        (r#""see":"/consumers""#, "List them with `tidegate consumers`."),
        (r#""see":"/consumers/mailer""#, "See how it stands with `tidegate consumers mailer`."),
        (r#""see":"/events?newest=true""#, "List the newest with `tidegate events`."),
        (r#""see":"/replays/3""#, "See how it stands with `tidegate replay show 3`."),
        (r#""title":"t""#, "See what is in the log with `tidegate stats`."),
    ] {
        assert_eq!(hints(&format!(r#"{{"type":"urn:tidegate:problem:replay-refused",{members}}}"#)), [hint]);
    }
    let said = r#"{"type":"urn:tidegate:problem:unknown-consumer","detail":"Did you mean 'a'?","nearest":"a"}"#;
    assert!(hints(said).is_empty(), "not twice");
}
