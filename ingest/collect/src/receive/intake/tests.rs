//! From a body over HTTP to rows of a real lake.

use super::*;
use crate::intake::Settings as LogSettings;
use crate::receive::Keeper;
use crate::receive::http::{Answer, Auth, Bodies, Receiver, router};
use crate::store::{Durability, Fsync, StoreOptions};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use axum::http::Request;
use http_body_util::BodyExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;
use tower::ServiceExt;

fn now() -> Micros {
    Micros(1_755_698_591_000_000)
}

fn keeper(intake: Intake, secret: [u8; 32]) -> Arc<Keeper> {
    Arc::new(Keeper::new(intake, secret, &crate::worker::Settings::default(), now))
}

struct Node {
    intake: Intake,
    metrics: Arc<Metrics>,
    router: axum::Router,
}

impl Node {
    fn open(path: &Path, lake: &Lake) -> Node {
        let intake = Intake::open(path, LogSettings { partitions: 2, ..LogSettings::default() }).unwrap();
        let metrics = Arc::new(Metrics::default());
        let auth = Auth::new(&[], "acme").unwrap();
        let receiver = Receiver::new(keeper(intake.clone(), lake.secret()), auth, Bodies::default(), metrics.clone());
        Node { intake, metrics, router: router(Arc::new(receiver)) }
    }

    fn drain(&self, lake: &Arc<Lake>) -> Drain {
        let settings = Settings { flush_age: Duration::from_millis(50), ..Settings::default() };
        Drain::start(&self.intake, lake, &settings, &self.metrics, 2, &Handle::current()).unwrap()
    }

    async fn post(&self, body: String) -> Answer {
        until("the log takes records", || self.intake.is_aligned()).await;
        let request =
            Request::post("/ingest/v1/events").header("host", "localhost").body(axum::body::Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    async fn is_empty(&self) {
        until("the log is empty", || self.intake.stats().entries == 0).await;
    }
}

async fn until(what: &str, reached: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !reached() {
        assert!(Instant::now() < end, "waited for a minute: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn lake(dir: &TempDir) -> Arc<Lake> {
    Lake::open(dir.path().to_str().unwrap(), &StoreOptions::default()).await.unwrap()
}

fn events(ids: std::ops::Range<u32>) -> String {
    let event = |id| format!(r#"{{"id":"e{id}","time":"2025-08-20T14:03:11Z","decision":{{"verdict":"deny"}}}}"#);
    ids.map(event).collect::<Vec<_>>().join("\n")
}

/// Rows of a class: event id (or reason), partition, offset.
async fn rows(lake: &Lake, class: &str) -> Vec<(String, i32, i64)> {
    lake.positions().await.unwrap();
    let mut found = Vec::new();
    for file in lake.files().await {
        if file.partition["class"] != class {
            continue;
        }
        let bytes = lake.get(&file.path).await.unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().clone();
            let (name, partition, offset) = (
                column(if class == "decision" { "event_id" } else { "reject_reason" }),
                column("partition"),
                column("offset"),
            );
            let (name, partition) = (name.as_string::<i32>(), partition.as_primitive::<Int32Type>());
            let offset = offset.as_primitive::<Int64Type>();
            found.extend((0..name.len()).map(|i| (name.value(i).to_owned(), partition.value(i), offset.value(i))));
        }
    }
    found.sort();
    found
}

/// Asserts that the lake holds these ids and nothing else, each at a place of its own.
async fn check(lake: &Lake, ids: std::ops::Range<u32>) {
    let rows = rows(lake, "decision").await;
    let found: Vec<_> = rows.iter().map(|(id, ..)| id.clone()).collect();
    let mut expected: Vec<_> = ids.map(|id| format!("e{id}")).collect();
    expected.sort();
    assert_eq!(found, expected);
    let places: BTreeSet<_> = rows.iter().map(|(_, partition, offset)| (partition, offset)).collect();
    assert_eq!(places.len(), rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_lands_once_and_the_log_empties() {
    let (dir, log) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let lake = lake(&dir).await;
    let node = Node::open(log.path(), &lake);
    let drain = node.drain(&lake);
    for i in 0..20 {
        let body = format!("{}\nnot json\n{}", events(i * 10..i * 10 + 5), events(i * 10 + 5..i * 10 + 10));
        let answer = node.post(body).await;
        assert_eq!((answer.accepted, answer.rejected), (10, 1));
    }
    node.is_empty().await;
    check(&lake, 0..200).await;
    assert_eq!(rows(&lake, "reject").await.len(), 20);
    assert_eq!(node.metrics.unaccounted("http"), 0);
    let text = node.metrics.encode();
    assert!(text.contains("catena_received_total{source=\"http\"} 220"), "{text}");
    assert!(text.contains("catena_rejected_total{source=\"http\"} 20"), "{text}");
    assert_eq!(drain.check()(), None);
    drain.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goes_on_where_the_lake_stands() {
    let (dir, log, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let lake = lake(&dir).await;
    // Taken, and stopped before anything was drained.
    let node = Node::open(log.path(), &lake);
    (0..2).for_each(|p| node.intake.align(p, 0).unwrap());
    for i in 0..4 {
        node.post(events(i * 10..i * 10 + 10)).await;
    }
    drop(node);
    copy_folder(log.path(), copy.path());
    let node = Node::open(log.path(), &lake);
    let drain = node.drain(&lake);
    node.is_empty().await;
    drain.stop().await;
    drop(node);
    check(&lake, 0..40).await;
    // The same log as before the drain, as after a crash between commit and removal, or from a backup.
    let node = Node::open(copy.path(), &lake);
    assert_eq!(node.intake.stats().entries, 40);
    let drain = node.drain(&lake);
    node.is_empty().await;
    node.post(events(40..50)).await;
    node.is_empty().await;
    check(&lake, 0..50).await;
    drain.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_under_the_same_identity_stops_and_keeps_its_records() {
    let (dir, log, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let lake = lake(&dir).await;
    drop(Node::open(log.path(), &lake));
    copy_folder(log.path(), copy.path());
    let (first, second) = (Node::open(log.path(), &lake), Node::open(copy.path(), &lake));
    assert_eq!(first.intake.node(), second.intake.node());
    let (drain_first, drain_second) = (first.drain(&lake), second.drain(&lake));
    until("both are aligned", || first.intake.is_aligned() && second.intake.is_aligned()).await;
    for i in 0..2 {
        first.post(events(i * 10..i * 10 + 10)).await;
    }
    first.is_empty().await;
    for i in 2..4 {
        second.post(events(i * 10..i * 10 + 7)).await;
    }
    let trouble = drain_second.check();
    until("the second says that it stands still", || trouble().is_some()).await;
    let text = trouble().unwrap();
    assert!(text.contains("another node works under the same identity"), "{text}");
    until("both partitions stand still", || second.metrics.encode().contains("kind=\"fenced\"")).await;
    drain_second.stop().await;
    assert_eq!(second.intake.stats().entries, 14, "acknowledged records were removed");
    check(&lake, 0..20).await;
    drain_first.stop().await;
}

/// A disk under the lake that fails when told to.
#[derive(Debug, Default)]
struct Moody(AtomicBool);

impl Durability for Moody {
    fn file(&self, path: &Path, file: &File) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::Error::other("told to fail")) } else { Fsync.file(path, file) }
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        Fsync.folder(path)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failing_lake_refused_lands_once_it_is_back() {
    let (dir, log) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let moody = Arc::new(Moody::default());
    let options = StoreOptions { durability: moody.clone(), ..StoreOptions::default() };
    let lake = Lake::open(dir.path().to_str().unwrap(), &options).await.unwrap();
    let node = Node::open(log.path(), &lake);
    let drain = node.drain(&lake);
    until("the log takes records", || node.intake.is_aligned()).await;
    moody.0.store(true, Ordering::Relaxed);
    for i in 0..6 {
        node.post(events(i * 10..i * 10 + 10)).await;
    }
    until("a flush failed", || node.metrics.encode().contains("catena_flush_failures_total")).await;
    assert_eq!(node.intake.stats().entries, 60, "removed although nothing landed");
    moody.0.store(false, Ordering::Relaxed);
    node.is_empty().await;
    check(&lake, 0..60).await;
    assert_eq!(node.metrics.unaccounted("http"), 0);
    drain.stop().await;
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
