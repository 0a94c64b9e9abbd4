//! Reads a Delta log: commits as JSON, checkpoints as Parquet.
//!
//! Guarantee: [`replay`] gives the table at its newest version, or an error; never an older version taken for the newest,
//! a gap, half a commit, or an empty table where data files lie without their log. A commit that cannot be read is an
//! error that names the file. The one exception is a last commit in a local folder whose bytes are damaged: commits there are
//! fsynced before they get their name, so it is put aside and reported, and as long as it lies there vacuum keeps the
//! files that it may have named. What is whole is decided in `catena-lake`, for readers too.

use crate::checkpoint;
use crate::commit::DataFile;
use crate::store::{list_from, read};
use catena_lake::commit::{Add, Fault};
pub(crate) use catena_lake::commit::{Commit, Metadata, Protocol};
use catena_lake::names::{self, HINT, Plan};
pub(crate) use catena_lake::names::{LOG, Name};
use catena_schemas::Micros;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Commits read at once when a table is opened.
const READ_AHEAD: usize = 16;

/// Why a log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The store failed.
    #[error("could not {attempted} of `{table}`")]
    Store {
        /// What was tried.
        attempted: String,
        /// Table.
        table: String,
        /// Cause.
        source: object_store::Error,
    },
    /// A file of the log makes no sense.
    #[error("`{path}` of `{table}` cannot be read: {detail}")]
    Broken {
        /// File.
        path: String,
        /// Table.
        table: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Versions are missing.
    #[error("the log of `{table}` lacks version {version}")]
    Gap {
        /// Table.
        table: String,
        /// First missing version.
        version: u64,
    },
    /// Data files without the log that says which of them count.
    #[error(
        "`{table}` holds data files (`{example}`), but its log `{table}/_delta_log` is missing or empty: probably a copy or \
         restore left out names that begin with `_`; restore the log too, or name an empty place"
    )]
    NoLog {
        /// Table.
        table: String,
        /// One of the files.
        example: String,
    },
    /// A log without a version, although there was one.
    #[error(
        "the log of `{table}` names checkpoint {version} and holds no version: probably a part of it was not copied or \
         restored; restore `{table}/_delta_log` whole"
    )]
    Emptied {
        /// Table.
        table: String,
        /// What the hint says.
        version: u64,
    },
    /// The table needs something that this build does not have.
    #[error("`{table}` needs {what}, which this build does not have")]
    Unsupported {
        /// Table.
        table: String,
        /// Feature.
        what: String,
    },
    /// A column is stored as something else.
    #[error("column `{column}` of `{table}` is stored as {stored}, not {wanted}")]
    Column {
        /// Column.
        column: String,
        /// Table.
        table: String,
        /// Stored type.
        stored: String,
        /// Type of this build.
        wanted: String,
    },
}

/// A file that is part of the table.
#[derive(Clone, Debug)]
pub struct ActiveFile {
    /// What the log says of it.
    pub file: DataFile,
    /// When it was written, in milliseconds since the epoch.
    pub modified: i64,
    /// When its newest row arrived, in milliseconds; merging files does not change it.
    pub arrived: i64,
}

/// A file that no longer is.
#[derive(Clone, Debug)]
pub(crate) struct Tombstone {
    pub(crate) deleted: i64,
    pub(crate) data_change: bool,
    pub(crate) partition: BTreeMap<String, Option<String>>,
    pub(crate) size: i64,
}

/// How far a source has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) version: i64,
    pub(crate) updated: Option<i64>,
}

/// A file as the log has it, with what upkeep and readers ask of it.
fn active(add: Add) -> ActiveFile {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase")]
    struct Stats {
        #[serde(default)]
        num_records: u64,
        #[serde(default)]
        max_values: Max,
    }
    #[derive(Deserialize, Default)]
    struct Max {
        ingest_time: Option<String>,
    }
    let text = add.stats.unwrap_or_default();
    let stats: Stats = serde_json::from_str(&text).unwrap_or_default();
    let arrived = stats.max_values.ingest_time.and_then(|t| Micros::parse_rfc3339(&t)).map(Micros::millis);
    ActiveFile {
        file: DataFile {
            path: add.path,
            size: add.size,
            rows: stats.num_records,
            partition: add.partition,
            stats: text,
            digest: add.digest,
            row_bytes: add.row_bytes,
        },
        modified: add.modified,
        arrived: arrived.unwrap_or(add.modified),
    }
}

/// Files that a commit added, and whether their rows are new.
pub(crate) fn added(commit: &Commit) -> (Vec<Arc<ActiveFile>>, bool) {
    let files = commit.adds.iter().cloned().map(|add| Arc::new(active(add))).collect();
    (files, commit.adds.iter().any(|add| add.data_change))
}

/// A table at a version.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) version: u64,
    pub(crate) txns: HashMap<String, Position>,
    pub(crate) files: HashMap<String, Arc<ActiveFile>>,
    pub(crate) tombstones: HashMap<String, Arc<Tombstone>>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) protocol: Option<Protocol>,
}

impl State {
    pub(crate) fn empty() -> State {
        State {
            version: 0,
            txns: HashMap::new(),
            files: HashMap::new(),
            tombstones: HashMap::new(),
            metadata: None,
            protocol: None,
        }
    }

    /// Goes on by one commit.
    pub(crate) fn apply(&mut self, version: u64, commit: Commit) {
        for r in commit.removes {
            self.files.remove(&r.path);
            let tombstone =
                Tombstone { deleted: r.deleted, data_change: r.data_change, partition: r.partition, size: r.size };
            self.tombstones.insert(r.path, Arc::new(tombstone));
        }
        for add in commit.adds {
            self.tombstones.remove(&add.path);
            self.files.insert(add.path.clone(), Arc::new(active(add)));
        }
        self.txns.extend(commit.txns.into_iter().map(|t| (t.app, Position { version: t.version, updated: t.updated })));
        self.metadata = commit.metadata.or(self.metadata.take());
        self.protocol = commit.protocol.or(self.protocol.take());
        self.version = version;
    }

    /// The files, newest first.
    pub(crate) fn newest_first(&self) -> Vec<Arc<ActiveFile>> {
        let mut files: Vec<_> = self.files.values().cloned().collect();
        files.sort_unstable_by(|a, b| (b.arrived, &b.file.path).cmp(&(a.arrived, &a.file.path)));
        files
    }
}

/// Path of a commit.
pub(crate) fn commit_path(version: u64) -> Path {
    Path::from(format!("{LOG}/{}", names::commit(version)))
}

/// Path of a checkpoint in one file.
pub(crate) fn checkpoint_path(version: u64) -> Path {
    Path::from(format!("{LOG}/{}", names::checkpoint(version)))
}

/// Path of the hint to the last checkpoint.
pub(crate) fn hint_path() -> Path {
    Path::from(format!("{LOG}/{HINT}"))
}

/// Where a path of the log, URL-encoded as Delta wants it, lies in the store.
pub(crate) fn object_path(path: &str) -> Result<Path, object_store::Error> {
    Path::from_url_path(path).map_err(Into::into)
}

/// What a file of the log is.
pub(crate) fn name_of(path: &Path) -> Name {
    Name::of(path.filename().unwrap_or_default())
}

/// A table read to its end, and what was put aside on the way.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) state: State,
    pub(crate) sidelined: Option<String>,
}

/// Reads a table to its newest version; `None` when it does not exist. `sideline` names the ending that a damaged
/// last commit gets, where the store is a folder.
pub(crate) async fn replay(
    store: &dyn ObjectStore,
    table: &str,
    sideline: Option<&str>,
) -> Result<Option<Replayed>, LogError> {
    // A listing from the hinted checkpoint on spares a long log; without one, or past a broken one, all of it is listed.
    let hint = hinted(store).await;
    let mut plan = planned(store, table, hint).await?;
    let mut checkpoint = newest_checkpoint(store, table, &plan).await?;
    if checkpoint.is_none() && hint.is_some() {
        plan = planned(store, table, None).await?;
        checkpoint = newest_checkpoint(store, table, &plan).await?;
    }
    if plan.is_empty() {
        return nothing(store, table, hint).await;
    }
    let gap = |gap: names::Gap| LogError::Gap { table: table.to_owned(), version: gap.0 };
    let versions = plan.after(checkpoint.as_ref().map(|state| state.version)).map_err(gap)?;
    let mut state = checkpoint.unwrap_or_else(State::empty);
    let last = versions.last().copied();
    let mut commits = futures::stream::iter(versions)
        .map(|version| async move {
            let path = commit_path(version);
            let bytes = read(store, &path).await.map_err(|source| LogError::Store {
                attempted: format!("read version {version}"),
                table: table.to_owned(),
                source,
            })?;
            let Some(bytes) = bytes else { return Err(LogError::Gap { table: table.to_owned(), version }) };
            Ok((version, Commit::parse(&bytes)))
        })
        .buffered(READ_AHEAD);
    let mut sidelined = None;
    while let Some((version, commit)) = commits.try_next().await? {
        match (commit, sideline.filter(|_| Some(version) == last)) {
            (Ok(commit), _) => state.apply(version, commit),
            (Err(fault), Some(ending)) if fault.is_torn() => {
                sidelined = Some(put_aside(store, table, version, ending, &fault).await?);
            }
            (Err(fault), _) => return Err(broken(&commit_path(version), table, &fault)),
        }
    }
    if state.metadata.is_none() || state.protocol.is_none() {
        // Version 0 itself was put aside: the table was never acknowledged to exist.
        if state.files.is_empty() && sidelined.is_some() {
            nothing(store, table, None).await?;
            return Ok(None);
        }
        let path = commit_path(0).to_string();
        return Err(LogError::Broken {
            path,
            table: table.to_owned(),
            detail: "it has no metadata or protocol".into(),
        });
    }
    Ok(Some(Replayed { state, sidelined }))
}

/// The error of a file of the log.
pub(crate) fn broken(path: &Path, table: &str, fault: &Fault) -> LogError {
    LogError::Broken { path: path.to_string(), table: table.to_owned(), detail: fault.to_string() }
}

/// Lists the log, from a version on.
async fn planned(store: &dyn ObjectStore, table: &str, from: Option<u64>) -> Result<Plan, LogError> {
    let failed = |source| LogError::Store { attempted: "list the log".into(), table: table.to_owned(), source };
    let from = from.map(|v| Path::from(format!("{LOG}/{:020}", v.saturating_sub(1))));
    let listing = list_from(store, &Path::from(LOG), from.as_ref()).await.map_err(failed)?;
    Ok(Plan::of(listing.iter().filter_map(|o| o.location.filename())))
}

/// A log without a version: no table, unless there are files that only its log could explain.
async fn nothing(store: &dyn ObjectStore, table: &str, hint: Option<u64>) -> Result<Option<Replayed>, LogError> {
    if let Some(version) = hint {
        return Err(LogError::Emptied { table: table.to_owned(), version });
    }
    let failed = |source| LogError::Store { attempted: "list the files".into(), table: table.to_owned(), source };
    let mut found = store.list(None).try_filter(|o| std::future::ready(is_data(o)));
    let Some(file) = found.try_next().await.map_err(failed)? else { return Ok(None) };
    // Another process may have made the table and written to it since the log was listed.
    match planned(store, table, None).await?.is_empty() {
        true => Err(LogError::NoLog { table: table.to_owned(), example: file.location.to_string() }),
        false => Ok(None),
    }
}

/// Whether an object of the table is a data file. Names that begin with `_` or `.` belong to the table itself.
pub(crate) fn is_data(object: &ObjectMeta) -> bool {
    let hidden = object.location.parts().next().is_none_or(|p| p.as_ref().starts_with(['_', '.']));
    !hidden && object.location.as_ref().ends_with(".parquet")
}

/// Gives a damaged last commit another name, and says which.
async fn put_aside(
    store: &dyn ObjectStore,
    table: &str,
    version: u64,
    ending: &str,
    fault: &Fault,
) -> Result<String, LogError> {
    let path = commit_path(version);
    let aside = Path::from(format!("{path}.broken-{ending}"));
    store.rename(&path, &aside).await.map_err(|source| LogError::Store {
        attempted: format!("put the unreadable version {version} aside"),
        table: table.to_owned(),
        source,
    })?;
    Ok(format!("{aside}: {fault}"))
}

/// The version that `_last_checkpoint` names; a broken hint is no hint.
pub(crate) async fn hinted(store: &dyn ObjectStore) -> Option<u64> {
    #[derive(Deserialize)]
    struct Hint {
        version: u64,
    }
    let bytes = read(store, &hint_path()).await.ok().flatten()?;
    serde_json::from_slice::<Hint>(&bytes).ok().map(|h| h.version)
}

/// Reads the newest complete checkpoint of a listing that can be read.
async fn newest_checkpoint(store: &dyn ObjectStore, table: &str, plan: &Plan) -> Result<Option<State>, LogError> {
    for (version, files) in &plan.checkpoints {
        let paths: Vec<Path> = files.iter().map(|name| Path::from(format!("{LOG}/{name}"))).collect();
        match checkpoint::read_state(store, table, *version, &paths).await {
            Ok(state) => return Ok(Some(state)),
            // An older one, or the commits themselves, may still tell the whole story; if not, the gap is the error.
            Err(LogError::Broken { path, detail, .. }) => tracing::warn!(table, path, detail, "checkpoint skipped"),
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
