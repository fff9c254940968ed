//! One answer: the responder called in a fresh instance, for as long as somebody waits.

use wasmtime::Store;

use super::attempt::{LoadedComponent, Remains};
use super::bindings::RespondingPre;
use super::bindings::types;
use super::cause::Cause;
use super::deadline::Allowance;
use super::instance::Host;
use super::{Answered, QuestionCall, convert, text};
use crate::model::limit::ANSWER_PAYLOAD_BYTES_MAX;
use crate::model::question::{Refusal, Unanswered};
use crate::model::{Outcome, Payload, Report};

impl LoadedComponent {
    pub(super) async fn respond(&self, pre: &RespondingPre<Host>, call: QuestionCall) -> Answered {
        let limits = self.consumer.limits;
        let left = call.question.until.saturating_sub(self.runtime.clock.monotonic());
        if left.is_zero() {
            let late = Unanswered::TimedOut("the time was over before the responder was called".to_owned());
            return Answered::bare(Err(late), self.runtime.clock.now());
        }
        let asked = convert::question(&call, limits.timeout.min(left));
        let answer = async |store: &mut Store<Host>| {
            let instance = pre.instantiate_async(&mut *store).await?;
            instance.tidegate_consumer_responder().call_answer(store, &asked).await
        };
        let allowance = Allowance::fixed(limits.timeout.min(left));
        match self.under(Cause::question(&call), limits, allowance, answer).await {
            Ok((word, remains)) => answered(said(word), remains),
            Err(failed) => Answered {
                answer: Err(failure(&failed)),
                started_at: failed.started_at,
                usage: failed.usage,
                logs: failed.logs,
            },
        }
    }
}

fn answered(answer: Result<Payload, Unanswered>, remains: Remains) -> Answered {
    Answered { answer, started_at: remains.started_at, usage: remains.usage, logs: remains.logs }
}

/// What the responder returned.
fn said(word: Result<types::Payload, types::Refusal>) -> Result<Payload, Unanswered> {
    let refused = |refusal: fn(String) -> Refusal, why: &str| Err(Unanswered::Refused(refusal(text::reason(why))));
    match word {
        Ok(payload) if payload.data.len() > ANSWER_PAYLOAD_BYTES_MAX => {
            let bytes = payload.data.len();
            let reason = format!("an answer of {bytes} bytes; the limit is {ANSWER_PAYLOAD_BYTES_MAX}");
            Err(Unanswered::Failed(Outcome::OverLimit, reason))
        }
        Ok(payload) => match convert::payload(payload) {
            Ok(payload) => Ok(payload.unwrap_or_else(Payload::nothing)),
            Err(problem) => {
                Err(Unanswered::Failed(Outcome::Trapped, format!("the responder's answer is not valid: {problem}")))
            }
        },
        Err(types::Refusal::Invalid(why)) => refused(Refusal::Invalid, &why),
        Err(types::Refusal::NotFound(why)) => refused(Refusal::NotFound, &why),
        Err(types::Refusal::Unavailable(why)) => refused(Refusal::Unavailable, &why),
    }
}

/// Why it returned nothing. Time is time, whoever's limit it was; what the host could not give is not the responder's doing.
fn failure(report: &Report) -> Unanswered {
    let reason = report.reason.clone().unwrap_or_default();
    match report.outcome {
        Outcome::TimedOut => Unanswered::TimedOut(format!("the responder was {reason}")),
        Outcome::Interrupted => Unanswered::Refused(Refusal::Unavailable(reason)),
        outcome => Unanswered::Failed(outcome, reason),
    }
}
