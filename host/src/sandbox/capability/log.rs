//! Structured log lines and printed output of one attempt, kept with its outcome and bounded.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::super::bindings::log;
use super::super::instance::Host;
use super::super::text;
use crate::model::LogLine;
use crate::model::limit::{LOG_BYTES_MAX, LOG_LINES_MAX};

/// One line, in bytes; longer printed lines are broken.
const LINE_BYTES_MAX: usize = 4 << 10;
/// Fields of one line, and bytes of a field's name.
const FIELDS_MAX: usize = 32;
const FIELD_NAME_BYTES_MAX: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sandbox) enum Stream {
    Stdout,
    Stderr,
}

#[derive(Default)]
pub(in crate::sandbox) struct Logbook {
    lines: Vec<LogLine>,
    bytes: usize,
    dropped: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Logbook {
    fn push(&mut self, line: LogLine) {
        let fields: usize = line.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = line.message.len() + fields;
        if self.lines.len() >= LOG_LINES_MAX || self.bytes + bytes > LOG_BYTES_MAX {
            self.dropped += 1;
            return;
        }
        self.bytes += bytes;
        self.lines.push(line);
    }

    /// Takes printed bytes; lines are kept as they become whole.
    pub(in crate::sandbox) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let mut parts = bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            for piece in part.chunks(LINE_BYTES_MAX) {
                if self.partial(stream).len() + piece.len() > LINE_BYTES_MAX {
                    self.flush(stream);
                }
                self.partial(stream).extend_from_slice(piece);
            }
            if parts.peek().is_some() {
                self.flush(stream);
            }
        }
    }

    fn partial(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    fn flush(&mut self, stream: Stream) {
        let full = self.lines.len() >= LOG_LINES_MAX;
        let partial = self.partial(stream);
        let message = if full { String::new() } else { text::safe(&String::from_utf8_lossy(partial), LINE_BYTES_MAX) };
        partial.clear();
        let level = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        self.push(LogLine { level: level.into(), message, fields: BTreeMap::new() });
    }

    /// Ends the lines that are still open.
    pub(in crate::sandbox) fn settle(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            if !self.partial(stream).is_empty() {
                self.flush(stream);
            }
        }
    }

    pub(in crate::sandbox) fn lines(&self) -> &[LogLine] {
        &self.lines
    }

    /// Everything kept, and how many lines were not.
    pub(in crate::sandbox) fn finish(&mut self) -> (Vec<LogLine>, u64) {
        self.settle();
        self.bytes = 0;
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.dropped))
    }
}

impl log::Host for Host {
    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let bytes = message.len() + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.account.enter(bytes)?;
        let level = match level {
            log::Level::Trace => "trace",
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warn => "warn",
            log::Level::Error => "error",
        };
        let field = |(name, value): &(String, String)| {
            (text::safe(name, FIELD_NAME_BYTES_MAX), text::safe(value, LINE_BYTES_MAX))
        };
        let line = LogLine {
            level: level.into(),
            message: text::safe(&message, LINE_BYTES_MAX),
            fields: fields.iter().take(FIELDS_MAX).map(field).collect(),
        };
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(())
    }

    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        self.account.enter(0)?;
        Ok(!matches!(level, log::Level::Trace))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_bytes_become_lines() {
        let mut book = Logbook::default();
        book.print(Stream::Stdout, b"one\ntw");
        book.print(Stream::Stderr, b"oops");
        book.print(Stream::Stdout, b"o\n\n");
        let (lines, dropped) = book.finish();
        let seen: Vec<_> = lines.iter().map(|line| (line.level.as_str(), line.message.as_str())).collect();
        assert_eq!(seen, [("stdout", "one"), ("stdout", "two"), ("stdout", ""), ("stderr", "oops")]);
        assert_eq!(dropped, 0);
    }

    #[test]
    fn lines_and_bytes_are_bounded_and_the_rest_is_counted() {
        let mut book = Logbook::default();
        for _ in 0..LOG_LINES_MAX + 10 {
            book.print(Stream::Stdout, b"x\n");
        }
        let (lines, dropped) = book.finish();
        assert_eq!((lines.len(), dropped), (LOG_LINES_MAX, 10));
        book.print(Stream::Stdout, &vec![b'x'; 10 << 20]);
        let (lines, dropped) = book.finish();
        let bytes: usize = lines.iter().map(|line| line.message.len()).sum();
        assert_eq!((bytes, dropped), (LOG_BYTES_MAX, (10 << 20) / 4096 - 16));
    }
}
