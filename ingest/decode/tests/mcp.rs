//! Raw MCP traffic: a real client's exchanges against what its driver knows, and small messages of every shape.

use crate::seen::{Collected, Seen, corpus, decode, decode_body, jsonl};
use catena_decode::Format;
use std::collections::BTreeMap;

fn asides(seen: &Collected) -> Vec<String> {
    let counts = seen.asides.iter().fold(BTreeMap::<&str, usize>::new(), |mut counts, a| {
        *counts.entry(a.reason).or_default() += 1;
        counts
    });
    counts.iter().map(|(reason, n)| format!("{reason} {n}")).collect()
}

#[test]
fn a_real_clients_exchanges() {
    let seen = decode_body(Format::Auto, &corpus("mcp/python-sdk/exchanges.jsonl.gz"));
    assert_eq!(seen.rejections, []);
    assert_eq!(
        asides(&seen),
        ["mcp_initialize 10", "mcp_list 20", "mcp_notification 10", "mcp_session_end 10", "mcp_stream 10"]
    );
    assert!(seen.events.iter().all(|e| (e.kind, e.outcome.as_str()) == ("execution", "unknown")));
    let calls: Vec<&Seen> = seen.events.iter().filter(|e| !e.tool.is_empty()).collect();
    let others: Vec<&str> = seen.events.iter().filter(|e| e.tool.is_empty()).map(|e| e.resources[0].as_str()).collect();
    assert_eq!((calls.len(), others.len()), (120, 10));
    assert_eq!(others.iter().filter(|r| r.starts_with("prompt:")).count(), 5);
    let truth = jsonl("mcp/python-sdk/driver.jsonl");
    let (mut sessions, mut clients) = (0, 0);
    for (truth, e) in truth.iter().zip(&calls) {
        assert_eq!(e.tool, truth["tool"].as_str().unwrap());
        let params = if e.params.is_empty() { "{}" } else { &e.params };
        assert_eq!(serde_json::from_str::<serde_json::Value>(params).unwrap(), truth["args"]);
        // A refusal is an error of JSON-RPC in an HTTP 200: kept as such, and no verdict of anybody's.
        let code = match truth["got"].as_str().unwrap() {
            "deny" => "jsonrpc_error: Some(-32001)",
            "step_up" => "jsonrpc_error: Some(-32002)",
            _ => "jsonrpc_error: None",
        };
        assert!(e.debug.contains(code) && e.debug.contains("http_status: Some(200)"), "{e:?}");
        assert_eq!(e.debug.contains("result_bytes: Some("), truth["got"] == "allow");
        let handshake = truth["mode"] == "legacy";
        assert_eq!(e.debug.contains("mcp: Some("), handshake, "{e:?}");
        assert_eq!(
            e.agent,
            if handshake { "" } else { "mcp" },
            "only the newer protocol names the client in each request"
        );
        let version = if handshake { "2025-11-25" } else { "2026-07-28" };
        assert!(e.debug.contains(&format!("protocol_version: Some(\"{version}\")")));
        assert!(!e.debug.contains("header_contradicts"));
        sessions += usize::from(handshake);
        clients += usize::from(!handshake);
    }
    assert_eq!((sessions, clients), (60, 60));
    for content in ["zoe38@example.test", "Bearer"] {
        assert!(!seen.events.iter().any(|e| e.debug.contains(content)), "{content} has got through");
    }
}

/// Says what a record becomes: executions with method, target, id, error, size, reasons and flags, or the reasons of asides.
fn check(record: &str, expected: &str) {
    let seen = decode(Format::Auto, record.as_bytes());
    let field = |debug: &str, name: &str| {
        let from = debug.find(&format!("{name}: Some("))? + name.len() + 7;
        Some(debug[from..].split(')').next()?.trim_matches('"').to_owned())
    };
    let mut lines = Vec::new();
    for e in &seen.events {
        let mut line = format!("{} {}{}", field(&e.debug, "method").unwrap_or_default(), e.tool, e.resources.join(","));
        for name in ["jsonrpc_id", "jsonrpc_error", "result_bytes", "state_in", "state_out", "task", "protocol_version"]
        {
            if let Some(value) = field(&e.debug, name) {
                line += &format!(" {name}={value}");
            }
        }
        for (name, value) in [("agent", &e.agent), ("trace", &e.trace), ("params", &e.params), ("extra", &e.extra)] {
            if !value.is_empty() {
                line += &format!(" {name}={value}");
            }
        }
        if e.count > 1 {
            line += &format!(" {}/{}", e.index, e.count);
        }
        for list in [&e.reasons, &e.flags] {
            list.iter().for_each(|word| line += &format!(" {word}"));
        }
        lines.push(line);
    }
    lines.extend(seen.asides.iter().map(|a| format!("aside {} {}", a.reason, a.detail)));
    lines.extend(seen.rejections.iter().map(|r| format!("reject {} {}", r.reason, r.detail)));
    assert_eq!(lines.join("\n"), expected, "{record}");
}

#[test]
fn messages_one_by_one() {
    check(
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t","arguments":{"a":1}}}"#,
        r#"tools/call t jsonrpc_id=7 params={"a":1} time_missing id_missing"#,
    );
    check(
        r#"{"ts":1795219800,"direction":"client_to_server","message":{"jsonrpc":"2.0","id":"x","method":"resources/read","params":{"uri":"file:///a"}}}"#,
        r#"resources/read file:///a jsonrpc_id=x extra={"direction":"client_to_server"} id_missing"#,
    );
    check(
        r#"{"id":"m1","time":"2026-11-21T00:00:00Z","direction":"in","message":"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"prompts/get\",\"params\":{\"name\":\"p\"}}"}"#,
        r#"prompts/get prompt:p jsonrpc_id=1 extra={"direction":"in"}"#,
    );
    check(r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, "aside mcp_answer an answer without its request");
    check(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#, "aside mcp_notification notifications/progress");
    // A call without an id asks for no answer, and is none.
    check(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"t"}}"#, "aside mcp_notification tools/call");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, "aside mcp_ping ping");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "aside mcp_list tools/list");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete"}"#, "aside mcp_other completion/complete");
    check(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#, "tools/call  jsonrpc_id=1 time_missing id_missing");
    check(r#"{"jsonrpc":"1.0","id":1,"method":"tools/call"}"#, "reject shape_unknown members: jsonrpc, id, method");
}

const HEAD: &str = r#""t":1795219800,"status":200,"request_headers":{},"#;

fn exchange(request: &str, answer: &str, expected: &str) {
    let text = |s: &str| serde_json::Value::from(s).to_string();
    check(&format!("{{{HEAD}\"request_body\":{},\"response_body\":{}}}", text(request), text(answer)), expected);
}

#[test]
fn exchanges() {
    const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
    exchange(CALL, "", "tools/call t jsonrpc_id=7 id_missing");
    exchange(
        CALL,
        r#"{"jsonrpc":"2.0","id":7,"result":{"isError":true}}"#,
        "tools/call t jsonrpc_id=7 result_bytes=16 tool_error id_missing",
    );
    // An answer to something else is none to this.
    exchange(CALL, r#"{"jsonrpc":"2.0","id":"7","result":{}}"#, "tools/call t jsonrpc_id=7 id_missing");
    exchange(
        CALL,
        r#"{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage"}"#,
        "tools/call t jsonrpc_id=7 id_missing",
    );
    exchange(
        CALL,
        ": hello\n\nevent: message\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\"}\n\ndata: {\"jsonrpc\":\"2.0\",\ndata: \"id\":7,\"error\":{\"code\":-32602,\"message\":\"no\"}}\n\n",
        r#"tools/call t jsonrpc_id=7 jsonrpc_error=-32602 extra={"error":{"message":"no"}} id_missing"#,
    );
    exchange(
        CALL,
        "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"res",
        "tools/call t jsonrpc_id=7 answer_unreadable id_missing",
    );
    exchange(CALL, "<html>bad gateway", "tools/call t jsonrpc_id=7 answer_unreadable id_missing");
    exchange("{nonsense", "", "reject message_unreadable `request_body`: json_syntax");
    exchange("", "", "aside mcp_no_message ");
    exchange(
        &format!("[{CALL},{{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"ping\"}}]"),
        r#"[{"jsonrpc":"2.0","id":7,"result":{}},{"jsonrpc":"2.0","id":8,"result":{}}]"#,
        "tools/call t jsonrpc_id=7 result_bytes=2 0/2 id_missing\naside mcp_ping ping",
    );
}

/// A server that does not know the session answers without the request's id, often with a 404.
#[test]
fn an_error_that_goes_by_another_id_answers_the_only_request() {
    const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}"#;
    const ERROR: &str = r#""error":{"code":-32001,"message":"Session not found"}"#;
    let told = r#"tools/call t jsonrpc_id=7 jsonrpc_error=-32001 extra={"error":{"message":"Session not found"}} answer_id_differs id_missing"#;
    for id in [r#""id":null,"#, r#""id":"server-error","#, ""] {
        exchange(CALL, &format!(r#"{{"jsonrpc":"2.0",{id}{ERROR}}}"#), told);
    }
    exchange(
        CALL,
        &format!(r#"{{"jsonrpc":"2.0","id":7,{ERROR}}}"#),
        r#"tools/call t jsonrpc_id=7 jsonrpc_error=-32001 extra={"error":{"message":"Session not found"}} id_missing"#,
    );
    // Of several nobody can say whose it is.
    let stray = format!(r#"{{"jsonrpc":"2.0","id":null,{ERROR}}}"#);
    exchange(
        &format!("[{CALL},{}]", CALL.replace('7', "8")),
        &stray,
        "tools/call t jsonrpc_id=7 0/2 id_missing\ntools/call t jsonrpc_id=8 1/2 id_missing",
    );
    exchange(CALL, &format!("[{stray},{stray}]"), "tools/call t jsonrpc_id=7 id_missing");
}

#[test]
fn arguments_that_are_no_object_are_kept() {
    for (arguments, kept) in [
        (
            r#"[1,"keepme"]"#,
            r#" extra={"params":{"arguments":[1,"keepme"]}} time_missing id_missing invalid:call.params"#,
        ),
        (r#""keepme""#, r#" extra={"params":{"arguments":"keepme"}} time_missing id_missing invalid:call.params"#),
        ("null", " time_missing id_missing"),
        ("{}", " time_missing id_missing"),
    ] {
        check(
            &format!(
                r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#
            ),
            &format!("tools/call t jsonrpc_id=7{kept}"),
        );
    }
}

#[test]
fn what_a_request_says_of_itself() {
    let digest = |handle: &str| catena_decode::Redactor::new(crate::seen::KEY).digest(handle);
    exchange(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","requestState":"opaque","_meta":{
            "traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"v=1",
            "io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"2"},
            "io.modelcontextprotocol/related-task":{"taskId":"task-1"}}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"requestState":"next"}}"#,
        &"tools/call t jsonrpc_id=1 result_bytes=23 state_in=STATE state_out=NEXT task=task-1 protocol_version=2026-07-28 agent=c \
         trace=4bf92f3577b34da6a3ce929d0e0e4736 extra={\"params\":{\"_meta\":{\"tracestate\":\"v=1\"}}} id_missing"
            .replace("STATE", &digest("opaque"))
            .replace("NEXT", &digest("next")),
    );
}

/// The header names another tool than the body: the body is what was called, and the difference is seen.
#[test]
fn headers_that_contradict_are_flagged() {
    check(
        r#"{"t":1795219800,"request_headers":{"Mcp-Method":"tools/call","Mcp-Name":"harmless"},"request_body":{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_all"}}}"#,
        r#"tools/call delete_all jsonrpc_id=1 extra={"request_headers":{"Mcp-Name":"harmless"}} id_missing header_contradicts"#,
    );
}

#[test]
fn a_bearer_token_is_kept_as_a_digest_only() {
    let record = |token: &str| {
        format!(
            r#"{{"t":1795219800,"request_headers":{{"authorization":"Bearer {token}","cookie":"sid=hunter2-very-long"}},"request_body":{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t"}}}}}}"#
        )
    };
    let picture = |token| decode(Format::Auto, record(token).as_bytes()).events[0].debug.clone();
    let one = picture("9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    assert!(one.contains("reference: Some(\"hmac:") && !one.contains("9tGk2LmQ") && !one.contains("hunter2"), "{one}");
    assert_eq!(one, picture("9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae"));
    assert!(picture("<removed>").contains("reference: None"), "what a recorder left in its place is no token");
}

/// What is kept of a refused record is the record: mended, or under a version that reads its time, a retry finds the call in it.
#[test]
fn a_refused_exchange_is_kept_as_it_came() {
    let record = r#"{"t":"yesterday","status":200,"request_headers":{"authorization":"Bearer 9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae"},"request_body":"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"t\"}}","response_body":"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}"}"#;
    let harmless = record.replace(r#""authorization":"Bearer 9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae""#, r#""accept":"*/*""#);
    for record in [record, &harmless] {
        let seen = decode(Format::Auto, record.as_bytes());
        assert_eq!((seen.events.len(), seen.rejections.len(), seen.rejections[0].reason), (0, 1, "time_invalid"));
        let kept = String::from_utf8(seen.rejections[0].raw.clone().expect("kept")).expect("text");
        assert!(!kept.contains("9tGk2LmQ"), "{kept}");
        if !record.contains("Bearer") {
            assert_eq!(kept, record);
        }
        let mended = decode(Format::Auto, kept.replace("\"yesterday\"", "1795219800").as_bytes());
        assert_eq!((mended.events.len(), mended.events[0].tool.as_str(), mended.rejections.len()), (1, "t", 0));
        assert!(mended.events[0].debug.contains("result_bytes: Some(2)"));
    }
}
