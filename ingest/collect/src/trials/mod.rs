//! Trials of the lake's writing side, on real files: what must hold when stores lie, processes die and others race. Each
//! protection is also switched off once, to see that its trial then fails.

mod chaos;
mod commits;
mod damage;
mod power;
mod tables;
mod upkeeps;

use crate::batch::{data_file, encode, writer_properties};
use crate::commit::{CommitError, Committed, DataFile, Patience, Range};
use crate::lake::Lake;
use crate::store::{Clock, Store, StoreOptions, SystemClock};
use arrow_array::Array;
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use catena_schemas::rows::{Place, Rows};
use catena_schemas::table::{Class, Field};
use catena_schemas::{Event, Micros};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// 2026-11-20T12:00:00Z.
const NOON: i64 = 1_795_176_000_000_000;
const TENANT: &str = "acme corp/eu";

/// The machine's clocks, and a hand that can turn them forward.
#[derive(Debug, Default)]
struct HandClock {
    machine: SystemClock,
    ahead_s: AtomicU64,
}

impl HandClock {
    fn forward(&self, by: Duration) {
        self.ahead_s.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    fn ahead(&self) -> Duration {
        Duration::from_secs(self.ahead_s.load(Ordering::Relaxed))
    }
}

impl Clock for HandClock {
    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + self.ahead()
    }

    fn wall(&self) -> Micros {
        Micros(self.machine.wall().0 + self.ahead().as_micros() as i64)
    }
}

const DAY: Duration = Duration::from_secs(86_400);

async fn open(folder: &Path) -> Arc<Lake> {
    Lake::open(folder.to_str().unwrap(), &StoreOptions::default()).await.unwrap()
}

async fn open_with(folder: &Path, options: &StoreOptions) -> Arc<Lake> {
    Lake::open(folder.to_str().unwrap(), options).await.unwrap()
}

/// Opens through a store of ours, and gives up on unknown outcomes quickly.
async fn open_through(folder: &Path, wrap: impl FnOnce(Store) -> Store) -> Arc<Lake> {
    let options = StoreOptions::default();
    let store = wrap(Store::open(folder.to_str().unwrap(), &options).unwrap());
    let patience = Patience { unknown_max: Duration::from_millis(300), pause_max: Duration::from_millis(20) };
    Lake::open_store(store, "trial", &options, patience).await.unwrap()
}

fn range(app: &str, from: i64, to: i64) -> Range {
    Range { app: app.into(), from, to, start: 0 }
}

/// Decisions at the offsets of one source, in sessions that interleave.
fn rows(app: &str, from: i64, to: i64) -> RecordBatch {
    let mut rows = Rows::default();
    for offset in from..to {
        let mut event = Event { id: format!("{app}-{offset}").into(), ..Event::default() };
        event.time = Micros(NOON + (offset * 7919 % 5000) * 1_000_000);
        event.session.id = (offset % 5 > 0).then(|| format!("session-{}", offset % 3).into());
        event.tool.name = Some(format!("tool-{}", offset % 11).into());
        event.requester.id = Some(format!("user-{}@corp.example", offset % 17).into());
        event.decision.reasons = vec!["scope_missing".into(), "é\u{0}".into()];
        let place = Place {
            tenant: TENANT,
            topic: app,
            partition: 0,
            offset,
            format: "catena",
            redaction: "1",
            ingest_time: Micros(NOON + offset),
        };
        rows.push(&event, &place, offset % 13 == 0);
    }
    rows.finish()
}

/// Writes rows as a data file.
async fn write(lake: &Lake, app: &str, from: i64, to: i64) -> DataFile {
    let batch = rows(app, from, to);
    let bytes = encode(&batch, &writer_properties(1)).unwrap();
    let file = data_file(&batch, &bytes, TENANT, Class::Decision, Micros(NOON));
    lake.put(&file.path, bytes.into()).await.unwrap();
    file
}

/// Writes and commits a range.
async fn append(lake: &Lake, app: &str, from: i64, to: i64) -> Result<Committed, CommitError> {
    let file = write(lake, app, from, to).await;
    lake.commit(vec![file], vec![range(app, from, to)], serde_json::Map::new()).await
}

/// A file that the log only is to know of.
fn paper(n: i64) -> DataFile {
    DataFile {
        path: format!("paper-{n}-{}.parquet", uuid::Uuid::new_v4()),
        size: 1,
        rows: 1,
        partition: BTreeMap::from([
            ("tenant".into(), "t".into()),
            ("ingest_date".into(), "2026-11-20".into()),
            ("class".into(), "decision".into()),
        ]),
        stats: r#"{"numRecords":1}"#.into(),
        digest: None,
        row_bytes: None,
    }
}

/// Offsets by source, as a fresh reader finds them in the files, with every column decoded.
async fn offsets(folder: &Path) -> BTreeMap<String, Vec<i64>> {
    let lake = open(folder).await;
    let mut found: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for file in lake.files().await {
        let batches = read(&lake, &file).await;
        assert_eq!(batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(), file.rows, "{}", file.path);
        for batch in batches {
            let topics = batch.column(Field::Topic as usize).as_string::<i32>();
            let numbers = batch.column(Field::Offset as usize).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                found.entry(topics.value(row).to_owned()).or_default().push(numbers.value(row));
            }
        }
    }
    found.values_mut().for_each(|v| v.sort_unstable());
    found
}

async fn read(lake: &Lake, file: &DataFile) -> Vec<RecordBatch> {
    let bytes = lake.get(&file.path).await.unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    reader.map(|b| b.unwrap()).collect()
}

/// Whether a source's offsets are 0 to `end`, each once.
async fn is_exact(folder: &Path, app: &str, end: i64) -> bool {
    offsets(folder).await.remove(app).unwrap_or_default() == (0..end).collect::<Vec<_>>()
}
