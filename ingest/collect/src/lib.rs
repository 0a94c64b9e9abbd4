//! Collects: moves bytes in and makes rows durable.
//!
//! Guarantee: an acknowledged record is in the lake exactly once, as a decision, an execution, a record of authority, a
//! rejection or an aside. Rows and the offsets they were read at land in one Delta commit, which is refused unless each range
//! starts where the last ended; a source is told "done" only after that commit, or after its bytes are fsynced in the intake log.
//!
//! ```text
//!  receive ──▶ worker: decode, rows, leaf ──▶ batch: sort, Parquet, fsync ──▶ commit: rows + offsets, compare-and-set
//!  kafka, http + intake log, file                                              upkeep: checkpoint, compact, vacuum
//! ```

pub mod batch;
mod checkpoint;
pub mod commit;
pub mod duplicates;
pub mod intake;
pub mod lake;
pub mod log;
pub mod metrics;
pub mod private;
pub mod publish;
pub mod receive;
pub mod store;
pub mod upkeep;
pub mod worker;

#[cfg(test)]
mod trials;
