//! What is read back: the rows that commands, HTTP and the database's views show. These are public: the JSON field
//! names are part of the product, and are the same in every place.

mod runs;
#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::outcome::LogLine;
use super::replay::{RateText, Replay};
use super::spec::ConsumerKind;
use super::{ConsumerName, Generation, Job, Outcome, QueryOutcome, Seq, Timestamp};

pub use runs::{JournalRecord, RunDetail, RunRecord, StepRecord, WaitRecord, WorkRecord};

/// An event as it is shown. `data` is the payload if it is JSON, `dataText` if it is other text, `dataBase64` otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    pub sequence: Seq,
    pub id: String,
    #[serde(rename = "type")]
    pub event_type: String,
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub data_version: String,
    pub timestamp: Timestamp,
    pub accepted_at: Timestamp,
    pub correlation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// To whom it is addressed, if it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    pub depth: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub attributes: Map<String, Value>,
    /// The bytes as they came, if they are JSON.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<serde_json::value::RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_base64: Option<String>,
}

impl EventRecord {
    /// Bytes of its payload as shown: what bounds an answer.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.data.as_ref().map_or(0, |data| data.get().len()) + text(&self.data_text) + text(&self.data_base64)
    }
}

/// A payload that is a JSON null is there, unlike one that is absent.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<serde_json::value::RawValue>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeRecord {
    pub sequence: Seq,
    pub event_id: String,
    pub event_type: String,
    pub consumer: ConsumerName,
    /// 0 for a subscription's; of others they are numbered from 1.
    pub round: u32,
    /// What made the delivery: `subscription`, `job`, `redrive`, `replay`; or `step`, `compensation` of a run. Unknown in the live
    /// stream if it was a redrive or a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Call of the handler, from 1, counted over retries and deferrals of this delivery.
    pub call: u32,
    /// From 1; a deferred or interrupted call does not use it up.
    pub attempt: u32,
    pub outcome: Outcome,
    /// What the delivery became: `succeeded`, `pending`, `dead`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub started_at: Timestamp,
    pub duration_ms: f64,
    pub fuel: u64,
    pub memory_peak: u64,
    /// How many events the attempt published.
    pub published: u32,
    pub generation: Generation,
    /// SHA-256 of the component's file.
    pub component: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogLine>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub logs_dropped: u64,
}

impl OutcomeRecord {
    /// Bytes of what its handler chose to leave: what bounds an answer.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        text(&self.output) + text(&self.reason) + self.logs.iter().map(LogLine::bytes).sum::<usize>()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A dead delivery, seen as a thing to inspect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterRecord {
    /// `SEQ/CONSUMER` or `SEQ/CONSUMER/ROUND`: what `dead show`, `redrive` and `discard` take.
    pub id: String,
    pub sequence: Seq,
    pub event_id: String,
    pub event_type: String,
    pub consumer: ConsumerName,
    pub round: u32,
    /// `rejected`, `refused`, `attempts-exhausted`, `expired`, `crashed`.
    pub cause: String,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub attempts: u32,
    pub died_at: Timestamp,
    /// `dead`, `redriven` or `discarded`.
    pub status: String,
}

/// A delivery that waits for a due time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingRecord {
    pub sequence: Seq,
    pub consumer: ConsumerName,
    pub round: u32,
    pub attempts: u32,
    pub due_at: Timestamp,
}

/// One consumer and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerRecord {
    pub name: ConsumerName,
    /// A pipeline takes events as a consumer does.
    #[serde(default)]
    pub kind: ConsumerKind,
    /// `active`; `removed` when the manifest no longer has it and work is waiting; `ephemeral`, which only a running host
    /// knows.
    pub status: String,
    pub on: Vec<String>,
    /// SHA-256 of the component's file, of a pipeline that of its steps: what is deployed, or when no host runs what did the last
    /// attempt. Empty, and not shown, if there is neither.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub component: String,
    /// Attempts running now; 0 when no host runs.
    pub running: u64,
    /// Deliveries that are not final: due, waiting and running.
    pub depth: u64,
    /// Of them, those that wait for a later due time.
    pub waiting: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_waiting_since: Option<Timestamp>,
    pub succeeded: u64,
    pub failed_attempts: u64,
    pub dead_letters: u64,
    /// Nothing of its is attempted until it is resumed.
    #[serde(default)]
    pub paused: bool,
    /// `closed`, `open` or `probing`; closed when no host runs.
    #[serde(default)]
    pub breaker: String,
    /// Deliveries that wait behind their ordering key, and keys that dead letters hold.
    #[serde(default)]
    pub blocked: u64,
    #[serde(default)]
    pub held_keys: u64,
    /// Dropped since the host's start, of an ephemeral consumer that was too slow or paused.
    #[serde(default)]
    pub ephemeral_lost: u64,
}

impl ConsumerRecord {
    pub const EPHEMERAL: &str = "ephemeral";
    pub const REMOVED: &str = "removed";

    /// Nothing about its deliveries is kept, so that the numbers of what is kept say nothing.
    pub fn is_ephemeral(&self) -> bool {
        self.status == Self::EPHEMERAL
    }
}

/// One consumer in full.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerDetail {
    #[serde(flatten)]
    pub consumer: ConsumerRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_since: Option<Timestamp>,
    /// Keys that dead letters hold, at most 1,000.
    pub held: Vec<HeldKeyRecord>,
}

/// An ordering key that a dead letter holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldKeyRecord {
    pub key: String,
    /// The dead letter.
    pub dead_letter: String,
    pub since: Timestamp,
    /// Deliveries that wait behind it.
    pub blocked: u64,
}

/// The database in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsRecord {
    pub events: u64,
    pub last_sequence: Seq,
    pub outcomes: std::collections::BTreeMap<Outcome, u64>,
    pub waiting: u64,
    pub dead_letters: u64,
    pub generation: Generation,
    pub database_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<Timestamp>,
    /// The end of the latest attempt, among those of the newest events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome_at: Option<Timestamp>,
}

/// What a database holds, as a thorough look at all of it found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentRecord {
    pub path: String,
    pub bytes: u64,
    pub last_sequence: Seq,
    /// The chain's hash at its end, in hexadecimal.
    pub hash: String,
    pub events: u64,
    pub outcomes: u64,
    pub waiting: u64,
    pub dead_letters: u64,
}

/// A copy that a running host makes of its database, or has made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupRecord {
    /// Counted from the host's start.
    pub id: u64,
    pub path: String,
    /// `copying`, `checking`, `done` or `failed`.
    pub status: String,
    /// Of 100.
    pub percent: u64,
    pub started_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the copy holds, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentRecord>,
}

/// A question and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryRecord {
    /// Counted up as questions are taken down.
    pub number: u64,
    pub id: String,
    #[serde(rename = "type")]
    pub query_type: String,
    pub asked_at: Timestamp,
    /// Who was called; none if nobody was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responder: Option<ConsumerName>,
    /// `client` (HTTP or a command), `delivery`, or `query` (a responder that was answering another one).
    pub asked_by: String,
    /// The consumer that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    /// The delivery that it was handling, and in which call of its handler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<u32>,
    /// Id of the question that it was answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    pub correlation_id: String,
    /// How many questions caused one another up to this one, itself included.
    pub depth: u32,
    pub outcome: QueryOutcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the question to the answer, waiting for a responder included.
    pub duration_ms: f64,
    /// Guest instructions of the responder.
    pub fuel: u64,
    pub question_bytes: u64,
    pub answer_bytes: u64,
    pub generation: Generation,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<LogLine>,
}

impl QueryRecord {
    /// Bytes of what its responder chose to leave: what bounds an answer.
    pub fn bytes(&self) -> usize {
        self.reason.as_ref().map_or(0, String::len) + self.logs.iter().map(LogLine::bytes).sum::<usize>()
    }
}

/// A replay and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayRecord {
    pub id: u64,
    /// `running`; `done` when everything that was made is final; `cancelled`.
    pub status: String,
    /// First and last event.
    pub from: Seq,
    pub to: Seq,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateText>,
    /// Events up to here were looked at.
    pub position: Seq,
    /// Deliveries made; of them, those that are final, that died, and that have failed and are tried again.
    pub made: u64,
    pub finished: u64,
    pub dead: u64,
    pub failing: u64,
    /// Not made, because a delivery of the same event to the same consumer was not final.
    pub skipped: u64,
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
}

impl ReplayRecord {
    pub fn new(replay: &Replay, failing: u64) -> Self {
        let spec = &replay.spec;
        Self {
            id: replay.id,
            status: replay.word().to_owned(),
            from: spec.from,
            to: spec.to,
            event_type: spec.event_type.as_ref().map(ToString::to_string),
            key: spec.key.clone(),
            correlation: spec.correlation.clone(),
            consumer: spec.consumer.clone(),
            rate: spec.rate.map(RateText),
            position: replay.position,
            made: replay.made,
            finished: replay.made.saturating_sub(replay.open),
            dead: replay.dead,
            failing,
            skipped: replay.skipped,
            created_at: replay.created_at,
            ended_at: replay.ended_at,
        }
    }
}

/// What a replay would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayPlan {
    pub from: Seq,
    pub to: Seq,
    /// Events that are delivered to anybody.
    pub events: u64,
    /// Deliveries to each consumer.
    pub deliveries: std::collections::BTreeMap<ConsumerName, u64>,
    pub skipped: u64,
}

/// One key of a consumer's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateRecord {
    pub consumer: ConsumerName,
    pub key: String,
    pub version: u64,
    pub bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The value if it is UTF-8, `valueBase64` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
}

impl StateRecord {
    /// Bytes of its value as shown.
    pub fn value_bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        text(&self.value) + text(&self.value_base64)
    }
}

/// An event, what came of its deliveries, and what they caused in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventTree {
    pub event: EventRecord,
    pub deliveries: Vec<DeliveryNode>,
    /// Runs of pipelines that it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunNode>,
    /// What was asked while deliveries were handled that left no other record: those to ephemeral consumers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<QueryNode>,
    /// Events caused by this one that no delivery of it published (the host's own).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventTree>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryNode {
    pub consumer: ConsumerName,
    pub round: u32,
    /// The step of a run that it does, or undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
    /// `succeeded`, `dead`, `pending`, `cancelled`.
    pub state: String,
    /// When its next attempt is due, if it waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// It waits for its ordering key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
    pub outcomes: Vec<OutcomeRecord>,
    /// What its handler asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<QueryNode>,
    /// Events that the delivery published.
    pub events: Vec<EventTree>,
}

/// A question, and what its responder asked in turn.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryNode {
    pub query: QueryRecord,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<QueryNode>,
}

/// A run, its deliveries and what the host told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunNode {
    pub run: RunRecord,
    /// Of its steps, in the order in which they were made.
    pub deliveries: Vec<DeliveryNode>,
    /// The host's events about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventTree>,
}
