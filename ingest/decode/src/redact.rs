//! Redaction at the door: what must never reach a disk is replaced while it is being decoded.
//!
//! Guarantees: tokens and handles become keyed digests (`hmac:` and 32 hex digits; the same value under the same
//! tenant's key gives the same digest, and none can be turned back without the key); secrets of well-known shape, and the
//! values of telling keys, become markers `[redacted:<kind>:<8 hex digits of the keyed digest>]`, so that two uses of one
//! secret can still be seen to be the same. JSON in strings, base64 and the escapes of URLs are undone to look inside. Applies
//! to everything the decoder hands on: columns, arguments, the extra object, names of members, raw copies of rejections (JSON
//! or not, UTF-8 or not) and messages. `docs/redaction.md` is the manual.
//!
//! ```text
//!            suspects_record ── no ──> taken as it is, but for telling names (names)
//!  record ──┤
//!            yes ─> each string ─┬─ JSON ──────────> its strings, and their names (write)
//!                                └─ text ─> hits ─┬─ long words ──> tokens
//!                                   (search)      ├─ signs: headers, URLs, assignments (places)
//!                                                 └─ base64, %xx ─> hits of what they say
//! ```
//!
//! The clean path costs one pass (runs) and no allocation: [`Redactor::suspects_record`] looks at the long words, which every token
//! has, and at the signs behind which other secrets stand. When it says no there is nothing to find; when it says yes each string is looked at alone.

mod blocks;
mod commands;
pub mod dry_run;
mod names;
pub mod personal;
mod pieces;
mod places;
mod plain;
mod rules;
mod runs;
mod search;
mod tokens;
pub(crate) mod tools;
mod write;

pub(crate) use blocks::speaks;
pub use blocks::{Block, LOOK_BACK_BYTES, RECORDS_MAX as KEY_RECORDS_MAX};
pub use dry_run::dry_run;
pub(crate) use pieces::pieces;
pub use rules::{Action, Rules, RulesError};
pub use tokens::Why;

use crate::RAW_BYTES_MAX;
use crate::json::{Kind, Tape, Value};
use catena_schemas::rows::Rejection;
use hmac::{Hmac, KeyInit, Mac};
use names::Says;
use plain::Plain;
use rules::Scope;
use search::Net;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::Arc;
use tokens::Hit;
use tools::Tools;
use write::Writer;

/// Holds the tenant's key and the rules.
#[derive(Clone)]
pub struct Redactor {
    key: [u8; 32],
    rules: Arc<Rules>,
    version: Arc<str>,
    /// Which tools the rules are asked for.
    scope: Scope,
    key_lines: KeyLines,
}

/// Whether a record may hold lines of a private key that begins in another text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum KeyLines {
    #[default]
    No,
    /// It begins in one of the record's own texts.
    Here,
    /// It began in a record before and has not ended.
    Open,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redactor")
    }
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
    /// Revision of what is built in: shapes, names, ways of looking. Raised when any of them changes.
    pub const VERSION: &str = "r5";

    /// Under a tenant's key, with what is built in.
    pub fn new(key: [u8; 32]) -> Redactor {
        Redactor::with_rules(key, Arc::new(Rules::default()))
    }

    /// The same with the rules of a site.
    pub fn with_rules(key: [u8; 32], rules: Arc<Rules>) -> Redactor {
        let mut digest = Sha256::new();
        for part in [Redactor::VERSION, &tokens::describe(), &names::describe(), &rules.describe()] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let version = format!("{}-{}", Redactor::VERSION, hex::encode(&digest.finalize()[..4]));
        Redactor { key, rules, version: version.into(), scope: Scope::Unknown, key_lines: KeyLines::No }
    }

    /// Version of the policy, for every row: the revision and a digest of what is built in and of the rules. Two redactors that
    /// say the same remove the same.
    pub fn policy_version(&self) -> &str {
        &self.version
    }

    /// The rules in use.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The same for a record of which the tools are known.
    pub(crate) fn for_tools(&self, tools: Tools) -> Redactor {
        Redactor { scope: tools.scope(), ..self.clone() }
    }

    /// The same for a record that may hold lines of a private key, which began in it, or before it if `open`.
    pub(crate) fn for_key_lines(&self, open: bool) -> Redactor {
        let key_lines = if open { KeyLines::Open } else { KeyLines::Here };
        Redactor { key_lines: self.key_lines.max(key_lines), ..self.clone() }
    }

    /// Whether lines of a private key are looked for.
    fn in_key(&self) -> bool {
        self.key_lines != KeyLines::No && self.rules.wants(blocks::KIND)
    }

    fn is_key_open(&self) -> bool {
        self.key_lines == KeyLines::Open && self.rules.wants(blocks::KIND)
    }

    /// Whether a text may hold a secret; false is certain.
    #[inline]
    pub fn suspects(&self, text: &str) -> bool {
        search::suspects(text.as_bytes()) || self.rules.touches_fields() || self.in_key()
    }

    /// Whether a record may hold a secret, the values of telling members apart; false is certain. Strings that had escapes
    /// are looked at in their unescaped form, where a quote stands between them.
    #[inline]
    pub fn suspects_record(&self, root: Value<'_>) -> bool {
        let unescaped = root.unescaped().as_bytes();
        search::suspects_record(root.source().as_bytes())
            || (!unescaped.is_empty() && search::suspects(unescaped))
            || self.rules.touches_fields()
            || self.in_key()
    }

    /// The text with its secrets replaced.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.scrub(text, search::DEPTH_MAX, None)
    }

    /// The same for one line of a log, of which nothing is known: names followed by a colon count as well.
    pub fn line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        match self.loose(line.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(line),
            Cow::Owned(bytes) => Cow::Owned(utf8(bytes)),
        }
    }

    /// The text with its secrets replaced; encodings are undone to a depth.
    fn scrub<'a>(&self, text: &'a str, depth: u8, mut watch: Option<&mut dry_run::Watch>) -> Cow<'a, str> {
        if !self.suspects(text) {
            return Cow::Borrowed(text);
        }
        if depth > 0 && text.trim_start().starts_with(['{', '[']) {
            let mut tape = Tape::default();
            if let Ok(root) = tape.parse(text.as_bytes()) {
                let manner = Manner { dirty: true, sorted: false, taken: None };
                let mut writer = Writer::new(self, manner, depth - 1, watch.as_deref_mut());
                let mut out = String::with_capacity(text.len());
                writer.value(root, &mut out);
                if writer.found() {
                    return Cow::Owned(out);
                }
            }
        }
        let hits = match self.in_key() && blocks::is_last_line(text.as_bytes()) {
            true => vec![Hit { start: 0, end: text.len(), kind: blocks::KIND, why: Why::Shape }],
            false => search::hits(text.as_bytes(), Net { loose: false, depth, ..self.loosely() }),
        };
        if let Some(watch) = watch {
            watch.hits(text.as_bytes(), &hits);
        }
        match self.replace(text.as_bytes(), &hits) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(bytes) => Cow::Owned(utf8(bytes)),
        }
    }

    fn replace<'b>(&self, bytes: &'b [u8], hits: &[Hit]) -> Cow<'b, [u8]> {
        if hits.is_empty() {
            return Cow::Borrowed(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut done = 0;
        for hit in hits {
            out.extend_from_slice(&bytes[done..hit.start]);
            out.extend_from_slice(self.marker(hit.kind, &bytes[hit.start..hit.end]).as_bytes());
            done = hit.end;
        }
        out.extend_from_slice(&bytes[done..]);
        Cow::Owned(out)
    }

    fn marker(&self, kind: &str, secret: &[u8]) -> String {
        format!("[redacted:{kind}:{}]", hex::encode(&self.mac(secret)[..4]))
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

    /// The same for a member of the extra object.
    pub fn member(&self, key: &str, value: Value<'_>, dirty: bool, out: &mut String) {
        self.write_member(key, value, Manner { dirty, sorted: false, taken: None }, out);
    }

    /// The same as text, borrowed from the record when nothing has to change.
    #[inline]
    pub fn json_text<'t>(&self, value: Value<'t>, dirty: bool) -> Cow<'t, str> {
        self.json_column("", value, dirty)
    }

    /// The same for a column, which is named by its dotted path in the event, so that rules find it.
    #[inline]
    pub fn json_column<'t>(&self, column: &str, value: Value<'t>, dirty: bool) -> Cow<'t, str> {
        let plain = value.is_verbatim() && !dirty && !self.rules.touches_fields();
        if plain && !names::tells(value) {
            return Cow::Borrowed(value.source());
        }
        let mut out = String::new();
        self.write_column(column, value, Manner { dirty, sorted: false, taken: None }, &mut out);
        Cow::Owned(out)
    }

    /// Appends the value of a member of the extra object in the manner asked for.
    pub(crate) fn write_member(&self, key: &str, value: Value<'_>, manner: Manner<'_>, out: &mut String) {
        let mut writer = Writer::new(self, manner, search::DEPTH_MAX, None);
        writer.enter("extra");
        writer.named(key, value, out);
    }

    /// Appends the value of a column in the manner asked for.
    pub(crate) fn write_column(&self, column: &str, value: Value<'_>, manner: Manner<'_>, out: &mut String) {
        let mut writer = Writer::new(self, manner, search::DEPTH_MAX, None);
        column.split('.').filter(|name| !name.is_empty()).for_each(|name| writer.enter(name));
        writer.root(value, out);
    }

    /// Appends a value in the manner asked for; all of it is a secret if `secret`.
    pub(crate) fn write(&self, value: Value<'_>, manner: Manner<'_>, secret: bool, out: &mut String) {
        let mut writer = Writer::new(self, manner, search::DEPTH_MAX, None);
        if secret { writer.secret(value, out) } else { writer.value(value, out) }
    }

    /// What stands for a text under a name that tells; `None` when the name does not, and the text is to be looked at.
    #[inline]
    pub(crate) fn told(&self, name: &str, text: &str) -> Option<String> {
        let (kind, says) = match self.rules.name(name.as_bytes()) {
            Some(telling) => ("rule", if telling { Says::Secret } else { Says::Nothing }),
            None => ("key", names::says(name.as_bytes(), true)),
        };
        let is_secret = match says {
            Says::Secret => {
                !text.is_empty() && !names::is_marker(text.as_bytes()) && !names::is_digest(text.as_bytes())
            }
            Says::Perhaps => names::random(text.as_bytes()),
            Says::Nothing => false,
        };
        is_secret.then(|| self.marker(kind, text.as_bytes()))
    }

    /// Whether a name tells that what stands under it is a secret, whatever it looks like.
    pub(crate) fn tells(&self, name: &str, scalar: bool) -> bool {
        match self.rules.name(name.as_bytes()) {
            Some(telling) => telling,
            None => names::says(name.as_bytes(), scalar) == Says::Secret,
        }
    }

    /// Keyed digest of a token or handle; what already is one stays.
    pub fn digest(&self, value: &str) -> String {
        if names::is_digest(value.as_bytes()) {
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
        let mut raw = self.unread(near).into_owned();
        raw.truncate(RAW_BYTES_MAX);
        Rejection { reason, detail: self.detail(detail), raw: Some(raw), index: 0 }
    }

    /// The same for the text of a header, which may be cut out of JSON, escapes and all.
    pub(crate) fn header<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if !plain::is_other(text.as_bytes()) {
            return self.text(text);
        }
        match self.behind_escapes(text.as_bytes(), Net { loose: false, ..self.loosely() }) {
            Cow::Owned(bytes) => Cow::Owned(utf8(bytes)),
            Cow::Borrowed(_) => self.text(text),
        }
    }

    /// Bytes that nothing could read. While a private key is open they are its lines, to the one that ends it; of what would have
    /// been an object only the words are.
    fn unread<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if !self.is_key_open() || bytes.is_empty() || bytes.trim_ascii_start().starts_with(b"{") {
            return self.behind_escapes(bytes, self.loosely());
        }
        let end = blocks::end(bytes, 0).unwrap_or(bytes.len());
        let mut out = self.marker(blocks::KIND, &bytes[..end]).into_bytes();
        out.extend_from_slice(&self.behind_escapes(&bytes[end..], self.loosely()));
        Cow::Owned(out)
    }

    /// Looked at as they are, and as a reader would have them that takes escapes and zeros away.
    fn behind_escapes<'b>(&self, bytes: &'b [u8], net: Net<'_>) -> Cow<'b, [u8]> {
        let hits = search::hits(bytes, net);
        if let Some(plain) = Plain::of(bytes) {
            let seen: Vec<Hit> = hits.iter().map(|h| plain.place(h)).collect();
            let all = search::disjoint([seen.clone(), search::hits(plain.bytes(), net)].concat());
            let places = |hits: &[Hit]| hits.iter().map(|h| (h.start, h.end)).collect::<Vec<_>>();
            if places(&all) != places(&seen) {
                return Cow::Owned(self.replace(plain.bytes(), &all).into_owned());
            }
        }
        self.replace(bytes, &hits)
    }

    fn loosely(&self) -> Net<'_> {
        Net { rules: &self.rules, loose: true, depth: search::DEPTH_MAX, in_key: self.in_key() }
    }

    fn loose<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        self.replace(bytes, &search::hits(bytes, self.loosely()))
    }

    /// A rejection of a record that was parsed. What holds no secret is kept byte for byte; what does is written anew.
    pub fn reject_value(&self, reason: &'static str, detail: String, value: Value<'_>, bytes: &[u8]) -> Rejection {
        let mut written = String::new();
        let manner = Manner { dirty: true, sorted: false, taken: None };
        let mut writer = Writer::new(self, manner, search::DEPTH_MAX, None).of_rejected();
        // A line of a key may be a number, or a text between quotes.
        match self.is_key_open() && !matches!(value.kind(), Kind::Object | Kind::Array) {
            true => writer.key_line(value.source(), &mut written),
            false => writer.value(value, &mut written),
        }
        let mut raw = match writer.found() {
            true => written.into_bytes(),
            false => bytes[..bytes.len().min(RAW_BYTES_MAX)].to_vec(),
        };
        raw.truncate(RAW_BYTES_MAX);
        Rejection { reason, detail: self.detail(detail), raw: Some(raw), index: 0 }
    }

    /// An aside: recognised as no fact. Its record is kept as that of a rejection is, so that it can be read again.
    pub fn aside(&self, reason: &'static str, detail: String, value: Value<'_>, bytes: &[u8]) -> Rejection {
        self.reject_value(reason, detail, value, bytes)
    }

    /// An aside of a part of a record that is kept with another of its parts.
    pub fn aside_of_part(&self, reason: &'static str, detail: String) -> Rejection {
        Rejection { reason, detail: self.detail(detail), raw: None, index: 0 }
    }

    fn detail(&self, detail: String) -> String {
        const DETAIL_CHARS_MAX: usize = 500;
        // It may quote what nothing could read.
        let dirty = self.suspects(&detail) || plain::is_other(detail.as_bytes());
        let looked = || utf8(self.behind_escapes(detail.as_bytes(), self.loosely()).into_owned());
        let mut detail = if dirty { looked() } else { detail };
        if let Some((cut, _)) = detail.char_indices().nth(DETAIL_CHARS_MAX) {
            detail.truncate(cut);
            detail.push('…');
        }
        detail
    }
}

/// Markers stand where ASCII stood, so what was UTF-8 still is.
fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
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
