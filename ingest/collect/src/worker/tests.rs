//! What two workers do to one lake.

use super::*;
use crate::store::StoreOptions;
use catena_schemas::canonical::LeafEncoder;
use std::collections::BTreeMap;

fn event(n: usize) -> String {
    format!(r#"{{"id":"e{n}","time":"2026-11-21T00:00:00Z","decision":{{"verdict":"allow"}}}}"#)
}

fn partition(name: &str) -> Arc<Partition> {
    Arc::new(Partition { app: format!("test/{name}"), topic: name.into(), number: 0, start: 0 })
}

fn push(worker: &mut Worker, partition: &Arc<Partition>, offset: i64, bytes: &str) {
    let record = Record {
        tenant: "default",
        format: Format::Catena,
        offset,
        next: offset + 1,
        bytes: bytes.as_bytes(),
        headers: &[],
        received: Micros(1_795_000_000_000_000),
        trusted: false,
        mappings: None,
        again: None,
    };
    worker.push(partition, &record);
}

async fn open(folder: &tempfile::TempDir) -> Arc<Lake> {
    Lake::open(folder.path().to_str().unwrap(), &StoreOptions::new([])).await.unwrap()
}

#[tokio::test]
async fn records_of_another_process_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (partition("a"), partition("b"));
    // Two lakes over one folder are two processes.
    let mut one = Worker::new(open(&folder).await, Settings::default());
    let mut two = Worker::new(open(&folder).await, Settings::default());
    (0..10).for_each(|n| push(&mut one, &a, n, &event(n as usize)));
    assert_eq!(one.flush().await.unwrap().unwrap().counts.duplicates, 0);
    (5..15).for_each(|n| push(&mut two, &b, n - 5, &event(n as usize)));
    assert_eq!(two.flush().await.unwrap().unwrap().counts.duplicates, 5, "learnt at the start");
    (10..20).for_each(|n| push(&mut one, &a, n, &event(n as usize)));
    assert_eq!(one.flush().await.unwrap().unwrap().counts.duplicates, 5, "learnt on the way");
}

#[tokio::test]
async fn same_id_with_other_content_is_no_duplicate() {
    let folder = tempfile::tempdir().unwrap();
    let a = partition("a");
    let mut worker = Worker::new(open(&folder).await, Settings::default());
    push(&mut worker, &a, 0, &event(1));
    push(&mut worker, &a, 1, &event(1));
    push(&mut worker, &a, 2, &event(1).replace("allow", "deny"));
    let counts = worker.flush().await.unwrap().unwrap().counts;
    assert_eq!((counts.decisions, counts.duplicates), (3, 1));
    assert_eq!(counts.by_outcome, BTreeMap::from([("allow", 1), ("deny", 1)]));
}

#[tokio::test]
async fn a_fenced_flush_leaves_nothing_and_is_no_duplicate_later() {
    let folder = tempfile::tempdir().unwrap();
    let a = partition("a");
    let mut zombie = Worker::new(open(&folder).await, Settings::default());
    let mut owner = Worker::new(open(&folder).await, Settings::default());
    (0..3).for_each(|n| push(&mut zombie, &a, n, &event(n as usize)));
    (0..2).for_each(|n| push(&mut owner, &a, n, &event(n as usize)));
    owner.flush().await.unwrap();
    assert!(zombie.flush().await.unwrap_err().is_fenced());
    assert!(zombie.flush().await.unwrap().is_none(), "the buffer is empty");
    // What the zombie reads from the lake's position on is new, although its window saw it before.
    zombie.discard();
    zombie.begin(&a, 2);
    push(&mut zombie, &a, 2, &event(2));
    let landed = zombie.flush().await.unwrap().unwrap();
    assert_eq!((landed.counts.decisions, landed.counts.duplicates), (1, 0));
    assert_eq!(landed.positions, [(a.app.clone(), 3)]);
}

#[tokio::test]
async fn gaps_of_a_partition_are_covered_and_repeats_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(&folder).await;
    let a = partition("a");
    let mut worker = Worker::new(lake.clone(), Settings::default());
    worker.begin(&a, 0);
    for offset in [3, 4, 4, 9] {
        push(&mut worker, &a, offset, &event(offset as usize));
    }
    let landed = worker.flush().await.unwrap().unwrap();
    assert_eq!(landed.counts.records, 3);
    assert_eq!(lake.position(&a.app).await.unwrap(), Some(10));
    push(&mut worker, &a, 12, &event(12));
    worker.flush().await.unwrap();
    assert_eq!(lake.position(&a.app).await.unwrap(), Some(13));
}

/// The root in the commit is that of the leaves recomputed from the stored rows, in order of offset.
#[tokio::test]
async fn what_was_stored_is_what_came_in() {
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let folder = tempfile::tempdir().unwrap();
    let lake = open(&folder).await;
    let a = partition("a");
    let mut worker = Worker::new(lake.clone(), Settings::default());
    for n in 0..50 {
        let text = if n % 5 == 0 {
            "broken".to_owned()
        } else {
            event(n).replace("00:00:00", &format!("00:00:{:02}", 59 - n))
        };
        push(&mut worker, &a, n as i64, &text);
    }
    let version = worker.flush().await.unwrap().unwrap().version;
    let mut leaf = LeafEncoder::new(canonical::tenant_key(&lake.secret(), "default"));
    let mut leaves = BTreeMap::new();
    for file in lake.files().await {
        let reader =
            ParquetRecordBatchReaderBuilder::try_new(lake.get(&file.path).await.unwrap()).unwrap().build().unwrap();
        for batch in reader {
            let batch = batch.unwrap();
            let offsets = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(
                batch.column_by_name("offset").unwrap(),
            );
            for row in 0..batch.num_rows() {
                leaves.insert(offsets.value(row), leaf.row("default", &batch, row).hash);
            }
        }
    }
    let mut root = Accumulator::default();
    leaves.values().for_each(|l| root.push(l));
    let commit = lake.get(&format!("_delta_log/{version:020}.json")).await.unwrap();
    assert_eq!(leaves.len(), 50);
    assert!(String::from_utf8_lossy(&commit).contains(&hex::encode(root.root())), "the commit names another root");
}

/// Decisions, executions and records of authority land apart, each once, in one commit; only decisions are counted as such.
#[tokio::test]
async fn facts_land_in_the_class_of_their_kind() {
    let folder = tempfile::tempdir().unwrap();
    let lake = open(&folder).await;
    let mut worker = Worker::new(lake.clone(), Settings::default());
    let a = partition("a");
    let execution = r#"{"id":"x1","time":"2026-11-21T00:00:00Z","kind":"execution","tool":{"name":"t"}}"#;
    let grant = r#"{"id":"r1","time":"2026-11-21T00:00:00Z","kind":"grant","grant_id":"g-1","grantor":"dana","grantee":"agent:a",
        "authority":{"scope":["mail.read"]}}"#;
    let lines = [event(1), execution.into(), grant.into(), "{".into(), execution.into(), grant.into(), event(1)];
    lines.iter().enumerate().for_each(|(offset, line)| push(&mut worker, &a, offset as i64, line));
    let landed = worker.flush().await.unwrap().unwrap();
    let c = &landed.counts;
    assert_eq!((c.decisions, c.executions, c.authority, c.rejected, c.asides), (2, 2, 2, 1, 0));
    assert_eq!((c.duplicates, c.repeated, c.facts(), c.received), (1, 2, 6, 7));
    assert_eq!(c.by_outcome, BTreeMap::from([("allow", 1)]), "an execution has no outcome to count");
    let mut classes: Vec<_> = lake.files().await.iter().map(|f| (f.partition["class"].clone(), f.rows)).collect();
    classes.sort();
    let want = [("authority", 2), ("decision", 2), ("execution", 2), ("reject", 1)];
    assert_eq!(classes, want.map(|(class, rows)| (class.to_owned(), rows)));
    // What another process reads back is recognised there.
    let mut other = Worker::new(open(&folder).await, Settings::default());
    let b = partition("b");
    push(&mut other, &b, 0, execution);
    push(&mut other, &b, 1, grant);
    assert_eq!(other.flush().await.unwrap().unwrap().counts.repeated, 2);
}
