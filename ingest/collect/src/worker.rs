//! Decodes, buffers and flushes: what stands between a receiver and the lake.
//!
//! Guarantees: records of a partition are pushed in order of their offsets and leave in one flush, whole; a flush either
//! lands with all its ranges or leaves nothing; whatever a record holds, it becomes at least one row. The leaf of every
//! row is computed on the way, and the root over the leaves of a flush, in order of (source, offset), stands in its
//! commit, so that what is read back later can be held against what came in.

mod counts;
mod tenant;

pub use counts::Counts;

use crate::batch;
use crate::commit::{Change, CommitError, DataFile, Range};
use crate::duplicates::{Duplicates, Landing};
use crate::lake::{Lake, LakeError};
use crate::metrics::Standing;
use catena_decode::mapping::Mappings;
use catena_decode::redact::Rules;
use catena_decode::{Block, Context, Format, Sink};
use catena_evidence::tree::Accumulator;
use catena_schemas::Micros;
use catena_schemas::canonical;
use catena_schemas::rows::Rejection;
use catena_schemas::table::Class;
use parquet::file::properties::WriterProperties;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tenant::Tenant;
use tokio::sync::Semaphore;

/// When to flush.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Rows buffered.
    pub flush_rows: usize,
    /// Bytes of values buffered.
    pub flush_bytes: usize,
    /// Age of the oldest buffered record.
    pub flush_age: Duration,
    /// Where this collector runs, for the commit's record.
    pub collector: String,
    /// The memory of recent decisions, shared by the workers of a process.
    pub duplicates: Arc<Duplicates>,
    /// Mappings of free-form producers, in order of preference.
    pub mappings: Arc<Mappings>,
    /// What a site wants removed besides secrets of known shape.
    pub rules: Arc<Rules>,
    /// Hears of what landed.
    pub report: Report,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            flush_rows: batch::ROW_GROUP_ROWS,
            flush_bytes: 128 << 20,
            flush_age: Duration::from_secs(2),
            collector: String::new(),
            duplicates: Arc::default(),
            mappings: Mappings::shipped(),
            rules: Arc::default(),
            report: Report::default(),
        }
    }
}

/// One partition of one source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Partition {
    /// Delta application id under which its position is kept.
    pub app: String,
    /// Name in the `topic` column.
    pub topic: Arc<str>,
    /// Number in the `partition` column.
    pub number: i32,
    /// Where its source begins.
    pub start: i64,
}

/// One record as received.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// From authentication or the topic's settings.
    pub tenant: &'a str,
    /// Decoder to use.
    pub format: Format,
    /// Where it stands.
    pub offset: i64,
    /// Where the next one stands at the earliest.
    pub next: i64,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Kafka or HTTP headers.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// When it was received.
    pub received: Micros,
    /// Whether our own intake log wrote it.
    pub trusted: bool,
    /// Mappings that its source prefers to those of the settings.
    pub mappings: Option<&'a Arc<Mappings>>,
    /// Of a record that is read again, where and when it was at first.
    pub again: Option<Again<'a>>,
}

/// Where a record that is read again stood at first.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    /// Name in the `topic` column, instead of its partition's.
    pub topic: &'a str,
    /// When it was received then: the time of what names none.
    pub received: Micros,
}

/// A flush that landed.
#[derive(Clone, Debug)]
pub struct Landed {
    /// Version of the lake that holds it.
    pub version: u64,
    /// Next offset to read, by application id.
    pub positions: Vec<(String, i64)>,
    /// What it held.
    pub counts: Counts,
    /// Where its partitions stand.
    pub standings: Vec<Standing>,
}

/// Hears of every flush that landed, with the time it took. For figures.
#[derive(Clone, Default)]
pub struct Report(Option<Arc<Hear>>);

type Hear = dyn Fn(&Landed, Duration) + Send + Sync;

impl Report {
    /// To a closure.
    pub fn to(hear: impl Fn(&Landed, Duration) + Send + Sync + 'static) -> Report {
        Report(Some(Arc::new(hear)))
    }

    /// A flush landed.
    pub fn landed(&self, landed: &Landed, took: Duration) {
        if let Some(hear) = &self.0 {
            hear(landed, took);
        }
    }
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Report")
    }
}

/// A flush whose files are on their way to the disk and not yet in the lake: [`land`] waits for them. Dropping it loses
/// nothing but work.
#[derive(Debug)]
pub struct Sealed {
    /// Files.
    pub files: Vec<DataFile>,
    /// Makes the files durable, beside the work on the next flush.
    writing: tokio::task::JoinHandle<Result<(), FlushError>>,
    /// Offsets covered.
    pub ranges: Vec<Range>,
    /// What it holds.
    pub counts: Counts,
    /// Where its partitions stand afterwards.
    pub standings: Vec<Standing>,
    /// What sources keep beside their positions, as `txn` entries of the same commit.
    pub marks: Vec<(String, i64)>,
    info: serde_json::Map<String, serde_json::Value>,
    landing: Landing,
}

/// Why a flush did not land.
#[derive(Debug, thiserror::Error)]
pub enum FlushError {
    /// Another collector owns the partition by now, or owned it all along.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A batch could not be encoded.
    #[error("could not encode {rows} rows as Parquet")]
    Encode {
        /// Rows of the batch.
        rows: usize,
        /// Cause.
        source: parquet::errors::ParquetError,
    },
    /// The lake could not be read.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The process is ending.
    #[error("stopped while data files were being written")]
    Stopped,
    /// A file could not be made durable.
    #[error("could not write data file `{path}`")]
    Put {
        /// Path below the table.
        path: String,
        /// Cause.
        source: LakeError,
    },
}

impl FlushError {
    /// Whether somebody else owns a partition by now: read the positions again and seek.
    pub fn is_fenced(&self) -> bool {
        matches!(self, FlushError::Commit(CommitError::Fenced { .. }))
    }
}

/// Decodes, buffers and flushes. One per thread.
pub struct Worker {
    lake: Arc<Lake>,
    settings: Settings,
    properties: WriterProperties,
    tenants: HashMap<String, Tenant>,
    spans: Vec<Span>,
    /// Where the next span of a partition begins: the end of its last one.
    positions: HashMap<String, i64>,
    /// Of partitions in which a private key is open between two spans.
    blocks: HashMap<String, Block>,
    oldest: Option<Instant>,
    records: u64,
    fallback_id: String,
    /// One permit: a worker decodes ahead of its disk by one flush, never more, so that memory stays bounded.
    ahead: Arc<Semaphore>,
}

/// Offsets of one partition in the buffer, and the leaves of their rows in order.
struct Span {
    partition: Arc<Partition>,
    from: i64,
    to: i64,
    gaps: u64,
    records: u64,
    seen: Micros,
    /// Whether a private key is open behind its last record.
    block: Block,
    leaves: Accumulator,
}

impl Worker {
    /// A worker that flushes into a lake.
    pub fn new(lake: Arc<Lake>, settings: Settings) -> Worker {
        Worker {
            lake,
            settings,
            properties: batch::writer_properties(1),
            tenants: HashMap::new(),
            spans: Vec::new(),
            positions: HashMap::new(),
            blocks: HashMap::new(),
            oldest: None,
            records: 0,
            fallback_id: String::new(),
            ahead: Arc::new(Semaphore::new(1)),
        }
    }

    /// Buffers a record. Records of one partition come in order of offset; anything else is a bug of the receiver.
    pub fn push(&mut self, partition: &Arc<Partition>, record: &Record<'_>) {
        let mut fallback_id = std::mem::take(&mut self.fallback_id);
        fallback_id.clear();
        let place = format_args!("{}/{}/{}", partition.topic, partition.number, record.offset);
        std::fmt::Write::write_fmt(&mut fallback_id, place).expect("writing to a string does not fail");
        self.decode(partition, record, &fallback_id);
        self.fallback_id = fallback_id;
    }

    fn decode(&mut self, partition: &Arc<Partition>, record: &Record<'_>, fallback_id: &str) {
        let Some((tenant, span)) = self.admit(partition, record.offset, record.next, record.tenant, record.received)
        else {
            return;
        };
        let Record { received, headers, trusted, .. } = *record;
        let context =
            Context { received: record.again.map_or(received, |a| a.received), fallback_id, headers, trusted };
        let at = record.mappings.map_or(0, |mappings| tenant.decoder(mappings));
        let mut block = span.block;
        let (decoders, mut sink) =
            tenant.sink(span, record.again.map(|a| a.topic), record.tenant, record.offset, received);
        decoders[at].record_after(&mut block, record.format, record.bytes, &context, &mut sink);
        span.block = block;
    }

    /// Buffers what an earlier stage already refused or set aside: the intake log keeps such records in their final form.
    #[allow(clippy::too_many_arguments)]
    pub fn push_rejection(
        &mut self,
        partition: &Arc<Partition>,
        (offset, next): (i64, i64),
        tenant: &str,
        format: Format,
        rejection: Rejection,
        received: Micros,
        aside: bool,
    ) {
        let Some((state, span)) = self.admit(partition, offset, next, tenant, received) else { return };
        let (_, mut sink) = state.sink(span, None, tenant, offset, received);
        if aside { sink.aside(rejection, format) } else { sink.rejection(rejection, format) }
    }

    /// The buffers for a record that is to be pushed now; `None` for one that is in the buffer already.
    fn admit(
        &mut self,
        partition: &Arc<Partition>,
        offset: i64,
        next: i64,
        tenant: &str,
        received: Micros,
    ) -> Option<(&mut Tenant, &mut Span)> {
        let at = self.span(partition, offset, received);
        let span = &mut self.spans[at];
        if offset < span.to {
            return None;
        }
        span.gaps += (offset - span.to) as u64;
        span.to = next.max(offset + 1);
        span.records += 1;
        span.seen = span.seen.max(received);
        if self.oldest.is_none() {
            self.oldest = Some(Instant::now());
        }
        self.records += 1;
        if !self.tenants.contains_key(tenant) {
            let key = canonical::tenant_key(&self.lake.secret(), tenant);
            self.tenants.insert(tenant.to_owned(), Tenant::new(key, &self.settings));
        }
        let tenant = self.tenants.get_mut(tenant)?;
        tenant.arrived = tenant.arrived.max(received);
        Some((tenant, span))
    }

    /// Says where a partition is read from, before its first record: the position that the lake holds. Offsets between
    /// it and the first record are then known to be empty (control records, compacted ranges), not somebody else's.
    pub fn begin(&mut self, partition: &Partition, position: i64) {
        self.positions.insert(partition.app.clone(), position);
        self.blocks.remove(&partition.app);
    }

    /// Says whether a private key is open where a partition is read from, after [`Worker::begin`]: its lines are redacted until it ends.
    pub fn begin_within(&mut self, partition: &Partition, block: Block) {
        match block.is_open() {
            true => self.blocks.insert(partition.app.clone(), block),
            false => self.blocks.remove(&partition.app),
        };
    }

    /// Says that a partition has been read up to a position, and that nothing lies between its last record and there.
    pub fn reach(&mut self, partition: &Arc<Partition>, position: i64) {
        let at = self.span(partition, position, Micros::default());
        let span = &mut self.spans[at];
        if position > span.to {
            span.gaps += (position - span.to) as u64;
            span.to = position;
        }
    }

    /// Index of the span of a partition; it is made when there is none.
    fn span(&mut self, partition: &Arc<Partition>, offset: i64, seen: Micros) -> usize {
        // The last span is nearly always the one: receivers hand over runs of one partition.
        let of = |s: &Span| Arc::ptr_eq(&s.partition, partition) || s.partition.app == partition.app;
        self.spans.iter().rposition(of).unwrap_or_else(|| {
            let from = self.positions.get(&partition.app).copied().unwrap_or(offset);
            self.spans.push(Span {
                partition: partition.clone(),
                from,
                to: from,
                gaps: 0,
                records: 0,
                seen,
                block: self.blocks.remove(&partition.app).unwrap_or_default(),
                leaves: Accumulator::default(),
            });
            self.spans.len() - 1
        })
    }

    /// When the oldest buffered record reaches its age; `None` when nothing is buffered.
    pub fn due_at(&self) -> Option<Instant> {
        self.oldest.map(|at| at + self.settings.flush_age)
    }

    /// Whether rows or bytes have reached their limit.
    pub fn is_full(&self) -> bool {
        let rows: usize = self.tenants.values().map(Tenant::rows).sum();
        rows >= self.settings.flush_rows || self.bytes() >= self.settings.flush_bytes
    }

    /// Bytes buffered.
    pub fn bytes(&self) -> usize {
        self.tenants.values().map(Tenant::bytes).sum()
    }

    /// Forgets what is not committed, and where partitions stood: the receiver begins them again.
    pub fn discard(&mut self) {
        self.spans.clear();
        self.positions.clear();
        self.blocks.clear();
        self.oldest = None;
        self.records = 0;
        self.tenants.clear();
    }

    /// Makes everything buffered durable and part of the lake. On an error nothing of it is in the lake, and the buffer
    /// is empty: the receiver reads again from the lake's positions.
    pub async fn flush(&mut self) -> Result<Option<Landed>, FlushError> {
        let began = Instant::now();
        let Some(sealed) = self.seal().await? else { return Ok(None) };
        match land(&self.lake, vec![sealed]).await {
            Ok(landed) => {
                self.settings.report.landed(&landed, began.elapsed());
                Ok(Some(landed))
            }
            Err(e) => {
                self.discard();
                Err(e)
            }
        }
    }

    /// Encodes everything buffered and begins to make it durable, without committing it: the worker can go on decoding.
    /// Several of these, in order, can [`land`] together.
    pub async fn seal(&mut self) -> Result<Option<Sealed>, FlushError> {
        let spans = std::mem::take(&mut self.spans);
        self.oldest = None;
        let received = spans.iter().map(|s| s.leaves.len()).sum();
        let mut counts = Counts { records: std::mem::take(&mut self.records), received, ..Counts::default() };
        if spans.is_empty() {
            return Ok(None);
        }
        self.positions.extend(spans.iter().map(|s| (s.partition.app.clone(), s.to)));
        let open = spans.iter().filter(|s| s.block.is_open());
        self.blocks.extend(open.map(|s| (s.partition.app.clone(), s.block)));
        let mut landing = Landing::new(self.settings.duplicates.clone());
        if let Err(e) = landing.duplicates.learn(&self.lake).await {
            self.discard();
            return Err(e.into());
        }
        let mut batches = Vec::new();
        for (name, tenant) in &mut self.tenants {
            let arrived = std::mem::take(&mut tenant.arrived);
            counts.duplicates += tenant.decisions.mark(&mut landing, |outcome| {
                *counts.by_outcome.entry(outcome.as_str()).or_default() += 1;
            });
            for facts in [&mut tenant.executions, &mut tenant.authority] {
                counts.repeated += facts.mark(&mut landing, |_| {});
            }
            for (class, rows, count) in [
                (Class::Decision, &mut tenant.decisions.rows, &mut counts.decisions),
                (Class::Execution, &mut tenant.executions.rows, &mut counts.executions),
                (Class::Authority, &mut tenant.authority.rows, &mut counts.authority),
                (Class::Reject, &mut tenant.rejects, &mut counts.rejected),
                (Class::Aside, &mut tenant.asides, &mut counts.asides),
            ] {
                if rows.is_empty() {
                    continue;
                }
                *count += rows.len() as u64;
                batches.push((name.clone(), class, arrived, rows.finish()));
            }
            for (into, from) in
                [(&mut counts.by_reason, &mut tenant.by_reason), (&mut counts.by_aside, &mut tenant.by_aside)]
            {
                for (reason, n) in std::mem::take(from) {
                    *into.entry(reason).or_default() += n;
                }
            }
        }
        let info = describe(&spans, &counts, &self.settings.collector);
        let ranges = spans
            .iter()
            .map(|s| Range { app: s.partition.app.clone(), from: s.from, to: s.to, start: s.partition.start })
            .collect();
        let standings = spans.iter().map(|s| Standing {
            topic: s.partition.topic.to_string(),
            partition: s.partition.number,
            records: s.records,
            position: s.to,
            seen: s.seen,
        });
        let standings = standings.collect();
        let (mut files, mut encoded) = (Vec::with_capacity(batches.len()), Vec::with_capacity(batches.len()));
        for (tenant, class, arrived, rows) in batches {
            match batch::encode(&rows, &self.properties) {
                Ok(bytes) => {
                    files.push(batch::data_file(&rows, &bytes, &tenant, class, arrived));
                    encoded.push(bytes);
                }
                Err(source) => {
                    self.discard();
                    return Err(FlushError::Encode { rows: rows.num_rows(), source });
                }
            }
        }
        let permit = self.ahead.clone().acquire_owned().await.expect("the worker never closes it");
        let paths: Vec<_> = files.iter().map(|f| f.path.clone()).collect();
        let lake = self.lake.clone();
        let writing = tokio::spawn(async move {
            let _permit = permit;
            for (path, bytes) in paths.into_iter().zip(encoded) {
                lake.put(&path, bytes.into()).await.map_err(|source| FlushError::Put { path, source })?;
            }
            Ok(())
        });
        Ok(Some(Sealed { files, writing, ranges, counts, standings, marks: Vec::new(), info, landing }))
    }
}

/// Commits sealed flushes together, in order: adjoining ranges of one partition become one.
pub async fn land(lake: &Lake, sealed: Vec<Sealed>) -> Result<Landed, FlushError> {
    let (mut files, mut ranges, mut counts) = (Vec::new(), Vec::<Range>::new(), Counts::default());
    let (mut info, mut landings, mut standings) = (Vec::new(), Vec::new(), Vec::new());
    let mut marks = BTreeMap::new();
    for s in sealed {
        match s.writing.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(written) => written?,
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => return Err(FlushError::Stopped),
        }
        files.extend(s.files);
        for range in s.ranges {
            match ranges.iter_mut().find(|r| r.app == range.app && r.to == range.from) {
                Some(before) => before.to = range.to,
                None => ranges.push(range),
            }
        }
        counts.add(&s.counts);
        standings.extend(s.standings);
        marks.extend(s.marks);
        info.push(serde_json::Value::Object(s.info));
        landings.push(s.landing);
    }
    let positions = ranges.iter().map(|r| (r.app.clone(), r.to)).collect();
    let info = serde_json::Map::from_iter([("flushes".to_owned(), serde_json::Value::Array(info))]);
    let change =
        Change { adds: files, ranges, marks, info, operation: "WRITE", data_change: true, ..Change::default() };
    let committed = lake.records().apply(change).await?;
    landings.into_iter().for_each(Landing::landed);
    Ok(Landed { version: committed.version, positions, counts, standings })
}

/// What the commit says of a flush: per partition its offsets and the root over its leaves, and the counts.
fn describe(spans: &[Span], counts: &Counts, collector: &str) -> serde_json::Map<String, serde_json::Value> {
    let partitions: Vec<_> = spans
        .iter()
        .map(|s| {
            serde_json::json!({
                "app": s.partition.app, "from": s.from, "to": s.to, "gaps": s.gaps,
                "leaves": s.leaves.len(), "root": hex::encode(s.leaves.root()),
            })
        })
        .collect();
    let counts = serde_json::json!({
        "records": counts.records, "decisions": counts.decisions, "executions": counts.executions, "authority": counts.authority,
        "duplicates": counts.duplicates, "repeated": counts.repeated, "rejected": counts.rejected, "asides": counts.asides,
    });
    serde_json::Map::from_iter([
        ("collector".to_owned(), collector.into()),
        ("partitions".to_owned(), partitions.into()),
        ("counts".to_owned(), counts),
    ])
}

#[cfg(test)]
mod tests;
