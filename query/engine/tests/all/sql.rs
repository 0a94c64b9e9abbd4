//! SQL in, text out.

use crate::lake::{File, Lake, events, rejections};
use catena_engine::output::{Format, to_bytes};
use catena_engine::{Engine, Limits, Options, Scope};
use catena_schemas::fixture::full;
use catena_schemas::table::{Class, Field};
use expect_test::{Expect, expect};

fn lake() -> Lake {
    let mut lake = Lake::new();
    lake.decisions("acme", 0, &events("
        e1 1 allow alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.read
        e2 2 deny  alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.delete reason=scope_missing
        e2 2 deny  alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.delete reason=scope_missing flag=again
        e3 3 step_up bob@corp.example > client:cursor @s-2 crm/export record=r-3
    "));
    lake.decisions(
        "acme",
        1,
        &events(
            "
        e4 1500 allow carol@corp.example @s-3 crm/read
    ",
        ),
    );
    lake.decisions(
        "zeta",
        0,
        &events(
            "
        z1 1 deny zoe@zeta.example > agent:z @s-1 crm/export
    ",
        ),
    );
    let rejected = rejections("acme", 0, &[("json_invalid", b"{oops"), ("utf8_invalid", &[0xff, 0xfe])]);
    lake.land(&File { tenant: "acme", day: 0, class: Class::Reject }, &rejected);
    lake
}

async fn ask(engine: &Engine, scope: Scope, sql: &str) -> String {
    match engine.session(scope).sql(sql, &Limits::default()).await {
        Ok(answer) => match answer.collect().await {
            Ok(rows) => String::from_utf8(to_bytes(&rows, Format::Table).expect("a table")).expect("UTF-8"),
            Err(e) => format!("{}: {}\n", e.code, e.message),
        },
        Err(e) => format!("{}: {}\n", e.code, e.message),
    }
}

async fn check(sql: &str, want: Expect) {
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    want.assert_eq(&ask(&engine, Scope::All, sql).await);
}

#[tokio::test]
async fn outcomes_are_counted_once() {
    check(
        "SELECT outcome, count(*) AS n FROM decisions GROUP BY 1 ORDER BY 1",
        expect![[r#"
        outcome  n
        ───────  ─
        allow    2
        deny     2
        step_up  1
    "#]],
    )
    .await;
    check(
        "SELECT class, count(*) AS n FROM records GROUP BY 1 ORDER BY 1",
        expect![[r#"
        class     n
        ────────  ─
        decision  6
        reject    2
    "#]],
    )
    .await;
}

#[tokio::test]
async fn decisions_have_the_columns_of_the_contract_first() {
    check("SELECT * FROM decisions WHERE event_id = 'e2'", expect![[r#"
        tenant  event_id  time                  ingest_time                  outcome  basis  enforced  phase  requester           requester_kind  agent          actors                                  session  server   tool           action  impact  policy_id  policy_version  reasons            scopes  audience  token_ref  token_expires  grant_id  parent_decision  trace_id  span_id  parent_span_id  request_id  params  ip  format  source  source_record  decision_index  chain_id                topic      partition  offset  redaction  leaf_version  source_kind  source_seq  source_epoch  decision_count  policy_engine  policy_digest  policy_rules  obligations  challenge  requester_email  requester_issuer  requester_assurance  requester_roles  actor_kinds  actor_assurance  actor_details  actors_source  actors_complete  run  conversation  mcp_session  task  server_name  data_class  definition_digest  protocol  protocol_version  method  jsonrpc_id  jsonrpc_error  http_method  http_host  http_path  http_status  params_digest  resources  destination  handles_in  handles_out  state_in  state_out  result_class  result_bytes  token_proof  token_issuer  token_subject  token_client  token_resource  token_issued  token_auth_time  token_acr  token_cnf  token_txn  token_acti  token_parent_ref  parent_origin  http_trace  user_agent  spiffe  extra  flags  ingest_date
        ──────  ────────  ────────────────────  ───────────────────────────  ───────  ─────  ────────  ─────  ──────────────────  ──────────────  ─────────────  ──────────────────────────────────────  ───────  ───────  ─────────────  ──────  ──────  ─────────  ──────────────  ─────────────────  ──────  ────────  ─────────  ─────────────  ────────  ───────────────  ────────  ───────  ──────────────  ──────────  ──────  ──  ──────  ──────  ─────────────  ──────────────  ──────────────────────  ─────────  ─────────  ──────  ─────────  ────────────  ───────────  ──────────  ────────────  ──────────────  ─────────────  ─────────────  ────────────  ───────────  ─────────  ───────────────  ────────────────  ───────────────────  ───────────────  ───────────  ───────────────  ─────────────  ─────────────  ───────────────  ───  ────────────  ───────────  ────  ───────────  ──────────  ─────────────────  ────────  ────────────────  ──────  ──────────  ─────────────  ───────────  ─────────  ─────────  ───────────  ─────────────  ─────────  ───────────  ──────────  ───────────  ────────  ─────────  ────────────  ────────────  ───────────  ────────────  ─────────────  ────────────  ──────────────  ────────────  ───────────────  ─────────  ─────────  ─────────  ──────────  ────────────────  ─────────────  ──────────  ──────────  ──────  ─────  ─────  ───────────
        acme    e2        2026-08-20T00:02:00Z  2026-08-20T00:00:00.000001Z  deny                             alice@corp.example  human           agent:planner  ["client:claude-code","agent:planner"]  s-1      tickets  ticket.delete                                             ["scope_missing"]                                                                                                                                    catena          e2                          0  c-caa44a8c4d734faeec4b  decisions          0       1  1                     1  catena                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                2026-08-20
    "#]]).await;
    check(
        "SELECT source_record, event_id, chain_id, partition, offset, time, session, format, actors[2] FROM decisions ORDER BY time, event_id",
        expect![[r#"
            source_record  event_id  chain_id                partition  offset  time                  session  format  decisions.actors[Int64(2)]
            ─────────────  ────────  ──────────────────────  ─────────  ──────  ────────────────────  ───────  ──────  ──────────────────────────
            e1             e1        c-caa44a8c4d734faeec4b          0       0  2026-08-20T00:01:00Z  s-1      catena  agent:planner
            z1             z1        c-1411f6487161e24eb694          0       0  2026-08-20T00:01:00Z  s-1      catena
            e2             e2        c-caa44a8c4d734faeec4b          0       1  2026-08-20T00:02:00Z  s-1      catena  agent:planner
            r-3            e3        c-e4408c1cf6aae1221848          0       3  2026-08-20T00:03:00Z  s-2      catena
            e4             e4        c-1c70bc8d97d2bdd9e4d3          0       0  2026-08-21T01:00:00Z  s-3      catena
        "#]],
    )
    .await;
}

/// Each field of the event is a column of `decisions`, with its own value.
#[tokio::test]
async fn every_field_of_an_event_is_a_column() {
    // They belong to other rows, or the collector sets them.
    let others = [Field::Reason, Field::ReasonDetail, Field::Raw, Field::Duplicate, Field::Kind, Field::Body];
    let mut lake = Lake::new();
    lake.decisions("acme", 0, &[full::event()]);
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let answer = engine.session(Scope::All).sql("SELECT * FROM decisions", &Limits::default()).await;
    let rows = answer.unwrap_or_else(|e| panic!("{}", e.message)).collect().await;
    let rows = rows.unwrap_or_else(|e| panic!("{}", e.message));
    let json = to_bytes(&rows, Format::Json).expect("JSON");
    let row = &serde_json::from_slice::<serde_json::Value>(&json).expect("JSON")[0];
    for field in Field::ALL {
        assert_eq!(row[field.name()].is_null(), others.contains(field), "{} in {row}", field.name());
    }
    for member in full::MEMBERS.iter().filter(|m| matches!(m.how, "text" | "scalar")) {
        assert_eq!(row[member.column.name()], member.path);
    }
}

#[tokio::test]
async fn rejects_keep_their_bytes() {
    check(
        "SELECT tenant, reason, detail, raw, topic, partition, offset FROM rejects ORDER BY offset",
        expect![[r#"
        tenant  reason        detail                  raw       topic      partition  offset
        ──────  ────────────  ──────────────────────  ────────  ─────────  ─────────  ──────
        acme    json_invalid  json_invalid at byte 0  {oops     decisions          0       0
        acme    utf8_invalid  utf8_invalid at byte 0  hex:fffe  decisions          0       1
    "#]],
    )
    .await;
    check(
        "SELECT count(*) FROM asides",
        expect![[r#"
        count(*)
        ────────
               0
    "#]],
    )
    .await;
}

/// What ties an execution to a decision is an id that its producer gave to both, within a day.
#[tokio::test]
async fn executions_stand_beside_their_decisions() {
    let mut lake = Lake::new();
    lake.decisions(
        "acme",
        0,
        &events(
            "
        d1 1 allow alice @s tickets/read by=pomerium request=r-1
        d2 1 allow alice @s tickets/read by=pomerium request=r-2 trace=t-1 span=1
        d3 1 deny  alice @s tickets/read by=envoy request=r-1
        d4 1 allow alice @s tickets/read by=opa trace=t-1 span=2
        d5 1 allow alice @s tickets/read by=pomerium
    ",
        ),
    );
    lake.decisions("zeta", 0, &events("d1 1 allow zoe @s tickets/read by=pomerium request=r-1"));
    lake.executions(
        "acme",
        0,
        &events(
            "
        x1 2 unknown alice @s tickets/read by=pomerium request=r-1 status=200
        x1 2 unknown alice @s tickets/read by=pomerium request=r-1 status=200 flag=again
        x2 2 unknown alice @s tickets/read by=pomerium request=r-2 trace=t-1 span=1 status=500
        x3 3 unknown alice @s tickets/read by=otlp trace=t-1 span=2
        x4 3 unknown alice @s tickets/read by=otlp trace=t-2 span=2
        x5 3 unknown alice @s tickets/read by=pomerium
        x6 1443 unknown alice @s tickets/read by=pomerium request=r-1
    ",
        ),
    );
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let sql = "SELECT tenant, event_id, tie, execution_id, http_status FROM decision_executions ORDER BY event_id, execution_id";
    expect![[r#"
        tenant  event_id  tie      execution_id  http_status
        ──────  ────────  ───────  ────────────  ───────────
        acme    d1        request  x1                    200
        acme    d2        request  x2                    500
        acme    d4        span     x3
    "#]]
    .assert_eq(&ask(&engine, Scope::All, sql).await);
    let why = engine.session(Scope::tenant("acme")).why("d1", &Limits::default()).await.expect("an answer");
    let done: Vec<_> = why[0].executions.iter().map(|x| (x.execution_id.as_deref(), x.http_status)).collect();
    assert_eq!(done, [(Some("x1"), Some(200))]);
    let other = engine.session(Scope::tenant("zeta")).why("d1", &Limits::default()).await.expect("an answer");
    assert_eq!(other[0].executions, []);
}

#[tokio::test]
async fn the_catalog_says_what_there_is() {
    check(
        "SHOW TABLES",
        expect![[r#"
            table_name
            ───────────────────
            asides
            chain_aliases
            chain_events
            chain_revisions
            chains
            decision_executions
            decisions
            exchanges
            executions
            grants
            lifecycle
            operations
            principals
            reauths
            records
            rejects
            tools
        "#]],
    )
    .await;
    check(
        "DESCRIBE rejects",
        expect![[r#"
            column_name  data_type             is_nullable
            ───────────  ────────────────────  ───────────
            tenant       Utf8                  YES
            ingest_time  Timestamp(µs, "UTC")  YES
            format       Utf8                  YES
            reason       Utf8                  YES
            detail       Utf8                  YES
            raw          Binary                YES
            topic        Utf8                  YES
            partition    Int32                 YES
            offset       Int64                 YES
            item         Int32                 YES
            redaction    Utf8                  YES
            ingest_date  Date32                YES
        "#]],
    )
    .await;
    check(
        "SHOW COLUMNS FROM asides",
        expect![[r#"
            table_catalog  table_schema  table_name  column_name  data_type             is_nullable
            ─────────────  ────────────  ──────────  ───────────  ────────────────────  ───────────
            catena         public        asides      tenant       Utf8                  YES
            catena         public        asides      ingest_time  Timestamp(µs, "UTC")  YES
            catena         public        asides      format       Utf8                  YES
            catena         public        asides      reason       Utf8                  YES
            catena         public        asides      detail       Utf8                  YES
            catena         public        asides      raw          Binary                YES
            catena         public        asides      topic        Utf8                  YES
            catena         public        asides      partition    Int32                 YES
            catena         public        asides      offset       Int64                 YES
            catena         public        asides      item         Int32                 YES
            catena         public        asides      redaction    Utf8                  YES
            catena         public        asides      ingest_date  Date32                YES
        "#]],
    )
    .await;
    check(
        "EXPLAIN SELECT outcome FROM decisions WHERE tenant = 'acme' AND session = 's-1'",
        expect![[r#"
        plan_type      plan
        ─────────────  ────────────────────────────────────────────────────────────────────────────────
        logical_plan   SubqueryAlias: decisions
        logical_plan     Projection: records.outcome
        logical_plan       Filter: records.duplicate IS NOT TRUE AND records.session = Utf8("s-1")
        logical_plan         TableScan: records projection=[outcome, session, duplicate], full_filters…
        physical_plan  DataSourceExec: file_groups={1 group of 1 files}, projection=[outcome], file_ty…
    "#]],
    )
    .await;
}

/// Small files can hold wide rows: what is unpacked and put together at once follows what the log says of them.
#[tokio::test]
async fn wide_rows_come_a_few_at_a_time() {
    let mut lake = Lake::new();
    let lines: String = (0..400).map(|n| format!("e{n} 1 allow alice > agent:a @s-1 srv/tool{n}\n")).collect();
    let file = File { tenant: "acme", day: 0, class: Class::Decision };
    let mut add = lake.write(&file, &crate::lake::decisions("acme", 0, &events(&lines)));
    add["add"]["tags"] = serde_json::json!({"catena.row_bytes": (1 << 20).to_string()});
    lake.commit(&[add]);
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    for (sql, rows, most) in [
        ("SELECT tool FROM decisions", 400, 64),
        ("SELECT tool FROM decisions WHERE tool <> 'x' OR session = 'y'", 400, 64),
        ("SELECT tool FROM decisions ORDER BY event_id", 400, 64),
        // No column that can be wide.
        ("SELECT time FROM decisions", 400, 8192),
    ] {
        let mut answer = engine.sql(sql, &Limits::default()).await.expect(sql);
        let mut found = 0;
        while let Some(batch) = answer.next().await {
            let batch = batch.expect(sql);
            assert!(batch.num_rows() <= most, "{sql}: {} rows at once", batch.num_rows());
            found += batch.num_rows();
        }
        assert_eq!(found, rows, "{sql}");
    }
}
