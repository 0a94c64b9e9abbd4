//! Judges a lake without the product: reads the Delta log as JSON and the data files as Parquet, and nothing else.
//!
//! Invariants checked:
//! - versions are contiguous from 0; the position of a source never runs backwards;
//! - a commit moves a source from where the last one left it over exactly the offsets whose rows it adds;
//! - every (topic, partition, offset) below the positions stands in exactly one row of class decision, reject or aside.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What a lake holds.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Newest version.
    pub version: u64,
    /// Position of each source.
    pub positions: BTreeMap<String, i64>,
    /// Rows by class.
    pub rows: BTreeMap<String, u64>,
    /// Rows marked as duplicates.
    pub duplicates: u64,
    /// What is wrong, at most [`COMPLAINTS_MAX`] of them.
    pub complaints: Vec<String>,
    /// Event id of each offset, by source; empty text for rows without one.
    pub ids: BTreeMap<String, Vec<Option<String>>>,
    /// When each version was written, in milliseconds since the epoch by its writer's clock.
    pub written: Vec<i64>,
    /// Event times of a version's rows, in microseconds; only kept on request.
    pub times: Vec<(u64, Vec<i64>)>,
}

/// Complaints that are kept.
pub const COMPLAINTS_MAX: usize = 20;

impl Verdict {
    fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what);
        }
    }

    /// Rows of all classes.
    pub fn total(&self) -> u64 {
        self.rows.values().sum()
    }

    /// Compares with what the producer was told: per partition the ids in order of offset.
    pub fn compare(&mut self, app: &str, sent: &[Option<String>]) {
        let held = self.ids.remove(app).unwrap_or_default();
        if held.len() != sent.len() {
            self.complain(format!("{app}: {} offsets in the lake, {} in kafka", held.len(), sent.len()));
        }
        for (offset, (held, sent)) in held.iter().zip(sent).enumerate() {
            match (held, sent) {
                (None, _) => self.complain(format!("{app} {offset}: missing")),
                (Some(held), Some(sent)) if held != sent => {
                    self.complain(format!("{app} {offset}: holds {held}, sent was {sent}"))
                }
                _ => {}
            }
        }
        self.ids.insert(app.to_owned(), held);
    }
}

/// The newest position of every source, or nothing while there is no log.
pub fn positions(lake: &Path) -> BTreeMap<String, i64> {
    let mut positions = BTreeMap::new();
    for (_, path) in commits(lake) {
        for action in actions(&path) {
            if let Some(txn) = action.get("txn") {
                positions.insert(text(txn, "appId"), txn["version"].as_i64().unwrap_or(-1));
            }
        }
    }
    positions
}

/// Data files that no commit names: written by somebody who died, or was refused.
pub fn orphans(lake: &Path) -> usize {
    let added = |action: &Value| action.get("add").map(|add| unescape(&text(add, "path")));
    let named: HashSet<String> =
        commits(lake).iter().flat_map(|(_, path)| actions(path)).filter_map(|action| added(&action)).collect();
    let root = lake.join("records");
    let mut folders = vec![root.clone()];
    let mut orphans = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                let name = path.strip_prefix(&root).expect("found below it").to_string_lossy();
                orphans += usize::from(!named.contains(&*name));
            }
        }
    }
    orphans
}

/// Reads the whole lake. `times` asks for event times of every version.
pub fn judge(lake: &Path, times: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let mut next = 0;
    for (version, path) in commits(lake) {
        if version != next {
            verdict.complain(format!("version {next} is missing before {version}"));
        }
        next = version + 1;
        verdict.version = version;
        commit(lake, version, &actions(&path), times, &mut verdict);
    }
    for (app, ids) in &verdict.ids.clone() {
        let missing = ids.iter().filter(|id| id.is_none()).count();
        if missing > 0 {
            let first = ids.iter().position(Option::is_none).unwrap_or_default();
            verdict.complain(format!("{app}: {missing} offsets without a row, the first is {first}"));
        }
    }
    verdict
}

fn commit(lake: &Path, version: u64, actions: &[Value], times: bool, verdict: &mut Verdict) {
    let before = verdict.positions.clone();
    // Offsets whose rows this commit adds, by source.
    let mut added: BTreeMap<String, u64> = BTreeMap::new();
    let mut apps: BTreeMap<(String, i32), String> = BTreeMap::new();
    for txn in actions.iter().filter_map(|a| a.get("txn")) {
        let (app, to) = (text(txn, "appId"), txn["version"].as_i64().unwrap_or(-1));
        let from = before.get(&app).copied();
        if from.is_some_and(|from| to < from) {
            verdict.complain(format!("version {version}: {app} runs back from {from:?} to {to}"));
        }
        if let Some((rest, partition)) = app.rsplit_once('/')
            && let Some((topic, _)) = rest.rsplit_once('/').and_then(|(_, t)| t.rsplit_once('@'))
            && let Ok(partition) = partition.parse()
        {
            apps.insert((topic.to_owned(), partition), app.clone());
        }
        verdict.positions.insert(app, to);
    }
    verdict.written.push(
        actions.iter().find_map(|a| a.get("commitInfo")).and_then(|i| i["timestamp"].as_i64()).unwrap_or_default(),
    );
    let mut decided = Vec::new();
    for add in actions.iter().filter_map(|a| a.get("add")) {
        let path = unescape(&text(add, "path"));
        let class = text(&add["partitionValues"], "class");
        let rows = match rows(&lake.join("records").join(&path), times) {
            Ok(rows) => rows,
            Err(e) => {
                verdict.complain(format!("version {version}: {path}: {e}"));
                continue;
            }
        };
        *verdict.rows.entry(class).or_default() += rows.len() as u64;
        for row in rows {
            decided.extend(row.time);
            verdict.duplicates += u64::from(row.duplicate);
            let Some(app) = apps.get(&(row.topic.clone(), row.partition)) else {
                verdict
                    .complain(format!("version {version}: rows of {}/{} without a position", row.topic, row.partition));
                continue;
            };
            let (from, to) = (before.get(app).copied().unwrap_or(0), verdict.positions[app]);
            if row.offset < from || row.offset >= to {
                verdict.complain(format!("version {version}: {app} holds offset {} outside {from}..{to}", row.offset));
            }
            *added.entry(app.clone()).or_default() += 1;
            let ids = verdict.ids.entry(app.clone()).or_default();
            let at = row.offset as usize;
            if ids.len() <= at {
                ids.resize(at + 1, None);
            }
            let again = ids[at].replace(row.id).is_some();
            if again {
                verdict.complain(format!("version {version}: {app} offset {at} stands in the lake already"));
            }
        }
    }
    if times {
        verdict.times.push((version, decided));
    }
    for app in apps.values() {
        let (from, to) = (before.get(app).copied(), verdict.positions[app]);
        let rows = added.get(app).copied().unwrap_or(0) as i64;
        // The first commit of a source only says where it begins.
        if let Some(from) = from
            && to - from != rows
        {
            verdict.complain(format!("version {version}: {app} moves from {from} to {to} with {rows} rows"));
        }
    }
}

struct Row {
    topic: String,
    partition: i32,
    offset: i64,
    id: String,
    duplicate: bool,
    time: Option<i64>,
}

fn rows(path: &Path, times: bool) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let mut names = vec!["topic", "partition", "offset", "event_id", "duplicate"];
    if times {
        names.push("time");
    }
    let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
    let mut rows = Vec::new();
    for batch in builder.with_projection(mask).with_batch_size(16_384).build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`"));
        let topics = arrow_cast_text(column("topic")?)?;
        let ids = arrow_cast_text(column("event_id")?)?;
        let partitions = column("partition")?.as_primitive::<Int32Type>();
        let offsets = column("offset")?.as_primitive::<Int64Type>();
        let duplicates = column("duplicate")?.as_boolean();
        let decided = match times {
            true => Some(column("time")?.as_primitive::<arrow_array::types::TimestampMicrosecondType>()),
            false => None,
        };
        for row in 0..batch.num_rows() {
            rows.push(Row {
                topic: topics[row].clone().unwrap_or_default(),
                partition: partitions.value(row),
                offset: offsets.value(row),
                id: ids[row].clone().unwrap_or_default(),
                duplicate: !arrow_array::Array::is_null(duplicates, row) && duplicates.value(row),
                time: decided.filter(|d| !arrow_array::Array::is_null(*d, row)).map(|d| d.value(row)),
            });
        }
    }
    Ok(rows)
}

/// Text of a column, however it is laid out.
fn arrow_cast_text(column: &arrow_array::ArrayRef) -> Result<Vec<Option<String>>, String> {
    let strings = column.as_string_opt::<i32>().ok_or_else(|| format!("text stored as {}", column.data_type()))?;
    Ok(strings.iter().map(|s| s.map(str::to_owned)).collect())
}

fn commits(lake: &Path) -> Vec<(u64, PathBuf)> {
    let Ok(entries) = fs::read_dir(lake.join("records/_delta_log")) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
            Some((version, path))
        })
        .collect();
    found.sort_unstable();
    found
}

fn actions(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", path.display())))
        .collect()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Undoes URL encoding.
fn unescape(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (
            bytes[at],
            bytes
                .get(at + 1..at + 3)
                .and_then(|h| std::str::from_utf8(h).ok())
                .and_then(|h| u8::from_str_radix(h, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                at += 3;
            }
            (byte, _) => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
