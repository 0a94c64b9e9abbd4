//! Power loss: what was not synced is gone.

use super::*;
use crate::store::{Durability, Fsync};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tempfile::tempdir;

/// Remembers what a disk would hold after a loss of power: files as of their last sync, folders as of theirs. It can
/// forget to sync files, folders, or only the folders that were just made.
#[derive(Debug, Default)]
struct Disk {
    files: Mutex<HashMap<u64, Vec<u8>>>,
    folders: Mutex<HashMap<u64, Vec<Entry>>>,
    forgets: Forgets,
}

/// Name, inode, and whether it is a folder.
type Entry = (String, u64, bool);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Forgets {
    #[default]
    Nothing,
    Files,
    Folders,
    /// Syncs the folder of the file, none above it.
    Parents,
}

impl Durability for Disk {
    fn file(&self, path: &Path, file: &File) -> io::Result<()> {
        if self.forgets != Forgets::Files {
            Fsync.file(path, file)?;
            self.files.lock().insert(file.metadata()?.ino(), std::fs::read(path)?);
        }
        Ok(())
    }

    fn folder(&self, path: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            // A temporary file may be gone by now.
            let Ok(meta) = entry.metadata() else { continue };
            entries.push((entry.file_name().to_string_lossy().into_owned(), meta.ino(), meta.is_dir()));
        }
        let parent = entries.iter().any(|(.., folder)| *folder);
        if self.forgets == Forgets::Folders || (self.forgets == Forgets::Parents && parent) {
            return Ok(());
        }
        Fsync.folder(path)?;
        self.folders.lock().insert(std::fs::metadata(path)?.ino(), entries);
        Ok(())
    }
}

impl Disk {
    /// Writes what is left of `folder` to `to`.
    fn after_power_loss(&self, folder: &Path, to: &Path) {
        self.rebuild(std::fs::metadata(folder).unwrap().ino(), to);
    }

    fn rebuild(&self, inode: u64, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        let entries = self.folders.lock().get(&inode).cloned().unwrap_or_default();
        for (name, inode, folder) in entries {
            let at = to.join(name);
            match folder {
                true => self.rebuild(inode, &at),
                // The name is there, the bytes never were.
                false => {
                    std::fs::write(&at, self.files.lock().get(&inode).cloned().unwrap_or_default()).unwrap();
                    std::fs::set_permissions(&at, Permissions::from_mode(0o600)).unwrap();
                }
            }
        }
    }
}

/// Writes and commits, loses power after every acknowledgement, and looks at what is left. `None` when everything
/// that was acknowledged is; else what was lost first.
async fn survive(forgets: Forgets) -> Option<String> {
    let folder = tempdir().unwrap();
    let disk = Arc::new(Disk { forgets, ..Disk::default() });
    let options = StoreOptions { durability: disk.clone(), ..StoreOptions::default() };
    let lake = open_with(folder.path(), &options).await;
    let upkeep = crate::upkeep::Upkeep::new(
        lake.clone(),
        crate::upkeep::UpkeepSettings { inputs_min: 2, ..crate::upkeep::UpkeepSettings::default() },
    );
    for n in 0..12 {
        append(&lake, "k", n * 10, n * 10 + 10).await.unwrap();
        match n {
            4 | 9 => drop(upkeep.compact_once().await.unwrap().unwrap()),
            6 => drop(upkeep.checkpoint_once().await.unwrap().unwrap()),
            _ => {}
        }
        let left = tempdir().unwrap();
        disk.after_power_loss(folder.path(), left.path());
        let after = match Lake::open(left.path().to_str().unwrap(), &StoreOptions::default()).await {
            Ok(after) => after,
            Err(e) => return Some(format!("after commit {n} the lake does not open: {e}")),
        };
        if after.secret() != lake.secret() {
            return Some(format!("after commit {n} the secret is another"));
        }
        let position = after.position("k").await.unwrap();
        if position != Some(n * 10 + 10) {
            return Some(format!("after commit {n} the position is {position:?}"));
        }
        let mut rows = 0;
        for file in after.files().await {
            let Ok(bytes) = after.get(&file.path).await else {
                return Some(format!("after commit {n} a file is gone"));
            };
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(|b| b.build());
            let Ok(reader) = reader else { return Some(format!("after commit {n} a file is broken")) };
            rows += reader.map(|b| b.unwrap().num_rows() as i64).sum::<i64>();
        }
        if rows != n * 10 + 10 {
            return Some(format!("after commit {n} there are {rows} rows"));
        }
    }
    None
}

#[tokio::test]
async fn power_loss_takes_nothing_that_was_acknowledged() {
    assert_eq!(survive(Forgets::Nothing).await, None);
}

#[tokio::test]
async fn without_fsync_it_does() {
    for forgets in [Forgets::Files, Forgets::Folders, Forgets::Parents] {
        let lost = survive(forgets).await;
        assert!(lost.is_some(), "{forgets:?} must be noticed");
    }
}

#[tokio::test]
async fn a_put_leaves_no_temporary_file() {
    let folder = tempdir().unwrap();
    let lake = open(folder.path()).await;
    append(&lake, "k", 0, 10).await.unwrap();
    let mut names = Vec::new();
    let mut folders = vec![folder.path().to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => names.push(entry.file_name().into_string().unwrap()),
            }
        }
    }
    names.sort();
    assert!(names.iter().all(|n| !n.contains('#')), "{names:?}");
    assert_eq!(names.len(), 4, "two commits, a data file and the secret: {names:?}");
}
