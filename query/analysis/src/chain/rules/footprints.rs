//! By what an event finds the chains that it belongs to, when their facts are not at hand.
//!
//! Guarantee: an event that shares a key with a chain finds the footprints of that chain. One that shares none may find some
//! too, by a chance of digests: whoever follows them must judge for itself.
//!
//! Digests are over texts, because they outlive the numbers of a store, and they hold for this process only.

use super::Settings;
use super::keys;
use super::store::{Row, Store};
use ahash::RandomState;
use hashbrown::HashTable;
use std::collections::{BTreeMap, BTreeSet};
use std::mem::size_of;

/// What a digest is of, besides the kinds of keys.
const TOKEN: u8 = u8::MAX;

/// What chains left, by numbers that whoever keeps them gives out.
#[derive(Debug, Default)]
pub(super) struct Footprints {
    /// Digests, in two halves, and the chain that has them. A digest that several have (an id under different contents, a
    /// token) has the others in `further`.
    keys: HashTable<[u32; 3]>,
    further: BTreeSet<(u64, u32)>,
    /// Stretches of a window key: where each begins, where it ends, whose it is. Stretches of one key lie apart, or they
    /// would be one chain.
    windows: BTreeMap<Begin, (i64, u32)>,
    hasher: RandomState,
}

/// A window key, and where a stretch of it begins.
pub(super) type Begin = (u64, i64);

/// What one chain left.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Its stretches of windows.
    pub(super) windows: Vec<Begin>,
    /// Digests that were entered for it.
    pub(super) digests: usize,
}

fn whole(entry: &[u32; 3]) -> u64 {
    u64::from(entry[0]) << 32 | u64::from(entry[1])
}

impl Footprints {
    /// Room for the digests of a store.
    pub(super) fn with_room_for(store: &Store) -> Footprints {
        Footprints { keys: HashTable::with_capacity(store.len() * 2), ..Footprints::default() }
    }

    /// Rows of a chain leave theirs.
    pub(super) fn leave(&mut self, chain: u32, store: &Store, rows: &[u32], settings: &Settings) -> Left {
        let mut digests = 0;
        // Neighbours share most of their keys.
        let mut before: Vec<u64> = Vec::new();
        let mut now: Vec<u64> = Vec::new();
        for row in rows {
            let r = store.row_at(*row);
            keys::digests(&self.hasher, store, r, |digest| now.push(digest));
            if r.token.is_some() {
                now.push(self.token(store.text(r.token)));
            }
            for digest in now.iter().filter(|d| !before.contains(d)) {
                digests += usize::from(self.enter(*digest, chain));
            }
            std::mem::swap(&mut before, &mut now);
            now.clear();
        }
        let stretches = self.stretches(store, rows, settings);
        for (begin, to) in &stretches {
            let end = self.windows.entry(*begin).or_insert((*to, chain));
            *end = ((*to).max(end.0), chain);
        }
        Left { windows: stretches.into_iter().map(|(begin, _)| begin).collect(), digests }
    }

    fn enter(&mut self, digest: u64, chain: u32) -> bool {
        match self.keys.find(digest, |e| whole(e) == digest) {
            Some(entry) if entry[2] == chain => false,
            Some(_) => self.further.insert((digest, chain)),
            None => {
                self.keys.insert_unique(digest, [(digest >> 32) as u32, digest as u32, chain], whole);
                true
            }
        }
    }

    /// Stretches of window keys without a silence, by their beginnings; and their ends.
    fn stretches(&self, store: &Store, rows: &[u32], settings: &Settings) -> Vec<(Begin, i64)> {
        let mut times: Vec<(u64, i64, i64)> = rows
            .iter()
            .filter_map(|row| {
                let r = store.row_at(*row);
                let (digest, gap) = self.window(store, r, settings)?;
                Some((digest, r.time, gap))
            })
            .collect();
        times.sort_unstable();
        let mut all: Vec<(Begin, i64)> = Vec::new();
        for (digest, time, gap) in times {
            match all.last_mut() {
                Some(((last, _), to)) if *last == digest && time.saturating_sub(*to) <= gap => *to = time,
                _ => all.push(((digest, time), time)),
            }
        }
        all
    }

    /// Tells which chains a row touches.
    pub(super) fn touched_by(&self, store: &Store, row: u32, settings: &Settings, mut then: impl FnMut(u32)) {
        let r = store.row_at(row);
        keys::digests(&self.hasher, store, r, |digest| self.all_of(digest, &mut then));
        let Some((digest, gap)) = self.window(store, r, settings) else { return };
        let before = self.windows.range((digest, i64::MIN)..=(digest, r.time)).next_back();
        let after = self.windows.range((digest, r.time)..=(digest, i64::MAX)).next();
        if let Some((_, (_, chain))) = before.filter(|(_, (to, _))| r.time.saturating_sub(*to) <= gap) {
            then(*chain);
        }
        if let Some((_, (_, chain))) = after.filter(|((_, from), _)| from.saturating_sub(r.time) <= gap) {
            then(*chain);
        }
    }

    /// Tells which chains showed a token.
    pub(super) fn that_showed(&self, token: &str, then: impl FnMut(u32)) {
        self.all_of(self.token(token), then);
    }

    fn all_of(&self, digest: u64, then: impl FnMut(u32)) {
        let Some(first) = self.keys.find(digest, |e| whole(e) == digest) else { return };
        let further = self.further.range((digest, 0)..=(digest, u32::MAX)).map(|(_, chain)| *chain);
        std::iter::once(first[2]).chain(further).for_each(then);
    }

    /// Takes stretches of windows away.
    pub(super) fn lift(&mut self, windows: &[Begin]) {
        windows.iter().for_each(|begin| _ = self.windows.remove(begin));
    }

    /// Takes away the digests of chains that are not to be found any more.
    pub(super) fn sweep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.keys.retain(|e| is_there(e[2]));
        let further: Vec<(u64, u32)> =
            std::mem::take(&mut self.further).into_iter().filter(|(_, n)| is_there(*n)).collect();
        // Whoever was behind one that went is the first now.
        for (digest, chain) in further {
            self.enter(digest, chain);
        }
        self.keys.shrink_to_fit(whole);
    }

    /// Digests held.
    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.further.len()
    }

    fn token(&self, token: &str) -> u64 {
        self.hasher.hash_one((TOKEN, token))
    }

    fn window(&self, store: &Store, row: &Row, settings: &Settings) -> Option<(u64, i64)> {
        keys::window_digest(&self.hasher, store, row, settings)
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.keys.capacity() * 8 / 7 * (size_of::<[u32; 3]>() + 1)
            + self.further.len() * size_of::<(u64, u32)>() * 3 / 2
            + self.windows.len() * size_of::<(Begin, (i64, u32))>() * 3 / 2
    }
}
