//! Decisions read straight from their files, for who reads all of them.
//!
//! Guarantee: the rows of the given files that are no duplicates, each once, in no order. Texts of which a file has few come
//! as the dictionaries that they are stored as, one for a stretch of a file, so that a text is looked at once for each stretch
//! and not once for each row. A scan of DataFusion would give them as texts: what it casts, it has read as the file's own type.

use crate::engine::Engine;
use crate::error::QueryError;
use crate::log::DataFile;
use crate::table::partitioned;
use arrow_array::cast::AsArray;
use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use catena_schemas::table::{Field as Column, Kind};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::{Stream, StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Files whose footers are asked for at once.
const OPENING: usize = 8;
/// Stretches that wait to be read.
const WAITING: usize = 4;
/// Batches that wait to be taken.
pub(super) const QUEUE: usize = 4;
/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Says that a row is one that came before.
const DUPLICATE: Column = Column::Duplicate;

/// A row group of a file.
struct Stretch {
    file: PartitionedFile,
    metadata: ArrowReaderMetadata,
    group: usize,
}

type Rows = ParquetRecordBatchStream<Box<dyn AsyncFileReader>>;

/// Opens files and reads stretches of them.
struct Files {
    readers: CachedParquetFileReaderFactory,
    columns: Vec<&'static str>,
}

impl Files {
    fn reader(&self, file: PartitionedFile) -> Result<Box<dyn AsyncFileReader>, DataFusionError> {
        Ok(self.readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new())?)
    }

    /// The stretches of a file.
    async fn open(&self, file: Arc<DataFile>) -> Result<Vec<Stretch>, DataFusionError> {
        let file = partitioned(&file)?;
        let mut reader = self.reader(file.clone())?;
        let stored = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::new()).await?;
        let schema = Schema::new(stored.schema().fields().iter().map(coded).collect::<Vec<_>>());
        let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
        let metadata = ArrowReaderMetadata::try_new(stored.metadata().clone(), options)?;
        let groups = 0..metadata.metadata().num_row_groups();
        Ok(groups.map(|group| Stretch { file: file.clone(), metadata: metadata.clone(), group }).collect())
    }

    fn read(&self, stretch: Stretch) -> Result<Rows, DataFusionError> {
        let metadata = stretch.metadata;
        let wanted = |(at, field): (usize, &FieldRef)| {
            let name = field.name().as_str();
            (name == DUPLICATE.name() || self.columns.contains(&name)).then_some(at)
        };
        let roots: Vec<usize> = metadata.schema().fields().iter().enumerate().filter_map(wanted).collect();
        let columns = ProjectionMask::roots(metadata.parquet_schema(), roots);
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(stretch.file)?, metadata);
        Ok(builder.with_row_groups(vec![stretch.group]).with_projection(columns).with_batch_size(BATCH_ROWS).build()?)
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

/// The rows of a batch that are no duplicates.
fn first(batch: RecordBatch) -> Result<RecordBatch, DataFusionError> {
    let Some(duplicate) = batch.column_by_name(DUPLICATE.name()).and_then(|c| c.as_boolean_opt()) else {
        return Ok(batch);
    };
    if duplicate.true_count() == 0 {
        return Ok(batch);
    }
    let keep: BooleanArray = duplicate.iter().map(|is| Some(is != Some(true))).collect();
    Ok(arrow::compute::filter_record_batch(&batch, &keep)?)
}

impl Engine {
    /// Reads columns of decisions on all threads: what is made of each batch, where it was read. `S` lasts for one stretch of
    /// a file.
    pub(super) fn scan<S: Default + Send + 'static, T: Send + 'static>(
        &self,
        files: Vec<Arc<DataFile>>,
        columns: Vec<&'static str>,
        make: fn(&mut S, RecordBatch) -> Result<T, QueryError>,
    ) -> mpsc::Receiver<Result<T, QueryError>> {
        let (made, receiver) = mpsc::channel(QUEUE);
        let (found, stretches) = mpsc::channel::<Stretch>(WAITING);
        let readers = self.readers();
        let all = Arc::new(Files { readers, columns });
        self.spawn({
            let (all, made, engine) = (all.clone(), made.clone(), self.clone());
            async move {
                let opened = futures::stream::iter(files).map(|file| all.open(file)).buffered(OPENING);
                let mut opened = std::pin::pin!(opened.map_err(|e| engine.explain(e)));
                while let Some(file) = opened.next().await {
                    match file {
                        Ok(file) => {
                            for stretch in file {
                                // Nobody reads any more.
                                if found.send(stretch).await.is_err() {
                                    return;
                                }
                            }
                        }
                        Err(error) => return drop(made.send(Err(error)).await),
                    }
                }
            }
        });
        let stretches = Arc::new(tokio::sync::Mutex::new(stretches));
        for _ in 0..self.options().threads.max(1) {
            let (all, made, engine, stretches) = (all.clone(), made.clone(), self.clone(), stretches.clone());
            self.spawn(async move {
                let next = async || stretches.lock().await.recv().await;
                while let Some(stretch) = next().await {
                    let rows = match all.read(stretch) {
                        Ok(rows) => rows.map_err(DataFusionError::from).and_then(async |batch| first(batch)),
                        Err(error) => return drop(made.send(Err(engine.explain(error))).await),
                    };
                    let mut state = S::default();
                    let make = |batch| make(&mut state, batch);
                    if !forward(std::pin::pin!(rows), &made, make, |e| engine.explain(e)).await {
                        return;
                    }
                }
            });
        }
        receiver
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
