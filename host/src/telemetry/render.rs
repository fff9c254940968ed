//! The numbers as text: Prometheus 0.0.4 and OpenMetrics 1.0.

use std::fmt::Write as _;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::names::{self, Family, Kind};
use super::{ConsumerNumbers, Gauges, Histogram, Metrics};
use crate::model::record::ConsumerRecord;
use crate::model::{ConsumerName, Outcome, QueryOutcome};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Everything, in the order of [`names::ALL`].
pub fn render(metrics: &Metrics, gauges: &Gauges, format: Format) -> String {
    let mut page = Page { text: String::with_capacity(8 << 10), format };
    page.totals(metrics);
    page.attempts(metrics);
    page.deliveries(metrics, gauges);
    page.queries(metrics);
    page.runs(metrics, gauges);
    page.log(metrics, gauges);
    page.process(gauges);
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

/// A breaker's states, by number.
const BREAKERS: [&str; 3] = ["closed", "open", "probing"];

/// A number of a consumer: as it is read, and as it is counted.
type Shown<'a> = &'a dyn Fn(&ConsumerRecord) -> String;
type Counted = fn(&ConsumerNumbers) -> &AtomicU64;

struct Page {
    text: String,
    format: Format,
}

impl Page {
    fn totals(&mut self, metrics: &Metrics) {
        self.head(names::BUILD);
        self.sample(names::BUILD, "_info", &[("version", env!("CARGO_PKG_VERSION"))], "1");
        self.counter(names::ACCEPTED, &[], load(&metrics.accepted));
        self.counter(names::DUPLICATE, &[], load(&metrics.duplicates));
    }

    fn attempts(&mut self, metrics: &Metrics) {
        let consumers = metrics.consumers.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.head(names::ATTEMPTS);
        for (name, numbers) in &consumers {
            for (outcome, count) in Outcome::ALL.iter().zip(&numbers.attempts) {
                let labels = [("consumer", name.as_str()), ("outcome", outcome.as_str())];
                self.sample(names::ATTEMPTS, "_total", &labels, &load(count).to_string());
            }
        }
        self.head(names::ATTEMPT_DURATION);
        for (name, numbers) in &consumers {
            self.histogram(names::ATTEMPT_DURATION, &[("consumer", name.as_str())], &numbers.duration);
        }
        self.head(names::FUEL);
        for (name, numbers) in &consumers {
            self.sample(names::FUEL, "_total", &[("consumer", name.as_str())], &load(&numbers.fuel).to_string());
        }
    }

    fn deliveries(&mut self, metrics: &Metrics, gauges: &Gauges) {
        let age = |record: &ConsumerRecord| {
            record.oldest_waiting_since.map_or(0.0, |since| gauges.now.since(since).as_secs_f64()).to_string()
        };
        let breaker =
            |record: &ConsumerRecord| BREAKERS.iter().position(|word| *word == record.breaker).unwrap_or(0).to_string();
        self.consumers(
            gauges,
            &[
                (names::DEPTH, &|record| record.depth.to_string()),
                (names::WAITING, &|record| record.waiting.to_string()),
            ],
        );
        self.head(names::JOBS);
        for (consumer, priority, n) in &gauges.jobs {
            let labels = [("consumer", consumer.as_str()), ("priority", priority.as_str())];
            self.sample(names::JOBS, "", &labels, &n.to_string());
        }
        self.consumers(
            gauges,
            &[
                (names::OLDEST, &age),
                (names::RUNNING, &|record| record.running.to_string()),
                (names::DEAD, &|record| record.dead_letters.to_string()),
                (names::BREAKER, &breaker),
                (names::PAUSED, &|record| u8::from(record.paused).to_string()),
                (names::HELD, &|record| record.held_keys.to_string()),
            ],
        );
        let consumers = metrics.consumers.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.counter(names::REPLAYED, &[], load(&metrics.replayed));
        let rows: [(Family, Counted); 2] =
            [(names::DIED, |numbers| &numbers.dead_letters), (names::CONFLICTS, |numbers| &numbers.conflicts)];
        for (family, count) in rows {
            self.head(family);
            for (name, numbers) in &consumers {
                let count = load(count(numbers)).to_string();
                self.sample(family, "_total", &[("consumer", name.as_str())], &count);
            }
        }
        self.head(names::EPHEMERAL_LOST);
        for (name, numbers) in &consumers {
            let lost = load(&numbers.ephemeral_lost);
            // Of a durable one nothing can be lost; what one has lost that was ephemeral before stays counted.
            if lost > 0 || gauges.consumers.iter().any(|record| record.name == *name && record.is_ephemeral()) {
                self.sample(names::EPHEMERAL_LOST, "_total", &[("consumer", name.as_str())], &lost.to_string());
            }
        }
    }

    fn consumers(&mut self, gauges: &Gauges, rows: &[(Family, Shown<'_>)]) {
        for (family, value) in rows {
            self.head(*family);
            for record in &gauges.consumers {
                self.sample(*family, "", &[("consumer", record.name.as_str())], &value(record));
            }
        }
    }

    fn queries(&mut self, metrics: &Metrics) {
        let queries = metrics.queries.read().unwrap_or_else(PoisonError::into_inner).clone();
        let name = |responder: &Option<ConsumerName>| responder.as_ref().map(ToString::to_string).unwrap_or_default();
        self.head(names::QUERIES);
        for (responder, numbers) in &queries {
            for (outcome, count) in QueryOutcome::ALL.iter().zip(&numbers.outcomes) {
                let labels = [("responder", &*name(responder)), ("outcome", outcome.as_str())];
                self.sample(names::QUERIES, "_total", &labels, &load(count).to_string());
            }
        }
        self.head(names::QUERY_DURATION);
        for (responder, numbers) in &queries {
            self.histogram(names::QUERY_DURATION, &[("responder", &*name(responder))], &numbers.duration);
        }
    }

    fn runs(&mut self, metrics: &Metrics, gauges: &Gauges) {
        self.head(names::RUNS);
        for (pipeline, status, n) in &gauges.runs {
            let labels = [("pipeline", pipeline.as_str()), ("status", status.as_str())];
            self.sample(names::RUNS, "", &labels, &n.to_string());
        }
        self.head(names::RUNS_ENDED);
        let ended = metrics.runs.read().unwrap_or_else(PoisonError::into_inner).clone();
        for ((pipeline, status), n) in &ended {
            let labels = [("pipeline", pipeline.as_str()), ("status", *status)];
            self.sample(names::RUNS_ENDED, "_total", &labels, &n.to_string());
        }
    }

    fn log(&mut self, metrics: &Metrics, gauges: &Gauges) {
        self.head(names::SETTLE_BATCH);
        self.histogram(names::SETTLE_BATCH, &[], &metrics.settle_batch);
        self.head(names::SETTLE_DURATION);
        self.histogram(names::SETTLE_DURATION, &[], &metrics.settle_duration);
        self.gauge(names::LOG_BYTES, Some(gauges.log_bytes));
        self.gauge(names::BALLAST, Some(load(&metrics.ballast)));
        self.gauge(names::LAST_SEQUENCE, Some(gauges.last_sequence));
        self.gauge(names::GENERATION, Some(load(&metrics.generation)));
        self.head(names::RELOADS);
        for (result, count) in [("done", &metrics.reloads_done), ("refused", &metrics.reloads_refused)] {
            self.sample(names::RELOADS, "_total", &[("result", result)], &load(count).to_string());
        }
        self.counter(names::PANICS, &[], load(&metrics.host_panics));
    }

    fn process(&mut self, gauges: &Gauges) {
        let process = &gauges.process;
        if let Some(seconds) = process.cpu_seconds {
            self.counter(names::CPU, &[], seconds);
        }
        self.gauge(names::MEMORY, process.resident_bytes);
        self.gauge(names::OPEN_FDS, process.open_fds);
        self.gauge(names::MAX_FDS, process.max_fds);
        self.gauge(names::START_TIME, process.start_seconds);
    }

    fn counter(&mut self, family: Family, labels: &[(&str, &str)], value: impl ToString) {
        self.head(family);
        self.sample(family, "_total", labels, &value.to_string());
    }

    fn gauge(&mut self, family: Family, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.head(family);
            self.sample(family, "", &[], &value.to_string());
        }
    }

    /// In the old format the full name of the samples stands here, and *info* is unknown.
    fn head(&mut self, family: Family) {
        let name = family.name;
        let written = match (self.format, family.kind) {
            (Format::OpenMetrics, kind) => {
                self.line(format_args!("# TYPE {name} {}", kind.as_str()));
                if let Some(unit) = family.unit {
                    self.line(format_args!("# UNIT {name} {unit}"));
                }
                self.line(format_args!("# HELP {name} {}", family.help));
                return;
            }
            (Format::Prometheus, Kind::Counter) => (format!("{name}_total"), "counter"),
            (Format::Prometheus, Kind::Info) => (format!("{name}_info"), "gauge"),
            (Format::Prometheus, kind) => (name.to_owned(), kind.as_str()),
        };
        self.line(format_args!("# HELP {} {}", written.0, family.help));
        self.line(format_args!("# TYPE {} {}", written.0, written.1));
    }

    fn histogram(&mut self, family: Family, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        let bounds = histogram.bounds.iter().map(|bound| format!("{bound:?}")).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&histogram.buckets) {
            count += load(bucket);
            let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(family, "_bucket", &with_bound, &count.to_string());
        }
        #[expect(clippy::cast_precision_loss, reason = "a sum shown as a decimal fraction")]
        let sum = load(&histogram.sum) as f64 / 1e6;
        self.sample(family, "_sum", labels, &sum.to_string());
        self.sample(family, "_count", labels, &count.to_string());
    }

    fn sample(&mut self, family: Family, suffix: &str, labels: &[(&str, &str)], value: &str) {
        let labels: Vec<String> = labels.iter().map(|(name, text)| format!("{name}=\"{}\"", escaped(text))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.line(format_args!("{}{suffix}{labels} {value}", family.name));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Relaxed)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
