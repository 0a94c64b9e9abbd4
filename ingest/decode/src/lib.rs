//! Translates: bytes of a producer's record become events, rejections and asides.
//!
//! Guarantees: decoding never fails, it classifies. Whatever the bytes, [`Decoder::record`] hands the sink at least one
//! of an event, a rejection (with a stable reason code and the redacted bytes) or an aside (recognised, but not a
//! decision); it never panics and never stalls. Secrets are gone from everything that reaches the sink. Pure: no clock,
//! no I/O, no configuration from outside; the same bytes give the same result.

pub mod formats;
pub mod json;
pub mod redact;

use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros};
use json::Tape;
pub use redact::Redactor;
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
    redactor: Arc<Redactor>,
    native: formats::catena::Native,
}

impl Decoder {
    /// A decoder for one tenant, whose key the redactor holds.
    pub fn new(redactor: Arc<Redactor>) -> Decoder {
        Decoder { tape: Tape::default(), native: formats::catena::Native::default(), redactor }
    }

    /// The redactor in use.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Decodes one record.
    pub fn record(&mut self, format: Format, bytes: &[u8], context: &Context<'_>, sink: &mut impl Sink) {
        let value = match self.tape.parse(bytes) {
            Ok(value) => value,
            Err(e) => return sink.rejection(self.redactor.reject(e.reason, format!("at byte {}", e.at), bytes), format),
        };
        match format {
            Format::Auto | Format::Catena => match self.native.decode(value, &self.redactor, context) {
                Ok(event) => sink.event(&event, formats::catena::original(value, context)),
                Err((reason, detail)) => sink.rejection(self.redactor.reject(reason, detail, bytes), Format::Catena),
            },
            Format::Opa | Format::Cerbos | Format::Envoy => {
                sink.rejection(self.redactor.reject("format_unknown", String::new(), bytes), format);
            }
        }
    }
}
