//! Pomerium's lines: the effective outcome in its exact order, who acts for whom, and what is no decision.

use crate::seen::{Seen, decode};
use catena_decode::Format;

/// The sample of the reference, one authorize line and the access line of the same request.
const AUTHORIZE: &str = r#"{"level":"info","service":"authorize","request-id":"5hVq0kXk3pYtZ1","check-request-id":"5hVq0kXk3pYtZ1","method":"POST","path":"/mcp","host":"tickets-mcp.corp.example","ip":"10.20.0.14","session-id":"0b7a3a52","user":"idp|8c1f02","email":"dana@corp.example","envoy-route-checksum":9178213345019221870,"envoy-route-id":"a41c9e77","route-checksum":14402117760923355601,"route-id":"rt-tickets-mcp","mcp-method":"tools/call","mcp-tool":"delete_ticket","mcp-tool-parameters":{"ticket":"T-1182","force":true},"allow":false,"allow-why-false":["mcp-tool-no-match"],"deny":false,"deny-why-false":[],"time":"2026-08-20T14:03:11Z","message":"authorize check"}"#;
const ACCESS: &str = r#"{"level":"info","service":"envoy","upstream-cluster":"route-a41c9e77","method":"POST","authority":"tickets-mcp.corp.example","path":"/mcp","user-agent":"claude-code/2.3","referer":"","forwarded-for":"10.20.0.14","request-id":"5hVq0kXk3pYtZ1","duration":4.81,"size":212,"response-code":200,"response-code-details":"ext_authz_denied","time":"2026-08-20T14:03:11Z","message":"http-request"}"#;

fn one(line: &str) -> Seen {
    let mut seen = decode(Format::Auto, line.as_bytes());
    assert_eq!((seen.events.len(), seen.total()), (1, 1), "{line}\n{seen:?}");
    seen.events.remove(0)
}

#[test]
fn an_authorize_line_is_a_decision() {
    let e = one(AUTHORIZE);
    assert_eq!((e.kind, e.outcome.as_str(), e.phase.as_str()), ("decision", "deny", "invoke"));
    assert_eq!((e.requester.as_str(), e.agent.as_str(), e.session.as_str()), ("idp|8c1f02", "", "0b7a3a52"));
    assert_eq!((e.server.as_str(), e.tool.as_str()), ("tickets-mcp.corp.example", "delete_ticket"));
    assert_eq!(
        (e.policy.as_str(), e.version.as_str()),
        ("rt-tickets-mcp", "14402117760923355601"),
        "to the last digit"
    );
    assert_eq!((e.id.as_str(), e.request.as_str()), ("5hVq0kXk3pYtZ1", "5hVq0kXk3pYtZ1"));
    assert_eq!(e.params, r#"{"force":true,"ticket":"T-1182"}"#);
    assert_eq!((e.reasons, e.flags), (vec!["mcp-tool-no-match".to_owned()], vec!["time_whole_seconds".to_owned()]));
    assert_eq!(
        e.extra, r#"{"envoy-route-checksum":9178213345019221870,"envoy-route-id":"a41c9e77"}"#,
        "the other checksum keeps its digits too"
    );
    for part in [
        "email: Some(\"dana@corp.example\")",
        "enforced: Some(Blocked)",
        "basis: Some(Explicit)",
        "ip: Some(\"10.20.0.14\")",
    ] {
        assert!(e.debug.contains(part), "{part} in {}", e.debug);
    }
}

#[test]
fn an_access_line_is_an_execution_whatever_it_says() {
    let e = one(ACCESS);
    assert_eq!((e.kind, e.outcome.as_str()), ("execution", "unknown"));
    assert_eq!(
        (e.request.as_str(), e.id.as_str()),
        ("5hVq0kXk3pYtZ1", "access:5hVq0kXk3pYtZ1"),
        "joined, not mixed up"
    );
    assert_eq!(e.reasons, ["ext_authz_denied"]);
    assert!(e.debug.contains("http_status: Some(200)") && e.debug.contains("result_bytes: Some(212)"), "{}", e.debug);
    assert_eq!(e.extra, r#"{"duration":4.81,"forwarded-for":"10.20.0.14","upstream-cluster":"route-a41c9e77"}"#);
    assert!(one(&ACCESS.replace("ext_authz_denied", "via_upstream")).reasons.is_empty());
}

/// Puts the result of a check into the line.
fn outcome(result: &str, expected: &str) {
    let (head, _) = AUTHORIZE.split_once(r#""allow":"#).expect("the sample has a result");
    let comma = if result.is_empty() { "" } else { "," };
    let e = one(&format!(r#"{head}{result}{comma}"time":"2026-08-20T14:03:11.5Z","message":"authorize check"}}"#));
    let mut got = format!("{} {}", e.outcome, e.reasons.join(","));
    for asked in ["user_authentication", "device_authentication"] {
        if e.debug.contains(asked) {
            got = format!("{got} asks for {asked}");
        }
    }
    assert_eq!(got.trim_end(), expected, "{result}");
}

/// Each row adds what outweighs the row above it.
#[test]
fn the_effective_outcome_has_an_order() {
    outcome(
        r#""allow":false,"allow-why-false":["claim-unauthorized"],"deny":false,"deny-why-false":[]"#,
        "deny claim-unauthorized",
    );
    outcome(r#""allow":true,"allow-why-true":["claim-ok"],"deny":false,"deny-why-false":[]"#, "allow claim-ok");
    outcome(r#""allow":true,"allow-why-true":["claim-ok"],"deny":true,"deny-why-true":["reject"]"#, "deny reject");
    outcome(
        r#""allow":true,"allow-why-true":["claim-ok"],"deny":true,"deny-why-true":["device-unauthenticated"]"#,
        "step_up device-unauthenticated,claim-ok asks for device_authentication",
    );
    outcome(
        r#""allow":false,"allow-why-false":["user-unauthenticated"],"deny":true,"deny-why-true":["reject"]"#,
        "step_up reject,user-unauthenticated asks for user_authentication",
    );
    outcome(
        r#""allow":false,"allow-why-false":["user-unauthenticated"],"deny":true,"deny-why-true":["invalid-client-certificate"]"#,
        "deny invalid-client-certificate,user-unauthenticated",
    );
    // Pomerium asks for the reason before it asks whether the deny rule matched.
    outcome(
        r#""allow":true,"allow-why-true":["user-ok"],"deny":false,"deny-why-false":["client-certificate-required"]"#,
        "deny client-certificate-required",
    );
    // Nobody said anything: that is no denial.
    outcome("", "unknown");
    outcome(r#""allow":false"#, "deny");
}

#[test]
fn who_acts_for_whom() {
    let with = |members: &str| one(&AUTHORIZE.replacen('{', &format!("{{{members},"), 1));
    let e = with(
        r#""impersonate-session-id":"s2","impersonate-user-id":"idp|boss","impersonate-email":"boss@corp.example""#,
    );
    assert_eq!(
        (e.requester.as_str(), e.agent.as_str(), e.actors_source.as_str()),
        ("idp|boss", "idp|8c1f02", "impersonation")
    );
    assert!(
        e.debug.contains("email: Some(\"boss@corp.example\")") && e.extra.contains("impersonate-session-id"),
        "{}",
        e.debug
    );
    let e = with(r#""service-account-id":"sa-1""#);
    assert_eq!((e.requester.as_str(), e.agent.as_str(), e.actors_source.as_str()), ("idp|8c1f02", "sa-1", "declared"));
    assert!(e.debug.contains("kind: Some(\"workload\")"), "{}", e.debug);
    let e = one(&AUTHORIZE.replace(r#""user":"idp|8c1f02","email":"dana@corp.example""#, r#""user":"","email":"""#));
    assert_eq!(e.requester, "");
}

#[test]
fn the_id_token_never_gets_through() {
    let claims = r#""id-token":"eyJhbGciOiJub25lIn0.eyJzdWIiOiJ6b8OrIn0.c2ln","id-token-claims":{"iss":"https://idp.example","sub":"8c1f02","jti":"plain-jti","groups":["support"]},"headers":{"Authorization":"Basic dXNlcjpodW50ZXIy","Traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#;
    let e = one(&AUTHORIZE.replacen('{', &format!("{{{claims},"), 1));
    for secret in ["eyJ", "c2ln", "plain-jti", "dXNlcjpodW50ZXIy", "id-token\""] {
        assert!(!e.debug.contains(secret), "{secret} in {}", e.debug);
    }
    assert_eq!(e.trace, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(e.debug.contains("roles: [\"support\"]"), "{}", e.debug);
    assert!(
        e.debug.contains("token: Token { reference: None"),
        "the claims are not those of the token presented: {}",
        e.debug
    );
}

#[test]
fn other_lines_are_asides() {
    for (line, reason, detail) in [
        (
            r#"{"level":"info","service":"envoy","downstream-transport-failure-reason":"TLS_error","tls-sni-hostname":"x","time":"2026-08-20T14:03:11Z","message":"listener connection failure"}"#,
            "listener_failure",
            "TLS_error for x",
        ),
        (
            r#"{"level":"info","service":"databroker","time":"2026-08-20T14:03:11Z","message":"starting"}"#,
            "service_line",
            "starting",
        ),
    ] {
        let seen = decode(Format::Auto, line.as_bytes());
        let asides: Vec<_> = seen.asides.iter().map(|a| (a.reason, a.detail.as_str())).collect();
        assert_eq!((asides, seen.total()), (vec![(reason, detail)], 1), "{line}");
    }
    let bad = AUTHORIZE.replace("2026-08-20T14:03:11Z", "soon");
    assert_eq!(decode(Format::Pomerium, bad.as_bytes()).rejections[0].reason, "time_invalid");
    assert_eq!(decode(Format::Pomerium, b"{}").rejections[0].reason, "message_missing");
}
