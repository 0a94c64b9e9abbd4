//! Which events may belong to one chain, found without holding them.
//!
//! Guarantee: two events of one chain are never put apart. Two that have nothing to do with each other can come together, by
//! a chance of digests: whoever judges them parts them again. So events of more chains than fit into memory can be judged
//! some at a time.
//!
//! The rules that say what ties events are [`keys`]', as everywhere; facts are held for as long as it takes to ask them.

use super::Settings;
use super::exchange::Exchanged;
use super::fact::{Fact, NamedFact};
use super::find;
use super::keys::{self, Sets};
use super::store::{Listener, Row, Store};
use super::texts::{Lexicon, Name};
use crate::fault::{self, Fault};
use ahash::{HashMap, RandomState};

/// What an event has in common with those that it may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Whoever has the same digest.
    Key(u64),
    /// Whoever has the same digest and lies, with no silence longer than the gap between, before or after. In microseconds.
    Near {
        /// Digest.
        key: u64,
        /// When.
        time_us: i64,
        /// Longest silence.
        gap_us: i64,
    },
    /// It can be asked for by a name of this digest.
    Name(u64),
}

/// Digests of names, for as long as somebody asks for them.
#[derive(Clone, Debug, Default)]
pub struct Naming(RandomState);

impl Naming {
    /// The digest of a name.
    pub fn of(&self, name: &str) -> u64 {
        self.0.hash_one(name)
    }
}

/// Hears facts, and says what ties them.
#[derive(Debug)]
pub struct Ties {
    settings: Settings,
    store: Store,
    /// The row of each fact that was heard and not asked about yet.
    heard: Vec<u32>,
    hasher: RandomState,
    naming: Naming,
    witnesses: Witnesses,
}

impl Lexicon for Ties {
    fn learn_all<'t>(&mut self, texts: impl Iterator<Item = &'t str>, names: &mut Vec<Name>) {
        self.store.learn_all(texts, names);
    }
}

impl Listener for Ties {
    fn hear(&mut self, fact: &NamedFact<'_>) -> bool {
        let (row, is_new) = self.store.tell_named(fact);
        self.heard.push(row);
        is_new
    }
}

impl Ties {
    /// `exchanged` are (issued, subject, actor) token references.
    pub fn new(settings: Settings, exchanged: &[Exchanged]) -> Ties {
        Ties {
            settings,
            store: Store::default(),
            heard: Vec::new(),
            hasher: RandomState::new(),
            naming: Naming::default(),
            witnesses: Witnesses::wanted(exchanged),
        }
    }

    /// Hears a fact that is told as it is.
    pub fn tell(&mut self, fact: &Fact<'_>) {
        let (row, _) = self.store.tell(fact);
        self.heard.push(row);
    }

    /// What ties the facts heard since the last time, by their number among them.
    pub fn ask(&mut self, mut then: impl FnMut(usize, Tie)) {
        for (number, row) in std::mem::take(&mut self.heard).into_iter().enumerate() {
            let (store, r) = (&self.store, self.store.row_at(row));
            keys::digests(&self.hasher, store, r, |digest| then(number, Tie::Key(digest)));
            let window = keys::window_digest(&self.hasher, store, r, &self.settings);
            if let Some((key, gap_us)) = window.filter(|_| !fault::on(Fault::NeighboursApart)) {
                then(number, Tie::Near { key, time_us: r.time, gap_us });
            }
            for name in find::names(store, r).into_iter().filter(|n| n.is_some()) {
                then(number, Tie::Name(self.naming.of(store.text(name))));
            }
            self.witnesses.see(store, row);
        }
    }

    /// Bytes of memory that facts take which were asked about.
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// Forgets facts that were asked about, and all names.
    pub fn forget(&mut self) {
        self.store = Store::default();
    }

    /// How names were digested, and who showed first which token that was exchanged.
    pub fn finish(self) -> (Naming, Witnesses) {
        (self.naming, self.witnesses)
    }
}

/// The events that first showed tokens that were exchanged: chains that they are no part of rest on them too.
#[derive(Clone, Debug, Default)]
pub struct Witnesses {
    of: HashMap<String, Option<u32>>,
    store: Store,
}

impl Witnesses {
    /// Nobody yet; to be looked for are those of the tokens of (issued, subject, actor).
    pub(super) fn wanted(exchanged: &[Exchanged]) -> Witnesses {
        let mut wanted = Witnesses::default();
        wanted.want(exchanged);
        wanted
    }

    /// Looks for those of more tokens from now on.
    pub(super) fn want(&mut self, exchanged: &[Exchanged]) {
        for token in exchanged.iter().flat_map(tokens) {
            if !self.of.contains_key(token) {
                self.of.insert(token.clone(), None);
            }
        }
    }

    /// Whether nobody is looked for.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Whether an event shows one of the tokens.
    pub(super) fn concern(&self, store: &Store, row: u32) -> bool {
        let token = store.row_at(row).token;
        !self.of.is_empty() && token.is_some() && self.of.contains_key(store.text(token))
    }

    /// Shows an event. Whether it is the first one by now that showed its token.
    pub(super) fn see(&mut self, store: &Store, row: u32) -> bool {
        let r = store.row_at(row);
        if self.of.is_empty() || r.token.is_none() {
            return false;
        }
        let Some(held) = self.of.get_mut(store.text(r.token)) else { return false };
        fn place<'s>(store: &'s Store, r: &Row) -> (i64, &'s str, &'s str, u128) {
            (r.time, store.text(r.source), store.text(r.event), r.content)
        }
        let is_first = held.is_none_or(|held| place(store, r) < place(&self.store, self.store.row_at(held)));
        if is_first {
            *held = Some(self.store.adopt(store, row).0);
        }
        is_first
    }

    /// Tells a store those of the tokens that were exchanged. Whoever is there already is not told again.
    pub(super) fn tell(&self, store: &mut Store, exchanged: &[Exchanged]) {
        if self.is_empty() || fault::on(Fault::WitnessesForgotten) {
            return;
        }
        for row in exchanged.iter().flat_map(tokens).filter_map(|token| *self.of.get(token)?) {
            store.adopt(&self.store, row);
        }
    }
}

/// Tokens of an exchange.
fn tokens((issued, subject, actor): &Exchanged) -> impl Iterator<Item = &String> {
    [Some(issued), Some(subject), actor.as_ref()].into_iter().flatten()
}

/// Events by number, those that are tied together.
#[derive(Debug, Default)]
pub struct Groups(Sets);

impl Groups {
    /// So many events, each alone.
    pub fn new(events: usize) -> Groups {
        let mut sets = Sets::default();
        sets.grow(events);
        Groups(sets)
    }

    /// Ties two.
    pub fn join(&mut self, a: u32, b: u32) {
        self.0.join(a, b);
    }

    /// The first of those that an event is tied to.
    pub fn of(&mut self, event: u32) -> u32 {
        self.0.find(event)
    }
}
