//! Reads the house: its root, and every text file that belongs to it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Files beyond this are data, not text to read rules into.
const TEXT_BYTES_MAX: u64 = 8 << 20;
/// Folders that a build makes.
const MADE: &[&str] = &["target", ".cache", ".git", "node_modules"];

/// A text file, by its path below the root.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
    let root = root();
    let mut pages: Vec<Page> = paths(&root)
        .into_iter()
        .filter(|path| std::fs::metadata(root.join(path)).is_ok_and(|m| m.is_file() && m.len() <= TEXT_BYTES_MAX))
        // Bytes that are no text (compressed logs, keys) are not read.
        .filter_map(|path| std::fs::read_to_string(root.join(&path)).ok().map(|text| Page { path, text }))
        .collect();
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(pages.len() > 50, "only {} files found below {}", pages.len(), root.display());
    pages
});

/// Every text file that git tracks or would track; where there is no git, every file that no build made.
pub(crate) fn pages() -> &'static [Page] {
    &PAGES
}

/// Whether a file or folder is there.
pub(crate) fn stands(path: &str) -> bool {
    root().join(path).try_exists().is_ok_and(|is| is)
}

fn paths(root: &Path) -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    match listed {
        Ok(out) if out.status.success() && !out.stdout.is_empty() => {
            String::from_utf8_lossy(&out.stdout).split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect()
        }
        _ => {
            let mut found = Vec::new();
            walk(root, root, &mut found);
            found
        }
    }
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the house can be listed").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            if !MADE.contains(&name.as_str()) {
                walk(root, &path, found);
            }
        } else if let Ok(below) = path.strip_prefix(root) {
            found.push(below.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn walking_finds_what_git_lists() {
    let root = root();
    let mut walked = Vec::new();
    walk(&root, &root, &mut walked);
    for must in ["Cargo.toml", "schemas/src/lib.rs", "tests/tests/tidy/house.rs"] {
        assert!(walked.iter().any(|p| p == must), "{must}");
        assert!(pages().iter().any(|p| p.path == must), "{must}");
    }
    assert!(!walked.iter().any(|p| p.starts_with("target/")));
}
