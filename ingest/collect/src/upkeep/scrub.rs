//! Reads every data file and compares it with what the log says of it.
//!
//! Guarantee: a file that passes has the bytes that were written, where the log has their digest. For a file of an older
//! build, which has none, every page is read and the rows are counted and held against the bounds and nulls that the
//! log has of them, which finds most damage and not all. Nothing is changed. A file that is merged away meanwhile is no
//! fault.

use super::merge::{self, Bounds, check_digest};
use super::{Upkeep, UpkeepError};
use crate::batch::statistics;
use crate::commit::DataFile;
use crate::log::object_path;
use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::Value;
use std::sync::Arc;

/// Files that are read at once.
const AT_ONCE: usize = 4;

/// A file that is not what the log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Path below the table.
    pub path: String,
    /// How.
    pub detail: String,
}

/// What a scrub has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Files that were read.
    pub files: usize,
    /// Files to read.
    pub files_all: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes to read.
    pub bytes_all: u64,
    /// Files without a digest: their rows were read instead.
    pub without_digest: usize,
    /// Files that are not what the log says.
    pub damaged: Vec<Damage>,
}

impl Upkeep {
    /// Reads every file of the newest version. `progress` is called after each.
    pub async fn scrub(&self, mut progress: impl FnMut(&Scrubbed)) -> Result<Scrubbed, UpkeepError> {
        let table = self.lake.records();
        let files = table.snapshot().await?.newest_first();
        let mut found = Scrubbed {
            files_all: files.len(),
            bytes_all: files.iter().map(|f| f.file.size).sum(),
            ..Scrubbed::default()
        };
        let checks = files.into_iter().map(|active| {
            let objects = table.objects().clone();
            // Hashing and decoding block: not on the threads that wait for the store.
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || {
                let outcome = runtime.block_on(check(&objects, &active.file));
                (active, outcome)
            })
        });
        let mut checked = futures::stream::iter(checks).buffer_unordered(AT_ONCE);
        while let Some(done) = checked.next().await {
            let (active, outcome) = match done {
                Ok(done) => done,
                Err(e) => std::panic::resume_unwind(e.into_panic()),
            };
            found.files += 1;
            found.bytes += active.file.size;
            match outcome {
                Ok(true) => {}
                Ok(false) => found.without_digest += 1,
                Err(_) if !table.snapshot().await?.files.contains_key(&active.file.path) => {}
                Err(e) => {
                    let damage = Damage { path: active.file.path.clone(), detail: causes(e.as_ref()) };
                    tracing::error!(path = damage.path, detail = damage.detail, "damaged data file");
                    found.damaged.push(damage);
                }
            }
            progress(&found);
        }
        Ok(found)
    }
}

/// An error and what caused it, in one line.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |e| e.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Whether the log has a digest of the file; an error when the file is not what it says.
async fn check(
    objects: &Arc<dyn ObjectStore>,
    file: &DataFile,
) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    if check_digest(objects, file).await? {
        return Ok(true);
    }
    let size = objects.head(&object_path(&file.path)?).await?.size;
    if size != file.size {
        return Err(format!("it has {size} bytes, the log says {}", file.size).into());
    }
    let mut batches = merge::open(objects, &file.path, size, file.row_bytes).await?;
    let (mut rows, mut bounds) = (0, Bounds::default());
    while let Some(batch) = merge::next_as_stored(&mut batches).await? {
        rows += batch.num_rows() as u64;
        bounds.widen(&statistics(&batch));
    }
    if rows != file.rows {
        return Err(format!("it holds {rows} rows, the log says {}", file.rows).into());
    }
    match outside(&bounds.finish(), &serde_json::from_str(&file.stats).unwrap_or_default()) {
        Some(column) => Err(format!("values of `{column}` are not within what the log says of it").into()),
        None => Ok(false),
    }
}

/// A column whose values are not within the bounds that the log has, or whose nulls are more or fewer.
fn outside(found: &Value, log: &Value) -> Option<String> {
    let pairs = |key: &'static str| {
        let wanted = log[key].as_object().into_iter().flatten();
        wanted.filter_map(move |(name, wanted)| found[key].get(name).map(|found| (name, found, wanted)))
    };
    let nulls = pairs("nullCount").find(|(_, found, wanted)| found != wanted);
    let low = pairs("minValues").find(|(_, found, wanted)| merge::order(found, wanted).is_lt());
    let high = pairs("maxValues").find(|(_, found, wanted)| merge::order(found, wanted).is_gt());
    nulls.or(low).or(high).map(|(name, ..)| name.clone())
}
