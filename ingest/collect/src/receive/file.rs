//! Files: read once, or followed while they grow.
//!
//! Guarantees: a file is a source like any other. Its position (the byte after the last record that is in the lake) stands
//! in the lake under an identity made of its path and the start of its content, so that reading it again, after a crash
//! or by mistake, adds nothing; a file that was replaced is another source. Big plain files are read in segments by
//! several workers at once and committed in the order of the file. Compressed files count in unpacked bytes.

mod key_lines;

use crate::lake::{Lake, LakeError};
use crate::worker::{Counts, FlushError, Partition, Record, Sealed, Settings, Worker, land};
use catena_decode::frame::{self, Packing};
use catena_decode::{Block, Context, Decoder, Format, Redactor, Sink};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, EventKind, Micros, canonical};
use memchr::memchr;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Bytes of one segment: about a row group of 1.4 KB events.
const SEGMENT_BYTES_MAX: u64 = 176 << 20;
/// Below this a file is not worth a second thread.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Bytes of one segment of a stream, which passes through memory.
const STREAM_SEGMENT_BYTES: usize = 32 << 20;
/// One record; a longer line is rejected with its first part.
const RECORD_BYTES_MAX: usize = 16 << 20;
/// A document that is not line by line is read whole.
const DOCUMENT_BYTES_MAX: usize = 256 << 20;
/// Start of the first line that goes into the identity.
const HEAD_BYTES: usize = 4096;

/// What to read and how.
#[derive(Clone, Debug)]
pub struct Job {
    /// Decoder.
    pub format: Format,
    /// Tenant of everything in it.
    pub tenant: String,
    /// Workers per file.
    pub threads: usize,
    /// How workers flush.
    pub settings: Settings,
    /// The collector's clock.
    pub now: fn() -> Micros,
}

/// Why a file could not be read into the lake. What was committed before stays, and is not read again.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file.
    #[error("could not read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The lake.
    #[error(transparent)]
    Flush(#[from] FlushError),
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// Reads one file (`-` is standard input) to its end. Blocks; must not run on an async thread. `progress` hears the bytes
/// read so far.
pub fn ingest(
    lake: &Arc<Lake>,
    runtime: &tokio::runtime::Handle,
    path: &Path,
    job: &Job,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Counts, FileError> {
    let unreadable = |source| FileError::Read { path: path.to_owned(), source };
    let input = Input::open(path).map_err(unreadable)?;
    read(lake, runtime, path, input, job, progress)
}

/// Reads lines that were made of a file, as if they stood in it. The same lines again add nothing.
pub fn ingest_lines(
    lake: &Arc<Lake>,
    runtime: &tokio::runtime::Handle,
    path: &Path,
    lines: String,
    job: &Job,
) -> Result<Counts, FileError> {
    let identity = hex::encode(&Sha256::digest(&lines)[..16]);
    let input = Input { identity, shape: Shape::Stream(Box::new(std::io::Cursor::new(lines.into_bytes()))) };
    read(lake, runtime, path, input, job, &|_| {})
}

fn read(
    lake: &Arc<Lake>,
    runtime: &tokio::runtime::Handle,
    path: &Path,
    input: Input,
    job: &Job,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Counts, FileError> {
    let unreadable = |source| FileError::Read { path: path.to_owned(), source };
    let app = format!("file:{}", input.identity);
    let partition = Arc::new(Partition { app, topic: format!("file:{}", path.display()).into(), number: 0, start: 0 });
    let from = runtime.block_on(lake.position(&partition.app))?.unwrap_or(0).max(0) as u64;
    let mut counts = Counts::default();
    let reader = Ingestion {
        lake,
        runtime,
        partition: &partition,
        job,
        progress,
        done: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    };
    match input.shape {
        Shape::Plain { length } => {
            if from > 0 {
                counts.add(&reader.recount(&mut File::open(path).map_err(unreadable)?.take(from)).map_err(unreadable)?);
            }
            counts.add(&reader.plain(path, from, length)?);
        }
        Shape::Stream(mut stream) => {
            let mut before = key_lines::Tail::of((&mut stream).take(from));
            if from > 0 {
                counts.add(&reader.recount(&mut before).map_err(unreadable)?);
            }
            let block = before.block();
            counts.add(&reader.stream(path, stream, (from, block))?);
        }
        Shape::Document(bytes) => counts.add(&reader.document(&bytes, from)?),
    }
    Ok(counts)
}

/// A file that was opened and looked at.
struct Input {
    identity: String,
    shape: Shape,
}

enum Shape {
    /// One record a line, uncompressed: can be cut anywhere.
    Plain { length: u64 },
    /// One record a line, compressed or from a pipe.
    Stream(Box<dyn Read + Send>),
    /// One JSON document over many lines, or an array.
    Document(Vec<u8>),
}

impl Input {
    fn open(path: &Path) -> std::io::Result<Input> {
        let piped = path.as_os_str() == "-";
        let mut raw: Box<dyn Read + Send> =
            if piped { Box::new(std::io::stdin()) } else { Box::new(File::open(path)?) };
        let mut magic = Vec::with_capacity(4);
        (&mut raw).take(4).read_to_end(&mut magic)?;
        let packed = std::io::Cursor::new(magic.clone()).chain(raw);
        let (mut stream, compressed): (Box<dyn Read + Send>, bool) = match Packing::of(&magic) {
            Packing::Gzip => (Box::new(flate2::read::MultiGzDecoder::new(packed)), true),
            Packing::Zstd => (Box::new(zstd::Decoder::new(packed)?), true),
            Packing::Plain => (Box::new(packed), false),
        };
        let mut head = Vec::with_capacity(64 << 10);
        (&mut stream).take(64 << 10).read_to_end(&mut head)?;
        let identity = if piped { uuid::Uuid::new_v4().to_string() } else { identity(path, &head)? };
        let document = is_document(&head);
        let mut stream: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(head).chain(stream));
        let shape = if document {
            let mut bytes = Vec::new();
            (&mut stream).take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
            if bytes.len() > DOCUMENT_BYTES_MAX {
                let why = format!(
                    "one JSON document of more than {DOCUMENT_BYTES_MAX} bytes; write one record per line instead"
                );
                return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, why));
            }
            Shape::Document(bytes)
        } else if piped || compressed {
            Shape::Stream(stream)
        } else {
            Shape::Plain { length: std::fs::metadata(path)?.len() }
        };
        Ok(Input { identity, shape })
    }
}

/// Path and start of content.
fn identity(path: &Path, head: &[u8]) -> std::io::Result<String> {
    let line = &head[..memchr(b'\n', head).unwrap_or(head.len()).min(HEAD_BYTES)];
    let digest = Sha256::new()
        .chain_update(path.canonicalize()?.as_os_str().as_encoded_bytes())
        .chain_update([0])
        .chain_update(line)
        .finalize();
    Ok(hex::encode(&digest[..16]))
}

/// Whether the file is one JSON document rather than one a line: an array, or an object whose first line does not end it.
fn is_document(head: &[u8]) -> bool {
    let text = head.trim_ascii_start();
    let line = &text[..memchr(b'\n', text).unwrap_or(text.len())];
    match text.first() {
        Some(b'[') => true,
        Some(b'{') if line.len() < text.len() => {
            let mut tape = catena_decode::json::Tape::default();
            tape.parse(line).is_err_and(|e| e.reason == "json_truncated")
        }
        _ => false,
    }
}

/// Bytes of each segment of a file, so that all threads have as many and end together: a rest would leave all but one idle.
fn segment_bytes(left: u64, threads: u64) -> u64 {
    let each = left.div_ceil(threads).div_ceil(SEGMENT_BYTES_MAX).max(1);
    left.div_ceil(each * threads).max(SEGMENT_BYTES_MIN)
}

/// A run over one file.
struct Ingestion<'a> {
    lake: &'a Arc<Lake>,
    runtime: &'a tokio::runtime::Handle,
    partition: &'a Arc<Partition>,
    job: &'a Job,
    progress: &'a (dyn Fn(u64) + Sync),
    done: AtomicU64,
    failed: AtomicBool,
}

/// What a worker sends on: the flushes of one segment, in order.
type Outcome = (u64, Result<Vec<Sealed>, FileError>);

impl Ingestion<'_> {
    fn plain(&self, path: &Path, from: u64, length: u64) -> Result<Counts, FileError> {
        let threads = self.job.threads.max(1) as u64;
        let left = length.saturating_sub(from);
        let segment = segment_bytes(left, threads);
        let segments = left.div_ceil(segment);
        let next = AtomicU64::new(0);
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..threads.min(segments) {
                let (send, next) = (send.clone(), &next);
                scope.spawn(move || {
                    let mut worker = Worker::new(self.lake.clone(), self.job.settings.clone());
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= segments || self.failed.load(Ordering::Relaxed) {
                            break;
                        }
                        let (start, end) = (from + number * segment, (from + (number + 1) * segment).min(length));
                        let sealed = self.segment(&mut worker, path, (start, end), number == 0);
                        if send.send((number, sealed)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            self.land_in_order(receive)
        })
    }

    /// Reads the lines that begin in `start..end`; the first segment's first line begins at its start.
    fn segment(
        &self,
        worker: &mut Worker,
        path: &Path,
        (start, end): (u64, u64),
        first: bool,
    ) -> Result<Vec<Sealed>, FileError> {
        let unreadable = |source| FileError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut at = start;
        // A line that begins before `start` belongs to the segment before: look from one byte earlier for its end.
        if !first {
            at = start - 1;
        }
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        if !first {
            at += reader.skip_until(b'\n').map_err(unreadable)? as u64;
        }
        let block = key_lines::before(&mut reader, at).map_err(unreadable)?;
        reader.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        worker.begin(self.partition, at as i64);
        worker.begin_within(self.partition, block);
        let mut line = Vec::new();
        let mut sealed = Vec::new();
        let mut reported = at;
        let mut received = (self.job.now)();
        while at < end {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(unreadable)? as u64;
            if read == 0 {
                break;
            }
            self.push(worker, &line, at, received);
            at += read;
            if worker.is_full() {
                sealed.extend(self.runtime.block_on(worker.seal())?);
            }
            if at - reported >= 8 << 20 {
                (self.progress)(self.done.fetch_add(at - reported, Ordering::Relaxed) + at - reported);
                (reported, received) = (at, (self.job.now)());
            }
        }
        (self.progress)(self.done.fetch_add(at - reported, Ordering::Relaxed) + at - reported);
        sealed.extend(self.runtime.block_on(worker.seal())?);
        Ok(sealed)
    }

    fn stream(&self, path: &Path, stream: Box<dyn Read + Send>, from: (u64, Block)) -> Result<Counts, FileError> {
        let (work, todo) = mpsc::sync_channel::<(u64, (u64, Block), Vec<u8>)>(1);
        let todo = parking_lot::Mutex::new(todo);
        let (send, receive) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.job.threads.max(1) {
                let (send, todo) = (send.clone(), &todo);
                scope.spawn(move || {
                    let mut worker = Worker::new(self.lake.clone(), self.job.settings.clone());
                    loop {
                        let received = todo.lock().recv();
                        let Ok((number, (start, block), bytes)) = received else { break };
                        worker.begin(self.partition, start as i64);
                        worker.begin_within(self.partition, block);
                        let (mut at, received) = (0, (self.job.now)());
                        for line in bytes.split_inclusive(|b| *b == b'\n') {
                            self.push(&mut worker, line, start + at, received);
                            at += line.len() as u64;
                        }
                        let sealed = self.runtime.block_on(worker.seal()).map(Vec::from_iter).map_err(FileError::from);
                        (self.progress)(self.done.fetch_add(at, Ordering::Relaxed) + at);
                        if send.send((number, sealed)).is_err() {
                            break;
                        }
                    }
                });
            }
            let reader = scope.spawn({
                let send = send.clone();
                move || {
                    if let Err(source) = self.cut(stream, from, &work) {
                        let _ = send.send((u64::MAX, Err(FileError::Read { path: path.to_owned(), source })));
                    }
                }
            });
            drop(send);
            let counts = self.land_in_order(receive);
            // A failed worker leaves the reader waiting to hand over: taking what it offers lets it see the end.
            while !reader.is_finished() {
                let _ = todo.lock().recv_timeout(Duration::from_millis(20));
            }
            counts
        })
    }

    /// Cuts a stream into segments that end with a line.
    fn cut(
        &self,
        mut stream: Box<dyn Read + Send>,
        (mut start, mut block): (u64, Block),
        work: &mpsc::SyncSender<(u64, (u64, Block), Vec<u8>)>,
    ) -> std::io::Result<()> {
        let (mut carry, mut number) = (Vec::new(), 0);
        loop {
            let mut bytes = std::mem::take(&mut carry);
            let wanted = STREAM_SEGMENT_BYTES.saturating_sub(bytes.len()).max(1 << 20);
            let read = (&mut stream).take(wanted as u64).read_to_end(&mut bytes)?;
            if bytes.is_empty() || self.failed.load(Ordering::Relaxed) {
                break;
            }
            if read > 0 {
                let end = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
                if end == 0 && bytes.len() < RECORD_BYTES_MAX * 2 {
                    carry = bytes;
                    continue;
                }
                carry = bytes.split_off(if end == 0 { bytes.len() } else { end });
            }
            let length = bytes.len() as u64;
            let behind = key_lines::behind(block, &bytes);
            if work.send((number, (start, block), bytes)).is_err() {
                break;
            }
            block = behind;
            // Segments land in the order of their numbers: none may be left out.
            (start, number) = (start + length, number + 1);
        }
        Ok(())
    }

    /// One document: its records are the elements of an array, or itself.
    fn document(&self, bytes: &[u8], from: u64) -> Result<Counts, FileError> {
        let mut worker = Worker::new(self.lake.clone(), self.job.settings.clone());
        worker.begin(self.partition, from as i64);
        let mut sealed = Vec::new();
        let mut counts = Counts::default();
        let mut block = Block::default();
        let received = (self.job.now)();
        for (at, record) in document_records(bytes) {
            if (at as u64) < from {
                block = block.after(record);
                worker.begin_within(self.partition, block);
                let mut tally = Tally::default();
                self.recount_record(&mut self.decoder(), record, &mut tally);
                counts.add(&tally.counts());
                continue;
            }
            self.push(&mut worker, record, at as u64, received);
            if worker.is_full() {
                sealed.extend(self.runtime.block_on(worker.seal())?);
            }
        }
        sealed.extend(self.runtime.block_on(worker.seal())?);
        (self.progress)(bytes.len() as u64);
        if !sealed.is_empty() {
            counts.add(&self.runtime.block_on(land(self.lake, sealed))?.counts);
        }
        Ok(counts)
    }

    /// Hands a line to the worker; blank lines are no records. `received` is one instant for a stretch of the file: the
    /// lines were all there when it was read, and equal instants cost nothing to store.
    fn push(&self, worker: &mut Worker, line: &[u8], at: u64, received: Micros) {
        let bytes = line.trim_ascii();
        if bytes.is_empty() {
            return;
        }
        worker.push(
            self.partition,
            &Record {
                tenant: &self.job.tenant,
                format: self.job.format,
                offset: at as i64,
                next: (at + line.len() as u64) as i64,
                bytes,
                headers: &[],
                received,
                trusted: false,
                mappings: None,
                again: None,
            },
        );
    }

    /// Commits segments as they are sealed, in the order of the file.
    fn land_in_order(&self, receive: mpsc::Receiver<Outcome>) -> Result<Counts, FileError> {
        let (mut waiting, mut next, mut counts) = (BTreeMap::new(), 0, Counts::default());
        let mut failure = None;
        for (number, sealed) in receive {
            match sealed {
                Ok(sealed) if failure.is_none() => waiting.insert(number, sealed),
                Ok(_) => continue,
                Err(e) => {
                    self.failed.store(true, Ordering::Relaxed);
                    failure.get_or_insert(e);
                    continue;
                }
            };
            let mut ready = Vec::new();
            while let Some(sealed) = waiting.remove(&next) {
                ready.extend(sealed);
                next += 1;
            }
            if !ready.is_empty() {
                let began = Instant::now();
                match self.runtime.block_on(land(self.lake, ready)) {
                    Ok(landed) => {
                        self.job.settings.report.landed(&landed, began.elapsed());
                        counts.add(&landed.counts);
                    }
                    Err(e) => {
                        self.failed.store(true, Ordering::Relaxed);
                        failure.get_or_insert(e.into());
                    }
                }
            }
        }
        match failure {
            Some(e) => Err(e),
            None => Ok(counts),
        }
    }

    fn decoder(&self) -> Decoder {
        let key = canonical::tenant_key(&self.lake.secret(), &self.job.tenant);
        Decoder::new(Arc::new(Redactor::new(key)))
    }

    /// Counts the records that an earlier run committed: received again, and all of them duplicates.
    fn recount(&self, stream: &mut dyn Read) -> std::io::Result<Counts> {
        let mut decoder = self.decoder();
        let mut tally = Tally::default();
        let mut reader = BufReader::with_capacity(1 << 20, stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if !line.trim_ascii().is_empty() {
                self.recount_record(&mut decoder, line.trim_ascii(), &mut tally);
            }
            line.clear();
        }
        Ok(tally.counts())
    }

    fn recount_record(&self, decoder: &mut Decoder, record: &[u8], tally: &mut Tally) {
        tally.0.records += 1;
        tally.0.read_before += 1;
        let context = Context { received: (self.job.now)(), ..Context::default() };
        decoder.record(self.job.format, record, &context, tally);
    }
}

/// The records of one JSON document, with the byte at which each begins.
fn document_records(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let records = frame::records(bytes);
    // An empty array is a record all the same: the decoder says what it is.
    if records.is_empty() { vec![(0, bytes.trim_ascii())] } else { records }
}

/// Counts what the decoder hands on, and keeps nothing.
#[derive(Default)]
struct Tally(Counts);

impl Tally {
    fn counts(self) -> Counts {
        self.0
    }
}

impl Sink for Tally {
    fn event(&mut self, event: &Event<'_>, _: Format) {
        match event.kind {
            EventKind::Decision => {
                self.0.decisions += 1;
                self.0.duplicates += 1;
            }
            EventKind::Execution => {
                self.0.executions += 1;
                self.0.repeated += 1;
            }
        }
    }

    fn authority(&mut self, _: &Entry<'_>, _: Format) {
        self.0.authority += 1;
        self.0.repeated += 1;
    }

    fn rejection(&mut self, _: Rejection, _: Format) {}

    fn aside(&mut self, _: Rejection, _: Format) {}
}

/// Follows a growing file until `stop` is set: complete lines go into the lake within the flush age; a file that was
/// rotated is read to its end under its old identity before the new one is opened.
pub fn follow(
    lake: &Arc<Lake>,
    runtime: &tokio::runtime::Handle,
    path: &Path,
    job: &Job,
    stop: &AtomicBool,
    landed: &dyn Fn(&Counts),
) -> Result<(), FileError> {
    const POLL: Duration = Duration::from_millis(100);
    let unreadable = |source| FileError::Read { path: path.to_owned(), source };
    while !stop.load(Ordering::Relaxed) {
        let mut file = match File::open(path) {
            Ok(file) => file,
            // Between two rotations there may be no file for a moment; before the first there may be none yet.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                std::thread::sleep(POLL);
                continue;
            }
            Err(e) => return Err(unreadable(e)),
        };
        let Some(head) = first_line(&mut file, POLL, stop).map_err(unreadable)? else { continue };
        let app = format!("file:{}", identity(path, &head).map_err(unreadable)?);
        let partition =
            Arc::new(Partition { app, topic: format!("file:{}", path.display()).into(), number: 0, start: 0 });
        let progress = |_: u64| {};
        let run = Ingestion {
            lake,
            runtime,
            partition: &partition,
            job,
            progress: &progress,
            done: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        };
        run.follow(file, path, stop, landed)?;
    }
    Ok(())
}

/// Waits for the first whole line; `None` when told to stop.
fn first_line(file: &mut File, poll: Duration, stop: &AtomicBool) -> std::io::Result<Option<Vec<u8>>> {
    loop {
        file.seek(SeekFrom::Start(0))?;
        let mut head = Vec::new();
        file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        if head.len() == HEAD_BYTES || head.contains(&b'\n') {
            return Ok(Some(head));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        std::thread::sleep(poll);
    }
}

impl Ingestion<'_> {
    fn follow(
        &self,
        mut file: File,
        path: &Path,
        stop: &AtomicBool,
        landed: &dyn Fn(&Counts),
    ) -> Result<(), FileError> {
        let unreadable = |source| FileError::Read { path: path.to_owned(), source };
        let mut worker = Worker::new(self.lake.clone(), self.job.settings.clone());
        let inode = file.metadata().map_err(unreadable)?.ino();
        let mut at = self.runtime.block_on(self.lake.position(&self.partition.app))?.unwrap_or(0) as u64;
        worker.begin(self.partition, at as i64);
        worker.begin_within(self.partition, key_lines::before(&mut file, at).map_err(unreadable)?);
        let mut carry = Vec::new();
        let mut rotated = false;
        loop {
            file.seek(SeekFrom::Start(at + carry.len() as u64)).map_err(unreadable)?;
            let read = (&mut file).take(4 << 20).read_to_end(&mut carry).map_err(unreadable)?;
            let (mut used, received) = (0, (self.job.now)());
            // Rotation ends a file: what is left without a line end is its last record.
            let last_part = rotated && read == 0 && !carry.is_empty();
            while let Some(end) =
                memchr(b'\n', &carry[used..]).map(|e| e + 1).or(last_part.then_some(carry.len() - used))
            {
                if end == 0 {
                    break;
                }
                self.push(&mut worker, &carry[used..used + end], at, received);
                at += end as u64;
                used += end;
            }
            carry.drain(..used);
            let stopping = stop.load(Ordering::Relaxed);
            let due = worker.due_at().is_some_and(|due| Instant::now() >= due);
            if (due || worker.is_full() || ((stopping || rotated) && read == 0))
                && let Some(flush) = self.runtime.block_on(worker.flush())?
            {
                landed(&flush.counts);
            }
            if read == 0 {
                if stopping || rotated {
                    return Ok(());
                }
                rotated = match std::fs::metadata(path) {
                    Ok(now) => now.ino() != inode || now.len() < at,
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
                    Err(e) => return Err(unreadable(e)),
                };
                if !rotated {
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
