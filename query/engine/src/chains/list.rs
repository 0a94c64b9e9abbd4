//! Lists of chains.
//!
//! Guarantee: the last chains that fit, by their ends, and how many fit in all, at one version of the lake. What a filter names is
//! looked up once in a layer: one that does not have the name has no such chain.

use super::rebuilt::Rebuilt;
use super::{Shown, in_time, kept};
use crate::engine::Session;
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use catena_analysis::chain::Lineage;
use catena_analysis::chain::rules::Name;
use catena_schemas::{Micros, Outcome};
use std::sync::Arc;

/// Which chains to list. A chain fits when each condition holds for it, or for any of its calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Chains with a call from here on.
    pub from: Option<Micros>,
    /// Chains with a call before.
    pub until: Option<Micros>,
    /// Chains of this requester.
    pub requester: Option<String>,
    /// Chains with this actor.
    pub agent: Option<String>,
    /// Chains with this tool.
    pub tool: Option<String>,
    /// Chains with this server.
    pub server: Option<String>,
    /// Chains with a call of this outcome.
    pub outcome: Option<Outcome>,
    /// Chains of which this is known of where they begin.
    pub lineage: Option<Lineage>,
    /// Chains with a hop that widened what it was given.
    pub widened: bool,
    /// Chains with a path of at least so many principals.
    pub depth: Option<usize>,
    /// Chains of this tenant.
    pub tenant: Option<String>,
}

/// A filter, in the names of one layer.
struct Wanted<'f> {
    filter: &'f Filter,
    requester: Option<Name>,
    agent: Option<Name>,
    tool: Option<Name>,
    server: Option<Name>,
}

impl Filter {
    /// None when the layer lacks a name.
    fn in_names_of(&self, of: &Rebuilt) -> Option<Wanted<'_>> {
        let name = |text: &Option<String>| match text.as_deref() {
            None => Some(None),
            Some(text) => of.store().name(text).filter(|name| name.is_some()).map(Some),
        };
        Some(Wanted {
            filter: self,
            requester: name(&self.requester)?,
            agent: name(&self.agent)?,
            tool: name(&self.tool)?,
            server: name(&self.server)?,
        })
    }
}

impl Wanted<'_> {
    fn fits(&self, of: &Rebuilt, at: usize) -> bool {
        let (chain, store, filter) = (of.chain(at), of.store(), self.filter);
        let any_hop =
            |skip: usize, name: Name| chain.paths.iter().any(|p| p.hops.iter().skip(skip).any(|h| h.id == name));
        let is_root = |name: Name| chain.paths.iter().any(|p| p.hops.first().is_some_and(|h| h.id == name));
        let calls = |server: Option<Name>, tool: Option<Name>| {
            chain.links.iter().any(|link| {
                let target = chain.target(store, link);
                server.is_none_or(|server| target.0 == server) && tool.is_none_or(|tool| target.1 == tool)
            })
        };
        filter.from.is_none_or(|from| chain.ended(store) >= from)
            && filter.until.is_none_or(|until| chain.started(store) < until)
            && filter.lineage.is_none_or(|l| chain.lineage() == l)
            && filter.depth.is_none_or(|depth| chain.paths.iter().any(|p| p.hops.len() >= depth))
            && self.requester.is_none_or(is_root)
            && self.agent.is_none_or(|agent| any_hop(1, agent))
            && self.tool.is_none_or(|tool| calls(None, Some(tool)))
            && self.server.is_none_or(|server| calls(Some(server), None))
            && filter.outcome.is_none_or(|o| chain.links.iter().any(|l| chain.outcome(store, l) == o))
            && (!filter.widened || of.judged(at).unwrap_or_default().iter().any(|j| j.widened_at.is_some()))
    }
}

/// Chains found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Chains, the newest last.
    pub chains: Vec<Shown>,
    /// Chains that fit the filter, shown or not.
    pub total: usize,
    /// Version of the lake.
    pub version: Option<u64>,
}

/// Places of the last `limit` chains that fit, in no order; and how many fit.
fn fitting(of: &Rebuilt, filter: &Filter, limit: usize) -> (Vec<usize>, usize) {
    let Some(wanted) = filter.in_names_of(of) else { return (Vec::new(), 0) };
    let ended = |at: usize| (of.chain(at).ended(of.store()), at);
    let some = |share: Vec<usize>| share.into_iter().filter(|at| wanted.fits(of, *at)).map(ended).collect::<Vec<_>>();
    let threads = of.threads();
    let mut all: Vec<(Micros, usize)> = std::thread::scope(|scope| {
        let some = &some;
        let shares: Vec<_> = (0..threads).map(|part| scope.spawn(move || some(of.share(part, threads)))).collect();
        shares.into_iter().flat_map(|share| share.join().expect("looking at chains does not panic")).collect()
    });
    let total = all.len();
    if total > limit {
        let id = |at: usize| &of.chain(at).id;
        all.select_nth_unstable_by(total - limit, |a, b| a.0.cmp(&b.0).then_with(|| id(a.1).cmp(id(b.1))));
        all.drain(..total - limit);
    }
    (all.into_iter().map(|(_, at)| at).collect(), total)
}

/// Leaves the last chains, in order of their ends.
fn last(chains: &mut Vec<Shown>, limit: usize) {
    chains.sort_by(|a, b| (a.ended(), &a.of.tenant, &a.chain().id).cmp(&(b.ended(), &b.of.tenant, &b.chain().id)));
    chains.drain(..chains.len().saturating_sub(limit));
}

impl Session {
    /// The last `limit` chains that fit.
    pub async fn chains(&self, limit: usize, filter: &Filter, limits: &Limits) -> Result<Found, QueryError> {
        let work = async {
            let pinned = self.pin().await?;
            let (snapshot, engine, filter) = (pinned.pinned_at(), self.engine(), Arc::new(filter.clone()));
            let (mut chains, mut total) = (Vec::new(), 0);
            let sections = engine.sections(self.scope(), &snapshot).await?;
            for section in sections.all {
                if filter.tenant.as_deref().is_some_and(|t| t != &**section.tenant()) {
                    continue;
                }
                for of in engine.section(&section, &snapshot).await? {
                    let (layer, filter) = (of.clone(), filter.clone());
                    let looked = tokio::task::spawn_blocking(move || fitting(&layer, &filter, limit)).await;
                    let (fitting, fit) =
                        looked.map_err(|_| QueryError::new(Code::Internal, "chains could not be looked at"))?;
                    total += fit;
                    chains.extend(kept(&of, fitting, sections.fit));
                    last(&mut chains, limit);
                }
            }
            Ok(Found { chains, total, version: snapshot.version() })
        };
        in_time(limits, work).await
    }
}
