//! Decisions read straight from their files, for who reads all of them.
//!
//! Guarantee: the rows of the given files that are no duplicates, each once, in no order; or an error. Texts of which a file has few come
//! as the dictionaries that they are stored as, one for a stretch of a file, so that a text is looked at once for each stretch
//! and not once for each row. A scan of DataFusion would give them as texts: what it casts, it has read as the file's own type.

use crate::damage::Readers;
use crate::engine::Engine;
use crate::error::{Code, QueryError};
use crate::log::DataFile;
use crate::table::partitioned;
use arrow_array::cast::AsArray;
use arrow_array::{Array, BooleanArray, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use catena_lake::width;
use catena_schemas::table::{Field as Column, Kind};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::{Stream, StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Files whose footers are asked for at once.
const OPENING: usize = 8;
/// Stretches that wait to be read.
const WAITING: usize = 4;
/// Batches that wait to be taken.
pub(super) const QUEUE: usize = 4;
/// Rows of a batch, and the bytes that they may come to.
const BATCH_ROWS: usize = 8192;
const BATCH_BYTES_MAX: u64 = 32 << 20;
/// Says that a row is one that came before.
const DUPLICATE: Column = Column::Duplicate;

/// A row group of a file.
struct Stretch {
    file: PartitionedFile,
    metadata: ArrowReaderMetadata,
    group: usize,
    /// Rows that are read at once.
    batch: usize,
    /// Number of its first row among the rows of all files.
    first: u64,
}

impl Stretch {
    fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().row_group(self.group).num_rows()).unwrap_or(0)
    }
}

/// Which rows are wanted, by their numbers among the rows of all files.
pub(super) type Keep = Arc<dyn Fn(u32) -> bool + Send + Sync>;

/// Rows as they were read.
pub(super) struct Batch {
    pub(super) rows: RecordBatch,
    /// The number of each row among the rows of all files.
    pub(super) numbers: Vec<u32>,
}

type Rows = ParquetRecordBatchStream<Box<dyn AsyncFileReader>>;

/// Opens files and reads stretches of them.
struct Files {
    readers: Readers,
    columns: Vec<&'static str>,
}

impl Files {
    fn reader(&self, file: PartitionedFile) -> Result<Box<dyn AsyncFileReader>, DataFusionError> {
        Ok(self.readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new())?)
    }

    /// The stretches of a file.
    async fn open(&self, file: Arc<DataFile>) -> Result<Vec<Stretch>, DataFusionError> {
        self.readers.compare(std::slice::from_ref(&file)).await?;
        let batch = width::batch_rows(file.row_bytes, BATCH_BYTES_MAX, BATCH_ROWS);
        let file = partitioned(&file)?;
        let mut reader = self.reader(file.clone())?;
        // As Parquet has the types, whatever types of Arrow the writer had in mind: upkeep by other tools writes large texts.
        let plain = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let stored = ArrowReaderMetadata::load_async(&mut reader, plain).await?;
        let schema = Schema::new(stored.schema().fields().iter().map(coded).collect::<Vec<_>>());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let metadata = ArrowReaderMetadata::try_new(stored.metadata().clone(), options)?;
        let groups = 0..metadata.metadata().num_row_groups();
        Ok(groups
            .map(|group| Stretch { file: file.clone(), metadata: metadata.clone(), group, batch, first: 0 })
            .collect())
    }

    fn read(&self, stretch: Stretch) -> Result<Rows, DataFusionError> {
        let (metadata, batch) = (stretch.metadata, stretch.batch);
        let wanted = |(at, field): (usize, &FieldRef)| {
            let name = field.name().as_str();
            (name == DUPLICATE.name() || self.columns.contains(&name)).then_some(at)
        };
        let roots: Vec<usize> = metadata.schema().fields().iter().enumerate().filter_map(wanted).collect();
        let columns = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(stretch.file)?, metadata);
        Ok(builder.with_row_groups(vec![stretch.group]).with_projection(columns).with_batch_size(batch).build()?)
    }
}

/// A column as it is read: as a dictionary where it is written as one.
fn coded(stored: &FieldRef) -> FieldRef {
    let dictionary = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let kind = Column::ALL.iter().find(|c| c.name() == stored.name()).map(|c| c.kind());
    let as_read = |of: &Field, as_type| Arc::new(of.clone().with_data_type(as_type));
    match (kind, stored.data_type()) {
        (Some(Kind::Text), DataType::Utf8) => as_read(stored, dictionary()),
        (Some(Kind::List), DataType::List(item)) if *item.data_type() == DataType::Utf8 => {
            as_read(stored, DataType::List(as_read(item, dictionary())))
        }
        _ => stored.clone(),
    }
}

/// The rows of a batch that are wanted, and no duplicates.
fn wanted(batch: RecordBatch, first: u64, keep: Option<&Keep>) -> Result<Batch, DataFusionError> {
    let numbers = (first..).map(|number| number as u32).take(batch.num_rows());
    let duplicate = batch.column_by_name(DUPLICATE.name()).and_then(|c| c.as_boolean_opt());
    let duplicate = duplicate.filter(|d| d.true_count() > 0);
    if duplicate.is_none() && keep.is_none() {
        return Ok(Batch { numbers: numbers.collect(), rows: batch });
    }
    let is_duplicate = |row: usize| duplicate.is_some_and(|d| d.is_valid(row) && d.value(row));
    let kept: Vec<bool> =
        numbers.clone().enumerate().map(|(row, n)| !is_duplicate(row) && keep.is_none_or(|keep| keep(n))).collect();
    let numbers = numbers.zip(&kept).filter_map(|(number, kept)| kept.then_some(number)).collect();
    Ok(Batch { numbers, rows: arrow::compute::filter_record_batch(&batch, &BooleanArray::from(kept))? })
}

/// A scan under way: what its tasks share.
struct Scan<T> {
    engine: Engine,
    files: Files,
    keep: Option<Keep>,
    made: mpsc::Sender<Result<T, QueryError>>,
}

impl<T: Send + 'static> Scan<T> {
    /// Finds the stretches of files, in order, and numbers their rows.
    async fn find(&self, files: Vec<Arc<DataFile>>, found: mpsc::Sender<Stretch>) -> Result<(), DataFusionError> {
        let mut opened = futures::stream::iter(files).map(|file| self.files.open(file)).buffered(OPENING);
        let mut first = 0;
        while let Some(stretches) = opened.next().await {
            for stretch in stretches? {
                let mut numbers = first..first + stretch.rows();
                let stretch = Stretch { first, ..stretch };
                first = numbers.end;
                let is_wanted = self.keep.as_ref().is_none_or(|keep| numbers.any(|number| keep(number as u32)));
                // It fails when nobody reads any more.
                if is_wanted && found.send(stretch).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads one stretch after another. `S` lasts for one of them.
    async fn read<S: Default + Send>(
        &self,
        stretches: &tokio::sync::Mutex<mpsc::Receiver<Stretch>>,
        make: fn(&mut S, Batch) -> Result<T, QueryError>,
    ) -> Result<(), DataFusionError> {
        let next = async || stretches.lock().await.recv().await;
        while let Some(stretch) = next().await {
            let (mut first, mut state) = (stretch.first, S::default());
            let make = |batch: RecordBatch| {
                let count = batch.num_rows() as u64;
                let batch = wanted(batch, first, self.keep.as_ref()).map_err(|e| self.engine.explain(e))?;
                first += count;
                make(&mut state, batch)
            };
            let rows = self.files.read(stretch)?.map_err(DataFusionError::from);
            if !forward(std::pin::pin!(rows), &self.made, make, |e| self.engine.explain(e)).await {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn say(&self, done: Result<(), DataFusionError>) {
        if let Err(error) = done {
            let _ = self.made.send(Err(self.engine.explain(error))).await;
        }
    }
}

impl Engine {
    /// Reads columns of decisions on all threads: what is made of each batch, where it was read.
    pub(super) fn scan<S: Default + Send + 'static, T: Send + 'static>(
        &self,
        files: Vec<Arc<DataFile>>,
        columns: Vec<&'static str>,
        keep: Option<Keep>,
        make: fn(&mut S, Batch) -> Result<T, QueryError>,
    ) -> mpsc::Receiver<Result<T, QueryError>> {
        let (made, receiver) = mpsc::channel(QUEUE);
        let (found, stretches) = mpsc::channel(WAITING);
        let reads = Files { readers: self.readers(), columns };
        let scan = Arc::new(Scan { engine: self.clone(), files: reads, keep, made: made.clone() });
        let stretches = Arc::new(tokio::sync::Mutex::new(stretches));
        let finding = scan.clone();
        let mut tasks = vec![self.spawn(async move { finding.say(finding.find(files, found).await).await })];
        tasks.extend((0..self.options().threads.max(1)).map(|_| {
            let (scan, stretches) = (scan.clone(), stretches.clone());
            self.spawn(async move { scan.say(scan.read(&stretches, make).await).await })
        }));
        self.see_off(tasks, made);
        receiver
    }

    /// Waits for tasks that send what they make: should one of them die, that is no end, but an error.
    pub(super) fn see_off<T: Send + 'static>(
        &self,
        tasks: Vec<JoinHandle<()>>,
        to: mpsc::Sender<Result<T, QueryError>>,
    ) {
        self.spawn(async move {
            for task in tasks {
                if task.await.is_err() {
                    let message = "a reader of the lake died; this is a fault of the engine";
                    let _ = to.send(Err(QueryError::new(Code::Internal, message))).await;
                }
            }
        });
    }
}

/// Sends what is made of each batch. False when nobody wants more, or it failed.
pub(super) async fn forward<T>(
    mut batches: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Unpin,
    to: &mpsc::Sender<Result<T, QueryError>>,
    mut make: impl FnMut(RecordBatch) -> Result<T, QueryError>,
    explain: impl Fn(DataFusionError) -> QueryError,
) -> bool {
    while let Some(batch) = batches.next().await {
        let made = batch.map_err(&explain).and_then(&mut make);
        let failed = made.is_err();
        if to.send(made).await.is_err() || failed {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Options;

    /// Without being seen off, the dead reader's rows would be missing, and nobody would say so.
    #[tokio::test]
    async fn a_reader_that_dies_is_no_end_of_the_rows() {
        let folder = tempfile::tempdir().expect("a folder");
        let lake = folder.path().join("lake");
        let engine = Engine::open(lake.to_str().expect("UTF-8"), Options::default()).await.expect("a lake");
        let (to, mut rows) = mpsc::channel(2);
        let sender = to.clone();
        let tasks = vec![
            engine.spawn(async move { sender.send(Ok(1)).await.expect("a reader") }),
            engine.spawn(async { panic!("this is meant to fail") }),
        ];
        engine.see_off(tasks, to);
        assert_eq!(rows.recv().await.expect("a row").ok(), Some(1));
        assert_eq!(rows.recv().await.expect("an error").map_err(|e| e.code), Err(Code::Internal));
        assert!(rows.recv().await.is_none());
    }
}
