//! An open file while it is followed: where it was read to, and the line that has no end yet.
//!
//! Guarantee: bytes are taken only after those before them were compared with what was read. Memory is one record at most,
//! and a window of what was read last.

use super::lines::{Line, RECORD_BYTES_MAX};
use super::open::{Cursor, Place};
use super::prefix::Prefix;
use super::source::Identity;
use super::{Ingestion, key_lines};
use crate::worker::Worker;
use catena_schemas::Micros;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

/// Bytes read at once.
const CHUNK: usize = 4 << 20;
/// Bytes before the next ones that are compared each time.
const WINDOW: usize = 64 << 10;

/// An open file that is followed.
pub(super) struct Tail {
    pub(super) file: Arc<File>,
    pub(super) place: Place,
    /// Known from its first whole line on.
    pub(super) identity: Option<Identity>,
    pub(super) worker: Worker,
    /// What lies before `line`.
    pub(super) prefix: Prefix,
    /// The last line, without its end so far; and what lies before its end, when it is too long to be kept.
    pub(super) line: Line,
    pub(super) long: Option<Prefix>,
    pub(super) read_to: u64,
    /// The last bytes before `read_to`.
    pub(super) window: Vec<u8>,
    pub(super) grown: Instant,
}

impl Tail {
    pub(super) fn new(file: Arc<File>, place: Place, worker: Worker, nothing: Prefix) -> Tail {
        Tail {
            file,
            place,
            identity: None,
            worker,
            prefix: nothing,
            line: Line::default(),
            long: None,
            read_to: 0,
            window: Vec::new(),
            grown: Instant::now(),
        }
    }

    /// Goes on where the lake stands.
    pub(super) fn begin(&mut self, identity: Identity) -> io::Result<()> {
        let at = identity.prefix.at();
        self.worker.begin(&identity.partition, at as i64);
        let block = key_lines::before(at, |start| Cursor { file: self.file.clone(), at: start })?;
        self.worker.begin_within(&identity.partition, block);
        self.prefix = identity.prefix.clone();
        self.read_to = self.prefix.at();
        self.line.clear();
        let before = self.read_to.min(WINDOW as u64);
        self.window = vec![0; before as usize];
        self.file.read_exact_at(&mut self.window, self.read_to - before)?;
        self.identity = Some(identity);
        Ok(())
    }

    /// Reads the next bytes.
    pub(super) fn read(&self, into: &mut Vec<u8>) -> io::Result<()> {
        let left = self.file.metadata()?.len().saturating_sub(self.read_to);
        into.reserve(CHUNK.min(left as usize));
        let cursor = Cursor { file: self.file.clone(), at: self.read_to };
        cursor.take(CHUNK as u64).read_to_end(into)?;
        Ok(())
    }

    /// Whether the file still holds what was read of it: its first bytes, and the last ones. The digest of all of them is
    /// compared when it is opened.
    pub(super) fn holds_what_was_read(&self) -> io::Result<bool> {
        let (head, before) = (self.prefix.head(), self.window.len().min(WINDOW));
        let mut now = vec![0; before.max(head.len())];
        let mut same = |at: u64, bytes: &[u8]| match self.file.read_exact_at(&mut now[..bytes.len()], at) {
            Ok(()) => Ok(now[..bytes.len()] == *bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        };
        Ok(same(self.read_to - before as u64, &self.window[self.window.len() - before..])? && same(0, head)?)
    }

    /// Goes on over a part of a line.
    pub(super) fn extend(&mut self, part: &[u8]) {
        if part.is_empty() {
            return;
        }
        if self.line.length + part.len() as u64 > RECORD_BYTES_MAX as u64 {
            let (prefix, line) = (&self.prefix, &self.line);
            let long = self.long.get_or_insert_with(|| {
                let mut long = prefix.clone();
                long.update(&line.bytes);
                long
            });
            long.update(part);
        }
        self.line.extend(part);
    }

    /// Pushes the line.
    pub(super) fn end_line(&mut self, run: &Ingestion<'_>, received: Micros) {
        run.push(&mut self.worker, &self.line.bytes, self.line.length, self.prefix.at(), received);
        match self.long.take() {
            Some(long) => self.prefix = long,
            None => self.prefix.update(&self.line.bytes),
        }
        self.line.clear();
    }

    /// Bytes were taken.
    pub(super) fn passed(&mut self, bytes: &[u8]) {
        self.read_to += bytes.len() as u64;
        if bytes.len() >= WINDOW {
            self.window.clear();
        }
        self.window.extend_from_slice(&bytes[bytes.len().saturating_sub(WINDOW)..]);
        if self.window.len() > 4 * WINDOW {
            self.window.drain(..self.window.len() - WINDOW);
        }
        self.grown = Instant::now();
    }
}
