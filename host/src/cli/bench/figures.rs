//! What was measured, for people and for scripts.

use std::time::Duration;

use serde::Serialize;

use super::super::text;
use super::spread::Spread;

/// How a number is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    PerSecond,
    Milliseconds,
    Microseconds,
    Bytes,
    Count,
    Ratio,
}

/// One number.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figure {
    /// The measure and what of it: `accept.64.rate`.
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: Unit,
}

/// What the numbers depend on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Setting {
    pub(super) tidegate: &'static str,
    pub(super) wasmtime: &'static str,
    pub(super) sqlite: &'static str,
    /// Whether the build is optimised.
    pub(super) release: bool,
    pub(super) durability: &'static str,
    pub(super) system: String,
    pub(super) processor: Option<String>,
    pub(super) processors: usize,
    pub(super) memory_bytes: Option<u64>,
    pub(super) component: String,
    pub(super) component_bytes: usize,
    pub(super) event_type: String,
    /// The mean of the events' payloads.
    pub(super) payload_bytes: usize,
    pub(super) consumers: u32,
    pub(super) concurrency: u32,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    pub(super) setting: Setting,
    pub(super) figures: Vec<Figure>,
}

impl Figures {
    pub(super) fn add(&mut self, name: impl Into<String>, value: f64, unit: Unit) {
        self.figures.push(Figure { name: name.into(), value, unit });
    }

    /// So many in so much time.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn rate(&mut self, name: impl Into<String>, many: u64, time: Duration) {
        let seconds = time.as_secs_f64();
        self.add(name, if seconds > 0.0 { many as f64 / seconds } else { 0.0 }, Unit::PerSecond);
    }

    pub(super) fn per_second(&mut self, name: impl Into<String>, rate: f64) {
        self.add(name, rate, Unit::PerSecond);
    }

    /// Of two figures of the same unit.
    pub(super) fn ratio(&mut self, name: impl Into<String>, ratio: f64) {
        self.add(name, ratio, Unit::Ratio);
    }

    #[expect(clippy::cast_precision_loss, reason = "shown in three digits")]
    pub(super) fn bytes(&mut self, name: impl Into<String>, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.add(name, bytes as f64, Unit::Bytes);
        }
    }

    pub(super) fn time(&mut self, name: impl Into<String>, time: Duration) {
        self.add(name, time.as_secs_f64() * 1_000.0, Unit::Milliseconds);
    }

    pub(super) fn spread(&mut self, name: &str, spread: &mut Spread) {
        for (word, share) in [("p50", 500), ("p90", 900), ("p99", 990), ("max", 1_000)] {
            if let Some(time) = spread.per_mille(share) {
                self.time(format!("{name}.{word}"), time);
            }
        }
    }
}

impl Figure {
    /// With its unit: `12,345/s`, `0.42 ms`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "numbers measured here are small and not negative"
    )]
    pub(super) fn shown(&self) -> String {
        match self.unit {
            Unit::PerSecond => format!("{}/s", text::number(self.value.round() as u64)),
            Unit::Milliseconds => text::millis(self.value),
            Unit::Microseconds => format!("{:.1} µs", self.value),
            Unit::Bytes => text::bytes(self.value.round() as u64),
            Unit::Count => text::number(self.value.round() as u64),
            Unit::Ratio => format!("{:.2}", self.value),
        }
    }
}

/// A measure's figures in words, a line each: what stands before the point that ends a name, and what after.
pub(super) fn words(name: &str) -> &str {
    match name {
        "start.ready" => "from the start of the process until the host listens",
        "start.first" => "from the start of the process until the first event is settled",
        "restart.ready" => "from the start of the process until the host is ready, with events that are pending",
        "restart.first" => "from the start of the process until the first of them is settled",
        "restart.crashed" => "until the host is ready after a crash, with events that are pending",
        "memory.idle" => "resident memory when nothing happens",
        "memory.peak" => "the most resident memory under the stream",
        "accept.1.rate" => "accepted, one client, an event a request",
        "accept.64.rate" => "accepted, 64 clients, an event a request",
        "stream.accepted" => "accepted, streamed in one request",
        "stream.settled" => "settled, streamed in: from the first byte to the last outcome",
        "stream.processor" => "processor time of the host for each settled event",
        "stream.written" => "handed to the disk for each settled event, beyond its payload",
        "fan-out.settled" => "settled deliveries, each event for many consumers",
        "runs.settled" => "runs of a pipeline of three steps that ended",
        "attempt.cost" => "an attempt by itself: a fresh instance, the call, and all that the sandbox does around them",
        "history.short" => "settled, streamed in, with ten thousand events in the log",
        "history.long" => "settled, streamed in, with a long history in the log",
        "history.ratio" => "with a long history, over with a short one",
        name if name.starts_with("latency.") && name.ends_with(".p50") => {
            "from when an event is to be sent, at so many a second, until its outcome is told"
        }
        name if name.starts_with("runs.") && name.ends_with(".p50") => {
            "from when an event is to be sent, at so many a second, until its run has ended"
        }
        "attempt.fuel" => "fuel that the component uses for one event",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_their_units() {
        let shown = |value: f64, unit| Figure { name: String::new(), value, unit }.shown();
        assert_eq!(shown(12_345.6, Unit::PerSecond), "12,346/s");
        assert_eq!(shown(0.42, Unit::Milliseconds), "0.42 ms");
        assert_eq!(shown(10.42, Unit::Microseconds), "10.4 µs");
        assert_eq!(shown(2_048.0, Unit::Bytes), "2.00 KiB");
        assert_eq!(shown(0.976, Unit::Ratio), "0.98");
    }
}
