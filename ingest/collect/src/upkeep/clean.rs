//! Checkpoints, cleanup of the log, and vacuum of files that left the table.
//!
//! Guarantee: a checkpoint is pointed to only after it was read back and found equal to the table; commits are deleted
//! only below a checkpoint that can be read and is itself older than the retention, so every version within it can still
//! be rebuilt; a file is deleted only if it was seen before the newest version was read, is not part of that, left it
//! longer ago than the retention (or never was part of it and is older than that), is not kept by a hold, and if `explain`
//! has no doubt about the log. In doubt nothing is deleted, and that is an error with counts.

use super::explain::{self, Unneeded};
use super::{Upkeep, UpkeepError};
use crate::checkpoint;
use crate::log::{LOG, LogError, Name, State, checkpoint_path, hint_path, name_of, object_path};
use crate::store::{list_from, read};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStoreExt};
use serde_json::{Value, json};
use std::collections::HashSet;

/// A checkpoint that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpointed {
    /// Version.
    pub version: u64,
    /// Actions in it.
    pub actions: usize,
    /// Bytes.
    pub bytes: usize,
}

/// What cleanup deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Commits.
    pub commits: usize,
    /// Checkpoints.
    pub checkpoints: usize,
}

/// What vacuum deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vacuumed {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that would have gone but are kept.
    pub kept: usize,
    /// Temporary files of writers that died.
    pub temporary: usize,
}

impl Upkeep {
    /// Writes a checkpoint of the newest version; `None` when there is one.
    pub async fn checkpoint_once(&self) -> Result<Option<Checkpointed>, UpkeepError> {
        let table = self.lake.records();
        let state = table.snapshot().await?;
        let version = state.version;
        if self.last_checkpoint().await?.is_some_and(|last| last >= version) {
            return Ok(None);
        }
        let failed = |source| UpkeepError::Checkpoint { version, source };
        let removed_since = table.clock().wall().millis() - table.tombstones_kept().as_millis() as i64;
        let encoded = state.clone();
        let encode = tokio::task::spawn_blocking(move || checkpoint::write(&encoded, removed_since));
        let (bytes, actions) = encode.await.map_err(|e| failed(e.into()))?.map_err(failed)?;
        let (path, size) = (checkpoint_path(version), bytes.len());
        table.objects().put(&path, bytes.into()).await.map_err(|e| failed(e.into()))?;
        let back = checkpoint::read_state(table.objects().as_ref(), table.name(), version, std::slice::from_ref(&path))
            .await?;
        if let Some(detail) = difference(&state, &back) {
            // Readers would find it by its name, so it must go.
            table.objects().delete(&path).await.map_err(|e| failed(e.into()))?;
            return Err(failed(detail.into()));
        }
        let hint =
            json!({"version": version, "size": actions, "sizeInBytes": size, "numOfAddFiles": state.files.len()});
        table.objects().put(&hint_path(), hint.to_string().into()).await.map_err(|e| failed(e.into()))?;
        tracing::info!(version, actions, bytes = size, "checkpoint written");
        Ok(Some(Checkpointed { version, actions, bytes: size }))
    }

    /// Writes a checkpoint when enough commits have come since the last.
    pub(super) async fn checkpoint_if_due(&self) -> Result<(), UpkeepError> {
        let version = self.lake.records().version().await?;
        let last = self.last_checkpoint().await?.unwrap_or(0);
        if version.saturating_sub(last) >= self.settings.checkpoint_commits {
            self.checkpoint_once().await?;
        }
        Ok(())
    }

    /// Version of the checkpoint that readers are pointed to.
    async fn last_checkpoint(&self) -> Result<Option<u64>, UpkeepError> {
        let table = self.lake.records();
        let bytes = read(table.objects().as_ref(), &hint_path())
            .await
            .map_err(|e| self.failed("read the last checkpoint's name", e))?;
        let hint: Option<Value> = bytes.and_then(|b| serde_json::from_slice(&b).ok());
        Ok(hint.and_then(|h| h["version"].as_u64()))
    }

    /// Deletes commits and checkpoints that no version within the retention needs.
    pub async fn cleanup_once(&self) -> Result<Cleaned, UpkeepError> {
        let table = self.lake.records();
        let log = list_from(table.objects().as_ref(), &Path::from(LOG), None)
            .await
            .map_err(|e| self.failed("list the log", e))?;
        let cutoff = table.clock().wall().0 - self.settings.log_retention.as_micros() as i64;
        let old = |o: &ObjectMeta| o.last_modified.timestamp_micros() < cutoff;
        let mut anchors: Vec<(u64, &ObjectMeta)> = log
            .iter()
            .filter(|o| old(o))
            .filter_map(|o| match name_of(&o.location) {
                Name::Checkpoint(version, 1, 1) => Some((version, o)),
                _ => None,
            })
            .collect();
        anchors.sort_unstable_by_key(|(version, _)| *version);
        let mut cleaned = Cleaned::default();
        // Everything from an old checkpoint on can be rebuilt from it.
        let keep_from = self.settings.log_keep_from.unwrap_or(u64::MAX);
        let Some((below, file)) = anchors.into_iter().rfind(|(version, _)| *version <= keep_from) else {
            return Ok(cleaned);
        };
        // A long log is better than none: what cannot be read takes nothing's place.
        checkpoint::read_state(table.objects().as_ref(), table.name(), below, std::slice::from_ref(&file.location))
            .await?;
        let mut gone: Vec<(Name, &Path)> = log
            .iter()
            .filter(|o| old(o))
            .map(|o| (name_of(&o.location), &o.location))
            .filter(|(name, _)| name.version().is_some_and(|version| version < below))
            .collect();
        gone.sort_unstable_by_key(|(name, _)| name.version());
        for (name, path) in gone {
            match table.objects().delete(path).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(self.failed("delete old commits", e)),
            }
            match name {
                Name::Commit(_) => cleaned.commits += 1,
                _ => cleaned.checkpoints += 1,
            }
        }
        tracing::info!(commits = cleaned.commits, checkpoints = cleaned.checkpoints, below, "log cleaned up");
        Ok(cleaned)
    }

    /// Deletes files that left the table, and files that never got into it.
    pub async fn vacuum_once(&self) -> Result<Vacuumed, UpkeepError> {
        let table = self.lake.records();
        // First what lies there, then the table: whatever was committed in between is in the table.
        let found = list_from(table.objects().as_ref(), &Path::default(), None)
            .await
            .map_err(|e| self.failed("list the files", e))?;
        let state = table.snapshot().await?;
        let now = table.clock().wall().0;
        let cutoff = now - self.settings.file_retention.as_micros() as i64;
        let wanted = wanted(&state, cutoff / 1000)?;
        let mut vacuumed = Vacuumed::default();
        let merged = explain::merged(&state);
        let mut unneeded = Unneeded::default();
        for object in found {
            let hidden = object.location.parts().next().is_none_or(|p| p.as_ref().starts_with(['_', '.']));
            if hidden || wanted.contains(&object.location) || object.last_modified.timestamp_micros() >= cutoff {
                continue;
            }
            if (self.settings.keep)(object.location.as_ref()) {
                vacuumed.kept += 1;
            } else if merged.contains(&object.location) {
                unneeded.merged.push(object);
            } else {
                unneeded.unexplained.push(object);
            }
        }
        if let Some(refused) = self.doubt(&state, &unneeded.unexplained).await? {
            return Err(UpkeepError::Refused(Box::new(refused)));
        }
        let gone = unneeded.merged.into_iter().chain(unneeded.unexplained).map(|object| {
            vacuumed.files += 1;
            vacuumed.bytes += object.size;
            Ok(object.location)
        });
        let gone: Vec<_> = gone.collect();
        let mut deleted = table.objects().delete_stream(futures::stream::iter(gone).boxed());
        while let Some(outcome) = deleted.next().await {
            match outcome {
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(self.failed("delete old files", e)),
            }
        }
        if let Some(folder) = table.folder() {
            vacuumed.temporary =
                folder.sweep(self.settings.file_retention).await.map_err(|e| self.failed("sweep the folder", e))?;
        }
        tracing::info!(files = vacuumed.files, bytes = vacuumed.bytes, kept = vacuumed.kept, "vacuumed");
        Ok(vacuumed)
    }

    pub(super) fn failed(&self, attempted: &str, source: Error) -> UpkeepError {
        LogError::Store { attempted: attempted.to_owned(), table: self.lake.records().name().to_owned(), source }.into()
    }
}

/// Objects that the table, or a reader of a version within the retention, may open.
fn wanted(state: &State, removed_since_ms: i64) -> Result<HashSet<Path>, UpkeepError> {
    let removed = state.tombstones.iter().filter(|(_, t)| t.deleted >= removed_since_ms).map(|(path, _)| path);
    let mut wanted = HashSet::with_capacity(state.files.len());
    for path in state.files.keys().chain(removed) {
        // A path that we cannot resolve is one that we could not protect.
        let at = object_path(path).map_err(|e| LogError::Broken {
            path: path.clone(),
            table: "records".to_owned(),
            detail: e.to_string(),
        })?;
        wanted.insert(at);
    }
    Ok(wanted)
}

/// What a checkpoint lost.
fn difference(state: &State, back: &State) -> Option<String> {
    let same_file = |(path, f): (&String, &std::sync::Arc<crate::log::ActiveFile>)| {
        back.files.get(path).is_some_and(|b| b.file == f.file && b.modified == f.modified)
    };
    if back.files.len() != state.files.len() || !state.files.iter().all(same_file) {
        return Some(format!("{} files went in, {} came out, or not the same", state.files.len(), back.files.len()));
    }
    if back.txns != state.txns || back.metadata != state.metadata || back.protocol != state.protocol {
        return Some("positions, metadata or protocol came out changed".into());
    }
    None
}
