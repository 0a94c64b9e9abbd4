//! By what newer facts find the chains of a layer that they touch.
//!
//! Guarantee: a fact that shares a key with a chain finds it. One that shares none may find one too, by a chance of digests:
//! whoever is found is judged anew, and is what it was.
//!
//! Keys are those of [`keys`](super::keys), in the numbers of the layer's store: what newer facts say is looked up there
//! first ([`Seen`]), and a name that it does not have leads nowhere.

use super::keys::{self, Key};
use super::layers::Layer;
use super::store::{Row, Store};
use super::texts::Name;
use super::{Chain, Settings};
use ahash::RandomState;

/// Where neighbours lie together without a silence: of a window key, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stretch {
    key: u64,
    from: i64,
    to: i64,
    chain: u32,
}

/// What the chains of a layer left.
#[derive(Debug, Default)]
pub(super) struct Footprints {
    /// Upper halves of digests of keys, each before the number of a chain that has it; in order.
    keys: Vec<u64>,
    /// In order. Those of one key lie apart, or they would be one chain.
    stretches: Vec<Stretch>,
    hasher: RandomState,
}

/// A key for whoever showed a token: of a kind that no other key has.
fn token_key(token: Name) -> Key {
    u128::from(token.0) | 1 << 127
}

impl Footprints {
    pub(super) fn of(store: &Store, chains: &[Chain], settings: &Settings) -> Footprints {
        let hasher = RandomState::new();
        let share = chains.len().div_ceil(settings.threads.max(1)).max(1);
        let parts: Vec<_> = std::thread::scope(|scope| {
            let some = |at: usize, part| {
                let mut some = Footprints { hasher: hasher.clone(), ..Footprints::default() };
                some.leave(store, part, (at * share) as u32, settings);
                some
            };
            let parts: Vec<_> =
                chains.chunks(share).enumerate().map(|(at, part)| scope.spawn(move || some(at, part))).collect();
            parts.into_iter().map(|part| part.join().expect("chains leave footprints without a panic")).collect()
        });
        let mut all = Footprints { hasher, ..Footprints::default() };
        for part in parts {
            all.keys.extend(part.keys);
            all.stretches.extend(part.stretches);
        }
        // This sort finds what is in order already.
        all.keys.sort();
        all.stretches.sort();
        all
    }

    fn leave(&mut self, store: &Store, chains: &[Chain], first: u32, settings: &Settings) {
        let mut near: Vec<(u64, i64, i64)> = Vec::new();
        for (chain, number) in chains.iter().zip(first..) {
            let from = self.keys.len();
            for link in &chain.links {
                let row = store.row_at(link.row);
                keys::keys(store, row, |key, _| self.keys.push(self.hasher.hash_one(key)));
                if row.token.is_some() {
                    self.keys.push(self.hasher.hash_one(token_key(row.token)));
                }
                let window = keys::window(store, row, settings);
                near.extend(window.map(|(key, gap, _)| (self.hasher.hash_one(key), row.time, gap)));
            }
            near.sort_unstable();
            for (key, time, gap) in near.drain(..) {
                let is_near = |s: &&mut Stretch| (s.key, s.chain) == (key, number) && time.saturating_sub(s.to) <= gap;
                match self.stretches.last_mut().filter(is_near) {
                    Some(stretch) => stretch.to = time,
                    None => self.stretches.push(Stretch { key, from: time, to: time, chain: number }),
                }
            }
            // The events of a chain share most of their keys.
            let own = &mut self.keys[from..];
            own.iter_mut().for_each(|digest| *digest = *digest >> 32 << 32 | u64::from(number));
            own.sort_unstable();
            let mut kept = from;
            for at in from..self.keys.len() {
                if at == from || self.keys[at] != self.keys[kept - 1] {
                    self.keys[kept] = self.keys[at];
                    kept += 1;
                }
            }
            self.keys.truncate(kept);
        }
        self.keys.sort_unstable();
        self.stretches.sort_unstable();
    }

    fn all_of(&self, key: Key, then: impl FnMut(u32)) {
        let digest = self.hasher.hash_one(key) >> 32;
        let from = self.keys.partition_point(|entry| entry >> 32 < digest);
        let all = self.keys[from..].iter().take_while(|entry| **entry >> 32 == digest);
        all.map(|entry| *entry as u32).for_each(then);
    }

    fn near(&self, key: Key, time: i64, gap: i64, mut then: impl FnMut(u32)) {
        let key = self.hasher.hash_one(key);
        let behind = self.stretches.partition_point(|s| (s.key, s.from) <= (key, time));
        let before = behind.checked_sub(1).map(|at| &self.stretches[at]);
        if let Some(before) = before.filter(|s| s.key == key && time.saturating_sub(s.to) <= gap) {
            then(before.chain);
        }
        if let Some(after) = self.stretches.get(behind).filter(|s| s.key == key && s.from.saturating_sub(time) <= gap) {
            then(after.chain);
        }
    }

    /// Chains that showed a token.
    pub(super) fn that_showed(&self, token: Name, then: impl FnMut(u32)) {
        self.all_of(token_key(token), then);
    }
}

/// Newer facts as a layer's store would say them.
pub(super) struct Seen<'s> {
    fresh: &'s Store,
    layer: &'s Layer,
    /// Of each name of theirs the one that it has there.
    names: Vec<Option<Name>>,
}

impl<'s> Seen<'s> {
    pub(super) fn new(fresh: &'s Store, layer: &'s Layer) -> Seen<'s> {
        let texts = (1..fresh.texts_len() as u32).map(|name| fresh.text(Name(name)));
        let names = std::iter::once(Some(Name::NONE)).chain(texts.map(|text| layer.store.name(text))).collect();
        Seen { fresh, layer, names }
    }

    fn name(&self, name: Name) -> Option<Name> {
        self.names[name.0 as usize]
    }

    fn key(&self, key: Key, row: &Row) -> Option<Key> {
        keys::translated(key, row, &self.layer.store, |name| self.name(name))
    }

    /// Tells which chains of the layer a row touches.
    pub(super) fn touches(&self, row: u32, footprints: &Footprints, settings: &Settings, mut then: impl FnMut(u32)) {
        let r = self.fresh.row_at(row);
        keys::keys(self.fresh, r, |key, _| {
            if let Some(key) = self.key(key, r) {
                footprints.all_of(key, &mut then);
            }
        });
        let window = keys::window(self.fresh, r, settings);
        if let Some((key, gap)) = window.and_then(|(key, gap, _)| Some((self.key(key, r)?, gap))) {
            footprints.near(key, r.time, gap, &mut then);
        }
        // The same event, whatever its content: all of its contents are marked.
        if let (Some(source), Some(event)) = (self.name(r.source), self.name(r.event))
            && self.layer.store.has_named(source, event)
        {
            self.layer.of_name(event).for_each(then);
        }
    }
}
