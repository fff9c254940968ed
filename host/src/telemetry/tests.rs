use std::collections::{BTreeMap, BTreeSet};

use super::*;

fn record(name: &str) -> ConsumerRecord {
    ConsumerRecord {
        name: ConsumerName::new(name).unwrap(),
        kind: crate::model::spec::ConsumerKind::Consumer,
        status: if name == "feed" { ConsumerRecord::EPHEMERAL } else { "active" }.into(),
        on: Vec::new(),
        component: String::new(),
        running: 1,
        depth: 5,
        waiting: 2,
        oldest_waiting_since: Some(Timestamp(1_000_000)),
        succeeded: 0,
        failed_attempts: 0,
        dead_letters: 3,
        paused: name == "index",
        breaker: if name == "mailer" { "open".into() } else { String::new() },
        blocked: 0,
        held_keys: 2,
        ephemeral_lost: 4,
    }
}

fn page(format: Format) -> String {
    let metrics = Metrics::default();
    let of = |name: &str| ConsumerName::new(name).unwrap();
    let mailer = of("mailer");
    metrics.generation(Generation(4), [&mailer, &of("index"), &of("feed"), &of("once-ephemeral")]);
    let usage = Usage { duration: Duration::from_millis(2), fuel: 21_800, memory_peak: 1 };
    metrics.attempt(&mailer, Outcome::Done, usage);
    metrics.attempt(&mailer, Outcome::TimedOut, Usage { duration: Duration::from_secs(60), ..usage });
    metrics.dead_letter(&mailer);
    metrics.replayed(6);
    let fulfil = ConsumerName::new("fulfil").unwrap();
    metrics.pipelines([&fulfil]);
    metrics.run_ended(&fulfil, Status::Completed);
    metrics.run_ended(&fulfil, Status::Completed);
    metrics.ephemeral_lost(&of("once-ephemeral"), 4);
    metrics.accepted(7);
    metrics.duplicates(1);
    metrics.settled(3, Duration::from_micros(700));
    metrics.reload(false);
    metrics.ballast(64 << 20);
    let gauges = Gauges {
        now: Timestamp(3_500_000),
        consumers: vec![record("mailer"), record("index"), record("feed")],
        jobs: vec![(mailer, Priority::High, 5)],
        runs: vec![(fulfil, Status::Stuck, 2)],
        log_bytes: 4096,
        last_sequence: 7,
        process: process::Process::read(),
    };
    render(&metrics, &gauges, format)
}

#[test]
fn numbers_are_shown_under_their_names() {
    let text = page(Format::Prometheus);
    for line in [
        "tidegate_events_accepted_total 7",
        "tidegate_events_duplicate_total 1",
        "tidegate_jobs_depth{consumer=\"mailer\",priority=\"high\"} 5",
        "tidegate_runs{pipeline=\"fulfil\",status=\"stuck\"} 2",
        "tidegate_runs_ended_total{pipeline=\"fulfil\",status=\"completed\"} 2",
        "tidegate_runs_ended_total{pipeline=\"fulfil\",status=\"partial\"} 0",
        "tidegate_attempts_total{consumer=\"mailer\",outcome=\"done\"} 1",
        "tidegate_attempts_total{consumer=\"mailer\",outcome=\"trapped\"} 0",
        "tidegate_attempt_duration_seconds_bucket{consumer=\"mailer\",le=\"0.001\"} 0",
        "tidegate_attempt_duration_seconds_bucket{consumer=\"mailer\",le=\"0.005\"} 1",
        "tidegate_attempt_duration_seconds_bucket{consumer=\"mailer\",le=\"30.0\"} 1",
        "tidegate_attempt_duration_seconds_bucket{consumer=\"mailer\",le=\"+Inf\"} 2",
        "tidegate_attempt_duration_seconds_sum{consumer=\"mailer\"} 60.002",
        "tidegate_fuel_used_total{consumer=\"mailer\"} 43600",
        "tidegate_deliveries_depth{consumer=\"index\"} 5",
        "tidegate_oldest_waiting_age_seconds{consumer=\"mailer\"} 2.5",
        "tidegate_dead_letters{consumer=\"mailer\"} 3",
        "tidegate_deliveries_died_total{consumer=\"mailer\"} 1",
        "tidegate_settle_batch_size_bucket{le=\"4.0\"} 1",
        "tidegate_breaker_state{consumer=\"mailer\"} 1",
        "tidegate_breaker_state{consumer=\"index\"} 0",
        "tidegate_consumer_paused{consumer=\"index\"} 1",
        "tidegate_keys_held{consumer=\"index\"} 2",
        "tidegate_ephemeral_lost_total{consumer=\"feed\"} 0",
        "tidegate_ephemeral_lost_total{consumer=\"once-ephemeral\"} 4",
        "tidegate_replay_deliveries_total 6",
        "tidegate_generation 4",
        "tidegate_ballast_bytes 67108864",
        "tidegate_reloads_total{result=\"refused\"} 1",
        "tidegate_reloads_total{result=\"done\"} 0",
        "# TYPE tidegate_events_accepted_total counter",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}\n{text}");
    }
    assert_eq!(text.matches("tidegate_ephemeral_lost_total{").count(), 2, "durable consumers lose nothing: {text}");
    assert!(text.ends_with('\n') && !text.contains("# EOF"));
}

/// What a strict reader of OpenMetrics checks: families stand together and once, samples belong to them.
#[test]
fn openmetrics_is_well_formed() {
    let text = page(Format::OpenMetrics);
    assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"));
    let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
    let mut family = ("", "");
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split_once(' ').unwrap();
            assert!(families.insert(family.0.to_owned()), "{line} comes twice");
            assert!(!family.0.ends_with("_total") && !family.0.ends_with("_info"), "{line}");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').unwrap();
            assert!(name == family.0 && name.ends_with(&format!("_{unit}")), "{line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(family.0));
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(series.to_owned()), "{series} comes twice");
            assert!(value.parse::<f64>().unwrap() >= 0.0);
            let suffix = series.split('{').next().unwrap().strip_prefix(family.0).unwrap();
            let fits = match family.1 {
                "counter" => suffix == "_total",
                "info" => suffix == "_info",
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                _ => suffix.is_empty(),
            };
            assert!(fits, "{line} in {family:?}");
        }
    }
    let names: BTreeMap<&str, ()> = names::ALL.iter().map(|family| (family.name, ())).collect();
    assert_eq!(families.len(), names.len(), "every family is shown, and none besides");
    assert!(families.iter().all(|family| names.contains_key(family.as_str())));
}

#[test]
fn the_document_lists_what_there_is() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    assert!(document.contains(&names::table()), "docs/metrics.md must hold this table:\n{}", names::table());
}
