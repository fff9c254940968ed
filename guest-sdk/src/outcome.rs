//! What a handler says when it is through: four outcomes, shaped as a `Result` so that `?` works.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::Raw;

/// What came of an attempt. `?` on any error means *retry*, with the error's text as the reason.
pub type Outcome = Result<Done, Failure>;

/// The attempt is done; may carry an output, which the record of the outcome and the later steps of a pipeline see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Done {
    pub output: Option<Raw>,
}

/// Why an attempt did not succeed, and what should happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Try again, after the given time or as the manifest's retry policy says.
    Retry { reason: String, after: Option<Duration> },
    /// Not now: come back after the given time. Costs no attempt.
    Defer { reason: String, after: Duration },
    /// Never again: straight to the dead letters.
    Reject { reason: String },
}

/// Done, with nothing to add.
#[expect(clippy::missing_errors_doc, reason = "it is a constructor of the good outcome")]
pub fn done() -> Outcome {
    Ok(Done { output: None })
}

/// Done, with an output as JSON.
///
/// # Errors
/// An output that has no JSON form is *rejected*: another attempt would make the same one.
pub fn done_with(output: impl Serialize) -> Outcome {
    match Raw::json(&output) {
        Ok(output) => Ok(Done { output: Some(output) }),
        Err(error) => reject(format!("output has no JSON form: {error}")),
    }
}

/// Try again as the manifest's retry policy says.
///
/// # Errors
/// Always: that is what it is for. So are those below.
pub fn retry(reason: impl Into<String>) -> Outcome {
    Err(Failure::retry(reason))
}

/// Try again after `delay`.
///
/// # Errors
/// Always.
pub fn retry_after(reason: impl Into<String>, delay: Duration) -> Outcome {
    Err(Failure::retry_after(reason, delay))
}

/// Not now: come back after `delay`. Costs no attempt, but waits at least 100 ms, and longer the more often it is said: that doubles
/// with every ten calls that were not charged, up to 30 s.
///
/// # Errors
/// Always.
pub fn defer(reason: impl Into<String>, delay: Duration) -> Outcome {
    Err(Failure::defer(reason, delay))
}

/// Never again: straight to the dead letters.
///
/// # Errors
/// Always.
pub fn reject(reason: impl Into<String>) -> Outcome {
    Err(Failure::reject(reason))
}

/// The same as the functions of the same names, for places that want an error: `.ok_or_else(|| Failure::reject("…"))?`.
impl Failure {
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    pub fn retry_after(reason: impl Into<String>, delay: Duration) -> Self {
        Self::Retry { reason: reason.into(), after: Some(delay) }
    }

    pub fn defer(reason: impl Into<String>, delay: Duration) -> Self {
        Self::Defer { reason: reason.into(), after: delay }
    }

    pub fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into() }
    }

    pub fn reason(&self) -> &str {
        match self {
            Self::Retry { reason, .. } | Self::Defer { reason, .. } | Self::Reject { reason } => reason,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { reason, after: None } => write!(f, "retry: {reason}"),
            Self::Retry { reason, after: Some(after) } => write!(f, "retry after {after:?}: {reason}"),
            Self::Defer { reason, after } => write!(f, "defer for {after:?}: {reason}"),
            Self::Reject { reason } => write!(f, "reject: {reason}"),
        }
    }
}

/// Any error, and any text, is a reason to try again. `Failure` is no `Error` itself, or this could not be.
impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::retry(story(error.into().as_ref()))
    }
}

/// An error's text and that of everything that caused it. A cause that its effect already quotes is not said twice.
fn story(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// Says what an error means where it happens: `.or_reject()?` for what no further attempt can mend,
/// `.or_defer(delay)?` for what only needs time. Plain `?` means *retry*.
pub trait OrFail<T> {
    /// # Errors
    /// *Reject*, with the error's text.
    fn or_reject(self) -> Result<T, Failure>;

    /// # Errors
    /// *Retry* after `delay`, with the error's text.
    fn or_retry_after(self, delay: Duration) -> Result<T, Failure>;

    /// # Errors
    /// *Defer* for `delay`, with the error's text.
    fn or_defer(self, delay: Duration) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> OrFail<T> for Result<T, E> {
    fn or_reject(self) -> Result<T, Failure> {
        self.map_err(|error| Failure::reject(story(error.into().as_ref())))
    }

    fn or_retry_after(self, delay: Duration) -> Result<T, Failure> {
        self.map_err(|error| Failure::retry_after(story(error.into().as_ref()), delay))
    }

    fn or_defer(self, delay: Duration) -> Result<T, Failure> {
        self.map_err(|error| Failure::defer(story(error.into().as_ref()), delay))
    }
}

/// [`Outcome`]. Lets the attributes name a handler's return type as the user wrote it.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a handler returns `Outcome`, not `{Self}`",
    label = "expected `Outcome`",
    note = "end it with `done()`; `?` on any error means retry"
)]
pub trait IsOutcome {
    fn into_outcome(self) -> Outcome;
}

impl IsOutcome for Outcome {
    fn into_outcome(self) -> Outcome {
        self
    }
}

/// An [`Outcome`] for each event of a batch. See [`IsOutcome`].
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a batch handler returns `Vec<Outcome>`, not `{Self}`",
    label = "expected `Vec<Outcome>`",
    note = "one outcome for each event, in the same order"
)]
pub trait IsOutcomes {
    fn into_outcomes(self) -> Vec<Outcome>;
}

impl IsOutcomes for Vec<Outcome> {
    fn into_outcomes(self) -> Vec<Outcome> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("quantity is unreadable")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn quantity(text: &str) -> Outcome {
        let quantity: u32 = text.parse().map_err(Outer)?;
        if quantity == 0 {
            Err("nothing ordered")?;
        }
        if quantity > 9 {
            return Err(Failure::reject("too many"));
        }
        done_with(quantity)
    }

    #[test]
    fn any_error_is_a_retry_with_its_whole_story() {
        assert_eq!(quantity("x"), retry("quantity is unreadable: invalid digit found in string"));
        assert_eq!(quantity("0"), retry("nothing ordered"));
        assert_eq!(quantity("10"), reject("too many"));
        assert_eq!(quantity("3").unwrap().output.unwrap().bytes, b"3");
    }

    #[test]
    fn an_error_can_be_given_another_meaning() {
        let unreadable = || "x".parse::<u32>();
        let minute = Duration::from_secs(60);
        assert!(matches!(unreadable().or_reject(), Err(Failure::Reject { .. })));
        assert!(matches!(unreadable().or_retry_after(minute), Err(Failure::Retry { after: Some(_), .. })));
        assert!(matches!(unreadable().or_defer(minute), Err(Failure::Defer { after, .. }) if after == minute));
    }

    #[test]
    fn an_output_without_a_json_form_is_rejected() {
        let output = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(done_with(output), Err(Failure::Reject { .. })));
    }
}
