//! The rule file, the dry run, and what they promise.

use crate::planted::{ALNUM, Dice};
use crate::seen::{Collected, KEY, context};
use catena_decode::redact::{self, Rules, dry_run};
use catena_decode::{Decoder, Format, Redactor};
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

fn redactor(rules: &str) -> Redactor {
    Redactor::with_rules(KEY, Arc::new(Rules::parse(rules, "redact.toml").expect("the rules are good")))
}

fn seen(rules: &str, format: Format, record: &str) -> Collected {
    let mut seen = Collected::default();
    Decoder::new(Arc::new(redactor(rules))).record(format, record.as_bytes(), &context(), &mut seen);
    seen
}

/// Arguments of a call of `crm.read`, under rules.
fn check(rules: &str, params: &str, expected: &str) {
    let record = format!(
        r#"{{"id":"1","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}},"call":{{"params":{params}}},"tool":{{"name":"crm.read"}}}}"#
    );
    let seen = seen(rules, Format::Catena, &record);
    let got = &seen.events[0].params;
    let masked = mask(got);
    assert_eq!(masked, expected, "{rules}\n{got}");
}

/// Without the digits of markers and digests.
fn mask(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((at, start)) = ["hmac:", "[redacted:"].iter().filter_map(|s| Some((rest.find(s)?, *s))).min() {
        let end = if start == "hmac:" { at + 37 } else { at + rest[at..].find(']').expect("markers close") + 1 };
        out += &rest[..at];
        out += if start == "hmac:" { "D" } else { "M" };
        rest = &rest[end..];
    }
    out + rest
}

#[test]
fn rules_decide_what_becomes_of_fields() {
    let params = r#"{"note":"n","sort_token":"9tGk2LmQx7VbZp4RwYc8","user":{"ssn":"123","password":"p"}}"#;
    let rule = |field: &str, action: &str| format!("[[rule]]\nfield = \"{field}\"\naction = \"{action}\"\n");
    check("", params, r#"{"note":"n","sort_token":"M","user":{"ssn":"123","password":"M"}}"#);
    check(
        "[names]\ntelling = [\"SSN\"]\nplain = [\"sort_token\"]",
        params,
        r#"{"note":"n","sort_token":"9tGk2LmQx7VbZp4RwYc8","user":{"ssn":"M","password":"M"}}"#,
    );
    check(&rule("note", "always"), params, r#"{"note":"M","sort_token":"M","user":{"ssn":"123","password":"M"}}"#);
    check(
        &rule("/call/params/user/*", "digest"),
        params,
        r#"{"note":"n","sort_token":"M","user":{"ssn":"D","password":"D"}}"#,
    );
    check(
        &rule("/call/params/**/ssn", "always"),
        params,
        r#"{"note":"n","sort_token":"M","user":{"ssn":"M","password":"M"}}"#,
    );
    check(
        &rule("/call/params", "always"),
        params,
        r#"{"note":"M","sort_token":"M","user":{"ssn":"M","password":"M"}}"#,
    );
    check(
        &rule("/extra/user/ssn", "always"),
        params,
        r#"{"note":"n","sort_token":"M","user":{"ssn":"123","password":"M"}}"#,
    );
    check(&rule("user", "keep"), params, r#"{"note":"n","sort_token":"M","user":{"ssn":"123","password":"p"}}"#);
    // The first that fits decides.
    check(
        &(rule("user/ssn", "never") + &rule("ssn", "always")),
        params,
        r#"{"note":"n","sort_token":"M","user":{"ssn":"123","password":"M"}}"#,
    );
    // Kept by name, and still removed by shape; never looked at, and not.
    let token = format!("gh{}_{}", "p", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let shaped = format!(r#"{{"a":{{"secret":"{token}"}}}}"#);
    check(&rule("secret", "keep"), &shaped, r#"{"a":{"secret":"M"}}"#);
    check(&rule("secret", "never"), &shaped, &shaped);
    check(&format!("[kinds]\noff = [\"github_token\"]\n{}", rule("secret", "keep")), &shaped, &shaped);
}

#[test]
fn rules_for_tools_hold_for_these_tools() {
    let rule =
        |tool: &str, action: &str| format!("[[rule]]\nfield = \"x_secret\"\ntool = \"{tool}\"\naction = \"{action}\"");
    let params = r#"{"x_secret":"s"}"#;
    check(&rule("crm.*", "keep"), params, params);
    check(&rule("mail.*", "keep"), params, r#"{"x_secret":"M"}"#);
    check(&rule("crm.read", "digest"), params, r#"{"x_secret":"D"}"#);
    // Of a record that cannot be read the tool is not known: what removes applies, what spares does not.
    let broken = r#"{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"maybe"},"call":{"params":{"x_secret":"sss","b":"bbb"}}}"#;
    let raw = |rules: &str| {
        let seen = seen(rules, Format::Catena, broken);
        String::from_utf8_lossy(seen.rejections[0].raw.as_deref().expect("kept")).into_owned()
    };
    assert!(!raw(&rule("crm.*", "keep")).contains("sss"));
    assert!(!raw(&rule("crm.*", "always").replace("x_secret", "b")).contains("bbb"));
}

#[test]
fn rules_reach_fields_of_text() {
    let record = r#"{"id":"1","time":"2026-11-21T00:00:00Z","decision":{"verdict":"allow"},"requester":{"id":"dana","email":"dana@corp.example"},"network":{"ip":"10.0.0.1"}}"#;
    let rules =
        "[[rule]]\nfield = \"/requester/*\"\naction = \"digest\"\n[[rule]]\nfield = \"ip\"\naction = \"always\"";
    let debug = &seen(rules, Format::Catena, record).events[0].debug;
    assert!(!debug.contains("dana") && !debug.contains("10.0.0.1") && debug.contains("[redacted:rule:"), "{debug}");
    assert!(debug.contains(&redactor("").digest("dana@corp.example")));
}

#[test]
fn a_rule_file_says_what_is_wrong_with_it() {
    for (text, expected) in [
        ("rules = 1", "redact.toml:1:1: unknown key `rules`, the nearest known one is `rule`"),
        ("[kinds]\noff = [\"github\"]", "redact.toml:2:8: `kinds.off` does not know `github`"),
        (
            "[kinds]\noff = [\"github_tokens\"]",
            "redact.toml:2:8: `kinds.off` does not know `github_tokens`, the nearest known one is `github_token`",
        ),
        ("[names]\ntelling = \"ssn\"", "redact.toml:2:11: `names.telling` is a list of texts"),
        ("[names]\nplain = [\"_\"]", "redact.toml:2:10: `names.plain` has an empty name"),
        ("rule = 1", "redact.toml:1:8: rules are written as `[[rule]]`"),
        ("[[rule]]\naction = \"keep\"", "redact.toml:1:1: a rule needs a `field`"),
        ("[[rule]]\nfield = \"a\"", "redact.toml:1:1: a rule needs a `action`"),
        ("[[rule]]\nfield = \"a\"\naction = \"drop\"", "redact.toml:3:10: `action` does not know `drop`"),
        (
            "[[rule]]\nfield = \"a//b\"\naction = \"keep\"",
            "redact.toml:2:9: `a//b` has an empty name: write `/call/params/note` or `note`",
        ),
        (
            "[[rule]]\nfield = \"/cal/x\"\naction = \"keep\"",
            "redact.toml:2:9: an event has no `cal`, the nearest known one is `call`",
        ),
        ("[[rule]]\n  actoin = 1", "redact.toml:2:3: unknown key `actoin`, the nearest known one is `action`"),
    ] {
        assert_eq!(Rules::parse(text, "redact.toml").expect_err(text).to_string(), expected, "{text}");
    }
    let syntax = Rules::parse("[[rule]]\nfield = ", "r.toml").expect_err("it is cut").to_string();
    assert!(syntax.starts_with("r.toml:2:"), "{syntax}");
}

#[test]
fn the_version_tells_policies_apart() {
    let plain = redactor("");
    assert!(
        plain.policy_version().starts_with("r5-") && plain.policy_version().len() == 11,
        "{}",
        plain.policy_version()
    );
    assert_eq!(plain.policy_version(), Redactor::new([1; 32]).policy_version(), "the key is no part of it");
    assert_eq!(plain.policy_version(), redactor("# nothing\n").policy_version());
    assert_ne!(plain.policy_version(), redactor("[names]\ntelling = [\"ssn\"]").policy_version());
}

#[test]
fn a_dry_run_shows_what_and_not_the_secret() {
    let token = format!("gh{}_{}", "p", Dice::new(3).of(ALNUM, 36));
    let nested = serde_json::json!({"db": {"password": "hunter2hunter2"}}).to_string();
    let sample = serde_json::json!({"requester": {"email": "d@corp.example"}, "call": {"params": {"note": format!("see {token}."), "body": nested, &token: 1}}});
    let run = dry_run(&redactor(""), sample.to_string().as_bytes());
    let text = run.to_string();
    let json = serde_json::to_string(&run).expect("it is data");
    for shown in [&text, &json] {
        assert!(!shown.contains(&token[..6]) && !shown.contains("hunter2"), "{shown}");
    }
    let lines: Vec<_> = text.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "remove  /call/params/body/db/password  key (name)  14 bytes, hu…",
            "remove  /call/params  github_token (shape)  40 bytes, ghp_…",
            "remove  /call/params/note  github_token (shape)  40 bytes, ghp_…",
            "personal  /call/params",
            "personal  /requester/email",
        ]
    );
    assert!(json.contains(r#""why":"name""#) && json.contains(redactor("").policy_version()), "{json}");
    let run = dry_run(&redactor(""), b"Authorization: Bearer not-json-but-long-1");
    assert_eq!((run.json, run.findings.len(), run.findings[0].pointer.as_str()), (false, 1, "@22"));
    assert!(dry_run(&redactor(""), b"{}").to_string().ends_with("nothing would be removed\n"));
}

#[test]
fn personal_fields_have_their_columns() {
    let columns: Vec<_> = redact::personal::columns().map(|c| c.name()).collect();
    assert_eq!(columns, ["requester", "requester_email", "params", "token_subject", "ip", "body"]);
    assert_eq!(redact::personal::column("/call/params/a").map(|c| c.name()), Some("params"));
}

#[test]
fn lines_of_logs_are_searched_with_the_wider_net() {
    let redactor = redactor("");
    for (line, expected) in [
        ("upload of 3 records failed, retrying in 2 s", "upload of 3 records failed, retrying in 2 s"),
        ("password: blue", "password: M"),
        ("x-api-key : abc123", "x-api-key : M"),
        ("GET /cb?code=1&access_token=abc", "GET /cb?code=1&access_token=M"),
        (r#"{"password": "blue", "n": 1}"#, r#"{"password": "M", "n": 1}"#),
        (r#"body "{\"password\":\"blue\"}""#, r#"body "{\"password\":\"M\"}""#),
    ] {
        assert_eq!(mask(&redactor.line(line)), expected);
        assert_eq!(redactor.line(&redactor.line(line)), redactor.line(line), "what has been redacted stays");
    }
}

/// What only begins like a marker protects nothing.
#[test]
fn half_a_marker_shelters_nothing() {
    let token = format!("gh{}_{}", "p", Dice::new(5).of(ALNUM, 36));
    let redactor = redactor("");
    for text in [
        format!("[redacted:{token}]"),
        format!("[redacted: {token}"),
        format!("password=\"[redacted:key:0123456z] {token}\""),
        format!("[redacted:key:01234567]{token}"),
    ] {
        assert!(!redactor.text(&text).contains(&token), "{}", redactor.text(&text));
        assert!(!redactor.line(&text).contains(&token), "{}", redactor.line(&text));
    }
    check("", r#"{"password":"[redacted:really]"}"#, r#"{"password":"M"}"#);
    check("", r#"{"password":"[redacted:key:0123abcd]"}"#, r#"{"password":"M"}"#);
    assert_eq!(redactor.text("password=[redacted:key:0123abcd]"), "password=[redacted:key:0123abcd]");
}

/// What this thread has had of a processor, where the system tells, so that a busy machine makes nothing slow; else the clock.
fn spent() -> Duration {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| BEGUN.elapsed(), Duration::from_nanos)
}

/// Each of these was or could be read once for each of its beginnings.
#[test]
fn no_text_makes_looking_slow() {
    let redactor = redactor("");
    let mut slow = Vec::new();
    for pattern in [
        "password=",
        "sig=",
        "token=",
        "password:",
        "authorization: ",
        "cookie: a=",
        "\"pwd\":\"",
        "\\\"pwd\\\":\\\"",
        "pwd=${",
        "eyJ-",
        "eyJhbGciOiJ-",
        "://a:",
        "http://a:b",
        "bearer ",
        "%41",
        "%25",
        "a%",
        "-----BEGIN PRIVATE KEY",
        "-----BEGIN ",
        "[redacted:",
        "ghp_",
        "sk-",
        "ya29.",
        "SG.",
        "1//0",
        "aaaaaaaaaaaaaaaa ",
        "YWFhYWFhYWFhYWFhYWFh-",
        "\\",
        "\"",
        "xoxb-",
        "8Q~",
        "12345678:",
        "@",
        "=",
        "{\"a\":",
        "[",
    ] {
        let text = pattern.repeat((1 << 19) / pattern.len());
        let began = spent();
        redactor.text(&text);
        redactor.line(&text);
        let took = spent().saturating_sub(began);
        // Usually a few milliseconds; quadratic would be minutes.
        if took > Duration::from_secs(5) {
            slow.push((pattern, took));
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}
