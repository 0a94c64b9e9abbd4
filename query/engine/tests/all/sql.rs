//! SQL in, text out.

use crate::lake::{File, Lake, events, rejections};
use catena_engine::output::{Format, to_bytes};
use catena_engine::{Engine, Limits, Options, Scope};
use catena_schemas::table::Class;
use expect_test::{Expect, expect};

fn lake() -> Lake {
    let mut lake = Lake::new();
    lake.decisions("acme", 0, &events("
        e1 1 allow alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.read
        e2 2 deny  alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.delete reason=scope_missing
        e2 2 deny  alice@corp.example > client:claude-code > agent:planner @s-1 tickets/ticket.delete reason=scope_missing flag=again
        e3 3 step_up bob@corp.example > client:cursor @s-2 crm/export record=r-3
    "));
    lake.decisions("acme", 1, &events("
        e4 1500 allow carol@corp.example @s-3 crm/read
    "));
    lake.decisions("zeta", 0, &events("
        z1 1 deny zoe@zeta.example > agent:z @s-1 crm/export
    "));
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
    check("SELECT outcome, count(*) AS n FROM decisions GROUP BY 1 ORDER BY 1", expect![[r#""#]]).await;
    check("SELECT class, count(*) AS n FROM records GROUP BY 1 ORDER BY 1", expect![[r#""#]]).await;
}

#[tokio::test]
async fn decisions_have_the_columns_of_the_contract_first() {
    check("SELECT * FROM decisions WHERE event_id = 'e2'", expect![[r#""#]]).await;
    check(
        "SELECT source_record, event_id, chain_id, partition, offset, time, session, format, actors[2] FROM decisions ORDER BY time, event_id",
        expect![[r#""#]],
    )
    .await;
}

#[tokio::test]
async fn rejects_keep_their_bytes() {
    check("SELECT tenant, reason, detail, raw, topic, partition, offset FROM rejects ORDER BY offset", expect![[r#""#]]).await;
    check("SELECT count(*) FROM asides", expect![[r#""#]]).await;
}

#[tokio::test]
async fn the_catalog_says_what_there_is() {
    check("SHOW TABLES", expect![[r#""#]]).await;
    check("DESCRIBE rejects", expect![[r#""#]]).await;
    check("SHOW COLUMNS FROM asides", expect![[r#""#]]).await;
    check("EXPLAIN SELECT outcome FROM decisions WHERE tenant = 'acme' AND session = 's-1'", expect![[r#""#]]).await;
}
