//! Names of files in the log, and which of them make the newest version.
//!
//! Guarantee: a [`Plan`] begins at a checkpoint of which every part is there, or at version 0, and goes on without a gap; or it
//! is an error that names the first version that is missing.

use std::collections::BTreeMap;

/// Folder of the log, below the table.
pub const LOG: &str = "_delta_log";
/// The file that names the last checkpoint.
pub const HINT: &str = "_last_checkpoint";

/// Name of a commit.
pub fn commit(version: u64) -> String {
    format!("{version:020}.json")
}

/// Name of a checkpoint in one file.
pub fn checkpoint(version: u64) -> String {
    format!("{version:020}.checkpoint.parquet")
}

/// What a file of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// A commit of this version.
    Commit(u64),
    /// Version, part and number of parts.
    Checkpoint(u64, u32, u32),
    /// An unreadable commit of this version that a writer put aside.
    Aside(u64),
    /// Something else.
    Other,
}

impl Name {
    /// What a file name says.
    pub fn of(name: &str) -> Name {
        let mut parts = name.split('.');
        let Some(version) = parts.next().filter(|v| v.len() == 20).and_then(|v| v.parse().ok()) else {
            return Name::Other;
        };
        match parts.collect::<Vec<_>>()[..] {
            ["json"] => Name::Commit(version),
            ["json", aside] if aside.starts_with("broken-") => Name::Aside(version),
            ["checkpoint", "parquet"] => Name::Checkpoint(version, 1, 1),
            ["checkpoint", part, of, "parquet"] => match (part.parse(), of.parse()) {
                (Ok(part), Ok(of)) => Name::Checkpoint(version, part, of),
                _ => Name::Other,
            },
            _ => Name::Other,
        }
    }

    /// The version of a commit or checkpoint.
    pub fn version(self) -> Option<u64> {
        match self {
            Name::Commit(version) | Name::Checkpoint(version, ..) => Some(version),
            Name::Aside(_) | Name::Other => None,
        }
    }
}

/// A version that should be there and is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("version {0} is missing")]
pub struct Gap(pub u64);

/// What a listing of the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Versions with a commit, ascending.
    commits: Vec<u64>,
    /// Checkpoints of which every part is there, newest first: version and file names in order.
    pub checkpoints: Vec<(u64, Vec<String>)>,
}

impl Plan {
    /// Sorts a listing.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Plan {
        let mut plan = Plan::default();
        let mut parts: BTreeMap<(u64, u32), BTreeMap<u32, String>> = BTreeMap::new();
        for name in names {
            match Name::of(name) {
                Name::Commit(version) => plan.commits.push(version),
                Name::Checkpoint(version, part, of) => {
                    parts.entry((version, of)).or_default().insert(part, name.to_owned());
                }
                Name::Aside(_) | Name::Other => {}
            }
        }
        plan.commits.sort_unstable();
        plan.commits.dedup();
        for ((version, of), found) in parts.into_iter().rev() {
            if (1..=of).all(|part| found.contains_key(&part)) {
                plan.checkpoints.push((version, found.into_values().collect()));
            }
        }
        plan
    }

    /// Whether there is no version at all.
    pub fn is_empty(&self) -> bool {
        self.commits.is_empty() && self.checkpoints.is_empty()
    }

    /// The commits that lead from a checkpoint, or from nothing, to the newest version.
    pub fn after(&self, checkpoint: Option<u64>) -> Result<Vec<u64>, Gap> {
        let first = checkpoint.map_or(0, |version| version + 1);
        let versions: Vec<u64> = self.commits.iter().copied().filter(|v| *v >= first).collect();
        match (first..).zip(&versions).find(|(want, version)| want != *version) {
            Some((want, _)) => Err(Gap(want)),
            // Nothing but a checkpoint that could not be read.
            None if versions.is_empty() && checkpoint.is_none() && !self.is_empty() => Err(Gap(0)),
            None => Ok(versions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names in short: `3` a commit, `c3` a checkpoint, `c3.1.2` a part of one.
    fn check(listing: &str, checkpoints: &[u64], from: Option<u64>, want: Result<&[u64], u64>) {
        let names: Vec<String> = listing
            .split_whitespace()
            .map(|word| match word.strip_prefix('c').map(|c| c.split('.').collect::<Vec<_>>()) {
                None => commit(word.parse().expect("a version")),
                Some(c) if c.len() == 1 => checkpoint(c[0].parse().expect("a version")),
                Some(c) => format!(
                    "{:020}.checkpoint.{:010}.{:010}.parquet",
                    c[0].parse::<u64>().unwrap(),
                    c[1].parse::<u32>().unwrap(),
                    c[2].parse::<u32>().unwrap()
                ),
            })
            .collect();
        let plan = Plan::of(names.iter().map(String::as_str));
        assert_eq!(plan.checkpoints.iter().map(|c| c.0).collect::<Vec<_>>(), checkpoints, "{listing}");
        assert_eq!(plan.after(from), want.map(<[u64]>::to_vec).map_err(Gap), "{listing}");
    }

    #[test]
    fn versions_are_complete_or_the_missing_one_is_named() {
        check("", &[], None, Ok(&[]));
        check("0 1 2", &[], None, Ok(&[0, 1, 2]));
        check("0 2", &[], None, Err(1));
        check("1 2", &[], None, Err(0));
        check("c3 4 5", &[3], Some(3), Ok(&[4, 5]));
        check("0 1 c1 3", &[1], Some(1), Err(2));
        check("c3", &[3], Some(3), Ok(&[]));
        // A checkpoint alone that could not be read.
        check("c3", &[3], None, Err(0));
        // In parts: every one of them, whatever their number.
        check("c3.1.2 c3.2.2 4", &[3], Some(3), Ok(&[4]));
        check("c3.1.2 4", &[], None, Err(0));
        check("c3.2.3 c3.3.3 c3.3.3 4", &[], None, Err(0));
        check("c1 c3.1.2 2 3", &[1], Some(1), Ok(&[2, 3]));
        check("c1 c3 2 3 4", &[3, 1], Some(3), Ok(&[4]));
    }

    #[test]
    fn names_are_told_apart() {
        for (name, want) in [
            ("00000000000000000007.json", Name::Commit(7)),
            ("00000000000000000007.json.broken-ab12", Name::Aside(7)),
            ("00000000000000000007.checkpoint.parquet", Name::Checkpoint(7, 1, 1)),
            ("00000000000000000007.checkpoint.0000000002.0000000003.parquet", Name::Checkpoint(7, 2, 3)),
            ("00000000000000000007.checkpoint.80a083e8-7026-4e79-81be-64bd76c43a11.parquet", Name::Other),
            ("00000000000000000007.crc", Name::Other),
            ("7.json", Name::Other),
            (HINT, Name::Other),
        ] {
            assert_eq!(Name::of(name), want, "{name}");
        }
    }
}
