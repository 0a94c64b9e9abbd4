//! Bad input: whatever the bytes, the sink hears of them, and nothing panics, stalls or multiplies without bound.

use crate::seen::{Collected, context, corpus, decode, decoder};
use catena_decode::frame::{self, FrameError, Limits};
use catena_decode::{Context, Format};
use proptest::prelude::*;
use std::io::Write;
use std::sync::LazyLock;

/// One record of each kind of the corpus.
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut samples = Vec::new();
    for path in [
        "opa/main/console.stderr.gz",
        "cerbos/file/audit.log.gz",
        "envoy/access.jsonl",
        "opa/main/uploads/upload-0001.json.gz",
        "openfga/openfga.log",
    ] {
        let body = frame::decompress(&corpus(path), &Limits::default()).expect("sound").into_owned();
        let all = frame::records(&body);
        samples.extend(all.iter().step_by(all.len().div_ceil(12)).map(|r| r.1.to_vec()));
    }
    let exchanges = frame::decompress(&corpus("mcp/python-sdk/exchanges.jsonl.gz"), &Limits::default())
        .expect("sound")
        .into_owned();
    samples.extend(frame::records(&exchanges).iter().step_by(19).map(|r| r.1.to_vec()));
    for record in [
        r#"{"level":"info","service":"authorize","request-id":"r","allow":false,"allow-why-false":["x"],"deny":false,"deny-why-false":[],"time":"2026-08-20T14:03:11Z","message":"authorize check"}"#,
        r#"{"kind":"grant","id":"r","time":"2026-08-20T14:03:11Z","grant_id":"g","grantor":"a","grantee":"b","authority":{"scope":"x","rar":[{}]}}"#,
        r#"{"grpc_service":"openfga.v1","grpc_method":"Write","raw_request":{"writes":{"tuple_keys":[{"user":"u","relation":"r","object":"o"}]}}}"#,
        r#"{"id":"k","time":1787234591000,"type":"TOKEN_EXCHANGE","realmId":"r","details":{"token_id":"t","scope":"a b"}}"#,
    ] {
        samples.push(record.as_bytes().to_vec());
    }
    samples.push(br#"{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"allow"},"actors":[{"id":"a"}],"call":{"params":{"k":[1,2]}}}"#.to_vec());
    samples
});

const HEADERS: &[(&str, &[u8])] = &[
    ("content-type", b"application/x-protobuf"),
    ("Content-Type", b"application/cloudevents+json"),
    ("cerbos.audit.encoding", b"protobuf"),
    ("cerbos.audit.encoding", b"\xff"),
    ("cerbos.audit.kind", b"decision"),
    ("cerbos.audit.kind", b"access"),
    ("ce_specversion", b"1.0"),
    ("ce_id", b"1"),
    ("ce-source", b"s"),
    ("ce_type", b"t"),
    ("ce_time", b"never"),
    ("ce_traceparent", b"\xff"),
];
const KINDS: &[&[u8]] = &[b"access", b"decision", b"\xff"];

fn heard(format: Format, bytes: &[u8], headers: &[(&str, &[u8])]) -> usize {
    let mut seen = Collected::default();
    decoder().record(format, bytes, &Context { headers, ..context() }, &mut seen);
    for r in seen.rejections.iter() {
        assert!(!r.reason.is_empty() && r.raw.is_some());
    }
    seen.total()
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(Format::ALL)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_heard_of(format in formats(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(heard(format, &bytes, &[]) >= 1);
    }

    /// Bytes and headers that contradict one another: what is called protobuf, an envelope, another encoding.
    #[test]
    fn any_headers_are_heard_of(
        format in formats(),
        which in any::<prop::sample::Index>(),
        noise in prop::collection::vec(any::<u8>(), 0..60),
        real: bool,
        headers in prop::sample::subsequence(HEADERS, 0..HEADERS.len()),
    ) {
        let bytes = if real { which.get(&SAMPLES).clone() } else { noise };
        prop_assert!(heard(format, &bytes, &headers) >= 1);
    }

    /// JSON of every shape under the names that decoders look for.
    #[test]
    fn any_members_are_heard_of(format in formats(), record in members(3)) {
        prop_assert!(heard(format, record.as_bytes(), &[]) >= 1, "{}", record);
    }

    #[test]
    fn mutated_records_are_heard_of(
        format in formats(),
        which in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..5u8, any::<u8>()), 0..6),
        kind in prop::option::of(prop::sample::select(KINDS)),
    ) {
        let mut bytes = which.get(&SAMPLES).clone();
        for (at, how, byte) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 => bytes.insert(at, b"{}[],:\"\\0x"[byte as usize % 10]),
                2 => bytes.truncate(at),
                // A value of another record in the middle of this one.
                3 => {
                    let piece = other.get(&SAMPLES);
                    let cut = piece.len() / (1 + byte as usize % 7);
                    bytes.splice(at..at, piece[..cut].iter().copied());
                }
                _ if at < bytes.len() => drop(bytes.drain(at..(at + byte as usize).min(bytes.len()))),
                _ => {}
            }
        }
        let headers: Vec<(&str, &[u8])> = kind.iter().map(|k| ("cerbos.audit.kind", *k)).collect();
        prop_assert!(heard(format, &bytes, &headers) >= 1);
    }

    /// Cut at any places, a stream gives the records that it gives whole.
    #[test]
    fn chunks_do_not_matter(body in body(), cuts in prop::collection::vec(1usize..40, 1..20)) {
        let whole: Vec<(u64, Vec<u8>)> = frame::records(body.as_bytes()).into_iter().map(|(at, r)| (at as u64, r.to_vec())).collect();
        let (mut splitter, mut kept, mut found) = (frame::Splitter::default(), Vec::new(), Vec::new());
        let mut rest = body.as_bytes();
        for cut in cuts.iter().cycle() {
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            kept.extend_from_slice(chunk);
            let used = splitter.split(&kept, rest.is_empty(), &mut |at, r| found.push((at, r.to_vec())));
            kept.drain(..used);
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(kept.is_empty());
        prop_assert_eq!(&found, &whole, "{:?}", body);
        // Offsets are where the records stand, and nothing but space and punctuation lies between them.
        let mut end = 0;
        for (at, record) in &whole {
            let at = *at as usize;
            prop_assert!(at >= end && body.as_bytes()[at..].starts_with(record));
            prop_assert!(body.as_bytes()[end..at].iter().all(|b| b" \t\r\n,[]".contains(b)), "{:?}", body);
            end = at + record.len();
        }
        prop_assert!(body.as_bytes()[end..].iter().all(|b| b" \t\r\n,[]".contains(b)), "{:?}", body);
    }
}

/// Objects under names that mean something to one decoder or another.
fn members(depth: u32) -> impl Strategy<Value = String> {
    const NAMES: &[&str] = &[
        "kind",
        "authority",
        "jsonrpc",
        "request_body",
        "response_body",
        "direction",
        "message",
        "service",
        "raw_request",
        "grpc_method",
        "realmId",
        "type",
        "resourceLogs",
        "resourceSpans",
        "scopeLogs",
        "scopeSpans",
        "logRecords",
        "spans",
        "attributes",
        "body",
        "stringValue",
        "kvlistValue",
        "values",
        "value",
        "mcp.method.name",
        "specversion",
        "source",
        "data",
        "data_base64",
        "reason",
        "scope",
        "decision_id",
        "labels",
        "path",
        "result",
        "effect",
        "input",
        "timestamp",
        "error",
        "bundles",
        "revision",
        "request_context",
        "http",
        "headers",
        "callId",
        "checkResources",
        "inputs",
        "outputs",
        "actions",
        "val",
        "action",
        "principal",
        "resource",
        "attr",
        "on_behalf_of",
        "auxData",
        "jwt",
        "jwts",
        "claims",
        "act",
        "sub",
        "chain",
        "response_code_details",
        "mcp",
        "method",
        "params",
        "name",
        "decision",
        "verdict",
        "token",
        "user",
        "agent",
        "id",
        "tool",
        "rule_labels",
        "planResources",
        "metadata",
        "values",
        "effectiveDerivedRoles",
        "request",
        "response",
        "subject",
        "evaluations",
        "grpc_service",
        "grpc_method",
        "msg",
        "raw_request",
        "raw_response",
        "checks",
        "correlation_id",
        "event",
        "code",
        "uid",
        "time",
        "message",
        "eventSource",
        "eventName",
        "requestParameters",
        "requests",
        "Records",
        "ai",
        "audit",
        "rpc",
        "payload",
        "trigger",
        "eventType",
        "outcome",
        "status",
    ];
    const SCALARS: &[&str] = &[
        "null",
        "true",
        "-0",
        "1e400",
        "\"\"",
        "\"-\"",
        "\"allow\"",
        "\"EFFECT_DENY\"",
        "\"tools/call\"",
        "\"openfga.v1\"",
        "\"BatchCheck\"",
        "\"mcp.session.request\"",
        "\"verifiedpermissions.amazonaws.com\"",
        "\"BatchIsAuthorized\"",
        "\"mcp_call\"",
        "\"invoke\"",
        "\"2026-11-21T00:00:00Z\"",
        "\"{}\"",
        "\"{\\\"a\\\":1}\"",
        "\"jwt_authn_access_denied{\"",
        "\"\\u0000\"",
        "[]",
        "{}",
        "\"x\"",
        "9223372036854775808",
    ];
    let leaf = prop::sample::select(SCALARS).prop_map(str::to_owned);
    let value = leaf.prop_recursive(depth, 40, 6, |inner| {
        let object = prop::collection::btree_map(prop::sample::select(NAMES), inner.clone(), 0..6).prop_map(|m| {
            format!("{{{}}}", m.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect::<Vec<_>>().join(","))
        });
        let array = prop::collection::vec(inner, 0..4).prop_map(|v| format!("[{}]", v.join(",")));
        prop_oneof![3 => object, 1 => array]
    });
    prop::collection::btree_map(prop::sample::select(NAMES), value, 0..8)
        .prop_map(|m| format!("{{{}}}", m.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect::<Vec<_>>().join(",")))
}

fn body() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(
        &[
            "{\"a\":1}",
            "{\"a\":\"}\\\"\"}",
            "[1]",
            "\n",
            "\r\n",
            " ",
            ",",
            "[",
            "]",
            "{",
            "}",
            "\"",
            "{\n\"a\":\n[1,{}]}",
            "\\",
            "x",
            "[{\"b\":2},\n{\"c\":3}]",
        ][..],
    );
    prop::collection::vec(piece, 0..14).prop_map(|p| p.concat())
}

fn pieces(body: &str, expected: &str) {
    let got: Vec<_> =
        frame::records(body.as_bytes()).iter().map(|(at, r)| format!("{at}:{}", String::from_utf8_lossy(r))).collect();
    assert_eq!(got.join(" | "), expected, "{body:?}");
}

#[test]
fn bodies_are_cut_by_their_shape() {
    pieces("", "");
    pieces(" \r\n\n", "");
    pieces("{\"a\":1}\n{\"b\":2}\n", "0:{\"a\":1} | 8:{\"b\":2}");
    pieces("{\"a\":1}\r\n\r\n{\"b\":2}", "0:{\"a\":1} | 11:{\"b\":2}");
    pieces("[{\"a\":1}, {\"b\":[1,2]}]", "1:{\"a\":1} | 10:{\"b\":[1,2]}");
    pieces("[]", "");
    pieces("[\n{\"a\":\"],\"}\n]\n[{}]", "2:{\"a\":\"],\"} | 16:{}");
    pieces("{\n \"a\": 1\n}\n{\n}", "0:{\n \"a\": 1\n} | 12:{\n}");
    pieces("{\"a\":1}", "0:{\"a\":1}");
    // What is broken is handed on.
    pieces("[{\"a\":1},", "1:{\"a\":1}");
    pieces("[{},{\"a\"", "1:{} | 4:{\"a\"");
    pieces("[{},,{}]", "1:{} | 4: | 5:{}");
    pieces("[{},]", "1:{} | 4:");
    pieces("[2026-11-21] plain text\n[2026", "0:[2026-11-21] plain text | 24:[2026");
    pieces("{\n{\"a\":1}\n", "0:{\n{\"a\":1}");
    pieces("x\n{}\n", "0:x | 2:{}");
    // A form feed is no white space of JSON.
    pieces("[{},\x0c{}\x0c]", "1:{} | 4:\x0c{}\x0c");
}

#[test]
fn bombs_stop_at_a_limit() {
    let zeros = vec![b'0'; 16 << 20];
    let gzip = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(bytes).expect("into memory");
        packed.finish().expect("into memory")
    };
    let limits = Limits { bytes_max: 64 << 20, ratio_max: 100 };
    fn reason<'b>(body: &'b [u8], limits: &Limits) -> Result<std::borrow::Cow<'b, [u8]>, &'static str> {
        frame::decompress(body, limits).map_err(|e: FrameError| e.reason())
    }
    assert_eq!(reason(&gzip(&zeros), &limits), Err("body_ratio"));
    assert_eq!(reason(&zstd::encode_all(&zeros[..], 19).expect("into memory"), &limits), Err("body_ratio"));
    assert_eq!(reason(&gzip(&zeros), &Limits { bytes_max: 1 << 20, ratio_max: u64::MAX }), Err("body_too_large"));
    assert_eq!(reason(&zeros, &Limits { bytes_max: 1 << 20, ratio_max: 1 }), Err("body_too_large"));
    assert_eq!(reason(&gzip(&gzip(b"{}")), &limits), Err("body_nested"));
    assert_eq!(reason(&gzip(b"{}")[..12], &limits), Err("body_damaged"));
    assert_eq!(reason(&[0x1f, 0x8b], &limits), Err("body_damaged"));
    // Small bodies may be packed as well as they can, and members follow on each other.
    let small = vec![b' '; 1 << 20];
    assert_eq!(reason(&gzip(&small), &limits).map(|b| b.len()), Ok(1 << 20));
    assert_eq!(reason(&[gzip(b"{}\n"), gzip(b"[]\n")].concat(), &limits).as_deref(), Ok(b"{}\n[]\n".as_slice()));
    assert_eq!(
        reason(&zstd::encode_all(&b"{}"[..], 1).expect("into memory"), &limits).as_deref(),
        Ok(b"{}".as_slice())
    );
    assert_eq!(reason(b"{}", &limits).as_deref(), Ok(b"{}".as_slice()));
}

#[test]
fn one_entry_does_not_become_gigabytes() {
    let actions = |n: usize| (0..n).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(",");
    let entry = |n: usize, bytes: usize| {
        format!(
            r#"{{"callId":"c","timestamp":"2026-11-21T00:19:07Z","checkResources":{{"inputs":[{{"principal":{{"id":"a","attr":{{"x":"{}"}}}},"resource":{{"kind":"k","id":"i","attr":{{"params":{{"p":"{}"}}}}}},"actions":[{}]}}],"outputs":[]}}}}"#,
            "y".repeat(bytes),
            "z".repeat(bytes),
            actions(n)
        )
    };
    let seen = decode(Format::Cerbos, entry(1000, 200_000).as_bytes());
    assert_eq!(seen.events.len(), 1000);
    let copied: usize = seen.events.iter().map(|e| e.params.len() + e.extra.len()).sum();
    assert!(copied < 18 << 20, "{copied}");
    assert!(seen.events[0].flags.is_empty());
    assert_eq!(seen.events[999].flags, ["cut:params", "cut:extra"]);
    // Nor is it searched for minutes, once for each of its actions.
    let seen = decode(Format::Cerbos, entry(10_000, 30_000).as_bytes());
    assert_eq!((seen.events.len(), seen.rejections[0].reason), (0, "decisions_too_large"));
    let seen = decode(Format::Cerbos, entry(10_001, 1).as_bytes());
    assert_eq!((seen.events.len(), seen.rejections[0].reason), (0, "decisions_too_many"));
}

#[test]
fn one_record_that_fans_out_does_not_become_gigabytes() {
    let record = |n: usize, around: usize| {
        let item = r#"{"primitive":"tool","primitive_name":"t","action":"deny"}"#;
        format!(
            r#"{{"started_at":1795183391482,"around":"{}","ai":{{"mcp":{{"audit":[{}]}}}}}}"#,
            "x".repeat(around),
            vec![item; n].join(",")
        )
    };
    let seen = decode(Format::Kong, record(10_000, 1000).as_bytes());
    assert_eq!((seen.events.len(), seen.rejections.len()), (10_000, 0));
    // What is around them all stands with the first alone, when it is long.
    let seen = decode(Format::Kong, record(1000, 200_000).as_bytes());
    let copied: usize = seen.events.iter().map(|e| e.extra.len()).sum();
    assert!((200_000..400_000).contains(&copied), "{copied}");
    for (n, around, reason) in [(10_001, 1, "decisions_too_many"), (10_000, 30_000, "decisions_too_large")] {
        let seen = decode(Format::Kong, record(n, around).as_bytes());
        assert_eq!((seen.events.len(), seen.rejections.len(), seen.rejections[0].reason), (0, 1, reason));
    }
}

/// Items that cannot be read cost one rejection together, however many they are.
#[test]
fn bad_items_are_refused_once() {
    let mapping = "format = 'mapped'\neach = '/list'\n[fields]\ntime = '/item/at'";
    let mappings = catena_decode::mapping::Mappings::shipped().with(mapping, "own").expect("well written");
    let mut decoder = catena_decode::Decoder::with_mappings(
        std::sync::Arc::new(catena_decode::Redactor::new([7; 32])),
        std::sync::Arc::new(mappings),
    );
    let record = r#"{"list":[{"at":"soon"},{"at":"2026-11-20T14:03:11Z"},{"at":"later"},{}]}"#;
    let mut seen = Collected::default();
    decoder.record(Format::Mapped, record.as_bytes(), &context(), &mut seen);
    assert_eq!((seen.events.len(), seen.rejections.len()), (2, 1));
    assert_eq!(seen.rejections[0].detail, "decision 0: the time is \"soon\"; and 1 more");
}

#[test]
fn depth_and_size_are_refused_by_name() {
    let deep = |n: usize| {
        format!(
            r#"{{"decision_id":"d","timestamp":"2026-11-21T00:00:00Z","result":{{"effect":"allow"}},"input":{}{}}}"#,
            "[".repeat(n),
            "]".repeat(n)
        )
    };
    assert_eq!(decode(Format::Auto, deep(63).as_bytes()).events.len(), 1);
    assert_eq!(decode(Format::Auto, deep(64).as_bytes()).rejections[0].reason, "json_depth");
    assert_eq!(decode(Format::Auto, deep(1_000_000).as_bytes()).rejections[0].reason, "json_depth");
    let big = vec![b'x'; 3 << 20];
    let seen = decode(Format::Opa, &big);
    assert_eq!(seen.rejections[0].raw.as_ref().map(Vec::len), Some(1 << 20));
    // Objects in text are as deep as they are where they stand.
    let inner = format!("{}{}", "{\\\"a\\\":".repeat(64) + "1", "}".repeat(64));
    let line = format!(r#"{{"response_flags":"-","mcp":"{inner}"}}"#);
    assert_eq!(decode(Format::Auto, line.as_bytes()).rejections[0].reason, "json_depth");
}

#[test]
fn numbers_come_out_as_they_went_in() {
    let params = r#"{"big":1180591620717411303424,"exact":9007199254740993,"fine":0.10,"minus":-0}"#;
    let record = format!(
        r#"{{"decision_id":"d","timestamp":"2026-11-21T00:00:00Z","result":{{"effect":"allow"}},"input":{{"params":{params}}}}}"#
    );
    assert_eq!(decode(Format::Auto, record.as_bytes()).events[0].params, params);
}
