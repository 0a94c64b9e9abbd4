//! Tokens of known makers: how each begins, of what and of how much it consists, and what proves it.
//!
//! Guarantee: a token counts only where a word begins, with the alphabet and the length that its maker documents; where the
//! maker put in a structure (JWT) it must be there. A checksum (GitHub, npm) raises the certainty but its absence does not save
//! a token: makers change them, and one token too many is better than one too few.

use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use std::sync::LazyLock;

/// What stands where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) kind: &'static str,
    pub(crate) why: Why,
}

/// What gave a secret away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Its shape, and a checksum or structure inside that holds.
    Proven,
    /// Its shape.
    Shape,
    /// What stands before it: a header, an assignment, a URL.
    Place,
    /// The name of the member it stands under.
    Name,
    /// The name it stands under, and that it looks random.
    Entropy,
    /// A rule of the rule file.
    Rule,
}

impl Why {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Proven => "proven",
            Why::Shape => "shape",
            Why::Place => "place",
            Why::Name => "name",
            Why::Entropy => "entropy",
            Why::Rule => "rule",
        }
    }
}

/// Of what a token consists behind its start.
#[derive(Clone, Copy, Debug)]
enum Of {
    Alnum,
    /// Base 32 of RFC 4648, as AWS writes key ids.
    Base32,
    Hex,
    /// Letters, digits and `_`.
    Word,
    /// Letters, digits, `_` and `-`.
    Url,
    /// The same and `.`.
    Dotted,
    /// Base64, either alphabet.
    Base64,
    /// The same as `Dotted` and `~`.
    Tilde,
}

impl Of {
    #[inline]
    fn has(self, b: u8) -> bool {
        match self {
            Of::Alnum => b.is_ascii_alphanumeric(),
            Of::Base32 => matches!(b, b'A'..=b'Z' | b'2'..=b'7'),
            Of::Hex => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
            Of::Word => b.is_ascii_alphanumeric() || b == b'_',
            Of::Url => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'),
            Of::Dotted => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'),
            Of::Base64 => b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'_' | b'-' | b'='),
            Of::Tilde => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'~'),
        }
    }
}

/// What more is asked of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    None,
    /// Nothing of its alphabet follows: the length is exact.
    Exact,
    /// It is no sequence of words: a long part without separators has a digit.
    Random,
    /// Six characters of base 62 at the end are the CRC-32 of the 30 before.
    Crc,
}

struct Shape {
    kind: &'static str,
    start: &'static str,
    of: Of,
    min: usize,
    max: usize,
    test: Test,
}

macro_rules! shapes {
    ($($kind:literal: [$($start:literal),+] $of:ident $min:literal..$max:literal $test:ident;)+) => {
        &[$($(Shape { kind: $kind, start: $start, of: Of::$of, min: $min, max: $max, test: Test::$test }),+),+]
    };
}

/// By maker. Where one start is that of another too (`sk-ant-`, `sk-`), the longer stands first. A long run of [`super::runs`] is
/// part of every one of them.
const SHAPES: &[Shape] = shapes! {
    "aws_key": ["AKIA", "ASIA", "ABIA", "ACCA"] Base32 16..16 Exact;
    "aws_bedrock_key": ["ABSK"] Base64 100..200 None;
    "alibaba_key": ["LTAI"] Alnum 16..20 Exact;
    "tencent_key": ["AKID"] Alnum 32..32 Exact;
    "github_token": ["ghp_", "gho_", "ghu_", "ghs_", "ghr_"] Alnum 20..255 Crc;
    "github_token": ["github_pat_"] Word 20..255 None;
    "gitlab_token": ["glpat-", "glrt-", "gldt-", "glcbt-", "glptt-", "gloas-", "glft-", "glsoat-", "glimt-", "glagent-", "glffct-"] Dotted 16..255 None;
    "slack_token": ["xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xoxe.xoxb-", "xoxe.xoxp-", "xapp-"] Url 14..400 Random;
    "stripe_key": ["sk_live_", "sk_test_", "rk_live_", "rk_test_"] Alnum 10..255 None;
    "stripe_key": ["whsec_"] Base64 16..255 None;
    "anthropic_key": ["sk-ant-"] Url 16..255 Random;
    "openai_key": ["sk-proj-", "sk-svcacct-", "sk-admin-", "sk-None-"] Url 16..255 Random;
    "sk_key": ["sk-"] Url 16..255 Random;
    "groq_key": ["gsk_"] Alnum 32..255 None;
    "xai_key": ["xai-"] Alnum 32..255 None;
    "perplexity_key": ["pplx-"] Alnum 32..255 None;
    "replicate_token": ["r8_"] Alnum 32..255 None;
    "huggingface_token": ["hf_", "api_org_"] Alnum 30..255 None;
    "google_key": ["AIza"] Url 35..35 None;
    "google_key": ["ya29.", "GOCSPX-"] Dotted 20..2048 None;
    "google_key": ["1//0"] Url 40..255 None;
    "npm_token": ["npm_"] Alnum 36..36 Crc;
    "pypi_token": ["pypi-AgE"] Url 32..1024 None;
    "rubygems_key": ["rubygems_"] Hex 48..48 Exact;
    "docker_token": ["dckr_pat_", "dckr_oat_"] Url 20..255 None;
    "sendgrid_key": ["SG."] Dotted 50..80 None;
    "twilio_key": ["SK"] Hex 32..32 Exact;
    "mailgun_key": ["key-"] Hex 32..32 Exact;
    "digitalocean_token": ["dop_v1_", "doo_v1_", "dor_v1_"] Hex 32..64 None;
    "heroku_key": ["HRKU-"] Url 36..80 None;
    "databricks_token": ["dapi"] Hex 32..32 Exact;
    "vault_token": ["hvs.", "hvb.", "hvr."] Url 20..500 None;
    "terraform_token": ["atlasv1."] Url 40..100 None;
    "doppler_token": ["dp.pt.", "dp.st.", "dp.sa.", "dp.ct."] Dotted 40..80 None;
    "linear_key": ["lin_api_", "lin_oauth_"] Alnum 32..64 None;
    "notion_token": ["ntn_"] Alnum 40..64 None;
    "notion_token": ["secret_"] Alnum 43..43 Exact;
    "postman_key": ["PMAK-"] Url 50..70 None;
    "grafana_token": ["glsa_"] Word 32..80 None;
    "grafana_token": ["glc_"] Base64 32..400 None;
    "newrelic_key": ["NRAK-", "NRJS-", "NRII-"] Url 19..64 None;
    "atlassian_token": ["ATATT3", "ATCTT3", "ATBB"] Base64 28..400 Random;
    "minisign_key": ["RWRTY0Iy"] Base64 180..240 None;
    "age_key": ["AGE-SECRET-KEY-1"] Alnum 58..58 None;
    "supabase_key": ["sbp_", "sb_secret_"] Word 20..80 None;
    "planetscale_token": ["pscale_tkn_", "pscale_pw_", "pscale_oauth_"] Dotted 32..80 None;
    "fly_token": ["fm1_", "fm2_"] Base64 100..2000 None;
    "figma_token": ["figd_", "figu_"] Url 36..64 None;
    "sentry_token": ["sntrys_", "sntryu_"] Base64 64..500 None;
    "square_token": ["sq0atp-", "sq0csp-"] Url 22..64 None;
    "shopify_token": ["shpat_", "shpca_", "shppa_", "shpss_"] Hex 32..32 None;
    "azure_secret": ["8Q~", "7Q~"] Tilde 31..40 None;
};

/// Every kind there is, for the rule file and the policy's version.
pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
    const OTHERS: &[&str] = &[
        "private_key",
        "jwt",
        "telegram_token",
        "discord_token",
        "slack_webhook",
        "url_password",
        "oauth_code",
        "bearer",
        "header",
        "assignment",
        "member",
        "key",
    ];
    SHAPES.iter().map(|s| s.kind).chain(OTHERS.iter().copied())
}

/// What the shapes say, for the policy's version.
pub(crate) fn describe() -> String {
    SHAPES.iter().map(|s| format!("{} {} {:?} {} {} {:?}\n", s.kind, s.start, s.of, s.min, s.max, s.test)).collect()
}

/// Shapes by the first byte of their start.
static BY_FIRST: LazyLock<[Vec<&'static Shape>; 128]> = LazyLock::new(|| {
    let mut by_first = [const { Vec::new() }; 128];
    for shape in SHAPES {
        by_first[usize::from(shape.start.as_bytes()[0] & 0x7f)].push(shape);
    }
    by_first
});

/// For each first byte the second ones with which something may begin, as bits: most words are turned away by these.
static PAIRS: [u128; 128] = {
    let mut pairs = [0u128; 128];
    let mut n = 0;
    while n < SHAPES.len() {
        let start = SHAPES[n].start.as_bytes();
        pairs[start[0] as usize] |= 1 << start[1];
        n += 1;
    }
    pairs[b'e' as usize] |= 1 << b'y';
    // `services/` of Slack.
    pairs[b's' as usize] |= 1 << b'e';
    // Discord begins with any number in base64.
    let mut second = 0;
    while second < 128 {
        if (second as u8).is_ascii_alphanumeric() {
            pairs[b'M' as usize] |= 1 << second;
            pairs[b'N' as usize] |= 1 << second;
            pairs[b'O' as usize] |= 1 << second;
        }
        second += 1;
    }
    pairs
};

#[inline]
fn may_begin(rest: &[u8]) -> bool {
    matches!(rest, [a, b, ..] if PAIRS[usize::from(a & 0x7f)] >> (b & 0x7f) & 1 == 1)
}

/// The first token that begins within a long run, or just before it where a dot ended the run.
#[inline]
fn within(text: &[u8], run: (usize, usize)) -> Option<Hit> {
    let from = before(text, run.0);
    // The one start that stands inside a word: three characters of its own go before it.
    if from < run.0
        && let Some(tilde) = memchr::memmem::find(&text[from..run.0], b"Q~").filter(|n| from + n >= 4)
        && let Some(hit) = at_word(text, from + tilde - 1)
    {
        return Some(hit);
    }
    // Its number is a word by itself, so it begins before the run at any rate.
    if run.0 > 0
        && text[run.0 - 1] == b':'
        && let Some(hit) = telegram(text, run.0)
    {
        return Some(hit);
    }
    let begins = |at: usize| may_begin(&text[at..]).then(|| at_word(text, at)).flatten();
    if let Some(hit) = begins(from) {
        return Some(hit);
    }
    let inner = &text[from..run.1];
    // `\n` and its like in text that was not unescaped.
    let escape = from > 0 && text[from - 1] == b'\\' && matches!(inner.first(), Some(b'n' | b'r' | b't'));
    if escape && let Some(hit) = begins(from + 1) {
        return Some(hit);
    }
    inner
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| !pair[0].is_ascii_alphanumeric())
        .find_map(|(n, _)| begins(from + n + 1))
}

/// Whether a token begins in a long run or before it, and else whether one of its parts without signs says true to `part`:
/// what [`within`] finds, in one pass over a run in which there mostly is nothing.
#[inline]
pub(crate) fn any(text: &[u8], run: (usize, usize), mut part: impl FnMut(usize, usize) -> bool) -> bool {
    let joined = run.0 > 0 && matches!(text[run.0 - 1], b'.' | b':' | b'~' | b'\\');
    if joined && within(text, run).is_some() {
        return true;
    }
    let mut from = run.0;
    while from < run.1 {
        if may_begin(&text[from..]) && at_word(text, from).is_some() {
            return true;
        }
        let end = text[from..run.1].iter().position(|b| !ALNUM[usize::from(*b)]).map_or(run.1, |n| from + n);
        if part(from, end) {
            return true;
        }
        from = end + 1;
    }
    false
}

static ALNUM: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 128 {
        table[b] = (b as u8).is_ascii_alphanumeric();
        b += 1;
    }
    table
};

/// All of them.
pub(crate) fn all_within(text: &[u8], run: (usize, usize), hits: &mut Vec<Hit>) {
    let mut at = run.0;
    while let Some(hit) = (at < run.1).then(|| within(text, (at, run.1))).flatten() {
        at = hit.end.max(at + 1);
        hits.push(hit);
    }
}

/// Where a word begins that dots or a colon join to a run: `SG.`, `ya29.`, `dp.pt.`, `123456789:`.
fn before(text: &[u8], start: usize) -> usize {
    const LOOK_BACK_MAX: usize = 16;
    if start == 0 || !matches!(text[start - 1], b'.' | b':' | b'~') {
        return start;
    }
    let floor = start.saturating_sub(LOOK_BACK_MAX);
    let joined = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'~');
    floor + text[floor..start].iter().rposition(|b| !joined(b)).map_or(0, |at| at + 1)
}

/// The token that begins here.
#[inline]
fn at_word(text: &[u8], at: usize) -> Option<Hit> {
    let rest = &text[at..];
    let first = rest[0];
    for shape in &BY_FIRST[usize::from(first & 0x7f)] {
        if rest.starts_with(shape.start.as_bytes())
            && let Some((length, why)) = shape.measure(rest)
        {
            let start = if shape.kind == "azure_secret" { at.saturating_sub(3) } else { at };
            return Some(Hit { start, end: at + length, kind: shape.kind, why });
        }
    }
    let found = |kind, length: usize, why| Some(Hit { start: at, end: at + length, kind, why });
    match first {
        b'e' if rest.starts_with(b"eyJ") => found("jwt", jwt(rest)?, Why::Proven),
        b'M' | b'N' | b'O' => found("discord_token", discord(rest)?, Why::Shape),
        b's' if rest.starts_with(b"services/") => {
            let before = text[..at].ends_with(b"hooks.slack.com/");
            let secret = span(&rest[9..], |b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-'));
            let hit = Hit { start: at + 9, end: at + 9 + secret, kind: "slack_webhook", why: Why::Shape };
            (before && secret >= 16).then_some(hit)
        }
        _ => None,
    }
}

fn span(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|b| !of(*b)).unwrap_or(bytes.len())
}

impl Shape {
    /// Its length here, start included, and why it is believed.
    fn measure(&self, rest: &[u8]) -> Option<(usize, Why)> {
        let body = &rest[self.start.len()..];
        let mut length = span(&body[..body.len().min(self.max + 1)], |b| self.of.has(b));
        if length < self.min
            || (self.test == Test::Exact && body.get(length.min(self.max)).is_some_and(u8::is_ascii_alphanumeric))
        {
            return None;
        }
        length = length.min(self.max);
        // The full stop at the end of a sentence.
        while length > self.min && body[length - 1] == b'.' {
            length -= 1;
        }
        let body = &body[..length];
        let why = match self.test {
            Test::Random if !random(body) => return None,
            Test::Crc if body.len() == 36 && crc_holds(body) => Why::Proven,
            _ => Why::Shape,
        };
        Some((self.start.len() + length, why))
    }
}

/// Whether a part without separators is long and has a digit as well as a letter: words joined by hyphens have not.
fn random(body: &[u8]) -> bool {
    const PART_MIN: usize = 10;
    body.split(|b| !b.is_ascii_alphanumeric()).any(|part| part.len() >= PART_MIN && part.iter().any(u8::is_ascii_digit))
}

/// Two or more parts of base64url, the first of which is a JSON object that names an algorithm or a type; its length.
fn jwt(rest: &[u8]) -> Option<usize> {
    const PARTS_MAX: usize = 5;
    let url = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    // A bound, so that a text of nothing but beginnings is not read once for each.
    const HEAD_MAX: usize = 4096;
    let head = memchr::memchr(b'.', &rest[..rest.len().min(HEAD_MAX)])?;
    // A name follows `{"`: the cheapest of the tests.
    let named = decode(rest.get(..8)?)?.get(2).is_some_and(u8::is_ascii_lowercase);
    if !named || !rest[..head].iter().all(|b| url(*b)) || !jose_header(&rest[..head]) {
        return None;
    }
    let (mut length, mut parts) = (head, 1);
    while parts < PARTS_MAX && rest.get(length) == Some(&b'.') {
        length += 1 + span(&rest[length + 1..], url);
        parts += 1;
    }
    (length - head > 6).then_some(length)
}

fn jose_header(part: &[u8]) -> bool {
    // Of a cut header the whole groups are decoded.
    let whole = &part[..part.len() - usize::from(part.len() % 4 == 1)];
    let Some(header) = decode(whole) else { return false };
    let has = |name: &[u8]| memchr::memmem::find(&header, name).is_some();
    header.starts_with(b"{\"") && (has(b"\"alg\"") || has(b"\"typ\"") || has(b"\"enc\"") || has(b"\"kid\""))
}

/// `<8 to 10 digits>:<35>`, given where the second part begins.
fn telegram(text: &[u8], at: usize) -> Option<Hit> {
    let digits = text[..at - 1].iter().rev().take(11).take_while(|b| b.is_ascii_digit()).count();
    let body = &text[at..text.len().min(at + 36)];
    let length = span(body, |b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let shaped = (8..=10).contains(&digits) && length == 35 && body.starts_with(b"AA");
    shaped.then(|| Hit { start: at - 1 - digits, end: at + length, kind: "telegram_token", why: Why::Shape })
}

/// `<base64url of a number>.<6>.<27 to 38>`
fn discord(rest: &[u8]) -> Option<usize> {
    let url = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let first = span(rest, url);
    let second = (24..=28).contains(&first).then(|| rest.get(first + 1..))??;
    let middle = span(second, url);
    let third = (rest[first] == b'.' && middle == 6).then(|| second.get(7..))??;
    let last = span(third, url);
    let number = decode(&rest[..first])?;
    ((27..=38).contains(&last) && second[6] == b'.' && number.iter().all(u8::is_ascii_digit))
        .then_some(first + 8 + last)
}

/// Base64 of either alphabet, padded or not.
pub(crate) fn decode(part: &[u8]) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
    const URL: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
    let url = part.iter().any(|b| matches!(b, b'-' | b'_'));
    if url { URL.decode(part) } else { STANDARD.decode(part) }.ok()
}

fn crc_holds(body: &[u8]) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let (random, check) = body.split_at(30);
    let mut sum = crc32(random);
    let mut written = [b'0'; 6];
    for digit in written.iter_mut().rev() {
        *digit = DIGITS[(sum % 62) as usize];
        sum /= 62;
    }
    written == check
}

/// CRC-32 (IEEE), bit by bit: it is asked for 30 bytes of the few tokens there are.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, b| (0..8).fold(crc ^ u32::from(*b), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// Every maker's shape has a long run in it, or it would not be found.
    #[test]
    fn every_shape_holds_a_long_run() {
        for shape in SHAPES {
            let tail = shape.start.bytes().rev().take_while(|b| super::super::runs::of_run(*b)).count();
            assert!(tail + shape.min >= super::super::runs::RUN_MIN, "{} {}", shape.kind, shape.start);
        }
    }

    #[test]
    fn a_longer_start_stands_before_a_shorter() {
        for (i, shape) in SHAPES.iter().enumerate() {
            for later in &SHAPES[i + 1..] {
                assert!(!later.start.starts_with(shape.start), "`{}` hides `{}`", shape.start, later.start);
            }
        }
    }
}
