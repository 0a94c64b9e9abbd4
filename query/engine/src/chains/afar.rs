//! Chains of a tenant that has more of them than fit into memory, kept up to date by looking at all of them again.
//!
//! Guarantee: as of [`Watch`]: after each look that was published, the newest revisions in the lake say of every chain what a
//! rebuild says. Between two looks nothing of the chains is held; a look rebuilds them part by part, and compares them with
//! what was published. Whoever looks for long rests for longer: revisions come later, and the machine is left to others.

use super::revisions::Writing;
use super::sections::sources;
use super::watch::{Known, Publication, SETTLING_US, Watch};
use crate::error::QueryError;
use crate::log::Snapshot;
use crate::table::Scope;
use arrow_array::RecordBatch;
use catena_analysis::chain::rules::watch::{Published, State};
use catena_schemas::Micros;
use object_store::path::Path;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many times as long as it looked, a watch rests.
const REST: u32 = 3;
/// A look that is shorter than this wants no rest.
const SHORT: Duration = Duration::from_secs(1);
/// After a look that failed, the next is not before this.
const FAILED: Duration = Duration::from_secs(60);

/// What is known of a tenant between two looks.
#[derive(Debug)]
pub(super) struct Afar {
    /// Files that the last look was about.
    seen: HashSet<Path>,
    looked: Micros,
    /// The next look is not before this.
    rests_until: Option<Instant>,
}

impl Watch {
    /// Looks at all chains of a tenant, if there is anything new.
    pub(super) async fn look_from_afar(
        &mut self,
        tenant: &Arc<str>,
        snapshot: &Arc<Snapshot>,
        now: Micros,
    ) -> Result<Option<Publication>, QueryError> {
        let Some(version) = snapshot.version() else { return Ok(None) };
        let files: HashSet<Path> = sources(snapshot, tenant).iter().map(|f| f.location.clone()).collect();
        if let Some(last) = self.afar.get(tenant) {
            let is_settling = now.0.saturating_sub(last.looked.0) >= SETTLING_US;
            let rests = last.rests_until.is_some_and(|until| Instant::now() < until);
            if rests || last.seen == files && !is_settling {
                return Ok(None);
            }
        }
        let begun = Instant::now();
        let rows = self.look(tenant, snapshot, version, now).await;
        let (took, ended) = (begun.elapsed(), Instant::now());
        let rests_until = match &rows {
            Err(_) => Some(ended + FAILED.max(took * REST)),
            Ok(_) if took > SHORT => Some(ended + took * REST),
            Ok(_) => None,
        };
        let seen = if rows.is_ok() { files } else { HashSet::new() };
        self.afar.insert(tenant.clone(), Afar { seen, looked: now, rests_until });
        Ok(rows?.map(|rows| Publication { tenant: tenant.clone(), rows, position: version as i64 + 1 }))
    }

    /// Rows for everything that has changed since it was published.
    async fn look(
        &self,
        tenant: &Arc<str>,
        snapshot: &Arc<Snapshot>,
        version: u64,
        now: Micros,
    ) -> Result<Option<RecordBatch>, QueryError> {
        let known = self.known(tenant, snapshot).await?;
        let mut absorbed: BTreeMap<&str, Vec<&Published>> = BTreeMap::new();
        let mut by_first: HashMap<(&str, &str), &Known> = HashMap::with_capacity(known.len());
        for old in known.values() {
            match &old.into {
                Some(into) => absorbed.entry(into).or_default().push(&old.published),
                None => _ = by_first.insert((&old.first.0, &old.first.1), old),
            }
        }
        let mut rows = Writing::new(tenant, version, now);
        for section in self.engine.sections(&Scope::Tenant(tenant.clone()), snapshot).await?.all {
            let layers = self.engine.section(&section, snapshot).await?;
            for (of, (at, chain)) in layers.iter().flat_map(|of| of.chains().map(move |chain| (of, chain))) {
                let ended = chain.ended(of.store());
                let (fingerprint, state) =
                    (chain.fingerprint(tenant, of.store()), State::at(now, ended.0, &self.settings));
                let widened =
                    of.judged(at).unwrap_or_default().iter().filter(|j| j.widened_at.is_some()).count() as i64;
                let before = known.get(&chain.id).filter(|k| k.into.is_none());
                let is_same = |k: &Known| {
                    (k.published.fingerprint, k.published.state, k.widened) == (fingerprint, state, widened)
                };
                if before.is_some_and(is_same) {
                    continue;
                }
                // Chains only come together: whoever's first event stands here under another name has given that name up.
                let first = |l| by_first.get(&(chain.source(of.store(), l), chain.event(of.store(), l)));
                let mut gone: BTreeMap<&str, &Known> =
                    chain.links.iter().filter_map(first).map(|k| (k.published.id.as_str(), *k)).collect();
                gone.remove(chain.id.as_str());
                for (id, old) in &gone {
                    let mut names = absorbed.get(id).cloned().unwrap_or_default();
                    names.sort_by(|a, b| a.id.cmp(&b.id));
                    for name in names.into_iter().chain([&old.published]) {
                        let given_up = Published { revision: name.revision + 1, ..name.clone() };
                        rows.gone(&given_up, &chain.id, ended);
                    }
                }
                let revision = before.map_or(0, |k| k.published.revision) + 1;
                let published = Published { id: chain.id.clone(), revision, state, fingerprint };
                let aliases: Vec<String> = gone.into_keys().map(str::to_owned).collect();
                rows.say(of.store(), chain, &published, widened, &aliases);
            }
        }
        Ok(rows.finish())
    }
}
