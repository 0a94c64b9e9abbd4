//! Private keys that are written over several texts: the lines of a file, the records of a body, the items of a list.
//!
//! Guarantee: after a text in which a private key begins and does not end, [`Block`] is open until the text that ends the key, for at
//! most [`RECORDS_MAX`] records and [`BYTES_MAX`] bytes. What it says of a record depends only on the records before it within those
//! limits, so whoever reads from the middle of a source, or reads it again, finds out the same by looking back [`LOOK_BACK_BYTES`].
//!
//! ```text
//!  api | -----BEGIN EC PRIVATE KEY-----     begins: redacted to the end of the text
//!  api | MHcCAQEEIIrYSSNQFaA2Hwf1duRS       open: no JSON, all of it is redacted
//!  {"id":"7","decision":{"verdict":...}}    open: JSON is read as ever, words like those of a key are redacted
//!  api | -----END EC PRIVATE KEY-----       ends: redacted to the last dash, what follows is read as ever
//! ```

use super::tokens::{Hit, Why};
use crate::json::Value;
use memchr::memmem;

/// Records after the beginning of a key that are still taken for its lines: a key of RSA with 16,384 bits has 195.
pub const RECORDS_MAX: u32 = 512;
/// Bytes of them: four times what such a key has.
pub(super) const BYTES_MAX: usize = 64 << 10;
/// Records in a row without a word like those of a key, after which it was cut off, or only spoken of.
pub(super) const STRANGERS_MAX: u32 = 16;
/// Bytes before a place that tell whether a key is open there: the limit, and room for white space between records.
pub const LOOK_BACK_BYTES: usize = 2 * BYTES_MAX;

/// Kind of all findings here.
pub(super) const KIND: &str = "private_key";
/// Bytes of the line that begins or ends a key.
const LINE_MAX: usize = 64;
/// Shortest word of base64 in a record that is like a line of a key.
const BODY_MIN: usize = 32;
/// Shortest line of a key: PEM has 64 characters, SSH 70, MIME 76. Only the last is shorter.
pub(super) const KEY_LINE_MIN: usize = 60;
/// Longest of these.
const KEY_LINE_MAX: usize = 76;
/// Shortest word that is taken from a text for its look, while a key is open.
const WORD_MIN: usize = 16;

/// Whether a private key is open behind the records seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block(Option<Open>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Open {
    records: u32,
    bytes: usize,
    strangers: u32,
}

impl Block {
    /// Whether one is.
    #[inline]
    pub fn is_open(self) -> bool {
        self.0.is_some()
    }

    /// Behind one more record.
    #[inline]
    pub fn after(self, record: &[u8]) -> Block {
        if self.0.is_none() && !speaks(record) { self } else { self.moved(record) }
    }

    /// Behind the lines of `bytes`, of which the first may be cut.
    pub fn behind_lines(self, bytes: &[u8]) -> Block {
        let lines = bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        lines.fold(self, Block::after)
    }

    fn moved(self, record: &[u8]) -> Block {
        if let Some(begin) = last_begin(record) {
            return Block(end(record, begin).is_none().then(Open::default));
        }
        let Some(open) = self.0.filter(|_| end(record, 0).is_none()) else { return Block(None) };
        let strangers = if has_body(record) { 0 } else { open.strangers + 1 };
        let open = Open { records: open.records + 1, bytes: open.bytes + record.len(), strangers };
        let within = open.records < RECORDS_MAX && open.bytes < BYTES_MAX && open.strangers < STRANGERS_MAX;
        Block(within.then_some(open))
    }
}

/// Whether a record speaks of the beginning of a private key: the one look that every record costs. All of them have a `Y` in `KEY` or
/// `PuTTY`, or the `V` of `OpenVPN`, and few records have another; one pass for two rare bytes takes half the time of two for words.
#[inline]
pub(crate) fn speaks(record: &[u8]) -> bool {
    let told = |at: usize| match record[at] {
        b'Y' => record[..at].ends_with(b"KE") || record[..at].ends_with(b"PuTT"),
        _ => record[..at].ends_with(b"Open"),
    };
    memchr::memchr2_iter(b'Y', b'V', record).any(told) && last_begin(record).is_some()
}

/// How a key in PuTTY's own format begins, and the names that end it.
const PUTTY_NAME: &[u8] = b"PuTTY-User-Key-File-";
const PUTTY_ENDS: [&[u8]; 2] = [b"Private-MAC:", b"Private-Hash:"];

/// Whether a name is the first of PuTTY's format.
#[inline]
pub(super) fn is_putty(name: &[u8]) -> bool {
    name.starts_with(PUTTY_NAME)
}

/// Whether a private key begins here: PEM, OpenSSH, PGP, SSH2 (four dashes and a space), OpenVPN.
pub(super) fn begins(text: &[u8], at: usize) -> bool {
    let head = &text[at..text.len().min(at + LINE_MAX)];
    let dashed = head.strip_prefix(b"-----BEGIN ").or_else(|| head.strip_prefix(b"---- BEGIN "));
    let secret = |rest: &[u8]| {
        [&b"PRIVATE KEY"[..], b"SECRET KEY", b"Static key"].iter().any(|name| memmem::find(rest, name).is_some())
    };
    dashed.is_some_and(secret)
}

/// Where the last key of a text begins.
fn last_begin(text: &[u8]) -> Option<usize> {
    let dashed = memmem::rfind_iter(text, b"BEGIN ").find_map(|at| at.checked_sub(5).filter(|at| begins(text, *at)));
    dashed.max(memmem::rfind(text, PUTTY_NAME))
}

/// Where the key ends that is open at `from`: behind its last dash, or the digest that PuTTY puts last.
pub(super) fn end(text: &[u8], from: usize) -> Option<usize> {
    let rest = &text[from..];
    let dashed = || {
        let at = memmem::find_iter(rest, b"END ")
            .find(|at| rest[..*at].ends_with(b"-----") || rest[..*at].ends_with(b"---- "))?;
        let tail = &rest[at..rest.len().min(at + LINE_MAX)];
        let dashes = |from: usize| from + tail[from..].iter().take_while(|b| **b == b'-').count();
        Some(at + memmem::find(tail, b"----").map_or(tail.len(), dashes))
    };
    let putty = || {
        let (at, name) = PUTTY_ENDS.iter().filter_map(|n| memmem::find(rest, n).map(|at| (at, n.len()))).min()?;
        let value = &rest[at + name..];
        let spaces = value.iter().take_while(|b| **b == b' ').count();
        Some(at + name + spaces + value[spaces..].iter().take_while(|b| b.is_ascii_hexdigit()).count())
    };
    let found = match (rest.starts_with(b"-"), rest.starts_with(PUTTY_NAME)) {
        (true, _) => dashed(),
        (_, true) => putty(),
        _ => dashed().into_iter().chain(putty()).min(),
    };
    found.map(|n| from + n)
}

/// The key that begins here, to its end or to that of the text when it is cut.
pub(super) fn block(text: &[u8], at: usize) -> Hit {
    Hit { start: at, end: end(text, at).unwrap_or(text.len()), kind: KIND, why: Why::Proven }
}

fn of_base64(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')
}

/// Whether a record has a long word of base64 or hexadecimal digits, as the lines of keys are.
fn has_body(record: &[u8]) -> bool {
    record.split(|b| !of_base64(*b)).any(|word| word.len() >= BODY_MIN)
}

/// Whether a word is mixed as base64 is: neither an id in one case nor a path.
fn is_mixed(word: &[u8]) -> bool {
    let has = |class: fn(&u8) -> bool| word.iter().any(class);
    let slashes = word.iter().filter(|b| **b == b'/').count();
    has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
        && has(|b| b.is_ascii_digit() || matches!(b, b'+' | b'/'))
        && slashes <= 1 + word.len() / 12
}

/// Words that are part of a key, while one is open or begins in the same record: within a long run of [`super::runs`].
pub(super) fn words(text: &[u8], run: (usize, usize), hits: &mut Vec<Hit>) {
    shaped(text, run, WORD_MIN, hits);
}

/// Words that are lines of a key by their length and alphabet alone, in bytes that nothing could read.
pub(super) fn lines(text: &[u8], run: (usize, usize), hits: &mut Vec<Hit>) {
    let before = run.0.checked_sub(1).map(|at| text[at]);
    // What goes on as something else: an image in a URL, a part of a token, a path, a name and its value.
    let joined = matches!(before, Some(b',' | b'.' | b'@' | b':' | b'=' | b'%' | b'&' | b'?' | b'~' | b'#'))
        || matches!(text.get(run.1), Some(b'.' | b'@' | b':' | b'%' | b'~' | b'(' | b'?'));
    if !joined {
        shaped(text, run, KEY_LINE_MIN, hits);
    }
}

fn shaped(text: &[u8], run: (usize, usize), min: usize, hits: &mut Vec<Hit>) {
    // `\n` and its like in text that was not unescaped.
    let escaped = run.0 > 0 && text[run.0 - 1] == b'\\' && matches!(text[run.0], b'n' | b'r' | b't');
    let start = run.0 + usize::from(escaped);
    let word = &text[start..run.1];
    if word.len() >= min && word.iter().all(|b| of_base64(*b)) && is_mixed(word) {
        let end = run.1 + text[run.1..].iter().take(2).take_while(|b| **b == b'=').count();
        hits.push(Hit { start, end, kind: KIND, why: Why::Shape });
    }
}

/// Whether all of a text is the short last line of a key.
pub(super) fn is_last_line(text: &[u8]) -> bool {
    let text = text.trim_ascii();
    let word = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let padded = word.len() < text.len();
    text.len() < KEY_LINE_MAX
        && text.len().is_multiple_of(4)
        && !word.is_empty()
        && word.iter().all(|b| of_base64(*b))
        && (padded || is_mixed(word))
}

/// Whether all of a text is a line of a key by its length and alphabet alone.
pub(super) fn is_key_line(text: &[u8]) -> bool {
    let line = text.trim_ascii();
    let word = line.strip_suffix(b"==").or_else(|| line.strip_suffix(b"=")).unwrap_or(line);
    (KEY_LINE_MIN..=KEY_LINE_MAX).contains(&line.len()) && word.iter().all(|b| of_base64(*b)) && is_mixed(word)
}

/// Which items of a list stand within a key that begins in one of its texts and ends in another.
pub(super) fn items(list: Value<'_>) -> Vec<bool> {
    let mut within = Vec::new();
    let mut open = None;
    for (n, item) in list.items().enumerate() {
        within.push(false);
        let Some(text) = item.as_str().map(str::as_bytes) else { continue };
        match (last_begin(text), open) {
            (Some(at), _) => open = end(text, at).is_none().then_some(n + 1),
            (None, Some(first)) if end(text, 0).is_some() => {
                within[first..].fill(true);
                open = None;
            }
            _ => {}
        }
    }
    within
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records in order; `+` before those behind which a key is open.
    fn check(records: &[&str]) {
        let mut block = Block::default();
        for (n, record) in records.iter().enumerate() {
            let text = record.trim_start_matches('+');
            block = block.after(text.as_bytes());
            assert_eq!(block.is_open(), text.len() < record.len(), "{n}: {record}");
        }
    }

    const LINE: &str = "MHcCAQEEIIrYSSNQFaA2Hwf1duRSxKtLYX5CB04fSeQ6tF1aYPuJoAoGCCqGSM49";

    #[test]
    fn a_key_is_open_from_its_first_line_to_its_last() {
        let begin = |kind: &str| format!("+-----BEGIN {kind}-----");
        let line = format!("+{LINE}");
        for kind in
            ["PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "PGP PRIVATE KEY BLOCK"]
        {
            check(&["x", &begin(kind), &line, "+{\"a\":1}", &format!("-----END {kind}-----"), "x"]);
        }
        check(&["+---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----", &line, "---- END SSH2 ENCRYPTED PRIVATE KEY ----"]);
        check(&["+PuTTY-User-Key-File-3: ssh-ed25519", "+Encryption: none", &line, "Private-MAC: 00ff", "x"]);
        check(&["+api | -----BEGIN EC PRIVATE KEY-----", "+api | x", "api | -----END EC PRIVATE KEY-----"]);
        check(&["-----BEGIN CERTIFICATE-----", LINE]);
        check(&["-----BEGIN PRIVATE KEY-----\\nx\\n-----END PRIVATE KEY-----", "x"]);
        check(&["-----END PRIVATE KEY-----", "x"]);
    }

    #[test]
    fn a_key_that_never_ends_is_bounded() {
        let behind = |records: &mut dyn Iterator<Item = &str>| {
            let begun = Block::default().after(b"-----BEGIN PRIVATE KEY-----");
            records.fold(begun, |block, record| block.after(record.as_bytes())).is_open()
        };
        let (strangers, lines) = (STRANGERS_MAX as usize, RECORDS_MAX as usize);
        assert!(behind(&mut std::iter::repeat_n("text", strangers - 1)));
        assert!(!behind(&mut std::iter::repeat_n("text", strangers)));
        assert!(behind(&mut std::iter::repeat_n(LINE, lines - 1)));
        assert!(!behind(&mut std::iter::repeat_n(LINE, lines)));
        let long = LINE.repeat(BYTES_MAX / LINE.len() + 1);
        assert!(!behind(&mut std::iter::once(&*long)));
    }

    #[test]
    fn ends() {
        for (text, expected) in [
            ("ab\n-----END PRIVATE KEY----- x", Some(" x")),
            ("ab\\n-----END RSA PRIVATE KEY-----\\n\"}", Some("\\n\"}")),
            ("---- END SSH2 ENCRYPTED PRIVATE KEY ----", Some("")),
            ("Private-MAC: 00ffAA, x", Some(", x")),
            ("THE END of it", None),
        ] {
            assert_eq!(end(text.as_bytes(), 0).map(|at| &text[at..]), expected, "{text}");
        }
    }

    #[test]
    fn looks_of_words() {
        for (text, last, line) in [
            ("AwEHoUQDQgA2", true, false),
            ("bGg=\n", true, false),
            ("stdout", false, false),
            ("INFO", false, false),
            ("01K36G5QCE6D3M2XJ0Z9B4T7VA", false, false),
            ("4bf92f3577b34da6a3ce929d0e0e4736", false, false),
            (LINE, true, true),
            ("/srv/Data/v1/Customers/2026/Reports/Quarter/Final/Signed/Of/All/", false, false),
        ] {
            assert_eq!((is_last_line(text.as_bytes()), is_key_line(text.as_bytes())), (last, line), "{text}");
        }
    }
}
