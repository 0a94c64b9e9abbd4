//! Which files a query opens, and that answers are those of plain DataFusion over the same files.

use crate::lake::{File, Lake, START, events, rejections};
use crate::watched::Watched;
use catena_engine::output::{Format, to_bytes};
use catena_engine::{Engine, Limits, Options, Scope};
use catena_schemas::Micros;
use catena_schemas::table::Class;
use std::collections::BTreeSet;
use std::sync::Arc;

/// 3 tenants, 5 days; 2 files of decisions and 1 of rejects each.
fn lake() -> Lake {
    let mut lake = Lake::new();
    for tenant in ["acme", "beta", "zeta"] {
        for day in 0..5i64 {
            for part in 0..2 {
                let lines: String = (0..20)
                    .map(|i| {
                        let minute = day * 1440 + part * 720 + i * 30;
                        let outcome = ["allow", "deny", "step_up"][(i % 3) as usize];
                        format!("{tenant}-{day}-{part}-{i:02} {minute} {outcome} user{} > agent:a{} @s-{day}-{} srv/tool{}\n", i % 4, i % 3, i % 5, i % 7)
                    })
                    .collect();
                lake.decisions(tenant, day, &events(&lines));
            }
            lake.land(
                &File { tenant, day, class: Class::Reject },
                &rejections(tenant, day, &[("json_invalid", tenant.as_bytes())]),
            );
        }
    }
    lake
}

async fn text(engine: &Engine, scope: Scope, sql: &str) -> String {
    let rows = engine.session(scope).sql(sql, &Limits::default()).await.expect(sql).collect().await.expect(sql);
    String::from_utf8(to_bytes(&rows, Format::Csv).expect("CSV")).expect("UTF-8")
}

#[tokio::test]
async fn only_files_that_may_hold_rows_are_opened() {
    let lake = lake();
    let store = Watched::new();
    let engine = Engine::open_with(&lake.url(), Options::default(), store.clone()).await.expect("a lake");
    assert_eq!(store.take(), BTreeSet::new(), "opening a lake opens no data file");
    let day = |n: i64| Micros(START.0 + n * crate::lake::DAY).to_rfc3339();
    for (sql, files) in [
        ("SELECT count(DISTINCT event_id) FROM decisions".to_owned(), 30),
        ("SELECT count(DISTINCT raw) FROM rejects".to_owned(), 15),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE tenant = 'acme'".to_owned(), 10),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE tenant = 'acme' AND ingest_date = '2026-08-21'".to_owned(), 2),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE tenant IN ('acme', 'zeta') AND ingest_date >= '2026-08-24'".to_owned(), 4),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE tenant LIKE 'a%' AND ingest_date BETWEEN '2026-08-20' AND '2026-08-21'".to_owned(), 4),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE event_id = 'acme-3-1-07'".to_owned(), 1),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE session = 's-2-1'".to_owned(), 6),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE session IS NULL".to_owned(), 0),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE tool = 'nobody'".to_owned(), 0),
        (format!("SELECT count(DISTINCT event_id) FROM decisions WHERE time >= '{}' AND time < '{}'", day(1), day(2)), 6),
        (format!("SELECT count(DISTINCT event_id) FROM decisions WHERE time >= '{}'", day(9)), 0),
        ("SELECT count(DISTINCT event_id) FROM decisions WHERE tenant = 'nobody'".to_owned(), 0),
    ] {
        store.take();
        let answer = text(&engine, Scope::All, &sql).await;
        let opened = store.take();
        assert_eq!(opened.len(), files, "{sql}: {answer} {opened:?}");
    }
}

#[tokio::test]
async fn files_of_another_tenant_are_never_opened() {
    let lake = lake();
    let mut alone = Lake::new();
    for day in 0..5i64 {
        for part in 0..2 {
            let lines: String = (0..20)
                .map(|i| {
                    let minute = day * 1440 + part * 720 + i * 30;
                    let outcome = ["allow", "deny", "step_up"][(i % 3) as usize];
                    format!(
                        "beta-{day}-{part}-{i:02} {minute} {outcome} user{} > agent:a{} @s-{day}-{} srv/tool{}\n",
                        i % 4,
                        i % 3,
                        i % 5,
                        i % 7
                    )
                })
                .collect();
            alone.decisions("beta", day, &events(&lines));
        }
        alone.land(
            &File { tenant: "beta", day, class: Class::Reject },
            &rejections("beta", day, &[("json_invalid", b"beta")]),
        );
    }
    let store = Watched::new();
    let engine = Engine::open_with(&lake.url(), Options::default(), store.clone()).await.expect("a lake");
    let only = Engine::open(&alone.url(), Options::default()).await.expect("a lake");
    for sql in [
        "SELECT tenant, count(*) FROM decisions GROUP BY 1 ORDER BY 1",
        "SELECT tenant, count(*) FROM records GROUP BY 1 ORDER BY 1",
        "SELECT count(*) FROM decisions",
        "SELECT count(*) FROM records WHERE tenant = 'acme'",
        "SELECT min(event_id), max(event_id), min(time), max(time) FROM decisions",
        "SELECT * FROM decisions WHERE tenant = 'acme' OR 1 = 1 ORDER BY event_id LIMIT 3",
        "SELECT * FROM decisions WHERE event_id = 'acme-3-1-07'",
        "SELECT count(*) FROM decisions a JOIN records b ON a.event_id = b.event_id",
        "SELECT a.event_id FROM decisions a LEFT JOIN decisions b ON b.tenant <> a.tenant ORDER BY 1 LIMIT 5",
        "SELECT count(*) FROM decisions WHERE event_id IN (SELECT event_id FROM records WHERE tenant = 'zeta')",
        "SELECT event_id FROM decisions UNION SELECT reason FROM rejects ORDER BY 1 LIMIT 4",
        "SELECT event_id, CASE WHEN tenant = 'acme' THEN 1 / 0 ELSE 0 END FROM decisions ORDER BY 1 LIMIT 2",
        "SELECT event_id, lag(event_id) OVER (ORDER BY tenant, event_id) FROM decisions ORDER BY 1 LIMIT 3",
        "SELECT raw FROM rejects ORDER BY raw",
        "SELECT 1 / (CASE WHEN tenant = 'acme' THEN 0 ELSE 1 END) FROM records LIMIT 1",
    ] {
        store.take();
        let scoped = text(&engine, Scope::tenant("beta"), sql).await;
        assert_eq!(scoped, text(&only, Scope::All, sql).await, "{sql}");
        let opened = store.take();
        assert!(opened.iter().all(|file| file.starts_with("tenant=beta/")), "{sql}: {opened:?}");
    }
    let nobody = text(&engine, Scope::tenant("nobody"), "SELECT count(*) AS n FROM records").await;
    assert_eq!((nobody.as_str(), store.take().len()), ("n\r\n0\r\n", 0));
}

#[tokio::test]
async fn answers_are_those_of_plain_datafusion() {
    use datafusion::prelude::{ParquetReadOptions, SessionContext};
    let lake = lake();
    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let plain = SessionContext::new();
    let columns = vec![
        ("tenant".to_owned(), arrow_schema::DataType::Utf8),
        ("ingest_date".to_owned(), arrow_schema::DataType::Date32),
        ("class".to_owned(), arrow_schema::DataType::Utf8),
    ];
    let schema = catena_schemas::table::file_schema();
    let options = ParquetReadOptions::default().table_partition_cols(columns).schema(&schema);
    plain.register_parquet("all", &lake.table().display().to_string(), options).await.expect("the same files");
    plain
        .sql("CREATE VIEW decisions AS SELECT * FROM \"all\" WHERE class = 'decision' AND duplicate IS NOT TRUE")
        .await
        .expect("a view")
        .collect()
        .await
        .expect("a view");
    for sql in [
        "SELECT outcome, count(*) AS n FROM decisions GROUP BY 1 ORDER BY 1",
        "SELECT tenant, outcome, requester, count(*) AS n, min(time), max(time) FROM decisions GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        "SELECT event_id, time, actors, agent, tool FROM decisions WHERE tool = 'tool3' AND outcome <> 'allow' ORDER BY 1",
        "SELECT ingest_date, count(*) FROM decisions WHERE time >= '2026-08-21T06:00:00Z' AND session > 's-2' GROUP BY 1 ORDER BY 1",
        "SELECT session, array_agg(event_id ORDER BY event_id) FROM decisions WHERE tenant = 'beta' GROUP BY 1 ORDER BY 1",
        "SELECT tool, count(*) FILTER (WHERE outcome = 'deny') AS d FROM decisions WHERE ingest_date > '2026-08-21' OR tenant = 'acme' GROUP BY 1 ORDER BY 1",
    ] {
        let schema_and_rows = plain.sql(sql).await.expect(sql);
        let schema = Arc::new(schema_and_rows.schema().as_arrow().clone());
        let batches = schema_and_rows.collect().await.expect(sql);
        let rows = catena_engine::Rows { schema, version: None, batches, cut: None };
        let want = String::from_utf8(to_bytes(&rows, Format::Csv).expect("CSV")).expect("UTF-8");
        let found = text(&engine, Scope::All, sql).await;
        assert!(found.lines().count() > 1, "{sql}");
        assert_eq!(found, want, "{sql}");
    }
}
