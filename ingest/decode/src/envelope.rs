//! What stands around a record: an envelope knows things of it that it may not say itself.
//!
//! Guarantee: what the record says wins. An envelope fills only what is empty, takes back the flag that said it was, and is kept
//! whole under a name of its own in `extra`. Rejections and asides pass as they are. Everything in an envelope is redacted when
//! it is made.

use crate::json::{Tape, write_string};
use catena_schemas::{Event, Micros};
use std::borrow::Cow;
use std::collections::HashSet;

/// Envelopes within envelopes.
pub(crate) const DEPTH_MAX: u8 = 3;

/// What an envelope knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Envelope {
    /// Stands for the ids of records that have none.
    pub(crate) id: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) time: Option<Micros>,
    pub(crate) trace: Option<String>,
    pub(crate) span: Option<String>,
    pub(crate) parent_span: Option<String>,
    pub(crate) requester: Option<String>,
    pub(crate) requester_kind: Option<&'static str>,
    /// Name and JSON of what is kept in `extra`.
    pub(crate) kept: Option<(&'static str, String)>,
    /// Added to the flags.
    pub(crate) flag: Option<String>,
}

impl Envelope {
    /// Fills what an event leaves empty.
    pub(crate) fn fill(&self, e: &mut Event<'_>) {
        // The id itself came as the context's.
        if self.id.is_some() {
            e.flags.retain(|f| f != "id_missing");
        }
        if let Some(time) = self.time
            && e.flags.iter().any(|f| f == "time_missing")
        {
            e.time = time;
            e.flags.retain(|f| f != "time_missing");
        }
        let owned = |text: &Option<String>| text.clone().map(Cow::Owned);
        if e.source.instance.is_none() {
            e.source.instance = owned(&self.instance);
        }
        // A span of one trace under the id of another would be a lie, so they go together.
        if e.links.trace.is_none() && e.links.span.is_none() && e.links.parent_span.is_none() {
            e.links.trace = owned(&self.trace);
            e.links.span = owned(&self.span);
            e.links.parent_span = owned(&self.parent_span);
        }
        let nobody = e.requester.id.is_none() && e.requester.email.is_none() && e.token.subject.is_none();
        if nobody && self.requester.is_some() {
            e.requester.id = owned(&self.requester);
            e.requester.assurance = Some(Cow::Borrowed("asserted"));
            if e.requester.kind.is_none() {
                e.requester.kind = self.requester_kind.map(Cow::Borrowed);
            }
        }
        if let Some(flag) = &self.flag {
            e.flags.push(Cow::Owned(flag.clone()));
        }
        if let Some((name, json)) = &self.kept {
            e.extra = Some(Cow::Owned(joined(e.extra.as_deref(), name, json)));
        }
    }
}

/// `extra` with one more member, under a name that it does not have yet.
fn joined(extra: Option<&str>, name: &str, json: &str) -> String {
    let members = extra.and_then(|x| x.strip_prefix('{')).and_then(|x| x.strip_suffix('}')).unwrap_or_default();
    let key = unused(extra.unwrap_or_default(), name);
    let mut out = String::with_capacity(members.len() + json.len() + key.len() + 8);
    out.push('{');
    out.push_str(members);
    if !members.is_empty() {
        out.push(',');
    }
    write_string(&key, &mut out);
    out.push(':');
    out.push_str(json);
    out.push('}');
    out
}

/// The name, or the first of `name~2`, `name~3` ... that the object does not have.
fn unused(object: &str, name: &str) -> String {
    if !object.contains(name) {
        return name.to_owned();
    }
    let mut tape = Tape::default();
    let known: HashSet<&str> =
        tape.parse(object.as_bytes()).map(|v| v.entries().map(|e| e.0).collect()).unwrap_or_default();
    let mut key = name.to_owned();
    let mut number = 1;
    while known.contains(key.as_str()) {
        number += 1;
        key = format!("{name}~{number}");
    }
    key
}
