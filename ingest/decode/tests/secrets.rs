//! Planted secrets: none reaches the sink, in whatever field of whatever record it stands; what only looks like one does.

use crate::seen::{KEY, decode};
use catena_decode::json::Tape;
use catena_decode::{Format, Redactor};

/// Parts, so that scanners of repositories do not take them for real.
fn planted() -> Vec<(&'static str, String)> {
    let random = "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae";
    let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ6b8OrIn0.c2lnbmF0dXJl";
    vec![
        ("aws", format!("AKIA{}", "IOSFODNN7EXAMPLE")),
        ("github", format!("gh{}_{random}", "p")),
        ("github", format!("github_{}_{random}", "pat")),
        ("gitlab", format!("gl{}-{random}", "pat")),
        ("slack", format!("xox{}-123456789012-{random}", "b")),
        ("slack", format!("https://hooks.slack.com/services/{}/{random}", "T000/B000")),
        ("stripe", format!("sk_{}_{random}", "live")),
        ("stripe", format!("rk_{}_{random}", "test")),
        ("sk", format!("sk-{}-{random}", "proj")),
        ("sk", format!("sk-ant-{}-{random}", "api03")),
        ("google", format!("AI{}{random}abc", "za")),
        ("google", format!("ya29.{random}")),
        ("jwt", jwt.to_owned()),
        ("bearer", format!("Bearer {random}")),
        ("bearer", format!("authorization: bearer {}", "should-not-be-logged")),
        ("basic", format!("Basic {}", "dXNlcjpodW50ZXIy")),
        ("url", "postgres://app:hunter2-very-long@db.corp.example:5432/x".to_owned()),
        ("connection", "Server=db;User Id=app;Password=hunter2-very-long;Encrypt=true".to_owned()),
        ("azure", format!("AccountName=x;AccountKey={random}{random}==")),
        ("assignment", "password=NOT-A-REAL-PASSWORD-0011".to_owned()),
        ("assignment", format!("https://x.example/cb?access_token={random}&state=1")),
        ("pem", format!("-----BEGIN RSA {k}-----\nMIIEpAIBAAKCAQEA{random}\n-----END RSA {k}-----", k = "PRIVATE KEY")),
        ("nested", "{\"password\":\"hunter2-very-long\",\"x\":1}".to_owned()),
    ]
}

/// What of a planted text must not survive: its secret part.
fn secret_of(text: &str) -> &str {
    for hidden in [
        "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae",
        "hunter2-very-long",
        "NOT-A-REAL-PASSWORD-0011",
        "IOSFODNN7EXAMPLE",
        "dXNlcjpodW50ZXIy",
        "should-not-be-logged",
        "c2lnbmF0dXJl",
    ] {
        if text.contains(hidden) {
            return hidden;
        }
    }
    panic!("no secret in {text}")
}

fn json(s: &str) -> String {
    let mut out = String::new();
    catena_decode::json::write_string(s, &mut out);
    out
}

fn absent(record: &[u8], secret: &str) {
    let seen = decode(Format::Auto, record);
    assert!(seen.total() > 0);
    let all = seen.everything();
    assert!(!all.contains(secret), "{secret} survived in {all}\nof {}", String::from_utf8_lossy(record));
    assert!(all.contains("[redacted:"), "{all}");
}

#[test]
fn no_planted_secret_survives() {
    for (_, text) in planted() {
        let (secret, s) = (secret_of(&text), json(&text));
        let escaped = s.replace('/', "\\/").replace('e', "\\u0065");
        for s in [&s, &escaped, &json(&format!("before {text} after"))] {
            for record in [
                format!(
                    r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow","reasons":[{s}]}},"call":{{"params":{{"note":{s},"list":[[{s}]]}}}},"other":{{"x":{s}}}}}"#
                ),
                format!(
                    r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"requester":{{"id":{s}}},"server":{{"id":{s}}},{s}:1}}"#
                ),
                format!(r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":{s}}}}}"#),
                format!(
                    r#"{{"decision_id":{s},"timestamp":"2026-11-21T00:00:00Z","result":{{"effect":"allow","reasons":[{s}]}},"input":{{"params":{{"a":{s}}},"user":{{"id":{s}}},"more":{s},"agent":{{"id":{s}}}}},"error":null}}"#
                ),
                format!(r#"{{"decision_id":"d","timestamp":"2026-11-21T00:00:00Z","error":{s}}}"#),
                format!(r#"{{"level":"info","time":"2026-11-21T00:00:00Z","msg":{s}}}"#),
                format!(
                    r#"{{"callId":"c","timestamp":"2026-11-21T00:19:07Z","metadata":{{"x":{{"values":[{s}]}}}},"checkResources":{{"inputs":[{{"principal":{{"id":{s},"attr":{{"chain":[{s}]}}}},"resource":{{"kind":"k","id":{s},"attr":{{"params":[{s}],"y":{s}}}}},"actions":[{s}]}}],"outputs":[{{"actions":{{{s}:{{"effect":"EFFECT_DENY","policy":{s}}}}},"outputs":[{{"src":{s},"action":{s},"val":{{"step_up":{s}}}}}]}}]}}}}"#
                ),
                format!(
                    r#"{{"request_id":"r","start_time":"2026-11-21T00:36:21Z","response_code_details":"via_upstream","mcp":{{"method":"tools/call","params":{{"name":{s}}}}},"user_agent":{s},"path":{s}}}"#
                ),
                format!(
                    r#"{{"request_id":"r","response_code_details":"via_upstream","mcp":{{"method":"x"}},"start_time":{s},"a":{s}}}"#
                ),
            ] {
                let seen = decode(Format::Auto, record.as_bytes());
                let all = seen.everything();
                assert!(!all.contains(secret), "{secret} survived in {all}\nof {record}");
            }
        }
        absent(format!(r#"{{"note":{s},"#).as_bytes(), secret);
        absent(format!("{{\"note\":{escaped},").as_bytes(), secret);
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        absent(&[b"\xff\xfe", utf16.as_slice()].concat(), secret);
        absent(&[b"\xff\xfe ", text.as_bytes(), b" \x80"].concat(), secret);
        absent(format!("[{{\"a\":{s}}}, 7]").as_bytes(), secret);
    }
}

/// The same in traffic, in lines that grant, and in records of authority.
#[test]
fn no_planted_secret_survives_in_executions_and_grants() {
    for (_, text) in planted() {
        let (secret, s) = (secret_of(&text), json(&text));
        let call = json(&format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":{s},"arguments":{{"a":{s}}},"_meta":{{"io.modelcontextprotocol/clientInfo":{{"name":{s}}}}},"x":{s}}}}}"#
        ));
        let answer = json(&format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":-1,"message":{s},"data":[{s}]}}}}"#));
        for record in [
            format!(
                r#"{{"request_headers":{{"x-other":{s},"host":{s}}},"request_body":{call},"response_body":{answer},"path":{s}}}"#
            ),
            format!(r#"{{"request_headers":{{}},"request_body":{s}}}"#),
            format!(r#"{{"jsonrpc":"2.0","id":{s},"method":"resources/read","params":{{"uri":{s}}}}}"#),
            format!(
                r#"{{"level":"info","service":"authorize","message":"authorize check","time":"2026-08-20T14:03:11Z","request-id":{s},"user":{s},"email":{s},"impersonate-email":{s},"allow":true,"allow-why-true":[{s}],"mcp-tool":{s},"body":{s},"headers":{{"X":{s}}},"id-token-claims":{{"groups":[{s}],"x":{s}}}}}"#
            ),
            format!(
                r#"{{"level":"info","service":"envoy","message":"http-request","time":"2026-08-20T14:03:11Z","request-id":{s},"path":{s},"response-code-details":{s},"referer":{s}}}"#
            ),
            format!(r#"{{"level":"info","service":"proxy","message":{s}}}"#),
            format!(
                r#"{{"kind":"grant","id":{s},"grant_id":{s},"grantor":{s},"grantee":{s},"authority":{{"scope":[{s}],"capability":[{{"action":{s}}}],"x":{s}}},"source":{{"instance":{s}}},"y":{s}}}"#
            ),
            format!(r#"{{"kind":"grant","grantor":{s}}}"#),
            format!(
                r#"{{"kind":"grant","id":"g","grant_id":"g","grantor":"a","grantee":"b","authority":{{"scope":{s},"aud":{s}}}}}"#
            ),
            format!(
                r#"{{"grpc_service":"openfga.v1.OpenFGAService","grpc_method":"Write","request_id":{s},"raw_request":{{"store_id":{s},"writes":{{"tuple_keys":[{{"user":{s},"relation":{s},"object":{s},"condition":{{"name":{s}}}}}]}}}},"x":{s}}}"#
            ),
            format!(
                r#"{{"id":{s},"time":1787234591000,"type":"GRANT_CONSENT","realmId":{s},"userId":{s},"clientId":{s},"details":{{"scope":{s},"x":{s}}}}}"#
            ),
        ] {
            let seen = decode(Format::Auto, record.as_bytes());
            assert!(seen.total() > 0);
            let all = seen.everything();
            assert!(!all.contains(secret), "{secret} survived in {all}\nof {record}");
        }
    }
}

#[test]
fn telling_names_hide_their_values() {
    for name in [
        "password",
        "PassWord",
        "db_passwd",
        "api_key",
        "API-Key",
        "x.apiKey",
        "client_secret",
        "access_token",
        "refreshToken",
        "Authorization",
        "private_key",
        "token",
        "Set-Cookie",
        "pin",
        "pass\\u0077ord",
    ] {
        for value in ["\"blue42\"", "4242424242", "[\"blue42\",[4242424242]]", "{\"scheme\":\"blue42\"}"] {
            if matches!((name, value.as_bytes()[0]), ("token" | "pin", b'[' | b'{')) {
                continue;
            }
            for record in [
                format!(
                    r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"call":{{"params":{{"{name}":{value},"a":[{{"{name}":{value}}}]}}}},"odd":{{"{name}":{value}}}}}"#
                ),
                format!(
                    r#"{{"decision_id":"d","timestamp":"2026-11-21T00:00:00Z","result":{{"effect":"allow"}},"input":{{"params":{{"{name}":{value}}},"{name}":{value}}}}}"#
                ),
                format!(
                    r#"{{"decision_id":"d","timestamp":"2026-11-21T00:00:00Z","result":{{"effect":"allow"}},"request_context":{{"http":{{"headers":{{"{name}":{value}}}}}}}}}"#
                ),
            ] {
                let all = decode(Format::Auto, record.as_bytes()).everything();
                assert!(!all.contains("blue42") && !all.contains("4242424242"), "{all}\nof {record}");
                assert!(all.contains("[redacted:key:"), "{all}");
            }
        }
    }
    // A broken record has no members, and is searched as text.
    for broken in [
        r#"{"password":"blue42 and more","x":"#,
        r#"{"a":"{\"password\":\"blue42\"}","#,
        r#"{"client_secret" : 4242424242,"#,
        "password: blue42",
        "Authorization: Bearer blue42blue42",
        "x-api-key=blue42",
    ] {
        let all = decode(Format::Auto, broken.as_bytes()).everything();
        assert!(!all.contains("blue42") && !all.contains("4242424242"), "{all}");
    }
}

#[test]
fn markers_show_equal_secrets_as_equal() {
    let redactor = Redactor::new(KEY);
    let token = format!("gh{}_{}", "p", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let once = redactor.text(&token).into_owned();
    assert!(
        once.starts_with("[redacted:github_token:") && once.len() == "[redacted:github_token:12345678]".len(),
        "{once}"
    );
    assert_eq!(redactor.text(&format!("a {token} b")), format!("a {once} b"));
    assert_ne!(Redactor::new([1; 32]).text(&token), once, "the marker is keyed");
    for (_, text) in planted() {
        let once = redactor.text(&text).into_owned();
        assert_eq!(redactor.text(&once), once, "what has been redacted stays");
    }
}

#[test]
fn look_alikes_survive() {
    let redactor = Redactor::new(KEY);
    for text in [
        "6b1f7d0e-8c1f-4a57-9c39-0d6d9f7f2f10",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "git-9f3c1d2",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk",
        "task-1234567890123456789012345",
        "risk-assessment-of-the-quarter-2026",
        "https://idp.corp.example/path?query=1#x:y@z",
        "the bearer of good news, and basic understanding of tokens",
        "Basic understanding",
        "password reset onboarding",
        "mailto:dana@corp.example",
        "ASIA and the pacific",
        "sort_key=created_at",
    ] {
        assert_eq!(redactor.text(text), text);
    }
}

/// The quick look is what the speed of clean records rests on.
#[test]
fn ordinary_events_are_not_suspected() {
    let redactor = Redactor::new(KEY);
    let ordinary = r#"{"id":"01K36G5QCE6D3M2XJ0Z9B4T7VA","time":"2026-08-20T14:03:11.482913Z","source":{"kind":"catena","instance":"gw-1","seq":1842},"decision":{"verdict":"deny","basis":"explicit","enforced":"blocked","phase":"invoke","policy":{"engine":"opa","id":"mcp/authz","version":"git-9f3c1d2","rules":["tool_update"]},"reasons":["scope_missing"]},"requester":{"id":"dana@corp.example","issuer":"https://idp.corp.example","kind":"human"},"actors":[{"id":"client:claude-code","kind":"client"}],"server":{"id":"https://crm-mcp.corp.example","name":"crm"},"call":{"protocol":"mcp","method":"tools/call","http":{"method":"POST","host":"gw","path":"/mcp","status":403},"params":{"query":"password reset onboarding","ticket":"T-1182","task":"task-77"},"resources":["ticket:T-1182"]},"token":{"ref":"hmac:00112233445566778899aabbccddeeff","proof":"verified","scope":["tickets:read"]},"links":{"trace":"4bf92f3577b34da6a3ce929d0e0e4736"}}"#;
    let mut tape = Tape::default();
    let root = tape.parse(ordinary.as_bytes()).expect("JSON");
    assert!(!redactor.suspects_record(root));
    let params = root.pointer("/call/params").expect("it is there");
    assert!(
        matches!(redactor.json_text(params, false), std::borrow::Cow::Borrowed(_)),
        "clean arguments are not copied"
    );
}

/// A secret that is cut in two when a text is split is gone before that.
#[test]
fn a_secret_that_is_split_is_gone() {
    let secret = "hunter2-very-long";
    let scope = format!("tickets:read Bearer {secret}");
    for record in [
        format!(
            r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"token":{{"scope":"{scope}"}}}}"#
        ),
        format!(
            r#"{{"callId":"c","checkResources":{{"inputs":[{{"auxData":{{"jwt":{{"sub":"s","scope":"{scope}"}}}},"actions":["a"]}}],"outputs":[]}}}}"#
        ),
        format!(
            r#"{{"kind":"grant","id":"g","time":"2026-11-21T00:00:00Z","grant_id":"g","grantor":"a","grantee":"b","authority":{{"scope":"{scope}"}}}}"#
        ),
    ] {
        let seen = decode(Format::Auto, record.as_bytes());
        assert_eq!(seen.rejections, [], "{record}");
        let all = format!("{:?} {:?}", seen.events, seen.entries);
        assert!(!all.contains(secret), "{all}");
        assert!(all.contains("[redacted:"), "{all}");
    }
}
