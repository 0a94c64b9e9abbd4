//! Files: read once, or followed while they grow.
//!
//! Guarantee: a file is a source like any other. Its position (the byte after the last record that is in the lake) is in
//! the lake, in the commit that holds the rows, together with a digest of the bytes before it. So reading a file again,
//! after a crash or by mistake, adds nothing, and a file that holds something else is read from its beginning, whatever it
//! is called and wherever it came from. Big plain files are read in segments by several workers at once and committed in
//! the order of the file. Compressed files count in unpacked bytes. A line takes no more memory than the longest record.

mod again;
mod follow;
mod key_lines;
mod legacy;
mod lines;
mod open;
mod prefix;
mod rotated;
mod segments;
mod shape;
mod source;
mod stream;
mod tail;

pub use follow::follow;

use crate::lake::{Lake, LakeError};
use crate::worker::{Counts, FlushError, Partition, Record, Sealed, Settings, Worker, land};
use again::Tally;
use catena_decode::{Block, Decoder, Format, Redactor};
use catena_schemas::{Micros, canonical};
use lines::RECORD_BYTES_MAX;
use shape::{Input, Shape, document_records, is_document};
use source::{Identity, Source};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

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
    /// Whether a followed path may be a symbolic link.
    pub follow_symlinks: bool,
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
    let identity = match (&input.file, &input.shape) {
        (None, _) => Source::once(path),
        (Some(file), shape) => {
            let source = Source::of(lake, runtime, path, &job.tenant).map_err(unreadable)?;
            let place = open::place(file).map_err(unreadable)?;
            match shape {
                Shape::Document(bytes) => source.identify(&|| Ok(Box::new(bytes.as_slice())), place, 0)?,
                _ => source.identify(&|| Ok(shape::content(file)?), place, 0)?,
            }
        }
    };
    Ingestion::new(lake, runtime, &identity, job, progress).read(path, input)
}

/// Reads lines that were made of a file, as if they stood in it. The same lines again add nothing.
pub fn ingest_lines(
    lake: &Arc<Lake>,
    runtime: &tokio::runtime::Handle,
    path: &Path,
    lines: String,
    job: &Job,
) -> Result<Counts, FileError> {
    let source = Source::of_lines(lake, runtime, path, &lines, &job.tenant);
    let identity = source.identify(&|| Ok(Box::new(lines.as_bytes())), (0, 0), 0)?;
    let input = Input { file: None, shape: Shape::Stream(Box::new(std::io::Cursor::new(lines.into_bytes()))) };
    Ingestion::new(lake, runtime, &identity, job, &|_| {}).read(path, input)
}

/// Whether a path can be followed: it is a regular file, or nothing yet.
pub fn followable(path: &Path, job: &Job) -> Result<(), FileError> {
    match open::open(path, job.follow_symlinks) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::Read { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// A run over one file.
struct Ingestion<'a> {
    lake: &'a Arc<Lake>,
    runtime: &'a tokio::runtime::Handle,
    identity: &'a Identity,
    job: &'a Job,
    progress: &'a (dyn Fn(u64) + Sync),
    done: AtomicU64,
    failed: AtomicBool,
}

/// What a worker sends on: the flushes of one segment in order, and what the segment was.
type Outcome<T> = (u64, Result<(Vec<Sealed>, T), FileError>);

impl<'a> Ingestion<'a> {
    fn new(
        lake: &'a Arc<Lake>,
        runtime: &'a tokio::runtime::Handle,
        identity: &'a Identity,
        job: &'a Job,
        progress: &'a (dyn Fn(u64) + Sync),
    ) -> Ingestion<'a> {
        Ingestion { lake, runtime, identity, job, progress, done: AtomicU64::new(0), failed: AtomicBool::new(false) }
    }

    fn partition(&self) -> &Arc<Partition> {
        &self.identity.partition
    }

    /// Reads on from where the lake stands, and counts what lies before.
    fn read(&self, path: &Path, input: Input) -> Result<Counts, FileError> {
        let unreadable = |source| FileError::Read { path: path.to_owned(), source };
        let from = self.identity.prefix.at();
        let mut counts = Counts::default();
        match (input.shape, &input.file) {
            (Shape::Plain { length }, Some(file)) => {
                if from > 0 {
                    let before = open::Cursor { file: file.clone(), at: 0 };
                    counts.add(&self.recount(&mut before.take(from)).map_err(unreadable)?);
                }
                counts.add(&self.plain(path, file, self.identity, length)?);
            }
            (Shape::Stream(mut stream), _) => {
                let mut before = key_lines::Tail::of((&mut stream).take(from));
                if from > 0 {
                    counts.add(&self.recount(&mut before).map_err(unreadable)?);
                }
                let block = before.block();
                counts.add(&self.stream(path, stream, block)?);
            }
            (Shape::Document(bytes), _) => counts.add(&self.document(&bytes, from)?),
            (Shape::Plain { .. }, None) => unreachable!("standard input has no length, so it is a stream"),
        }
        Ok(counts)
    }

    /// One document: its records are the elements of an array, or itself.
    fn document(&self, bytes: &[u8], from: u64) -> Result<Counts, FileError> {
        let mut worker = Worker::new(self.lake.clone(), self.job.settings.clone());
        worker.begin(self.partition(), from as i64);
        let mut sealed = Vec::new();
        let (mut tally, mut decoder) = (Tally::default(), self.decoder());
        let received = (self.job.now)();
        let (mut end, mut block) = (from, Block::default());
        for (at, record) in document_records(bytes) {
            if (at as u64) < from {
                block = block.after(record);
                worker.begin_within(self.partition(), block);
                tally.add(Some(&mut decoder), self.job, record);
                continue;
            }
            self.push(&mut worker, record, record.len() as u64, at as u64, received);
            end = (at + record.len()) as u64;
            if worker.is_full() {
                sealed.extend(self.runtime.block_on(worker.seal())?);
            }
        }
        sealed.extend(self.runtime.block_on(worker.seal())?);
        (self.progress)(bytes.len() as u64);
        let mut counts = tally.counts();
        if let Some(last) = sealed.last_mut() {
            let mut prefix = self.identity.prefix.clone();
            prefix.update(&bytes[from as usize..end as usize]);
            last.marks = self.identity.marks(&prefix);
            counts.add(&self.runtime.block_on(land(self.lake, sealed))?.counts);
        }
        Ok(counts)
    }

    /// Hands a line to the worker; blank lines are no records. A line of which `bytes` is only the first part is rejected.
    /// `received` is one instant for a stretch of the file: the lines were all there when it was read, and equal instants
    /// cost nothing to store.
    fn push(&self, worker: &mut Worker, bytes: &[u8], length: u64, at: u64, received: Micros) {
        let (offset, next) = (at as i64, (at + length) as i64);
        if length > RECORD_BYTES_MAX as u64 {
            return self.reject(worker, bytes, length, (offset, next), received);
        }
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            return;
        }
        worker.push(
            self.partition(),
            &Record {
                tenant: &self.job.tenant,
                format: self.job.format,
                offset,
                next,
                bytes,
                headers: &[],
                received,
                trusted: false,
                mappings: None,
                again: None,
            },
        );
    }

    /// Rejects a line that is too long. The rejection covers all of it, and keeps its beginning.
    fn reject(&self, worker: &mut Worker, bytes: &[u8], length: u64, offsets: (i64, i64), received: Micros) {
        let key = canonical::tenant_key(&self.lake.secret(), &self.job.tenant);
        let redactor = Redactor::with_rules(key, self.job.settings.rules.clone());
        let detail = format!("a line of {length} bytes; the most is {RECORD_BYTES_MAX}");
        let rejection = redactor.reject("record_too_large", detail, &bytes[..bytes.len().min(RECORD_BYTES_MAX)]);
        let (tenant, format) = (&self.job.tenant, self.job.format);
        worker.push_rejection(self.partition(), offsets, tenant, format, rejection, received, false);
    }

    /// Commits segments as they are sealed, in the order of the file. `ends` hears of each in that order, and says what lands
    /// beside the position at its end.
    fn land_in_order<T>(
        &self,
        receive: mpsc::Receiver<Outcome<T>>,
        mut ends: impl FnMut(T) -> Vec<(String, i64)>,
    ) -> Result<Counts, FileError> {
        let (mut waiting, mut next, mut counts) = (BTreeMap::new(), 0, Counts::default());
        let mut failure = None;
        for (number, outcome) in receive {
            match outcome {
                Ok(outcome) if failure.is_none() => waiting.insert(number, outcome),
                Ok(_) => continue,
                Err(e) => {
                    self.failed.store(true, Ordering::Relaxed);
                    failure.get_or_insert(e);
                    continue;
                }
            };
            let mut ready = Vec::new();
            while let Some((mut sealed, segment)) = waiting.remove(&next) {
                let marks = ends(segment);
                if let Some(last) = sealed.last_mut() {
                    last.marks = marks;
                }
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
}

#[cfg(test)]
mod rotations;
#[cfg(test)]
mod tests;
