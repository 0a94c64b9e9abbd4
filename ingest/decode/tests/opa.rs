//! Open Policy Agent: which member of a decision log decides, and that nothing of it vanishes.

use crate::seen::{Collected, KEY, context, decode};
use catena_decode::mapping::Mappings;
use catena_decode::{Decoder, Format, Redactor};
use std::sync::Arc;

/// Decodes an event with these members besides the usual ones, and says outcome, phase, requester, actors and tool; then what
/// else there is.
fn under(mappings: Mappings, members: &str) -> String {
    let record = format!(r#"{{"decision_id":"d1","timestamp":"2026-11-21T00:12:24.5Z",{members}}}"#);
    let mut seen = Collected::default();
    let mut decoder = Decoder::with_mappings(Arc::new(Redactor::new(KEY)), Arc::new(mappings));
    decoder.record(Format::Auto, record.as_bytes(), &context(), &mut seen);
    let mut lines = Vec::new();
    for e in &seen.events {
        let mut line = format!("{} {} {}>{}>{}", e.outcome, e.phase, e.requester, e.actors.join(","), e.tool);
        let lists = [("reasons", &e.reasons), ("resources", &e.resources), ("flags", &e.flags)];
        let lists = lists.map(|(name, list)| (name, list.join(",")));
        let texts = [("version", &e.version), ("extra", &e.extra)].map(|(name, text)| (name, text.clone()));
        for (name, text) in lists.into_iter().chain(texts).filter(|(_, text)| !text.is_empty()) {
            line += &format!(" {name}={text}");
        }
        lines.push(line);
    }
    lines.extend(seen.rejections.iter().map(|r| format!("reject {}", r.reason)));
    lines.extend(seen.asides.iter().map(|r| format!("aside {} {}", r.reason, r.detail).trim_end().to_owned()));
    lines.join("\n")
}

fn check(members: &str, expected: &str) {
    assert_eq!(under((*Mappings::shipped()).clone(), members), expected, "{members}");
}

#[test]
fn a_mapped_result_decides_where_the_result_does_not() {
    check(r#""mapped_result":{"allow":false,"reason":"late"}"#, "deny invoke >> reasons=late");
    check(r#""mapped_result":{"effect":"step_up","reasons":["mfa"]}"#, "step_up invoke >> reasons=mfa");
    check(r#""result":null,"mapped_result":{"allow":true}"#, "allow invoke >>");
    check(r#""mapped_result":"deny""#, "deny plan >>");
    check(r#""mapped_result":{"x":1}"#, r#"unknown plan >> reasons=result_unmapped extra={"mapped_result":{"x":1}}"#);
    // What the policy answered comes first, and the other is not lost.
    check(
        r#""result":{"allow":true},"mapped_result":{"allow":false}"#,
        r#"allow invoke >> extra={"mapped_result":{"allow":false}}"#,
    );
    let preferring = Mappings::shipped().prefer("opa-boolean").expect("it ships");
    assert_eq!(under(preferring, r#""mapped_result":false"#), "deny invoke >>");
}

/// The token of an event: audience, scope and whether it has a reference, and who is requester and actor by it.
fn check_token(token: &str, expected: &str) {
    let record = format!(
        r#"{{"decision_id":"d1","timestamp":"2026-11-21T00:12:24.5Z","result":{{"allow":true}},"input":{{"token":{token}}}}}"#
    );
    let seen = decode(Format::Auto, record.as_bytes());
    let e = &seen.events[0];
    let native: serde_json::Value = serde_json::from_str(&e.native).expect("JSON");
    let token = &native["token"];
    let got = format!(
        "{}>{} aud={} scope={} proof={} ref={} flags={} extra={}",
        e.requester,
        e.actors.join(","),
        token["audience"],
        token["scope"],
        token["proof"],
        token["ref"].as_str().is_some_and(|r| r.starts_with("hmac:")),
        e.flags.join(","),
        e.extra,
    );
    assert_eq!(got, expected, "{record}");
}

#[test]
fn claims_may_stand_in_the_token_itself() {
    let flat = r#"{"aud":"https://t","scope":"a b","jti":"j1","iss":"i","sub":"u","act":{"sub":"a"}}"#;
    let read = r#"u>a aud=["https://t"] scope=["a","b"] proof="parsed" ref=true flags= extra="#;
    check_token(flat, read);
    check_token(&format!(r#"{{"claims":{flat}}}"#), read);
    // Claims apart outweigh what stands beside them.
    check_token(
        r#"{"claims":{"sub":"u","aud":"x"},"aud":"y"}"#,
        r#"u> aud=["x"] scope=null proof="parsed" ref=false flags= extra={"input":{"token":{"aud":"y"}}}"#,
    );
    // Only the raw token: its digest, and nobody has parsed it.
    check_token(r#"{"raw":"opaque"}"#, "> aud=null scope=null proof=null ref=true flags= extra=");
    check_token(r#"{"raw":"opaque","aud":"x"}"#, r#"> aud=["x"] scope=null proof="parsed" ref=true flags= extra="#);
    check_token(
        r#""opaque""#,
        r#"> aud=null scope=null proof=null ref=false flags= extra={"input":{"token":"[redacted:key:a0b56a24]"}}"#,
    );
}

#[test]
fn what_opa_asks_itself_is_no_decision() {
    check(r#""path":"system/main","result":true"#, "aside system_query system/main");
    check(r#""path":"/system/health/live","result":true"#, "aside system_query /system/health/live");
    check(r#""path":"system/main""#, "aside system_query system/main");
    check(r#""path":"system/main","result":{"allow":true}"#, "aside system_query system/main");
    check(r#""path":"system/main","input":{},"error":{}"#, "aside system_query system/main");
    // A gateway that asks for no rule by name is answered there.
    check(r#""path":"system/main","result":{"allow":false},"input":{"tool":{"name":"t"}}"#, "deny invoke >>t");
    check(r#""path":"systems/main","result":{"allow":true}"#, "allow invoke >>");
    check(r#""path":"mcp/system/main","result":{"allow":true}"#, "allow invoke >>");
}

#[test]
fn a_bundle_without_a_revision_is_not_lost() {
    let with = |bundles: &str| format!(r#""result":{{"allow":true}},"bundles":{bundles}"#);
    let kept = |bundles: &str| format!(r#" extra={{"bundles":{bundles}}}"#);
    for bundles in [r#"{"only":{}}"#, r#"{"only":null}"#, r#"{"only":{"revision":""}}"#, r#"{"a":{},"b":{}}"#] {
        check(&with(bundles), &format!("allow invoke >>{}", kept(bundles)));
    }
    let one = r#"{"a":{"revision":"r1"},"b":{}}"#;
    check(&with(one), &format!("allow invoke >> version=r1{}", kept(one)));
    let two = r#"{"a":{"revision":"r1"},"b":{},"c":{"revision":"r2"}}"#;
    check(&with(two), &format!("allow invoke >> version=a:r1,c:r2{}", kept(two)));
    // Where all have one, the names stand with them.
    check(&with(r#"{"a":{"revision":"r1"},"c":{"revision":"r2"}}"#), "allow invoke >> version=a:r1,c:r2");
    check(&with("{}"), "allow invoke >>");
}

/// The page's own mapping.
#[test]
fn an_undefined_result_is_a_denial_where_a_site_says_so() {
    let page = include_str!("../../../docs/producers/opa.md");
    let text = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
    let ours = || Mappings::shipped().with(text, "ours").expect("it is well written");
    let asked = r#""path":"mcp/authz/decision","input":{"tool":{"name":"t"},"user":{"id":"u"}}"#;
    check(asked, "unknown plan u>> reasons=result_undefined resources=tool:t");
    assert_eq!(under(ours(), asked), "deny invoke u>>t reasons=result_undefined");
    assert_eq!(under(ours(), &format!(r#"{asked},"result":{{"allow":true}}"#)), "allow invoke u>>t");
    // Other questions stay what they were, and so does an evaluation that failed.
    assert_eq!(under(ours(), r#""path":"mcp/other""#), "unknown plan >> reasons=result_undefined");
    assert_eq!(
        under(ours(), &format!(r#"{asked},"error":{{}}"#)),
        "error invoke u>>t reasons=evaluation_error extra={\"error\":\"{}\"}"
    );
}
