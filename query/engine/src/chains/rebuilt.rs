//! Chains of one tenant at one version of the lake, and what can be asked of them.
//!
//! Guarantee: what is said of a chain is said at the version that it names, whatever has been laid over it since.

use catena_analysis::authority::{Bounds, Within};
use catena_analysis::chain::rules::layers::{Laid, Layer, exchanges_of};
use catena_analysis::chain::rules::ties::Witnesses;
use catena_analysis::chain::rules::watch::State;
use catena_analysis::chain::rules::{Link, Terms, rebuild_some};
use catena_analysis::chain::{Chain, Settings, Store};
use catena_schemas::Micros;
use std::sync::{Arc, OnceLock};

/// Chains of a tenant: all of them, those of one part, or what lies open of one layer.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// Whose.
    pub tenant: Arc<str>,
    /// Version of the lake.
    pub version: Option<u64>,
    /// Records of authority.
    pub terms: Arc<Terms>,
    pub(super) laid: Laid,
    pub(super) witnesses: Arc<Witnesses>,
    pub(super) settings: Settings,
    /// When the last event arrived: whatever is older than the lateness that is expected is settled.
    pub(super) watermark: Micros,
    /// Of all chains of the layer; the same for every version that has the same records of authority.
    pub(super) judged: Arc<OnceLock<Vec<Vec<Judged>>>>,
}

/// Where a call stands to what was delegated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it lies within the bound.
    pub state: Within,
    /// The hop that widened, from 0.
    pub widened_at: Option<u16>,
}

impl Judged {
    const UNKNOWN: Judged = Judged { state: Within::Unknown, widened_at: None };

    fn of(bounds: &Bounds) -> Judged {
        Judged { state: bounds.state, widened_at: bounds.widened_at().and_then(|at| u16::try_from(at).ok()) }
    }
}

impl Rebuilt {
    /// What the events say.
    pub fn store(&self) -> &Store {
        &self.laid.layer().store
    }

    /// A chain by its place.
    pub fn chain(&self, at: usize) -> &Chain {
        &self.laid.layer().chains[at]
    }

    /// The chains and their places, in the order of their first events.
    pub fn chains(&self) -> impl Iterator<Item = (usize, &Chain)> {
        self.laid.places().map(|at| (at, self.chain(at)))
    }

    /// All chains of the layer, those under another one among them.
    pub(super) fn layer(&self) -> &[Chain] {
        &self.laid.layer().chains
    }

    pub(super) fn threads(&self) -> usize {
        self.settings.threads.max(1)
    }

    /// Places of one of several shares of the chains.
    pub(super) fn share(&self, part: usize, parts: usize) -> Vec<usize> {
        let chains = self.laid.layer().chains.len();
        let share = chains.div_ceil(parts);
        (part * share..((part + 1) * share).min(chains)).filter(|at| self.laid.has(*at)).collect()
    }

    /// Places of the chains that a name means: of a chain, or of an event, session or trace of one, or of a decision that
    /// one of its events names and that is not here.
    pub fn find(&self, name: &str) -> Vec<usize> {
        let mut found = self.laid.layer().find(name);
        found.retain(|at| self.laid.has(*at));
        found
    }

    /// The chain of an event of a source. When its id came with several contents that stand in several chains, the first.
    pub(crate) fn chain_of(&self, source: &str, event: &str) -> Option<&str> {
        let layer = self.laid.layer();
        if !layer.store.has(source, event) {
            return None;
        }
        let named = layer.named(event);
        let has = |at: &&u32| {
            let chain = self.chain(**at as usize);
            let is = |l: &Link| chain.event(&layer.store, l) == event && chain.source(&layer.store, l) == source;
            chain.links.iter().any(is)
        };
        // Most names mean one chain; others can share the name of a session, say. A witness stands in no chain.
        let is_certain = named.len() == 1 && self.witnesses.is_empty();
        let at = if is_certain { named.first() } else { named.iter().find(has) };
        at.filter(|at| self.laid.has(**at as usize)).map(|at| self.chain(*at as usize).id.as_str())
    }

    /// Some of the chains, and no more: for who keeps them longer than the others.
    pub(super) fn only(&self, chains: &[usize]) -> Rebuilt {
        self.with(self.store().only(chains.iter().map(|at| self.chain(*at))))
    }

    /// The chains of a store that holds some of the tenant's.
    pub(super) fn with(&self, mut store: Store) -> Rebuilt {
        let exchanged = exchanges_of(&store, &self.terms.book);
        let made = rebuild_some(&self.tenant, &mut store, &exchanged, &self.witnesses, &self.settings);
        Rebuilt {
            tenant: self.tenant.clone(),
            version: self.version,
            terms: self.terms.clone(),
            laid: Laid::open(Layer::new(store, made.chains)),
            witnesses: self.witnesses.clone(),
            settings: self.settings.clone(),
            watermark: self.watermark,
            judged: Arc::default(),
        }
    }

    /// Bounds of every call of a chain.
    pub fn bounds(&self, chain: usize) -> Vec<Bounds> {
        self.chain(chain).all_bounds(self.store(), &self.terms)
    }

    /// Where each call of a chain stands to what was delegated.
    pub fn judged(&self, chain: usize) -> Option<&[Judged]> {
        // A widening needs a record on both sides; without records of authority all is unknown.
        if self.terms.book.is_empty() {
            return None;
        }
        Some(&self.judged.get_or_init(|| self.judge())[chain])
    }

    /// Where a call stands to what was delegated.
    pub fn judged_at(&self, chain: usize, link: usize) -> Judged {
        self.judged(chain).map_or(Judged::UNKNOWN, |all| all[link])
    }

    fn judge(&self) -> Vec<Vec<Judged>> {
        let some = |chains: &[Chain]| -> Vec<Vec<Judged>> {
            let of = |c: &Chain| c.all_bounds(self.store(), &self.terms).iter().map(Judged::of).collect();
            chains.iter().map(of).collect()
        };
        let chains = &self.laid.layer().chains;
        let share = chains.len().div_ceil(self.threads()).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = chains.chunks(share).map(|part| scope.spawn(move || some(part))).collect();
            parts.into_iter().flat_map(|p| p.join().expect("judging does not panic")).collect()
        })
    }

    /// How far a chain is from its end.
    pub fn state(&self, chain: &Chain) -> State {
        State::at(self.watermark, chain.ended(self.store()).0, &self.settings)
    }

    /// The attempts of an operation, in order.
    pub fn attempts<'c>(&self, chain: &'c Chain, operation: usize) -> impl Iterator<Item = &'c Link> {
        let o = &chain.operations[operation];
        let between = &chain.links[o.first as usize..=o.last as usize];
        between.iter().filter(move |l| l.operation as usize == operation)
    }
}
