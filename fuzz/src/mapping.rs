//! Files of a user: any text is a mapping, or rules of redaction, or is refused; and with any of them any record is heard of.

use super::Input;
use super::heard::Heard;
use catena_decode::mapping::{Mappings, explain};
use catena_decode::redact::Rules;
use catena_decode::{Decoder, Format, Redactor};
use catena_schemas::Micros;
use std::sync::Arc;

/// Records that the mappings of the seeds point into, one of each kind.
const RECORDS: &[(Format, &str)] = &[
    (
        Format::Mapped,
        r#"{"list":[{"id":"a","at":"2026-11-20T14:03:11Z","verdict":"permit","n":1.5},{"id":"b","at":7,"verdict":null},[],"x"],"pairs":[{"id":"b","x":{}}],"text":"{\"a\":[1]}","who":{"sub":"u","act":{"sub":"v"}},"scope":"a b","time":1787234591482,"ok":true}"#,
    ),
    (Format::Mapped, r#"{"list":{"a":{"verdict":"deny"},"b":null},"pairs":{"a":[1]},"time":"2026-11-20T14:03:11Z"}"#),
    (
        Format::Opa,
        r#"{"decision_id":"d","timestamp":"2026-11-21T00:00:00Z","result":{"effect":"allow","reasons":["r"]},"input":{"user":{"id":"u"},"agent":{"id":"a"},"tool":{"name":"t"},"params":{"k":[1,{}]}},"path":"mcp/authz","labels":{"id":"i"}}"#,
    ),
    (
        Format::Cerbos,
        r#"{"callId":"c","timestamp":"2026-11-21T00:19:07Z","checkResources":{"inputs":[{"principal":{"id":"a","attr":{"on_behalf_of":"u","chain":["x"]}},"resource":{"kind":"k","id":"i","attr":{"params":{"p":1}}},"actions":["read","write"]}],"outputs":[{"actions":{"read":{"effect":"EFFECT_ALLOW","policy":"p"},"write":{"effect":"EFFECT_DENY"}},"outputs":[{"src":"s","action":"write","val":{"step_up":{"acr":"2"}}}]}]}}"#,
    ),
    (
        Format::Envoy,
        r#"{"request_id":"r","start_time":"2026-11-21T00:36:21Z","response_code_details":"via_upstream","mcp":{"method":"tools/call","params":{"name":"t"}},"jwt":"{\"sub\":\"u\"}"}"#,
    ),
    (
        Format::Kong,
        r#"{"started_at":1795183391482,"ai":{"mcp":{"audit":[{"primitive":"tool","primitive_name":"t","action":"deny"}],"rpc":[{"tool_name":"t","id":1}]}}}"#,
    ),
    (
        Format::Otlp,
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"a","value":{"stringValue":"b"}}]},"scopeLogs":[{"logRecords":[{"timeUnixNano":"1787234591482913377","attributes":[{"key":"mcp.method.name","value":{"stringValue":"tools/call"}}],"body":{"kvlistValue":{"values":[]}}}]}]}]}"#,
    ),
    (
        Format::Authority,
        r#"{"id":"k","time":1787234591000,"type":"TOKEN_EXCHANGE","realmId":"r","details":{"token_id":"t","scope":"a b"}}"#,
    ),
    (Format::Auto, r#"[{"verdict":"allow","time":"2026-11-21T00:00:00Z"},{"list":[1]},7]"#),
];

/// Tries one text as rules.
pub(crate) fn rules(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(rules) = Rules::parse(text, "own") else { return };
    let mut decoder = Decoder::new(Arc::new(Redactor::with_rules([7; 32], Arc::new(rules))));
    for (format, record) in RECORDS {
        Heard::by(&mut decoder, *format, &Input { headers: Vec::new(), body: record.as_bytes() }, false);
    }
}

/// Tries one text as a mapping.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mappings = match Mappings::shipped().with(text, "own") {
        Ok(mappings) => Arc::new(mappings),
        Err(e) => {
            assert!(!e.problem.is_empty() && e.line <= text.lines().count() + 1, "{e}");
            return;
        }
    };
    let redactor = Arc::new(Redactor::new([7; 32]));
    let mut decoder = Decoder::with_mappings(redactor.clone(), mappings.clone());
    for (format, record) in RECORDS {
        for format in [*format, Format::Auto, Format::Mapped] {
            Heard::by(&mut decoder, format, &Input { headers: Vec::new(), body: record.as_bytes() }, false);
        }
    }
    let records = RECORDS.iter().map(|r| r.1.as_bytes());
    let report = explain::explain(&mappings, &redactor, Format::Auto, records, Micros(1_795_300_000_000_000));
    assert!(report.records.len() >= RECORDS.len());
}
