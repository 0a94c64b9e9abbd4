//! Translates: bytes of a producer's record become events, rejections and asides.
//!
//! Guarantees: decoding never fails, it classifies. Whatever the bytes, [`Decoder::record`] hands the sink at least one
//! of an event, a rejection (with a stable reason code and the redacted bytes) or an aside (recognised, but not a
//! decision); it never panics and never stalls. Secrets are gone from everything that reaches the sink. Pure: no clock,
//! no I/O, no configuration from outside; the same bytes give the same result.

mod claims;
pub mod formats;
pub mod frame;
pub mod json;
pub mod mapping;
pub mod redact;

use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros};
use json::{Kind, Tape, Value};
use mapping::{Mappings, Roots};
pub use redact::Redactor;
use redact::Taken;
use redact::tools::{Ruled, Tools};
use std::sync::Arc;

/// A producer's dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Recognised record by record.
    Auto,
    /// The native event.
    Catena,
    /// Open Policy Agent decision logs: console lines and uploads.
    Opa,
    /// Cerbos audit entries: file lines and Kafka JSON.
    Cerbos,
    /// Envoy access log, JSON or typed JSON.
    Envoy,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] = &[Format::Auto, Format::Catena, Format::Opa, Format::Cerbos, Format::Envoy];

    /// The name in arguments, URLs and the `format` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Catena => "catena",
            Format::Opa => "opa",
            Format::Cerbos => "cerbos",
            Format::Envoy => "envoy",
        }
    }

    /// The format of a name.
    pub fn parse(name: &str) -> Option<Format> {
        Format::ALL.iter().copied().find(|f| f.as_str() == name)
    }
}

/// What decoding hands on. Events borrow from the record: a sink copies what it keeps.
pub trait Sink {
    /// A decision.
    fn event(&mut self, event: &Event<'_>, format: Format);
    /// Bytes that could not be read.
    fn rejection(&mut self, rejection: Rejection, format: Format);
    /// A record of a known kind that is not a decision.
    fn aside(&mut self, aside: Rejection, format: Format);
}

/// What is known of a record besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// When it was received: the time of events whose source gives none, and the measure of clock skew.
    pub received: Micros,
    /// Id for events whose source gives none: unique to the place the record was read from.
    pub fallback_id: &'a str,
    /// Kafka or HTTP headers.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// Whether the record is one of our own, written by `catena_schemas::wire::write_event` and never out of our hands
    /// since: it is taken as it is, its member `catena` included. For others that member is one more unknown one.
    pub trusted: bool,
}

/// Bytes of a rejected record that are kept.
pub const RAW_BYTES_MAX: usize = 1 << 20;

/// Decodes records; holds the buffers that make it fast. One per thread.
#[derive(Debug)]
pub struct Decoder {
    tape: Tape,
    /// For lines whose objects stand as text.
    inner: Tape,
    buffers: Buffers,
    redactor: Arc<Redactor>,
    mappings: Arc<Mappings>,
}

#[derive(Debug, Default)]
struct Buffers {
    native: formats::catena::Native,
    taken: Taken,
    scratch: Tape,
}

/// What became of a record that holds one decision at most.
enum Decoded<'t> {
    Event(Box<Event<'t>>),
    Aside(&'static str, String),
    Rejection(&'static str, String),
}

impl Decoder {
    /// A decoder for one tenant, whose key the redactor holds, with the mappings that ship.
    pub fn new(redactor: Arc<Redactor>) -> Decoder {
        Decoder::with_mappings(redactor, Mappings::shipped())
    }

    /// The same with other mappings.
    pub fn with_mappings(redactor: Arc<Redactor>, mappings: Arc<Mappings>) -> Decoder {
        Decoder { tape: Tape::default(), inner: Tape::default(), buffers: Buffers::default(), redactor, mappings }
    }

    /// The redactor in use.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Decodes one record. A record that is an array holds as many: each of its items is decoded by itself, and those that
    /// are good are not lost for one that is not.
    pub fn record(&mut self, format: Format, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        let rules = self.redactor.rules();
        if context.trusted || !rules.has_rules() {
            return self.record_with(None, format, bytes, context, sink);
        }
        // Which rules hold depends on the tool, which is known when the record has been read.
        let mut tools = Tools::default();
        if rules.asks_for_tool() {
            self.record_with(None, format, bytes, context, &mut tools);
        }
        let redactor = self.redactor.for_tools(tools);
        self.record_with(Some(&redactor), format, bytes, context, &mut Ruled { redactor: &redactor, sink });
    }

    fn record_with(
        &mut self,
        redactor: Option<&Redactor>,
        format: Format,
        bytes: &[u8],
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) {
        let redactor = redactor.unwrap_or(&self.redactor);
        if matches!(format, Format::Auto | Format::Cerbos)
            && let Some(detail) = formats::cerbos::unsupported_encoding(context)
        {
            return sink.rejection(redactor.reject("encoding_unsupported", detail, bytes), Format::Cerbos);
        }
        let root = match self.tape.parse(bytes) {
            Ok(root) => root,
            Err(e) => return sink.rejection(redactor.reject(e.reason, format!("at byte {}", e.at), bytes), format),
        };
        let mut one = One { redactor, mappings: &self.mappings, buffers: &mut self.buffers, inner: &mut self.inner };
        if root.kind() != Kind::Array {
            return one.decode(format, root, bytes, context, (0, 1), sink);
        }
        let count = root.items().count();
        if count == 0 {
            return sink.aside(redactor.aside("batch_empty", String::new()), format);
        }
        for (index, item) in root.items().enumerate() {
            let fallback_id = format!("{}/{index}", context.fallback_id);
            let context = Context { fallback_id: &fallback_id, ..*context };
            let written;
            let bytes = match item.source() {
                "" => {
                    written = item.to_json();
                    written.as_bytes()
                }
                source => source.as_bytes(),
            };
            one.decode(format, item, bytes, &context, (index as u32, count as u32), sink);
        }
    }
}

/// Decodes one object, its record parsed already.
struct One<'d> {
    redactor: &'d Redactor,
    mappings: &'d Mappings,
    buffers: &'d mut Buffers,
    inner: &'d mut Tape,
}

impl One<'_> {
    fn decode(
        &mut self,
        format: Format,
        root: Value<'_>,
        bytes: &[u8],
        context: &Context<'_>,
        place: (u32, u32),
        sink: &mut impl Sink,
    ) {
        let redactor = self.redactor;
        let format = match format {
            Format::Auto => match self.recognise(root, context) {
                Some(format) => format,
                None => {
                    let detail = match root.kind() {
                        Kind::Object => {
                            let keys: Vec<_> = root.entries().take(8).map(|e| e.0).collect();
                            format!("members: {}", keys.join(", "))
                        }
                        kind => format!("the record is {}", kind.as_str()),
                    };
                    let reason = if root.kind() == Kind::Object { "shape_unknown" } else { "not_an_object" };
                    return sink.rejection(redactor.reject_value(reason, detail, root, bytes), Format::Auto);
                }
            },
            format => format,
        };
        let Buffers { native, taken, scratch } = &mut *self.buffers;
        let decoded = match format {
            Format::Auto | Format::Catena => match native.decode(root, redactor, context) {
                Ok(mut event) => {
                    // A record of our own says itself which decision of which record it was.
                    if !context.trusted {
                        (event.source.decision_index, event.source.decision_count) = place;
                    }
                    return sink.event(&event, formats::catena::original(root, context));
                }
                Err((reason, detail)) => Decoded::Rejection(reason, detail),
            },
            Format::Opa => formats::opa::decode(root, self.mappings, redactor, taken, context),
            Format::Cerbos => match formats::cerbos::decode(root, self.mappings, redactor, taken, context, sink) {
                Ok(()) => return,
                Err((reason, detail)) => Decoded::Rejection(reason, detail),
            },
            Format::Envoy => {
                if let Some(expanded) = formats::envoy::expand(root, scratch) {
                    // What parsed as parts can fail as a whole only by its depth.
                    let decoded = match self.inner.parse(expanded.as_bytes()) {
                        Ok(root) => formats::envoy::decode(root, self.mappings, redactor, taken, context),
                        Err(e) => Decoded::Rejection(e.reason, "with the objects that stand as text".into()),
                    };
                    return hand_on(decoded, format, (root, bytes), place, redactor, sink);
                }
                formats::envoy::decode(root, self.mappings, redactor, taken, context)
            }
        };
        hand_on(decoded, format, (root, bytes), place, redactor, sink);
    }

    /// The dialect of a record, by its shape.
    fn recognise(&self, root: Value<'_>, context: &Context<'_>) -> Option<Format> {
        if formats::cerbos::is_announced(context) {
            return Some(Format::Cerbos);
        }
        if root.kind() != Kind::Object {
            return None;
        }
        if root.get("decision").is_some_and(|v| v.kind() == Kind::Object) {
            return Some(Format::Catena);
        }
        if formats::opa::is_decision(root) {
            return Some(Format::Opa);
        }
        if formats::cerbos::is_entry(root) {
            return Some(Format::Cerbos);
        }
        if self.mappings.choose(Format::Envoy, &Roots::record(root)).is_some() {
            return Some(Format::Envoy);
        }
        if formats::opa::is_console(root) {
            return Some(Format::Opa);
        }
        const NATIVE: &[&str] =
            &["kind", "decision", "requester", "actors", "session", "server", "tool", "call", "token"];
        root.entries().any(|(key, _)| NATIVE.contains(&key)).then_some(Format::Catena)
    }
}

fn hand_on(
    decoded: Decoded<'_>,
    format: Format,
    record: (Value<'_>, &[u8]),
    place: (u32, u32),
    redactor: &Redactor,
    sink: &mut impl Sink,
) {
    match decoded {
        Decoded::Event(mut event) => {
            (event.source.decision_index, event.source.decision_count) = place;
            sink.event(&event, format);
        }
        Decoded::Aside(reason, detail) => sink.aside(redactor.aside(reason, detail), format),
        Decoded::Rejection(reason, detail) => {
            sink.rejection(redactor.reject_value(reason, detail, record.0, record.1), format)
        }
    }
}
