//! The same files, read by others.
//!
//! `CATENA_PEERS_PY` names a Python that has `deltalake` and `duckdb`; without it this test says that it did not run.

use crate::lake::{Lake, events};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use catena_engine::{Engine, Limits, Options};
use serde_json::{Value, json};
use std::process::Command;

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the environment says where the other readers are")]
async fn delta_rs_and_duckdb_count_the_same() {
    let Ok(python) = std::env::var("CATENA_PEERS_PY") else {
        eprintln!("skipped: CATENA_PEERS_PY names no Python with deltalake and duckdb");
        return;
    };
    let mut lake = Lake::new();
    for (tenant, day) in [("acme", 0), ("acme", 1), ("zeta", 0)] {
        let lines: String = (0..50)
            .map(|i| {
                let outcome = ["allow", "deny", "step_up", "allow"][i % 4];
                let again = if i % 9 == 0 { "flag=again" } else { "" };
                format!("{tenant}{day}-{i} {i} {outcome} alice > agent:a @s-{} srv/tool{} {again}\n", i % 5, i % 3)
            })
            .collect();
        lake.decisions(tenant, day, &events(&lines));
    }
    let removed = lake.decisions("acme", 2, &events("gone 1 deny alice"));
    lake.commit(&[json!({"remove": {"path": removed, "dataChange": true, "deletionTimestamp": 1}})]);

    let engine = Engine::open(&lake.url(), Options::default()).await.expect("a lake");
    let answer = engine
        .sql("SELECT tenant, outcome, count(*) FROM decisions GROUP BY 1, 2", &Limits::default())
        .await
        .expect("an answer");
    let version = answer.version().expect("a version");
    let mut counts = serde_json::Map::new();
    for batch in answer.collect().await.expect("rows").batches {
        for row in 0..batch.num_rows() {
            let key = format!(
                "{}/{}",
                batch.column(0).as_string::<i32>().value(row),
                batch.column(1).as_string::<i32>().value(row)
            );
            counts.insert(key, batch.column(2).as_primitive::<Int64Type>().value(row).into());
        }
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop.py");
    let output =
        Command::new(python).arg(script).arg(lake.url()).output().expect("the Python that CATENA_PEERS_PY names");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Vec<Value> = String::from_utf8(output.stdout)
        .expect("UTF-8")
        .lines()
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    let want = |engine: &str| json!({"engine": engine, "version": version, "counts": counts});
    assert_eq!(found, [want("deltalake"), want("duckdb")]);
}
