//! Where the secrets of a text are.
//!
//! Guarantee: [`hits`] gives disjoint places in ascending order, and whatever it finds in a text, [`suspects`] has suspected
//! (the reverse need not be). Encodings are undone to a depth of [`DEPTH_MAX`]; what is found behind one takes the place of
//! the encoded word as a whole, because half a word decodes to nothing anybody wants.

use super::Rules;
use super::names::{self, Says};
use super::tokens::{self, Hit};
use super::{blocks, commands, places, runs};

/// Encodings within encodings that are undone.
pub(crate) const DEPTH_MAX: u8 = 4;
/// Shortest encoded word that is decoded: `password=abc` has 16 characters of base64.
const ENCODED_MIN: usize = 16;

/// How to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Net<'n> {
    /// Which names tell, and which kinds are looked for, besides what is built in.
    pub(crate) rules: &'n Rules,
    /// Bytes of which the structure is unknown: names followed by a colon count like assignments.
    pub(crate) loose: bool,
    /// Encodings that may still be undone.
    pub(crate) depth: u8,
    /// Whether words may be part of a private key that begins in another text.
    pub(crate) in_key: bool,
}

impl Net<'_> {
    pub(crate) fn says(&self, name: &[u8]) -> Says {
        match self.rules.name(name) {
            Some(true) => Says::Secret,
            Some(false) => Says::Nothing,
            None => names::says(name, true),
        }
    }

    /// Whether an object under a name is a secret too.
    pub(crate) fn tells(&self, name: &[u8]) -> bool {
        self.rules.name(name).unwrap_or_else(|| names::says(name, false) == Says::Secret)
    }
}

/// Whether a record's text may hold a secret; false is certain, the values of telling members apart ([`names::may_tell`]).
#[inline]
pub(crate) fn suspects_record(text: &[u8]) -> bool {
    quick::<false>(text, DEPTH_MAX)
}

/// The same for a text by itself, telling members included.
#[inline]
pub(crate) fn suspects(text: &[u8]) -> bool {
    quick::<true>(text, DEPTH_MAX)
}

/// One pass: at each long word, and at each sign.
#[inline]
fn quick<const MEMBERS: bool>(text: &[u8], depth: u8) -> bool {
    let says = |word: &[u8]| plain_text(word).is_some_and(|plain| quick::<true>(&plain, depth - 1));
    let mut done = 0;
    runs::scan::<MEMBERS>(
        text,
        |start, end| {
            (depth > 0 && says(&text[start..end]))
                || tokens::any(text, (start, end), |from, to| {
                    depth > 0 && to - from < end - start && says(&text[from..to])
                })
        },
        |at| {
            if text[at] != b'%' {
                return places::announced(text, at);
            }
            if depth == 0 || at < done || !is_escape(text, at) {
                return false;
            }
            let (start, end) = percent_word(text, done, at);
            done = end;
            quick::<true>(&unescape(&text[start..end]), depth - 1)
        },
    )
}

/// Everything that is found.
pub(crate) fn hits(text: &[u8], net: Net<'_>) -> Vec<Hit> {
    let mut signs = Vec::new();
    let mut hits = Vec::new();
    runs::scan::<true>(
        text,
        |start, end| {
            tokens::all_within(text, (start, end), &mut hits);
            match (net.in_key, net.loose) {
                (true, _) => blocks::words(text, (start, end), &mut hits),
                (false, true) => blocks::lines(text, (start, end), &mut hits),
                (false, false) => {}
            }
            false
        },
        |at| {
            signs.push(at);
            false
        },
    );
    // What belongs to one value is not searched for another: two ways to read it, and quadratic. A block of a key may begin in
    // a value that ends before it does.
    let (mut value, mut block) = (0..0, 0..0);
    for at in signs {
        let is_value = !matches!(text[at], b'@' | b' ');
        let is_block = !block.contains(&at) && places::block_at(text, at).is_some();
        if is_value && !is_block && value.contains(&at) && !places::leads_on(text, at, value.end) {
            continue;
        }
        let found = places::found(text, at, net);
        if let Some(hit) = found.filter(|_| is_block) {
            block = hit.start..hit.end;
        }
        // What stands between a sign and its value may hold signs of its own.
        if let Some(hit) = found.filter(|h| is_value && h.end > value.end) {
            value = hit.start..hit.end;
        }
        hits.extend(found);
    }
    if net.loose {
        places::fields(text, net, &mut hits);
        commands::netrc(text, net, &mut hits);
    }
    hits.retain(|h| net.rules.wants(h.kind) && !in_marker(text, h.start, h.end));
    let hits = disjoint(hits);
    if net.depth == 0 {
        return hits;
    }
    let hidden = hidden(text, &hits, Net { depth: net.depth - 1, ..net });
    if hidden.is_empty() { hits } else { disjoint([hits, hidden].concat()) }
}

/// Words that say something secret when their encoding is undone.
fn hidden(text: &[u8], seen: &[Hit], net: Net<'_>) -> Vec<Hit> {
    let count = |start: usize, end: usize| {
        let after = |at: usize| seen.partition_point(|h| h.end <= at);
        let first = after(start);
        seen[first..].iter().take_while(|h| h.start < end).count()
    };
    let mut hidden = Vec::new();
    let mut within = |start: usize, end: usize| {
        if count(start, end) == 0 {
            encoded(text, start, end, |(start, end), plain| {
                let first = hits(plain, net).into_iter().next();
                let padding = text[end..].iter().take(2).take_while(|b| **b == b'=').count();
                hidden.extend(first.map(|h| Hit { start, end: end + padding, ..h }));
                first.is_some()
            });
        }
        false
    };
    runs::scan::<true>(text, &mut within, |_| false);
    let mut done = 0;
    for at in memchr::memchr_iter(b'%', text) {
        if at < done || !is_escape(text, at) {
            continue;
        }
        let (start, end) = percent_word(text, done, at);
        done = end;
        let inside = hits(&unescape(&text[start..end]), net);
        // What can be seen without decoding has its own, narrower place.
        if inside.len() > count(start, end) {
            hidden.push(Hit { start, end, ..inside[0] });
        }
    }
    hidden
}

/// Whether a place is part of a marker, which may be looked at again.
fn in_marker(text: &[u8], start: usize, end: usize) -> bool {
    const MARKER_MAX: usize = 48;
    let floor = start.saturating_sub(MARKER_MAX);
    let near = &text[floor..text.len().min(start + 10)];
    memchr::memmem::rfind(near, b"[redacted:")
        .map(|n| floor + n)
        .is_some_and(|open| names::marker(&text[open..]).is_some_and(|length| end <= open + length))
}

/// Joins what overlaps, under the name of what is surest.
pub(super) fn disjoint(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_by_key(|h| (h.start, std::cmp::Reverse(h.end)));
    let mut out: Vec<Hit> = Vec::with_capacity(hits.len());
    for next in hits {
        match out.last_mut() {
            Some(last) if next.start < last.end => {
                last.end = last.end.max(next.end);
                if next.why < last.why {
                    (last.kind, last.why) = (next.kind, next.why);
                }
            }
            _ => out.push(next),
        }
    }
    out
}

/// Hands what a word may be in base64 to `found`, until it says true: the whole word, or else its parts.
fn encoded(text: &[u8], start: usize, end: usize, mut found: impl FnMut((usize, usize), &[u8]) -> bool) -> bool {
    if let Some(plain) = plain_text(&text[start..end]) {
        return found((start, end), &plain);
    }
    let mut from = start;
    while from < end {
        let part = text[from..end].iter().position(|b| !b.is_ascii_alphanumeric()).unwrap_or(end - from);
        if part < end - start
            && plain_text(&text[from..from + part]).is_some_and(|plain| found((from, from + part), &plain))
        {
            return true;
        }
        from += part + 1;
    }
    false
}

/// What a word says in base64, hexadecimal digits or base 32, when it says text.
fn plain_text(word: &[u8]) -> Option<Vec<u8>> {
    if word.len() < ENCODED_MIN {
        return None;
    }
    let base64 = || tokens::decode(&word[..word.len() - usize::from(word.len() % 4 == 1)]);
    let plain = if ascii_behind(word) { base64() } else { None };
    let plain = plain.or_else(|| of_digits(word)).or_else(|| of_base32(word))?;
    let control = |b: &u8| (*b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) || *b == 0x7f;
    (!plain.iter().any(control) && (plain.is_ascii() || std::str::from_utf8(&plain).is_ok())).then_some(plain)
}

/// The bytes that hexadecimal digits stand for, if the first of them are characters: no more than one id in a hundred begins so.
fn of_digits(word: &[u8]) -> Option<Vec<u8>> {
    const CHECKED: usize = 4;
    let character = |pair: &[u8; 2]| matches!(pair[0], b'2'..=b'7');
    let pairs = word.as_chunks::<2>().0;
    if word.len() % 2 == 1 || !pairs.iter().take(CHECKED).all(character) {
        return None;
    }
    hex::decode(word).ok()
}

/// The same for base 32, without padding.
fn of_base32(word: &[u8]) -> Option<Vec<u8>> {
    let five = |b: &u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'2'..=b'7' => Some(b - b'2' + 26),
        _ => None,
    };
    // The first five bits of a character.
    if !matches!(word.first()?, b'E'..=b'P') || !word.iter().all(|b| five(b).is_some()) {
        return None;
    }
    let (mut out, mut bits, mut held) = (Vec::with_capacity(word.len() * 5 / 8), 0u32, 0u32);
    for b in word {
        held = held << 5 | u32::from(five(b)?);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    Some(out)
}

/// Whether the first nine bytes behind a word of base64 are ASCII: their high bits are fixed bits of the characters. Costs
/// nothing and turns away nearly every id and digest.
fn ascii_behind(word: &[u8]) -> bool {
    let six = |b: u8| match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' | b'-' => 62,
        _ => 63,
    };
    word.as_chunks::<4>()
        .0
        .iter()
        .take(3)
        .all(|[a, b, c, _]| six(*a) & 0x20 == 0 && six(*b) & 0x08 == 0 && six(*c) & 0x02 == 0)
}

#[inline]
fn is_escape(text: &[u8], at: usize) -> bool {
    matches!(text.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// The word around an escape, as one value of a query or form; it begins no earlier than `floor`.
fn percent_word(text: &[u8], floor: usize, at: usize) -> (usize, usize) {
    let ends = |b: &u8| {
        b.is_ascii_whitespace()
            || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'&' | b'=' | b';' | b',' | b'\\' | b'{' | b'}' | b'[' | b']')
    };
    let start = floor + text[floor..at].iter().rposition(ends).map_or(0, |n| n + 1);
    (start, at + text[at..].iter().position(ends).unwrap_or(text.len() - at))
}

/// Without the escapes of URLs.
fn unescape(word: &[u8]) -> Vec<u8> {
    let hex = |b: u8| (b as char).to_digit(16);
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        rest = match after {
            [a, b, tail @ ..]
                if *first == b'%'
                    && let (Some(a), Some(b)) = (hex(*a), hex(*b)) =>
            {
                out.push((a * 16 + b) as u8);
                tail
            }
            _ => {
                out.push(*first);
                after
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// What the quick look does not suspect, nobody looks at.
        #[test]
        fn what_is_found_has_been_suspected(text in concat!(
            "((passwd|DB_PASSWORD|x.apiKey|token|sig|name|auth|Cookie|user\\[pwd|<secret)",
            "( ?[=:]|\\\\?['\"][ \t]?:|'?\\]=|%5D=|>|=>| := |=%22)[ \"'\\[{]{0,3}",
            "(hunter2!x|9tGk2LmQx7VbZp4RwYc8NdJh|cGFzc3dvcmQ9aHVudGVyMg|value)[\"'\\]} &,;]{0,3}",
            "|--pass-word |Bearer 9tGk2LmQx7|https://a:b@|%70assword%3Dabc|\"name\":\"pin\",\"value\":|[a-z :]{0,5}){0,8}"
        )) {
            let rules = Rules::default();
            let found = hits(text.as_bytes(), Net { rules: &rules, loose: false, depth: DEPTH_MAX, in_key: false });
            assert!(found.is_empty() || suspects(text.as_bytes()), "{text}: {found:?}");
        }
    }

    #[test]
    #[ignore = "a figure for people, not a judgement"]
    fn parts_of_the_quick_look() {
        let text = include_str!("../../tests/clean.json").trim().as_bytes();
        let time = |name: &str, f: &dyn Fn() -> bool| {
            let mut best = std::time::Duration::MAX;
            for _ in 0..2000 {
                let began = std::time::Instant::now();
                for _ in 0..100 {
                    std::hint::black_box(f());
                }
                best = best.min(began.elapsed());
            }
            println!("{name}: {:.0} ns", best.as_nanos() as f64 / 100.0);
        };
        time("words and signs", &|| runs::scan::<false>(text, |_, _| false, |_| false));
        time("tokens", &|| runs::scan::<false>(text, |s, e| tokens::any(text, (s, e), |_, _| false), |_| false));
        time("places", &|| runs::scan::<false>(text, |_, _| false, |at| places::announced(text, at)));
        time("all", &|| suspects_record(text));
    }
}
