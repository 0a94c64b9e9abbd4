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
//!
//! **What it costs.** Work is in proportion to what changes: a poll judges the chains that changed, [`Watcher::advance`] looks
//! at the chains whose time has come, [`Watcher::evict`] at those that go. Rows of evicted chains lie dead until they are
//! more than the living; then all is made anew. A chain with more than [`Settings::events_max`] events is judged again when
//! it has grown by a sixteenth, or has come to rest; until then what was said of it is behind, and
//! [`Watcher::postponed`] counts it.

use super::asleep::Asleep;
use super::exchange::Exchanges;
use super::judge::{Judge, Scratch};
use super::keys::{self, Index, KEYS_MAX, Key, Sets, Windows};
use super::store::{Listener, NOBODY, Store};
use super::texts::{Lexicon, Name};
use super::{Chain, Fact, NamedFact, Settings};
use crate::fault::{self, Fault};
use ahash::{HashMap, HashSet};
use catena_schemas::Micros;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::mem::size_of;

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

/// What is known of a set of rows.
#[derive(Debug, Default)]
struct Known {
    rows: Vec<u32>,
    /// What was said of it, or of those that it was joined from.
    published: Vec<Published>,
    /// When its state changes next, as it stands in `due`.
    due: Option<i64>,
    /// Rows when it was judged last.
    judged: usize,
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
    known: HashMap<u32, Known>,
    /// The set of each id that was said last.
    set_of: HashMap<String, u32>,
    dirty: BTreeSet<u32>,
    /// Instants at which the state of a set changes.
    due: BTreeSet<(i64, u32)>,
    /// Sets that may be evicted.
    sealed: BTreeSet<u32>,
    /// Dirty sets that are left until they have grown, and how long at most.
    postponed: HashMap<u32, i64>,
    exchanged: BTreeSet<(String, String, Option<String>)>,
    exchanges: Exchanges,
    /// Rows by the token that they showed; dead ones too.
    showed: HashMap<Name, Vec<u32>>,
    asleep: Asleep,
    /// Events that wait for an evicted chain.
    waiting: BTreeSet<(u32, u32)>,
    /// Rows of chains that went.
    dead: usize,
    scratch: Scratch,
    watermark: Micros,
}

impl Lexicon for Watcher {
    fn learn_all<'t>(&mut self, texts: impl Iterator<Item = &'t str>, names: &mut Vec<Name>) {
        self.store.learn_all(texts, names);
    }
}

impl Listener for Watcher {
    fn hear(&mut self, fact: &NamedFact<'_>) -> bool {
        let told = self.store.tell_named(fact);
        self.told(told)
    }
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
            known: HashMap::default(),
            set_of: HashMap::default(),
            dirty: BTreeSet::new(),
            due: BTreeSet::new(),
            sealed: BTreeSet::new(),
            postponed: HashMap::default(),
            exchanged: BTreeSet::new(),
            exchanges: Exchanges::default(),
            showed: HashMap::default(),
            asleep: Asleep::default(),
            waiting: BTreeSet::new(),
            dead: 0,
            scratch: Scratch::default(),
            watermark: Micros(i64::MIN),
        }
    }

    /// The facts in memory.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Chains in memory.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether no chain is in memory.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Oversized chains that changed, and are not judged again yet.
    pub fn postponed(&self) -> usize {
        self.postponed.len()
    }

    /// Bytes of memory that it takes, about.
    pub fn bytes(&self) -> usize {
        // A row stands in a set, under its token, and in the union of sets; a chain has a table's entry, twice, and an id.
        let rows = self.store.len() * 4 * size_of::<u32>();
        let chains = self.known.len() * (size_of::<Known>() + size_of::<Published>() + 3 * size_of::<String>() + 120);
        self.store.bytes() + self.index.bytes() + self.windows.bytes() + self.asleep.bytes() + rows + chains
    }

    /// Chains that must be recalled before what they touch can be judged.
    pub fn wanted(&self) -> BTreeSet<&str> {
        self.waiting.iter().filter_map(|(_, sleeper)| self.asleep.id(*sleeper)).collect()
    }

    /// Takes a fact. False when it was known.
    pub fn feed(&mut self, fact: &Fact<'_>) -> bool {
        let told = self.store.tell(fact);
        self.told(told)
    }

    fn told(&mut self, (row, is_new): (u32, bool)) -> bool {
        if is_new {
            self.enter(row);
            self.wake(row);
        }
        is_new
    }

    fn enter(&mut self, row: u32) {
        self.sets.grow(row as usize + 1);
        self.known.insert(row, Known { rows: vec![row], ..Known::default() });
        let mut ties = [NOBODY; KEYS_MAX + 2];
        let mut count = 0;
        let mut tie = |other| {
            ties[count] = other;
            count += 1;
        };
        self.index.enter(&self.store, row, &mut tie);
        self.windows.enter(&self.store, row, &self.settings, &mut tie);
        for other in &ties[..count] {
            self.join(row, *other);
        }
        let touched = std::mem::take(&mut self.store.touched);
        for other in touched.into_iter().chain([row]) {
            self.soil(other);
        }
        let token = self.store.row_at(row).token;
        if token.is_some() {
            self.showed.entry(token).or_default().push(row);
            if self.exchanges.concerns(token) && self.exchanges.show(&self.store, [row].into_iter()) {
                // Who showed a token first can change the paths of other chains.
                let tokens = self.exchanges.that_rest_on(token);
                self.soil_bearers(&tokens);
            }
        }
    }

    /// The set of a row is to be judged, if it is in memory.
    fn soil(&mut self, row: u32) {
        let set = self.sets.find(row);
        if self.known.contains_key(&set) {
            self.dirty.insert(set);
            self.sealed.remove(&set);
        }
    }

    /// The sets of all rows that showed one of the tokens are to be judged.
    fn soil_bearers(&mut self, tokens: &[Name]) {
        for token in tokens {
            let rows = self.showed.remove(token).unwrap_or_default();
            for row in &rows {
                self.soil(*row);
            }
            self.showed.insert(*token, rows);
        }
    }

    fn join(&mut self, a: u32, b: u32) {
        let Some((kept, gone)) = self.sets.join(a, b) else { return };
        let mut fewer = self.known.remove(&gone).unwrap_or_default();
        if let Some(due) = fewer.due.take() {
            self.due.remove(&(due, gone));
        }
        for published in &fewer.published {
            self.set_of.insert(published.id.clone(), kept);
        }
        let more = self.known.entry(kept).or_default();
        if more.rows.len() < fewer.rows.len() {
            std::mem::swap(&mut more.rows, &mut fewer.rows);
        }
        more.rows.append(&mut fewer.rows);
        more.judged = more.judged.max(fewer.judged);
        more.published.append(&mut fewer.published);
        self.dirty.remove(&gone);
        self.sealed.remove(&gone);
        self.postponed.remove(&gone);
    }

    /// Takes a token exchange: references of the issued token, the subject's and the actor's.
    pub fn exchange(&mut self, issued: &str, subject: &str, actor: Option<&str>) {
        if !self.exchanged.insert((issued.to_owned(), subject.to_owned(), actor.map(str::to_owned))) {
            return;
        }
        for token in [Some(issued), Some(subject), actor].into_iter().flatten() {
            for sleeper in self.asleep.that_showed(token) {
                self.waiting.insert((NOBODY, sleeper));
            }
        }
        self.exchanges.enter(&mut self.store, issued, subject, actor);
        let names = [Some(issued), Some(subject), actor].map(|t| t.map_or(Name::NONE, |t| self.store.learn(t)));
        for token in names.into_iter().filter(|t| t.is_some()) {
            let (sets, known) = (&mut self.sets, &self.known);
            let rows = self.showed.get(&token).into_iter().flatten().copied();
            self.exchanges.show(&self.store, rows.filter(|row| known.contains_key(&sets.find(*row))));
        }
        let mut tokens = self.exchanges.that_rest_on(names[0]);
        // Chains of the tokens that were given stay in memory from now on: none of them is free to go.
        tokens.extend(names);
        self.soil_bearers(&tokens);
    }

    /// What changed since the last poll, in order of id. Chains that wait for an evicted one are left for later.
    pub fn poll(&mut self) -> Vec<Change> {
        if self.waiting.iter().next_back().is_some_and(|(row, _)| *row == NOBODY) {
            return Vec::new();
        }
        let waiting: BTreeSet<u32> = self.waiting.iter().map(|(row, _)| self.sets.find(*row)).collect();
        let mut changes = Vec::new();
        let mut scratch = std::mem::take(&mut self.scratch);
        for set in std::mem::take(&mut self.dirty) {
            if waiting.contains(&set) {
                self.dirty.insert(set);
            } else if !self.may_wait(set) {
                if let Some(deadline) = self.postponed.remove(&set) {
                    self.due.remove(&(deadline, set));
                }
                changes.extend(self.judge(set, &mut scratch));
            }
        }
        self.scratch = scratch;
        changes.sort_by(|a: &Change, b| a.published.id.cmp(&b.published.id));
        changes
    }

    /// Whether an oversized chain is left as it is for now: it has grown, but not by a sixteenth, and has not waited long.
    fn may_wait(&mut self, set: u32) -> bool {
        let Some(known) = self.known.get(&set) else { return false };
        let grown = known.rows.len().saturating_sub(known.judged);
        let is_oversized = known.judged > self.settings.events_max as usize;
        if !is_oversized || grown == 0 || grown >= known.judged / 16 {
            return false;
        }
        let lateness = self.settings.lateness_us;
        let deadline = *self.postponed.entry(set).or_insert_with(|| self.watermark.0.saturating_add(lateness));
        self.due.insert((deadline, set));
        self.watermark.0 <= deadline
    }

    fn judge(&mut self, set: u32, scratch: &mut Scratch) -> Option<Change> {
        let known = self.known.get_mut(&set)?;
        let store = &self.store;
        // Sorted before, but for what is new.
        known.rows.sort_by(|a, b| store.order(*a, *b));
        let judge = Judge {
            tenant: &self.tenant,
            store,
            index: &self.index,
            exchanges: &self.exchanges,
            settings: &self.settings,
        };
        let chain = judge.one(&known.rows, scratch);
        let fingerprint = chain.fingerprint(&self.tenant, store);
        let ended = chain.ended(store).0;
        let state = State::at(self.watermark, ended, &self.settings);
        let before = std::mem::take(&mut known.published);
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
        for old in &aliases {
            self.set_of.remove(old);
        }
        self.set_of.insert(chain.id.clone(), set);
        known.published = vec![published.clone()];
        known.judged = known.rows.len();
        let due = match state {
            State::Open => Some(ended.saturating_add(self.settings.lateness_us)),
            State::Settled => Some(ended.saturating_add(self.settings.seal_us)),
            State::Sealed => None,
        };
        if let Some(before) = std::mem::replace(&mut known.due, due) {
            self.due.remove(&(before, set));
        }
        self.due.extend(due.map(|due| (due, set)));
        let concerned = |r: &u32| self.exchanges.concerns(store.row_at(*r).token);
        if state == State::Sealed && !known.rows.iter().any(concerned) {
            self.sealed.insert(set);
        } else {
            self.sealed.remove(&set);
        }
        let oversized = chain.links.len() > self.settings.events_max as usize;
        (!unchanged).then_some(Change { chain, published, aliases, oversized })
    }

    /// Moves the watermark: no event before it is expected. Chains whose state changes are judged at the next poll.
    pub fn advance(&mut self, watermark: Micros) {
        self.watermark = self.watermark.max(watermark);
        while let Some((due, set)) = self.due.first().copied().filter(|(due, _)| *due < self.watermark.0) {
            self.due.remove(&(due, set));
            if let Some(known) = self.known.get_mut(&set) {
                known.due = known.due.filter(|d| *d != due);
                self.dirty.insert(set);
            }
        }
    }

    /// Ids of sealed chains that may be evicted: nothing of theirs is unsaid, and no exchange concerns their tokens.
    pub fn sealed(&self) -> Vec<String> {
        let sealed = self.sealed.iter().filter(|set| !self.dirty.contains(set) && !self.postponed.contains_key(set));
        let mut ids: Vec<String> =
            sealed.flat_map(|set| self.known[set].published.iter().map(|p| p.id.clone())).collect();
        ids.sort_unstable();
        ids
    }

    /// Removes chains from memory. Their keys stay, so that whoever touches them is noticed. Chains with something unsaid
    /// stay too. What was published of those that went.
    pub fn evict(&mut self, ids: &[String]) -> Vec<Published> {
        let waiting: HashSet<u32> =
            self.waiting.iter().filter(|(row, _)| *row != NOBODY).map(|(row, _)| self.sets.find(*row)).collect();
        let mut went = Vec::new();
        for id in ids {
            let Some(set) = self.set_of.get(id).copied() else { continue };
            let Some(known) = self.known.get(&set) else { continue };
            let is_unsaid = self.dirty.contains(&set) || self.postponed.contains_key(&set) || waiting.contains(&set);
            let concerned = |r: &u32| self.exchanges.concerns(self.store.row_at(*r).token);
            if is_unsaid || known.published.len() != 1 || known.rows.iter().any(concerned) {
                continue;
            }
            let Some(mut known) = self.known.remove(&set) else { continue };
            self.lay_down(&known.rows, id);
            if let Some(due) = known.due {
                self.due.remove(&(due, set));
            }
            self.sealed.remove(&set);
            self.set_of.remove(id);
            went.append(&mut known.published);
        }
        if self.dead > self.store.len() / 2 {
            self.rebuild();
        }
        went.sort_by(|a, b| a.id.cmp(&b.id));
        went
    }

    /// Keeps the keys of rows whose chain leaves memory, and takes the rows out of everything that leads to them. Whoever
    /// shares a key with one of them belongs to the chain: so the keys go as they are.
    fn lay_down(&mut self, rows: &[u32], id: &str) {
        self.asleep.lay(id, &self.store, rows, &self.settings);
        let mut gone: Vec<Key> = Vec::new();
        for row in rows {
            let r = self.store.row_at(*row);
            keys::keys(&self.store, r, |key, _| gone.push(key));
            for key in gone.drain(..) {
                self.index.remove(key);
            }
            self.windows.remove(&self.store, *row, &self.settings);
            self.store.forget(*row);
        }
        self.dead += rows.len();
    }

    /// Lays a chain to sleep without its facts ever having been in memory here: after a restart.
    pub fn lay_asleep<'f>(&mut self, id: &str, facts: impl IntoIterator<Item = Fact<'f>>) {
        // A store of their own, that is gone afterwards.
        let mut store = Store::default();
        let rows: Vec<u32> = facts.into_iter().map(|fact| store.tell(&fact).0).collect();
        self.asleep.lay(id, &store, &rows, &self.settings);
    }

    /// A chain comes back: what was published of it, and all its facts.
    pub fn recall<'f>(&mut self, published: Published, facts: impl IntoIterator<Item = Fact<'f>>) {
        if let Some(sleeper) = self.asleep.wake(&published.id) {
            self.waiting.retain(|(_, s)| *s != sleeper);
        }
        let mut some = None;
        for fact in facts {
            let told = self.store.tell(&fact);
            self.told(told);
            some = Some(told.0);
        }
        if let Some(row) = some {
            let set = self.sets.find(row);
            self.set_of.insert(published.id.clone(), set);
            self.known.entry(set).or_default().published.push(published);
            self.soil(row);
        }
    }

    /// Notes which evicted chains a new row touches.
    fn wake(&mut self, row: u32) {
        if self.asleep.is_empty() || fault::on(Fault::SleepersForgotten) {
            return;
        }
        let waiting = &mut self.waiting;
        self.asleep.touched_by(&self.store, row, &self.settings, |sleeper| {
            waiting.insert((row, sleeper));
        });
        let token = self.store.row_at(row).token;
        if token.is_some() && self.exchanges.concerns(token) {
            let sleepers = self.asleep.that_showed(self.store.text(token));
            self.waiting.extend(sleepers.into_iter().map(|sleeper| (row, sleeper)));
        }
    }

    /// Makes everything anew from the rows that are left. Numbers of names and rows change; texts do not.
    fn rebuild(&mut self) {
        let old = std::mem::take(&mut self.store);
        let known = std::mem::take(&mut self.known);
        let dirty = std::mem::take(&mut self.dirty);
        let (sealed, postponed) = (std::mem::take(&mut self.sealed), std::mem::take(&mut self.postponed));
        let waiting = std::mem::take(&mut self.waiting);
        (self.index, self.windows, self.sets) = (Index::default(), Windows::default(), Sets::default());
        (self.exchanges, self.showed) = (Exchanges::default(), HashMap::default());
        (self.set_of, self.due, self.dead) = (HashMap::default(), BTreeSet::new(), 0);
        self.scratch = Scratch::default();
        for (issued, subject, actor) in &self.exchanged {
            self.exchanges.enter(&mut self.store, issued, subject, actor.as_deref());
        }
        let mut moved: HashMap<u32, u32> = HashMap::default();
        let mut rows: Vec<u32> = known.values().flat_map(|k| k.rows.iter().copied()).collect();
        rows.sort_unstable();
        for row in rows {
            let (new, _) = self.store.adopt(&old, row);
            if old.mutated.contains(&row) {
                self.store.mutated.insert(new);
            }
            self.enter(new);
            moved.insert(row, new);
        }
        self.dirty.clear();
        // Any member of a set finds the one that stands for it now.
        for (set, before) in known {
            let new = self.sets.find(moved[&before.rows[0]]);
            self.dirty.extend(dirty.contains(&set).then_some(new));
            self.sealed.extend(sealed.contains(&set).then_some(new));
            if let Some(deadline) = postponed.get(&set) {
                self.postponed.insert(new, *deadline);
                self.due.insert((*deadline, new));
            }
            self.due.extend(before.due.map(|due| (due, new)));
            self.set_of.extend(before.published.iter().map(|p| (p.id.clone(), new)));
            let now = self.known.entry(new).or_default();
            (now.published, now.due, now.judged) = (before.published, before.due, before.judged);
        }
        self.waiting =
            waiting.into_iter().map(|(row, s)| (if row == NOBODY { NOBODY } else { moved[&row] }, s)).collect();
    }
}

impl Chain {
    /// Digest of everything that is said of a chain, over its fields: an event's content stands for what its record says,
    /// other texts stand as themselves. Equal chains of two stores have equal digests.
    pub fn fingerprint(&self, tenant: &str, store: &Store) -> u128 {
        let mut said: Vec<u8> = Vec::with_capacity(128 + self.links.len() * 96);
        let text = |said: &mut Vec<u8>, text: &str| {
            said.extend((text.len() as u32).to_be_bytes());
            said.extend(text.as_bytes());
        };
        text(&mut said, tenant);
        text(&mut said, &self.id);
        said.push(self.named_by as u8);
        said.extend([self.depth, self.fanout, self.secondary_skipped].iter().flat_map(|n| n.to_be_bytes()));
        // Paths by their digests: their places depend on the order in which they were laid.
        let paths: Vec<[u8; 8]> = self
            .paths
            .iter()
            .map(|path| {
                let mut hops = vec![u8::from(path.is_capped)];
                for hop in &path.hops {
                    for name in [hop.id, hop.issuer, hop.kind] {
                        text(&mut hops, store.text(name));
                    }
                    hops.push(hop.tier as u8);
                    hops.extend(hop.confidence.0.to_be_bytes());
                }
                let mut short = [0; 8];
                short.copy_from_slice(&Sha256::digest(&hops)[..8]);
                short
            })
            .collect();
        for link in &self.links {
            let row = store.row_at(link.row);
            said.extend(row.content.to_be_bytes());
            text(&mut said, store.text(row.source));
            text(&mut said, store.text(row.event));
            said.extend([link.parent, link.operation, link.attempt].iter().flat_map(|n| n.to_be_bytes()));
            said.extend([link.tier.map_or(u8::MAX, |t| t as u8), link.standing as u8, link.marks.0]);
            said.extend(link.confidence.0.to_be_bytes());
            said.extend(paths[link.path as usize]);
        }
        for o in &self.operations {
            said.extend([o.first, o.last, o.attempts, o.parent, o.decided_by].iter().flat_map(|n| n.to_be_bytes()));
            said.push(u8::from(o.forwarded));
        }
        for s in &self.secondary {
            said.extend([s.child, s.parent].iter().flat_map(|n| n.to_be_bytes()));
            said.push(s.tier as u8);
        }
        for ghost in &self.ghosts {
            said.push(ghost.kind as u8);
            said.extend(ghost.by.to_be_bytes());
            for name in ghost.names {
                text(&mut said, store.text(name));
            }
        }
        // How many there are of each, so that none can pass for another.
        for n in [self.links.len(), self.operations.len(), self.secondary.len(), self.ghosts.len()] {
            said.extend((n as u64).to_be_bytes());
        }
        let mut half = [0; 16];
        half.copy_from_slice(&Sha256::digest(&said)[..16]);
        u128::from_be_bytes(half)
    }
}
