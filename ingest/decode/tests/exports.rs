//! What comes in envelopes and exports: OTLP, agentgateway, CloudEvents. Records in, one line of text for each thing that came out.

use crate::seen::{context, decoder};
use catena_decode::{Context, Format, Sink};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, EventKind};

/// Writes what it is given as lines: verdict, who, what, and whatever else is there.
#[derive(Default)]
struct Lines(Vec<String>);

impl Sink for Lines {
    fn event(&mut self, e: &Event<'_>, format: Format) {
        let d = &e.decision;
        let verdict = match e.kind {
            EventKind::Decision => d.outcome.as_str(),
            EventKind::Execution => "execution",
        };
        let mut line = format!("{} {verdict}", format.as_str());
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                line += &format!(" {name}={value}");
            }
        };
        let list = |l: &[std::borrow::Cow<'_, str>]| l.join(",");
        add("", d.basis.filter(|b| b.as_str() == "inferred").map_or("", |_| "inferred"));
        add("enforced", d.enforced.map_or("", |x| x.as_str()));
        add("phase", d.phase.map_or("", |x| x.as_str()));
        add("engine", d.policy_engine.as_deref().unwrap_or_default());
        add("policy", d.policy_id.as_deref().unwrap_or_default());
        add("rules", &list(&d.rules));
        add("reasons", &list(&d.reasons));
        add("who", e.requester.id.as_deref().unwrap_or_default());
        add("by", &e.actors.iter().map(|a| a.id.as_ref()).collect::<Vec<_>>().join(">"));
        add("server", e.server.name.as_deref().unwrap_or_default());
        add("tool", e.tool.name.as_deref().unwrap_or_default());
        add("resources", &list(&e.call.resources));
        add("to", e.call.destination.as_deref().unwrap_or_default());
        add("params", e.call.params.as_deref().unwrap_or_default());
        add("error", &e.call.jsonrpc_error.map(|n| n.to_string()).unwrap_or_default());
        add("flags", &list(&e.flags));
        self.0.push(line.replace(" =", " "));
    }

    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        self.0.push(format!("{} {}", format.as_str(), entry.kind.as_str()));
    }

    fn rejection(&mut self, rejection: Rejection, _: Format) {
        self.0.push(format!("reject {}", rejection.reason));
    }

    fn aside(&mut self, aside: Rejection, _: Format) {
        self.0.push(format!("aside {} {}", aside.reason, aside.detail).trim_end().to_owned());
    }
}

fn lines(format: Format, record: &[u8], headers: &[(&str, &[u8])]) -> String {
    let mut lines = Lines::default();
    decoder().record(format, record, &Context { headers, ..context() }, &mut lines);
    lines.0.join("\n")
}

fn check(record: &str, expected: &str) {
    assert_eq!(lines(Format::Auto, record.as_bytes(), &[]), expected, "{record}");
}

/// One field of every event that comes out.
fn each(record: &str, headers: &[(&str, &[u8])], of: impl Fn(&Event<'_>) -> String) -> Vec<String> {
    struct Each<F>(Vec<String>, F);
    impl<F: Fn(&Event<'_>) -> String> Sink for Each<F> {
        fn event(&mut self, e: &Event<'_>, _: Format) {
            self.0.push((self.1)(e));
        }
        fn authority(&mut self, entry: &Entry<'_>, _: Format) {
            self.0.push(entry.kind.as_str().to_owned());
        }
        fn rejection(&mut self, r: Rejection, _: Format) {
            self.0.push(format!("reject {} {}", r.reason, r.detail));
        }
        fn aside(&mut self, a: Rejection, _: Format) {
            self.0.push(format!("aside {}", a.reason));
        }
    }
    let mut sink = Each(Vec::new(), of);
    decoder().record(Format::Auto, record.as_bytes(), &Context { headers, ..context() }, &mut sink);
    sink.0
}

fn at(e: &Event<'_>) -> String {
    e.time.to_rfc3339()
}

/// `key=value` lines as attributes; digits become integers.
fn attributes(list: &str) -> String {
    let one = |pair: &str| {
        let (key, value) = pair.split_once('=').expect("the test writes pairs");
        let value = serde_json::Value::from(value);
        let kind = if value.as_str().is_some_and(|v| v.parse::<i64>().is_ok()) { "intValue" } else { "stringValue" };
        format!(r#"{{"key":"{key}","value":{{"{kind}":{value}}}}}"#)
    };
    format!("[{}]", list.split_whitespace().map(one).collect::<Vec<_>>().join(","))
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn log_of(scope: &str, members: &str, list: &str) -> String {
    let attributes = attributes(list);
    format!(
        r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"gw"}}}}]}},"scopeLogs":[{{"scope":{{"name":"{scope}"}},"logRecords":[{{"timeUnixNano":"1787234591482913377","traceId":"{}","spanId":"00F067AA0BA902B7",{members}"attributes":{attributes}}}]}}]}}]}}"#,
        TRACE.to_uppercase()
    )
}

fn log(list: &str, expected: &str) {
    check(&log_of("any", "", list), expected);
}

fn span_of(name: &str, kind: u8, list: &str) -> String {
    let attributes = attributes(list);
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{TRACE}","spanId":"00f067aa0ba902b7","parentSpanId":"00f067aa0ba902b8","name":"{name}","kind":{kind},"startTimeUnixNano":1787234591482913377,"attributes":{attributes}}}]}}]}}]}}"#
    )
}

fn span(name: &str, kind: u8, list: &str, expected: &str) {
    check(&span_of(name, kind, list), expected);
}

#[test]
fn a_log_says_its_verdict_or_none() {
    let call = "mcp.method.name=tools/call gen_ai.tool.name=delete gen_ai.agent.id=agent:a user.id=dana";
    let told = "who=dana by=agent:a tool=delete";
    let with = |more: &str, expected: &str| log(&format!("{call} {more}"), expected);
    with("", &format!("otlp execution inferred phase=invoke {told} flags=id_missing"));
    // Neither an error code nor a status is a verdict.
    with(
        "rpc.response.status_code=-32602 http.response.status_code=403 error.type=tool_error",
        &format!("otlp execution inferred phase=invoke {told} error=-32602 flags=id_missing"),
    );
    let said = |attribute: &str, outcome: &str| {
        let unread = if outcome.ends_with("verdict_unmapped") { "invalid:decision.verdict," } else { "" };
        with(attribute, &format!("otlp {outcome} {told} flags={unread}id_missing"));
    };
    said("gen_ai.security.decision.type=allow", "allow phase=invoke");
    said("gen_ai.security.decision.type=deny", "deny phase=invoke");
    said("gen_ai.security.decision.type=warn", "allow enforced=none phase=invoke");
    said("gen_ai.security.decision.type=audit", "allow enforced=none phase=invoke");
    said("gen_ai.security.decision.type=modify", "allow enforced=modified phase=invoke");
    said("gen_ai.security.decision.type=defer", "unknown inferred phase=invoke reasons=verdict_unmapped");
    said("gen_ai.agent.tool.disposition=deny", "deny phase=invoke");
    said("gen_ai.agent.tool.disposition=simulate", "unknown inferred phase=invoke reasons=verdict_unmapped");
    said("agent.threat.detection.action=ask", "step_up phase=invoke");
    said(
        "agent.threat.detection.action=block agent.threat.detection.rule_id=r1 agent.threat.detection.ruleset=base@3",
        "deny enforced=blocked phase=invoke policy=base@3 rules=r1",
    );
    said(
        "gen_ai.security.decision.type=deny gen_ai.security.decision.code=pii gen_ai.security.policy.id=p1",
        "deny phase=invoke policy=p1 reasons=pii",
    );
    with(
        "gen_ai.tool.name=other",
        &format!("otlp execution inferred phase=invoke {told} flags=attribute_duplicated,id_missing"),
    );
    with(
        r#"gen_ai.tool.call.arguments={"ticket":"T-1","password":"hunter2"}"#,
        &format!(
            r#"otlp execution inferred phase=invoke {told} params={{"password":"[redacted:key:326eb4f6]","ticket":"T-1"}} flags=id_missing"#
        ),
    );
}

#[test]
fn what_a_log_is_about() {
    log(
        "mcp.method.name=resources/read mcp.resource.uri=file:///a",
        "otlp execution inferred phase=invoke resources=file:///a flags=id_missing",
    );
    log(
        "mcp.method.name=prompts/get gen_ai.prompt.name=p",
        "otlp execution inferred phase=invoke resources=prompt:p flags=id_missing",
    );
    log("mcp.method.name=tools/list", "aside not_a_call tools/list");
    log("mcp.method.name=tools/list gen_ai.security.decision.type=deny", "otlp deny phase=list flags=id_missing");
    log("gen_ai.operation.name=chat gen_ai.request.model=m", "aside otlp_unrelated any");
    log("http.route=/x", "aside otlp_unrelated any");
    check(
        &log_of("any", r#""eventName":"authz.decision","body":{"stringValue":"denied"},"#, "gen_ai.tool.name=t"),
        "otlp deny tool=t flags=id_missing",
    );
    // The verdict may be one of several members of the body, which is an object or the text of one.
    let body = |kvlist: &str, expected: &str| {
        let members = attributes(kvlist);
        let body = format!(r#""eventName":"authz.decision","body":{{"kvlistValue":{{"values":{members}}}}},"#);
        check(&log_of("any", &body, ""), expected);
    };
    body(
        "decision=deny reason=rule-7 user.id=dana gen_ai.agent.id=cc gen_ai.tool.name=t",
        "otlp deny reasons=rule-7 who=dana by=cc tool=t flags=id_missing",
    );
    body("authz.decision=allowed", "otlp allow flags=id_missing");
    body("effect=permit", "otlp allow flags=id_missing");
    body("verdict=perhaps", "otlp unknown inferred reasons=verdict_unmapped flags=invalid:decision.verdict,id_missing");
    body("note=x", "reject verdict_missing");
    check(
        &log_of("any", r#""eventName":"authz.decision","body":{"stringValue":"{\"allowed\":false}"},"#, ""),
        "otlp deny flags=id_missing",
    );
    // Only an event that is called a decision has its verdict as its body.
    check(
        &log_of("any", r#""body":{"stringValue":"denied"},"#, "gen_ai.tool.name=t"),
        "otlp execution inferred tool=t flags=id_missing",
    );
    check("{\"resourceLogs\":[]}", "aside otlp_empty");
    assert_eq!(lines(Format::Otlp, br#"{"resourceMetrics":[]}"#, &[]), "aside otlp_metrics");
    assert_eq!(lines(Format::Otlp, br#"{"a":1}"#, &[]), "reject otlp_unknown");
    assert_eq!(lines(Format::Otlp, b"7", &[]), "reject not_an_object");
}

#[test]
fn ids_and_times_of_a_log() {
    let links = |e: &Event<'_>| {
        format!(
            "{} {} {:?} {:?} {:?} {:?} {}/{}",
            e.id,
            at(e),
            e.links.trace.as_deref(),
            e.links.span.as_deref(),
            e.links.parent_span.as_deref(),
            e.source.instance.as_deref(),
            e.source.decision_index,
            e.source.decision_count
        )
    };
    let record = log_of("any", "", "gen_ai.tool.name=t");
    assert_eq!(
        each(&record, &[], links),
        [
            r#"place/0/0/0 2026-08-20T14:03:11.482913Z Some("4bf92f3577b34da6a3ce929d0e0e4736") Some("00f067aa0ba902b7") None Some("gw") 0/1"#
        ]
    );
    let named = record.replace(
        "gen_ai.tool.name\"",
        "log.record.uid\",\"value\":{\"stringValue\":\"u1\"}},{\"key\":\"gen_ai.tool.name\"",
    );
    assert!(each(&named, &[], links)[0].starts_with("u1 "), "{:?}", each(&named, &[], links));
    // Ids of another length are kept and flagged; a time of zero is none.
    let odd = record.replace(&TRACE.to_uppercase(), "S/kvNXezTaajzpKdDg5HNg==").replace("1787234591482913377", "0");
    let flags = |e: &Event<'_>| {
        format!("{} {}", e.flags.join(","), e.extra.as_deref().unwrap_or_default().contains("s/kvnxez"))
    };
    assert_eq!(each(&odd, &[], flags), ["time_missing,invalid:otlp.trace_id,id_missing true"]);
    let observed = record.replace("timeUnixNano", "observedTimeUnixNano");
    assert_eq!(each(&observed, &[], at), ["2026-08-20T14:03:11.482913Z"]);
}

#[test]
fn spans_link_and_name_nobody_else() {
    span(
        "execute_tool delete",
        1,
        "gen_ai.operation.name=execute_tool gen_ai.tool.name=delete gen_ai.agent.id=a1 gen_ai.agent.name=Helper",
        "otlp execution inferred phase=invoke by=a1 tool=delete flags=from_span",
    );
    // The span of the one that runs describes itself, that of a client the agent that it calls.
    span(
        "invoke_agent x",
        1,
        "gen_ai.operation.name=invoke_agent gen_ai.agent.id=a2",
        "otlp execution inferred by=a2 to=a2 flags=from_span",
    );
    span(
        "invoke_agent x",
        3,
        "gen_ai.operation.name=invoke_agent gen_ai.agent.id=a2",
        "otlp execution inferred to=a2 flags=from_span",
    );
    span("chat m", 3, "gen_ai.operation.name=chat", "aside otlp_unrelated chat m");
    let links = |e: &Event<'_>| {
        format!(
            "{} {:?} {:?} {:?}",
            e.id,
            e.links.span.as_deref(),
            e.links.parent_span.as_deref(),
            e.actors.first().and_then(|a| a.name.as_deref())
        )
    };
    assert_eq!(
        each(
            &span_of(
                "execute_tool d",
                1,
                "gen_ai.operation.name=execute_tool gen_ai.agent.id=a1 gen_ai.agent.name=Helper"
            ),
            &[],
            links
        ),
        [format!(r#"{TRACE}/00f067aa0ba902b7 Some("00f067aa0ba902b7") Some("00f067aa0ba902b8") Some("Helper")"#)]
    );
}

#[test]
fn the_strictest_event_of_a_span_counts() {
    let with = |own: &str, events: &[&str], expected: &str| {
        let events: Vec<_> = events
            .iter()
            .map(|e| format!(r#"{{"name":"agent.threat.detection","attributes":{}}}"#, attributes(e)))
            .collect();
        let record = span_of("execute_tool d", 1, &format!("gen_ai.tool.name=d {own}"))
            .replace(r#""kind":1,"#, &format!(r#""kind":1,"events":[{}],"#, events.join(",")));
        check(&record, expected);
    };
    let (allow, block) = (
        "agent.threat.detection.action=allow agent.threat.detection.rule_id=r1",
        "agent.threat.detection.action=block agent.threat.detection.rule_id=r2",
    );
    let ask = "agent.threat.detection.action=ask agent.threat.detection.rule_id=r3";
    with("", &[allow], "otlp allow rules=r1 tool=d flags=from_span");
    with("", &[allow, "x=1", allow], "otlp allow rules=r1 tool=d flags=from_span");
    // Rule and verdict are those of one event, in whatever order they came.
    for events in [[allow, block], [block, allow], [ask, block]] {
        with("", &events, "otlp deny enforced=blocked rules=r2 tool=d flags=verdicts_differ,from_span");
    }
    with("", &[allow, ask], "otlp step_up rules=r3 tool=d flags=verdicts_differ,from_span");
    with(
        "",
        &["agent.threat.detection.action=hm", block],
        "otlp deny enforced=blocked rules=r2 tool=d flags=from_span",
    );
    // What the span says of itself is said of the whole; that a part says otherwise is told.
    with("agent.threat.detection.action=allow", &[block], "otlp allow rules=r2 tool=d flags=verdicts_differ,from_span");
    with("gen_ai.security.decision.type=deny", &[block], "otlp deny rules=r2 tool=d flags=from_span");
}

#[test]
fn agentcore_policy_spans() {
    let p = "aws.agentcore.policy";
    let one = |list: &str, expected: &str| span("AgentCore.Policy.AuthorizeAction", 1, list, expected);
    one(
        &format!(
            "{p}.authorization_decision=DENY {p}.authorization_reason=no_policy {p}.mode=ENFORCE tool.name=refund aws.agentcore.gateway.policy.arn=arn:p"
        ),
        "otlp deny enforced=blocked phase=invoke policy=arn:p reasons=no_policy tool=refund flags=from_span",
    );
    one(
        &format!("{p}.authorization_decision=DENY {p}.mode=LOG_ONLY"),
        "otlp deny enforced=none phase=invoke flags=from_span",
    );
    one(&format!("{p}.authorization_decision=ALLOW"), "otlp allow phase=invoke flags=from_span");
    // Two servers may have a tool of one name: the name says which it is.
    one(
        &format!("{p}.authorization_decision=ALLOW tool.name=Tickets___delete_ticket server.address=gw"),
        "otlp allow phase=invoke server=Tickets tool=delete_ticket flags=from_span",
    );
    span(
        "AgentCore.Policy.PartiallyAuthorizeActions",
        1,
        &format!(r#"{p}.allowed_tools=["Tickets___a","b"]"#),
        "otlp allow phase=list server=Tickets tool=a flags=from_span\notlp allow phase=list tool=b flags=from_span",
    );
    span(
        "AgentCore.Gateway.InvokeTool",
        1,
        "tool.name=Tickets___delete_ticket",
        "otlp execution inferred phase=invoke server=Tickets tool=delete_ticket flags=from_span",
    );
    span("AgentCore.Gateway.Other", 1, "tool.name=Tickets___a", "reject otlp_unmapped");
    // Filtering a list is a decision on each tool of it, and blocks no call.
    let list = format!(r#"{p}.allowed_tools=["a","b"] {p}.denied_tools=c"#);
    span(
        "AgentCore.Policy.PartiallyAuthorizeActions",
        1,
        &list,
        "otlp allow phase=list tool=a flags=from_span\notlp allow phase=list tool=b flags=from_span\notlp deny phase=list tool=c flags=from_span",
    );
    // Whatever the mode, what a list does not show is no call that was blocked, and what it shows least of all.
    let filtered = |more: &str, allowed: &str, denied: &str| {
        span(
            "AgentCore.Policy.PartiallyAuthorizeActions",
            1,
            &format!("{p}.allowed_tools=a {p}.denied_tools=c {more}"),
            &format!(
                "otlp allow {allowed}phase=list tool=a flags=from_span\notlp deny {denied}phase=list tool=c flags=from_span"
            ),
        );
    };
    filtered(&format!("{p}.mode=ENFORCE {p}.authorization_decision=DENY"), "", "");
    filtered(&format!("{p}.mode=ENFORCE"), "", "");
    filtered(&format!("{p}.mode=LOG_ONLY"), "enforced=none ", "enforced=none ");
    filtered(&format!("{p}.mode=log_only {p}.authorization_decision=DENY"), "enforced=none ", "enforced=none ");
    one(
        &format!("{p}.authorization_decision=DENY {p}.mode=log_only"),
        "otlp deny enforced=none phase=invoke flags=from_span",
    );
    // A list of nothing decides nothing.
    span(
        "AgentCore.Policy.PartiallyAuthorizeActions",
        1,
        &format!("{p}.allowed_tools=[] {p}.denied_tools=[]"),
        "aside items_none AgentCore.Policy.PartiallyAuthorizeActions",
    );
    let places = each(&span_of("AgentCore.Policy.PartiallyAuthorizeActions", 1, &list), &[], |e| {
        format!("{} {}/{}", e.id, e.source.decision_index, e.source.decision_count)
    });
    assert_eq!(places[2], format!("{TRACE}/00f067aa0ba902b7/2 2/3"));
}

/// Gateways whose spans have names of their own, and are all that tells of a call.
#[test]
fn spans_of_gateways_are_executions() {
    let forge = "tool.name=delete_ticket tool.id=6f2 tool.integration_type=MCP tool.gateway_id=gw-7 server_id=vs-1 correlation_id=c-118 arguments_count=1";
    span(
        "tool.invoke",
        1,
        &format!("{forge} user.email=dana@corp.example team.scope=ops auth.method=jwt"),
        "otlp execution inferred phase=invoke who=dana@corp.example tool=delete_ticket flags=from_span",
    );
    let ids = each(&span_of("tool.invoke", 1, &format!("{forge} user.email=dana@corp.example")), &[], |e| {
        let extra: serde_json::Value = serde_json::from_str(e.extra.as_deref().unwrap_or("{}")).expect("JSON");
        format!(
            "{:?} {:?} {:?} {} {}",
            e.server.id.as_deref(),
            e.links.request.as_deref(),
            e.requester.email.as_deref(),
            extra["server_id"],
            extra["tool.integration_type"]
        )
    });
    assert_eq!(ids, [r#"Some("gw-7") Some("c-118") Some("dana@corp.example") "vs-1" "MCP""#]);
    let docker = "mcp.tool.name=delete_ticket mcp.server.name=tickets mcp.server.type=docker";
    span(
        "mcp.tool.call",
        2,
        docker,
        "otlp execution inferred phase=invoke server=tickets tool=delete_ticket flags=from_span",
    );
    // Whoever adds a verdict decides.
    span(
        "mcp.tool.call",
        2,
        &format!("{docker} authz.decision=deny"),
        "otlp deny phase=invoke server=tickets tool=delete_ticket flags=from_span",
    );
    span("mcp.initialize", 2, "mcp.client.name=cc mcp.client.version=2", "aside otlp_unrelated mcp.initialize");
    span("tool.invoke", 1, "x=1", "aside otlp_unrelated tool.invoke");
}

/// Its authorize lines are the decisions, with who asked; its sampled spans would count some of them again, without.
#[test]
fn spans_of_pomerium_are_no_decisions() {
    span(
        "authorize.grpc.LogAuthorizeCheck",
        1,
        "result.allow=false result.deny=false",
        "aside otlp_unrelated authorize.grpc.LogAuthorizeCheck",
    );
    span(
        "envoy.service.auth.v3.Authorization/Check",
        2,
        "mcp.method=tools/call mcp.tool=delete_ticket",
        "aside otlp_unrelated envoy.service.auth.v3.Authorization/Check",
    );
}

#[test]
fn a_line_that_a_collector_forwards_is_its_producers() {
    let opa = r#"{"decision_id":"d1","path":"p","labels":{"id":"i"},"result":{"effect":"deny"}}"#;
    let body = |json: &str| format!(r#""body":{{"stringValue":{}}},"#, serde_json::Value::from(json));
    check(&log_of("filelog", &body(opa), "log.file.name=x"), "opa deny phase=invoke engine=opa policy=p");
    let envelope = |e: &Event<'_>| {
        format!("{} {} {:?}", at(e), e.links.trace.as_deref().unwrap_or_default(), e.source.instance.as_deref())
    };
    assert_eq!(
        each(&log_of("filelog", &body(opa), "log.file.name=x"), &[], envelope),
        [format!(r#"2026-08-20T14:03:11.482913Z {TRACE} Some("i")"#)]
    );
    // What merely has a member of that name is no record.
    check(&log_of("filelog", &body(r#"{"tool":"x"}"#), "log.file.name=x"), "aside otlp_unrelated filelog");
    // A record that says something itself is not passed over for its body.
    check(&log_of("any", &body(opa), "gen_ai.tool.name=t"), "otlp execution inferred tool=t flags=id_missing");
}

#[test]
fn resources_are_not_multiplied_without_bound() {
    let resource =
        format!(r#"{{"attributes":[{{"key":"blob","value":{{"stringValue":"{}"}}}}]}}"#, "x".repeat(1 << 20));
    let record = r#"{"timeUnixNano":"1787234591482913377","attributes":[{"key":"gen_ai.tool.name","value":{"stringValue":"t"}}]}"#;
    let request = format!(
        r#"{{"resourceLogs":[{{"resource":{resource},"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#,
        vec![record; 40].join(",")
    );
    let sizes =
        each(&request, &[], |e| format!("{} {}", e.extra.as_deref().map_or(0, str::len) >> 20, e.flags.join(",")));
    assert_eq!(sizes.len(), 40);
    assert_eq!(sizes.iter().filter(|s| s.as_str() == "1 id_missing").count(), 17);
    assert_eq!(sizes[39], "0 cut:resource,id_missing");
}

fn gateway(rest: &str) -> String {
    format!(
        r#"{{"level":"info","time":"2026-08-20T14:03:11.42Z","scope":"request","gateway":"default/agw","route":"r","src.addr":"10.20.0.14:51022","http.method":"POST","http.path":"/mcp","trace.id":"{TRACE}","span.id":"00f067aa0ba902b7","jwt.sub":"dana",{rest}"duration":"2ms"}}"#
    )
}

#[test]
fn agentgateway_lines() {
    let call = r#""protocol":"mcp","mcp.method.name":"tools/call","mcp.target":"tickets","gen_ai.tool.name":"delete","#;
    let told = "who=dana server=tickets tool=delete";
    let with = |more: &str, expected: &str| check(&gateway(&format!("{call}{more}")), expected);
    with(r#""http.status":200,"#, &format!("agentgateway allow inferred enforced=forwarded phase=invoke {told}"));
    // What the server behind answered is its own affair.
    with(
        r#""http.status":200,"mcp.error.code":-32602,"#,
        &format!("agentgateway allow inferred enforced=forwarded phase=invoke {told} error=-32602"),
    );
    let refused = |status: u16, reason: &str, outcome: &str| {
        with(
            &format!(r#""http.status":{status},"reason":"{reason}","#),
            &format!("agentgateway {outcome} reasons={reason} {told}"),
        );
    };
    let engine = |name: &str| format!("deny enforced=blocked phase=invoke engine=agentgateway.{name}");
    refused(403, "Authorization", &engine("authorization"));
    refused(403, "ExtAuth", &engine("ext_auth"));
    refused(502, "ExtAuth", "error inferred enforced=blocked phase=invoke engine=agentgateway.ext_auth");
    refused(401, "JwtAuth", &engine("jwt_auth"));
    refused(401, "Oidc", &engine("oidc"));
    refused(302, "Oidc", "unknown inferred enforced=blocked phase=invoke engine=agentgateway.oidc");
    refused(401, "BasicAuth", &engine("basic_auth"));
    refused(401, "APIKeyAuth", &engine("api_key_auth"));
    refused(403, "Guardrail", &engine("guardrail"));
    refused(429, "RateLimit", "deny inferred enforced=blocked phase=invoke engine=agentgateway.rate_limit");
    refused(504, "Timeout", "allow inferred enforced=forwarded phase=invoke");
    refused(502, "UpstreamFailure", "allow inferred enforced=forwarded phase=invoke");
    for reason in ["ExtProc", "InvalidRequest", "NotFound", "NoHealthyBackend", "Internal", "MCP"] {
        refused(500, reason, "error inferred enforced=blocked phase=invoke");
    }
    refused(200, "DirectResponse", "unknown inferred enforced=unknown phase=invoke");
    refused(500, "SomethingNew", "unknown inferred enforced=unknown phase=invoke");
    // A verdict that the operator had written outweighs all this.
    with(
        r#""http.status":200,"authz.decision":"deny","#,
        &format!("agentgateway deny enforced=forwarded phase=invoke {told} flags=verdict_not_enforced"),
    );
}

#[test]
fn agentgateway_disguises_denials() {
    let unknown = r#""http.status":400,"error":"mcp: Unknown tool: delete","reason":"MCP","protocol":"mcp","mcp.method.name":"tools/call","#;
    check(
        &gateway(&format!(
            r#"{unknown}"mcp.target":"tickets","gen_ai.tool.name":"delete","agent.client_id":"cc","jwt.act":"agent:cc","#
        )),
        "agentgateway deny inferred enforced=blocked phase=invoke engine=agentgateway.mcp_authorization reasons=unknown_tool_disguise,MCP who=dana by=agent:cc server=tickets tool=delete",
    );
    // A name that was never resolved is one that does not exist.
    check(
        &gateway(&format!(r#"{unknown}"gen_ai.tool.name":"delete","#)),
        "agentgateway error inferred enforced=blocked phase=invoke reasons=MCP who=dana tool=delete",
    );
    check(
        &gateway(&format!(r#"{unknown}"mcp.target":"tickets","#)),
        "agentgateway error inferred enforced=blocked phase=invoke reasons=MCP who=dana server=tickets",
    );
}

#[test]
fn agentgateway_lines_that_are_no_calls() {
    check(
        &gateway(r#""protocol":"mcp","mcp.method.name":"tools/list","http.status":200,"#),
        "aside not_a_call tools/list",
    );
    check(
        &gateway(r#""protocol":"mcp","mcp.method.name":"tools/list","http.status":403,"reason":"Authorization","#),
        "agentgateway deny enforced=blocked phase=list engine=agentgateway.authorization reasons=Authorization who=dana",
    );
    check(&gateway(r#""protocol":"http","http.status":200,"#), "aside not_mcp /mcp");
    check(&gateway(r#""protocol":"http","http.status":404,"reason":"NotFound","#), "aside not_mcp NotFound");
    check(
        &gateway(r#""protocol":"http","http.status":401,"reason":"JwtAuth","#),
        "agentgateway deny enforced=blocked engine=agentgateway.jwt_auth reasons=JwtAuth who=dana",
    );
    check(&gateway(r#""protocol":"llm","gen_ai.operation.name":"chat","http.status":200,"#), "aside llm_request");
    // Somebody who was kept from a model was denied.
    let model = |rest: &str| gateway(&format!(r#""protocol":"llm","gen_ai.operation.name":"chat",{rest}"#));
    for (reason, status, engine) in
        [("Authorization", 403, "authorization"), ("Guardrail", 403, "guardrail"), ("APIKeyAuth", 401, "api_key_auth")]
    {
        check(
            &model(&format!(r#""http.status":{status},"reason":"{reason}","#)),
            &format!("agentgateway deny enforced=blocked engine=agentgateway.{engine} reasons={reason} who=dana"),
        );
    }
    check(&model(r#""http.status":502,"reason":"UpstreamFailure","#), "aside llm_request UpstreamFailure");
    check(&model(r#""http.status":400,"reason":"InvalidRequest","#), "aside llm_request InvalidRequest");
    check(&model(r#""http.status":200,"authz.decision":"allow","#), "agentgateway allow enforced=forwarded who=dana");
    check(
        &gateway(r#""protocol":"a2a","a2a.method":"message/send","a2a.context.id":"c","http.status":200,"#),
        "agentgateway allow inferred enforced=forwarded phase=invoke who=dana",
    );
    assert_eq!(
        lines(Format::Agentgateway, br#"{"level":"info","time":"t","scope":"proxy","message":"up"}"#, &[]),
        "aside server_log proxy"
    );
    for scope in ["agentgateway::proxy", "agentgateway", "agent_core::drain"] {
        check(
            &format!(r#"{{"level":"info","time":"2026-08-20T14:03:11.42Z","scope":"{scope}","message":"up"}}"#),
            &format!("aside server_log {scope}"),
        );
    }
    check(r#"{"level":"info","time":"t","scope":"elsewhere","message":"up"}"#, "reject shape_unknown");
    assert_eq!(lines(Format::Agentgateway, br#"{"a":1}"#, &[]), "reject entry_unknown");
    check(
        &gateway(r#""http.status":200,"#)
            .replace("2026-08-20T14:03:11.42Z", "soon")
            .replace("\"http.path\"", "\"mcp.method.name\":\"tools/call\",\"http.path\""),
        "reject time_invalid",
    );
}

#[test]
fn agentgateway_ids_times_and_its_two_forms() {
    let place = |e: &Event<'_>| {
        assert_eq!(e.requester.assurance.as_deref(), Some("verified"));
        format!("{} {} {:?}", e.id, at(e), e.network.ip.as_deref())
    };
    let call = r#""protocol":"mcp","mcp.method.name":"tools/call","mcp.target":"tickets","gen_ai.tool.name":"delete","http.status":200,"#;
    assert_eq!(
        each(&gateway(call), &[], place),
        [format!(r#"{TRACE}/00f067aa0ba902b7/1787234591000042 2026-08-20T14:03:11.000042Z Some("10.20.0.14")"#)]
    );
    // The same by OTLP, where the time is right and integers may be text.
    let exported = log_of(
        "agentgateway.access",
        "",
        "gateway=default/agw src.addr=10.20.0.14:51022 jwt.sub=dana protocol=mcp mcp.method.name=tools/call mcp.target=tickets gen_ai.tool.name=delete http.status=403 reason=Authorization",
    );
    check(
        &exported,
        "agentgateway deny enforced=blocked phase=invoke engine=agentgateway.authorization reasons=Authorization who=dana server=tickets tool=delete",
    );
    assert_eq!(
        each(&exported, &[], place),
        [format!(r#"{TRACE}/00f067aa0ba902b7/1787234591482913 2026-08-20T14:03:11.482913Z Some("10.20.0.14")"#)]
    );
    // A counter of one process is no id of a request.
    let request = |e: &Event<'_>| {
        let kept = e.extra.as_deref().unwrap_or_default().contains(r#""request.id":17"#);
        format!("{} {kept}", e.links.request.as_deref().unwrap_or("-"))
    };
    assert_eq!(each(&gateway(&format!(r#"{call}"request.id":17,"connection.id":3,"#)), &[], request), ["- true"]);
    let named = format!(r#"{call}"request.id":17,"http.request.id":"rq-1","#);
    assert_eq!(each(&gateway(&named), &[], request), ["rq-1 true"]);
    // A nested `act`, as an object or as the text of one.
    let act = r#"{"sub":"agent:b","act":{"sub":"agent:a"}}"#;
    let by = |e: &Event<'_>| e.actors.iter().map(|a| a.id.as_ref()).collect::<Vec<_>>().join(">");
    for act in [act.to_owned(), serde_json::Value::from(act).to_string()] {
        assert_eq!(each(&gateway(&format!(r#"{call}"jwt.act":{act},"#)), &[], by), ["agent:a>agent:b"]);
    }
}

#[test]
fn agentgateway_tokens() {
    let call = r#""protocol":"mcp","mcp.method.name":"tools/call","gen_ai.tool.name":"delete","http.status":200,"#;
    let token = |e: &Event<'_>| {
        format!(
            "{} {} {} {}",
            e.token.audience.join("+"),
            e.token.expires_at.map(|t| t.to_rfc3339()).unwrap_or_default(),
            e.network.spiffe.as_deref().unwrap_or_default(),
            e.extra.as_deref().unwrap_or_default().contains("jwt."),
        )
    };
    let expected = ["https://t+b 2026-08-20T15:03:11.000000Z spiffe://corp/cc false"];
    let line =
        format!(r#"{call}"jwt.aud":["https://t","b"],"jwt.exp":1787238191,"source.spiffeId":"spiffe://corp/cc","#);
    assert_eq!(each(&gateway(&line), &[], token), expected);
    let exported = log_of(
        "agentgateway.access",
        "",
        r#"mcp.method.name=tools/call gen_ai.tool.name=d jwt.aud=["https://t","b"] jwt.exp=1787238191 source.spiffeId=spiffe://corp/cc"#,
    );
    assert_eq!(each(&exported, &[], token), expected);
    // One audience as text, a time as text, an identity that the gateway logs by itself; a time that is none stays in `extra`.
    let line = format!(r#"{call}"jwt.aud":"b","jwt.exp":"1787238191","src.identity":"spiffe://corp/x","#);
    assert_eq!(each(&gateway(&line), &[], token), ["b 2026-08-20T15:03:11.000000Z spiffe://corp/x false"]);
    assert_eq!(each(&gateway(&format!(r#"{call}"jwt.exp":"soon","#)), &[], token), ["   true"]);
}

const NATIVE: &str = r#"{"decision":{"verdict":"deny"},"tool":{"name":"t"}}"#;

fn cloudevent(rest: &str) -> String {
    format!(
        r#"{{"specversion":"1.0","id":"ce-1","source":"//pdp-1","type":"authz.v1","subject":"x","time":"2026-08-20T14:03:11.482913Z","datacontenttype":"application/json","authtype":"app_user","authid":"idp|8c","traceparent":"00-{TRACE}-00f067aa0ba902b7-01"{rest}}}"#
    )
}

fn whole(e: &Event<'_>) -> String {
    let text = |t: &Option<std::borrow::Cow<'_, str>>| t.as_deref().unwrap_or("-").to_owned();
    format!(
        "{} {} {} {} {}:{} {} {} {} {}",
        e.id,
        at(e),
        e.decision.outcome.as_str(),
        text(&e.source.instance),
        text(&e.requester.kind),
        text(&e.requester.id),
        text(&e.links.trace),
        text(&e.links.parent_span),
        text(&e.extra),
        e.flags.join(",")
    )
}

#[test]
fn cloudevents_in_their_three_modes() {
    let expected = format!(
        r#"ce-1 2026-08-20T14:03:11.482913Z deny //pdp-1 human:idp|8c {TRACE} 00f067aa0ba902b7 {{"cloudevents":{{"authtype":"app_user","source":"//pdp-1","subject":"x","type":"authz.v1"}}}} "#
    );
    let structured = cloudevent(&format!(r#","data":{NATIVE}"#));
    assert_eq!(each(&structured, &[], whole), [expected.as_str()]);
    assert_eq!(
        each(&structured, &[("content-type", b"application/cloudevents+json; charset=UTF-8")], whole),
        [expected.as_str()]
    );
    assert_eq!(
        each(
            &format!("[{structured},{structured}]"),
            &[("Content-Type", b"application/cloudevents-batch+json")],
            whole
        ),
        [expected.as_str(); 2]
    );
    // Data as text, and in base64.
    let text = serde_json::Value::from(NATIVE);
    assert_eq!(each(&cloudevent(&format!(r#","data":{text}"#)), &[], whole), [expected.as_str()]);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, NATIVE);
    assert_eq!(each(&cloudevent(&format!(r#","data_base64":"{base64}""#)), &[], whole), [expected.as_str()]);
    for prefix in ["ce_", "ce-", "Ce-"] {
        let names: Vec<(String, String)> = serde_json::from_str::<serde_json::Map<_, _>>(&cloudevent(""))
            .expect("the test writes JSON")
            .into_iter()
            .filter(|(k, _)| k != "datacontenttype")
            .map(|(k, v)| (format!("{prefix}{k}"), v.as_str().expect("text").to_owned()))
            .collect();
        let mut headers: Vec<(&str, &[u8])> = names.iter().map(|(k, v)| (k.as_str(), v.as_bytes())).collect();
        headers.push(("content-type", b"application/json"));
        assert_eq!(each(NATIVE, &headers, whole), [expected.as_str()]);
        assert_eq!(each("", &headers, whole), ["reject tombstone the envelope `ce-1` of `//pdp-1` holds no data"]);
    }
}

#[test]
fn what_the_data_says_wins_over_the_envelope() {
    let own = r#"{"id":"own","time":"2026-01-01T00:00:00Z","decision":{"verdict":"allow"},"source":{"instance":"i"},"requester":{"id":"zoe"},"links":{"span":"1111111111111111"},"cloudevents":1}"#;
    assert_eq!(
        each(&cloudevent(&format!(r#","data":{own}"#)), &[], whole),
        [format!(
            r#"own 2026-01-01T00:00:00.000000Z allow i -:zoe - - {{"cloudevents":1,"cloudevents~2":{{"authid":"idp|8c","authtype":"app_user","id":"ce-1","source":"//pdp-1","subject":"x","time":"2026-08-20T14:03:11.482913Z","traceparent":"00-{TRACE}-00f067aa0ba902b7-01","type":"authz.v1"}}}} "#
        )]
    );
    // Several records in one envelope have its id and their number.
    let ids = each(&cloudevent(&format!(r#","data":[{NATIVE},{NATIVE}]"#)), &[], |e| {
        format!("{} {}", e.id, e.flags.join(","))
    });
    assert_eq!(ids, ["ce-1/0 ", "ce-1/1 "]);
}

/// What nobody can read, and what is no text, is kept and said.
#[test]
fn nothing_of_an_envelope_is_lost() {
    let of = |time: &str, parent: &str, rest: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"ce-1","source":"//pdp-1","type":"t"{time}{parent}{rest},"data":{NATIVE}}}"#
        )
    };
    let told = |e: &Event<'_>| format!("{} {}", e.extra.as_deref().unwrap_or_default(), e.flags.join(","));
    for (record, extra) in [
        (
            of(r#","time":"yesterday""#, "", ""),
            r#"{"cloudevents":{"source":"//pdp-1","time":"yesterday","type":"t"}} time_missing,invalid:cloudevents.time"#,
        ),
        (
            of("", r#","traceparent":"00-x""#, ""),
            r#"{"cloudevents":{"source":"//pdp-1","traceparent":"00-x","type":"t"}} time_missing,invalid:cloudevents.traceparent"#,
        ),
        (
            of("", "", r#","dataref":"s3://b","n":7,"o":{"a":1}"#),
            r#"{"cloudevents":{"dataref":"s3://b","n":"7","o":"{\"a\":1}","source":"//pdp-1","type":"t"}} time_missing"#,
        ),
    ] {
        assert_eq!(each(&record, &[], told), [extra], "{record}");
    }
}

/// An id is one of its source: a record from elsewhere does not make two of them one.
#[test]
fn envelopes_are_told_apart_by_source_and_id() {
    let own = r#"{"decision":{"verdict":"deny"},"source":{"instance":"i"}}"#;
    let of = |source: &str| cloudevent(&format!(r#","data":{own}"#)).replace("//pdp-1", source);
    let id = |e: &Event<'_>| format!("{} {}", e.source.instance.as_deref().unwrap_or_default(), e.id);
    assert_eq!(each(&of("//a"), &[], id), ["i //a/ce-1"]);
    assert_eq!(each(&of("//b"), &[], id), ["i //b/ce-1"]);
    assert_eq!(each(&of("i"), &[], id), ["i ce-1"]);
}

/// What reached a sink besides events: authority as text, and rejections with their format.
#[derive(Default)]
struct Others(Vec<String>, Vec<(Rejection, Format)>);

impl Sink for Others {
    fn event(&mut self, _: &Event<'_>, _: Format) {}
    fn authority(&mut self, e: &Entry<'_>, _: Format) {
        let text = |t: &Option<std::borrow::Cow<'_, str>>| t.as_deref().unwrap_or("-").to_owned();
        let (instance, extra) = (text(&e.source.instance), text(&e.extra));
        self.0.push(format!("{} {} {instance} {extra} {}", e.id, e.time.to_rfc3339(), e.flags.join(",")));
    }
    fn rejection(&mut self, rejection: Rejection, format: Format) {
        self.1.push((rejection, format));
    }
    fn aside(&mut self, _: Rejection, _: Format) {}
}

fn others(record: &[u8], headers: &[(&str, &[u8])]) -> Others {
    let mut others = Others::default();
    decoder().record(Format::Auto, record, &Context { headers, ..context() }, &mut others);
    others
}

#[test]
fn records_of_authority_have_what_their_envelope_says() {
    let grant = r#"{"kind":"grant","grant_id":"g","grantor":"a","grantee":"b","authority":{"scope":["s"]}}"#;
    let rest = format!(
        r#"{{"cloudevents":{{"authid":"idp|8c","authtype":"app_user","source":"//pdp-1","subject":"x","traceparent":"00-{TRACE}-00f067aa0ba902b7-01","type":"authz.v1"}}}}"#
    );
    let seen = others(cloudevent(&format!(r#","data":{grant}"#)).as_bytes(), &[]);
    assert_eq!(seen.0, [format!("ce-1 2026-08-20T14:03:11.482913Z //pdp-1 {rest} ")]);
    let own =
        grant.replace("{\"kind\"", r#"{"id":"own","time":"2026-01-01T00:00:00Z","source":{"instance":"i"},"kind""#);
    let seen = others(cloudevent(&format!(r#","data":{own}"#)).as_bytes(), &[]);
    assert!(seen.0[0].starts_with("own 2026-01-01T00:00:00.000000Z i "), "{:?}", seen.0);
    assert!(seen.0[0].contains(r#""id":"ce-1""#) && seen.0[0].contains("14:03:11.482913Z"), "{:?}", seen.0);
}

/// A retry has the bytes that were kept and nothing else, so they say when, where from and on whose behalf.
#[test]
fn what_is_rejected_is_kept_with_its_envelope() {
    let mine = r#"
format = "mapped"
when.all = [{ pointer = "/answer", exists = true }]
outcome.from = "/answer"
outcome.values.deny = "nope"
"#;
    let mappings = catena_decode::mapping::Mappings::shipped().with(mine, "mine").expect("well written");
    let retried = |raw: &[u8], format: Format| {
        let redactor = std::sync::Arc::new(catena_decode::Redactor::new(crate::seen::KEY));
        let mut decoder = catena_decode::Decoder::with_mappings(redactor, std::sync::Arc::new(mappings.clone()));
        let mut seen = crate::seen::Collected::default();
        decoder.record(format, raw, &context(), &mut seen);
        seen
    };
    let data = r#"{"answer":"nope"}"#;
    let text = serde_json::Value::from(data);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, data);
    let structured = cloudevent(&format!(r#","data":{data}"#));
    let mut all = vec![
        others(structured.as_bytes(), &[]),
        others(cloudevent(&format!(r#","data":{text}"#)).as_bytes(), &[]),
        others(cloudevent(&format!(r#","data_base64":"{base64}""#)).as_bytes(), &[]),
    ];
    let headers: [(&str, &[u8]); 6] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"ce-1"),
        ("ce_source", b"//pdp-1"),
        ("ce_type", b"t"),
        ("ce_time", b"2026-08-20T14:03:11.482913Z"),
        ("ce_authid", b"idp|8c"),
    ];
    all.push(others(data.as_bytes(), &headers));
    for seen in all {
        let [(rejection, format)] = &seen.1[..] else { panic!("{:?}", seen.1) };
        assert_eq!((rejection.reason, *format), ("shape_unknown", Format::Cloudevents));
        let raw = rejection.raw.as_deref().expect("it is kept");
        let read = retried(raw, *format);
        assert_eq!(read.rejections, []);
        let e = &read.events[0];
        assert_eq!((e.outcome.as_str(), e.id.as_str(), e.requester.as_str()), ("deny", "ce-1", "idp|8c"));
        assert_eq!(e.time.to_rfc3339(), "2026-08-20T14:03:11.482913Z");
        assert!(e.native.contains("//pdp-1"), "{}", e.native);
        // Kept once more, it is the same.
        assert_eq!(others(raw, &[]).1[0].0.raw.as_deref(), Some(raw));
    }
    // What is no JSON stands in its envelope as the text or the bytes that it was.
    let kept = |record: &str| String::from_utf8(others(record.as_bytes(), &[]).1[0].0.raw.clone().expect("kept"));
    assert!(kept(&cloudevent(r#","data":"oops""#)).is_ok_and(|k| k.ends_with(r#","data":"oops"}"#)));
    assert!(kept(&cloudevent(r#","data_base64":"/w==""#)).is_ok_and(|k| k.ends_with(r#","data_base64":"/w=="}"#)));
    // Of several in one each is kept by itself: with the envelope around it each would have its id.
    assert_eq!(kept(&cloudevent(r#","data":[{"a":1},{"b":2}]"#)), Ok(r#"{"a":1}"#.to_owned()));
}

#[test]
fn envelopes_that_are_announced_are_taken_as_such() {
    let announced: &[(&str, &[u8])] = &[("content-type", b"application/cloudevents+json; charset=UTF-8")];
    let whole = cloudevent(&format!(r#","data":{NATIVE}"#));
    for (from, to) in [(r#""source":"//pdp-1","#, ""), (r#""id":"ce-1""#, r#""id":7"#), (r#""specversion":"1.0","#, "")]
    {
        let broken = whole.replace(from, to);
        assert_eq!(lines(Format::Auto, broken.as_bytes(), announced), "reject cloudevent_invalid", "{broken}");
        assert_eq!(lines(Format::Cloudevents, broken.as_bytes(), &[]), "reject cloudevent_invalid", "{broken}");
    }
    // All four attributes are there, so that it is one, announced or not.
    check(&whole.replace(r#""id":"ce-1""#, r#""id":7"#), "reject cloudevent_invalid");
    // One that is announced as structured is no binary one, whatever else stands in the headers.
    let both: &[(&str, &[u8])] = &[announced[0], ("ce-specversion", b"1.0")];
    assert_eq!(lines(Format::Auto, whole.as_bytes(), both), "catena deny who=idp|8c tool=t");
}

/// Over HTTP values are percent-encoded, and may be quoted; on Kafka they are what they are.
#[test]
fn attributes_in_http_headers_are_decoded() {
    let who = |prefix: &str, value: &str| {
        let names = ["specversion", "id", "source", "type", "authid"].map(|n| format!("{prefix}{n}"));
        let values = ["1.0", "ce-1", "//pdp-1", "t", value];
        let headers: Vec<(&str, &[u8])> = names.iter().map(|n| n.as_str()).zip(values.map(|v| v.as_bytes())).collect();
        each(NATIVE, &headers, |e| e.requester.id.as_deref().unwrap_or_default().to_owned())
    };
    for (value, expected) in [
        ("d%C3%A4na", "d\u{e4}na"),
        ("\"d%C3%a4na \\\"x\\\"\"", "d\u{e4}na \"x\""),
        ("100%25", "100%"),
        ("100%", "100%"),
        ("%zz", "%zz"),
        ("%ff", "%ff"),
    ] {
        assert_eq!(who("ce-", value), [expected], "{value}");
    }
    assert_eq!(who("ce_", "d%C3%A4na"), ["d%C3%A4na"]);
}

#[test]
fn cloudevents_hold_any_format() {
    check(
        &cloudevent(r#","data":{"decision_id":"d1","path":"p","labels":{"id":"i"},"result":{"effect":"allow"}}"#),
        "opa allow phase=invoke engine=opa policy=p who=idp|8c",
    );
    check(
        &cloudevent(&format!(r#","data":{}"#, log_of("any", "", "gen_ai.tool.name=t"))),
        "otlp execution inferred who=idp|8c tool=t",
    );
    // The specification's own example, and what is not quite it: a word that is no outcome decides nothing.
    let plain = |data: &str| cloudevent(&format!(r#","data":{data}"#));
    let example = plain(r#"{"outcome":"deny","tool":"delete_ticket"}"#);
    check(&example, "mapped deny who=idp|8c tool=delete_ticket");
    assert_eq!(
        each(&example, &[], whole),
        [format!(
            r#"ce-1 2026-08-20T14:03:11.482913Z deny //pdp-1 human:idp|8c {TRACE} 00f067aa0ba902b7 {{"cloudevents":{{"authtype":"app_user","source":"//pdp-1","subject":"x","type":"authz.v1"}}}} "#
        )]
    );
    check(&plain(r#"{"outcome":"success","tool":"hammer"}"#), "reject verdict_missing");
    check(&plain(r#"{"outcome":"deny","tool":{"name":"t"}}"#), "reject verdict_missing");
    // What the data is comes with the data.
    check(&cloudevent(r#","data":{"outcome":"deny"}"#), "reject shape_unknown");
    let protobuf = cloudevent(r#","data_base64":"CgA=""#).replace("application/json", "application/x-protobuf");
    check(&protobuf, "aside otlp_empty");
}

#[test]
fn cloudevents_that_are_none() {
    check(&cloudevent(""), "reject tombstone");
    check(&cloudevent(r#","data":null"#), "reject tombstone");
    check(&cloudevent(r#","data":"""#), "reject tombstone");
    check(&cloudevent(r#","data":{},"data_base64":"AA==""#), "reject cloudevent_invalid");
    check(&cloudevent(r#","data_base64":"%""#), "reject cloudevent_invalid");
    for required in ["\"id\":\"ce-1\"", "\"source\":\"//pdp-1\"", "\"type\":\"authz.v1\""] {
        let without = cloudevent(r#","data":{}"#).replace(required, "\"other\":\"\"");
        assert_eq!(lines(Format::Cloudevents, without.as_bytes(), &[]), "reject cloudevent_invalid", "{without}");
    }
    assert_eq!(lines(Format::Cloudevents, b"7", &[]), "reject not_an_object");
    assert_eq!(lines(Format::Auto, b"{}", &[("ce_specversion", b"1.0")]), "reject cloudevent_invalid");
    // Envelopes in envelopes, as deep as may be and one deeper.
    let nest = |depth| (0..depth).fold(NATIVE.to_owned(), |data, _| cloudevent(&format!(r#","data":{data}"#)));
    assert!(lines(Format::Auto, nest(3).as_bytes(), &[]).starts_with("catena deny"));
    check(&nest(4), "reject envelope_depth");
}

#[test]
fn secrets_in_envelopes_are_redacted() {
    let secret = format!("gh{}_9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae", "p");
    let debug = |e: &Event<'_>| format!("{e:?}");
    let event = cloudevent(&format!(
        r#","authclaims":"{{\"token\":\"{secret}\"}}","clientsecret":"hunter2-very-long","data":{NATIVE}"#
    ))
    .replace("ce-1", &format!("ce-{secret}"))
    .replace("//pdp-1", &format!("//{secret}"))
    .replace("idp|8c", &secret);
    let exported = log_of(
        "any",
        &format!(r#""body":{{"stringValue":"{secret}"}},"#),
        &format!(
            "gen_ai.tool.name=t {secret}=x client.secret=hunter2-very-long gen_ai.agent.id={secret} gen_ai.agent.name={secret}x"
        ),
    );
    let line = gateway(&format!(r#""mcp.method.name":"tools/call","error":"{secret}","reason":"{secret}","jwt.jti":"{secret}","http.status":200,"#)).replace(TRACE, &secret);
    for record in [event, exported, line] {
        let told = each(&record, &[], debug);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("Event"), "{told:?}");
        for hidden in ["9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae", "hunter2-very-long"] {
            assert!(!told[0].contains(hidden), "{told:?}");
        }
    }
}
