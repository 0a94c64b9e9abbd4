//! Records of authority: native ones, and what logs of those who grant make of them.

use crate::seen::{Collected, KEY, context, decode};
use catena_decode::authority::catalogue::{self, About, Kind};
use catena_decode::mapping::Mappings;
use catena_decode::{Decoder, Format, Redactor};
use catena_schemas::Micros;
use std::sync::Arc;

/// Decodes, and says each entry as kind, id, body, extra and flags; rejections and asides by their reason.
fn told(format: Format, record: &str) -> String {
    let seen = decode(format, record.as_bytes());
    assert!(seen.events.is_empty(), "{record}");
    lines(&seen)
}

fn lines(seen: &Collected) -> String {
    let entries = seen.entries.iter().map(|e| e.0.clone());
    let asides = seen.asides.iter().map(|a| format!("aside {} {}", a.reason, a.detail));
    let rejections = seen.rejections.iter().map(|r| format!("reject {} {}", r.reason, r.detail));
    entries.chain(asides).chain(rejections).collect::<Vec<_>>().join("\n")
}

fn check(record: &str, expected: &str) {
    assert_eq!(told(Format::Auto, record), expected, "{record}");
}

const HEAD: &str = r#""id":"r1","time":"2026-08-20T14:00:00Z""#;

fn native(rest: &str, expected: &str) {
    check(&format!("{{{HEAD},{rest}}}"), expected);
}

#[test]
fn native_records() {
    native(
        r#""kind":"grant","grant_id":"g-1","grantor":"dana@corp.example","grantee":"agent:planner","authority":{"scope":"mail.read mail.list","aud":[],"capability":[{"server":"mcp:mail","action":"mail.read"}],"new":1},"delegatees":["agent:summarizer"],"max_redelegation":1,"valid_to":1787000000,"standing":false,"note":"x""#,
        r#"grant r1 {"grant_id":"g-1","grantor":"dana@corp.example","grantee":"agent:planner","scope":["mail.read","mail.list"],"aud":[],"capability":[{"server":"mcp:mail","action":"mail.read"}],"delegatees":["agent:summarizer"],"max_redelegation":1,"valid_to":"2026-08-17T20:53:20.000000Z","standing":false} extra={"authority":{"new":1},"note":"x"}"#,
    );
    native(
        r#""kind":"reauth","reauth_id":"ra-1","by":"agent:planner","approver":"dana@corp.example","at":"2026-08-20T14:00:00Z","new_authority":{"scope":["mail.send"]},"anchor":"e-7","use":"single_op""#,
        r#"reauth r1 {"reauth_id":"ra-1","by":"agent:planner","approver":"dana@corp.example","at":"2026-08-20T14:00:00.000000Z","scope":["mail.send"],"anchor":"e-7","use":"single_op"}"#,
    );
    native(
        r#""kind":"lifecycle","event":"revoked","subject_kind":"grant","subject":"g-1","changes":{"n":36893488147419103232}"#,
        r#"lifecycle r1 {"event":"revoked","subject_kind":"grant","subject":"g-1","changes":{"n":36893488147419103232}}"#,
    );
    native(
        r#""kind":"principal","principal":"agent:planner","principal_kind":"agent","aliases":["spiffe://corp/planner"]"#,
        r#"principal r1 {"principal":"agent:planner","principal_kind":"agent","aliases":["spiffe://corp/planner"]}"#,
    );
    native(
        r#""kind":"tool","server":"mcp:mail","tool":"mail.send","impact":"high","effect":"update""#,
        r#"tool r1 {"server":"mcp:mail","tool":"mail.send","effect":"update"} extra={"impact":"high"} flags=invalid:impact"#,
    );
    check(r#"{"kind":"exchange"}"#, "exchange place/0/0 {} flags=time_missing,id_missing");
}

/// Each row repairs one fault of the row above.
#[test]
fn what_a_record_cannot_do_without() {
    native(r#""kind":"grants""#, "reject kind_unsupported records of kind `grants` are not read");
    native(r#""kind":"grant""#, "reject field_missing `authority` is required of a grant");
    native(r#""kind":"grant","authority":{}"#, "reject field_missing `grant_id` is required of a grant");
    native(r#""kind":"grant","authority":{},"grant_id":"g""#, "reject field_missing `grantor` is required of a grant");
    native(
        r#""kind":"grant","authority":{},"grant_id":"g","grantor":"a""#,
        "reject field_missing `grantee` is required of a grant",
    );
    native(
        r#""kind":"grant","authority":{},"grant_id":"g","grantor":"a","grantee":7"#,
        r#"grant r1 {"grant_id":"g","grantor":"a","grantee":"7"}"#,
    );
    check(r#"{"kind":"tool","time":"soon","server":"s","tool":"t"}"#, r#"reject time_invalid `time` is "soon""#);
}

#[test]
fn tokens_are_kept_as_digests() {
    let record = format!(
        r#"{{{HEAD},"kind":"exchange","subject_token_ref":"plain-token-1","issued_token_ref":["plain-token-2"],"note":"password=hunter2-very-long"}}"#
    );
    let seen = decode(Format::Auto, record.as_bytes());
    let (line, debug) = &seen.entries[0];
    assert!(
        line.contains(&Redactor::new(KEY).digest("plain-token-1")) && line.contains("invalid:issued_token_ref"),
        "{line}"
    );
    let revoked = decode(
        Format::Auto,
        format!(r#"{{{HEAD},"kind":"lifecycle","event":"revoked","subject_kind":"token","subject":"plain-token-3"}}"#)
            .as_bytes(),
    );
    for picture in [line, debug, &revoked.entries[0].1] {
        assert!(!picture.contains("plain-token") && !picture.contains("hunter2"), "{picture}");
    }
}

#[test]
fn executions_have_no_verdict() {
    for (record, outcome, flags) in [
        (r#"{"id":"1","time":"2026-11-21T00:00:00Z","kind":"execution"}"#, "execution unknown", ""),
        (
            r#"{"id":"1","time":"2026-11-21T00:00:00Z","kind":"execution","decision":{"phase":"invoke"}}"#,
            "execution unknown",
            "",
        ),
        (
            r#"{"id":"1","time":"2026-11-21T00:00:00Z","kind":"execution","decision":{"verdict":"allow"}}"#,
            "execution unknown",
            "invalid:decision.verdict",
        ),
        (
            r#"{"id":"1","time":"2026-11-21T00:00:00Z","kind":"decision","decision":{"verdict":"allow"}}"#,
            "decision allow",
            "",
        ),
    ] {
        let seen = decode(Format::Auto, record.as_bytes());
        let e = &seen.events[0];
        assert_eq!(
            (format!("{} {}", e.kind, e.outcome).as_str(), e.flags.join(",").as_str()),
            (outcome, flags),
            "{record}"
        );
        assert_eq!(e.extra.contains(r#""decision.verdict":"allow""#), !flags.is_empty());
    }
    let missing = decode(Format::Auto, br#"{"id":"1","time":"2026-11-21T00:00:00Z","kind":"decision"}"#);
    assert_eq!(missing.rejections[0].reason, "verdict_missing");
}

/// A line of a real store's request log, shortened.
fn write_of(members: &str) -> String {
    format!(
        r#"{{"msg":"grpc_req_complete","grpc_service":"openfga.v1.OpenFGAService","grpc_method":"Write","raw_request":{{"store_id":"S1","writes":{{"tuple_keys":[{{"user":"agent:cc","relation":"can_call","object":"tool:t"}}]}}}},"request_id":"a83d"{members}}}"#
    )
}

/// A write has the times that a check has: OpenFGA's default are seconds with a fraction.
#[test]
fn openfga_writes_have_the_times_of_checks() {
    for (time, expected) in [
        ("1787234591.482", Some(1_787_234_591_482_000)),
        (r#""1787234591.482""#, Some(1_787_234_591_482_000)),
        (r#""1787234591""#, Some(1_787_234_591_000_000)),
        ("1787234591", Some(1_787_234_591_000_000)),
        (r#""2026-08-20T14:03:11.482Z""#, Some(1_787_234_591_482_000)),
        (r#""soon""#, None),
    ] {
        let written = decode(Format::Auto, write_of(&format!(r#","ts":{time},"grpc_code":0"#)).as_bytes());
        let asked = format!(
            r#"{{"msg":"grpc_req_complete","grpc_service":"openfga.v1.OpenFGAService","grpc_method":"Check","ts":{time},"raw_response":{{"allowed":true}},"grpc_code":0}}"#
        );
        let asked = decode(Format::Auto, asked.as_bytes());
        assert_eq!(asked.events.first().map(|e| e.time.0), expected, "{time}");
        match expected {
            Some(micros) => assert!(
                written.entries[0].1.contains(&format!("{:?}", Micros(micros))),
                "{time}: {:?}",
                written.entries
            ),
            None => assert_eq!(written.rejections[0].reason, "time_invalid", "{time}"),
        }
    }
}

/// What OpenFGA never set is written empty, and says of no write that it failed.
#[test]
fn openfga_writes_fail_by_what_is_said() {
    for (members, granted) in [
        (r#","error":"","internal_error":"","grpc_code":0"#, true),
        (r#","grpc_code":null"#, true),
        (r#","error":null"#, true),
        (r#","error":"x""#, false),
        (r#","internal_error":"x","grpc_code":0"#, false),
        (r#","grpc_code":2017"#, false),
    ] {
        let seen = decode(Format::Auto, write_of(members).as_bytes());
        let reasons: Vec<_> = seen.asides.iter().map(|a| a.reason).collect();
        assert_eq!(
            (seen.entries.len(), reasons.as_slice()),
            if granted { (1, &[][..]) } else { (0, &["grants_nothing"][..]) },
            "{members}"
        );
    }
}

#[test]
fn openfga_writes_and_deletes() {
    let line = |request: &str| {
        format!(
            r#"{{"level":"info","timestamp":"2026-11-21T00:23:37.191Z","msg":"grpc_req_complete","grpc_service":"openfga.v1.OpenFGAService","grpc_method":"Write","raw_request":{request},"raw_response":{{}},"request_id":"a83d","store_id":"S1","grpc_code":0}}"#
        )
    };
    let whole = line(
        r#"{"store_id":"S1","writes":{"tuple_keys":[{"user":"agent:coder-1","relation":"can_call","object":"tool:github/create_issue","condition":null},{"user":"agent:finance-1","relation":"can_call","object":"tool:payments/transfer","condition":{"name":"small_amount","context":{}}}]},"deletes":{"tuple_keys":[{"user":"agent:coder-1","relation":"can_call","object":"tool:github/create_issue"}]},"authorization_model_id":"M1"}"#,
    );
    let extra = r#"extra={"grpc_method":"Write","grpc_service":"openfga.v1.OpenFGAService","raw_request":{"authorization_model_id":"M1"}}"#;
    let expected = [
        r#"grant a83d/0 {"grant_id":"S1/tool:github/create_issue#can_call@agent:coder-1","grantee":"agent:coder-1","capability":[{"action":"can_call","resource":"tool:github/create_issue"}],"basis":"policy_grant"}"#,
        r#"grant a83d/1 {"grant_id":"S1/tool:payments/transfer#can_call@agent:finance-1","grantee":"agent:finance-1","capability":[{"action":"can_call","resource":"tool:payments/transfer","constraints":{"name":"small_amount","context":{}}}],"basis":"policy_grant"}"#,
        r#"lifecycle a83d/2 {"event":"revoked","subject_kind":"grant","subject":"S1/tool:github/create_issue#can_call@agent:coder-1"}"#,
    ];
    check(&whole, &expected.map(|e| format!("{e} {extra}")).join("\n"));
    let seen = decode(Format::Authority, whole.as_bytes());
    assert!(
        seen.entries.iter().enumerate().all(|(i, e)| e.1.contains(&format!("decision_index: {i}, decision_count: 3")))
    );
    check(&line("null").replace("\"grpc_code\":0", "\"grpc_code\":2017"), "aside grants_nothing a write that failed");
    check(&line(r#"{"writes":null,"deletes":null}"#), "aside grants_nothing a write without tuples");
    check(
        &line(r#"{"writes":{"tuple_keys":[{"user":"u"}]}}"#),
        "reject field_missing a tuple has no user, relation or object",
    );
}

fn keycloak(event: &str, rest: &str, expected: &str) {
    let record = format!(
        r#"{{"id":"k1","time":1787234591000,"type":"{event}","realmId":"corp","clientId":"claude","userId":"u-1","sessionId":null,"ipAddress":"10.0.0.1",{rest}}}"#
    );
    let got = told(Format::Auto, &record);
    let digest = |s: &str| Redactor::new(KEY).digest(s);
    let expected = expected.replace("<issued>", &digest("tok-1")).replace("<refresh>", &digest("ref-1"));
    assert_eq!(got, expected, "{record}");
}

#[test]
fn keycloak_events() {
    keycloak(
        "GRANT_CONSENT",
        r#""details":{"scope":"openid mail.read","consent":"consent_granted"}"#,
        r#"grant k1 {"grant_id":"corp/u-1/claude","grantor":"u-1","grantee":"claude","scope":["openid","mail.read"],"basis":"interactive_consent"} extra={"details":{"consent":"consent_granted"},"ipAddress":"10.0.0.1","type":"GRANT_CONSENT"}"#,
    );
    keycloak(
        "REVOKE_GRANT",
        r#""details":{"revoked_client":"cursor"}"#,
        r#"lifecycle k1 {"event":"revoked","subject_kind":"grant","subject":"corp/u-1/cursor","by":"u-1"} extra={"clientId":"claude","details":{"revoked_client":"cursor"},"ipAddress":"10.0.0.1","type":"REVOKE_GRANT"}"#,
    );
    keycloak(
        "TOKEN_EXCHANGE",
        r#""details":{"token_id":"tok-1","scope":"mail.read","audience":"mail-mcp"}"#,
        r#"exchange k1 {"issued_token_ref":"<issued>","scope_out":["mail.read"],"aud_out":["mail-mcp"]} extra={"clientId":"claude","ipAddress":"10.0.0.1","type":"TOKEN_EXCHANGE","userId":"u-1"}"#,
    );
    keycloak(
        "REFRESH_TOKEN",
        r#""details":{"token_id":"tok-1","refresh_token_id":"ref-1"}"#,
        r#"exchange k1 {"subject_token_ref":"<refresh>","issued_token_ref":"<issued>"} extra={"clientId":"claude","ipAddress":"10.0.0.1","type":"REFRESH_TOKEN","userId":"u-1"}"#,
    );
    keycloak(
        "CLIENT_REGISTER",
        r#""details":{}"#,
        r#"lifecycle k1 {"event":"registered","subject_kind":"client","subject":"claude","by":"u-1"} extra={"ipAddress":"10.0.0.1","type":"CLIENT_REGISTER"}"#,
    );
    keycloak("LOGIN", r#""details":{}"#, "aside grants_nothing keycloak-other");
    keycloak("TOKEN_EXCHANGE", r#""error":"invalid_token""#, "aside grants_nothing keycloak-other");
    keycloak(
        "CLIENT_DELETE",
        r#""clientid":1"#,
        r#"lifecycle k1 {"event":"removed","subject_kind":"client","subject":"claude","by":"u-1"} extra={"clientid":1,"ipAddress":"10.0.0.1","type":"CLIENT_DELETE"}"#,
    );
}

#[test]
fn cloudtrail_and_contextforge_events() {
    let aws = |name: &str, source: &str, rest: &str| {
        format!(
            r#"{{"eventVersion":"1.11","eventTime":"2026-08-20T14:03:11Z","eventSource":"{source}.amazonaws.com","eventName":"{name}","eventID":"c3d4","recipientAccountId":"1111",{rest}}}"#
        )
    };
    let at = r#""at":"2026-08-20T14:03:11.000000Z""#;
    check(
        &aws(
            "GetWorkloadAccessTokenForUserId",
            "bedrock-agentcore",
            r#""requestParameters":{"workloadName":"planner","userId":"u-1"}"#,
        ),
        &format!(
            r#"exchange c3d4 {{{at}}} extra={{"eventName":"GetWorkloadAccessTokenForUserId","eventSource":"bedrock-agentcore.amazonaws.com","eventVersion":"1.11","requestParameters":{{"userId":"u-1","workloadName":"planner"}}}}"#
        ),
    );
    check(
        &aws(
            "CompleteResourceTokenAuth",
            "bedrock-agentcore",
            r#""requestParameters":{"sessionUri":"urn:s:1","userIdentifier":{"userId":"u-1"}}"#,
        ),
        r#"lifecycle c3d4 {"event":"consent_completed","subject_kind":"session","subject":"urn:s:1","by":"u-1"} extra={"eventName":"CompleteResourceTokenAuth","eventSource":"bedrock-agentcore.amazonaws.com","eventVersion":"1.11"}"#,
    );
    let assumed = told(
        Format::Auto,
        &aws(
            "AssumeRoleWithWebIdentity",
            "sts",
            r#""responseElements":{"credentials":{"accessKeyId":"ASIAEXAMPLE","sessionToken":"hunter2"},"audience":"sts.amazonaws.com"}"#,
        ),
    );
    let digest = Redactor::new(KEY).digest("ASIAEXAMPLE");
    assert!(
        assumed.starts_with(&format!(
            r#"exchange c3d4 {{"issued_token_ref":"{digest}","aud_in":["sts.amazonaws.com"],{at}}}"#
        )),
        "{assumed}"
    );
    assert!(!assumed.contains("hunter2") && !assumed.contains("ASIAEXAMPLE"), "{assumed}");
    check(
        &aws("GetWorkloadAccessToken", "bedrock-agentcore", r#""errorCode":"AccessDenied""#),
        "aside grants_nothing cloudtrail-failed",
    );
    check(
        r#"{"timestamp":"2026-08-20T14:03:11Z","event":"token-exchange","user_email":"dana@corp.example","gateway_id":"gw","target_audience":"mail","success":true,"request_id":"q1"}"#,
        r#"exchange q1/gw {"aud_out":["mail"]} extra={"event":"token-exchange","request_id":"q1","success":true,"user_email":"dana@corp.example"}"#,
    );
    check(
        r#"{"timestamp":"2026-08-20T14:03:11Z","custom_fields":{"event":"token-exchange","success":false,"error":"no"}}"#,
        "aside grants_nothing contextforge-failed",
    );
}

#[test]
fn times_without_a_zone_and_words_that_stand_for_others() {
    let exchange = |time: &str| {
        let line = format!(
            r#"{{"timestamp":"{time}","event":"token-exchange","gateway_id":"gw","success":true,"request_id":"q1"}}"#
        );
        decode(Format::Auto, line.as_bytes()).entries.first().map(|e| e.1.clone()).unwrap_or_default()
    };
    let one = exchange("2026-08-20T14:03:11.482913");
    assert!(!one.is_empty() && one == exchange("2026-08-20T14:03:11.482913Z"), "{one}");
    assert_eq!(exchange("2026-08-20"), "", "a day is no time");
    let mapping = "format = 'authority'\nkind = 'lifecycle'\n[when]\nall = [{ pointer = '/op', exists = true }]\n[fields]\nevent = { pointer = '/op', lookup = { D = 'revoked', C = 'registered' } }\nsubject_kind = { value = 'client' }\nsubject = '/of'\neffective_at = { pointer = '/at', utc = true }";
    for (record, expected) in [
        (
            r#"{"op":"D","of":"web","at":"2026-08-20 14:03:11"}"#,
            r#"lifecycle place/0/0 {"event":"revoked","subject_kind":"client","subject":"web","effective_at":"2026-08-20T14:03:11.000000Z"} flags=time_missing,id_missing"#,
        ),
        // A word that is not listed is not taken.
        (r#"{"op":"X","of":"web"}"#, "reject field_missing `event` is empty under `mine-0`"),
    ] {
        assert_eq!(under(&[mapping], record).0, expected);
    }
}

#[test]
fn a_mapping_that_extends_another_speaks_in_its_place() {
    let line = |realm: &str| {
        format!(
            r#"{{"id":"k1","time":1787234591000,"type":"TOKEN_EXCHANGE","realmId":"{realm}","details":{{"token_id":"tok-1","scope":"mail.read","audience":"mail"}}}}"#
        )
    };
    let digest = |s: &str| Redactor::new(KEY).digest(s);
    let expected = |token: &str, rest: &str| {
        format!(r#"exchange k1 {{"issued_token_ref":"{}"{rest} extra={{"type":"TOKEN_EXCHANGE"}}"#, digest(token))
    };
    let all = r#","scope_out":["mail.read"],"aud_out":["mail"]}"#;
    let ours = "extends = 'keycloak-exchange'\n[fields]\nissued_token_ref = { pointer = '/details/token_id', prefix = 'https://corp ' }\n";
    assert_eq!(under(&[ours], &line("corp")).0, expected("https://corp tok-1", all));
    // Under conditions of its own it leaves the other lines to what it extends; one upon the other, the last speaks.
    let narrow = |realm: &str, base: &str| {
        format!(
            "name = '{realm}'\nformat = 'authority'\nextends = '{base}'\n[when]\nall = [{{ pointer = '/realmId', equals = '{realm}' }}]\n[fields]\nissued_token_ref = {{ pointer = '/details/token_id', prefix = 'https://{realm} ' }}\n"
        )
    };
    let two = [narrow("a", "keycloak-exchange"), narrow("b", "a")];
    let two: Vec<&str> = two.iter().map(String::as_str).collect();
    for (realm, token) in [("a", "https://a tok-1"), ("b", "https://b tok-1"), ("c", "tok-1")] {
        assert_eq!(under(&two, &line(realm)).0, expected(token, all), "{realm}");
    }
    // One that takes the name replaces it; a column can be taken back, and all of it.
    let named = "name = 'keycloak-exchange'\nextends = 'keycloak-exchange'\n[fields]\naud_out = false\n";
    let got = under(&[named], &line("corp")).0;
    assert!(got.contains("scope_out") && !got.contains("aud_out") && got.contains(r#""audience":"mail""#), "{got}");
    let silent = "extends = 'keycloak-exchange'\nskip = true";
    assert_eq!(under(&[silent], &line("corp")).0, "aside grants_nothing mine-0");
}

#[test]
fn shipped_mappings_for_records_are_listed_and_preferred() {
    let shipped = Mappings::shipped();
    let listed = shipped.names().filter(|(_, format)| *format == Format::Authority).count();
    assert!(listed >= 12 && shipped.names().any(|(name, _)| name == "keycloak-exchange"));
    let preferring = shipped.prefer("keycloak-client").expect("it ships");
    let first = preferring.names().find(|(_, format)| *format == Format::Authority).map(|(name, _)| name.to_owned());
    assert_eq!(first.as_deref(), Some("keycloak-client"));
    assert_eq!(preferring.names().count(), shipped.names().count());
}

#[test]
fn a_mapping_of_ones_own_for_records() {
    let mapping = |text: &str| match Mappings::shipped().with(text, "mine") {
        Ok(_) => "fine".to_owned(),
        Err(e) => e.to_string(),
    };
    for (text, expected) in [
        ("format = 'authority'", "mapping `mine`, line 1: `kind` is required, or `skip = true`"),
        (
            "format = 'authority'\nkind = 'grand'",
            "mapping `mine`, line 2: `kind` does not know `grand`, the nearest known one is `grant`",
        ),
        (
            "format = 'authority'\nkind = 'grant'\n[fields]\ngrantr = '/a'",
            "mapping `mine`, line 4: unknown column `grantr`, the nearest known one is `grantor`",
        ),
        (
            "format = 'authority'\nkind = 'grant'\n[fields]\ngrantor = 'a'",
            "mapping `mine`, line 4: `grantor`: `a` is not a pointer: it must start with `/`",
        ),
        (
            "format = 'authority'\nkind = 'grant'\n[fields]\ngrant_id = { join = ['/a', '/b'], wiht = '-' }",
            "mapping `mine`, line 4: unknown key `wiht`, the nearest known one is `with`",
        ),
        ("format = 'authority'\nkind = 'grant'\n[fields]\ngrant_id = { join = ['/a', '/b'], with = '-' }", "fine"),
        (
            "format = 'authority'\nkind = 'grant'\n[fields]\ngrantor = { pointer = '/a', utc = true }",
            "mapping `mine`, line 4: `utc` is for times alone",
        ),
        ("format = 'authority'\nkind = 'grant'\n[fields]\nvalid_to = { pointer = '/a', utc = true }", "fine"),
        (
            "format = 'authority'\nextends = 'keycloak-exchang'",
            "mapping `mine`, line 2: `extends` names no mapping of `authority`: `keycloak-exchang`, the nearest known one is `keycloak-exchange`",
        ),
        (
            "format = 'authority'\nextends = 'keycloak-exchange'\nkind = 'grant'",
            "mapping `mine`, line 3: `kind` is `exchange` in what it extends: its columns are others",
        ),
    ] {
        let said = mapping(text);
        // Where in its line is for other tests.
        let (line, rest) = said
            .split_once(", column ")
            .map_or((said.as_str(), ""), |(l, r)| (l, r.split_once(':').map_or("", |r| r.1)));
        let said = if rest.is_empty() { line.to_owned() } else { format!("{line}:{rest}") };
        assert_eq!(said, expected, "{text}");
    }
}

/// Decodes under mappings of one's own, and says what came of it as `told` does, and everything as text.
fn under(mappings: &[&str], record: &str) -> (String, String) {
    let mut all = (*Mappings::shipped()).clone();
    for (i, text) in mappings.iter().enumerate() {
        all = all.with(text, &format!("mine-{i}")).expect("a sound mapping");
    }
    let mut seen = Collected::default();
    let mut decoder = Decoder::with_mappings(Arc::new(Redactor::new(KEY)), Arc::new(all));
    decoder.record(Format::Auto, record.as_bytes(), &context(), &mut seen);
    (lines(&seen), seen.everything())
}

#[test]
fn what_a_digest_was_made_of_is_not_left_in_clear() {
    let head = "format = 'authority'\nkind = 'lifecycle'\n[when]\nall = [{ pointer = '/handle', exists = true }]\n[fields]\nevent = { value = 'revoked' }\n";
    for (fields, record, expected) in [
        (
            "subject_kind = { value = 'token' }\nsubject = { pointer = '/handle', prefix = 'https://as ' }",
            r#"{"handle":"opaque-7Rq","n":1}"#,
            r#"lifecycle place/0/0 {"event":"revoked","subject_kind":"token","subject":"<https://as opaque-7Rq>"} extra={"n":1} flags=time_missing,id_missing"#,
        ),
        (
            "subject_kind = { value = 'token' }\nsubject = { join = ['/issuer', '/handle'] }",
            r#"{"handle":"opaque-7Rq","issuer":"as"}"#,
            r#"lifecycle place/0/0 {"event":"revoked","subject_kind":"token","subject":"<as/opaque-7Rq>"} flags=time_missing,id_missing"#,
        ),
        // A list is no token, and holds some.
        (
            "subject_kind = { value = 'token' }\nsubject = ['/handle', '/other']",
            r#"{"handle":["opaque-7Rq"],"other":"t"}"#,
            r#"lifecycle place/0/0 {"event":"revoked","subject_kind":"token","subject":"<t>"} flags=invalid:subject,time_missing,id_missing"#,
        ),
        // What is no token can be read off the column, unless it was joined: then nobody can tell which part ended where.
        (
            "subject_kind = { value = 'client' }\nsubject = { pointer = '/handle', prefix = 'c:' }",
            r#"{"handle":"web"}"#,
            r#"lifecycle place/0/0 {"event":"revoked","subject_kind":"client","subject":"c:web"} flags=time_missing,id_missing"#,
        ),
        (
            "subject_kind = { value = 'client' }\nsubject = { join = ['/realm', '/handle'] }",
            r#"{"handle":"web","realm":"r"}"#,
            r#"lifecycle place/0/0 {"event":"revoked","subject_kind":"client","subject":"r/web"} extra={"handle":"web","realm":"r"} flags=time_missing,id_missing"#,
        ),
    ] {
        let expected = match expected.split_once('<').and_then(|(a, rest)| Some((a, rest.split_once('>')?))) {
            Some((before, (token, after))) => format!("{before}{}{after}", Redactor::new(KEY).digest(token)),
            None => expected.to_owned(),
        };
        let (got, everything) = under(&[&format!("{head}{fields}")], record);
        assert_eq!(got, expected, "{record}");
        assert!(!everything.contains("opaque-7Rq"), "{everything}");
    }
}

// ---- catalogues -----------------------------------------------------------------------------------------------------

fn about() -> About<'static> {
    About { time: Micros::parse_rfc3339("2026-11-21T00:00:00Z").expect("a time"), server: Some("mcp:mail") }
}

/// Reads a catalogue, and decodes its records as they would be.
fn tools(text: &str, kind: Kind, expected: &str) {
    let got = match catalogue::read(text.as_bytes(), kind, &about()) {
        Ok(lines) => lines.iter().map(|l| told(Format::Auto, l)).collect::<Vec<_>>().join("\n"),
        Err(e) => format!("error: {e}"),
    };
    assert_eq!(got, expected, "{text}");
}

#[test]
fn catalogues_in_yaml_csv_and_json_say_the_same() {
    let expected = r#"tool catalogue/mcp:files/file.delete@2026-11-21T00:00:00.000000Z {"server":"mcp:files","tool":"file.delete","requires":[{"action":"file.write"}],"effect":"admin","impact":4,"approved_by":"ops@corp.example"}
tool catalogue/mcp:mail/mail.send@2026-11-21T00:00:00.000000Z {"server":"mcp:mail","tool":"mail.send","output_trust":"trusted"}"#;
    tools(
        "tools:\n  - tool: file.delete\n    server: mcp:files\n    requires: [file.write]\n    effect: admin\n    impact: 4\n    approved_by: ops@corp.example\n  - {name: mail.send, output_trust: trusted}\n",
        Kind::Yaml,
        expected,
    );
    tools(
        "tool,server,requires,effect,impact,approved_by,output_trust\nfile.delete,mcp:files,file.write,admin,4,ops@corp.example,\n# a comment\nmail.send,,,,,,trusted\n",
        Kind::Csv,
        expected,
    );
    tools(
        r#"{"tools":[{"tool":"file.delete","server":"mcp:files","requires":["file.write"],"effect":"admin","impact":4,"approved_by":"ops@corp.example"},{"name":"mail.send","output_trust":"trusted"}]}"#,
        Kind::Json,
        expected,
    );
}

/// A server that calls its own tool harmless is not believed, whatever else it writes.
#[test]
fn a_server_is_not_taken_for_a_person() {
    for answer in [
        r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"t","effect":"read","impact":0}]}}"#,
        r#"{"tools":[{"name":"t","effect":"read","impact":0,"inputSchema":{"type":"object"}}]}"#,
        r#"{"server":"mcp:mail","tools":[{"tool":"t","name":"t","effect":"read","inputSchema":{}}]}"#,
    ] {
        let lines = catalogue::read(answer.as_bytes(), Kind::Json, &about()).expect("a list");
        let line = told(Format::Auto, &lines[0]);
        assert!(line.contains("sha256:") && !line.contains("effect") && !line.contains("impact"), "{line}");
    }
    let meta = r#"{"tools":[{"name":"t","inputSchema":{},"_meta":{"owner":"x"}}]}"#;
    let lines = catalogue::read(meta.as_bytes(), Kind::Json, &about()).expect("a list");
    assert!(told(Format::Auto, &lines[0]).contains(r#"extra={"_meta":{"owner":"x"}}"#));
}

#[test]
fn numbers_of_a_cell_become_numbers() {
    for impact in ["3", "+3", "003"] {
        let expected = r#"tool catalogue/s/t@2026-11-21T00:00:00.000000Z {"server":"s","tool":"t","impact":3}"#;
        tools(&format!("tool,server,impact\nt,s,{impact}\n"), Kind::Csv, expected);
    }
}

#[test]
fn what_is_no_catalogue_is_refused() {
    tools(
        "tools: 7",
        Kind::Yaml,
        "error: the catalogue is not a list of tools: expected a list, or a member `tools` that is one",
    );
    tools("tools: [{effect: read}]", Kind::Yaml, "error: tool 1 of the catalogue has no `tool`");
    tools("a: [", Kind::Yaml, "error: could not read the catalogue as YAML");
    tools(
        "a,b\n1,2\n",
        Kind::Csv,
        "error: the catalogue is not a list of tools: expected a first line with the name `tool`",
    );
    tools("tool\n1,2\n", Kind::Csv, "error: could not read the catalogue as CSV");
    tools("{", Kind::Json, "error: could not read the catalogue as JSON");
    let nobody = About { server: None, ..about() };
    let refused = catalogue::read(b"[{\"name\":\"t\"}]", Kind::Json, &nobody).map_err(|e| e.to_string());
    assert_eq!(refused, Err("tool 1 of the catalogue has no `server`".to_owned()));
}

#[test]
fn definitions_of_a_server_are_digested_and_not_believed() {
    let digest = |definition: &str| {
        let lines =
            catalogue::read(format!(r#"{{"tools":[{definition}]}}"#).as_bytes(), Kind::Json, &about()).expect("a list");
        let line = told(Format::Auto, &lines[0]);
        assert!(!line.contains("\"effect\""), "a server's own hint is no class: {line}");
        line.split("sha256:").nth(1).expect("a digest").split('"').next().expect("its end").to_owned()
    };
    let one = digest(r#"{"name":"t","annotations":{"readOnlyHint":true},"inputSchema":{"type":"object","a":[]}}"#);
    assert_eq!(
        one,
        digest(r#"{"inputSchema":{"a":[],"type":"object"}, "annotations":{"readOnlyHint":true},"name":"t"}"#),
        "order and space do not count"
    );
    assert_ne!(
        one,
        digest(r#"{"name":"t","annotations":{"readOnlyHint":false},"inputSchema":{"type":"object","a":[]}}"#)
    );
}

/// What a real server answered.
#[test]
fn a_real_answer_to_tools_list() {
    let exchanges = crate::seen::jsonl("mcp/python-sdk/exchanges.jsonl.gz");
    let answer = exchanges
        .iter()
        .filter(|e| e["request_body"].as_str().is_some_and(|b| b.contains("tools/list")))
        .filter_map(|e| e["response_body"].as_str())
        .find(|b| b.starts_with('{'))
        .expect("a plain answer");
    let lines = catalogue::read(answer.as_bytes(), Kind::Json, &about()).expect("a list");
    assert_eq!(lines.len(), 6);
    assert!(lines.iter().all(|l| told(Format::Auto, l).starts_with("tool catalogue/mcp:mail/")));
}
