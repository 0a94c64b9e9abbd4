//! Replays the Delta log of `records`: which files hold the rows, and what is known of each.
//!
//! Guarantees: a [`Snapshot`] is one version of the table, whole; it never changes. A refresh reads only the entries
//! that are new. What this reader does not understand (deletion vectors, column mapping, unknown features) is refused,
//! never guessed. An entry that is not whole is an error that names it, also when it is the last one: its rows may have been
//! acknowledged. Data files without a log are an error too, not an empty lake. What is whole is decided in
//! `catena-lake`, for the writer too.

use crate::error::LakeError;
use bytes::Bytes;
use catena_lake::checkpoint::{self, CheckpointError};
use catena_lake::commit::{Add, Commit, Fault};
use catena_lake::digest::Digest;
use catena_lake::names::{self, HINT, LOG, Plan};
use catena_lake::protocol::not_readable;
use catena_schemas::Micros;
use catena_schemas::table::{Field, Kind, PARTITIONS, RECORDS};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Log entries read at once.
const READ_AHEAD: usize = 16;

/// One data file.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFile {
    /// Path in the store.
    pub location: Path,
    /// Bytes.
    pub size: u64,
    /// When it was written, in milliseconds since the epoch.
    pub modified: i64,
    /// Partition value.
    pub tenant: Arc<str>,
    /// Partition value, as `YYYY-MM-DD`.
    pub ingest_date: Arc<str>,
    /// Partition value.
    pub class: Arc<str>,
    /// Rows, if the log says.
    pub rows: Option<u64>,
    /// Digest of its bytes, if the log says.
    pub digest: Option<Digest>,
    /// Bytes that no row of it exceeds, if the log says.
    pub row_bytes: Option<u64>,
    /// All its rows were in the lake from this version on, in this file or in those that it was made from. Or from an earlier
    /// one: whoever reads a checkpoint does not know.
    pub(crate) rows_since: u64,
    /// What the log says of its columns.
    pub(crate) bounds: Vec<(Field, Bounds)>,
}

/// What the log says of one column of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bounds {
    pub(crate) min: Option<Bound>,
    pub(crate) max: Option<Bound>,
    pub(crate) nulls: Option<u64>,
}

/// A bound. Instants are microseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bound {
    Text(Box<str>),
    Long(i64),
}

impl DataFile {
    pub(crate) fn bounds(&self, field: Field) -> Option<&Bounds> {
        self.bounds.iter().find(|(f, _)| *f == field).map(|(_, b)| b)
    }
}

/// Files of one tenant, by path in the log.
type Files = BTreeMap<Arc<str>, Arc<DataFile>>;

/// One version of `records`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    version: Option<u64>,
    tenants: BTreeMap<Arc<str>, Arc<Files>>,
    /// Where each path stands, so that a removal finds it.
    tenant_of: Arc<HashMap<Arc<str>, Arc<str>>>,
    /// When a tenant last lost rows, as opposed to files whose rows are in others now.
    lost: Arc<BTreeMap<Arc<str>, u64>>,
    /// What was read at once from a checkpoint: whatever a tenant lost, it was not after that.
    begun: Option<u64>,
}

impl Snapshot {
    /// Version of the lake; `None` before its first commit.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Files, of one tenant or of all.
    pub fn files<'a>(&'a self, tenant: Option<&'a str>) -> impl Iterator<Item = &'a Arc<DataFile>> {
        let one = tenant.map(|t| self.tenants.get(t).into_iter().flat_map(|f| f.values()));
        let all = tenant.is_none().then(|| self.tenants.values().flat_map(|f| f.values()));
        one.into_iter().flatten().chain(all.into_iter().flatten())
    }

    /// Tenants that have files.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.tenants.keys().map(|t| t.as_ref())
    }

    /// The last version at which a tenant can have lost rows; `None` when it has not.
    pub(crate) fn lost_rows_at(&self, tenant: &str) -> Option<u64> {
        self.lost.get(tenant).copied().max(self.begun)
    }

    /// The same version with some of its files only.
    pub(crate) fn only(&self, files: &[Arc<DataFile>]) -> Snapshot {
        let mut part = Snapshot { version: self.version, ..Snapshot::default() };
        for file in files {
            part.add(file.location.as_ref().into(), file.as_ref().clone());
        }
        part
    }

    fn add(&mut self, path: Arc<str>, file: DataFile) {
        self.remove(&path);
        let tenant = file.tenant.clone();
        Arc::make_mut(&mut self.tenant_of).insert(path.clone(), tenant.clone());
        Arc::make_mut(self.tenants.entry(tenant).or_default()).insert(path, Arc::new(file));
    }

    fn remove(&mut self, path: &str) -> Option<Arc<DataFile>> {
        let tenant = self.tenant_of.get(path).cloned()?;
        Arc::make_mut(&mut self.tenant_of).remove(path);
        let files = Arc::make_mut(self.tenants.get_mut(&tenant)?);
        let gone = files.remove(path);
        if files.is_empty() {
            self.tenants.remove(&tenant);
        }
        gone
    }
}

/// Reads the log of one lake.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    store: Arc<dyn ObjectStore>,
    table: Path,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: Option<u64>,
    #[serde(default)]
    min_values: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    max_values: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    null_count: serde_json::Map<String, serde_json::Value>,
}

impl Log {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, root: &Path) -> Log {
        Log { store, table: root.clone().join(RECORDS) }
    }

    fn entry(&self, name: &str) -> Path {
        self.table.clone().join(LOG).join(name)
    }

    async fn get(&self, path: &Path) -> Result<Option<Bytes>, LakeError> {
        let failed = |source| LakeError::Store { path: self.shown(path), source };
        match self.store.get(path).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }

    /// A path as messages name it: from `records` on.
    fn shown(&self, path: &Path) -> String {
        let parts: Vec<_> =
            path.parts().skip(self.table.parts().count().saturating_sub(1)).map(|p| p.as_ref().to_owned()).collect();
        parts.join("/")
    }

    /// Brings a snapshot up to date with the entries after it. Cheap when there are none: one request that finds nothing.
    ///
    /// `long_ago` says that the snapshot is so old that upkeep may have removed the entries after it: then the last
    /// checkpoint is asked too.
    pub(crate) async fn advance(&self, from: &Snapshot, long_ago: bool) -> Result<Option<Snapshot>, LakeError> {
        let Some(mut version) = from.version else {
            return self.load().await.map(|s| s.version.is_some().then_some(s));
        };
        if long_ago && self.checkpoint_hint().await?.is_some_and(|checkpoint| checkpoint > version) {
            return self.load().await.map(Some);
        }
        let mut next = None;
        while let Some(bytes) = self.get(&self.entry(&names::commit(version + 1))).await? {
            let snapshot = next.get_or_insert_with(|| from.clone());
            self.apply(snapshot, version + 1, &bytes)?;
            version += 1;
        }
        Ok(next.filter(|s| s.version != from.version))
    }

    /// Reads the newest version from nothing: the last checkpoint and the entries after it.
    pub(crate) async fn load(&self) -> Result<Snapshot, LakeError> {
        let hint = self.checkpoint_hint().await?;
        // A hint that lies (a checkpoint that is not there) costs one more listing, not the answer.
        let mut plan = self.list(hint.unwrap_or(0)).await?;
        let mut begun = self.newest_checkpoint(&plan).await?;
        if begun.is_none() && hint.is_some() {
            plan = self.list(0).await?;
            begun = self.newest_checkpoint(&plan).await?;
        }
        if plan.is_empty() {
            self.check_nothing(hint).await?;
            return Ok(Snapshot::default());
        }
        let mut snapshot = begun.unwrap_or_default();
        let versions = plan.after(snapshot.version).map_err(|gap| {
            let reason = format!("`{LOG}/{}` is missing", names::commit(gap.0));
            LakeError::Log { version: gap.0, reason }
        })?;
        let mut entries = stream::iter(versions)
            .map(|version| async move { (version, self.get(&self.entry(&names::commit(version))).await) })
            .buffered(READ_AHEAD);
        while let Some((version, bytes)) = entries.next().await {
            let Some(bytes) = bytes? else {
                return Err(LakeError::Log { version, reason: "the entry went away while it was read".into() });
            };
            self.apply(&mut snapshot, version, &bytes)?;
        }
        Ok(snapshot)
    }

    /// The newest checkpoint that is complete and can be read: an older one, or the entries, may tell the whole story too.
    async fn newest_checkpoint(&self, plan: &Plan) -> Result<Option<Snapshot>, LakeError> {
        for (version, parts) in &plan.checkpoints {
            match self.read_checkpoint(*version, parts).await {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(LakeError::Checkpoint { path, reason }) => tracing::warn!(path, reason, "checkpoint skipped"),
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    }

    /// A log without a version is an empty lake only if nothing else is there.
    async fn check_nothing(&self, hint: Option<u64>) -> Result<(), LakeError> {
        if let Some(version) = hint {
            let reason = "the log names a checkpoint of this version and holds no entry; restore `_delta_log` whole";
            return Err(LakeError::Log { version, reason: reason.into() });
        }
        let failed = |source| LakeError::Store { path: RECORDS.to_owned(), source };
        let depth = self.table.parts().count();
        let mut files = self.store.list(Some(&self.table));
        while let Some(found) = files.try_next().await.map_err(failed)? {
            let hidden = found.location.parts().nth(depth).is_none_or(|p| p.as_ref().starts_with(['_', '.']));
            if hidden || !found.location.as_ref().ends_with(".parquet") {
                continue;
            }
            // A collector may have made the table since the log was listed.
            return match self.list(0).await?.is_empty() {
                true => Err(LakeError::NoLog { example: self.shown(&found.location) }),
                false => Ok(()),
            };
        }
        Ok(())
    }

    async fn checkpoint_hint(&self) -> Result<Option<u64>, LakeError> {
        #[derive(Deserialize)]
        struct LastCheckpoint {
            version: u64,
        }
        let hint = self.get(&self.entry(HINT)).await?;
        Ok(hint.and_then(|bytes| serde_json::from_slice::<LastCheckpoint>(&bytes).ok()).map(|h| h.version))
    }

    async fn list(&self, from: u64) -> Result<Plan, LakeError> {
        let folder = self.table.clone().join(LOG);
        let failed = |source| LakeError::Store { path: self.shown(&folder), source };
        // The offset is exclusive, so it has to sort before the first name of that version.
        let offset = folder.clone().join(format!("{:020}", from));
        let list = self.store.list_with_offset(Some(&folder), &offset);
        let found: Vec<Path> = list.map_ok(|o| o.location).try_collect().await.map_err(failed)?;
        Ok(Plan::of(found.iter().filter_map(Path::filename)))
    }

    /// Applies an entry.
    fn apply(&self, snapshot: &mut Snapshot, version: u64, bytes: &[u8]) -> Result<(), LakeError> {
        let commit = Commit::parse(bytes).map_err(|fault| match fault {
            Fault::Unsupported { what, .. } => LakeError::Unsupported { what: what.into() },
            fault => LakeError::Log { version, reason: format!("`{LOG}/{}`: {fault}", names::commit(version)) },
        })?;
        self.take(snapshot, version, commit)
    }

    fn take(&self, snapshot: &mut Snapshot, version: u64, commit: Commit) -> Result<(), LakeError> {
        if let Some(what) = not_readable(commit.protocol.as_ref(), commit.metadata.as_ref()) {
            return Err(LakeError::Unsupported { what });
        }
        // Rows of files that were merged, by tenant: since when they are there.
        let mut merged: HashMap<Arc<str>, u64> = HashMap::new();
        for remove in &commit.removes {
            let Some(gone) = snapshot.remove(&remove.path) else { continue };
            if remove.data_change {
                Arc::make_mut(&mut snapshot.lost).insert(gone.tenant.clone(), version);
            } else {
                let since = merged.entry(gone.tenant.clone()).or_default();
                *since = gone.rows_since.max(*since);
            }
        }
        for add in commit.adds {
            let mut file = self.data_file(version, &add)?;
            if let Some(since) = merged.get(&file.tenant).filter(|_| !add.data_change) {
                file.rows_since = *since;
            }
            snapshot.add(add.path.into(), file);
        }
        snapshot.version = Some(version);
        Ok(())
    }

    async fn read_checkpoint(&self, version: u64, parts: &[String]) -> Result<Snapshot, LakeError> {
        let mut snapshot = Snapshot::default();
        let mut is_described = (false, false);
        for part in parts {
            let path = self.entry(part);
            let broken = |reason: String| LakeError::Checkpoint { path: self.shown(&path), reason };
            let bytes = self.get(&path).await?.ok_or_else(|| broken("it is gone".into()))?;
            let commit = match checkpoint::parse(bytes) {
                Ok(commit) => commit,
                Err(CheckpointError::Action(Fault::Unsupported { what, .. })) => {
                    return Err(LakeError::Unsupported { what: what.into() });
                }
                Err(e) => return Err(broken(e.to_string())),
            };
            is_described.0 |= commit.protocol.is_some();
            is_described.1 |= commit.metadata.is_some();
            self.take(&mut snapshot, version, Commit { removes: Vec::new(), ..commit })?;
        }
        if is_described != (true, true) {
            let path = parts.first().map(|part| self.shown(&self.entry(part))).unwrap_or_default();
            return Err(LakeError::Checkpoint { path, reason: "it has no metadata or protocol".into() });
        }
        (snapshot.version, snapshot.begun) = (Some(version), Some(version));
        Ok(snapshot)
    }

    fn data_file(&self, version: u64, add: &Add) -> Result<DataFile, LakeError> {
        // Paths in the log are URLs relative to the table; the store wants them decoded.
        let below = Path::from_url_path(&add.path)
            .map_err(|e| LakeError::Log { version, reason: format!("path of a file: {e}") })?;
        let location = Path::from_iter(self.table.parts().chain(below.parts()));
        let [tenant, ingest_date, class] =
            PARTITIONS.map(|name| Arc::<str>::from(add.partition.get(name).map_or("", String::as_str)));
        let (rows, bounds) = add.stats.as_deref().map(read_stats).unwrap_or_default();
        Ok(DataFile {
            location,
            size: add.size,
            modified: add.modified,
            tenant,
            ingest_date,
            class,
            rows,
            digest: add.digest,
            row_bytes: add.row_bytes,
            rows_since: version,
            bounds,
        })
    }
}

/// Statistics that cannot be read only cost speed: they are left out.
fn read_stats(text: &str) -> (Option<u64>, Vec<(Field, Bounds)>) {
    let Ok(stats) = serde_json::from_str::<Stats>(text) else { return (None, Vec::new()) };
    let bounds = Field::ALL
        .iter()
        .filter_map(|field| {
            let name = field.name();
            let bounds = Bounds {
                min: stats.min_values.get(name).and_then(|v| bound(*field, v)),
                max: stats.max_values.get(name).and_then(|v| bound(*field, v)).map(|b| widen(*field, b)),
                nulls: stats.null_count.get(name).and_then(|v| v.as_u64()),
            };
            (bounds != Bounds::default()).then_some((*field, bounds))
        })
        .collect();
    (stats.num_records, bounds)
}

fn bound(field: Field, value: &serde_json::Value) -> Option<Bound> {
    match field.kind() {
        Kind::Text | Kind::Id | Kind::Json => value.as_str().map(|s| Bound::Text(s.into())),
        Kind::Int | Kind::Long => value.as_i64().map(Bound::Long),
        Kind::Time => value.as_str().and_then(Micros::parse_rfc3339).map(|t| Bound::Long(t.0)),
        Kind::List | Kind::Bool | Kind::Bytes => None,
    }
}

/// Other writers cut instants to milliseconds, which is no upper bound any more.
fn widen(field: Field, bound: Bound) -> Bound {
    match bound {
        Bound::Long(us) if field.kind() == Kind::Time => Bound::Long(us.saturating_add(999)),
        other => other,
    }
}
