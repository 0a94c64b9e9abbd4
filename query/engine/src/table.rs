//! `records` as a table of DataFusion: the log says which files, DataFusion reads them.
//!
//! Guarantees: a scan opens no file of another tenant than its scope names, and none that the partition values or the
//! bounds of the log rule out. What comes out is a plain Parquet scan, which any DataFusion can run or ship. Columns
//! that an older file lacks come out null.

use crate::damage::Readers;
use crate::log::{Bound, DataFile, Snapshot};
use arrow_array::{
    ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow_schema::{Field as ArrowField, Schema, SchemaRef};
use async_trait::async_trait;
use catena_lake::width;
use catena_schemas::table::{Field, Kind, PARTITIONS, file_schema, table_schema};
use chrono::{DateTime, NaiveDate};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{PhysicalExpr, conjunction};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectMeta;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

/// Whose rows a session sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every tenant's: for the operator of the machine.
    All,
    /// Those of one tenant.
    Tenant(Arc<str>),
}

impl Scope {
    /// The rows of one tenant.
    pub fn tenant(name: impl Into<Arc<str>>) -> Scope {
        Scope::Tenant(name.into())
    }

    pub(crate) fn one(&self) -> Option<&str> {
        match self {
            Scope::All => None,
            Scope::Tenant(name) => Some(name),
        }
    }
}

/// Partition columns first for people; the scan itself has them last, as DataFusion wants it.
static SCAN_SCHEMA: LazyLock<TableSchema> =
    LazyLock::new(|| TableSchema::builder(file_schema()).with_table_partition_cols(partition_fields()).build());

fn partition_fields() -> Vec<Arc<ArrowField>> {
    let table = table_schema();
    PARTITIONS
        .iter()
        .map(|name| Arc::new(table.field_with_name(name).expect("partition columns are columns").clone()))
        .collect()
}

/// Columns of [`RecordsTable`]: those of the files, then the partition columns.
pub(crate) fn scan_schema() -> SchemaRef {
    SCAN_SCHEMA.table_schema().clone()
}

/// `records` at one version, in one scope.
#[derive(Debug)]
pub(crate) struct RecordsTable {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) scope: Scope,
    pub(crate) readers: Readers,
    pub(crate) store_url: ObjectStoreUrl,
}

#[async_trait]
impl TableProvider for RecordsTable {
    fn schema(&self) -> SchemaRef {
        scan_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Partition values are the same in every row of a file, so a filter over them alone is answered by the list.
        Ok(filters
            .iter()
            .map(|f| {
                if over_partitions(f) {
                    TableProviderFilterPushDown::Exact
                } else {
                    TableProviderFilterPushDown::Inexact
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.select(state, filters)?;
        let schema = scan_schema();
        if files.is_empty() {
            let columns = projection.map_or_else(|| Ok((*schema).clone()), |p| schema.project(p))?;
            return Ok(Arc::new(EmptyExec::new(Arc::new(columns))));
        }
        self.readers.compare(&files).await?;
        let mut rows = Some(0u64);
        for file in &files {
            rows = rows.zip(file.rows).map(|(sum, n)| sum + n);
        }
        let batch = batch_rows(&schema, projection, &files, state.config().batch_size());
        if let (Some(rows), Some(fit)) = (batch, state.config().get_extension::<BatchRows>()) {
            fit.0.fetch_min(rows, Ordering::Relaxed);
        }
        let mut statistics = Statistics::new_unknown(&schema);
        if let Some(rows) = rows.and_then(|n| usize::try_from(n).ok()) {
            statistics.num_rows = Precision::Exact(rows);
        }
        let source = ParquetSource::new(SCAN_SCHEMA.clone())
            .with_table_parquet_options(state.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(self.readers.clone()))
            .with_pushdown_filters(true)
            .with_enable_page_index(true);
        let config = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups(&files, state.config().target_partitions())?)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_batch_size(batch)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Bytes of the rows that a scan unpacks at once: they are not reserved anywhere.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// Rows of a batch that fit all scans of a plan, once it is made: operators after a scan put small batches together again, up to
/// the size of the session. An extension of the session's configuration.
#[derive(Debug)]
pub(crate) struct BatchRows(AtomicUsize);

impl BatchRows {
    pub(crate) fn new() -> BatchRows {
        BatchRows(AtomicUsize::new(usize::MAX))
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Rows of a batch of a scan, by the widest row of all files; `None` when no column that is read can be wide.
fn batch_rows(schema: &Schema, projection: Option<&Vec<usize>>, files: &[Arc<DataFile>], rows: usize) -> Option<usize> {
    let wide = |i: usize| schema.field(i).data_type().primitive_width().is_none();
    let any = projection.is_none_or(|columns| columns.iter().any(|i| wide(*i)));
    let of = |file: &Arc<DataFile>| width::batch_rows(file.row_bytes, BATCH_BYTES_MAX, rows);
    any.then(|| files.iter().map(of).min().unwrap_or(rows))
}

impl RecordsTable {
    /// Files that may hold rows for the filters.
    fn select(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<Arc<DataFile>>> {
        let mut files: Vec<Arc<DataFile>> = self.snapshot.files(self.scope.one()).cloned().collect();
        let schema = scan_schema();
        let logical = DFSchema::try_from(schema.as_ref().clone())?;
        let mut bounded = Vec::new();
        for filter in filters {
            let physical = state.create_physical_expr(filter.clone(), &logical)?;
            if over_partitions(filter) {
                files = keep_by_partitions(files, &physical)?;
            } else if !filter.is_volatile() {
                bounded.push(physical);
            }
        }
        if bounded.is_empty() || files.is_empty() {
            return Ok(files);
        }
        // A predicate that cannot be judged from bounds (a function over two columns) rules out nothing.
        let Ok(predicate) = PruningPredicateBuilder::new().with_file_schema(schema).try_build(conjunction(bounded))
        else {
            return Ok(files);
        };
        let keep = match predicate.prune(&Log { files: &files }) {
            Ok(keep) => keep,
            Err(error) => {
                tracing::debug!(%error, "bounds of the log could not be used");
                return Ok(files);
            }
        };
        Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
    }
}

/// Whether a filter is about partition columns and nothing else, so that it has one answer per file.
fn over_partitions(filter: &Expr) -> bool {
    let mut only = !filter.is_volatile();
    filter
        .apply(|expr| {
            match expr {
                Expr::Column(column) => only &= PARTITIONS.contains(&column.name.as_str()),
                Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_) => {
                    only = false;
                }
                _ => {}
            }
            Ok(if only { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        })
        .expect("nothing in it fails");
    only
}

fn keep_by_partitions(files: Vec<Arc<DataFile>>, filter: &Arc<dyn PhysicalExpr>) -> Result<Vec<Arc<DataFile>>> {
    // The expression names columns by their place in the whole schema; only three of them are looked at.
    let schema = scan_schema();
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| {
            partition_array(&files, field.name())
                .unwrap_or_else(|| arrow_array::new_null_array(field.data_type(), files.len()))
        })
        .collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::clone(&schema)), columns)?;
    let kept = filter.evaluate(&batch)?.into_array(files.len())?;
    let kept = datafusion::common::cast::as_boolean_array(&kept)?;
    Ok(files.into_iter().zip(kept.iter()).filter_map(|(file, keep)| (keep == Some(true)).then_some(file)).collect())
}

fn partition_array(files: &[Arc<DataFile>], name: &str) -> Option<ArrayRef> {
    match name {
        "tenant" => Some(Arc::new(StringArray::from_iter_values(files.iter().map(|f| f.tenant.as_ref())))),
        "class" => Some(Arc::new(StringArray::from_iter_values(files.iter().map(|f| f.class.as_ref())))),
        "ingest_date" => {
            Some(Arc::new(arrow_array::Date32Array::from_iter(files.iter().map(|f| date(&f.ingest_date)))))
        }
        _ => None,
    }
}

/// Days since the epoch of `YYYY-MM-DD`.
fn date(text: &str) -> Option<i32> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    i32::try_from(day.signed_duration_since(epoch).num_days()).ok()
}

/// Spreads files over at most `wanted` groups of about equal bytes, in the order of their paths.
fn groups(files: &[Arc<DataFile>], wanted: usize) -> Result<Vec<FileGroup>> {
    let total: u64 = files.iter().map(|f| f.size).sum();
    let share = total / wanted.max(1) as u64 + 1;
    let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new()];
    let mut filled = 0;
    for file in files {
        if filled >= share {
            groups.push(Vec::new());
            filled = 0;
        }
        filled += file.size;
        groups.last_mut().expect("there is one").push(partitioned(file)?);
    }
    Ok(groups.into_iter().map(FileGroup::new).collect())
}

/// A file as DataFusion knows it.
pub(crate) fn partitioned(file: &DataFile) -> Result<PartitionedFile> {
    let meta = ObjectMeta {
        location: file.location.clone(),
        last_modified: DateTime::from_timestamp_millis(file.modified).unwrap_or_default(),
        size: file.size,
        e_tag: None,
        version: None,
    };
    Ok(PartitionedFile::new_from_meta(meta).with_partition_values(vec![
        ScalarValue::Utf8(Some(file.tenant.as_ref().into())),
        ScalarValue::Date32(date(&file.ingest_date)),
        ScalarValue::Utf8(Some(file.class.as_ref().into())),
    ]))
}

/// What the log says of files, as DataFusion asks for it.
struct Log<'a> {
    files: &'a [Arc<DataFile>],
}

impl Log<'_> {
    fn ends(&self, column: &Column, end: impl Fn(&crate::log::Bounds) -> Option<&Bound>) -> Option<ArrayRef> {
        if let Some(values) = partition_array(self.files, &column.name) {
            return Some(values);
        }
        let field = *Field::ALL.iter().find(|f| f.name() == column.name)?;
        let found = self.files.iter().map(|f| f.bounds(field).and_then(&end));
        let long = |bound: Option<&Bound>| match bound {
            Some(Bound::Long(n)) => Some(*n),
            _ => None,
        };
        Some(match field.kind() {
            Kind::Text | Kind::Id | Kind::Json => Arc::new(StringArray::from_iter(found.map(|bound| match bound {
                Some(Bound::Text(text)) => Some(text.as_ref()),
                _ => None,
            }))),
            Kind::Time => Arc::new(TimestampMicrosecondArray::from_iter(found.map(long)).with_timezone("UTC")),
            Kind::Long => Arc::new(Int64Array::from_iter(found.map(long))),
            Kind::Int => Arc::new(Int32Array::from_iter(found.map(|b| long(b).and_then(|n| i32::try_from(n).ok())))),
            Kind::List | Kind::Bool | Kind::Bytes => return None,
        })
    }
}

impl PruningStatistics for Log<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, |b| b.min.as_ref())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.ends(column, |b| b.max.as_ref())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        if PARTITIONS.contains(&column.name.as_str()) {
            return Some(Arc::new(UInt64Array::from(vec![0; self.files.len()])));
        }
        let field = *Field::ALL.iter().find(|f| f.name() == column.name)?;
        Some(Arc::new(UInt64Array::from_iter(self.files.iter().map(|f| f.bounds(field).and_then(|b| b.nulls)))))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter(self.files.iter().map(|f| f.rows))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
