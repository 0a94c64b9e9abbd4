//! Lakes that were restored in part, and files that the disk changed: refused and named, and nothing is deleted.

use super::*;
use crate::lake::LakeError;
use crate::log::LogError;
use crate::upkeep::{Doubt, Upkeep, UpkeepError, UpkeepSettings};
use std::path::PathBuf;
use tempfile::tempdir;

/// Data files below a lake, sorted.
fn data_files(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.join("records")]);
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let is_log = path.file_name().is_some_and(|n| n == "_delta_log");
            match path.is_dir() {
                true if !is_log => folders.push(path),
                false => files.push(path),
                true => {}
            }
        }
    }
    files.sort();
    files
}

/// Flips one bit of a file.
fn flip(path: &Path, bit: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let at = (bit / 8) % bytes.len();
    bytes[at] ^= 1 << (bit % 8);
    std::fs::write(path, bytes).unwrap();
}

async fn refused(folder: &Path) -> String {
    let options = StoreOptions::default();
    match Lake::open(folder.to_str().unwrap(), &options).await.unwrap_err() {
        LakeError::Table(CommitError::Log(e @ (LogError::NoLog { .. } | LogError::Emptied { .. }))) => e.to_string(),
        e => panic!("{e}"),
    }
}

#[tokio::test]
async fn no_table_is_made_where_data_files_lie_without_a_log() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, "k", 0, 8).await.unwrap();
    let log = folder.path().join("records/_delta_log");
    let before = data_files(folder.path());
    // A log that was there once and is empty now; one that is an empty folder; none at all.
    std::fs::write(log.join("_last_checkpoint"), r#"{"version":3}"#).unwrap();
    for version in 0..=1 {
        std::fs::remove_file(log.join(format!("{version:020}.json"))).unwrap();
    }
    assert!(refused(folder.path()).await.contains("names checkpoint 3 and holds no version"));
    std::fs::remove_file(log.join("_last_checkpoint")).unwrap();
    assert!(refused(folder.path()).await.contains("`records/_delta_log` is missing or empty"));
    std::fs::remove_dir(&log).unwrap();
    std::fs::remove_dir_all(folder.path().join("_catena")).unwrap();
    assert!(refused(folder.path()).await.contains("left out names that begin with `_`"));
    assert!(
        !log.try_exists().unwrap() && !folder.path().join("_catena").try_exists().unwrap(),
        "a refused place stays as it was"
    );
    assert_eq!(data_files(folder.path()), before);
}

#[tokio::test]
async fn a_last_commit_that_this_build_refuses_is_not_put_aside() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, "k", 0, 8).await.unwrap();
    let last = folder.path().join("records/_delta_log/00000000000000000002.json");
    for line in [
        r#"{"add":{"path":"x","size":1,"partitionValues":{},"deletionVector":{"storageType":"u"}}}"#,
        r#"{"add":{"path":"../x","size":1,"partitionValues":{}}}"#,
        r#"{"add":{"size":1}}"#,
    ] {
        std::fs::write(&last, line).unwrap();
        let error = Lake::open(folder.path().to_str().unwrap(), &StoreOptions::default()).await.unwrap_err();
        assert!(error.to_string().contains("00000000000000000002.json"), "{error}");
        assert!(last.try_exists().unwrap());
    }
}

/// The doubt of a vacuum eight days later, after something was done to a lake of 3 files; `None` when it deleted. Nothing may be
/// gone if there is one.
async fn doubt(damage: impl AsyncFnOnce(&Path, &Arc<Lake>)) -> Option<Doubt> {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
    let lake = open_with(folder.path(), &options).await;
    for n in 0..3 {
        append(&lake, "k", n * 8, n * 8 + 8).await.unwrap();
    }
    damage(folder.path(), &lake).await;
    drop(lake);
    let before = data_files(folder.path());
    clock.forward(8 * DAY);
    let lake = open_with(folder.path(), &options).await;
    let upkeep =
        |most| Upkeep::new(lake.clone(), UpkeepSettings { unexplained_max: most, ..UpkeepSettings::default() });
    match upkeep(None).vacuum_once().await {
        Ok(_) => None,
        Err(UpkeepError::Refused(refused)) => {
            assert_eq!(data_files(folder.path()), before);
            // Whoever has looked at it can have them deleted all the same.
            assert_eq!(upkeep(Some(refused.files)).vacuum_once().await.unwrap().files, refused.files);
            Some(refused.doubt)
        }
        Err(e) => panic!("{e}"),
    }
}

fn aged(path: &Path, by: i64) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let now = file.metadata().unwrap().modified().unwrap();
    let hours = Duration::from_secs(3600 * by.unsigned_abs());
    file.set_modified(if by < 0 { now - hours } else { now + hours }).unwrap();
}

#[tokio::test]
async fn vacuum_deletes_nothing_when_the_log_is_in_doubt() {
    // What killed writers left goes.
    assert_eq!(
        doubt(async |_, lake| {
            for n in 0..16 {
                write(lake, "k", 100 + n, 101 + n).await;
            }
        })
        .await,
        None
    );
    let many = doubt(async |_, lake| {
        for n in 0..17 {
            write(lake, "k", 100 + n, 101 + n).await;
        }
    })
    .await;
    assert_eq!(many, Some(Doubt::Many { limit: 16 }));
    // The log was lost, and a table made over the files.
    let older = doubt(async |folder, lake| {
        let file = write(lake, "k", 100, 101).await;
        aged(&folder.join("records").join(file.path), -2);
    });
    assert_eq!(older.await, Some(Doubt::OlderThanTable));
    // The log is an older copy: the files that came after it are not in it.
    let newer = doubt(async |folder, lake| {
        append(lake, "k", 24, 32).await.unwrap();
        std::fs::remove_file(folder.join("records/_delta_log/00000000000000000004.json")).unwrap();
        data_files(folder).iter().for_each(|path| aged(path, 2));
    });
    assert_eq!(newer.await, Some(Doubt::NewerThanLog { version: 3 }));
    // The last commit was damaged after it was acknowledged.
    let aside = doubt(async |folder, lake| {
        append(lake, "k", 24, 32).await.unwrap();
        std::fs::write(folder.join("records/_delta_log/00000000000000000004.json"), [0; 99]).unwrap();
    });
    assert!(matches!(aside.await, Some(Doubt::Aside { .. })));
    // The end of the log is missing.
    let cut = doubt(async |folder, lake| {
        append(lake, "k", 24, 32).await.unwrap();
        std::fs::remove_file(folder.join("records/_delta_log/00000000000000000004.json")).unwrap();
        std::fs::write(folder.join("records/_delta_log/_last_checkpoint"), r#"{"version":4}"#).unwrap();
    });
    assert_eq!(cut.await, Some(Doubt::Cut { checkpoint: 4, version: 3 }));
}

/// With a retention that is longer than the default, a merged file is still explained when it may go.
#[tokio::test]
async fn a_long_retention_keeps_the_reason_as_long() {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
    let settings = || UpkeepSettings { inputs_min: 2, file_retention: 30 * DAY, ..UpkeepSettings::default() };
    let lake = open_with(folder.path(), &options).await;
    for n in 0..20 {
        append(&lake, "k", n, n + 1).await.unwrap();
    }
    Upkeep::new(lake, settings()).compact_once().await.unwrap().unwrap();
    clock.forward(20 * DAY);
    let lake = open_with(folder.path(), &options).await;
    append(&lake, "k", 20, 21).await.unwrap();
    let upkeep = Upkeep::new(lake, settings());
    upkeep.checkpoint_once().await.unwrap().unwrap();
    assert_eq!(upkeep.vacuum_once().await.unwrap().files, 0, "within the retention");
    for version in 0..=21 {
        std::fs::remove_file(folder.path().join(format!("records/_delta_log/{version:020}.json"))).unwrap();
    }
    clock.forward(11 * DAY);
    let upkeep = Upkeep::new(open_with(folder.path(), &options).await, settings());
    assert_eq!(upkeep.vacuum_once().await.unwrap().files, 20);
    assert!(is_exact(folder.path(), "k", 21).await);
}

#[tokio::test]
async fn a_damaged_file_is_neither_merged_nor_dropped() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    for n in 0..4 {
        append(&lake, "k", n * 8, n * 8 + 8).await.unwrap();
    }
    let victim = lake.files().await[1].path.clone();
    let path = folder.path().join("records").join(&victim);
    let good = std::fs::read(&path).unwrap();
    flip(&path, good.len() * 4);
    let upkeep = Upkeep::new(lake.clone(), UpkeepSettings { inputs_min: 2, ..UpkeepSettings::default() });
    match upkeep.compact_once().await.unwrap_err() {
        UpkeepError::Damaged { path, .. } => assert_eq!(path, victim),
        e => panic!("{e}"),
    }
    assert_eq!(upkeep.compact_once().await.unwrap().unwrap().inputs, 3);
    assert!(lake.files().await.iter().any(|f| f.path == victim));
    std::fs::write(&path, good).unwrap();
    assert!(is_exact(folder.path(), "k", 32).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_finds_every_flipped_bit() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, "k", 0, 200).await.unwrap();
    append(&lake, "k", 200, 300).await.unwrap();
    let upkeep = Upkeep::new(lake.clone(), UpkeepSettings { inputs_min: 2, ..UpkeepSettings::default() });
    upkeep.compact_once().await.unwrap().unwrap();
    append(&lake, "k", 300, 400).await.unwrap();
    let mut calls = 0;
    let whole = upkeep.scrub(|_| calls += 1).await.unwrap();
    assert_eq!((whole.files, whole.without_digest, whole.damaged.len(), calls), (2, 0, 0, 2));
    for file in lake.files().await {
        let path = folder.path().join("records").join(&file.path);
        let good = std::fs::read(&path).unwrap();
        for n in 0..40 {
            flip(&path, n * 7919 + 13);
            let found = upkeep.scrub(|_| {}).await.unwrap();
            assert_eq!(found.damaged.iter().map(|d| &d.path).collect::<Vec<_>>(), [&file.path], "bit {n}");
            std::fs::write(&path, &good).unwrap();
        }
        std::fs::write(&path, &good[..good.len() - 1]).unwrap();
        assert_eq!(upkeep.scrub(|_| {}).await.unwrap().damaged.len(), 1);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(upkeep.scrub(|_| {}).await.unwrap().damaged.len(), 1);
        std::fs::write(&path, &good).unwrap();
    }
}

/// Files of older builds have no digest: rows and bounds are held against the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_reads_files_without_a_digest() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    let mut file = write(&lake, "k", 0, 100).await;
    file.digest = None;
    lake.commit(vec![file.clone()], vec![range("k", 0, 100)], serde_json::Map::new()).await.unwrap();
    let upkeep = Upkeep::new(lake.clone(), UpkeepSettings::default());
    let found = upkeep.scrub(|_| {}).await.unwrap();
    assert_eq!((found.without_digest, found.damaged.len()), (1, 0));
    // Other rows in as many bytes cannot be made by hand; other rows of another size can, and a footer that lies.
    let path = folder.path().join("records").join(&file.path);
    let good = std::fs::read(&path).unwrap();
    let end = good.len();
    for length in [0u32, 1, 40, 0x7fff_ffff, u32::MAX] {
        let mut bytes = good.clone();
        bytes[end - 8..end - 4].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(upkeep.scrub(|_| {}).await.unwrap().damaged.len(), 1, "a footer of {length} bytes");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_made_for_their_owner_alone() {
    use crate::store::Access;
    use std::os::unix::fs::PermissionsExt;
    let modes = async |access| {
        let folder = tempdir().unwrap();
        let root = folder.path().join("lake");
        let lake = open_with(&root, &StoreOptions { access, ..StoreOptions::default() }).await;
        append(&lake, "k", 0, 8).await.unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let data = data_files(&root).remove(0);
        let log = root.join("records/_delta_log");
        assert_eq!((mode(&root.join("_catena")), mode(&root.join("_catena/secret.key"))), (0o700, 0o600));
        (
            mode(&root),
            mode(&data),
            mode(data.parent().unwrap()),
            mode(&log),
            mode(&log.join("00000000000000000001.json")),
        )
    };
    assert_eq!(modes(Access::Owner).await, (0o700, 0o600, 0o700, 0o700, 0o600));
    let group = modes(Access::Group).await;
    // The umask of whoever runs this may take the group out again.
    assert!([(0o750, 0o640, 0o750, 0o750, 0o640), (0o700, 0o600, 0o700, 0o700, 0o600)].contains(&group), "{group:?}");
    let folder = tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let _intake = crate::intake::Intake::open(folder.path(), crate::intake::Settings::default()).unwrap();
    assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
}
