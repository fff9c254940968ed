//! The words of a run: its name, how it and its steps stand, the lines of its journal and what they follow from.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::event::{HOST_SOURCE, RUN_PREFIX};
use crate::model::{ConsumerName, Envelope, Seq, Timestamp};

/// A run: the pipeline and the event that began it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub seq: Seq,
    pub pipeline: ConsumerName,
}

impl fmt::Display for RunId {
    /// `SEQ/PIPELINE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.seq, self.pipeline)
    }
}

impl std::str::FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no run: one is written SEQUENCE/PIPELINE, as 17/fulfil-order");
        let (seq, pipeline) = text.split_once('/').ok_or_else(wrong)?;
        let seq = seq.parse().map_err(|_| wrong())?;
        Ok(Self { seq, pipeline: ConsumerName::new(pipeline).map_err(|_| wrong())? })
    }
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    Running,
    Compensating,
    /// A compensation is dead: somebody must see to it.
    Stuck,
    Completed,
    /// It went on after a failed step, as the manifest says.
    Partial,
    Compensated,
    /// It failed and was left as it was, as the manifest says.
    Stopped,
    /// Somebody cancelled it; what was done is undone.
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Running,
        Self::Compensating,
        Self::Stuck,
        Self::Completed,
        Self::Partial,
        Self::Compensated,
        Self::Stopped,
        Self::Cancelled,
    ];

    /// The word used in SQL, metrics, JSON and prose.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Compensating => "compensating",
            Self::Stuck => "stuck",
            Self::Completed => "completed",
            Self::Partial => "partial",
            Self::Compensated => "compensated",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether something is still to come of it; a stopped run may be taken up again, but nothing will by itself.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Compensating | Self::Stuck)
    }
}

/// The end of a run that an event of the host's tells of.
pub fn ended(envelope: &Envelope) -> Option<(RunId, Status)> {
    let word = envelope.event_type.strip_prefix(RUN_PREFIX).filter(|_| envelope.source == HOST_SOURCE)?;
    let status = Status::parse(word).filter(|status| !status.is_open())?;
    Some((envelope.subject.as_deref()?.parse().ok()?, status))
}

/// How a step of a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    #[default]
    Pending,
    /// Its delivery is under way.
    Running,
    /// For its event.
    Waiting,
    Done,
    /// Its condition was not true.
    Skipped,
    Failed,
    /// Given up before it was done, because the run failed or was cancelled.
    Withdrawn,
    Undoing,
    Undone,
    /// Its compensation is dead.
    UndoFailed,
}

impl StepState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
            Self::UndoFailed => "undo-failed",
        }
    }
}

/// Why a run does not go on as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    StepFailed,
    TimedOut,
    Cancelled,
}

/// One line of a run's journal. Steps are given by their index in the definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    Began,
    /// A delivery to the step's consumer is made.
    StepBegan {
        step: usize,
    },
    WaitBegan {
        step: usize,
        until: Timestamp,
    },
    Skipped {
        step: usize,
    },
    /// `event`: the one that was waited for.
    Done {
        step: usize,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<Seq>,
    },
    Failed {
        step: usize,
        reason: String,
    },
    Withdrawn {
        step: usize,
    },
    /// From here on nothing more of it begins; what is under way is given up, or waited for if it is in hand.
    Failing {
        cause: Cause,
        reason: String,
    },
    Compensating,
    /// A delivery to the step's compensating consumer is made.
    UndoBegan {
        step: usize,
    },
    Undone {
        step: usize,
    },
    UndoFailed {
        step: usize,
        reason: String,
    },
    Ended {
        status: Status,
    },
    /// Somebody has the step tried again.
    Retried {
        step: usize,
    },
    /// Somebody has done what the step was to do.
    Resolved {
        step: usize,
    },
}

impl Entry {
    /// The step that it is about, if it is about one.
    pub fn step(&self) -> Option<usize> {
        match self {
            Self::StepBegan { step }
            | Self::WaitBegan { step, .. }
            | Self::Skipped { step }
            | Self::Done { step, .. }
            | Self::Failed { step, .. }
            | Self::Withdrawn { step }
            | Self::UndoBegan { step }
            | Self::Undone { step }
            | Self::UndoFailed { step, .. }
            | Self::Retried { step }
            | Self::Resolved { step } => Some(*step),
            Self::Began | Self::Failing { .. } | Self::Compensating | Self::Ended { .. } => None,
        }
    }

    /// Why the run does not go on as planned, if the entry says so.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failing { reason, .. } | Self::Failed { reason, .. } | Self::UndoFailed { reason, .. } => {
                Some(reason)
            }
            _ => None,
        }
    }

    /// Why a step has failed, if the entry says so.
    pub fn reason_of(&self, at: usize) -> Option<&str> {
        match self {
            Self::Failed { step, reason } | Self::UndoFailed { step, reason } if *step == at => Some(reason),
            _ => None,
        }
    }
}

/// What happens to a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Begin,
    /// The step's delivery is done.
    Done {
        step: usize,
    },
    /// The step's delivery is dead.
    Failed {
        step: usize,
        reason: String,
    },
    /// The step's delivery was given up before a handler was called again.
    Withdrawn {
        step: usize,
    },
    Undone {
        step: usize,
    },
    UndoFailed {
        step: usize,
        reason: String,
    },
    /// The event that the step waits for.
    Arrived {
        step: usize,
        event: Seq,
    },
    /// The event did not come in time.
    Late {
        step: usize,
    },
    /// The run's own time is up.
    TimedOut,
    Cancel {
        reason: String,
    },
    Retry {
        step: usize,
    },
    Resolve {
        step: usize,
    },
}

impl Input {
    /// The step that it gives an output to, if any comes with it.
    pub fn gives(&self) -> Option<usize> {
        match self {
            Self::Done { step } | Self::Resolve { step } => Some(*step),
            _ => None,
        }
    }
}

/// Why a person's order is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the run has ended as {}", .0.as_str())]
    Over(Status),
    #[error("the run is on its way to being undone already")]
    Undoing,
    /// `stands`: those for which it does stand still.
    #[error("the run does not stand still for step '{step}', which is {}; {}", .state.as_str(), for_which(.stands))]
    NotFailed { step: String, state: StepState, stands: Vec<String> },
    #[error("pipeline '{pipeline}' has no step '{step}'; its steps are {}", .known.join(", "))]
    NoStep { pipeline: ConsumerName, step: String, known: Vec<String> },
}

fn for_which(stands: &[String]) -> String {
    if stands.is_empty() {
        return "it goes on by itself, and there is no step to take up again".to_owned();
    }
    format!("it does for '{}'", stands.join("', '"))
}
