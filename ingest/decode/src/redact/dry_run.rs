//! What would be removed from a sample, without removing it.
//!
//! Guarantee: finds exactly what decoding would replace in the record as it stands (by the same code), shows of a secret no more
//! than its first four characters and of a short one fewer, and keeps nothing.

use super::search;
use super::tokens::Hit;
use super::write::Writer;
use super::{Manner, Redactor, Why, personal};
use crate::json::{Kind, Tape, Value};
use serde::Serialize;
use std::fmt;

/// Findings of one sample that are told.
pub const FINDINGS_MAX: usize = 1000;

/// What a dry run saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// Version of the policy.
    pub policy: String,
    /// Length of the sample.
    pub bytes: usize,
    /// Whether it is JSON; otherwise it was searched as text, and the pointers are offsets.
    pub json: bool,
    /// What would be removed.
    pub findings: Vec<Finding>,
    /// Findings beyond [`FINDINGS_MAX`].
    pub more: usize,
    /// Pointers of the personal fields that a native event has: kept, but erased on request.
    pub personal: Vec<String>,
}

/// Something that would be removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: an RFC 6901 pointer, or `@` and the byte. JSON in a string continues the pointer.
    pub pointer: String,
    /// What it is.
    pub kind: &'static str,
    /// What gave it away.
    #[serde(serialize_with = "word")]
    pub why: Why,
    /// Its length in bytes.
    pub length: usize,
    /// At most four characters of it.
    pub preview: String,
}

fn word<S: serde::Serializer>(why: &Why, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(why.as_str())
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = if self.json { "JSON" } else { "text" };
        writeln!(f, "policy {}, {} bytes of {shape}", self.policy, self.bytes)?;
        for x in &self.findings {
            let (kind, why) = (x.kind, x.why.as_str());
            writeln!(f, "remove  {}  {kind} ({why})  {} bytes, {}", x.pointer, x.length, x.preview)?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more", self.more)?;
        }
        for pointer in &self.personal {
            writeln!(f, "personal  {pointer}")?;
        }
        if self.findings.is_empty() {
            writeln!(f, "nothing would be removed")?;
        }
        Ok(())
    }
}

/// Looks at a sample as decoding would. Tokens and handles of native events, which become digests whatever they look like, are
/// not told: `docs/native-event.md` lists them.
pub fn dry_run(redactor: &Redactor, bytes: &[u8]) -> DryRun {
    let redactor = &if super::speaks(bytes) { redactor.for_key_lines(false) } else { redactor.clone() };
    let mut watch = Watch::default();
    let mut personal = Vec::new();
    let mut tape = Tape::default();
    let json = match tape.parse(bytes) {
        Ok(root) => {
            let manner = Manner { dirty: true, sorted: false, taken: None };
            let mut out = String::new();
            Writer::new(redactor, manner, search::DEPTH_MAX, Some(&mut watch)).value(root, &mut out);
            pointers(root, &mut String::new(), &mut personal);
            true
        }
        Err(_) => {
            for hit in search::hits(bytes, redactor.loosely()) {
                watch.push(format!("@{}", hit.start), hit.kind, hit.why, &bytes[hit.start..hit.end]);
            }
            false
        }
    };
    let Watch { findings, more, .. } = watch;
    DryRun { policy: redactor.policy_version().to_owned(), bytes: bytes.len(), json, findings, more, personal }
}

/// Pointers of the personal fields of a native event.
fn pointers(value: Value<'_>, at: &mut String, into: &mut Vec<String>) {
    for (key, member) in value.entries() {
        let length = at.len();
        at.push('/');
        at.push_str(key);
        if personal::column(at).is_some() && !member.is_null() {
            into.push(at.clone());
        } else if member.kind() == Kind::Object && length == 0 {
            pointers(member, at, into);
        }
        at.truncate(length);
    }
}

/// Looks on while a value is written.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    path: Vec<String>,
    findings: Vec<Finding>,
    more: usize,
}

impl Watch {
    pub(crate) fn enter(&mut self, name: &str) {
        self.path.push(name.replace('~', "~0").replace('/', "~1"));
    }

    pub(crate) fn leave(&mut self) {
        self.path.pop();
    }

    pub(crate) fn hits(&mut self, text: &[u8], hits: &[Hit]) {
        for hit in hits {
            self.push(self.pointer(), hit.kind, hit.why, &text[hit.start..hit.end]);
        }
    }

    pub(crate) fn whole(&mut self, text: &str, kind: &'static str, why: Why) {
        self.push(self.pointer(), kind, why, text.as_bytes());
    }

    fn pointer(&self) -> String {
        // A name may hold a secret itself, and is not shown then.
        self.path
            .iter()
            .map(|name| match search::suspects(name.as_bytes()) {
                true => "/…".to_owned(),
                false => format!("/{name}"),
            })
            .collect()
    }

    fn push(&mut self, pointer: String, kind: &'static str, why: Why, secret: &[u8]) {
        if self.findings.len() == FINDINGS_MAX {
            self.more += 1;
            return;
        }
        self.findings.push(Finding { pointer, kind, why, length: secret.len(), preview: preview(secret) });
    }
}

/// The first characters, at most four and at most a fifth.
fn preview(secret: &[u8]) -> String {
    let text = String::from_utf8_lossy(secret);
    let shown = (text.chars().count() / 5).min(4);
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '·' };
    text.chars().take(shown).map(plain).chain(['…']).collect()
}
