//! Replays the Delta log of `records`: which files hold the rows, and what is known of each.
//!
//! Guarantees: a [`Snapshot`] is one version of the table, whole; it never changes. A refresh reads only the entries
//! that are new. What this reader does not understand (deletion vectors, column mapping, unknown features) is refused,
//! never guessed. An entry that cannot be parsed and is the last one is taken as not yet written.

use crate::error::LakeError;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch, StructArray};
use bytes::Bytes;
use catena_schemas::Micros;
use catena_schemas::table::{Field, Kind, PARTITIONS, RECORDS};
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
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
struct Action {
    add: Option<Add>,
    remove: Option<Remove>,
    meta_data: Option<MetaData>,
    protocol: Option<Protocol>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Add {
    path: String,
    #[serde(default)]
    partition_values: HashMap<String, Option<String>>,
    size: i64,
    #[serde(default)]
    modification_time: i64,
    stats: Option<String>,
    deletion_vector: Option<serde_json::Value>,
    #[serde(default = "changes")]
    data_change: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remove {
    path: String,
    #[serde(default = "changes")]
    data_change: bool,
}

/// Whoever does not say that rows stay what they are may have changed them.
fn changes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetaData {
    #[serde(default)]
    partition_columns: Vec<String>,
    #[serde(default)]
    configuration: HashMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Protocol {
    min_reader_version: i64,
    #[serde(default)]
    reader_features: Option<Vec<String>>,
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
        self.table.clone().join("_delta_log").join(name)
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
        while let Some(bytes) = self.get(&self.entry(&entry_name(version + 1))).await? {
            let snapshot = next.get_or_insert_with(|| from.clone());
            if !self.apply(snapshot, version + 1, &bytes).await? {
                break;
            }
            version += 1;
        }
        Ok(next.filter(|s| s.version != from.version))
    }

    /// Reads the newest version from nothing: the last checkpoint and the entries after it.
    pub(crate) async fn load(&self) -> Result<Snapshot, LakeError> {
        let hint = self.checkpoint_hint().await?;
        // A hint that lies (a checkpoint that is not there) costs one more listing, not the answer.
        let mut listed = self.list(hint.unwrap_or(0)).await?;
        if hint.is_some() && listed.checkpoint.is_none() {
            listed = self.list(0).await?;
        }
        let mut snapshot = Snapshot::default();
        if let Some((version, parts)) = &listed.checkpoint {
            for part in parts {
                self.read_checkpoint(&mut snapshot, *version, part).await?;
            }
            (snapshot.version, snapshot.begun) = (Some(*version), Some(*version));
        }
        let after = snapshot.version;
        let versions: Vec<u64> = listed.entries.iter().copied().filter(|v| after.is_none_or(|a| *v > a)).collect();
        let mut entries = stream::iter(versions.clone())
            .map(|version| async move { (version, self.get(&self.entry(&entry_name(version))).await) })
            .buffered(READ_AHEAD);
        while let Some((version, bytes)) = entries.next().await {
            let expected = snapshot.version.map_or(0, |v| v + 1);
            if version != expected {
                return Err(LakeError::Log {
                    version: expected,
                    reason: format!("the entry is missing, but {version} is there"),
                });
            }
            let Some(bytes) = bytes? else {
                return Err(LakeError::Log { version, reason: "the entry went away while it was read".into() });
            };
            if !self.apply(&mut snapshot, version, &bytes).await? {
                break;
            }
        }
        Ok(snapshot)
    }

    async fn checkpoint_hint(&self) -> Result<Option<u64>, LakeError> {
        #[derive(Deserialize)]
        struct LastCheckpoint {
            version: u64,
        }
        let hint = self.get(&self.entry("_last_checkpoint")).await?;
        Ok(hint.and_then(|bytes| serde_json::from_slice::<LastCheckpoint>(&bytes).ok()).map(|h| h.version))
    }

    async fn list(&self, from: u64) -> Result<Listed, LakeError> {
        let folder = self.table.clone().join("_delta_log");
        let failed = |source| LakeError::Store { path: self.shown(&folder), source };
        // The offset is exclusive, so it has to sort before the first name of that version.
        let offset = folder.clone().join(format!("{:020}", from));
        let mut list = self.store.list_with_offset(Some(&folder), &offset);
        let (mut entries, mut checkpoints) = (Vec::new(), BTreeMap::<u64, Vec<Path>>::new());
        let mut expected = HashMap::new();
        while let Some(found) = list.try_next().await.map_err(failed)? {
            let Some(name) = found.location.filename() else { continue };
            let Some(version) = name.split('.').next().filter(|v| v.len() == 20).and_then(|v| v.parse::<u64>().ok())
            else {
                continue;
            };
            let rest: Vec<&str> = name.split('.').skip(1).collect();
            match rest.as_slice() {
                ["json"] => entries.push(version),
                ["checkpoint", "parquet"] => {
                    expected.insert(version, 1);
                    checkpoints.insert(version, vec![found.location.clone()]);
                }
                ["checkpoint", _, parts, "parquet"] if expected.get(&version) != Some(&1) => {
                    if let Ok(parts) = parts.parse::<usize>() {
                        expected.insert(version, parts);
                        checkpoints.entry(version).or_default().push(found.location.clone());
                    }
                }
                _ => {}
            }
        }
        entries.sort_unstable();
        let checkpoint =
            checkpoints.into_iter().rev().find(|(version, parts)| expected.get(version) == Some(&parts.len()));
        Ok(Listed { entries, checkpoint })
    }

    /// Applies an entry; `false` when it is not whole and nothing stands behind it.
    async fn apply(&self, snapshot: &mut Snapshot, version: u64, bytes: &[u8]) -> Result<bool, LakeError> {
        let actions: Result<Vec<Action>, _> = serde_json::Deserializer::from_slice(bytes).into_iter().collect();
        let actions = match actions {
            Ok(actions) if !actions.is_empty() => actions,
            broken => {
                let reason = broken.err().map_or_else(|| "it is empty".to_owned(), |e| e.to_string());
                if self.get(&self.entry(&entry_name(version + 1))).await?.is_none() {
                    tracing::warn!(version, reason, "the last entry of the log is not whole; left out");
                    return Ok(false);
                }
                return Err(LakeError::Log { version, reason });
            }
        };
        // Rows of files that were merged, by tenant: since when they are there.
        let mut merged: HashMap<Arc<str>, u64> = HashMap::new();
        for remove in actions.iter().filter_map(|action| action.remove.as_ref()) {
            let Some(gone) = snapshot.remove(&remove.path) else { continue };
            if remove.data_change {
                Arc::make_mut(&mut snapshot.lost).insert(gone.tenant.clone(), version);
            } else {
                let since = merged.entry(gone.tenant.clone()).or_default();
                *since = gone.rows_since.max(*since);
            }
        }
        for action in actions {
            if let Some(protocol) = action.protocol {
                check_protocol(&protocol)?;
            }
            if let Some(meta) = action.meta_data {
                check_meta(&meta)?;
            }
            if let Some(add) = action.add {
                if add.deletion_vector.is_some_and(|v| !v.is_null()) {
                    return Err(LakeError::Unsupported { what: "deletion vectors".into() });
                }
                let value = |name: &str| add.partition_values.get(name).cloned().flatten();
                let mut file =
                    self.data_file(version, &add.path, add.size, add.modification_time, value, add.stats.as_deref())?;
                if let Some(since) = merged.get(&file.tenant).filter(|_| !add.data_change) {
                    file.rows_since = *since;
                }
                snapshot.add(add.path.into(), file);
            }
        }
        snapshot.version = Some(version);
        Ok(true)
    }

    async fn read_checkpoint(&self, snapshot: &mut Snapshot, version: u64, part: &Path) -> Result<(), LakeError> {
        let failed = |source| LakeError::Checkpoint { path: self.shown(part), source };
        let Some(bytes) = self.get(part).await? else {
            return Err(LakeError::Log { version, reason: "the checkpoint went away while it was read".into() });
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(failed)?;
        let schema = builder.parquet_schema();
        let wanted = ["add", "metaData", "protocol", "sidecar"];
        let roots: Vec<usize> = schema
            .root_schema()
            .get_fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| wanted.contains(&f.name()))
            .map(|(i, _)| i)
            .collect();
        let mask = ProjectionMask::roots(schema, roots);
        for batch in builder.with_projection(mask).build().map_err(failed)? {
            self.apply_checkpoint(snapshot, version, &batch.map_err(|e| failed(e.into()))?)?;
        }
        Ok(())
    }

    fn apply_checkpoint(&self, snapshot: &mut Snapshot, version: u64, batch: &RecordBatch) -> Result<(), LakeError> {
        let damaged = |reason: &str| LakeError::Log { version, reason: format!("checkpoint: {reason}") };
        let part = |name: &str| batch.column_by_name(name).and_then(|c| c.as_struct_opt());
        let rows = |part: &StructArray| (0..part.len()).filter(|row| part.is_valid(*row)).collect::<Vec<_>>();
        if part("sidecar").is_some_and(|sidecar| !rows(sidecar).is_empty()) {
            return Err(LakeError::Unsupported { what: "v2Checkpoint".into() });
        }
        if let Some(protocol) = part("protocol") {
            for row in rows(protocol) {
                let min_reader_version =
                    long(protocol, "minReaderVersion", row).ok_or_else(|| damaged("no reader version"))?;
                check_protocol(&Protocol {
                    min_reader_version,
                    reader_features: texts(protocol, "readerFeatures", row),
                })?;
            }
        }
        if let Some(meta) = part("metaData") {
            for row in rows(meta) {
                let partition_columns = texts(meta, "partitionColumns", row).unwrap_or_default();
                check_meta(&MetaData { partition_columns, configuration: map(meta, "configuration", row) })?;
            }
        }
        let Some(add) = part("add") else { return Ok(()) };
        for row in rows(add) {
            if add.column_by_name("deletionVector").is_some_and(|v| v.is_valid(row)) {
                return Err(LakeError::Unsupported { what: "deletion vectors".into() });
            }
            let path = text(add, "path", row).ok_or_else(|| damaged("a file without path"))?;
            let size = long(add, "size", row).ok_or_else(|| damaged("a file without size"))?;
            let modified = long(add, "modificationTime", row).unwrap_or(0);
            let values = map(add, "partitionValues", row);
            let stats = text(add, "stats", row);
            let file =
                self.data_file(version, &path, size, modified, |n| values.get(n).cloned().flatten(), stats.as_deref())?;
            snapshot.add(path.into(), file);
        }
        Ok(())
    }

    fn data_file(
        &self,
        version: u64,
        path: &str,
        size: i64,
        modified: i64,
        value: impl Fn(&str) -> Option<String>,
        stats: Option<&str>,
    ) -> Result<DataFile, LakeError> {
        let damaged = |reason: String| LakeError::Log { version, reason };
        if path.contains("://") || path.starts_with('/') {
            return Err(LakeError::Unsupported { what: "files outside of the table".into() });
        }
        // Paths in the log are URLs relative to the table; the store wants them decoded, and refuses `..`.
        let below = Path::from_url_path(path).map_err(|e| damaged(format!("path of a file: {e}")))?;
        let location = Path::from_iter(self.table.parts().chain(below.parts()));
        let [tenant, ingest_date, class] = PARTITIONS.map(|name| value(name).map(Arc::<str>::from));
        let whole = |v: Option<Arc<str>>, name: &str| {
            v.ok_or_else(|| damaged(format!("a file without partition value `{name}`")))
        };
        let (rows, bounds) = stats.map(read_stats).unwrap_or_default();
        Ok(DataFile {
            location,
            size: u64::try_from(size).map_err(|_| damaged("a file of negative size".into()))?,
            modified,
            tenant: whole(tenant, PARTITIONS[0])?,
            ingest_date: whole(ingest_date, PARTITIONS[1])?,
            class: whole(class, PARTITIONS[2])?,
            rows,
            rows_since: version,
            bounds,
        })
    }
}

struct Listed {
    entries: Vec<u64>,
    checkpoint: Option<(u64, Vec<Path>)>,
}

fn entry_name(version: u64) -> String {
    format!("{version:020}.json")
}

fn check_protocol(protocol: &Protocol) -> Result<(), LakeError> {
    /// Features that change nothing for a reader of this table.
    const KNOWN: &[&str] = &["timestampNtz", "vacuumProtocolCheck"];
    match protocol.min_reader_version {
        1 | 2 => Ok(()),
        3 => match protocol.reader_features.iter().flatten().find(|f| !KNOWN.contains(&f.as_str())) {
            Some(feature) => Err(LakeError::Unsupported { what: feature.clone() }),
            None => Ok(()),
        },
        other => Err(LakeError::Unsupported { what: format!("reader version {other}") }),
    }
}

fn check_meta(meta: &MetaData) -> Result<(), LakeError> {
    if meta.partition_columns != PARTITIONS {
        return Err(LakeError::Unsupported { what: format!("it is partitioned by {:?}", meta.partition_columns) });
    }
    match meta.configuration.get("delta.columnMapping.mode").and_then(|m| m.as_deref()) {
        None | Some("none") => Ok(()),
        Some(mode) => Err(LakeError::Unsupported { what: format!("column mapping by {mode}") }),
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

fn long(part: &StructArray, name: &str, row: usize) -> Option<i64> {
    let column = arrow::compute::cast(part.column_by_name(name)?, &arrow_schema::DataType::Int64).ok()?;
    column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row))
}

fn text(part: &StructArray, name: &str, row: usize) -> Option<String> {
    text_at(part.column_by_name(name)?, row)
}

fn text_at(column: &dyn Array, row: usize) -> Option<String> {
    let valid = column.is_valid(row);
    match column.data_type() {
        arrow_schema::DataType::Utf8 => valid.then(|| column.as_string::<i32>().value(row).to_owned()),
        arrow_schema::DataType::LargeUtf8 => valid.then(|| column.as_string::<i64>().value(row).to_owned()),
        arrow_schema::DataType::Utf8View => valid.then(|| column.as_string_view().value(row).to_owned()),
        _ => None,
    }
}

fn texts(part: &StructArray, name: &str, row: usize) -> Option<Vec<String>> {
    let list = part.column_by_name(name)?.as_list_opt::<i32>()?;
    let items = list.is_valid(row).then(|| list.value(row))?;
    Some((0..items.len()).filter_map(|i| text_at(&items, i)).collect())
}

fn map(part: &StructArray, name: &str, row: usize) -> HashMap<String, Option<String>> {
    let Some(map) = part.column_by_name(name).and_then(|c| c.as_map_opt()).filter(|m| m.is_valid(row)) else {
        return HashMap::new();
    };
    let entries = map.value(row);
    let (keys, values) = (entries.column(0), entries.column(1));
    (0..entries.len()).filter_map(|i| text_at(keys, i).map(|key| (key, text_at(values, i)))).collect()
}
