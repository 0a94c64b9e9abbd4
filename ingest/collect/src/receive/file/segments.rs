//! A plain file in segments, which several workers read at once.
//!
//! Guarantee: every line belongs to the segment that it begins in, and to no other; segments land in the order of the file,
//! each with the digest of all that lies before its end. Each thread hashes the blocks of its own segment while it reads.

use super::lines::{self, Line};
use super::open::Cursor;
use super::prefix::{BLOCK, Blocks, HEAD, Prefix};
use super::source::Identity;
use super::{FileError, Ingestion, key_lines};
use crate::worker::{Counts, Sealed, Worker};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

/// Bytes of one segment: about a row group of 1.4 KB events.
pub(super) const SEGMENT_BYTES_MAX: u64 = 176 << 20;
/// Below this a file is not worth a second thread.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const BLOCK_BYTES: u64 = BLOCK as u64;

/// Bytes of each segment of a file, so that all threads have as many and end together: a rest would leave all but one idle.
pub(super) fn segment_bytes(left: u64, threads: u64) -> u64 {
    let each = left.div_ceil(threads).div_ceil(SEGMENT_BYTES_MAX).max(1);
    left.div_ceil(each * threads).next_multiple_of(BLOCK_BYTES).max(SEGMENT_BYTES_MIN)
}

/// What a segment was: for the digest of the bytes before the position that it ends at.
pub(super) struct Stretch {
    /// Hashes of the blocks from its start on, as far as the thread read.
    hashes: Vec<u128>,
    /// How many of them are its own; later ones belong to the segment after.
    own: usize,
    /// The position after its last line, and the bytes of the block that it lies in, up to it.
    end: u64,
    tail: Vec<u8>,
}

impl Stretch {
    /// Moves `prefix` over the segment, and returns what lies before the position at its end.
    pub(super) fn fold(self, prefix: &mut Prefix) -> Prefix {
        let mut end = prefix.clone();
        let whole = (self.end / BLOCK_BYTES).saturating_sub(prefix.block_start() / BLOCK_BYTES) as usize;
        self.hashes.iter().take(whole).for_each(|hash| end.push(*hash));
        if end.at() < self.end {
            end.update(&self.tail[self.tail.len() - (self.end - end.at()) as usize..]);
        }
        self.hashes.iter().take(self.own).for_each(|hash| prefix.push(*hash));
        end
    }
}

/// Reads a file and hashes the blocks of it on the way.
struct Hashing {
    cursor: Cursor,
    /// Bytes that belong to the segment before.
    skip: usize,
    blocks: Blocks,
    hashes: Vec<u128>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.cursor.read(buffer)?;
        let skipped = self.skip.min(read);
        self.skip -= skipped;
        let hashes = &mut self.hashes;
        self.blocks.update(&buffer[skipped..read], |hash| hashes.push(hash));
        Ok(read)
    }
}

impl Ingestion<'_> {
    /// Reads a plain file from the position of its identity to `length`.
    pub(super) fn plain(
        &self,
        path: &Path,
        file: &Arc<File>,
        identity: &Identity,
        length: u64,
    ) -> Result<Counts, FileError> {
        let unreadable = |source| FileError::Read { path: path.to_owned(), source };
        let mut prefix = identity.prefix.clone();
        let mut head = vec![0; HEAD.min(length as usize)];
        file.read_exact_at(&mut head, 0).map_err(unreadable)?;
        prefix.begin_with(head);
        // Segments begin with a block, but for the first.
        let (from, base) = (prefix.at(), prefix.block_start());
        let threads = self.job.threads.max(1) as u64;
        let segment = segment_bytes(length.saturating_sub(base), threads);
        let segments = if length > from { (length - base).div_ceil(segment) } else { 0 };
        let next = AtomicU64::new(0);
        let (send, receive) = mpsc::channel();
        let first = prefix.last_block();
        let counts = std::thread::scope(|scope| {
            for _ in 0..threads.min(segments) {
                let (send, next, first) = (send.clone(), &next, &first);
                scope.spawn(move || {
                    let mut worker = Worker::new(self.lake.clone(), self.job.settings.clone());
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= segments || self.failed.load(Ordering::Relaxed) {
                            break;
                        }
                        let start = if number == 0 { from } else { base + number * segment };
                        let end = (base + (number + 1) * segment).min(length);
                        let blocks = (number == 0).then(|| first.clone());
                        let sealed = self.segment(&mut worker, path, file, (start, end), blocks);
                        if send.send((number, sealed)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            self.land_in_order(receive, |stretch: Stretch| identity.marks(&stretch.fold(&mut prefix)))
        })?;
        let now = file.metadata().map_err(unreadable)?.len();
        if now < length {
            tracing::warn!(path = %path.display(), was = length, is = now, "file shrank while it was read");
        }
        Ok(counts)
    }

    /// Reads the lines that begin in `start..end`; the first segment's first line begins at its start. `first` has the block
    /// that the first segment goes on with.
    fn segment(
        &self,
        worker: &mut Worker,
        path: &Path,
        file: &Arc<File>,
        (start, end): (u64, u64),
        first: Option<Blocks>,
    ) -> Result<(Vec<Sealed>, Stretch), FileError> {
        let unreadable = |source| FileError::Read { path: path.to_owned(), source };
        // A line that begins before `start` belongs to the segment before: look from one byte earlier for its end.
        let skip = usize::from(first.is_none());
        let mut at = start - skip as u64;
        let blocks = first.unwrap_or_else(|| Blocks::new(self.identity.prefix.seed()));
        let cursor = Cursor { file: file.clone(), at };
        let mut reader = BufReader::with_capacity(1 << 20, Hashing { cursor, skip, blocks, hashes: Vec::new() });
        if skip > 0 {
            at += lines::skip(&mut reader, end - at).map_err(unreadable)?;
        }
        let began = at;
        worker.begin(self.partition(), at as i64);
        let block = key_lines::before(at, |start| Cursor { file: file.clone(), at: start }).map_err(unreadable)?;
        worker.begin_within(self.partition(), block);
        let mut line = Line::default();
        let mut sealed = Vec::new();
        let mut reported = at;
        let mut received = (self.job.now)();
        while at < end && lines::next(&mut reader, &mut line).map_err(unreadable)? {
            self.push(worker, &line.bytes, line.length, at, received);
            at += line.length;
            if worker.is_full() {
                sealed.extend(self.runtime.block_on(worker.seal())?);
            }
            if at - reported >= 8 << 20 {
                (self.progress)(self.done.fetch_add(at - reported, Ordering::Relaxed) + at - reported);
                (reported, received) = (at, (self.job.now)());
            }
        }
        (self.progress)(self.done.fetch_add(at - reported, Ordering::Relaxed) + at - reported);
        if at > began {
            // Blank lines at its end are read, too: the next segment begins after them.
            worker.reach(self.partition(), at as i64);
        }
        sealed.extend(self.runtime.block_on(worker.seal())?);
        let mut tail = vec![0; (at % BLOCK_BYTES) as usize];
        file.read_exact_at(&mut tail, at - at % BLOCK_BYTES).map_err(unreadable)?;
        let own = (end / BLOCK_BYTES - start / BLOCK_BYTES) as usize;
        Ok((sealed, Stretch { hashes: reader.into_inner().hashes, own, end: at, tail }))
    }
}
