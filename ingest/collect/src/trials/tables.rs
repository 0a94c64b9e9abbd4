//! Tables: made, widened, read by others, mended.

use super::*;
use crate::commit::{Table, TableSpec};
use crate::lake::{LakeError, records_spec};
use crate::log::LogError;
use crate::upkeep::{Upkeep, UpkeepSettings};
use serde_json::{Map, Value};
use std::collections::HashSet;
use tempfile::tempdir;

#[tokio::test(flavor = "multi_thread")]
async fn many_that_create_at_once_share_one_lake() {
    let folder = tempdir().unwrap();
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let folder = folder.path().to_owned();
            tokio::spawn(async move {
                let lake = open(&folder).await;
                append(&lake, &format!("k{n}"), 0, 5).await.unwrap();
                lake.secret()
            })
        })
        .collect();
    let mut secrets = HashSet::new();
    for task in tasks {
        secrets.insert(task.await.unwrap());
    }
    assert_eq!(secrets.len(), 1);
    assert_eq!(offsets(folder.path()).await.len(), 6);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(folder.path().join("_catena/secret.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[tokio::test]
async fn a_secret_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    let secret = open(folder.path()).await.secret();
    let key = folder.path().join("_catena/secret.key");
    for (mode, private) in [(0o644, false), (0o640, false), (0o606, false), (0o400, true), (0o600, true)] {
        std::fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        let url = folder.path().to_string_lossy().into_owned();
        match Lake::open(&url, &StoreOptions::default()).await {
            Ok(lake) => assert!(private && lake.secret() == secret, "{mode:o}"),
            Err(e) => {
                let cause = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
                assert!(!private && cause.contains("run `chmod 600 "), "{mode:o}: {e}: {cause}");
            }
        }
    }
}

#[tokio::test]
async fn a_lake_is_addressed_as_folder_or_url() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a b/lake");
    let by_path = open(&path).await;
    append(&by_path, "k", 0, 5).await.unwrap();
    let url = url::Url::from_file_path(&path).unwrap();
    let by_url = Lake::open(url.as_str(), &StoreOptions::default()).await.unwrap();
    assert_eq!(by_url.position("k").await.unwrap(), Some(5));
    for (bad, message) in [
        ("gopher://x", "`gopher://x` is neither a folder nor an `s3://` address"),
        ("", "`` is neither a folder nor an `s3://` address"),
    ] {
        let refused = Lake::open(bad, &StoreOptions::default()).await.unwrap_err();
        assert_eq!(refused.to_string(), message);
    }
    let options = StoreOptions::new([("aws_regoin".to_owned(), "eu".to_owned())]);
    let refused = Lake::open("s3://bucket/lake", &options).await.unwrap_err();
    assert_eq!(refused.to_string(), "the object store has no setting `aws_regoin`");
}

fn narrowed(drop: &[&str], retype: Option<(&str, &str)>) -> TableSpec {
    let mut spec = records_spec();
    let mut schema: Value = serde_json::from_str(&spec.schema).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    fields.retain(|f| !drop.contains(&f["name"].as_str().unwrap()));
    if let Some((name, kind)) = retype {
        fields.iter_mut().find(|f| f["name"] == name).unwrap()["type"] = kind.into();
    }
    spec.schema = schema.to_string();
    spec
}

async fn table(folder: &Path, spec: &TableSpec) -> Table {
    let options = StoreOptions::default();
    let store = Store::open(folder.to_str().unwrap(), &options).unwrap();
    Table::open(store.below("records"), None, spec, options.clock, "", Patience::default()).await.unwrap()
}

#[tokio::test]
async fn missing_columns_are_added_once() {
    let folder = tempdir().unwrap();
    table(folder.path(), &narrowed(&["duplicate", "ip"], None)).await;
    let (a, b) = tokio::join!(open(folder.path()), open(folder.path()));
    assert_eq!((a.records().version().await.unwrap(), b.records().version().await.unwrap()), (1, 1));
    let read = deltalake_core::open_table(records_url(folder.path())).await.unwrap();
    let schema = read.snapshot().unwrap().schema();
    let names: HashSet<String> = schema.fields().map(|f| f.name().to_string()).collect();
    let wanted: HashSet<String> =
        catena_schemas::table::table_schema().fields().iter().map(|f| f.name().clone()).collect();
    assert_eq!(names, wanted);
    // An older build, which lacks columns, leaves them alone.
    table(folder.path(), &narrowed(&["duplicate"], None)).await;
    assert_eq!(a.records().version().await.unwrap(), 1);
}

#[tokio::test]
async fn a_column_of_another_type_is_refused() {
    let folder = tempdir().unwrap();
    table(folder.path(), &narrowed(&[], Some(("offset", "string")))).await;
    let refused = Lake::open(folder.path().to_str().unwrap(), &StoreOptions::default()).await.unwrap_err();
    assert_eq!(refused.to_string(), r#"column `offset` of `records` is stored as "string", not "long""#);
}

fn records_url(folder: &Path) -> url::Url {
    url::Url::from_directory_path(folder.canonicalize().unwrap().join("records")).unwrap()
}

/// Version, files and rows, as delta-rs sees them; and a position.
async fn by_delta_rs(folder: &Path, app: &str) -> (u64, usize, u64, Option<i64>) {
    let table = deltalake_core::open_table(records_url(folder)).await.unwrap();
    let snapshot = table.snapshot().unwrap();
    let rows = snapshot.log_data().iter().map(|f| f.num_records().unwrap() as u64).sum();
    let position = snapshot.transaction_version(table.log_store().as_ref(), app).await.unwrap();
    let files: Vec<String> = table.get_file_uris().unwrap().collect();
    for file in &files {
        let path = url::Url::parse(file).map_or_else(|_| file.into(), |u| u.to_file_path().unwrap());
        assert!(path.try_exists().unwrap(), "{file}");
    }
    (table.version().unwrap(), files.len(), rows, position)
}

async fn by_us(folder: &Path, app: &str) -> (u64, usize, u64, Option<i64>) {
    let lake = open(folder).await;
    let files = lake.files().await;
    let rows = files.iter().map(|f| f.rows).sum();
    (lake.records().version().await.unwrap(), files.len(), rows, lake.position(app).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_rs_reads_the_same_table_at_every_step() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let lake = open_with(folder.path(), &StoreOptions { clock: clock.clone(), ..StoreOptions::default() }).await;
    let upkeep = Upkeep::new(lake.clone(), UpkeepSettings { inputs_min: 3, ..UpkeepSettings::default() });
    let same = async |step: &str, want: (u64, usize, u64)| {
        let ours = by_us(folder.path(), "k").await;
        assert_eq!((ours.0, ours.1, ours.2), want, "{step}");
        assert_eq!(by_delta_rs(folder.path(), "k").await, ours, "{step}");
    };
    for n in 0..5 {
        append(&lake, "k", n * 20, n * 20 + 20).await.unwrap();
    }
    same("commits", (5, 5, 100)).await;
    assert_eq!(upkeep.checkpoint_once().await.unwrap().unwrap().version, 5);
    assert_eq!(upkeep.checkpoint_once().await.unwrap(), None);
    same("checkpoint", (5, 5, 100)).await;
    append(&lake, "k", 100, 120).await.unwrap();
    same("commit after it", (6, 6, 120)).await;
    let compacted = upkeep.compact_once().await.unwrap().unwrap();
    assert_eq!((compacted.version, compacted.inputs, compacted.rows), (7, 6, 120));
    same("compaction", (7, 1, 120)).await;
    upkeep.checkpoint_once().await.unwrap().unwrap();
    append(&lake, "k", 120, 121).await.unwrap();
    clock.forward(8 * DAY);
    let cleaned = upkeep.cleanup_once().await.unwrap();
    assert_eq!((cleaned.commits, cleaned.checkpoints), (7, 1));
    same("log cleanup", (8, 2, 121)).await;
    let vacuumed = upkeep.vacuum_once().await.unwrap();
    assert_eq!((vacuumed.files, vacuumed.kept), (6, 0));
    same("vacuum", (8, 2, 121)).await;
    assert!(is_exact(folder.path(), "k", 121).await);
}

/// delta-rs writes checkpoints too: ours must read them.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_delta_rs_is_read() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    for n in 0..5 {
        append(&lake, "k", n * 20, n * 20 + 20).await.unwrap();
    }
    let before = by_us(folder.path(), "k").await;
    let table = deltalake_core::open_table(records_url(folder.path())).await.unwrap();
    deltalake_core::checkpoints::create_checkpoint(&table, None).await.unwrap();
    for version in 0..=5 {
        std::fs::remove_file(folder.path().join(format!("records/_delta_log/{version:020}.json"))).unwrap();
    }
    assert_eq!(by_us(folder.path(), "k").await, before);
    assert!(is_exact(folder.path(), "k", 100).await);
    // And is gone on from.
    let lake = open(folder.path()).await;
    append(&lake, "k", 100, 110).await.unwrap();
    assert_eq!(by_delta_rs(folder.path(), "k").await, (6, 6, 110, Some(110)));
}

/// Breaks one commit of five in some way and opens the lake: the versions that are left, or the error.
async fn broken(version: u64, with: impl Fn(Vec<u8>) -> Vec<u8>) -> String {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    for n in 0..4 {
        append(&lake, "k", n, n + 1).await.unwrap();
    }
    let path = folder.path().join(format!("records/_delta_log/{version:020}.json"));
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, with(bytes)).unwrap();
    match Lake::open(folder.path().to_str().unwrap(), &StoreOptions::default()).await {
        Ok(lake) => {
            let aside = lake.records().sidelined().len();
            let next = lake.position("k").await.unwrap().unwrap();
            append(&lake, "k", next, next + 1).await.unwrap();
            assert!(is_exact(folder.path(), "k", next + 1).await);
            assert_eq!(by_delta_rs(folder.path(), "k").await.3, Some(next + 1));
            format!("{aside} aside, went on from {next}")
        }
        Err(LakeError::Table(CommitError::Log(LogError::Broken { path, detail, .. }))) => format!("{path}: {detail}"),
        Err(e) => e.to_string(),
    }
}

#[tokio::test]
async fn an_unreadable_last_commit_is_put_aside_and_an_earlier_one_is_an_error() {
    let cut = |b: Vec<u8>| b[..b.len() - 20].to_vec();
    let lines = |b: Vec<u8>| [b.split_inclusive(|c| *c == b'\n').next().unwrap()].concat();
    assert_eq!(broken(4, |_| vec![]).await, "1 aside, went on from 3");
    assert_eq!(broken(4, |b| vec![0; b.len()]).await, "1 aside, went on from 3");
    assert_eq!(broken(4, cut).await, "1 aside, went on from 3");
    assert_eq!(broken(4, lines).await, "1 aside, went on from 3");
    assert_eq!(broken(4, |b| b).await, "0 aside, went on from 4");
    assert_eq!(broken(2, |_| vec![]).await, "_delta_log/00000000000000000002.json: it is empty");
    assert_eq!(broken(2, lines).await, "_delta_log/00000000000000000002.json: it has 1 of 3 lines");
    assert!(broken(2, cut).await.starts_with("_delta_log/00000000000000000002.json: line 3: EOF"));
}

#[tokio::test]
async fn a_gap_and_a_broken_checkpoint_are_told() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let lake = open_with(folder.path(), &StoreOptions { clock: clock.clone(), ..StoreOptions::default() }).await;
    let upkeep = Upkeep::new(lake.clone(), UpkeepSettings::default());
    for n in 0..4 {
        append(&lake, "k", n, n + 1).await.unwrap();
    }
    upkeep.checkpoint_once().await.unwrap();
    let log = folder.path().join("records/_delta_log");
    // While the commits are there, nothing depends on the checkpoint, nor on the hint to it.
    std::fs::write(log.join("00000000000000000004.checkpoint.parquet"), b"PAR1").unwrap();
    assert!(is_exact(folder.path(), "k", 4).await);
    std::fs::write(log.join("_last_checkpoint"), b"{").unwrap();
    assert!(is_exact(folder.path(), "k", 4).await);
    // And cleanup does not take them for granted.
    clock.forward(8 * DAY);
    assert!(upkeep.cleanup_once().await.is_err());
    std::fs::remove_file(log.join("00000000000000000002.json")).unwrap();
    let refused = Lake::open(folder.path().to_str().unwrap(), &StoreOptions::default()).await.unwrap_err();
    assert_eq!(refused.to_string(), "the log of `records` lacks version 2");
}

#[tokio::test]
async fn a_table_that_needs_more_is_refused() {
    for (line, message) in [(
        r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":["deletionVectors"]}}"#,
        "`records` needs Delta reader version 3 and writer version 7, which this build does not have",
    )] {
        let folder = tempdir().unwrap();
        let lake = open(folder.path()).await;
        append(&lake, "k", 0, 1).await.unwrap();
        std::fs::write(folder.path().join("records/_delta_log/00000000000000000002.json"), line).unwrap();
        assert_eq!(append(&lake, "k", 1, 2).await.unwrap_err().to_string(), message);
        let refused = Lake::open(folder.path().to_str().unwrap(), &StoreOptions::default()).await.unwrap_err();
        assert_eq!(refused.to_string(), message);
    }
}

#[tokio::test]
async fn what_a_commit_says_of_itself() {
    let folder = tempdir().unwrap();
    let options = StoreOptions { collector: "c1".into(), ..StoreOptions::default() };
    let lake = open_with(folder.path(), &options).await;
    let info = Map::from_iter([("root".to_owned(), Value::from("ab"))]);
    lake.commit(vec![paper(1)], vec![range("k", 0, 9)], info).await.unwrap();
    let text = std::fs::read_to_string(folder.path().join("records/_delta_log/00000000000000000001.json")).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let ours = &first["commitInfo"]["catena"];
    assert_eq!(ours["collector"], "c1");
    assert_eq!(ours["ranges"], serde_json::json!([{"app": "k", "from": 0, "to": 9}]));
    assert_eq!(ours["info"]["root"], "ab");
    assert_eq!(ours["nonce"].as_str().unwrap().len(), 32);
    assert_eq!(ours["actions"], 3);
}
