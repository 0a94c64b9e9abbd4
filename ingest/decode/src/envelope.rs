//! What stands around a record: an envelope knows things of it that it may not say itself.
//!
//! Guarantee: what the record says wins. An envelope fills only what is empty and takes back the flag that said it was; what it says
//! besides is kept under a name of its own in `extra`, and so is what the record said itself or nobody could read: nothing of an
//! envelope is lost. A rejection of what is inside is one of the envelope around it, so that a retry reads both. Asides pass as they are.
//! Everything in an envelope is redacted when it is made.

use crate::json::{Tape, write_string};
use crate::{Change, Format, RAW_BYTES_MAX};
use base64::Engine;
use catena_schemas::authority::Entry;
use catena_schemas::event::{Source, Text, Texts};
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;

/// Envelopes within envelopes.
pub(crate) const DEPTH_MAX: u8 = 3;

/// What an attribute is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Fills something: kept when the record says it itself.
    Id,
    Time,
    Trace,
    Requester,
    /// Says something more.
    Kept,
    /// Says how to read the data, which has been read.
    Told,
}

/// One attribute as it came.
#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    pub(crate) json: String,
    pub(crate) purpose: Use,
}

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
    /// Name under which `extra` keeps the attributes.
    pub(crate) name: &'static str,
    /// All that it says, sorted.
    pub(crate) attributes: Vec<Attribute>,
    /// Added to the flags.
    pub(crate) flags: Vec<Cow<'static, str>>,
    /// Bytes of it that may still stand around rejections: one that holds many records would multiply.
    pub(crate) around: Cell<usize>,
}

impl Envelope {
    /// Fills what every record has, and says what that used.
    fn fill(
        &self,
        id: &mut Cow<'_, str>,
        source: &mut Source<'_>,
        time: &mut Micros,
        flags: &mut Texts<'_>,
    ) -> Vec<Use> {
        let mut used = Vec::with_capacity(4);
        let mut take = |flag: &str| {
            let there = flags.iter().any(|f| f == flag);
            flags.retain(|f| f != flag);
            there
        };
        if let Some(own) = &self.id
            && take("id_missing")
        {
            used.push(Use::Id);
            // The id came as the context's. It is one of the envelope's source alone, so under another source it needs that beside it.
            if let (Some(instance), Some(other)) = (&self.instance, &source.instance)
                && instance != other
                && id.starts_with(own.as_str())
            {
                *id = Cow::Owned(format!("{instance}/{id}"));
            }
        }
        if let Some(own) = self.time
            && take("time_missing")
        {
            *time = own;
            used.push(Use::Time);
        }
        if source.instance.is_none() {
            source.instance = owned(&self.instance);
        }
        flags.extend(self.flags.iter().cloned());
        used
    }

    /// Keeps in `extra` what was not used.
    fn keep(&self, extra: &mut Text<'_>, used: &[Use]) {
        let mut json = String::new();
        for a in &self.attributes {
            if a.purpose != Use::Told && !used.contains(&a.purpose) {
                member(&a.name, &a.json, &mut json);
            }
        }
        if !json.is_empty() {
            json.push('}');
            *extra = Some(Cow::Owned(joined(extra.as_deref(), self.name, &json)));
        }
    }

    /// The envelope around what is kept of a record inside it, as its own kind of JSON.
    fn enclosing(&self, raw: &[u8]) -> Option<Vec<u8>> {
        let mut attributes = String::new();
        self.attributes.iter().for_each(|a| member(&a.name, &a.json, &mut attributes));
        let left = self.around.get().checked_sub(attributes.len()).filter(|_| !self.attributes.is_empty())?;
        let with = |name: &str, json: &str| {
            let mut out = attributes.clone();
            member(name, json, &mut out);
            out + "}"
        };
        let text = |s: &str| {
            let mut out = String::new();
            write_string(s, &mut out);
            out
        };
        let mut tape = Tape::default();
        let whole = match std::str::from_utf8(raw) {
            Ok(data) => {
                let whole = with("data", data);
                // What is no JSON, or would be none within the envelope, stands there as text, which is read alike.
                if tape.parse(whole.as_bytes()).is_ok() { whole } else { with("data", &text(data)) }
            }
            Err(_) => with("data_base64", &text(&base64::engine::general_purpose::STANDARD.encode(raw))),
        };
        if whole.len() > RAW_BYTES_MAX {
            return None;
        }
        self.around.set(left);
        Some(whole.into_bytes())
    }
}

impl Change for Envelope {
    fn event(&self, e: &mut Event<'_>) {
        let mut used = self.fill(&mut e.id, &mut e.source, &mut e.time, &mut e.flags);
        // A span of one trace under the id of another would be a lie, so they go together.
        let untraced = e.links.trace.is_none() && e.links.span.is_none() && e.links.parent_span.is_none();
        if untraced {
            e.links.trace = owned(&self.trace);
            e.links.span = owned(&self.span);
            e.links.parent_span = owned(&self.parent_span);
            used.extend(self.trace.as_ref().map(|_| Use::Trace));
        }
        let nobody = e.requester.id.is_none() && e.requester.email.is_none() && e.token.subject.is_none();
        if nobody && self.requester.is_some() {
            e.requester.id = owned(&self.requester);
            e.requester.assurance = Some(Cow::Borrowed("asserted"));
            if e.requester.kind.is_none() {
                e.requester.kind = self.requester_kind.map(Cow::Borrowed);
            }
            used.push(Use::Requester);
        }
        self.keep(&mut e.extra, &used);
    }

    /// A record of authority has no requester and no trace of its own: these stay in `extra`.
    fn authority(&self, e: &mut Entry<'_>) {
        let used = self.fill(&mut e.id, &mut e.source, &mut e.time, &mut e.flags);
        self.keep(&mut e.extra, &used);
    }

    fn rejection(&self, rejection: Rejection, format: Format) -> (Rejection, Format) {
        // What is left of an export's record is no record of its own.
        if format == Format::Otlp {
            return (rejection, format);
        }
        match rejection.raw.as_deref().and_then(|raw| self.enclosing(raw)) {
            Some(raw) => (Rejection { raw: Some(raw), ..rejection }, Format::Cloudevents),
            None => (rejection, format),
        }
    }
}

fn owned(text: &Option<String>) -> Text<'static> {
    text.clone().map(Cow::Owned)
}

/// Appends a member to an object that is not closed yet.
fn member(name: &str, json: &str, out: &mut String) {
    out.push(if out.is_empty() { '{' } else { ',' });
    write_string(name, out);
    out.push(':');
    out.push_str(json);
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
