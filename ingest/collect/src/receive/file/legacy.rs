//! Positions that earlier versions kept, without a tenant and without a digest.
//!
//! Guarantee: such a position is taken over for a tenant only if the lake holds that tenant's row of the last record before
//! it, at the byte where that record begins in the file; so a file that was read for one tenant is still new to another.
//! Taking over is a commit without rows, so that it is looked for once.

use super::lines::{self, Line};
use super::prefix::{HEAD, Prefix};
use super::source::{Content, Identity, Source};
use super::{FileError, document_records, is_document};
use crate::commit::{Change, Range};
use crate::lake::{Lake, LakeError};
use crate::worker::FlushError;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;

/// What lies before the position that an earlier version kept for a file, if its rows are those of this tenant.
pub(super) fn find(
    source: &Source,
    lake: &Arc<Lake>,
    runtime: &Handle,
    content: Content<'_>,
) -> Result<Option<Prefix>, FileError> {
    let unreadable = |e| FileError::Read { path: source.path.clone(), source: e };
    let mut start = Vec::with_capacity(HEAD);
    content().and_then(|c| c.take(HEAD as u64).read_to_end(&mut start)).map_err(unreadable)?;
    let position = match runtime.block_on(lake.position(&source.legacy(&start)))? {
        Some(position @ 1..) => position as u64,
        _ => return Ok(None),
    };
    let Some((prefix, last)) = before(source, content, is_document(&start), position).map_err(unreadable)? else {
        return Ok(None);
    };
    Ok(runtime.block_on(has_row(lake, source, last))?.then_some(prefix))
}

/// What lies before a position, and where the last record there begins; `None` when the file is shorter.
fn before(
    source: &Source,
    content: Content<'_>,
    document: bool,
    position: u64,
) -> std::io::Result<Option<(Prefix, u64)>> {
    let (mut prefix, mut last) = (source.nothing(), 0);
    if document {
        let mut bytes = Vec::new();
        content()?.take(super::shape::DOCUMENT_BYTES_MAX as u64).read_to_end(&mut bytes)?;
        let records = document_records(&bytes).into_iter().map(|(at, _)| at as u64);
        last = records.take_while(|at| *at < position).last().unwrap_or(0);
        prefix.update(&bytes[..bytes.len().min(position as usize)]);
    } else {
        let mut reader =
            BufReader::with_capacity(1 << 20, Folding { inner: content()?.take(position), prefix: &mut prefix });
        let (mut line, mut at) = (Line::default(), 0);
        while lines::next(&mut reader, &mut line)? {
            if !line.bytes.trim_ascii().is_empty() {
                last = at;
            }
            at += line.length;
        }
    }
    Ok((prefix.at() == position).then_some((prefix, last)))
}

/// Hashes what is read through it.
struct Folding<'a, R> {
    inner: R,
    prefix: &'a mut Prefix,
}

impl<R: Read> Read for Folding<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.prefix.update(&buffer[..read]);
        Ok(read)
    }
}

/// Whether a tenant has a row of a record of the file that begins at a byte.
async fn has_row(lake: &Lake, source: &Source, offset: u64) -> Result<bool, LakeError> {
    for file in lake.files().await {
        let of_tenant = file.partition.get("tenant").is_some_and(|t| *t == source.tenant);
        if of_tenant && spans(&file.stats, offset) {
            let bytes = lake.get(&file.path).await?;
            let holds = holds(bytes, source, offset as i64);
            if holds.map_err(|e| LakeError::DataFile { path: file.path.clone(), source: e })? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether the offset lies between the least and the greatest of a data file; unknown counts as yes.
fn spans(stats: &str, offset: u64) -> bool {
    let stats: serde_json::Value = serde_json::from_str(stats).unwrap_or_default();
    let bound = |which: &str| stats[which]["offset"].as_u64();
    bound("minValues").is_none_or(|min| min <= offset) && bound("maxValues").is_none_or(|max| offset <= max)
}

fn holds(bytes: Bytes, source: &Source, offset: i64) -> Result<bool, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["topic", "partition", "offset"]);
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let topics = batch.column_by_name("topic").map(|c| c.as_string::<i32>());
        let (Some(topics), Some(partitions), Some(offsets)) =
            (topics, batch.column_by_name("partition"), batch.column_by_name("offset"))
        else {
            continue;
        };
        let partitions = partitions.as_primitive::<Int32Type>();
        for (row, at) in offsets.as_primitive::<Int64Type>().iter().enumerate() {
            if at == Some(offset) && partitions.value(row) == 0 && is_topic_of(topics.value(row), source) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether a topic names the file: as it is named now, in full, or relative to a folder above it.
fn is_topic_of(topic: &str, source: &Source) -> bool {
    let Some(path) = topic.strip_prefix("file:").map(Path::new) else { return false };
    path == source.path || path == source.real || (path.is_relative() && source.real.ends_with(below(path)))
}

/// A relative path without the steps that lead up or nowhere.
fn below(path: &Path) -> &Path {
    let mut components = path.components();
    let mut rest = components.as_path();
    while let Some(std::path::Component::CurDir | std::path::Component::ParentDir) = components.next() {
        rest = components.as_path();
    }
    rest
}

/// Keeps the position under the name of this version.
pub(super) async fn adopt(lake: &Lake, adopted: &Identity) -> Result<(), FlushError> {
    let at = adopted.partition.start;
    let range = Range { app: adopted.partition.app.clone(), from: at, to: at, start: at };
    let change = Change {
        ranges: vec![range],
        marks: adopted.marks(&adopted.prefix).into_iter().collect(),
        operation: "WRITE",
        data_change: true,
        ..Change::default()
    };
    lake.records().apply(change).await?;
    Ok(())
}
