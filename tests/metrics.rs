//! `/metrics` as a scraper reads it, by a parser that forgives nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use tidegate_tests::Project;
use tidegate_tests::hand::Hand;
use tidegate_tests::http::Stream;

type Labels = BTreeMap<String, String>;

/// A metric as it was declared, and its samples: name, labels and value.
struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

/// Labels between braces: `name="value"` with `\\`, `\"` and `\n` escaped, and a comma between.
fn labels(text: &str) -> Labels {
    let (mut found, mut rest) = (Labels::new(), text);
    while !rest.is_empty() {
        let (name, tail) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{text}");
        let (mut value, mut chars) = (String::new(), tail.char_indices());
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("{text}")) {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, c @ ('\\' | '"'))) => c,
                    other => panic!("{other:?} in {text}"),
                }),
                (_, c) => value.push(c),
            }
        };
        assert!(found.insert(name.to_owned(), value).is_none(), "{text}");
        rest = &tail[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    found
}

fn sample(line: &str) -> (String, Labels, f64) {
    let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (name, labels) = match name.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}').unwrap_or_else(|| panic!("{line}")))),
        None => (name, Labels::new()),
    };
    assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
    (name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("{line}")))
}

fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'));
    let (mut families, mut current, mut helped) = (BTreeMap::new(), String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split_once(' ').unwrap_or_else(|| panic!("{line}")).0.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert_eq!(name, helped, "a type without help");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = Family { kind: kind.to_owned(), samples: Vec::new() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} is declared twice");
            current = name.to_owned();
        } else {
            let sample = sample(line);
            let family: &mut Family = families.get_mut(&current).unwrap_or_else(|| panic!("{line}"));
            let suffix = sample.0.strip_prefix(&current).unwrap_or_else(|| panic!("{line} stands under {current}"));
            let suffixes: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line} stands under {current}");
            let known = family.samples.iter().any(|(name, labels, _)| (name, labels) == (&sample.0, &sample.1));
            assert!(!known, "{line} is there twice");
            family.samples.push(sample);
        }
    }
    families
}

/// Buckets grow, and the last one is the count.
fn check_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (sample, labels, value) in &family.samples {
        if sample.ends_with("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap().replace("+Inf", "inf").parse().unwrap();
            series.entry(labels).or_default().push((bound, *value));
        }
    }
    for (labels, buckets) in series {
        assert!(buckets.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1), "{name} {labels:?}");
        let last = buckets.last().unwrap();
        assert!(last.0.is_infinite(), "{name}");
        let count = format!("{name}_count");
        let count = family.samples.iter().find(|(sample, of, _)| *sample == count && *of == labels).unwrap();
        assert!((count.2 - last.1).abs() < f64::EPSILON, "{name} {labels:?}");
    }
}

#[test]
fn metrics_are_well_formed_documented_and_right() {
    let hand = Hand::new();
    let consumers = hand.consumer("worker", "order.created", "    retry: { attempts: 2, initial: 1ms }\n");
    let project = Project::new(&format!("tidegate: 1\nserver: {{ listen: 127.0.0.1:0 }}\nconsumers:\n{consumers}"));
    project.install("puppet", "puppet.wasm");
    let host = project.start();
    let mut stream = Stream::open(&host.address()).unwrap();
    let answers = [json!({}), json!({ "then": "retry" }), json!({ "then": "reject" })];
    for (n, answer) in answers.iter().enumerate() {
        host.emit(&format!("o-{n}"), "order.created");
        hand.asked().answer(answer);
        stream.next("outcome").unwrap();
        if n == 1 {
            hand.expect("worker", "o-1", 2).done();
            stream.next("outcome").unwrap();
        }
    }
    let sequence = host.emit("o-0", "order.created");
    assert_eq!(sequence, 1, "a duplicate");
    host.emit("p-0", "order.paid");
    project.ok(&["wait", "--timeout", "5m"]);

    let response = host.client().get_as("/metrics", "text/plain").unwrap();
    assert_eq!(response.status, 200);
    assert!(response.headers.contains("text/plain; version=0.0.4"), "{}", response.headers);
    let families = parse(std::str::from_utf8(&response.body).unwrap());
    for (name, family) in &families {
        assert_eq!(family.kind == "counter", name.ends_with("_total"), "{name}");
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    let docs = std::fs::read_to_string(tidegate_tests::root().join("docs/metrics.md")).unwrap();
    let documented: BTreeSet<&str> =
        docs.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    assert_eq!(documented, families.keys().map(String::as_str).collect(), "documented and there");

    let value = |name: &str, wanted: &[(&str, &str)]| -> f64 {
        let fits = |labels: &Labels| wanted.iter().all(|(name, value)| labels.get(*name).is_some_and(|v| v == value));
        let family = families.values().flat_map(|family| &family.samples);
        family.filter(|(sample, labels, _)| sample == name && fits(labels)).map(|(_, _, value)| value).sum()
    };
    let worker = ("consumer", "worker");
    let expected = [
        // Three orders, a payment, and what the dead letter caused.
        ("tidegate_events_accepted_total", &[][..], 5.0),
        ("tidegate_events_duplicate_total", &[], 1.0),
        ("tidegate_attempts_total", &[worker, ("outcome", "done")], 2.0),
        ("tidegate_attempts_total", &[worker, ("outcome", "retry")], 1.0),
        ("tidegate_attempts_total", &[worker, ("outcome", "reject")], 1.0),
        ("tidegate_attempt_duration_seconds_count", &[worker], 4.0),
        ("tidegate_deliveries_died_total", &[worker], 1.0),
        ("tidegate_attempts_running", &[worker], 0.0),
        ("tidegate_settle_batch_size_sum", &[], 4.0),
        ("tidegate_generation", &[], 1.0),
        ("tidegate_host_panics_total", &[], 0.0),
    ];
    for (name, labels, number) in expected {
        assert!((value(name, labels) - number).abs() < f64::EPSILON, "{name} {labels:?} is {}", value(name, labels));
    }
}
