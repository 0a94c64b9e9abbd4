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

/// A text in every kind of place that a text has: an argument, a column, a message of an aside, a broken record, a refused one.
fn text(text: &str) {
    let s = json(text);
    for record in [
        format!(
            r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow","reasons":[{s}]}},"call":{{"params":{{"note":{s}}}}}}}"#
        ),
        format!(r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"other":{{"x":[{s}]}}}}"#),
        format!(
            r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"requester":{{"id":{s}}}}}"#
        ),
        format!(r#"{{"level":"info","time":"2026-11-21T00:00:00Z","msg":{s}}}"#),
        format!(r#"{{"id":"1","time":{s},"decision":{{"verdict":"allow"}}}}"#),
        format!(r#"{{"note":{s},"#),
    ] {
        check("", Format::Auto, &record);
    }
}

/// An object as arguments, as something unknown, as a time that is none, and in a record that is cut off.
fn object(object: &str) {
    for record in [
        format!(
            r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"call":{{"params":{object}}}}}"#
        ),
        format!(r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"other":{object}}}"#),
        format!(r#"{{"id":"1","time":{object},"decision":{{"verdict":"allow"}}}}"#),
        format!(r#"{{"what":"nobody knows","x":{object}}}"#),
        format!(r#"{{"x":{object},"#),
        format!("{{\"x\":{},", json(object)),
        format!("@@ {object} @@"),
    ] {
        check("", Format::Auto, &record);
    }
    text(object);
    text(&format!("before {object} after"));
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
        "ext_authz_denied{password=[§]}",
        "jwt_authn_access_denied{Authorization: Bearer [§]}",
        r#"ext_authz_denied{"password":["§"]}"#,
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

/// Lists and objects under a telling name, where the record is no JSON or the object stands within a text.
#[test]
fn lists_and_objects_under_telling_names() {
    for case in [
        r#"{"password":["§"]}"#,
        r#"{"password":["a]b","§"]}"#,
        r#"{"password":{"value":"§"}}"#,
        r#"{"password":{"a":[1,{"b":"}"}],"c":"§"}}"#,
        r#"{"password" : [ "x" , "§" ]}"#,
        r#"{"headers":{"X-Gitlab-Token":["9tGk2LmQx7VbZp4RwYc8§"],"Authorization":["§"]}}"#,
        r#"{"token":["§"]}"#,
        r#"{"secret":{"a":{"b":["§"]}},"password":["§"]}"#,
    ] {
        object(case);
    }
    text(r#"{\"password\":[\"§\"]}"#);
    text(r#"got "{\"password\":{\"a\":\"§\"}}" from there"#);
}

/// Names that tell and were not known to.
#[test]
fn telling_names_in_all_their_forms() {
    for name in [
        "password1",
        "password2",
        "newPassword_1",
        "password_confirmation",
        "passwordConfirm",
        "passwords",
        "api_keys",
        "cookies",
        "SecretString",
        "PASSWORD",
        "Pass_Phrase",
        "proxy-authorization",
        "pin ",
    ] {
        object(&format!(r#"{{"{name}":"§"}}"#));
        object(&format!(r#"{{"a":[{{"{name}":["§"]}}]}}"#).replace("pin ", "password"));
    }
}

/// The quick look suspects whatever the long one finds.
#[test]
fn places_that_the_quick_look_did_not_know() {
    for case in [
        "passwd: §!4",
        "pwd: §!4",
        "PASSPHRASE: §!4",
        "passphrase: §!4",
        "credential: §!4",
        "SECRET: §!4",
        "password : §!4",
        "COOKIE: sid=§",
        "pass: §!4",
        "auth: §!4",
        "{'password': '§'}",
        "{'user': 'a', 'api_key' : '§'}",
        "{'db': {'password': '§'}}",
        "('token', '9tGk2LmQx7VbZp4RwYc8'), {'secret': ['§']}",
    ] {
        text(case);
    }
}

/// Forms, command lines, markup.
#[test]
fn other_ways_to_write_an_assignment() {
    for case in [
        "user[login]=a&user[password]=§",
        "user%5Blogin%5D=a&user%5Bpassword%5D=§",
        "user%5Blogin%5D%3Da%26user%5Bpassword%5D%3D§",
        "mysql --user app --password § --host db",
        "--password : --password § --host db",
        "password: --password §",
        "password=--api-key §",
        "password=token: §!4",
        "\"password\": --api-key § ",
        "tool --api-key '§' run",
        "tool --client-secret=§",
        "<user>a</user><password>§</password>",
        "<ns:Password Type=\"text\">§</ns:Password>",
        "password => '§'",
        "password := \"§\"",
        "export SECRET_KEY = \"§\"",
        "redis://:§@cache.example:6379/0",
    ] {
        text(case);
    }
    object(r#"{"args":["--password","§","--verbose"]}"#);
    object(r#"{"argv":["mysql","-u","a","--password","§"]}"#);
}

/// Lists of names and values, as headers, variables and attributes are written.
#[test]
fn names_beside_their_values() {
    for case in [
        r#"{"name":"password","value":"§"}"#,
        r#"{"headers":[{"name":"Authorization","value":"§"},{"name":"Accept","value":"x"}]}"#,
        r#"{"attributes":[{"key":"http.request.header.authorization","value":{"stringValue":"§"}}]}"#,
        r#"{"attributes":[{"key":"password","value":{"arrayValue":{"values":[{"stringValue":"§"}]}}}]}"#,
        r#"{"Key":"api_key","Value":"§"}"#,
        r#"{"k":"cookie","v":"§"}"#,
    ] {
        object(case);
    }
    // In whatever order, and as pairs.
    for params in [
        r#"{"env":[{"value":"§","name":"DB_PASSWORD"}]}"#,
        r#"{"text":"{\"value\":\"§\",\"name\":\"DB_PASSWORD\"}"}"#,
        r#"{"headers":[["Authorization","§"],["Accept","x"]]}"#,
    ] {
        let event = r#"{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"allow"},"call":{"params":P}}"#;
        check("", Format::Auto, &event.replace('P', params));
        check("", Format::Auto, &format!(r#"{{"what":"nobody knows","x":{params}}}"#));
    }
    // A request that holds no records is refused or put aside as a whole.
    check(
        "",
        Format::Otlp,
        r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"password","value":{"stringValue":"§"}}]},"scopeLogs":[]}]}"#,
    );
    check("", Format::Otlp, r#"{"other":[{"key":"password","value":{"stringValue":"§"}}]}"#);
}

/// A header is text, and may be cut out of JSON.
#[test]
fn headers_hide_nothing_behind_escapes() {
    let value = format!(r#"org.example.{{\" gh\u0070_{}\":1"#, "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let known: [(&str, &[u8]); 4] =
        [("ce_type", b"t"), ("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"s")];
    for name in ["ce_type", "ce_subject", "ce_authid"] {
        let mut headers: Vec<_> = known.into_iter().filter(|h| h.0 != name).collect();
        headers.push((name, value.as_bytes()));
        for body in [&br#"{"decision":{"verdict":"allow"}}"#[..], b"{"] {
            let all = seen("", Format::Auto, body, &headers).everything();
            assert!(!all.contains("9tGk2LmQx7VbZp4RwYc8"), "{name}: {all}");
        }
    }
}

/// The id of a token is a handle: wherever it stands it is seen as a marker, or as the digest that joins.
#[test]
fn ids_of_tokens_are_never_kept() {
    for case in [
        r#"{"jti":"§"}"#,
        r#"{"act":{"sub":"a","jti":"§"},"origin_jti":"§"}"#,
        r#"{"claims":"{\"jti\":\"§\"}"}"#,
        r#"{"apiKey.key":"§"}"#,
    ] {
        object(case);
    }
    let line = r#"{"request_id":"r","start_time":"2026-11-21T00:36:21Z","response_code_details":"via_upstream","mcp":{"method":"tools/call"},"jwt":{"jwt_payload":{"sub":"u","jti":"§"}}}"#;
    check("", Format::Envoy, line);
}

/// Of a secret behind escapes the part that can be seen without them is not taken for all of it.
#[test]
fn a_part_before_an_escape_hides_no_secret() {
    for record in [r#"{"apikey": gh\u0070_§,"#, r#"{"a":"x","apikey":gh\u0070_§" and gh\u0070_§"#] {
        let record = record.replace('§', "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
        let all = seen("", Format::Auto, record.as_bytes(), &[]).everything();
        assert!(!all.contains("9tGk2LmQx7VbZp4RwYc8"), "{all}");
    }
}

/// What is cut for a message is redacted before.
#[test]
fn messages_quote_no_secret() {
    let long = format!("AB{}{}", "SK", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae".repeat(4));
    // A value that goes on where the header should have ended is as unread as a broken record.
    let escaped = format!(r#"js {{"id":"1","note":"gh\u0070_{}"}}"#, "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    for name in ["cerbos.audit.encoding", "cerbos.audit.kind"] {
        for value in [&long, &escaped] {
            let headers: Vec<(&str, &[u8])> = vec![("cerbos.audit.encoding", b"protobuf"), (name, value.as_bytes())];
            let headers = if name.ends_with("encoding") { &headers[1..] } else { &headers };
            let all = seen("", Format::Auto, b"{}", headers).everything();
            assert!(!all.contains("9tGk2LmQx7VbZp4RwYc8"), "{all}");
        }
    }
    for record in [
        r#"{"kind":"password=§","decision":{"verdict":"allow"}}"#,
        r#"{"id":"1","decision":{"verdict":{"password":["§"]}}}"#,
        r#"{"id":"1","time":{"password":["§"]},"decision":{"verdict":"allow"}}"#,
        r#"{"id":"1","time":"password=§","decision":{"verdict":"allow"}}"#,
        r#"{"password":"§"}"#,
        r#"{"a":"b","password=§":1}"#,
        r#"{"callId":"c","timestamp":{"password":["§"]},"checkResources":{"inputs":[{"actions":["a"]}],"outputs":[]}}"#,
        r#"{"callId":"c","planResources":{"input":{"principal":{"id":"{\"password\":[\"§\"]}"}}}}"#,
        r#"{"resourceX":{"password":["§"]}}"#,
    ] {
        check("", Format::Auto, record);
        for format in Format::ALL {
            check("", *format, record);
        }
    }
}

/// Bytes of an encoding that could not be read hold names and values without any sign between them.
#[test]
fn malformed_protobuf_keeps_no_secret() {
    let string = |tag: u8, s: &[u8]| [&[tag, s.len() as u8][..], s].concat();
    let pair = |key: &str, value: &str| {
        let value = string(0x12, &string(0x0a, value.as_bytes()));
        string(0x32, &[string(0x0a, key.as_bytes()), value].concat())
    };
    for (key, value) in [
        ("password", SECRET),
        ("http.request.header.authorization", SECRET),
        ("db.password", &format!("{SECRET}{SECRET}{SECRET}")),
    ] {
        let mut record = pair(key, value);
        record.extend(b"\xff\xff\xff");
        for headers in [&[("content-type", &b"application/x-protobuf"[..])][..], &[]] {
            let seen = seen("", Format::Auto, &record, headers);
            let all = seen.everything();
            assert!(!all.contains(SECRET), "{all}");
        }
    }
}

/// Every encoding of the bytes, and bytes that are none.
#[test]
fn text_that_is_not_utf8() {
    let body = format!("{{\"user\":\"a\",\"password\":[\"{SECRET}\"],\"db\":{{'pwd': '{SECRET}'}}}}");
    let utf16 = |order: fn(u16) -> [u8; 2]| body.encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let utf32 = body.chars().flat_map(|c| (c as u32).to_le_bytes()).collect::<Vec<u8>>();
    let latin = [&b"{\"\xe4\":\"\xfc\","[..], &body.as_bytes()[1..]].concat();
    for bytes in [utf16(u16::to_le_bytes), utf16(u16::to_be_bytes), utf32, latin] {
        let all = seen("", Format::Auto, &bytes, &[]).everything();
        assert!(!all.replace('\0', "").contains(SECRET), "{all:?}");
    }
}
