//! What a responder is given and what it says: a question, an answer, a refusal.

use std::error::Error;
use std::time::Duration;

use serde::Serialize;

use crate::Raw;
use crate::event::Data;

/// A question for a responder, with its data in the responder's own type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Question<T = Raw> {
    pub data: T,
    pub id: String,
    /// For example `stock.check`.
    pub question_type: String,
    pub correlation_id: String,
    /// How long there is for the answer.
    pub deadline: Duration,
}

/// What a responder says. `?` on any error means *unavailable*, with the error's text.
pub type Answer = Result<Raw, Refusal>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The question makes no sense.
    Invalid(String),
    /// It makes sense, and there is no answer.
    NotFound(String),
    /// Cannot answer now.
    Unavailable(String),
}

/// An answer as JSON.
///
/// # Errors
/// *Unavailable* if the value has no JSON form.
pub fn answer(value: impl Serialize) -> Answer {
    Ok(Raw::json(&value)?)
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Unavailable(error.into().to_string())
    }
}

/// A [`Question`], whatever its data. Lets the attribute name a responder's parameter as the user wrote it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a responder is given a `Question<T>`, and `{Self}` is none",
    label = "expected `Question<T>`",
    note = "the data can be any type that implements `Deserialize`"
)]
pub trait IsQuestion: Sized {
    /// # Errors
    /// *Invalid* if the data does not fit.
    fn from_raw(raw: Question) -> Result<Self, Refusal>;
}

impl<T: Data> IsQuestion for Question<T> {
    fn from_raw(raw: Question) -> Result<Self, Refusal> {
        let data = T::from_raw(raw.data)
            .map_err(|why| Refusal::Invalid(format!("data of {} does not fit: {why}", raw.question_type)))?;
        Ok(Self {
            data,
            id: raw.id,
            question_type: raw.question_type,
            correlation_id: raw.correlation_id,
            deadline: raw.deadline,
        })
    }
}

/// [`Answer`]. Lets the attribute name a responder's return type as the user wrote it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a responder returns `Answer`, not `{Self}`",
    label = "expected `Answer`",
    note = "end it with `answer(value)`; `?` on any error means unavailable"
)]
pub trait IsAnswer {
    fn into_answer(self) -> Answer;
}

impl IsAnswer for Answer {
    fn into_answer(self) -> Answer {
        self
    }
}
