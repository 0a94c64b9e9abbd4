//! Broken bytes as a reader would have had them: without the zeros of UTF-16, and without escapes that stand for plain characters.
//!
//! Guarantee: knows of each byte where it came from, so that what is found in either form can be replaced in one.

use super::tokens::Hit;
use std::ops::Range;

/// Whether a reader would have other bytes.
pub(super) fn is_other(raw: &[u8]) -> bool {
    memchr::memmem::find(raw, b"\\u00").is_some()
        || memchr::memmem::find(raw, b"\\/").is_some()
        || memchr::memchr(0, raw).is_some()
}

/// The bytes, and where each stood.
#[derive(Debug)]
pub(super) struct Plain {
    bytes: Vec<u8>,
    places: Vec<Range<u32>>,
}

impl Plain {
    /// `None` when there are neither zeros nor escapes.
    pub(super) fn of(raw: &[u8]) -> Option<Plain> {
        if !is_other(raw) {
            return None;
        }
        let mut plain = Plain { bytes: Vec::with_capacity(raw.len()), places: Vec::with_capacity(raw.len()) };
        let mut rest = raw;
        while let Some((first, after)) = rest.split_first() {
            let hex = |at: usize| rest.get(at).and_then(|b| (*b as char).to_digit(16));
            let at = raw.len() - rest.len();
            rest = match (first, after) {
                (0, _) => after,
                (b'\\', [b'/', after @ ..]) => {
                    plain.push(b'/', at..at + 2);
                    after
                }
                (b'\\', [b'u', b'0', b'0', _, _, tail @ ..])
                    if let (Some(high @ 2..=7), Some(low)) = (hex(4), hex(5)) =>
                {
                    let byte = (high * 16 + low) as u8;
                    // These would change what is a string and what is not.
                    if matches!(byte, b'"' | b'\\') {
                        plain.push(b'\\', at..at + 6);
                    }
                    plain.push(byte, at..at + 6);
                    tail
                }
                _ => {
                    plain.push(*first, at..at + 1);
                    after
                }
            };
        }
        Some(plain)
    }

    fn push(&mut self, byte: u8, place: Range<usize>) {
        self.bytes.push(byte);
        self.places.push(place.start as u32..place.end as u32);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where a place of the raw bytes is in these; of an escape that it cuts, all.
    pub(super) fn place(&self, hit: &Hit) -> Hit {
        let start = self.places.partition_point(|p| p.end as usize <= hit.start);
        let end = self.places.partition_point(|p| (p.start as usize) < hit.end);
        Hit { start, end: end.max(start), ..*hit }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::Why;
    use super::*;

    /// Brackets in the raw text stand where a hit begins and ends, those in what comes out where it is then.
    fn check(raw: &str, expected: &str) {
        let (start, end) = (raw.find('[').expect("a bracket"), raw.find(']').expect("a bracket") - 1);
        let plain = Plain::of(raw.replace(['[', ']'], "").as_bytes()).expect("zeros or escapes");
        let place = plain.place(&Hit { start, end, kind: "key", why: Why::Place });
        let mut shown = String::from_utf8(plain.bytes.clone()).expect("UTF-8");
        shown.insert(place.end, ']');
        shown.insert(place.start, '[');
        assert_eq!(shown, expected, "{raw:?}");
    }

    #[test]
    fn places_are_found_again() {
        check("a[b]c\\u0064", "a[b]cd");
        check("\\u0061[b\\u0063]d", "a[bc]d");
        check("\\u00[6]1b", "[a]b");
        check("a\0[b\0c]\0d\0", "a[bc]d");
        check("a[\0b\0]c", "a[b]c");
        check("x\\/[y]", "x/[y]");
        check("\\u0022[a]\\u005c", "\\\"[a]\\\\");
        check("[\0]\\/", "[]/");
    }

    #[test]
    fn what_is_plain_is_not_read_again() {
        assert!(Plain::of(b"{\"a\":\"b\\n\"}").is_none());
    }
}
