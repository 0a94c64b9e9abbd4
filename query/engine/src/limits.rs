//! What a query may use.

use std::time::Duration;

/// Limits of one query. At each of them the query ends: with an error, or, for rows and bytes of the answer, with an
/// answer that says that it is not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time from the call to the last row.
    pub time: Duration,
    /// Rows of the answer.
    pub rows: u64,
    /// Bytes of the answer, as held in memory.
    pub bytes: u64,
    /// Memory of sorts, joins and aggregates before they spill.
    pub memory: usize,
    /// Disk space for spilling.
    pub spill: u64,
}

impl Default for Limits {
    /// For callers over the network.
    fn default() -> Limits {
        Limits { time: Duration::from_secs(30), rows: 10_000, bytes: 16 << 20, memory: 256 << 20, spill: 1 << 30 }
    }
}

impl Limits {
    /// For a person at the machine that holds the lake: as many rows as there are, and an hour to find them.
    pub fn local() -> Limits {
        Limits { time: Duration::from_secs(3600), rows: u64::MAX, bytes: u64::MAX, memory: 1 << 30, spill: 16 << 30 }
    }
}
