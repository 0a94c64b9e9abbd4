//! Chains of a tenant that has more decisions than fit into memory: told apart into parts that do.
//!
//! Guarantee: every chain stands in one part, whole; so a part is rebuilt as if the others were not there, and all parts
//! together are what a rebuild at once would be. What is held for that is six bytes a decision, and for each name by which a
//! chain can be asked for four bytes in the part that has it; what ties decisions to each other is sorted on disk. A chain
//! that does not fit alone is an error that says so.

use super::facts::{self, Reader};
use super::sections::EVENT_BYTES;
use crate::engine::Engine;
use crate::error::{Code, QueryError};
use crate::log::DataFile;
use catena_analysis::chain::Settings;
use catena_analysis::chain::rules::Terms;
use catena_analysis::chain::rules::ties::{Groups, Naming, Tie, Ties, Witnesses};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// Bytes of facts that are held while decisions are told apart.
const HELD_BYTES: usize = 128 << 20;
/// Bytes that each decision takes meanwhile, and afterwards two of them.
const PLAN_BYTES: u64 = 6;
/// Piles that what ties decisions is sorted in.
const PILES_BITS: u32 = 6;
/// A part may take so much of what all chains may: one is held while the next is made.
const SHARE: u64 = 2;

/// Which decision stands in which part.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Decisions and records of authority that this was made of.
    pub(super) files: Vec<Arc<DataFile>>,
    /// Of those the decisions, in the order in which rows are numbered.
    pub(super) decisions: Vec<Arc<DataFile>>,
    pub(super) terms: Arc<Terms>,
    pub(super) witnesses: Arc<Witnesses>,
    part_of: Vec<u16>,
    parts: Vec<Part>,
    naming: Naming,
}

#[derive(Debug, Default)]
struct Part {
    rows: u64,
    /// Upper halves of the digests of its names, in order.
    names: Vec<u32>,
}

impl Plan {
    pub(super) fn parts(&self) -> u16 {
        self.parts.len() as u16
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> u64 {
        let names: usize = self.parts.iter().map(|part| part.names.len()).sum();
        (self.part_of.len() * size_of::<u16>() + names * size_of::<u32>()) as u64
    }

    /// Decisions of a part.
    pub(super) fn rows(&self, part: u16) -> u64 {
        self.parts[part as usize].rows
    }

    pub(super) fn has(&self, part: u16, row: u32) -> bool {
        self.part_of.get(row as usize) == Some(&part)
    }

    /// Whether a name can mean a chain of a part; it need not. The id of a chain can mean one of any part.
    pub(super) fn may_have(&self, part: u16, name: &str) -> bool {
        name.starts_with("c-")
            || self.parts[part as usize].names.binary_search(&((self.naming.of(name) >> 32) as u32)).is_ok()
    }
}

/// Records under digests, in piles on disk.
struct Piles<const N: usize>(Vec<BufWriter<File>>);

impl<const N: usize> Piles<N> {
    fn new(folder: Option<&Path>) -> io::Result<Piles<N>> {
        let file = || folder.map_or_else(tempfile::tempfile, tempfile::tempfile_in).map(BufWriter::new);
        Ok(Piles((0..1 << PILES_BITS).map(|_| file()).collect::<io::Result<_>>()?))
    }

    fn put(&mut self, digest: u64, record: [u8; N]) -> io::Result<()> {
        let pile = &mut self.0[(digest >> (64 - PILES_BITS)) as usize];
        pile.write_all(&digest.to_le_bytes())?;
        pile.write_all(&record)
    }

    /// Each pile, in order, and within it digests in order.
    fn each(self, mut then: impl FnMut(Vec<(u64, [u8; N])>)) -> io::Result<()> {
        for pile in self.0 {
            let mut file = pile.into_inner().map_err(io::IntoInnerError::into_error)?;
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
            let record = |bytes: &[u8]| (word(&bytes[..8]), bytes[8..].try_into().expect("a record"));
            let mut records: Vec<(u64, [u8; N])> = bytes.chunks_exact(8 + N).map(record).collect();
            drop(bytes);
            records.sort_unstable();
            then(records);
        }
        Ok(())
    }
}

/// What came of telling apart.
enum Parted {
    /// The part of each row, and the parts.
    Into(Vec<u16>, Vec<Part>),
    /// So many decisions belong together, more than a part may have.
    TooLarge(u64),
}

/// What ties the decisions of a tenant.
struct Sorting {
    keys: Piles<4>,
    near: Piles<20>,
    names: Piles<4>,
    rows: u32,
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes"))
}

/// So that they sort as bytes.
fn time_bytes(time_us: i64) -> [u8; 8] {
    (time_us.wrapping_sub(i64::MIN) as u64).to_be_bytes()
}

fn time(bytes: &[u8]) -> i64 {
    (u64::from_be_bytes(bytes.try_into().expect("eight bytes")) as i64).wrapping_add(i64::MIN)
}

impl Sorting {
    fn new(folder: Option<&Path>) -> io::Result<Sorting> {
        Ok(Sorting { keys: Piles::new(folder)?, near: Piles::new(folder)?, names: Piles::new(folder)?, rows: 0 })
    }

    fn put(&mut self, row: u32, tie: Tie) -> io::Result<()> {
        self.rows = self.rows.max(row + 1);
        match tie {
            Tie::Key(key) => self.keys.put(key, row.to_be_bytes()),
            Tie::Name(name) => self.names.put(name, row.to_be_bytes()),
            Tie::Near { key, time_us, gap_us } => {
                let mut record = [0; 20];
                record[..8].copy_from_slice(&time_bytes(time_us));
                record[8..12].copy_from_slice(&row.to_be_bytes());
                record[12..].copy_from_slice(&gap_us.to_be_bytes());
                self.near.put(key, record)
            }
        }
    }

    /// `room` is how many rows a part may have.
    fn parts(self, room: u64) -> io::Result<Parted> {
        let mut groups = Groups::new(self.rows as usize);
        self.keys.each(|records| {
            for pair in records.windows(2).filter(|w| w[0].0 == w[1].0) {
                groups.join(number(&pair[0].1), number(&pair[1].1));
            }
        })?;
        self.near.each(|records| {
            for pair in records.windows(2).filter(|w| w[0].0 == w[1].0) {
                let (before, after) = (&pair[0].1, &pair[1].1);
                let gap = i64::from_be_bytes(after[12..].try_into().expect("eight bytes"));
                if time(&after[..8]).saturating_sub(time(&before[..8])) <= gap {
                    groups.join(number(&before[8..12]), number(&after[8..12]));
                }
            }
        })?;
        let mut sizes = vec![0u32; self.rows as usize];
        (0..self.rows).for_each(|row| sizes[groups.of(row) as usize] += 1);
        if let Some(most) = sizes.iter().copied().max().map(u64::from).filter(|most| *most > room) {
            return Ok(Parted::TooLarge(most));
        }
        // Who came early stands beside who came early, so that a part is read from few files.
        let mut parts = vec![Part::default()];
        let mut part_of = vec![0u16; self.rows as usize];
        for row in 0..self.rows {
            let first = groups.of(row);
            if first == row {
                let size = u64::from(sizes[row as usize]);
                if parts.last().is_some_and(|p| p.rows + size > room) {
                    parts.push(Part::default());
                }
                parts.last_mut().expect("there is one").rows += size;
                part_of[row as usize] = u16::try_from(parts.len() - 1).unwrap_or(u16::MAX);
            } else {
                part_of[row as usize] = part_of[first as usize];
            }
        }
        self.names.each(|records| {
            for (name, row) in records {
                let (name, names) = ((name >> 32) as u32, &mut parts[part_of[number(&row) as usize] as usize].names);
                if names.last() != Some(&name) {
                    names.push(name);
                }
            }
        })?;
        Ok(Parted::Into(part_of, parts))
    }
}

impl Engine {
    /// Tells the chains of a tenant apart.
    pub(super) async fn plan(
        &self,
        files: Vec<Arc<DataFile>>,
        decisions: Vec<Arc<DataFile>>,
        terms: Terms,
    ) -> Result<Plan, QueryError> {
        let (rows, may_take): (u64, u64) =
            (decisions.iter().filter_map(|f| f.rows).sum(), self.options().chains_bytes as u64);
        let too_many = |what: String, needed: u64| {
            let message = format!(
                "{what} need about {} MiB at once, more than {} MiB; raise `query.chains_bytes`",
                needed.div_ceil(1 << 20),
                may_take >> 20
            );
            QueryError::new(Code::Memory, message)
        };
        if rows.saturating_mul(PLAN_BYTES) > may_take || rows > u64::from(u32::MAX) {
            return Err(too_many(format!("chains of {rows} decisions"), rows.saturating_mul(PLAN_BYTES)));
        }
        tracing::info!(decisions = rows, "chains do not fit into memory at once: they are told apart first");
        let exchanged = terms.book.exchanged();
        let mut batches = self.scan(decisions.clone(), facts::columns(), None, facts::Rows::of);
        let (threads, spill) = (self.options().threads, self.options().spill.clone());
        let sorted = tokio::task::spawn_blocking(move || {
            let failed = |error: io::Error| {
                QueryError::new(Code::Memory, format!("chains could not be told apart on disk: {error}"))
            };
            let mut sorting = Sorting::new(spill.as_deref()).map_err(failed)?;
            let mut ties = Ties::new(Settings::default(), &exchanged);
            let mut reader = Reader::new(threads);
            while let Some(rows) = batches.blocking_recv() {
                let mut rows = rows?;
                let numbers = std::mem::take(&mut rows.numbers);
                reader.name(rows, &mut ties)?.tell(&mut ties);
                let mut put = Ok(());
                ties.ask(|nth, tie| {
                    if put.is_ok() {
                        put = sorting.put(numbers[nth], tie);
                    }
                });
                put.map_err(failed)?;
                if ties.bytes() > HELD_BYTES {
                    ties.forget();
                    reader = Reader::new(threads);
                }
            }
            let (naming, witnesses) = ties.finish();
            let parts = sorting.parts(may_take / SHARE / EVENT_BYTES).map_err(failed)?;
            Ok::<_, QueryError>((parts, naming, witnesses))
        });
        let sorted = sorted.await.map_err(|_| QueryError::new(Code::Internal, "chains could not be told apart"))?;
        let (parts, naming, witnesses) = sorted?;
        let (part_of, parts) = match parts {
            Parted::Into(part_of, parts) => (part_of, parts),
            Parted::TooLarge(most) => {
                return Err(too_many(format!("{most} decisions that belong together"), most * EVENT_BYTES * SHARE));
            }
        };
        if parts.len() >= usize::from(u16::MAX) {
            let message = format!(
                "chains of {rows} decisions would come in {} parts, more than are kept apart; raise `query.chains_bytes`",
                parts.len()
            );
            return Err(QueryError::new(Code::Memory, message));
        }
        let (terms, witnesses) = (Arc::new(terms), Arc::new(witnesses));
        Ok(Plan { files, decisions, terms, witnesses, part_of, parts, naming })
    }
}
