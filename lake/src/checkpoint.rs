//! The actions of a checkpoint.
//!
//! Guarantee: [`parse`] gives what the commits below a checkpoint came to, or an error. Actions pass through the same JSON
//! lines as in commits, so a checkpoint means exactly what they mean. Columns that other writers add (parsed
//! statistics, columns of a newer version) are left out. Memory grows with the active files, about 1 kB each.

use crate::commit::{Commit, Fault};
use crate::parquet_file::{check_bytes, guarded};
use arrow_json::LineDelimitedWriter;
use arrow_schema::ArrowError;
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

/// Actions that are decoded at once.
const BATCH: usize = 4096;

/// Fields of actions that are read.
const KNOWN: &[(&str, &[&str])] = &[
    ("add", &["path", "partitionValues", "size", "modificationTime", "dataChange", "stats", "tags", "deletionVector"]),
    ("remove", &["path", "deletionTimestamp", "dataChange", "partitionValues", "size"]),
    ("txn", &["appId", "version", "lastUpdated"]),
    ("metaData", &["id", "name", "description", "schemaString", "partitionColumns", "configuration", "createdTime"]),
    ("protocol", &["minReaderVersion", "minWriterVersion", "readerFeatures", "writerFeatures"]),
    ("sidecar", &["path"]),
];

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It is not readable Parquet.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// It says something that cannot be, or that this build does not understand.
    #[error(transparent)]
    Action(#[from] Fault),
}

impl From<ArrowError> for CheckpointError {
    fn from(e: ArrowError) -> CheckpointError {
        CheckpointError::Parquet(e.into())
    }
}

/// Reads the actions of one checkpoint file.
pub fn parse(bytes: Bytes) -> Result<Commit, CheckpointError> {
    check_bytes(&bytes)?;
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
        let columns = builder.parquet_schema().columns();
        let known = |path: &[String]| match path {
            [root, field, ..] => {
                KNOWN.iter().any(|(action, fields)| action == root && fields.contains(&field.as_str()))
            }
            _ => false,
        };
        let wanted = (0..columns.len()).filter(|i| known(columns[*i].path().parts()));
        let mask = ProjectionMask::leaves(builder.parquet_schema(), wanted);
        let mut commit = Commit::default();
        for batch in builder.with_projection(mask).with_batch_size(BATCH).build()? {
            let mut lines = LineDelimitedWriter::new(Vec::new());
            lines.write(&batch?)?;
            lines.finish()?;
            commit.take(&lines.into_inner())?;
        }
        Ok(commit)
    })
}
