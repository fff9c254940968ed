use super::super::client::Base;
use super::super::fake::{Asked, Fake, Reply, lost, ok, reply};
use super::super::tests::with_input;
use super::*;

const LINES: &str = "{\"type\":\"a.b\",\"id\":\"1\"}\n\n{\"type\":\"a.b\",\"data\":{\"n\": 1.0}}\n{}\n";

/// A host that takes everything; the first event of each request is a duplicate.
fn take(asked: &Asked) -> Reply {
    let events: Vec<serde_json::Value> = serde_json::from_str(&asked.body).unwrap();
    ok(&format!("{{\"accepted\":{},\"duplicates\":1,\"events\":[]}}", events.len() - 1))
}

fn emit(fake: &Fake, args: &[&str], input: &'static str) -> (u8, String, String) {
    let args: Vec<&str> = ["emit"].into_iter().chain(args.iter().copied()).collect();
    with_input(Some(fake), &args, Some((input, false)))
}

#[test]
fn what_a_line_lacks_is_added_and_the_rest_is_kept() {
    let fake = Fake::start(take);
    let (code, out, err) = emit(&fake, &["order.made", "--ndjson", "--source", "/till"], LINES);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "2 events accepted, 1 duplicate\n", ""));
    let asked = fake.asked();
    assert_eq!(asked.len(), 1);
    let events: Vec<serde_json::Value> = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!((&events[0]["id"], &events[0]["source"]), (&"1".into(), &"/till".into()));
    assert_eq!((&events[1]["type"], &events[2]["type"]), (&"a.b".into(), &"order.made".into()));
    assert!(events[1]["id"].as_str().unwrap().len() == 36 && events[1]["id"] != events[2]["id"]);
    assert!(asked[0].body.contains("\"data\":{\"n\": 1.0}"), "payloads stay byte for byte: {}", asked[0].body);
}

#[test]
fn a_busy_host_is_waited_for_and_a_lost_answer_sent_again() {
    let replies = std::sync::Mutex::new(vec![
        ok("{\"accepted\":1,\"duplicates\":2,\"events\":[]}"),
        lost(),
        reply(429, "{\"detail\":\"busy\"}").header("retry-after: 7"),
        reply(429, "{\"detail\":\"busy\"}").header("retry-after: 7"),
    ]);
    let fake = Fake::start(move |_| replies.lock().unwrap().pop().unwrap());
    let (code, out, err) = emit(&fake, &["a.b", "--ndjson"], LINES);
    assert_eq!(code, 0, "{err}");
    assert!(out.starts_with("1 event accepted, 2 duplicates (the answer to 3 events was lost"), "{out}");
    assert!(err.contains("sending them again"), "{err}");
    let said = err.matches("the host has no room at the moment: waiting until it has").count();
    assert_eq!(said, 1, "once is enough: {err}");
    let bodies: Vec<_> = fake.asked().into_iter().map(|asked| asked.body).collect();
    assert!(bodies.len() == 4 && bodies.windows(2).all(|two| two[0] == two[1]), "the same events with the same ids");
}

#[test]
fn a_bad_line_ends_the_sending_with_its_number_and_a_true_count() {
    for (input, said) in [
        ("{\"type\":\"a.b\"}\nnot json\n{\"type\":\"a.b\"}\n", "line 2 of standard input is not an event in JSON"),
        ("{\"type\":\"a.b\"}\n[1]\n", "line 2 of standard input is not"),
        ("{\"type\":\"a.b\"}\n{\"data\":1}\n", "line 2 of standard input names no event type"),
    ] {
        let fake = Fake::start(|_| ok("{\"accepted\":1,\"duplicates\":0,\"events\":[]}"));
        let (code, out, err) = emit(&fake, &["--ndjson"], input);
        assert_eq!((code, out.as_str()), (2, "1 event accepted\n"), "{err}");
        assert!(err.contains(said), "{err}");
    }
}

#[test]
fn a_line_that_is_not_utf8_is_called_so() {
    let defaults = Defaults { event_type: None, source: "/till".into() };
    let error = complete(b"{\"type\":\"a\xff\"}", &defaults, || Ok("1".into())).unwrap_err();
    assert_eq!(error.message, "is not UTF-8 from its byte 11 on");
}

#[test]
fn a_refused_batch_names_the_line_that_the_host_means() {
    let fake = Fake::start(|_| {
        reply(
            422,
            r##"{"type":"urn:tidegate:problem:schema-violation","detail":"no fit","errors":[{"pointer":"#/1/data/n","detail":"is no number"}]}"##,
        )
    });
    let (code, out, err) = emit(&fake, &["--ndjson", "--json"], "{\"type\":\"a.b\"}\n\n{\"type\":\"a.b\"}\n");
    assert_eq!((code, out.as_str()), (2, "{\"sent\":0,\"accepted\":0,\"duplicates\":0,\"resent\":0}\n"), "{err}");
    assert!(err.starts_with("error: line 3 of standard input: no fit\n  at: #/1/data/n: is no number\n"), "{err}");
    assert!(err.contains("None of lines 1 to 3 of standard input was accepted"), "{err}");
}

/// Input that gives a line at a time and, before it ends, looks at what has been sent.
struct Slow<'a>(Vec<&'static str>, &'a Fake);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(line) = self.0.pop() else {
            assert_eq!(self.1.asked().len(), 2, "each line was sent before the next was asked for");
            return Ok(0);
        };
        buffer[..line.len()].copy_from_slice(line.as_bytes());
        Ok(line.len())
    }
}

#[test]
fn a_slow_producer_is_not_kept_waiting() {
    let fake = Fake::start(|_| ok("{\"accepted\":1,\"duplicates\":0,\"events\":[]}"));
    let input = Slow(vec!["{\"type\":\"a.b\"}\n", "{\"type\":\"a.b\"}\n"], &fake);
    let host = Client::new(Base::parse(&fake.url).unwrap(), None).unwrap();
    let defaults = Defaults { event_type: None, source: "/till".into() };
    let (mut total, mut context) = (Total::default(), Context::for_tests(&[]));
    send(input, "input", &defaults, &host, &mut total, &mut context).unwrap();
    assert_eq!(total.accepted, 2);
}
