//! CloudEvents 1.0: takes the record out of its envelope, structured or binary.
//!
//! Guarantees: `data` is decoded as whatever it is, by the same rules as a record that came alone, and what the envelope says
//! (`id`, `source`, `time`, `traceparent`, `authid`) fills only what the record leaves empty, the rest is kept; see
//! [`crate::envelope`]. An envelope without data stands for something deleted and is the rejection `tombstone`, which names it; one
//! without an attribute that the specification requires, or with one that is no text, is `cloudevent_invalid`. Batches are arrays of
//! envelopes. `authclaims` is text that may hold anything, so it is redacted like anything else and read by nobody.

use crate::Context;
use crate::RAW_BYTES_MAX;
use crate::encoding::media_type;
use crate::envelope::{Attribute, Envelope, Use};
use crate::json::{Kind, Tape, Value, write_string};
use crate::redact::Redactor;
use base64::Engine;
use catena_schemas::Micros;
use std::borrow::Cow;
use std::cell::Cell;

/// What an attribute is for.
fn purpose(name: &str) -> Use {
    match name {
        "id" => Use::Id,
        "time" => Use::Time,
        "traceparent" => Use::Trace,
        "authid" => Use::Requester,
        "specversion" | "datacontenttype" => Use::Told,
        _ => Use::Kept,
    }
}

/// What became of an envelope: what it knows, what is in it, and the media type of that.
pub(crate) struct Opened {
    pub(crate) envelope: Envelope,
    pub(crate) data: Vec<u8>,
    pub(crate) media_type: Option<String>,
}

impl Opened {
    /// Gives the data to `decode` with the context that it has inside: the media type is that of the data, and ids are made from
    /// the envelope's.
    pub(crate) fn hand_on(&self, context: &Context<'_>, decode: impl FnOnce(&[u8], &Context<'_>, &Envelope)) {
        let outside = |name: &str| attribute(name).is_some() || name.eq_ignore_ascii_case("content-type");
        let mut headers: Vec<(&str, &[u8])> = context.headers.iter().filter(|h| !outside(h.0)).copied().collect();
        headers.extend(self.media_type.iter().map(|m| ("content-type", m.as_bytes())));
        let fallback_id = self.envelope.id.as_deref().unwrap_or(context.fallback_id);
        decode(&self.data, &Context { fallback_id, headers: &headers, ..*context }, &self.envelope);
    }
}

/// Attributes that an envelope cannot do without.
const REQUIRED: &[&str] = &["specversion", "id", "source", "type"];

/// Whether an object is an envelope in structured mode, well-formed or not.
pub(crate) fn is_envelope(root: Value<'_>) -> bool {
    REQUIRED.iter().all(|key| root.get(key).is_some_and(|v| !v.is_null()))
}

/// Whether the headers say that a record is an envelope in structured mode.
pub(crate) fn is_announced(context: &Context<'_>) -> bool {
    media_type(context).is_some_and(|m| m.starts_with("application/cloudevents"))
}

/// Opens an envelope in structured mode.
pub(crate) fn structured(root: Value<'_>, redactor: &Redactor) -> Result<Opened, (&'static str, String)> {
    if root.kind() != Kind::Object {
        return Err(("not_an_object", format!("the record is {}", root.kind().as_str())));
    }
    let required = REQUIRED.iter().filter_map(|key| Some((key, root.get(key)?)));
    if let Some((key, v)) = required.clone().find(|(_, v)| !v.is_null() && v.as_str().is_none()) {
        return Err(("cloudevent_invalid", format!("`{key}` is {}, not text", v.kind().as_str())));
    }
    let attributes: Vec<(&str, Cow<'_, str>)> = root
        .entries()
        .filter(|(key, v)| !matches!(*key, "data" | "data_base64") && !v.is_null())
        .map(|(key, v)| (key, v.as_scalar().map_or_else(|| Cow::Owned(v.to_json()), Cow::Borrowed)))
        .collect();
    let envelope = envelope(&attributes, redactor)?;
    let media_type = root.get("datacontenttype").and_then(|v| v.as_str()).map(bare);
    let data = match (root.get("data").filter(|v| !v.is_null()), root.get("data_base64").filter(|v| !v.is_null())) {
        (Some(_), Some(_)) => return Err(("cloudevent_invalid", "`data` and `data_base64` are both there".into())),
        // Text is what it says: JSON that a producer wrote as a string is still JSON.
        (Some(data), None) => data.as_str().map_or_else(|| data.to_json(), str::to_owned).into_bytes(),
        (None, Some(data)) => {
            let read = data.as_str().map(|s| base64::engine::general_purpose::STANDARD.decode(s));
            let Some(Ok(bytes)) = read else {
                return Err(("cloudevent_invalid", "`data_base64` is not base64".into()));
            };
            bytes
        }
        (None, None) => Vec::new(),
    };
    filled(Opened { envelope, data, media_type })
}

/// Opens an envelope in binary mode: its attributes stand in the headers, `ce_` on Kafka and `ce-` over HTTP. `None` when there is
/// no envelope.
pub(crate) fn binary(
    bytes: &[u8],
    context: &Context<'_>,
    redactor: &Redactor,
) -> Option<Result<Opened, (&'static str, String)>> {
    let called = media_type(context);
    let headers = context.headers.iter().filter_map(|h| Some((attribute(h.0)?.to_ascii_lowercase(), said(h.0, h.1))));
    let all: Vec<(String, Cow<'_, str>)> = headers.collect();
    if is_announced(context) || !all.iter().any(|a| a.0 == "specversion") {
        return None;
    }
    let kind = called.iter().map(|m| ("datacontenttype", Cow::Borrowed(m.as_str())));
    let attributes: Vec<(&str, Cow<'_, str>)> = all.iter().map(|a| (a.0.as_str(), a.1.clone())).chain(kind).collect();
    let opened = envelope(&attributes, redactor)
        .and_then(|envelope| filled(Opened { envelope, data: bytes.to_vec(), media_type: called.clone() }));
    Some(opened)
}

/// The attribute that a header holds.
pub(crate) fn attribute(header: &str) -> Option<&str> {
    let (prefix, name) = header.split_at_checked(3)?;
    (prefix.eq_ignore_ascii_case("ce_") || prefix.eq_ignore_ascii_case("ce-")).then_some(name)
}

/// What a header says: over HTTP it is escaped, on Kafka it is not.
fn said<'h>(header: &str, value: &'h [u8]) -> Cow<'h, str> {
    let text = String::from_utf8_lossy(value);
    if header.as_bytes().get(2) == Some(&b'-') { unescaped(text) } else { text }
}

/// Text of an HTTP header: without quotes, and with what is percent-encoded decoded once (HTTP binding, section 3.1.3.2).
fn unescaped(value: Cow<'_, str>) -> Cow<'_, str> {
    let quoted = value.trim().strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    if quoted.is_none() && !value.contains('%') {
        return value;
    }
    let (text, quoted) = (quoted.unwrap_or(&value).as_bytes(), quoted.is_some());
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
        match (byte, hex(text.get(at + 1)), hex(text.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
                continue;
            }
            (b'\\', ..) if quoted && at + 1 < text.len() => {
                at += 1;
                out.push(text[at]);
            }
            (other, ..) => out.push(*other),
        }
        at += 1;
    }
    // What would be no text stays as it came.
    String::from_utf8(out).map_or(value, Cow::Owned)
}

fn filled(opened: Opened) -> Result<Opened, (&'static str, String)> {
    let nothing = opened.data.iter().all(u8::is_ascii_whitespace) || opened.data == b"null";
    if nothing {
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        let (id, source) = (said(&opened.envelope.id), said(&opened.envelope.instance));
        return Err(("tombstone", format!("the envelope `{id}` of `{source}` holds no data")));
    }
    // Records that share an envelope would have its id each, were it put around what is kept of them.
    let several = opened.data.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'[');
    opened.envelope.around.set(if several { 0 } else { RAW_BYTES_MAX });
    Ok(opened)
}

fn bare(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn envelope(attributes: &[(&str, Cow<'_, str>)], redactor: &Redactor) -> Result<Envelope, (&'static str, String)> {
    let get = |name: &str| attributes.iter().find(|a| a.0 == name).map(|a| a.1.as_ref()).filter(|s| !s.is_empty());
    if let Some(missing) = REQUIRED.iter().find(|name| get(name).is_none()) {
        return Err(("cloudevent_invalid", format!("`{missing}` is required")));
    }
    let clean = |text: &str| redactor.header(text).into_owned();
    let traced = get("traceparent").and_then(super::mapped::traceparent);
    let time = get("time").and_then(Micros::parse_rfc3339);
    let mut flags = Vec::new();
    for (name, unread) in [("time", time.is_none()), ("traceparent", traced.is_none())] {
        if unread && get(name).is_some() {
            flags.push(Cow::Owned(format!("invalid:cloudevents.{name}")));
        }
    }
    Ok(Envelope {
        id: get("id").map(clean),
        instance: get("source").map(clean),
        time,
        trace: traced.map(|t| t.0.to_owned()),
        parent_span: traced.map(|t| t.1.to_owned()),
        requester: get("authid").map(clean),
        requester_kind: match get("authtype") {
            Some("app_user" | "user") => Some("human"),
            Some("service_account" | "api_key" | "system") => Some("service"),
            _ => None,
        },
        name: "cloudevents",
        attributes: kept(attributes, redactor),
        flags,
        around: Cell::new(0),
        ..Envelope::default()
    })
}

/// All attributes, sorted; of several of one name the first.
fn kept(attributes: &[(&str, Cow<'_, str>)], redactor: &Redactor) -> Vec<Attribute> {
    let mut all: Vec<_> = attributes.iter().filter(|a| !matches!(a.0, "data" | "data_base64")).collect();
    all.sort_by_key(|a| a.0);
    all.dedup_by_key(|a| a.0);
    // As an object, because the writer of objects knows what a name tells of its value.
    let mut text = String::with_capacity(all.iter().map(|(key, value)| key.len() + value.len() + 8).sum());
    for (key, value) in &all {
        text.push(if text.is_empty() { '{' } else { ',' });
        write_string(key, &mut text);
        text.push(':');
        write_string(&redactor.header(value), &mut text);
    }
    text.push('}');
    let mut tape = Tape::default();
    let Ok(object) = tape.parse(text.as_bytes()) else { return Vec::new() };
    let dirty = redactor.suspects_record(object);
    let mut kept: Vec<Attribute> = Vec::with_capacity(all.len());
    for (key, value) in object.entries() {
        let mut json = String::with_capacity(value.source().len());
        redactor.member(key, value, dirty, &mut json);
        let name = if dirty { redactor.text(key) } else { Cow::Borrowed(key) };
        // Names that are secrets may come out alike.
        let same = kept.iter().filter(|k| k.name.split('~').next() == Some(&*name)).count();
        let name = if same == 0 { name.into_owned() } else { format!("{name}~{}", same + 1) };
        kept.push(Attribute { purpose: purpose(key), name, json });
    }
    kept
}
