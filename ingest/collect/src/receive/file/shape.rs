//! What a file is made of: lines, packed lines, or one document.

use super::open::{Cursor, open};
use catena_decode::frame::{self, Packing};
use memchr::memchr;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

/// A document that is not line by line is read whole.
pub(super) const DOCUMENT_BYTES_MAX: usize = 256 << 20;
/// How much of a file is looked at to see what it is.
const LOOK_BYTES: u64 = 64 << 10;

/// A file that was opened and looked at.
pub(super) struct Input {
    /// `None` for standard input.
    pub(super) file: Option<Arc<std::fs::File>>,
    pub(super) shape: Shape,
}

pub(super) enum Shape {
    /// One record a line, uncompressed: can be cut anywhere.
    Plain { length: u64 },
    /// One record a line, compressed or from a pipe.
    Stream(Box<dyn Read + Send>),
    /// One JSON document over many lines, or an array.
    Document(Vec<u8>),
}

impl Input {
    /// Opens a file that somebody named by hand, so that it may be a symbolic link; `-` is standard input.
    pub(super) fn open(path: &Path) -> io::Result<Input> {
        if path.as_os_str() == "-" {
            let (stream, _) = unpacked(Box::new(io::stdin()))?;
            return Ok(Input { file: None, shape: shape(stream, None)? });
        }
        let file = Arc::new(open(path, true)?);
        let (stream, compressed) = unpacked(Box::new(Cursor { file: file.clone(), at: 0 }))?;
        let length = if compressed { None } else { Some(file.metadata()?.len()) };
        Ok(Input { file: Some(file), shape: shape(stream, length)? })
    }
}

/// The content of a file, from its beginning, unpacked.
pub(super) fn content(file: &Arc<std::fs::File>) -> io::Result<Box<dyn Read + Send>> {
    Ok(unpacked(Box::new(Cursor { file: file.clone(), at: 0 }))?.0)
}

fn unpacked(mut raw: Box<dyn Read + Send>) -> io::Result<(Box<dyn Read + Send>, bool)> {
    let mut magic = Vec::with_capacity(4);
    (&mut raw).take(4).read_to_end(&mut magic)?;
    let packed = io::Cursor::new(magic.clone()).chain(raw);
    Ok(match Packing::of(&magic) {
        Packing::Gzip => (Box::new(flate2::read::MultiGzDecoder::new(packed)), true),
        Packing::Zstd => (Box::new(zstd::Decoder::new(packed)?), true),
        Packing::Plain => (Box::new(packed), false),
    })
}

/// `plain` is the length of a file that can be cut.
fn shape(mut stream: Box<dyn Read + Send>, plain: Option<u64>) -> io::Result<Shape> {
    let mut head = Vec::with_capacity(LOOK_BYTES as usize);
    (&mut stream).take(LOOK_BYTES).read_to_end(&mut head)?;
    let document = is_document(&head);
    let mut stream = io::Cursor::new(head).chain(stream);
    if !document {
        return Ok(plain.map_or_else(|| Shape::Stream(Box::new(stream)), |length| Shape::Plain { length }));
    }
    let mut bytes = Vec::new();
    (&mut stream).take(DOCUMENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let why =
            format!("one JSON document of more than {DOCUMENT_BYTES_MAX} bytes; write one record per line instead");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(Shape::Document(bytes))
}

/// Whether the file is one JSON document rather than one a line: an array, or an object whose first line does not end it.
pub(super) fn is_document(head: &[u8]) -> bool {
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

/// The records of one JSON document, with the byte at which each begins.
pub(super) fn document_records(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let records = frame::records(bytes);
    // An empty array is a record all the same: the decoder says what it is.
    if records.is_empty() { vec![(0, bytes.trim_ascii())] } else { records }
}
