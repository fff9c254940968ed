//! From what the host hands over to the user's function and back: data that does not fit never reaches it.

use crate::answer::{Answer, IsAnswer, IsQuestion, Question};
use crate::event::{IsBatch, IsEvent, IsOutput, Raw, RawEvent};
use crate::outcome::{Failure, IsOutcome, IsOutcomes, Outcome, reject};

/// One delivery to one handler.
pub fn handle<E: IsEvent, O: IsOutcome>(event: RawEvent, handler: impl Fn(E) -> O) -> Outcome {
    match E::from_raw(event) {
        Ok(event) => handler(event).into_outcome(),
        Err(why) => reject(why),
    }
}

/// Many deliveries to one handler. Those whose data does not fit are rejected one by one; the handler sees the rest and
/// gives a result for each; it is not called with nothing. If it gives more or fewer, so do we: the host reports that as the consumer's error.
pub fn batch<B: IsBatch, O: IsOutcomes>(events: Vec<RawEvent>, handler: impl Fn(B) -> O) -> Vec<Result<(), Failure>> {
    let mut fitting = Vec::with_capacity(events.len());
    let mut verdicts = Vec::with_capacity(events.len());
    for event in events {
        match B::Event::from_raw(event) {
            Ok(event) => {
                fitting.push(event);
                verdicts.push(None);
            }
            Err(why) => verdicts.push(Some(Err(Failure::reject(why)))),
        }
    }
    if fitting.is_empty() {
        return verdicts.into_iter().flatten().collect();
    }
    let mut outcomes = handler(B::of(fitting)).into_outcomes().into_iter().map(|outcome| outcome.map(drop));
    let mut verdicts: Vec<_> = verdicts.into_iter().filter_map(|verdict| verdict.or_else(|| outcomes.next())).collect();
    verdicts.extend(outcomes);
    verdicts
}

/// Undoes a step, given what the step left behind. An output that does not fit is *rejected*.
pub fn compensate<E: IsEvent, P: IsOutput, O: IsOutcome>(
    event: RawEvent,
    output: Option<Raw>,
    compensator: impl Fn(E, P) -> O,
) -> Outcome {
    let output = match P::from_raw(output) {
        Ok(output) => output,
        Err(why) => return reject(why),
    };
    match E::from_raw(event) {
        Ok(event) => compensator(event, output).into_outcome(),
        Err(why) => reject(why),
    }
}

/// One question to one responder.
pub fn answered<Q: IsQuestion, A: IsAnswer>(question: Question, responder: impl Fn(Q) -> A) -> Answer {
    responder(Q::from_raw(question)?).into_answer()
}
