//! Real guests in the real engine: every line of the table in `tests/guests/README.md`, and what the table cannot say.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::testing::*;
use super::{Dependencies, Invoke, Kind, List, LoadError, LoadedComponent, StateRead, Ungranted};
use crate::model::limit::{LOG_BYTES_MAX, LOG_LINES_MAX, REASON_BYTES_MAX};
use crate::model::spec::Ceilings;
use crate::model::{ConsumerName, Grants, Limits, Outcome, Payload, Timestamp};

/// Committed state that is empty, but for one key that brings the host down.
struct Panicking;

impl StateRead for Panicking {
    fn get(&self, _: &ConsumerName, key: &str, _: Timestamp) -> Result<Option<(Bytes, u64)>, String> {
        assert_ne!(key, "panic", "a mistake in the host");
        Ok(None)
    }

    fn keys(&self, _: &ConsumerName, _: &List<'_>, _: Timestamp) -> Result<(Vec<String>, u64), String> {
        Ok((Vec::new(), 9))
    }

    fn bytes(&self, _: &ConsumerName) -> Result<u64, String> {
        Ok(0)
    }
}

fn dependencies() -> Dependencies {
    Dependencies {
        asker: Arc::new(super::NoAnswers),
        state: Arc::new(Panicking),
        check: Arc::new(|event_type, _: &Payload| match event_type {
            "order.checked" => Err("/: not what the schema allows".into()),
            _ => Ok(()),
        }),
        version: Arc::new(|event_type| (event_type == "order.noted").then(|| "2.1.0".into())),
    }
}

fn usual() -> Limits {
    Limits { timeout: Duration::from_secs(60), fuel: 20_000_000, ..Limits::default() }
}

/// Time without end, in which no busy machine can make a guest look slow.
fn unhurried() -> Limits {
    Limits { timeout: Duration::from_secs(60), ..patient() }
}

fn patient() -> Limits {
    Limits { timeout: Duration::from_millis(300), fuel: u64::MAX / 4, ..Limits::default() }
}

/// As [`patient`], and *in progress* may double the time.
fn extended() -> Limits {
    Limits { timeout_max: Some(Duration::from_millis(600)), ..patient() }
}

struct Hostile {
    usual: LoadedComponent,
    patient: LoadedComponent,
    unhurried: LoadedComponent,
    extended: LoadedComponent,
}

async fn hostile(sandbox: &super::Sandbox) -> Hostile {
    let load =
        async |limits| sandbox.load(guest("hostile"), &spec(limits, all_grants()), dependencies()).await.unwrap();
    Hostile {
        usual: load(usual()).await,
        patient: load(patient()).await,
        unhurried: load(unhurried()).await,
        extended: load(extended()).await,
    }
}

fn mode(mode: &str) -> String {
    format!("{{\"mode\": \"{mode}\"}}")
}

/// Mode, limits, outcome, part of the reason.
fn table() -> Vec<[String; 4]> {
    let text = include_str!("../../../tests/guests/README.md");
    let cells = |line: &str| -> Option<[String; 4]> {
        let cells =
            line.strip_prefix("| `")?.strip_suffix('|')?.split(" |").map(|c| c.trim().trim_matches('`').to_owned());
        cells.collect::<Vec<_>>().try_into().ok()
    };
    text.lines().filter_map(cells).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mode_ends_as_the_table_says_and_a_healthy_attempt_works_after_it() {
    let sandbox = sandbox();
    let hostile = hostile(&sandbox).await;
    let table = table();
    assert!(table.len() >= 120, "{} modes: the table was not read", table.len());
    let mut wrong = Vec::new();
    for [name, limits, outcome, reason] in &table {
        let component = match limits.as_str() {
            "patient" => &hostile.patient,
            "unhurried" => &hostile.unhurried,
            "extended" => &hostile.extended,
            _ => &hostile.usual,
        };
        let report = run(component, &mode(name)).await;
        let said = report.reason.clone().unwrap_or_default();
        if report.outcome.as_str() != outcome || !said.contains(reason.as_str()) {
            wrong.push(format!("{name}: {} ({said})", report.outcome.as_str()));
        }
        assert!(said.len() <= REASON_BYTES_MAX && !said.contains(char::is_control), "{name}: {said:?}");
        assert!(report.logs.len() <= LOG_LINES_MAX, "{name}");
        assert!(report.usage.fuel > 0, "{name}: no fuel reported");
        assert!(report.usage.memory_peak > 0 && report.usage.memory_peak <= usual().memory, "{name}");
        if report.outcome != Outcome::Done {
            assert!(report.published.is_empty() && report.state.writes.is_empty(), "{name}: effects without success");
        }
        let healthy = run(&hostile.usual, &mode("done")).await;
        assert_eq!(healthy.outcome, Outcome::Done, "after {name}");
        assert_eq!(sandbox.counters().memory_bytes, 0, "after {name}");
    }
    assert!(wrong.is_empty(), "not as the table says:\n{}", wrong.join("\n"));
    assert_eq!(sandbox.counters().panics, 1, "one mode makes the host panic");
}

#[tokio::test]
async fn what_the_table_cannot_say() {
    let sandbox = sandbox();
    let hostile = hostile(&sandbox).await;
    let report = async |name: &str| run(&hostile.usual, &mode(name)).await;

    let echo = report("echo").await.output.unwrap();
    let expected = "0190a1b2-0000-7000-8000-000000000001 order.created /tests Some(\"order-1\") 1795000000 correlation-1 \
                    guest 1/3 application/json";
    assert_eq!(std::str::from_utf8(&echo.data).unwrap(), expected);

    assert_eq!(report("retry-in-a-million-years").await.after, Some(Duration::from_secs(30 * 24 * 3_600)));
    assert_eq!(report("defer").await.after, Some(Duration::from_secs(5)));
    assert_eq!(report("defer-at-once").await.after, Some(Duration::from_millis(100)));
    assert_eq!(report("reject-huge").await.reason.map(|r| r.len()), Some(REASON_BYTES_MAX));
    assert_eq!(report("log-many").await.logs_dropped, 1_000 - LOG_LINES_MAX as u64);

    let printed = report("print").await.logs;
    let lines: Vec<_> = printed.iter().map(|line| (line.level.as_str(), line.message.as_str())).collect();
    assert_eq!(lines, [("stdout", "to stdout"), ("stderr", "to stderr")]);
    for name in ["print-one-long-line", "print-bytes", "log-large", "log-fields", "log-escapes"] {
        let report = report(name).await;
        let bytes: usize = report.logs.iter().map(|l| l.message.len()).sum();
        assert!(bytes <= LOG_BYTES_MAX, "{name}: {bytes}");
        let plain = |text: &str| !text.contains(|c: char| c.is_control() || c == '\u{202e}');
        assert!(report.logs.iter().all(|l| plain(&l.message) && l.fields.iter().all(|(k, v)| plain(k) && plain(v))));
    }
    let used = report("use-10-mib").await.usage.memory_peak;
    assert!((10 << 20..12 << 20).contains(&used), "{used}");
    let (first, second) = (report("count-calls").await.usage.fuel, report("count-calls").await.usage.fuel);
    assert_eq!(first, second, "fuel is deterministic");
}

#[tokio::test]
async fn published_events_carry_their_cause() {
    let sandbox = sandbox();
    let hostile = hostile(&sandbox).await;
    let report = run(&hostile.usual, &mode("publish")).await;
    let again = run(&hostile.usual, &mode("publish")).await;
    assert_eq!(report.published.len(), 1);
    let event = &report.published[0];
    let cause = &super::testing::event("").envelope;
    assert_eq!(event.source, "/consumers/guest");
    assert_eq!((event.depth, event.causation_id.as_ref()), (1, Some(&cause.id)));
    assert_eq!(event.correlation_id, cause.correlation_id);
    assert_eq!((event.subject.as_deref(), event.key.as_deref()), (Some("s"), Some("k")));
    assert_eq!(event.data_version, "2.1.0", "the catalogue's");
    assert_eq!(event.id, again.published[0].id, "a second attempt publishes the same id");
    assert_eq!(run(&hostile.usual, &mode("publish-too-many")).await.published.len(), 256);
}

#[tokio::test]
async fn a_chain_of_causes_ends() {
    let sandbox = sandbox();
    let hostile = hostile(&sandbox).await;
    let mut event = event(&mode("publish-own-type"));
    let mut lengths = 0;
    loop {
        let mut report = hostile.usual.invoke(call(event.clone())).await;
        if report.outcome != Outcome::Done {
            assert_eq!(report.outcome, Outcome::Refused);
            assert!(report.reason.unwrap().contains("chain of more than 8"));
            break;
        }
        let mut next = report.published.remove(0);
        next.payload = event.envelope.payload.clone();
        event.envelope = next;
        lengths += 1;
    }
    assert_eq!(lengths, 8);
}

#[tokio::test]
async fn state_is_reported_with_the_versions_that_were_read() {
    let sandbox = sandbox();
    let hostile = hostile(&sandbox).await;
    let state = run(&hostile.usual, &mode("state")).await.state;
    let written: Vec<&str> = state.writes.keys().map(String::as_str).collect();
    assert_eq!(written, ["a", "b", "c", "n"]);
    assert_eq!(state.reads, [("a".to_owned(), 0), ("c".to_owned(), 0), ("n".to_owned(), 0)].into());
    assert_eq!(state.listed_at, Some(9));
}

#[tokio::test]
async fn nothing_of_one_attempt_can_be_seen_in_another() {
    let sandbox = sandbox_with(Ceilings { attempts: 1, ..Ceilings::default() });
    let hostile = hostile(&sandbox).await;
    for _ in 0..20 {
        assert_eq!(run(&hostile.usual, &mode("canary-leave")).await.outcome, Outcome::Done);
        let look = run(&hostile.unhurried, &mode("canary-look")).await;
        assert_eq!(look.outcome, Outcome::Done, "{:?}", look.reason);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growers_together_stay_within_the_hosts_memory() {
    let ceilings = Ceilings { attempts: 8, memory: 128 << 20, ..Ceilings::default() };
    let sandbox = sandbox_with(ceilings);
    let hostile = hostile(&sandbox).await;
    let grow = mode("grow");
    let enough = unhurried();
    let growing = sandbox.load(guest("hostile"), &spec(enough, all_grants()), dependencies()).await.unwrap();
    let reports = futures_util::future::join_all((0..8).map(|_| run(&growing, &grow))).await;
    for report in &reports {
        // What the neighbours' memory came to is not charged.
        let together = report.reason.as_ref().unwrap().contains("all attempts together");
        let outcome = if together { Outcome::Interrupted } else { Outcome::OutOfMemory };
        assert_eq!((report.outcome, report.after.is_some()), (outcome, together), "{:?}", report.reason);
    }
    assert!(reports.iter().any(|r| r.outcome == Outcome::Interrupted));
    assert_eq!(sandbox.counters().memory_bytes, 0);
    assert_eq!(run(&hostile.usual, &mode("done")).await.outcome, Outcome::Done);
}

#[tokio::test]
async fn an_attempt_that_is_dropped_leaves_nothing_behind() {
    let sandbox = sandbox_with(Ceilings { attempts: 1, ..Ceilings::default() });
    let hostile = hostile(&sandbox).await;
    for _ in 0..3 {
        let sleep = mode("sleep");
        let mut attempt = Box::pin(run(&hostile.usual, &sleep));
        assert!(futures_util::FutureExt::now_or_never(attempt.as_mut()).is_none());
        assert!(sandbox.counters().memory_bytes > 0, "it has begun");
        drop(attempt);
        assert_eq!(sandbox.counters().memory_bytes, 0);
    }
    assert_eq!(run(&hostile.usual, &mode("done")).await.outcome, Outcome::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spinning_guests_on_every_thread_do_not_keep_a_healthy_one_from_ending() {
    let sandbox = sandbox_with(Ceilings { attempts: 8, ..Ceilings::default() });
    let hostile = hostile(&sandbox).await;
    let (spin, done) = (mode("spin-long"), mode("done"));
    let spinning = futures_util::future::join_all((0..7).map(|_| run(&hostile.patient, &spin)));
    let healthy = async {
        let mut finished = 0;
        for _ in 0..20 {
            finished += u32::from(run(&hostile.usual, &done).await.outcome == Outcome::Done);
        }
        finished
    };
    let (spinning, healthy) = tokio::join!(spinning, healthy);
    assert_eq!(healthy, 20);
    for report in spinning {
        assert_eq!(report.outcome, Outcome::TimedOut);
        assert!(report.usage.duration >= patient().timeout, "{:?}", report.usage.duration);
    }
}

#[tokio::test]
async fn what_is_no_component_is_refused_by_kind() {
    let sandbox = sandbox();
    let native = sandbox_native().await;
    for (bytes, kind) in [
        (Bytes::from_static(b"\0asm\x01\0\0\0"), Kind::CoreModule),
        (native, Kind::Precompiled),
        (Bytes::from_static(b"(component)"), Kind::Text),
        (Bytes::new(), Kind::Empty),
    ] {
        let refused = sandbox.load(bytes, &spec(usual(), Grants::default()), Dependencies::none()).await.unwrap_err();
        assert!(matches!(refused, LoadError::NotComponent { kind: k } if k == kind), "{refused}");
    }
    assert_eq!(sandbox.counters().deserialised, 0);
    let large = Bytes::from(vec![0; (32 << 20) + 1]);
    let refused = sandbox.load(large, &spec(usual(), Grants::default()), Dependencies::none()).await.unwrap_err();
    assert!(matches!(refused, LoadError::TooLarge { .. }));
}

/// A component, precompiled: an ELF file that the engine would run.
async fn sandbox_native() -> Bytes {
    let engine = wasmtime::Engine::new(&super::engine::config(&Ceilings::default())).unwrap();
    engine.precompile_component(&guest("jobs")).unwrap().into()
}

#[tokio::test]
async fn imports_without_a_grant_are_refused_by_name() {
    let sandbox = sandbox();
    for (grant, interface) in
        [("publish", "publisher"), ("http", "http"), ("state", "state"), ("config", "config"), ("secrets", "secrets")]
    {
        let mut grants = all_grants();
        match grant {
            "publish" => grants.publish.clear(),
            "http" => grants.http.clear(),
            "state" => grants.state = None,
            "config" => grants.config = None,
            _ => grants.secrets = None,
        }
        match load(&sandbox, "hostile", &spec(usual(), grants)).await.unwrap_err() {
            LoadError::Imports { not_granted, .. } => {
                assert_eq!(not_granted, [Ungranted { import: format!("tidegate:consumer/{interface}@0.1.0"), grant }]);
            }
            other => panic!("{other}"),
        }
    }
    match load(&sandbox, "hostile", &spec(usual(), Grants::default())).await.unwrap_err() {
        LoadError::Imports { not_granted, not_provided } => {
            assert_eq!((not_granted.len(), not_provided.len()), (5, 0), "all at once: {not_granted:?}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn components_that_cannot_work_are_refused_when_they_are_loaded() {
    let sandbox = sandbox();
    let spec = spec(usual(), all_grants());
    match load(&sandbox, "sockets", &spec).await.unwrap_err() {
        LoadError::Imports { not_provided, .. } => {
            assert!(not_provided.iter().all(|import| import.starts_with("wasi:sockets/")), "{not_provided:?}");
        }
        other => panic!("{other}"),
    }
    match load(&sandbox, "no_handler", &spec).await.unwrap_err() {
        LoadError::NoHandler { exports } => assert_eq!(exports, ["tidegate:consumer/upcaster@0.1.0"]),
        other => panic!("{other}"),
    }
    for (guest, expected) in [("start_spin", Outcome::OutOfFuel), ("start_trap", Outcome::Trapped)] {
        match load(&sandbox, guest, &spec).await.unwrap_err() {
            LoadError::Start { outcome, reason } => assert_eq!((outcome, reason.is_empty()), (expected, false)),
            other => panic!("{other}"),
        }
    }
}

/// A component around core modules that are instantiated, by hand: what no toolchain would make.
fn component(modules: &[&[u8]]) -> Bytes {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for module in modules {
        section(&mut bytes, 1, &[b"\0asm\x01\0\0\0", *module].concat());
    }
    for index in 0..modules.len() {
        section(&mut bytes, 2, &[&[1, 0][..], &leb(index), &[0]].concat());
    }
    bytes.into()
}

fn section(bytes: &mut Vec<u8>, id: u8, content: &[u8]) {
    bytes.push(id);
    bytes.extend(leb(content.len()));
    bytes.extend(content);
}

fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

#[tokio::test]
async fn needs_beyond_the_limits_are_refused_with_the_number() {
    let sandbox = sandbox();
    let memory: &[u8] = &[5, 3, 1, 0, 1];
    let four_gib = [&[5, 5, 1, 0][..], &leb(65_536)].concat();
    let two_gib = [&[5, 5, 1, 0][..], &leb(32_768)].concat();
    let table = [&[4, 7, 1, 0x70, 0][..], &leb(10_000_000)].concat();
    let plenty = vec![memory; 200];
    for (modules, number) in [
        (vec![&four_gib[..]], "4294967296"),
        (vec![&two_gib[..]], "2147483648"),
        (vec![&table[..]], "10000000"),
        (plenty, "200"),
        (vec![memory; 5], "5"),
    ] {
        let refused = sandbox
            .load(component(&modules), &spec(usual(), Grants::default()), Dependencies::none())
            .await
            .unwrap_err();
        let text = refused.to_string();
        assert!(matches!(refused, LoadError::Resources { .. } | LoadError::Malformed(_)), "{text}");
        assert!(text.contains(number) || text.contains("0x"), "{text}");
    }
}

#[tokio::test]
async fn proposals_that_are_off_are_refused() {
    let sandbox = sandbox();
    let typed = |body: &[u8]| {
        [
            &[1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 10][..],
            &leb(body.len() + 4),
            &[1],
            &leb(body.len() + 2),
            &[0],
            body,
            &[0x0b],
        ]
        .concat()
    };
    for (proposal, module) in [
        ("memory64", vec![5, 3, 1, 4, 1]),
        ("threads", vec![5, 4, 1, 3, 1, 1]),
        ("multi-memory", vec![5, 5, 2, 0, 1, 0, 1]),
        ("custom page sizes", vec![5, 4, 1, 8, 1, 0]),
        ("gc", vec![1, 3, 1, 0x5f, 0]),
        ("function references", vec![1, 8, 2, 0x60, 0, 0, 0x60, 1, 0x64, 0, 0]),
        ("exceptions", vec![1, 4, 1, 0x60, 0, 0, 13, 3, 1, 0, 0]),
        ("wide arithmetic", typed(&[0x42, 0, 0x42, 0, 0x42, 0, 0x42, 0, 0xfc, 19, 0x1a, 0x1a])),
    ] {
        let refused = sandbox
            .load(component(&[&module]), &spec(usual(), Grants::default()), Dependencies::none())
            .await
            .unwrap_err();
        assert!(matches!(refused, LoadError::Malformed(_)), "{proposal}: {refused}");
    }
    // The same by-hand encoding with nothing unusual in it is a component, only not one that handles events.
    let fine = component(&[&typed(&[])]);
    let refused = sandbox.load(fine, &spec(usual(), Grants::default()), Dependencies::none()).await.unwrap_err();
    assert!(matches!(refused, LoadError::NoHandler { .. }), "{refused}");
}

#[tokio::test]
async fn damaged_components_are_refused_and_never_bring_the_host_down() {
    let sandbox = sandbox();
    let sound = guest("start_trap");
    let spec = spec(usual(), all_grants());
    for n in 0..150_usize {
        let mut bytes = sound.to_vec();
        let at = 8 + n * 7_919 % (bytes.len() - 8);
        bytes[at] ^= 1 << (n % 8);
        if n % 3 == 0 {
            bytes.truncate(at);
        }
        // Refused, one way or another: the sound one is refused as well, because it traps in its start.
        let refused = sandbox.load(bytes.into(), &spec, Dependencies::none()).await;
        if let Ok(component) = refused {
            drop(run(&component, "{}").await);
        }
    }
    assert_eq!(sandbox.counters().panics, 0);
}
