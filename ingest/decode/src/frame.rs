//! Cuts bodies and files into records, and unpacks them before that.
//!
//! Guarantees: every byte that is not white space or the punctuation of an outer array stands in exactly one record, at the
//! offset given with it; what cannot be cut cleanly comes out as a record too, for the decoder to refuse with a reason.
//! Unpacking stops at a limit with a name. Nothing is held: the caller keeps what is left over and comes back with more.
//!
//! A body is one of three things, told by its first line: lines of JSON, one array whose items are the records, or
//! documents written over several lines.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{BufRead, Read};
use std::rc::Rc;

/// Bytes of one record beyond which it is handed on in pieces, unfinished as it is.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// The complete lines of a chunk, and what follows the last line break. Blank lines are skipped; `\r\n` is as good as `\n`.
/// Offsets count from the chunk's start.
pub fn lines(chunk: &[u8]) -> (Lines<'_>, &[u8]) {
    let end = memchr::memrchr(b'\n', chunk).map_or(0, |at| at + 1);
    (Lines { bytes: &chunk[..end], at: 0 }, &chunk[end..])
}

/// Lines with their offsets.
#[derive(Clone, Debug)]
pub struct Lines<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Iterator for Lines<'b> {
    type Item = (usize, &'b [u8]);

    fn next(&mut self) -> Option<(usize, &'b [u8])> {
        while self.at < self.bytes.len() {
            let start = self.at;
            let end = memchr::memchr(b'\n', &self.bytes[start..]).map_or(self.bytes.len(), |n| start + n);
            self.at = end + 1;
            let line = self.bytes[start..end].strip_suffix(b"\r").unwrap_or(&self.bytes[start..end]);
            if !line.iter().all(|b| is_space(*b)) {
                return Some((start, line));
            }
        }
        None
    }
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Not known yet, or between two arrays or documents.
    Open,
    Lines,
    /// Inside an outer array; whether an item must follow.
    Array {
        expecting: bool,
    },
    Documents,
}

/// Cuts a stream of chunks.
#[derive(Clone, Debug)]
pub struct Splitter {
    mode: Mode,
    offset: u64,
}

impl Default for Splitter {
    fn default() -> Self {
        Splitter { mode: Mode::Open, offset: 0 }
    }
}

impl Splitter {
    /// A splitter for a stream that goes on at an offset of which is known that a line starts there.
    pub fn lines_from(offset: u64) -> Splitter {
        Splitter { mode: Mode::Lines, offset }
    }

    /// Hands on the records that are complete in `chunk`, with their offsets in the stream, and returns how many bytes are
    /// done with: the caller puts the rest before the next chunk. With `last` everything is done with. A chunk of which
    /// nothing could be used must come back bigger.
    pub fn split<'b>(&mut self, chunk: &'b [u8], last: bool, each: &mut dyn FnMut(u64, &'b [u8])) -> usize {
        let mut at = 0;
        while at < chunk.len() {
            let rest = &chunk[at..];
            let used = match self.mode {
                Mode::Open => self.open(rest, last),
                Mode::Lines => self.lines(rest, last, self.offset, each),
                Mode::Array { expecting } => self.array(rest, last, expecting, each),
                Mode::Documents => self.document(rest, last, each),
            };
            match used {
                Some(used) => {
                    at += used;
                    self.offset += used as u64;
                }
                None if last || rest.len() >= RECORD_BYTES_MAX => {
                    if let Some(start) = rest.iter().position(|b| !is_space(*b)) {
                        each(self.offset + start as u64, trimmed(&rest[start..]));
                    }
                    at += rest.len();
                    self.offset += rest.len() as u64;
                }
                None => break,
            }
        }
        at
    }

    /// Looks at what comes: skips white space, then settles on a mode.
    fn open(&mut self, rest: &[u8], last: bool) -> Option<usize> {
        let Some(start) = rest.iter().position(|b| !is_space(*b)) else {
            // What stands before the record on its line belongs to it.
            return memchr::memrchr(b'\n', rest).map(|n| n + 1);
        };
        if rest[start] == b'[' {
            // A log in plain text may begin with a time in brackets.
            match rest[start + 1..].iter().find(|b| !is_space(**b)) {
                None if !last => return None,
                Some(b'{' | b'[' | b']') => {
                    self.mode = Mode::Array { expecting: false };
                    return Some(start + 1);
                }
                _ => {}
            }
        }
        let line = match memchr::memchr(b'\n', &rest[start..]) {
            Some(n) => &rest[start..start + n],
            None if last || rest.len() >= RECORD_BYTES_MAX => &rest[start..],
            None => return None,
        };
        let unfinished = rest[start] == b'{' && balance(line).is_none() && line.len() < rest.len() - start;
        self.mode = if unfinished { Mode::Documents } else { Mode::Lines };
        // The start of the line, so that offsets are those of lines.
        Some(memchr::memrchr(b'\n', &rest[..start]).map_or(0, |n| n + 1))
    }

    fn lines<'b>(
        &mut self,
        rest: &'b [u8],
        last: bool,
        offset: u64,
        each: &mut dyn FnMut(u64, &'b [u8]),
    ) -> Option<usize> {
        let (complete, tail) = lines(rest);
        let done = rest.len() - tail.len();
        complete.for_each(|(at, line)| each(offset + at as u64, line));
        if last && !tail.iter().all(|b| is_space(*b)) {
            each(offset + done as u64, tail.strip_suffix(b"\r").unwrap_or(tail));
            return Some(rest.len());
        }
        if last {
            return Some(rest.len());
        }
        (done > 0).then_some(done)
    }

    /// One item with the comma or bracket after it, or the closing bracket.
    fn array<'b>(
        &mut self,
        rest: &'b [u8],
        last: bool,
        expecting: bool,
        each: &mut dyn FnMut(u64, &'b [u8]),
    ) -> Option<usize> {
        let mut scan = Scan::default();
        let mut start = None;
        for (at, b) in rest.iter().enumerate() {
            if scan.outside() && matches!(b, b',' | b']') {
                let end = at;
                let start = start.unwrap_or(at);
                let item = trimmed(&rest[start..end]);
                // `[]` holds nothing; `[1,]` and `[,1]` hold something that is missing.
                if !item.is_empty() || expecting || *b == b',' {
                    each(self.offset + start as u64, item);
                }
                self.mode = if *b == b',' { Mode::Array { expecting: true } } else { Mode::Open };
                return Some(at + 1);
            }
            if start.is_none() && !is_space(*b) {
                start = Some(at);
            }
            scan.step(*b);
        }
        if last && let Some(start) = start {
            each(self.offset + start as u64, trimmed(&rest[start..]));
            return Some(rest.len());
        }
        None
    }

    /// One document of several lines.
    fn document<'b>(&mut self, rest: &'b [u8], _last: bool, each: &mut dyn FnMut(u64, &'b [u8])) -> Option<usize> {
        let Some(start) = rest.iter().position(|b| !is_space(*b)) else { return Some(rest.len()) };
        if rest[start] != b'{' {
            self.mode = Mode::Lines;
            return Some(start);
        }
        let end = start + balance(&rest[start..])?;
        each(self.offset + start as u64, &rest[start..end]);
        Some(end)
    }
}

/// Without the white space of JSON around it, and no other: a record begins where its offset says.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| !is_space(*b)).map_or(0, |at| at + 1);
    let start = bytes.iter().position(|b| !is_space(*b)).unwrap_or(end);
    &bytes[start..end]
}

/// Follows brackets and strings, without judging them.
#[derive(Default)]
struct Scan {
    depth: u32,
    string: bool,
    escape: bool,
}

impl Scan {
    fn outside(&self) -> bool {
        self.depth == 0 && !self.string
    }

    #[inline]
    fn step(&mut self, b: u8) {
        if self.string {
            match b {
                _ if self.escape => self.escape = false,
                b'\\' => self.escape = true,
                b'"' => self.string = false,
                _ => {}
            }
            return;
        }
        match b {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// Where the first bracket of the bytes is closed, one after.
fn balance(bytes: &[u8]) -> Option<usize> {
    let mut scan = Scan::default();
    for (at, b) in bytes.iter().enumerate() {
        scan.step(*b);
        if scan.outside() && matches!(b, b'}' | b']') {
            return Some(at + 1);
        }
    }
    None
}

/// The records of a whole body, with their offsets.
pub fn records(body: &[u8]) -> Vec<(usize, &[u8])> {
    let mut found = Vec::new();
    Splitter::default().split(body, true, &mut |at, record| found.push((at as usize, record)));
    found
}

/// The same of a body of at most so many records; `None` when it holds more. What is kept of each is larger than a small record.
pub fn records_up_to(body: &[u8], most: usize) -> Option<Vec<(usize, &[u8])>> {
    let (mut found, mut count) = (Vec::new(), 0);
    Splitter::default().split(body, true, &mut |at, record| {
        count += 1;
        if count <= most {
            found.push((at as usize, record));
        }
    });
    (count <= most).then_some(found)
}

/// How much a packed body may unpack to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes out.
    pub bytes_max: u64,
    /// Bytes out for each byte in, once more than [`RATIO_FREE_BYTES`] have come out.
    pub ratio_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes_max: u64::MAX, ratio_max: 100 }
    }
}

/// Bytes that may come out of any body, however well it was packed.
pub const RATIO_FREE_BYTES: u64 = 1 << 20;

/// Why a body was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// More than allowed.
    #[error("the body unpacks to more than {0} bytes")]
    TooLarge(u64),
    /// Packed so well that it must be a bomb.
    #[error("the body unpacks to more than {0} times its size")]
    Ratio(u64),
    /// What came out is packed again.
    #[error("the body is packed twice")]
    Nested,
    /// Not what its first bytes say, or cut off.
    #[error("the packed body is damaged")]
    Damaged(#[source] std::io::Error),
}

impl FrameError {
    /// Stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            FrameError::TooLarge(_) => "body_too_large",
            FrameError::Ratio(_) => "body_ratio",
            FrameError::Nested => "body_nested",
            FrameError::Damaged(_) => "body_damaged",
        }
    }
}

/// How a body is packed, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip, of one or more members.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Packing {
    /// By the first four bytes.
    pub fn of(head: &[u8]) -> Packing {
        match head {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// Unpacks a body, or returns it as it is.
pub fn decompress<'b>(body: &'b [u8], limits: &Limits) -> Result<Cow<'b, [u8]>, FrameError> {
    if Packing::of(body) == Packing::Plain {
        return match body.len() as u64 > limits.bytes_max {
            true => Err(FrameError::TooLarge(limits.bytes_max)),
            false => Ok(Cow::Borrowed(body)),
        };
    }
    let mut out = Vec::new();
    unpack(body, limits).and_then(|mut reader| reader.read_to_end(&mut out)).map_err(error)?;
    if Packing::of(&out) != Packing::Plain {
        return Err(FrameError::Nested);
    }
    Ok(Cow::Owned(out))
}

/// The named error inside an error of reading.
pub fn error(e: std::io::Error) -> FrameError {
    match e.downcast::<FrameError>() {
        Ok(named) => named,
        Err(other) => FrameError::Damaged(other),
    }
}

/// Unpacks a stream as it is read; it fails with a [`FrameError`] inside the [`std::io::Error`] when a limit is reached,
/// before the bytes beyond it are handed on.
pub fn unpack<'r>(mut packed: impl BufRead + 'r, limits: &Limits) -> std::io::Result<Box<dyn Read + 'r>> {
    let packing = Packing::of(packed.fill_buf()?);
    let limits = *limits;
    let taken = Rc::new(Cell::new(0));
    let counted = Counted { inner: packed, count: taken.clone() };
    let inner: Box<dyn Read + 'r> = match packing {
        Packing::Plain => Box::new(counted),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(counted)?),
    };
    Ok(Box::new(Limited { inner, limits, out: 0, taken: (packing != Packing::Plain).then_some(taken) }))
}

struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(into)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}

struct Limited<R> {
    inner: R,
    limits: Limits,
    out: u64,
    /// Packed bytes read so far; none when nothing is packed.
    taken: Option<Rc<Cell<u64>>>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(into)?;
        self.out += n as u64;
        if self.out > self.limits.bytes_max {
            return Err(std::io::Error::other(FrameError::TooLarge(self.limits.bytes_max)));
        }
        if self.out > RATIO_FREE_BYTES
            && let Some(taken) = &self.taken
            && self.out / self.limits.ratio_max > taken.get()
        {
            return Err(std::io::Error::other(FrameError::Ratio(self.limits.ratio_max)));
        }
        Ok(n)
    }
}
