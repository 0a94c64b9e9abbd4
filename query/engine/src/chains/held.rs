//! What is held of the chains of a lake: of each section the versions that were asked for last.
//!
//! Guarantee: what is held never changes, so that a question about a version is answered from it while the next is there. All of
//! it has a ceiling: whatever was not asked for in the longest time makes room.

use super::parts::Plan;
use super::rebuilt::Rebuilt;
use super::sections::{EVENT_BYTES, bytes};
use crate::log::{DataFile, Snapshot};
use catena_analysis::chain::rules::Terms;
use catena_analysis::chain::rules::layers::Layers;
use object_store::path::Path;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Something of a tenant, and whoever is making it now.
pub(super) type Held<T> = Arc<tokio::sync::Mutex<Option<Arc<T>>>>;

/// Versions of a section, and whoever is making one now.
pub(super) type Standing = Arc<tokio::sync::Mutex<Versions>>;

/// A tenant, and which part of its chains; zero when it has no parts, and [`PLAN`] for what tells them apart.
pub(super) type Place = (Arc<str>, u16);

/// There are fewer parts than this.
pub(super) const PLAN: u16 = u16::MAX;

/// Versions of a section that are held: they share what they have in common, and questions about one are asked while the
/// next is there.
const VERSIONS: usize = 8;

/// Chains of a section as of one version.
#[derive(Debug)]
pub(super) struct AsOf {
    pub(super) version: Option<u64>,
    /// Decisions and records of authority that they were made of.
    pub(super) files: Vec<Arc<DataFile>>,
    /// Of a tenant that is held whole.
    pub(super) layers: Option<Layers>,
    pub(super) chains: Vec<Arc<Rebuilt>>,
}

/// What a later version has that an earlier one has not, and what it lies over.
pub(super) struct Newer {
    pub(super) fresh: Vec<Arc<DataFile>>,
    pub(super) layers: Layers,
    pub(super) terms: Arc<Terms>,
    pub(super) chains: Vec<Arc<Rebuilt>>,
}

impl AsOf {
    /// Bytes of memory; of a part they are `needed`.
    pub(super) fn bytes(&self, needed: u64) -> u64 {
        self.layers.as_ref().map_or(needed, |layers| layers.held() as u64 * EVENT_BYTES)
    }

    /// The chains as of a version that has the same files.
    pub(super) fn at(&mut self, version: Option<u64>) -> Vec<Arc<Rebuilt>> {
        if self.version != version {
            let as_of = |known: &Arc<Rebuilt>| Arc::new(Rebuilt { version, ..Rebuilt::clone(known) });
            let chains: Vec<_> = self.chains.iter().map(as_of).collect();
            if self.version > version {
                return chains;
            }
            (self.version, self.chains) = (version, chains);
        }
        self.chains.clone()
    }

    /// What is new in a later version; none when rows have gone, or when there is no room for it.
    fn until(&self, tenant: &str, snapshot: &Snapshot, files: &[Arc<DataFile>], may_take: u64) -> Option<Newer> {
        let (layers, version) = (self.layers.clone()?, self.version?);
        if snapshot.lost_rows_at(tenant).is_some_and(|lost| lost > version) {
            return None;
        }
        let known: HashSet<&Path> = self.files.iter().map(|f| &f.location).collect();
        let is_fresh = |f: &&Arc<DataFile>| f.rows_since > version && !known.contains(&f.location);
        let fresh: Vec<_> = files.iter().filter(is_fresh).cloned().collect();
        if self.bytes(0).saturating_add(bytes(fresh.iter().cloned()).1) > may_take {
            return None;
        }
        let chains = self.chains.clone();
        Some(Newer { fresh, layers, terms: chains.first()?.terms.clone(), chains })
    }

    fn is_heavy(&self) -> bool {
        self.layers.as_ref().is_some_and(Layers::is_heavy)
    }
}

/// Versions of a section, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Versions {
    all: Vec<AsOf>,
    /// Whether a rebuild is on its way that everything will be laid over.
    is_renewed: bool,
}

impl Versions {
    /// That which was made of the same files.
    pub(super) fn made_of(&mut self, files: &[Arc<DataFile>], is_whole: bool) -> Option<&mut AsOf> {
        self.all.iter_mut().find(|v| same(&v.files, files) && v.layers.is_some() == is_whole)
    }

    /// What a version has that the newest before it has not; none when it has to be rebuilt.
    pub(super) fn until(
        &self,
        tenant: &str,
        snapshot: &Snapshot,
        files: &[Arc<DataFile>],
        may_take: u64,
    ) -> Option<Newer> {
        let before = self.all.iter().rev().find(|v| v.version < snapshot.version())?;
        before.until(tenant, snapshot, files, may_take)
    }

    /// Takes one that is as good as those that are there.
    pub(super) fn add(&mut self, made: AsOf) {
        self.all.push(made);
        self.all.sort_by_key(|v| v.version);
        let too_many = self.all.len().saturating_sub(VERSIONS);
        self.all.drain(..too_many);
    }

    /// Whether the newest wants to be renewed, and nobody does yet; from now on somebody does.
    pub(super) fn begin_renewal(&mut self, needed: u64, may_take: u64) -> bool {
        let newest = self.all.last().filter(|v| !self.is_renewed && v.is_heavy());
        // Both are there for a while.
        self.is_renewed |= newest.is_some_and(|v| v.bytes(needed).saturating_add(needed) <= may_take);
        newest.is_some() && self.is_renewed
    }

    /// A rebuild has come, or has failed. What was held makes room for it, unless that was renewed meanwhile.
    pub(super) fn end_renewal(&mut self, made: Option<AsOf>) {
        self.is_renewed = false;
        if let Some(made) = made.filter(|_| self.all.last().is_some_and(AsOf::is_heavy)) {
            self.all = vec![made];
        }
    }

    /// Lets go of all.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}

/// Chains by tenant, each of the versions that were asked for last.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Tenants>);

#[derive(Debug, Default)]
struct Tenants {
    plans: HashMap<Arc<str>, Held<Plan>>,
    held: HashMap<Place, Standing>,
    /// Places and the bytes of their chains, the one that was asked for last at the end.
    used: Vec<(Place, u64)>,
}

impl Cache {
    pub(super) fn plan(&self, tenant: &Arc<str>) -> Held<Plan> {
        self.0.lock().plans.entry(tenant.clone()).or_default().clone()
    }

    pub(super) fn of(&self, place: &Place) -> Standing {
        self.0.lock().held.entry(place.clone()).or_default().clone()
    }

    /// Notes that chains were asked for, and lets go of those that were not asked for in the longest time, until all fit.
    pub(super) fn note(&self, place: &Place, bytes: u64, bytes_max: u64) {
        let mut tenants = self.0.lock();
        let Tenants { plans, held, used } = &mut *tenants;
        used.retain(|(p, _)| p != place);
        used.push((place.clone(), bytes));
        let mut total: u64 = used.iter().map(|(_, b)| b).sum();
        while total > bytes_max && used.len() > 1 {
            let (gone, bytes) = used.remove(0);
            held.remove(&gone);
            if gone.1 == PLAN {
                plans.remove(&gone.0);
            }
            total -= bytes;
        }
    }
}

pub(super) fn same(a: &[Arc<DataFile>], b: &[Arc<DataFile>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.location == b.location)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tenants are asked for in turn, each with so many bytes: who is held in the end.
    fn check(asked: &[(&str, u64)], bytes_max: u64, want: &[&str]) {
        let cache = Cache::default();
        for (tenant, bytes) in asked {
            let place: Place = ((*tenant).into(), 0);
            cache.of(&place);
            cache.note(&place, *bytes, bytes_max);
        }
        let tenants = cache.0.lock();
        let used: Vec<&str> = tenants.used.iter().map(|((tenant, _), _)| tenant.as_ref()).collect();
        assert_eq!(used, want, "{asked:?}");
        assert_eq!(tenants.held.len(), want.len());
    }

    #[test]
    fn chains_of_tenants_that_nobody_asks_for_are_let_go() {
        check(&[("a", 4), ("b", 4)], 10, &["a", "b"]);
        check(&[("a", 4), ("b", 4), ("c", 4)], 10, &["b", "c"]);
        check(&[("a", 4), ("b", 4), ("a", 4), ("c", 4)], 10, &["a", "c"]);
        check(&[("a", 4), ("b", 20)], 10, &["b"]);
        check(&[("a", 4), ("a", 9)], 10, &["a"]);
    }

    #[test]
    fn a_plan_makes_room_as_chains_do() {
        let cache = Cache::default();
        let tenant: Arc<str> = "a".into();
        cache.plan(&tenant);
        cache.note(&(tenant.clone(), PLAN), 4, 10);
        cache.note(&(tenant.clone(), 0), 6, 10);
        assert_eq!(cache.0.lock().plans.len(), 1);
        cache.note(&(tenant, 1), 6, 10);
        assert_eq!(cache.0.lock().plans.len(), 0);
    }
}
