//! Ways by which a secret could get past the door, each tried with a record: none reaches a column, a kept copy or a message.
//!
//! In the cases `§` stands for the secret, which by itself could be anything: only what stands around it gives it away.

use crate::seen::{Collected, KEY, context};
use catena_decode::mapping::Mappings;
use catena_decode::{Context, Decoder, Format, Redactor};
use std::sync::Arc;

const SECRET: &str = "hunter2-very-long";

fn decoder(mapping: &str) -> Decoder {
    let mappings = match mapping {
        "" => Mappings::shipped(),
        text => Arc::new(Mappings::shipped().with(text, "own").expect("the mapping is good")),
    };
    Decoder::with_mappings(Arc::new(Redactor::new(KEY)), mappings)
}

fn seen(mapping: &str, format: Format, record: &[u8], headers: &[(&str, &[u8])]) -> Collected {
    let mut seen = Collected::default();
    decoder(mapping).record(format, record, &Context { headers, ..context() }, &mut seen);
    assert!(seen.total() > 0);
    seen
}

/// A record of any format, under a mapping of one's own or none.
fn check(mapping: &str, format: Format, record: &str) {
    let record = record.replace('§', SECRET);
    let all = seen(mapping, format, record.as_bytes(), &[]).everything();
    assert!(!all.contains(SECRET), "{SECRET} survived in {all}\nof {record}");
}

fn json(s: &str) -> String {
    let mut out = String::new();
    catena_decode::json::write_string(s, &mut out);
    out
}

/// What a mapping cuts out of a text is redacted before it is cut: what gives a secret away may be on the other side.
#[test]
fn a_mapping_cuts_what_has_been_redacted() {
    let mapping = |fields: &str| format!("format = 'mapped'\n[fields]\n{fields}\n");
    for (fields, record) in [
        ("requester.id = { pointer = '/who', after = 'Bearer ' }", r#"{"who":"Bearer §"}"#),
        ("requester.id = { pointer = '/who', after = '=' }", r#"{"who":"password=§"}"#),
        ("requester.id = { pointer = '/who', before = '@' }", r#"{"who":"https://app:§@db.example/x"}"#),
        (
            "requester.id = { pointer = '/who', after = 'app:', before = '@' }",
            r#"{"who":"https://app:§@db.example/x"}"#,
        ),
        ("id = { pointer = '/who', after = '=' }", r#"{"who":"password=§"}"#),
        ("actors.id = { pointer = '/who', after = '=' }", r#"{"who":"password=§"}"#),
        ("actors.declared = [{ pointer = '/who', after = '=' }]", r#"{"who":"password=§"}"#),
        ("requester.roles = { pointer = '/who', after = '=' }", r#"{"who":["password=§","password=§x"]}"#),
        ("requester.roles = { pointer = '/who', after = '=', split = ',' }", r#"{"who":"password=§,b"}"#),
        ("call.resources = { pointer = '/who', each = '/x', after = '=' }", r#"{"who":[{"x":"password=§"}]}"#),
        ("links.traceparent = { pointer = '/who', after = '=' }", r#"{"who":"password=§"}"#),
        ("decision.enforced = { pointer = '/who', after = '=' }", r#"{"who":"password=§"}"#),
    ] {
        check(&mapping(fields), Format::Mapped, record);
    }
    let each = "format = 'mapped'\neach = '/list'\n[fields]\nid = { pointer = '/item/who', after = '=' }\n";
    check(each, Format::Mapped, r#"{"list":[{"who":"password=§"}]}"#);
    let cerbos = "format = 'cerbos'\n[fields]\ncerbos.reason = { pointer = '/val/why', after = '=' }\n";
    check(
        cerbos,
        Format::Cerbos,
        r#"{"callId":"c","checkResources":{"inputs":[{"actions":["a"]}],"outputs":[{"actions":{"a":{"effect":"EFFECT_DENY"}},"outputs":[{"src":"s","action":"a","val":{"why":"password=§"}}]}]}}"#,
    );
    // What is cut out of a clean text is what it was.
    let fields = mapping("requester.id = { pointer = '/who', after = ':' }");
    let seen = seen(&fields, Format::Mapped, br#"{"who":"user:dana","note":"password=x1y2z3"}"#, &[]);
    assert_eq!(seen.events[0].requester, "dana");
}

/// A mapping that points at a member whose name tells gets no more than the arguments would.
#[test]
fn a_mapping_points_at_a_telling_name() {
    for (field, pointer, record) in [
        ("requester.id", "/password", r#"{"password":"§"}"#),
        ("requester.roles", "/password", r#"{"password":"§"}"#),
        ("requester.roles", "/auth/cookie", r#"{"auth":{"cookie":["§"]}}"#),
        ("requester.roles", "/api_key/0", r#"{"api_key":["§"]}"#),
        ("call.params", "/credentials", r#"{"credentials":{"user":"a","x":"§"}}"#),
        ("id", "/api_key", r#"{"api_key":"§"}"#),
        ("actors.id", "/client_secret", r#"{"client_secret":"§"}"#),
        ("actors.list", "/client_secret", r#"{"client_secret":["§"]}"#),
        ("actors.declared", "/client_secret", r#"{"client_secret":"§"}"#),
        ("time", "/password", r#"{"password":"§"}"#),
        ("links.request", "/headers/authorization", r#"{"headers":{"authorization":"§"}}"#),
    ] {
        check(&format!("format = 'mapped'\n[fields]\n{field} = '{pointer}'\n"), Format::Mapped, record);
    }
    let aside =
        "format = 'mapped'\n[[aside]]\nwhen = { pointer = '/x', exists = true }\nreason = 'no'\ndetail = '/password'\n";
    check(aside, Format::Mapped, r#"{"x":1,"password":"§"}"#);
}

#[test]
fn reasons_of_envoy_are_redacted_whole() {
    let line = |details: &str| {
        format!(
            r#"{{"request_id":"r","start_time":"2026-11-21T00:36:21Z","response_code_details":{},"mcp":{{"method":"tools/call"}}}}"#,
            json(details)
        )
    };
    for details in [
        "jwt_authn_access_denied{password={§}}",
    ] {
        check("", Format::Envoy, &line(details));
    }
}

/// Only what has the form of a digest is taken for one.
#[test]
fn what_only_begins_like_a_digest_is_digested() {
    let digest = format!("hmac:{}", "0123456789abcdef".repeat(2));
    for handle in ["hmac:§", "hmac:§0123456789abcdef0123456789abcdef", "hmac:"] {
        for record in [
            r#"{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"allow"},"token":{"ref":"H","acti":"H"},"call":{"handles_in":["H"],"state_in":"H"}}"#,
            r#"{"kind":"exchange","id":"g","time":"2026-11-21T00:00:00Z","subject_token_ref":"H","issued_token_ref":"H"}"#,
            r#"{"kind":"lifecycle","id":"g","time":"2026-11-21T00:00:00Z","event":"revoked","subject_kind":"token","subject":"H"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","requestState":"H"}}"#,
        ] {
            check("", Format::Auto, &record.replace('H', handle));
        }
    }
    let redactor = Redactor::new(KEY);
    assert_eq!(redactor.digest(&digest), digest, "what is one stays");
    assert!(redactor.digest("hmac:").len() == digest.len());
    assert_ne!(redactor.digest(&digest.to_uppercase()), digest.to_uppercase());
    // One handle has one digest, whether or not it looks like a token.
    let token = format!("gh{}_{}", "p", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let record = format!(
        r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"token":{{"ref":"{token}"}},"call":{{"handles_in":["{token}"],"handles_out":"{token}"}}}}"#
    );
    let seen = seen("", Format::Auto, record.as_bytes(), &[]);
    assert_eq!(seen.events[0].native.matches(&redactor.digest(&token)).count(), 3, "{}", seen.events[0].native);
}

/// A record that no mapping knows is refused once, with its bytes, however many questions it holds.
#[test]
fn a_record_of_cerbos_without_a_mapping_is_refused_once() {
    let own =
        "name = 'cerbos-mcp'\nformat = 'cerbos'\n[when]\nall = [{ pointer = '/input/requestId', equals = 'known' }]\n";
    let record = r#"{"callId":"c","note":"\u0061","timestamp":"2026-11-21T00:19:07Z","checkResources":{"inputs":[{"requestId":"known","actions":["a"]},{"requestId":"r","actions":["a","b","c"]}],"outputs":[]}}"#;
    let seen = seen(own, Format::Cerbos, record.as_bytes(), &[]);
    let refused: Vec<_> = seen.rejections.iter().map(|r| (r.reason, r.detail.as_str())).collect();
    assert_eq!(refused, [("mapping_missing", "no mapping's conditions hold for decision 1; and 2 more")]);
    assert_eq!(seen.rejections[0].raw.as_deref(), Some(record.as_bytes()));
    assert_eq!(seen.events.len(), 1, "what a mapping knows is not lost");
}
