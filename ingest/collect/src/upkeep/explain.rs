//! What vacuum may take: files that the log explains, and few that it does not.
//!
//! Guarantee: a file goes without further question only if the log says that a merge of ours took it out. For any other file
//! (never in the log as far as that is known, or taken out by another program) the log itself is in question: it may
//! have been lost and made again, restored from an older copy, or damaged. Then nothing is deleted when such a file is
//! older than the table, newer than the last commit, or when there are more of them than dead writers leave behind. A writer that
//! is killed leaves the files of one flush or merge; those go.

use super::{Upkeep, UpkeepError};
use crate::log::{LOG, Name, State, hinted, name_of, object_path};
use crate::store::list_from;
use object_store::ObjectMeta;
use object_store::path::Path;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

/// Of a small table, as many files may go unexplained as one killed process leaves behind.
const FEW: usize = 16;
/// Of a larger table, this part of the files that its log knows: one in so many.
const ONE_IN: usize = 10;
/// A flush or merge that was killed may have written this long after the last commit; clocks may differ by as much.
const GRACE: Duration = Duration::from_secs(600);

/// Files that no version within the retention needs.
#[derive(Debug, Default)]
pub(super) struct Unneeded {
    /// Taken out of the table by a merge.
    pub(super) merged: Vec<ObjectMeta>,
    /// All others.
    pub(super) unexplained: Vec<ObjectMeta>,
}

/// Why vacuum deleted nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// There are more than a round may take.
    Many {
        /// Files that a round may take.
        limit: usize,
    },
    /// They are older than the table.
    OlderThanTable,
    /// They are newer than the last commit.
    NewerThanLog {
        /// Its version.
        version: u64,
    },
    /// A commit was damaged and put aside; it may have named them.
    Aside {
        /// File in the log.
        name: String,
    },
    /// The log ends before the checkpoint that it names.
    Cut {
        /// Version of the checkpoint.
        checkpoint: u64,
        /// Newest version.
        version: u64,
    },
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::Many { limit } => write!(f, "a round takes at most {limit} of them"),
            Doubt::OlderThanTable => {
                f.write_str("they are older than the table, so its log was probably lost and made again")
            }
            Doubt::NewerThanLog { version } => {
                write!(f, "they are newer than the last commit ({version}), so the log is probably an older copy")
            }
            Doubt::Aside { name } => write!(f, "the damaged commit `{name}` may have named them"),
            Doubt::Cut { checkpoint, version } => {
                write!(
                    f,
                    "the log ends at version {version}, but names checkpoint {checkpoint}, so a part of it is missing"
                )
            }
        }
    }
}

/// What vacuum did not delete, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Files that nothing in the log explains.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that the log knows.
    pub known: usize,
    /// One of them.
    pub example: String,
    /// Why they stay.
    pub doubt: Doubt,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused { files, bytes, known, example, doubt } = self;
        write!(
            f,
            "no file was deleted: {files} files ({bytes} bytes, such as `{example}`) are in no log entry, which knows {known} files; {doubt}"
        )
    }
}

impl Refused {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "compare the log with a backup; to delete them all the same: `catena maintain --unexplained-max N`"
    }
}

/// The log as vacuum needs to know it.
struct LogFacts {
    aside: Option<String>,
    checkpoint: Option<u64>,
}

impl Upkeep {
    /// The reason to leave unexplained files where they are.
    pub(super) async fn doubt(
        &self,
        state: &State,
        unexplained: &[ObjectMeta],
    ) -> Result<Option<Refused>, UpkeepError> {
        let Some(first) = unexplained.first() else { return Ok(None) };
        let objects = self.lake.records().objects();
        let log =
            list_from(objects.as_ref(), &Path::from(LOG), None).await.map_err(|e| self.failed("list the log", e))?;
        let aside = log.iter().find(|o| matches!(name_of(&o.location), Name::Aside(_))).map(|o| o.location.to_string());
        let facts = LogFacts { aside, checkpoint: hinted(objects.as_ref()).await };
        let found = judge(state, unexplained, &facts, self.settings.unexplained_max);
        Ok(found.map(|(doubt, example)| Refused {
            files: unexplained.len(),
            bytes: unexplained.iter().map(|o| o.size).sum(),
            known: known(state),
            example: example.unwrap_or(first).location.to_string(),
            doubt,
        }))
    }
}

fn known(state: &State) -> usize {
    state.files.len() + state.tombstones.len()
}

/// The first reason that is found, and a file that shows it.
fn judge<'a>(
    state: &State,
    unexplained: &'a [ObjectMeta],
    log: &LogFacts,
    most: Option<usize>,
) -> Option<(Doubt, Option<&'a ObjectMeta>)> {
    // Somebody has looked at it and said how many may go.
    if most.is_some_and(|most| unexplained.len() <= most) {
        return None;
    }
    if let Some(name) = &log.aside {
        return Some((Doubt::Aside { name: name.clone() }, None));
    }
    if let Some(checkpoint) = log.checkpoint.filter(|checkpoint| *checkpoint > state.version) {
        return Some((Doubt::Cut { checkpoint, version: state.version }, None));
    }
    let grace = GRACE.as_millis() as i64;
    let created = state.metadata.as_ref().and_then(|m| m.created_time).unwrap_or(i64::MIN);
    if let Some(file) = unexplained.iter().find(|o| written(o) < created.saturating_sub(grace)) {
        return Some((Doubt::OlderThanTable, Some(file)));
    }
    let last = last_commit(state).unwrap_or(created);
    if let Some(file) = unexplained.iter().find(|o| written(o) > last.saturating_add(grace)) {
        return Some((Doubt::NewerThanLog { version: state.version }, Some(file)));
    }
    let limit = most.unwrap_or_else(|| FEW.max(known(state) / ONE_IN));
    (unexplained.len() > limit).then_some((Doubt::Many { limit }, None))
}

/// When a file was written, in milliseconds since the epoch.
fn written(object: &ObjectMeta) -> i64 {
    object.last_modified.timestamp_millis()
}

/// When the table was last committed to, as the log itself says: times of its files do not survive every copy.
fn last_commit(state: &State) -> Option<i64> {
    let files = state.files.values().map(|f| f.modified);
    let removed = state.tombstones.values().map(|t| t.deleted);
    files.chain(removed).chain(state.txns.values().filter_map(|p| p.updated)).max()
}

/// Paths of files that a merge of ours took out: their rows stand in other files.
pub(super) fn merged(state: &State) -> HashSet<Path> {
    let merged = state.tombstones.iter().filter(|(_, t)| !t.data_change);
    merged.filter_map(|(path, _)| object_path(path).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Position, Tombstone};
    use catena_lake::commit::Metadata;
    use chrono::DateTime;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const HOUR: i64 = 3_600_000;

    /// A table of `files` files that was made at hour 100 and last committed to at hour 200, at version 9.
    fn state(files: usize) -> State {
        let mut state = State::empty();
        state.version = 9;
        state.metadata = Some(Metadata { created_time: Some(100 * HOUR), ..Metadata::default() });
        state.txns.insert("k".into(), Position { version: 1, updated: Some(200 * HOUR) });
        for n in 0..files {
            let tombstone = Tombstone { deleted: 150 * HOUR, data_change: false, partition: BTreeMap::new(), size: 1 };
            state.tombstones.insert(format!("f{n}"), Arc::new(tombstone));
        }
        state
    }

    fn check(known: usize, hours: &[i64], log: (Option<&str>, Option<u64>), most: Option<usize>, want: &str) {
        let object = |hour: &i64| ObjectMeta {
            location: Path::from(format!("x{hour}.parquet")),
            last_modified: DateTime::from_timestamp_millis(hour * HOUR).unwrap(),
            size: 1,
            e_tag: None,
            version: None,
        };
        let objects: Vec<ObjectMeta> = hours.iter().map(object).collect();
        let facts = LogFacts { aside: log.0.map(str::to_owned), checkpoint: log.1 };
        let found =
            judge(&state(known), &objects, &facts, most).map(|(doubt, _)| doubt.to_string()).unwrap_or_default();
        assert!(found.contains(want) && found.is_empty() == want.is_empty(), "{known} known, {hours:?}: {found}");
    }

    #[test]
    fn only_what_dead_writers_leave_goes() {
        let none = (None, None);
        check(0, &[150; 16], none, None, "");
        check(0, &[150; 17], none, None, "at most 16");
        check(400, &[150; 40], none, None, "");
        check(400, &[150; 41], none, None, "at most 40");
        check(400, &[150, 99], none, None, "older than the table");
        check(400, &[150, 201], none, None, "newer than the last commit (9)");
        check(400, &[100, 200], none, None, "");
        check(400, &[150], (Some("7.json.broken-x"), None), None, "damaged commit `7.json.broken-x`");
        check(400, &[150], (None, Some(10)), None, "names checkpoint 10");
        check(400, &[150], (None, Some(9)), None, "");
        // A number that was said decides.
        check(400, &[99, 201, 150], (Some("x"), Some(10)), Some(3), "");
        check(400, &[150; 4], none, Some(3), "at most 3");
        check(400, &[150], none, Some(0), "at most 0");
    }
}
