//! The only place that prints. Answers go to standard output, everything about them (progress, notes, errors) to
//! standard error; colours only where a terminal shows them and `NO_COLOR` is not set.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::error::{Error, Tone, output_error};
use super::text::{self, Table};
use crate::model::Outcome;

/// One stream: where it goes and what it can show.
struct Stream {
    write: Box<dyn Write>,
    colour: bool,
    terminal: bool,
}

/// Where a command prints.
pub(super) struct Output {
    out: Stream,
    err: Stream,
    /// Columns of the terminal that shows the answers, if one does.
    width: Option<usize>,
    /// A progress line stands on standard error and must be wiped before anything else is written.
    progress: bool,
}

/// The few colours there are; each means one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colour {
    Good,
    Wait,
    Bad,
    Faint,
    Strong,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Wait => "33",
            Self::Bad => "31",
            Self::Faint => "2",
            Self::Strong => "1",
        }
    }

    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Good,
            Outcome::Retry | Outcome::Defer | Outcome::Interrupted => Self::Wait,
            _ => Self::Bad,
        }
    }
}

impl Output {
    /// The process's own streams.
    pub(super) fn standard() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (out, err) = (io::stdout(), io::stderr());
        let (out_terminal, err_terminal) = (out.is_terminal(), err.is_terminal());
        let width = out_terminal.then(|| terminal_width(&out)).flatten();
        Self {
            // Lines reach a terminal or a follower at once, a file in larger pieces.
            out: Stream {
                write: if out_terminal { Box::new(out) } else { Box::new(io::BufWriter::new(out)) },
                colour: out_terminal && !plain,
                terminal: out_terminal,
            },
            err: Stream { write: Box::new(err), colour: err_terminal && !plain, terminal: err_terminal },
            width,
            progress: false,
        }
    }

    /// Whether a person watches the answers.
    pub(super) fn is_terminal(&self) -> bool {
        self.out.terminal
    }

    /// Whether standard error shows colours.
    pub(super) fn colour_err(&self) -> bool {
        self.err.colour
    }

    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }

    /// A word in a colour, if standard output shows colours. The text must be safe already.
    pub(super) fn paint(&self, colour: Colour, text: &str) -> String {
        paint(self.out.colour, colour, text)
    }

    /// One line of the answer. Text that is not ours must be escaped already.
    pub(super) fn line(&mut self, line: impl AsRef<str>) -> Result<(), Error> {
        self.wipe();
        writeln!(self.out.write, "{}", line.as_ref()).map_err(output_error)
    }

    /// Many bytes of an answer, as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.wipe();
        self.out.write.write_all(bytes).map_err(output_error)
    }

    /// One object of an answer in JSON, on a line of its own.
    pub(super) fn json(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let json = serde_json::to_string(value).map_err(|e| Error::bug("cannot write JSON").because(e))?;
        self.line(text::escape_json(&json))
    }

    pub(super) fn table(&mut self, table: &Table) -> Result<(), Error> {
        let lines = table.lines(self.width);
        for (index, line) in lines.iter().enumerate() {
            let line = if index == 0 { self.paint(Colour::Strong, line) } else { line.clone() };
            self.line(line)?;
        }
        Ok(())
    }

    /// Makes sure that whoever reads has everything so far.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.out.write.flush().map_err(output_error)
    }

    /// A line on standard error, for whoever watches: never part of the answer. That it cannot be written is nothing
    /// a command should fail for.
    pub(super) fn note(&mut self, line: impl AsRef<str>) {
        self.wipe();
        drop(writeln!(self.err.write, "{}", line.as_ref()));
    }

    /// A note only for a person: nothing where standard output is not a terminal.
    pub(super) fn tip(&mut self, line: impl AsRef<str>) {
        if self.out.terminal && self.err.terminal {
            let line = paint(self.err.colour, Colour::Faint, line.as_ref());
            self.note(line);
        }
    }

    /// Says that an answer is empty, to whoever watches: a script sees an answer without lines.
    pub(super) fn none(&mut self, line: impl AsRef<str>) -> Result<(), Error> {
        if self.out.terminal { self.line(line) } else { Ok(()) }
    }

    /// A line on standard error that the next one replaces; nothing where nobody watches.
    pub(super) fn progress(&mut self, line: &str) {
        if self.err.terminal {
            drop(write!(self.err.write, "\r\x1b[K{line}"));
            drop(self.err.write.flush());
            self.progress = true;
        }
    }

    pub(super) fn error(&mut self, error: &Error) {
        drop(self.out.write.flush());
        for (tone, line) in error.lines() {
            let colour = if tone == Tone::Hint { Colour::Good } else { Colour::Bad };
            let label = paint(self.err.colour, colour, &format!("{}:", tone.label()));
            self.note(format!("{label} {line}"));
        }
    }

    /// A question with the answer no unless `y` or `yes` is typed.
    pub(super) fn ask(&mut self, question: &str, input: &mut dyn io::BufRead) -> Result<bool, Error> {
        self.wipe();
        drop(write!(self.err.write, "{question} [y/N] "));
        drop(self.err.write.flush());
        let mut answer = String::new();
        input.read_line(&mut answer).map_err(|e| Error::environment("cannot read the answer").because(e))?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.progress) {
            drop(write!(self.err.write, "\r\x1b[K"));
            drop(self.err.write.flush());
        }
    }
}

fn paint(on: bool, colour: Colour, text: &str) -> String {
    if on && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", colour.code()) } else { text.to_owned() }
}

fn terminal_width(out: &io::Stdout) -> Option<usize> {
    rustix::termios::tcgetwinsize(out).ok().map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// What a test's output has received.
    #[derive(Clone, Default)]
    pub(crate) struct Captured(Rc<RefCell<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.borrow().clone()).unwrap()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that keeps what it is given: (output, its standard output, its standard error).
    pub(crate) fn captured(colour: bool) -> (Output, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let stream = |to: &Captured| Stream { write: Box::new(to.clone()), colour, terminal: colour };
        (Output { out: stream(&out), err: stream(&err), width: None, progress: false }, out, err)
    }

    #[test]
    fn colours_only_where_they_are_shown() {
        let (mut plain, _, err) = captured(false);
        plain.error(&Error::usage("wrong").hint("Do it so."));
        assert_eq!(err.text(), "error: wrong\nhint: Do it so.\n");
        let (mut bright, _, err) = captured(true);
        bright.error(&Error::usage("wrong"));
        assert_eq!(err.text(), "\x1b[31merror:\x1b[0m wrong\n");
    }

    #[test]
    fn an_empty_answer_says_so_at_a_terminal() {
        let (mut piped, out, err) = captured(false);
        piped.none("no events fit").unwrap();
        assert_eq!((out.text(), err.text()), (String::new(), String::new()));
        let (mut watched, out, _) = captured(true);
        watched.none("no events fit").unwrap();
        assert_eq!(out.text(), "no events fit\n");
    }

    #[test]
    fn json_is_one_safe_line() {
        let (mut output, out, _) = captured(false);
        output.json(&serde_json::json!({ "reason": "a\nb\u{202e}" })).unwrap();
        assert_eq!(out.text(), "{\"reason\":\"a\\nb\\u202e\"}\n");
    }

    #[test]
    fn only_yes_is_yes() {
        for (typed, expected) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false), ("yup\n", false)] {
            let (mut output, _, err) = captured(false);
            assert_eq!(output.ask("Discard 2?", &mut typed.as_bytes()).unwrap(), expected, "{typed:?}");
            assert_eq!(err.text(), "Discard 2? [y/N] ");
        }
    }

    #[test]
    fn progress_is_wiped_before_anything_else() {
        let (mut output, _, err) = captured(true);
        output.progress("10 sent");
        output.note("done");
        assert_eq!(err.text(), "\r\x1b[K10 sent\r\x1b[Kdone\n");
    }
}
