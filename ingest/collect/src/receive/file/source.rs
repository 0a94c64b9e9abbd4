//! Which file is which: a path of a tenant, and the generations of it that the lake knows.
//!
//! Guarantee: content decides. A file goes on where the lake stands only if the bytes before that position are the bytes
//! that were read; anything else under the same path is another generation, with a position of its own, and is read from
//! its beginning ([decision 10](../../../../../docs/decisions/0010-what-a-file-is.md)). Positions are per tenant.
//!
//! ```text
//!   file:<tenant and path>/<generation>           the position: the byte after the last record that is in the lake
//!   file:<tenant and path>/<generation>/digest    63 bits over all bytes before it
//!   file:<tenant and path>/<generation>/hint      bits of the first 4 KiB, and of device and inode: they find candidates
//! ```
//!
//! All three are `txn` entries of one commit, the one that holds the rows.

use super::open::{Place, open};
use super::prefix::{BLOCK, HEAD, Prefix, head_digest};
use super::{FileError, legacy};
use crate::lake::Lake;
use crate::worker::Partition;
use sha2::{Digest, Sha256};
use std::fs::Metadata;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bits of device and inode in a hint; the head has the 32 above.
const PLACE_BITS: u32 = 31;

/// A path of a tenant.
#[derive(Clone, Debug)]
pub(super) struct Source {
    lake: Arc<Lake>,
    runtime: Handle,
    pub(super) path: PathBuf,
    pub(super) real: PathBuf,
    pub(super) tenant: String,
    /// `file:<digest of tenant and path>`; positions of its generations begin with it.
    name: String,
    /// Of a source that is known by all of its content: the application id under which earlier versions kept it.
    whole: Option<String>,
    seed: u64,
}

/// A generation that the lake knows.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) number: i32,
    pub(super) position: u64,
    digest: i64,
    head: u32,
    place: u32,
}

impl Known {
    /// Whether it lay at a place when it was last read.
    pub(super) fn is_at(&self, source: &Source, place: Place) -> bool {
        self.place == source.place(place)
    }
}

/// Which generation a file is, and what lies before the position to go on from.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) partition: Arc<Partition>,
    pub(super) prefix: Prefix,
    /// Bits of device and inode; `None` for what cannot be read again, of which no more than the position is kept.
    place: Option<u32>,
}

/// Opens the content of a file from its beginning, unpacked.
pub(super) type Content<'a> = &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>;

impl Source {
    /// A file of a tenant.
    pub(super) fn of(lake: &Arc<Lake>, runtime: &Handle, path: &Path, tenant: &str) -> io::Result<Source> {
        let real = match path.canonicalize() {
            Ok(real) => real,
            // Between two rotations there is no file: its folder says where it will be.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                folder.canonicalize()?.join(path.file_name().unwrap_or_default())
            }
            Err(e) => return Err(e),
        };
        let key = name(&["path".as_ref(), tenant.as_ref(), real.as_os_str().as_encoded_bytes()]);
        Ok(Source::new(lake, runtime, path, real, tenant, key, None))
    }

    /// Lines that were made of a file: the same lines are the same source, whatever file they came from.
    pub(super) fn of_lines(lake: &Arc<Lake>, runtime: &Handle, path: &Path, lines: &str, tenant: &str) -> Source {
        let key = name(&["lines".as_ref(), tenant.as_ref(), lines.as_ref()]);
        let whole = format!("file:{}", hex::encode(&Sha256::digest(lines)[..16]));
        Source::new(lake, runtime, path, path.to_owned(), tenant, key, Some(whole))
    }

    fn new(
        lake: &Arc<Lake>,
        runtime: &Handle,
        path: &Path,
        real: PathBuf,
        tenant: &str,
        name: String,
        whole: Option<String>,
    ) -> Source {
        let secret = Sha256::new().chain_update(b"catena file positions").chain_update(lake.secret()).finalize();
        let seed = u64::from_le_bytes(secret[..8].try_into().expect("a digest has 32 bytes"));
        let (lake, runtime, path, tenant) = (lake.clone(), runtime.clone(), path.to_owned(), tenant.to_owned());
        Source { lake, runtime, path, real, tenant, name, whole, seed }
    }

    /// A prefix of no bytes.
    pub(super) fn nothing(&self) -> Prefix {
        Prefix::new(self.seed)
    }

    /// The generations that the lake knows, by position.
    pub(super) fn known(&self) -> Result<Vec<Known>, FileError> {
        let positions = self.runtime.block_on(self.lake.positions())?;
        let below = format!("{}/", self.name);
        let mut known = Vec::new();
        for (app, position) in positions.range(below.clone()..).take_while(|(app, _)| app.starts_with(&below)) {
            let Ok(number) = app[below.len()..].parse() else { continue };
            let mark = |of: &str| positions.get(&format!("{app}/{of}")).copied();
            let (Some(digest), Some(hint)) = (mark("digest"), mark("hint")) else { continue };
            known.push(Known {
                number,
                position: (*position).max(0) as u64,
                digest,
                head: (hint >> PLACE_BITS) as u32,
                place: hint as u32 & ((1 << PLACE_BITS) - 1),
            });
        }
        known.sort_by_key(|k| k.position);
        Ok(known)
    }

    /// When something of this path last landed, in milliseconds since the epoch.
    pub(super) fn last_landed(&self) -> Option<i64> {
        self.runtime.block_on(self.lake.records().last_moved(&format!("{}/", self.name)))
    }

    /// Bits of a place, as hints have them.
    pub(super) fn place(&self, (device, inode): Place) -> u32 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&device.to_le_bytes());
        bytes[8..].copy_from_slice(&inode.to_le_bytes());
        xxh3_64_with_seed(&bytes, self.seed) as u32 & ((1 << PLACE_BITS) - 1)
    }

    /// Whether a file that starts so, or lies there, may be the generation.
    pub(super) fn may_be(&self, known: &Known, start: &[u8], place: Place) -> bool {
        known.place == self.place(place) || self.begins_so(known, start)
    }

    /// Whether the generation starts so.
    pub(super) fn begins_so(&self, known: &Known, start: &[u8]) -> bool {
        known.head == head_digest(self.seed, start, known.position)
    }

    /// Finds the generation that a file is, or makes the next one, with a number from `free` on.
    pub(super) fn identify(&self, content: Content<'_>, place: Place, free: i32) -> Result<Identity, FileError> {
        let unreadable = |source| FileError::Read { path: self.path.clone(), source };
        let known = self.known()?;
        let next = known.iter().map(|k| k.number + 1).max().unwrap_or(0).max(free);
        if let Some((k, prefix)) = self.recognise(content, place, &known).map_err(unreadable)? {
            // A copy of what was read may be put back more than once: what is added to this one is a generation that
            // begins where the other ends.
            let start = prefix.at() as i64;
            return Ok(match self.lies_elsewhere(k, &prefix, place) {
                true => self.identity(next, prefix, place, start),
                false => self.identity(k.number, prefix, place, 0),
            });
        }
        if let Some(prefix) = legacy::find(self, &self.lake, &self.runtime, content)? {
            let start = prefix.at() as i64;
            let adopted = self.identity(next, prefix, place, start);
            self.runtime.block_on(legacy::adopt(&self.lake, &adopted))?;
            return Ok(adopted);
        }
        if let Some(before) = known.iter().find(|k| k.place == self.place(place)) {
            tracing::warn!(
                path = %self.path.display(), read = before.position, generation = next,
                "file no longer holds what was read of it: truncated or overwritten, it is read from its beginning"
            );
        }
        Ok(self.identity(next, self.nothing(), place, 0))
    }

    /// The longest generation that a file begins with.
    pub(super) fn recognise<'k>(
        &self,
        content: Content<'_>,
        place: Place,
        known: &'k [Known],
    ) -> io::Result<Option<(&'k Known, Prefix)>> {
        if known.is_empty() {
            return Ok(None);
        }
        let mut stream = content()?;
        let mut head = Vec::with_capacity(HEAD);
        (&mut stream).take(HEAD as u64).read_to_end(&mut head)?;
        let mut stream = BufReader::with_capacity(4 * BLOCK, head.as_slice().chain(stream));
        let (mut prefix, mut found) = (self.nothing(), None);
        let alike = |k: &&Known| k.head == head_digest(self.seed, &head, k.position) || self.goes_on_anywhere();
        for k in known.iter().filter(|k| k.position > 0).filter(alike) {
            while prefix.at() < k.position {
                let bytes = stream.fill_buf()?;
                let wanted = usize::try_from(k.position - prefix.at()).unwrap_or(usize::MAX).min(bytes.len());
                if wanted == 0 {
                    return Ok(found);
                }
                prefix.update(&bytes[..wanted]);
                stream.consume(wanted);
            }
            let same = prefix.digest() == k.digest;
            let only_begins_alike =
                same && !stream.fill_buf()?.is_empty() && self.only_begins_alike(known, k, &prefix, place);
            if (same && !only_begins_alike) || self.goes_on_anywhere() {
                found = Some((k, prefix.clone()));
            }
        }
        Ok(found)
    }

    /// A switch for tests: whether content does not matter.
    fn goes_on_anywhere(&self) -> bool {
        #[cfg(any(test, feature = "faults"))]
        return self.lake.records().faults.go_on_in_any_file.load(std::sync::atomic::Ordering::Relaxed);
        #[cfg(not(any(test, feature = "faults")))]
        false
    }

    /// Logs often begin with the same line. Where one line is all that was read, a file that it was read from still lies
    /// beside this one, and this one goes on after it, this one is another.
    fn only_begins_alike(&self, known: &[Known], of: &Known, prefix: &Prefix, place: Place) -> bool {
        if !prefix.is_one_line() || of.is_at(self, place) {
            return false;
        }
        let alike = |k: &&Known| k.position == of.position && k.digest == of.digest;
        let places: Vec<u32> = known.iter().filter(alike).map(|k| k.place).collect();
        // An inode is given again soon: the file has to hold the line as well.
        let is_one = |m: &Metadata, path: &Path| places.contains(&self.place_of(m)) && begins_with(path, prefix.head());
        places.contains(&self.place(place)) || self.beside(place).any(|(m, path)| is_one(&m, &path))
    }

    /// Whether another file beside this one is just what was read of a generation.
    fn lies_elsewhere(&self, known: &Known, prefix: &Prefix, place: Place) -> bool {
        self.beside(place).any(|(m, path)| m.len() == known.position && begins_with(&path, prefix.head()))
    }

    /// The files beside this one.
    fn beside(&self, place: Place) -> impl Iterator<Item = (Metadata, PathBuf)> {
        let siblings = self.real.parent().and_then(|folder| std::fs::read_dir(folder).ok());
        let files = siblings.into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok().filter(Metadata::is_file)?, entry.path()))
        });
        files.filter(move |(m, _)| (m.dev(), m.ino()) != place)
    }

    fn place_of(&self, metadata: &Metadata) -> u32 {
        self.place((metadata.dev(), metadata.ino()))
    }

    /// The application id under which the position of a generation is kept.
    pub(super) fn app(&self, number: i32) -> String {
        format!("{}/{number}", self.name)
    }

    /// A generation by its number.
    fn identity(&self, number: i32, prefix: Prefix, place: Place, start: i64) -> Identity {
        let (app, topic) = (self.app(number), format!("file:{}", self.path.display()).into());
        let partition = Arc::new(Partition { app, topic, number, start });
        Identity { partition, prefix, place: Some(self.place(place)) }
    }

    /// Something that cannot be read a second time.
    pub(super) fn once(path: &Path) -> Identity {
        let app = format!("file:{}", uuid::Uuid::new_v4());
        let topic = format!("file:{}", path.display()).into();
        Identity {
            partition: Arc::new(Partition { app, topic, number: 0, start: 0 }),
            prefix: Prefix::new(0),
            place: None,
        }
    }

    /// The application id under which earlier versions kept the position of a file that starts so.
    pub(super) fn legacy(&self, start: &[u8]) -> String {
        self.whole.clone().unwrap_or_else(|| {
            let line = &start[..memchr::memchr(b'\n', start).unwrap_or(start.len()).min(HEAD)];
            let digest = Sha256::new()
                .chain_update(self.real.as_os_str().as_encoded_bytes())
                .chain_update([0])
                .chain_update(line)
                .finalize();
            format!("file:{}", hex::encode(&digest[..16]))
        })
    }
}

impl Identity {
    /// What lands beside a position: the digest of the bytes before it, and the hint.
    pub(super) fn marks(&self, prefix: &Prefix) -> Vec<(String, i64)> {
        let Some(place) = self.place else { return Vec::new() };
        let head = i64::from(head_digest(prefix.seed(), prefix.head(), prefix.at()));
        let app = &self.partition.app;
        vec![(format!("{app}/digest"), prefix.digest()), (format!("{app}/hint"), head << PLACE_BITS | i64::from(place))]
    }
}

fn begins_with(path: &Path, head: &[u8]) -> bool {
    let mut start = Vec::with_capacity(HEAD);
    let read = open(path, false).and_then(|file| file.take(head.len() as u64).read_to_end(&mut start));
    read.is_ok() && start == head
}

fn name(parts: &[&[u8]]) -> String {
    let digest = parts
        .iter()
        .fold(Sha256::new(), |digest, part| digest.chain_update((part.len() as u64).to_le_bytes()).chain_update(part));
    format!("file:{}", hex::encode(&digest.finalize()[..16]))
}
