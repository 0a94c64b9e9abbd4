//! Real logs: every decision is compared with what the driver of the requests knows of it.

use crate::seen::{Collected, Seen, context, corpus, decode_body, decoder, jsonl};
use base64::Engine;
use catena_decode::{Context, Format};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};

fn text<'v>(v: &'v Value, key: &str) -> &'v str {
    v[key].as_str().unwrap_or_default()
}

fn tally<'s>(keys: impl Iterator<Item = &'s str>) -> BTreeMap<String, usize> {
    keys.fold(BTreeMap::new(), |mut counts, key| {
        *counts.entry(key.to_owned()).or_default() += 1;
        counts
    })
}

fn counts(list: &[(&str, usize)]) -> BTreeMap<String, usize> {
    list.iter().map(|(k, n)| (k.to_string(), *n)).collect()
}

fn uploads() -> Vec<Vec<u8>> {
    (1..=14).map(|n| corpus(&format!("opa/main/uploads/upload-{n:04}.json.gz"))).collect()
}

/// Holds the calls of the OPA driver against events.
fn check_opa_main(seen: &Collected) {
    assert_eq!(seen.rejections, []);
    let by_id: HashMap<&str, &Seen> = seen.events.iter().map(|e| (e.id.as_str(), e)).collect();
    assert_eq!(by_id.len(), 438);
    let calls: HashMap<&str, &Seen> =
        by_id.iter().filter(|(_, e)| !e.tool.is_empty()).map(|(id, e)| (*id, *e)).collect();
    assert_eq!(
        tally(calls.values().map(|e| e.outcome.as_str())),
        counts(&[("allow", 230), ("deny", 121), ("step_up", 49)])
    );
    let mut matched = 0;
    for truth in jsonl("opa/main/driver.jsonl").iter().filter(|t| t["kind"] == "decision") {
        let e = calls[text(truth, "decision_id")];
        assert_eq!(
            (e.outcome.as_str(), e.requester.as_str()),
            (text(truth, "expected"), text(truth, "user")),
            "{truth}"
        );
        assert_eq!((e.agent.as_str(), e.session.as_str()), (text(truth, "agent"), text(truth, "session")), "{truth}");
        assert_eq!(format!("{}/{}", e.server, e.tool), text(truth, "tool"));
        assert_eq!(e.action, text(truth, "action_class"));
        assert_eq!(e.request, text(truth, "request_id"));
        assert_eq!(e.version, format!("mcp-policy@{}", text(truth, "policy")));
        assert_eq!(e.phase, "invoke");
        let reasons: Vec<_> = truth["reasons"].as_array().into_iter().flatten().filter_map(|r| r.as_str()).collect();
        assert_eq!(e.reasons, reasons);
        if let Some(trace) = truth["trace_id"].as_str() {
            assert_eq!(e.trace, trace);
        }
        let contradicted = reasons.contains(&"actor_mismatch");
        assert_eq!(
            e.flags.iter().any(|f| f == "actors_contradicted"),
            contradicted || agent_differs(e),
            "{truth} {:?}",
            e.flags
        );
        match truth["parent"].as_str() {
            Some(parent) => assert_eq!(e.actors[e.actors.len() - 2], parent),
            None => assert_eq!(e.actors.len(), 1),
        }
        matched += 1;
    }
    assert_eq!(matched, 400);
    let others: Vec<_> = by_id.values().filter(|e| e.tool.is_empty()).collect();
    // Questions to other rules, and five to the decision without any input, which the policy lets through.
    assert_eq!(tally(others.iter().map(|e| e.phase.as_str())), counts(&[("plan", 33), ("invoke", 5)]));
    assert_eq!(others.iter().filter(|e| e.outcome == "error").count(), 4);
    assert!(others.iter().filter(|e| e.outcome == "error").all(|e| e.reasons == ["eval_conflict_error"]));
    assert!(
        others
            .iter()
            .filter(|e| e.phase == "plan" && !e.requester.is_empty())
            .all(|e| !e.actors.is_empty() || e.requester == "second")
    );
}

/// The driver's odd tokens name another actor than the agent; the policy may report another reason first, never none.
fn agent_differs(e: &Seen) -> bool {
    e.extra.contains("agent:someone-else")
}

#[test]
fn opa_console() {
    let seen = decode_body(Format::Opa, &corpus("opa/main/console.stderr.gz"));
    check_opa_main(&seen);
    assert_eq!(tally(seen.asides.iter().map(|a| a.reason)), counts(&[("console_line", 955)]));
    let depths =
        tally(seen.events.iter().filter(|e| !e.tool.is_empty()).map(|e| ["0", "1", "2", "3", "4"][e.actors.len()]));
    assert_eq!(depths.keys().collect::<Vec<_>>(), ["1", "2", "3", "4"]);
}

#[test]
fn opa_uploads_hold_the_same_decisions_as_the_console() {
    let mut seen = Collected::default();
    for body in uploads() {
        let upload = decode_body(Format::Auto, &body);
        seen.events.extend(upload.events);
        seen.rejections.extend(upload.rejections);
        seen.asides.extend(upload.asides);
    }
    assert!(seen.events.len() > 438, "a chunk was sent three times");
    check_opa_main(&seen);
    let console = decode_body(Format::Auto, &corpus("opa/main/console.stderr.gz"));
    let console: HashMap<&str, &Seen> = console.events.iter().map(|e| (e.id.as_str(), e)).collect();
    for e in &seen.events {
        assert_eq!(Some(&e), console.get(e.id.as_str()), "the two forms of one decision come out equal");
    }
}

#[test]
fn an_upload_as_one_record_counts_on() {
    let body = catena_decode::frame::decompress(&uploads()[13], &Default::default()).expect("sound").into_owned();
    let mut seen = Collected::default();
    decoder().record(Format::Auto, &body, &context(), &mut seen);
    assert!(seen.events.iter().enumerate().all(|(i, e)| e.index == i as u32 && e.count == 36));
    assert_eq!(seen.events.len(), 36);
    let apart = decode_body(Format::Opa, &body);
    let ids = |c: &Collected| c.events.iter().map(|e| (e.id.clone(), e.debug.len())).collect::<Vec<_>>();
    assert_eq!(
        ids(&seen).iter().map(|i| &i.0).collect::<Vec<_>>(),
        ids(&apart).iter().map(|i| &i.0).collect::<Vec<_>>()
    );
}

/// Holds the questions of a Cerbos driver against events.
fn check_cerbos(seen: &Collected, folder: &str, allow: usize, deny: usize, step_up: usize) {
    assert_eq!(seen.rejections, []);
    assert_eq!(
        tally(seen.events.iter().map(|e| e.outcome.as_str())),
        counts(&[("allow", allow), ("deny", deny - step_up), ("step_up", step_up)])
    );
    let ids: HashSet<_> = seen.events.iter().map(|e| &e.id).collect();
    assert_eq!(ids.len(), allow + deny);
    let mut by_call: HashMap<&str, Vec<&Seen>> = HashMap::new();
    for e in &seen.events {
        by_call.entry(&e.record).or_default().push(e);
    }
    let mut matched = 0;
    for truth in jsonl(&format!("cerbos/{folder}/driver.jsonl")).iter().filter(|t| t["http"] == 200) {
        let mut events = by_call.remove(text(truth, "call_id")).expect("every call is there").into_iter();
        for expected in truth["expected"].as_array().into_iter().flatten() {
            let actions = expected["actions"].as_object().expect("an object");
            let mut effects = HashMap::new();
            for _ in actions {
                let e = events.next().expect("every action is there");
                assert_eq!((e.requester.as_str(), e.agent.as_str()), (text(truth, "user"), text(truth, "agent")));
                assert_eq!(
                    (e.session.as_str(), e.request.as_str()),
                    (text(truth, "session"), text(truth, "request_id"))
                );
                let tool =
                    if expected["kind"] == "mcp_tool" { format!("{}/{}", e.server, e.tool) } else { e.tool.clone() };
                assert_eq!(tool, text(expected, "tool"));
                assert_eq!(e.resources.is_empty(), expected["kind"] == "mcp_tool");
                let effect = if e.outcome == "allow" { "EFFECT_ALLOW" } else { "EFFECT_DENY" };
                effects.insert(e.action.clone(), effect);
                matched += 1;
            }
            for (action, effect) in actions {
                assert_eq!(effects.get(action).copied(), effect.as_str(), "{truth} {action}");
            }
        }
        assert!(events.next().is_none());
    }
    assert!(by_call.is_empty());
    assert_eq!(matched, allow + deny);
    for e in &seen.events {
        assert_eq!(e.actors.is_empty(), e.agent.is_empty());
        assert!(e.outcome != "step_up" || e.reasons.iter().any(|r| r == "step_up:mfa"), "{e:?}");
    }
}

#[test]
fn cerbos_file() {
    let seen = decode_body(Format::Auto, &corpus("cerbos/file/audit.log.gz"));
    check_cerbos(&seen, "file", 762, 582, 75);
    assert_eq!(tally(seen.asides.iter().map(|a| a.reason)), counts(&[("access_entry", 408), ("query_plan", 8)]));
    let deep = seen.events.iter().filter(|e| e.actors.len() == 3 && e.actors_source == "act_claim").count();
    assert!(deep > 100, "{deep}");
}

#[test]
fn cerbos_server_log() {
    let seen = decode_body(Format::Auto, &corpus("cerbos/file/server.log.gz"));
    assert_eq!(seen.events, []);
    assert_eq!(tally(seen.asides.iter().map(|a| a.reason)), counts(&[("server_log", 830)]));
    // Cerbos writes `peer.address` twice when it could not evaluate a condition or read a token.
    assert_eq!(tally(seen.rejections.iter().map(|r| r.reason)), counts(&[("json_duplicate_key", 49)]));
}

/// Decodes Kafka messages as they were dumped.
fn messages(format: Format, path: &str) -> Collected {
    let (mut decoder, mut seen) = (decoder(), Collected::default());
    for message in jsonl(path) {
        let value = base64::engine::general_purpose::STANDARD.decode(text(&message, "value_b64")).expect("base64");
        let headers: Vec<(&str, &[u8])> = message["headers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|h| (h[0].as_str().unwrap_or_default(), h[1].as_str().unwrap_or_default().as_bytes()))
            .collect();
        decoder.record(format, &value, &Context { headers: &headers, ..context() }, &mut seen);
    }
    seen
}

#[test]
fn cerbos_kafka_json() {
    let seen = messages(Format::Cerbos, "cerbos/kafka-json/messages.jsonl.gz");
    check_cerbos(&seen, "kafka-json", 260, 227, 26);
    assert_eq!(tally(seen.asides.iter().map(|a| a.reason)), counts(&[("access_entry", 150)]));
}

#[test]
fn cerbos_kafka_protobuf() {
    for format in [Format::Auto, Format::Cerbos] {
        let seen = messages(format, "cerbos/kafka-proto/messages.jsonl.gz");
        check_cerbos(&seen, "kafka-proto", 278, 213, 27);
        assert_eq!(tally(seen.asides.iter().map(|a| a.reason)), counts(&[("access_entry", 150)]));
        // Every field of every message has a name: none was passed over.
        assert!(!seen.events.iter().flat_map(|e| &e.flags).any(|f| f.starts_with("protobuf_")));
    }
}

#[test]
fn envoy() {
    let seen = decode_body(Format::Auto, &corpus("envoy/access.jsonl"));
    check_envoy(&seen);
}

/// The same lines as `json_format` writes them: every value text, objects as JSON in text, `-` for what is absent.
#[test]
fn envoy_of_strings() {
    let body: String = jsonl("envoy/access.jsonl")
        .iter()
        .map(|line| {
            let members: serde_json::Map<_, _> = line
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, v)| {
                    let text = match v {
                        Value::Null => "-".to_owned(),
                        Value::String(s) => s.clone(),
                        other => other.to_string(),
                    };
                    (key.clone(), Value::String(text))
                })
                .collect();
            Value::Object(members).to_string() + "\n"
        })
        .collect();
    let seen = decode_body(Format::Auto, body.as_bytes());
    check_envoy(&seen);
}

fn check_envoy(seen: &Collected) {
    assert_eq!(seen.rejections, []);
    assert_eq!(tally(seen.asides.iter().map(|a| a.reason)), counts(&[("not_a_call", 10), ("not_mcp", 1)]));
    // 150 calls, and one request without a token that nobody counted as a call.
    assert_eq!(
        tally(seen.events.iter().map(|e| e.outcome.as_str())),
        counts(&[("allow", 60), ("deny", 77), ("step_up", 14)])
    );
    let by_trace: HashMap<&str, &Seen> = seen.events.iter().map(|e| (e.trace.as_str(), e)).collect();
    let (mut outcomes, mut whole) = (0, 0);
    for truth in jsonl("envoy/driver.jsonl").iter().filter(|t| t["traceparent"].is_string()) {
        let e = by_trace[text(truth, "traceparent").split('-').nth(1).expect("a trace id")];
        assert_eq!(e.outcome, text(truth, "expected"));
        outcomes += 1;
        let of = |key| if truth["decided_by"] == "jwt" { "" } else { text(truth, key) };
        assert_eq!((e.requester.as_str(), e.agent.as_str()), (of("user"), of("agent")));
        assert_eq!((e.session.as_str(), e.tool.as_str()), (of("session"), of("tool")));
        assert!(e.debug.contains(&format!(
            "envoy.{}",
            match text(truth, "decided_by") {
                "opa" => "ext_authz",
                "jwt" => "jwt_authn",
                other => other,
            }
        )));
        if truth["decided_by"] != "jwt" {
            assert_eq!(e.actors, ["agent:root-0", text(truth, "agent")]);
            whole += 1;
        }
    }
    assert_eq!((outcomes, whole), (150, 137));
}

#[test]
fn envoy_in_text_is_refused_line_by_line() {
    let seen = decode_body(Format::Auto, &corpus("envoy/access-default.log"));
    assert_eq!((seen.events.len(), seen.asides.len()), (0, 0));
    assert_eq!(seen.rejections.len(), 162);
}

#[test]
fn opa_behind_envoy_and_behind_a_gateway() {
    let seen = decode_body(Format::Auto, &corpus("envoy/opa-decisions.jsonl"));
    assert_eq!((seen.events.len(), seen.rejections.len(), seen.asides.len()), (111, 0, 1));
    let by_id: HashMap<&str, &Seen> = seen.events.iter().map(|e| (e.id.as_str(), e)).collect();
    for truth in jsonl("envoy/driver.jsonl").iter().filter(|t| t["opa_decision_id"].is_string()) {
        let e = by_id[text(truth, "opa_decision_id")];
        assert_eq!((e.outcome.as_str(), e.requester.as_str()), (text(truth, "expected"), text(truth, "user")));
    }
    let seen = decode_body(Format::Auto, &corpus("mcp/python-sdk/opa-decisions.jsonl"));
    assert_eq!((seen.events.len(), seen.rejections.len(), seen.asides.len()), (120, 0, 1));
    // The driver's calls and the log stand in the same order.
    for (truth, e) in jsonl("mcp/python-sdk/driver.jsonl").iter().zip(&seen.events) {
        assert_eq!((e.outcome.as_str(), e.requester.as_str()), (text(truth, "expected"), text(truth, "user")));
        assert_eq!((e.agent.as_str(), e.tool.as_str()), (text(truth, "agent"), text(truth, "tool")));
        assert_eq!(e.actors.len(), 2);
        assert_eq!(e.version, "r1");
        let args: Value = serde_json::from_str(&e.params).expect("JSON");
        assert_eq!(args, truth["args"]);
    }
}

/// Requests of one run, as JSON and as another's library wrote them in protobuf.
#[test]
fn otlp() {
    let mut decoded = Vec::new();
    for (name, outcomes, asides) in [
        (
            "logs",
            counts(&[("allow", 3), ("deny", 3), ("step_up", 1), ("unknown", 1)]),
            ["llm_request", "not_a_call", "otlp_unrelated"].as_slice(),
        ),
        ("spans", counts(&[("allow", 2), ("deny", 2), ("unknown", 4)]), &["otlp_unrelated", "otlp_unrelated"]),
    ] {
        let protobuf: [(&str, &[u8]); 1] = [("content-type", b"application/x-protobuf")];
        let (mut json, mut binary) = (Collected::default(), Collected::default());
        decoder().record(Format::Auto, &corpus(&format!("otlp/{name}.json")), &context(), &mut json);
        let context = Context { headers: &protobuf, ..context() };
        decoder().record(Format::Auto, &corpus(&format!("otlp/{name}.pb")), &context, &mut binary);
        assert_eq!((&json.rejections, &binary.rejections), (&vec![], &vec![]));
        assert_eq!(tally(json.events.iter().map(|e| e.outcome.as_str())), outcomes);
        let mut reasons: Vec<_> = json.asides.iter().map(|a| a.reason).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, asides);
        assert_eq!(json.events.len(), binary.events.len());
        for (json, binary) in json.events.iter().zip(&binary.events) {
            assert_eq!(json, binary);
        }
        assert_eq!(json.asides, binary.asides);
        decoded.extend(json.events);
    }
    // What the spans of a run hang together by: the tool call under the sub-agent under the agent that the human asked.
    let span = |id: &str| decoded.iter().find(|e| e.id.ends_with(id)).expect("it is there");
    assert_eq!(
        (span("/00f067aa0ba90300").requester.as_str(), span("/00f067aa0ba90302").agent.as_str()),
        ("dana@corp.example", "agent:coder")
    );
    for (child, parent) in [
        ("/00f067aa0ba90304", "00f067aa0ba90303"),
        ("/00f067aa0ba90303", "00f067aa0ba90302"),
        ("/00f067aa0ba90302", "00f067aa0ba90300"),
    ] {
        assert!(span(child).debug.contains(&format!("parent_span: Some(\"{parent}\")")));
    }
}

#[test]
fn agentgateway() {
    for format in [Format::Auto, Format::Agentgateway] {
        let seen = decode_body(format, &corpus("agentgateway/access.jsonl"));
        assert_eq!(seen.rejections, []);
        assert_eq!(
            tally(seen.events.iter().map(|e| e.outcome.as_str())),
            counts(&[("allow", 3), ("deny", 5), ("error", 2)])
        );
        assert_eq!(
            tally(seen.asides.iter().map(|a| a.reason)),
            counts(&[("llm_request", 1), ("not_a_call", 2), ("not_mcp", 1)])
        );
        let disguised =
            seen.events.iter().find(|e| e.reasons.iter().any(|r| r == "unknown_tool_disguise")).expect("it is there");
        assert_eq!(disguised.actors, ["agent:root-0", "agent:claude-code"]);
    }
}

#[test]
fn cloudevents() {
    let structured = decode_body(Format::Auto, &corpus("cloudevents/structured.jsonl"));
    assert_eq!(tally(structured.events.iter().map(|e| e.outcome.as_str())), counts(&[("allow", 3), ("deny", 3)]));
    assert_eq!(tally(structured.rejections.iter().map(|r| r.reason)), counts(&[("tombstone", 1)]));
    // In a batch a record counts its place; nothing else differs, however the envelope stands around the data.
    let (mut batch, binary) = (Collected::default(), messages(Format::Auto, "cloudevents/binary.jsonl"));
    decoder().record(Format::Cloudevents, &corpus("cloudevents/batch.json"), &context(), &mut batch);
    for other in [&batch, &binary] {
        let plain = |c: &Collected| {
            c.events.iter().map(|e| (e.id.clone(), e.time, e.extra.clone(), e.requester.clone())).collect::<Vec<_>>()
        };
        assert_eq!(plain(other), plain(&structured));
        assert_eq!(tally(other.rejections.iter().map(|r| r.reason)), counts(&[("tombstone", 1)]));
    }
}
