//! Ladders: each case repairs or breaks one thing of the one above it.

use crate::seen::{Collected, KEY, Seen, context, decode};
use catena_decode::mapping::Mappings;
use catena_decode::{Context, Decoder, Format, Redactor};
use std::sync::Arc;

fn check_mapping(text: &str, expected: &str) {
    let got = match Mappings::shipped().with(text, "mine") {
        Ok(_) => "fine".to_owned(),
        Err(e) => e.to_string(),
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn a_mapping_says_what_is_wrong_with_it() {
    check_mapping("name = ", "mapping `mine`, line 1, column 8: string values must be quoted, expected literal string");
    check_mapping("name = 'x'", "mapping `mine`, line 1, column 1: `format` is required");
    check_mapping(
        "format = 'oppa'",
        "mapping `mine`, line 1, column 10: `format` is one of `opa`, `cerbos`, `envoy`, `pomerium`, `authzen`, `openfga`, `teleport`, `cloudtrail`, `contextforge`, `kong`, `toolhive`, `docker-mcp`, `obot`, `mapped`, `agentgateway`, `otlp`, `authority`, not `oppa`",
    );
    check_mapping("\nformat = 7", "mapping `mine`, line 2, column 10: `format` is text, not integer");
    check_mapping("format = 'opa'", "fine");
    check_mapping(
        "format = 'opa'\nfeilds = {}",
        "mapping `mine`, line 2, column 1: unknown key `feilds`, the nearest known one is `fields`",
    );
    check_mapping("format = 'opa'\nzzzzzzzz = 1", "mapping `mine`, line 2, column 1: unknown key `zzzzzzzz`");
    check_mapping(
        "format = 'opa'\nphase = 'invoking'",
        "mapping `mine`, line 2, column 9: `phase` does not know `invoking`, the nearest known one is `invoke`",
    );
    check_mapping(
        "extends = 'opa-gatway'",
        "mapping `mine`, line 1, column 11: `extends` names no mapping: `opa-gatway`, the nearest known one is `opa-gateway`",
    );
    check_mapping("extends = 'opa-gateway'", "fine");
    check_mapping(
        "format = 'opa'\n[fields]\n\nrequester.idd = '/a'",
        "mapping `mine`, line 4, column 11: unknown field `requester.idd`, the nearest known one is `requester.id`",
    );
    check_mapping(
        "format = 'opa'\n[fields]\nrequester.id = 'a'",
        "mapping `mine`, line 3, column 16: `requester.id`: `a` is not a pointer: it must start with `/`",
    );
    check_mapping(
        "format = 'opa'\n[fields]\nrequester.id = 7",
        "mapping `mine`, line 3, column 16: `requester.id` is text, not integer",
    );
    check_mapping(
        "format = 'opa'\n[fields]\nrequester.id = {}",
        "mapping `mine`, line 3, column 16: `requester.id` needs either a `pointer` or a `value`",
    );
    check_mapping(
        "format = 'opa'\n[fields]\nrequester.id = { pointer = '/a', value = 'b' }",
        "mapping `mine`, line 3, column 16: `requester.id` needs either a `pointer` or a `value`",
    );
    check_mapping(
        "format = 'opa'\n[fields]\nrequester.id = { pointer = '/a', spilt = ' ' }",
        "mapping `mine`, line 3, column 34: unknown key `spilt`, the nearest known one is `split`",
    );
    check_mapping(
        "format = 'opa'\n[fields]\nrequester.id = ['/a', { value = 'b' }, { pointer = '/c', prefix = 'u:' }]",
        "fine",
    );
    check_mapping(
        "format = 'cerbos'\n[fields]\nrequester.id = '/principal/id'",
        "mapping `mine`, line 3, column 16: `requester.id`: `/principal/id` starts at none of `/record`, `/input`, `/output`, `/claims`, `/val`",
    );
    check_mapping(
        "format = 'opa'\n[when]\nany = [{ exists = true }]",
        "mapping `mine`, line 3, column 8: a condition needs a `pointer`",
    );
    check_mapping(
        "format = 'opa'\n[when]\nany = [{ pointer = '/a' }]",
        "mapping `mine`, line 3, column 8: a condition has exactly one of `exists`, `missing`, `equals`, `starts`, `ends`, `contains`, `is`, `at_least`, `hex`, `same`, `in`",
    );
    check_mapping(
        "format = 'opa'\n[when]\nall = [{ pointer = '/a', is = 'bool' }]",
        "mapping `mine`, line 3, column 31: `is` does not know `bool`, the nearest known one is `boolean`",
    );
    check_mapping("format = 'opa'\n[when]\nall = [{ pointer = '/a', is = 'boolean' }]", "fine");
    check_mapping(
        "format = 'opa'\n[outcome.values]\nalow = 'yes'",
        "mapping `mine`, line 3, column 1: unknown key `alow`, the nearest known one is `allow`",
    );
    check_mapping(
        "format = 'opa'\n[outcome.values]\nallow = 'yes'\ndeny = ['no', 'yes']",
        "mapping `mine`, line 4, column 8: `yes` is listed under `allow` and under `deny`",
    );
}

/// Decodes under mappings, and says the outcome, phase, requester, agent, tool and flags.
fn under(mappings: Mappings, format: Format, record: &str) -> String {
    let mut seen = Collected::default();
    Decoder::with_mappings(Arc::new(Redactor::new(KEY)), Arc::new(mappings)).record(
        format,
        record.as_bytes(),
        &context(),
        &mut seen,
    );
    told(&seen)
}

fn told(seen: &Collected) -> String {
    let event = |e: &Seen| {
        let mut line = format!("{} {} {}>{}>{}", e.outcome, e.phase, e.requester, e.actors.join(","), e.tool);
        for (name, list) in [("reasons", &e.reasons), ("flags", &e.flags), ("resources", &e.resources)] {
            if !list.is_empty() {
                line += &format!(" {name}={}", list.join(","));
            }
        }
        line
    };
    let refused = |kind: &'static str| move |r: &catena_schemas::rows::Rejection| format!("{kind} {}", r.reason);
    let lines: Vec<String> = seen
        .events
        .iter()
        .map(event)
        .chain(seen.rejections.iter().map(refused("reject")))
        .chain(seen.asides.iter().map(refused("aside")))
        .collect();
    lines.join("\n")
}

fn check(format: Format, record: &str, expected: &str) {
    assert_eq!(told(&decode(format, record.as_bytes())), expected, "{record}");
}

const OPA_HEAD: &str = r#""decision_id":"d1","timestamp":"2026-11-21T00:12:24.5Z","path":"p","labels":{"id":"i"}"#;

fn opa(rest: &str, expected: &str) {
    check(Format::Auto, &format!("{{{OPA_HEAD},{rest}}}"), expected);
}

#[test]
fn opa_outcomes() {
    opa(r#""result":{"effect":"allow"}"#, "allow invoke >>");
    opa(r#""result":{"effect":"deny","reasons":["a","b"]}"#, "deny invoke >> reasons=a,b");
    opa(r#""result":{"effect":"step_up","reason":"mfa"}"#, "step_up invoke >> reasons=mfa");
    opa(r#""result":{"allow":true}"#, "allow invoke >>");
    opa(r#""result":{"allow":false},"input":{"tool":{"name":"t"}}"#, "deny invoke >>t");
    // A string is not a boolean, a look-alike is not a word, a list decides nothing.
    opa(r#""result":{"allow":"false"}"#, "unknown plan >> reasons=result_unmapped");
    opa("\"result\":{\"effect\":\"\u{410}LLOW\"}", "unknown plan >> reasons=result_unmapped");
    opa(r#""result":[{"x":"allow"}],"query":"q"#.trim_end_matches('\"'), "reject json_truncated");
    opa(r#""result":[{"x":"allow"}],"query":"q""#, "unknown plan >> reasons=result_unmapped");
    opa(
        r#""result":true,"input":{"tool":{"name":"t"},"user":{"id":"u"},"agent":{"id":"a"}}"#,
        "allow plan u>a> resources=tool:t",
    );
    opa(r#""result":"deny""#, "deny plan >>");
    opa(r#""input":{}"#, "unknown plan >> reasons=result_undefined");
    opa(r#""error":"f.rego:5: eval_conflict_error: x""#, "error plan >> reasons=eval_conflict_error");
    opa(
        r#""error":{"code":"eval_conflict_error","message":"x","location":{"file":"f.rego","row":5}}"#,
        "error plan >> reasons=eval_conflict_error",
    );
    opa(r#""error":{}"#, "error plan >> reasons=evaluation_error");
    opa(r#""error":{},"result":{"effect":"allow"}"#, "error invoke >> reasons=evaluation_error");
}

/// AuthZEN as OPA's input says itself that it asks for access, so a boolean answers it.
#[test]
fn opa_asked_in_authzen() {
    let asked = |result: &str, action: &str, kind: &str| {
        format!(
            r#""result":{result},"input":{{"subject":{{"type":"user","id":"dana"}},"action":{{"name":"{action}"}},"resource":{{"type":"{kind}","id":"delete_ticket"}},"context":{{"agent":"cc"}}}}"#
        )
    };
    let call = |result: &str| asked(result, "tools/call", "tool");
    for (result, expected) in [
        (r#"{"decision":false}"#, "deny"),
        (r#"{"decision":true}"#, "allow"),
        (r#"{"allow":false}"#, "deny"),
        (r#"{"effect":"step_up"}"#, "step_up"),
        ("false", "deny"),
        ("true", "allow"),
    ] {
        opa(&call(result), &format!("{expected} invoke dana>cc>delete_ticket"));
    }
    opa(
        &call(r#"{"decision":false,"context":{"reason_admin":{"en":"policy mcp-7"}}}"#),
        "deny invoke dana>cc>delete_ticket reasons=policy mcp-7",
    );
    opa(
        &call(r#"{"decision":false,"context":{"error":{"status":500}}}"#),
        "error invoke dana>cc>delete_ticket reasons=decision_point_error",
    );
    opa(&asked("true", "can_read", "doc"), "allow  dana>cc> resources=delete_ticket");
    opa(&asked("true", "initialize", "mcp_server"), "allow session dana>cc>");
    // What is asked on the side decides no access.
    opa(&call(r#"["a"]"#), "unknown plan >> reasons=result_unmapped");
}

#[test]
fn opa_actors() {
    let with = |agent: &str, act: &str| {
        format!(
            r#""result":{{"effect":"allow"}},"input":{{"agent":{agent},"token":{{"claims":{{"sub":"u","act":{act}}}}}}}"#
        )
    };
    opa(&with(r#"{"id":"c"}"#, r#"{"sub":"c","act":{"sub":"b","act":{"sub":"a"}}}"#), "allow invoke u>a,b,c>");
    opa(&with("null", r#"{"sub":"c","act":{"sub":"b"}}"#), "allow invoke u>b,c>");
    // The token is somebody else's: the agent is who the gateway says, and the claim stays in extra.
    opa(
        &with(r#"{"id":"c","root":"a","parent":"b"}"#, r#"{"sub":"x"}"#),
        "allow invoke u>a,b,c> flags=actors_contradicted",
    );
    opa(&with(r#"{"id":"c","root":"c","parent":null}"#, "null"), "allow invoke u>c>");
    opa(&with(r#"{"id":"c"}"#, r#"{"act":{}}"#), "allow invoke u>c> flags=invalid:actors.act");
    opa(&with("7", "[]"), "allow invoke u>> flags=invalid:actors.act");
}

#[test]
fn opa_times_and_ids() {
    let event = |rest: &str| format!(r#"{{"labels":{{}},"result":{{"effect":"deny"}}{rest}}}"#);
    check(Format::Opa, &event(r#","decision_id":"d""#), "deny invoke >> flags=time_missing");
    check(Format::Opa, &event(r#","decision_id":"d","timestamp":"yesterday""#), "reject time_invalid");
    check(Format::Opa, &event(r#","decision_id":"d","timestamp":"9999-01-01T00:00:00Z""#), "deny invoke >> flags=skew");
    check(Format::Opa, &event(r#","timestamp":"2026-11-21T00:12:24Z""#), "reject decision_id_missing");
    check(
        Format::Opa,
        &event(r#","type":"openpolicyagent.org/decision_logs","timestamp":"2026-11-21T00:12:24Z""#),
        "deny invoke >> flags=id_missing",
    );
    check(
        Format::Opa,
        r#"{"level":"info","msg":"Server shutdown.","time":"2026-11-21T00:12:41Z"}"#,
        "aside console_line",
    );
    check(Format::Opa, "[]", "aside batch_empty");
    check(Format::Opa, "[7]", "reject not_an_object");
    check(Format::Opa, "7", "reject not_an_object");
    let good = event(r#","decision_id":"d","timestamp":"2026-11-21T00:12:24Z""#);
    check(Format::Opa, &format!("[{good},\"\\n\",{good}]"), "deny invoke >>\ndeny invoke >>\nreject not_an_object");
}

#[test]
fn booleans_decide_only_where_they_are_said_to() {
    let record = format!(r#"{{{OPA_HEAD},"result":false,"input":{{"tool":{{"name":"t"}},"user":{{"id":"u"}}}}}}"#);
    assert_eq!(under((*Mappings::shipped()).clone(), Format::Opa, &record), "deny plan u>> resources=tool:t");
    let preferring = Mappings::shipped().prefer("opa-boolean").expect("it ships");
    assert_eq!(under(preferring, Format::Opa, &record), "deny invoke u>>t");
    let e = Mappings::shipped().prefer("opa-bolean").expect_err("no such name").to_string();
    assert_eq!(e, "mapping `opa-bolean`: there is no mapping of this name, the nearest known one is `opa-boolean`");
}

#[test]
fn a_mapping_of_ones_own_comes_first() {
    let own = r#"
        format = "opa"
        phase = "invoke"
        [when]
        all = [{ pointer = "/path", equals = "p" }, { pointer = "/result/verdicts/0", exists = true }]
        [outcome]
        from = "/result/verdicts/0"
        [outcome.values]
        allow = 1
        deny = 0
        [fields]
        requester.id = { pointer = "/input/who", prefix = "user:" }
        actors.list = "/input/via"
        tool.name = [{ pointer = "/input/a~1b/c~0d", when = { pointer = "/input/new", equals = true } }, "/input/old"]
        decision.reasons = { pointer = "/result/why", split = ";" }
        call.resources = { pointer = "/input/things", each = "/id" }
    "#;
    let mine = || Mappings::shipped().with(own, "own").expect("it is well written");
    let record = |input: &str| format!(r#"{{{OPA_HEAD},"result":{{"verdicts":[0,1],"why":"x;y"}},"input":{input}}}"#);
    let input =
        r#"{"who":"dana","via":["a","b"],"new":true,"a/b":{"c~d":"n"},"old":"o","things":[{"id":"1"},{"id":2},{}]}"#;
    assert_eq!(under(mine(), Format::Opa, &record(input)), "deny invoke user:dana>a,b>n reasons=x,y resources=1,2");
    assert_eq!(under(mine(), Format::Auto, &record(r#"{"old":"o"}"#)), "deny invoke >>o reasons=x,y");
    // What it does not want goes on to those that ship.
    assert_eq!(
        under(mine(), Format::Opa, &format!(r#"{{{OPA_HEAD},"result":{{"effect":"allow"}}}}"#)),
        "allow invoke >>"
    );
}

fn cerbos(checks: &str, expected: &str) {
    check(
        Format::Auto,
        &format!(r#"{{"callId":"c1","timestamp":"2026-11-21T00:19:07Z","checkResources":{checks}}}"#),
        expected,
    );
}

#[test]
fn cerbos_decisions() {
    let input = r#"{"principal":{"id":"a","attr":{"on_behalf_of":"u"}},"resource":{"kind":"mcp_tool","id":"s/t"},"actions":["x","y"]}"#;
    let with = |output: &str| format!(r#"{{"inputs":[{input}],"outputs":[{output}]}}"#);
    cerbos(
        &with(r#"{"actions":{"y":{"effect":"EFFECT_ALLOW"},"x":{"effect":"EFFECT_DENY","policy":"p"}}}"#),
        "deny invoke u>a>s/t\nallow invoke u>a>s/t",
    );
    cerbos(
        &with(r#"{"actions":{"x":{"effect":"EFFECT_NO_MATCH"},"y":{"effect":"EFFECT_DENY","policy":"NO_MATCH"}}}"#),
        "deny invoke u>a>s/t reasons=no_match\ndeny invoke u>a>s/t reasons=no_match",
    );
    // A step-up belongs to its action, and only to a denial.
    let out = r#","outputs":[{"src":"r#1","action":"x","val":{"step_up":"mfa"}},{"src":"r#2","action":"y","val":{"step_up":"mfa"}}]"#;
    cerbos(
        &with(&format!(r#"{{"actions":{{"x":{{"effect":"EFFECT_DENY"}},"y":{{"effect":"EFFECT_ALLOW"}}}}{out}}}"#)),
        "step_up invoke u>a>s/t reasons=step_up:mfa\nallow invoke u>a>s/t reasons=mfa",
    );
    // Without the name of the action it could be anyone's.
    let out = r#","outputs":[{"src":"r#1","val":{"step_up":"mfa"}}]"#;
    cerbos(
        &with(&format!(r#"{{"actions":{{"x":{{"effect":"EFFECT_DENY"}},"y":{{"effect":"EFFECT_DENY"}}}}{out}}}"#)),
        "deny invoke u>a>s/t\ndeny invoke u>a>s/t",
    );
    cerbos(
        &with(r#"{"actions":{"x":{"effect":"EFFECT_ALLOW"}}}"#),
        "allow invoke u>a>s/t\nunknown invoke u>a>s/t reasons=effect_missing",
    );
    cerbos(
        &with(
            r#"{"actions":{"x":{"effect":"EFFECT_ALLOW"},"y":{"effect":"EFFECT_MAYBE"},"z":{"effect":"EFFECT_ALLOW"}}}"#,
        ),
        "allow invoke u>a>s/t\nunknown invoke u>a>s/t reasons=effect_unknown flags=invalid:decision.verdict\nallow invoke u>a>s/t",
    );
    cerbos(
        &format!(r#"{{"inputs":[{input}],"error":"boom"}}"#),
        "error invoke u>a>s/t reasons=check_error\nerror invoke u>a>s/t reasons=check_error",
    );
    cerbos(r#"{"error":"boom"}"#, "error invoke >> reasons=check_error");
    cerbos("{}", "aside actions_none");
    cerbos(r#"{"inputs":7,"outputs":"x"}"#, "reject decisions_missing");
}

#[test]
fn cerbos_shapes() {
    let old = r#"{"callId":"c","timestamp":"2026-11-21T00:19:07Z","inputs":[{"principal":{"id":"a","attr":{"on_behalf_of":"\"u\""}},"resource":{"kind":"doc","id":"d"},"actions":["x"]}],"outputs":[{"actions":{"x":{"effect":"EFFECT_ALLOW"}}}]}"#;
    check(Format::Auto, old, "allow invoke u>a>doc resources=d");
    check(Format::Cerbos, &old.replace("\"c\"", "\"\""), "reject call_id_missing");
    check(Format::Cerbos, &old.replace("2026-11-21T00:19:07Z", "soon"), "reject time_invalid");
    let jwts = r#"{"callId":"c","timestamp":"2026-11-21T00:19:07Z","checkResources":{"inputs":[{"principal":{"id":"a"},"resource":{"kind":"doc","id":"d"},"actions":["x"],"auxData":{"jwts":{"main":{"claims":{"sub":"u","act":{"sub":"a","act":{"sub":"root"}}}}}}}],"outputs":[{"actions":{"x":{"effect":"EFFECT_ALLOW"}}}]}}"#;
    check(Format::Auto, jwts, "allow invoke u>root,a>doc resources=d");
    check(
        Format::Auto,
        r#"{"callId":"c","method":"/cerbos.svc.v1.CerbosService/CheckResources","statusCode":3}"#,
        "aside access_entry",
    );
    check(Format::Auto, r#"{"callId":"c","planResources":{"input":{"principal":{"id":"a"}}}}"#, "aside query_plan");
    check(Format::Cerbos, r#"{"a":1}"#, "reject entry_unknown");
    let (kind, json, proto) = (
        ("cerbos.audit.kind", b"access".as_slice()),
        ("cerbos.audit.encoding", b"json".as_slice()),
        ("cerbos.audit.encoding", b"protobuf".as_slice()),
    );
    let mut seen = Collected::default();
    let mut decoder = crate::seen::decoder();
    decoder.record(Format::Auto, b"{\"callId\":\"c\"}", &Context { headers: &[kind, json], ..context() }, &mut seen);
    decoder.record(Format::Auto, b"\x0a\x01c", &Context { headers: &[kind, proto], ..context() }, &mut seen);
    decoder.record(Format::Auto, b"\x0a\x02c", &Context { headers: &[kind, proto], ..context() }, &mut seen);
    decoder.record(Format::Auto, b"\x0a\x01c", &Context { headers: &[proto], ..context() }, &mut seen);
    assert_eq!(
        told(&seen),
        "reject protobuf_malformed\nreject encoding_unsupported\naside access_entry\naside access_entry"
    );
}

#[test]
fn the_order_of_members_makes_no_difference() {
    let one = r#"{"callId":"c","timestamp":"2026-11-21T00:19:07Z","peer":{"a":1,"b":2},"checkResources":{"inputs":[{"principal":{"id":"a","x":{"c":1,"d":[{"e":1,"f":2}]}},"resource":{"kind":"k","attr":{"params":{"p":1,"q":{"r":1,"s":2}}}},"actions":["x"]}],"outputs":[{"actions":{"x":{"effect":"EFFECT_DENY"}}}]}}"#;
    let other = r#"{"checkResources":{"outputs":[{"actions":{"x":{"effect":"EFFECT_DENY"}}}],"inputs":[{"actions":["x"],"resource":{"attr":{"params":{"q":{"s":2,"r":1},"p":1}},"kind":"k"},"principal":{"x":{"d":[{"f":2,"e":1}],"c":1},"id":"a"}}]},"peer":{"b":2,"a":1},"timestamp":"2026-11-21T00:19:07Z","callId":"c"}"#;
    assert_eq!(decode(Format::Auto, one.as_bytes()).events, decode(Format::Auto, other.as_bytes()).events);
    let one =
        r#"{"response_flags":"UAEX","start_time":"2026-11-21T00:36:21Z","request_id":"r","b":{"x":1,"y":2},"a":1}"#;
    let other =
        r#"{"a":1,"request_id":"r","b":{"y":2,"x":1},"start_time":"2026-11-21T00:36:21Z","response_flags":"UAEX"}"#;
    assert_eq!(decode(Format::Auto, one.as_bytes()).events, decode(Format::Auto, other.as_bytes()).events);
}

fn envoy(rest: &str, expected: &str) {
    check(
        Format::Auto,
        &format!(r#"{{"request_id":"r","start_time":"2026-11-21T00:36:21.170Z","response_flags":"-",{rest}}}"#),
        expected,
    );
}

#[test]
fn envoy_outcomes() {
    let call = r#""mcp":{"method":"tools/call","params":{"name":"t"}},"jwt":{"sub":"u","act":{"sub":"a"}}"#;
    envoy(&format!(r#"{call},"response_code":200,"response_code_details":"via_upstream""#), "allow invoke u>a>t");
    envoy(
        &format!(r#"{call},"response_code":500,"response_code_details":"via_upstream","authz_effect":"allow""#),
        "allow invoke u>a>t",
    );
    envoy(
        &format!(r#"{call},"response_code":403,"response_code_details":"ext_authz_denied","authz_effect":"step_up""#),
        "step_up invoke u>a>t reasons=ext_authz_denied",
    );
    envoy(
        &format!(r#"{call},"response_code":403,"response_code_details":"ext_authz_denied","authz_effect":"deny""#),
        "deny invoke u>a>t reasons=ext_authz_denied",
    );
    // The filter refused, whatever the header says, and also when it answered 200.
    envoy(
        &format!(r#"{call},"response_code":200,"response_code_details":"ext_authz_denied","authz_effect":"allow""#),
        "deny invoke u>a>t reasons=ext_authz_denied",
    );
    envoy(
        &format!(r#"{call},"response_code":503,"response_code_details":"ext_authz_error""#),
        "error invoke u>a>t reasons=ext_authz_error",
    );
    // Envoy raises the flag of a refusal for that too.
    let flagged = format!(r#"{call},"response_code":403,"response_code_details":"ext_authz_error""#);
    check(
        Format::Auto,
        &format!(r#"{{"request_id":"r","start_time":"2026-11-21T00:36:21.170Z","response_flags":"UAEX",{flagged}}}"#),
        "error invoke u>a>t reasons=ext_authz_error",
    );
    // Claims under the key that the filter was told to keep them under.
    let keyed = call
        .replace(r#""jwt":{"sub":"u","act":{"sub":"a"}}"#, r#""jwt":{"jwt_payload":{"sub":"u","act":{"sub":"a"}}}"#);
    envoy(&format!(r#"{keyed},"response_code":200,"response_code_details":"via_upstream""#), "allow invoke u>a>t");
    envoy(
        &format!(r#"{call},"response_code":403,"response_code_details":"rbac_access_denied_matched_policy[none]""#),
        "deny invoke u>a>t reasons=rbac_access_denied_matched_policy",
    );
    envoy(
        &format!(
            r#"{call},"response_code":200,"response_code_details":"via_upstream","rbac":{{"shadow_engine_result":"denied"}}"#
        ),
        "allow invoke u>a>t",
    );
    envoy(
        &format!(
            r#"{call},"response_code":200,"response_code_details":"via_upstream","rbac":{{"enforced_engine_result":"denied"}}"#
        ),
        "deny invoke u>a>t reasons=via_upstream",
    );
    envoy(
        &format!(r#"{call},"response_code":200,"response_code_details":"via_upstream","authz_effect":"deny""#),
        "deny invoke u>a>t reasons=via_upstream flags=verdict_not_enforced",
    );
    envoy(&format!(r#"{call},"response_code":403"#), "deny invoke u>a>t");
    envoy(
        &format!(r#"{call},"response_code":404,"response_code_details":"route_not_found""#),
        "unknown invoke u>a>t reasons=route_not_found",
    );
    envoy(
        r#""response_code":401,"response_code_details":"jwt_authn_access_denied{Jwt_is_expired}","mcp":null,"jwt":null"#,
        "deny  >> reasons=jwt_authn_access_denied,Jwt_is_expired",
    );
    envoy(
        r#""response_code":200,"response_code_details":"via_upstream","mcp":{"method":"tools/list"}"#,
        "aside not_a_call",
    );
    envoy(
        r#""response_code":403,"response_code_details":"rbac_access_denied_matched_policy[p]","mcp":{"method":"tools/list"}"#,
        "deny list >> reasons=rbac_access_denied_matched_policy,p",
    );
    envoy(r#""response_code":200,"response_code_details":"via_upstream""#, "aside not_mcp");
    envoy(
        r#""response_code":200,"response_code_details":"via_upstream","mcp":{"method":"resources/read","params":{"uri":"file:///x"}}"#,
        "allow invoke >> resources=file:///x",
    );
    envoy(
        r#""response_code":200,"response_code_details":"via_upstream","mcp":{"method":"prompts/get","params":{"name":"p"}}"#,
        "allow invoke >> resources=prompt:p",
    );
    check(Format::Envoy, r#"{"a":1}"#, "reject mapping_missing");
    // Half text, half not: what is no JSON stays text.
    envoy(
        r#""response_code":"403","response_code_details":"ext_authz_denied","mcp":"{\"method\":\"tools/call\",\"params\":{\"name\":\"t\"}}","jwt":"{oops}""#,
        "deny invoke >>t reasons=ext_authz_denied flags=invalid:token.claims",
    );
}

#[test]
fn recognised_by_shape() {
    check(Format::Auto, "", "reject json_empty");
    check(Format::Auto, "\u{feff}{}", "reject json_bom");
    check(Format::Auto, "{}", "reject shape_unknown");
    check(Format::Auto, r#"{"a":1}"#, "reject shape_unknown");
    check(Format::Auto, "null", "reject not_an_object");
    check(Format::Auto, r#"{"tool":{"name":"t"}}"#, "reject verdict_missing");
    check(Format::Auto, r#"{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"allow"}}"#, "allow  >>");
    check(
        Format::Auto,
        r#"[{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"deny"}},{"id":"2"}]"#,
        "deny  >>\nreject shape_unknown",
    );
    check(Format::Auto, r#"{"log.logger":"cerbos.grpc","message":"gRPC server stopped"}"#, "aside server_log");
    check(Format::Auto, r#"{"level":"info","msg":"x","time":"2026-11-21T00:12:41Z"}"#, "aside console_line");
}
