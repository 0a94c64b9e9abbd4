//! No record is lost in silence: what is no fact is listed as such, what was taken out is not absent, and what was looked at and not
//! understood is seen again.

use crate::seen::{Collected, decode};
use catena_decode::mapping::Mappings;
use catena_decode::{Context, Decoder, Format, Redactor};
use catena_schemas::Micros;
use std::sync::Arc;

fn under(mapping: &str, format: Format, record: &str) -> Collected {
    let mappings = Arc::new(Mappings::shipped().with(mapping, "mine").expect("a good mapping"));
    let mut decoder = Decoder::with_mappings(Arc::new(Redactor::new([7; 32])), mappings);
    let mut seen = Collected::default();
    decoder.record(format, record.as_bytes(), &Context { received: Micros(1), ..Context::default() }, &mut seen);
    seen
}

/// What a record becomes: outcome and kind of facts, or the reasons of what is none.
fn told(seen: &Collected) -> String {
    let facts = seen.events.iter().map(|e| format!("{} {} {}", e.kind, e.outcome, e.tool).trim_end().to_owned());
    let refused = seen.rejections.iter().map(|r| format!("reject {}", r.reason));
    facts.chain(refused).chain(seen.asides.iter().map(|a| format!("aside {}", a.reason))).collect::<Vec<_>>().join("\n")
}

const ENVOY: &str = r#""start_time":"2026-11-21T00:36:21Z","response_code":200,"response_code_details":"via_upstream","response_flags":"-""#;
const GATEWAY: &str = r#""level":"info","time":"2026-11-21T00:36:21.000000Z","scope":"request","gateway":"g","http.method":"POST","http.status":200"#;

#[test]
fn an_aside_is_only_what_is_known_to_be_no_fact() {
    for (format, record, expected) in [
        (Format::Envoy, format!(r#"{{{ENVOY},"mcp_method":"tools/call"}}"#), "decision allow"),
        (Format::Envoy, format!(r#"{{{ENVOY},"mcp_method":"ping"}}"#), "aside not_a_call"),
        (Format::Envoy, format!(r#"{{{ENVOY},"mcp_method":"tools/run"}}"#), "reject method_unknown"),
        (Format::Envoy, format!(r#"{{{ENVOY},"rpc":"tools/call"}}"#), "reject method_unmapped"),
        (Format::Envoy, format!(r#"{{{ENVOY},"tool_called":"t"}}"#), "reject method_unmapped"),
        (Format::Envoy, format!(r#"{{{ENVOY},"path":"/"}}"#), "aside not_mcp"),
        (Format::Agentgateway, format!(r#"{{{GATEWAY},"mcp.method":"tools/call"}}"#), "decision allow"),
        (Format::Agentgateway, format!(r#"{{{GATEWAY},"mcp.call":"tools/call"}}"#), "reject method_unmapped"),
        (Format::Agentgateway, format!(r#"{{{GATEWAY},"protocol":"mcp"}}"#), "reject method_unmapped"),
        (Format::Agentgateway, format!(r#"{{{GATEWAY},"gen_ai.operation.name":"execute_tool"}}"#), "reject method_unmapped"),
        (Format::Agentgateway, format!(r#"{{{GATEWAY},"mcp.method.name":"tools/run"}}"#), "reject method_unknown"),
        (Format::Agentgateway, r#"{"scope":"x","message":"m","tool":"t"}"#.into(), "reject entry_unknown"),
        (Format::Opa, r#"{"level":"info","msg":"denied","time":"t","user":"u"}"#.into(), "reject decision_id_missing"),
        (Format::Opa, r#"{"labels":{},"bundles":{},"result":{"allow":false}}"#.into(), "reject decision_id_missing"),
        (Format::Opa, r#"{"labels":{},"bundles":{}}"#.into(), "aside status_report"),
        (Format::Cerbos, r#"{"log.logger":"cerbos.audit","log.kind":"verdict","message":"m"}"#.into(), "reject entry_unknown"),
        (
            Format::Pomerium,
            r#"{"level":"info","service":"authorize","message":"check done","allow":true}"#.into(),
            "reject message_unknown",
        ),
        (Format::Mcp, r#"{"requestBody":"x"}"#.into(), "reject message_missing"),
        (Format::Mcp, r#"{"jsonrpc":"2.0","id":1,"method":"tools/run"}"#.into(), "reject method_unknown"),
        (Format::Mcp, r#"{"jsonrpc":"2.0","id":1,"method":7}"#.into(), "reject message_unreadable"),
        (
            Format::Openfga,
            r#"{"grpc_service":"openfga.v1.OpenFGAService","grpc_method":"CheckAll","msg":"m","raw_response":{"allowed":false}}"#.into(),
            "decision deny",
        ),
        (
            Format::Toolhive,
            r#"{"audit_id":"a","type":"mcp_tool_run","outcome":"success","logged_at":"2026-11-21T00:36:21Z"}"#.into(),
            "decision allow",
        ),
        (Format::Kong, r#"{"started_at":1,"request":{},"response":{},"mcp_tool":"t"}"#.into(), "reject record_unknown"),
        (Format::Otlp, r#"{"resourceSpans":[{"instrumentationLibrarySpans":[{"spans":[{}]}]}]}"#.into(), "reject otlp_unknown"),
        (Format::Otlp, r#"{"resourceLogs":{"x":1}}"#.into(), "reject otlp_unknown"),
    ] {
        let seen = decode(format, record.as_bytes());
        assert_eq!(told(&seen), expected, "{format:?} {record}");
        let kept = seen.rejections.iter().chain(&seen.asides).all(|r| r.raw.as_deref().is_some_and(|raw| !raw.is_empty()));
        assert!(kept, "{record}");
    }
}

#[test]
fn a_mapping_says_where_the_method_stands() {
    let mapping =
        "extends = 'envoy-mcp'\n[fields]\ncall.method = { pointer = '/rpc', lookup = { run = 'tools/call' } }\n";
    let record = format!(r#"{{{ENVOY},"rpc":"run","tool_called":"t"}}"#);
    assert_eq!(told(&decode(Format::Envoy, record.as_bytes())), "reject method_unmapped");
    assert_eq!(told(&under(mapping, Format::Envoy, &record)), "decision allow");
}

/// What was flattened is kept so, and is read again under a mapping.
#[test]
fn an_exported_record_is_read_again_from_what_is_kept_of_it() {
    let export = r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"x","startTimeUnixNano":"1785000000123456789","attributes":[{"key":"used","value":{"stringValue":"t"}}]}]}]}]}"#;
    let seen = decode(Format::Otlp, export.as_bytes());
    assert_eq!(told(&seen), "aside otlp_unrelated");
    let mapping = "format = 'otlp'\nphase = 'invoke'\nwhen.any = [{ pointer = '/used', exists = true }]\nfields.tool.name = '/used'\nfields.time = '/otlp.time'\n";
    let raw = String::from_utf8(seen.asides[0].raw.clone().expect("it is kept")).expect("JSON");
    assert_eq!(told(&under(mapping, Format::Otlp, &raw)), "execution unknown t");
}

#[test]
fn what_was_taken_out_is_not_absent() {
    let opa = |rest: &str| {
        format!(
            r#"{{"decision_id":"d","path":"p","timestamp":"2026-11-21T00:12:24Z","input":{{"tool":{{"name":"t"}}}}{rest}}}"#
        )
    };
    let blind = "extends = 'opa-gateway'\nwhen.all = [{ pointer = '/result', missing = true }]\noutcome.otherwise = { outcome = 'deny' }\n";
    let member = "extends = 'opa-gateway'\nwhen.all = [{ pointer = '/result/allow', missing = true }]\noutcome.otherwise = { outcome = 'deny' }\n";
    let rules = "extends = 'opa-gateway'\nwhen.all = [{ pointer = '/path', exists = true }]\n[[outcome.rules]]\nwhen = { pointer = '/result/allow', missing = true }\noutcome = 'deny'\n";
    let unless = "extends = 'opa-gateway'\nwhen.all = [{ pointer = '/path', exists = true }]\n[[outcome.rules]]\nunless = { pointer = '/result/allow', equals = true }\noutcome = 'deny'\n";
    for (rest, reason) in [
        (r#","erased":["/result"]"#, "result_erased"),
        (r#","erased":["/input/x","/result"]"#, "result_erased"),
        (r#","result":"**REDACTED**","masked":["/result","/result"]"#, "result_masked"),
        (r#","result":{"reasons":[]},"erased":["/result/allow"]"#, "result_erased"),
        (r#","result":{"allow":false},"masked":["/result/allow"]"#, "result_masked"),
        (r#","result":{"allow":"[REDACTED]"}"#, "result_masked"),
        (r#","result":"***""#, "result_masked"),
    ] {
        let record = opa(rest);
        let mut all = vec![decode(Format::Opa, record.as_bytes())];
        all.extend([blind, member, rules, unless].map(|mapping| under(mapping, Format::Opa, &record)));
        for (number, seen) in all.iter().enumerate() {
            assert_eq!(seen.events[0].outcome, "unknown", "{number} {record}");
            assert_eq!(seen.events[0].reasons.first().map(String::as_str), Some(reason), "{number} {record}");
        }
    }
    // What was not taken out decides.
    for (rest, outcome) in [
        (r#","result":{"allow":false,"reasons":["***"]},"masked":["/result/reasons/0"]"#, "deny"),
        (r#","result":{"allow":true},"erased":["/input/x"]"#, "allow"),
    ] {
        assert_eq!(decode(Format::Opa, opa(rest).as_bytes()).events[0].outcome, outcome, "{rest}");
    }
    assert_eq!(under(blind, Format::Opa, &opa("")).events[0].outcome, "deny");
}

#[test]
fn marks_of_other_producers_are_no_verdicts() {
    let own = "format = 'mapped'\nwhen.all = [{ pointer = '/v', exists = true }]\n[outcome]\nfrom = '/v'\nvalues = { deny = ['***', 'no'] }\notherwise = { outcome = 'deny' }\n";
    for mark in ["**REDACTED**", "[REDACTED]", "***", "<masked>", "XXXX"] {
        let seen = under(own, Format::Mapped, &format!(r#"{{"v":"{mark}"}}"#));
        assert_eq!(
            (seen.events[0].outcome.as_str(), seen.events[0].reasons[0].as_str()),
            ("unknown", "result_masked"),
            "{mark}"
        );
        for (format, record) in [
            (Format::Catena, format!(r#"{{"decision":{{"verdict":"{mark}"}}}}"#)),
            (
                Format::Pomerium,
                format!(
                    r#"{{"level":"info","service":"authorize","message":"authorize check","time":"2026-08-20T14:03:11Z","allow":"{mark}","deny":false}}"#
                ),
            ),
            (
                Format::Cerbos,
                format!(
                    r#"{{"callId":"c","timestamp":"2026-11-21T00:19:07Z","checkResources":{{"inputs":[{{"actions":["x"]}}],"outputs":[{{"actions":{{"x":{{"effect":"{mark}"}}}}}}]}}}}"#
                ),
            ),
            (
                Format::Envoy,
                format!(r#"{{{ENVOY},"mcp_method":"tools/call","authz_effect":"{mark}","response_code":403}}"#)
                    .replacen(r#""response_code":200,"#, "", 1),
            ),
            (Format::Agentgateway, format!(r#"{{{GATEWAY},"mcp.method":"tools/call","reason":"{mark}"}}"#)),
            (Format::Agentgateway, format!(r#"{{{GATEWAY},"mcp.method":"tools/call","authz.decision":"{mark}"}}"#)),
        ] {
            let seen = decode(format, record.as_bytes());
            assert_eq!(told(&seen).split_whitespace().nth(1), Some("unknown"), "{format:?} {record}");
            assert!(seen.events[0].reasons.iter().any(|r| r == "result_masked"), "{format:?} {record}");
        }
    }
}

/// A value of another kind than is promised, under each member that a record of the format has, is seen again.
#[test]
fn what_is_not_understood_is_seen_again() {
    const ODD: &str = r#"{"odd":["4711"]}"#;
    let mut lost = Vec::new();
    for (format, record) in [
        (
            Format::Catena,
            r#"{"id":"i","kind":"decision","time":"2026-11-21T00:00:00Z","source":{"kind":"k","seq":1,"epoch":"e"},"decision":{"verdict":"deny","basis":"explicit","policy":{"id":"p"},"reasons":["r"]},"requester":{"id":"u"},"session":{"id":"s"},"server":{"id":"v"},"tool":{"name":"t","impact":1},"call":{"method":"m","http":{"status":1}},"links":{"trace":"x"},"network":{"ip":"1"}}"#
                .to_owned(),
        ),
        (Format::Catena, r#"{"kind":"tool","id":"i","source":{"seq":1,"kind":"k"},"server":"s","tool":"t"}"#.to_owned()),
        (
            Format::Pomerium,
            r#"{"level":"info","service":"authorize","message":"authorize check","time":"2026-08-20T14:03:11Z","allow":true,"deny":false,"user":"u","email":"e","allow-why-true":["a"],"mcp-method":"tools/call","mcp-tool":"t","ip":"1"}"#
                .to_owned(),
        ),
        (
            Format::Pomerium,
            r#"{"level":"info","service":"envoy","message":"http-request","time":"2026-08-20T14:03:11Z","size":1,"response-code":200,"response-code-details":"x","method":"GET","path":"/"}"#
                .to_owned(),
        ),
        (
            Format::Cerbos,
            r#"{"callId":"c","timestamp":"2026-11-21T00:19:07Z","peer":{"address":"1"},"checkResources":{"inputs":[{"requestId":"r","resource":{"kind":"k","id":"x"},"principal":{"id":"p"},"actions":["x"]}],"outputs":[{"requestId":"r","resourceId":"x","effectiveDerivedRoles":["o"],"actions":{"x":{"effect":"EFFECT_ALLOW","policy":"p"}}}],"more":1}}"#
                .to_owned(),
        ),
        (Format::Envoy, format!(r#"{{{ENVOY},"mcp_method":"tools/call","mcp_tool_name":"t","authz_effect":"allow","request_id":"r"}}"#)),
        (Format::Agentgateway, format!(r#"{{{GATEWAY},"mcp.method":"tools/call","mcp.target":"s","reason":"JwtAuth","jwt.sub":"u","jwt.exp":1}}"#)),
        (
            Format::Mcp,
            r#"{"ts":1795219800,"status":200,"path":"/p","request_headers":{"host":"h","mcp-session-id":"s"},"request_body":{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"a":1}}}}"#
                .to_owned(),
        ),
        (
            Format::Opa,
            r#"{"decision_id":"d","path":"p","timestamp":"2026-11-21T00:12:24Z","labels":{"id":"i"},"result":{"allow":true,"reasons":["r"]},"input":{"user":{"id":"u"},"tool":{"name":"t"},"session":{"id":"s"}},"requested_by":"1","trace_id":"x"}"#
                .to_owned(),
        ),
        (
            Format::Toolhive,
            r#"{"audit_id":"a","type":"mcp_tool_call","outcome":"success","logged_at":"2026-11-21T00:36:21Z","component":"c","subjects":{"user":"u"},"target":{"type":"tool","name":"t","method":"tools/call"}}"#
                .to_owned(),
        ),
    ] {
        let root: serde_json::Value = serde_json::from_str(&record).expect("the test writes JSON");
        let mut paths = Vec::new();
        members(&root, String::new(), &mut paths);
        assert!(paths.len() > 4, "{record}");
        for path in paths {
            let mut odd = root.clone();
            *odd.pointer_mut(&path).expect("it is there") = serde_json::from_str(ODD).expect("JSON");
            let odd = odd.to_string();
            let seen = decode(format, odd.as_bytes());
            let kept = seen.events.iter().any(|e| [&e.extra, &e.params, &e.native].iter().any(|s| s.contains("4711")))
                || seen.entries.iter().any(|e| e.0.contains("4711"))
                || seen.rejections.iter().chain(&seen.asides).any(|r| r.raw.as_ref().is_some_and(|raw| String::from_utf8_lossy(raw).contains("4711")));
            if !kept {
                lost.push(format!("{format:?} {path}: {odd}\n{}", told(&seen)));
            }
        }
    }
    assert!(lost.is_empty(), "{}", lost.join("\n"));
}

/// Pointers to every member and item of a value.
fn members(v: &serde_json::Value, at: String, into: &mut Vec<String>) {
    if let Some(object) = v.as_object() {
        for (key, member) in object {
            let path = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            into.push(path.clone());
            members(member, path, into);
        }
    }
    for (number, item) in v.as_array().into_iter().flatten().enumerate() {
        into.push(format!("{at}/{number}"));
        members(item, format!("{at}/{number}"), into);
    }
}

/// An attribute without a name or of no list is seen again, and so is a time of an export that is none.
#[test]
fn odd_parts_of_an_exported_record_are_seen_again() {
    let span = |attributes: &str, rest: &str| {
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"x",{rest}"attributes":{attributes}}}]}}]}}]}}"#
        )
    };
    let call = r#"{"key":"mcp.method.name","value":{"stringValue":"tools/call"}}"#;
    for record in [
        span(&format!(r#"[{call},{{"key":7,"value":{{"stringValue":"4711"}}}}]"#), ""),
        span(&format!(r#"[{call},{{"key":"4711"}}]"#), ""),
        span(r#"{"mcp.method.name":"4711"}"#, ""),
        span(&format!("[{call}]"), r#""startTimeUnixNano":{"odd":4711},"#),
        span(&format!("[{call}]"), r#""links":{"odd":4711},"#),
    ] {
        let seen = decode(Format::Otlp, record.as_bytes());
        assert!(seen.everything().contains("4711"), "{record}: {}", told(&seen));
    }
}
