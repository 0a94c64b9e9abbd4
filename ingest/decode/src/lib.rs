//! Translates: bytes of a producer's record become events, rejections and asides.
//!
//! Guarantees: decoding never fails, it classifies. Whatever the bytes, [`Decoder::record`] hands the sink at least one
//! of an event (a decision, or an execution), a record of authority, a rejection (with a stable reason code and the redacted bytes)
//! or an aside (recognised, but none of these); it never panics and never stalls. Secrets are gone from everything that reaches the sink. Pure: no clock,
//! no I/O, no configuration from outside; the same bytes give the same result.

pub mod authority;
pub mod avro;
mod claims;
mod encoding;
mod envelope;
pub mod formats;
pub mod frame;
pub mod framing;
pub mod json;
pub mod mapping;
pub mod protobuf;
pub mod reasons;
pub mod redact;

use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros};
use envelope::Envelope;
use json::{Kind, Tape, Value};
use mapping::{Mappings, Roots};
use redact::Taken;
use redact::tools::Tools;
pub use redact::{Block, Redactor};
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
    /// Cerbos audit entries: file lines, Kafka JSON and Kafka protobuf.
    Cerbos,
    /// Envoy access log, JSON or typed JSON.
    Envoy,
    /// Pomerium's log: authorize and access lines.
    Pomerium,
    /// Raw MCP traffic: exchanges, or JSON-RPC messages one by one.
    Mcp,
    /// Logs of those who grant: authorization servers, relationship stores.
    Authority,
    /// OpenID AuthZEN requests with their answers.
    Authzen,
    /// OpenFGA's request log.
    Openfga,
    /// Teleport's audit log: MCP sessions.
    Teleport,
    /// AWS CloudTrail: Verified Permissions, AgentCore Gateway.
    Cloudtrail,
    /// IBM ContextForge: SIEM export and audit tables.
    Contextforge,
    /// Kong's AI MCP Proxy, by any of its logging plug-ins.
    Kong,
    /// ToolHive's audit log.
    Toolhive,
    /// Docker MCP Gateway's policy audit events.
    DockerMcp,
    /// Obot's audit export.
    Obot,
    /// Any other producer, by a mapping of one's own.
    Mapped,
    /// agentgateway access log: lines, or records of OTLP.
    Agentgateway,
    /// OTLP logs and spans with the conventions for agents and MCP, JSON or protobuf.
    Otlp,
    /// CloudEvents around a record of any other format.
    Cloudevents,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] = &[
        Format::Auto,
        Format::Catena,
        Format::Opa,
        Format::Cerbos,
        Format::Envoy,
        Format::Pomerium,
        Format::Mcp,
        Format::Authority,
        Format::Authzen,
        Format::Openfga,
        Format::Teleport,
        Format::Cloudtrail,
        Format::Contextforge,
        Format::Kong,
        Format::Toolhive,
        Format::DockerMcp,
        Format::Obot,
        Format::Mapped,
        Format::Agentgateway,
        Format::Otlp,
        Format::Cloudevents,
    ];

    /// The name in arguments, URLs and the `format` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Catena => "catena",
            Format::Opa => "opa",
            Format::Cerbos => "cerbos",
            Format::Envoy => "envoy",
            Format::Pomerium => "pomerium",
            Format::Mcp => "mcp",
            Format::Authority => "authority",
            Format::Authzen => "authzen",
            Format::Openfga => "openfga",
            Format::Teleport => "teleport",
            Format::Cloudtrail => "cloudtrail",
            Format::Contextforge => "contextforge",
            Format::Kong => "kong",
            Format::Toolhive => "toolhive",
            Format::DockerMcp => "docker-mcp",
            Format::Obot => "obot",
            Format::Mapped => "mapped",
            Format::Agentgateway => "agentgateway",
            Format::Otlp => "otlp",
            Format::Cloudevents => "cloudevents",
        }
    }

    /// The format of a name.
    pub fn parse(name: &str) -> Option<Format> {
        Format::ALL.iter().copied().find(|f| f.as_str() == name)
    }
}

/// What decoding hands on. Events borrow from the record: a sink copies what it keeps.
pub trait Sink {
    /// A decision, or an execution.
    fn event(&mut self, event: &Event<'_>, format: Format);
    /// A record of authority.
    fn authority(&mut self, entry: &Entry<'_>, format: Format);
    /// Bytes that could not be read.
    fn rejection(&mut self, rejection: Rejection, format: Format);
    /// A record of a known kind that holds no fact.
    fn aside(&mut self, aside: Rejection, format: Format);
}

/// What is done to what a record gave before it is handed on.
trait Change {
    fn event(&self, event: &mut Event<'_>);
    fn authority(&self, _: &mut Entry<'_>) {}
    fn rejection(&self, rejection: Rejection, format: Format) -> (Rejection, Format) {
        (rejection, format)
    }
}

impl Change for Redactor {
    fn event(&self, event: &mut Event<'_>) {
        self.apply(event);
    }
}

/// Hands on to another sink, with a change. No type of its own for each change: records within records would make endless ones.
struct Changed<'s> {
    change: &'s dyn Change,
    sink: &'s mut dyn Sink,
}

impl Sink for Changed<'_> {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        let mut event = event.clone();
        self.change.event(&mut event);
        self.sink.event(&event, format);
    }

    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        let mut entry = entry.clone();
        self.change.authority(&mut entry);
        self.sink.authority(&entry, format);
    }

    fn rejection(&mut self, rejection: Rejection, format: Format) {
        let (rejection, format) = self.change.rejection(rejection, format);
        self.sink.rejection(rejection, format);
    }

    fn aside(&mut self, aside: Rejection, format: Format) {
        let (aside, format) = self.change.rejection(aside, format);
        self.sink.aside(aside, format);
    }
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

/// Bytes of a rejected record, or of one that was set aside, that are kept.
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
    /// For records inside records, made when the first comes.
    nested: Option<Box<Decoder>>,
    depth: u8,
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
    Authority(Box<Entry<'t>>),
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
        let (tape, inner, buffers) = (Tape::default(), Tape::default(), Buffers::default());
        Decoder { tape, inner, buffers, redactor, mappings, nested: None, depth: 0 }
    }

    /// The redactor in use.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// The same, to share with another decoder of its tenant.
    pub fn shared_redactor(&self) -> Arc<Redactor> {
        self.redactor.clone()
    }

    /// Bytes of buffers that it holds on to: after a record of very many values more than it is worth to keep.
    pub fn held_bytes(&self) -> usize {
        let own = self.tape.held_bytes() + self.inner.held_bytes() + self.buffers.scratch.held_bytes();
        own + self.nested.as_ref().map_or(0, |nested| nested.held_bytes())
    }

    /// Decodes one record. A record that is an array, or an object around one as CloudTrail's files are, holds as many: each of its items is decoded by itself, and those that
    /// are good are not lost for one that is not.
    pub fn record(&mut self, format: Format, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        self.record_after(&mut Block::default(), format, bytes, context, sink);
    }

    /// The same for a record of a sequence, in which a private key may be written over several: `block` says whether one is open, and is
    /// brought behind this record.
    pub fn record_after(
        &mut self,
        block: &mut Block,
        format: Format,
        bytes: &[u8],
        context: &Context<'_>,
        sink: &mut impl Sink,
    ) {
        if context.trusted || !(block.is_open() || redact::speaks(bytes)) {
            return self.ruled(format, bytes, context, sink);
        }
        let in_key = Arc::new(self.redactor.for_key_lines(block.is_open()));
        let plain = std::mem::replace(&mut self.redactor, in_key);
        // What was made for records inside records redacts as its maker did.
        self.nested = None;
        self.ruled(format, bytes, context, sink);
        self.nested = None;
        self.redactor = plain;
        *block = block.after(bytes);
    }

    /// Decodes one record under the rules for its tool.
    fn ruled(&mut self, format: Format, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        let rules = self.redactor.rules();
        if context.trusted || !rules.has_rules() {
            return self.encoded(format, bytes, context, sink);
        }
        // Which rules hold depends on the tool, which is known when the record has been read.
        let mut tools = Tools::default();
        if rules.asks_for_tool() {
            self.encoded(format, bytes, context, &mut tools);
        }
        let ruled = Arc::new(self.redactor.for_tools(tools));
        let plain = std::mem::replace(&mut self.redactor, ruled.clone());
        // What was made for records inside records redacts as its maker did.
        self.nested = None;
        self.encoded(format, bytes, context, &mut Changed { change: &*ruled, sink });
        self.nested = None;
        self.redactor = plain;
    }

    /// Decodes one record of whatever encoding.
    fn encoded(&mut self, format: Format, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        if context.trusted {
            return self.text(format, bytes, context, sink);
        }
        if matches!(format, Format::Auto | Format::Cloudevents)
            && let Some(opened) = formats::cloudevents::binary(bytes, context, &self.redactor)
        {
            // Its headers are gone inside, so that this happens once.
            return match opened {
                Ok(opened) => opened.hand_on(context, |bytes, context, envelope| {
                    self.encoded(Format::Auto, bytes, context, &mut Changed { change: envelope, sink })
                }),
                Err((reason, detail)) => {
                    sink.rejection(self.redactor.reject(reason, detail, bytes), Format::Cloudevents)
                }
            };
        }
        match encoding::written(format, bytes, context) {
            Ok(None) => self.text(format, bytes, context, sink),
            Ok(Some(encoding::Written { json, format })) if json.unknown == 0 => {
                self.text(format, json.text.as_bytes(), context, sink)
            }
            Ok(Some(encoding::Written { json, format })) => {
                let flags = vec![format!("protobuf_unknown_fields:{}", json.unknown).into()];
                let envelope = Envelope { flags, ..Envelope::default() };
                self.text(format, json.text.as_bytes(), context, &mut Changed { change: &envelope, sink })
            }
            Err((reason, detail, format)) => sink.rejection(self.redactor.reject(reason, detail, bytes), format),
        }
    }

    /// Decodes one record of JSON.
    fn text(&mut self, format: Format, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        let redactor = &*self.redactor;
        let root = match self.tape.parse(bytes) {
            Ok(root) => root,
            Err(e) => return sink.rejection(redactor.reject(e.reason, format!("at byte {}", e.at), bytes), format),
        };
        let mut one = One {
            redactor: &self.redactor,
            mappings: &self.mappings,
            buffers: &mut self.buffers,
            inner: &mut self.inner,
            nested: &mut self.nested,
            depth: self.depth,
        };
        let batch = formats::declared::batch(root, format).unwrap_or(root);
        if batch.kind() != Kind::Array {
            return one.decode(format, root, bytes, context, (0, 1), sink);
        }
        let count = batch.items().count();
        if count == 0 {
            return sink.aside(redactor.aside("batch_empty", String::new(), root, bytes), format);
        }
        for (index, item) in batch.items().enumerate() {
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
    redactor: &'d Arc<Redactor>,
    mappings: &'d Arc<Mappings>,
    buffers: &'d mut Buffers,
    inner: &'d mut Tape,
    nested: &'d mut Option<Box<Decoder>>,
    depth: u8,
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
        let redactor = &**self.redactor;
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
        match format {
            Format::Otlp => return self.export(root, bytes, context, sink),
            Format::Cloudevents => return self.envelope(root, bytes, context, sink),
            _ => {}
        }
        let Buffers { native, taken, scratch } = &mut *self.buffers;
        // Logs that tell of both: what grants something is a record of authority, whatever it was announced as.
        if matches!(format, Format::Openfga | Format::Cloudtrail | Format::Contextforge)
            && authority::is_of_a_granter(root, self.mappings)
        {
            return match authority::entries(root, self.mappings, redactor, taken, context) {
                Ok(entries) => entries.iter().for_each(|e| sink.authority(e, Format::Authority)),
                Err(decoded) => hand_on(decoded, Format::Authority, (root, bytes), place, redactor, sink),
            };
        }
        let decoded = match format {
            Format::Auto | Format::Catena => match authority::native::kind(root) {
                None => match native.decode(root, redactor, context) {
                    Ok(mut event) => {
                        // A record of our own says itself which decision of which record it was.
                        if !context.trusted {
                            (event.source.decision_index, event.source.decision_count) = place;
                        }
                        return sink.event(&event, formats::catena::original(root, context));
                    }
                    Err((reason, detail)) => Decoded::Rejection(reason, detail),
                },
                Some(kind) => match authority::native::decode(kind, root, redactor, taken, context) {
                    Ok(entry) if context.trusted => {
                        return sink.authority(&entry, formats::catena::original(root, context));
                    }
                    Ok(entry) => Decoded::Authority(Box::new(entry)),
                    Err((reason, detail)) => Decoded::Rejection(reason, detail),
                },
            },
            Format::Opa => formats::opa::decode(root, self.mappings, redactor, taken, context),
            Format::Cerbos => {
                let expanded = formats::cerbos::expand(root, scratch);
                // What parsed as parts can fail as a whole only by its depth; then the texts stay texts.
                let parsed = expanded.as_ref().and_then(|e| self.inner.parse(e.as_bytes()).ok());
                let entry = parsed.unwrap_or(root);
                match formats::cerbos::decode((entry, bytes), self.mappings, redactor, taken, context, sink) {
                    Ok(()) => return,
                    Err((reason, detail)) => Decoded::Rejection(reason, detail),
                }
            }
            Format::Envoy | Format::Agentgateway => {
                let decode = match format {
                    Format::Envoy => formats::envoy::decode,
                    _ => formats::agentgateway::decode,
                };
                if let Some(expanded) = formats::envoy::expand(root, scratch) {
                    // What parsed as parts can fail as a whole only by its depth.
                    let decoded = match self.inner.parse(expanded.as_bytes()) {
                        Ok(root) => decode(root, self.mappings, redactor, taken, context),
                        Err(e) => Decoded::Rejection(e.reason, "with the objects that stand as text".into()),
                    };
                    return hand_on(decoded, format, (root, bytes), place, redactor, sink);
                }
                decode(root, self.mappings, redactor, taken, context)
            }
            Format::Pomerium => formats::pomerium::decode(root, self.mappings, redactor, taken, context),
            Format::Mcp => match formats::mcp::normal(root, scratch) {
                Ok(normal) => {
                    let done = match self.inner.parse(normal.as_bytes()) {
                        Ok(normal) => {
                            formats::mcp::decode(normal, (root, bytes), (redactor, taken), context, place, sink)
                        }
                        Err(e) => Err((e.reason, "with its messages".into())),
                    };
                    match done {
                        Ok(()) => return,
                        Err((reason, detail)) => Decoded::Rejection(reason, detail),
                    }
                }
                Err((reason, detail)) => Decoded::Rejection(reason, detail),
            },
            Format::Authority => {
                let entries = authority::entries(root, self.mappings, redactor, taken, context);
                match entries {
                    Ok(entries) => return entries.iter().for_each(|e| sink.authority(e, format)),
                    Err(decoded) => decoded,
                }
            }
            declared => {
                let mut work = formats::declared::Work { mappings: self.mappings, redactor, taken };
                let expanded = work.expand(declared, root, scratch);
                // What parsed as parts can fail as a whole only by its depth; then the texts stay texts.
                let parsed = expanded.as_ref().and_then(|e| self.inner.parse(e.as_bytes()).ok());
                let done = work.decode(declared, (parsed.unwrap_or(root), bytes), place, context, sink);
                match done {
                    Ok(()) => return,
                    Err((reason, detail)) => Decoded::Rejection(reason, detail),
                }
            }
        };
        hand_on(decoded, format, (root, bytes), place, redactor, sink);
    }

    /// An OTLP request: its records one by one.
    fn export(&mut self, root: Value<'_>, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        if formats::otlp::is_flat(root) {
            let record = formats::otlp::Record::again(root.to_json());
            return self.exported(record, context, (0, 1), sink);
        }
        // Handed back at the end, with what it has grown to.
        let mut scratch = std::mem::take(&mut self.buffers.scratch);
        let all = formats::otlp::records(root, self.mappings, &mut scratch, &mut |record, place| {
            let fallback_id = format!("{}/{}", context.fallback_id, place.0);
            let context = Context { fallback_id: &fallback_id, ..*context };
            self.exported(record, &context, place, sink);
        });
        self.buffers.scratch = scratch;
        if let Err(none) = all {
            hand_on(none, Format::Otlp, (root, bytes), (0, 1), self.redactor, sink);
        }
    }

    fn exported(
        &mut self,
        record: formats::otlp::Record,
        context: &Context<'_>,
        place: (u32, u32),
        sink: &mut impl Sink,
    ) {
        let bytes = record.text.as_bytes();
        let mut tape = std::mem::take(self.inner);
        match tape.parse(bytes) {
            Err(e) => {
                let rejection = self.redactor.reject(e.reason, "of an exported record, flattened".into(), bytes);
                sink.rejection(rejection, Format::Otlp);
            }
            Ok(root) if formats::otlp::is_agentgateway(root) => {
                let taken = &mut self.buffers.taken;
                let decoded = formats::agentgateway::decode(root, self.mappings, self.redactor, taken, context);
                hand_on(decoded, Format::Agentgateway, (root, bytes), place, self.redactor, sink);
            }
            Ok(root) => {
                let unmapped = self.mappings.choose(Format::Otlp, &Roots::record(root)).is_none();
                let carried = formats::otlp::carried(root).filter(|v| unmapped && self.is_record(*v, context));
                if let Some(carried) = carried {
                    let envelope = formats::otlp::envelope(root, self.redactor);
                    // The headers are the request's: the line is JSON whatever they say.
                    let context = Context { headers: &[], ..*context };
                    self.within(&envelope, carried.to_json().as_bytes(), &context, sink);
                } else {
                    let taken = &mut self.buffers.taken;
                    let all = formats::otlp::decode(&record, root, self.mappings, self.redactor, taken, context);
                    let several = all.len() > 1;
                    for decoded in all {
                        // Of several, each knows its own place.
                        let place = match &decoded {
                            Decoded::Event(e) if several => (e.source.decision_index, e.source.decision_count),
                            _ => place,
                        };
                        hand_on(decoded, Format::Otlp, (root, bytes), place, self.redactor, sink);
                    }
                }
            }
        }
        *self.inner = tape;
    }

    /// Whether an object is surely the record of a producer, and not merely has members like one.
    fn is_record(&self, root: Value<'_>, context: &Context<'_>) -> bool {
        match self.recognise(root, context) {
            None | Some(Format::Auto | Format::Otlp) => false,
            Some(Format::Catena) => root.get("decision").is_some_and(|v| v.kind() == Kind::Object),
            Some(_) => true,
        }
    }

    /// A CloudEvent in structured mode.
    fn envelope(&mut self, root: Value<'_>, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        match formats::cloudevents::structured(root, self.redactor) {
            Ok(opened) => {
                opened.hand_on(context, |bytes, context, envelope| self.within(envelope, bytes, context, sink))
            }
            Err((reason, detail)) => {
                sink.rejection(self.redactor.reject_value(reason, detail, root, bytes), Format::Cloudevents)
            }
        }
    }

    /// Decodes what an envelope holds.
    fn within(&mut self, envelope: &Envelope, bytes: &[u8], context: &Context<'_>, sink: &mut dyn Sink) {
        if self.depth >= envelope::DEPTH_MAX {
            let detail = format!("more than {} envelopes within one another", envelope::DEPTH_MAX);
            return sink.rejection(self.redactor.reject("envelope_depth", detail, bytes), Format::Auto);
        }
        let decoder = self.nested.get_or_insert_with(|| {
            let decoder = Decoder::with_mappings(self.redactor.clone(), self.mappings.clone());
            Box::new(Decoder { depth: self.depth + 1, ..decoder })
        });
        decoder.record(Format::Auto, bytes, context, &mut Changed { change: envelope, sink });
    }

    /// The dialect of a record, by its shape.
    fn recognise(&self, root: Value<'_>, context: &Context<'_>) -> Option<Format> {
        if formats::cerbos::is_announced(context) {
            return Some(Format::Cerbos);
        }
        if root.kind() != Kind::Object {
            return None;
        }
        if formats::mcp::is_traffic(root) {
            return Some(Format::Mcp);
        }
        if let Some(format) = self.mappings.recognise(root, true) {
            return Some(format);
        }
        if formats::cloudevents::is_announced(context) {
            return Some(Format::Cloudevents);
        }
        if root.get("decision").is_some_and(|v| v.kind() == Kind::Object) {
            return Some(Format::Catena);
        }
        if formats::cloudevents::is_envelope(root) {
            return Some(Format::Cloudevents);
        }
        if formats::otlp::is_request(root) {
            return Some(Format::Otlp);
        }
        if formats::agentgateway::is_line(root) {
            return Some(Format::Agentgateway);
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
        if formats::pomerium::is_line(root) {
            return Some(Format::Pomerium);
        }
        if let Some(format) = self.mappings.recognise(root, false) {
            return Some(format);
        }
        if authority::is_of_a_granter(root, self.mappings) {
            return Some(Format::Authority);
        }
        if formats::opa::is_console(root) {
            return Some(Format::Opa);
        }
        if formats::agentgateway::is_of_server(root) {
            return Some(Format::Agentgateway);
        }
        if self.mappings.knows_plain(root) {
            return Some(Format::Mapped);
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
        Decoded::Authority(mut entry) => {
            (entry.source.decision_index, entry.source.decision_count) = place;
            sink.authority(&entry, format);
        }
        Decoded::Aside(reason, detail) => sink.aside(redactor.aside(reason, detail, record.0, record.1), format),
        Decoded::Rejection(reason, detail) => {
            sink.rejection(redactor.reject_value(reason, detail, record.0, record.1), format)
        }
    }
}
