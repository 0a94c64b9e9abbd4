//! How fast decoding and redaction are. Not a judgement but figures, of one core: `make bench` prints them, and
//! `cargo test --release -p catena-decode speed -- --ignored --nocapture` alone.

use crate::seen::{KEY, context, corpus};
use catena_decode::frame::{self, Limits};
use catena_decode::json::Tape;
use catena_decode::{Decoder, Format, Redactor, Sink};
use catena_schemas::Event;
use catena_schemas::rows::Rejection;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Counted(usize);

impl Sink for Counted {
    fn event(&mut self, event: &Event<'_>, _: Format) {
        self.0 += event.id.len();
    }
    fn authority(&mut self, _: &catena_schemas::authority::Entry<'_>, _: Format) {}

    fn rejection(&mut self, _: Rejection, _: Format) {}
    fn aside(&mut self, _: Rejection, _: Format) {}
}

/// Runs it for a second, and says how many megabytes that were. The best round counts: others had to share the core.
#[expect(clippy::print_stdout, reason = "figures are what it is for")]
fn measure(name: &str, bytes: usize, mut once: impl FnMut()) {
    let batch = 1 + 100_000 / bytes;
    let (began, mut best) = (Instant::now(), Duration::MAX);
    while began.elapsed() < Duration::from_secs(1) {
        let began = Instant::now();
        (0..batch).for_each(|_| once());
        best = best.min(began.elapsed());
    }
    let each = best.as_secs_f64() / batch as f64;
    println!("{name}: {:.0} MB/s, {:.2} us each", bytes as f64 / each / 1e6, each * 1e6);
}

const CLEAN: &str = include_str!("clean.json").trim_ascii();

#[test]
#[ignore = "a figure for people, not a judgement"]
fn speed() {
    let redactor = Arc::new(Redactor::new(KEY));
    let mut tape = Tape::default();
    let root = tape.parse(CLEAN.as_bytes()).expect("JSON");
    measure("quick look at a clean event", CLEAN.len(), || assert!(!redactor.suspects_record(root)));
    let mut decoder = Decoder::new(redactor.clone());
    measure("decode a clean event", CLEAN.len(), || {
        decoder.record(Format::Catena, CLEAN.as_bytes(), &context(), &mut Counted::default())
    });
    let token = format!("gh{}_{}", "p", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let dirty = CLEAN.replace("of the customer", &format!("of the customer {token}"));
    measure("decode an event with a token", dirty.len(), || {
        decoder.record(Format::Catena, dirty.as_bytes(), &context(), &mut Counted::default())
    });
    let prose =
        "The bearer of good news has a basic understanding of tokens; see https://corp.example/a/b?c=d#e for more. "
            .repeat(1000);
    measure("clean text", prose.len(), || drop(redactor.text(&prose)));
    let dirty = format!("{prose}{token} and {prose}");
    measure("text with one token", dirty.len(), || drop(redactor.text(&dirty)));
    let dense = format!("curl -H 'Authorization: Bearer {token}' https://api.example/v1?api_key={token}&x=1 password=hunter2! and so on. ").repeat(1000);
    measure("text full of secrets", dense.len(), || drop(redactor.text(&dense)));
    measure("raw bytes full of secrets", dense.len(), || {
        drop(redactor.reject("json_syntax", String::new(), dense.as_bytes()))
    });
}

/// Every decoder over the logs that are here for it, record by record, as a worker calls it.
#[test]
#[ignore = "figures for people, not a judgement"]
fn decoders_speed() {
    let mut decoder = Decoder::new(Arc::new(Redactor::new(KEY)));
    for (format, path, whole) in [
        (Format::Catena, "catena/fleet.ndjson", false),
        (Format::Opa, "opa/main/console.stderr.gz", false),
        (Format::Opa, "opa/main/uploads/upload-0001.json.gz", false),
        (Format::Cerbos, "cerbos/file/audit.log.gz", false),
        (Format::Envoy, "envoy/access.jsonl", false),
        (Format::Openfga, "openfga/openfga.log", false),
        (Format::Mcp, "mcp/python-sdk/exchanges.jsonl.gz", false),
        (Format::Agentgateway, "agentgateway/access.jsonl", false),
        (Format::Cloudevents, "cloudevents/structured.jsonl", false),
        (Format::Otlp, "otlp/logs.json", true),
        (Format::Otlp, "otlp/logs.pb", true),
        (Format::Otlp, "otlp/spans.pb", true),
    ] {
        let packed = corpus(path);
        let body = frame::decompress(&packed, &Limits::default()).expect("sound").into_owned();
        let records: Vec<&[u8]> =
            if whole { vec![&body] } else { frame::records(&body).into_iter().map(|r| r.1).collect() };
        for (name, asked) in [("", format), (", recognised", Format::Auto)] {
            let protobuf = [("content-type", &b"application/x-protobuf"[..])];
            let headers = if path.ends_with(".pb") { &protobuf[..] } else { &[] };
            let context = catena_decode::Context { headers, ..context() };
            let mut counted = Counted::default();
            measure(&format!("{} ({path}{name})", format.as_str()), body.len(), || {
                records.iter().for_each(|r| decoder.record(asked, r, &context, &mut counted));
            });
        }
    }
}
