//! Small files of one partition become one.
//!
//! Guarantee: the output holds the rows of the inputs, all of them and no other, before the commit that swaps them is
//! tried. Each input is compared with its digest before a row of it is believed, so no damage is copied and no good
//! copy dropped for a bad one. The output is read back from the store, and compared by count, by the sum of leaf hashes mod 2^256 (which the
//! evidence log can check again), and by a second sum that also covers the columns outside the leaf.

use super::merge::{self, Merged};
use super::{MAINT, Upkeep, UpkeepError};
use crate::commit::{Change, CommitError, DataFile, Range, folder_name};
use crate::log::{ActiveFile, State, object_path};
use catena_schemas::table::PARTITIONS;
use object_store::ObjectStoreExt;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a file is left alone that could not be merged.
const AVOIDED: Duration = Duration::from_secs(3600);

/// One compaction that landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// Version that holds it.
    pub version: u64,
    /// Files merged.
    pub inputs: usize,
    /// Rows in them.
    pub rows: u64,
    /// Bytes before.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
}

/// A merger that is written and checked, and not yet part of the table.
#[derive(Debug)]
pub(crate) struct Prepared {
    inputs: Vec<Arc<ActiveFile>>,
    output: DataFile,
    leaves: String,
    lease: i64,
}

impl Upkeep {
    /// Merges the files of one partition that are most worth it; `None` when nothing is.
    pub async fn compact_once(&self) -> Result<Option<Compacted>, UpkeepError> {
        match self.prepare().await? {
            Some(prepared) => self.finish(prepared).await.map(Some),
            None => Ok(None),
        }
    }

    /// Plans, merges and checks.
    pub(crate) async fn prepare(&self) -> Result<Option<Prepared>, UpkeepError> {
        let table = self.lake.records();
        let state = table.snapshot().await?;
        let today = table.clock().wall().date();
        let now = table.clock().monotonic();
        let avoided: HashSet<String> = {
            let mut avoided = self.avoided.lock();
            avoided.retain(|_, until| *until > now);
            avoided.keys().cloned().collect()
        };
        let Some(inputs) = plan(&state, &avoided, &today, &self.settings) else { return Ok(None) };
        let lease = state.txns.get(MAINT).map_or(0, |p| p.version);
        drop(state);
        let partition = inputs[0].file.partition.clone();
        let path = merge::output_path(&partition);
        match self.merge(&inputs, &path).await {
            Ok(Merged { rows, size, stats, leaves, digest, row_bytes, .. }) => {
                let output =
                    DataFile { path, size, rows, partition, stats, digest: Some(digest), row_bytes: Some(row_bytes) };
                Ok(Some(Prepared { inputs, output, leaves: leaves.to_string(), lease }))
            }
            Err(e) => {
                self.discard(&path).await;
                let e = self.overtaken(lease).await.unwrap_or(e);
                let until = now + AVOIDED;
                match &e {
                    UpkeepError::Unreadable { path, .. }
                    | UpkeepError::Newer { path, .. }
                    | UpkeepError::Damaged { path, .. } => drop(self.avoided.lock().insert(path.clone(), until)),
                    UpkeepError::Changed { .. } => {
                        self.avoided.lock().extend(inputs.iter().map(|f| (f.file.path.clone(), until)));
                    }
                    _ => {}
                }
                Err(e)
            }
        }
    }

    /// Puts the output in the place of the inputs.
    pub(crate) async fn finish(&self, prepared: Prepared) -> Result<Compacted, UpkeepError> {
        let Prepared { inputs, output, leaves, lease } = prepared;
        let info = json!({"compact": {
            "inputs": inputs.iter().map(|f| f.file.path.as_str()).collect::<Vec<_>>(), "output": output.path,
            "rows": output.rows, "leaves": leaves,
        }});
        let change = Change {
            adds: vec![output.clone()],
            removes: inputs.iter().map(|f| f.file.clone()).collect(),
            ranges: vec![Range { app: MAINT.to_owned(), from: lease, to: lease + 1, start: 0 }],
            info: info.as_object().cloned().unwrap_or_default(),
            operation: "OPTIMIZE",
            data_change: false,
            ..Change::default()
        };
        let version = match self.lake.records().apply(change).await {
            Ok(committed) => committed.version,
            Err(e) => {
                // Only a refusal is final. After anything else the commit may still land, and then it needs its file.
                if matches!(e, CommitError::Fenced { .. } | CommitError::Replaced { .. }) {
                    self.discard(&output.path).await;
                }
                return Err(e.into());
            }
        };
        tracing::info!(version, inputs = inputs.len(), rows = output.rows, path = output.path, "compacted");
        Ok(Compacted {
            version,
            inputs: inputs.len(),
            rows: output.rows,
            bytes_before: inputs.iter().map(|f| f.file.size).sum(),
            bytes_after: output.size,
        })
    }

    /// A merge may fail because its inputs were merged and deleted by another maintainer meanwhile: then that is the error.
    async fn overtaken(&self, lease: i64) -> Option<UpkeepError> {
        let found = self.lake.records().position(MAINT).await.ok()?;
        (found.unwrap_or(0) != lease)
            .then(|| CommitError::Fenced { app: MAINT.to_owned(), expected: lease, found }.into())
    }

    /// Merges on a thread of its own: decoding, sorting and encoding block.
    async fn merge(&self, inputs: &[Arc<ActiveFile>], output: &str) -> Result<Merged, UpkeepError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| match source.downcast::<merge::Unreadable>() {
            Ok(unreadable) => unreadable.into(),
            Err(source) => UpkeepError::Merge { inputs: inputs.len(), output: output.to_owned(), source },
        };
        let work = merge::Work {
            objects: self.lake.records().objects().clone(),
            secret: self.lake.secret(),
            inputs: inputs.to_vec(),
            output: output.to_owned(),
            zstd_level: self.settings.zstd_level,
        };
        let runtime = tokio::runtime::Handle::current();
        let merged = tokio::task::spawn_blocking(move || runtime.block_on(merge::merge(&work)));
        let merged = merged.await.map_err(|e| failed(e.into()))?.map_err(failed)?;
        match merged.difference() {
            None => Ok(merged),
            Some(detail) => Err(UpkeepError::Changed { output: output.to_owned(), detail }),
        }
    }

    /// Deletes an output that is not part of the table and never will be. What stays is found by vacuum.
    async fn discard(&self, output: &str) {
        if let Ok(path) = object_path(output) {
            let _ = self.lake.records().objects().delete(&path).await;
        }
    }
}

/// Chooses files to merge: of one partition, together at most the target size, oldest first.
pub(super) fn plan(
    state: &State,
    avoided: &HashSet<String>,
    today: &str,
    settings: &super::UpkeepSettings,
) -> Option<Vec<Arc<ActiveFile>>> {
    let done = settings.target_bytes / 4 * 3;
    // While a day is open, files are merged with their like, so that a row is rewritten about once per tier.
    type Tier<'s> = (&'s BTreeMap<String, String>, u32);
    let mut groups: BTreeMap<Tier<'_>, Vec<&Arc<ActiveFile>>> = BTreeMap::new();
    for active in state.files.values().filter(|f| f.file.size < done && !avoided.contains(&f.file.path)) {
        let closed = active.file.partition.get(PARTITIONS[1]).is_some_and(|day| day.as_str() < today);
        let tier = if closed { u32::MAX } else { tier(active.file.size) };
        groups.entry((&active.file.partition, tier)).or_default().push(active);
    }
    groups
        .into_iter()
        .filter_map(|((_, tier), mut files)| {
            let least = if tier == u32::MAX { 2 } else { settings.inputs_min.max(2) };
            files.sort_unstable_by_key(|f| {
                (if tier == u32::MAX { f.file.size } else { 0 }, f.arrived, f.file.path.clone())
            });
            let mut bytes = 0;
            let chosen: Vec<_> = files
                .into_iter()
                .take(settings.inputs_max)
                .take_while(|f| {
                    bytes += f.file.size;
                    bytes <= settings.target_bytes
                })
                .cloned()
                .collect();
            (chosen.len() >= least).then_some(chosen)
        })
        .max_by_key(Vec::len)
}

/// 0 below 4 MiB, 1 below 16 MiB, 2 below 64 MiB and so on.
fn tier(bytes: u64) -> u32 {
    (bytes >> 20).max(1).ilog2() / 2
}

impl merge::Merged {
    fn difference(&self) -> Option<String> {
        let (read, back) = (&self.read, &self.back);
        (read != back).then(|| {
            format!(
                "{} rows with leaves {} went in, {} with {} came out",
                read.rows, read.leaves, back.rows, back.leaves
            )
        })
    }
}

/// Path of a merged file.
pub(super) fn folder(partition: &BTreeMap<String, String>) -> String {
    PARTITIONS.map(|column| folder_name(column, partition.get(column).map_or("", String::as_str))).join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upkeep::UpkeepSettings;

    const TODAY: &str = "2026-11-21";

    /// Files as `tenant day MiB`, oldest first, and the places of those that are chosen.
    fn check(files: &str, want: &[usize]) {
        let mut state = State::empty();
        for (n, file) in files.split(',').map(str::trim).filter(|f| !f.is_empty()).enumerate() {
            let words: Vec<&str> = file.split(' ').collect();
            let (path, size) = (n.to_string(), words[2].parse::<u64>().unwrap() << 20);
            let partition = BTreeMap::from([
                ("tenant".to_owned(), words[0].to_owned()),
                ("ingest_date".to_owned(), words[1].to_owned()),
                ("class".to_owned(), "decision".to_owned()),
            ]);
            let file = DataFile {
                path: path.clone(),
                size,
                rows: 1,
                partition,
                stats: String::new(),
                digest: None,
                row_bytes: None,
            };
            state.files.insert(path, Arc::new(ActiveFile { file, modified: n as i64, arrived: n as i64 }));
        }
        let settings = UpkeepSettings { inputs_min: 3, inputs_max: 4, ..UpkeepSettings::default() };
        let chosen = plan(&state, &HashSet::new(), TODAY, &settings).unwrap_or_default();
        let chosen: Vec<usize> = chosen.iter().map(|f| f.file.path.parse().unwrap()).collect();
        assert_eq!(chosen, want, "{files}");
    }

    #[test]
    fn files_that_are_worth_it_are_chosen() {
        check("", &[]);
        check("a 2026-11-21 1, a 2026-11-21 1", &[]);
        check("a 2026-11-21 1, a 2026-11-21 1, a 2026-11-21 1", &[0, 1, 2]);
        // With their like only: a row is rewritten about once per tier.
        check("a 2026-11-21 1, a 2026-11-21 5, a 2026-11-21 1", &[]);
        check("a 2026-11-21 1, a 2026-11-21 5, a 2026-11-21 1, a 2026-11-21 3", &[0, 2, 3]);
        // The oldest, and no more than at once.
        check("a 2026-11-21 1, a 2026-11-21 1, a 2026-11-21 1, a 2026-11-21 1, a 2026-11-21 1", &[0, 1, 2, 3]);
        // Not across tenants or days.
        check("a 2026-11-21 1, b 2026-11-21 1, a 2026-11-22 1", &[]);
        // A closed day is merged whatever the sizes, small ones first, up to the target.
        check("a 2026-11-20 90, a 2026-11-20 1", &[1, 0]);
        check("a 2026-11-20 150, a 2026-11-20 100, a 2026-11-20 120", &[1, 2]);
        check("a 2026-11-20 150, a 2026-11-20 150", &[]);
        check("a 2026-11-20 200, a 2026-11-20 1", &[]);
        // The fullest partition first.
        check("a 2026-11-20 1, a 2026-11-20 1, b 2026-11-21 1, b 2026-11-21 1, b 2026-11-21 1", &[2, 3, 4]);
    }
}
