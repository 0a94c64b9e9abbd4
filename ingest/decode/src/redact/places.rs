//! What a secret stands beside: a name and a sign, a header, the scheme of `Authorization`, a URL.
//!
//! Guarantee: each finding begins at a sign of [`runs::scan`], so that whoever has looked at the signs has seen all of them; and a
//! text is read a bounded number of times, whatever stands in it.
//!
//! ```text
//!  name=value   name: value   'name': 'value'   "name": ["value"]   form[name]=value   --name value   <name>value</name>
//!      ▲            ▲               ▲                 ▲                      ▲         ▲                   ▲
//! ```

use super::names::{self, Says};
use super::search::Net;
use super::tokens::{self, Hit, Why};
use super::{blocks, commands};

/// Longest authority of a URL that is looked at.
const AUTHORITY_MAX: usize = 1024;
/// Longest name that is looked at, from its end.
const NAME_MAX: usize = 64;
/// Shortest value that is worth a marker in running text.
const VALUE_MIN: usize = 3;
/// Longest value of which it is asked whether it looks random.
const RANDOM_MAX: usize = 4096;
/// Longest value without quotes, so that a text of nothing but names is not read once for each.
const VALUE_MAX: usize = 8192;
/// Longest line of a cookie header.
const LINE_MAX: usize = 4096;
/// Longest name of a scheme of `Authorization`.
const SCHEME_MAX: usize = 64;
/// Longest value behind a colon in running text.
const WORD_MAX: usize = 512;
/// Names of members that hold the name of something, and of those that hold its value: headers, variables, attributes.
const NAMED: &[&str] = &["name", "key", "k", "header", "field", "variable", "attribute", "property", "parameter"];
const VALUED: &[&str] = &["value", "v", "val", "values", "stringvalue"];

/// Whether a member holds the name of something.
pub(crate) fn is_named(key: &str) -> bool {
    NAMED.iter().any(|n| n.eq_ignore_ascii_case(key))
}

/// Whether a member holds the value of what another names.
pub(crate) fn is_valued(key: &str) -> bool {
    VALUED.iter().any(|n| n.eq_ignore_ascii_case(key))
}

/// Whether something is announced at a sign; false is certain.
#[inline]
pub(crate) fn announced(text: &[u8], at: usize) -> bool {
    match text[at] {
        // Nearly every sign stands right behind a word that tells nothing.
        b'=' if code(text, at).is_some() || password_call(text, at).is_some() => true,
        b'=' | b':' if is_plain(text, at) => false,
        b'=' | b':' => {
            let named = named_before(text, at);
            blocks::is_putty(named.name)
                || named.name == names::KEY_TYPE.as_bytes()
                || names::says(named.name, true) != Says::Nothing
                || named_value(text, at, &named).is_some_and(|(name, _)| names::says(name, true) != Says::Nothing)
        }
        b'@' => authority_before(text, at).is_some_and(|at| url_password(text, at).is_some()),
        b'-' if text[at - 1] == b'-' => {
            blocks::begins(text, at - 1) || names::says(option_at(text, at), true) != Says::Nothing
        }
        b'-' | b'\'' => commands::announced(text, at),
        b'>' => element(text, at).is_some_and(|name| names::says(name, true) != Says::Nothing),
        b' ' => scheme(text, at).is_some(),
        _ => false,
    }
}

/// Whether a sign stands right behind a word that cannot tell, and before something that is not the name of anything.
#[inline]
fn is_plain(text: &[u8], at: usize) -> bool {
    let word = text[..at].last().is_some_and(u8::is_ascii_alphanumeric);
    let begins = matches!(text.get(at + 1), Some(b'"' | b'\'' | b'\\' | b' ' | b'\t' | b'\n' | b'\r'));
    // The end of `%5D`.
    word && !begins && !matches!(text[at - 1], b'D' | b'd') && !names::may_tell(&text[..at])
}

/// What is found at a sign.
pub(crate) fn found(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    if let Some(start) = block_at(text, at) {
        return Some(blocks::block(text, start));
    }
    match text[at] {
        b'=' | b':' => assigned(text, at, net),
        b'@' => authority_before(text, at)
            .and_then(|at| url_password(text, at))
            .map(|(start, end)| hit(start, end, "url_password", Why::Place)),
        b'-' if text[at - 1] == b'-' => argument(text, at, net),
        b'-' => commands::option(text, at, net),
        b'\'' => commands::quoted(text, at, net),
        b'>' => content(text, at, net),
        b' ' => scheme(text, at),
        _ => None,
    }
}

fn hit(start: usize, end: usize, kind: &'static str, why: Why) -> Hit {
    Hit { start, end, kind, why }
}

/// Where the private key begins that a sign announces.
#[inline]
pub(crate) fn block_at(text: &[u8], at: usize) -> Option<usize> {
    match text[at] {
        b'-' => at.checked_sub(1).filter(|start| blocks::begins(text, *start)),
        b':' => {
            let name = word_before(text, at);
            blocks::is_putty(name).then(|| at - name.len())
        }
        _ => None,
    }
}

/// Where the `://` stands whose authority an `@` is part of, the first of several.
#[inline]
fn authority_before(text: &[u8], at: usize) -> Option<usize> {
    let floor = at.saturating_sub(AUTHORITY_MAX + 3);
    let slash =
        floor + text[floor..at].iter().rposition(|b| matches!(b, b'/' | b'@' | b'"' | b' ' | b'\n' | b'<' | b'>'))?;
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

/// What follows `Bearer`, `Basic` or `DPoP`, if it is no running text; given where the space stands.
fn scheme(text: &[u8], at: usize) -> Option<Hit> {
    const SCHEMES: &[&[u8]] = &[b"bearer", b"Bearer", b"BEARER", b"basic", b"Basic", b"BASIC", b"DPoP", b"dpop"];
    const LENGTH_MIN: usize = 8;
    if !SCHEMES.iter().any(|scheme| text[..at].ends_with(scheme)) {
        return None;
    }
    let start = at + text[at..].iter().take_while(|b| **b == b' ').count();
    let end = start + text[start..].iter().take_while(|b| credential(**b)).count();
    let secret = &text[start..end];
    let random = secret.iter().any(u8::is_ascii_digit)
        || (secret.len() >= 16
            && secret.iter().any(u8::is_ascii_uppercase)
            && secret.iter().any(u8::is_ascii_lowercase));
    let pair = || tokens::decode(secret).is_some_and(|p| p.is_ascii() && p.contains(&b':'));
    (secret.len() >= LENGTH_MIN && (random || pair())).then(|| hit(start, end, "bearer", Why::Place))
}

fn credential(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'+' | b'/' | b'=' | b'-')
}

/// A name before a sign.
#[derive(Clone, Copy)]
struct Named<'t> {
    name: &'t [u8],
    /// Whether it stands between quotes.
    quoted: bool,
    /// Whether spaces part it from the sign.
    apart: bool,
}

/// The name that ends before a sign: by letters, digits and `_ - .`, or between quotes; of a form's `user[password]` the last part.
#[inline]
fn named_before(text: &[u8], at: usize) -> Named<'_> {
    const SPACES_MAX: usize = 8;
    let mut end = at;
    // `name := value`
    if text[at] == b'=' && text[..end].ends_with(b":") {
        end -= 1;
    }
    let near = end;
    end -= text[..end].iter().rev().take(SPACES_MAX).take_while(|b| matches!(b, b' ' | b'\t')).count();
    let apart = end < near;
    if let Some(quote @ (b'"' | b'\'')) = text[..end].last() {
        end -= 1;
        end -= text[..end].iter().rev().take_while(|b| **b == b'\\').count();
        let floor = end.saturating_sub(NAME_MAX);
        let start = floor + text[floor..end].iter().rposition(|b| b == quote).map_or(0, |n| n + 1);
        return Named { name: &text[start..end], quoted: true, apart };
    }
    let bracket = [&b"']"[..], b"\"]", b"]", b"%5D", b"%5d"].into_iter().find(|close| text[..end].ends_with(close));
    end -= bracket.map_or(0, <[u8]>::len);
    Named { name: word_before(text, end), quoted: false, apart }
}

#[inline]
pub(super) fn word_before(text: &[u8], end: usize) -> &[u8] {
    let floor = end.saturating_sub(NAME_MAX);
    let named = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let start = floor + text[floor..end].iter().rposition(|b| !named(b)).map_or(0, |n| n + 1);
    &text[start..end]
}

fn spaces(text: &[u8], from: usize) -> usize {
    from + text[from..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count()
}

/// `name=value`, `name: value`, and `"name": value`.
fn assigned(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    if text[at] == b'='
        && let Some((start, end)) = code(text, at)
    {
        return Some(hit(start, end, "oauth_code", Why::Place));
    }
    if let Some(quote) = password_call(text, at) {
        let (start, end) = bare_or_quoted(text, quote, net.loose);
        return judge(text, start, end, Says::Secret, "assignment", 1);
    }
    let named = named_before(text, at);
    let says = match net.says(named.name) {
        Says::Nothing if net.loose && named.quoted && names::is_key_part(named.name) && speaks_of_key(text, at) => {
            Says::Perhaps
        }
        says => says,
    };
    if says == Says::Nothing {
        let (name, end) = named_value(text, at, &named)?;
        let (says, from) = (net.says(name), beside(text, end)?);
        let whole = says == Says::Secret;
        let (start, end) = value_of_member(text, from, net.loose, (whole, whole));
        return judge(text, start, end, says, "member", 1);
    }
    let after = &text[at + 1..];
    let is_other = match text[at] {
        // A scheme of a URL; `:=`, which its second sign tells.
        b':' => after.starts_with(b"//") || after.starts_with(b"="),
        // A comparison.
        _ => after.starts_with(b"="),
    };
    if is_other {
        return None;
    }
    let from = at + 1 + usize::from(text[at] == b'=' && after.starts_with(b">"));
    if named.quoted {
        // As an object some names are structure.
        let whole = (says == Says::Secret, net.tells(named.name));
        let from = from + text[from..].iter().take_while(|b| b.is_ascii_whitespace()).count();
        let (start, end) = value_of_member(text, from, net.loose, whole);
        return judge(text, start, end, says, "member", 1);
    }
    let colon = text[at] == b':';
    let from = if colon || named.apart || net.loose { spaces(text, from) } else { from };
    let from = match colon {
        true => next_line(text, from).unwrap_or(from),
        false => wrapped(text, from),
    };
    if colon && let Some(header) = header(text, from, named.name, net) {
        return header;
    }
    // In prose a sign follows telling names too.
    let prose = !net.loose && (colon || named.apart);
    if !prose && let Some((start, end)) = container(text, from) {
        return judge(text, start, end, says, "assignment", VALUE_MIN);
    }
    let text = match says {
        // The next assignment ends the value, so that a row of them is read once.
        Says::Perhaps => {
            let near = &text[..text.len().min(from + RANDOM_MAX)];
            let next = near[from..].windows(2).position(|w| w[0] == b'=' && w[1].is_ascii_alphanumeric());
            &near[..next.map_or(near.len(), |n| from + n)]
        }
        _ if prose => &text[..text.len().min(from + WORD_MAX)],
        _ => text,
    };
    let (start, end) = bare_or_quoted(text, from, net.loose);
    (!prose || odd(&text[start..end])).then(|| judge(text, start, end, says, "assignment", VALUE_MIN)).flatten()
}

/// The code of an OAuth redirect in a URL, `?code=X`: long and mixed, or shorter beside a `state`. Others are numbers and words.
fn code(text: &[u8], at: usize) -> Option<(usize, usize)> {
    const QUERY_MAX: usize = 256;
    const ALONE_MIN: usize = 16;
    const BESIDE_STATE_MIN: usize = 6;
    let name = text[..at].strip_suffix(b"code")?;
    if !matches!(name.last(), Some(b'?' | b'&')) {
        return None;
    }
    let ends = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'<' | b'>' | b'\\' | b')');
    let near = &text[at + 1..text.len().min(at + 1 + QUERY_MAX)];
    let query = &near[..near.iter().position(ends).unwrap_or(near.len())];
    let value = query.split(|b| matches!(b, b'&' | b'#')).next()?;
    let before = &name[name.len().saturating_sub(QUERY_MAX)..];
    let before = before.rsplit(ends).next().unwrap_or_default();
    let beside = [before, query]
        .iter()
        .any(|part| [&b"?state="[..], b"&state="].iter().any(|state| memchr::memmem::find(part, state).is_some()));
    let mixed = value.iter().any(u8::is_ascii_digit) && value.iter().any(u8::is_ascii_alphabetic);
    let min = if beside { BESIDE_STATE_MIN } else { ALONE_MIN };
    (value.len() >= min && mixed && !names::is_placeholder(value)).then_some((at + 1, at + 1 + value.len()))
}

/// Whether a text says near a place that it is a key of JOSE: `"kty"`.
fn speaks_of_key(text: &[u8], at: usize) -> bool {
    const NEAR: usize = 1024;
    memchr::memmem::find(&text[at.saturating_sub(NEAR)..text.len().min(at + NEAR)], b"\"kty\"").is_some()
}

/// The value of YAML that stands on the line after its name, as it is or as a block, given where it would stand on the same.
fn next_line(text: &[u8], from: usize) -> Option<usize> {
    const INDENT_MAX: usize = 64;
    let block = text[from..].iter().take(3).take_while(|b| matches!(b, b'|' | b'>' | b'-' | b'+')).count();
    let end = spaces(text, from + block);
    let rest = text[end..].strip_prefix(b"\r").unwrap_or(&text[end..]);
    // Also as it is written in JSON that could not be read.
    let broken = rest.strip_prefix(b"\n").or_else(|| rest.strip_prefix(b"\\n"))?;
    let start = text.len() - broken.len();
    let indent = broken.iter().take(INDENT_MAX).take_while(|b| **b == b' ').count();
    let word = broken[indent..].split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let value = indent > 0 && !word.is_empty() && !word.ends_with(b":") && word != b"-" && !word.starts_with(b"#");
    value.then_some(start + indent)
}

/// Where the quote stands in `= PASSWORD('x')`, whatever the name before it.
fn password_call(text: &[u8], at: usize) -> Option<usize> {
    const CALL: &[u8] = b"password('";
    let from = spaces(text, at + 1);
    let is_call = text[at] == b'=' && text.get(from..from + CALL.len())?.eq_ignore_ascii_case(CALL);
    is_call.then(|| from + CALL.len() - 1)
}

/// Where the quote stands that a call or a letter of SQL is around: `PASSWORD('x')`, `N'x'`.
fn wrapped(text: &[u8], from: usize) -> usize {
    const CALL_MAX: usize = 16;
    let word = text[from..].iter().take(CALL_MAX).take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    let open = from + word;
    let quote = |at: usize| text.get(at) == Some(&b'\'');
    match word {
        1 if quote(open) => open,
        1.. if text.get(open) == Some(&b'(') && quote(open + 1) => open + 1,
        _ => from,
    }
}

/// `Cookie: value` and `Authorization: value`, to their ends.
fn header(text: &[u8], start: usize, name: &[u8], net: Net<'_>) -> Option<Option<Hit>> {
    let line = |most: usize| {
        let near = &text[start..text.len().min(start + most)];
        let ends = |b: &u8| matches!(b, b'\r' | b'\n' | b'"' | b'\'' | b'\\');
        start + near.iter().position(ends).unwrap_or(near.len())
    };
    let folded = names::Folded::new(name);
    if folded.ends_with("cookie") {
        let line = line(LINE_MAX);
        if text[start..line].contains(&b'=') {
            return Some(judge(text, start, line, Says::Secret, "header", VALUE_MIN));
        }
    }
    if !folded.ends_with("authorization") {
        return None;
    }
    // One word may go before: the scheme.
    let word = text[start..line(SCHEME_MAX)].iter().position(|b| *b == b' ').map(|n| start + n);
    let scheme = word.filter(|w| text[start..*w].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-'));
    let start = scheme.map_or(start, |w| spaces(text, w));
    if let Some((start, end)) = container(text, start) {
        return Some(judge(text, start, end, Says::Secret, "header", VALUE_MIN));
    }
    let (start, end) = bare_or_quoted(text, start, net.loose);
    Some(judge(text, start, end, Says::Secret, "header", VALUE_MIN))
}

/// The text of a member that names something, and where it ends: `"name": "password"`.
fn named_value<'t>(text: &'t [u8], at: usize, named: &Named<'_>) -> Option<(&'t [u8], usize)> {
    if named.name.len() > 9 || !std::str::from_utf8(named.name).is_ok_and(is_named) {
        return None;
    }
    let from = at + 1 + text[at + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count();
    let near = &text[..text.len().min(from + 2 * NAME_MAX)];
    let (start, end) = quoted(near, from)?;
    Some((&text[start..end], end))
}

/// Where the value begins of a member that stands beside the one that names it: `"name": "password", "value": "..."`.
fn beside(text: &[u8], from: usize) -> Option<usize> {
    const BETWEEN_MAX: usize = 16;
    let sign = |b: &u8| matches!(b, b'\\' | b'"' | b'\'' | b',') || b.is_ascii_whitespace();
    let start = from + text[from..].iter().take(BETWEEN_MAX).take_while(|b| sign(b)).count();
    let end = start + text[start..].iter().take(BETWEEN_MAX).take_while(|b| b.is_ascii_alphanumeric()).count();
    if !std::str::from_utf8(&text[start..end]).is_ok_and(is_valued) {
        return None;
    }
    let quote = |b: &u8| matches!(b, b'\\' | b'"' | b'\'') || b.is_ascii_whitespace();
    let sign = end + text[end..].iter().take(BETWEEN_MAX).take_while(|b| quote(b)).count();
    let signed = matches!(text.get(sign), Some(b':' | b'='));
    signed.then(|| sign + 1 + text[sign + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count())
}

pub(super) fn judge(text: &[u8], start: usize, end: usize, says: Says, kind: &'static str, min: usize) -> Option<Hit> {
    let value = &text[start..end];
    let why = match says {
        Says::Secret => Why::Place,
        Says::Perhaps if names::random(value) => Why::Entropy,
        _ => return None,
    };
    (value.len() >= min && !names::is_placeholder(value)).then(|| hit(start, end, kind, why))
}

/// The value of a member, from where it begins: what stands between its quotes, a number, and if `whole` says so a list or an object. Of
/// a list that is none by its name the first text.
fn value_of_member(text: &[u8], from: usize, loose: bool, (list, object): (bool, bool)) -> (usize, usize) {
    let brackets = match text.get(from) {
        Some(b'[') if list => container(text, from),
        Some(b'{') if object => container(text, from),
        Some(b'[') => quoted(text, from + 1),
        _ => None,
    };
    if let Some(found) = quoted(text, from).or(brackets) {
        return found;
    }
    let stops = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'"' | b',' | b'[' | b']' | b'{' | b'}' | b'\\');
    let end = from + text[from..].iter().position(stops).unwrap_or(text.len() - from);
    let number = matches!(text.get(from), Some(b'0'..=b'9' | b'-'));
    (from, if number || loose { end } else { from })
}

/// A list or an object to the bracket that closes it, or to the end of the text. Brackets between quotes do not count.
fn container(text: &[u8], from: usize) -> Option<(usize, usize)> {
    let placeholder = names::starts_as_placeholder(&text[from..]) || names::marker(&text[from..]).is_some();
    if placeholder || !matches!(text.get(from), Some(b'[' | b'{')) {
        return None;
    }
    let (mut depth, mut at) = (0usize, from);
    while at < text.len() {
        match text[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some((from, at + 1));
                }
            }
            b'"' | b'\'' | b'\\' => {
                at = match quoted(text, at) {
                    // Behind the quote that closes it, and its escapes.
                    Some((start, end)) => end + (start - at),
                    None => at + text[at..].iter().take_while(|b| **b == b'\\').count(),
                };
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Some((from, text.len()))
}

/// A value without its quotes, from where it begins.
pub(super) fn bare_or_quoted(text: &[u8], from: usize, loose: bool) -> (usize, usize) {
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

/// Whether a word is none of a language. In prose a colon follows telling names too: `the secret: patience`.
pub(super) fn odd(value: &[u8]) -> bool {
    let [first, inner @ .., _] = value else { return false };
    let sign = |b: &u8| matches!(b, b'!' | b'@' | b'#' | b'$' | b'%' | b'^' | b'*' | b'=' | b'+');
    value.len() >= 6
        && (value.iter().any(u8::is_ascii_digit)
            || sign(first)
            || inner.iter().any(sign)
            || (value[1..].iter().any(u8::is_ascii_uppercase) && value.iter().any(u8::is_ascii_lowercase)))
}

/// The name of `--name`, given where its second dash stands.
fn option_at(text: &[u8], at: usize) -> &[u8] {
    let begins = at < 2 || !(text[at - 2].is_ascii_alphanumeric() || matches!(text[at - 2], b'-' | b'_'));
    let named = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let length = if begins { text[at + 1..].iter().take(NAME_MAX).take_while(named).count() } else { 0 };
    &text[at + 1..at + 1 + length]
}

/// Whether a sign within a value may announce another that begins where this one ends: `password=token: x`, `password=--token x`.
pub(crate) fn leads_on(text: &[u8], at: usize, end: usize) -> bool {
    at + 1 == end || (text[at] == b'-' && at + 1 + option_at(text, at).len() == end)
}

/// The value of `--name value`, also as two texts of a list.
fn argument(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    let name = option_at(text, at);
    let says = net.says(name);
    if says == Says::Nothing {
        return None;
    }
    let end = at + 1 + name.len();
    let between = |b: &u8| matches!(b, b'\\' | b'"' | b'\'' | b',' | b' ' | b'\t' | b'\n');
    let from = match text.get(end)? {
        b' ' => spaces(text, end),
        b'"' | b'\'' | b'\\' => {
            let gap = &text[end..][..text[end..].iter().take(16).take_while(|b| between(b)).count()];
            let comma = memchr::memchr(b',', gap)?;
            end + comma + 1 + gap[comma + 1..].iter().take_while(|b| b.is_ascii_whitespace()).count()
        }
        _ => return None,
    };
    let (start, end) = bare_or_quoted(text, from, net.loose);
    (text.get(start) != Some(&b'-')).then(|| judge(text, start, end, says, "assignment", VALUE_MIN)).flatten()
}

/// The name of the option that a text of a list is, so that its value is the next.
pub(crate) fn option(text: &str) -> Option<&str> {
    text.strip_prefix("--").filter(|name| name.len() <= NAME_MAX && !name.contains(['=', ' ']))
}

/// The name of the element that a `>` opens, without its namespace.
fn element(text: &[u8], at: usize) -> Option<&[u8]> {
    const TAG_MAX: usize = 128;
    let floor = at.saturating_sub(TAG_MAX);
    let open =
        floor + text[floor..at].iter().rposition(|b| matches!(b, b'<' | b'>')).filter(|n| text[floor + n] == b'<')?;
    let tag = &text[open + 1..at];
    let name = tag.split(u8::is_ascii_whitespace).next()?;
    let closed = matches!(tag.first(), Some(b'/' | b'!' | b'?')) || tag.ends_with(b"/");
    (!closed).then(|| name.rsplit(|b| *b == b':').next()).flatten()
}

/// What an element holds.
fn content(text: &[u8], at: usize, net: Net<'_>) -> Option<Hit> {
    let says = net.says(element(text, at)?);
    let near = &text[at + 1..text.len().min(at + 1 + VALUE_MAX)];
    let end = at + 1 + memchr::memchr(b'<', near).unwrap_or(near.len());
    judge(text, at + 1, end, says, "member", VALUE_MIN)
}

/// Fields of an encoding that could not be read: a name, a few bytes of tags and lengths, and then its value, without any sign.
pub(crate) fn fields(text: &[u8], net: Net<'_>, hits: &mut Vec<Hit>) {
    /// Tag and length of the value, and of what it may be wrapped in.
    const GAP_MAX: usize = 12;
    /// A tag or a length may look like a character of the name.
    const TAIL_MAX: usize = 2;
    let plain = |b: &u8| *b >= 0x20 && *b != 0x7f;
    if text.iter().all(|b| plain(b) || b.is_ascii_whitespace()) {
        return;
    }
    let (mut at, mut named) = (0, None);
    while at < text.len() {
        let end = at + text[at..].iter().take_while(|b| plain(b)).count();
        if end - at >= VALUE_MIN {
            if let Some((from, says)) = named.take()
                && at - from <= GAP_MAX
            {
                hits.extend(judge(text, at, end, says, "member", VALUE_MIN));
            }
            let near = &text[end.saturating_sub(NAME_MAX).max(at)..end];
            let says = (0..=TAIL_MAX).filter_map(|n| near.len().checked_sub(n)).map(|n| net.says(&near[..n]));
            let said = says.filter(|s| *s != Says::Nothing).min_by_key(|s| *s != Says::Secret);
            named = said.map(|says| (end, says));
        }
        at = end + 1;
    }
}
