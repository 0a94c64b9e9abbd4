//! Small lakes, written by hand: Parquet of the schema's own rows, and the log as lines of JSON.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, LargeStringArray, RecordBatch};
use catena_schemas::authority::{Entry, EntryKind};
use catena_schemas::event::{Decision, Links, Requester, Server, Session, Source, Tool};
use catena_schemas::rows::{Place, Rejection, Rows};
use catena_schemas::table::{Class, PARTITIONS, RECORDS, delta_schema};
use catena_schemas::{Actor, Event, Micros, Outcome};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) const DAY: i64 = 86_400_000_000;
/// 2026-08-20T00:00:00Z.
pub(crate) const START: Micros = Micros(1_787_184_000_000_000);

/// A lake in a folder that goes away with it.
pub(crate) struct Lake {
    folder: TempDir,
    next: u64,
    files: u64,
}

/// Rows of one file: tenant, day of arrival and class are the same for all of them.
pub(crate) struct File<'a> {
    pub(crate) tenant: &'a str,
    /// Days after [`START`].
    pub(crate) day: i64,
    pub(crate) class: Class,
}

impl Lake {
    /// A folder with nothing in it.
    pub(crate) fn empty() -> Lake {
        Lake { folder: TempDir::new().expect("a temporary folder"), next: 0, files: 0 }
    }

    /// A table without rows.
    pub(crate) fn new() -> Lake {
        let mut lake = Lake::empty();
        lake.commit(&[
            json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
            json!({"metaData": {"id": "5f7a", "format": {"provider": "parquet", "options": {}}, "schemaString": delta_schema(),
                "partitionColumns": PARTITIONS, "configuration": {}, "createdTime": 0}}),
        ]);
        lake
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self) -> String {
        self.path().to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn table(&self) -> PathBuf {
        self.path().join(RECORDS)
    }

    pub(crate) fn entry(&self, version: u64) -> PathBuf {
        self.table().join(format!("_delta_log/{version:020}.json"))
    }

    pub(crate) fn commit(&mut self, actions: &[Value]) -> u64 {
        let lines: Vec<String> = actions.iter().map(Value::to_string).collect();
        fs::create_dir_all(self.table().join("_delta_log")).expect("a folder");
        fs::write(self.entry(self.next), lines.join("\n")).expect("an entry");
        self.next += 1;
        self.next - 1
    }

    /// Writes rows as one file and commits it.
    pub(crate) fn land(&mut self, file: &File<'_>, batch: &RecordBatch) -> String {
        let add = self.write(file, batch);
        let path = add["add"]["path"].as_str().expect("a path").to_owned();
        self.commit(&[add]);
        path
    }

    /// Writes rows as one file, and gives its log entry.
    pub(crate) fn write(&mut self, file: &File<'_>, batch: &RecordBatch) -> Value {
        let date = Micros(START.0 + file.day * DAY).date();
        self.files += 1;
        let folder = format!("tenant={}/ingest_date={date}/class={}", file.tenant, file.class.as_str());
        let path = format!("{folder}/part-{:04}.parquet", self.files);
        fs::create_dir_all(self.table().join(&folder)).expect("a folder");
        let out = fs::File::create(self.table().join(&path)).expect("a file");
        // Every other file is one of another tool.
        let (rows, properties) =
            if self.files.is_multiple_of(2) { (batch.clone(), None) } else { (large(batch), Some(in_crumbs())) };
        let mut writer = ArrowWriter::try_new(out, rows.schema(), properties).expect("a writer");
        writer.write(&rows).expect("rows");
        writer.close().expect("a footer");
        let size = fs::metadata(self.table().join(&path)).expect("its size").len();
        json!({"add": {"path": path, "size": size, "modificationTime": 0, "dataChange": true, "stats": stats(batch).to_string(),
            "partitionValues": {"tenant": file.tenant, "ingest_date": date, "class": file.class.as_str()}}})
    }

    /// Records of authority of one file: what each is, and its body.
    pub(crate) fn authority(&mut self, tenant: &str, day: i64, records: &[(EntryKind, &str)]) -> String {
        let mut rows = Rows::default();
        for (number, (kind, body)) in records.iter().enumerate() {
            let entry = Entry {
                kind: *kind,
                id: format!("r{number}").into(),
                time: START,
                source: Source::default(),
                body: (*body).into(),
                extra: None,
                flags: Vec::new(),
            };
            rows.push_authority(&entry, &place(tenant, day, number as i64));
        }
        self.land(&File { tenant, day, class: Class::Authority }, &rows.finish())
    }

    /// Executions of one file.
    pub(crate) fn executions(&mut self, tenant: &str, day: i64, events: &[Event<'_>]) -> String {
        self.land(&File { tenant, day, class: Class::Execution }, &decisions(tenant, day, events))
    }

    /// Decisions of one file.
    pub(crate) fn decisions(&mut self, tenant: &str, day: i64, events: &[Event<'_>]) -> String {
        self.land(&File { tenant, day, class: Class::Decision }, &decisions(tenant, day, events))
    }
}

/// The same rows as other tools write them: texts are large ones.
fn large(batch: &RecordBatch) -> RecordBatch {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        let texts = column.as_string_opt::<i32>();
        let large = texts.map(|texts| Arc::new(LargeStringArray::from_iter(texts.iter())) as ArrayRef);
        (field.name().clone(), large.unwrap_or_else(|| column.clone()), true)
    });
    RecordBatch::try_from_iter_with_nullable(columns).expect("the same rows")
}

/// Row groups of three rows, pages of one, and dictionaries that are given up after the first text.
fn in_crumbs() -> WriterProperties {
    WriterProperties::builder()
        .set_max_row_group_row_count(Some(3))
        .set_data_page_row_count_limit(1)
        .set_write_batch_size(1)
        .set_dictionary_page_size_limit(1)
        .build()
}

/// What the log says of a batch: time and session, as the collector writes them, cut to 8 characters.
fn stats(batch: &RecordBatch) -> Value {
    let (mut min, mut max, mut nulls) = (serde_json::Map::new(), serde_json::Map::new(), serde_json::Map::new());
    for name in ["event_id", "session", "tool"] {
        let Some(column) = batch.column_by_name(name) else { continue };
        nulls.insert(name.into(), column.null_count().into());
        let texts = || column.as_string::<i32>().iter().flatten();
        if let Some((low, high)) = texts().min().zip(texts().max()) {
            let cut = |s: &str| s.chars().take(8).collect::<String>();
            min.insert(name.into(), cut(low).into());
            max.insert(
                name.into(),
                if high.len() > 8 { format!("{}{}", cut(high), char::MAX) } else { high.to_owned() }.into(),
            );
        }
    }
    if let Some(column) = batch.column_by_name("time") {
        nulls.insert("time".into(), column.null_count().into());
        let times = || column.as_primitive::<TimestampMicrosecondType>().iter().flatten();
        if let Some((low, high)) = times().min().zip(times().max()) {
            min.insert("time".into(), Micros(low).to_rfc3339().into());
            max.insert("time".into(), Micros(high).to_rfc3339().into());
        }
    }
    json!({"numRecords": batch.num_rows(), "minValues": min, "maxValues": max, "nullCount": nulls})
}

pub(crate) fn place(tenant: &str, day: i64, offset: i64) -> Place<'_> {
    let ingest_time = Micros(START.0 + day * DAY + offset);
    Place { tenant, topic: "decisions", partition: 0, offset, format: "catena", redaction: "1", ingest_time }
}

pub(crate) fn decisions(tenant: &str, day: i64, events: &[Event<'_>]) -> RecordBatch {
    let mut rows = Rows::default();
    for (offset, event) in events.iter().enumerate() {
        rows.push(event, &place(tenant, day, offset as i64), event.flags.iter().any(|f| f == "again"));
    }
    rows.finish()
}

pub(crate) fn rejections(tenant: &str, day: i64, rejected: &[(&'static str, &[u8])]) -> RecordBatch {
    let mut rows = Rows::default();
    for (offset, (reason, raw)) in rejected.iter().enumerate() {
        let rejection = Rejection { reason, detail: format!("{reason} at byte 0"), raw: Some(raw.to_vec()), index: 0 };
        rows.push_rejection(&rejection, &place(tenant, day, offset as i64));
    }
    rows.finish()
}

/// Reads an event from words: `id minute outcome requester > actor > actor @session server/tool key=value ...`.
///
/// Keys: `parent`, `trace`, `span`, `request`, `by` (the producer), `status`, `reason`, `flag` (`again`: it was sent before), `params`,
/// `record`.
pub(crate) fn event(line: &str) -> Event<'_> {
    fn own(s: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(s))
    }
    let mut words = line.split_whitespace();
    let mut word = || words.next().unwrap_or_else(|| panic!("more words in `{line}`"));
    let (id, minute, outcome) = (word(), word(), word());
    let mut event = Event {
        id: id.into(),
        time: Micros(START.0 + minute.parse::<i64>().expect("a minute") * 60_000_000),
        decision: Decision { outcome: Outcome::parse(outcome).expect("an outcome"), ..Decision::default() },
        source: Source { kind: own("catena"), ..Source::default() },
        requester: Requester { id: own(word()), kind: own("human"), ..Requester::default() },
        ..Event::default()
    };
    let mut links = Links::default();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some(("parent", v)) => links.parent_decision = own(v),
            Some(("trace", v)) => links.trace = own(v),
            Some(("span", v)) => links.span = own(v),
            Some(("request", v)) => links.request = own(v),
            Some(("by", v)) => event.source.kind = own(v),
            Some(("status", v)) => event.call.http_status = v.parse().ok(),
            Some(("record", v)) => event.source.record = own(v),
            Some(("reason", v)) => event.decision.reasons.push(v.into()),
            Some(("params", v)) => event.call.params = own(v),
            Some(("flag", v)) => event.flags.push(v.into()),
            Some((key, _)) => panic!("no key `{key}`"),
            None if word == ">" => event.actors.push(Actor::named(words.next().expect("an actor"))),
            None if word.starts_with('@') => event.session = Session { id: own(&word[1..]), ..Session::default() },
            None => {
                let (server, tool) = word.split_once('/').expect("server/tool");
                event.server = Server { id: own(server), ..Server::default() };
                event.tool = Tool { name: own(tool), ..Tool::default() };
            }
        }
    }
    event.links = links;
    event
}

/// As [`event`], one per line.
pub(crate) fn events(lines: &str) -> Vec<Event<'_>> {
    lines.lines().map(str::trim).filter(|l| !l.is_empty()).map(event).collect()
}
