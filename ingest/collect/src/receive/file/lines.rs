//! Lines of any length in memory of one size.
//!
//! Guarantee: a line takes at most [`RECORD_BYTES_MAX`] and one byte of memory, however long it is; the rest is counted and
//! dropped while it is read.

use memchr::memchr;
use std::io::{self, BufRead};

/// One record; a longer line is rejected with its first part.
pub(super) const RECORD_BYTES_MAX: usize = 16 << 20;

/// A line as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Its first bytes; all of them unless it is too long.
    pub(super) bytes: Vec<u8>,
    /// All of its bytes, the end included.
    pub(super) length: u64,
}

impl Line {
    /// Forgets it, to begin the next.
    pub(super) fn clear(&mut self) {
        // One long line should not cost its memory for ever.
        if self.bytes.capacity() > RECORD_BYTES_MAX / 4 {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.length = 0;
    }

    /// Goes on over bytes.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        let room = (RECORD_BYTES_MAX + 1).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.length += bytes.len() as u64;
    }
}

/// Reads the next line, with its end; `false` when there is none.
pub(super) fn next(reader: &mut impl BufRead, line: &mut Line) -> io::Result<bool> {
    line.clear();
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(line.length > 0);
        }
        let end = memchr(b'\n', bytes).map(|at| at + 1);
        let used = end.unwrap_or(bytes.len());
        line.extend(&bytes[..used]);
        reader.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// Reads up to the next line, or over `most` bytes at least when none begins there; says how many were read.
pub(super) fn skip(reader: &mut impl BufRead, most: u64) -> io::Result<u64> {
    let mut skipped = 0;
    while skipped < most {
        let bytes = reader.fill_buf()?;
        let end = memchr(b'\n', bytes).map(|at| at + 1);
        let used = end.unwrap_or(bytes.len());
        reader.consume(used);
        skipped += used as u64;
        if end.is_some() || used == 0 {
            break;
        }
    }
    Ok(skipped)
}
