//! Producers that are only data: one line per decision, one case per trap.

use crate::seen::{Collected, Seen, decode};
use catena_decode::Format;
use serde_json::Value;

/// What matters of an event, on a line: outcome, basis, what was enforced, phase; who, through whom, on what; the rest.
fn line(e: &Seen) -> String {
    let native: Value = serde_json::from_str(&e.native).expect("JSON");
    let at = |pointer: &str| native.pointer(pointer).map(|v| v.as_str().map_or(v.to_string(), str::to_owned));
    let or = |pointer: &str| at(pointer).unwrap_or("-".into());
    let mut line = format!(
        "{} {} {} {} | {}({}) > {}({}) > {}/{}",
        e.outcome,
        or("/decision/basis"),
        or("/decision/enforced"),
        or("/decision/phase"),
        or("/requester/id"),
        or("/requester/kind"),
        if e.actors.is_empty() { "-".into() } else { e.actors.join(",") },
        or("/actors/0/kind"),
        or("/server/name"),
        or("/tool/name"),
    );
    for (name, pointer) in [
        ("action", "/tool/action"),
        ("method", "/call/method"),
        ("params", "/call/params"),
        ("roles", "/requester/roles"),
        ("assurance", "/requester/assurance"),
        ("via", "/actors_source"),
        ("session", "/session/id"),
        ("rpc", "/call/jsonrpc_id"),
        ("rpc_error", "/call/jsonrpc_error"),
        ("scope", "/token/scope"),
        ("proof", "/token/proof"),
        ("trace", "/links/trace"),
    ] {
        if let Some(v) = at(pointer).filter(|v| name != "assurance" || v == "verified") {
            line += &format!(" {name}={v}");
        }
    }
    for (name, list) in [("reasons", &e.reasons), ("resources", &e.resources), ("flags", &e.flags)] {
        if !list.is_empty() {
            line += &format!(" {name}={}", list.join(","));
        }
    }
    line
}

pub(crate) fn told(seen: &Collected) -> String {
    let refused = |kind: &str, r: &catena_schemas::rows::Rejection| format!("{kind} {} {}", r.reason, r.detail);
    let lines: Vec<String> = seen
        .events
        .iter()
        .map(line)
        .chain(seen.rejections.iter().map(|r| refused("reject", r)))
        .chain(seen.entries.iter().map(|e| format!("authority {}", e.0.split(' ').next().unwrap_or_default())))
        .chain(seen.asides.iter().map(|r| refused("aside", r)))
        .collect();
    lines.join("\n")
}

/// Decodes a record as its own format and as one to be recognised: both must say what is expected.
fn check(format: Format, record: &str, expected: &str) {
    let own = decode(format, record.as_bytes());
    assert_eq!(told(&own).trim(), expected.trim(), "{record}");
    let recognised = decode(Format::Auto, record.as_bytes());
    assert_eq!(told(&recognised).trim(), expected.trim(), "recognised: {record}");
}

#[test]
fn authzen() {
    let ask = |action: &str, resource: &str, response: &str| {
        format!(
            r#"{{"request_id":"r1","time":"2026-11-20T14:03:11.482Z","server":{{"name":"tickets"}},"request":{{"subject":{{"type":"identity","id":"dana"}},"action":{{"name":"{action}"}},"resource":{resource},"context":{{"agent":"cc"}}}},"response":{response}}}"#
        )
    };
    let tool = r#"{"type":"tool","id":"delete_ticket"}"#;
    let z = |record: &str, expected: &str| check(Format::Authzen, record, expected);
    z(
        &ask("tools/call", tool, r#"{"decision":false,"context":{"id":"0","reason_admin":{"en":"policy mcp-7"}}}"#),
        "deny explicit - invoke | dana(-) > cc(agent) > tickets/delete_ticket method=tools/call via=declared reasons=policy mcp-7",
    );
    z(
        &ask("tools/call", tool, r#"{"decision":true}"#),
        "allow explicit - invoke | dana(-) > cc(agent) > tickets/delete_ticket method=tools/call via=declared",
    );
    // An error is answered with `false`, and is none.
    z(
        &ask("tools/call", tool, r#"{"decision":false,"context":{"error":{"status":500,"message":"x"}}}"#),
        "error explicit - invoke | dana(-) > cc(agent) > tickets/delete_ticket method=tools/call via=declared reasons=decision_point_error",
    );
    z(
        &ask("tools/call", tool, r#"{"error":"timeout"}"#),
        "unknown inferred - invoke | dana(-) > cc(agent) > tickets/delete_ticket method=tools/call via=declared reasons=answer_missing",
    );
    z(
        &ask("tools/list", r#"{"type":"mcp_server","id":"https://t.example"}"#, r#"{"decision":true}"#),
        "allow explicit - list | dana(-) > cc(agent) > tickets/- method=tools/list via=declared",
    );
    z(
        &ask("can_read", r#"{"type":"account","id":"a-1"}"#, r#"{"decision":true}"#),
        "allow explicit - - | dana(-) > cc(agent) > tickets/- action=can_read via=declared resources=a-1",
    );
}

#[test]
fn authzen_between_gateway_and_decision_point() {
    let ask = |request: &str, response: &str| {
        format!(r#"{{"request_id":"r1","time":"2026-11-20T14:03:11.482Z","request":{{{request}}}{response}}}"#)
    };
    let z = |record: &str, expected: &str| check(Format::Authzen, record, expected);
    let dana = r#""subject":{"type":"user","id":"dana","properties":{"ip_address":"10.0.0.7"}}"#;
    let server = r#""resource":{"type":"mcp_server","id":"https://t.example"}"#;
    let (starts, pings) = (r#""action":{"name":"initialize"}"#, r#""action":{"name":"ping"}"#);
    let yes = r#","response":{"decision":true}"#;
    z(
        &ask(&format!("{dana},{starts},{server}"), yes),
        "allow explicit - session | dana(human) > -(-) > -/- method=initialize",
    );
    z(&ask(&format!("{dana},{pings},{server}"), yes), "allow explicit - - | dana(human) > -(-) > -/- method=ping");
    // A reason may be a text, and an answer may be missing.
    let call = format!(r#"{dana},"action":{{"name":"tools/call"}},"resource":{{"type":"tool","id":"t"}}"#);
    for reason in [r#"{"reason_admin":"no"}"#, r#"{"reason_user":"no"}"#, r#"{"reason_user":{"en":"no"}}"#] {
        z(
            &ask(&call, &format!(r#","response":{{"decision":false,"context":{reason}}}"#)),
            "deny explicit - invoke | dana(human) > -(-) > -/t method=tools/call reasons=no",
        );
    }
    let unanswered = "unknown inferred - invoke | dana(human) > -(-) > -/t method=tools/call reasons=answer_missing";
    z(&ask(&call, r#","response":null"#), unanswered);
    z(&ask(&call, ""), unanswered);
    // A search answers which, not whether.
    let found = r#","response":{"results":[{"type":"tool","id":"t"}]}"#;
    z(&ask(&call, found), "aside not_a_decision tools/call");
    z(&ask(&format!("{dana},{server}"), found), "aside not_a_decision");
    // Several questions at once: what stands above them counts for those that say nothing else.
    let batch = |evaluations: &str| format!(r#"{dana},{starts},{server},"evaluations":[{evaluations}]"#);
    let tool =
        r#"{"subject":{"type":"user","id":"eve"},"action":{"name":"tools/call"},"resource":{"type":"tool","id":"t"}}"#;
    let both = ask(
        &batch(&format!("{{}},{tool}")),
        r#","response":{"evaluations":[{"decision":true},{"decision":false,"context":{"reason_admin":"no"}}]}"#,
    );
    z(
        &both,
        "allow explicit - session | dana(human) > -(-) > -/- method=initialize\n\
         deny explicit - invoke | eve(human) > -(-) > -/t method=tools/call reasons=no",
    );
    let seen = decode(Format::Auto, both.as_bytes());
    let native: Vec<Value> = seen.events.iter().map(|e| serde_json::from_str(&e.native).expect("JSON")).collect();
    let at = |pointer: &str| native.iter().map(|n| n.pointer(pointer).cloned().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!(at("/call/protocol"), ["mcp", "mcp"]);
    assert_eq!(at("/network/ip"), [Value::from("10.0.0.7"), Value::Null]);
    assert_eq!(at("/server/id"), [Value::from("https://t.example"), Value::Null]);
    // The request as a whole fails, or is not answered.
    let one = batch(tool);
    z(
        &ask(&one, r#","response":{"context":{"error":{"status":500}}}"#),
        "error explicit - invoke | eve(human) > -(-) > -/t method=tools/call reasons=decision_point_error",
    );
    z(&ask(&one, ""), "unknown inferred - invoke | eve(human) > -(-) > -/t method=tools/call reasons=answer_missing");
}

/// The context is whatever its author likes; only the wrapper says when it was.
#[test]
fn authzen_contexts_need_not_hold_a_time() {
    let ask = |wrapper: &str, asked: &str, time: &str| {
        format!(
            r#"{{"request_id":"r1",{wrapper}"request":{{"subject":{{"type":"user","id":"dana"}},"action":{{"name":"can_read"}},{asked},"context":{{"time":{time}}}}},"response":{{"decision":true}}}}"#
        )
    };
    let one = r#""resource":{"type":"doc","id":"d"}"#;
    let batch = r#""evaluations":[{"resource":{"type":"doc","id":"d"}}]"#;
    for asked in [one, batch] {
        for time in [r#""1985-10-26T01:22-07:00""#, r#""noon""#, r#"{"hour":3}"#, "true"] {
            let seen = decode(Format::Auto, ask("", asked, time).as_bytes());
            assert_eq!(seen.rejections, [], "{time}");
            assert_eq!(seen.events[0].flags, ["time_missing"], "{time}");
            assert!(seen.events[0].extra.contains(&format!(r#""time":{time}"#)), "{}", seen.events[0].extra);
        }
        let seen = decode(Format::Auto, ask("", asked, r#""2026-11-20T14:03:11Z""#).as_bytes());
        assert!(seen.events[0].flags.is_empty() && !seen.events[0].extra.contains("14:03"));
        let seen = decode(Format::Auto, ask(r#""time":"soon","#, asked, r#""2026-11-20T14:03:11Z""#).as_bytes());
        assert_eq!(seen.rejections[0].reason, "time_invalid");
    }
}

#[test]
fn authzen_evaluations() {
    let ask = |evaluations: &str, response: &str| {
        format!(
            r#"{{"request_id":"r1","time":"2026-11-20T14:03:11.482Z","request":{{"subject":{{"type":"user","id":"dana"}},"action":{{"name":"tools/call"}},"context":{{"agent":"cc"}},"evaluations":{evaluations},"options":{{"evaluations_semantic":"deny_on_first_deny"}}}},"response":{response}}}"#
        )
    };
    let z = |record: &str, expected: &str| check(Format::Authzen, record, expected);
    let tool = |name: &str| format!(r#"{{"resource":{{"type":"tool","id":"{name}"}}}}"#);
    let three = format!("[{},{},{}]", tool("a"), tool("b"), tool("c"));
    // A decision point that stops at the first denial decides nothing of the rest.
    z(
        &ask(&three, r#"{"evaluations":[{"decision":true},{"decision":false,"context":{"reason":"no"}}]}"#),
        "allow explicit - invoke | dana(human) > cc(agent) > -/a method=tools/call via=declared\n\
         deny explicit - invoke | dana(human) > cc(agent) > -/b method=tools/call via=declared reasons=no\n\
         unknown inferred - invoke | dana(human) > cc(agent) > -/c method=tools/call via=declared reasons=not_evaluated",
    );
    z(
        &ask(&format!("[{}]", tool("a")), r#"{"error":"x"}"#),
        "unknown inferred - invoke | dana(human) > cc(agent) > -/a method=tools/call via=declared reasons=answer_missing",
    );
    // What a question has of its own stands for the whole of what is above it.
    z(
        &ask(
            r#"[{"subject":{"type":"service","id":"s"},"action":{"name":"can_read"},"resource":{"type":"doc","id":"d"},"context":{}}]"#,
            r#"{"evaluations":[{"decision":false,"context":{"error":{"status":404}}}]}"#,
        ),
        "error explicit - - | s(service) > -(-) > -/- action=can_read reasons=decision_point_error resources=d",
    );
    let seen = decode(Format::Auto, ask(&three, r#"{"evaluations":[]}"#).as_bytes());
    let places: Vec<_> = seen.events.iter().map(|e| (e.id.as_str(), e.record.as_str(), e.index, e.count)).collect();
    assert_eq!(places, [("r1/0", "r1", 0, 3), ("r1/1", "r1", 1, 3), ("r1/2", "r1", 2, 3)]);
    // Without questions of their own there is one.
    z(
        &ask("[]", r#"{"decision":true}"#),
        "allow explicit - invoke | dana(human) > cc(agent) > -/- method=tools/call via=declared",
    );
}

const FGA: &str = r#""level":"info","timestamp":"2026-11-20T14:03:11.482Z","msg":"grpc_req_complete","build.commit":"none","grpc_service":"openfga.v1.OpenFGAService""#;

fn openfga(rest: &str, expected: &str) {
    check(Format::Openfga, &format!("{{{FGA},\"request_id\":\"r1\",{rest}}}"), expected);
}

#[test]
fn openfga_checks() {
    let asked = r#""grpc_method":"Check","raw_request":{"store_id":"s","tuple_key":{"user":"user:dana","relation":"can_call","object":"mcp_tool:tickets/delete_ticket"},"context":{"agent":"agent:cc"}}"#;
    let who = "user:dana(human) > agent:cc(agent) > tickets/delete_ticket action=can_call via=declared";
    let on = "resources=mcp_tool:tickets/delete_ticket";
    // A denial comes with the code for success.
    openfga(
        &format!(r#"{asked},"raw_response":{{"allowed":false,"resolution":""}},"grpc_code":0,"trace_id":"""#),
        &format!("deny explicit - invoke | {who} {on}"),
    );
    openfga(
        &format!(r#"{asked},"raw_response":{{"allowed":true}},"grpc_code":0,"query_duration_ms":"3""#),
        &format!("allow explicit - invoke | {who} {on}"),
    );
    openfga(
        &format!(r#"{asked},"raw_response":{{"code":"validation_error"}},"grpc_code":2000,"error":"x""#),
        &format!("error explicit - invoke | {who} reasons=check_error,validation_error {on}"),
    );
    openfga(
        &format!(r#"{asked},"raw_response":null,"grpc_code":0"#),
        &format!("unknown inferred - invoke | {who} reasons=answer_missing {on}"),
    );
    // An error without a code is one all the same, and an empty text is none.
    for failed in
        [r#""internal_error":"datastore""#, r#""error":"x","grpc_code":null"#, r#""grpc_code":"","internal_error":"x""#]
    {
        openfga(
            &format!(r#"{asked},"raw_response":{{"allowed":false}},{failed}"#),
            &format!("error explicit - invoke | {who} reasons=check_error {on}"),
        );
    }
    openfga(
        &format!(r#"{asked},"raw_response":{{"allowed":false}},"error":"","internal_error":"""#),
        &format!("deny explicit - invoke | {who} {on}"),
    );
    // An object of another type is no tool.
    openfga(
        r#""grpc_method":"Check","raw_request":{"tuple_key":{"user":"agent:cc","relation":"viewer","object":"doc:1"}},"raw_response":{"allowed":true},"grpc_code":0"#,
        "allow explicit - invoke | -(-) > agent:cc(agent) > -/- action=viewer via=declared resources=doc:1",
    );
    for method in ["ListObjects", "ListUsers", "Expand", "Read", "ReadChanges"] {
        openfga(&format!(r#""grpc_method":"{method}","grpc_code":0"#), &format!("aside not_a_check {method}"));
    }
    openfga(
        r#""grpc_method":"Write","grpc_code":0"#,
        "aside authority_write without `raw_request`: what was written is not in the log",
    );
    // Streamed lists append one answer after another under one name: what two readers would read differently is refused.
    let twice = format!(
        r#"{{{FGA},"grpc_method":"StreamedListObjects","raw_response":{{"object":"a"}},"raw_response":{{"object":"b"}}}}"#
    );
    let seen = decode(Format::Auto, twice.as_bytes());
    assert_eq!(seen.rejections[0].reason, "json_duplicate_key");
    // Unix seconds as text are the default.
    let seconds = format!(
        r#"{{{},"grpc_method":"Check","raw_response":{{"allowed":true}}}}"#,
        FGA.replace("2026-11-20T14:03:11.482Z", "1795183391.4825")
    );
    assert_eq!(decode(Format::Openfga, seconds.as_bytes()).events[0].time.0, 1_795_183_391_482_500);
}

#[test]
fn openfga_batches() {
    let check = |id: &str| {
        format!(
            r#"{{"tuple_key":{{"user":"agent:cc","relation":"r","object":"tool:s/{id}"}},"correlation_id":"{id}"}}"#
        )
    };
    let asked = format!(
        r#""grpc_method":"BatchCheck","raw_request":{{"checks":[{},{},{},{}]}}"#,
        check("a"),
        check("b"),
        check("c"),
        check("d")
    );
    let who = |id: &str| format!("-(-) > agent:cc(agent) > s/{id} action=r via=declared");
    openfga(
        &format!(
            r#"{asked},"raw_response":{{"result":{{"c":{{"error":{{"input_error":"invalid_x"}}}},"b":{{"allowed":true}},"a":{{"allowed":false}}}}}},"grpc_code":0"#
        ),
        &format!(
            "deny explicit - invoke | {} resources=tool:s/a\n\
             allow explicit - invoke | {} resources=tool:s/b\n\
             error explicit - invoke | {} reasons=check_error,invalid_x resources=tool:s/c\n\
             unknown inferred - invoke | {} reasons=answer_missing resources=tool:s/d",
            who("a"),
            who("b"),
            who("c"),
            who("d")
        ),
    );
    openfga(r#""grpc_method":"BatchCheck","raw_request":{"checks":[]}"#, "aside items_none /raw_request/checks");
    openfga(
        r#""grpc_method":"BatchCheck","raw_request":{"checks":7}"#,
        "reject items_invalid `/raw_request/checks` is a number",
    );
}

fn teleport(rest: &str, expected: &str) {
    let record = format!(
        r#"{{"ei":1,"event":"mcp.session.request","uid":"u1","time":"2026-11-20T14:03:11.482Z","cluster_name":"c","sid":"s1","app_name":"tickets",{rest}}}"#
    );
    check(Format::Teleport, &record, expected);
}

#[test]
fn teleport_requests() {
    let call = r#""message":{"jsonrpc":"2.0","method":"tools/call","id":"int64:12","params":{"name":"delete_ticket","arguments":{"ticket":"T-1"}}}"#;
    let human = r#""user":"dana","user_kind":1,"user_roles":["support"]"#;
    let told = r#"dana(human) > -(-) > tickets/delete_ticket method=tools/call params={"ticket":"T-1"} roles=["support"] assurance=verified session=s1 rpc=12"#;
    teleport(
        &format!(r#""code":"TMCP003E",{human},{call},"success":false,"error":"access denied to MCP tool""#),
        &format!("deny explicit blocked invoke | {told} reasons=access_denied,access denied to MCP tool"),
    );
    teleport(
        &format!(
            r#""code":"TMCP003E",{human},{call},"status":{{"success":false,"error":"access denied to MCP tool"}}"#
        ),
        &format!("deny explicit blocked invoke | {told} reasons=access_denied,access denied to MCP tool"),
    );
    teleport(
        &format!(r#""code":"TMCP003E",{human},{call},"success":false,"error":"connection reset""#),
        &format!("error inferred - invoke | {told} reasons=request_failed,connection reset"),
    );
    teleport(
        &format!(r#""code":"TMCP003I",{human},{call},"success":true"#),
        &format!("allow explicit forwarded invoke | {told}"),
    );
    // Without a status the code's last letter says whether it failed.
    teleport(&format!(r#""code":"TMCP003I",{human},{call}"#), &format!("allow inferred - invoke | {told}"));
    teleport(
        &format!(r#""code":"TMCP003E",{human},{call}"#),
        &format!("error inferred - invoke | {told} reasons=request_failed"),
    );
    teleport(
        &format!(r#""code":"TMCP003I","user":"bot-ci","user_kind":2,"bot_name":"ci",{call},"success":true"#),
        r#"allow explicit forwarded invoke | bot-ci(bot) > ci(bot) > tickets/delete_ticket method=tools/call params={"ticket":"T-1"} assurance=verified via=declared session=s1 rpc=12"#,
    );
    teleport(
        &format!(r#""code":"TMCP003I","user":"dana","user_kind":1,"impersonator":"helper",{call},"success":true"#),
        r#"allow explicit forwarded invoke | dana(human) > helper(-) > tickets/delete_ticket method=tools/call params={"ticket":"T-1"} assurance=verified via=impersonation session=s1 rpc=12"#,
    );
    teleport(
        r#""code":"TMCP003I","user":"dana","user_kind":1,"message":{"method":"initialize","id":"string:a","params":{"protocolVersion":"2025-06-18","clientInfo":{"name":"cc","version":"2.3"}}},"success":true"#,
        "allow explicit forwarded session | dana(human) > cc(client) > tickets/- method=initialize assurance=verified via=declared session=s1 rpc=a",
    );
    teleport(
        r#""code":"TMCP003E","user":"dana","user_kind":1,"message":{"method":"tools/list","id":7},"success":false,"error":"access denied""#,
        "deny explicit blocked list | dana(human) > -(-) > tickets/- method=tools/list assurance=verified session=s1 rpc=7 reasons=access_denied,access denied",
    );
    let other = |event: &str| format!(r#"{{"event":"{event}","code":"T1I","uid":"u","time":"2026-11-20T14:03:11Z"}}"#);
    for event in ["mcp.session.end", "mcp.session.notification"] {
        check(Format::Teleport, &other(event), &format!("aside session_event {event}"));
    }
    check(Format::Teleport, &other("user.login"), "aside not_mcp user.login");
}

/// Where the status stands, and how much of it is there, differs between releases.
#[test]
fn teleport_says_in_many_ways_that_it_refused() {
    let call = r#""user":"dana","message":{"method":"tools/call","id":7,"params":{"name":"t"}}"#;
    let told = "dana(-) > -(-) > tickets/t method=tools/call assurance=verified session=s1 rpc=7";
    let denied = "access denied to MCP tool";
    for status in [
        format!(r#""code":"TMCP003E","error":"{denied}""#),
        format!(r#""code":"TMCP003E","status":{{"error":"{denied}"}}"#),
        format!(r#""code":"TMCP003E","status":{{"success":false}},"error":"{denied}""#),
        format!(r#""code":"TMCP003E","success":false,"status":{{"error":"{denied}"}}"#),
        format!(r#""error":"{denied}""#),
    ] {
        teleport(
            &format!("{call},{status}"),
            &format!("deny explicit blocked invoke | {told} reasons=access_denied,{denied}"),
        );
    }
    // What failed was not refused, and what succeeded was not either.
    teleport(
        &format!(r#"{call},"code":"TMCP003I","status":{{"error":"reset"}}"#),
        &format!("error inferred - invoke | {told} reasons=request_failed,reset"),
    );
    teleport(&format!(r#"{call},"success":true,"error":"""#), &format!("allow explicit forwarded invoke | {told}"));
    teleport(
        r#""code":"TMCP003E","user":"dana","message":{"method":"ping","id":7},"error":"reset""#,
        "error inferred - - | dana(-) > -(-) > tickets/- method=ping assurance=verified session=s1 rpc=7 reasons=request_failed,reset",
    );
    // Neither an id nor a code is needed to read it.
    let bare = r#"{"event":"mcp.session.request","time":"2026-11-20T14:03:11.482Z","app_name":"tickets","sid":"s1","user":"dana","message":{"method":"tools/call","id":7,"params":{"name":"t"}},"success":true}"#;
    check(Format::Teleport, bare, &format!("allow explicit forwarded invoke | {told} flags=id_missing"));
}

/// Whether a session may begin is decided too, and only there stand the session of MCP and the address.
#[test]
fn teleport_sessions() {
    let start = |rest: &str| {
        format!(
            r#"{{"event":"mcp.session.start","uid":"u1","time":"2026-11-20T14:03:11.482Z","cluster_name":"c","sid":"s1","mcp_session_id":"m-1","addr.remote":"10.0.0.7:443","user":"dana","user_kind":1,"app_name":"tickets",{rest}}}"#
        )
    };
    let told = "session | dana(human) > -(-) > tickets/- assurance=verified session=s1";
    let t = |rest: &str, expected: &str| check(Format::Teleport, &start(rest), expected);
    t(r#""code":"TMCP001I""#, &format!("allow inferred - {told}"));
    t(r#""code":"TMCP001I","success":true"#, &format!("allow explicit forwarded {told}"));
    t(
        r#""code":"TMCP001E","success":false,"error":"access denied to app""#,
        &format!("deny explicit blocked {told} reasons=access_denied,access denied to app"),
    );
    // One that failed for another reason, or for none that is told, was not refused for all that is known.
    t(r#""code":"TMCP001E""#, &format!("error inferred - {told} reasons=request_failed"));
    let seen = decode(Format::Auto, start(r#""code":"TMCP001I""#).as_bytes());
    let native: Value = serde_json::from_str(&seen.events[0].native).expect("JSON");
    assert_eq!((&native["session"]["mcp"], &native["network"]["ip"]), (&"m-1".into(), &"10.0.0.7".into()));
}

/// The same events, flagged as CloudTrail's all are.
fn in_whole_seconds(expected: &str) -> String {
    let fact = |line: &&str| !["aside ", "reject ", "authority "].iter().any(|other| line.starts_with(other));
    let lines = expected.lines().map(|line| match Some(line).filter(fact) {
        Some(event) => format!("{event} flags=time_whole_seconds"),
        None => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn cloudtrail_verified_permissions() {
    let event = |name: &str, rest: &str| {
        format!(
            r#"{{"eventVersion":"1.08","userIdentity":{{"arn":"arn:aws:sts::1:assumed-role/gw/i"}},"eventTime":"2026-11-20T14:03:11Z","eventSource":"verifiedpermissions.amazonaws.com","eventName":"{name}","eventID":"e1","requestID":"q1",{rest}}}"#
        )
    };
    let asked = r#""action":{"actionType":"Corp::Action","actionId":"CallTool"},"resource":{"entityType":"Corp::Tool","entityId":"tickets/delete_ticket"},"policyStoreId":"PS1""#;
    let dana = r#""principal":{"entityType":"Corp::User","entityId":"dana"}"#;
    let c = |record: &str, expected: &str| check(Format::Cloudtrail, record, &in_whole_seconds(expected));
    c(
        &event(
            "IsAuthorized",
            &format!(
                r#""requestParameters":{{{dana},{asked}}},"responseElements":null,"additionalEventData":{{"decision":"DENY"}}"#
            ),
        ),
        "deny explicit - invoke | dana(human) > -(-) > tickets/delete_ticket action=CallTool",
    );
    c(
        &event(
            "IsAuthorizedWithToken",
            &format!(
                r#""requestParameters":{{{asked}}},"responseElements":{{"principal":{{"entityType":"Corp::User","entityId":"pool|dana"}}}},"additionalEventData":{{"decision":"ALLOW"}}"#
            ),
        ),
        "allow explicit - invoke | pool|dana(human) > -(-) > tickets/delete_ticket action=CallTool",
    );
    // Of a token's principal, wherever it is told, one question or several.
    let principal = |kind: &str| format!(r#""principal":{{"entityType":"Corp::{kind}","entityId":"x"}}"#);
    for (kind, who) in [("User", "x(human) > -(-)"), ("Agent", "-(-) > x(agent)"), ("Group", "x(-) > -(-)")] {
        let via = if kind == "Agent" { " via=declared" } else { "" };
        let expected = format!("deny explicit - invoke | {who} > tickets/delete_ticket action=CallTool{via}");
        let principal = principal(kind);
        for told in [
            format!(r#""responseElements":{{{principal}}},"additionalEventData":{{"decision":"DENY"}}"#),
            format!(r#""responseElements":null,"additionalEventData":{{{principal},"decision":"DENY"}}"#),
        ] {
            let asked = format!(r#""requestParameters":{{{asked}}}"#);
            c(&event("IsAuthorizedWithToken", &format!("{asked},{told}")), &expected);
        }
        let results = r#""results":[{"decision":"DENY"},{"decision":"DENY"}]"#;
        for told in [
            format!(r#""responseElements":{{{principal}}},"additionalEventData":{{{results}}}"#),
            format!(r#""responseElements":null,"additionalEventData":{{{principal},{results}}}"#),
        ] {
            let asked = format!(r#""requestParameters":{{"requests":[{{{asked}}},{{{asked}}}]}}"#);
            c(&event("BatchIsAuthorizedWithToken", &format!("{asked},{told}")), &format!("{expected}\n{expected}"));
        }
    }
    c(
        &event(
            "IsAuthorized",
            r#""requestParameters":{"principal":{"entityType":"Corp::Agent","entityId":"cc"},"action":{"actionId":"Read"},"resource":{"entityType":"Corp::Doc","entityId":"d1"}},"additionalEventData":{"decision":"ALLOW"}"#,
        ),
        "allow explicit - invoke | -(-) > cc(agent) > -/- action=Read via=declared resources=d1",
    );
    c(
        &event("IsAuthorized", &format!(r#""errorCode":"ValidationException","requestParameters":{{{dana},{asked}}}"#)),
        "error explicit - invoke | dana(human) > -(-) > tickets/delete_ticket action=CallTool reasons=ValidationException",
    );
    c(
        &event("IsAuthorized", &format!(r#""requestParameters":{{{dana},{asked}}},"additionalEventData":null"#)),
        "unknown inferred - invoke | dana(human) > -(-) > tickets/delete_ticket action=CallTool reasons=answer_missing",
    );
    c(
        &event(
            "BatchIsAuthorized",
            &format!(
                r#""requestParameters":{{"requests":[{{{dana},{asked}}},{{{dana},{asked}}}],"policyStoreId":"PS1"}},"additionalEventData":{{"results":[{{"request":{{}},"decision":"ALLOW"}},{{"decision":"DENY"}}]}}"#
            ),
        ),
        "allow explicit - invoke | dana(human) > -(-) > tickets/delete_ticket action=CallTool\n\
         deny explicit - invoke | dana(human) > -(-) > tickets/delete_ticket action=CallTool",
    );
    c(&event("CreatePolicy", r#""readOnly":false"#), "aside not_a_decision CreatePolicy");
    // A file is one object around its events.
    let one = event(
        "IsAuthorized",
        &format!(r#""requestParameters":{{{dana},{asked}}},"additionalEventData":{{"decision":"DENY"}}"#),
    );
    c(
        &format!(r#"{{"Records":[{one},{},7]}}"#, event("GetSchema", r#""readOnly":true"#)),
        "deny explicit - invoke | dana(human) > -(-) > tickets/delete_ticket action=CallTool\n\
         reject not_an_object the record is a number\n\
         aside not_a_decision GetSchema",
    );
    check(Format::Cloudtrail, r#"{"Records":[]}"#, "aside batch_empty");
}

#[test]
fn cloudtrail_agentcore() {
    let event = |method: &str, claims: &str, response: &str| {
        format!(
            r#"{{"eventVersion":"1.11","userIdentity":{{"type":"AWSAccount","principalId":"","accountId":"anonymous"}},"eventTime":"2026-11-20T14:03:11Z","eventSource":"bedrock-agentcore.amazonaws.com","eventName":"InvokeGateway","requestParameters":{{"body":{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{"name":"Tickets___delete_ticket","arguments":"REDACTED"}}}}}},"responseElements":{response},"additionalEventData":{{"targetId":"TGT01","jwt":{{"type":"JWS","headers":{{"kid":"k"}},"claims":{claims}}}}},"requestID":"q","eventID":"e","resources":[{{"type":"AWS::BedrockAgentCore::Gateway","ARN":"arn:gw"}}]}}"#
        )
    };
    let claims = r#"{"sub":"c0ffee","scope":"tickets/read tickets/write","iss":"https://idp","jti":"1d2e","exp":1795219800,"client_id":"cc"}"#;
    let c = |record: &str, expected: &str| check(Format::Cloudtrail, record, &in_whole_seconds(expected));
    let told = r#"c0ffee(-) > cc(client) > Tickets/delete_ticket method=tools/call"#;
    let rest = r#"via=declared rpc=7"#;
    let scope = r#"scope=["tickets/read","tickets/write"]"#;
    c(
        &event("tools/call", claims, r#"{"statusCode":200,"body":{"result":{"isError":false,"content":"REDACTED"}}}"#),
        &format!("allow inferred forwarded invoke | {told} assurance=verified {rest} {scope} proof=verified"),
    );
    // A tool that fails was called.
    c(
        &event("tools/call", claims, r#"{"statusCode":200,"body":{"result":{"isError":true}}}"#),
        &format!("allow inferred forwarded invoke | {told} assurance=verified {rest} {scope} proof=verified"),
    );
    c(
        &event("tools/call", claims, r#"{"statusCode":401,"body":{"error":{"code":-32001,"message":"x"}}}"#),
        &format!(
            "deny inferred blocked invoke | {told} {rest} rpc_error=-32001 {scope} proof=parsed reasons=unauthorized"
        ),
    );
    c(
        &event("tools/call", claims, r#"{"statusCode":200,"body":{"error":{"code":-32602,"message":"x"}}}"#),
        &format!(
            "unknown inferred - invoke | {told} assurance=verified {rest} rpc_error=-32602 {scope} proof=verified reasons=jsonrpc_error"
        ),
    );
    c(
        &event("tools/call", claims, r#"{"statusCode":502}"#),
        &format!(
            "error inferred - invoke | {told} assurance=verified {rest} {scope} proof=verified reasons=server_error"
        ),
    );
    // Refused by the protocol alone, or by AWS: whether the token was good is not said either.
    c(
        &event("tools/call", claims, r#"{"statusCode":200,"body":{"error":{"code":-32001,"message":"x"}}}"#),
        &format!(
            "deny inferred blocked invoke | {told} {rest} rpc_error=-32001 {scope} proof=parsed reasons=unauthorized"
        ),
    );
    let failed =
        |code: &str| event("tools/call", claims, "null").replacen('{', &format!(r#"{{"errorCode":"{code}","#), 1);
    c(
        &failed("AccessDeniedException"),
        &format!("deny explicit blocked invoke | {told} {rest} {scope} proof=parsed reasons=access_denied"),
    );
    c(
        &failed("ThrottlingException"),
        &format!("error explicit - invoke | {told} {rest} {scope} proof=parsed reasons=gateway_error"),
    );
    // A client's own token: nobody is behind it.
    c(
        &event("tools/call", r#"{"sub":"cc","client_id":"cc"}"#, r#"{"statusCode":200,"body":{"result":{}}}"#),
        "allow inferred forwarded invoke | -(-) > cc(client) > Tickets/delete_ticket method=tools/call via=declared rpc=7 proof=verified",
    );
    c(
        &event(
            "tools/call",
            r#"{"sub":"dana","act":{"sub":"b","act":{"sub":"a"}}}"#,
            r#"{"statusCode":200,"body":{"result":{}}}"#,
        ),
        "allow inferred forwarded invoke | dana(-) > a,b(-) > Tickets/delete_ticket method=tools/call assurance=verified via=act_claim rpc=7 proof=verified",
    );
    c(&event("tools/list", claims, r#"{"statusCode":200,"body":{"result":{}}}"#), "aside not_a_call tools/list");
    let seen =
        decode(Format::Auto, event("tools/call", claims, r#"{"statusCode":200,"body":{"result":{}}}"#).as_bytes());
    let reference = serde_json::from_str::<Value>(&seen.events[0].native).expect("JSON")["token"]["ref"].clone();
    assert!(reference.as_str().is_some_and(|r| r.starts_with("hmac:")));
    assert!(!seen.events[0].native.contains("1d2e"), "the token's id is kept as a digest");
    // Claims that were escaped for HTML, and claims as text, escaped or not, are the same claims.
    let answer = r#"{"statusCode":200,"body":{"result":{}}}"#;
    let escaped = claims.replace("tickets/", "tickets&#x2F;").replace("https://idp", "https:&#x2F;&#x2F;idp");
    let seen = decode(Format::Auto, event("tools/call", &escaped, answer).as_bytes());
    let native: Value = serde_json::from_str(&seen.events[0].native).expect("JSON");
    assert_eq!(native["token"]["ref"], reference);
    assert_eq!(native["token"]["issuer"], "https://idp");
    assert_eq!(native["token"]["scope"], serde_json::json!(["tickets/read", "tickets/write"]));
    assert!(!seen.events[0].native.contains("x2F"), "{}", seen.events[0].native);
    for claims in [claims, escaped.as_str()] {
        let text = serde_json::to_string(claims).expect("JSON");
        let seen = decode(Format::Auto, event("tools/call", &text, answer).as_bytes());
        let told: Value = serde_json::from_str(&seen.events[0].native).expect("JSON");
        assert_eq!(told["token"], native["token"], "{claims}");
    }
    // No id of any token is kept as it is, wherever claims name one, and whether these can be read or not.
    let others = r#""origin_jti":"0f1e","act":{"sub":"b","jti":"0f1e","act":{"sub":"a","jti":"0f1e"}}"#;
    let named = claims.replacen('{', &format!("{{{others},"), 1);
    for claims in [named.clone(), Value::from(named.as_str()).to_string(), Value::from(&named[1..]).to_string()] {
        let seen = decode(Format::Auto, event("tools/call", &claims, answer).as_bytes());
        assert!(!seen.everything().contains("0f1e") && !seen.everything().contains("1d2e"), "{}", seen.everything());
    }
    // Question and answer as text.
    let as_text = |record: String, member: &str| {
        let mut record: Value = serde_json::from_str(&record).expect("JSON");
        let body = record.pointer_mut(member).expect("the test has one");
        *body = Value::from(body.to_string());
        record.to_string()
    };
    let refused = r#"{"statusCode":200,"body":{"error":{"code":-32001,"message":"x"}}}"#;
    let record = as_text(event("tools/call", claims, refused), "/requestParameters/body");
    c(
        &as_text(record, "/responseElements/body"),
        &format!(
            "deny inferred blocked invoke | {told} {rest} rpc_error=-32001 {scope} proof=parsed reasons=unauthorized"
        ),
    );
    // The preview's name, and a tool without a target.
    let old = event("tools/call", claims, r#"{"statusCode":200,"body":{"result":{}}}"#)
        .replace("InvokeGateway", "InvokeMcp")
        .replace("Tickets___", "");
    assert_eq!(
        (
            decode(Format::Auto, old.as_bytes()).events[0].server.as_str(),
            decode(Format::Auto, old.as_bytes()).events[0].tool.as_str()
        ),
        ("", "delete_ticket")
    );
}

#[test]
fn contextforge() {
    let c = |record: &str, expected: &str| check(Format::Contextforge, record, expected);
    let siem = |kind: &str, taken: &str| {
        format!(
            r#"{{"schema_version":"1.0","event_id":"evt_1","timestamp":"2026-11-20T14:03:11.482913+00:00","event_type":"{kind}","severity":"HIGH","source":{{"service":"mcpgateway","instance_id":"cf-0"}},"actor":{{"user_id":"dana","user_email":"[REDACTED]","client_ip":"10.20.0.14","geo":null}},"context":{{"action":"DELETE_TOOL","resource_type":"tool","resource_id":"6f2","resource_name":"delete_ticket","success":false,"correlation_id":"c-118"}},"action_taken":"{taken}","_meta":{{"attempt":0}}}}"#
        )
    };
    // Denied means no more than that it did not succeed; and it is the catalogue that was changed, no tool called.
    c(
        &siem("audit_delete_tool", "denied"),
        "deny inferred - - | dana(-) > -(-) > -/- action=DELETE_TOOL reasons=denied_or_failed resources=6f2",
    );
    c(
        &siem("audit_delete_tool", "allowed"),
        "allow inferred - - | dana(-) > -(-) > -/- action=DELETE_TOOL resources=6f2",
    );
    c(
        &siem("authentication_failure", "denied"),
        "deny explicit blocked session | dana(-) > -(-) > -/- action=DELETE_TOOL reasons=authentication_failure resources=6f2",
    );
    let seen = decode(Format::Auto, siem("audit_delete_tool", "denied").as_bytes());
    assert!(!seen.events[0].native.contains(r#""email""#) && seen.events[0].request == "c-118");

    let permission = |granted: &str| {
        format!(
            r#"{{"id":7,"timestamp":"2026-11-20 14:03:11.482913","user_email":"dana@corp.example","permission":"tools.execute","resource_type":"tool","resource_id":"6f2","granted":{granted},"roles_checked":"{{\"roles\":[\"dev\"]}}","ip_address":"10.0.0.1"}}"#
        )
    };
    let told = r#"dana@corp.example(-) > -(-) > -/- action=tools.execute roles=["dev"] resources=6f2"#;
    c(&permission("true"), &format!("allow explicit - invoke | {told}"));
    c(&permission("0"), &format!("deny explicit - invoke | {told}"));
    c(
        &permission(r#""maybe""#),
        r#"unknown inferred - invoke | dana@corp.example(-) > -(-) > -/- action=tools.execute roles=["dev"] reasons=outcome_unmapped resources=6f2 flags=invalid:decision.verdict"#,
    );

    // A role is an object, of which the name is meant and the rest kept.
    let roles = r#"{"roles":[{"id":"r1","name":"dev","scope":"team","permissions":["tools.execute"]},{"id":"r2","name":"ops","scope":"global","permissions":["*"]}]}"#;
    let objects = permission("true").replace(r#""{\"roles\":[\"dev\"]}""#, roles);
    let named = told.replace(r#"["dev"]"#, r#"["dev","ops"]"#);
    c(&objects, &format!("allow explicit - invoke | {named}"));
    c(
        &permission("true").replace(r#""{\"roles\":[\"dev\"]}""#, &serde_json::Value::from(roles).to_string()),
        &format!("allow explicit - invoke | {named}"),
    );
    let kept = decode(Format::Contextforge, objects.as_bytes());
    assert!(kept.events[0].extra.contains(r#""scope":"team""#), "{}", kept.events[0].extra);

    let audit = |rest: &str| {
        format!(
            r#"{{"id":"a1","timestamp":"2026-11-20T14:03:11+00:00","action":"update_tool","resource_type":"tool","resource_id":"6f2","user_id":"dana","correlation_id":"c",{rest}}}"#
        )
    };
    c(&audit(r#""success":true"#), "allow inferred - - | dana(-) > -(-) > -/- action=update_tool resources=6f2");
    c(
        &audit(r#""success":false,"error_message":"Permission denied""#),
        "deny inferred blocked - | dana(-) > -(-) > -/- action=update_tool reasons=access_denied resources=6f2",
    );
    c(
        &audit(r#""success":false,"error_message":"Tool not found""#),
        "error inferred - - | dana(-) > -(-) > -/- action=update_tool reasons=action_failed resources=6f2",
    );
    c(
        &audit(r#""success":true,"delegation_chain":"{\"chain\":[\"a\",\"b\"]}""#),
        "allow inferred - - | dana(-) > a,b(-) > -/- action=update_tool via=declared resources=6f2",
    );
    c(
        r#"{"event":"token-exchange","user_email":"dana","target_audience":"https://t","success":true}"#,
        "authority exchange",
    );
}

#[test]
fn kong() {
    let record = |rpc: &str, audit: &str| {
        format!(
            r#"{{"started_at":1795183391482,"client_ip":"10.20.0.14","service":{{"name":"tickets-mcp"}},"response":{{"status":200}},"request":{{"id":"k1"}},"ai":{{"mcp":{{"mcp_session_id":"s1","rpc":{rpc},"audit":{audit}}}}}}}"#
        )
    };
    let k = |record: &str, expected: &str| check(Format::Kong, record, expected);
    let rpc = |id: &str, name: &str| {
        format!(
            r#"{{"id":"{id}","method":"tools/call","tool_name":"{name}","response_body_size":140,"payload":{{"request":"{{\"params\":{{\"arguments\":{{\"n\":{id}}}}}}}"}}}}"#
        )
    };
    let audit = |name: &str, action: &str, consumer: &str| {
        format!(
            r#"{{"primitive":"tool","primitive_name":"{name}","action":"{action}","scope":"primitive","consumer":{consumer}}}"#
        )
    };
    let group = r#"{"id":"6c","name":"support-agents","identifier":"consumer_group"}"#;
    let person = r#"{"id":"6d","name":"dana","identifier":"username"}"#;
    // Calls and decisions are matched by name and in order; a group is nobody in particular.
    k(
        &record(
            &format!("[{},{},{}]", rpc("1", "a"), rpc("2", "b"), rpc("3", "a")),
            &format!(
                "[{},{},{},{}]",
                audit("b", "deny", group),
                audit("a", "allow", person),
                audit("a", "deny", person),
                audit("c", "deny", person)
            ),
        ),
        r#"deny explicit blocked invoke | -(-) > -(-) > tickets-mcp/b method=tools/call params={"n":2} roles=["support-agents"] session=s1 rpc=2
allow explicit forwarded invoke | dana(-) > -(-) > tickets-mcp/a method=tools/call params={"n":1} session=s1 rpc=1
deny explicit blocked invoke | dana(-) > -(-) > tickets-mcp/a method=tools/call params={"n":3} session=s1 rpc=3
deny explicit blocked - | dana(-) > -(-) > tickets-mcp/c session=s1"#,
    );
    // One entry per tool of a list.
    k(
        &record(
            r#"[{"id":"1","method":"tools/list"}]"#,
            &format!("[{},{}]", audit("a", "allow", person), audit("b", "deny", person)),
        ),
        "allow explicit - list | dana(-) > -(-) > tickets-mcp/a session=s1\n\
         deny explicit blocked list | dana(-) > -(-) > tickets-mcp/b session=s1",
    );
    // So too where the list is not the first of its batch.
    k(
        &record(
            r#"[{"id":"0","method":"initialize"},{"id":"1","method":"tools/list"}]"#,
            &format!("[{}]", audit("a", "allow", person)),
        ),
        "allow explicit - list | dana(-) > -(-) > tickets-mcp/a session=s1",
    );
    // Prompts and resources are named by the payload, and without one told by what was asked.
    let of = |primitive: &str, name: &str, action: &str| audit(name, action, person).replace("tool", primitive);
    let asked = |id: &str, method: &str, params: &str| {
        let payload = if params.is_empty() {
            String::new()
        } else {
            format!(r#","payload":{{"request":{{"params":{params}}}}}"#)
        };
        format!(r#"{{"id":"{id}","method":"{method}"{payload}}}"#)
    };
    let (prompts, resources) = ("prompts/get", "resources/read");
    for (rpc, audit) in [
        (
            [
                asked("1", prompts, r#"{"name":"p"}"#),
                asked("2", prompts, r#"{"name":"q"}"#),
                asked("3", resources, r#"{"uri":"file:///a"}"#),
            ],
            [of("prompt", "q", "deny"), of("resource", "file:///a", "allow"), of("prompt", "p", "allow")],
        ),
        (
            [asked("2", prompts, ""), asked("1", prompts, ""), asked("3", resources, "")],
            [of("prompt", "q", "deny"), of("resource", "file:///a", "allow"), of("prompt", "p", "allow")],
        ),
    ] {
        k(
            &record(&format!("[{}]", rpc.join(",")), &format!("[{}]", audit.join(","))),
            "deny explicit blocked invoke | dana(-) > -(-) > tickets-mcp/- method=prompts/get session=s1 rpc=2 resources=prompt:q\n\
             allow explicit forwarded invoke | dana(-) > -(-) > tickets-mcp/- method=resources/read session=s1 rpc=3 resources=file:///a\n\
             allow explicit forwarded invoke | dana(-) > -(-) > tickets-mcp/- method=prompts/get session=s1 rpc=1 resources=prompt:p",
        );
    }
    k(&record(&format!("[{}]", rpc("1", "a")), "[]"), "aside no_decision tools/call");
    k(&record(&format!("[{}]", rpc("1", "a")), "null"), "aside no_decision tools/call");
    k(
        &record("[]", r#"[{"primitive":"prompt","primitive_name":"p","action":"maybe"}]"#),
        "unknown inferred - - | -(-) > -(-) > tickets-mcp/- session=s1 reasons=outcome_unmapped resources=prompt:p flags=invalid:decision.verdict",
    );
    // Text that only looks like JSON stays text.
    let seen = decode(
        Format::Auto,
        record(
            r#"[{"id":"1","method":"tools/call","tool_name":"a","payload":{"request":"{oops"}}]"#,
            &format!("[{}]", audit("a", "allow", person)),
        )
        .as_bytes(),
    );
    assert!(seen.events[0].extra.contains("{oops"), "{}", seen.events[0].extra);
    // A call without a decision is not lost.
    let seen = decode(
        Format::Auto,
        record(&format!("[{},{}]", rpc("1", "a"), rpc("9", "z")), &format!("[{}]", audit("a", "allow", person)))
            .as_bytes(),
    );
    assert!(seen.events[0].extra.contains(r#""tool_name":"z""#), "{}", seen.events[0].extra);
}

/// What else a producer logs is no fault of the record, where it is known whose it is; `auto` does not guess that.
#[test]
fn what_else_is_logged_is_held_aside() {
    for (format, record, expected) in [
        (
            Format::Kong,
            r#"{"started_at":1795183391482,"client_ip":"10.0.0.1","service":{"name":"shop"},"request":{"method":"GET","uri":"/"},"response":{"status":200}}"#,
            "aside not_mcp shop",
        ),
        (
            Format::Kong,
            r#"{"request":{},"response":{}}"#,
            "reject mapping_missing no mapping of `kong` knows the record",
        ),
        (
            Format::Contextforge,
            r#"{"timestamp":"2026-11-20T14:03:11.482913","level":"INFO","component":"gateway","message":"started","correlation_id":"c"}"#,
            "aside log_line gateway",
        ),
        (
            Format::Contextforge,
            r#"{"asctime":"2026-11-20 14:03:11","name":"mcpgateway.main","levelname":"INFO","message":"started"}"#,
            "aside log_line ",
        ),
        (
            Format::Contextforge,
            r#"{"id":"5","timestamp":"2026-11-20T14:03:11.482913","component":"token_exchange","message":"token-exchange succeeded for gateway gw","context":{"custom_fields":{"event":"token-exchange","gateway_id":"gw","success":true}}}"#,
            "authority exchange",
        ),
        (
            Format::Contextforge,
            r#"{"id":"5","component":"token_exchange","message":"token-exchange succeeded for gateway gw","context":"{}"}"#,
            "aside token_exchange token_exchange",
        ),
        (
            Format::Contextforge,
            r#"{"message":"started"}"#,
            "reject mapping_missing no mapping of `contextforge` knows the record",
        ),
    ] {
        assert_eq!(told(&decode(format, record.as_bytes())), expected, "{record}");
        if expected.starts_with("aside") {
            let guessed = told(&decode(Format::Auto, record.as_bytes()));
            assert!(guessed.starts_with("reject shape_unknown"), "{record}: {guessed}");
        }
    }
}

#[test]
fn toolhive() {
    let record = |kind: &str, outcome: &str, subjects: &str| {
        format!(
            r#"{{"time":"2026-11-20T14:03:11.483Z","level":"INFO+2","msg":"audit_event","audit_id":"t1","type":"{kind}","logged_at":"2026-11-20T14:03:11.482913Z","outcome":"{outcome}","component":"tickets","source":{{"type":"network","value":"10.20.0.14","extra":{{"user_agent":"cc/2.3","request_id":"rq-77"}}}},"subjects":{subjects},"target":{{"endpoint":"/mcp","method":"tools/call","name":"delete_ticket","type":"tool"}}}}"#
        )
    };
    let t = |record: &str, expected: &str| check(Format::Toolhive, record, expected);
    let dana = r#"{"user":"Dana","user_id":"idp|8c","client_name":"cc","client_version":"2.3"}"#;
    let told = "idp|8c(-) > cc(client) > tickets/delete_ticket method=tools/call via=declared";
    t(&record("mcp_tool_call", "denied", dana), &format!("deny inferred blocked invoke | {told}"));
    t(&record("mcp_tool_call", "success", dana), &format!("allow inferred forwarded invoke | {told}"));
    t(&record("mcp_tool_call", "failure", dana), &format!("unknown inferred - invoke | {told} reasons=call_failed"));
    t(&record("mcp_tool_call", "error", dana), &format!("error inferred - invoke | {told} reasons=server_error"));
    t(&record("mcp_tool_call", "odd", dana), &format!("unknown inferred - invoke | {told} reasons=outcome_unmapped"));
    t(
        &record("mcp_tool_call", "denied", r#"{"user":"anonymous"}"#),
        "deny inferred blocked invoke | -(-) > -(-) > tickets/delete_ticket method=tools/call",
    );
    t(&record("mcp_tools_list", "success", dana), "aside not_a_call mcp_tools_list");
    t(&record("mcp_tools_list", "denied", dana), &format!("deny inferred blocked list | {told}"));
    t(&record("http_request", "denied", dana), &format!("deny inferred blocked - | {told}"));
    // What the protocol refused with status 200 is told by its error alone.
    let data = r#""data":{"request":"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\"}","response":{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no"}}},"target""#;
    t(
        &record("mcp_tool_call", "success", dana).replace(r#""target""#, data),
        &format!("allow inferred forwarded invoke | {told} rpc=7 rpc_error=-32602"),
    );
    // The verb of a plain request is no method of MCP.
    let plain = record("http_request", "denied", dana).replace("tools/call", "GET");
    t(&plain, &format!("deny inferred blocked - | {}", told.replace(" method=tools/call", "")));
    assert!(decode(Format::Toolhive, plain.as_bytes()).events[0].debug.contains(r#"http_method: Some("GET")"#));
    // The names of the structure differ from those of the log.
    let other = record("mcp_tool_call", "denied", dana).replace("audit_id", "auditId").replace("logged_at", "loggedAt");
    t(&other, &format!("deny inferred blocked invoke | {told}"));
}

#[test]
fn docker_mcp() {
    let record = |trigger: &str, result: &str, rest: &str| {
        format!(
            r#"{{"trigger":"{trigger}","target_type":"tool","server_name":"tickets","tool_name":"delete_ticket","result":"{result}",{rest}"client_name":"claude-ai","client_version":"0.1.0","timestamp":"2026-11-20T14:03:11Z"}}"#
        )
    };
    let d = |record: &str, expected: &str| check(Format::DockerMcp, record, expected);
    let told = "-(-) > claude-ai(client) > tickets/delete_ticket via=declared";
    d(
        &record("invoke", "denied", r#""outcome_reason":"policy_rule","reason":"blocked by organization","#),
        &format!(
            "deny explicit blocked invoke | {told} reasons=blocked by organization flags=time_whole_seconds,id_missing"
        ),
    );
    // A policy that could not be evaluated is recorded as a denial.
    d(
        &record("invoke", "denied", r#""outcome_reason":"policy_error","#),
        &format!("error explicit blocked invoke | {told} reasons=policy_error flags=time_whole_seconds,id_missing"),
    );
    // One that was let through all the same was not blocked.
    d(
        &record("invoke", "allowed", r#""outcome_reason":"policy_error","#),
        &format!("error explicit forwarded invoke | {told} reasons=policy_error flags=time_whole_seconds,id_missing"),
    );
    // A trace has an id of 32 digits; what else stands there is kept as it is.
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    d(
        &record("invoke", "allowed", &format!(r#""trace_id":"{id}","#)),
        &format!("allow explicit forwarded invoke | {told} trace={id} flags=time_whole_seconds,id_missing"),
    );
    let odd = record("invoke", "allowed", r#""trace_id":"xyz","#);
    d(&odd, &format!("allow explicit forwarded invoke | {told} flags=time_whole_seconds,id_missing"));
    assert!(decode(Format::DockerMcp, odd.as_bytes()).events[0].extra.contains(r#""trace_id":"xyz""#));
    d(
        &record("invoke", "allowed", ""),
        &format!("allow explicit forwarded invoke | {told} flags=time_whole_seconds,id_missing"),
    );
    d(&record("load", "allowed", ""), &format!("allow explicit - list | {told} flags=time_whole_seconds,id_missing"));
    let batch = format!("[{},{}]", record("load", "allowed", ""), record("load", "denied", ""));
    d(
        &batch,
        &format!(
            "allow explicit - list | {told} flags=time_whole_seconds,id_missing\ndeny explicit blocked list | {told} flags=time_whole_seconds,id_missing"
        ),
    );
}

#[test]
fn obot() {
    let record = |kind: &str, actor: &str, status: &str| {
        format!(
            r#"{{"id":90211,"timestamp":{{"occurredAt":"2026-11-20T14:03:11.482Z","source":"{}"}},"eventType":"{kind}","actor":{actor},"action":{{"operation":"tools/call","name":"delete_ticket"}},"target":{{"targetType":"mcp_tool","name":"delete_ticket","parent":{{"targetType":"mcp_server","id":"ms-4","name":"tickets"}}}},"outcome":{{"status":"{status}","httpStatus":403,"reason":"policy"}},"client":"claude-code","details":{{"trace":{{"sessionID":"s-1","requestID":"rq-77"}}}}}}"#,
            if kind == "mcp_call" { "server" } else { "client_reported" }
        )
    };
    let user = r#"{"actorType":"user","id":"u-17","credentialID":"key"}"#;
    let o = |record: &str, expected: &str| check(Format::Obot, record, expected);
    let told = "u-17(human) > claude-code(client) > tickets/delete_ticket method=tools/call assurance=verified via=declared session=s-1";
    o(&record("mcp_call", user, "denied"), &format!("deny explicit blocked invoke | {told} reasons=policy"));
    o(&record("mcp_call", user, "success"), &format!("allow inferred forwarded invoke | {told} reasons=policy"));
    o(&record("mcp_call", user, "timeout"), &format!("unknown inferred - invoke | {told} reasons=call_failed,policy"));
    o(&record("mcp_call", user, "unknown"), &format!("unknown explicit - invoke | {told} reasons=policy"));
    // What an agent reports of itself proves nobody's identity.
    o(
        &record("local_agent_tool_call", user, "success"),
        "allow inferred forwarded invoke | u-17(human) > claude-code(agent) > tickets/delete_ticket method=tools/call via=declared session=s-1 reasons=policy",
    );
    o(
        &record("mcp_call", r#"{"actorType":"device","id":"d-1"}"#, "denied"),
        "deny explicit blocked invoke | -(-) > claude-code(client) > tickets/delete_ticket method=tools/call via=declared session=s-1 reasons=policy",
    );
    // A list is asked of the server: it is no resource.
    let list = record("mcp_call", user, "success")
        .replace("tools/call", "tools/list")
        .replace(r#""target":{"targetType":"mcp_tool","name":"delete_ticket","parent":{"targetType":"mcp_server","id":"ms-4","name":"tickets"}}"#, r#""target":{"targetType":"mcp_server","id":"ms-4","name":"tickets"}"#);
    let asked = told.replace("tickets/delete_ticket", "tickets/-").replace("tools/call", "tools/list");
    o(&list, &format!("allow inferred forwarded list | {asked} reasons=policy"));
    assert!(decode(Format::Obot, list.as_bytes()).events[0].native.contains(r#""id":"ms-4""#));
    // Recorded twice under one key, it happened once: nothing is left that would tell the two apart.
    let keyed = |id: &str, recorded: &str| {
        let record = record("mcp_call", user, "denied")
            .replace("90211", id)
            .replace(r#""source":"#, &format!(r#""recordedAt":"{recorded}","source":"#))
            .replace(r#""requestID":"#, r#""idempotencyKey":"k-1","requestID":"#);
        o(&record, &format!("deny explicit blocked invoke | {told} reasons=policy"));
        decode(Format::Obot, record.as_bytes()).events[0].native.clone()
    };
    let once = keyed("90211", "2026-11-20T14:03:12Z");
    assert!(once.contains(r#""id":"k-1""#), "{once}");
    assert_eq!(once, keyed("90212", "2026-11-20T14:05:00Z"));
}
