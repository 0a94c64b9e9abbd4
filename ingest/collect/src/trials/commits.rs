//! Commits: fenced, contended, unknown, late, stale.

use super::chaos::{Chaos, Lie};
use super::*;
use crate::store::Fsync;
use crate::upkeep::{Upkeep, UpkeepSettings};
use serde_json::Map;
use std::sync::atomic::AtomicBool;
use tempfile::tempdir;

/// Plays a script: `writer: app from..to [app from..to] -> version` or `-> fenced at position`. Each writer has a lake of
/// its own, opened before the first line.
async fn check(script: &str) {
    let folder = tempdir().unwrap();
    let mut lakes = BTreeMap::new();
    for name in script.lines().filter_map(|l| l.split_once(':')) {
        lakes.insert(name.0.trim().to_owned(), open(folder.path()).await);
    }
    let mut files = 0;
    for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (writer, rest) = line.split_once(':').unwrap();
        let (ranges, want) = rest.split_once("->").unwrap();
        let words: Vec<&str> = ranges.split_whitespace().collect();
        let ranges = words
            .chunks(2)
            .map(|pair| {
                let (from, to) = pair[1].split_once("..").unwrap();
                range(pair[0], from.parse().unwrap(), to.parse().unwrap())
            })
            .collect();
        files += 1;
        let got = match lakes[writer].commit(vec![paper(files)], ranges, Map::new()).await {
            Ok(c) => c.version.to_string(),
            Err(CommitError::Fenced { found, .. }) => {
                format!("fenced at {}", found.map_or("nothing".into(), |p| p.to_string()))
            }
            Err(e) => e.to_string(),
        };
        assert_eq!(got, want.trim(), "{line}");
        let landed = script.lines().map(str::trim).take_while(|l| *l != line).chain([line]);
        let landed = landed.filter(|l| l.rsplit(' ').nth(1) == Some("->")).count();
        assert_eq!(open(folder.path()).await.files().await.len(), landed, "a refused commit adds nothing: {line}");
    }
}

#[tokio::test]
async fn a_range_lands_only_where_the_last_ended() {
    check(
        "
        a: k 0..10 -> 1
        b: k 0..10 -> fenced at 10
        b: k 10..15 -> 2
        a: k 10..20 -> fenced at 15
        a: k 15..20 l 0..3 -> 3
        b: k 20..25 l 0..3 -> fenced at 3
        b: k 19..25 -> fenced at 20
        b: m 5..6 -> fenced at nothing
        b: k 20..25 k 25..30 -> 4
        a: k 30..35 k 34..36 -> fenced at 35
        a: k 30..29 -> range 30..29 of `k` runs backwards
        a: k 30..30 -> 5
        ",
    )
    .await;
}

#[tokio::test]
async fn a_source_begins_where_it_says() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    let began = |from, to| Range { app: "k".into(), from, to, start: 100 };
    assert_eq!(lake.position("k").await.unwrap(), None);
    assert!(matches!(
        lake.commit(vec![], vec![began(0, 5)], Map::new()).await,
        Err(CommitError::Fenced { found: None, .. })
    ));
    lake.commit(vec![], vec![began(100, 105)], Map::new()).await.unwrap();
    assert_eq!(open(folder.path()).await.position("k").await.unwrap(), Some(105));
}

/// Two committers that both believe they own a source. True if its rows are exact afterwards.
async fn two_owners(compare: bool) -> bool {
    let folder = tempdir().unwrap();
    let (a, b) = (open(folder.path()).await, open(folder.path()).await);
    for lake in [&a, &b] {
        lake.records().faults.accept_any_position.store(!compare, Ordering::Relaxed);
    }
    let (mut at, mut refused) = ([0, 0], 0);
    for turn in 0..12 {
        let (who, lake) = if turn % 3 == 0 { (0, &a) } else { (1, &b) };
        match append(lake, "k", at[who], at[who] + 7).await {
            Ok(_) => at[who] += 7,
            Err(CommitError::Fenced { .. }) => {
                refused += 1;
                at[who] = lake.position("k").await.unwrap().unwrap();
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(refused > 0, compare);
    let end = a.position("k").await.unwrap().unwrap();
    is_exact(folder.path(), "k", end).await
}

#[tokio::test]
async fn a_zombie_adds_nothing() {
    assert!(two_owners(true).await);
}

#[tokio::test]
async fn without_compare_and_set_rows_come_twice() {
    assert!(!two_owners(false).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_land_every_commit() {
    const WRITERS: usize = 8;
    const COMMITS: i64 = 250;
    let folder = tempdir().unwrap();
    let tasks: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let folder = folder.path().to_owned();
            tokio::spawn(async move {
                let (lake, app) = (open(&folder).await, format!("k{writer}"));
                let mut landed = Vec::new();
                for n in 0..COMMITS {
                    let done = lake.commit(vec![paper(n)], vec![range(&app, n, n + 1)], Map::new()).await.unwrap();
                    landed.push(done.version);
                }
                landed
            })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        versions.extend(task.await.unwrap());
    }
    versions.sort_unstable();
    assert_eq!(versions, (1..=WRITERS as u64 * COMMITS as u64).collect::<Vec<_>>());
    let lake = open(folder.path()).await;
    let positions = lake.positions().await.unwrap();
    assert_eq!(positions, (0..WRITERS).map(|w| (format!("k{w}"), COMMITS)).collect());
    assert_eq!(lake.files().await.iter().map(|f| f.rows).sum::<u64>(), versions.len() as u64);
}

/// A commit through a store that lies: what the committer says, and how many files a fresh reader then sees.
async fn lied_to(lies: &[Lie]) -> (String, usize) {
    let folder = tempdir().unwrap();
    let mut chaos = None;
    let lake = open_through(folder.path(), |s| {
        let (store, handle) = Chaos::over(s);
        chaos = Some(handle);
        store
    })
    .await;
    chaos.unwrap().tell(lies);
    let outcome = match lake.commit(vec![paper(1)], vec![range("k", 0, 1)], Map::new()).await {
        Ok(c) => c.version.to_string(),
        Err(e) => e.to_string(),
    };
    (outcome, open(folder.path()).await.files().await.len())
}

#[tokio::test]
async fn an_unknown_outcome_is_found_out() {
    use Lie::*;
    let once = |v: &str| (v.to_owned(), 1);
    assert_eq!(lied_to(&[LandsAndFails]).await, once("1"));
    assert_eq!(lied_to(&[Fails, Fails, Fails]).await, once("1"));
    assert_eq!(lied_to(&[Fails, LandsAndFails]).await, once("1"));
    let silent = vec![Fails; 1000];
    assert_eq!(lied_to(&silent).await, ("could not commit version 1 of records".into(), 0));
    assert_eq!(lied_to(&[Refused]).await, ("could not commit version 1 of records".into(), 0));
}

/// A commit that is on its way while another process takes over. True if the rows are exact in the end.
async fn late(arrives_first: bool, moves_on: bool) -> bool {
    let folder = tempdir().unwrap();
    let mut chaos = None;
    let dying = open_through(folder.path(), |s| {
        let (store, handle) = Chaos::over(s);
        chaos = Some(handle);
        store
    })
    .await;
    let chaos = chaos.unwrap();
    append(&dying, "k", 0, 5).await.unwrap();
    dying.records().faults.move_on_when_unknown.store(moves_on, Ordering::Relaxed);
    chaos.tell(&vec![Lie::Held; if moves_on { 1 } else { 1000 }]);
    let outcome = append(&dying, "k", 5, 10).await;
    assert_eq!(outcome.is_ok(), moves_on, "{outcome:?}");
    chaos.lies.lock().clear();
    if moves_on {
        // The first write never arrives: there is no version 2 below version 3, and no way to read on.
        return Lake::open(folder.path().to_str().unwrap(), &StoreOptions::default()).await.is_ok();
    }
    let successor = open(folder.path()).await;
    assert_eq!(successor.position("k").await.unwrap(), Some(5));
    if arrives_first {
        assert_eq!(chaos.release().await, 1, "the late write takes version 2, once");
    }
    let taken_over = append(&successor, "k", 5, 10).await;
    assert_eq!(matches!(taken_over, Err(CommitError::Fenced { found: Some(10), .. })), arrives_first);
    if !arrives_first {
        assert_eq!(chaos.release().await, 0, "the late write finds its version taken");
    }
    append(&successor, "k", 10, 12).await.unwrap();
    // The first process lives, and learns where things stand.
    assert!(matches!(append(&dying, "k", 5, 10).await, Err(CommitError::Fenced { found: Some(12), .. })));
    is_exact(folder.path(), "k", 12).await
}

#[tokio::test]
async fn a_late_write_lands_once_or_not_at_all() {
    assert!(late(true, false).await);
    assert!(late(false, false).await);
}

#[tokio::test]
async fn moving_on_from_an_unknown_outcome_is_caught() {
    assert!(!late(true, true).await);
}

/// A process sleeps while others go on, write a checkpoint and clean the log up; then it commits. True if every commit
/// that was acknowledged is in the table.
async fn asleep(trusting: bool) -> bool {
    let folder = tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let options = StoreOptions { clock: clock.clone(), ..StoreOptions::default() };
    let sleeper = open_with(folder.path(), &options).await;
    append(&sleeper, "s", 0, 3).await.unwrap();
    let awake = open_with(folder.path(), &options).await;
    for n in 0..6 {
        append(&awake, "k", n, n + 1).await.unwrap();
    }
    let upkeep = Upkeep::new(awake.clone(), UpkeepSettings::default());
    upkeep.checkpoint_once().await.unwrap().unwrap();
    clock.forward(8 * DAY);
    assert_eq!(upkeep.cleanup_once().await.unwrap().commits, 7);
    append(&awake, "k", 6, 7).await.unwrap();
    sleeper.records().faults.trust_old_head.store(trusting, Ordering::Relaxed);
    append(&sleeper, "s", 3, 6).await.unwrap();
    is_exact(folder.path(), "s", 6).await && is_exact(folder.path(), "k", 7).await
}

#[tokio::test]
async fn an_old_head_is_checked_before_it_is_built_on() {
    assert!(asleep(false).await);
}

#[tokio::test]
async fn trusting_an_old_head_loses_a_commit() {
    assert!(!asleep(true).await);
}

#[tokio::test]
async fn others_additions_are_told_once() {
    let folder = tempdir().unwrap();
    let (a, b) = (open(folder.path()).await, open(folder.path()).await);
    append(&a, "k", 0, 3).await.unwrap();
    append(&b, "l", 0, 3).await.unwrap();
    append(&a, "k", 3, 6).await.unwrap();
    let rows = |files: Vec<DataFile>| files.iter().map(|f| f.rows).collect::<Vec<_>>();
    assert_eq!(rows(a.take_foreign().await), [3]);
    assert_eq!(rows(a.take_foreign().await), [0; 0]);
    b.position("k").await.unwrap();
    assert_eq!(rows(b.take_foreign().await), [3, 3]);
}

/// fsync that fails after a name was given.
#[derive(Debug)]
struct Sick(AtomicBool);

impl crate::store::Durability for Sick {
    fn file(&self, path: &Path, file: &std::fs::File) -> std::io::Result<()> {
        Fsync.file(path, file)
    }

    fn folder(&self, path: &Path) -> std::io::Result<()> {
        match self.0.load(Ordering::Relaxed) && path.ends_with("_delta_log") {
            true => Err(std::io::Error::other("input/output error")),
            false => Fsync.folder(path),
        }
    }
}

#[tokio::test]
async fn a_commit_that_is_there_but_not_durable_is_not_acknowledged() {
    let folder = tempdir().unwrap();
    let sick = Arc::new(Sick(AtomicBool::new(false)));
    let options = StoreOptions { durability: sick.clone(), ..StoreOptions::default() };
    let store = Store::open(folder.path().to_str().unwrap(), &options).unwrap();
    let patience = Patience { unknown_max: Duration::from_millis(200), pause_max: Duration::from_millis(10) };
    let lake = Lake::open_store(store, "trial", &options, patience).await.unwrap();
    sick.0.store(true, Ordering::Relaxed);
    let refused = append(&lake, "k", 0, 3).await.unwrap_err();
    assert_eq!(refused.to_string(), "could not commit version 1 of records");
    sick.0.store(false, Ordering::Relaxed);
    // It was there all along, and is found; so the second try is fenced.
    assert!(matches!(append(&lake, "k", 0, 3).await, Err(CommitError::Fenced { found: Some(3), .. })));
    assert!(is_exact(folder.path(), "k", 3).await);
}
