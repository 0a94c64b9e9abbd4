//! Upkeep: the same rows before and after, whoever races, whatever dies.

use super::chaos::Chaos;
use super::*;
use crate::upkeep::{Keep, Upkeep, UpkeepError, UpkeepSettings};
use catena_schemas::canonical::{LeafEncoder, tenant_key};
use catena_schemas::table::file_schema;
use std::sync::atomic::AtomicBool;
use tempfile::tempdir;

fn eager() -> UpkeepSettings {
    UpkeepSettings { inputs_min: 2, inputs_max: 5, ..UpkeepSettings::default() }
}

/// Leaf hash, arrival and mark of every row, sorted.
async fn contents(folder: &Path) -> Vec<String> {
    let lake = open(folder).await;
    let mut leaf = LeafEncoder::new(tenant_key(&lake.secret(), TENANT));
    let mut rows = Vec::new();
    for file in lake.files().await {
        for batch in read(&lake, &file).await {
            for row in 0..batch.num_rows() {
                let hash = hex::encode(leaf.row(TENANT, &batch, row).hash);
                let arrived = batch.column(Field::IngestTime as usize).slice(row, 1);
                let duplicate = batch.column(Field::Duplicate as usize).slice(row, 1);
                rows.push(format!("{hash} {arrived:?} {duplicate:?}"));
            }
        }
    }
    rows.sort();
    rows
}

#[tokio::test]
async fn compaction_changes_no_row_and_keeps_the_order() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    // Sources of uneven length, so that runs end at different times and batches are left half way.
    let (mut at, lengths) = (0, [2500, 1, 40, 1024, 3000]);
    for length in lengths {
        append(&lake, "k", at, at + length).await.unwrap();
        at += length;
    }
    let before = contents(folder.path()).await;
    let compacted = Upkeep::new(lake.clone(), eager()).compact_once().await.unwrap().unwrap();
    assert_eq!((compacted.inputs, compacted.rows), (lengths.len(), at as u64));
    assert_eq!(contents(folder.path()).await, before);
    let files = lake.files().await;
    assert_eq!(files.len(), 1);
    let batches = read(&lake, &files[0]).await;
    let merged = arrow_select::concat::concat_batches(&file_schema(), &batches).unwrap();
    // The row builder is the judge of order: the same rows, pushed at once, come out like this.
    assert_eq!(merged, rows("k", 0, at));
    let stats: serde_json::Value = serde_json::from_str(&files[0].stats).unwrap();
    assert_eq!(stats, crate::batch::statistics(&merged));
    assert_eq!(Upkeep::new(lake, eager()).compact_once().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_and_ingest_do_not_disturb_each_other() {
    let folder = tempdir().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let folder = folder.path().to_owned();
            tokio::spawn(async move {
                let (lake, app) = (open(&folder).await, format!("k{writer}"));
                for n in 0..25 {
                    append(&lake, &app, n * 8, n * 8 + 8).await.unwrap();
                }
            })
        })
        .collect();
    // Two maintainers: each plans on what it sees, and the slower is refused.
    let maintainers: Vec<_> = (0..2)
        .map(|_| {
            let (folder, done) = (folder.path().to_owned(), done.clone());
            tokio::spawn(async move {
                let upkeep = Upkeep::new(open(&folder).await, eager());
                let mut merged = 0;
                loop {
                    let last = done.load(Ordering::Relaxed);
                    match upkeep.compact_once().await {
                        Ok(Some(_)) => merged += 1,
                        Ok(None) if last => return merged,
                        Ok(None) | Err(UpkeepError::Commit(CommitError::Fenced { .. })) => {}
                        // The other merged the file away and vacuumed its loser; planning again is right.
                        Err(e) => panic!("{e}: {:?}", std::error::Error::source(&e)),
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let mut merged = 0;
    for maintainer in maintainers {
        merged += maintainer.await.unwrap();
    }
    assert!(merged > 3, "{merged}");
    assert!(is_exact(folder.path(), "k0", 200).await && is_exact(folder.path(), "k1", 200).await);
    let lake = open(folder.path()).await;
    assert_eq!(lake.position(crate::upkeep::MAINT).await.unwrap(), Some(merged));
    assert!(lake.files().await.len() < 10);
}

/// Two maintainers that planned on the same table. True if the rows are exact in the end.
async fn same_plan_twice(lease: bool) -> bool {
    let folder = tempdir().unwrap();
    let (lake, other) = (open(folder.path()).await, open(folder.path()).await);
    for n in 0..4 {
        append(&lake, "k", n * 8, n * 8 + 8).await.unwrap();
    }
    for lake in [&lake, &other] {
        lake.records().faults.accept_any_position.store(!lease, Ordering::Relaxed);
    }
    let (a, b) = (Upkeep::new(lake, eager()), Upkeep::new(other, eager()));
    let plans = (a.prepare().await.unwrap().unwrap(), b.prepare().await.unwrap().unwrap());
    a.finish(plans.0).await.unwrap();
    let second = b.finish(plans.1).await;
    assert_eq!(second.is_err(), lease, "{second:?}");
    is_exact(folder.path(), "k", 32).await
}

#[tokio::test]
async fn a_stale_maintainer_is_refused() {
    assert!(same_plan_twice(true).await);
}

#[tokio::test]
async fn without_the_lease_rows_come_twice() {
    assert!(!same_plan_twice(false).await);
}

#[tokio::test]
async fn an_output_that_differs_is_not_committed() {
    let folder = tempdir().unwrap();
    let mut chaos = None;
    let lake = open_through(folder.path(), |s| {
        let (store, handle) = Chaos::over(s);
        chaos = Some(handle);
        store
    })
    .await;
    for n in 0..3 {
        append(&lake, "k", n * 8, n * 8 + 8).await.unwrap();
    }
    // The store loses a row, and changes another, in valid Parquet.
    for (from, to) in [(0, 23), (1, 25)] {
        let other = encode(&rows("k", from, to), &writer_properties(1)).unwrap();
        *chaos.as_ref().unwrap().swapped.lock() = Some(("merged-", other.into()));
        let refused = Upkeep::new(lake.clone(), eager()).compact_once().await.unwrap_err();
        assert!(matches!(refused, UpkeepError::Changed { .. }), "{refused}");
    }
    assert_eq!(lake.records().version().await.unwrap(), 3);
    assert!(is_exact(folder.path(), "k", 24).await);
    let left: Vec<_> = walk(folder.path()).into_iter().filter(|n| n.contains("merged-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Puts a file of its own making into the table.
async fn foreign(lake: &Lake, batch: &RecordBatch, from: i64, to: i64) -> DataFile {
    let mut file = data_file(&rows("k", from, to), &[], TENANT, Class::Decision, Micros(NOON));
    // Others give no digest.
    file.digest = None;
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    file.size = bytes.len() as u64;
    lake.put(&file.path, bytes.into()).await.unwrap();
    lake.commit(vec![file.clone()], vec![range("k", from, to)], serde_json::Map::new()).await.unwrap();
    file
}

#[tokio::test]
async fn files_of_older_builds_are_merged_and_those_of_newer_ones_left_alone() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, "k", 0, 8).await.unwrap();
    // An older build had fewer columns.
    let batch = rows("k", 8, 16);
    let few: Vec<usize> =
        (0..batch.num_columns()).filter(|i| *i != Field::Ip as usize && *i != Field::Extra as usize).collect();
    foreign(&lake, &batch.project(&few).unwrap(), 8, 16).await;
    // A newer one has more.
    let batch = rows("k", 16, 24);
    let mut columns: Vec<_> =
        batch.schema().fields().iter().map(|f| f.name().clone()).zip(batch.columns().to_vec()).collect();
    columns.push(("from_the_future".into(), columns[0].1.clone()));
    let newer = foreign(&lake, &RecordBatch::try_from_iter(columns).unwrap(), 16, 24).await;
    // And one is broken.
    let broken = foreign(&lake, &rows("k", 24, 32), 24, 32).await;
    lake.put(&broken.path, vec![7; broken.size as usize].into()).await.unwrap();
    append(&lake, "k", 32, 40).await.unwrap();
    let upkeep = Upkeep::new(lake.clone(), eager());
    let mut avoided = Vec::new();
    let compacted = loop {
        match upkeep.compact_once().await {
            Ok(compacted) => break compacted.unwrap(),
            Err(UpkeepError::Unreadable { path, .. } | UpkeepError::Newer { path, .. }) => avoided.push(path),
            Err(e) => panic!("{e}"),
        }
    };
    avoided.sort();
    let mut wanted = [newer.path.clone(), broken.path.clone()];
    wanted.sort();
    assert_eq!(avoided, wanted);
    assert_eq!((compacted.inputs, compacted.rows), (3, 24));
    lake.put(&broken.path, encode(&rows("k", 24, 32), &writer_properties(1)).unwrap().into()).await.unwrap();
    let mut merged = Vec::new();
    for file in lake.files().await.iter().filter(|f| f.path.contains("merged-")) {
        merged.extend(read(&lake, file).await);
    }
    let parts = [rows("k", 0, 8), rows("k", 8, 16), rows("k", 32, 40)];
    let offsets = |batches: &[RecordBatch]| {
        let mut all: Vec<i64> = batches
            .iter()
            .flat_map(|b| b.column(Field::Offset as usize).as_primitive::<Int64Type>().values().to_vec())
            .collect();
        all.sort_unstable();
        all
    };
    assert_eq!(offsets(&merged), offsets(&parts));
}

fn walk(folder: &Path) -> Vec<String> {
    let (mut names, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => names.push(entry.file_name().into_string().unwrap()),
            }
        }
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_killed_anywhere_loses_nothing() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
    let lake = open_with(folder.path(), &options).await;
    for n in 0..40 {
        append(&lake, "k", n * 8, n * 8 + 8).await.unwrap();
    }
    let (mut killed, mut wait) = (0, Duration::ZERO);
    while wait < Duration::from_millis(400) && lake.files().await.len() > 1 {
        let upkeep = Upkeep::new(open_with(folder.path(), &options).await, eager());
        let task = tokio::spawn(async move { upkeep.compact_once().await.map(|_| ()) });
        tokio::time::sleep(wait).await;
        task.abort();
        killed += usize::from(task.await.is_err());
        assert!(is_exact(folder.path(), "k", 320).await, "killed after {wait:?}");
        wait = wait * 5 / 4 + Duration::from_millis(4);
    }
    assert!(killed > 2, "{killed}");
    // What the dead left behind goes, what the table holds stays.
    tokio::time::sleep(Duration::from_millis(300)).await;
    clock.forward(8 * DAY);
    Upkeep::new(open_with(folder.path(), &options).await, eager()).vacuum_once().await.unwrap();
    assert!(is_exact(folder.path(), "k", 320).await);
    let data = walk(folder.path()).into_iter().filter(|n| n.ends_with(".parquet")).count();
    assert_eq!(data, open(folder.path()).await.files().await.len());
}

#[tokio::test]
async fn vacuum_takes_only_what_is_old_unwanted_and_not_kept() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let lake = open_with(folder.path(), &StoreOptions { clock: clock.clone(), ..StoreOptions::default() }).await;
    for n in 0..3 {
        append(&lake, "k", n * 8, n * 8 + 8).await.unwrap();
    }
    let orphan = write(&lake, "k", 24, 30).await;
    let inputs = lake.files().await;
    let (held, upkeep) = (inputs[0].path.clone(), Upkeep::new(lake.clone(), eager()));
    upkeep.compact_once().await.unwrap().unwrap();
    std::fs::write(folder.path().join("records/x.parquet#123"), b"half").unwrap();
    assert_eq!(upkeep.vacuum_once().await.unwrap().files, 0, "nothing is old yet");
    clock.forward(8 * DAY);
    let keep: Keep = Arc::new(move |path| path == held);
    let keeping = Upkeep::new(lake.clone(), UpkeepSettings { keep, ..eager() });
    let vacuumed = keeping.vacuum_once().await.unwrap();
    assert_eq!((vacuumed.files, vacuumed.kept, vacuumed.temporary), (3, 1, 0));
    assert!(lake.get(&inputs[0].path).await.is_ok());
    assert!(lake.get(&inputs[1].path).await.is_err() && lake.get(&orphan.path).await.is_err());
    // What was kept is explained no less when nobody keeps it any more.
    let all = UpkeepSettings { file_retention: Duration::ZERO, ..eager() };
    let vacuumed = Upkeep::new(lake.clone(), all).vacuum_once().await.unwrap();
    assert_eq!((vacuumed.files, vacuumed.kept, vacuumed.temporary), (1, 0, 1));
    assert!(is_exact(folder.path(), "k", 24).await);
}

#[tokio::test]
async fn cleanup_waits_for_the_sealer() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let lake = open_with(folder.path(), &StoreOptions { clock: clock.clone(), ..StoreOptions::default() }).await;
    let upkeep = |keep| Upkeep::new(lake.clone(), UpkeepSettings { log_keep_from: keep, ..eager() });
    for n in 0..9 {
        append(&lake, "k", n, n + 1).await.unwrap();
        if n % 3 == 2 {
            upkeep(None).checkpoint_once().await.unwrap().unwrap();
        }
    }
    assert_eq!(upkeep(None).cleanup_once().await.unwrap().commits, 0, "nothing is old yet");
    clock.forward(8 * DAY);
    assert_eq!(upkeep(Some(2)).cleanup_once().await.unwrap().commits, 0);
    let cleaned = upkeep(Some(8)).cleanup_once().await.unwrap();
    assert_eq!((cleaned.commits, cleaned.checkpoints), (6, 1));
    let cleaned = upkeep(None).cleanup_once().await.unwrap();
    assert_eq!((cleaned.commits, cleaned.checkpoints), (3, 1));
    assert!(is_exact(folder.path(), "k", 9).await);
}

#[tokio::test]
async fn upkeep_runs_until_it_is_told_to_stop() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    for n in 0..12 {
        append(&lake, "k", n * 8, n * 8 + 8).await.unwrap();
    }
    let settings = UpkeepSettings { checkpoint_commits: 5, ..eager() };
    let (upkeep, cancel) = (Upkeep::new(lake.clone(), settings), tokio_util::sync::CancellationToken::new());
    let stop = cancel.clone();
    let task = tokio::spawn(async move { upkeep.run(Duration::from_millis(10), stop).await });
    while lake.files().await.len() > 1
        || !folder.path().join("records/_delta_log/_last_checkpoint").try_exists().unwrap()
    {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    task.await.unwrap();
    assert!(is_exact(folder.path(), "k", 96).await);
}
