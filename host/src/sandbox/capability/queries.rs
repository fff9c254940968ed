//! Questions to other consumers: granted by type, bounded in number, bytes, depth and time.

use std::sync::Arc;
use std::time::Duration;

use super::super::bindings::queries::{self, AskError};
use super::super::bindings::types::{Payload, Refusal as Refused};
use super::super::convert;
use super::super::instance::Host;
use crate::model::limit::{QUESTION_BYTES_MAX, QUESTION_DEPTH_MAX, QUESTIONS_MAX};
use crate::model::question::{Question, Refusal, Unanswered};
use crate::model::{self, route};

impl queries::Host for Host {
    async fn ask(
        &mut self,
        query_type: String,
        question: Payload,
        timeout_ms: u64,
    ) -> wasmtime::Result<Result<Payload, AskError>> {
        self.account.enter(query_type.len() + question.content_type.len() + question.data.len())?;
        let question = match self.question(query_type, question, timeout_ms) {
            Ok(question) => question,
            Err(error) => return Ok(Err(error)),
        };
        let asker = Arc::clone(&self.consumer.dependencies.asker);
        let answer = asker.ask(question).await;
        if let Ok(payload) = &answer {
            self.account.charge(payload.data.len());
        }
        Ok(answer.map(|payload| convert::given(&payload)).map_err(unanswered))
    }
}

impl Host {
    fn question(&mut self, query_type: String, payload: Payload, timeout_ms: u64) -> Result<Question, AskError> {
        self.may_ask(&query_type)?;
        if self.questions >= QUESTIONS_MAX {
            return Err(AskError::TooMany(QUESTIONS_MAX));
        }
        if payload.data.len() > QUESTION_BYTES_MAX {
            return Err(AskError::TooLarge(QUESTION_BYTES_MAX as u64));
        }
        let payload = convert::payload(payload).map_err(AskError::Invalid)?;
        let depth_max = self.limits.chain_depth.min(QUESTION_DEPTH_MAX);
        let (asker, depth) = self.cause.asker(&self.consumer.name);
        if depth >= depth_max {
            self.refuse(format!("asking '{query_type}' would make a chain of more than {depth_max} questions"));
            return Err(AskError::ChainTooDeep(depth_max));
        }
        self.questions += 1;
        let cause = &self.cause.event().envelope;
        let wait = Duration::from_millis(timeout_ms).min(self.remaining());
        Ok(Question {
            query_type,
            payload: payload.unwrap_or_else(model::Payload::nothing),
            correlation_id: Some(cause.correlation_id.clone()),
            traceparent: cause.traceparent.clone(),
            asker,
            depth: depth + 1,
            until: self.clock.monotonic() + wait,
        })
    }

    fn may_ask(&mut self, query_type: &str) -> Result<(), AskError> {
        route::check_type(query_type).map_err(AskError::Invalid)?;
        if self.consumer.grants.queries.iter().any(|pattern| pattern.matches(query_type)) {
            return Ok(());
        }
        self.refuse(format!("asking '{query_type}' is not granted: name it under grants.queries"));
        Err(AskError::NotGranted(query_type.to_owned()))
    }
}

fn unanswered(unanswered: Unanswered) -> AskError {
    match unanswered {
        Unanswered::NoResponder => AskError::NoResponder,
        Unanswered::TimedOut(_) => AskError::TimedOut,
        Unanswered::Refused(Refusal::Invalid(why)) => AskError::Refused(Refused::Invalid(why)),
        Unanswered::Refused(Refusal::NotFound(why)) => AskError::Refused(Refused::NotFound(why)),
        Unanswered::Refused(Refusal::Unavailable(why)) => AskError::Refused(Refused::Unavailable(why)),
        failed @ Unanswered::Failed(..) => AskError::Failed(failed.reason()),
    }
}
