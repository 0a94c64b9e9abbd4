//! Keys of chains that left memory.
//!
//! Guarantee: an event that shares a key with a chain that was laid to sleep finds it. One that shares none may find one
//! too, by a chance of digests: the chain is then recalled for nothing, and is what it was.
//!
//! Digests are over texts, because they outlive the numbers of a store, and they hold for this process only.

use super::Settings;
use super::keys;
use super::store::{Row, Store};
use ahash::{HashMap, RandomState};
use hashbrown::HashTable;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;

/// What a digest is of, besides the kinds of keys.
const TOKEN: u8 = u8::MAX;

/// A chain that sleeps.
#[derive(Debug)]
struct Sleeper {
    id: String,
    /// Its stretches in `windows`.
    windows: Vec<(u64, i64)>,
    /// Digests that were entered for it.
    digests: usize,
}

/// Chains that are not in memory, by their keys.
#[derive(Debug, Default)]
pub(super) struct Asleep {
    /// By number; none where one woke. Numbers are not used again before the digests of who woke are swept out.
    sleepers: Vec<Option<Sleeper>>,
    by_id: HashMap<String, u32>,
    /// Digests, in two halves, and the chain that has them. A digest that several have (an id under different contents, a
    /// token) has the others in `further`.
    keys: HashTable<[u32; 3]>,
    further: BTreeSet<(u64, u32)>,
    /// Stretches of a window key: where each begins, where it ends, whose it is. Stretches of one key lie apart, or they
    /// would be one chain.
    windows: BTreeMap<(u64, i64), (i64, u32)>,
    /// Digests of chains that woke.
    stale: usize,
    hasher: RandomState,
}

fn whole(entry: &[u32; 3]) -> u64 {
    u64::from(entry[0]) << 32 | u64::from(entry[1])
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
        let mut digests = 0;
        // Neighbours share most of their keys.
        let mut before: Vec<u64> = Vec::new();
        let mut now: Vec<u64> = Vec::new();
        for row in rows {
            let r = store.row_at(*row);
            self.digests(store, r, |digest| now.push(digest));
            if r.token.is_some() {
                now.push(self.token(store.text(r.token)));
            }
            for digest in now.iter().filter(|d| !before.contains(d)) {
                digests += usize::from(self.enter(*digest, number));
            }
            std::mem::swap(&mut before, &mut now);
            now.clear();
        }
        let windows = self.stretches(store, rows, settings);
        for ((digest, from), to) in &windows {
            let end = self.windows.entry((*digest, *from)).or_insert((*to, number));
            *end = ((*to).max(end.0), number);
        }
        if let Some(sleeper) = &mut self.sleepers[number as usize] {
            sleeper.digests += digests;
            sleeper.windows.extend(windows.into_iter().map(|(begin, _)| begin));
        }
    }

    fn enter(&mut self, digest: u64, number: u32) -> bool {
        match self.keys.find(digest, |e| whole(e) == digest) {
            Some(entry) if entry[2] == number => false,
            Some(_) => self.further.insert((digest, number)),
            None => {
                self.keys.insert_unique(digest, [(digest >> 32) as u32, digest as u32, number], whole);
                true
            }
        }
    }

    /// Stretches of window keys without a silence, by their beginnings; and their ends.
    fn stretches(&self, store: &Store, rows: &[u32], settings: &Settings) -> Vec<((u64, i64), i64)> {
        let mut times: Vec<(u64, i64, i64)> = rows
            .iter()
            .filter_map(|row| {
                let r = store.row_at(*row);
                let (digest, gap) = self.window(store, r, settings)?;
                Some((digest, r.time, gap))
            })
            .collect();
        times.sort_unstable();
        let mut all: Vec<((u64, i64), i64)> = Vec::new();
        for (digest, time, gap) in times {
            match all.last_mut() {
                Some(((last, _), to)) if *last == digest && time.saturating_sub(*to) <= gap => *to = time,
                _ => all.push(((digest, time), time)),
            }
        }
        all
    }

    /// Tells which sleepers a row touches.
    pub(super) fn touched_by(&self, store: &Store, row: u32, settings: &Settings, mut then: impl FnMut(u32)) {
        let r = store.row_at(row);
        self.digests(store, r, |digest| self.all_of(digest, &mut then));
        let Some((digest, gap)) = self.window(store, r, settings) else { return };
        let before = self.windows.range((digest, i64::MIN)..=(digest, r.time)).next_back();
        let after = self.windows.range((digest, r.time)..=(digest, i64::MAX)).next();
        if let Some((_, (_, sleeper))) = before.filter(|(_, (to, _))| r.time.saturating_sub(*to) <= gap) {
            then(*sleeper);
        }
        if let Some((_, (_, sleeper))) = after.filter(|((_, from), _)| from.saturating_sub(r.time) <= gap) {
            then(*sleeper);
        }
    }

    /// Sleepers that showed a token.
    pub(super) fn that_showed(&self, token: &str) -> Vec<u32> {
        let mut all = Vec::new();
        self.all_of(self.token(token), |sleeper| all.push(sleeper));
        all
    }

    fn all_of(&self, digest: u64, mut then: impl FnMut(u32)) {
        let Some(first) = self.keys.find(digest, |e| whole(e) == digest) else { return };
        let further = self.further.range((digest, 0)..=(digest, u32::MAX)).map(|(_, sleeper)| *sleeper);
        for sleeper in std::iter::once(first[2]).chain(further) {
            if self.sleepers[sleeper as usize].is_some() {
                then(sleeper);
            }
        }
    }

    /// A chain wakes: its number, if it slept.
    pub(super) fn wake(&mut self, id: &str) -> Option<u32> {
        let number = self.by_id.remove(id)?;
        if let Some(sleeper) = self.sleepers[number as usize].take() {
            for begin in sleeper.windows {
                self.windows.remove(&begin);
            }
            self.stale += sleeper.digests;
        }
        if self.stale > 1024 && self.stale > (self.keys.len() + self.further.len()) / 2 {
            self.sweep();
        }
        Some(number)
    }

    /// Takes out the digests of chains that woke.
    fn sweep(&mut self) {
        let sleepers = &self.sleepers;
        let sleeps = |number: u32| sleepers[number as usize].is_some();
        self.keys.retain(|e| sleeps(e[2]));
        let further: Vec<(u64, u32)> =
            std::mem::take(&mut self.further).into_iter().filter(|(_, n)| sleeps(*n)).collect();
        self.stale = 0;
        // Whoever was behind one that woke is the first now.
        for (digest, number) in further {
            self.enter(digest, number);
        }
        self.keys.shrink_to_fit(whole);
    }

    fn digests(&self, store: &Store, row: &Row, mut then: impl FnMut(u64)) {
        keys::digests(&self.hasher, store, row, &mut then);
    }

    fn token(&self, token: &str) -> u64 {
        self.hasher.hash_one((TOKEN, token))
    }

    fn window(&self, store: &Store, row: &Row, settings: &Settings) -> Option<(u64, i64)> {
        keys::window_digest(&self.hasher, store, row, settings)
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        const ID: usize = 24;
        self.keys.capacity() * 8 / 7 * (size_of::<[u32; 3]>() + 1)
            + self.further.len() * size_of::<(u64, u32)>() * 3 / 2
            + self.windows.len() * size_of::<((u64, i64), (i64, u32))>() * 3 / 2
            + self.sleepers.capacity() * size_of::<Option<Sleeper>>()
            + self.by_id.capacity() * 8 / 7 * (size_of::<(String, u32)>() + 1)
            + self.by_id.len() * 2 * (ID + 16)
    }
}
