//! Real messages there and back, both encodings of one request against each other, and bytes that are none.

use super::*;
use crate::json::{Tape, Value};
use crate::{Context, Decoder, Format, Redactor, Sink, frame};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros};
use proptest::prelude::*;
use std::sync::Arc;

fn varint(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn block(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes JSON as the message of a schema: the way back, for tests alone.
fn encode(schema: &Schema, at: usize, v: Value<'_>) -> Vec<u8> {
    let message = &schema.messages[at];
    let mut out = Vec::new();
    let number = |v: Value<'_>| v.as_scalar().unwrap_or_default().to_owned();
    match message.name.as_str() {
        "google.protobuf.Timestamp" => {
            let t = chrono::DateTime::parse_from_rfc3339(v.as_str().expect("a time")).expect("a time");
            varint(8, &mut out);
            varint(t.timestamp() as u64, &mut out);
            varint(16, &mut out);
            varint(t.timestamp_subsec_nanos().into(), &mut out);
            return out;
        }
        "google.protobuf.Value" => {
            match v.kind() {
                crate::json::Kind::Null => out.extend([8, 0]),
                crate::json::Kind::Bool => out.extend([32, u8::from(v.as_bool() == Some(true))]),
                crate::json::Kind::Number => {
                    out.push(17);
                    out.extend(number(v).parse::<f64>().expect("a number").to_le_bytes());
                }
                crate::json::Kind::String => block(3, v.as_str().expect("text").as_bytes(), &mut out),
                crate::json::Kind::Object => {
                    let inner = schema.message("google.protobuf.Struct").expect("it is known");
                    block(5, &encode(schema, inner.0, v), &mut out);
                }
                crate::json::Kind::Array => {
                    let mut list = Vec::new();
                    v.items().for_each(|i| block(1, &encode(schema, at, i), &mut list));
                    block(6, &list, &mut out);
                }
            }
            return out;
        }
        "google.protobuf.Struct" => {
            for (key, item) in v.entries() {
                let value = schema.message("google.protobuf.Value").expect("it is known");
                let mut entry = Vec::new();
                block(1, key.as_bytes(), &mut entry);
                block(2, &encode(schema, value.0, item), &mut entry);
                block(1, &entry, &mut out);
            }
            return out;
        }
        _ => {}
    }
    for (key, item) in v.entries() {
        let field =
            message.fields.iter().find(|f| f.json == key).unwrap_or_else(|| panic!("{} has no {key}", message.name));
        if field.key.is_some() {
            for (name, item) in item.entries() {
                let mut entry = Vec::new();
                block(1, name.as_bytes(), &mut entry);
                one(schema, &Field { number: 2, ..field.clone() }, item, &mut entry);
                block(field.number, &entry, &mut out);
            }
        } else if field.repeated {
            item.items().for_each(|i| one(schema, field, i, &mut out));
        } else {
            one(schema, field, item, &mut out);
        }
    }
    out
}

fn one(schema: &Schema, field: &Field, v: Value<'_>, out: &mut Vec<u8>) {
    let text = v.as_scalar().unwrap_or_default();
    let tag = |wire: u32, out: &mut Vec<u8>| varint(u64::from(field.number << 3 | wire), out);
    match field.kind {
        Kind::Message(at) => block(field.number, &encode(schema, at, v), out),
        Kind::String => block(field.number, text.as_bytes(), out),
        Kind::Hex => block(field.number, &hex::decode(text).expect("hex"), out),
        Kind::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
            block(field.number, &bytes, out);
        }
        Kind::Enum(at) => {
            let number = schema.enums[at].iter().find(|e| e.1 == text).expect("a known name").0;
            tag(0, out);
            varint(*number as u64, out);
        }
        Kind::Fixed64 => {
            tag(1, out);
            out.extend(text.parse::<u64>().expect("a number").to_le_bytes());
        }
        Kind::Double => {
            tag(1, out);
            out.extend(text.parse::<f64>().expect("a number").to_le_bytes());
        }
        Kind::Fixed32 => {
            tag(5, out);
            out.extend(text.parse::<u32>().expect("a number").to_le_bytes());
        }
        Kind::Bool => {
            tag(0, out);
            varint(u64::from(v.as_bool() == Some(true)), out);
        }
        _ => {
            tag(0, out);
            varint(text.parse::<i64>().expect("a number") as u64, out);
        }
    }
}

fn encoded(schema: &Schema, message: &str, json: &str) -> Vec<u8> {
    let mut tape = Tape::default();
    let root = tape.parse(json.as_bytes()).expect("the test writes JSON");
    encode(schema, schema.message(message).expect("it is declared").0, root)
}

/// What reached the sink, as text.
#[derive(Default)]
struct Told(Vec<String>);

impl Sink for Told {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        self.0.push(format!("{format:?} {event:?}"));
    }
    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        self.0.push(format!("{format:?} {entry:?}"));
    }
    fn rejection(&mut self, rejection: Rejection, _: Format) {
        self.0.push(format!("reject {} {}", rejection.reason, rejection.detail));
    }
    fn aside(&mut self, aside: Rejection, _: Format) {
        self.0.push(format!("aside {} {}", aside.reason, aside.detail));
    }
}

fn told(format: Format, bytes: &[u8], headers: &[(&str, &[u8])]) -> Vec<String> {
    let mut told = Told::default();
    let context = Context { received: Micros(1_795_300_000_000_000), fallback_id: "p/0", headers, trusted: false };
    Decoder::new(Arc::new(Redactor::new([7; 32]))).record(format, bytes, &context, &mut told);
    told.0
}

/// Real entries that Cerbos wrote as JSON come out of protobuf with every member and digit, and as the same events.
#[test]
fn cerbos_in_both_encodings_is_the_same() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/corpus/cerbos/kafka-json/messages.jsonl.gz");
    let packed = std::fs::read(path).expect("the corpus is there");
    let lines = frame::decompress(&packed, &Default::default()).expect("sound").into_owned();
    let mut compared = 0;
    for line in lines.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
        let message: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        let value = message["value_b64"].as_str().expect("text");
        let json = base64::engine::general_purpose::STANDARD.decode(value).expect("base64");
        let json = String::from_utf8(json).expect("UTF-8");
        let kind = message["headers"][1][1].as_str().expect("text");
        let name = if kind == "access" { "cerbos.AccessLogEntry" } else { "cerbos.DecisionLogEntry" };
        let bytes = encoded(&CERBOS, name, &json);
        let written = CERBOS.json(CERBOS.message(name).expect("it is declared"), &bytes).expect("sound");
        assert_eq!(written.unknown, 0);
        let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(parsed(&written.text), parsed(&json));
        let headers = |encoding: &'static [u8]| -> [(&str, &[u8]); 2] {
            [("cerbos.audit.encoding", encoding), ("cerbos.audit.kind", kind.as_bytes())]
        };
        let ours = told(Format::Auto, &bytes, &headers(b"protobuf"));
        assert_eq!(ours, told(Format::Auto, json.as_bytes(), &headers(b"json")));
        compared += ours.len();
    }
    assert_eq!(compared, 487 + 150);
}

const LOGS: &str = r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"gw"}}]},"scopeLogs":[{"scope":{"name":"s","version":"1"},"logRecords":[{"timeUnixNano":"1787234591482913377","severityNumber":13,"attributes":[{"key":"gen_ai.tool.name","value":{"stringValue":"delete"}},{"key":"gen_ai.security.decision.type","value":{"stringValue":"deny"}},{"key":"n","value":{"intValue":"-5"}},{"key":"d","value":{"doubleValue":0.5}},{"key":"l","value":{"arrayValue":{"values":[{"boolValue":false},{"kvlistValue":{"values":[{"key":"k","value":{"bytesValue":"AQI="}}]}}]}}}],"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7"},{"observedTimeUnixNano":"1787234591483001000","attributes":[]}]}]}]}"#;
const SPANS: &str = r#"{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"s"},"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","parentSpanId":"00f067aa0ba902b8","name":"tools/call delete","kind":3,"startTimeUnixNano":"1787234591482913377","endTimeUnixNano":"1787234591482999999","attributes":[{"key":"mcp.method.name","value":{"stringValue":"tools/call"}}],"status":{"message":"m","code":2}}]}]}]}"#;

#[test]
fn otlp_in_both_encodings_is_the_same() {
    let protobuf: [(&str, &[u8]); 1] = [("Content-Type", b"application/x-protobuf")];
    for (message, json) in [("otlp.Logs", LOGS), ("otlp.Traces", SPANS)] {
        let bytes = encoded(&OTLP, message, json);
        let written = told(Format::Otlp, json.as_bytes(), &[]);
        assert!(written[0].starts_with("Otlp Event"), "{written:?}");
        // By header, and by name alone as on a topic.
        assert_eq!(told(Format::Auto, &bytes, &protobuf), written);
        assert_eq!(told(Format::Otlp, &bytes, &[]), written);
        // No one is told that it is OTLP: then it is not JSON, and that is all.
        assert!(told(Format::Auto, &bytes, &[])[0].starts_with("reject json_"));
        // Cut anywhere inside, it is refused.
        assert!(told(Format::Otlp, &bytes[..bytes.len() - 3], &protobuf)[0].starts_with("reject protobuf_malformed"));
    }
    assert_eq!(told(Format::Auto, b"", &protobuf), ["aside otlp_empty "]);
    let pretty = format!("\n{LOGS}");
    assert_eq!(told(Format::Otlp, pretty.as_bytes(), &[]), told(Format::Otlp, LOGS.as_bytes(), &[]));
}

#[test]
fn unknown_fields_are_counted_and_flagged() {
    let mut bytes = encoded(&OTLP, "otlp.Logs", LOGS);
    // A string, a number and a group with another inside, under numbers that nobody has given away.
    block(999, b"new", &mut bytes);
    bytes.extend([0xc0, 0x3e, 7]);
    bytes.extend([0xc3, 0x3e, 0x0b, 0x10, 1, 0x0c, 0xc4, 0x3e]);
    let headers: [(&str, &[u8]); 1] = [("content-type", b"application/x-protobuf")];
    let told = told(Format::Otlp, &bytes, &headers);
    assert!(told[0].contains("\"protobuf_unknown_fields:3\""), "{told:?}");
}

const ODD: &str = r#"
    syntax = "proto3"; package odd.v1; // comment
    import "google/protobuf/wrappers.proto";
    option (x) = { a: "}" b: [1, 2] };
    message Odd {
        reserved 2, 15 to max; reserved "gone";
        /* a comment { */
        enum Color { option allow_alias = true; NONE = 0; RED = 1; CRIMSON = 1; COLD = -1; }
        repeated sint32 packed = 1;
        sint64 big_number = 3 [json_name = "bignum", (y) = { z: "]" }];
        oneof either { string left = 4; Odd right = 5; }
        map<int64, Color> colors = 6;
        google.protobuf.Int64Value wrapped = 7;
        .odd.v1.Odd.Inner inner = 8;
        message Inner { float f = 1; repeated double d = 2; Color color = 3; message Deep { bool b = 1; } Deep deep = 4; }
        google.protobuf.Duration wait = 9;
        google.protobuf.FieldMask mask = 10;
        google.protobuf.ListValue list = 11;
        google.protobuf.Struct struct = 12;
        google.protobuf.Value value = 13;
    }
    service S { rpc Go(Odd) returns (stream Odd) { option (h) = { get: "/" }; } }
"#;

fn check(hex_bytes: &str, expected: &str) {
    let schema = Schema::parse(ODD, &[]).expect("the test writes a schema");
    let bytes = hex::decode(hex_bytes.replace(' ', "")).expect("the test writes hex");
    let got = match schema.json(schema.message("odd.v1.Odd").expect("it is declared"), &bytes) {
        Ok(json) => json.text,
        Err(e) => e.to_string(),
    };
    assert_eq!(got, expected, "{hex_bytes}");
}

#[test]
fn every_form_of_the_wire() {
    check("", "{}");
    check("0a 03 01 02 03", r#"{"packed":[-1,1,-2]}"#);
    check("08 01 0a 01 02", r#"{"packed":[-1,1]}"#);
    check("18 01 18 03", r#"{"bignum":"-2"}"#);
    check("22 01 61 2a 00", r#"{"right":{}}"#);
    check("2a 00 22 01 61", r#"{"left":"a"}"#);
    // Two parts of one message are one.
    check("2a 02 18 01 2a 02 0a 00", r#"{"right":{"packed":[],"bignum":"-1"}}"#);
    check("32 04 08 05 10 01 32 04 08 05 10 00 32 00", r#"{"colors":{"5":"NONE","0":"NONE"}}"#);
    check("32 0d 08 05 10 ff ff ff ff ff ff ff ff ff 01", r#"{"colors":{"5":"COLD"}}"#);
    check("32 04 08 05 10 09", r#"{"colors":{"5":9}}"#);
    check("3a 02 08 2a 3a 00", r#"{"wrapped":"42"}"#);
    check("3a 00", r#"{"wrapped":"0"}"#);
    check("42 05 0d cd cc cc 3d", r#"{"inner":{"f":0.1}}"#);
    check("42 09 11 00 00 00 00 00 00 f8 7f", r#"{"inner":{"d":["NaN"]}}"#);
    check("42 09 11 40 8c b5 78 1d af 15 44", r#"{"inner":{"d":[100000000000000000000]}}"#);
    check("42 04 22 02 08 01", r#"{"inner":{"deep":{"b":true}}}"#);
    check("4a 08 08 01 10 80 ca b5 ee 01", r#"{"wait":"1.5s"}"#);
    check("52 03 0a 01 61", r#"{"mask":"a"}"#);
    check("5a 06 0a 02 20 01 0a 00", r#"{"list":[true,null]}"#);
    check("5a 00", r#"{"list":[]}"#);
    check("62 09 0a 07 0a 01 6b 12 02 32 00", r#"{"struct":{"k":[]}}"#);
    check("6a 02 08 00", r#"{"value":null}"#);
    check("6a 02 2a 00", r#"{"value":{}}"#);
}

#[test]
fn what_is_malformed_is_refused_with_its_place() {
    check("0a", "the bytes end early at byte 0, in `odd.v1.Odd`");
    check("22 05 61", "the bytes end early at byte 0, in `odd.v1.Odd`");
    check("18 01 22 01 ff", "text that is not UTF-8 at byte 4, in `odd.v1.Odd`");
    check("00 01", "a field without number at byte 0, in `odd.v1.Odd`");
    check("0e", "a wire type that does not exist at byte 0, in `odd.v1.Odd`");
    check("18 ff ff ff ff ff ff ff ff ff 7f", "a number of more than 64 bits at byte 0, in `odd.v1.Odd`");
    check("1a 01 61", "a field of another type than the schema has at byte 2, in `odd.v1.Odd`");
    check("7b 08 01", "the bytes end early at byte 0, in `odd.v1.Odd`");
    check("7b 84 01", "a group without end at byte 0, in `odd.v1.Odd`");
    // Messages within messages, one more than may be.
    let deep = |depth| {
        (0..depth).fold(Vec::new(), |inner, _| {
            let mut outer = Vec::new();
            block(5, &inner, &mut outer);
            outer
        })
    };
    let schema = Schema::parse(ODD, &[]).expect("the test writes a schema");
    let odd = schema.message("odd.v1.Odd").expect("it is declared");
    assert_eq!(schema.json(odd, &deep(DEPTH_MAX + 1)).map_err(|e| e.problem), Err("messages are nested too deep"));
    assert!(schema.json(odd, &deep(DEPTH_MAX)).is_ok());
}

/// A byte that stands for a name of a megabyte, a hundred times.
#[test]
fn what_grows_without_bound_is_refused() {
    let name = "N".repeat(1_000_000);
    let text = format!("enum E {{ {name} = 0; }} message M {{ repeated E e = 1; }}");
    let schema = Schema::parse(&text, &[]).expect("the test writes a schema");
    let m = schema.message("M").expect("it is declared");
    let (mut packed, apart) = (Vec::new(), [8, 0].repeat(100));
    block(1, &[0; 100], &mut packed);
    for bytes in [packed, apart] {
        assert_eq!(schema.json(m, &bytes).map_err(|e| e.problem).err(), Some("the message is too long as JSON"));
        assert!(schema.json(m, &[8, 0]).is_ok());
    }
}

#[test]
fn a_schema_says_what_is_wrong_with_it() {
    let check = |text: &str, expected: &str| {
        let got = Schema::parse(text, &[]).map_or_else(|e| e.to_string(), |_| "fine".into());
        assert_eq!(got, expected, "{text}");
    };
    check("", "fine");
    check("message", "`schema`, line 1: a name is missing");
    check("message A", "`schema`, line 1: `{` is missing");
    check("message A {", "`schema`, line 1: a name is missing");
    check("message A {}", "fine");
    check("message A {\n string s }", "`schema`, line 2: `=` is missing");
    check("message A { string s = 0; }", "`schema`, line 1: `s` has no number that fields can have");
    check("message A { string s = 1; bytes b = 1; }", "`schema`, line 1: the number 1 is used twice");
    check("message A { string s_t = 1; bytes sT = 2; }", "`schema`, line 1: the name `sT` is used twice");
    check("message A { string s = 1;\n B b = 2; }", "`schema`, line 2: there is no type `B`");
    check("message A { string s = 1; B b = 2; }\nmessage B {}", "fine");
    check("message A {} enum A { X = 0; }", "`schema`, line 1: `A` is declared twice");
    check("message A { repeated group G = 1 { } }", "`schema`, line 1: groups are not supported");
    check(
        "message A { map<bytes, string> m = 1; }",
        "`schema`, line 1: the keys of a map are integers, booleans or strings",
    );
    check("message A { string s = 1 [x", "`schema`, line 1: options without end");
    check("message A { string s = 1; } /* ", "`schema`, line 1: a comment without end");
    check("import \"x", "`schema`, line 1: a string without end");
    check("nonsense A;", "`schema`, line 1: `nonsense` is not expected here");
    let deep = format!("{}{}", "message A {".repeat(40), "}".repeat(40));
    check(&deep, "`schema`, line 1: messages are nested too deep");
}

#[test]
fn names_are_looked_up_from_the_inside() {
    let schema = Schema::parse(
        "package p.q; message A { message B { string inner = 1; } B b = 1; p.q.B c = 2; x.X x = 3; } message B { string outer = 1; }",
        &[("x.proto", "package p.x; message X { string far = 1; }")],
    )
    .expect("the test writes a schema");
    let a = schema.message("p.q.A").expect("it is declared");
    let json =
        schema.json(a, &[0x0a, 3, 0x0a, 1, b'i', 0x12, 3, 0x0a, 1, b'o', 0x1a, 3, 0x0a, 1, b'f']).expect("sound");
    assert_eq!(json.text, r#"{"b":{"inner":"i"},"c":{"outer":"o"},"x":{"far":"f"}}"#);
    assert_eq!(schema.message_at(&[0]), Some(a));
    assert_eq!(schema.message_at(&[0, 0]), schema.message("p.q.A.B"));
    assert_eq!(schema.message_at(&[1]), schema.message("p.q.B"));
    assert_eq!((schema.message_at(&[2]), schema.message_at(&[0, 1]), schema.message_at(&[])), (None, None, None));
}

proptest! {
    /// Whatever the bytes, there is JSON or a refusal; and what comes out parses, unless it is nested deeper than JSON may be.
    #[test]
    fn any_bytes_are_json_or_refused(bytes: Vec<u8>, edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let schema = Schema::parse(ODD, &[]).expect("the test writes a schema");
        let mut real = encoded(&OTLP, "otlp.Logs", LOGS);
        for (at, byte) in edits {
            let at = at.index(real.len());
            real[at] = byte;
        }
        let results = [
            schema.json(schema.message("odd.v1.Odd").expect("it is declared"), &bytes),
            OTLP.json(OTLP.message("otlp.Logs").expect("it is declared"), &real),
            OTLP.json(OTLP.message("otlp.Traces").expect("it is declared"), &bytes),
        ];
        for json in results.into_iter().flatten() {
            match Tape::default().parse(json.text.as_bytes()) {
                Ok(_) => {}
                Err(e) => prop_assert_eq!(e.reason, "json_depth", "{}", json.text),
            }
        }
    }

    /// Any text is a schema or is refused.
    #[test]
    fn any_text_is_a_schema_or_refused(text: String, at in any::<prop::sample::Index>(), byte in 0u8..128) {
        let _ = Schema::parse(&text, &[]);
        let mut odd = ODD.as_bytes().to_vec();
        let at = at.index(odd.len());
        odd[at] = byte;
        let _ = Schema::parse(&String::from_utf8_lossy(&odd), &[]);
    }
}
