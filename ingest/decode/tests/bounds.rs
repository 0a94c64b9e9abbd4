//! Records that hold several decisions: none multiplies without bound or is searched for minutes.

use crate::seen::{Collected, decode};
use catena_decode::Format;
use std::time::Instant;

fn reasons(seen: &Collected) -> Vec<&str> {
    seen.rejections.iter().map(|r| r.reason).collect()
}

/// `count` decisions with `around` bytes around them: as many facts, or one rejection.
fn check(format: Format, record: impl Fn(usize, usize) -> String, facts: impl Fn(&Collected) -> usize) {
    for (count, around, reason) in [
        (2, 10, None),
        (10_000, 10, None),
        (10_001, 10, Some("decisions_too_many")),
        (10_000, 100_000, Some("decisions_too_large")),
    ] {
        let began = Instant::now();
        let seen = decode(format, record(count, around).as_bytes());
        assert_eq!(reasons(&seen), Vec::from_iter(reason), "{format:?} {count} {around}");
        assert_eq!(facts(&seen), if reason.is_none() { count } else { 0 }, "{format:?} {count} {around}");
        // A look at every answer for every question would take this long by far.
        assert!(began.elapsed().as_secs() < 60, "{format:?} {count} {around}");
    }
}

#[test]
fn a_batch_of_mcp_is_bounded() {
    let list = |n: usize, one: &dyn Fn(usize) -> String| (0..n).map(one).collect::<Vec<_>>().join(",");
    let record = |count: usize, around: usize| {
        let call = |i: usize| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{i},"method":"tools/call","params":{{"name":"t","arguments":{{"a":1}}}}}}"#
            )
        };
        let answer = |i: usize| format!(r#"{{"jsonrpc":"2.0","id":{i},"error":{{"code":-{i}}}}}"#);
        format!(
            r#"{{"request_headers":{{"x":"{}"}},"request_body":[{}],"response_body":[{}]}}"#,
            "h".repeat(around),
            list(count, &call),
            list(count, &answer)
        )
    };
    check(Format::Mcp, record, |seen| seen.events.len());
    // Each has its own answer, and the first of two with one id counts.
    let seen = decode(Format::Mcp, record(2, 10).replace("-0}", "-7}").as_bytes());
    assert!(seen.events[0].debug.contains("jsonrpc_error: Some(-7)"), "{}", seen.events[0].debug);
    assert!(seen.events[1].debug.contains("jsonrpc_error: Some(-1)"), "{}", seen.events[1].debug);
}

/// What stood around a batch is left out once it has been repeated often enough.
#[test]
fn what_stands_around_a_batch_is_copied_so_often() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
    let record = format!(
        r#"{{"request_headers":{{"x":"{}"}},"request_body":[{}]}}"#,
        "h".repeat(200_000),
        vec![call; 1000].join(",")
    );
    let seen = decode(Format::Mcp, record.as_bytes());
    let copied: usize = seen.events.iter().map(|e| e.extra.len()).sum();
    assert!((200_000..18 << 20).contains(&copied), "{copied}");
    assert_eq!(seen.events[999].flags.last().map(String::as_str), Some("cut:extra"));
}

/// A time that cannot be read is the record's, and is refused once.
#[test]
fn a_bad_time_of_a_batch_is_refused_once() {
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#;
    let record = format!(r#"{{"ts":"soon","request_headers":{{}},"request_body":[{call},{call},{call}]}}"#);
    assert_eq!(reasons(&decode(Format::Mcp, record.as_bytes())), ["time_invalid"]);
}

#[test]
fn tuples_written_at_once_are_bounded() {
    let record = |count: usize, around: usize| {
        format!(
            r#"{{"grpc_service":"openfga.v1.OpenFGAService","grpc_method":"Write","raw_request":{{"writes":{{"tuple_keys":[{}]}}}},"x":"{}"}}"#,
            vec![r#"{"user":"u","relation":"r","object":"o"}"#; count].join(","),
            "x".repeat(around)
        )
    };
    check(Format::Openfga, record, |seen| seen.entries.len());
    // What is long stands with the first alone.
    let seen = decode(Format::Openfga, record(10, 5000).as_bytes());
    let extra: Vec<bool> = seen.entries.iter().map(|e| e.0.contains("xxx")).collect();
    assert_eq!(extra.iter().filter(|has| **has).count(), 1);
    assert!(extra[0]);
}

#[test]
fn a_list_of_tools_is_bounded() {
    let record = |count: usize, around: usize| {
        let tools = (0..count).map(|i| format!("{{\"stringValue\":\"{i}\"}}")).collect::<Vec<_>>().join(",");
        format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"name":"PartiallyAuthorizeActions","attributes":[{{"key":"aws.agentcore.policy.allowed_tools","value":{{"arrayValue":{{"values":[{tools}]}}}}}},{{"key":"x","value":{{"stringValue":"{}"}}}}]}}]}}]}}]}}"#,
            "x".repeat(around)
        )
    };
    check(Format::Otlp, record, |seen| seen.events.len());
}
