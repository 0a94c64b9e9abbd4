//! Where the lake lies: a folder, or a bucket that speaks S3.
//!
//! Guarantee: when a put into a folder returns, its bytes and every folder entry on the way to them survive a loss of
//! power, and nobody ever sees a part of them. `LocalFileSystem` of object_store 0.13 never calls fsync, so [`Folder`]
//! writes for itself and leaves reading, listing and deleting to it:
//!
//! ```text
//!  write name#<random> ─▶ fsync ─▶ link (create) or rename (overwrite) ─▶ unlink ─▶ fsync of the folder
//!                                   fails when the name is taken                    and once of those above it
//! ```
//!
//! Files and folders are made for their owner alone, unless [`Access`] lets others read `records`.
//!
//! In a bucket the same promises are the store's: a put is atomic and durable, and `If-None-Match: *` makes it a
//! test-and-set.

use async_trait::async_trait;
use bytes::Bytes;
use catena_schemas::Micros;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode,
    RetryConfig, UploadPart,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Makes files and folders durable. The default is fsync; a test hands in one that forgets.
pub trait Durability: fmt::Debug + Send + Sync {
    /// Makes the content of a file durable.
    fn file(&self, path: &FilePath, file: &File) -> io::Result<()>;
    /// Makes the entries of a folder durable.
    fn folder(&self, path: &FilePath) -> io::Result<()>;
}

/// fsync.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fsync;

impl Durability for Fsync {
    fn file(&self, _: &FilePath, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn folder(&self, path: &FilePath) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// What time it is, for whom it matters: two clocks, since one stops in suspend and the other jumps.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Never runs backwards.
    fn monotonic(&self) -> Duration;
    /// UTC.
    fn wall(&self) -> Micros;
}

/// The clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place where the clock enters")]
    fn wall(&self) -> Micros {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros(since.as_micros() as i64)
    }
}

/// Who may read the files of a lake in a folder, besides the user of the process. What lies below `_catena` is the owner's
/// alone, whatever is said here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nobody else.
    #[default]
    Owner,
    /// The group of the files: other engines under another user.
    Group,
    /// Whom the umask of the process leaves.
    Umask,
}

impl Access {
    /// Modes of files and folders; `None` leaves them to the umask.
    const fn modes(self) -> Option<(u32, u32)> {
        match self {
            Access::Owner => Some((0o600, 0o700)),
            Access::Group => Some((0o640, 0o750)),
            Access::Umask => None,
        }
    }
}

/// Makes a folder and those above it that are missing, for nobody else to look into unless `access` says so.
pub(crate) fn make_folders(path: &FilePath, access: Access) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    if let Some((_, folder)) = access.modes() {
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, folder);
    }
    #[cfg(not(unix))]
    let _ = access;
    builder.create(path)
}

/// How a lake is reached, and what it may rely on.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Settings of the object store, by the names of object_store: `aws_access_key_id`, `aws_secret_access_key`,
    /// `aws_region`, `aws_endpoint`, `aws_allow_http` and others. An unknown name is an error.
    pub settings: BTreeMap<String, String>,
    /// How writes into a folder are made durable.
    pub durability: Arc<dyn Durability>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Name of this process in what it commits.
    pub collector: String,
    /// Who else reads the files, when the lake is a folder.
    pub access: Access,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            settings: BTreeMap::new(),
            durability: Arc::new(Fsync),
            clock: Arc::new(SystemClock::default()),
            collector: String::new(),
            access: Access::default(),
        }
    }
}

impl StoreOptions {
    /// Defaults, with the store's settings.
    pub fn new(settings: impl IntoIterator<Item = (String, String)>) -> StoreOptions {
        StoreOptions { settings: settings.into_iter().collect(), ..StoreOptions::default() }
    }
}

/// Why a place could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither a folder nor a bucket.
    #[error("`{url}` is neither a folder nor an `s3://` address")]
    Scheme {
        /// Address.
        url: String,
    },
    /// A setting that the store does not know.
    #[error("the object store has no setting `{name}`")]
    Setting {
        /// Its name.
        name: String,
    },
    /// The bucket could not be set up.
    #[error("could not open `{url}`")]
    Open {
        /// Address.
        url: String,
        /// Cause.
        source: Error,
    },
    /// The folder could not be made.
    #[error("could not create folder `{}`", path.display())]
    Folder {
        /// Folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// An open place: everything in it is addressed from its root.
#[derive(Clone, Debug)]
pub struct Store {
    /// The root.
    pub objects: Arc<dyn ObjectStore>,
    /// The folder, when it is one.
    pub folder: Option<Arc<Folder>>,
}

impl Store {
    /// Opens a folder (made when missing), `file://` or `s3://bucket/prefix`.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Store, StoreError> {
        if let Some(rest) = url.strip_prefix("s3://").or_else(|| url.strip_prefix("s3a://")) {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(RetryConfig {
                max_retries: 5,
                retry_timeout: Duration::from_secs(30),
                ..RetryConfig::default()
            });
            for (name, value) in &options.settings {
                let key: AmazonS3ConfigKey =
                    name.to_ascii_lowercase().parse().map_err(|_| StoreError::Setting { name: name.clone() })?;
                builder = builder.with_config(key, value);
            }
            let bucket = builder
                .with_conditional_put(S3ConditionalPut::ETagMatch)
                .build()
                .map_err(|source| StoreError::Open { url: url.to_owned(), source })?;
            return Ok(Store { objects: Arc::new(PrefixStore::new(bucket, prefix)), folder: None });
        }
        let path = match url.strip_prefix("file://") {
            Some(_) => url::Url::parse(url)
                .ok()
                .and_then(|u| u.to_file_path().ok())
                .ok_or_else(|| StoreError::Scheme { url: url.to_owned() })?,
            None if url.contains("://") || url.is_empty() => return Err(StoreError::Scheme { url: url.to_owned() }),
            None => PathBuf::from(url),
        };
        let folder = Arc::new(Folder::open(&path, options.durability.clone(), options.access)?);
        Ok(Store { objects: folder.clone(), folder: Some(folder) })
    }

    /// The store below a prefix.
    pub fn below(&self, prefix: &str) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.objects.clone(), prefix))
    }

    /// Creates an object that only this user may read, unless it is there; false when it is.
    pub async fn create_private(&self, path: &Path, bytes: Bytes) -> Result<bool, Error> {
        let outcome = match &self.folder {
            Some(folder) => folder.write(path, bytes.into(), PutMode::Create, true).await,
            None => self.objects.put_opts(path, bytes.into(), PutMode::Create.into()).await,
        };
        match outcome {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// A local folder as an object store whose writes are durable.
#[derive(Debug)]
pub struct Folder {
    files: LocalFileSystem,
    root: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    durability: Arc<dyn Durability>,
    access: Access,
    /// Folders whose entries, up to the root, this process knows to be durable. Another process may have made a
    /// folder and died before its fsync, so each is synced once by everyone who writes below it.
    settled: Mutex<HashSet<PathBuf>>,
}

impl Folder {
    /// Opens a folder; it and those above it are made when missing.
    pub fn open(path: &FilePath, durability: Arc<dyn Durability>, access: Access) -> Result<Folder, StoreError> {
        let failed = |source| StoreError::Folder { path: path.to_owned(), source };
        let mut missing = Vec::new();
        let mut at = std::path::absolute(path).map_err(failed)?;
        while !at.try_exists().map_err(failed)? {
            missing.push(at.clone());
            match at.parent() {
                Some(parent) => at = parent.to_owned(),
                None => break,
            }
        }
        make_folders(path, access).map_err(failed)?;
        for made in missing.iter().rev() {
            if let Some(parent) = made.parent() {
                durability.folder(parent).map_err(failed)?;
            }
        }
        let root = path.canonicalize().map_err(failed)?;
        let files = LocalFileSystem::new_with_prefix(&root)
            .map_err(|source| StoreError::Open { url: path.display().to_string(), source })?;
        let shared = Arc::new(Shared { root: root.clone(), durability, access, settled: Mutex::default() });
        Ok(Folder { files, root, shared })
    }

    /// The folder.
    pub fn root(&self) -> &FilePath {
        &self.root
    }

    async fn write(
        &self,
        location: &Path,
        payload: PutPayload,
        mode: PutMode,
        private: bool,
    ) -> Result<PutResult, Error> {
        let target = self.files.path_to_filesystem(location)?;
        let shared = self.shared.clone();
        blocking(move || {
            let (staged, mut file) = shared.stage(&target, private)?;
            let written =
                payload.iter().try_for_each(|part| file.write_all(part)).map_err(|e| failed("write", &staged, e));
            let done = written.and_then(|()| shared.settle(&staged, &file, &target, &mode));
            if done.is_err() {
                // The temporary file is ours alone; if it stays, the next sweep takes it.
                let _ = std::fs::remove_file(&staged);
            }
            done.map(|()| PutResult { e_tag: None, version: None })
        })
        .await
    }

    /// The file that holds an object.
    pub fn file(&self, location: &Path) -> Result<PathBuf, Error> {
        self.files.path_to_filesystem(location)
    }

    /// Makes durable what is there already under a name: after a write that failed half way, and was seen to be there.
    pub async fn confirm(&self, location: &Path) -> Result<(), Error> {
        let target = self.files.path_to_filesystem(location)?;
        let shared = self.shared.clone();
        blocking(move || {
            let file = File::open(&target).map_err(|e| failed("open", &target, e))?;
            shared.durability.file(&target, &file).map_err(|e| failed("sync", &target, e))?;
            shared.sync_entry(&target)
        })
        .await
    }

    /// Removes temporary files of writers that died, last written before `age` ago. Returns how many.
    pub async fn sweep(&self, age: Duration) -> Result<usize, Error> {
        let root = self.root.clone();
        blocking(move || {
            let (mut removed, mut folders) = (0, vec![root]);
            while let Some(folder) = folders.pop() {
                let entries = match std::fs::read_dir(&folder) {
                    Err(e) if e.kind() == ErrorKind::NotFound => continue,
                    entries => entries.map_err(|e| failed("list", &folder, e))?,
                };
                for entry in entries {
                    let entry = entry.map_err(|e| failed("list", &folder, e))?;
                    let Ok(meta) = entry.metadata() else { continue };
                    let old = meta.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|past| past >= age);
                    if meta.is_dir() {
                        folders.push(entry.path());
                    } else if old
                        && is_staged(&entry.file_name().to_string_lossy())
                        && std::fs::remove_file(entry.path()).is_ok()
                    {
                        removed += 1;
                    }
                }
            }
            Ok(removed)
        })
        .await
    }
}

/// Folder of what belongs to the lake itself: secret, intake log.
const OWN: &str = "_catena";

/// Temporary names end in `#` and digits, which `LocalFileSystem` does not list.
fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

impl Shared {
    /// A fresh temporary file beside `target`.
    fn stage(&self, target: &FilePath, private: bool) -> Result<(PathBuf, File), Error> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let staged = target.with_file_name(format!("{name}#{}", rand::random::<u64>()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        let is_private = private || target.strip_prefix(&self.root).is_ok_and(|below| below.starts_with(OWN));
        let access = if is_private { Access::Owner } else { self.access };
        #[cfg(unix)]
        if let Some((file, _)) = access.modes() {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, file);
        }
        match options.open(&staged) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let parent = target.parent().unwrap_or(&self.root);
                make_folders(parent, access).map_err(|e| failed("create folder", parent, e))?;
                // Somebody removed folders that were settled: they are new ones now.
                self.settled.lock().retain(|known| !known.starts_with(parent));
                options.open(&staged)
            }
            opened => opened,
        }
        .map(|file| (staged.clone(), file))
        .map_err(|e| failed("create", &staged, e))
    }

    /// Makes a written temporary file durable under its name.
    fn settle(&self, staged: &FilePath, file: &File, target: &FilePath, mode: &PutMode) -> Result<(), Error> {
        self.durability.file(staged, file).map_err(|e| failed("sync", staged, e))?;
        match mode {
            PutMode::Create => {
                match std::fs::hard_link(staged, target) {
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                        return Err(Error::AlreadyExists { path: target.display().to_string(), source: e.into() });
                    }
                    linked => linked.map_err(|e| failed("link", target, e))?,
                }
                // The name is taken: from here on an error means "outcome unknown", never "not written".
                let _ = std::fs::remove_file(staged);
            }
            _ => std::fs::rename(staged, target).map_err(|e| failed("rename", target, e))?,
        }
        self.sync_entry(target)
    }

    /// Makes the entry of `target` durable, and once those of the folders above it.
    fn sync_entry(&self, target: &FilePath) -> Result<(), Error> {
        let parent = target.parent().unwrap_or(&self.root);
        self.durability.folder(parent).map_err(|e| failed("sync folder", parent, e))?;
        let mut at = parent;
        let mut fresh = Vec::new();
        while at != self.root && at.starts_with(&self.root) && !self.settled.lock().contains(at) {
            let Some(above) = at.parent() else { break };
            self.durability.folder(above).map_err(|e| failed("sync folder", above, e))?;
            fresh.push(at.to_owned());
            at = above;
        }
        self.settled.lock().extend(fresh);
        Ok(())
    }
}

fn failed(attempted: &'static str, path: &FilePath, e: io::Error) -> Error {
    let gone = e.kind() == ErrorKind::NotFound;
    let source = io::Error::new(e.kind(), format!("could not {attempted} `{}`: {e}", path.display()));
    match gone {
        true => Error::NotFound { path: path.display().to_string(), source: source.into() },
        false => Error::Generic { store: "folder", source: source.into() },
    }
}

/// Runs work that blocks off the async threads; also without a runtime, as in plain tests.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

impl fmt::Display for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Folder({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for Folder {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult, Error> {
        if matches!(opts.mode, PutMode::Update(_)) {
            return Err(Error::NotImplemented {
                operation: "conditional update".into(),
                implementer: self.to_string(),
            });
        }
        self.write(location, payload, opts.mode, false).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>, Error> {
        let target = self.files.path_to_filesystem(location)?;
        let shared = self.shared.clone();
        let opened = target.clone();
        let (staged, file) = blocking(move || shared.stage(&opened, false)).await?;
        Ok(Box::new(Upload {
            shared: self.shared.clone(),
            target,
            staged,
            file: Arc::new(file),
            written: 0,
            done: false,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult, Error> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path, Error>>,
    ) -> BoxStream<'static, Result<Path, Error>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        self.files.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult, Error> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<(), Error> {
        let bytes = self.files.get(from).await?.bytes().await?;
        let mode = match options.mode {
            CopyMode::Create => PutMode::Create,
            CopyMode::Overwrite => PutMode::Overwrite,
        };
        self.write(to, bytes.into(), mode, false).await.map(|_| ())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<(), Error> {
        let (source, target) = (self.files.path_to_filesystem(from)?, self.files.path_to_filesystem(to)?);
        let shared = self.shared.clone();
        blocking(move || {
            match options.target_mode {
                RenameTargetMode::Overwrite => {
                    std::fs::rename(&source, &target).map_err(|e| failed("rename", &source, e))?
                }
                RenameTargetMode::Create => {
                    std::fs::hard_link(&source, &target).map_err(|e| failed("link", &target, e))?;
                    std::fs::remove_file(&source).map_err(|e| failed("remove", &source, e))?;
                }
            }
            shared.sync_entry(&target)?;
            shared.sync_entry(&source)
        })
        .await
    }
}

/// A file written in parts: durable when it is complete, gone when it is not.
#[derive(Debug)]
struct Upload {
    shared: Arc<Shared>,
    target: PathBuf,
    staged: PathBuf,
    file: Arc<File>,
    written: u64,
    done: bool,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut at = self.written;
        self.written += data.content_length() as u64;
        let (file, staged) = (self.file.clone(), self.staged.clone());
        blocking(move || {
            for part in data.iter() {
                write_at(&file, part, at).map_err(|e| failed("write", &staged, e))?;
                at += part.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult, Error> {
        let (shared, file) = (self.shared.clone(), self.file.clone());
        let (staged, target) = (self.staged.clone(), self.target.clone());
        blocking(move || shared.settle(&staged, &file, &target, &PutMode::Overwrite)).await?;
        self.done = true;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> Result<(), Error> {
        self.done = true;
        let staged = self.staged.clone();
        blocking(move || std::fs::remove_file(&staged).map_err(|e| failed("remove", &staged, e))).await
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.staged);
        }
    }
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    // Parts are handed over in order and awaited one by one on these systems.
    io::Seek::seek(&mut file, io::SeekFrom::Start(at))?;
    file.write_all(bytes)
}

/// Reads an object whole; `None` when there is none.
pub(crate) async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>, Error> {
    match store.get(path).await {
        Ok(found) => found.bytes().await.map(Some),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Lists everything under a prefix, from a name on.
pub(crate) async fn list_from(
    store: &dyn ObjectStore,
    prefix: &Path,
    offset: Option<&Path>,
) -> Result<Vec<ObjectMeta>, Error> {
    let mut found = match offset {
        Some(offset) => store.list_with_offset(Some(prefix), offset),
        None => store.list(Some(prefix)),
    };
    let mut objects = Vec::new();
    while let Some(object) = found.next().await {
        objects.push(object?);
    }
    Ok(objects)
}
