//! What a command says when it cannot do what it was asked: what happened, why, and what to do next. Library errors
//! know nothing of people; here each becomes a kind, which alone decides the exit code, and gets its hints.

use std::error::Error as StdError;
use std::fmt;

use super::text;

/// The exit codes. They are part of the product: scripts branch on them.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Tidegate itself is wrong.
    pub const BUG: u8 = 1;
    /// The command line, or the data given to it, is wrong.
    pub const USAGE: u8 = 2;
    /// The manifest or one of its components is wrong.
    pub const MANIFEST: u8 = 3;
    /// Things do not stand as the command needs them: nothing found, an id taken, a reload refused.
    pub const STATE: u8 = 4;
    /// The world is in the way: no host running, a port taken, a file unreadable, a token missing.
    pub const ENVIRONMENT: u8 = 5;
    /// The time limit passed first.
    pub const TIMEOUT: u8 = 6;
    /// The log is damaged, too new, or failed while it was being written.
    pub const LOG: u8 = 7;
    /// A responder takes the question for invalid.
    pub const INVALID: u8 = 8;
    /// A responder has found nothing.
    pub const NOT_FOUND: u8 = 9;
    /// A question cannot be answered now.
    pub const UNAVAILABLE: u8 = 10;
    /// A responder failed.
    pub const FAILED: u8 = 11;
    /// Ended by Ctrl-C.
    pub const INTERRUPTED: u8 = 130;
}

/// Shown at the end of `--help`.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  a bug in tidegate
    2  usage: the command line, or the data given to it
    3  manifest: the manifest or one of its components is wrong
    4  state: nothing found, nobody who answers, an id that is taken, a reload refused
    5  environment: no host running, a port taken, a file unreadable, a token missing
    6  time: the time limit passed first
    7  log: damaged, of a newer version, or failed while being written
    8  ask: the responder takes the question for invalid
    9  ask: the responder has found nothing
   10  ask: the question cannot be answered now
   11  ask: the responder failed
  130  ended by Ctrl-C";

/// Whose turn it is. Decides the exit code and nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bug,
    Usage,
    Manifest,
    State,
    Environment,
    Timeout,
    Log,
    Invalid,
    NotFound,
    Unavailable,
    Failed,
    /// Ctrl-C: says nothing.
    Interrupted,
    /// Whoever read our output has read enough: not an error, and says nothing.
    OutputClosed,
}

impl Kind {
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Bug => exit::BUG,
            Self::Usage => exit::USAGE,
            Self::Manifest => exit::MANIFEST,
            Self::State => exit::STATE,
            Self::Environment => exit::ENVIRONMENT,
            Self::Timeout => exit::TIMEOUT,
            Self::Log => exit::LOG,
            Self::Invalid => exit::INVALID,
            Self::NotFound => exit::NOT_FOUND,
            Self::Unavailable => exit::UNAVAILABLE,
            Self::Failed => exit::FAILED,
            Self::Interrupted => exit::INTERRUPTED,
            Self::OutputClosed => exit::OK,
        }
    }
}

/// A command's failure, told to a person.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    /// A sentence without a full stop, lower case: it stands after `error: `.
    pub message: String,
    pub source: Option<Box<dyn StdError + Send + Sync>>,
    /// What exactly is wrong, a place each.
    pub details: Vec<String>,
    /// Sentences with a verb: what to do next.
    pub hints: Vec<String>,
}

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, details: Vec::new(), hints: Vec::new() }
    }

    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
            .hint("This is a fault of tidegate's own: please report it with the command you gave.")
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn manifest(message: impl Into<String>) -> Self {
        Self::new(Kind::Manifest, message)
    }

    pub fn state(message: impl Into<String>) -> Self {
        Self::new(Kind::State, message)
    }

    pub fn environment(message: impl Into<String>) -> Self {
        Self::new(Kind::Environment, message)
    }

    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(Kind::Timeout, message)
    }

    pub fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The lines that are shown; none for an end that needs no words. Everything is escaped here, because messages
    /// and causes carry text from hosts, files and guests.
    pub fn lines(&self) -> Vec<(Tone, String)> {
        if matches!(self.kind, Kind::Interrupted | Kind::OutputClosed) {
            return Vec::new();
        }
        let mut lines = vec![(Tone::Error, text::escape(&self.message))];
        let mut cause: Option<&(dyn StdError + 'static)> = self.source.as_deref().map(|source| source as _);
        let mut said = self.message.clone();
        while let Some(error) = cause {
            let words = error.to_string();
            // Many errors repeat their cause in their own words; once is enough.
            if !said.contains(&words) {
                lines.push((Tone::Cause, text::escape(&words)));
                said = words;
            }
            cause = error.source();
        }
        lines.extend(self.details.iter().map(|detail| (Tone::Detail, text::escape(detail))));
        lines.extend(self.hints.iter().map(|hint| (Tone::Hint, text::escape(hint))));
        lines
    }
}

/// How a line begins, and its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Error,
    Cause,
    Detail,
    Hint,
}

impl Tone {
    pub fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Cause => "caused by",
            Self::Detail => "  at",
            Self::Hint => "hint",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Writing to our own output went wrong: only that a command prints with `?` is an [`std::io::Error`] turned into
/// this; every other one is named where it happens.
pub fn output_error(error: std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return Error::new(Kind::OutputClosed, "the output was closed");
    }
    Error::environment("cannot write the output").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_documented_exit_code() {
        for (kind, code) in [
            (Kind::Bug, 1),
            (Kind::Usage, 2),
            (Kind::Manifest, 3),
            (Kind::State, 4),
            (Kind::Environment, 5),
            (Kind::Timeout, 6),
            (Kind::Log, 7),
            (Kind::Invalid, 8),
            (Kind::NotFound, 9),
            (Kind::Unavailable, 10),
            (Kind::Failed, 11),
            (Kind::Interrupted, 130),
            (Kind::OutputClosed, 0),
        ] {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
            let line = format!("\n{code:>5}  ");
            assert!(EXIT_CODES.contains(&line), "--help does not list exit code {code}");
        }
    }

    #[test]
    fn an_error_says_what_why_and_what_next() {
        let error = Error::environment("cannot read orders.ndjson")
            .because(std::io::Error::other("permission\u{1b}[31m denied"))
            .hint("Check who may read the file.");
        assert_eq!(
            error.lines(),
            [
                (Tone::Error, "cannot read orders.ndjson".to_owned()),
                (Tone::Cause, "permission\\x1b[31m denied".to_owned()),
                (Tone::Hint, "Check who may read the file.".to_owned()),
            ]
        );
    }

    #[test]
    fn a_cause_that_was_said_already_is_not_repeated() {
        let error = Error::usage("bad data: eof").because(std::io::Error::other("eof"));
        assert_eq!(error.lines().len(), 1);
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_silent() {
        let error = output_error(std::io::ErrorKind::BrokenPipe.into());
        assert_eq!((error.kind.exit_code(), error.lines().len()), (0, 0));
        let error = output_error(std::io::ErrorKind::StorageFull.into());
        assert_eq!(error.kind, Kind::Environment);
    }
}
