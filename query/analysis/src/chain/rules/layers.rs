//! Chains in layers: what newer facts changed is laid over what was rebuilt before.
//!
//! Guarantee: the chains that lie open, of all layers together, are those that a rebuild of all facts would give. Layers that
//! are there are never changed: whoever reads an older state goes on reading it, and both share what they have in common.
//!
//! ```text
//!  newer facts ──keys──▶ footprints of each layer ──▶ chains that they touch
//!       │                                                │ covered, where they lie
//!       └───────────────── told together ◀───────────────┘
//!                                │ rebuild_some
//!                                ▼
//!                            a new layer
//! ```
//!
//! **What it costs.** Work is in proportion to the newer facts and the chains that they touch. A layer that is not twice as
//! large as what is laid over it is taken into it, so that a fact is told again about as often as the number of facts has
//! digits, and there are as few layers. The lowest layer stays: [`Layers::is_heavy`] says when to rebuild it.

use super::exchange::Exchanged;
use super::footprints::{Footprints, Seen};
use super::texts::Name;
use super::ties::Witnesses;
use super::{Chain, Index, Settings, Store, rebuild_some};
use crate::authority::Book;
use crate::fault::{self, Fault};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// So many events may lie over the lowest layer, however small that is.
const LIGHT: usize = 1000;

/// Chains, and what the events say that they are made of.
#[derive(Debug)]
pub struct Layer {
    /// What the events say.
    pub store: Store,
    /// Chains, in the order of their first events.
    pub chains: Vec<Chain>,
    index: OnceLock<Index>,
    footprints: OnceLock<Footprints>,
}

impl Layer {
    /// A layer of whole chains.
    pub fn new(store: Store, chains: Vec<Chain>) -> Layer {
        Layer { store, chains, index: OnceLock::new(), footprints: OnceLock::new() }
    }

    /// Places of the chains that a name means: of a chain, or of an event, session or trace of one, or of a decision that
    /// one of its events names and that is not here.
    pub fn find(&self, name: &str) -> Vec<usize> {
        let by_id = || self.chains.iter().position(|chain| chain.id == name);
        match name.starts_with("c-").then(by_id).flatten() {
            Some(at) => vec![at],
            None => self.named(name).into_iter().map(|at| at as usize).collect(),
        }
    }

    /// Places of the chains of an event, session or trace, in order.
    pub fn named(&self, name: &str) -> Vec<u32> {
        self.index().find(&self.store, name)
    }

    /// The same, by a name of the store.
    pub(super) fn of_name(&self, name: Name) -> impl Iterator<Item = u32> {
        self.index().of_name(name)
    }

    fn index(&self) -> &Index {
        self.index.get_or_init(|| Index::of(&self.store, &self.chains))
    }

    fn footprints(&self, settings: &Settings) -> &Footprints {
        self.footprints.get_or_init(|| Footprints::of(&self.store, &self.chains, settings))
    }
}

/// A layer, and which of its chains lie open: the others are in one above it.
#[derive(Clone, Debug)]
pub struct Laid {
    layer: Arc<Layer>,
    covered: Arc<Covered>,
}

#[derive(Clone, Debug, Default)]
struct Covered {
    /// A bit for each chain; none when all lie open.
    bits: Vec<u64>,
    /// Events of the chains that do.
    events: usize,
}

impl Covered {
    fn has(&self, chain: usize) -> bool {
        self.bits.get(chain / 64).is_some_and(|word| word >> (chain % 64) & 1 == 1)
    }
}

impl Laid {
    /// A layer that nothing lies over.
    pub fn open(layer: Layer) -> Laid {
        let events = layer.chains.iter().map(|chain| chain.links.len()).sum();
        Laid { layer: Arc::new(layer), covered: Arc::new(Covered { bits: Vec::new(), events }) }
    }

    /// The layer.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Whether two are the same layer, whatever lies over them.
    pub fn is_same_layer(&self, other: &Laid) -> bool {
        Arc::ptr_eq(&self.layer, &other.layer)
    }

    /// Whether a chain lies open.
    pub fn has(&self, chain: usize) -> bool {
        !self.covered.has(chain)
    }

    /// Places of the chains that lie open, in order.
    pub fn places(&self) -> impl Iterator<Item = usize> {
        (0..self.layer.chains.len()).filter(|at| self.has(*at))
    }

    /// Adds a chain, if it lies open.
    fn note(&self, chain: u32, touched: &mut BTreeSet<u32>) {
        if self.has(chain as usize) {
            touched.insert(chain);
        }
    }

    fn cover(&mut self, chains: &BTreeSet<u32>) {
        let covered = Arc::make_mut(&mut self.covered);
        covered.bits.resize(self.layer.chains.len().div_ceil(64), 0);
        for chain in chains {
            covered.bits[*chain as usize / 64] |= 1 << (chain % 64);
            covered.events -= self.layer.chains[*chain as usize].links.len();
        }
    }
}

/// Chains of one tenant, the lowest layer first.
#[derive(Clone, Debug)]
pub struct Layers {
    tenant: Arc<str>,
    settings: Settings,
    all: Vec<Laid>,
    witnesses: Arc<Witnesses>,
}

impl Layers {
    /// Rebuilds all chains of a store, as the lowest layer. The book is that of the tenant.
    pub fn ground(tenant: &Arc<str>, mut store: Store, book: &Book, settings: &Settings) -> Layers {
        let exchanged = book.exchanged();
        let mut witnesses = Witnesses::wanted(&exchanged);
        if !exchanged.is_empty() {
            (0..store.len() as u32).for_each(|row| _ = witnesses.see(&store, row));
        }
        let chains = rebuild_some(tenant, &mut store, &exchanged, &Witnesses::default(), settings).chains;
        Layers {
            tenant: tenant.clone(),
            settings: settings.clone(),
            all: vec![Laid::open(Layer::new(store, chains))],
            witnesses: Arc::new(witnesses),
        }
    }

    /// The layers.
    pub fn all(&self) -> &[Laid] {
        &self.all
    }

    /// Who first showed tokens that were exchanged.
    pub fn witnesses(&self) -> &Arc<Witnesses> {
        &self.witnesses
    }

    /// Events in memory, those of covered chains among them.
    pub fn held(&self) -> usize {
        self.all.iter().map(|laid| laid.layer.store.len()).sum()
    }

    /// Whether what lies over the lowest layer is so much that a rebuild would pay.
    pub fn is_heavy(&self) -> bool {
        let above: usize = self.all[1..].iter().map(|laid| laid.layer.store.len()).sum();
        above > LIGHT.max(self.all[0].layer.store.len() / 2)
    }

    /// Lays newer facts over. The book is that of the tenant by now, `new` are the exchanges that were not known before.
    pub fn over(&self, mut store: Store, book: &Book, new: &[Exchanged]) -> Layers {
        let mut witnesses = self.witnesses.clone();
        let mut touched: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); self.all.len()];
        for (laid, touched) in self.all.iter().zip(&mut touched).filter(|_| !fault::on(Fault::CoveredForgotten)) {
            let (footprints, seen) = (laid.layer.footprints(&self.settings), Seen::new(&store, &laid.layer));
            for row in 0..store.len() as u32 {
                seen.touches(row, footprints, &self.settings, |chain| laid.note(chain, touched));
            }
        }
        let shown: Vec<u32> = (0..store.len() as u32).filter(|row| witnesses.concern(&store, *row)).collect();
        if !new.is_empty() || !shown.is_empty() {
            let witnesses = Arc::make_mut(&mut witnesses);
            let tokens = rested_on(witnesses, &store, &shown, book, new);
            for (laid, touched) in self.all.iter().zip(&mut touched).filter(|_| !fault::on(Fault::BearersForgotten)) {
                let footprints = laid.layer.footprints(&self.settings);
                for token in tokens.iter().filter_map(|token| laid.layer.store.name(token)) {
                    footprints.that_showed(token, |chain| laid.note(chain, touched));
                }
            }
        }
        if store.is_empty() && touched.iter().all(BTreeSet::is_empty) {
            return Layers { witnesses, ..self.clone() };
        }
        let mut all = self.all.clone();
        for (laid, touched) in all.iter_mut().zip(&touched).filter(|(_, touched)| !touched.is_empty()) {
            let from = laid.layer();
            touched.iter().for_each(|chain| store.take_chain(&from.store, &from.chains[*chain as usize]));
            laid.cover(touched);
        }
        let ground = all[0].layer.clone();
        all.retain(|laid| laid.covered.events > 0 || Arc::ptr_eq(&laid.layer, &ground));
        while all.len() > 1 && all.last().is_some_and(|last| last.covered.events < 2 * store.len()) {
            let Some(last) = all.pop() else { break };
            last.places().for_each(|at| store.take_chain(&last.layer.store, &last.layer.chains[at]));
        }
        if !new.is_empty() {
            // Whoever showed one of their tokens is here now.
            let witnesses = Arc::make_mut(&mut witnesses);
            (0..store.len() as u32).for_each(|row| _ = witnesses.see(&store, row));
        }
        let exchanged = exchanges_of(&store, book);
        let chains = rebuild_some(&self.tenant, &mut store, &exchanged, &witnesses, &self.settings).chains;
        all.push(Laid::open(Layer::new(store, chains)));
        Layers { tenant: self.tenant.clone(), settings: self.settings.clone(), all, witnesses }
    }
}

/// Exchanges that the tokens of a store came from.
pub fn exchanges_of(store: &Store, book: &Book) -> Vec<Exchanged> {
    let shown: BTreeSet<Name> = (0..store.len() as u32).map(|row| store.row_at(row).token).collect();
    book.exchanged_for(shown.into_iter().filter(|token| token.is_some()).map(|token| store.text(token)))
}

/// Tokens of the calls that may have another path by now: exchanges are new, and rows show tokens that were exchanged.
fn rested_on(
    witnesses: &mut Witnesses,
    store: &Store,
    shown: &[u32],
    book: &Book,
    new: &[Exchanged],
) -> BTreeSet<String> {
    let mut changed: BTreeSet<&str> = new.iter().map(|(issued, ..)| issued.as_str()).collect();
    for row in shown.iter().filter(|row| witnesses.see(store, **row)) {
        changed.insert(store.text(store.row_at(*row).token));
    }
    witnesses.want(new);
    let given = new.iter().flat_map(|(_, subject, actor)| std::iter::once(subject).chain(actor)).cloned();
    changed.into_iter().flat_map(|token| book.issued_from(token)).chain(given).collect()
}
