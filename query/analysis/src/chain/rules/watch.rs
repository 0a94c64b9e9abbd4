//! Chains as events arrive, in any order.
//!
//! Guarantee: after every poll the chains are those that a rebuild of the same facts would give; an event changes only
//! its own chain. A chain that was evicted and recalled is the chain that it would have been.
//!
//! ```text
//!  feed ──▶ keys ──▶ sets joined, chain dirty ──▶ poll ──▶ Change { chain, revision, state, aliases }
//!                 └▶ a key of an evicted chain ──▶ wanted ──▶ recall, from the lake
//! ```
//!
//! | state | means |
//! |---|---|
//! | open | its last event is younger than the lateness that is expected |
//! | settled | nothing more is expected; what rests on absence can be judged |
//! | sealed | it may be evicted from memory. An event that comes even later makes a new revision |
//!
//! **Where state lives.** Nothing here has to be saved. Changes are rows that the caller appends to the lake; a restarted
//! watcher is told the events of all chains that were not sealed ([`Watcher::recall`], with what was published of them), and
//! [`Watcher::lay_asleep`] with the keys of the sealed ones, or with none: then the caller looks up the keys of what it
//! feeds itself. Aliases are append-only: an id that was given up never comes back, because the key that names a chain
//! only ever gets stronger or smaller.

use super::exchange::Exchanges;
use super::judge::Judge;
use super::keys::{self, Index, Sets, Windows};
use super::store::{NOBODY, Store};
use super::{Chain, Fact, Scratch, Settings};
use crate::fault::{self, Fault};
use ahash::{HashMap, RandomState};
use catena_schemas::Micros;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// How far a chain is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// More is expected.
    Open,
    /// No more is expected.
    Settled,
    /// It is at rest.
    Sealed,
}

impl State {
    /// As it stands in columns.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Settled => "settled",
            State::Sealed => "sealed",
        }
    }

    /// The state that a word names.
    pub fn parse(text: &str) -> Option<State> {
        [State::Open, State::Settled, State::Sealed].into_iter().find(|s| s.as_str() == text)
    }

    /// The state of a chain whose last event is of `ended`.
    pub fn at(watermark: Micros, ended: i64, settings: &Settings) -> State {
        let age = watermark.0.saturating_sub(ended);
        if age > settings.seal_us {
            State::Sealed
        } else if age > settings.lateness_us {
            State::Settled
        } else {
            State::Open
        }
    }
}

/// What was said of a chain before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id then.
    pub id: String,
    /// Its revision, from 1.
    pub revision: u32,
    /// Its state.
    pub state: State,
    /// Digest of everything that was said.
    pub fingerprint: u128,
}

/// What is new of a chain.
#[derive(Clone, Debug)]
pub struct Change {
    /// The chain.
    pub chain: Chain,
    /// Id, revision, state and digest from now on.
    pub published: Published,
    /// Ids that mean this chain from now on.
    pub aliases: Vec<String>,
    /// It has more events than are expected of one chain.
    pub oversized: bool,
}

/// Keys of a chain that is not in memory. Digests of this process; they are not to be stored.
#[derive(Debug, Default)]
struct Asleep {
    /// An identity can stand in several chains, under different contents.
    keys: HashMap<u64, BTreeSet<String>>,
    windows: HashMap<u64, Vec<(i64, i64, String)>>,
    tokens: HashMap<String, BTreeSet<String>>,
}

/// The chains of one tenant, kept up to date.
#[derive(Debug)]
pub struct Watcher {
    tenant: String,
    settings: Settings,
    store: Store,
    index: Index,
    windows: Windows,
    sets: Sets,
    members: HashMap<u32, Vec<u32>>,
    published: HashMap<u32, Vec<Published>>,
    dirty: BTreeSet<u32>,
    exchanged: Vec<(String, String, Option<String>)>,
    exchanges: Exchanges,
    asleep: Asleep,
    hasher: RandomState,
    /// Events that wait for an evicted chain.
    waiting: Vec<(u32, String)>,
    watermark: Micros,
}

impl Watcher {
    /// A watcher of a tenant that knows nothing.
    pub fn new(tenant: &str, settings: Settings) -> Watcher {
        Watcher {
            tenant: tenant.to_owned(),
            settings,
            store: Store::default(),
            index: Index::default(),
            windows: Windows::default(),
            sets: Sets::default(),
            members: HashMap::default(),
            published: HashMap::default(),
            dirty: BTreeSet::new(),
            exchanged: Vec::new(),
            exchanges: Exchanges::default(),
            asleep: Asleep::default(),
            hasher: RandomState::new(),
            waiting: Vec::new(),
            watermark: Micros(i64::MIN),
        }
    }

    /// The facts in memory.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Chains that must be recalled before what they touch can be judged.
    pub fn wanted(&self) -> BTreeSet<&str> {
        self.waiting.iter().map(|(_, id)| id.as_str()).collect()
    }

    /// Takes a fact. False when it was known.
    pub fn feed(&mut self, fact: &Fact<'_>) -> bool {
        let (row, is_new) = self.store.tell(fact);
        if is_new {
            self.enter(row);
            self.wake(row);
        }
        is_new
    }

    fn enter(&mut self, row: u32) {
        self.sets.grow(row as usize + 1);
        self.members.insert(row, vec![row]);
        let mut ties = Vec::new();
        self.index.enter(&self.store, row, |other| ties.push(other));
        self.windows.enter(&self.store, row, &self.settings, |other| ties.push(other));
        for other in ties {
            self.join(row, other);
        }
        let touched = std::mem::take(&mut self.store.touched);
        for other in touched.into_iter().chain([row]) {
            let set = self.sets.find(other);
            self.dirty.insert(set);
        }
        let token = self.store.row_at(row).token;
        if token.is_some() && self.exchanges.concerns(token) {
            // Who showed a token first can change the paths of other chains.
            self.exchanges.show(&self.store, [row].into_iter());
            self.dirty.extend(self.members.keys());
        }
    }

    fn join(&mut self, a: u32, b: u32) {
        let Some((kept, gone)) = self.sets.join(a, b) else { return };
        let mut fewer = self.members.remove(&gone).unwrap_or_default();
        let more = self.members.entry(kept).or_default();
        if more.len() < fewer.len() {
            std::mem::swap(more, &mut fewer);
        }
        more.append(&mut fewer);
        if let Some(published) = self.published.remove(&gone) {
            self.published.entry(kept).or_default().extend(published);
        }
        self.dirty.remove(&gone);
    }

    /// Takes a token exchange: references of the issued token, the subject's and the actor's.
    pub fn exchange(&mut self, issued: &str, subject: &str, actor: Option<&str>) {
        let exchange = (issued.to_owned(), subject.to_owned(), actor.map(str::to_owned));
        if self.exchanged.contains(&exchange) {
            return;
        }
        for token in [Some(issued), Some(subject), actor].into_iter().flatten() {
            for id in self.asleep.tokens.get(token).into_iter().flatten() {
                self.waiting.push((NOBODY, id.clone()));
            }
        }
        self.exchanged.push(exchange);
        self.reread_exchanges();
        self.dirty.extend(self.members.keys());
    }

    fn reread_exchanges(&mut self) {
        self.exchanges = Exchanges::default();
        for (issued, subject, actor) in &self.exchanged {
            self.exchanges.enter(&mut self.store, issued, subject, actor.as_deref());
        }
        self.exchanges.show(&self.store, 0..self.store.len() as u32);
    }

    /// What changed since the last poll, in order of id. Chains that wait for an evicted one are left for later.
    pub fn poll(&mut self) -> Vec<Change> {
        let waiting: BTreeSet<u32> =
            self.waiting.iter().filter(|(row, _)| *row != NOBODY).map(|(row, _)| self.sets.find(*row)).collect();
        let all_wait = self.waiting.iter().any(|(row, _)| *row == NOBODY);
        if all_wait {
            return Vec::new();
        }
        let dirty: Vec<u32> = self.dirty.iter().copied().filter(|set| !waiting.contains(set)).collect();
        let mut scratch = Scratch::default();
        let mut changes = Vec::new();
        for set in dirty {
            self.dirty.remove(&set);
            changes.extend(self.judge(set, &mut scratch));
        }
        changes.sort_by(|a: &Change, b| a.published.id.cmp(&b.published.id));
        changes
    }

    fn judge(&mut self, set: u32, scratch: &mut Scratch) -> Option<Change> {
        let rows = self.members.get_mut(&set)?;
        let store = &self.store;
        rows.sort_unstable_by(|a, b| store.order(*a, *b));
        let judge = Judge {
            tenant: &self.tenant,
            store,
            index: &self.index,
            exchanges: &self.exchanges,
            settings: &self.settings,
        };
        let chain = judge.one(rows, scratch);
        let fingerprint = fingerprint(&chain, &self.tenant, store);
        let state = State::at(self.watermark, chain.ended(store).0, &self.settings);
        let before = self.published.remove(&set).unwrap_or_default();
        let same =
            before.iter().find(|p| p.fingerprint == fingerprint && p.id == chain.id).filter(|_| before.len() == 1);
        let revision = match same {
            Some(same) => same.revision,
            None => before.iter().map(|p| p.revision).max().unwrap_or(0) + 1,
        };
        let published = Published { id: chain.id.clone(), revision, state, fingerprint };
        let unchanged = same.is_some_and(|s| s.state == state);
        let mut aliases: Vec<String> = before.into_iter().map(|p| p.id).filter(|id| *id != chain.id).collect();
        aliases.sort_unstable();
        aliases.dedup();
        if fault::on(Fault::AliasesForgotten) {
            aliases.clear();
        }
        self.published.insert(set, vec![published.clone()]);
        let oversized = chain.links.len() > self.settings.events_max as usize;
        (!unchanged).then_some(Change { chain, published, aliases, oversized })
    }

    /// Moves the watermark: no event before it is expected. Chains whose state changes are judged at the next poll.
    pub fn advance(&mut self, watermark: Micros) {
        self.watermark = self.watermark.max(watermark);
        for (set, published) in &self.published {
            let Some(rows) = self.members.get(set) else { continue };
            let ended = rows.iter().map(|r| self.store.row_at(*r).time).max().unwrap_or(i64::MIN);
            if published.iter().any(|p| p.state != State::at(self.watermark, ended, &self.settings)) {
                self.dirty.insert(*set);
            }
        }
    }

    /// Ids of sealed chains that may be evicted: nothing of theirs is unsaid, and no exchange concerns their tokens.
    pub fn sealed(&self) -> Vec<String> {
        let free = |set: &u32| {
            !self.dirty.contains(set)
                && !self.members[set].iter().any(|r| self.exchanges.concerns(self.store.row_at(*r).token))
        };
        let sealed = self.published.iter().filter(|(set, p)| p.iter().all(|p| p.state == State::Sealed) && free(set));
        let mut ids: Vec<String> = sealed.flat_map(|(_, p)| p.iter().map(|p| p.id.clone())).collect();
        ids.sort_unstable();
        ids
    }

    /// Removes chains from memory. Their keys stay, so that whoever touches them is noticed. Chains with something unsaid
    /// stay too. What was published of those that went.
    pub fn evict(&mut self, ids: &[String]) -> Vec<Published> {
        let wanted: BTreeSet<&String> = ids.iter().collect();
        let gone: Vec<u32> = self
            .published
            .iter()
            .filter(|(set, p)| p.len() == 1 && wanted.contains(&p[0].id) && !self.dirty.contains(set))
            .filter(|(set, _)| {
                !self.members[set].iter().any(|r| self.exchanges.concerns(self.store.row_at(*r).token))
                    && !self.waiting.iter().any(|(row, _)| self.members[set].contains(row))
            })
            .map(|(set, _)| *set)
            .collect();
        let mut went = Vec::new();
        for set in gone {
            let published = self.published.remove(&set).unwrap_or_default().remove(0);
            for row in self.members.remove(&set).unwrap_or_default() {
                self.lay_down(row, &published.id);
            }
            went.push(published);
        }
        self.rebuild();
        went.sort_by(|a, b| a.id.cmp(&b.id));
        went
    }

    /// Keeps the keys of a row whose chain leaves memory.
    fn lay_down(&mut self, row: u32, id: &str) {
        let asleep = &mut self.asleep;
        for_keys(&self.store, row, &self.hasher, |digest| {
            asleep.keys.entry(digest).or_default().insert(id.to_owned());
        });
        if let Some((digest, gap)) = window_digest(&self.store, row, &self.settings, &self.hasher) {
            let time = self.store.row_at(row).time;
            let (from, to) = (time.saturating_sub(gap), time.saturating_add(gap));
            asleep.windows.entry(digest).or_default().push((from, to, id.to_owned()));
        }
        let token = self.store.row_at(row).token;
        if token.is_some() {
            asleep.tokens.entry(self.store.text(token).to_owned()).or_default().insert(id.to_owned());
        }
    }

    /// Lays a chain to sleep without its facts ever having been in memory here: after a restart.
    pub fn lay_asleep<'f>(&mut self, id: &str, facts: impl IntoIterator<Item = Fact<'f>>) {
        let store = std::mem::take(&mut self.store);
        for fact in facts {
            let (row, _) = self.store.tell(&fact);
            self.lay_down(row, id);
        }
        self.store = store;
    }

    /// A chain comes back: what was published of it, and all its facts.
    pub fn recall<'f>(&mut self, published: Published, facts: impl IntoIterator<Item = Fact<'f>>) {
        let id = published.id.clone();
        self.asleep.keys.retain(|_, all| {
            all.remove(&id);
            !all.is_empty()
        });
        self.asleep.windows.retain(|_, all| {
            all.retain(|(.., chain)| *chain != id);
            !all.is_empty()
        });
        self.asleep.tokens.retain(|_, all| {
            all.remove(&id);
            !all.is_empty()
        });
        self.waiting.retain(|(_, chain)| *chain != id);
        let mut some = None;
        for fact in facts {
            let (row, is_new) = self.store.tell(&fact);
            if is_new {
                self.enter(row);
                self.wake(row);
            }
            some = Some(row);
        }
        if let Some(row) = some {
            let set = self.sets.find(row);
            self.published.entry(set).or_default().push(published);
            self.dirty.insert(set);
        }
    }

    /// Notes which evicted chains a new row touches.
    fn wake(&mut self, row: u32) {
        let asleep = &self.asleep;
        if asleep.keys.is_empty() && asleep.windows.is_empty() || fault::on(Fault::SleepersForgotten) {
            return;
        }
        let mut ids = BTreeSet::new();
        for_keys(&self.store, row, &self.hasher, |digest| {
            ids.extend(asleep.keys.get(&digest).into_iter().flatten().cloned());
        });
        if let Some((digest, _)) = window_digest(&self.store, row, &self.settings, &self.hasher) {
            let time = self.store.row_at(row).time;
            let all = asleep.windows.get(&digest).into_iter().flatten();
            ids.extend(all.filter(|(from, to, _)| (*from..=*to).contains(&time)).map(|(.., id)| id.clone()));
        }
        let token = self.store.row_at(row).token;
        if token.is_some() && self.exchanges.concerns(token) {
            ids.extend(asleep.tokens.get(self.store.text(token)).into_iter().flatten().cloned());
        }
        self.waiting.extend(ids.into_iter().map(|id| (row, id)));
    }

    /// Makes everything anew from the rows that are left. Numbers of names and rows change; texts do not.
    fn rebuild(&mut self) {
        let old = std::mem::take(&mut self.store);
        let members = std::mem::take(&mut self.members);
        let published = std::mem::take(&mut self.published);
        let dirty = std::mem::take(&mut self.dirty);
        let waiting = std::mem::take(&mut self.waiting);
        (self.index, self.windows, self.sets) = (Index::default(), Windows::default(), Sets::default());
        self.exchanges = Exchanges::default();
        let mut moved: HashMap<u32, u32> = HashMap::default();
        let mut rows: Vec<u32> = members.values().flatten().copied().collect();
        rows.sort_unstable();
        for row in rows {
            let (new, _) = self.store.adopt(&old, row);
            if old.mutated.contains_key(&row) {
                self.store.mutated.insert(new, ());
            }
            self.enter(new);
            moved.insert(row, new);
        }
        self.reread_exchanges();
        self.dirty.clear();
        // The first member of a set stood for it; any member finds the new one.
        for (set, p) in published {
            let new = self.sets.find(moved[&members[&set][0]]);
            self.published.insert(new, p);
        }
        for set in dirty {
            let new = self.sets.find(moved[&members[&set][0]]);
            self.dirty.insert(new);
        }
        let place = |row: u32| if row == NOBODY { NOBODY } else { moved[&row] };
        self.waiting = waiting.into_iter().map(|(row, id)| (place(row), id)).collect();
    }
}

/// Digests of the keys of a row, and of its identity, over texts: they outlive the numbers of a store.
fn for_keys(store: &Store, row: u32, hasher: &RandomState, mut then: impl FnMut(u64)) {
    let r = store.row_at(row);
    keys::keys(r, |key, _| {
        let (kind, parts) = keys::texts(store, r, key);
        then(hasher.hash_one((kind, parts)));
    });
    then(hasher.hash_one((0u8, store.text(r.source), store.text(r.event))));
}

fn window_digest(store: &Store, row: u32, settings: &Settings, hasher: &RandomState) -> Option<(u64, i64)> {
    let r = store.row_at(row);
    let (key, gap, _) = keys::window(store, r, settings)?;
    let (kind, parts) = keys::texts(store, r, key);
    Some((hasher.hash_one((kind, parts)), gap))
}

/// Digest of everything that is said of a chain.
fn fingerprint(chain: &Chain, tenant: &str, store: &Store) -> u128 {
    let digest = Sha256::digest(chain.to_json(tenant, store).to_string().as_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_be_bytes(half)
}
