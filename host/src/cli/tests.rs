use super::fake::{Asked, Fake, Reply, ok, reply};
use super::output::tests::{Captured, captured};
use super::*;

/// A clock that stands, and whose sleeps end at once.
struct Still(Timestamp);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }

    fn sleep_until(&self, _: std::time::Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::ready(()))
    }
}

/// A context whose output is kept: (context, standard output, standard error).
pub(super) fn context(vars: &[(&str, &str)]) -> (Context, Captured, Captured) {
    let (out, stdout, stderr) = captured(false);
    let context = Context {
        out,
        clock: Arc::new(Still(Timestamp::parse("2026-02-01T12:00:00Z").unwrap())),
        vars: vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        input: Box::new(std::io::empty()),
        interactive: false,
    };
    (context, stdout, stderr)
}

/// Runs a command line; its exit code, standard output and standard error.
pub(super) fn tidegate(fake: Option<&Fake>, args: &[&str]) -> (u8, String, String) {
    with_input(fake, args, None)
}

/// As [`tidegate`], with input from a pipe, or answers typed by a person.
pub(super) fn with_input(
    fake: Option<&Fake>,
    args: &[&str],
    input: Option<(&'static str, bool)>,
) -> (u8, String, String) {
    let of_fake = fake.iter().flat_map(|fake| [("TIDEGATE_URL", fake.url.as_str()), ("TIDEGATE_TOKEN", "t0k3n")]);
    // A host that runs in this process would log what all other tests do as well.
    let vars: Vec<_> = of_fake.chain([("TIDEGATE_LOG", "off")]).collect();
    let (mut context, out, err) = context(&vars);
    if let Some((text, interactive)) = input {
        context.input = Box::new(text.as_bytes());
        context.interactive = interactive;
    }
    let args = std::iter::once("tidegate").chain(args.iter().copied()).map(OsString::from);
    let code = run(args, &mut context);
    (code, out.text(), err.text())
}

const EVENT: &str = r#"{"sequence":12,"id":"e-12","type":"order.created","source":"/shop","dataVersion":"1.0.0",
"timestamp":"2026-02-01T11:59:00Z","acceptedAt":"2026-02-01T11:59:01Z","correlationId":"c","depth":0,"data":{"n":1}}"#;

const LETTER: &str = r#"{"id":"12/fraud-check","sequence":12,"eventId":"e-12","eventType":"order.created",
"consumer":"fraud-check","round":0,"cause":"rejected","outcome":"reject","reason":"stolen card","attempts":1,
"diedAt":"2026-02-01T11:59:02Z","status":"dead"}"#;

/// A host with one event and one dead letter.
fn host(asked: &Asked) -> Reply {
    let (method, path) = asked.line.split_once(' ').unwrap();
    match (method, path.split('?').next().unwrap()) {
        ("GET", "/events") => ok(&format!("{{\"events\":[{EVENT}],\"next\":null}}")),
        ("GET", "/events/12") => ok(&format!("{{\"event\":{EVENT},\"deliveries\":[],\"cut\":true}}")),
        ("GET", "/outcomes") => ok(r#"{"outcomes":[]}"#),
        ("GET", "/consumers") => ok(r#"{"consumers":[]}"#),
        ("GET", "/dead-letters") => ok(&format!("{{\"deadLetters\":[{LETTER}]}}")),
        ("GET", "/dead-letters/12/fraud-check") => {
            ok(&format!("{{\"deadLetter\":{LETTER},\"outcomes\":[],\"event\":{EVENT}}}"))
        }
        ("POST", "/dead-letters/redrive") => ok(r#"{"count":1,"deliveries":["12/fraud-check/1"]}"#),
        ("POST", "/dead-letters/discard") => ok(r#"{"count":0,"deliveries":[]}"#),
        ("GET", "/wait") if path.contains("through=7") => ok(r#"{"settled":true,"through":7}"#),
        ("GET", "/wait") if path.contains("through=99") => {
            reply(408, r#"{"title":"x","detail":"d","unsettled":0,"through":99}"#)
        }
        ("GET", "/wait") => reply(408, r#"{"title":"x","detail":"d","unsettled":3,"through":12}"#),
        ("POST", "/queries/stock.check") => ok(r#"{"inStock":7}"#),
        ("POST", "/queries/stock.none") => {
            reply(404, r#"{"type":"urn:tidegate:problem:no-responder","detail":"Nobody answers"}"#)
        }
        ("POST", "/queries/stock.slow") => reply(
            504,
            r#"{"type":"urn:tidegate:problem:query-timed-out","detail":"No answer in time","outcome":"timed-out"}"#,
        ),
        ("POST", "/queries/stock.odd") => {
            reply(422, r#"{"type":"urn:tidegate:problem:query-invalid","detail":"It is invalid"}"#)
        }
        ("POST", "/queries/stock.gone") => {
            reply(404, r#"{"type":"urn:tidegate:problem:query-not-found","detail":"It has found nothing"}"#)
        }
        ("POST", "/queries/stock.later") => {
            reply(503, r#"{"type":"urn:tidegate:problem:query-unavailable","detail":"Not now"}"#)
        }
        ("POST", "/queries/stock.bad") => reply(
            502,
            r#"{"type":"urn:tidegate:problem:query-failed","detail":"It failed","outcome":"failed","reason":"trapped: x"}"#,
        ),
        ("GET", "/stats") => reply(404, r#"{"type":"urn:tidegate:problem:not-found","detail":"empty"}"#),
        ("GET", "/state/fraud-check") => ok(r#"{"state":[]}"#),
        ("GET", "/stream") => ok(&format!(": hi\n\nevent: event\ndata: {}\n\n", EVENT.replace('\n', ""))),
        ("POST", "/reload") => reply(
            422,
            r#"{"detail":"no","diagnostics":[{"code":"TG101","severity":"error","message":"wrong","file":"t.yaml","line":2,"column":3,"help":"mend it"}]}"#,
        ),
        _ => reply(
            404,
            r#"{"type":"urn:tidegate:problem:not-found","title":"Nothing here","detail":"Nothing is here."}"#,
        ),
    }
}

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}

#[test]
fn commands_end_with_the_documented_codes() {
    let fake = Fake::start(host);
    for (args, code, said) in [
        (vec!["--version"], 0, "\nSQLite 3."),
        (vec!["-V"], 0, "tidegate 0"),
        (vec!["help", "emit"], 0, "Usage: tidegate emit"),
        (vec!["--help"], 0, "Exit codes:"),
        (vec!["nonsense"], 2, "unrecognized subcommand"),
        (vec!["events", "--limit", "0"], 2, "write a number from 1"),
        (vec!["events"], 0, "order.created"),
        (vec!["event", "99"], 4, "there is no event '99'"),
        (vec!["stats"], 4, "has not been used"),
        (vec!["state", "fraud-check"], 4, "there is no consumer 'fraud-check'"),
        (vec!["wait", "--timeout", "5s"], 6, "3 deliveries are not settled after 5s"),
        (vec!["wait", "--through", "99", "--timeout", "5s"], 6, "event 99 has not been accepted after 5s"),
        (vec!["wait", "--through", "7"], 0, "up to event 7 is settled"),
        (vec!["reload"], 4, "t.yaml:2:3"),
        (vec!["dead", "redrive"], 2, "say which dead letters"),
        (vec!["dead", "redrive", "12/fraud-check"], 0, "redriven 1 dead letter"),
        (vec!["dead", "redrive", "--all"], 2, "--yes"),
        (vec!["dead", "discard", "12/fraud-check", "-y"], 4, "no longer dead"),
        (vec!["dead", "show", "12/other"], 4, "there is no dead letter 12/other"),
        (vec!["emit", "tidegate.mine"], 2, "the host's own"),
        (vec!["emit", "order.created", "{oops"], 2, "DATA is not JSON"),
        (vec!["ask", "stock.check", "--data", r#"{"sku":"tea"}"#], 0, r#"{"inStock":7}"#),
        (vec!["ask", "stock.check", "--json"], 0, r#""answer":{"inStock":7}"#),
        (vec!["ask", "stock.none"], 4, "Nobody answers"),
        (vec!["ask", "stock.slow"], 6, "No answer in time"),
        (vec!["ask", "stock.odd"], 8, "It is invalid"),
        (vec!["ask", "stock.gone"], 9, "It has found nothing"),
        (vec!["ask", "stock.later"], 10, "Not now"),
        (vec!["ask", "stock.bad"], 11, "It failed"),
        (vec!["ask", "stock.bad", "--json"], 11, r#""outcome":"failed","reason":"trapped: x""#),
        (vec!["ask", "stock check"], 2, "stock check"),
        (vec!["ask", "stock.check", "--timeout", "6m"], 2, "5m at most"),
        (vec!["ask", "stock.check", "--data", "{oops"], 2, "DATA is not JSON"),
        (vec!["explain", "TG999999"], 2, "there is no code"),
        (vec!["tail"], 5, "ended the stream"),
        (vec!["run", "-m", "/nowhere/tidegate.yaml"], 3, "/nowhere/tidegate.yaml"),
        (vec!["check", "-m", "/nowhere/tidegate.yaml", "--json"], 3, "\"severity\":\"error\""),
    ] {
        let (got, out, err) = tidegate(Some(&fake), &args);
        assert_eq!(got, code, "{args:?}\n{out}{err}");
        assert!(format!("{out}{err}").contains(said), "{args:?} does not say '{said}':\n{out}{err}");
        let hinted = [0, 2].contains(&code) || err.contains("hint: ") || err.contains("help");
        assert!(hinted, "{args:?} does not say what to do next:\n{err}");
    }
}

#[test]
fn without_a_host_the_error_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("tidegate.yaml");
    let path = manifest.to_str().unwrap();
    let (code, _, err) = tidegate(None, &["events", "-m", path]);
    assert!(code == 4 && err.contains("there is no manifest at") && err.contains("--database PATH"), "{err}");
    std::fs::write(&manifest, "tidegate: 1\n").unwrap();
    let (code, _, err) = tidegate(None, &["events", "-m", path]);
    assert!(code == 4 && err.contains("data/tidegate.db yet") && err.contains("`tidegate run`"), "{err}");
    let (code, _, err) = tidegate(None, &["emit", "order.created", "-m", path]);
    assert_eq!(code, 5);
    assert_eq!(err, format!("error: no host is running for {path}\nhint: Start one with `tidegate run -m {path}`.\n"));
}

#[test]
fn a_host_is_found_beside_a_broken_manifest_and_a_stale_file_is_ignored() {
    let fake = Fake::start(host);
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("tidegate.yaml");
    let path = manifest.to_str().unwrap();
    std::fs::create_dir(folder.path().join(".tidegate")).unwrap();
    let announce = |url: &str| {
        let text = format!(
            r#"{{"pid":1,"url":"{url}","token":"own","database":"/nowhere.db","startedAt":"2026-01-01T00:00:00Z"}}"#
        );
        std::fs::write(folder.path().join(".tidegate/tidegate.yaml.host.json"), text).unwrap();
    };
    std::fs::write(&manifest, "tidegate: [broken").unwrap();
    announce(&fake.url);
    let (code, out, err) = tidegate(None, &["events", "--json", "-m", path]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(fake.asked()[0].headers.contains("authorization: bearer own"));
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    announce(&format!("http://{gone}"));
    let (code, _, err) = tidegate(None, &["events", "-m", path]);
    assert_eq!(code, 4);
    assert!(err.starts_with("error: no host is running, and there is no database at"), "{err}");
    let (code, _, err) = tidegate(None, &["events", "--url", &format!("http://{gone}")]);
    assert!(code == 5 && err.contains("no host answers at"), "{err}");
}

/// What a host that is gone has left says nothing against the manifest, which may name another database by now.
#[test]
fn the_manifest_says_which_database_it_is_once_the_host_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, before) = (folder.path().join("tidegate.yaml"), folder.path().join("before.db"));
    let path = manifest.to_str().unwrap();
    std::fs::write(&before, "").unwrap();
    std::fs::create_dir(folder.path().join(".tidegate")).unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let note = format!(
        r#"{{"pid":1,"url":"http://{gone}","token":"own","database":"{}","startedAt":"2026-01-01T00:00:00Z"}}"#,
        before.display()
    );
    std::fs::write(folder.path().join(".tidegate/tidegate.yaml.host.json"), note).unwrap();
    std::fs::write(&manifest, "tidegate: 1\nlog: sqlite:now.db\nconsumers: {}\n").unwrap();
    for command in [["events", "-m", path].as_slice(), &["verify", "-m", path]] {
        let (code, _, err) = tidegate(None, command);
        assert!(code == 4 && err.contains("now.db yet"), "{command:?}: {err}");
    }
    // One that is gone cannot say.
    std::fs::remove_file(&manifest).unwrap();
    let (_, _, err) = tidegate(None, &["verify", "-m", path]);
    assert!(err.contains("before.db"), "{err}");
}

#[test]
fn reading_commands_answer_in_json() {
    let fake = Fake::start(host);
    let (code, out, err) = tidegate(Some(&fake), &["events", "--type", "order.*", "--since", "1h", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let value: serde_json::Value = serde_json::from_str(out.trim_end()).unwrap();
    assert_eq!((out.lines().count(), &value["acceptedAt"]), (1, &"2026-02-01T11:59:01.000Z".into()));
    let asked = "GET /events?type=order.%2A&since=2026-02-01T11%3A00%3A00.000Z";
    // A page may be short because its rows are large: what is before the last one is asked for as well.
    let pages = [format!("{asked}&newest=true&limit=50"), format!("{asked}&before=13&newest=true&limit=50")];
    assert_eq!(fake.lines(), pages);
    assert!(fake.asked()[0].headers.contains("authorization: bearer t0k3n"));
    let (_, out, _) = tidegate(Some(&fake), &["dead", "list", "--json"]);
    assert!(out.starts_with(r#"{"id":"12/fraud-check","sequence":12,"#), "{out}");
    let (_, out, _) = tidegate(Some(&fake), &["dead", "show", "12/fraud-check", "--json"]);
    assert!(out.starts_with(r#"{"deadLetter":{"id":"12/fraud-check""#), "{out}");
}

#[test]
fn a_tree_that_was_cut_says_so() {
    let fake = Fake::start(host);
    let (code, out, err) = tidegate(Some(&fake), &["event", "12"]);
    assert_eq!(code, 0);
    assert!(
        out.ends_with("order.created  #12  2026-02-01T11:59:01.000Z  e-12\n└─ no durable consumer subscribes to it\n"),
        "{out}"
    );
    assert!(err.contains("more than is shown"), "{err}");
}

#[test]
fn a_filter_is_asked_about_before_anything_changes() {
    let fake = Fake::start(host);
    let args = ["dead", "redrive", "--consumer", "fraud-check"];
    let (code, _, err) = with_input(Some(&fake), &args, Some(("n\n", true)));
    assert_eq!(code, 4);
    assert!(err.starts_with("Redrive 1 dead letter of fraud-check? [y/N] error: nothing was changed"), "{err}");
    assert!(fake.lines().iter().all(|line| line.starts_with("GET ")), "{:?}", fake.lines());
    let (code, out, _) = with_input(Some(&fake), &args, Some(("y\n", true)));
    assert_eq!((code, out.as_str()), (0, "redriven 1 dead letter\n"));
    let last = fake.asked().pop().unwrap();
    assert_eq!(
        (last.line.as_str(), last.body.as_str()),
        ("POST /dead-letters/redrive", r#"{"ids":["12/fraud-check"]}"#)
    );
}

#[test]
fn the_reference_is_that_of_the_command_line() {
    fn pages(command: &clap::Command, path: &str, out: &mut String) {
        let name = format!("{path}{}", command.get_name());
        let mut shown = command.clone().term_width(100).bin_name(&name);
        let level = if path.is_empty() { "#" } else { "##" };
        let help = shown.render_long_help().to_string();
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        out.push_str(&format!("\n{level} `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            pages(sub, &format!("{name} "), out);
        }
    }
    let mut expected =
        "<!-- Written by `UPDATE_DOCS=1 cargo test -p tidegate --lib cli::tests`; do not edit. -->\n".to_owned();
    pages(&command(), "", &mut expected);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/commands.md is out of date: run `UPDATE_DOCS=1 cargo test -p tidegate --lib cli::tests`"
    );
}

#[test]
fn nothing_of_a_consumer_that_is_not_there_is_no_answer() {
    let fake = Fake::start(|asked| match asked.line.split(['?', ' ']).nth(1).unwrap() {
        "/consumers" => {
            ok(r#"{"consumers":[{"name":"mailer","status":"active","on":[],"running":0,"depth":0,"waiting":0,
            "succeeded":0,"failedAttempts":0,"deadLetters":0}]}"#)
        }
        "/outcomes" => ok(r#"{"outcomes":[]}"#),
        "/dead-letters" => ok(r#"{"deadLetters":[]}"#),
        "/queries" => ok(r#"{"queries":[]}"#),
        "/runs" => ok(r#"{"runs":[]}"#),
        path if path.starts_with("/state/") => ok(r#"{"state":[]}"#),
        path => panic!("{path}"),
    });
    for command in [
        &["outcomes", "--consumer"][..],
        &["dead", "list", "--consumer"],
        &["queries", "--consumer"],
        &["queries", "--responder"],
        &["runs", "--pipeline"],
        &["state"],
    ] {
        for json in [&[][..], &["--json"]] {
            let (code, out, err) = tidegate(Some(&fake), &[command, &["mialer"], json].concat());
            assert_eq!((code, out.as_str()), (4, ""), "{command:?}: {err}");
            assert!(err.contains("there is no consumer 'mialer'") && err.contains("Did you mean 'mailer'?"), "{err}");
            let (code, _, err) = tidegate(Some(&fake), &[command, &["mailer"], json].concat());
            assert_eq!(code, 0, "{command:?}: {err}");
        }
    }
}

#[test]
fn waiting_for_all_is_the_hosts_to_judge() {
    let fake = Fake::start(|_| ok("{\"settled\":true,\"through\":9}"));
    let (code, out, _) = tidegate(Some(&fake), &["wait", "--all"]);
    assert_eq!((code, out.as_str()), (0, "everything up to event 9 is settled\n"));
    let asked = fake.lines();
    assert!(asked.len() == 1 && asked[0].contains("/wait?through=all&timeout=30000ms"), "{asked:?}");
}

#[test]
fn without_a_host_the_database_file_answers() {
    use crate::log::EventLog as _;
    use crate::log::sqlite::{Options, SqliteLog};
    use crate::model::{Envelope, Payload};

    let folder = tempfile::tempdir().unwrap();
    let (manifest, database) = (folder.path().join("tidegate.yaml"), folder.path().join("t.db"));
    // Broken, and still it says where its log is.
    std::fs::write(&manifest, "tidegate: 1\nlog: sqlite:t.db\nconsumers: [").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (log, _commits) = SqliteLog::open(Options::new(&database, Arc::new(SystemClock::new()))).unwrap();
        let envelope = Envelope {
            id: "e-1".into(),
            event_type: "order.created".into(),
            source: "/shop".into(),
            subject: None,
            key: None,
            data_version: "1.0.0".into(),
            timestamp: Timestamp::from_millis(0),
            correlation_id: "e-1".into(),
            causation_id: None,
            traceparent: None,
            not_before: None,
            job: None,
            attributes: serde_json::Map::new(),
            payload: Some(Payload { content_type: "application/json".into(), data: r#"{"n": 1.0}"#.into() }),
            depth: 0,
        };
        log.append(vec![envelope]).await.unwrap();
        log.close().await.unwrap();
    });
    let path = manifest.to_str().unwrap();
    let (code, out, err) = tidegate(None, &["events", "--json", "-m", path]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(r#""sequence":1,"id":"e-1""#) && out.ends_with("\"data\":{\"n\": 1.0}}\n"), "{out}");
    let (code, out, _) = tidegate(None, &["event", "e-1", "--database", database.to_str().unwrap()]);
    assert!(code == 0 && out.contains("order.created  #1"), "{out}");
    let (code, out, _) = tidegate(None, &["stats", "-m", path]);
    assert!(code == 0 && out.starts_with("host              not running\n"), "{out}");
    for command in ["outcomes", "consumers"] {
        assert_eq!(tidegate(None, &[command, "-m", path]).0, 0, "{command}");
    }
    // A file that is none of ours.
    std::fs::write(&database, "a text that somebody saved here by mistake").unwrap();
    let (code, _, err) = tidegate(None, &["events", "-m", path]);
    assert!(code == 5 && err.contains("hint: "), "{code} {err}");
}
