//! Explanations of mappings: by which pointer each field was filled, what stayed unmapped, what stays empty.

use crate::seen::{KEY, corpus, received};
use catena_decode::mapping::Mappings;
use catena_decode::mapping::explain::{Counts, Report, explain};
use catena_decode::{Format, Redactor};
use expect_test::expect;
use std::sync::Arc;

fn report(format: Format, records: &[&[u8]]) -> Report {
    explain(&Mappings::shipped(), &Arc::new(Redactor::new(KEY)), format, records.iter().copied(), received())
}

const KONG: &str = r#"{"started_at":1795183391482,"service":{"name":"tickets"},"request":{"id":"k1"},"ai":{"mcp":{"rpc":[{"id":"2","method":"tools/call","tool_name":"delete","latency":6,"payload":{"request":"{\"params\":{\"arguments\":{\"n\":1}}}"}}],"audit":[{"primitive":"tool","primitive_name":"delete","action":"deny","odd\u001b":"\u001b[2J\u202e"}]}}}"#;

#[test]
fn a_report_reads_like_a_page() {
    let docker = br#"{"trigger":"invoke","target_type":"tool","server_name":"s","tool_name":"t","result":"allowed","timestamp":"2026-11-20T14:03:11Z"}"#;
    let report = report(Format::Auto, &[KONG.as_bytes(), docker, b"{", br#"{"a":1}"#]);
    expect![[r#"
        record 1  kong by kong  deny
          id                      /record/request/id                      k1/0
          time                    /record/started_at                      2026-11-20T14:03:11.482000Z
          source.kind                                                     kong
          source.record                                                   k1
          decision.verdict        /item/action                            deny
          decision.basis          /item/action                            explicit
          decision.enforced       = blocked                               blocked
          decision.phase          = invoke                                invoke
          decision.policy.engine  = kong                                  kong
          server.name             /record/service/name                    tickets
          tool.name               /item/primitive_name                    delete
          links.request           /record/request/id                      k1
          call.protocol           = mcp                                   mcp
          call.method             /pair/method                            tools/call
          call.jsonrpc_id         /pair/id                                2
          call.params             /pair/payload/request/params/arguments  {"n":1}
          unmapped:
            /item/odd�       �[2J�
            /item/primitive  tool
            /pair/latency    6
            /pair/tool_name  delete

        record 2  docker-mcp by docker-mcp  allow  [time_whole_seconds, id_missing]
          id                                    sample
          time                    /timestamp    2026-11-20T14:03:11.000000Z
          source.kind                           docker-mcp
          decision.verdict        /result       allow
          decision.basis          /result       explicit
          decision.enforced       = forwarded   forwarded
          decision.phase          /trigger      invoke
          decision.policy.engine  = docker-mcp  docker-mcp
          server.name             /server_name  s
          tool.name               /tool_name    t
          call.protocol           = mcp         mcp
          unmapped:
            /target_type  tool

        record 3  auto  rejection json_truncated: at byte 1

        record 4  auto  rejection shape_unknown: members: a

        2 decisions: 1 allow, 1 deny, 0 other; 0 aside, 2 rejected

        field                   allow  deny  other
        decision.verdict        1/1    1/1   -
        decision.basis          1/1    1/1   -
        id                      1/1    1/1   -
        time                    1/1    1/1   -
        source.record           0/1    1/1   -
        decision.enforced       1/1    1/1   -
        decision.phase          1/1    1/1   -
        decision.policy.engine  1/1    1/1   -
        server.name             1/1    1/1   -
        tool.name               1/1    1/1   -
        call.protocol           1/1    1/1   -
        call.method             0/1    1/1   -
        call.jsonrpc_id         0/1    1/1   -
        call.params             0/1    1/1   -
        links.request           0/1    1/1   -

        empty: actors_source, token.issued_at, token.expires_at, source.instance, decision.policy.id, decision.policy.version, decision.policy.digest, decision.policy.rules, decision.reasons, decision.obligations, decision.challenge, requester.id, requester.email, requester.issuer, requester.kind, requester.assurance, requester.roles, session.id, session.run, session.conversation, session.mcp, session.task, server.id, tool.action, tool.data_class, call.protocol_version, call.jsonrpc_error, call.http.method, call.http.host, call.http.path, call.http.status, call.resources, call.destination, call.result.bytes, token.ref, token.proof, token.issuer, token.subject, token.client_id, token.audience, token.scope, grant.id, links.parent_decision, links.parent_origin, links.trace, links.span, links.parent_span, links.http_trace, network.ip, network.user_agent, network.spiffe, actors.id, actors.kind, actors.name, actors.version, actors.model, actors.assurance
    "#]]
    .assert_eq(&report.to_string());
    assert_eq!(report.outcomes, Counts { allow: 1, deny: 1, other: 0 });
    let json = serde_json::to_value(&report).expect("it serializes");
    assert_eq!(json["records"][0]["fields"][0]["field"], "id");
}

/// Every field of every real record is either traced to where it came from or set by the decoder itself.
#[test]
fn real_records_are_traced() {
    let log = corpus("openfga/openfga.log");
    let lines: Vec<&[u8]> = log.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    let report = report(Format::Auto, &lines);
    assert_eq!(report.outcomes, Counts { allow: 11 + 8, deny: 29 + 8, other: 2 });
    assert_eq!((report.asides, report.rejections), (17, 0));
    for told in report.records.iter().filter(|t| t.kind == "event") {
        for filled in &told.fields {
            let own = ["source.", "actors_source", "actors.assurance", "requester.assurance", "time"];
            let untraced = filled.from.is_none() && !own.iter().any(|o| filled.field.starts_with(o));
            assert!(!untraced, "{filled:?}");
        }
    }
    let by = |field: &str| report.fields.iter().find(|c| c.field == field).expect("it is canonical").filled;
    assert_eq!(by("decision.verdict"), report.outcomes);
    assert_eq!(by("requester.id").deny + by("requester.id").allow, 40);
    assert!(report.empty().any(|f| f == "token.ref"));
}

/// What is shown is redacted, also where the pointer comes from the record.
#[test]
fn secrets_are_not_shown() {
    let secret = format!("gh{}_{}", "p", "9tGk2LmQx7VbZp4RwYc8NdJh3SfTu6Ae");
    let record = KONG.replace("\"delete\"", &format!("\"{secret}\"")).replace("\"latency\"", &format!("\"{secret}\""));
    let report = report(Format::Kong, &[record.as_bytes()]);
    assert_eq!(report.records.len(), 1);
    let json = serde_json::to_string(&report).expect("it serializes");
    assert!(!json.contains(&secret) && !report.to_string().contains(&secret));
}

/// Records of a batch are told one by one.
#[test]
fn batches_are_taken_apart() {
    let event = r#"{"eventVersion":"1","eventSource":"verifiedpermissions.amazonaws.com","eventName":"IsAuthorized","eventTime":"2026-11-20T14:03:11Z","additionalEventData":{"decision":"DENY"}}"#;
    let report = report(Format::Auto, &[format!(r#"{{"Records":[{event},{event}]}}"#).as_bytes()]);
    let told: Vec<_> = report.records.iter().map(|t| (t.record, t.verdict.as_str(), t.mapping.as_deref())).collect();
    let one = (1, "deny", Some("cloudtrail-verified-permissions"));
    assert_eq!(told, [one, one]);
}
