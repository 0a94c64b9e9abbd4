//! The intake log against a plain list, and against kills, full disks and other processes.

use super::*;
use catena_decode::Format;
use catena_schemas::Micros;
use proptest::prelude::*;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(path: &Path, settings: Settings) -> Intake {
    let intake = Intake::open(path, settings).unwrap();
    for partition in 0..intake.partitions() {
        intake.align(partition, 0).unwrap();
    }
    intake
}

fn one() -> Settings {
    Settings { partitions: 1, ..Settings::default() }
}

fn batch(ids: impl IntoIterator<Item = u64>) -> Batch {
    let mut batch = Batch::new("acme", Micros(1));
    for id in ids {
        batch.event(Format::Catena, |out| out.extend(id.to_string().as_bytes()));
    }
    batch
}

/// (offset, id) of everything in a partition from an offset on.
fn all(intake: &Intake, partition: u16, from: u64) -> Vec<(u64, u64)> {
    let mut found = Vec::new();
    let mut at = from;
    loop {
        let blocks = intake.read(partition, at, 1000).unwrap();
        let Some(last) = blocks.last() else { return found };
        at = last.to;
        for record in blocks.iter().flat_map(Block::records) {
            let Body::Event(event) = record.body else { panic!("only events were written") };
            if record.offset >= from {
                found.push((record.offset, std::str::from_utf8(event).unwrap().parse().unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn keeps_what_it_acknowledged() {
    let dir = folder();
    let intake = open(dir.path(), one());
    assert_eq!(intake.append(batch(0..3)).await.unwrap(), Appended { partition: 0, from: 0, to: 3 });
    assert_eq!(intake.append(batch(3..4)).await.unwrap(), Appended { partition: 0, from: 3, to: 4 });
    assert_eq!(all(&intake, 0, 0), [(0, 0), (1, 1), (2, 2), (3, 3)]);
    assert_eq!(all(&intake, 0, 1), [(1, 1), (2, 2), (3, 3)], "from within a block");
    let node = intake.node();
    drop(intake);
    let intake = open(dir.path(), one());
    assert_eq!((intake.node(), intake.stats().entries), (node, 4));
    assert_eq!(all(&intake, 0, 3), [(3, 3)]);
}

#[tokio::test]
async fn offsets_are_never_used_twice() {
    let dir = folder();
    let intake = open(dir.path(), one());
    intake.append(batch(0..5)).await.unwrap();
    intake.truncate(0, 5).unwrap();
    assert_eq!((intake.stats().bytes, intake.stats().entries), (0, 0));
    drop(intake);
    let intake = open(dir.path(), one());
    assert_eq!(intake.append(batch([9])).await.unwrap().from, 5, "the emptied log was forgotten");
    // The lake holds more than this log ever gave: a copy from a backup.
    drop(intake);
    let intake = Intake::open(dir.path(), one()).unwrap();
    assert_eq!(intake.append(batch([9])).await, Err(AppendError::Starting));
    intake.align(0, 100).unwrap();
    assert_eq!(intake.append(batch([7])).await.unwrap().from, 100);
    assert_eq!(all(&intake, 0, 0), [(100, 7)]);
}

#[tokio::test]
async fn cuts_whole_blocks_only() {
    let dir = folder();
    let intake = open(dir.path(), one());
    intake.append(batch(0..3)).await.unwrap();
    intake.append(batch(3..6)).await.unwrap();
    intake.truncate(0, 4).unwrap();
    assert_eq!(all(&intake, 0, 0), [(3, 3), (4, 4), (5, 5)]);
    intake.truncate(0, 2).unwrap();
    intake.truncate(0, 1000).unwrap();
    assert_eq!((all(&intake, 0, 0), intake.stats().partitions), (vec![], vec![(6, 6)]));
}

#[tokio::test]
async fn refuses_when_full_and_takes_again() {
    let dir = folder();
    let intake = open(dir.path(), Settings { bytes_max: 2000, ..one() });
    let mut accepted = 0;
    let refused = loop {
        match intake.append(batch(0..20)).await {
            Ok(_) => accepted += 20,
            Err(e) => break e,
        }
    };
    assert!(matches!(refused, AppendError::Full { bytes_max: 2000, .. }), "{refused}");
    assert_eq!(all(&intake, 0, 0).len(), accepted);
    intake.truncate(0, accepted as u64).unwrap();
    intake.append(batch(0..20)).await.unwrap();
}

#[tokio::test]
async fn refuses_when_the_disk_is_low() {
    let dir = folder();
    let intake = open(dir.path(), Settings { free_bytes_min: u64::MAX, ..one() });
    assert!(matches!(intake.append(batch(0..1)).await, Err(AppendError::DiskLow { .. })));
    assert_eq!((all(&intake, 0, 0), intake.stats().bytes), (vec![], 0));
}

#[test]
fn one_process_has_the_folder() {
    let dir = folder();
    let first = open(dir.path(), one());
    let refused = Intake::open(dir.path(), one()).map(|_| ()).unwrap_err();
    assert!(
        matches!(refused, IntakeError::Locked { .. }) && refused.to_string().contains("in use by another process"),
        "{refused}"
    );
    drop(first);
    open(dir.path(), one());
}

#[test]
fn an_unfinished_store_is_made_anew() {
    for leave in ["0.jnl", "version"] {
        let dir = folder();
        std::fs::create_dir_all(dir.path().join("log")).unwrap();
        std::fs::write(dir.path().join("log").join(leave), b"").unwrap();
        open(dir.path(), one());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_share_one_fsync() {
    let dir = folder();
    let intake = open(dir.path(), Settings::default());
    let appends: Vec<_> = (0..400u64)
        .map(|i| {
            let intake = intake.clone();
            tokio::spawn(async move { intake.append(batch([i])).await.unwrap() })
        })
        .collect();
    for append in appends {
        append.await.unwrap();
    }
    let stats = intake.stats();
    assert_eq!((stats.appends, stats.entries), (400, 400));
    assert!(stats.syncs < 200, "{} fsyncs for 400 appends", stats.syncs);
    let mut ids: Vec<_> = (0..4).flat_map(|p| all(&intake, p, 0)).map(|(_, id)| id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..400).collect::<Vec<_>>());
}

#[tokio::test]
async fn fewer_partitions_lose_none() {
    let dir = folder();
    let intake = open(dir.path(), Settings { partitions: 3, ..Settings::default() });
    for id in 0..6 {
        intake.append(batch([id])).await.unwrap();
    }
    drop(intake);
    let intake = open(dir.path(), one());
    assert_eq!(intake.partitions(), 3);
    let mut ids: Vec<_> = (0..3).flat_map(|p| all(&intake, p, 0)).map(|(_, id)| id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3, 4, 5]);
    assert_eq!(intake.append(batch([6])).await.unwrap().partition, 0);
}

#[tokio::test]
async fn comes_back_after_a_failure() {
    let dir = folder();
    let intake = open(dir.path(), one());
    intake.append(batch(0..3)).await.unwrap();
    intake.shared.broken.store(true, Ordering::Relaxed);
    assert_eq!(intake.refusal(), Some(AppendError::Broken));
    let until = Instant::now() + Duration::from_secs(20);
    while intake.refusal().is_some() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(intake.append(batch([3])).await.unwrap().from, 3);
    assert_eq!(all(&intake, 0, 0), [(0, 0), (1, 1), (2, 2), (3, 3)]);
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Truncate(u64),
    Reopen,
    Read(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..30u64).prop_map(Step::Append),
        3 => (0..150u64).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
        3 => (0..150u64).prop_map(Step::Read),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Against a plain list: reads give everything from an offset on, and only what was cut is missing.
    #[test]
    fn behaves_like_a_list(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = folder();
        let mut intake = open(dir.path(), one());
        let (mut next, mut cut) = (0, 0);
        for step in steps {
            match step {
                Step::Append(n) => {
                    let appended = runtime.block_on(intake.append(batch(next..next + n))).unwrap();
                    prop_assert_eq!((appended.from, appended.to), (next, next + n));
                    next += n;
                }
                Step::Truncate(to) => {
                    intake.truncate(0, to).unwrap();
                    cut = cut.max(to.min(next));
                }
                Step::Reopen => {
                    drop(intake);
                    intake = open(dir.path(), one());
                }
                Step::Read(from) => {
                    let found = all(&intake, 0, from);
                    let expected: Vec<_> = (from.max(cut)..next).map(|i| (i, i)).collect();
                    prop_assert!(found.ends_with(&expected), "from {} of {}: {:?}", from, next, found);
                    prop_assert!(found.windows(2).all(|w| w[0].0 + 1 == w[1].0) && found.iter().all(|(o, id)| o == id));
                    prop_assert!(intake.stats().partitions[0].0 <= cut);
                }
            }
        }
    }
}

/// Not a check but a figure: run with `--ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn rate() {
    let dir = folder();
    let intake = open(dir.path(), Settings::default());
    let event = vec![b'x'; 1400];
    let (posts, per_post, clients) = (400u64, 500u64, 4u64);
    let began = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (intake, event) = (intake.clone(), event.clone());
            tokio::spawn(async move {
                for _ in 0..posts / clients {
                    let mut batch = Batch::new("acme", Micros(1));
                    for _ in 0..per_post {
                        batch.event(Format::Catena, |out| out.extend(&event));
                    }
                    intake.append(batch).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    let stats = intake.stats();
    eprintln!(
        "append: {:.0} events/s, {} fsyncs for {} appends",
        (posts * per_post) as f64 / took,
        stats.syncs,
        stats.appends
    );
    let began = Instant::now();
    let mut read = 0;
    for partition in 0..4 {
        let mut at = 0;
        loop {
            let blocks = intake.read(partition, at, 8 << 20).unwrap();
            let Some(last) = blocks.last() else { break };
            at = last.to;
            read += blocks.iter().map(|b| b.records().count()).sum::<usize>();
        }
    }
    eprintln!("read: {:.0} events/s", read as f64 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    for partition in 0..4 {
        intake.truncate(partition, u64::MAX).unwrap();
    }
    eprintln!(
        "truncate: {:.0} events/s, {} bytes wait",
        read as f64 / began.elapsed().as_secs_f64(),
        intake.stats().bytes
    );
}
