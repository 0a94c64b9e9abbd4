//! One lake, two readers: the collector and the engine give one verdict on whatever state its log is in.

use catena_collect::batch::{data_file, encode, writer_properties};
use catena_collect::commit::Range;
use catena_collect::lake::Lake;
use catena_collect::store::StoreOptions;
use catena_collect::upkeep::{Upkeep, UpkeepSettings};
use catena_engine::{Engine, Limits, Options};
use catena_schemas::rows::{Place, Rows};
use catena_schemas::table::Class;
use catena_schemas::{Event, Micros};
use std::fs;
use std::path::Path;
use std::sync::Arc;

const NOW: Micros = Micros(1_795_176_000_000_000);

async fn append(lake: &Arc<Lake>, n: i64) {
    let mut rows = Rows::default();
    let event = Event { id: format!("e{n}").into(), time: NOW, ..Event::default() };
    let place = Place {
        tenant: "acme",
        topic: "k",
        partition: 0,
        offset: n,
        format: "catena",
        redaction: "1",
        ingest_time: NOW,
    };
    rows.push(&event, &place, false);
    let rows = rows.finish();
    let bytes = encode(&rows, &writer_properties(1)).expect("Parquet");
    let file = data_file(&rows, &bytes, "acme", Class::Decision, NOW);
    lake.put(&file.path, bytes.into()).await.expect("a file");
    let range = Range { app: "k".into(), from: n, to: n + 1, start: 0 };
    lake.commit(vec![file], vec![range], serde_json::Map::new()).await.expect("a commit");
}

/// Five commits, and a checkpoint at the third of them.
async fn make(folder: &Path) {
    let lake = Lake::open(folder.to_str().expect("UTF-8"), &StoreOptions::default()).await.expect("a lake");
    for n in 0..5 {
        append(&lake, n).await;
        if n == 2 {
            Upkeep::new(lake.clone(), UpkeepSettings::default()).checkpoint_once().await.expect("a checkpoint");
        }
    }
}

/// Rows that the engine sees, or `error`.
async fn by_engine(folder: &Path) -> String {
    match Engine::open(folder.to_str().expect("UTF-8"), Options::default()).await {
        Err(e) => format!("error: {e}"),
        Ok(engine) => {
            let answer = engine.sql("SELECT event_id FROM decisions", &Limits::default()).await.expect("an answer");
            format!("{} rows", answer.collect().await.expect("rows").len())
        }
    }
}

/// Rows that the collector sees, or `error`; `aside` when it put the last commit aside.
async fn by_collector(folder: &Path) -> String {
    match Lake::open(folder.to_str().expect("UTF-8"), &StoreOptions::default()).await {
        Err(e) => format!("error: {e}"),
        Ok(lake) if !lake.records().sidelined().is_empty() => "aside".into(),
        Ok(lake) => format!("{} rows", lake.files().await.iter().map(|f| f.rows).sum::<u64>()),
    }
}

type Damage = fn(&Path);

fn commit(log: &Path, version: u64) -> std::path::PathBuf {
    log.join(format!("{version:020}.json"))
}

fn edit(path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = fs::read(path).expect("a file of the log");
    fs::write(path, change(bytes)).expect("it changes");
}

fn checkpoint(log: &Path) -> std::path::PathBuf {
    log.join(format!("{:020}.checkpoint.parquet", 3))
}

fn without_commits(log: &Path) {
    (0..=2).for_each(|v| fs::remove_file(commit(log, v)).expect("it goes"));
}

/// Drops the last line, with its end.
fn cut_line(bytes: Vec<u8>) -> Vec<u8> {
    let kept = bytes[..bytes.len() - 1].iter().rposition(|b| *b == b'\n').expect("lines");
    bytes[..=kept].to_vec()
}

fn add_commit(log: &Path, line: &str) {
    fs::write(commit(log, 6), line).expect("a commit");
}

/// What is done to the log, and how the verdict of both begins; `torn` means an error to the engine, and that the collector
/// puts the commit aside.
const CASES: &[(&str, Damage, &str)] = &[
    ("nothing", |_| {}, "5 rows"),
    ("no log", |log| fs::remove_dir_all(log).expect("it goes"), "error"),
    (
        "an empty log",
        |log| {
            fs::remove_dir_all(log).expect("it goes");
            fs::create_dir(log).expect("a folder");
        },
        "error",
    ),
    (
        "a hint alone",
        |log| {
            for v in 0..=5 {
                fs::remove_file(commit(log, v)).expect("it goes");
                let _ = fs::remove_file(checkpoint(log));
            }
        },
        "error",
    ),
    ("last commit cut at a line", |log| edit(&commit(log, 5), cut_line), "torn"),
    ("last commit cut in a line", |log| edit(&commit(log, 5), |b| b[..b.len() - 9].to_vec()), "torn"),
    ("last commit empty", |log| edit(&commit(log, 5), |_| Vec::new()), "torn"),
    ("last commit zeros", |log| edit(&commit(log, 5), |b| vec![0; b.len()]), "torn"),
    ("a commit cut at a line", |log| edit(&commit(log, 4), cut_line), "error"),
    ("a commit missing", |log| fs::remove_file(commit(log, 4)).expect("it goes"), "error"),
    ("old commits cleaned up", without_commits, "5 rows"),
    ("checkpoint broken, commits there", |log| edit(&checkpoint(log), |_| b"PAR1".to_vec()), "5 rows"),
    (
        "checkpoint broken, commits gone",
        |log| {
            without_commits(log);
            edit(&checkpoint(log), |b| b[..b.len() / 2].to_vec());
        },
        "error",
    ),
    (
        "checkpoint with a footer that lies",
        |log| {
            without_commits(log);
            edit(&checkpoint(log), |mut b| {
                let at = b.len() - 8;
                b[at..at + 4].copy_from_slice(&9u32.to_le_bytes());
                b
            });
        },
        "error",
    ),
    (
        "one part of a checkpoint of two",
        |log| {
            without_commits(log);
            fs::rename(checkpoint(log), log.join(format!("{:020}.checkpoint.{:010}.{:010}.parquet", 3, 1, 2)))
                .expect("it moves");
        },
        "error",
    ),
    ("a hint that lies", |log| fs::write(log.join("_last_checkpoint"), r#"{"version":77}"#).expect("a hint"), "5 rows"),
    ("unknown actions", |log| add_commit(log, r#"{"cdc":{"path":"x"}}"#), "5 rows"),
    ("a removal of what is not there", |log| add_commit(log, r#"{"remove":{"path":"x"}}"#), "5 rows"),
    (
        "deletion vectors",
        |log| {
            add_commit(
                log,
                r#"{"add":{"path":"x","size":1,"partitionValues":{"tenant":"t","ingest_date":"2026-11-20","class":"decision"},"deletionVector":{"storageType":"u"}}}"#,
            )
        },
        "error",
    ),
    (
        "a path that leaves the table",
        |log| {
            add_commit(
                log,
                r#"{"add":{"path":"%2e%2e/x","size":1,"partitionValues":{"tenant":"t","ingest_date":"2026-11-20","class":"decision"}}}"#,
            )
        },
        "error",
    ),
    ("no partition values", |log| add_commit(log, r#"{"add":{"path":"x","size":1,"partitionValues":{}}}"#), "error"),
    (
        "a reader version of the future",
        |log| add_commit(log, r#"{"protocol":{"minReaderVersion":9,"minWriterVersion":9}}"#),
        "error",
    ),
    (
        "a feature of readers",
        |log| {
            add_commit(
                log,
                r#"{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["deletionVectors"],"writerFeatures":[]}}"#,
            )
        },
        "error",
    ),
    (
        "column mapping",
        |log| {
            add_commit(
                log,
                r#"{"metaData":{"id":"x","schemaString":"{}","partitionColumns":["tenant","ingest_date","class"],"configuration":{"delta.columnMapping.mode":"name"}}}"#,
            )
        },
        "error",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn both_readers_agree_on_what_is_whole() {
    for (what, damage, want) in CASES {
        let folder = tempfile::tempdir().expect("a folder");
        make(folder.path()).await;
        damage(&folder.path().join("records/_delta_log"));
        // The engine first: the collector may put a commit aside.
        let found = (by_engine(folder.path()).await, by_collector(folder.path()).await);
        match *want {
            "torn" => {
                assert!(found.0.starts_with("error") && found.1 == "aside", "{what}: {found:?}");
                assert!(found.0.contains("_delta_log/00000000000000000005.json"), "{what}: {found:?}");
                // From then on both see what is left.
                let left = (by_engine(folder.path()).await, by_collector(folder.path()).await);
                assert_eq!(left, ("4 rows".into(), "4 rows".into()), "{what}");
            }
            want => assert!(found.0.starts_with(want) && found.1.starts_with(want), "{what}: {found:?}"),
        }
    }
}
