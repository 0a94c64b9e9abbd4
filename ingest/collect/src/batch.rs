//! One flush becomes files: a sorted batch of rows to Parquet bytes, and what the Delta log says of it.
//!
//! Guarantee: a file holds rows of one tenant, one day of arrival and one class, in the order of [`catena_schemas::rows`];
//! the statistics of its log entry bound every value in it, and its digest covers every byte. Ids and arguments are written without a dictionary, which
//! would only be built to be thrown away; instants and offsets as deltas; everything with zstd 1, which costs little
//! over encoded pages.

use crate::commit::{DataFile, folder_name};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use catena_lake::digest;
use catena_schemas::Micros;
use catena_schemas::table::{Class, Field, Kind, STATISTICS, file_schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Rows of one row group.
pub const ROW_GROUP_ROWS: usize = 131_072;
/// Characters of a string that its statistics keep.
const STATISTICS_CHARS_MAX: usize = 32;

/// How files of `records` are written, at a zstd level.
pub fn writer_properties(zstd_level: i32) -> WriterProperties {
    let level = ZstdLevel::try_new(zstd_level).unwrap_or_default();
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("catena ", env!("CARGO_PKG_VERSION")).into())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(20_000)
        .set_write_batch_size(4096)
        .set_statistics_enabled(EnabledStatistics::None);
    for field in Field::ALL {
        let path = ColumnPath::from(field.name());
        properties = match field.kind() {
            Kind::Id | Kind::Json | Kind::Bytes => properties.set_column_dictionary_enabled(path, false),
            Kind::Time | Kind::Long => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    for field in STATISTICS {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(field.name()), EnabledStatistics::Page);
    }
    properties.build()
}

/// Encodes a batch.
pub fn encode(batch: &RecordBatch, properties: &WriterProperties) -> Result<Vec<u8>, ParquetError> {
    let mut writer = ArrowWriter::try_new(Vec::with_capacity(1 << 20), file_schema(), Some(properties.clone()))?;
    writer.write(batch)?;
    writer.into_inner()
}

/// The log entry of a file that is about to be written with these bytes.
pub fn data_file(batch: &RecordBatch, bytes: &[u8], tenant: &str, class: Class, arrived: Micros) -> DataFile {
    let (date, class) = (arrived.date(), class.as_str());
    DataFile {
        path: format!(
            "{}/ingest_date={date}/class={class}/part-{}.zstd.parquet",
            folder_name("tenant", tenant),
            Uuid::new_v4()
        ),
        size: bytes.len() as u64,
        rows: batch.num_rows() as u64,
        partition: BTreeMap::from([
            ("tenant".to_owned(), tenant.to_owned()),
            ("ingest_date".to_owned(), date),
            ("class".to_owned(), class.to_owned()),
        ]),
        stats: statistics(batch).to_string(),
        digest: Some(digest::of(bytes)),
        row_bytes: Some(row_bytes(batch)),
    }
}

/// Bytes that no row of a batch exceeds: the longest values of all columns together.
pub fn row_bytes(batch: &RecordBatch) -> u64 {
    fn longest(offsets: &[i32]) -> u64 {
        let longest = offsets.windows(2).map(|w| w[1] - w[0]).max().unwrap_or(0);
        u64::try_from(longest).unwrap_or(0)
    }
    let of = |array: &ArrayRef| match array.data_type() {
        DataType::Utf8 => longest(array.as_string::<i32>().value_offsets()),
        DataType::Binary => longest(array.as_binary::<i32>().value_offsets()),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            // The texts of one list lie one after the other.
            let texts = list.values().as_string_opt::<i32>();
            let ends = list.value_offsets();
            match texts.map(|texts| texts.value_offsets()) {
                Some(bytes) => longest(&ends.iter().map(|end| bytes[*end as usize]).collect::<Vec<_>>()),
                None => longest(ends).saturating_mul(8),
            }
        }
        kind => kind.primitive_width().unwrap_or(1) as u64,
    };
    batch.columns().iter().map(of).fold(0, u64::saturating_add)
}

/// Delta statistics of a batch over [`STATISTICS`].
pub fn statistics(batch: &RecordBatch) -> Value {
    let (mut min, mut max, mut nulls) = (serde_json::Map::new(), serde_json::Map::new(), serde_json::Map::new());
    for field in STATISTICS {
        let Some(array) = batch.column_by_name(field.name()) else { continue };
        nulls.insert(field.name().into(), array.null_count().into());
        if let Some((low, high)) = bounds(*field, array) {
            min.insert(field.name().into(), low);
            max.insert(field.name().into(), high);
        }
    }
    json!({"numRecords": batch.num_rows(), "minValues": min, "maxValues": max, "nullCount": nulls})
}

fn bounds(field: Field, array: &dyn Array) -> Option<(Value, Value)> {
    fn span<T: Ord + Copy>(values: impl Iterator<Item = Option<T>>) -> Option<(T, T)> {
        values.flatten().fold(None, |span, v| match span {
            None => Some((v, v)),
            Some((low, high)) => Some((v.min(low), v.max(high))),
        })
    }
    match field.kind() {
        Kind::Text | Kind::Id | Kind::Json => {
            span(array.as_string::<i32>().iter()).map(|(low, high)| (cut(low).into(), cut_up(high).into()))
        }
        Kind::Time => span(array.as_primitive::<TimestampMicrosecondType>().iter())
            .map(|(low, high)| (Micros(low).to_rfc3339().into(), Micros(high).to_rfc3339().into())),
        Kind::Long => span(array.as_primitive::<Int64Type>().iter()).map(|(low, high)| (low.into(), high.into())),
        Kind::Int => span(array.as_primitive::<Int32Type>().iter()).map(|(low, high)| (low.into(), high.into())),
        Kind::Bool | Kind::List | Kind::Bytes => None,
    }
}

fn cut(s: &str) -> &str {
    s.char_indices().nth(STATISTICS_CHARS_MAX).map_or(s, |(end, _)| &s[..end])
}

/// A bound above every string that starts like this one.
fn cut_up(s: &str) -> String {
    match cut(s) {
        whole if whole.len() == s.len() => whole.to_owned(),
        start => format!("{start}{}", char::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_for_long_strings() {
        let long = "x".repeat(40);
        assert_eq!(cut(&long).len(), 32);
        assert!(cut(&long) <= long.as_str() && cut_up(&long).as_str() >= long.as_str());
        assert_eq!(cut_up("short"), "short");
        let wide = "ü".repeat(33);
        assert!(cut_up(&wide) >= wide);
    }
}
