//! One running query: whether it may go on, and how much it may hold at a time.
//!
//! Guarantee: a query that is over (its time is up, its reader is gone, the process runs out of memory) ends at the next
//! batch, the next call of a function that can be slow, or the next comparison of a join, whichever comes first.
//! Cancelling a task strikes only where it waits, and a join over a few thousand rows can go on for minutes without.

use crate::error::{Code, QueryError};
use crate::limits::Limits;
use datafusion::error::{DataFusionError, Result};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes that the functions of a statement may build for one batch of rows, all calls together.
const BUILT_BYTES_MAX: u64 = 64 << 20;
/// One call may build as much, however many there are.
const CALL_BYTES_MIN: u64 = 1 << 20;
/// Bytes of one batch where an operator repeats values: joins, windows, `unnest`.
const BATCH_BYTES_MAX: u64 = 512 << 20;
/// Rows of a batch, as DataFusion has them.
pub(crate) const BATCH_ROWS: usize = 8192;
/// Rows of a batch for a statement whose rows turned out to be wide.
pub(crate) const BATCH_ROWS_SMALL: usize = 64;

/// Why a query is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Over {
    /// The reader is gone.
    Dropped = 1,
    /// The process was about to run out of memory.
    Memory = 2,
}

/// Shared by all operators and functions of one query: as long as it is held, something works for the query.
#[derive(Debug)]
pub(crate) struct Control {
    limits: Limits,
    deadline: Option<Instant>,
    over: AtomicU8,
    /// Rows were too wide for the size of the batches: fewer at a time may fit.
    wide: AtomicBool,
    batch_rows: AtomicUsize,
    /// Calls of functions that build values, in the plan.
    calls: AtomicU64,
    /// When it was ended.
    ended: Mutex<Option<Instant>>,
    /// Which threads of the engine run it.
    pub(crate) threads: u64,
}

impl Control {
    pub(crate) fn new(limits: &Limits, threads: u64) -> Control {
        Control {
            limits: limits.clone(),
            deadline: Instant::now().checked_add(limits.time),
            over: AtomicU8::new(0),
            wide: AtomicBool::new(false),
            batch_rows: AtomicUsize::new(BATCH_ROWS),
            calls: AtomicU64::new(0),
            ended: Mutex::new(None),
            threads,
        }
    }

    /// Ends the query.
    pub(crate) fn end(&self, why: Over) {
        if self.over.compare_exchange(0, why as u8, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            *self.ended.lock() = Some(Instant::now());
        }
    }

    /// Whether the query may go on.
    pub(crate) fn check(&self) -> Result<()> {
        let error = match self.over.load(Ordering::Relaxed) {
            0 if self.deadline.is_none_or(|at| Instant::now() < at) => return Ok(()),
            0 => out_of_time(&self.limits),
            over if over == Over::Memory as u8 => QueryError::new(
                Code::Memory,
                "the service ran low on memory and ended the queries that were running; ask for less, or again later",
            ),
            _ => QueryError::new(Code::Time, "the query was cancelled"),
        };
        Err(DataFusionError::External(Box::new(error)))
    }

    /// How long the query has been over.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Duration> {
        let since = [*self.ended.lock(), self.deadline].into_iter().flatten().min()?;
        now.checked_duration_since(since)
    }

    /// Rows of a batch.
    pub(crate) fn batch_rows(&self) -> usize {
        self.batch_rows.load(Ordering::Relaxed)
    }

    pub(crate) fn set_batch_rows(&self, rows: usize) {
        self.batch_rows.store(rows, Ordering::Relaxed);
    }

    pub(crate) fn set_calls(&self, calls: u64) {
        self.calls.store(calls, Ordering::Relaxed);
    }

    /// Bytes that one call may build for one batch.
    pub(crate) fn call_bytes_max(&self) -> u64 {
        (BUILT_BYTES_MAX / self.calls.load(Ordering::Relaxed).max(1)).max(CALL_BYTES_MIN)
    }

    /// Bytes that one row may have where operators repeat values. Each call may copy the row.
    pub(crate) fn row_bytes_max(&self) -> u64 {
        let copies = self.calls.load(Ordering::Relaxed) + 1;
        BATCH_BYTES_MAX / self.batch_rows() as u64 / copies
    }

    /// An error for rows that are too wide, remembered so that the query can be tried with fewer rows at a time.
    pub(crate) fn too_wide(&self, what: &str) -> DataFusionError {
        self.wide.store(true, Ordering::Relaxed);
        DataFusionError::ResourcesExhausted(what.to_owned())
    }

    /// Whether the query failed for its wide rows and is worth another try, with fewer rows at a time.
    pub(crate) fn may_retry(&self) -> bool {
        self.wide.swap(false, Ordering::Relaxed) && self.batch_rows() > BATCH_ROWS_SMALL && self.check().is_ok()
    }
}

pub(crate) fn out_of_time(limits: &Limits) -> QueryError {
    let message =
        format!("the query took longer than {} s; ask for less time or fewer columns", limits.time.as_secs_f32());
    QueryError::new(Code::Time, message)
}
