//! Questions and answers: request and reply. A question is not durable: whoever asks waits, and asks again if there is no answer.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConsumerName, DeliveryId, Generation, LogLine, Outcome, Payload, Timestamp};

/// A question on its way to one of those who answer its type.
#[derive(Clone, Debug)]
pub struct Question {
    /// For example `stock.check`.
    pub query_type: String,
    pub payload: Payload,
    /// None: the id that the question gets.
    pub correlation_id: Option<String>,
    pub traceparent: Option<String>,
    pub asker: Asker,
    /// How many questions caused one another up to this one, itself included.
    pub depth: u32,
    /// On the monotonic clock: nobody waits for the answer after this.
    pub until: Duration,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asker {
    /// Somebody outside, over HTTP or with a command.
    Client,
    /// A call of a handler.
    Delivery { id: DeliveryId, call: u32 },
    /// A consumer that is answering this question.
    Responder { query: String, consumer: ConsumerName },
}

/// Why a responder gives no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The question makes no sense.
    Invalid(String),
    /// It makes sense, and there is no answer.
    NotFound(String),
    /// No answer now; another time there may be one.
    Unavailable(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// Nobody answers questions of this type.
    NoResponder,
    /// The time limit passed first; says whose.
    TimedOut(String),
    Refused(Refusal),
    /// The responder failed, and how.
    Failed(Outcome, String),
}

impl Unanswered {
    pub fn outcome(&self) -> QueryOutcome {
        match self {
            Self::NoResponder => QueryOutcome::NoResponder,
            Self::TimedOut(_) => QueryOutcome::TimedOut,
            Self::Refused(Refusal::Invalid(_)) => QueryOutcome::Invalid,
            Self::Refused(Refusal::NotFound(_)) => QueryOutcome::NotFound,
            Self::Refused(Refusal::Unavailable(_)) => QueryOutcome::Unavailable,
            Self::Failed(..) => QueryOutcome::Failed,
        }
    }

    /// A sentence for people.
    pub fn reason(&self) -> String {
        match self {
            Self::NoResponder => "nobody answers questions of this type".into(),
            Self::TimedOut(why) => why.clone(),
            Self::Refused(Refusal::Invalid(why) | Refusal::NotFound(why) | Refusal::Unavailable(why)) => why.clone(),
            Self::Failed(outcome, why) => format!("{}: {why}", outcome.as_str()),
        }
    }
}

/// What came of a question, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueryOutcome {
    Answered,
    NoResponder,
    TimedOut,
    Invalid,
    NotFound,
    Unavailable,
    Failed,
    /// Whoever had asked did not wait for the answer.
    Abandoned,
}

impl QueryOutcome {
    pub const ALL: [Self; 8] = [
        Self::Answered,
        Self::NoResponder,
        Self::TimedOut,
        Self::Invalid,
        Self::NotFound,
        Self::Unavailable,
        Self::Failed,
        Self::Abandoned,
    ];

    /// The word used in SQL, metrics, JSON and prose.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NoResponder => "no-responder",
            Self::TimedOut => "timed-out",
            Self::Invalid => "invalid",
            Self::NotFound => "not-found",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// What came of a question.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The question's.
    pub id: String,
    pub correlation_id: String,
    /// Who was called, if somebody was.
    pub responder: Option<ConsumerName>,
    pub answer: Result<Payload, Unanswered>,
    /// From the question to the answer.
    pub duration: Duration,
}

impl Reply {
    pub fn outcome(&self) -> QueryOutcome {
        self.answer.as_ref().map_or_else(Unanswered::outcome, |_| QueryOutcome::Answered)
    }
}

/// What is written down about a question.
#[derive(Clone, Debug)]
pub struct QueryNote {
    pub question: Arc<Question>,
    pub id: String,
    pub correlation_id: String,
    pub asked_at: Timestamp,
    pub responder: Option<ConsumerName>,
    pub generation: Generation,
    pub outcome: QueryOutcome,
    pub reason: Option<String>,
    pub duration: Duration,
    /// Guest instructions of the responder.
    pub fuel: u64,
    pub answer_bytes: u64,
    pub logs: Vec<LogLine>,
}

impl QueryNote {
    /// About what it adds to the database.
    pub fn bytes(&self) -> usize {
        let reason = self.reason.as_ref().map_or(0, String::len);
        self.question.query_type.len() + reason + self.logs.iter().map(LogLine::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_have_no_answer_has_a_word_and_a_reason_of_its_own() {
        let why = || "why".to_owned();
        let all = [
            Unanswered::NoResponder,
            Unanswered::TimedOut(why()),
            Unanswered::Refused(Refusal::Invalid(why())),
            Unanswered::Refused(Refusal::NotFound(why())),
            Unanswered::Refused(Refusal::Unavailable(why())),
            Unanswered::Failed(Outcome::OutOfFuel, why()),
        ];
        let words: Vec<&str> = all.iter().map(|unanswered| unanswered.outcome().as_str()).collect();
        assert_eq!(words, ["no-responder", "timed-out", "invalid", "not-found", "unavailable", "failed"]);
        assert_eq!(all[5].reason(), "out-of-fuel: why");
        for outcome in QueryOutcome::ALL {
            assert_eq!(QueryOutcome::parse(outcome.as_str()), Some(outcome));
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
        }
    }
}
