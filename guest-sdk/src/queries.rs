//! Questions to other consumers, and their answers.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::event::Data;
use crate::{Raw, Refusal, host};

/// How long [`ask`] waits.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks a question and waits for the answer, 5 seconds at most, and never beyond the attempt's own time limit.
///
/// The manifest grants it: `grants: { queries: stock.check }`. Both go as JSON; an answer can also be taken as [`Raw`].
///
/// ```no_run
/// # use tidegate_sdk::prelude::*;
/// # fn handle(sku: String) -> Result<u32, queries::Error> {
/// let in_stock: u32 = queries::ask("stock.check", &json!({ "sku": sku }))?;
/// # Ok(in_stock) }
/// ```
///
/// # Errors
/// See [`Error`]. `?` in a handler means *retry*, in a responder *unavailable*.
pub fn ask<Q: Serialize + ?Sized, A: Data>(query_type: &str, question: &Q) -> Result<A, Error> {
    ask_within(query_type, question, TIMEOUT)
}

/// As [`ask`], within another time.
///
/// # Errors
/// See [`Error`].
pub fn ask_within<Q: Serialize + ?Sized, A: Data>(
    query_type: &str,
    question: &Q,
    timeout: Duration,
) -> Result<A, Error> {
    let answer = ask_raw(query_type, Raw::json(question).map_err(Error::Data)?, timeout)?;
    A::from_raw(answer).map_err(Error::Answer)
}

/// As [`ask_within`], with the bytes as they are.
///
/// # Errors
/// See [`Error`].
pub fn ask_raw(query_type: &str, question: Raw, timeout: Duration) -> Result<Raw, Error> {
    host::ask(query_type, question, timeout)
}

/// Why there is no answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The manifest does not grant questions of this type.
    NotGranted(String),
    /// Not a question's type, or not a payload.
    Invalid(String),
    /// The largest question allowed, in bytes.
    TooLarge(u64),
    /// The number of questions that one attempt may ask.
    TooMany(u32),
    /// How deep questions may cause one another.
    ChainTooDeep(u32),
    /// Nobody answers questions of this type.
    NoResponder,
    /// No answer within the time.
    TimedOut,
    /// What the responder said instead of an answer; *unavailable* also if it is paused or there are too many questions.
    Refused(Refusal),
    /// The responder trapped, used up its fuel or the like.
    Failed(String),
    /// The question has no JSON form.
    Data(serde_json::Error),
    /// The answer does not fit what was asked for; says where.
    Answer(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(what) => write!(f, "asking is not granted: {what}"),
            Self::Invalid(why) => write!(f, "the question is not valid: {why}"),
            Self::TooLarge(max) => write!(f, "the question is larger than {max} bytes"),
            Self::TooMany(max) => write!(f, "more than {max} questions asked in one attempt"),
            Self::ChainTooDeep(max) => write!(f, "more than {max} questions would cause one another"),
            Self::NoResponder => f.write_str("nobody answers questions of this type"),
            Self::TimedOut => f.write_str("there was no answer in time"),
            Self::Refused(Refusal::Invalid(why)) => write!(f, "the question was refused as invalid: {why}"),
            Self::Refused(Refusal::NotFound(why)) => write!(f, "nothing was found: {why}"),
            Self::Refused(Refusal::Unavailable(why)) => write!(f, "the question cannot be answered now: {why}"),
            Self::Failed(why) => write!(f, "the responder failed: {why}"),
            Self::Data(error) => write!(f, "the question has no JSON form: {error}"),
            Self::Answer(why) => write!(f, "the answer does not fit: {why}"),
        }
    }
}

impl std::error::Error for Error {}
