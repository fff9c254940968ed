//! Every metric there is, in one place. docs/metrics.md is made of this table.

/// Type of a metric, as Prometheus names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Info,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}

/// A metric. `name` has no `_total`, `_bucket` or `_info`: the formats add them.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub unit: Option<&'static str>,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    unit: Option<&'static str>,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, unit, labels, help }
}

use Kind::{Counter, Gauge, Histogram, Info};

const CONSUMER: &[&str] = &["consumer"];

pub const BUILD: Family = family("tidegate_build", Info, None, &["version"], "The program that answers.");
pub const ACCEPTED: Family =
    family("tidegate_events_accepted", Counter, None, &[], "Events that became durable, over every way in.");
pub const DUPLICATE: Family =
    family("tidegate_events_duplicate", Counter, None, &[], "Events that were sent again and were there already.");
pub const ATTEMPTS: Family =
    family("tidegate_attempts", Counter, None, &["consumer", "outcome"], "Attempts by what came of them.");
pub const ATTEMPT_DURATION: Family = family(
    "tidegate_attempt_duration_seconds",
    Histogram,
    Some("seconds"),
    CONSUMER,
    "Wall clock of an attempt, from instance to outcome.",
);
pub const FUEL: Family =
    family("tidegate_fuel_used", Counter, None, CONSUMER, "Guest instructions that attempts have used.");
pub const DEPTH: Family = family(
    "tidegate_deliveries_depth",
    Gauge,
    None,
    CONSUMER,
    "Deliveries that are not final: due, waiting and running.",
);
pub const WAITING: Family =
    family("tidegate_deliveries_waiting", Gauge, None, CONSUMER, "Deliveries that wait for a later due time.");
pub const JOBS: Family = family(
    "tidegate_jobs_depth",
    Gauge,
    None,
    &["consumer", "priority"],
    "Of the deliveries that are not final, those of jobs, by priority.",
);
pub const OLDEST: Family = family(
    "tidegate_oldest_waiting_age_seconds",
    Gauge,
    Some("seconds"),
    CONSUMER,
    "Age of the oldest delivery that is not final; 0 if there is none.",
);
pub const RUNNING: Family = family("tidegate_attempts_running", Gauge, None, CONSUMER, "Attempts that run now.");
pub const DEAD: Family =
    family("tidegate_dead_letters", Gauge, None, CONSUMER, "Dead letters that nobody has redriven or discarded yet.");
pub const DIED: Family =
    family("tidegate_deliveries_died", Counter, None, CONSUMER, "Deliveries that became dead letters since the start.");
pub const CONFLICTS: Family = family(
    "tidegate_settle_conflicts",
    Counter,
    None,
    CONSUMER,
    "Settlements given up because state had changed meanwhile; the attempt runs again.",
);
pub const REPLAYED: Family =
    family("tidegate_replay_deliveries", Counter, None, &[], "Deliveries that replays have made since the start.");
pub const BREAKER: Family = family(
    "tidegate_breaker_state",
    Gauge,
    None,
    CONSUMER,
    "The consumer's breaker: 0 closed, 1 open, 2 probing (one attempt decides).",
);
pub const PAUSED: Family = family("tidegate_consumer_paused", Gauge, None, CONSUMER, "1 while the consumer is paused.");
pub const HELD: Family =
    family("tidegate_keys_held", Gauge, None, CONSUMER, "Ordering keys that dead letters hold, so that others wait.");
pub const EPHEMERAL_LOST: Family = family(
    "tidegate_ephemeral_lost",
    Counter,
    None,
    CONSUMER,
    "Events that an ephemeral consumer did not get, because it did not keep up or was paused. Durable ones lose none.",
);
pub const QUERIES: Family = family(
    "tidegate_queries",
    Counter,
    None,
    &["responder", "outcome"],
    "Questions by who was called and what came of them; the responder is empty where nobody was.",
);
pub const QUERY_DURATION: Family = family(
    "tidegate_query_duration_seconds",
    Histogram,
    Some("seconds"),
    &["responder"],
    "From a question to its answer, waiting for the responder included.",
);
pub const RUNS: Family =
    family("tidegate_runs", Gauge, None, &["pipeline", "status"], "Runs of pipelines that have not ended.");
pub const RUNS_ENDED: Family = family(
    "tidegate_runs_ended",
    Counter,
    None,
    &["pipeline", "status"],
    "Runs of pipelines that have ended, by how they did.",
);
pub const PANICS: Family =
    family("tidegate_host_panics", Counter, None, &[], "Panics of the host itself that it caught; each is a bug.");
pub const SETTLE_BATCH: Family =
    family("tidegate_settle_batch_size", Histogram, None, &[], "Settlements that one commit made durable.");
pub const SETTLE_DURATION: Family = family(
    "tidegate_settle_duration_seconds",
    Histogram,
    Some("seconds"),
    &[],
    "From a commit's first settlement to its being on disk.",
);
pub const LOG_BYTES: Family = family("tidegate_log_bytes", Gauge, Some("bytes"), &[], "Size of the database.");
pub const BALLAST: Family = family(
    "tidegate_ballast_bytes",
    Gauge,
    Some("bytes"),
    &[],
    "Room on the disk that is kept for when it is full; 0 while it is given back and no event is accepted, or if there is none.",
);
pub const LAST_SEQUENCE: Family =
    family("tidegate_log_last_sequence", Gauge, None, &[], "Sequence number of the newest event.");
pub const GENERATION: Family = family("tidegate_generation", Gauge, None, &[], "Number of the live deployment.");
pub const RELOADS: Family = family(
    "tidegate_reloads",
    Counter,
    None,
    &["result"],
    "Reloads that went live (done) or changed nothing (refused).",
);
pub const CPU: Family =
    family("process_cpu_seconds", Counter, Some("seconds"), &[], "User and system time that the process has used.");
pub const MEMORY: Family =
    family("process_resident_memory_bytes", Gauge, Some("bytes"), &[], "Memory of the process that is in RAM.");
pub const OPEN_FDS: Family = family("process_open_fds", Gauge, None, &[], "File descriptors that are open.");
pub const MAX_FDS: Family = family("process_max_fds", Gauge, None, &[], "File descriptors that may be open at once.");
pub const START_TIME: Family = family(
    "process_start_time_seconds",
    Gauge,
    Some("seconds"),
    &[],
    "When the process began, in seconds since the Unix epoch.",
);

/// In the order in which they are shown.
pub const ALL: [Family; 36] = [
    BUILD,
    ACCEPTED,
    DUPLICATE,
    ATTEMPTS,
    ATTEMPT_DURATION,
    FUEL,
    DEPTH,
    WAITING,
    JOBS,
    OLDEST,
    RUNNING,
    DEAD,
    DIED,
    BREAKER,
    PAUSED,
    HELD,
    EPHEMERAL_LOST,
    CONFLICTS,
    REPLAYED,
    QUERIES,
    QUERY_DURATION,
    RUNS,
    RUNS_ENDED,
    SETTLE_BATCH,
    SETTLE_DURATION,
    LOG_BYTES,
    BALLAST,
    LAST_SEQUENCE,
    GENERATION,
    RELOADS,
    PANICS,
    CPU,
    MEMORY,
    OPEN_FDS,
    MAX_FDS,
    START_TIME,
];

/// The table of docs/metrics.md.
pub fn table() -> String {
    let mut text = String::from("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n");
    for family in ALL {
        let suffix = match family.kind {
            Counter => "_total",
            Info => "_info",
            Gauge | Histogram => "",
        };
        let labels = family.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        text.push_str(&format!(
            "| `{}{suffix}` | {} | {labels} | {} |\n",
            family.name,
            family.kind.as_str(),
            family.help
        ));
    }
    text
}
