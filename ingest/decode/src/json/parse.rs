//! The parser: text to nodes.
//!
//! Guarantee: linear in the length of the text, by a loop over a stack of its own; a fault is told with the byte at which it showed.

use super::{DEPTH_MAX, JsonError, Node, Open, Tag, Tape, fingerprint};

/// Keys of one object beyond which duplicates are looked for by sorting at its end instead of key by key.
const KEYS_PAIRWISE_MAX: usize = 32;

/// Fills an empty tape.
pub(super) fn document(tape: &mut Tape, text: &str) -> Result<(), JsonError> {
    Parser { tape, text, bytes: text.as_bytes(), at: 0 }.document()
}

struct Parser<'p> {
    tape: &'p mut Tape,
    text: &'p str,
    bytes: &'p [u8],
    at: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, reason: &'static str) -> Result<T, JsonError> {
        Err(JsonError { reason, at: self.at })
    }

    fn document(&mut self) -> Result<(), JsonError> {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            return self.fail("json_bom");
        }
        self.space();
        if self.at == self.bytes.len() {
            return self.fail("json_empty");
        }
        self.values()?;
        self.space();
        if self.at < self.bytes.len() {
            return self.fail("json_trailing");
        }
        Ok(())
    }

    #[inline]
    fn space(&mut self) {
        if let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.tape.verbatim = false;
            while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
                self.at += 1;
            }
        }
    }

    #[inline]
    fn push(&mut self, tag: Tag, start: usize, end: usize) {
        self.tape.nodes.push(Node { tag, start: start as u32, end: end as u32, next: 0 });
    }

    /// Reads the value at the cursor and everything inside it.
    fn values(&mut self) -> Result<(), JsonError> {
        loop {
            let opened = self.value()?;
            if opened {
                continue;
            }
            // A value is complete: close what ends here, or step to the next value of the innermost container.
            loop {
                let Some(innermost) = self.tape.open.last().copied() else { return Ok(()) };
                self.space();
                match self.bytes.get(self.at) {
                    Some(b',') => {
                        self.at += 1;
                        self.space();
                        if innermost.object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if innermost.object => self.close()?,
                    Some(b']') if !innermost.object => self.close()?,
                    Some(_) => return self.fail("json_syntax"),
                    None => return self.fail("json_truncated"),
                }
            }
        }
    }

    /// Reads a scalar or opens a container; true when a value (or key) is to follow.
    #[inline]
    fn value(&mut self) -> Result<bool, JsonError> {
        let Some(byte) = self.bytes.get(self.at) else { return self.fail("json_truncated") };
        match byte {
            b'"' => {
                self.at += 1;
                self.string()?;
            }
            b'{' | b'[' => {
                if self.tape.open.len() == DEPTH_MAX {
                    return self.fail("json_depth");
                }
                let object = *byte == b'{';
                let (node, keys_from) = (self.tape.nodes.len() as u32, self.tape.keys.len() as u32);
                self.tape.open.push(Open { node, object, keys_from });
                self.push(if object { Tag::Object } else { Tag::Array }, self.at, 0);
                self.at += 1;
                self.space();
                let end = if object { b'}' } else { b']' };
                if self.bytes.get(self.at) == Some(&end) {
                    self.close()?;
                    return Ok(false);
                }
                if object {
                    self.key()?;
                }
                return Ok(true);
            }
            b't' => self.word("true", Tag::True)?,
            b'f' => self.word("false", Tag::False)?,
            b'n' => self.word("null", Tag::Null)?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return self.fail("json_syntax"),
        }
        Ok(false)
    }

    fn close(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        let Some(open) = self.tape.open.pop() else { return self.fail("json_syntax") };
        let from = open.keys_from as usize;
        if self.tape.keys.len() - from > KEYS_PAIRWISE_MAX {
            let mut keys: Vec<&str> = self.tape.keys[from..].iter().map(|k| self.tape.string(self.text, k.1)).collect();
            keys.sort_unstable();
            if keys.windows(2).any(|pair| pair[0] == pair[1]) {
                return self.fail("json_duplicate_key");
            }
        }
        self.tape.keys.truncate(from);
        let next = self.tape.nodes.len() as u32;
        let node = &mut self.tape.nodes[open.node as usize];
        node.end = self.at as u32;
        node.next = next;
        Ok(())
    }

    /// Reads `"key":` and steps to its value.
    #[inline]
    fn key(&mut self) -> Result<(), JsonError> {
        if self.bytes.get(self.at) != Some(&b'"') {
            return self.fail(if self.at < self.bytes.len() { "json_syntax" } else { "json_truncated" });
        }
        let key_at = self.at;
        self.at += 1;
        let node = self.tape.nodes.len() as u32;
        self.string()?;
        let key = self.tape.string(self.text, node);
        let print = fingerprint(key.as_bytes());
        let from = self.tape.open.last().map_or(0, |o| o.keys_from as usize);
        let siblings = &self.tape.keys[from..];
        if siblings.len() <= KEYS_PAIRWISE_MAX
            && siblings.iter().any(|s| s.0 == print && self.tape.string(self.text, s.1) == key)
        {
            return Err(JsonError { reason: "json_duplicate_key", at: key_at });
        }
        self.tape.keys.push((print, node));
        self.tape.nodes[node as usize].next = print;
        self.space();
        if self.bytes.get(self.at) != Some(&b':') {
            return self.fail(if self.at < self.bytes.len() { "json_syntax" } else { "json_truncated" });
        }
        self.at += 1;
        self.space();
        Ok(())
    }

    fn word(&mut self, word: &str, tag: Tag) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return self.fail("json_syntax");
        }
        self.push(tag, self.at, self.at + word.len());
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let digits = |at: &mut usize| {
            let from = *at;
            while let Some(b'0'..=b'9') = self.bytes.get(*at) {
                *at += 1;
            }
            *at - from
        };
        let mut at = start + usize::from(self.bytes[start] == b'-');
        let leading_zero = self.bytes.get(at) == Some(&b'0');
        let whole = digits(&mut at);
        let mut well_formed = whole > 0 && !(leading_zero && whole > 1);
        if self.bytes.get(at) == Some(&b'.') {
            at += 1;
            well_formed &= digits(&mut at) > 0;
        }
        if let Some(b'e' | b'E') = self.bytes.get(at) {
            at += 1;
            if let Some(b'+' | b'-') = self.bytes.get(at) {
                at += 1;
            }
            well_formed &= digits(&mut at) > 0;
        }
        if !well_formed {
            return self.fail("json_number");
        }
        self.push(Tag::Number, start, at);
        self.at = at;
        Ok(())
    }

    /// Reads the rest of a string, the cursor standing after its opening quote.
    #[inline]
    fn string(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at = special(self.bytes, start);
        match self.bytes.get(self.at) {
            Some(b'"') => {
                self.push(Tag::Plain, start, self.at);
                self.at += 1;
                Ok(())
            }
            Some(b'\\') => self.escaped(start),
            Some(_) => self.fail("json_control"),
            None => self.fail("json_truncated"),
        }
    }

    #[cold]
    fn escaped(&mut self, start: usize) -> Result<(), JsonError> {
        self.tape.verbatim = false;
        let arena_start = self.tape.arena.len();
        let mut plain_from = start;
        loop {
            self.at = special(self.bytes, self.at);
            self.tape.arena.push_str(&self.text[plain_from..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.push(Tag::Unescaped, arena_start, self.tape.arena.len());
                    self.tape.arena.push('"');
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    let c = self.escape()?;
                    self.tape.arena.push(c);
                    plain_from = self.at;
                }
                Some(_) => return self.fail("json_control"),
                None => return self.fail("json_truncated"),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(code) = self.bytes.get(self.at + 1) else { return self.fail("json_truncated") };
        let c = match code {
            b'"' | b'\\' | b'/' => *code as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return self.fail("json_escape"),
        };
        self.at += 2;
        Ok(c)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let unit = |at: usize| -> Option<u32> {
            let hex = self.bytes.get(at..at + 6)?;
            if hex[..2] != *b"\\u" || !hex[2..].iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            u32::from_str_radix(std::str::from_utf8(&hex[2..]).ok()?, 16).ok()
        };
        let Some(first) = unit(self.at) else { return self.fail("json_escape") };
        let (code, length) = match (first, unit(self.at + 6)) {
            (0xd800..=0xdbff, Some(second @ 0xdc00..=0xdfff)) => {
                (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
            }
            _ => (first, 6),
        };
        let Some(c) = char::from_u32(code) else { return self.fail("json_surrogate") };
        self.at += length;
        Ok(c)
    }
}

/// Index of the first quote, backslash or control character at or after `from`, eight bytes at a time.
/// The usual bit trick: a byte of `x - 0x01..` borrows into its top bit where `x` is zero; false hits only above true ones.
#[inline]
pub(super) fn special(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    let zero = |w: u64| w.wrapping_sub(ONES) & !w;
    let mut at = from;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let w = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        let control = w.wrapping_sub(ONES * 0x20) & !w;
        let hits = (zero(w ^ (ONES * u64::from(b'"'))) | zero(w ^ (ONES * u64::from(b'\\'))) | control) & TOPS;
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while let Some(b) = bytes.get(at) {
        if matches!(b, b'"' | b'\\' | 0..0x20) {
            break;
        }
        at += 1;
    }
    at
}
