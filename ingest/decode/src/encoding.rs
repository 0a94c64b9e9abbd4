//! What stands before the parser: bytes that are not JSON yet become it, by what their headers say of them.
//!
//! Guarantee: bytes that no header calls otherwise are left as they are; those that are called protobuf and are none are refused
//! with `protobuf_malformed`, and never tried as something else. Only OTLP that was asked for by name may go without a
//! header, as on a Kafka topic, because its requests begin with a byte that JSON begins with only as white space.

use crate::protobuf::{CERBOS, Json, Malformed, MessageId, OTLP, Schema};
use crate::{Context, Format};

/// Bytes that have become JSON.
pub(crate) struct Written {
    pub(crate) json: Json,
    pub(crate) format: Format,
}

/// Why bytes could not become JSON: reason, detail, and the format they would have been.
pub(crate) type Refusal = (&'static str, String, Format);

/// Kafka headers of Cerbos that name the kind of entry and its encoding.
pub(crate) const CERBOS_KIND: &str = "cerbos.audit.kind";
const CERBOS_ENCODING: &str = "cerbos.audit.encoding";

/// A header's value; names of headers have no case in HTTP.
pub(crate) fn header<'a>(context: &Context<'a>, name: &str) -> Option<&'a [u8]> {
    context.headers.iter().find(|h| h.0.eq_ignore_ascii_case(name)).map(|h| h.1)
}

/// The media type of a record in lower case, without parameters.
pub(crate) fn media_type(context: &Context<'_>) -> Option<String> {
    let value = std::str::from_utf8(header(context, "content-type")?).ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The JSON of a record in another encoding; `None` when it stands as it is.
pub(crate) fn written(format: Format, bytes: &[u8], context: &Context<'_>) -> Result<Option<Written>, Refusal> {
    if matches!(format, Format::Auto | Format::Cerbos)
        && let Some(encoding) = header(context, CERBOS_ENCODING)
    {
        return cerbos(encoding, bytes, context);
    }
    if matches!(format, Format::Auto | Format::Otlp) {
        let called = media_type(context);
        let protobuf = |m: &str| {
            matches!(m, "application/x-protobuf" | "application/protobuf" | "application/vnd.google.protobuf")
        };
        if called.as_deref().is_some_and(protobuf) {
            return match otlp(bytes) {
                Ok(json) => Ok(Some(Written { json, format: Format::Otlp })),
                Err(e) => Err(("protobuf_malformed", e.to_string(), Format::Otlp)),
            };
        }
        let may_be = format == Format::Otlp && called.is_none() && bytes.first() == Some(&0x0a);
        // White space before JSON looks like a field; what is taken for one must hold nothing unknown.
        if may_be
            && let Ok(json) = otlp(bytes)
            && json.unknown == 0
        {
            return Ok(Some(Written { json, format: Format::Otlp }));
        }
    }
    Ok(None)
}

fn cerbos(encoding: &[u8], bytes: &[u8], context: &Context<'_>) -> Result<Option<Written>, Refusal> {
    // Far more than is shown of it, because it is cut when it has been redacted.
    const SHOWN_BYTES_MAX: usize = 8192;
    let detail = |what: &str, value: &[u8]| {
        format!("the {what} is `{}`", String::from_utf8_lossy(&value[..value.len().min(SHOWN_BYTES_MAX)]))
    };
    let message = match (encoding, header(context, CERBOS_KIND)) {
        (b"json", _) => return Ok(None),
        (b"protobuf", Some(b"access")) => "cerbos.AccessLogEntry",
        (b"protobuf", Some(b"decision")) => "cerbos.DecisionLogEntry",
        (b"protobuf", kind) => {
            return Err(("encoding_unsupported", detail("kind", kind.unwrap_or_default()), Format::Cerbos));
        }
        (other, _) => return Err(("encoding_unsupported", detail("encoding", other), Format::Cerbos)),
    };
    match CERBOS.json(known(&CERBOS, message), bytes) {
        Ok(json) => Ok(Some(Written { json, format: Format::Cerbos })),
        Err(e) => Err(("protobuf_malformed", e.to_string(), Format::Cerbos)),
    }
}

/// An export request. Nothing in it says whether it holds logs or spans; but the first field of a log record has eight bytes,
/// and that of a span has a length, so that one read as the other is malformed.
fn otlp(bytes: &[u8]) -> Result<Json, Malformed> {
    let logs = OTLP.json(known(&OTLP, "otlp.Logs"), bytes);
    if let Ok(json) = &logs
        && json.unknown == 0
    {
        return logs;
    }
    let traces = OTLP.json(known(&OTLP, "otlp.Traces"), bytes);
    match (logs, traces) {
        (Ok(logs), Ok(traces)) => Ok(if traces.unknown < logs.unknown { traces } else { logs }),
        (Ok(json), Err(_)) | (Err(_), Ok(json)) => Ok(json),
        // Which of the two it would have been is not known; the one that got further says what is wrong.
        (Err(a), Err(b)) => Err(if b.at > a.at { b } else { a }),
    }
}

fn known(schema: &Schema, name: &str) -> MessageId {
    schema.message(name).expect("the shipped schemas have it, and tests read it")
}
