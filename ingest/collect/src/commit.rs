//! Appends to the lake's Delta log: rows and the offsets they came from, in one commit, once.

use std::collections::BTreeMap;

/// A data file that is durable and not yet part of the table.
#[derive(Clone, Debug)]
pub struct DataFile {
    /// Path below the table, URL-encoded as Delta wants it.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Values of the partition columns.
    pub partition: BTreeMap<String, String>,
    /// Delta statistics: `numRecords`, `minValues`, `maxValues`, `nullCount` as JSON text.
    pub stats: String,
}

/// Offsets of one partition of one source that a commit covers: `from` included, `to` not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Delta application id: `kafka:<cluster>/<topic>@<epoch>/<partition>`, `wal:<node>/<partition>`, `file:<identity>`.
    pub app: String,
    /// The position that the table must hold for `app` (no entry counts as `start`).
    pub from: i64,
    /// The position that it holds afterwards: the next offset to read.
    pub to: i64,
    /// The position that an `app` without an entry is at: where its source began.
    pub start: i64,
}
