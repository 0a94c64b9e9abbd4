//! Keeps the table small and quick while it is written to: compaction, checkpoints, cleanup, vacuum.
//!
//! Guarantee: no step adds, loses or changes a row, whenever it is killed and whoever else runs. A compaction is one
//! commit that takes files out and puts their merger in. Every commit of upkeep moves the position of the application
//! [`MAINT`] by one, through the same compare-and-set as any source: whoever planned on an older table is refused, so no
//! file is merged twice. Appends never get in the way. Nothing is deleted that the newest version, or a reader of a version
//! within the retention, can still want; and what is not committed is not waited for but found by its age.
//!
//! ```text
//!  plan on a snapshot ─▶ merge, write ─▶ read back, compare rows and leaves ─▶ commit: − inputs + output, maint n → n + 1
//!                                         differ: output deleted, error          refused: output deleted, plan again
//! ```

mod clean;
mod compact;
mod merge;

pub use clean::{Checkpointed, Cleaned, Vacuumed};
pub use compact::Compacted;

use crate::commit::CommitError;
use crate::lake::{Lake, LakeError};
use crate::log::LogError;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Application id whose position counts the commits of upkeep.
pub const MAINT: &str = "maint";

/// Says that a file must stay: legal holds, Object Lock, a sealer that has not read it.
pub type Keep = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Limits of upkeep.
#[derive(Clone)]
pub struct UpkeepSettings {
    /// Size that compaction works towards; a file of three quarters of it is left alone.
    pub target_bytes: u64,
    /// Files of like size that are worth a merge while their day is open. A closed day is merged from two on.
    pub inputs_min: usize,
    /// Files merged at once; each takes about 10 MB of memory while it is.
    pub inputs_max: usize,
    /// zstd level of merged files.
    pub zstd_level: i32,
    /// Commits after which a checkpoint is due.
    pub checkpoint_commits: u64,
    /// Age at which commits below a checkpoint are deleted. A process that slept longer than this with an open head could
    /// not tell that the log moved on, were its head not checked after ten minutes.
    pub log_retention: Duration,
    /// Commits from this version on are kept whatever their age: a sealer still wants them.
    pub log_keep_from: Option<u64>,
    /// Age, counted from when they left the table, at which files are deleted; longer than the longest query.
    pub file_retention: Duration,
    /// Files that stay whatever their age.
    pub keep: Keep,
    /// How often old commits are deleted by [`Upkeep::run`].
    pub cleanup_every: Duration,
    /// How often old files are deleted by [`Upkeep::run`].
    pub vacuum_every: Duration,
}

impl Default for UpkeepSettings {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        UpkeepSettings {
            target_bytes: 256 << 20,
            inputs_min: 8,
            inputs_max: 32,
            zstd_level: 3,
            checkpoint_commits: 200,
            log_retention: 7 * DAY,
            log_keep_from: None,
            file_retention: 7 * DAY,
            keep: Arc::new(|_| false),
            cleanup_every: DAY / 24,
            vacuum_every: DAY,
        }
    }
}

impl fmt::Debug for UpkeepSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpkeepSettings")
            .field("target_bytes", &self.target_bytes)
            .field("log_retention", &self.log_retention)
            .field("file_retention", &self.file_retention)
            .finish_non_exhaustive()
    }
}

/// Why a step of upkeep did not finish. Whatever it is, the table is as it was.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The lake could not be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The merger could not be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// An input cannot be read as rows; it is left alone for an hour.
    #[error("could not merge `{path}`")]
    Unreadable {
        /// Path below the table.
        path: String,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Files could not be merged.
    #[error("could not merge {inputs} files into `{output}`")]
    Merge {
        /// Number of inputs.
        inputs: usize,
        /// Path below the table.
        output: String,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What was written is not what was read.
    #[error("merging into `{output}` changed its rows: {detail}")]
    Changed {
        /// Path below the table.
        output: String,
        /// What differs.
        detail: String,
    },
    /// A checkpoint could not be encoded, or does not read back to the table.
    #[error("could not write checkpoint {version}")]
    Checkpoint {
        /// Version.
        version: u64,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Upkeep of the records of one lake.
#[derive(Clone, Debug)]
pub struct Upkeep {
    lake: Arc<Lake>,
    settings: UpkeepSettings,
    /// Files that could not be merged, and until when they are left alone: one bad file must not hold up the others.
    avoided: Arc<Mutex<HashMap<String, Duration>>>,
}

impl Upkeep {
    /// Upkeep of a lake.
    pub fn new(lake: Arc<Lake>, settings: UpkeepSettings) -> Upkeep {
        Upkeep { lake, settings, avoided: Arc::default() }
    }

    /// Does what is due, every `interval`, until cancelled. A step that fails is reported and tried again later.
    pub async fn run(&self, interval: Duration, cancel: CancellationToken) {
        let clock = self.lake.records().clock().clone();
        let (mut cleaned, mut vacuumed) = (clock.monotonic(), clock.monotonic());
        while !cancel.is_cancelled() {
            let began = clock.monotonic();
            loop {
                match self.compact_once().await {
                    Ok(None) => break,
                    Ok(Some(_)) if cancel.is_cancelled() => return,
                    Ok(Some(_)) => {}
                    Err(UpkeepError::Commit(CommitError::Fenced { .. })) => break,
                    // There may be others to merge.
                    Err(e @ (UpkeepError::Unreadable { .. } | UpkeepError::Changed { .. })) => report("compaction", &e),
                    Err(e) => {
                        report("compaction", &e);
                        break;
                    }
                }
                if let Err(e) = self.checkpoint_if_due().await {
                    report("checkpoint", &e);
                }
            }
            if let Err(e) = self.checkpoint_if_due().await {
                report("checkpoint", &e);
            }
            if began.saturating_sub(cleaned) >= self.settings.cleanup_every {
                cleaned = began;
                if let Err(e) = self.cleanup_once().await {
                    report("log cleanup", &e);
                }
            }
            if began.saturating_sub(vacuumed) >= self.settings.vacuum_every {
                vacuumed = began;
                if let Err(e) = self.vacuum_once().await {
                    report("vacuum", &e);
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }
}

fn report(step: &str, error: &UpkeepError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(step, %error, cause, "upkeep failed");
}
