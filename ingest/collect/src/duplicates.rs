//! The memory that recognises a record sent again.
//!
//! Guarantee: of two facts (decisions, executions, records of authority) with the same tenant, record and content that
//! both lie within the last [`Window`] of facts, only the first is unmarked. Contents are 128 bits of SHA-256, so nobody can make two different facts look
//! the same. A flush that does not land takes its contents back out. What another process commits while a flush is being
//! encoded is not seen by it: a record sent to two collectors within that moment shows twice. A process that starts
//! remembers what stands in the newest files, not the whole window of the one before it. A damaged file is passed over.

use crate::commit::DataFile;
use crate::lake::{Lake, LakeError};
use catena_lake::parquet_file::{check_bytes, guarded};
use catena_lake::width;
use catena_schemas::canonical::{self, LeafEncoder};
use catena_schemas::table::Class;
use hashbrown::HashSet;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// Contents are uniform already: their low half is the hash.
#[derive(Debug, Default)]
pub struct Uniform(u64);

impl Hasher for Uniform {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only u128 is hashed")
    }

    fn write_u128(&mut self, i: u128) {
        self.0 = i as u64;
    }
}

type Contents = HashSet<u128, BuildHasherDefault<Uniform>>;

/// Two generations of contents: when the younger is full it becomes the older, and the older is forgotten.
#[derive(Debug)]
pub struct Window {
    young: Contents,
    old: Contents,
    generation_max: usize,
}

impl Window {
    /// Remembers at least the last `size` contents, at most twice as many; 0 remembers nothing.
    pub fn new(size: usize) -> Window {
        Window { young: Contents::default(), old: Contents::default(), generation_max: size }
    }

    /// Remembers a content; false when it was known.
    pub fn insert(&mut self, content: u128) -> bool {
        if self.generation_max == 0 {
            return true;
        }
        if self.old.contains(&content) || !self.young.insert(content) {
            return false;
        }
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        true
    }

    /// Forgets a content that did not land after all.
    pub fn remove(&mut self, content: u128) {
        if !self.young.remove(&content) {
            self.old.remove(&content);
        }
    }
}

/// The window of a process, shared by its workers, and fed with what other processes commit.
#[derive(Debug)]
pub struct Duplicates {
    window: Mutex<Window>,
    size: usize,
    /// Held while the window is filled from the lake, so that it happens once.
    primed: tokio::sync::Mutex<bool>,
}

/// Decisions that are remembered unless settings say otherwise: about 64 MB.
pub const WINDOW_DECISIONS: usize = 1_000_000;

/// Decisions that are read back from the lake at the start: what fits into a second, since nothing is received meanwhile.
const PRIMED_MAX: usize = 200_000;

impl Default for Duplicates {
    fn default() -> Self {
        Duplicates::new(WINDOW_DECISIONS)
    }
}

impl Duplicates {
    /// Remembers at least the last `size` decisions; 0 switches recognition off.
    pub fn new(size: usize) -> Duplicates {
        Duplicates { window: Mutex::new(Window::new(size)), size, primed: tokio::sync::Mutex::new(false) }
    }

    /// Takes in what the lake holds that this process did not write: at first its newest files, afterwards what others have
    /// committed since.
    pub async fn learn(&self, lake: &Lake) -> Result<(), LakeError> {
        if self.size == 0 {
            return Ok(());
        }
        let mut primed = self.primed.lock().await;
        // Asking for a position makes the lake read what others have committed.
        lake.position("").await?;
        let mut files = lake.take_foreign().await;
        if !*primed {
            let mut left = self.size.min(PRIMED_MAX) as u64;
            files = lake.files().await;
            files.retain(|f| {
                let wanted = left > 0 && holds_facts(f);
                left = if wanted { left.saturating_sub(f.rows) } else { left };
                wanted
            });
            files.reverse();
        }
        for file in files.iter().filter(|f| holds_facts(f)) {
            let contents = match contents_of(lake, file).await {
                // A damaged file must not stop what comes in. What it held is not recognised when it is sent again.
                Err(LakeError::DataFile { path, source }) => {
                    tracing::error!(path, error = %source, "damaged data file; its records are not recognised when sent again");
                    continue;
                }
                contents => contents?,
            };
            let mut window = self.window.lock();
            contents.into_iter().for_each(|c| {
                window.insert(c);
            });
        }
        *primed = true;
        Ok(())
    }
}

/// Whether rows of a file can be sent twice.
fn holds_facts(file: &DataFile) -> bool {
    file.partition.get("class").and_then(|c| Class::parse(c)).is_some_and(Class::is_fact)
}

/// Bytes of rows that are read at once.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// The contents of a file's rows, recomputed.
async fn contents_of(lake: &Lake, file: &DataFile) -> Result<Vec<u128>, LakeError> {
    let tenant = file.partition.get("tenant").cloned().unwrap_or_default();
    let bytes = lake.get(&file.path).await?;
    let unreadable = |source| LakeError::DataFile { path: file.path.clone(), source };
    check_bytes(&bytes).map_err(unreadable)?;
    let mut leaf = LeafEncoder::new(canonical::tenant_key(&lake.secret(), &tenant));
    let rows = width::batch_rows(file.row_bytes, BATCH_BYTES_MAX, 8192);
    let read = || {
        let mut contents = Vec::with_capacity(file.rows as usize);
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.with_batch_size(rows).build()? {
            let batch = batch?;
            contents.extend((0..batch.num_rows()).map(|row| leaf.row(&tenant, &batch, row).content));
        }
        Ok(contents)
    };
    guarded(read).map_err(unreadable)
}

/// The contents that a flush adds to the window: kept when it lands, taken out again when it is dropped before.
#[derive(Debug)]
pub struct Landing {
    /// The window.
    pub duplicates: Arc<Duplicates>,
    contents: Vec<u128>,
}

impl Landing {
    /// For a flush that begins.
    pub fn new(duplicates: Arc<Duplicates>) -> Landing {
        Landing { duplicates, contents: Vec::new() }
    }

    /// Adds a content; false when it was known.
    pub fn insert(&mut self, content: u128) -> bool {
        let new = self.duplicates.window.lock().insert(content);
        if new {
            self.contents.push(content);
        }
        new
    }

    /// The flush is in the lake.
    pub fn landed(mut self) {
        self.contents.clear();
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut window = self.duplicates.window.lock();
        self.contents.drain(..).for_each(|c| window.remove(c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_ones() {
        let mut window = Window::new(4);
        assert!((0..8).all(|c| window.insert(c)));
        assert!((4..8).all(|c| !window.insert(c)));
        assert!((8..12).all(|c| window.insert(c)));
        assert!(window.insert(0), "older than two generations");
        window.remove(0);
        assert!(window.insert(0));
    }
}
