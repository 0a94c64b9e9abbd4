//! What the log of the lake says, and whether it says all of it.
//!
//! Guarantee: whoever writes the lake and whoever reads it give one verdict on a commit, a checkpoint, a list of versions and a
//! data file: whole, or an error that says what is wrong. There is no second parser. Nothing here does I/O: callers
//! bring bytes and names.
//!
//! | module | holds |
//! |---|---|
//! | [`commit`] | the actions of a commit, and when it is whole |
//! | [`checkpoint`] | the actions of a checkpoint |
//! | [`names`] | names of files in the log, and which of them make a table |
//! | [`protocol`] | which tables this build may read, and which it may write |
//! | [`digest`] | the digest of a data file that stands in its log entry |
//! | [`width`] | how wide its rows are, which stands there too |
//! | [`parquet_file`] | Parquet that may be damaged: an error, never a panic |

pub mod checkpoint;
pub mod commit;
pub mod digest;
pub mod names;
pub mod parquet_file;
pub mod protocol;
pub mod width;
