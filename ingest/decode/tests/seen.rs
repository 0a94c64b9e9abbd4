//! What reached the sink, owned.

use catena_decode::{Context, Decoder, Format, Redactor, Sink, frame};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros};
use std::path::PathBuf;
use std::sync::Arc;

/// One event, as far as tests look at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) record: String,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) outcome: String,
    pub(crate) phase: String,
    pub(crate) requester: String,
    pub(crate) agent: String,
    pub(crate) actors: Vec<String>,
    pub(crate) actors_source: String,
    pub(crate) session: String,
    pub(crate) server: String,
    pub(crate) tool: String,
    pub(crate) action: String,
    pub(crate) resources: Vec<String>,
    pub(crate) policy: String,
    pub(crate) version: String,
    pub(crate) reasons: Vec<String>,
    pub(crate) trace: String,
    pub(crate) request: String,
    pub(crate) params: String,
    pub(crate) extra: String,
    pub(crate) flags: Vec<String>,
    pub(crate) time: Micros,
    /// Everything, as text.
    pub(crate) debug: String,
    /// As a native event.
    pub(crate) native: String,
}

/// Collects.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) events: Vec<Seen>,
    /// Kind, id, body, extra and flags, as one line; and everything, as text.
    pub(crate) entries: Vec<(String, String)>,
    pub(crate) rejections: Vec<Rejection>,
    pub(crate) asides: Vec<Rejection>,
}

impl Collected {
    pub(crate) fn total(&self) -> usize {
        self.events.len() + self.entries.len() + self.rejections.len() + self.asides.len()
    }

    /// All that came out, as text: columns, kept bytes, messages.
    pub(crate) fn everything(&self) -> String {
        let mut all = String::new();
        for e in &self.events {
            all += &e.debug;
            all += &e.native;
            all += &e.params;
            all += &e.extra;
        }
        for (line, debug) in &self.entries {
            all += line;
            all += debug;
        }
        for r in self.rejections.iter().chain(&self.asides) {
            all += &r.detail;
            all += &String::from_utf8_lossy(r.raw.as_deref().unwrap_or_default());
        }
        all
    }
}

impl Sink for Collected {
    fn event(&mut self, e: &Event<'_>, _: Format) {
        let text = |t: &Option<std::borrow::Cow<'_, str>>| t.as_deref().unwrap_or_default().to_owned();
        let texts = |t: &[std::borrow::Cow<'_, str>]| t.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        self.events.push(Seen {
            kind: e.kind.as_str(),
            id: e.id.to_string(),
            record: text(&e.source.record),
            index: e.source.decision_index,
            count: e.source.decision_count,
            outcome: e.decision.outcome.as_str().to_owned(),
            phase: e.decision.phase.map(|p| p.as_str()).unwrap_or_default().to_owned(),
            requester: text(&e.requester.id),
            agent: e.agent().unwrap_or_default().to_owned(),
            actors: e.actors.iter().map(|a| a.id.to_string()).collect(),
            actors_source: text(&e.actors_source),
            session: text(&e.session.id),
            server: text(&e.server.name),
            tool: text(&e.tool.name),
            action: text(&e.tool.action),
            resources: texts(&e.call.resources),
            policy: text(&e.decision.policy_id),
            version: text(&e.decision.policy_version),
            reasons: texts(&e.decision.reasons),
            trace: text(&e.links.trace),
            request: text(&e.links.request),
            params: text(&e.call.params),
            extra: text(&e.extra),
            flags: texts(&e.flags),
            time: e.time,
            debug: format!("{e:?}"),
            native: {
                let mut out = Vec::new();
                catena_schemas::wire::write_native(e, &mut out);
                String::from_utf8(out).expect("JSON is text")
            },
        });
    }

    fn authority(&mut self, e: &Entry<'_>, _: Format) {
        let mut line = format!("{} {} {}", e.kind.as_str(), e.id, e.body);
        if let Some(extra) = &e.extra {
            line += &format!(" extra={extra}");
        }
        if !e.flags.is_empty() {
            line += &format!(" flags={}", e.flags.join(","));
        }
        self.entries.push((line, format!("{e:?}")));
    }

    fn rejection(&mut self, rejection: Rejection, _: Format) {
        self.rejections.push(rejection);
    }

    fn aside(&mut self, aside: Rejection, _: Format) {
        self.asides.push(aside);
    }
}

pub(crate) const KEY: [u8; 32] = [7; 32];

pub(crate) fn decoder() -> Decoder {
    Decoder::new(Arc::new(Redactor::new(KEY)))
}

pub(crate) fn received() -> Micros {
    Micros::parse_rfc3339("2026-11-22T00:00:00Z").expect("a time")
}

pub(crate) fn context() -> Context<'static> {
    Context { received: received(), fallback_id: "place/0/0", headers: &[], trusted: false }
}

pub(crate) fn decode(format: Format, bytes: &[u8]) -> Collected {
    let mut seen = Collected::default();
    decoder().record(format, bytes, &context(), &mut seen);
    seen
}

/// Decodes a body as files are: unpacked and cut first.
pub(crate) fn decode_body(format: Format, body: &[u8]) -> Collected {
    let body = frame::decompress(body, &frame::Limits::default()).expect("the corpus is sound");
    let (mut decoder, mut seen) = (decoder(), Collected::default());
    for (_, record) in frame::records(&body) {
        decoder.record(format, record, &context(), &mut seen);
    }
    seen
}

pub(crate) fn corpus(path: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(path);
    std::fs::read(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()))
}

pub(crate) fn jsonl(path: &str) -> Vec<serde_json::Value> {
    let body = frame::decompress(&corpus(path), &frame::Limits::default()).expect("the corpus is sound").into_owned();
    let text = String::from_utf8(body).expect("the corpus is text");
    text.lines().map(|l| serde_json::from_str(l).expect("the driver writes JSON")).collect()
}
