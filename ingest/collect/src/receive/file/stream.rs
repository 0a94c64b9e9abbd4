//! A stream of lines that cannot be cut in advance: packed, or from a pipe.
//!
//! Guarantee: segments end with a line and land in the order of the stream. Memory is two segments and one for each worker,
//! also when a line has no end.

use super::lines::RECORD_BYTES_MAX;
use super::{FileError, Ingestion, key_lines};
use crate::worker::{Counts, FlushError, Sealed, Worker};
use catena_decode::Block;
use memchr::{memchr, memrchr};
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

/// Bytes of one segment of a stream, which passes through memory.
const STREAM_SEGMENT_BYTES: usize = 32 << 20;

/// Lines of a stream.
struct Segment {
    number: u64,
    start: u64,
    /// Whether a private key is open before it.
    block: Block,
    bytes: Vec<u8>,
    /// Bytes of its last line that were too many to keep.
    dropped: u64,
    /// What lands with the position at its end.
    marks: Vec<(String, i64)>,
}

impl Ingestion<'_> {
    pub(super) fn stream(&self, path: &Path, stream: Box<dyn Read + Send>, block: Block) -> Result<Counts, FileError> {
        let (work, todo) = mpsc::sync_channel::<Segment>(1);
        let todo = parking_lot::Mutex::new(todo);
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.job.threads.max(1) {
                let (send, todo) = (send.clone(), &todo);
                scope.spawn(move || {
                    let mut worker = Worker::new(self.lake.clone(), self.job.settings.clone());
                    loop {
                        let received = todo.lock().recv();
                        let Ok(segment) = received else { break };
                        let read = segment.bytes.len() as u64 + segment.dropped;
                        let sealed = self.lines(&mut worker, &segment);
                        let sealed = sealed.map(|sealed| (sealed, segment.marks)).map_err(FileError::from);
                        (self.progress)(self.done.fetch_add(read, Ordering::Relaxed) + read);
                        if send.send((segment.number, sealed)).is_err() {
                            break;
                        }
                    }
                });
            }
            let reader = scope.spawn({
                let send = send.clone();
                move || {
                    if let Err(source) = self.cut(stream, block, &work) {
                        let _ = send.send((u64::MAX, Err(FileError::Read { path: path.to_owned(), source })));
                    }
                }
            });
            drop(send);
            let counts = self.land_in_order(receive, |marks| marks);
            // A failed worker leaves the reader waiting to hand over: taking what it offers lets it see the end.
            while !reader.is_finished() {
                let _ = todo.lock().recv_timeout(Duration::from_millis(20));
            }
            counts
        })
    }

    /// Seals the lines of a segment. A segment of very short lines makes more rows than one flush may hold.
    fn lines(&self, worker: &mut Worker, segment: &Segment) -> Result<Vec<Sealed>, FlushError> {
        let received = (self.job.now)();
        let end = segment.start + segment.bytes.len() as u64 + segment.dropped;
        worker.begin(self.partition(), segment.start as i64);
        worker.begin_within(self.partition(), segment.block);
        let (mut at, mut sealed) = (segment.start, Vec::new());
        for line in segment.bytes.split_inclusive(|b| *b == b'\n') {
            let is_last = at + line.len() as u64 + segment.dropped == end;
            let length = line.len() as u64 + if is_last { segment.dropped } else { 0 };
            self.push(worker, line, length, at, received);
            at += length;
            if worker.is_full() {
                sealed.extend(self.runtime.block_on(worker.seal())?);
            }
        }
        worker.reach(self.partition(), end as i64);
        sealed.extend(self.runtime.block_on(worker.seal())?);
        Ok(sealed)
    }

    /// Cuts a stream into segments that end with a line.
    fn cut(
        &self,
        mut stream: Box<dyn Read + Send>,
        mut block: Block,
        work: &mpsc::SyncSender<Segment>,
    ) -> io::Result<()> {
        let identity = self.identity;
        let mut prefix = identity.prefix.clone();
        let (mut carry, mut number) = (Vec::new(), 0);
        loop {
            let start = prefix.at();
            let mut bytes = std::mem::take(&mut carry);
            let wanted = STREAM_SEGMENT_BYTES.saturating_sub(bytes.len()).max(1 << 20);
            let read = (&mut stream).take(wanted as u64).read_to_end(&mut bytes)?;
            if bytes.is_empty() || self.failed.load(Ordering::Relaxed) {
                break;
            }
            let mut is_long = false;
            match memrchr(b'\n', &bytes) {
                _ if read == 0 => {}
                Some(end) => carry = bytes.split_off(end + 1),
                None if bytes.len() <= RECORD_BYTES_MAX => {
                    carry = bytes;
                    continue;
                }
                None => is_long = true,
            }
            prefix.update(&bytes);
            let mut dropped = 0;
            if is_long {
                dropped = (bytes.len() - (RECORD_BYTES_MAX + 1)) as u64;
                bytes.truncate(RECORD_BYTES_MAX + 1);
                carry = pass_over(&mut stream, |part| {
                    prefix.update(part);
                    dropped += part.len() as u64;
                })?;
            }
            let behind = key_lines::behind(block, &bytes);
            let segment = Segment { number, start, block, bytes, dropped, marks: identity.marks(&prefix) };
            block = behind;
            if work.send(segment).is_err() {
                break;
            }
            // Segments land in the order of their numbers: none may be left out.
            number += 1;
        }
        Ok(())
    }
}

/// Reads to the end of a line; returns what was read of the next.
fn pass_over(stream: &mut dyn Read, mut each: impl FnMut(&[u8])) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 << 20);
    loop {
        bytes.clear();
        stream.take(1 << 20).read_to_end(&mut bytes)?;
        let end = memchr(b'\n', &bytes).map(|at| at + 1);
        each(&bytes[..end.unwrap_or(bytes.len())]);
        match end {
            Some(end) => return Ok(bytes.split_off(end)),
            None if bytes.is_empty() => return Ok(bytes),
            None => {}
        }
    }
}
