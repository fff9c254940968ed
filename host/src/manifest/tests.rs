//! The compiler as a whole: what it says about each fixture of `tests/diagnostics`, and what holds for any manifest.

mod any;
mod schema;

use std::time::Duration;

use proptest::prelude::*;

use super::elements::SHAPES;
use super::*;
use crate::model::breaker::BreakerPolicy;
use crate::model::flow::Rate;
use crate::model::pipeline::{Definition, OnFailure};
use crate::model::spec::{BatchSpec, DeliverySpec, Mode, OnDead, StartFrom};
use crate::model::{Timestamp, TypePattern};

const TOKEN: &str = "token-from-the-environment-9f31";
const KEY: &str = "key: [${GRACE}, \"key-from-the-environment";

fn env(name: &str) -> Option<String> {
    match name {
        "SHOP_TOKEN" => Some(TOKEN.to_owned()),
        "MAIL_API_KEY" => Some(KEY.to_owned()),
        "SIGNING_KEY" => Some("signing".to_owned()),
        _ => None,
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/diagnostics")
}

fn maximal() -> String {
    std::fs::read_to_string(fixtures().join("maximal.yaml")).unwrap()
}

/// Compiles a text as if it lay beside the fixtures.
fn compiled(text: &str) -> Result<Compiled, Diagnostics> {
    let source = Source { path: fixtures().join("text.yaml"), text: text.to_owned() };
    compile(&source, &env, &[])
}

fn errors(text: &str) -> Vec<&'static str> {
    compiled(text).err().unwrap_or_default().iter().map(|problem| problem.code).collect()
}

fn drawn(problems: &Diagnostics) -> String {
    problems.render(false).replace(&format!("{}/", fixtures().display()), "")
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(fixtures());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn each_fixture_is_reported_as_its_snapshot_says() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut seen = 0;
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let problems = load(path, &env).map_or_else(|problems| problems, |compiled| compiled.warnings);
        if matches!(name, "minimal" | "maximal") {
            assert!(problems.is_empty(), "{name}: {}", drawn(&problems));
            continue;
        }
        assert!(!problems.is_empty(), "{name} has no problem");
        for problem in &problems {
            assert!(problem.position().is_some(), "{name}: no position: {problem}");
            assert!(problem.help.as_ref().is_some_and(|help| !help.is_empty()), "{name}: no help: {problem}");
            assert!(!problem.message.ends_with('.'), "{name}: {problem}");
        }
        snapshot(name, &drawn(&problems));
        seen += 1;
    }
    assert!(seen >= 50, "only {seen} fixtures");
}

#[test]
fn files_that_cannot_be_manifests_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.yaml");
    std::fs::write(&large, format!("tidegate: 1\n#{}", "x".repeat(MANIFEST_BYTES_MAX))).unwrap();
    let fit = folder.path().join("fit.yaml");
    std::fs::write(&fit, format!("tidegate: 1\n#{}", "x".repeat(MANIFEST_BYTES_MAX - 13))).unwrap();
    assert!(load(&fit, &env).is_ok());
    let latin = folder.path().join("latin.yaml");
    std::fs::write(&latin, b"tidegate: 1\nevents:\n  order.created: { owner: \"M\xfcller\" }\n").unwrap();
    assert_eq!(load(&latin, &env).unwrap_err().iter().next().unwrap().position(), Some((3, 29)));
    for (name, path) in [
        ("file-not-utf8", latin),
        ("file-missing", folder.path().join("gone.yaml")),
        ("file-is-a-folder", folder.path().to_owned()),
        ("file-too-large", large),
    ] {
        let problems = load(&path, &env).unwrap_err();
        let text = problems.render(false).replace(&folder.path().display().to_string(), "FOLDER");
        snapshot(name, &text);
    }
}

#[test]
fn a_log_that_moved_is_reported() {
    let problem = log_moved(Path::new("tidegate.yaml"), Path::new("/data/tidegate.db"));
    snapshot("log-moved", &problem.render(false));
}

#[test]
fn a_beginning_that_has_not_come_is_told_at_its_place() {
    let compiled = load(&fixtures().join("maximal.yaml"), &env).unwrap();
    let consumer = ConsumerName::new("send-confirmation").unwrap();
    let time = Timestamp::parse("2026-03-01T00:00:00Z").unwrap();
    let problem = component::begins_later(&compiled.spans, &consumer, time);
    snapshot("begins-later", &drawn(&Diagnostics::new(vec![problem])));
}

#[test]
fn problems_of_components_are_told_at_their_place() {
    let compiled = load(&fixtures().join("maximal.yaml"), &env).unwrap();
    let io = |kind| std::io::Error::from(kind);
    let of = |name: &str| ConsumerName::new(name).unwrap();
    let (mailer, audit, greet) = (of("send-confirmation"), of("audit"), of("greet"));
    let subject = |consumer| component::Subject {
        spans: &compiled.spans,
        consumer,
        path: Path::new("consumers/send_confirmation.wasm"),
    };
    let mail = subject(&mailer);
    let problems = Diagnostics::new(vec![
        mail.io(&io(std::io::ErrorKind::NotFound)),
        mail.io(&io(std::io::ErrorKind::PermissionDenied)),
        mail.not_a_file(),
        mail.too_large(32 << 20),
        mail.core_module(),
        mail.precompiled(),
        mail.not_wasm(),
        mail.invalid("unknown import \u{1b}[31m\nsecond line"),
        mail.start("out-of-fuel", "used up its 1000 units of fuel"),
        mail.contract("`tidegate:consumer/publisher` has the wrong type\nmore"),
        mail.resources("bytes of memory to begin with", 128 << 20, 64 << 20),
        mail.compiler(&std::io::Error::other("no more processes")),
        mail.unstable(),
        mail.costly("30 s"),
        mail.imports_not_granted(&["tidegate:consumer/state"], &["state: true".into()], false),
        subject(&audit).imports_not_granted(
            &["tidegate:consumer/http", "tidegate:consumer/config"],
            &["http: [https://example.com]".into(), "config: {}".into()],
            true,
        ),
        subject(&of("stock")).imports_not_granted(
            &["tidegate:consumer/publisher", "tidegate:consumer/state"],
            &["publish: [order.confirmed]".into(), "state: true".into()],
            true,
        ),
        subject(&greet).imports_not_granted(&["tidegate:consumer/http"], &["http: [https://example.com]".into()], true),
        mail.imports_not_served(&["tidegate:consumer/streams".into()]),
        mail.imports_not_served(&["wasi:sockets/tcp@0.2.3".into(), "wasi:sockets/udp@0.2.3".into()]),
        mail.export_missing(&[]),
        subject(&audit).export_missing(&["wasi:cli/run".to_owned()]),
        mail.no_batch_handler(),
        mail.no_batches(),
        subject(&of("totals")).no_batch_handler(),
        subject(&audit).both_handlers(),
        subject(&of("totals")).both_handlers(),
        mail.no_responder(),
        subject(&of("shelves")).no_responder(),
        subject(&audit).no_answers(),
        mail.digest_mismatch(Digest::of(b"")),
        subject(&audit).digest_mismatch(Digest::of(b"")),
        compiled.spans.demands[0].unmet(&compiled.spans),
        compiled.spans.demands[1].unmet(&compiled.spans),
    ]);
    assert!(problems.iter().all(|problem| problem.position().is_some()));
    snapshot("components", &drawn(&problems));
}

#[test]
fn each_code_has_a_page_and_a_fixture() {
    let snapshots: String = std::fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "snap"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for code in codes() {
        let page = explain(code).unwrap_or_else(|| panic!("{code} has no page"));
        assert!(page.len() > 80, "the page of {code} says too little");
        assert!(page.contains("\n\nWhat to do: "), "the page of {code} leaves its reader alone");
        assert!(title(code).is_some_and(|title| title.len() > 8), "{code} has no title");
        assert!(snapshots.contains(&format!("[{code}]")), "{code} has no fixture");
    }
    let pages = include_str!("explain.md").matches("\n## TG").count();
    assert_eq!(pages, codes().len(), "a page without a code");
    assert_eq!(explain("tg101"), explain("TG101"));
    assert_eq!(explain("TG999"), None);
}

/// A number at `KEY` of a manifest may be what lies between the two in the middle, these included.
fn ends_hold(place: &str, key: &str, [below, min, max, above]: &[&str; 4]) {
    let with = |value: &str| format!("tidegate: 1\n{}", place.replace("KEY", &format!("{key}: {value}")));
    for value in [min, max] {
        assert_eq!(errors(&with(value)), [] as [&str; 0], "{key}: {value}");
    }
    for value in [below, above, "-1", "1e18", "99999999999999999999999999999999999999999"] {
        let text = with(value);
        let problems = compiled(&text).unwrap_err();
        let problem = problems.iter().next().unwrap();
        assert!(
            [codes::OUT_OF_RANGE, codes::DURATION, codes::SIZE, codes::COUNT].contains(&problem.code),
            "{key}: {value}: {problem}"
        );
        // Whatever is wrong, the message or its help says what would be right.
        let said = format!("{} {}", problem.message, problem.help.as_deref().unwrap_or_default());
        assert!(said.contains(" to "), "{key}: {value}: {said}");
    }
    for value in [below, above] {
        assert_eq!(errors(&with(value)), [codes::OUT_OF_RANGE], "{key}: {value}");
    }
}

#[test]
fn numbers_are_taken_up_to_their_ends_and_not_beyond() {
    let consumer = "consumers: { a: { component: a.wasm, on: x.y, KEY } }\nlimits: { memory: 1TiB, attempts: 10_000 }";
    let host = "limits: { KEY }\ndefaults: { memory: 64KiB }";
    let grants = "consumers: { a: { component: a.wasm, on: x.y, grants: { state: { KEY } } } }";
    let of = |rest: &str| {
        format!("consumers: {{ a: {{ component: a.wasm, on: x.y, {rest} }} }}\nlimits: {{ attempts: 10_000 }}")
    };
    for (place, key, [below, min, max, above]) in [
        ("server: { KEY }", "grace", ["-1s", "0s", "1h", "1h1ms"]),
        ("retention: { KEY }", "events", ["59s", "1m", "3650d", "3650d1ms"]),
        ("retention: { KEY }", "outcomes", ["59s999ms", "1m", "3650d", "3651d"]),
        (host, "event-size", ["1023B", "1KiB", "16MiB", "16777217B"]),
        (host, "ballast", ["-1B", "0B", "1GiB", "1025MiB"]),
        (host, "attempts", ["0", "1", "10_000", "10_001"]),
        (host, "memory", ["1048575B", "1MiB", "1TiB", "1025GiB"]),
        (consumer, "timeout", ["0ms", "1ms", "1d", "1d1ms"]),
        (consumer, "fuel", ["999", "1_000", "1_000_000_000_000_000", "1_000_000_000_000_001"]),
        (consumer, "memory", ["65535B", "64KiB", "4GiB", "4294967297B"]),
        (consumer, "concurrency", ["0", "1", "10_000", "10_001"]),
        (consumer, "chain-depth", ["0", "1", "1_000", "1_001"]),
        ("defaults: { KEY }", "timeout", ["0s", "1ms", "24h", "25h"]),
        ("defaults: { KEY }", "fuel", ["0", "1000", "1000000000000000", "1000000000000001"]),
        ("defaults: { KEY }\nlimits: { memory: 8GiB }", "memory", ["1B", "64KiB", "4GiB", "5GiB"]),
        ("defaults: { KEY }", "concurrency", ["0", "1", "10000", "10001"]),
        ("defaults: { KEY }", "chain-depth", ["0", "1", "1000", "1001"]),
        ("defaults: { retry: { KEY } }", "attempts", ["0", "1", "1000", "1001"]),
        ("defaults: { retry: { max: 30d, KEY } }", "initial", ["0ms", "1ms", "30d", "30d1ms"]),
        ("defaults: { retry: { initial: 1ms, KEY } }", "max", ["0ms", "1ms", "30d", "31d"]),
        ("defaults: { retry: { KEY } }", "factor", ["0.99", "1", "100", "100.1"]),
        (grants, "quota", ["1023B", "1KiB", "1TiB", "2TiB"]),
        ("defaults: { breaker: { KEY } }", "failures", ["0", "1", "1000", "1001"]),
        ("defaults: { breaker: { KEY } }", "window", ["99ms", "100ms", "1d", "2d"]),
        ("defaults: { breaker: { KEY } }", "recovery", ["9ms", "10ms", "1d", "25h"]),
        (&of("batch: { KEY }"), "size", ["1", "2", "1_000", "1_001"]),
        (&of("batch: { size: 2, KEY }"), "wait", ["-1ms", "0s", "1m", "61s"]),
        (&of("concurrency: 10_000, concurrency-per-key: { key: data.a, KEY }"), "limit", ["0", "1", "10000", "10001"]),
        (&of("timeout: 1ms, KEY"), "timeout-max", ["0s", "1ms", "7d", "8d"]),
        (&of("timeout: 1ms, KEY"), "expires-after", ["0s", "1ms", "3650d", "3651d"]),
        (&of("idempotency-key: data.a, KEY"), "idempotency-window", ["999ms", "1s", "3650d", "3651d"]),
    ] {
        ends_hold(place, key, &[below, min, max, above]);
    }
}

#[test]
fn numbers_of_pipelines_are_taken_up_to_their_ends_and_not_beyond() {
    let step = "pipelines: { p: { on: x.y, steps: [{ name: s, consumer: a, KEY }] } }\nconsumers: { a: { component: a.wasm } }\nlimits: { memory: 8GiB }";
    for (place, key, ends) in [
        (
            "pipelines: { p: { on: x.y, KEY, steps: [{ name: s, consumer: a }] } }\nconsumers: { a: { component: a.wasm } }",
            "timeout",
            ["0s", "1ms", "3650d", "3651d"],
        ),
        (
            "pipelines: { p: { on: x.y, steps: [{ name: s, wait-for: x.z, match: data.a, KEY }] } }\nretention: { events: 3650d }",
            "timeout",
            ["0s", "1ms", "3650d", "3651d"],
        ),
        (step, "timeout", ["0s", "1ms", "1d", "2d"]),
        (step, "fuel", ["999", "1_000", "1_000_000_000_000_000", "1_000_000_000_000_001"]),
        (step, "memory", ["65535B", "64KiB", "4GiB", "5GiB"]),
    ] {
        ends_hold(place, key, &ends);
    }
}

#[test]
fn defaults_are_filled_in_key_by_key() {
    let text = "tidegate: 1\n\
        defaults: { timeout: 5s, retry: { attempts: 7, initial: 2s } }\n\
        consumers: { a: { component: a.wasm, on: x.y, fuel: 5_000, retry: { initial: 3s } } }\n";
    let compiled = compiled(text).unwrap();
    let consumer = &compiled.deployment.consumers[&ConsumerName::new("a").unwrap()];
    assert_eq!(consumer.limits.timeout.as_secs(), 5);
    assert_eq!((consumer.limits.fuel, consumer.limits.memory), (5_000, 64 << 20));
    assert_eq!((consumer.retry.attempts, consumer.retry.initial.as_secs()), (7, 3));
    assert_eq!(consumer.retry.max.as_secs(), 60);
    assert_eq!(compiled.deployment.database, base_of(&compiled.spans.source.path).join("data/tidegate.db"));
    assert_eq!(compiled.deployment.server.listen.to_string(), "127.0.0.1:7420");
    assert_eq!(compiled.deployment.server.grace.as_secs(), 20);
}

#[test]
fn how_deliveries_come_is_resolved() {
    let deployment = load(&fixtures().join("maximal.yaml"), &env).unwrap().deployment;
    let of = |name: &str| &deployment.consumers[&ConsumerName::new(name).unwrap()];
    let seconds = Duration::from_secs;

    let mail = &of("send-confirmation").delivery;
    assert_eq!((mail.mode, mail.expires_after), (Mode::Durable, Some(seconds(86_400))));
    assert_eq!(mail.from, StartFrom::Time(Timestamp::parse("2026-03-01T00:00:00Z").unwrap()));
    let order = mail.order.as_ref().unwrap();
    assert_eq!((format!("{:?}", order.by), order.on_dead), ("Of(\"event.subject\")".to_owned(), OnDead::Hold));
    assert_eq!(mail.idempotency.as_ref().unwrap().window, seconds(14 * 86_400));
    assert_eq!(mail.rate, Some(Rate { count: 100, per: seconds(1) }));
    // Key by key from the defaults.
    let breaker = BreakerPolicy { failures: 3, window: seconds(60), recovery: seconds(30) };
    assert_eq!(mail.breaker, Some(breaker));
    assert_eq!(of("send-confirmation").limits.timeout_max, Some(seconds(600)));
    let on = &of("send-confirmation").subscriptions;
    assert!(on[0].condition.is_none() && on[1].condition.is_some() && on[1].version.is_some());

    let totals = &of("totals").delivery;
    assert_eq!(totals.batch, Some(BatchSpec { size: 100, wait: Duration::from_millis(200) }));
    assert_eq!((totals.from, totals.breaker.unwrap().failures), (StartFrom::Sequence(42), 5));
    assert_eq!(of("stock").delivery.share.as_ref().unwrap().limit, 2);
    let feed = &of("feed").delivery;
    assert_eq!((feed.mode, feed.breaker), (Mode::Ephemeral, None));

    let report = &deployment.schedules["nightly-report"];
    assert_eq!((report.slots.cron(), report.slots.zone()), ("0 3 * * MON-FRI", "Europe/Berlin"));
    assert_eq!((report.event_type.as_str(), report.data_version.as_str()), ("order.confirmed", "2.0.0-beta.1"));
    assert_eq!(report.data, Some(serde_json::json!({ "kind": ["daily", 1, 2.5, true, null] })));
}

#[test]
fn pipelines_are_lists_in_which_each_step_says_what_it_comes_after() {
    let deployment = load(&fixtures().join("maximal.yaml"), &env).unwrap().deployment;
    let pipeline = &deployment.pipelines[&ConsumerName::new("fulfil-order").unwrap()];
    assert_eq!((pipeline.subscriptions.len(), pipeline.key.as_ref().unwrap().source()), (2, "event.subject"));
    let definition = &pipeline.definition;
    assert_eq!(definition.timeout, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(definition.on_failure, OnFailure::Continue);
    let steps: Vec<_> = definition.steps.iter().map(|step| (step.name.as_str(), step.after.as_slice())).collect();
    let expected: [(&str, &[usize]); 5] =
        [("reserve", &[]), ("pay", &[0]), ("told", &[0]), ("confirmed", &[2]), ("settled", &[1, 3])];
    assert_eq!(steps, expected);

    let reserve = definition.steps[0].work.call().unwrap();
    assert_eq!(reserve.compensate.as_ref().map(ConsumerName::as_str), Some("reserve"));
    let retry = reserve.retry.unwrap();
    // The step's own, then the defaults'.
    assert_eq!((retry.attempts, retry.max, retry.initial.as_secs()), (9, Duration::from_secs(120), 1));
    let limits = (reserve.limits.timeout, reserve.limits.fuel, reserve.limits.memory);
    assert_eq!(limits, (Some(Duration::from_secs(3)), Some(9_000), Some(1 << 20)));
    assert_eq!(definition.steps[1].work.call().unwrap().retry, None, "the consumer's own");
    let wait = definition.steps[3].work.wait().unwrap();
    assert_eq!(
        (wait.event.source(), wait.run.source(), wait.timeout.as_secs()),
        ("event.subject", "event.subject", 86_400)
    );
    let wait = definition.steps[4].work.wait().unwrap();
    assert_eq!((wait.event.source(), wait.run.source()), ("data.payment", "steps.pay.payment"));
    assert_eq!(Definition::from_json(&definition.to_json()).unwrap(), *definition);
}

#[test]
fn a_step_that_tries_again_keeps_what_its_consumer_says() {
    let text = "tidegate: 1\ndefaults: { retry: { attempts: 7, max: 9s } }\n\
        consumers: { a: { component: a.wasm, retry: { initial: 2s, max: 8s } } }\n\
        pipelines: { p: { on: x.y, steps: [{ name: s, consumer: a, retry: { initial: 3s } }] } }\n";
    let deployment = compiled(text).unwrap().deployment;
    let pipeline = &deployment.pipelines[&ConsumerName::new("p").unwrap()];
    let retry = pipeline.definition.steps[0].work.call().unwrap().retry.unwrap();
    assert_eq!((retry.attempts, retry.initial.as_secs(), retry.max.as_secs()), (7, 3, 8));
    assert_eq!((pipeline.definition.on_failure, pipeline.definition.timeout), (OnFailure::Compensate, None));
}

#[test]
fn without_a_word_there_is_no_breaker_and_no_order() {
    let text = "tidegate: 1\nconsumers: { a: { component: a.wasm, on: x.y } }";
    let plain = compiled(text).unwrap().deployment;
    assert_eq!(plain.consumers[&ConsumerName::new("a").unwrap()].delivery, DeliverySpec::default());
    let own =
        compiled("tidegate: 1\nconsumers: { a: { component: a.wasm, on: x.y, breaker: {} } }").unwrap().deployment;
    let own = &own.consumers[&ConsumerName::new("a").unwrap()].delivery;
    assert_eq!(own.breaker, Some(BreakerPolicy::default()));
}

#[test]
fn rates_are_counts_per_time() {
    for (text, count, per) in [
        ("100/s", 100, 1_000),
        ("10/m", 10, 60_000),
        ("1/h", 1, 3_600_000),
        ("20/250ms", 20, 250),
        ("1_000/1m30s", 1_000, 90_000),
    ] {
        let manifest = format!("tidegate: 1\nconsumers: {{ a: {{ component: a.wasm, on: x.y, rate: {text} }} }}");
        let deployment = compiled(&manifest).unwrap().deployment;
        let rate = deployment.consumers[&ConsumerName::new("a").unwrap()].delivery.rate;
        assert_eq!(rate, Some(Rate { count, per: Duration::from_millis(per) }), "{text}");
    }
}

#[test]
fn the_digest_covers_how_deliveries_come() {
    let digest = |text: &str| {
        let source = Source { path: fixtures().join("maximal.yaml"), text: text.to_owned() };
        compile(&source, &env, &scan_folder(&fixtures().join("files/folder")).unwrap()).unwrap().digest
    };
    let first = digest(&maximal());
    for (old, new) in [
        ("order-by: event.subject", "order-by: event.source"),
        ("on-dead: hold", "on-dead: continue"),
        ("rate: 100/s", "rate: 101/s"),
        ("cron: \"0 3 * * MON-FRI\"", "cron: \"0 4 * * MON-FRI\""),
        ("zone: Europe/Berlin", "zone: Europe/Paris"),
        ("data.weight > 100", "data.weight > 101"),
        ("on-failure: continue", "on-failure: stop"),
        ("run: steps.pay.payment", "run: steps.pay.id"),
        ("fuel: 9_000", "fuel: 9_001"),
        ("failures: 5", "failures: 6"),
    ] {
        assert_ne!(first, digest(&maximal().replace(old, new)), "{old}");
    }
}

#[test]
fn the_drop_folder_and_the_manifest_describe_a_consumer_together() {
    let deployment = load(&fixtures().join("maximal.yaml"), &env).unwrap().deployment;
    let of = |name: &str| &deployment.consumers[&ConsumerName::new(name).unwrap()];
    let created = TypePattern::new("order.created").unwrap();
    for name in ["audit", "greet"] {
        assert!(of(name).component.ends_with(format!("files/folder/order.created/{name}.wasm")));
        assert_eq!(of(name).subscriptions[0].pattern, created);
    }
    assert_eq!((of("audit").limits.timeout.as_secs(), of("greet").limits.timeout.as_secs()), (2, 30));

    let file = Found { event_type: "x.y".into(), name: "a".into(), path: "/tmp/a.wasm".into() };
    let text = "tidegate: 1\nconsumers: { a: { on: x.z } }";
    let source = Source { path: "t.yaml".into(), text: text.into() };
    let deployment = compile(&source, &env, &[file]).unwrap().deployment;
    let subscriptions = &deployment.consumers[&ConsumerName::new("a").unwrap()].subscriptions;
    assert_eq!(subscriptions.iter().map(|on| on.pattern.as_str()).collect::<Vec<_>>(), ["x.z"]);
}

#[test]
fn the_digest_is_of_the_meaning() {
    let text = maximal();
    let digest = |text: &str, env: &Environment<'_>| {
        let source = Source { path: fixtures().join("maximal.yaml"), text: text.to_owned() };
        let found = scan_folder(&fixtures().join("files/folder")).unwrap();
        compile(&source, env, &found).unwrap().digest
    };
    let first = digest(&text, &env);
    assert_eq!(first, digest(&format!("{text}\n# A remark.\n").replace("1m30s", "90s"), &env));
    assert_ne!(first, digest(&text.replace("timeout: 2s", "timeout: 3s"), &env));
    for name in ["SHOP_TOKEN", "MAIL_API_KEY"] {
        let other = |asked: &str| if asked == name { Some("another-value-of-length".to_owned()) } else { env(asked) };
        assert_ne!(first, digest(&text, &other), "{name}");
    }
}

#[test]
fn values_from_the_environment_are_not_shown() {
    let text = maximal();
    let all = load(&fixtures().join("maximal.yaml"), &env).unwrap();
    assert!(!format!("{all:?}").contains("environment"));
    let grants = &all.deployment.consumers[&ConsumerName::new("send-confirmation").unwrap()].grants;
    assert_eq!(grants.secrets.as_ref().unwrap()["api-key"].value.expose(), KEY, "expanded once, and never parsed");

    let keys = ["grace: 30s", "timeout: 30s", "memory: 64MiB", "factor: 2", "jitter: full", "version: 1.2.0"];
    let text = keys.iter().fold(text, |text, key| {
        let name = key.split(':').next().unwrap();
        text.replace(key, &format!("{name}: \"${{MAIL_API_KEY}}\""))
    });
    let problems = compiled(&text).unwrap_err();
    assert!(problems.len() >= keys.len(), "{problems}");
    assert!(!problems.render(false).contains("environment"), "{problems}");
}

#[test]
fn diagnostics_are_json_with_a_place() {
    let problems = compiled("tidegate: 1\nlog: 5\n").unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json[0]["code"], "TG111");
    assert_eq!(json[0]["severity"], "error");
    assert_eq!((&json[0]["line"], &json[0]["column"]), (&2.into(), &6.into()));
    assert!(json[0]["file"].as_str().unwrap().ends_with("text.yaml"));
    assert!(json[0]["help"].is_string() && json[0]["message"].is_string());
    assert!(json[0]["rendered"].as_str().unwrap().contains("2 | log: 5"), "{json}");
    assert!(problems.render(true).contains("\u{1b}["));
}

#[test]
fn places_are_right_after_other_scripts_and_line_ends() {
    for text in
        ["tidegate: 1\r\n# größer 日本\r\nlog: 5\r\n", "tidegate: 1\n# 🦀\nlog: 5", "\n\ntidegate: 1\n\n日本: 5"]
    {
        let problems = compiled(text).unwrap_err();
        let problem = problems.iter().next().unwrap();
        let (line, column) = problem.position().unwrap();
        let at: String = text.lines().nth(line - 1).unwrap().chars().skip(column - 1).collect();
        assert!(at == "5" || at == "日本: 5", "{text:?} at {line}:{column} is {at:?}");
    }
    let bom = decode(Path::new("t.yaml"), "\u{feff}tidegate: 1".into()).unwrap();
    assert!(compile(&bom, &env, &[]).is_ok());
}

#[test]
fn bombs_are_refused_before_they_cost_anything() {
    let wide = format!("tidegate: 1\nconsumers: [{}]", "1,".repeat(300_000));
    let long = format!("tidegate: 1\nlog: {}", "x".repeat(1 << 19));
    let quotes = format!("tidegate: 1\nlog: \"{}\"", "\\n".repeat(1 << 18));
    let keys: String = (0..30_000).map(|n| format!("k{n}: 1\n")).collect();
    let blocks: String = (0..400).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    for text in [wide, long, quotes, keys, blocks, "{".repeat(1 << 19), "- ".repeat(1 << 18), "? ".repeat(1 << 18)] {
        assert!(compiled(&text).is_err());
    }
}

#[test]
fn a_flood_of_problems_is_cut_but_never_taken_for_none() {
    let keys: String = (0..5_000).map(|n| format!("key-{n}: 1\n")).collect();
    let problems = compiled(&format!("tidegate: 1\n{keys}")).unwrap_err();
    assert_eq!(problems.len(), 100);
    assert!(problems.render(false).ends_with("… and 4900 more"));

    let warnings: String = (0..300).map(|n| format!("  a{n}: {{ component: a.wasm }}\n")).collect();
    let problems = compiled(&format!("tidegate: 1\nconsumers:\n{warnings}limits: {{ attempts: 0 }}\n")).unwrap_err();
    assert!(problems.has_errors());
}
