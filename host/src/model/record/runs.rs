//! Runs of pipelines, as they are shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{ConsumerName, Seq, Timestamp, present};
use crate::model::pipeline::run::{Entry, Status, StepState};
use crate::model::pipeline::{Definition, OnFailure};

/// A run and how it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// `SEQ/PIPELINE`: what `runs`, `runs cancel`, `runs retry-step` and `runs resolve` take.
    pub id: String,
    pub pipeline: ConsumerName,
    /// Of a pipeline that has a `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub status: Status,
    /// The event that began it.
    pub sequence: Seq,
    pub event_id: String,
    pub event_type: String,
    pub began_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// From its beginning to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// SHA-256 of the definition that it goes by.
    pub definition: String,
    /// How many of its steps stand how: `done`, `failed` and so on.
    pub step_counts: BTreeMap<String, u32>,
    /// Why it did not go as planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// One run in full.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunDetail {
    pub run: RunRecord,
    pub on_failure: OnFailure,
    /// When its time is up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// In the order of the definition.
    pub steps: Vec<StepRecord>,
    pub journal: Vec<JournalRecord>,
}

/// One step of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    pub name: String,
    /// The steps that must be over before it begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// `pending`, `running`, `waiting`, `done`, `skipped`, `failed`, `withdrawn`, `undoing`, `undone`, `undo-failed`.
    pub state: StepState,
    pub work: WorkRecord,
    /// What it waits for, or has waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitRecord>,
    /// An operator has said that it is done, or undone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resolved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensation: Option<WorkRecord>,
    /// What it left behind, if that is JSON: the bytes as they came.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_base64: Option<String>,
}

/// Doing a step, or undoing it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkRecord {
    /// Who does it; none for a wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// Attempts that were charged, over all its deliveries.
    pub attempts: u32,
    /// `SEQ/CONSUMER/ROUND`, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<String>,
    /// When the next attempt is due, if one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<Timestamp>,
    /// It waits for others with its ordering key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
    /// Why it failed, or what the last attempt said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitRecord {
    #[serde(rename = "type")]
    pub event_type: String,
    /// That the event must have; only while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The event that came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Seq>,
}

/// One line of a run's journal: `entry` says what happened, the other members are its own; `step` is a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalRecord {
    /// From 0.
    pub line: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub entry: Map<String, Value>,
}

impl JournalRecord {
    pub fn new(definition: &Definition, line: u64, at: Timestamp, entry: &Entry) -> Self {
        let mut members = match serde_json::to_value(entry) {
            Ok(Value::Object(members)) => members,
            _ => Map::new(),
        };
        if let Some(step) = entry.step().and_then(|step| definition.steps.get(step)) {
            members.insert("step".into(), step.name.clone().into());
        }
        Self { line, at, entry: members }
    }

    /// What happened, in a word.
    pub fn word(&self) -> &str {
        self.text("entry").unwrap_or_default()
    }

    pub fn text(&self, member: &str) -> Option<&str> {
        self.entry.get(member)?.as_str()
    }
}
