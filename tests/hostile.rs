//! More than sixty hostile guests beside a healthy one, in one host: it lives, its memory stays bounded, and the healthy
//! one is served as if it were alone.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use tidegate_tests::http::Stream;
use tidegate_tests::{Host, Project, root};

/// The sandbox's memory ceiling in the manifest below.
const CEILING: u64 = 256 << 20;
const HEALTHY: u64 = 1_500;
const ROUNDS: u64 = 4;

/// The modes of the hostile guest, from the table that its README keeps.
fn modes() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("tests/guests/README.md")).unwrap();
    let table = text.split("| mode |").nth(1).unwrap().split("\n\n").next().unwrap().to_owned();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    // One that defers for ever is never settled, as it should be; it would only keep `wait` waiting.
    let named = rows.map(|line| line.split('`').nth(1).unwrap().to_owned());
    // Some are in it more than once, under different limits.
    let modes: BTreeSet<String> = named.filter(|mode| !mode.starts_with("defer")).collect();
    modes.into_iter().collect()
}

fn manifest(modes: &[String]) -> String {
    let mut text = String::from(
        r#"
tidegate: 1
server: { listen: 127.0.0.1:0 }
log: sqlite:data/tidegate.db
limits: { attempts: 16, memory: 256MiB }
defaults: { timeout: 300ms, fuel: 2_000_000_000, memory: 64MiB, concurrency: 2, retry: { attempts: 1 } }
consumers:
  healthy:
    component: ledger.wasm
    on: order.paid
    timeout: 60s
    grants: { publish: [order.booked], state: true }
"#,
    );
    for mode in modes {
        let grants =
            "{ publish: [attack.**], state: { quota: 1MiB }, http: [http://127.0.0.1:9], config: {}, secrets: {} }";
        let _ = writeln!(text, "  h-{mode}: {{ component: hostile.wasm, on: attack.{mode}, grants: {grants} }}");
    }
    text
}

/// Sends healthy events one at a time, each when the one before is said to be settled. Whoever asked again and again would keep a
/// processor busy, and measure that.
fn pay(host: &Host, range: std::ops::Range<u64>) {
    let (mut client, mut told) = (host.client(), Stream::of(&host.address(), "healthy").unwrap());
    for n in range {
        let event = format!(r#"{{"id":"p-{n}","source":"shop","type":"order.paid","data":{{}}}}"#);
        let accepted = client.post("/events", event.as_bytes()).unwrap();
        assert_eq!(accepted.status, 202);
        let sequence = accepted.json()["events"][0]["sequence"].as_u64().unwrap();
        while told.next("outcome").unwrap()["sequence"].as_u64() != Some(sequence) {}
    }
}

/// Milliseconds from acceptance to the end of the attempt: median and 99th percentile, of events from one sequence on.
fn latency(project: &Project, after: i64) -> (f64, f64, usize) {
    // Of the times that the database shows, to the microsecond.
    let sql = format!(
        "SELECT (o.started_at + o.duration_us - e.accepted_at) / 1000.0 FROM raw_outcomes o
         JOIN raw_events e ON e.seq = o.seq JOIN names n ON n.id = o.consumer
         WHERE n.text = 'healthy' AND o.outcome = 0 AND e.seq > {after}"
    );
    let mut times: Vec<f64> = project.rows(&sql).iter().filter_map(|row| row[0].as_f64()).collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    (at(0.5), at(0.99), times.len())
}

#[test]
fn a_host_outlives_its_guests() {
    let modes = modes();
    assert!(modes.len() >= 60, "only {} hostile modes", modes.len());
    let project = Project::new(&manifest(&modes));
    project.install("ledger", "ledger.wasm");
    project.install("hostile", "hostile.wasm");
    let mut host = project.start();

    pay(&host, 0..HEALTHY);
    let (before, alone) = (project.count("SELECT max(sequence) FROM events"), latency(&project, 0));
    let (baseline, _) = host.memory();

    let attacks: String = (0..ROUNDS)
        .flat_map(|round| modes.iter().map(move |mode| (round, mode)))
        .map(|(round, mode)| {
            format!(r#"{{"id":"a-{round}-{mode}","source":"x","type":"attack.{mode}","data":{{"mode":"{mode}"}}}}"#)
                + "\n"
        })
        .collect();
    assert_eq!(host.client().send("POST", "/events", "application/x-ndjson", attacks.as_bytes()).unwrap().status, 202);
    pay(&host, HEALTHY..2 * HEALTHY);
    let over = project.count("SELECT count(*) FROM outcomes JOIN events USING (sequence) WHERE id LIKE 'a-%'");
    project.ok(&["wait", "--timeout", "300s"]);

    assert!(host.alive());
    assert!(!host.said().contains("panicked"), "{}", host.said());
    let beside = latency(&project, before);
    assert_eq!(beside.2 as u64, HEALTHY, "every healthy delivery is done");
    let settled = project
        .count("SELECT count(*) FROM outcomes JOIN events USING (sequence) WHERE id LIKE 'a-%' AND state <> 'pending'");
    let sent = i64::try_from(modes.len()).unwrap() * i64::try_from(ROUNDS).unwrap();
    assert_eq!(settled, sent, "every hostile delivery has come to an end");
    let peak = host.memory().1;
    assert!(peak < baseline + CEILING + CEILING / 2, "resident memory went from {baseline} to {peak}");
    println!(
        "healthy alone: median {:.2} ms, p99 {:.2} ms; beside {} hostile guests: median {:.2} ms, p99 {:.2} ms",
        alone.0,
        alone.1,
        modes.len(),
        beside.0,
        beside.1
    );
    println!("{over} of {sent} hostile deliveries had come to an end when the healthy ones had");
    println!("resident: {} MiB before, {} MiB at its peak", baseline >> 20, peak >> 20);
    assert_eq!(host.stop().0, 0);
}
