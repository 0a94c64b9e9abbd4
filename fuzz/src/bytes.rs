//! What reads bytes before or beside the decoders: framing, the parser of JSON, schemas and the encodings they describe, catalogues.

use super::heard::is_json;
use catena_decode::authority::catalogue::{self, About};
use catena_decode::frame::{self, Limits, RATIO_FREE_BYTES, Splitter};
use catena_decode::framing::{Registered, framed};
use catena_decode::json::{Kind, Tape, Value, write_string};
use catena_decode::protobuf::JSON_BYTES_MAX;
use catena_schemas::Micros;
use serde::de::IgnoredAny;

/// A body comes apart into the same records however it is cut, each where it is said to stand, and nothing lies between
/// them; unpacking stops at its limits. The first byte is the size of the cuts.
pub(crate) fn frame(data: &[u8]) {
    let [cut, body @ ..] = data else { return };
    let limits = Limits { bytes_max: 4 << 20, ratio_max: 50 };
    if let Ok(unpacked) = frame::decompress(body, &limits) {
        let most = (body.len() as u64 * (limits.ratio_max + 1)).max(RATIO_FREE_BYTES).min(limits.bytes_max);
        assert!(unpacked.len() as u64 <= most.max(body.len() as u64), "{} became {}", body.len(), unpacked.len());
    }
    let whole: Vec<(u64, &[u8])> = frame::records(body).into_iter().map(|(at, r)| (at as u64, r)).collect();
    let mut end = 0;
    let is_between = |bytes: &[u8]| bytes.iter().all(|b| b" \t\r\n,[]".contains(b));
    for (at, record) in &whole {
        let at = *at as usize;
        assert!(at >= end && body[at..].starts_with(record), "the record at {at} stands elsewhere");
        assert!(is_between(&body[end..at]), "bytes {end}..{at} are lost");
        end = at + record.len();
    }
    assert!(is_between(&body[end..]), "bytes from {end} are lost");
    let (mut splitter, mut kept, mut found) = (Splitter::default(), Vec::new(), Vec::new());
    let mut rest = body;
    loop {
        let (chunk, after) = rest.split_at(rest.len().min(1 + *cut as usize));
        rest = after;
        kept.extend_from_slice(chunk);
        let used = splitter.split(&kept, rest.is_empty(), &mut |at, r| found.push((at, r.to_vec())));
        kept.drain(..used);
        if rest.is_empty() {
            break;
        }
    }
    assert!(kept.is_empty());
    let whole: Vec<(u64, Vec<u8>)> = whole.into_iter().map(|(at, r)| (at, r.to_vec())).collect();
    assert_eq!(found, whole, "cut into pieces of {} bytes", 1 + *cut as usize);
}

/// The parser takes what `serde_json` takes, but for what it refuses by name, and reads the same.
pub(crate) fn json(data: &[u8]) {
    let mut tape = Tape::default();
    let theirs = std::str::from_utf8(data).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    let root = match tape.parse(data) {
        Err(e) => {
            let stricter = matches!(e.reason, "json_duplicate_key" | "json_depth" | "json_surrogate");
            assert!(!theirs || stricter, "{e}");
            assert!(e.at <= data.len());
            return;
        }
        Ok(root) => root,
    };
    assert!(theirs, "only we take it");
    let compact = root.to_json();
    let mut again = Tape::default();
    let reread = again.parse(compact.as_bytes()).expect("what was written can be read");
    assert!(reread.is_verbatim() || compact.contains('\\'));
    assert_eq!(reread.to_json(), compact);
    same(root, reread);
    // Numbers that do not fit are an error of theirs, and text of ours.
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        assert_eq!(serde_json::from_str::<serde_json::Value>(&compact).expect("theirs too"), value);
    }
}

/// Walks two readings of one value. Recursive: the parser has bounded the depth.
fn same(a: Value<'_>, b: Value<'_>) {
    assert_eq!((a.kind(), a.as_scalar()), (b.kind(), b.as_scalar()));
    match a.kind() {
        Kind::Object => {
            assert_eq!(a.entries().count(), b.entries().count());
            for (((name, x), (_, y)), (key, _)) in a.entries().zip(b.entries()).zip(a.members()) {
                assert_eq!(key.as_str(), Some(name));
                same(x, y);
            }
        }
        Kind::Array => {
            assert_eq!(a.items().count(), b.items().count());
            a.items().zip(b.items()).for_each(|(x, y)| same(x, y));
        }
        Kind::String => {
            let mut written = String::new();
            write_string(a.as_str().expect("a string"), &mut written);
            assert_eq!(written, b.to_json());
        }
        _ => assert_eq!(a.source(), b.source()),
    }
}

/// A schema, a zero byte, and a message of it as a registry frames it.
pub(crate) fn protobuf(data: &[u8]) {
    registered("PROTOBUF", data);
}

/// The same with a schema of Avro.
pub(crate) fn avro(data: &[u8]) {
    registered("AVRO", data);
}

fn registered(kind: &str, data: &[u8]) {
    let at = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let (Ok(text), message) = (std::str::from_utf8(&data[..at]), &data[at..]) else { return };
    let schema = match Registered::parse(kind, text, &[]) {
        Ok(schema) => schema,
        Err(e) => return assert!(!e.problem.is_empty()),
    };
    let payload = framed(message).map_or(message, |framed| framed.payload);
    if let Ok(json) = schema.json(payload) {
        assert!(json.text.len() <= JSON_BYTES_MAX + 1024, "{} bytes", json.text.len());
        let deep = Tape::default().parse(json.text.as_bytes()).is_err_and(|e| e.reason == "json_depth");
        assert!(deep || is_json(&json.text, None), "{}", json.text);
    }
}

/// A catalogue of tools; the first byte is its kind.
pub(crate) fn catalogue(data: &[u8]) {
    let [kind, body @ ..] = data else { return };
    let kind = [catalogue::Kind::Yaml, catalogue::Kind::Csv, catalogue::Kind::Json][*kind as usize % 3];
    let about = About { time: Micros(1_795_300_000_000_000), server: Some("server") };
    if let Ok(lines) = catalogue::read(body, kind, &about) {
        for line in &lines {
            assert!(is_json(line, Some(Kind::Object)), "{line}");
            assert!(!line.contains('\n'), "one line: {line}");
        }
    }
}
