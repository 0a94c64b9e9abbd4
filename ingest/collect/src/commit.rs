//! Appends to a Delta log: rows and the offsets they came from, in one commit, once.
//!
//! Guarantee: each offset range of a source lands in exactly one commit, whoever tries, however often, and whatever the
//! store answers. Creating `N.json` is an atomic test-and-set, so commits form one chain, and a committer has read
//! every one before the version it tries. It tries only if the table's position (`txn`) of every source equals the first
//! offset of its range; so the ranges of a source are contiguous and disjoint. There are no clocks and no leases in
//! this: a late write of a dead process can only land on the version that its successor also wants, and the successor
//! then reads it, sees that its position moved, and lets go.
//!
//! ```text
//!             position of each app == from? ── no ──▶ Fenced
//!                  │ yes
//!                  ▼
//!      ┌── create v.json ── ok ──▶ landed
//!      │           ├── taken ──▶ read it: own nonce ──▶ landed; another's ──▶ apply, back off, v + 1, ask again
//!      │           └── unknown ─▶ read it: absent
//!      └───────── the same v, the same bytes ◀──┘          never v + 1: the first write may still land
//! ```
//!
//! One trap is left: where old commits were cleaned up, creating a stale version succeeds and nobody reads it. So a head
//! that was last seen to be current more than [`HEAD_AGE_MAX`] ago, by either clock, is checked before it is used.

use crate::log::{
    ActiveFile, Commit, LOG, LogError, Metadata, Name, Replayed, State, added, broken, commit_path, name_of, replay,
};
use crate::store::{Clock, Folder, list_from, read};
use bytes::Bytes;
use catena_lake::digest::{self, Digest};
use catena_lake::protocol::not_writable;
use catena_lake::width;
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode};
use rand::Rng;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A data file that is durable and not yet part of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Path below the table, URL-encoded as Delta wants it.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// Values of the partition columns.
    pub partition: BTreeMap<String, String>,
    /// Delta statistics: `numRecords`, `minValues`, `maxValues`, `nullCount` as JSON text.
    pub stats: String,
    /// Digest of its bytes; files of older builds have none.
    pub digest: Option<Digest>,
    /// Bytes that no row of it exceeds; files of older builds do not say.
    pub row_bytes: Option<u64>,
}

impl DataFile {
    /// What the log says of it besides what Delta asks for.
    pub(crate) fn tags(&self) -> Option<Value> {
        let digest = self.digest.map(|digest| (digest::TAG.to_owned(), digest::text(&digest).into()));
        let width = self.row_bytes.map(|bytes| (width::TAG.to_owned(), bytes.to_string().into()));
        let tags: Map<String, Value> = digest.into_iter().chain(width).collect();
        (!tags.is_empty()).then_some(Value::Object(tags))
    }
}

/// Offsets of one partition of one source that a commit covers: `from` included, `to` not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Delta application id: `kafka:<cluster>/<topic>@<epoch>/<partition>`, `wal:<node>/<partition>`, `file:<source>/<generation>`.
    pub app: String,
    /// The position that the table must hold for `app` (no entry counts as `start`).
    pub from: i64,
    /// The position that it holds afterwards: the next offset to read.
    pub to: i64,
    /// The position that an `app` without an entry is at: where its source began.
    pub start: i64,
}

/// A commit that landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Version that holds it.
    pub version: u64,
    /// Versions of others that it had to step over.
    pub contended: u32,
}

/// Why a commit did not land.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Somebody else has moved a source: nothing was added. Read the positions again.
    #[error("position of `{app}` is {found:?}, not {expected}: another process owns it")]
    Fenced {
        /// Application id.
        app: String,
        /// First offset of the refused range.
        expected: i64,
        /// Position that the table holds.
        found: Option<i64>,
    },
    /// A range that no source can have.
    #[error("range {from}..{to} of `{app}` runs backwards")]
    Backwards {
        /// Application id.
        app: String,
        /// First offset.
        from: i64,
        /// End.
        to: i64,
    },
    /// A file that was to be replaced is not part of the table any more: nothing was added.
    #[error("`{path}` is not part of `{table}` any more")]
    Replaced {
        /// Path below the table.
        path: String,
        /// Table.
        table: String,
    },
    /// The store did not say whether the commit landed, for too long. If it lands later, whoever commits next finds it,
    /// and a second try of the same ranges is then fenced; so it cannot land twice.
    #[error("could not commit version {version} of {table}")]
    Store {
        /// Version that was tried.
        version: u64,
        /// Table.
        table: String,
        /// The last thing that the store said.
        source: Error,
    },
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A head older than this is checked before it is built on.
pub const HEAD_AGE_MAX: Duration = Duration::from_secs(600);
/// A write that has not been answered for this long has an unknown outcome.
const PUT_TIMEOUT: Duration = Duration::from_secs(30);
/// Adds of others that nobody has asked for; beyond it the oldest are forgotten.
const FOREIGN_MAX: usize = 100_000;
/// Removed files are remembered this long at least, so that they are deleted late and other tools can do it too. Vacuum takes
/// them after seven days and runs once a day: two days more, and it still knows why they may go.
const TOMBSTONES_KEPT: Duration = Duration::from_secs(9 * 86_400);
const TOMBSTONES_MIN: usize = 10_000;

/// Parts of the protection that a test may switch off, to see that it fails then.
#[cfg(any(test, feature = "faults"))]
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Faults {
    pub accept_any_position: std::sync::atomic::AtomicBool,
    pub move_on_when_unknown: std::sync::atomic::AtomicBool,
    pub trust_old_head: std::sync::atomic::AtomicBool,
    pub go_on_in_any_file: std::sync::atomic::AtomicBool,
}

/// How a commit is retried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long the store may leave the outcome unknown before [`CommitError::Store`].
    pub unknown_max: Duration,
    /// The longest pause between two tries.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { unknown_max: Duration::from_secs(60), pause_max: Duration::from_millis(200) }
    }
}

/// What a table is to look like when it is opened: made when missing, widened when columns are missing.
#[derive(Clone, Debug)]
pub struct TableSpec {
    /// Name, for messages and metadata.
    pub name: String,
    /// Delta schema as JSON.
    pub schema: String,
    /// Partition columns.
    pub partitions: Vec<String>,
    /// Table properties.
    pub configuration: BTreeMap<String, String>,
}

/// A table that is appended to. One per process and table; commits of one process go one after the other.
#[derive(Debug)]
pub struct Table {
    name: String,
    objects: Arc<dyn ObjectStore>,
    /// The folder and the table's prefix in it, when the store is one.
    folder: Option<(Arc<Folder>, Path)>,
    clock: Arc<dyn Clock>,
    collector: String,
    patience: Patience,
    head: tokio::sync::Mutex<Head>,
    sidelined: Vec<String>,
    /// Seconds for which removed files are remembered.
    tombstones_kept_s: AtomicU64,
    /// Switches for tests.
    #[cfg(any(test, feature = "faults"))]
    pub faults: Faults,
}

#[derive(Debug)]
struct Head {
    state: State,
    /// When it was last known to be the newest version.
    seen_monotonic: Duration,
    seen_wall: i64,
    /// Added by others since last asked.
    foreign: VecDeque<Arc<ActiveFile>>,
    /// Removed files are thinned out when there are this many.
    tombstones_max: usize,
}

/// Everything that one commit holds.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) adds: Vec<DataFile>,
    pub(crate) removes: Vec<DataFile>,
    pub(crate) ranges: Vec<Range>,
    /// Further `txn` entries that land with the ranges and are not checked: what a source keeps beside its position.
    pub(crate) marks: BTreeMap<String, i64>,
    pub(crate) info: Map<String, Value>,
    pub(crate) operation: &'static str,
    /// Whether rows come or go, as opposed to being rewritten.
    pub(crate) data_change: bool,
    pub(crate) metadata: Option<Value>,
}

impl Table {
    /// Opens a table, makes it when it is missing, widens it when columns of ours are missing.
    pub async fn open(
        objects: Arc<dyn ObjectStore>,
        folder: Option<(Arc<Folder>, Path)>,
        spec: &TableSpec,
        clock: Arc<dyn Clock>,
        collector: &str,
        patience: Patience,
    ) -> Result<Table, CommitError> {
        let mut sidelined = Vec::new();
        let state = loop {
            let ending = folder.as_ref().map(|_| nonce());
            match replay(objects.as_ref(), &spec.name, ending.as_deref()).await? {
                Some(Replayed { state, sidelined: aside }) => {
                    sidelined.extend(aside);
                    break state;
                }
                None => create(objects.as_ref(), spec, clock.as_ref(), collector).await?,
            }
        };
        for aside in &sidelined {
            tracing::warn!(table = spec.name, aside, "unreadable last commit put aside");
        }
        let head = Head {
            state,
            seen_monotonic: clock.monotonic(),
            seen_wall: clock.wall().0,
            foreign: VecDeque::new(),
            tombstones_max: TOMBSTONES_MIN,
        };
        let table = Table {
            name: spec.name.clone(),
            objects,
            folder,
            clock,
            collector: collector.to_owned(),
            patience,
            head: tokio::sync::Mutex::new(head),
            sidelined,
            tombstones_kept_s: AtomicU64::new(TOMBSTONES_KEPT.as_secs()),
            #[cfg(any(test, feature = "faults"))]
            faults: Faults::default(),
        };
        table.widen(spec).await?;
        Ok(table)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The store, from the table's folder on.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    pub(crate) fn folder(&self) -> Option<&Arc<Folder>> {
        self.folder.as_ref().map(|(folder, _)| folder)
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Remembers removed files for longer: whoever deletes them late has to know then that they were removed.
    pub(crate) fn keep_tombstones(&self, at_least: Duration) {
        self.tombstones_kept_s.fetch_max(at_least.as_secs(), Ordering::Relaxed);
    }

    /// How long removed files are remembered.
    pub(crate) fn tombstones_kept(&self) -> Duration {
        Duration::from_secs(self.tombstones_kept_s.load(Ordering::Relaxed))
    }

    /// Files that were put aside when the table was opened, with what was wrong with them.
    pub fn sidelined(&self) -> &[String] {
        &self.sidelined
    }

    /// The newest version.
    pub async fn version(&self) -> Result<u64, LogError> {
        let mut head = self.head.lock().await;
        self.refresh(&mut head).await?;
        Ok(head.state.version)
    }

    /// The next offset to read of a source, by the newest version; `None` when the table knows nothing of it.
    pub async fn position(&self, app: &str) -> Result<Option<i64>, LogError> {
        let mut head = self.head.lock().await;
        self.refresh(&mut head).await?;
        Ok(head.state.txns.get(app).map(|p| p.version))
    }

    /// All positions by the newest version.
    pub async fn positions(&self) -> Result<BTreeMap<String, i64>, LogError> {
        let mut head = self.head.lock().await;
        self.refresh(&mut head).await?;
        Ok(head.state.txns.iter().map(|(app, p)| (app.clone(), p.version)).collect())
    }

    /// When a position below a prefix of application ids last moved, in milliseconds since the epoch.
    pub(crate) async fn last_moved(&self, below: &str) -> Option<i64> {
        let head = self.head.lock().await;
        head.state.txns.iter().filter(|(app, _)| app.starts_with(below)).filter_map(|(_, p)| p.updated).max()
    }

    /// Files of the newest version that has been read, newest first.
    pub async fn files(&self) -> Vec<Arc<ActiveFile>> {
        self.head.lock().await.state.newest_first()
    }

    /// Files that others have added since this was last asked, oldest first.
    pub async fn take_foreign(&self) -> Vec<Arc<ActiveFile>> {
        std::mem::take(&mut self.head.lock().await.foreign).into()
    }

    /// The newest version, as a copy to work on.
    pub(crate) async fn snapshot(&self) -> Result<State, LogError> {
        let mut head = self.head.lock().await;
        self.refresh(&mut head).await?;
        Ok(head.state.clone())
    }

    /// Adds files and moves the sources they came from, all of it or nothing. `info` stands in the commit.
    pub async fn commit(
        &self,
        adds: Vec<DataFile>,
        ranges: Vec<Range>,
        info: Map<String, Value>,
    ) -> Result<Committed, CommitError> {
        self.apply(Change { adds, ranges, info, operation: "WRITE", data_change: true, ..Change::default() }).await
    }

    /// Commits a change: the loop of the module's picture.
    pub(crate) async fn apply(&self, change: Change) -> Result<Committed, CommitError> {
        let mut head = self.head.lock().await;
        let nonce = nonce();
        if self.is_old(&head) {
            self.renew(&mut head).await?;
        }
        let bytes = self.render(&change, &nonce);
        let (mut contended, mut current) = (0, false);
        loop {
            if let Err(refusal) = self.check(&head.state, &change) {
                // Others may have moved on since we looked: only the newest version may refuse.
                if current {
                    return Err(refusal);
                }
                self.refresh(&mut head).await?;
                current = true;
                continue;
            }
            let version = head.state.version + 1;
            match self.create(version, &bytes, &nonce).await? {
                Outcome::Landed => {
                    let own = Commit::parse(&bytes).map_err(|e| broken(&commit_path(version), &self.name, &e))?;
                    self.advance(&mut head, version, own, true);
                    return Ok(Committed { version, contended });
                }
                Outcome::Taken(other) => {
                    self.advance(&mut head, version, *other, false);
                    // Catch up in one go, or a slow writer would fight for each version in turn.
                    self.refresh(&mut head).await?;
                    current = true;
                    contended += 1;
                    self.pause(contended).await;
                }
            }
        }
    }

    /// Whether the change may go on top of a state.
    fn check(&self, state: &State, change: &Change) -> Result<(), CommitError> {
        let mut moved: HashMap<&str, i64> = HashMap::new();
        for range in &change.ranges {
            let Range { app, from, to, start } = range;
            if to < from {
                return Err(CommitError::Backwards { app: app.clone(), from: *from, to: *to });
            }
            let stored = state.txns.get(app).map(|p| p.version);
            let found = moved.get(app.as_str()).copied().or(stored);
            if found.unwrap_or(*start) != *from && !self.accepts_any_position() {
                return Err(CommitError::Fenced { app: app.clone(), expected: *from, found });
            }
            moved.insert(app, *to);
        }
        match change.removes.iter().find(|file| !state.files.contains_key(&file.path)) {
            Some(_) if self.accepts_any_position() => Ok(()),
            Some(file) => Err(CommitError::Replaced { path: file.path.clone(), table: self.name.clone() }),
            None => Ok(()),
        }
    }

    /// Creates one version, until it is known who has it.
    async fn create(&self, version: u64, bytes: &Bytes, nonce: &str) -> Result<Outcome, CommitError> {
        let path = commit_path(version);
        let began = self.clock.monotonic();
        let mut tries = 0;
        loop {
            let put = self.objects.put_opts(&path, bytes.clone().into(), PutMode::Create.into());
            let failure = match tokio::time::timeout(PUT_TIMEOUT, put).await {
                Ok(Ok(_)) => return Ok(Outcome::Landed),
                // Refused for good: the request has no effect, now or later.
                Ok(Err(source @ (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }))) => {
                    return Err(CommitError::Store { version, table: self.name.clone(), source });
                }
                Ok(Err(e)) => e,
                Err(_) => Error::Generic { store: "lake", source: format!("no answer within {PUT_TIMEOUT:?}").into() },
            };
            let taken = matches!(failure, Error::AlreadyExists { .. } | Error::Precondition { .. });
            match self.read(version).await {
                Ok(Some(found)) if found.nonce.as_deref() == Some(nonce) => match self.confirm(&path).await {
                    Ok(()) => return Ok(Outcome::Landed),
                    Err(e) => tracing::warn!(table = self.name, version, error = %e, "own commit not durable yet"),
                },
                Ok(Some(other)) => return Ok(Outcome::Taken(Box::new(other))),
                Ok(None) if self.moves_on_when_unknown() && !taken => return Ok(Outcome::Taken(Box::default())),
                Ok(None) => {}
                Err(e @ LogError::Store { .. }) => {
                    tracing::warn!(table = self.name, version, error = %e, "could not read a commit back")
                }
                // Somebody has the version, and we cannot go on from it.
                Err(e) => return Err(e.into()),
            }
            if self.clock.monotonic().saturating_sub(began) >= self.patience.unknown_max {
                return Err(CommitError::Store { version, table: self.name.clone(), source: failure });
            }
            tracing::debug!(table = self.name, version, error = %failure, "outcome of a commit unknown, trying again");
            tries += 1;
            self.pause(tries).await;
        }
    }

    /// A name that we can see may not be durable yet when the write of it failed half way.
    async fn confirm(&self, path: &Path) -> Result<(), Error> {
        match &self.folder {
            Some((folder, prefix)) => folder.confirm(&prefix.parts().chain(path.parts()).collect()).await,
            None => Ok(()),
        }
    }

    /// Reads every version after the head.
    async fn refresh(&self, head: &mut Head) -> Result<(), LogError> {
        if self.is_old(head) {
            self.renew(head).await?;
        }
        while let Some(next) = self.read(head.state.version + 1).await? {
            let version = head.state.version + 1;
            self.advance(head, version, next, false);
        }
        // Without this version there is none after it, unless both were cleaned up; `is_old` watches for that.
        Ok(())
    }

    /// Whether the head may have been left behind so far that its successors are cleaned up.
    fn is_old(&self, head: &Head) -> bool {
        #[cfg(any(test, feature = "faults"))]
        if self.faults.trust_old_head.load(std::sync::atomic::Ordering::Relaxed) {
            return false;
        }
        let monotonic = self.clock.monotonic().saturating_sub(head.seen_monotonic);
        let wall = self.clock.wall().0.saturating_sub(head.seen_wall);
        monotonic >= HEAD_AGE_MAX || wall.unsigned_abs() >= HEAD_AGE_MAX.as_micros() as u64
    }

    /// Makes sure that an old head can be gone on from: when the version after it is gone although later ones are there,
    /// the log is read from its beginning.
    async fn renew(&self, head: &mut Head) -> Result<(), LogError> {
        let version = head.state.version;
        let before = commit_path(version.saturating_sub(1));
        let listed = list_from(self.objects.as_ref(), &Path::from(LOG), Some(&before))
            .await
            .map_err(|source| LogError::Store { attempted: "list the log".into(), table: self.name.clone(), source })?;
        let names: HashSet<Name> = listed.iter().map(|o| name_of(&o.location)).collect();
        let later = names.iter().any(|n| n.version().is_some_and(|v| v > version));
        let stands = match later {
            true => names.contains(&Name::Commit(version + 1)),
            // Version 0 is not after itself in the listing; it is never cleaned up while it is the newest.
            false => version == 0 || names.contains(&Name::Commit(version)),
        };
        if !stands {
            let ending = self.folder.as_ref().map(|_| nonce());
            let Some(Replayed { state, .. }) = replay(self.objects.as_ref(), &self.name, ending.as_deref()).await?
            else {
                return Err(LogError::Gap { table: self.name.clone(), version: head.state.version });
            };
            supported(&self.name, &state)?;
            let known = &head.state.files;
            let mut fresh: Vec<_> =
                state.files.values().filter(|f| !known.contains_key(&f.file.path)).cloned().collect();
            fresh.sort_unstable_by_key(|f| f.arrived);
            head.foreign.extend(fresh);
            head.state = state;
        }
        head.seen_monotonic = self.clock.monotonic();
        head.seen_wall = self.clock.wall().0;
        Ok(())
    }

    /// Takes a version into the head. One that we gave up on and that landed later is another's: its rows are news.
    fn advance(&self, head: &mut Head, version: u64, commit: Commit, own: bool) {
        let (files, new_rows) = if own { (Vec::new(), false) } else { added(&commit) };
        if new_rows {
            head.foreign.extend(files);
            while head.foreign.len() > FOREIGN_MAX {
                head.foreign.pop_front();
            }
        }
        head.state.apply(version, commit);
        if head.state.tombstones.len() >= head.tombstones_max {
            let since = self.clock.wall().millis() - self.tombstones_kept().as_millis() as i64;
            head.state.tombstones.retain(|_, t| t.deleted >= since);
            head.tombstones_max = (2 * head.state.tombstones.len()).max(TOMBSTONES_MIN);
        }
        head.seen_monotonic = self.clock.monotonic();
        head.seen_wall = self.clock.wall().0;
    }

    async fn read(&self, version: u64) -> Result<Option<Commit>, LogError> {
        let bytes = read(self.objects.as_ref(), &commit_path(version)).await.map_err(|source| LogError::Store {
            attempted: format!("read version {version}"),
            table: self.name.clone(),
            source,
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let commit = Commit::parse(&bytes).map_err(|e| broken(&commit_path(version), &self.name, &e))?;
        if commit.protocol.is_some() || commit.metadata.is_some() {
            let mut state = State::empty();
            (state.protocol, state.metadata) = (commit.protocol.clone(), commit.metadata.clone());
            supported(&self.name, &state)?;
        }
        Ok(Some(commit))
    }

    /// Full jitter: with many writers, those who wait for different times meet less.
    async fn pause(&self, tries: u32) {
        let most = Duration::from_millis(2 << tries.min(16)).min(self.patience.pause_max);
        let pause = rand::rng().random_range(Duration::ZERO..=most);
        tokio::time::sleep(pause).await;
    }

    fn accepts_any_position(&self) -> bool {
        #[cfg(any(test, feature = "faults"))]
        return self.faults.accept_any_position.load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(not(any(test, feature = "faults")))]
        false
    }

    fn moves_on_when_unknown(&self) -> bool {
        #[cfg(any(test, feature = "faults"))]
        return self.faults.move_on_when_unknown.load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(not(any(test, feature = "faults")))]
        false
    }

    /// The bytes of a commit. They do not depend on the version, so a retry writes the same ones.
    fn render(&self, change: &Change, nonce: &str) -> Bytes {
        let now = self.clock.wall().millis();
        let mut lines = Vec::with_capacity(change.adds.len() + change.removes.len() + change.ranges.len() + 2);
        lines.extend(change.metadata.iter().cloned());
        // The last range of an app is where it stands; `check` has seen that they join.
        let marks = change.marks.iter().map(|(app, mark)| (app.as_str(), *mark));
        let positions: BTreeMap<&str, i64> =
            marks.chain(change.ranges.iter().map(|r| (r.app.as_str(), r.to))).collect();
        lines.extend(
            positions.iter().map(|(app, to)| json!({"txn": {"appId": app, "version": to, "lastUpdated": now}})),
        );
        lines.extend(change.adds.iter().map(|file| {
            let mut action = json!({"add": {"path": file.path, "partitionValues": file.partition, "size": file.size,
                "modificationTime": now, "dataChange": change.data_change, "stats": file.stats}});
            if let Some(tags) = file.tags() {
                action["add"]["tags"] = tags;
            }
            action
        }));
        lines.extend(change.removes.iter().map(|file| {
            json!({"remove": {"path": file.path, "deletionTimestamp": now, "dataChange": change.data_change,
                "extendedFileMetadata": true, "partitionValues": file.partition, "size": file.size}})
        }));
        let ranges: Vec<_> = change.ranges.iter().map(|r| json!({"app": r.app, "from": r.from, "to": r.to})).collect();
        let info = json!({"commitInfo": {
            "timestamp": now,
            "operation": change.operation,
            "operationParameters": if change.operation == "WRITE" { json!({"mode": "Append"}) } else { json!({}) },
            "isBlindAppend": change.removes.is_empty() && change.metadata.is_none(),
            "engineInfo": concat!("catena/", env!("CARGO_PKG_VERSION")),
            "catena": {"nonce": nonce, "collector": self.collector, "actions": lines.len() + 1, "ranges": ranges, "info": change.info},
        }});
        lines.insert(0, info);
        text(&lines)
    }

    /// Adds columns of ours that the table lacks.
    async fn widen(&self, spec: &TableSpec) -> Result<(), CommitError> {
        loop {
            let state = self.snapshot().await?;
            supported(&self.name, &state)?;
            let Some(metadata) = widened(&self.name, &state, spec)? else { return Ok(()) };
            let app = "schema".to_owned();
            let from = state.txns.get(&app).map_or(0, |p| p.version);
            // The number makes two that widen at once take turns; the second then finds nothing missing.
            let ranges = vec![Range { app, from, to: from + 1, start: 0 }];
            let change = Change { ranges, metadata: Some(metadata), operation: "ADD COLUMNS", ..Change::default() };
            match self.apply(change).await {
                Ok(_) | Err(CommitError::Fenced { .. }) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

enum Outcome {
    Landed,
    Taken(Box<Commit>),
}

/// 122 random bits, as text.
pub(crate) fn nonce() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Lines of JSON.
fn text(lines: &[Value]) -> Bytes {
    let mut out = Vec::with_capacity(lines.len() * 512);
    for line in lines {
        serde_json::to_writer(&mut out, line).expect("a JSON value can be written to memory");
        out.push(b'\n');
    }
    out.into()
}

/// Writes version 0, unless somebody else has.
async fn create(
    objects: &dyn ObjectStore,
    spec: &TableSpec,
    clock: &dyn Clock,
    collector: &str,
) -> Result<(), CommitError> {
    let now = clock.wall().millis();
    let metadata = Metadata {
        id: uuid::Uuid::new_v4().to_string(),
        name: Some(spec.name.clone()),
        description: None,
        schema_string: spec.schema.clone(),
        partition_columns: spec.partitions.clone(),
        configuration: spec.configuration.clone(),
        created_time: Some(now),
    };
    let bytes = text(&[
        json!({"commitInfo": {
            "timestamp": now, "operation": "CREATE TABLE", "operationParameters": {},
            "engineInfo": concat!("catena/", env!("CARGO_PKG_VERSION")),
            "catena": {"nonce": nonce(), "collector": collector, "actions": 3, "ranges": [], "info": {}},
        }}),
        json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}),
        metadata_line(&metadata),
    ]);
    match objects.put_opts(&commit_path(0), bytes.into(), PutMode::Create.into()).await {
        Ok(_) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
        Err(source) => Err(CommitError::Store { version: 0, table: spec.name.clone(), source }),
    }
}

pub(crate) fn metadata_line(m: &Metadata) -> Value {
    json!({"metaData": {
        "id": m.id, "name": m.name, "description": m.description, "format": {"provider": "parquet", "options": {}},
        "schemaString": m.schema_string, "partitionColumns": m.partition_columns, "configuration": m.configuration,
        "createdTime": m.created_time,
    }})
}

/// Refuses a table that we would damage.
fn supported(table: &str, state: &State) -> Result<(), LogError> {
    match not_writable(state.protocol.as_ref(), state.metadata.as_ref()) {
        Some(what) => Err(LogError::Unsupported { table: table.to_owned(), what }),
        None => Ok(()),
    }
}

/// The metadata with the columns that are missing, at the end; `None` when none is.
fn widened(table: &str, state: &State, spec: &TableSpec) -> Result<Option<Value>, LogError> {
    let unreadable = |detail: String| LogError::Broken { path: "schemaString".into(), table: table.to_owned(), detail };
    let Some(metadata) = &state.metadata else { return Err(unreadable("it is missing".into())) };
    let mut stored: Value = serde_json::from_str(&metadata.schema_string).map_err(|e| unreadable(e.to_string()))?;
    let wanted: Value = serde_json::from_str(&spec.schema).map_err(|e| unreadable(e.to_string()))?;
    let columns =
        stored.get_mut("fields").and_then(Value::as_array_mut).ok_or_else(|| unreadable("it has no fields".into()))?;
    let before = columns.len();
    for column in wanted.get("fields").and_then(Value::as_array).into_iter().flatten() {
        match columns.iter().find(|c| c.get("name") == column.get("name")) {
            None => columns.push(column.clone()),
            Some(found) if found.get("type") == column.get("type") => {}
            Some(found) => {
                return Err(LogError::Column {
                    column: column.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
                    table: table.to_owned(),
                    stored: found.get("type").map(Value::to_string).unwrap_or_default(),
                    wanted: column.get("type").map(Value::to_string).unwrap_or_default(),
                });
            }
        }
    }
    if columns.len() == before {
        return Ok(None);
    }
    Ok(Some(metadata_line(&Metadata { schema_string: stored.to_string(), ..metadata.clone() })))
}

/// What stands in for a value in a folder's name: letters, digits, `-`, `_` and `.` as they are, all else as `!` and two
/// hex digits, so that no tenant's name can leave its folder, and the path in the log is the path in the store.
pub fn folder_name(column: &str, value: &str) -> String {
    let mut name = format!("{column}=");
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => name.push(byte as char),
            _ => name.push_str(&format!("!{byte:02X}")),
        }
    }
    name
}
