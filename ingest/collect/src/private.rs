//! Files that hold keys: only their owner may read them.
//!
//! Guarantee: [`check`] refuses a key file that group or others can read or write, and says how to change that. One exception, as
//! PostgreSQL makes it: a file of root may be readable by its group when the process is another user, since a key in a container
//! or in the store of the system often comes so.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A key file that is not private, or that cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    /// Others can read or change it.
    #[error("`{}` holds a key and has mode {mode:04o}, so others can read or change it; run `chmod 600 {}`", path.display(), path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not there, or not to be seen.
    #[error("could not look at the key file `{}`", path.display())]
    Look {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

/// Refuses a key file that others can read. Links are followed.
pub fn check(path: &Path) -> Result<(), NotPrivate> {
    let file = std::fs::metadata(path).map_err(|source| NotPrivate::Look { path: path.to_owned(), source })?;
    let mode = file.permissions().mode() & 0o777;
    match is_private(mode, file.uid(), own_id()) {
        true => Ok(()),
        false => Err(NotPrivate::Open { path: path.to_owned(), mode }),
    }
}

fn is_private(mode: u32, owner: u32, own: Option<u32>) -> bool {
    const OTHERS: u32 = 0o077;
    const ALL_BUT_GROUP_READS: u32 = 0o037;
    let of_root = owner == 0 && own.is_some_and(|id| id != 0);
    mode & if of_root { ALL_BUT_GROUP_READS } else { OTHERS } == 0
}

/// The user that this process runs as, where the system says so in a folder.
fn own_id() -> Option<u32> {
    std::fs::metadata("/proc/self").ok().as_ref().map(Metadata::uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (mode, owner, own, expected) in [
            (0o600, 1000, Some(1000), true),
            (0o400, 1000, Some(1000), true),
            (0o640, 1000, Some(1000), false),
            (0o604, 1000, Some(1000), false),
            (0o620, 1000, Some(1000), false),
            (0o644, 0, Some(1000), false),
            (0o640, 0, Some(1000), true),
            (0o440, 0, Some(1000), true),
            (0o660, 0, Some(1000), false),
            (0o640, 0, Some(0), false),
            (0o640, 0, None, false),
        ] {
            assert_eq!(is_private(mode, owner, own), expected, "{mode:o} of {owner} as {own:?}");
        }
    }

    #[test]
    fn a_file_says_how_to_change_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        assert!(matches!(check(&path), Err(NotPrivate::Look { .. })));
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        let said = check(&path).unwrap_err().to_string();
        assert!(said.contains("mode 0644") && said.ends_with(&format!("chmod 600 {}`", path.display())), "{said}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        check(&path).unwrap();
    }
}
