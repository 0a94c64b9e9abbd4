//! The built-in intake log: where records that came over HTTP wait until they are in the lake.
//!
//! Guarantees: an append is acknowledged after its bytes are fsynced, and what was acknowledged is there after a SIGKILL
//! or a power cut, under the offset that was given; offsets of a partition are dense, never used twice, and survive the
//! removal of everything below them; readers see only what is fsynced. The log is bounded: when it is full, or the disk
//! nearly is, appends are refused and nothing is lost. One process at a time has the folder.
//!
//! ```text
//!  request ─▶ Batch (blocks of encoded entries) ─▶ queue ─▶ writer thread: one fjall batch, one fsync ─▶ acknowledge
//!                                                                 │
//!                                     keyspace `log`: (partition, offset of the first entry) -> block
//!                                                                 │
//!                                     drain: read from the lake's position, commit, truncate below
//! ```
//!
//! Many requests share one fsync: while one is under way the next requests queue up and go with the following one.

mod block;

pub use block::{Batch, Body, Record, Records};

use crate::store::{Access, make_folders};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::{Mutex, RwLock};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

/// Appends that wait for the writer.
const QUEUE_MAX: usize = 4096;
/// Bytes that share one fsync.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// How long a broken store is left alone before it is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// Blocks removed in one fjall batch: appends wait at most for one of these.
const REMOVE_MAX: usize = 512;
/// How long a folder that another process has is waited for.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// Most partitions a log can have.
pub const PARTITIONS_MAX: u16 = 1024;

/// Limits of an intake log.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Partitions that appends go to, in turn. Fewer than before is fine: the others are drained and stay empty.
    pub partitions: u16,
    /// Bytes that wait at most; beyond, appends are refused as [`AppendError::Full`].
    pub bytes_max: u64,
    /// Bytes left free on the disk; below, appends are refused as [`AppendError::DiskLow`].
    pub free_bytes_min: u64,
    /// A protection switched off, to see a test notice.
    #[cfg(any(test, feature = "faults"))]
    pub fault: Option<Fault>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            partitions: 4,
            bytes_max: 4 << 30,
            free_bytes_min: 256 << 20,
            #[cfg(any(test, feature = "faults"))]
            fault: None,
        }
    }
}

/// A protection switched off.
#[cfg(any(test, feature = "faults"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Acknowledge although nothing was flushed, let alone fsynced.
    SkipSync,
    /// Acknowledge first, append afterwards.
    AcknowledgeFirst,
}

/// Why the log could not be opened, read or cut.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Another process has it.
    #[error("intake folder `{path}` is in use by another process; stop that one, or give this one a folder of its own")]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Too few or too many partitions.
    #[error("intake log cannot have {0} partitions: 1 to {PARTITIONS_MAX}")]
    Partitions(u16),
    /// The folder cannot be used.
    #[error("could not prepare intake folder `{path}`")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The store failed.
    #[error("could not {doing} intake log `{path}`")]
    Store {
        /// What was attempted.
        doing: &'static str,
        /// The folder.
        path: PathBuf,
        /// Cause.
        source: fjall::Error,
    },
    /// A block does not read as it was written.
    #[error("block at offset {offset} of partition {partition} of intake log `{path}` is damaged")]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// Partition.
        partition: u16,
        /// Offset of the block.
        offset: u64,
    },
    /// The store failed earlier and has not come back yet.
    #[error("intake log `{path}` is being reopened after a failure")]
    Broken {
        /// The folder.
        path: PathBuf,
    },
}

/// Why an append was refused. None of it is in the log as far as the caller knows: it should be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// As much waits as may wait.
    #[error("intake log is full: {bytes} of {bytes_max} bytes wait for the lake")]
    Full {
        /// Bytes waiting.
        bytes: u64,
        /// Limit.
        bytes_max: u64,
    },
    /// The disk is nearly full.
    #[error("disk of the intake log is nearly full: {free} bytes are free, {min} are kept free")]
    DiskLow {
        /// Bytes free.
        free: u64,
        /// Limit.
        min: u64,
    },
    /// More appends wait for the writer than may wait.
    #[error("intake log is busy: {QUEUE_MAX} appends wait")]
    Busy,
    /// Positions were not yet compared with the lake's.
    #[error("intake log is starting: its positions were not compared with the lake's yet")]
    Starting,
    /// The disk failed; the store is being reopened.
    #[error("intake log could not be written")]
    Broken,
    /// Shutting down.
    #[error("intake log is closed")]
    Closed,
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Partition.
    pub partition: u16,
    /// Offset of the first entry.
    pub from: u64,
    /// Offset after the last one.
    pub to: u64,
}

/// A stored block, with the offset of its first entry.
#[derive(Clone, Debug)]
pub struct Block {
    /// Offset of the first entry.
    pub from: u64,
    /// Offset after the last entry.
    pub to: u64,
    bytes: fjall::Slice,
}

impl Block {
    /// Its entries, in order.
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.bytes, self.from)
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: a block holds at least its head.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Figures of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes waiting.
    pub bytes: u64,
    /// Entries waiting.
    pub entries: u64,
    /// Limit of `bytes`.
    pub bytes_max: u64,
    /// fsyncs made.
    pub syncs: u64,
    /// Appends acknowledged.
    pub appends: u64,
    /// Whether the store failed and has not come back.
    pub broken: bool,
    /// Per partition, the first offset kept and the next to be given.
    pub partitions: Vec<(u64, u64)>,
}

/// A handle to an open log. Clones share it; when the last is gone the folder is free again.
#[derive(Clone)]
pub struct Intake {
    shared: Arc<Shared>,
    queue: SyncSender<Request>,
}

struct Request {
    batch: Batch,
    done: oneshot::Sender<Result<Appended, AppendError>>,
}

struct Shared {
    path: PathBuf,
    settings: Settings,
    node: Uuid,
    store: RwLock<Option<Store>>,
    partitions: Mutex<Vec<Partition>>,
    /// Bytes waiting and bytes admitted to the queue.
    bytes: AtomicU64,
    syncs: AtomicU64,
    appends: AtomicU64,
    broken: AtomicBool,
    aligned: AtomicBool,
    appended: watch::Sender<u64>,
    /// Held for as long as the folder is ours.
    _lock: File,
}

struct Store {
    database: Database,
    log: Keyspace,
    meta: Keyspace,
}

#[derive(Clone, Copy, Debug, Default)]
struct Partition {
    /// First offset kept: always where a block begins, or `next`.
    low: u64,
    next: u64,
    /// Whether it was compared with the lake.
    aligned: bool,
}

/// Shuts a folder that an older version, or an installer, made for others to look into. The store below it makes files by the
/// umask, and the folder is what keeps others out.
fn owner_only(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path)?.permissions().mode();
        if mode & 0o077 != 0 {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o700))?;
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

impl Intake {
    /// Opens the log in a folder, creating both when missing. Appends are refused until every partition was
    /// [aligned](Intake::align) with the lake.
    pub fn open(path: &Path, settings: Settings) -> Result<Intake, IntakeError> {
        if settings.partitions == 0 || settings.partitions > PARTITIONS_MAX {
            return Err(IntakeError::Partitions(settings.partitions));
        }
        let folder = |source| IntakeError::Folder { path: path.to_owned(), source };
        // What waits here is as confidential as the lake, and no other engine reads it.
        make_folders(path, Access::Owner).map_err(folder)?;
        owner_only(path).map_err(folder)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join("lock")).map_err(folder)?;
        acquire(&lock, path)?;
        clear_unfinished(&path.join("log")).map_err(folder)?;
        let (store, node, partitions, bytes) = open_store(path, &settings)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            node,
            store: RwLock::new(Some(store)),
            partitions: Mutex::new(partitions),
            bytes: AtomicU64::new(bytes),
            syncs: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            aligned: AtomicBool::new(false),
            appended: watch::Sender::new(0),
            settings,
            _lock: lock,
        });
        let (queue, requests) = sync_channel(QUEUE_MAX);
        let writer = Arc::downgrade(&shared);
        std::thread::Builder::new()
            .name("intake".into())
            .spawn(move || write_all(&writer, &requests))
            .map_err(folder)?;
        Ok(Intake { shared, queue })
    }

    /// Identity of this log, part of its application ids in the lake.
    pub fn node(&self) -> Uuid {
        self.shared.node
    }

    /// Delta application id of a partition.
    pub fn app(&self, partition: u16) -> String {
        format!("wal:{}/{partition}", self.shared.node)
    }

    /// Partitions that may hold records.
    pub fn partitions(&self) -> u16 {
        self.shared.partitions.lock().len() as u16
    }

    /// Tells where the lake stands for a partition: the next offset it expects. A log that stands before that (a restored
    /// copy) goes on there, so that no offset is used twice.
    pub fn align(&self, partition: u16, position: u64) -> Result<(), IntakeError> {
        let next = self.shared.partitions.lock()[usize::from(partition)].next;
        if position > next {
            tracing::warn!(
                partition,
                position,
                next,
                "intake log stands before the lake: continuing at the lake's position"
            );
            self.shared.remove(partition, position)?;
        }
        let mut partitions = self.shared.partitions.lock();
        partitions[usize::from(partition)].aligned = true;
        self.shared.aligned.store(partitions.iter().all(|p| p.aligned), Ordering::Relaxed);
        Ok(())
    }

    /// Whether every partition was aligned.
    pub fn is_aligned(&self) -> bool {
        self.shared.aligned.load(Ordering::Relaxed)
    }

    /// Appends a batch; returns when it is fsynced.
    pub async fn append(&self, batch: Batch) -> Result<Appended, AppendError> {
        if !self.is_aligned() {
            return Err(AppendError::Starting);
        }
        let (bytes, bytes_max) = (batch.len() as u64, self.shared.settings.bytes_max);
        let waiting = self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > bytes_max {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(AppendError::Full { bytes: waiting, bytes_max });
        }
        let (done, acknowledged) = oneshot::channel();
        if let Err(e) = self.queue.try_send(Request { batch, done }) {
            self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(match e {
                TrySendError::Full(_) => AppendError::Busy,
                TrySendError::Disconnected(_) => AppendError::Closed,
            });
        }
        acknowledged.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Blocks of a partition from the one that holds offset `from` on, about `bytes_max` of them. Blocking.
    pub fn read(&self, partition: u16, from: u64, bytes_max: usize) -> Result<Vec<Block>, IntakeError> {
        let low = self.shared.partitions.lock()[usize::from(partition)].low;
        self.shared
            .with_store("read", |store| {
                let mut start = from.max(low);
                if store.log.get(key(partition, start))?.is_none()
                    && let Some(before) = store.log.range(key(partition, low)..=key(partition, start)).next_back()
                {
                    start = offset_of(&before.key()?);
                }
                let (mut blocks, mut bytes) = (Vec::new(), 0);
                for item in store.log.range(key(partition, start)..=key(partition, u64::MAX)) {
                    let (k, value) = item.into_inner()?;
                    let at = offset_of(&k);
                    bytes += value.len();
                    blocks.push((at, value));
                    if bytes >= bytes_max {
                        break;
                    }
                }
                Ok(blocks)
            })?
            .into_iter()
            .map(|(at, bytes)| match block::count(&bytes) {
                Some(count) => Ok(Block { from: at, to: at + u64::from(count), bytes }),
                None => Err(IntakeError::Damaged { path: self.shared.path.clone(), partition, offset: at }),
            })
            .filter(|block| block.as_ref().map_or(true, |b| b.to > from))
            .collect()
    }

    /// Removes the blocks of a partition that end at or before `to`. Blocking.
    ///
    /// Only for offsets that a fresh snapshot of the lake was seen to hold.
    pub fn truncate(&self, partition: u16, to: u64) -> Result<(), IntakeError> {
        let next = self.shared.partitions.lock()[usize::from(partition)].next;
        self.shared.remove(partition, to.min(next))
    }

    /// First offset of a partition that is kept.
    pub fn low(&self, partition: u16) -> u64 {
        self.shared.partitions.lock()[usize::from(partition)].low
    }

    /// A receiver that changes with every group of appends.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.shared.appended.subscribe()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Gives the figures for as long as the log is open, and does not keep it open.
    pub fn watcher(&self) -> impl Fn() -> Option<Stats> + Send + Sync + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade().map(|shared| shared.stats())
    }

    /// Why an append would be refused now, if it would.
    pub fn refusal(&self) -> Option<AppendError> {
        if !self.is_aligned() {
            return Some(AppendError::Starting);
        }
        if self.shared.broken.load(Ordering::Relaxed) {
            return Some(AppendError::Broken);
        }
        let (bytes, bytes_max) = (self.shared.bytes.load(Ordering::Relaxed), self.shared.settings.bytes_max);
        if bytes >= bytes_max {
            return Some(AppendError::Full { bytes, bytes_max });
        }
        self.shared.disk_low()
    }
}

impl Shared {
    fn stats(&self) -> Stats {
        let partitions: Vec<_> = self.partitions.lock().iter().map(|p| (p.low, p.next)).collect();
        Stats {
            bytes: self.bytes.load(Ordering::Relaxed),
            entries: partitions.iter().map(|(low, next)| next - low).sum(),
            bytes_max: self.settings.bytes_max,
            syncs: self.syncs.load(Ordering::Relaxed),
            appends: self.appends.load(Ordering::Relaxed),
            broken: self.broken.load(Ordering::Relaxed),
            partitions,
        }
    }

    fn with_store<T>(
        &self,
        doing: &'static str,
        f: impl FnOnce(&Store) -> Result<T, fjall::Error>,
    ) -> Result<T, IntakeError> {
        match &*self.store.read() {
            Some(store) => f(store).map_err(|source| IntakeError::Store { doing, path: self.path.clone(), source }),
            None => Err(IntakeError::Broken { path: self.path.clone() }),
        }
    }

    fn disk_low(&self) -> Option<AppendError> {
        let min = self.settings.free_bytes_min;
        let disk = rustix::fs::statvfs(&self.path).ok()?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        (free < min).then_some(AppendError::DiskLow { free, min })
    }

    /// Appends a group of requests with one fsync, then answers them.
    fn write(&self, group: Vec<Request>) {
        #[cfg(any(test, feature = "faults"))]
        let group =
            if self.settings.fault == Some(Fault::AcknowledgeFirst) { self.acknowledge_first(group) } else { group };
        let bytes: u64 = group.iter().map(|r| r.batch.len() as u64).sum();
        let result = match self.disk_low() {
            Some(low) => Err(low),
            None => self.commit(&group),
        };
        match result {
            Ok(places) => {
                self.appends.fetch_add(group.len() as u64, Ordering::Relaxed);
                for (request, place) in group.into_iter().zip(places) {
                    // A client that went away keeps its entries: it will send them again, marked as duplicates.
                    let _ = request.done.send(Ok(place));
                }
                self.appended.send_modify(|n| *n += 1);
            }
            Err(e) => {
                self.bytes.fetch_sub(bytes, Ordering::Relaxed);
                for request in group {
                    let _ = request.done.send(Err(e));
                }
            }
        }
    }

    fn commit(&self, group: &[Request]) -> Result<Vec<Appended>, AppendError> {
        let store = self.store.read();
        let Some(store) = &*store else { return Err(AppendError::Broken) };
        // Only this thread gives offsets: the lock need not be held while the disk works.
        let mut next: Vec<u64> = self.partitions.lock().iter().map(|p| p.next).collect();
        let turn = self.appends.load(Ordering::Relaxed);
        let mut batch = store.database.batch().durability(self.durability());
        let mut places = Vec::with_capacity(group.len());
        for (i, request) in group.iter().enumerate() {
            let partition = ((turn + i as u64) % u64::from(self.settings.partitions)) as u16;
            let at = &mut next[usize::from(partition)];
            let from = *at;
            for (bytes, count) in request.batch.blocks() {
                batch.insert(&store.log, key(partition, *at), bytes);
                *at += u64::from(count);
            }
            places.push(Appended { partition, from, to: *at });
        }
        // fjall writes the journal, fsyncs it, and only then shows the batch to readers.
        match batch.commit() {
            Ok(()) => {
                self.syncs.fetch_add(1, Ordering::Relaxed);
                for (partition, next) in self.partitions.lock().iter_mut().zip(next) {
                    partition.next = next;
                }
                Ok(places)
            }
            Err(e) => {
                tracing::error!(error = %e, path = %self.path.display(), "intake log could not be written");
                self.broken.store(true, Ordering::Relaxed);
                Err(AppendError::Broken)
            }
        }
    }

    fn durability(&self) -> Option<PersistMode> {
        #[cfg(any(test, feature = "faults"))]
        if self.settings.fault == Some(Fault::SkipSync) {
            return None;
        }
        Some(PersistMode::SyncAll)
    }

    #[cfg(any(test, feature = "faults"))]
    fn acknowledge_first(&self, group: Vec<Request>) -> Vec<Request> {
        let group = group
            .into_iter()
            .map(|r| {
                let _ = r.done.send(Ok(Appended { partition: 0, from: 0, to: 0 }));
                Request { batch: r.batch, done: oneshot::channel().0 }
            })
            .collect();
        std::thread::sleep(Duration::from_millis(2));
        group
    }

    /// Removes blocks below `to`, and raises the partition's first offset with them in one fjall batch, so that no crash
    /// can forget which offsets were given.
    fn remove(&self, partition: u16, to: u64) -> Result<(), IntakeError> {
        let mut low = self.partitions.lock()[usize::from(partition)].low;
        while low < to {
            let beyond_end = to > self.partitions.lock()[usize::from(partition)].next;
            let (reached, bytes) = self.with_store("truncate", |store| {
                let mut batch = store.database.batch();
                let (mut reached, mut bytes, mut more) = (low, 0, false);
                for (n, item) in store.log.range(key(partition, low)..key(partition, to)).enumerate() {
                    let (k, value) = item.into_inner()?;
                    let end = offset_of(&k) + u64::from(block::count(&value).unwrap_or(1));
                    if end > to || n == REMOVE_MAX {
                        more = end <= to;
                        break;
                    }
                    bytes += value.len() as u64;
                    reached = end;
                    batch.remove(&store.log, k);
                }
                if beyond_end && !more {
                    reached = to;
                }
                if reached > low {
                    batch.insert(&store.meta, low_key(partition), reached.to_be_bytes());
                    batch.commit()?;
                }
                Ok((reached, bytes))
            })?;
            let mut partitions = self.partitions.lock();
            let p = &mut partitions[usize::from(partition)];
            p.low = reached;
            p.next = p.next.max(reached);
            drop(partitions);
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            if reached == low {
                break;
            }
            low = reached;
        }
        Ok(())
    }

    /// Opens the store again after it refused a write: a full disk may have room by now. Everything recovered is brought
    /// to tables first, so that nothing new is appended behind a damaged piece of journal.
    fn reopen(&self) {
        let mut slot = self.store.write();
        *slot = None;
        let opened = open_store(&self.path, &self.settings).and_then(|(store, node, partitions, bytes)| {
            let settled = store.log.rotate_memtable_and_wait().and_then(|()| store.meta.rotate_memtable_and_wait());
            settled.map_err(|source| IntakeError::Store { doing: "settle", path: self.path.clone(), source })?;
            Ok((store, node, partitions, bytes))
        });
        match opened {
            Ok((store, _, partitions, bytes)) => {
                let mut held = self.partitions.lock();
                for (held, found) in held.iter_mut().zip(partitions) {
                    *held = Partition {
                        aligned: held.aligned,
                        low: found.low.max(held.low),
                        next: found.next.max(held.next),
                    };
                }
                self.bytes.store(bytes, Ordering::Relaxed);
                *slot = Some(store);
                self.broken.store(false, Ordering::Relaxed);
                tracing::info!(path = %self.path.display(), "intake log is back");
            }
            Err(e) => tracing::warn!(error = %e, path = %self.path.display(), "intake log is still failing"),
        }
    }
}

/// The writer: takes what waits, writes it with one fsync, answers, again.
fn write_all(shared: &Weak<Shared>, requests: &Receiver<Request>) {
    let mut tried = Instant::now();
    loop {
        let first = match requests.recv_timeout(REOPEN_AFTER) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let Some(shared) = shared.upgrade() else { return };
        if shared.broken.load(Ordering::Relaxed) && tried.elapsed() >= REOPEN_AFTER {
            tried = Instant::now();
            shared.reopen();
        }
        let Some(first) = first else { continue };
        let mut bytes = first.batch.len();
        let mut group = vec![first];
        while bytes < GROUP_BYTES_MAX
            && let Ok(next) = requests.try_recv()
        {
            bytes += next.batch.len();
            group.push(next);
        }
        shared.write(group);
    }
}

fn key(partition: u16, offset: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&partition.to_be_bytes());
    key[2..].copy_from_slice(&offset.to_be_bytes());
    key
}

fn offset_of(key: &[u8]) -> u64 {
    key.get(2..10).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

fn low_key(partition: u16) -> Vec<u8> {
    [b"low/".as_slice(), &partition.to_be_bytes()].concat()
}

/// Takes the folder; waits a little for one that is just being left.
fn acquire(lock: &File, path: &Path) -> Result<(), IntakeError> {
    let until = Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            Err(TryLockError::WouldBlock) => return Err(IntakeError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(IntakeError::Folder { path: path.to_owned(), source }),
        }
    }
}

/// A store whose creation was cut short holds nothing yet, and fjall would refuse it for ever.
fn clear_unfinished(path: &Path) -> std::io::Result<()> {
    let finished = std::fs::metadata(path.join("version")).is_ok_and(|m| m.len() > 0);
    if !finished && path.try_exists()? {
        std::fs::remove_dir_all(path)?;
    }
    Ok(())
}

type Opened = (Store, Uuid, Vec<Partition>, u64);

fn open_store(path: &Path, settings: &Settings) -> Result<Opened, IntakeError> {
    let opened = || -> Result<Opened, fjall::Error> {
        let builder = Database::builder(path.join("log")).worker_threads(1).cache_size(16 << 20);
        #[cfg(any(test, feature = "faults"))]
        let builder = builder.manual_journal_persist(settings.fault == Some(Fault::SkipSync));
        let database = builder.open()?;
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default)?;
        let log = database.keyspace("log", || KeyspaceCreateOptions::default().max_memtable_size(32 << 20))?;
        let node = match meta.get("node")?.and_then(|b| Uuid::from_slice(&b).ok()) {
            Some(node) => node,
            None => {
                let node = Uuid::new_v4();
                meta.insert("node", node.as_bytes())?;
                database.persist(PersistMode::SyncAll)?;
                node
            }
        };
        let mut partitions = vec![Partition::default(); usize::from(settings.partitions)];
        for item in meta.prefix("low/") {
            let (k, value) = item.into_inner()?;
            let number = k.get(4..6).and_then(|b| b.try_into().ok()).map_or(0, u16::from_be_bytes);
            let low = value.as_ref().try_into().map_or(0, u64::from_be_bytes);
            if partitions.len() <= usize::from(number) {
                partitions.resize(usize::from(number) + 1, Partition::default());
            }
            partitions[usize::from(number)] = Partition { low, next: low, aligned: false };
        }
        let mut bytes = 0;
        for item in log.iter() {
            let (k, value) = item.into_inner()?;
            let number = usize::from(u16::from_be_bytes([k[0], k[1]]));
            if partitions.len() <= number {
                partitions.resize(number + 1, Partition::default());
            }
            let p = &mut partitions[number];
            p.next = p.next.max(offset_of(&k) + u64::from(block::count(&value).unwrap_or(1)));
            bytes += value.len() as u64;
        }
        Ok((Store { database, log, meta }, node, partitions, bytes))
    };
    opened().map_err(|source| match source {
        fjall::Error::Locked => IntakeError::Locked { path: path.to_owned() },
        source => IntakeError::Store { doing: "open", path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests;
