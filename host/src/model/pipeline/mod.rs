//! Pipelines: what a manifest says of one. What becomes of one run of it is [`run`].
//!
//! However a manifest nests its steps, here they are one list in which each says which ones it comes after: a step that
//! follows a parallel block comes after the last step of each of its branches.

pub mod errand;
pub mod journal;
pub mod kept;
pub mod run;
pub mod timeline;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::retry::RetryPolicy;
use super::spec::SubscriptionSpec;
use super::{ConsumerName, Digest, Expression, TypePattern};

/// Steps of one pipeline.
pub const STEPS_MAX: usize = 64;
/// Bytes of a step's name.
pub const STEP_NAME_BYTES_MAX: usize = 63;

/// A pipeline: which events begin a run of it, and what a run does. Pipelines and consumers share one space of names.
#[derive(Clone, Debug, PartialEq)]
pub struct PipelineSpec {
    pub name: ConsumerName,
    /// Which events begin a run.
    pub subscriptions: Vec<SubscriptionSpec>,
    /// One run a key, open or ended; none: one run an event.
    pub key: Option<Expression>,
    pub definition: Definition,
}

/// What a run goes by from its beginning to its end, whatever is deployed meanwhile. Kept with the runs as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Definition {
    pub pipeline: ConsumerName,
    /// In the order written; a step comes after others of a lower index only.
    pub steps: Vec<StepSpec>,
    /// A run that has not ended so long after it began has failed.
    pub timeout: Option<Duration>,
    pub on_failure: OnFailure,
}

impl Definition {
    /// What tells two definitions apart.
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_json().as_bytes())
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub fn step(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// The steps that are over before a step begins, in the order written.
    pub fn before(&self, step: usize) -> Vec<usize> {
        let mut before = BTreeSet::new();
        let mut open = vec![step];
        while let Some(step) = open.pop() {
            let after = self.steps.get(step).map(|step| step.after.as_slice()).unwrap_or_default();
            open.extend(after.iter().filter(|step| before.insert(**step)));
        }
        before.into_iter().collect()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepSpec {
    /// A letter, then letters, digits and `_`; unique within the pipeline. Expressions know its output as `steps.NAME`.
    pub name: String,
    /// Steps that must be over before this one begins.
    pub after: Vec<usize>,
    /// It is skipped unless this is true.
    pub when: Option<Expression>,
    pub work: Work,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    Call(CallSpec),
    Wait(WaitSpec),
}

impl Work {
    pub fn call(&self) -> Option<&CallSpec> {
        if let Self::Call(call) = self { Some(call) } else { None }
    }

    pub fn wait(&self) -> Option<&WaitSpec> {
        if let Self::Wait(wait) = self { Some(wait) } else { None }
    }
}

/// A delivery of the run's event to a consumer. Limits that are given hold instead of the consumer's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CallSpec {
    pub consumer: ConsumerName,
    /// Who undoes the step once it is done.
    pub compensate: Option<ConsumerName>,
    pub retry: Option<RetryPolicy>,
    #[serde(flatten)]
    pub limits: StepLimits,
}

/// Limits of one step's attempts, where they differ from the consumer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StepLimits {
    /// Wall clock of an attempt.
    pub timeout: Option<Duration>,
    /// Guest instructions of an attempt.
    pub fuel: Option<u64>,
    /// Linear memory of an attempt, in bytes.
    pub memory: Option<u64>,
}

/// A wait for an event that comes after the run's own: one for which `event` gives the key that `run` gives for the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WaitSpec {
    pub pattern: TypePattern,
    /// Of the event waited for.
    pub event: Expression,
    /// Of the run's event and the outputs of its steps.
    pub run: Expression,
    /// After this the step has failed.
    pub timeout: Duration,
}

impl WaitSpec {
    pub fn subscription(&self) -> SubscriptionSpec {
        SubscriptionSpec { pattern: self.pattern.clone(), version: None, condition: None }
    }
}

/// What becomes of a run when a step fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// The steps that are done are undone, the last one first.
    #[default]
    Compensate,
    /// The run stops as it is, and can go on from the step once somebody has mended it.
    Stop,
    /// The other steps go on; the run ends as partial.
    Continue,
}

impl OnFailure {
    /// The word used in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Compensate => "compensate",
            Self::Stop => "stop",
            Self::Continue => "continue",
        }
    }
}
