//! Watches the bytes of a connection for requests that are framed in two ways. The HTTP library settles such requests by itself and
//! hides the doubt; a proxy in front may have settled it the other way, which is how requests are smuggled. So
//! they are refused, and this is where they are seen.

use std::collections::VecDeque;

/// What a request's head says about where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Clear,
    /// `Transfer-Encoding` beside `Content-Length`, one of them twice, or lines that do not end in CR LF.
    Ambiguous,
}

/// A line of a head, at most: the HTTP library has given up on the request long before.
const LINE_MAX: usize = 256 << 10;

/// Fed with every byte that arrives, before the HTTP library sees it.
#[derive(Debug)]
pub(super) struct Watch {
    at: At,
    line: Vec<u8>,
    head: Head,
    verdicts: VecDeque<Framing>,
}

#[derive(Clone, Copy, Debug)]
enum At {
    /// In a head; false: before its request line.
    Head(bool),
    /// In a body, with so many bytes to come.
    Body(u64),
    /// Nothing that follows can be told apart; the connection ends with the request at hand.
    Rest,
}

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    lengths: u32,
    codings: u32,
    length: u64,
    odd: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self { at: At::Head(false), line: Vec::new(), head: Head::default(), verdicts: VecDeque::new() }
    }
}

impl Watch {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.at {
                At::Rest => return,
                At::Body(left) => {
                    let skip = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(skip..).unwrap_or_default();
                    let left = left.saturating_sub(skip as u64);
                    self.at = if left == 0 { At::Head(false) } else { At::Body(left) };
                }
                At::Head(begun) => {
                    let end = bytes.iter().position(|b| *b == b'\n').map_or(bytes.len(), |at| at + 1);
                    let (part, rest) = bytes.split_at(end);
                    bytes = rest;
                    self.line.extend_from_slice(part);
                    if self.line.len() > LINE_MAX {
                        self.at = At::Rest;
                    } else if part.ends_with(b"\n") {
                        self.end_of_line(begun);
                    }
                }
            }
        }
    }

    /// The verdict on the next request, in the order of arrival.
    pub(super) fn verdict(&mut self) -> Framing {
        self.verdicts.pop_front().unwrap_or(Framing::Ambiguous)
    }

    fn end_of_line(&mut self, begun: bool) {
        let line = std::mem::take(&mut self.line);
        let text = match line.strip_suffix(b"\r\n") {
            Some(text) => text,
            None => {
                self.head.odd = true;
                line.strip_suffix(b"\n").unwrap_or(&line)
            }
        };
        match (text.is_empty(), begun) {
            // Empty lines before a request line are let pass, as the standard says.
            (true, false) => {}
            (true, true) => self.end_of_head(),
            (false, false) => self.at = At::Head(true),
            (false, true) => self.head.field(text),
        }
    }

    fn end_of_head(&mut self) {
        let head = std::mem::take(&mut self.head);
        let ambiguous = head.odd || head.lengths + head.codings > 1;
        self.verdicts.push_back(if ambiguous { Framing::Ambiguous } else { Framing::Clear });
        self.at = match (ambiguous || head.codings > 0, head.length) {
            (true, _) => At::Rest,
            (false, 0) => At::Head(false),
            (false, length) => At::Body(length),
        };
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            match std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit())) {
                Some(digits) => self.length = digits.parse().unwrap_or(u64::MAX),
                None => self.odd = true,
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.codings += 1;
            self.odd |= !value.eq_ignore_ascii_case(b"chunked");
        } else if name.is_empty() || !name.iter().all(|b| b.is_ascii_graphic()) {
            // A name with a space in or after it, or a folded line.
            self.odd = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(bytes: &[u8], step: usize) -> Vec<Framing> {
        let mut watch = Watch::default();
        bytes.chunks(step).for_each(|part| watch.feed(part));
        watch.verdicts.into()
    }

    #[test]
    fn requests_are_told_apart_however_the_bytes_arrive() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET\r\nGET / HTTP/1.1\r\n\r\n";
        for step in 1..bytes.len() {
            assert_eq!(verdicts(bytes, step), [Framing::Clear; 3], "{step}");
        }
    }

    #[test]
    fn after_chunks_or_doubt_nothing_is_told() {
        let clear = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(verdicts(clear, 7), [Framing::Clear]);
        let both = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(verdicts(both, 7), [Framing::Ambiguous]);
        assert_eq!(Watch::default().verdict(), Framing::Ambiguous);
    }
}
