//! Reads a Delta log: commits as JSON, checkpoints as Parquet.
//!
//! Guarantee: [`replay`] gives the table at its newest version, or an error; never an older version taken for the newest,
//! a gap, or half a commit. A commit that cannot be read is an error that names the file. The one exception is the last
//! commit in a local folder: commits there are fsynced before they get their name, so such a file was never
//! acknowledged by us, and it is put aside and reported.

use crate::checkpoint;
use crate::commit::DataFile;
use crate::store::{list_from, read};
use catena_schemas::Micros;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Folder of the log.
pub(crate) const LOG: &str = "_delta_log";
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

/// The `metaData` action.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) schema_string: String,
    #[serde(default)]
    pub(crate) partition_columns: Vec<String>,
    #[serde(default)]
    pub(crate) configuration: BTreeMap<String, String>,
    pub(crate) created_time: Option<i64>,
}

/// The `protocol` action.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub(crate) min_reader_version: i32,
    pub(crate) min_writer_version: i32,
    #[serde(default)]
    pub(crate) reader_features: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) writer_features: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddLine {
    path: String,
    #[serde(default)]
    partition_values: HashMap<String, Option<String>>,
    size: i64,
    modification_time: i64,
    #[serde(default = "yes")]
    data_change: bool,
    stats: Option<String>,
    deletion_vector: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemoveLine {
    path: String,
    deletion_timestamp: Option<i64>,
    #[serde(default = "yes")]
    data_change: bool,
    #[serde(default)]
    partition_values: Option<BTreeMap<String, Option<String>>>,
    size: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TxnLine {
    app_id: String,
    version: i64,
    last_updated: Option<i64>,
}

#[derive(Deserialize)]
struct InfoLine {
    catena: Option<CatenaInfo>,
}

/// What our own commits say of themselves.
#[derive(Deserialize)]
struct CatenaInfo {
    nonce: String,
    /// Lines of the commit: a file cut at the end of a line is told from a whole one.
    actions: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    add: Option<AddLine>,
    remove: Option<RemoveLine>,
    txn: Option<TxnLine>,
    meta_data: Option<Metadata>,
    protocol: Option<Protocol>,
    commit_info: Option<InfoLine>,
}

fn yes() -> bool {
    true
}

/// One commit, read.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// Marks our own.
    pub(crate) nonce: Option<String>,
    pub(crate) adds: Vec<ActiveFile>,
    /// Whether the added rows are new, not only rewritten.
    pub(crate) new_rows: bool,
    pub(crate) removes: Vec<(String, Tombstone)>,
    pub(crate) txns: Vec<(String, Position)>,
    pub(crate) metadata: Option<Metadata>,
    pub(crate) protocol: Option<Protocol>,
}

impl Commit {
    /// Reads a commit, whole.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Commit, String> {
        let mut commit = Commit::default();
        let (lines, expected) = commit.take(bytes)?;
        match expected {
            _ if lines == 0 => Err("it is empty".into()),
            Some(n) if n != lines => Err(format!("it has {lines} of {n} lines")),
            _ => Ok(commit),
        }
    }

    /// Takes in lines of actions: how many there were, and how many there should be.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<usize>), String> {
        let commit = self;
        let (mut lines, mut expected) = (0, None);
        for line in bytes.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()) {
            lines += 1;
            let line: Line = serde_json::from_slice(line).map_err(|e| format!("line {lines}: {e}"))?;
            if let Some(add) = line.add {
                if add.deletion_vector.as_ref().is_some_and(|v| !v.is_null()) {
                    return Err(format!("line {lines}: deletion vectors are not supported"));
                }
                commit.new_rows |= add.data_change;
                commit.adds.push(active(add));
            }
            if let Some(r) = line.remove {
                let tombstone = Tombstone {
                    deleted: r.deletion_timestamp.unwrap_or(0),
                    data_change: r.data_change,
                    partition: r.partition_values.unwrap_or_default(),
                    size: r.size.unwrap_or(0),
                };
                commit.removes.push((r.path, tombstone));
            }
            if let Some(t) = line.txn {
                commit.txns.push((t.app_id, Position { version: t.version, updated: t.last_updated }));
            }
            if let Some(InfoLine { catena: Some(info) }) = line.commit_info {
                commit.nonce = Some(info.nonce);
                expected = Some(info.actions);
            }
            commit.metadata = line.meta_data.or(commit.metadata.take());
            commit.protocol = line.protocol.or(commit.protocol.take());
        }
        Ok((lines, expected))
    }
}

fn active(add: AddLine) -> ActiveFile {
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
            size: add.size.max(0) as u64,
            rows: stats.num_records,
            partition: add.partition_values.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect(),
            stats: text,
        },
        modified: add.modification_time,
        arrived: arrived.unwrap_or(add.modification_time),
    }
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
        for (path, tombstone) in commit.removes {
            self.files.remove(&path);
            self.tombstones.insert(path, Arc::new(tombstone));
        }
        for add in commit.adds {
            self.tombstones.remove(&add.file.path);
            self.files.insert(add.file.path.clone(), Arc::new(add));
        }
        self.txns.extend(commit.txns);
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

/// Name of a commit.
pub(crate) fn commit_path(version: u64) -> Path {
    Path::from(format!("{LOG}/{version:020}.json"))
}

/// Name of a checkpoint in one file.
pub(crate) fn checkpoint_path(version: u64) -> Path {
    Path::from(format!("{LOG}/{version:020}.checkpoint.parquet"))
}

/// Name of the hint to the last checkpoint.
pub(crate) fn hint_path() -> Path {
    Path::from(format!("{LOG}/_last_checkpoint"))
}

/// Where a path of the log, URL-encoded as Delta wants it, lies in the store.
pub(crate) fn object_path(path: &str) -> Result<Path, object_store::Error> {
    Path::from_url_path(path).map_err(Into::into)
}

/// What a file of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Commit(u64),
    /// Version, part and number of parts.
    Checkpoint(u64, u32, u32),
    Other,
}

impl Name {
    pub(crate) fn version(self) -> Option<u64> {
        match self {
            Name::Commit(version) | Name::Checkpoint(version, ..) => Some(version),
            Name::Other => None,
        }
    }

    pub(crate) fn of(path: &Path) -> Name {
        let name = path.filename().unwrap_or_default();
        let mut parts = name.split('.');
        let Some(version) = parts.next().filter(|v| v.len() == 20).and_then(|v| v.parse().ok()) else {
            return Name::Other;
        };
        match parts.collect::<Vec<_>>()[..] {
            ["json"] => Name::Commit(version),
            ["checkpoint", "parquet"] => Name::Checkpoint(version, 1, 1),
            ["checkpoint", part, of, "parquet"] => match (part.parse(), of.parse()) {
                (Ok(part), Ok(of)) => Name::Checkpoint(version, part, of),
                _ => Name::Other,
            },
            _ => Name::Other,
        }
    }
}

/// A table read to its end, and what was put aside on the way.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) state: State,
    pub(crate) sidelined: Option<String>,
}

/// Reads a table to its newest version; `None` when it does not exist. `sideline` names the ending that an unreadable
/// last commit gets, where the store is a folder.
pub(crate) async fn replay(
    store: &dyn ObjectStore,
    table: &str,
    sideline: Option<&str>,
) -> Result<Option<Replayed>, LogError> {
    let log = Path::from(LOG);
    let failed = |source| LogError::Store { attempted: "list the log".into(), table: table.to_owned(), source };
    // A listing from the hinted checkpoint on spares a long log; without one, or past a broken one, all of it is listed.
    let hint = hinted(store).await;
    let from = hint.map(|v| Path::from(format!("{LOG}/{:020}", v.saturating_sub(1))));
    let mut listing = list_from(store, &log, from.as_ref()).await.map_err(failed)?;
    let mut checkpoint = newest_checkpoint(store, table, &listing).await?;
    if checkpoint.is_none() && hint.is_some() {
        listing = list_from(store, &log, None).await.map_err(failed)?;
        checkpoint = newest_checkpoint(store, table, &listing).await?;
    }
    let mut versions: Vec<u64> = listing
        .iter()
        .filter_map(|o| match Name::of(&o.location) {
            Name::Commit(version) => Some(version),
            _ => None,
        })
        .collect();
    versions.sort_unstable();
    let (mut state, first) = match checkpoint {
        Some(state) => {
            let first = state.version + 1;
            (state, first)
        }
        None if versions.is_empty() => return Ok(None),
        None => (State::empty(), 0),
    };
    versions.retain(|v| *v >= first);
    for (want, version) in (first..).zip(&versions) {
        if want != *version {
            return Err(LogError::Gap { table: table.to_owned(), version: want });
        }
    }
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
        match commit {
            Ok(commit) => state.apply(version, commit),
            Err(detail) => {
                let path = commit_path(version);
                let (Some(ending), true) = (sideline, Some(version) == last) else {
                    return Err(LogError::Broken { path: path.to_string(), table: table.to_owned(), detail });
                };
                let aside = Path::from(format!("{path}.broken-{ending}"));
                store.rename(&path, &aside).await.map_err(|source| LogError::Store {
                    attempted: format!("put the unreadable version {version} aside"),
                    table: table.to_owned(),
                    source,
                })?;
                sidelined = Some(format!("{aside}: {detail}"));
            }
        }
    }
    if state.metadata.is_none() || state.protocol.is_none() {
        // Version 0 itself was put aside: the table was never acknowledged to exist.
        if state.files.is_empty() && sidelined.is_some() {
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

/// The version that `_last_checkpoint` names; a broken hint is no hint.
async fn hinted(store: &dyn ObjectStore) -> Option<u64> {
    #[derive(Deserialize)]
    struct Hint {
        version: u64,
    }
    let bytes = read(store, &hint_path()).await.ok().flatten()?;
    serde_json::from_slice::<Hint>(&bytes).ok().map(|h| h.version)
}

/// Reads the newest complete checkpoint of a listing that can be read.
async fn newest_checkpoint(
    store: &dyn ObjectStore,
    table: &str,
    listing: &[object_store::ObjectMeta],
) -> Result<Option<State>, LogError> {
    let mut found: BTreeMap<(u64, u32), Vec<(u32, Path)>> = BTreeMap::new();
    for object in listing {
        if let Name::Checkpoint(version, part, of) = Name::of(&object.location) {
            found.entry((version, of)).or_default().push((part, object.location.clone()));
        }
    }
    for ((version, of), mut parts) in found.into_iter().rev() {
        if parts.len() as u32 != of {
            continue;
        }
        parts.sort_unstable();
        let paths: Vec<Path> = parts.into_iter().map(|p| p.1).collect();
        match checkpoint::read_state(store, table, version, &paths).await {
            Ok(state) => return Ok(Some(state)),
            // An older one, or the commits themselves, may still tell the whole story; if not, the gap is the error.
            Err(LogError::Broken { path, detail, .. }) => tracing::warn!(table, path, detail, "checkpoint skipped"),
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}
