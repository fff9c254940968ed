//! What can be asked of the record. The same fields are the parameters of HTTP and the flags of the commands.

use serde::{Deserialize, Serialize};

use super::limit::ANSWER_BYTES;
use super::pipeline::run::Status;
use super::{ConsumerName, Outcome, QueryOutcome, Seq, Timestamp};

/// Rows of one answer, at most.
pub const LIMIT_MAX: usize = 1_000;
/// Rows of one answer, unless asked otherwise.
pub const LIMIT: usize = 50;

/// Whether an answer is as long as it may be, so that there may be more: by its rows, or by their bytes.
pub fn is_full<T>(rows: &[T], limit: usize, bytes: impl Fn(&T) -> usize) -> bool {
    rows.len() >= limit || rows.iter().map(bytes).sum::<usize>() > ANSWER_BYTES
}

/// Takes rows until they are as many bytes as an answer has.
pub fn bounded<T, E>(rows: impl Iterator<Item = Result<T, E>>, bytes: impl Fn(&T) -> usize) -> Result<Vec<T>, E> {
    let (mut taken, mut total) = (Vec::new(), 0);
    for row in rows {
        let row = row?;
        total += bytes(&row);
        taken.push(row);
        if total > ANSWER_BYTES {
            break;
        }
    }
    Ok(taken)
}

/// Answers come in log order, `after` (exclusive) onwards; or with `newest`, the newest first, `before` (exclusive) downwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EventQuery {
    /// A pattern: `order.created`, `order.*`, `order.**`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// Accepted at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Accepted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    pub newest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// As [`EventQuery`]: the order is that of the numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct QuestionQuery {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub query_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub responder: Option<ConsumerName>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<QueryOutcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation: Option<String>,
    /// Asked at or after, and before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// By number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    pub newest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// As [`EventQuery`]: the order is that of the events, then consumer, round and call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OutcomeQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Of one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    pub newest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// As [`EventQuery`]. Without `status`, those that still are `dead`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct DeadLetterQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<ConsumerName>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// `rejected`, `refused`, `attempts-exhausted`, `expired`, `crashed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// `dead`, `redriven`, `discarded`, `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    pub newest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// As [`EventQuery`]: the order is that of the events that began the runs, then that of the pipelines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RunQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<ConsumerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Begun at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Begun before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Seq>,
    pub newest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Runs that stand so, or `open`: all that have not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RunStatus {
    Open,
    Is(Status),
}

impl RunStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Is(status) => status.as_str(),
        }
    }

    /// The statuses that fit.
    pub fn all(self) -> impl Iterator<Item = Status> {
        Status::ALL.into_iter().filter(move |status| match self {
            Self::Open => status.is_open(),
            Self::Is(wanted) => *status == wanted,
        })
    }
}

impl TryFrom<String> for RunStatus {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let known = || Status::ALL.map(Status::as_str).join(", ");
        match word.as_str() {
            "open" => Ok(Self::Open),
            word => Status::parse(word).map(Self::Is).ok_or_else(|| format!("use one of open, {}", known())),
        }
    }
}

impl From<RunStatus> for String {
    fn from(status: RunStatus) -> Self {
        status.as_str().to_owned()
    }
}

/// Keys of a consumer's state, in byte order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct StateQuery {
    pub prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}
