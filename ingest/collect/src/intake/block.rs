//! Entries of the intake log as bytes.
//!
//! Guarantee: what [`Batch`] wrote, [`Records`] reads back, entry by entry; bytes that no [`Batch`] wrote end the reading
//! early instead of panicking. Entries are final: redacted, and in the native form.
//!
//! ```text
//!  block:  version 1 | count u32 | received i64 | tenant (u16 length) | entry ...
//!  entry:  kind u8 (0 event or record of authority, 1 rejection, 2 aside) | format (u8 length) | fields, each with a u32 length
//! ```
//! Integers are little-endian.

use catena_decode::Format;
use catena_schemas::Micros;
use catena_schemas::rows::Rejection;
use parking_lot::Mutex;
use std::collections::HashSet;

const VERSION: u8 = 1;
/// A block that reached this is closed, and the next begun.
const BLOCK_BYTES: usize = 1 << 20;
const COUNT_AT: usize = 1;
const EVENT: u8 = 0;
const REJECTION: u8 = 1;
const ASIDE: u8 = 2;
/// Length of an absent field.
const ABSENT: u32 = u32::MAX;

/// Entries of one request, on their way into the log.
#[derive(Clone, Debug)]
pub struct Batch {
    head: Vec<u8>,
    blocks: Vec<(Vec<u8>, u32)>,
    /// Bytes of the blocks before the last.
    closed: usize,
}

impl Batch {
    /// An empty batch for a tenant.
    pub fn new(tenant: &str, received: Micros) -> Batch {
        let tenant = &tenant.as_bytes()[..tenant.len().min(usize::from(u16::MAX))];
        let mut head = vec![VERSION];
        head.extend(0u32.to_le_bytes());
        head.extend(received.0.to_le_bytes());
        head.extend((tenant.len() as u16).to_le_bytes());
        head.extend(tenant);
        Batch { head, blocks: Vec::new(), closed: 0 }
    }

    /// Adds an event or a record of authority, which `write` appends in its native form.
    pub fn event(&mut self, format: Format, write: impl FnOnce(&mut Vec<u8>)) {
        let out = self.entry(EVENT, format);
        let at = out.len();
        out.extend([0; 4]);
        write(out);
        let len = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Adds a rejection or an aside.
    pub fn rejection(&mut self, format: Format, rejection: &Rejection, aside: bool) {
        let out = self.entry(if aside { ASIDE } else { REJECTION }, format);
        field(out, Some(rejection.reason.as_bytes()));
        field(out, Some(rejection.detail.as_bytes()));
        field(out, rejection.raw.as_deref());
    }

    fn entry(&mut self, kind: u8, format: Format) -> &mut Vec<u8> {
        if self.blocks.last().is_none_or(|(bytes, _)| bytes.len() >= BLOCK_BYTES) {
            self.closed += self.blocks.last().map_or(0, |(bytes, _)| bytes.len());
            self.blocks.push((self.head.clone(), 0));
        }
        let (out, count) = self.blocks.last_mut().expect("one was pushed if there was none");
        *count += 1;
        out[COUNT_AT..COUNT_AT + 4].copy_from_slice(&count.to_le_bytes());
        out.push(kind);
        let format = format.as_str();
        out.push(format.len() as u8);
        out.extend(format.as_bytes());
        out
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.closed + self.blocks.last().map_or(0, |(bytes, _)| bytes.len())
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Entries.
    pub fn count(&self) -> u64 {
        self.blocks.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    pub(super) fn blocks(&self) -> impl Iterator<Item = (&[u8], u32)> {
        self.blocks.iter().map(|(bytes, count)| (bytes.as_slice(), *count))
    }
}

fn field(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            out.extend((value.len() as u32).to_le_bytes());
            out.extend(value);
        }
        None => out.extend(ABSENT.to_le_bytes()),
    }
}

/// Entries of a block; `None` when it is none.
pub(super) fn count(block: &[u8]) -> Option<u32> {
    let mut reader = Reader(block);
    (reader.take(1)? == [VERSION]).then_some(())?;
    reader.u32()
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<'a> {
    /// Where it stands.
    pub offset: u64,
    /// Whose it is.
    pub tenant: &'a str,
    /// When it was received.
    pub received: Micros,
    /// Which decoder read it.
    pub format: Format,
    /// What it became.
    pub body: Body<'a>,
}

/// What a received record became.
#[derive(Clone, Debug, PartialEq)]
pub enum Body<'a> {
    /// A decision, an execution or a record of authority, as native JSON.
    Event(&'a [u8]),
    /// Bytes that could not be read.
    Rejection(Rejection),
    /// A record of a known kind that is not a decision.
    Aside(Rejection),
}

/// Reads the entries of a block.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    reader: Reader<'a>,
    tenant: &'a str,
    received: Micros,
    offset: u64,
    left: u32,
}

impl<'a> Records<'a> {
    pub(super) fn new(block: &'a [u8], offset: u64) -> Records<'a> {
        let mut reader = Reader(block);
        let head = (|| {
            reader.take(1)?;
            let count = reader.u32()?;
            let received = i64::from_le_bytes(reader.take(8)?.try_into().ok()?);
            let len = u16::from_le_bytes(reader.take(2)?.try_into().ok()?);
            Some((count, Micros(received), std::str::from_utf8(reader.take(usize::from(len))?).ok()?))
        })();
        let (left, received, tenant) = head.unwrap_or_default();
        Records { reader, tenant, received, offset, left }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        let offset = self.offset;
        self.offset += 1;
        let kind = self.reader.take(1)?[0];
        let len = self.reader.take(1)?[0];
        let format =
            Format::parse(std::str::from_utf8(self.reader.take(usize::from(len))?).ok()?).unwrap_or(Format::Catena);
        let body = match kind {
            EVENT => Body::Event(self.reader.field()??),
            REJECTION | ASIDE => {
                let rejection = Rejection {
                    reason: reason(std::str::from_utf8(self.reader.field()??).ok()?),
                    detail: String::from_utf8_lossy(self.reader.field()??).into_owned(),
                    raw: self.reader.field()?.map(<[u8]>::to_vec),
                    // Each has an offset of its own.
                    index: 0,
                };
                if kind == ASIDE { Body::Aside(rejection) } else { Body::Rejection(rejection) }
            }
            _ => return None,
        };
        Some(Record { offset, tenant: self.tenant, received: self.received, format, body })
    }
}

#[derive(Clone, Debug)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn field(&mut self) -> Option<Option<&'a [u8]>> {
        match self.u32()? {
            ABSENT => Some(None),
            len => self.take(len as usize).map(Some),
        }
    }
}

/// Reason codes are a closed set written by the decoders; a log may have been written by a later version, so an unknown
/// one is kept for the life of the process. More than a few hundred can only be damage.
fn reason(code: &str) -> &'static str {
    static KNOWN: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    const KNOWN_MAX: usize = 512;
    let mut known = KNOWN.lock();
    let known = known.get_or_insert_default();
    if let Some(code) = known.get(code) {
        return code;
    }
    if known.len() >= KNOWN_MAX {
        return "reason_unknown";
    }
    let code: &'static str = Box::leak(code.to_owned().into_boxed_str());
    known.insert(code);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(raw: Option<&[u8]>) -> Rejection {
        Rejection { reason: "json_invalid", detail: "at byte 3".into(), raw: raw.map(<[u8]>::to_vec), index: 0 }
    }

    #[test]
    fn what_was_written_is_read() {
        let mut batch = Batch::new("acme", Micros(7));
        batch.event(Format::Opa, |out| out.extend(b"{\"id\":1}"));
        batch.rejection(Format::Catena, &rejection(Some(b"{x")), false);
        batch.rejection(Format::Cerbos, &rejection(None), true);
        let blocks: Vec<_> = batch.blocks().collect();
        assert_eq!((blocks.len(), batch.count(), count(blocks[0].0)), (1, 3, Some(3)));
        let records: Vec<_> = Records::new(blocks[0].0, 40).collect();
        let place = |offset, format, body| Record { offset, tenant: "acme", received: Micros(7), format, body };
        assert_eq!(
            records,
            [
                place(40, Format::Opa, Body::Event(b"{\"id\":1}")),
                place(41, Format::Catena, Body::Rejection(rejection(Some(b"{x")))),
                place(42, Format::Cerbos, Body::Aside(rejection(None))),
            ]
        );
    }

    #[test]
    fn long_batches_become_several_blocks() {
        let mut batch = Batch::new("t", Micros(1));
        for _ in 0..5 {
            batch.event(Format::Catena, |out| out.resize(out.len() + BLOCK_BYTES / 2, b'x'));
        }
        assert_eq!(batch.blocks().map(|(_, n)| n).collect::<Vec<_>>(), [2, 2, 1]);
        let lens: Vec<_> =
            batch.blocks().flat_map(|(b, _)| Records::new(b, 0).collect::<Vec<_>>()).map(|r| r.body).collect();
        assert!(lens.iter().all(|b| matches!(b, Body::Event(e) if e.len() == BLOCK_BYTES / 2)));
    }

    #[test]
    fn damage_never_panics() {
        let mut batch = Batch::new("acme", Micros(7));
        batch.event(Format::Opa, |out| out.extend(b"{\"id\":1}"));
        batch.rejection(Format::Catena, &rejection(Some(b"{x")), false);
        let block = batch.blocks().next().unwrap().0.to_vec();
        for cut in 0..block.len() {
            let _ = count(&block[..cut]);
            let _ = Records::new(&block[..cut], 0).count();
        }
        for at in 0..block.len() {
            for bit in 0..8 {
                let mut damaged = block.clone();
                damaged[at] ^= 1 << bit;
                let _ = Records::new(&damaged, 0).count();
            }
        }
    }
}
