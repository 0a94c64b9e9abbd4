//! Chains that left memory, found by their [`Footprints`].
//!
//! Guarantee: an event that shares a key with a chain that was laid to sleep finds it. One that shares none may find one
//! too, by a chance of digests: the chain is then recalled for nothing, and is what it was.

use super::Settings;
use super::footprints::{Begin, Footprints};
use super::store::Store;
use ahash::HashMap;
use std::mem::size_of;

/// A chain that sleeps.
#[derive(Debug)]
struct Sleeper {
    id: String,
    /// Its stretches of windows.
    windows: Vec<Begin>,
    /// Digests that were entered for it.
    digests: usize,
}

/// Chains that are not in memory.
#[derive(Debug, Default)]
pub(super) struct Asleep {
    /// By number; none where one woke. Numbers are not used again before the digests of who woke are swept out.
    sleepers: Vec<Option<Sleeper>>,
    by_id: HashMap<String, u32>,
    footprints: Footprints,
    /// Digests of chains that woke.
    stale: usize,
}

impl Asleep {
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The id of a sleeper.
    pub(super) fn id(&self, sleeper: u32) -> Option<&str> {
        self.sleepers[sleeper as usize].as_ref().map(|s| s.id.as_str())
    }

    /// Lays a chain to sleep.
    pub(super) fn lay(&mut self, id: &str, store: &Store, rows: &[u32], settings: &Settings) {
        let number = match self.by_id.get(id) {
            Some(number) => *number,
            None => {
                let number = u32::try_from(self.sleepers.len()).expect("fewer than four billion chains sleep");
                self.sleepers.push(Some(Sleeper { id: id.to_owned(), windows: Vec::new(), digests: 0 }));
                self.by_id.insert(id.to_owned(), number);
                number
            }
        };
        let left = self.footprints.leave(number, store, rows, settings);
        if let Some(sleeper) = &mut self.sleepers[number as usize] {
            sleeper.digests += left.digests;
            sleeper.windows.extend(left.windows);
        }
    }

    /// Tells which sleepers a row touches.
    pub(super) fn touched_by(&self, store: &Store, row: u32, settings: &Settings, mut then: impl FnMut(u32)) {
        self.footprints.touched_by(store, row, settings, |sleeper| {
            if self.sleepers[sleeper as usize].is_some() {
                then(sleeper);
            }
        });
    }

    /// Sleepers that showed a token.
    pub(super) fn that_showed(&self, token: &str) -> Vec<u32> {
        let mut all = Vec::new();
        self.footprints.that_showed(token, |sleeper| all.push(sleeper));
        all.retain(|sleeper| self.sleepers[*sleeper as usize].is_some());
        all
    }

    /// A chain wakes: its number, if it slept.
    pub(super) fn wake(&mut self, id: &str) -> Option<u32> {
        let number = self.by_id.remove(id)?;
        if let Some(sleeper) = self.sleepers[number as usize].take() {
            self.footprints.lift(&sleeper.windows);
            self.stale += sleeper.digests;
        }
        if self.stale > 1024 && self.stale > self.footprints.len() / 2 {
            let sleepers = &self.sleepers;
            self.footprints.sweep(|number| sleepers[number as usize].is_some());
            self.stale = 0;
        }
        Some(number)
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        const ID: usize = 24;
        self.footprints.bytes()
            + self.sleepers.capacity() * size_of::<Option<Sleeper>>()
            + self.by_id.capacity() * 8 / 7 * (size_of::<(String, u32)>() + 1)
            + self.by_id.len() * 2 * (ID + 16)
    }
}
