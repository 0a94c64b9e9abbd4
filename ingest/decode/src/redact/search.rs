//! Where the secrets of a text are.
//!
//! Guarantee: [`hits`] gives disjoint places in ascending order, and whatever it finds in a text, [`suspects`] has suspected
//! (the reverse need not be). Encodings are undone to a depth of [`DEPTH_MAX`]; what is found behind one takes the place of
//! the encoded word as a whole, because half a word decodes to nothing anybody wants.

use super::Rules;
use super::names::{self, Says};
use super::runs;
use super::tokens::{self, Hit, Why};
use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memmem::Finder;
use std::sync::LazyLock;

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
}

impl Net<'_> {
    fn says(&self, name: &[u8]) -> Says {
        match self.rules.name(name) {
            Some(true) => Says::Secret,
            Some(false) => Says::Nothing,
            None => names::says(name, true),
        }
    }
}

/// What announces a secret and is no sign of assignment: schemes of `Authorization`, names of headers, keys in PEM.
const LITERALS: &[&str] = &[
    "PRIVATE KEY",
    "earer ",
    "EARER ",
    "asic ",
    "DPoP ",
    "ization:",
    "ZATION:",
    "ookie:",
    "ssword:",
    "SSWORD:",
    "ecret:",
    "key:",
    "Key:",
    "KEY:",
    "oken:",
    "OKEN:",
];

struct Scan {
    /// By vector instructions, where the processor has them.
    packed: Option<Searcher>,
    automaton: AhoCorasick,
}

static LITERAL: LazyLock<Scan> = LazyLock::new(|| Scan {
    packed: Searcher::new(LITERALS),
    automaton: AhoCorasick::builder()
        .match_kind(MatchKind::LeftmostFirst)
        .build(LITERALS)
        .expect("the literals are few and short"),
});

impl Scan {
    #[inline]
    fn any(&self, text: &[u8]) -> bool {
        match &self.packed {
            Some(packed) => packed.find(text).is_some(),
            None => self.automaton.is_match(text),
        }
    }
}

static AUTHORITY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("://"));

/// Whether a text may hold a secret; false is certain, the values of telling members apart ([`names::may_tell`]).
#[inline]
pub(crate) fn suspects(text: &[u8], starts_known: bool, depth: u8) -> bool {
    LITERAL.any(text)
        || runs::long(text, |start, end| match starts_known {
            true => {
                let says = |word: &[u8]| plain_text(word).is_some_and(|plain| suspects_text(&plain, depth - 1));
                (depth > 0 && says(&text[start..end]))
                    || tokens::any(text, (start, end), |from, to| {
                        depth > 0 && to - from < end - start && says(&text[from..to])
                    })
            }
            false => {
                tokens::within(text, (start, end), false).is_some()
                    || (depth > 0 && encoded(text, start, end, |_, plain| suspects_text(plain, depth - 1)))
            }
        })
        || signs(text, depth)
}

/// Whether an assignment to a telling name is there, a URL with a password, or a word with escapes of URLs that hide something.
#[inline]
fn signs(text: &[u8], depth: u8) -> bool {
    let mut done = 0;
    memchr::memchr3_iter(b'=', b'%', b'@', text).any(|at| {
        match text[at] {
            b'=' => return names::says(name_before(text, at), true) != Says::Nothing,
            b'@' => return authority_before(text, at).is_some_and(|at| url_password(text, at).is_some()),
            _ => {}
        }
        if depth == 0 || at < done || !is_escape(text, at) {
            return false;
        }
        let (start, end) = percent_word(text, done, at);
        done = end;
        suspects_text(&unescape(&text[start..end]), depth - 1)
    })
}

/// The same, telling members included.
pub(crate) fn suspects_text(text: &[u8], depth: u8) -> bool {
    suspects(text, true, depth) || names::may_tell(text)
}

/// Everything that is found.
pub(crate) fn hits(text: &[u8], net: Net<'_>) -> Vec<Hit> {
    let mut hits = Vec::new();
    private_keys(text, &mut hits);
    runs::long(text, |start, end| {
        tokens::all_within(text, (start, end), &mut hits);
        false
    });
    for at in AUTHORITY.find_iter(text) {
        hits.extend(url_password(text, at).map(|(start, end)| hit(start, end, "url_password", Why::Place)));
    }
    schemes(text, &mut hits);
    // What belongs to one value is not searched for another: two ways to read it, and quadratic.
    let mut done = 0;
    for at in memchr::memchr2_iter(b'=', b':', text) {
        if at < done {
            continue;
        }
        let found = if text[at] == b'=' { assigned(text, at, net) } else { named(text, at, net) };
        done = found.map_or(done, |h| h.end);
        hits.extend(found);
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
    runs::long(text, |start, end| {
        if count(start, end) == 0 {
            encoded(text, start, end, |(start, end), plain| {
                let first = hits(plain, net).into_iter().next();
                let padding = text[end..].iter().take(2).take_while(|b| **b == b'=').count();
                hidden.extend(first.map(|h| Hit { start, end: end + padding, ..h }));
                first.is_some()
            });
        }
        false
    });
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

fn hit(start: usize, end: usize, kind: &'static str, why: Why) -> Hit {
    Hit { start, end, kind, why }
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
fn disjoint(mut hits: Vec<Hit>) -> Vec<Hit> {
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

/// PEM and PGP blocks: to the end of the block, or of the text when it is cut.
fn private_keys(text: &[u8], hits: &mut Vec<Hit>) {
    const HEAD_MAX: usize = 64;
    let mut done = 0;
    for at in memchr::memmem::find_iter(text, b"-----BEGIN ") {
        let head = &text[at..text.len().min(at + HEAD_MAX)];
        if at < done || memchr::memmem::find(head, b"PRIVATE KEY").is_none() {
            continue;
        }
        let end = memchr::memmem::find(&text[at..], b"-----END ").map_or(text.len(), |end| {
            let close = at + end + 9;
            memchr::memmem::find(&text[close..], b"-----").map_or(text.len(), |n| close + n + 5)
        });
        hits.push(hit(at, end, "private_key", Why::Proven));
        done = end;
    }
}

/// Longest authority of a URL that is looked at.
const AUTHORITY_MAX: usize = 1024;

/// Where the `://` stands whose authority an `@` is part of.
#[inline]
fn authority_before(text: &[u8], at: usize) -> Option<usize> {
    let floor = at.saturating_sub(AUTHORITY_MAX + 3);
    let slash = floor + text[floor..at].iter().rposition(|b| matches!(b, b'/' | b'"' | b' ' | b'\n' | b'<' | b'>'))?;
    text[..=slash].ends_with(b"://").then(|| slash - 2)
}

/// `scheme://user:password@`; the password, given where the `://` stands.
fn url_password(text: &[u8], at: usize) -> Option<(usize, usize)> {
    if at == 0 || !text[at - 1].is_ascii_alphanumeric() {
        return None;
    }
    let authority = &text[at + 3..text.len().min(at + 3 + AUTHORITY_MAX)];
    let (mut colon, mut end) = (None, None);
    for (i, b) in authority.iter().enumerate() {
        match b {
            b':' if colon.is_none() => colon = Some(i + 1),
            // The last one counts: an unescaped `@` in a password is common.
            b'@' if colon.is_some() => end = Some(i),
            b'@' => return None,
            b'/' | b'?' | b'#' | b'"' | b'\'' | b'\\' | b'<' | b'>' | b' ' | b'\n' | b'\r' | b'\t' => break,
            _ => {}
        }
    }
    let (start, end) = (at + 3 + colon?, at + 3 + end?);
    (start < end && !names::is_placeholder(&text[start..end])).then_some((start, end))
}

/// What follows `Bearer`, `Basic` or `DPoP`, if it is no running text.
fn schemes(text: &[u8], hits: &mut Vec<Hit>) {
    static SCHEMES: LazyLock<AhoCorasick> = LazyLock::new(|| {
        AhoCorasick::new(["bearer ", "Bearer ", "BEARER ", "basic ", "Basic ", "DPoP "])
            .expect("the literals are few and short")
    });
    const LENGTH_MIN: usize = 8;
    for found in SCHEMES.find_iter(text) {
        let start = found.end() + text[found.end()..].iter().take_while(|b| **b == b' ').count();
        let end = start + text[start..].iter().take_while(|b| credential(**b)).count();
        let secret = &text[start..end];
        let random = secret.iter().any(u8::is_ascii_digit)
            || (secret.len() >= 16
                && secret.iter().any(u8::is_ascii_uppercase)
                && secret.iter().any(u8::is_ascii_lowercase));
        let pair = || tokens::decode(secret).is_some_and(|p| p.is_ascii() && p.contains(&b':'));
        if secret.len() >= LENGTH_MIN && (random || pair()) {
            hits.push(hit(start, end, "bearer", Why::Place));
        }
    }
}

fn credential(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b'-')
}

/// The name that ends before a sign, by letters, digits and `_ - .`.
#[inline]
fn name_before(text: &[u8], at: usize) -> &[u8] {
    const NAME_MAX: usize = 48;
    let floor = at.saturating_sub(NAME_MAX);
    let named = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let start = floor + text[floor..at].iter().rposition(|b| !named(b)).map_or(0, |n| n + 1);
    &text[start..at]
}

fn spaces(text: &[u8], from: usize) -> usize {
    from + text[from..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
}

/// `name=value`
fn assigned(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    let loose = net.loose;
    let mut name_end = at;
    while loose && name_end > 0 && text[name_end - 1] == b' ' {
        name_end -= 1;
    }
    let name = name_before(text, name_end);
    let says = net.says(name);
    if says == Says::Nothing {
        return None;
    }
    let after = if loose { spaces(text, at + 1) } else { at + 1 };
    let text = match says {
        // The next assignment ends the value, so that a row of them is read once.
        Says::Perhaps => {
            let near = &text[..text.len().min(after + RANDOM_MAX)];
            let next = near[after..].windows(2).position(|w| w[0] == b'=' && w[1].is_ascii_alphanumeric());
            &near[..next.map_or(near.len(), |n| after + n)]
        }
        _ => text,
    };
    let (start, end) = bare_or_quoted(text, after, loose);
    judge(text, start, end, says, "assignment", VALUE_MIN)
}

/// Shortest value that is worth a marker in running text.
const VALUE_MIN: usize = 3;
/// Longest value of which it is asked whether it looks random.
const RANDOM_MAX: usize = 4096;
/// Longest value without quotes, so that a text of nothing but names is not read once for each.
const VALUE_MAX: usize = 8192;

fn judge(text: &[u8], start: usize, end: usize, says: Says, kind: &'static str, min: usize) -> Option<Hit> {
    let value = &text[start..end];
    if value.len() < min || names::is_placeholder(value) {
        return None;
    }
    match says {
        Says::Secret => Some(hit(start, end, kind, Why::Place)),
        Says::Perhaps if names::random(value) => Some(hit(start, end, kind, Why::Entropy)),
        _ => None,
    }
}

/// A value without its quotes, from where it begins.
fn bare_or_quoted(text: &[u8], from: usize, loose: bool) -> (usize, usize) {
    if let Some(quoted) = quoted(text, from) {
        return quoted;
    }
    // `Authorization=Bearer abc` in bytes that are no JSON.
    let mut from = from;
    for scheme in [&b"bearer "[..], b"basic ", b"dpop "] {
        if loose && text.get(from..from + scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme)) {
            from += scheme.len();
        }
    }
    let stops = |b: &u8| {
        b.is_ascii_whitespace()
            || matches!(b, b'"' | b'\'' | b'&' | b';' | b',' | b'[' | b']' | b'<' | b'>' | b'\\')
            || (loose && matches!(b, b'{' | b'}'))
    };
    // What only stands for a value is none, and not read to its end.
    if names::starts_as_placeholder(&text[from..]) || names::marker(&text[from..]).is_some() {
        return (from, from);
    }
    let near = &text[from..text.len().min(from + VALUE_MAX)];
    (from, from + near.iter().position(stops).unwrap_or(near.len()))
}

/// What stands between quotes, which may be escaped any number of times; to the end when they are not closed.
fn quoted(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let escapes = text[from..].iter().take_while(|b| **b == b'\\').count();
    let quote = *text.get(from + escapes).filter(|b| matches!(b, b'"' | b'\''))?;
    let start = from + escapes + 1;
    for at in memchr::memchr_iter(quote, &text[start..]).map(|n| start + n) {
        let before = text[start..at].iter().rev().take_while(|b| **b == b'\\').count();
        if escapes == 0 && before % 2 == 0 {
            return Some((start, at));
        }
        if escapes > 0 && before <= escapes {
            return Some((start, at - before));
        }
    }
    Some((start, text.len()))
}

/// `"name": value`, and `Name: value` of headers.
fn named(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    let loose = net.loose;
    let before = text[..at].iter().rev().take(8).take_while(|b| **b == b' ').count();
    let end = at - before;
    let quote = *text[..end].last()?;
    if matches!(quote, b'"' | b'\'') {
        return member(text, at, end, quote, net);
    }
    let name = name_before(text, end);
    let says = net.says(name);
    if says == Says::Nothing || text[at + 1..].starts_with(b"//") {
        return None;
    }
    let folded = names::Folded::new(name);
    let start = spaces(text, at + 1);
    let line = |most: usize| {
        let near = &text[start..text.len().min(start + most)];
        let ends = |b: &u8| matches!(b, b'\r' | b'\n' | b'"' | b'\'' | b'\\');
        start + near.iter().position(ends).unwrap_or(near.len())
    };
    if folded.ends_with("cookie") {
        let line = line(LINE_MAX);
        if text[start..line].contains(&b'=') {
            return judge(text, start, line, Says::Secret, "header", VALUE_MIN);
        }
    }
    if folded.ends_with("authorization") {
        // One word may go before: the scheme.
        let word = text[start..line(SCHEME_MAX)].iter().position(|b| *b == b' ').map(|n| start + n);
        let scheme = word.filter(|w| text[start..*w].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'));
        let start = scheme.map_or(start, |w| spaces(text, w));
        let (start, end) = bare_or_quoted(text, start, loose);
        return judge(text, start, end, Says::Secret, "header", VALUE_MIN);
    }
    let text = if loose { text } else { &text[..text.len().min(start + WORD_MAX)] };
    let (start, end) = bare_or_quoted(text, start, loose);
    (loose || odd(&text[start..end])).then(|| judge(text, start, end, says, "assignment", VALUE_MIN)).flatten()
}

/// Longest line of a cookie header.
const LINE_MAX: usize = 4096;
/// Longest name of a scheme of `Authorization`.
const SCHEME_MAX: usize = 64;
/// Longest value behind a colon in running text.
const WORD_MAX: usize = 512;

/// Whether a word is none of a language. In prose a colon follows telling names too: `the secret: patience`.
fn odd(value: &[u8]) -> bool {
    let [first, inner @ .., _] = value else { return false };
    let sign = |b: &u8| matches!(b, b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'*' | b'=' | b'+');
    value.len() >= 6
        && (value.iter().any(u8::is_ascii_digit)
            || sign(first)
            || inner.iter().any(sign)
            || (value[1..].iter().any(u8::is_ascii_uppercase) && value.iter().any(u8::is_ascii_lowercase)))
}

/// `"name": value` inside a text; `end` is behind the quote that closes the name.
fn member(text: &[u8], at: usize, end: usize, quote: u8, net: Net<'_>) -> Option<Hit> {
    const NAME_MAX: usize = 64;
    let escapes = text[..end - 1].iter().rev().take_while(|b| **b == b'\\').count();
    let name_end = end - 1 - escapes;
    let floor = name_end.saturating_sub(NAME_MAX);
    let start = floor + text[floor..name_end].iter().rposition(|b| *b == quote).map_or(0, |n| n + 1);
    let says = net.says(&text[start..name_end]);
    if says == Says::Nothing {
        return None;
    }
    let value = at + 1 + text[at + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let (start, end) = match quoted(text, value) {
        Some(quoted) => quoted,
        None => {
            let stops =
                |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b',' | b'[' | b']' | b'{' | b'}' | b'\\');
            let end = value + text[value..].iter().position(stops).unwrap_or(text.len() - value);
            let number = text.get(value).is_some_and(u8::is_ascii_digit);
            (value, if number || net.loose { end } else { value })
        }
    };
    judge(text, start, end, says, "member", 1)
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

/// What a word says in base64, when it says text.
fn plain_text(word: &[u8]) -> Option<Vec<u8>> {
    if word.len() < ENCODED_MIN || !ascii_behind(word) {
        return None;
    }
    let plain = tokens::decode(&word[..word.len() - usize::from(word.len() % 4 == 1)])?;
    let control = |b: &u8| (*b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r')) || *b == 0x7f;
    (!plain.iter().any(control) && (plain.is_ascii() || std::str::from_utf8(&plain).is_ok())).then_some(plain)
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
        time("literals", &|| LITERAL.any(text));
        time("runs", &|| runs::long(text, |_, _| false));
        time("tokens", &|| runs::long(text, |s, e| tokens::any(text, (s, e), |_, _| false)));
        time("signs", &|| signs(text, 4));
        time("all", &|| suspects(text, true, 4));
    }
}
