//! Server-sent events, as far as a command needs them: pieces of bytes in, whole messages out.

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// `event:`; empty if it was not given.
    pub(super) kind: String,
    pub(super) data: String,
}

/// A line or message longer than this, in bytes, is not ours.
const BYTES_MAX: usize = 16 << 20;

/// What has come and is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: a LF that follows belongs to the same line end.
    after_cr: bool,
    message: Message,
    has_data: bool,
}

impl Parser {
    /// The messages that these bytes complete; nothing more if the stream is not to be understood.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Vec<Message>> {
        let mut whole = Vec::new();
        for &byte in bytes {
            let ends = byte == b'\r' || (byte == b'\n' && !self.after_cr);
            if ends {
                let line = std::mem::take(&mut self.line);
                whole.extend(self.take_line(&line));
            } else if byte != b'\n' {
                self.line.push(byte);
            }
            self.after_cr = byte == b'\r';
            if self.line.len() + self.message.data.len() > BYTES_MAX {
                return None;
            }
        }
        Some(whole)
    }

    fn take_line(&mut self, line: &[u8]) -> Option<Message> {
        let line = String::from_utf8_lossy(line);
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            return std::mem::take(&mut self.has_data).then_some(message);
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.kind),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            // A comment keeps the connection open; the rest serves browsers.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\n\nid: 1\nevent: event\ndata: {\"a\":1}\n\nevent: outcome\r\ndata: x\r\ndata:y\r\n\r\nretry: 5\n\ndata: ü\r\r";

    #[test]
    fn messages_are_the_same_however_the_bytes_are_cut() {
        let message = |kind: &str, data: &str| Message { kind: kind.into(), data: data.into() };
        let expected = [message("event", "{\"a\":1}"), message("outcome", "x\ny"), message("", "ü")];
        for size in [1, 2, 3, 7, 1_000] {
            let mut parser = Parser::default();
            let seen: Vec<_> = STREAM.as_bytes().chunks(size).flat_map(|bytes| parser.push(bytes).unwrap()).collect();
            assert_eq!(seen, expected, "pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        assert!((0..20).any(|_| parser.push(&piece).is_none()));
    }
}
