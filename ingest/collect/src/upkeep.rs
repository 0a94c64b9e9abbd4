//! Keeps the table small and quick while it is written to: compaction, checkpoints, cleanup, vacuum.
//!
//! Guarantee: no step adds, loses or changes a row, whenever it is killed and whoever else runs. A compaction is one
//! commit that takes files out and puts their merger in. Every commit of upkeep moves the position of the application
//! [`MAINT`] by one, through the same compare-and-set as any source: whoever planned on an older table is refused, so no
//! file is merged twice. Appends never get in the way. Nothing is deleted that the newest version, or a reader of a version
//! within the retention, can still want; what is not committed is not waited for but found by its age; and what the log
//! does not explain is left alone when there is too much of it. A file that is damaged, or of a newer version, is left alone
//! and does not hold up the others.
//!
//! ```text
//!  plan on a snapshot ─▶ merge, write ─▶ read back, compare rows and leaves ─▶ commit: − inputs + output, maint n → n + 1
//!                                         differ: output deleted, error          refused: output deleted, plan again
//! ```

mod clean;
mod compact;
mod explain;
mod merge;
mod scrub;

pub use clean::{Checkpointed, Cleaned, Vacuumed};
pub use compact::Compacted;
pub use explain::{Doubt, Refused};
pub use scrub::{Damage, Scrubbed};

use crate::commit::CommitError;
use crate::lake::{Lake, LakeError};
use crate::log::LogError;
use crate::metrics::Metrics;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
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
    /// Files that no log entry explains and that vacuum may delete in one round. `None` is what dead writers leave behind (16
    /// files, or a tenth of those that the log knows) and nothing when the log is in doubt; a number decides alone.
    pub unexplained_max: Option<usize>,
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
            unexplained_max: None,
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
    /// Files would go that the log does not explain; they stay.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// An input holds what only a newer build knows. It stays as it is, for that one to merge.
    #[error("`{path}` was written by a newer version: {detail}; it is not merged")]
    Newer {
        /// Path below the table.
        path: String,
        /// What is not known.
        detail: String,
    },
    /// An input is not what was written. It is left alone, and so is what it would be merged with, for an hour.
    #[error("`{path}` is damaged: {detail}; restore it from a copy, and find out why the disk changed it")]
    Damaged {
        /// Path below the table.
        path: String,
        /// How.
        detail: String,
    },
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
    /// Files of newer versions that were reported: once is enough.
    newer: Arc<Mutex<HashSet<String>>>,
    metrics: Option<Arc<Metrics>>,
}

impl Upkeep {
    /// Upkeep of a lake.
    pub fn new(lake: Arc<Lake>, settings: UpkeepSettings) -> Upkeep {
        // Vacuum may run a day late, and a day more.
        lake.records().keep_tombstones(settings.file_retention + 2 * settings.vacuum_every);
        Upkeep { lake, settings, avoided: Arc::default(), newer: Arc::default(), metrics: None }
    }

    /// The same, counting what fails.
    pub fn counting(self, metrics: Arc<Metrics>) -> Upkeep {
        Upkeep { metrics: Some(metrics), ..self }
    }

    /// Does what is due, every `interval`, until cancelled. A step that fails is reported and tried again later.
    pub async fn run(&self, interval: Duration, cancel: CancellationToken) {
        let clock = self.lake.records().clock().clone();
        let started = clock.monotonic();
        // A process that is restarted every day vacuums too: an hour after its start, not a day.
        let first = self.settings.vacuum_every.min(self.settings.cleanup_every);
        let (mut cleaned, mut vacuum_at) = (started, started + first);
        while !cancel.is_cancelled() {
            let began = clock.monotonic();
            loop {
                match self.compact_once().await {
                    Ok(None) => break,
                    Ok(Some(_)) if cancel.is_cancelled() => return,
                    Ok(Some(_)) => {}
                    Err(UpkeepError::Commit(CommitError::Fenced { .. })) => break,
                    // There may be others to merge.
                    Err(e) if e.is_of_one_file() => self.report("compaction", &e),
                    Err(e) => {
                        self.report("compaction", &e);
                        break;
                    }
                }
                if let Err(e) = self.checkpoint_if_due().await {
                    self.report("checkpoint", &e);
                }
            }
            if let Err(e) = self.checkpoint_if_due().await {
                self.report("checkpoint", &e);
            }
            if began.saturating_sub(cleaned) >= self.settings.cleanup_every {
                cleaned = began;
                if let Err(e) = self.cleanup_once().await {
                    self.report("log cleanup", &e);
                }
            }
            if began >= vacuum_at {
                vacuum_at = began + self.settings.vacuum_every;
                match self.vacuum_once().await {
                    Ok(_) => self.count(|m| m.vacuum_refused(0)),
                    Err(e) => self.report("vacuum", &e),
                }
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Says what failed, and counts it.
    fn report(&self, step: &'static str, error: &UpkeepError) {
        if let UpkeepError::Newer { path, detail } = error {
            if self.newer.lock().insert(path.clone()) {
                tracing::info!(step, path, detail, "file of a newer version left alone");
            }
            return;
        }
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        match error {
            UpkeepError::Damaged { .. } => tracing::error!(step, %error, cause, "upkeep found a damaged file"),
            UpkeepError::Refused(refused) => tracing::warn!(step, %error, hint = refused.hint(), "upkeep refused"),
            _ => tracing::warn!(step, %error, cause, "upkeep failed"),
        }
        self.count(|m| m.upkeep_failed(step));
        if let UpkeepError::Refused(refused) = error {
            self.count(|m| m.vacuum_refused(refused.files));
        }
    }

    fn count(&self, what: impl FnOnce(&Metrics)) {
        if let Some(metrics) = &self.metrics {
            what(metrics);
        }
    }
}

impl UpkeepError {
    /// Whether one file is at fault, so that others can still be merged.
    pub fn is_of_one_file(&self) -> bool {
        use UpkeepError::{Changed, Damaged, Newer, Unreadable};
        matches!(self, Unreadable { .. } | Changed { .. } | Newer { .. } | Damaged { .. })
    }
}
