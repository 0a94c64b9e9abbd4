//! Token exchanges: whose token was swapped for which.
//!
//! Guarantee: an exchange says who stands behind a token, and never which call led to which: a token of a day would make
//! one chain of a day's work. A ring of exchanges is walked once.

use super::evidence::{Confidence, Principal};
use super::path::{Hop, Path, own};
use super::store::{NOBODY, Row, Store};
use super::texts::Name;
use ahash::{HashMap, HashSet};

/// References of the issued token, the subject's and the actor's.
pub type Exchanged = (String, String, Option<String>);

/// Exchanges walked back from one token.
const STEPS_MAX: usize = 16;

/// An exchange, in the names of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Swap {
    subject: Name,
    actor: Name,
}

/// The exchanges that a store's tokens came from, and the earliest event that showed each token.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    /// By issued token. Two records of one token that differ say nothing certain: `None`.
    swaps: HashMap<Name, Option<Swap>>,
    bearers: HashMap<Name, u32>,
    concerned: HashSet<Name>,
    /// Tokens that were issued for a token, as subject's or actor's.
    issued_for: HashMap<Name, Vec<Name>>,
}

impl Exchanges {
    /// Enters a record. References of tokens are texts of the store.
    pub(super) fn enter(&mut self, store: &mut Store, issued: &str, subject: &str, actor: Option<&str>) {
        let swap = Swap { subject: store.learn(subject), actor: actor.map_or(Name::NONE, |a| store.learn(a)) };
        let issued = store.learn(issued);
        self.concerned.extend([issued, swap.subject, swap.actor].into_iter().filter(|t| t.is_some()));
        for given in [swap.subject, swap.actor].into_iter().filter(|t| t.is_some()) {
            let all = self.issued_for.entry(given).or_default();
            if all.last() != Some(&issued) {
                all.push(issued);
            }
        }
        let held = self.swaps.entry(issued).or_insert(Some(swap));
        if *held != Some(swap) {
            *held = None;
        }
    }

    /// Enters events: who showed which token first. True when that changed for one of them.
    pub(super) fn show(&mut self, store: &Store, rows: impl Iterator<Item = u32>) -> bool {
        let mut changed = false;
        if self.swaps.is_empty() {
            return changed;
        }
        for row in rows {
            let token = store.row_at(row).token;
            if !self.concerns(token) {
                continue;
            }
            let bearer = self.bearers.entry(token).or_insert(NOBODY);
            if *bearer == NOBODY || store.order(row, *bearer).is_lt() {
                *bearer = row;
                changed = true;
            }
        }
        changed
    }

    /// A token, and those whose paths it can change: issued for it, or for one of those.
    pub(super) fn that_rest_on(&self, token: Name) -> Vec<Name> {
        let mut all = vec![token];
        let mut seen: HashSet<Name> = all.iter().copied().collect();
        let mut at = 0;
        while let Some(token) = all.get(at).copied() {
            at += 1;
            for issued in self.issued_for.get(&token).into_iter().flatten() {
                if seen.insert(*issued) {
                    all.push(*issued);
                }
            }
        }
        all
    }

    /// Whether a token was issued, or given, in an exchange.
    pub(super) fn concerns(&self, token: Name) -> bool {
        self.concerned.contains(&token)
    }

    /// The path of an event whose token was exchanged: whoever stood behind the first token, then the actors of each swap.
    pub(super) fn path(&self, store: &Store, row: &Row, of_event: &Path, hops_max: usize) -> Option<Path> {
        if self.swaps.is_empty() || row.token.is_none() {
            return None;
        }
        let mut swaps = Vec::new();
        let mut at = row.token;
        while let Some(Some(swap)) = self.swaps.get(&at) {
            if swaps.len() == STEPS_MAX || swaps.iter().any(|s: &Swap| s.subject == swap.subject) {
                break;
            }
            swaps.push(*swap);
            at = swap.subject;
        }
        let first = swaps.last()?;
        let known = |hop: &Hop| Hop { tier: Principal::P3, confidence: Confidence(950), ..*hop };
        let bearer = |token: Name| {
            let row = self.bearers.get(&token)?;
            Some(own(store, store.bearer_of(store.row_at(*row)), hops_max))
        };
        let mut path = match bearer(first.subject) {
            Some(path) => path,
            None => Path { hops: of_event.hops[..1].to_vec(), is_capped: false },
        };
        let named = |hop: &&Hop| hop.id.is_some();
        if let (Some(root), Some(mine)) = (path.hops.first(), of_event.hops.first()) {
            // The issued token names its subject too; another one is a contradiction that is not settled here.
            if root.id.is_some() && mine.id.is_some() && root.id != mine.id {
                return None;
            }
            if root.id.is_none() && mine.id.is_some() {
                path.hops[0] = *mine;
            }
        }
        for swap in swaps.iter().rev() {
            // Whoever showed the actor token, by the last of its own path. Without an actor the hop is invisible.
            let actor = bearer(swap.actor).filter(|_| swap.actor.is_some());
            if let Some(hop) = actor.as_ref().and_then(|p| p.hops.last()).filter(named) {
                path.add(known(hop));
            }
        }
        if let Some(presenter) = of_event.hops.last().filter(|_| of_event.hops.len() > 1) {
            path.add(*presenter);
        }
        path.cap(hops_max);
        Some(path)
    }
}
