//! Redaction at the door: what must never reach a disk is replaced while it is being decoded.
//!
//! Guarantees: tokens and handles become keyed digests (`hmac:` and 32 hex digits; the same value under the same
//! tenant's key gives the same digest, and none can be turned back without the key); secrets of well-known shape, and the
//! values of telling keys, become markers `[redacted:<rule>:<8 hex digits of the keyed digest>]`, so that two uses of one
//! secret can still be seen to be the same. Applies to everything the decoder hands on: columns, arguments, the extra
//! object, raw copies of rejections (JSON or not, UTF-8 or not) and messages.
//!
//! The clean path costs two scans and no allocation: [`Redactor::suspects_record`] looks for literals of which one stands in
//! every text that a rule matches. When it says no there is nothing to find; when it says yes each string is looked at alone.

use crate::RAW_BYTES_MAX;
use crate::json::{Kind, Value, write_string};
use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use catena_schemas::rows::Rejection;
use hmac::{Hmac, KeyInit, Mac};
use regex::bytes::{Captures, Regex, RegexBuilder};
use sha2::Sha256;
use std::borrow::Cow;
use std::sync::LazyLock;

/// Holds the tenant's key.
pub struct Redactor {
    key: [u8; 32],
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
}

/// A shape of secret. The first group that took part is the secret; without groups it is the whole match.
struct Rule {
    name: &'static str,
    regex: Regex,
    /// Whether the secret must look like one: a digit, or anything that words do not have.
    random: bool,
}

/// Names whose assignment in a text gives a secret away, and how it is spelt.
const ASSIGNED: &str = "(?:[Pp]assword|PASSWORD|[Pp]asswd|PASSWD|[Pp]wd|PWD|[Ss]ecret|SECRET\
    |[Aa]pi[_-]?[Kk]ey|API[_-]?KEY|[Aa]ccess[_-]?[Kk]ey|ACCESS[_-]?KEY|[Aa]ccount[Kk]ey|[Pp]rivate[_-]?[Kk]ey|PRIVATE[_-]?KEY\
    |(?:[Aa]ccess|[Rr]efresh|[Ii]d|[Aa]uth|[Aa]pi|[Ss]ession|[Ss]ecurity)[_-]?[Tt]oken\
    |(?:ACCESS|REFRESH|ID|AUTH|API|SESSION|SECURITY)[_-]?TOKEN)";
/// The same as members of JSON that stands inside a string. No `token` by itself: native events have one.
const MEMBERS: &str = "(?:[Pp]assword|[Pp]asswd|[Ss]ecret|[Aa]pi_?[Kk]ey|(?:access|secret|private|account)_key\
    |[a-z]+_token|(?:access|refresh|id|auth|api|session)Token|[Aa]uthorization)";
/// In bytes that are no JSON nothing is known of structure, so the net is wider.
const LOOSE: &str = "(?:passw(?:or)?d|passphrase|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|account[_-]?key\
    |(?:access|refresh|id|auth|api|session|bearer)[_-]?token|authorization|cookie|credentials?)";

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |name, random, pattern: &str| Rule { name, random, regex: compile(pattern) };
    vec![
        rule(
            "private_key",
            false,
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
        ),
        rule("jwt", false, r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){0,3}"),
        rule("url_password", false, r#"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#@"'\\<>:\[]*:([^\s/?#@"'\\<>\[]+)@"#),
        rule("bearer", true, r"\b(?:[Bb]earer|BEARER|Basic|DPoP) +([A-Za-z0-9._~+/=-]{8,})"),
        rule("aws_key", false, r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
        rule("github_token", false, r"(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
        rule("gitlab_token", false, r"gl(?:pat|rt|dt|cbt|ptt|oas)-[A-Za-z0-9_-]{16,}"),
        rule(
            "slack_token",
            false,
            r"(?:xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/([A-Za-z0-9/_-]{16,}))",
        ),
        rule("stripe_key", false, r"(?:\b[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{16,})"),
        rule("sk_key", true, r"\bsk-[A-Za-z0-9_-]{16,}"),
        rule("google_key", false, r"(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,})"),
        rule(
            "registry_token",
            false,
            r"(?:npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{32,}|\bhf_[A-Za-z0-9]{30,}|dop_v1_[a-f0-9]{32,})",
        ),
        rule("member", false, &format!(r#"{MEMBERS}":\s?(?:"((?:[^"\\\[]|\\.)(?:[^"\\]|\\.)*)|([0-9][0-9.eE+-]*))"#)),
        rule("assignment", false, &format!(r#"{ASSIGNED}=["']?([^\s"'&;,\[\]<>\\]{{3,}})"#)),
    ]
});

/// Applied after the others to bytes that could not be parsed.
static LOOSE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let rule = |name, pattern: &str| Rule { name, random: false, regex: compile(pattern) };
    vec![
        rule("member", &format!(r#"(?i){LOOSE}"\s*:\s*(?:"((?:[^"\\\[]|\\.)(?:[^"\\]|\\.)*)|([^\s",\[\]{{}}]+))"#)),
        rule("member", &format!(r#"(?i){LOOSE}\\+"\s*:\s*\\+"([^"\\\[][^"\\]*)"#)),
        rule(
            "assignment",
            &format!(r#"(?i){LOOSE}\s*[=:]\s*["']?((?:(?:bearer|basic|dpop)\s+)?[^\s"'&;,\[\]{{}}\\]{{3,}})"#),
        ),
    ]
});

fn compile(pattern: &str) -> Regex {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(1 << 24)
        .build()
        .expect("the patterns are constants and tested")
}

/// Of these, or an assignment, or a URL with a password, one stands in every text that a rule of [`RULES`] matches. In three
/// groups, because searchers for a dozen short literals run at the speed of memory and one for four dozen does not: together
/// they take a third of the time of one for all.
const LITERALS: [&[&str]; 3] = [
    &[SK, "eyJ", "xox", "hf_", "PRIVATE KEY", "earer ", "EARER ", "Basic ", "DPoP ", "AKIA", "ASIA", "ABIA", "ACCA"],
    &["AIza", "ya29.", "npm_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "glrt-", "gldt-"],
    &[
        "glcbt-",
        "glptt-",
        "gloas-",
        "xapp-",
        "hooks.slack.com",
        "GOCSPX-",
        "pypi-AgE",
        "k_live_",
        "k_test_",
        "whsec_",
        "dop_v1_",
    ],
];
/// Common inside words (`task-1`), so it counts only where a word begins.
const SK: &str = "sk-";
/// Ends of telling names inside JSON that stands in a string. Its quotes were escaped, so only unescaped strings can hold it.
const NESTED: &[&str] = &[
    "assword\":",
    "asswd\":",
    "ecret\":",
    "pi_key\":",
    "pikey\":",
    "piKey\":",
    "_key\":",
    "_token\":",
    "Token\":",
    "rization\":",
];

/// Looks for a few literals.
struct Scan {
    /// By vector instructions, where the processor has them.
    packed: Option<Searcher>,
    automaton: AhoCorasick,
}

impl Scan {
    fn new(literals: &[&str]) -> Scan {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(literals)
            .expect("the literals are few and short");
        Scan { packed: Searcher::new(literals), automaton }
    }

    /// Whether one that `counts` is there, given its number and where it starts.
    #[inline]
    fn any(&self, text: &[u8], counts: impl Fn(usize, usize) -> bool) -> bool {
        match &self.packed {
            Some(packed) => packed.find_iter(text).any(|hit| counts(hit.pattern().as_usize(), hit.start())),
            None => self.automaton.find_iter(text).any(|hit| counts(hit.pattern().as_usize(), hit.start())),
        }
    }
}

static QUICK: LazyLock<[Scan; 3]> = LazyLock::new(|| LITERALS.map(Scan::new));
static QUICK_NESTED: LazyLock<Scan> = LazyLock::new(|| Scan::new(NESTED));

/// Whether a text may hold a secret, apart from nested JSON.
fn quick(text: &[u8], word_starts_known: bool) -> bool {
    let [first, second, third] = &*QUICK;
    let whole_word =
        |number, at: usize| number != 0 || !word_starts_known || at == 0 || !text[at - 1].is_ascii_alphanumeric();
    first.any(text, whole_word)
        || second.any(text, |_, _| true)
        || third.any(text, |_, _| true)
        || assignment(text)
        || url_password(text)
}

/// Whether an equals sign follows a letter in which an assigned name ends.
fn assignment(text: &[u8]) -> bool {
    memchr::memchr_iter(b'=', text)
        .any(|at| at > 0 && matches!(text[at - 1], b'd' | b'D' | b't' | b'T' | b'y' | b'Y' | b'n' | b'N'))
}

/// Ends of names of members whose values are secrets, without separators, in lower case.
const TELLING: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "signingkey",
    "encryptionkey",
    "accountkey",
    "accesstoken",
    "refreshtoken",
    "idtoken",
    "authtoken",
    "sessiontoken",
    "bearertoken",
    "apitoken",
    "securitytoken",
    "authorization",
    "authorizationcode",
    "codeverifier",
    "clientassertion",
    "cookie",
    "credential",
    "credentials",
    "connectionstring",
];
/// Whole names that are telling when a scalar stands under them; as objects they are structure.
const TELLING_SCALARS: &[&str] = &["token", "auth", "pass", "pin", "otp", "cvv", "cvc"];

/// Pieces of which at least one stands in every telling name, as it may be written in clean JSON.
static TELLING_QUICK: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let pieces = [
        "pass",
        "pwd",
        "secret",
        "key",
        "token",
        "auth",
        "cookie",
        "credential",
        "string",
        "assertion",
        "verifier",
        "pin\"",
        "otp\"",
        "cvv\"",
        "cvc\"",
    ];
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(pieces)
        .expect("the pieces are few and short")
});

/// Whether the value of a member so named is a secret whatever it looks like.
fn telling(key: &str, kind: Kind) -> bool {
    let mut folded = [0u8; 40];
    let mut at = folded.len();
    // From the end: only the end of a long name matters.
    for b in key.bytes().rev().filter(|b| !matches!(b, b'_' | b'-' | b'.' | b' ')) {
        if at == 0 {
            break;
        }
        at -= 1;
        folded[at] = b.to_ascii_lowercase();
    }
    let folded = &folded[at..];
    TELLING.iter().any(|t| folded.ends_with(t.as_bytes()))
        || (!matches!(kind, Kind::Object | Kind::Array) && TELLING_SCALARS.iter().any(|t| folded == t.as_bytes()))
}

/// How a value is written.
#[derive(Clone, Copy)]
pub(crate) struct Manner<'m> {
    /// Whether the record is suspected at all.
    pub(crate) dirty: bool,
    /// Whether members are sorted by name: for producers whose order changes from record to record.
    pub(crate) sorted: bool,
    /// Values to leave out, and what becomes empty by that.
    pub(crate) taken: Option<&'m Taken>,
}

/// A set of values of one record.
#[derive(Debug, Default)]
pub(crate) struct Taken(Vec<u64>);

impl Taken {
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn insert(&mut self, value: Value<'_>) {
        let (word, bit) = (value.index() / 64, value.index() % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    pub(crate) fn contains(&self, value: Value<'_>) -> bool {
        self.0.get(value.index() / 64).is_some_and(|w| w >> (value.index() % 64) & 1 == 1)
    }
}

impl Redactor {
    /// Version of the policy, kept on every row.
    pub const VERSION: &str = "r1";

    /// Under a tenant's key.
    pub fn new(key: [u8; 32]) -> Redactor {
        Redactor { key }
    }

    /// Whether a text may hold a secret; false is certain.
    #[inline]
    pub fn suspects(&self, text: &str) -> bool {
        quick(text.as_bytes(), true) || QUICK_NESTED.any(text.as_bytes(), |_, _| true)
    }

    /// Whether a record may hold a secret, the values of telling members apart; false is certain. Strings that had escapes
    /// are looked at in their unescaped form, where they stand one after another, so that a word's beginning cannot be told.
    #[inline]
    pub fn suspects_record(&self, root: Value<'_>) -> bool {
        let unescaped = root.unescaped().as_bytes();
        quick(root.source().as_bytes(), true)
            || (!unescaped.is_empty() && (quick(unescaped, false) || QUICK_NESTED.any(unescaped, |_, _| true)))
    }

    /// The text with its secrets replaced.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !self.suspects(text) {
            return Cow::Borrowed(text);
        }
        match self.replace(&RULES, Cow::Borrowed(text.as_bytes())) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
            }),
        }
    }

    fn replace<'b>(&self, rules: &[Rule], mut bytes: Cow<'b, [u8]>) -> Cow<'b, [u8]> {
        for rule in rules {
            let replaced = rule.regex.replace_all(&bytes, |c: &Captures<'_>| {
                let whole = c.get(0).expect("a match has a whole");
                let secret = c.iter().skip(1).flatten().next().unwrap_or(whole);
                let keep = (rule.random && !random(secret.as_bytes())) || secret.as_bytes().starts_with(b"[redacted:");
                let mut out = whole.as_bytes()[..secret.start() - whole.start()].to_vec();
                if keep {
                    out.extend_from_slice(secret.as_bytes());
                } else {
                    out.extend_from_slice(self.marker(rule.name, secret.as_bytes()).as_bytes());
                }
                out.extend_from_slice(&whole.as_bytes()[secret.end() - whole.start()..]);
                out
            });
            if let Cow::Owned(replaced) = replaced {
                bytes = Cow::Owned(replaced);
            }
        }
        bytes
    }

    fn marker(&self, rule: &str, secret: &[u8]) -> String {
        format!("[redacted:{rule}:{}]", hex::encode(&self.mac(secret)[..4]))
    }

    fn mac(&self, value: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(value);
        mac.finalize().into_bytes().into()
    }

    /// Appends a value as compact JSON, secrets and the values of telling keys replaced. `dirty` says whether the record
    /// is suspected at all; telling keys are looked for in any case.
    pub fn json(&self, value: Value<'_>, dirty: bool, out: &mut String) {
        self.write(value, Manner { dirty, sorted: false, taken: None }, false, out);
    }

    /// The same for the value of a member of which the name is known.
    pub fn member(&self, key: &str, value: Value<'_>, dirty: bool, out: &mut String) {
        self.write(value, Manner { dirty, sorted: false, taken: None }, telling(key, value.kind()), out);
    }

    /// The same as text, borrowed from the record when nothing has to change.
    #[inline]
    pub fn json_text<'t>(&self, value: Value<'t>, dirty: bool) -> Cow<'t, str> {
        if value.is_verbatim() && !dirty && !telling_keys(value.source().as_bytes()) {
            return Cow::Borrowed(value.source());
        }
        let mut out = String::new();
        self.json(value, dirty, &mut out);
        Cow::Owned(out)
    }

    /// Appends the value of a named member in the manner asked for.
    pub(crate) fn write_member(&self, key: &str, value: Value<'_>, manner: Manner<'_>, out: &mut String) {
        self.write(value, manner, telling(key, value.kind()), out);
    }

    /// Appends a value in the manner asked for. Recursive: the parser has bounded the depth.
    pub(crate) fn write(&self, value: Value<'_>, manner: Manner<'_>, secret: bool, out: &mut String) {
        match value.kind() {
            Kind::Object => {
                out.push('{');
                let mut first = true;
                let mut member = |(key, value): (&str, Value<'_>)| {
                    if !std::mem::take(&mut first) {
                        out.push(',');
                    }
                    write_string(&if manner.dirty { self.text(key) } else { Cow::Borrowed(key) }, out);
                    out.push(':');
                    self.write(value, manner, secret || telling(key, value.kind()), out);
                };
                let left = |v: Value<'_>| manner.taken.is_none_or(|taken| left(v, taken));
                if manner.sorted {
                    let mut members: Vec<_> = value.entries().filter(|e| left(e.1)).collect();
                    members.sort_unstable_by_key(|e| e.0);
                    members.into_iter().for_each(&mut member);
                } else {
                    value.entries().filter(|e| left(e.1)).for_each(&mut member);
                }
                out.push('}');
            }
            Kind::Array => {
                out.push('[');
                for (i, item) in
                    value.items().filter(|v| !manner.taken.is_some_and(|taken| taken.contains(*v))).enumerate()
                {
                    if i > 0 {
                        out.push(',');
                    }
                    self.write(item, manner, secret, out);
                }
                out.push(']');
            }
            Kind::Null | Kind::Bool => out.push_str(value.source()),
            Kind::Number if secret => write_string(&self.marker("key", value.source().as_bytes()), out),
            Kind::Number => out.push_str(value.source()),
            Kind::String => {
                let s = value.as_str().unwrap_or_default();
                if secret && !s.is_empty() && !s.starts_with("[redacted:") {
                    write_string(&self.marker("key", s.as_bytes()), out);
                } else if manner.dirty {
                    write_string(&self.text(s), out);
                } else {
                    write_string(s, out);
                }
            }
        }
    }

    /// Keyed digest of a token or handle; what already is one stays.
    pub fn digest(&self, value: &str) -> String {
        if value.starts_with("hmac:") {
            return value.to_owned();
        }
        format!("hmac:{}", hex::encode(&self.mac(value.as_bytes())[..16]))
    }

    /// A rejection of bytes that could not be parsed; keeps them, redacted. Secrets are also looked for behind escapes and
    /// between the zero bytes of UTF-16; only when one is found there is what is kept rewritten without these.
    pub fn reject(&self, reason: &'static str, detail: String, bytes: &[u8]) -> Rejection {
        // A secret that the cut would halve is replaced whole before it.
        const MARGIN: usize = 8192;
        let near = &bytes[..bytes.len().min(RAW_BYTES_MAX + MARGIN)];
        let mut raw = self.loose(near).into_owned();
        if let Some(plain) = plain(&raw)
            && let Cow::Owned(again) = self.loose(&plain)
            && again != plain
        {
            raw = again;
        }
        raw.truncate(RAW_BYTES_MAX);
        Rejection { reason, detail: self.detail(detail), raw: Some(raw) }
    }

    fn loose<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        self.replace(&LOOSE_RULES, self.replace(&RULES, Cow::Borrowed(bytes)))
    }

    /// A rejection of a record that was parsed. What holds no secret is kept byte for byte; what does is written anew.
    pub fn reject_value(&self, reason: &'static str, detail: String, value: Value<'_>, bytes: &[u8]) -> Rejection {
        let mut written = String::new();
        self.json(value, true, &mut written);
        if !written.contains("[redacted:") {
            let raw = bytes[..bytes.len().min(RAW_BYTES_MAX)].to_vec();
            return Rejection { reason, detail: self.detail(detail), raw: Some(raw) };
        }
        let mut raw = written.into_bytes();
        raw.truncate(RAW_BYTES_MAX);
        Rejection { reason, detail: self.detail(detail), raw: Some(raw) }
    }

    /// An aside: recognised, and not kept.
    pub fn aside(&self, reason: &'static str, detail: String) -> Rejection {
        Rejection { reason, detail: self.detail(detail), raw: None }
    }

    fn detail(&self, detail: String) -> String {
        const DETAIL_CHARS_MAX: usize = 500;
        // Details quote values as JSON, in which nested JSON is escaped.
        let mut detail = match self.suspects(&detail) || detail.contains('"') {
            true => String::from_utf8_lossy(&self.loose(detail.as_bytes())).into_owned(),
            false => detail,
        };
        if let Some((cut, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.truncate(cut);
            detail.push('…');
        }
        detail
    }
}

/// Whether anything of a value is left when the taken is taken away.
pub(crate) fn left(value: Value<'_>, taken: &Taken) -> bool {
    !taken.contains(value)
        && match value.kind() {
            Kind::Null => false,
            Kind::Object => value.entries().any(|(_, v)| left(v, taken)),
            Kind::Array => value.items().any(|v| left(v, taken)),
            Kind::String => value.as_str().is_some_and(|s| !s.is_empty()),
            _ => true,
        }
}

/// The bytes without zeros and without escapes that stand for plain characters; `None` when there are none of these.
fn plain(bytes: &[u8]) -> Option<Vec<u8>> {
    let escaped = memchr::memmem::find(bytes, b"\\u00").is_some() || memchr::memmem::find(bytes, b"\\/").is_some();
    if !escaped && memchr::memchr(0, bytes).is_none() {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let hex = |at: usize| rest.get(at).and_then(|b| (*b as char).to_digit(16));
        rest = match (first, after) {
            (0, _) => after,
            (b'\\', [b'/', after @ ..]) => {
                out.push(b'/');
                after
            }
            (b'\\', [b'u', b'0', b'0', _, _, tail @ ..]) if let (Some(high @ 2..=7), Some(low)) = (hex(4), hex(5)) => {
                match (high * 16 + low) as u8 {
                    // These would change what is a string and what is not.
                    quote @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', quote]),
                    plain => out.push(plain),
                }
                tail
            }
            _ => {
                out.push(*first);
                after
            }
        };
    }
    Some(out)
}

/// Whether a secret looks like one: words of running text are letters of lower case only.
fn random(secret: &[u8]) -> bool {
    secret.iter().any(u8::is_ascii_digit) || (secret.len() >= 16 && secret.iter().any(|b| !b.is_ascii_lowercase()))
}

static AUTHORITY: LazyLock<memchr::memmem::Finder<'static>> = LazyLock::new(|| memchr::memmem::Finder::new("://"));

/// Whether `scheme://user:password@` stands in the bytes.
fn url_password(bytes: &[u8]) -> bool {
    AUTHORITY.find_iter(bytes).any(|at| {
        let authority = &bytes[at + 3..];
        let mut colon = false;
        for b in authority {
            match b {
                b'@' => return colon,
                b':' => colon = true,
                b'/' | b'?' | b'#' | b'"' | b'\'' | b'\\' | b'<' | b'>' | b' ' => return false,
                _ => {}
            }
        }
        false
    })
}

/// Whether compact JSON may have a telling key; false is certain.
#[inline]
fn telling_keys(json: &[u8]) -> bool {
    TELLING_QUICK.find_iter(json).any(|hit| {
        // A hit counts when the name it stands in ends in `":`; in a value it ends in `",` or `"}`.
        let rest = &json[hit.start()..];
        match memchr::memchr(b'"', rest) {
            Some(quote) => rest.get(quote + 1) == Some(&b':'),
            None => false,
        }
    })
}
