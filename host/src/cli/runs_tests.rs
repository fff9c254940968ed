use super::super::fake::{Fake, ok, reply};
use super::super::tests::{tidegate, with_input};

const RUN: &str = r#"{"id":"17/fulfil","pipeline":"fulfil","key":"o-1","status":"STATUS","sequence":17,"eventId":"e-17",
"eventType":"order.created","beganAt":"2026-02-01T11:59:00Z","definition":"ab","stepCounts":{"undone":1,"failed":1},
"failure":"step 'pay' has failed: card \u001b[31mdeclined"ENDED}"#;

const STEPS: &str = r#"[{"name":"reserve","state":"undo-failed","work":{"consumer":"reserve-stock",
"beganAt":"2026-02-01T11:59:00Z","endedAt":"2026-02-01T11:59:30Z","durationMs":30000.0,"attempts":1,
"deliveries":["17/reserve-stock/1"]},"output":{"shelf":  "B"},"compensation":{"consumer":"release-stock",
"beganAt":"2026-02-01T11:59:45Z","attempts":2,"reason":"no shelf","dueAt":"2026-02-01T12:00:20Z"}},
{"name":"pay","after":["reserve"],"state":"failed","work":{"consumer":"take-payment","beganAt":"2026-02-01T11:59:30Z",
"endedAt":"2026-02-01T11:59:45Z","durationMs":15000.0,"attempts":3,"reason":"card declined"}},
{"name":"settled","after":["pay"],"state":"waiting","work":{"attempts":0,"beganAt":"2026-02-01T11:59:58Z"},
"wait":{"type":"payment.settled","key":"p-1","until":"2026-02-02T12:00:00Z"}},
{"name":"ship","after":["settled"],"state":"pending","work":{"consumer":"ship-order","attempts":0}}]"#;

const JOURNAL: &str = r#"[{"line":0,"at":"2026-02-01T11:59:00Z","entry":"began"},
{"line":1,"at":"2026-02-01T11:59:45Z","entry":"failed","step":"pay","reason":"card declined"}]"#;

fn run(status: &str, ended: bool) -> String {
    let ended = if ended { r#","endedAt":"2026-02-01T12:00:00Z","durationMs":60000.0"# } else { "" };
    RUN.replace("STATUS", status).replace("ENDED", ended).replace('\n', "")
}

fn host() -> Fake {
    Fake::start(|asked| {
        match asked.line.split('?').next().unwrap() {
        "GET /runs" => ok(&format!("{{\"runs\":[{},{}],\"next\":null}}", run("stuck", false), run("completed", true))),
        "GET /runs/17/fulfil" => ok(&format!(
            "{{\"run\":{},\"onFailure\":\"compensate\",\"until\":\"2026-02-01T12:10:00Z\",\"steps\":{STEPS},\"journal\":{JOURNAL}}}",
            run("stuck", false)
        )
        .replace('\n', "")),
        "POST /runs/17/fulfil/cancel" | "POST /runs/17/fulfil/steps/reserve/retry" => {
            ok(r#"{"run":"17/fulfil","status":"compensating"}"#)
        }
        "POST /runs/17/fulfil/steps/reserve/resolve" => ok(r#"{"run":"17/fulfil","status":"compensated"}"#),
        "POST /runs/18/fulfil/cancel" => reply(
            409,
            r#"{"type":"urn:tidegate:problem:run-refused","detail":"The run has ended as completed.","see":"/runs/18/fulfil"}"#,
        ),
        _ => reply(404, r#"{"type":"urn:tidegate:problem:not-found","detail":"There is no such run.","see":"/runs"}"#),
    }
    })
}

#[test]
fn runs_are_lines() {
    let fake = host();
    let (code, out, err) = tidegate(Some(&fake), &["runs", "--status", "open", "--pipeline", "fulfil", "--limit", "2"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 2 + 1, "{out}");
    assert!(lines[0].starts_with("run        status     began"), "{out}");
    assert!(lines[1].contains("completed") && lines[1].contains("1m 0s"), "{out}");
    assert!(lines[2].contains("1m 0s so far") && lines[2].ends_with("card \\x1b[31mdeclined"), "{out}");
    let asked = &fake.lines()[0];
    assert!(asked.contains("status=open") && asked.contains("pipeline=fulfil"), "{asked}");
    let (_, out, _) = tidegate(Some(&fake), &["runs", "--json", "--limit", "2"]);
    assert!(out.lines().all(|line| line.starts_with(r#"{"id":"17/fulfil","pipeline":"fulfil","key":"o-1""#)), "{out}");
    assert_eq!(tidegate(Some(&fake), &["runs", "--status", "done"]).0, 2);
    assert_eq!(tidegate(Some(&fake), &["runs", "fulfil"]).0, 2);
}

#[test]
fn one_is_a_timeline() {
    let (code, out, err) = tidegate(Some(&host()), &["runs", "17/fulfil"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let expected = "\
17/fulfil  stuck  for 1m 0s so far
  failure     step 'pay' has failed: card \\x1b[31mdeclined
  key         o-1
  event       #17 order.created  e-17
  began       2026-02-01T11:59:00.000Z
  time is up  2026-02-01T12:10:00.000Z (in 10m 0s)

step     state        from … to                    began     took  attempts  who              what
reserve  done         ━━━━━━━━━━━━              +0.00 ms  30.00 s         1  reserve-stock    {\"shelf\":  \"B\"}
  undo   undo-failed                    ━━━━━▶  +45.00 s      15s         2  release-stock    no shelf; attempt 3 is due in 20s
pay      failed                   ━━━━━━        +30.00 s  15.00 s         3  take-payment     card declined
settled  waiting                             ▶  +58.00 s       2s         -  payment.settled  for one with the key p-1; until 2026-02-02T12:00:00.000Z (in 1d 0h)
ship     pending                                                          0  ship-order
";
    assert_eq!(out, expected);
    let (_, out, _) = tidegate(Some(&host()), &["runs", "17/fulfil", "--journal"]);
    assert!(out.ends_with("failed  pay   card declined\n"), "{out}");
    let (_, out, _) = tidegate(Some(&host()), &["runs", "17/fulfil", "--json"]);
    assert!(out.contains(r#""output":{"shelf":  "B"}"#) && out.contains(r#""entry":"failed""#), "{out}");
    let (code, _, err) = tidegate(Some(&host()), &["runs", "99/fulfil"]);
    assert!(code == 4 && err.contains("there is no run 99/fulfil"), "{code} {err}");
}

#[test]
fn what_cannot_be_taken_back_is_asked() {
    let fake = host();
    let (code, _, err) = tidegate(Some(&fake), &["runs", "cancel", "17/fulfil"]);
    assert_eq!(code, 2, "{err}");
    let (code, out, err) = with_input(Some(&fake), &["runs", "cancel", "17/fulfil"], Some(("y\n", true)));
    assert_eq!((code, out.as_str()), (0, "run 17/fulfil is compensating\n"));
    assert!(err.starts_with("Cancel run 17/fulfil?"), "{err}");
    let (code, ..) = tidegate(Some(&fake), &["runs", "cancel", "17/fulfil", "--yes", "--reason", "a mistake"]);
    assert_eq!((code, fake.asked().pop().unwrap().body), (0, r#"{"reason":"a mistake"}"#.to_owned()));
    let (code, _, err) = tidegate(Some(&fake), &["runs", "cancel", "18/fulfil", "--yes"]);
    assert!(code == 4 && err.contains("has ended as completed"), "{code} {err}");
    assert!(err.contains("hint: See how it stands with `tidegate runs 18/fulfil`."), "{err}");
    let (code, _, err) = tidegate(Some(&fake), &["runs", "cancel", "19/fulfil", "--yes"]);
    assert_eq!((code, err.as_str()), (4, "error: There is no such run.\nhint: List them with `tidegate runs`.\n"));
}

#[test]
fn a_step_is_taken_up_again() {
    let fake = host();
    let (code, out, _) = tidegate(Some(&fake), &["runs", "retry-step", "17/fulfil", "reserve", "--json"]);
    assert_eq!((code, out.as_str()), (0, "{\"run\":\"17/fulfil\",\"status\":\"compensating\"}\n"));
    let args = ["runs", "resolve", "17/fulfil", "reserve", "--yes", "--output", r#"{"n":  1.0}"#];
    let (code, out, _) = tidegate(Some(&fake), &args);
    assert_eq!((code, out.as_str()), (0, "run 17/fulfil is compensated\n"));
    let last = fake.asked().pop().unwrap();
    assert_eq!(last.body, r#"{"n":  1.0}"#, "as it was typed");
    assert!(last.headers.contains("content-type: application/json"), "{}", last.headers);
    let args = ["runs", "resolve", "17/fulfil", "reserve", "--yes", "--output", "text"];
    assert_eq!(tidegate(Some(&fake), &args).0, 2);
}
