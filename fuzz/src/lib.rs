//! What every fuzz target holds: whatever the bytes, the sink hears of them, nothing panics, nothing grows without bound, no
//! secret comes out, and what came out survives the intake log.
//!
//! One function, [`run`], knows all targets by name. The targets under `fuzz_targets` call it with what the fuzzer made up, and the
//! tests of `catena-decode` call it with the kept corpus, so that what was found once is tried on every run.

mod bytes;
mod heard;
mod mapping;
mod plant;

use catena_decode::{Context, Format};
use heard::Heard;

/// Targets that are no format: each format is a target under its own name.
pub const OTHERS: &[&str] = &["avro", "catalogue", "frame", "json", "mapping", "protobuf", "redact", "rules", "wire"];

/// Tries one input on one target; panics when a guarantee does not hold.
pub fn run(target: &str, data: &[u8]) {
    match target {
        "avro" => bytes::avro(data),
        "catalogue" => bytes::catalogue(data),
        "frame" => bytes::frame(data),
        "json" => bytes::json(data),
        "mapping" => mapping::run(data),
        "protobuf" => bytes::protobuf(data),
        "redact" => plant::run(data),
        "rules" => mapping::rules(data),
        "wire" => wire(data),
        format => record(Format::parse(format).expect("a target is one of these, or a format"), data),
    }
}

/// A record of a producer, as any sender may send it.
fn record(format: Format, data: &[u8]) {
    let input = Input::of(data);
    let heard = Heard::of(format, &input, false);
    assert_eq!(
        heard.text,
        Heard::fresh(format, &input).text,
        "a decoder that has seen other records tells another story"
    );
}

/// A record of our own: what is read of it is written and read again, and is the same.
fn wire(data: &[u8]) {
    Heard::of(Format::Catena, &Input { headers: Vec::new(), body: data }, true);
}

/// What a target reads: headers as lines `@name: value`, then the record.
pub(crate) struct Input<'d> {
    pub(crate) headers: Vec<(&'d str, &'d [u8])>,
    pub(crate) body: &'d [u8],
}

/// More would only be slower.
const HEADERS_MAX: usize = 16;

impl<'d> Input<'d> {
    pub(crate) fn of(data: &'d [u8]) -> Input<'d> {
        let mut input = Input { headers: Vec::new(), body: data };
        while input.headers.len() < HEADERS_MAX
            && let Some((header, rest)) = header(input.body)
        {
            input.headers.push(header);
            input.body = rest;
        }
        input
    }

    pub(crate) fn context(&self) -> Context<'_> {
        let received = catena_schemas::Micros(1_795_300_000_000_000);
        Context { received, fallback_id: "place/0/0", headers: &self.headers, trusted: false }
    }
}

type Header<'d> = (&'d str, &'d [u8]);

fn header(data: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let line = data.strip_prefix(b"@")?;
    let end = line.iter().position(|b| *b == b'\n')?;
    let colon = line[..end].iter().position(|b| *b == b':')?;
    let name = std::str::from_utf8(&line[..colon]).ok()?;
    Some(((name, line[colon + 1..end].trim_ascii_start()), &line[end + 1..]))
}
