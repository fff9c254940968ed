//! From what the host hands over to the user's function and back: data that does not fit never reaches it.

use serde::de::DeserializeOwned;

use crate::answer::{Answer, IsAnswer, Question};
use crate::event::{IsEvent, Raw, RawEvent};
use crate::outcome::{Failure, IsOutcome, Outcome, reject};

/// One delivery to one handler.
pub fn handle<E: IsEvent, O: IsOutcome>(event: RawEvent, handler: impl Fn(E) -> O) -> Outcome {
    match E::from_raw(event) {
        Ok(event) => handler(event).into_outcome(),
        Err(why) => reject(why),
    }
}

/// Many deliveries to one handler. Those whose data does not fit are rejected one by one; the handler sees the rest and
/// gives a result for each. If it gives more or fewer, so do we: the host reports that as the consumer's error.
pub fn batch<E: IsEvent>(events: Vec<RawEvent>, handler: impl Fn(Vec<E>) -> Vec<Outcome>) -> Vec<Result<(), Failure>> {
    let mut fitting = Vec::with_capacity(events.len());
    let mut verdicts = Vec::with_capacity(events.len());
    for event in events {
        match E::from_raw(event) {
            Ok(event) => {
                fitting.push(event);
                verdicts.push(None);
            }
            Err(why) => verdicts.push(Some(Err(Failure::reject(why)))),
        }
    }
    let mut outcomes = handler(fitting).into_iter().map(|outcome| outcome.map(drop));
    let mut verdicts: Vec<_> = verdicts.into_iter().filter_map(|verdict| verdict.or_else(|| outcomes.next())).collect();
    verdicts.extend(outcomes);
    verdicts
}

/// Undoes a step, given what the step left behind. An output that does not fit is *rejected*.
pub fn compensate<E: IsEvent, T: DeserializeOwned, O: IsOutcome>(
    event: RawEvent,
    output: Option<Raw>,
    compensator: impl Fn(E, Option<T>) -> O,
) -> Outcome {
    let output = match output.map(|raw| serde_json::from_slice(&raw.bytes)).transpose() {
        Ok(output) => output,
        Err(why) => return reject(format!("output of the step does not fit: {why}")),
    };
    match E::from_raw(event) {
        Ok(event) => compensator(event, output).into_outcome(),
        Err(why) => reject(why),
    }
}

/// One question to one responder.
pub fn answered<T: DeserializeOwned, A: IsAnswer>(
    question: Question<Raw>,
    responder: impl Fn(Question<T>) -> A,
) -> Answer {
    responder(question.read()?).into_answer()
}
