//! What the attributes' generated code calls: each takes the contract's values and the user's function.

use super::convert;
use super::imports::tidegate::consumer::types;
use crate::answer::{IsAnswer, IsQuestion};
use crate::event::{IsBatch, IsEvent, IsOutput};
use crate::outcome::{IsOutcome, IsOutcomes};

pub use super::batch_handler::exports::tidegate::consumer::batch_handler::Guest as BatchGuest;
pub use super::compensator::exports::tidegate::consumer::compensator::Guest as CompensatorGuest;
pub use super::handler::exports::tidegate::consumer::handler::Guest as HandlerGuest;
pub use super::responder::exports::tidegate::consumer::responder::{
    Guest as ResponderGuest, Question as AskedQuestion,
};
pub use types::{Delivery, Failure, Payload, Refusal};

pub fn handle<E: IsEvent, O: IsOutcome>(
    delivery: Delivery,
    handler: impl Fn(E) -> O,
) -> Result<Option<Payload>, Failure> {
    match crate::invoke::handle(convert::event(delivery), handler) {
        Ok(done) => Ok(done.output.map(convert::payload)),
        Err(failure) => Err(convert::failure(failure)),
    }
}

pub fn batch<B: IsBatch, O: IsOutcomes>(
    deliveries: Vec<Delivery>,
    handler: impl Fn(B) -> O,
) -> Vec<Result<(), Failure>> {
    let events = deliveries.into_iter().map(convert::event).collect();
    crate::invoke::batch(events, handler).into_iter().map(|result| result.map_err(convert::failure)).collect()
}

pub fn compensate<E: IsEvent, P: IsOutput, O: IsOutcome>(
    delivery: Delivery,
    output: Option<Payload>,
    compensator: impl Fn(E, P) -> O,
) -> Result<(), Failure> {
    crate::invoke::compensate(convert::event(delivery), output.map(convert::raw), compensator)
        .map(drop)
        .map_err(convert::failure)
}

pub fn answered<Q: IsQuestion, A: IsAnswer>(
    question: AskedQuestion,
    responder: impl Fn(Q) -> A,
) -> Result<Payload, Refusal> {
    match crate::invoke::answered(convert::question(question), responder) {
        Ok(raw) => Ok(convert::payload(raw)),
        Err(refusal) => Err(convert::refusal(refusal)),
    }
}
