//! Small files of one partition become one.
//!
//! Guarantee: the output holds the rows of the inputs, all of them and no other, before the commit that swaps them is
//! tried. It is read back from the store for that, and compared by count, by the sum of leaf hashes mod 2^256 (which the
//! evidence log can check again), and by a second sum that also covers the columns outside the leaf.

use super::merge::{self, Merged};
use super::{MAINT, Upkeep, UpkeepError};
use crate::commit::{Change, DataFile, Range, folder_name};
use crate::log::{ActiveFile, State, object_path};
use catena_schemas::table::PARTITIONS;
use object_store::ObjectStoreExt;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

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

impl Upkeep {
    /// Merges the files of one partition that are most worth it; `None` when nothing is.
    pub async fn compact_once(&self) -> Result<Option<Compacted>, UpkeepError> {
        let table = self.lake.records();
        let state = table.snapshot().await?;
        let today = table.clock().wall().date();
        let Some(inputs) = plan(&state, &today, &self.settings) else { return Ok(None) };
        let lease = state.txns.get(MAINT).map_or(0, |p| p.version);
        drop(state);
        let output = merge::output_path(&inputs[0].file.partition);
        let outcome = self.swap(&inputs, &output, lease).await;
        if outcome.is_err() {
            self.discard(&output).await;
        }
        outcome.map(Some)
    }

    async fn swap(&self, inputs: &[Arc<ActiveFile>], output: &str, lease: i64) -> Result<Compacted, UpkeepError> {
        let table = self.lake.records();
        let partition = inputs[0].file.partition.clone();
        let merged = self.merge(inputs, output).await?;
        let bytes_before = inputs.iter().map(|f| f.file.size).sum();
        let info = json!({"compact": {
            "inputs": inputs.iter().map(|f| f.file.path.as_str()).collect::<Vec<_>>(), "output": output,
            "rows": merged.rows, "leaves": merged.leaves.to_string(),
        }});
        let add =
            DataFile { path: output.to_owned(), size: merged.size, rows: merged.rows, partition, stats: merged.stats };
        let change = Change {
            adds: vec![add],
            removes: inputs.iter().map(|f| f.file.clone()).collect(),
            ranges: vec![Range { app: MAINT.to_owned(), from: lease, to: lease + 1, start: 0 }],
            info: info.as_object().cloned().unwrap_or_default(),
            operation: "OPTIMIZE",
            data_change: false,
            ..Change::default()
        };
        let committed = table.apply(change).await?;
        tracing::info!(version = committed.version, inputs = inputs.len(), rows = merged.rows, output, "compacted");
        let (inputs, rows, bytes_after) = (inputs.len(), merged.rows, merged.size);
        Ok(Compacted { version: committed.version, inputs, rows, bytes_before, bytes_after })
    }

    /// Merges on a thread of its own: decoding, sorting and encoding block.
    async fn merge(&self, inputs: &[Arc<ActiveFile>], output: &str) -> Result<Merged, UpkeepError> {
        let failed = |source| UpkeepError::Merge { inputs: inputs.len(), output: output.to_owned(), source };
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

    /// Deletes an output that is not part of the table. If the commit's outcome is unknown it may be: then vacuum decides.
    async fn discard(&self, output: &str) {
        let table = self.lake.records();
        let Ok(state) = table.snapshot().await else { return };
        let unknown = state.files.contains_key(output);
        if let (false, Ok(path)) = (unknown, object_path(output)) {
            // What stays is found by vacuum.
            let _ = table.objects().delete(&path).await;
        }
    }
}

/// Chooses files to merge: of one partition, together at most the target size, oldest first.
pub(super) fn plan(state: &State, today: &str, settings: &super::UpkeepSettings) -> Option<Vec<Arc<ActiveFile>>> {
    let done = settings.target_bytes / 4 * 3;
    // While a day is open, files are merged with their like, so that a row is rewritten about once per tier.
    let mut groups: BTreeMap<(&BTreeMap<String, String>, u32), Vec<&Arc<ActiveFile>>> = BTreeMap::new();
    for active in state.files.values().filter(|f| f.file.size < done) {
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
