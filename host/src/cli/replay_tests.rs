use serde_json::json;

use super::super::fake::{Fake, ok, reply};
use super::super::tests::{tidegate, with_input};

const RECORD: &str = r#"{"id":3,"status":"STATUS","from":1,"to":90,"position":90,"made":12,"finished":12,"dead":DEAD,"failing":0,
"skipped":2,"createdAt":"2026-02-01T11:59:00Z"}"#;

fn record(status: &str, dead: u32) -> String {
    RECORD.replace("STATUS", status).replace("DEAD", &dead.to_string())
}

fn host(dead: u32) -> Fake {
    let polled = std::sync::atomic::AtomicU32::new(0);
    Fake::start(move |asked| match asked.line.as_str() {
        "POST /replays" if asked.body.contains(r#""dryRun":true"#) => {
            ok(r#"{"from":1,"to":90,"events":7,"deliveries":{"audit":7,"mail":7},"skipped":2}"#)
        }
        "POST /replays" => reply(202, &record("running", 0)),
        "GET /replays/3" if polled.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 => ok(&record("running", 0)),
        "GET /replays/3" => ok(&record("done", dead)),
        line => panic!("{line}"),
    })
}

#[test]
fn a_replay_asks_first_and_is_watched_to_its_end() {
    let fake = host(0);
    let args = ["replay", "--from", "1", "--type", "order.*", "--consumer", "mail", "--rate", "100/s"];
    let (code, out, err) = with_input(Some(&fake), &args, Some(("y\n", true)));
    assert_eq!(
        (code, err.as_str()),
        (0, "Deliver 7 events (between #1 and #90) again: 12 deliveries, to audit, mail? [y/N] ")
    );
    assert_eq!(out, "replay 3 done: made 12 deliveries, 12 of them finished, 2 skipped\n");
    let sent: Vec<serde_json::Value> = fake
        .asked()
        .iter()
        .filter(|asked| asked.line == "POST /replays")
        .map(|asked| serde_json::from_str(&asked.body).unwrap())
        .collect();
    let expected = |dry_run: bool| {
        json!({ "from": 1, "to": null, "type": "order.*", "key": null, "correlation": null, "consumer": "mail", "rate": "100/s",
            "dryRun": dry_run })
    };
    assert_eq!(sent, [expected(true), expected(false)]);
    assert_eq!(fake.lines().iter().filter(|line| *line == "GET /replays/3").count(), 2);
}

#[test]
fn no_is_no() {
    let fake = host(0);
    let (code, _, _) = with_input(Some(&fake), &["replay", "--from", "1"], Some(("n\n", true)));
    assert_eq!(code, 4);
    assert_eq!(fake.lines(), ["POST /replays"], "only the plan");
}

#[test]
fn a_dry_run_changes_nothing() {
    let fake = host(0);
    let (code, out, _) = tidegate(Some(&fake), &["replay", "--correlation", "c-1", "--dry-run"]);
    assert_eq!(code, 0);
    assert_eq!(
        out,
        "would deliver 7 events (between #1 and #90) again: 12 deliveries, to audit, mail\n  audit  7\n  mail  7\n  2 of these \
         14 would be skipped: the same event is not settled yet for the same consumer\n"
    );
    assert_eq!(fake.lines(), ["POST /replays"]);
}

#[test]
fn nothing_is_not_asked_about() {
    for (plan, said) in [
        (r#"{"from":1,"to":90,"events":0,"deliveries":{},"skipped":0}"#, "no event between #1 and #90 fits"),
        (
            r#"{"from":1,"to":90,"events":2,"deliveries":{"mail":2},"skipped":2}"#,
            "2 deliveries that fit are not final yet",
        ),
    ] {
        let fake = Fake::start(move |_| ok(plan));
        let (code, _, err) = with_input(Some(&fake), &["replay", "--key", "k"], Some(("y\n", true)));
        assert_eq!((code, fake.lines().len()), (4, 1), "{err}");
        assert!(err.contains(said) && err.contains("hint: "), "{err}");
    }
}

#[test]
fn what_is_refused_says_a_way_out() {
    let refused = r#"{"type":"urn:tidegate:problem:replay-refused","title":"Replay refused","status":422,"oldest":41,
"detail":"Nothing is replayed: some events from #1 to #90 are past their retention and gone; from #41 on all are there."}"#;
    let (code, _, err) =
        tidegate(Some(&Fake::start(move |_| reply(422, refused))), &["replay", "--from", "1", "--yes"]);
    assert_eq!(code, 4);
    assert!(err.contains("hint: Begin with the oldest that is there: `--from 41`."), "{err}");
}

#[test]
fn deaths_are_told_by_the_exit_code() {
    let (code, out, err) = tidegate(Some(&host(2)), &["replay", "--from", "7d", "--yes", "--json"]);
    assert_eq!(code, 4);
    assert!(out.contains(r#""dead":2"#), "{out}");
    assert!(err.contains("2 of its deliveries died"), "{err}");
}

#[test]
fn a_replay_of_everything_is_not_a_slip() {
    let (code, _, err) = tidegate(None, &["replay", "--yes"]);
    assert_eq!(code, 2);
    assert!(err.contains("say which events to replay"), "{err}");
    for args in [["--from", "yesterday"], ["--rate", "0/s"], ["--type", "a..b"]] {
        assert_eq!(tidegate(None, &["replay", args[0], args[1]]).0, 2, "{args:?}");
    }
}
