//! Versions, checkpoints, and logs that are not as they should be.

use crate::lake::{Lake, events};
use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields};
use catena_engine::{Engine, LakeError, Limits, Options, Rows, Scope};
use catena_lake::digest;
use catena_schemas::table::PARTITIONS;
use parquet::arrow::ArrowWriter;
use serde_json::json;
use std::fs;
use std::sync::Arc;

async fn open(lake: &Lake) -> Result<Engine, LakeError> {
    Engine::open(&lake.url(), Options::default()).await
}

async fn ask(engine: &Engine, sql: &str) -> Rows {
    engine.sql(sql, &Limits::default()).await.expect("an answer").collect().await.expect("rows")
}

/// Decisions that a query sees, and at which version.
async fn seen(engine: &Engine) -> (String, Option<u64>) {
    let answer = engine.sql("SELECT event_id FROM decisions ORDER BY 1", &Limits::default()).await.expect("an answer");
    let version = answer.version();
    let rows = answer.collect().await.expect("rows");
    let bytes = catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Csv).expect("CSV");
    let text = String::from_utf8(bytes).expect("UTF-8");
    (text.lines().skip(1).collect::<Vec<_>>().join(" "), version)
}

#[tokio::test]
async fn nothing_is_no_error() {
    let lake = Lake::empty();
    let missing = format!("{}/not/yet", lake.url());
    let engine = Engine::open(&missing, Options::default()).await.expect("nothing yet");
    assert_eq!(seen(&engine).await, (String::new(), None));
    let engine = open(&lake).await.expect("an empty folder");
    assert_eq!(seen(&engine).await, (String::new(), None));
    let engine = open(&Lake::new()).await.expect("an empty table");
    assert_eq!(seen(&engine).await, (String::new(), Some(0)));
}

#[tokio::test]
async fn what_is_no_lake_is_said() {
    let lake = Lake::new();
    let message = async |url: String| Engine::open(&url, Options::default()).await.expect_err("no lake").to_string();
    let file = lake.path().join("file");
    fs::write(&file, "x").expect("a file");
    assert!(
        message(file.display().to_string()).await.ends_with("is no lake: it is a file; name the folder of the lake")
    );
    let table = lake.table().display().to_string();
    assert!(message(table).await.ends_with("is no lake: it is a Delta table; name the folder above it"));
    let other = Lake::empty();
    fs::write(other.path().join("notes.txt"), "x").expect("a file");
    assert!(message(other.url()).await.contains("it holds other files"));
    assert!(message("ftp://host/lake".into()).await.contains("`ftp://` is not supported"));
    assert!(message(String::new()).await.contains("it is empty"));
}

#[tokio::test]
async fn every_query_sees_the_newest_version() {
    let mut lake = Lake::new();
    let engine = open(&lake).await.expect("a lake");
    lake.decisions("acme", 0, &events("e1 1 allow alice"));
    assert_eq!(seen(&engine).await, ("e1".into(), Some(1)));
    let pinned = engine.session(Scope::All).pin().await.expect("a version");
    let first = lake.decisions("acme", 0, &events("e2 2 allow alice"));
    lake.decisions("acme", 0, &events("e3 3 allow alice"));
    assert_eq!(seen(&engine).await, ("e1 e2 e3".into(), Some(3)));
    assert_eq!(engine.version(), Some(3));
    lake.commit(&[json!({"remove": {"path": first, "dataChange": false, "deletionTimestamp": 0}})]);
    assert_eq!(seen(&engine).await, ("e1 e3".into(), Some(4)));
    let held = pinned.sql("SELECT 1 FROM decisions", &Limits::default()).await.expect("an answer");
    assert_eq!((held.version(), held.collect().await.expect("rows").len()), (Some(1), 1));
    // A lake that appears after the engine did.
    let mut later = Lake::empty();
    let engine = open(&later).await.expect("nothing yet");
    assert_eq!(seen(&engine).await, (String::new(), None));
    let mut full = Lake::new();
    let add = full.write(
        &crate::lake::File { tenant: "t", day: 0, class: catena_schemas::table::Class::Decision },
        &crate::lake::decisions("t", 0, &events("x 1 deny bob")),
    );
    fs::rename(full.table(), later.table()).expect("it moves");
    later.commit(&[json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}), add]);
    assert_eq!(seen(&engine).await, ("x".into(), Some(0)));
}

#[tokio::test]
async fn damage_is_named() {
    let message = async |lake: &Lake| open(lake).await.expect_err("damage").to_string();
    let three = || {
        let mut lake = Lake::new();
        for i in 1..=3 {
            lake.decisions("acme", 0, &events(&format!("e{i} {i} allow alice")));
        }
        lake
    };
    let lake = three();
    fs::remove_file(lake.entry(2)).expect("it goes");
    assert_eq!(
        message(&lake).await,
        "the log of `records` is damaged at version 2: `_delta_log/00000000000000000002.json` is missing"
    );
    let lake = three();
    fs::write(lake.entry(2), "{\"add\":{\"pa").expect("it breaks");
    let wanted = "the log of `records` is damaged at version 2: `_delta_log/00000000000000000002.json`: line 1: EOF";
    assert!(message(&lake).await.starts_with(wanted));
    // The last entry too: its rows may have been acknowledged before the disk changed it.
    for broken in ["", "{\"add\":{\"pa", "\0\0\0\0"] {
        let lake = three();
        fs::write(lake.entry(3), broken).expect("it breaks");
        let found = message(&lake).await;
        assert!(found.starts_with("the log of `records` is damaged at version 3: `_delta_log/"), "{found}");
    }
    for (action, why) in [
        (
            json!({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["deletionVectors"], "writerFeatures": []}}),
            "deletionVectors",
        ),
        (json!({"protocol": {"minReaderVersion": 9, "minWriterVersion": 9}}), "reader version 9"),
        (json!({"metaData": {"partitionColumns": ["day"], "configuration": {}}}), "partitioned by"),
        (
            json!({"metaData": {"partitionColumns": PARTITIONS, "configuration": {"delta.columnMapping.mode": "name"}}}),
            "column mapping",
        ),
        (json!({"add": {"path": "/etc/passwd", "size": 1, "partitionValues": {}}}), "files outside"),
        (json!({"add": {"path": "file:///etc/passwd", "size": 1, "partitionValues": {}}}), "files outside"),
        (json!({"add": {"path": "../x", "size": 1, "partitionValues": {}}}), "path of a file"),
        (json!({"add": {"path": "%2e%2e/x", "size": 1, "partitionValues": {}}}), "path of a file"),
        (json!({"add": {"path": "x", "size": 1, "partitionValues": {"tenant": "t"}}}), "without partition value"),
    ] {
        let mut lake = three();
        lake.commit(&[action]);
        let found = message(&lake).await;
        assert!(found.contains(why), "{why}: {found}");
    }
}

#[tokio::test]
async fn data_files_without_a_log_are_no_empty_lake() {
    let make = || {
        let mut lake = Lake::new();
        lake.decisions("acme", 0, &events("e1 1 allow alice"));
        lake
    };
    let message = async |lake: &Lake| open(lake).await.expect_err("no log").to_string();
    let lake = make();
    let log = lake.table().join("_delta_log");
    fs::rename(&log, lake.path().join("elsewhere")).expect("it goes");
    assert!(message(&lake).await.contains("`records/_delta_log` is missing or empty"));
    fs::create_dir(&log).expect("a folder");
    let found = message(&lake).await;
    assert!(found.contains("left out names that begin with `_`") && found.contains(".parquet"), "{found}");
    fs::write(log.join("_last_checkpoint"), json!({"version": 5}).to_string()).expect("a hint");
    assert!(message(&lake).await.contains("holds no entry"));
}

/// Opens a lake that compares every file before it reads it.
async fn careful(lake: &Lake) -> Engine {
    Engine::open(&lake.url(), Options { verify_share: 1.0, ..Options::default() }).await.expect("a lake")
}

async fn refusal(engine: &Engine, sql: &str) -> catena_engine::QueryError {
    match engine.sql(sql, &Limits::default()).await {
        Err(error) => error,
        Ok(answer) => answer.collect().await.expect_err("a damaged file"),
    }
}

#[tokio::test]
async fn a_changed_file_is_an_error_without_its_place() {
    let mut lake = Lake::new();
    let place = crate::lake::File { tenant: "acme", day: 0, class: catena_schemas::table::Class::Decision };
    let batch = crate::lake::decisions("acme", 0, &events("e1 1 allow alice\ne2 2 deny bob"));
    let mut add = lake.write(&place, &batch);
    let file = lake.table().join(add["add"]["path"].as_str().expect("a path"));
    let good = fs::read(&file).expect("its bytes");
    add["add"]["tags"] = json!({digest::TAG: digest::text(&digest::of(&good))});
    lake.commit(&[add]);
    let engine = careful(&lake).await;
    for n in 0..40 {
        let mut bytes = good.clone();
        let at = (n * 7919 + 31) % bytes.len();
        bytes[at] ^= 1 << (n % 8);
        fs::write(&file, bytes).expect("it breaks");
        let engine = careful(&lake).await;
        for sql in ["SELECT * FROM decisions", "SELECT * FROM chains"] {
            let error = refusal(&engine, sql).await;
            assert_eq!(error.code.as_str(), "lake", "{sql}, bit {n}: {error}");
            assert!(!error.message.contains("part-") && !error.message.contains(&lake.url()), "{error}");
        }
    }
    // Once it is restored it is read again.
    assert_eq!(refusal(&engine, "SELECT * FROM decisions").await.code.as_str(), "lake");
    fs::write(&file, good).expect("it is restored");
    assert_eq!(seen(&engine).await.0, "e1 e2");
}

#[tokio::test]
async fn a_footer_that_lies_is_an_error_of_the_lake() {
    let mut lake = Lake::new();
    let path = lake.decisions("acme", 0, &events("e1 1 allow alice\ne2 2 deny bob"));
    let file = lake.table().join(&path);
    let good = fs::read(&file).expect("its bytes");
    let end = good.len();
    let real = u32::from_le_bytes(good[end - 8..end - 4].try_into().expect("four bytes"));
    for length in [0, 1, 7, 100, real - 1, real + 1, real / 2, end as u32 - 12, end as u32, 1 << 30, u32::MAX] {
        let mut bytes = good.clone();
        bytes[end - 8..end - 4].copy_from_slice(&length.to_le_bytes());
        fs::write(&file, bytes).expect("it breaks");
        let engine = open(&lake).await.expect("a lake");
        for sql in ["SELECT * FROM decisions", "SELECT * FROM chains"] {
            let error = refusal(&engine, sql).await;
            assert_eq!(error.code.as_str(), "lake", "{sql}, a footer of {length} bytes: {error}");
            assert!(!error.message.contains("part-") && !error.message.contains(&lake.url()), "{error}");
        }
    }
}

#[tokio::test]
async fn a_missing_file_is_an_error_without_its_place() {
    let mut lake = Lake::new();
    let path = lake.decisions("acme", 0, &events("e1 1 allow alice"));
    fs::remove_file(lake.table().join(path)).expect("it goes");
    let engine = open(&lake).await.expect("a lake");
    let error = refusal(&engine, "SELECT event_id FROM decisions").await;
    assert_eq!(error.code.as_str(), "lake", "{error}");
    assert!(!error.message.contains(&lake.url()), "{error}");
}

#[tokio::test]
async fn columns_that_a_file_lacks_are_null() {
    let mut lake = Lake::new();
    let batch = crate::lake::decisions("acme", 0, &events("old 1 deny alice > agent:a @s-1 x/y"));
    let kept: Vec<usize> = ["event_id", "time", "outcome", "offset"]
        .iter()
        .map(|n| batch.schema().index_of(n).expect("a column"))
        .collect();
    lake.land(
        &crate::lake::File { tenant: "acme", day: 0, class: catena_schemas::table::Class::Decision },
        &batch.project(&kept).expect("columns"),
    );
    lake.decisions("acme", 0, &events("new 2 allow alice > agent:a @s-1 x/y"));
    let engine = open(&lake).await.expect("a lake");
    let rows = ask(&engine, "SELECT event_id, outcome, agent, actors, tool, duplicate FROM records ORDER BY 1").await;
    let text = catena_engine::output::to_bytes(&rows, catena_engine::output::Format::Jsonl).expect("JSON");
    expect_test::expect![[r#"
        {"event_id":"new","outcome":"allow","agent":"agent:a","actors":["agent:a"],"tool":"y","duplicate":null}
        {"event_id":"old","outcome":"deny","agent":null,"actors":null,"tool":null,"duplicate":null}
    "#]]
    .assert_eq(&String::from_utf8(text).expect("UTF-8"));
    assert_eq!(ask(&engine, "SELECT 1 FROM decisions WHERE agent = 'agent:a' AND tool = 'y'").await.len(), 1);
}

/// Writes a checkpoint of some files as Delta has it: one row per action.
fn checkpoint(lake: &Lake, version: u64, name: &str, adds: &[serde_json::Value]) {
    let n = adds.len() + 2;
    let text = |f: &dyn Fn(&serde_json::Value) -> String| -> ArrayRef {
        Arc::new((0..n).map(|i| i.checked_sub(2).map(|i| f(&adds[i]["add"]))).collect::<StringArray>())
    };
    let mut values = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for i in 0..n {
        for column in PARTITIONS.iter().filter(|_| i >= 2) {
            values.keys().append_value(column);
            values.values().append_value(adds[i - 2]["add"]["partitionValues"][column].as_str().expect("a value"));
        }
        values.append(i >= 2).expect("entries");
    }
    let values: ArrayRef = Arc::new(values.finish());
    let sizes: ArrayRef = Arc::new(
        (0..n).map(|i| i.checked_sub(2).and_then(|i| adds[i]["add"]["size"].as_i64())).collect::<Int64Array>(),
    );
    let add_fields: Fields = vec![
        Field::new("path", DataType::Utf8, true),
        Field::new("partitionValues", values.data_type().clone(), true),
        Field::new("size", DataType::Int64, true),
        Field::new("stats", DataType::Utf8, true),
    ]
    .into();
    let path = text(&|a| a["path"].as_str().expect("a path").to_owned());
    let stats = text(&|a| a["stats"].as_str().expect("stats").to_owned());
    let of = |row: std::ops::Range<usize>| Some((0..n).map(|i| row.contains(&i)).collect::<Vec<bool>>().into());
    let add = StructArray::new(add_fields, vec![path, values, sizes, stats], of(2..n));
    let protocol = StructArray::new(
        vec![Field::new("minReaderVersion", DataType::Int32, true)].into(),
        vec![Arc::new(Int32Array::from(vec![1; n]))],
        of(0..1),
    );
    let mut list = arrow_array::builder::ListBuilder::new(StringBuilder::new());
    for _ in 0..n {
        for column in PARTITIONS {
            list.values().append_value(column);
        }
        list.append(true);
    }
    let list = list.finish();
    let meta = StructArray::new(
        vec![Field::new("partitionColumns", arrow_array::Array::data_type(&list).clone(), true)].into(),
        vec![Arc::new(list)],
        of(1..2),
    );
    let batch = RecordBatch::try_from_iter_with_nullable([
        ("protocol", Arc::new(protocol) as ArrayRef, true),
        ("metaData", Arc::new(meta) as ArrayRef, true),
        ("add", Arc::new(add) as ArrayRef, true),
    ])
    .expect("a batch");
    let log = lake.table().join("_delta_log");
    let out = fs::File::create(log.join(name)).expect("a file");
    let mut writer = ArrowWriter::try_new(out, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a footer");
    fs::write(log.join("_last_checkpoint"), json!({"version": version, "size": n}).to_string()).expect("a hint");
}

#[tokio::test]
async fn a_checkpoint_stands_for_what_came_before() {
    let make = |from: u64| {
        let mut lake = Lake::new();
        let mut adds = Vec::new();
        for i in 1..=3 {
            let file = crate::lake::File { tenant: "acme", day: i, class: catena_schemas::table::Class::Decision };
            let add =
                lake.write(&file, &crate::lake::decisions("acme", i, &events(&format!("e{i} {i} allow alice @s-{i}"))));
            lake.commit(std::slice::from_ref(&add));
            adds.push(add);
        }
        checkpoint(&lake, 3, "00000000000000000003.checkpoint.parquet", &adds);
        lake.decisions("acme", 0, &events("e4 4 deny bob"));
        for version in 0..from {
            fs::remove_file(lake.entry(version)).expect("cleaned up");
        }
        lake
    };
    for cleaned in [0, 2, 4] {
        let lake = make(cleaned);
        let engine = open(&lake).await.expect("a lake");
        assert_eq!(seen(&engine).await, ("e1 e2 e3 e4".into(), Some(4)), "{cleaned} entries cleaned up");
        assert_eq!(
            ask(&engine, "SELECT 1 FROM decisions WHERE session = 's-2' AND ingest_date = '2026-08-22'").await.len(),
            1
        );
        // Without the hint, or with one that lies, the listing finds it.
        fs::write(lake.table().join("_delta_log/_last_checkpoint"), json!({"version": 7}).to_string()).expect("a lie");
        assert_eq!(seen(&open(&lake).await.expect("a lake")).await.1, Some(4));
        fs::remove_file(lake.table().join("_delta_log/_last_checkpoint")).expect("it goes");
        assert_eq!(seen(&open(&lake).await.expect("a lake")).await.1, Some(4));
    }
}
