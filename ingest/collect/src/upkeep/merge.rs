//! Merges sorted files into one, row by row, with memory for a row group of each.
//!
//! Guarantee: if the inputs are in the order of [`catena_schemas::rows`], so is the output; if one is not (another writer
//! made it), the output still holds every row.

use super::UpkeepError;
use super::compact::folder;
use crate::batch::{row_bytes, statistics, writer_properties};
use crate::commit::DataFile;
use crate::log::{ActiveFile, object_path};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, new_null_array};
use arrow_select::interleave::interleave_record_batch;
use bytes::Bytes;
use catena_lake::digest::{Digest, Digester};
use catena_lake::parquet_file::{END_BYTES, caught, check_end};
use catena_lake::width;
use catena_schemas::canonical::{self, Hash, LeafEncoder};
use catena_schemas::table::{Field, PARTITIONS, file_schema};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::error::Error;
use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An input that is there and does not hold rows that this build can carry over.
#[derive(Debug, thiserror::Error)]
#[error("could not read `{path}`")]
pub(super) struct Unreadable {
    pub(super) path: String,
    pub(super) source: Box<dyn Error + Send + Sync>,
}

/// What a newer build wrote.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Newer(String);

/// Bytes that are not those that were written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Damaged(String);

impl From<Box<Unreadable>> for UpkeepError {
    fn from(e: Box<Unreadable>) -> UpkeepError {
        let Unreadable { path, source } = *e;
        if let Some(Newer(detail)) = source.downcast_ref() {
            return UpkeepError::Newer { path, detail: detail.clone() };
        }
        match source.downcast_ref() {
            Some(Damaged(detail)) => UpkeepError::Damaged { path, detail: detail.clone() },
            None => UpkeepError::Unreadable { path, source },
        }
    }
}

/// Names the input at fault, unless the store is: then a later try may do.
fn at_fault(path: &str, source: Box<dyn Error + Send + Sync>) -> Box<dyn Error + Send + Sync> {
    let gone = |e: &object_store::Error| matches!(e, object_store::Error::NotFound { .. });
    match source.downcast_ref::<ParquetError>() {
        Some(ParquetError::External(e)) if e.downcast_ref::<object_store::Error>().is_some_and(|e| !gone(e)) => source,
        _ => Box::new(Unreadable { path: path.to_owned(), source }),
    }
}

/// Rows of a batch that is written, and the most bytes of values it is to hold.
const OUT_ROWS: usize = 8192;
const OUT_BYTES: usize = 32 << 20;
/// Rows read at once from one input, and the bytes of values that they should come to.
const IN_ROWS: usize = 1024;
const IN_BYTES: u64 = 2 << 20;
/// The most that they may come to, when all are as wide as the widest.
const IN_BYTES_MAX: u64 = 16 << 20;
/// A row group is closed when it holds this much, encoded.
const ROW_GROUP_BYTES: usize = 64 << 20;
const BUCKET_US: i64 = 15 * 60 * 1_000_000;

/// What is to be merged, and where to.
pub(super) struct Work {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) secret: [u8; 32],
    pub(super) inputs: Vec<Arc<ActiveFile>>,
    pub(super) output: String,
    pub(super) zstd_level: i32,
}

/// Rows as a multiset: the same for the same rows in any order and any files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Multiset {
    pub(super) rows: u64,
    /// Sum of leaf hashes.
    pub(super) leaves: Sum,
    /// Sum of hashes over leaf, content and the columns outside the leaf.
    whole: Sum,
}

/// A sum of 256-bit numbers mod 2^256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum([u64; 4]);

impl Sum {
    fn add(&mut self, hash: &Hash) {
        let mut carry = false;
        for (limb, bytes) in self.0.iter_mut().zip(hash.rchunks_exact(8)) {
            let other = u64::from_be_bytes(bytes.try_into().expect("a chunk has 8 bytes"));
            let (sum, first) = limb.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().rev().try_for_each(|limb| write!(f, "{limb:016x}"))
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) rows: u64,
    pub(super) size: u64,
    pub(super) stats: String,
    pub(super) leaves: Sum,
    pub(super) digest: Digest,
    /// Bytes that no row exceeds.
    pub(super) row_bytes: u64,
    /// What the inputs held.
    pub(super) read: Multiset,
    /// What the output holds, by reading it back.
    pub(super) back: Multiset,
}

/// A path for a merged file.
pub(super) fn output_path(partition: &BTreeMap<String, String>) -> String {
    format!("{}/merged-{}.zstd.parquet", folder(partition), uuid::Uuid::new_v4())
}

/// Merges, writes and reads back.
pub(super) async fn merge(work: &Work) -> Fallible<Merged> {
    let tenant = work.inputs.first().and_then(|f| f.file.partition.get(PARTITIONS[0])).cloned().unwrap_or_default();
    let mut leaf = LeafEncoder::new(canonical::tenant_key(&work.secret, &tenant));
    for input in &work.inputs {
        check_digest(&work.objects, &input.file).await.map_err(|e| at_fault(&input.file.path, e))?;
    }
    let path = object_path(&work.output)?;
    let mut upload = BufWriter::new(work.objects.clone(), path.clone());
    let mut digester = Digester::default();
    let written = write(work, &tenant, &mut leaf, Digesting { upload: &mut upload, digester: &mut digester }).await;
    let (read, stats, row_bytes) = match written {
        Ok(written) => written,
        Err(e) => {
            // An unfinished upload costs money in a bucket; nothing depends on it being gone.
            let _ = upload.abort().await;
            return Err(e);
        }
    };
    let size = work.objects.head(&path).await?.size;
    let mut back = Multiset::default();
    let mut batches = open(&work.objects, &work.output, size, Some(row_bytes)).await?;
    while let Some(batch) = next(&mut batches).await? {
        back.take(&batch, &tenant, &mut leaf);
    }
    let digest = digester.finish();
    Ok(Merged { rows: read.rows, size, stats: stats.to_string(), leaves: read.leaves, digest, row_bytes, read, back })
}

/// Compares a file with the digest that the log has of it; true when there is one.
pub(super) async fn check_digest(objects: &Arc<dyn ObjectStore>, file: &DataFile) -> Fallible<bool> {
    let Some(wanted) = file.digest else { return Ok(false) };
    let mut parts = objects.get(&object_path(&file.path)?).await.map_err(external)?.into_stream();
    let mut digester = Digester::default();
    while let Some(part) = parts.try_next().await.map_err(external)? {
        digester.update(&part);
    }
    let bytes = digester.bytes();
    if bytes != file.size {
        return Err(Box::new(Damaged(format!("it has {bytes} bytes, the log says {}", file.size))));
    }
    match digester.finish() == wanted {
        true => Ok(true),
        false => Err(Box::new(Damaged("its bytes do not have the digest that they were written with".into()))),
    }
}

/// Takes the digest of an upload on its way.
struct Digesting<'a> {
    upload: &'a mut BufWriter,
    digester: &'a mut Digester,
}

impl AsyncFileWriter for Digesting<'_> {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ParquetError>> {
        async move {
            self.digester.update(&bytes);
            self.upload.put(bytes).await.map_err(external)
        }
        .boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<(), ParquetError>> {
        async move { self.upload.shutdown().await.map_err(|e| ParquetError::External(Box::new(e))) }.boxed()
    }
}

async fn write(
    work: &Work,
    tenant: &str,
    leaf: &mut LeafEncoder,
    upload: Digesting<'_>,
) -> Fallible<(Multiset, Value, u64)> {
    let mut writer = AsyncArrowWriter::try_new(upload, file_schema(), Some(writer_properties(work.zstd_level)))?;
    let (mut read, mut stats, mut widest) = (Multiset::default(), Bounds::default(), 0);
    let mut merger = Merger::open(work).await?;
    while let Some(batch) = merger.next().await? {
        read.take(&batch, tenant, leaf);
        stats.widen(&statistics(&batch));
        widest = widest.max(row_bytes(&batch));
        writer.write(&batch).await?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().await?;
        }
    }
    writer.close().await?;
    let expected: u64 = work.inputs.iter().map(|f| f.file.rows).sum();
    if read.rows != expected {
        return Err(format!("the log promises {expected} rows, the files hold {}", read.rows).into());
    }
    Ok((read, stats.finish(), widest))
}

impl Multiset {
    fn take(&mut self, batch: &RecordBatch, tenant: &str, leaf: &mut LeafEncoder) {
        let arrived = batch.column(Field::IngestTime as usize).as_primitive::<TimestampMicrosecondType>();
        let duplicate = batch.column(Field::Duplicate as usize).as_boolean();
        for row in 0..batch.num_rows() {
            let hash = leaf.row(tenant, batch, row).hash;
            let mark = |known: bool, value: i64| if known { value.to_be_bytes() } else { [0xff; 8] };
            let whole = Sha256::new()
                .chain_update(hash)
                .chain_update(mark(arrived.is_valid(row), arrived.value(row)))
                .chain_update(mark(duplicate.is_valid(row), i64::from(duplicate.value(row))))
                .finalize();
            self.leaves.add(&hash);
            self.whole.add(&whole.into());
            self.rows += 1;
        }
    }
}

/// A file in the store, as Parquet reads it: by ranges.
pub(super) struct Stored {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

fn external(e: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(e))
}

impl AsyncFileReader for Stored {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move { self.objects.get_range(&self.path, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move { self.objects.get_ranges(&self.path, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size = self.size;
            let end = self.get_bytes(size.saturating_sub(END_BYTES)..size).await?;
            check_end(&end, size)?;
            let reader = ParquetMetaDataReader::new().with_arrow_reader_options(options);
            let loaded = AssertUnwindSafe(reader.load_and_finish(self, size)).catch_unwind().await;
            Ok(Arc::new(loaded.unwrap_or_else(|panic| Err(caught(panic.as_ref())))?))
        }
        .boxed()
    }
}

/// Rows of a data file, in batches of bounded size.
pub(super) type Batches = ParquetRecordBatchStream<Stored>;

/// Opens a data file for reading in batches of bounded size. `widest` is what the log says of its rows.
pub(super) async fn open(
    objects: &Arc<dyn ObjectStore>,
    path: &str,
    size: u64,
    widest: Option<u64>,
) -> Fallible<Batches> {
    let reader = Stored { objects: objects.clone(), path: object_path(path)?, size };
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await?;
    let groups = builder.metadata().row_groups();
    // What dictionaries stand for counts as well, where the writer says how much that is.
    let bytes = |c: &ColumnChunkMetaData| c.unencoded_byte_array_data_bytes().unwrap_or(0).max(c.uncompressed_size());
    let bytes: i64 = groups.iter().flat_map(|g| g.columns()).map(bytes).sum();
    let rows: i64 = groups.iter().map(|g| g.num_rows()).sum();
    let row_bytes = (bytes.max(0) as u64 / rows.max(1) as u64).max(1);
    let batch = (IN_BYTES / row_bytes).clamp(16, IN_ROWS as u64) as usize;
    Ok(builder.with_batch_size(width::batch_rows(widest, IN_BYTES_MAX, batch)).build()?)
}

/// The batch with the columns of this build, in order: missing ones are null, as they are for every reader. A file with a
/// column that this build does not know was written by a newer one, and is left for that to merge.
fn conform(batch: RecordBatch) -> Fallible<RecordBatch> {
    let schema = file_schema();
    if let Some(unknown) = batch.schema().fields().iter().find(|f| schema.column_with_name(f.name()).is_none()) {
        return Err(Box::new(Newer(format!("column `{}` is not known to this build", unknown.name()))));
    }
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => Err(Newer(format!("column `{}` is stored as {}", field.name(), column.data_type()))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(schema, columns)?)
}

/// Sort key of a row: 15-minute bucket of time, session, time, offset, input.
struct Key {
    bucket: i64,
    prefix: u64,
    session: Box<[u8]>,
    time: i64,
    offset: i64,
    run: usize,
}

impl Key {
    fn compare(&self, bucket: i64, prefix: u64, session: &[u8], time: i64, offset: i64, run: usize) -> Ordering {
        (self.bucket, self.prefix)
            .cmp(&(bucket, prefix))
            .then_with(|| (*self.session).cmp(session))
            .then_with(|| (self.time, self.offset, self.run).cmp(&(time, offset, run)))
    }
}

impl Ord for Key {
    /// The heap gives its greatest first, so the least row is the greatest key.
    fn cmp(&self, o: &Self) -> Ordering {
        self.compare(o.bucket, o.prefix, &o.session, o.time, o.offset, o.run).reverse()
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

/// One input: its rest, its batch at hand and where in it we are.
struct Run {
    path: String,
    rest: ParquetRecordBatchStream<Stored>,
    /// Of the batch at hand, on average.
    row_bytes: usize,
    at: Cursor,
    /// Place of the batch among those held.
    slot: usize,
}

struct Cursor {
    rows: usize,
    row: usize,
    times: TimestampMicrosecondArray,
    sessions: StringArray,
    offsets: Int64Array,
}

impl Cursor {
    fn new(batch: &RecordBatch) -> Cursor {
        Cursor {
            rows: batch.num_rows(),
            row: 0,
            times: batch.column(Field::Time as usize).as_primitive::<TimestampMicrosecondType>().clone(),
            sessions: batch.column(Field::Session as usize).as_string::<i32>().clone(),
            offsets: batch.column(Field::Offset as usize).as_primitive::<Int64Type>().clone(),
        }
    }

    fn parts(&self) -> (i64, u64, &[u8], i64, i64) {
        let row = self.row;
        let time = if self.times.is_null(row) { 0 } else { self.times.value(row) };
        let session = if self.sessions.is_null(row) { &[][..] } else { self.sessions.value(row).as_bytes() };
        let offset = if self.offsets.is_null(row) { 0 } else { self.offsets.value(row) };
        let mut prefix = [0; 8];
        let cut = session.len().min(8);
        prefix[..cut].copy_from_slice(&session[..cut]);
        (time.div_euclid(BUCKET_US), u64::from_be_bytes(prefix), session, time, offset)
    }

    fn key(&self, run: usize) -> Key {
        let (bucket, prefix, session, time, offset) = self.parts();
        Key { bucket, prefix, session: session.into(), time, offset, run }
    }
}

/// Bytes of the rows of a batch, on average.
fn row_bytes_of(batch: &RecordBatch) -> usize {
    let bytes: usize = batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum();
    bytes / batch.num_rows().max(1)
}

/// Gives batches in order.
struct Merger {
    runs: Vec<Run>,
    heap: BinaryHeap<Key>,
    held: Vec<RecordBatch>,
}

impl Merger {
    async fn open(work: &Work) -> Fallible<Merger> {
        let mut merger = Merger { runs: Vec::new(), heap: BinaryHeap::new(), held: Vec::new() };
        for input in &work.inputs {
            let path = input.file.path.clone();
            let opened = open(&work.objects, &path, input.file.size, input.file.row_bytes).await;
            let mut rest = opened.map_err(|e| at_fault(&path, e))?;
            if let Some(batch) = next(&mut rest).await.map_err(|e| at_fault(&path, e))? {
                let (run, slot) = (merger.runs.len(), merger.held.len());
                let (at, row_bytes) = (Cursor::new(&batch), row_bytes_of(&batch));
                merger.heap.push(at.key(run));
                merger.held.push(batch);
                merger.runs.push(Run { path, rest, row_bytes, at, slot });
            }
        }
        Ok(merger)
    }

    async fn next(&mut self) -> Fallible<Option<RecordBatch>> {
        let (mut picks, mut bytes) = (Vec::with_capacity(OUT_ROWS), 0);
        while picks.len() < OUT_ROWS && bytes < OUT_BYTES {
            let Some(least) = self.heap.pop() else { break };
            let run = &mut self.runs[least.run];
            let mut ended = false;
            // The rows of a session lie together: as long as this run stays ahead of all others, go on with it.
            loop {
                picks.push((run.slot, run.at.row));
                bytes += run.row_bytes;
                run.at.row += 1;
                if run.at.row == run.at.rows {
                    match next(&mut run.rest).await.map_err(|e| at_fault(&run.path, e))? {
                        Some(batch) => {
                            run.at = Cursor::new(&batch);
                            run.row_bytes = row_bytes_of(&batch);
                            run.slot = self.held.len();
                            self.held.push(batch);
                        }
                        None => {
                            ended = true;
                            break;
                        }
                    }
                }
                let (bucket, prefix, session, time, offset) = run.at.parts();
                let behind = self
                    .heap
                    .peek()
                    .is_some_and(|k| k.compare(bucket, prefix, session, time, offset, least.run).is_lt());
                if behind || picks.len() >= OUT_ROWS || bytes >= OUT_BYTES {
                    break;
                }
            }
            if !ended {
                self.heap.push(run.at.key(least.run));
            }
        }
        if picks.is_empty() {
            return Ok(None);
        }
        let out = interleave_record_batch(&self.held.iter().collect::<Vec<_>>(), &picks)?;
        self.release();
        Ok(Some(out))
    }

    /// Lets go of batches that are used up.
    fn release(&mut self) {
        let waiting: Vec<usize> = self.heap.iter().map(|k| k.run).collect();
        let mut held = Vec::with_capacity(waiting.len());
        for run in waiting {
            held.push(self.held[self.runs[run].slot].clone());
            self.runs[run].slot = held.len() - 1;
        }
        self.held = held;
    }
}

/// The next batch that holds rows, with the columns that the file has.
pub(super) async fn next_as_stored(rest: &mut Batches) -> Fallible<Option<RecordBatch>> {
    // Pages that are damaged can make the decoder panic; that is the fault of this file alone.
    let guarded = AssertUnwindSafe(rest.next()).catch_unwind().await;
    Ok(guarded.map_err(|panic| caught(panic.as_ref()))?.transpose()?)
}

/// The next batch that holds rows, with the columns of this build.
async fn next(rest: &mut Batches) -> Fallible<Option<RecordBatch>> {
    while let Some(batch) = next_as_stored(rest).await? {
        if batch.num_rows() > 0 {
            return conform(batch).map(Some);
        }
    }
    Ok(None)
}

/// Statistics of several batches as one.
#[derive(Default)]
pub(super) struct Bounds {
    rows: u64,
    nulls: BTreeMap<String, u64>,
    min: Map<String, Value>,
    max: Map<String, Value>,
}

impl Bounds {
    pub(super) fn widen(&mut self, stats: &Value) {
        self.rows += stats["numRecords"].as_u64().unwrap_or(0);
        for (name, n) in stats["nullCount"].as_object().into_iter().flatten() {
            *self.nulls.entry(name.clone()).or_default() += n.as_u64().unwrap_or(0);
        }
        for (bounds, key, wider) in
            [(&mut self.min, "minValues", Ordering::Less), (&mut self.max, "maxValues", Ordering::Greater)]
        {
            for (name, value) in stats[key].as_object().into_iter().flatten() {
                let within = bounds.get(name).is_some_and(|bound| order(value, bound) != wider);
                if !within {
                    bounds.insert(name.clone(), value.clone());
                }
            }
        }
    }

    pub(super) fn finish(self) -> Value {
        json!({"numRecords": self.rows, "minValues": self.min, "maxValues": self.max, "nullCount": self.nulls})
    }
}

/// Order of two bounds of one column. Instants are RFC 3339 of one length, so they order as text.
pub(super) fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_i64().cmp(&b.as_i64()),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{data_file, encode};
    use arrow_array::ArrayRef;
    use catena_schemas::rows::{Place, Rows};
    use catena_schemas::table::Class;
    use catena_schemas::{Event, Micros};
    use object_store::memory::InMemory;

    const TENANT: &str = "acme";
    const WIDE: usize = 1 << 20;

    /// A file of rows that repeat one text of a megabyte: a few KB.
    async fn wide(objects: &Arc<dyn ObjectStore>, number: i64, rows: i64) -> Arc<ActiveFile> {
        let tool = "a".repeat(WIDE);
        let mut made = Rows::default();
        for n in 0..rows {
            let mut event = Event { id: format!("e{number}-{n}").into(), ..Event::default() };
            event.tool.name = Some(tool.as_str().into());
            let (topic, offset) = ("k", number * rows + n);
            let ingest_time = Micros(offset);
            let place =
                Place { tenant: TENANT, topic, partition: 0, offset, format: "catena", redaction: "1", ingest_time };
            made.push(&event, &place, false);
        }
        let batch = made.finish();
        let bytes = encode(&batch, &writer_properties(1)).unwrap();
        let file = data_file(&batch, &bytes, TENANT, Class::Decision, Micros(0));
        assert!(bytes.len() < WIDE && file.row_bytes.is_some_and(|n| (WIDE as u64..2 * WIDE as u64).contains(&n)));
        objects.put(&object_path(&file.path).unwrap(), bytes.into()).await.unwrap();
        Arc::new(ActiveFile { file, modified: 0, arrived: 0 })
    }

    /// What is held follows what rows hold, not the size of files.
    #[tokio::test]
    async fn wide_rows_are_merged_a_few_at_a_time() {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let mut inputs = Vec::new();
        for number in 0..3 {
            inputs.push(wide(&objects, number, 40).await);
        }
        let work = Work { objects, secret: [7; 32], inputs, output: "merged.parquet".into(), zstd_level: 1 };
        let mut merger = Merger::open(&work).await.unwrap();
        let bytes = |batch: &RecordBatch| -> usize {
            batch.columns().iter().map(|c: &ArrayRef| c.to_data().get_slice_memory_size().unwrap()).sum()
        };
        let mut rows = 0;
        while let Some(batch) = merger.next().await.unwrap() {
            rows += batch.num_rows();
            assert!(bytes(&batch) <= OUT_BYTES + 2 * WIDE, "{} rows, {} bytes", batch.num_rows(), bytes(&batch));
            let held: usize = merger.held.iter().map(bytes).sum();
            assert!(held <= 3 * IN_BYTES_MAX as usize, "{held} bytes are held");
        }
        assert_eq!(rows, 120);
        let merged = merge(&work).await.unwrap();
        assert_eq!((merged.rows, merged.row_bytes), (120, work.inputs[0].file.row_bytes.unwrap()));
        assert_eq!(merged.read, merged.back);
    }
}
