//! Heads as they come: where one ends, and whether its lines end as they must.
//!
//! Guarantee: a line of a head that ends in a bare LF is refused. hyper reads such a line as whole (RFC 9112, 2.2 allows
//! it), and a proxy in front may not: two readings of one head are what request smuggling is made of. hyper has no setting
//! for it, so the byte is replaced by one that no head may hold, and hyper answers 400 by itself. It only looks at a head
//! that has an end, which such a head may lack by then: the caller adds [`END`].
//!
//! Only bytes between requests are looked at. A head that a client sends behind a body before it has read the answer
//! (pipelining) comes in one piece with bytes of that body, and is not seen here.

/// What no head may hold.
const REFUSED: u8 = 0;

/// The end of a head.
pub(super) const END: &[u8] = b"\r\n\r\n";

/// The head that is being read.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Bytes of the present line.
    line: usize,
    last: u8,
    /// Whether a line that is not empty has begun: empty lines before a request line are skipped by hyper.
    begun: bool,
    ended: bool,
    spoilt: bool,
}

impl Head {
    /// Looks at the next bytes, and spoils a bare LF.
    pub(super) fn scan(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while !self.ended && at < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[at..]);
            let line = &bytes[at..end.map_or(bytes.len(), |end| at + end)];
            self.line += line.len();
            self.last = line.last().copied().unwrap_or(self.last);
            let Some(end) = end else { return };
            let carriage = self.line > 0 && self.last == b'\r';
            if !carriage {
                bytes[at + end] = REFUSED;
                self.spoilt = true;
            }
            let empty = self.line == 1 && carriage;
            self.ended = empty && self.begun;
            self.begun |= !empty;
            (self.line, self.last) = (0, b'\n');
            at += end + 1;
        }
    }

    /// Whether a line ended in a bare LF, so that what is left of the head may have no end; says so once.
    pub(super) fn needs_end(&mut self) -> bool {
        let needs = std::mem::take(&mut self.spoilt);
        self.ended |= needs;
        needs
    }

    /// Whether the empty line after the last field was read.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_line_feeds_are_spoilt_and_ends_are_found() {
        let check = |text: &str, want: &str, ended: bool| {
            for step in 1..=text.len() {
                let (mut head, mut bytes) = (Head::default(), text.as_bytes().to_vec());
                bytes.chunks_mut(step).for_each(|part| head.scan(part));
                let got = String::from_utf8(bytes).unwrap();
                assert_eq!((got.as_str(), head.ended()), (want, ended), "{text:?} by {step}");
            }
        };
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", true);
        check("GET / HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", false);
        check("\r\nGET / HTTP/1.1\r\n\r\n", "\r\nGET / HTTP/1.1\r\n\r\n", true);
        check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true);
        // Bytes of a body are not looked at.
        check("GET / HTTP/1.1\r\n\r\na\nb", "GET / HTTP/1.1\r\n\r\na\nb", true);
        check("GET / HTTP/1.1\nHost: a\r\n\r\n", "GET / HTTP/1.1\0Host: a\r\n\r\n", true);
        check("GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\0\r\n", true);
        check("GET / HTTP/1.1\r\nHost: a\r\n\n", "GET / HTTP/1.1\r\nHost: a\r\n\0", false);
        check("\n", "\0", false);
    }

    #[test]
    fn a_spoilt_head_gets_an_end_once() {
        for (text, needs) in [("GET /\r\nA: b\n\r\n", true), ("GET /\r\nA: b\r\n\n", true), ("GET /\r\n\r\n", false)] {
            let mut head = Head::default();
            head.scan(&mut text.as_bytes().to_vec());
            assert_eq!((head.needs_end(), head.needs_end()), (needs, false), "{text:?}");
        }
    }
}
