//! Chains as answers: the plain types of [`catena_schemas::answer`].
//!
//! Guarantee: everything of the chain is there, named by texts and never by the numbers of a store; equal chains of two stores give equal
//! answers.

use super::{Chain, Ghost, Hop, Link, Mark, Name, NamedBy, Standing, Store};
use crate::authority::{Authority, Bound, Bounds};
use catena_schemas::Outcome;
use catena_schemas::answer::chain as answer;
use std::collections::{BTreeMap, BTreeSet};

/// What an answer says of a chain that the chain itself does not know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observed<'a> {
    /// Tenant of the chain.
    pub tenant: &'a str,
    /// `open`, `settled` or `sealed`.
    pub state: &'a str,
    /// Calls with a hop that widened what it was given.
    pub widened: u64,
    /// Version of the lake that the chain was rebuilt from.
    pub lake_version: Option<u64>,
}

impl Chain {
    /// The chain without its calls.
    pub fn summary(&self, store: &Store, observed: &Observed<'_>) -> answer::ChainSummary {
        let mut by_outcome: BTreeMap<String, u64> = BTreeMap::new();
        let mut by_source: BTreeMap<&str, BTreeMap<String, u64>> = BTreeMap::new();
        for link in &self.links {
            *by_outcome.entry(self.outcome(store, link).as_str().to_owned()).or_default() += 1;
            let counts = by_source.entry(self.source(store, link)).or_default();
            for what in ["events", link.standing.as_str()] {
                *counts.entry(what.to_owned()).or_default() += 1;
            }
        }
        let count = |standing| self.count(standing) as u64;
        let owned = |names: BTreeSet<&str>| names.into_iter().map(str::to_owned).collect();
        answer::ChainSummary {
            tenant: observed.tenant.to_owned(),
            chain_id: self.id.clone(),
            named_by: self.named_by.as_str().to_owned(),
            state: observed.state.to_owned(),
            lineage: self.lineage().as_str().to_owned(),
            requesters: owned(self.requesters(store)),
            agents: owned(self.agents(store)),
            tools: owned(self.tools(store)),
            servers: owned(self.servers(store)),
            started: self.started(store).to_rfc3339(),
            ended: self.ended(store).to_rfc3339(),
            events: self.links.len() as u64,
            operations: self.operations.len() as u64,
            depth: self.depth,
            fanout: self.fanout,
            denied: self.with_outcome(store, Outcome::Deny) as u64,
            by_outcome,
            by_source: by_source.into_iter().map(|(source, counts)| (source.to_owned(), counts)).collect(),
            widened: observed.widened,
            roots: count(Standing::Root),
            orphans: count(Standing::Orphan),
            unknown: count(Standing::Unknown),
            cycle_broken: count(Standing::Cut),
            confidence: self.confidence().share(),
            coverage: self.coverage().map(|c| c.share()),
            link_coverage: self.link_coverage().share(),
            lake_version: observed.lake_version,
        }
    }

    /// The whole chain. `bounds` are those of its calls, in order, or empty where they were not worked out.
    pub fn detail(&self, store: &Store, observed: &Observed<'_>, bounds: &[Bounds]) -> answer::ChainDetail {
        answer::ChainDetail {
            summary: self.summary(store, observed),
            calls: (0..self.links.len()).map(|at| self.call(store, at, bounds.get(at))).collect(),
            logical_calls: (0..self.operations.len()).map(|at| self.logical_call(store, at)).collect(),
            missing: self.missing(store),
            secondary_skipped: self.secondary_skipped,
        }
    }

    /// The call at a place of [`Chain::links`].
    pub fn call(&self, store: &Store, at: usize, bounds: Option<&Bounds>) -> answer::Call {
        let link = &self.links[at];
        let row = store.row_at(link.row);
        let content = |link: &Link| format!("{:032x}", store.row_at(link.row).content);
        let parent = link.parent().map(|p| &self.links[p]);
        let marks = Mark::ALL.iter().filter(|m| link.marks.has(**m)).map(|m| m.as_str().to_owned());
        let path = self.path(link);
        answer::Call {
            event_id: self.event(store, link).to_owned(),
            source: self.source(store, link).to_owned(),
            content: content(link),
            time: self.time(store, link).to_rfc3339(),
            outcome: self.outcome(store, link).as_str().to_owned(),
            reason: text(store, row.reason),
            server: text(store, row.server),
            tool: text(store, row.tool),
            session: text(store, row.session.or(store.rare_of(row).mcp_session)),
            trace: text(store, row.trace),
            parent_decision: text(store, row.parent),
            standing: link.standing.as_str().to_owned(),
            marks: marks.collect(),
            parent_event: parent.map(|p| self.event(store, p).to_owned()),
            parent_content: parent.map(content),
            parent_tier: link.tier.map(|t| t.as_str().to_owned()),
            parent_evidence: link.tier.map(|t| t.words().to_owned()),
            confidence: link.tier.map(|_| link.confidence.share()),
            secondary_parents: self.secondary_parents(store, at),
            operation_id: self.operation_id(store, link.operation as usize),
            attempt: link.attempt,
            path: path
                .hops
                .iter()
                .enumerate()
                .map(|(i, h)| hop(store, h, bounds.and_then(|b| b.hops.get(i))))
                .collect(),
            path_confidence: path.confidence().share(),
            bound_state: bounds.map(|b| b.state.as_str().to_owned()),
            widened_at: bounds.and_then(Bounds::widened_at).map(|at| at as u64),
        }
    }

    fn secondary_parents(&self, store: &Store, at: usize) -> Vec<answer::SecondaryParent> {
        let from = self.secondary.partition_point(|s| (s.child as usize) < at);
        let own = self.secondary[from..].iter().take_while(|s| s.child as usize == at);
        own.map(|s| answer::SecondaryParent {
            event_id: self.event(store, &self.links[s.parent as usize]).to_owned(),
            tier: s.tier.as_str().to_owned(),
        })
        .collect()
    }

    /// The logical call at a place of [`Chain::operations`].
    pub fn logical_call(&self, store: &Store, at: usize) -> answer::Operation {
        let operation = &self.operations[at];
        answer::Operation {
            operation_id: self.operation_id(store, at),
            attempts: operation.attempts,
            parent_operation: operation.parent().map(|p| self.operation_id(store, p)),
            outcome: self.outcome(store, &self.links[operation.decided_by as usize]).as_str().to_owned(),
            forwarded: operation.forwarded(),
        }
    }

    /// References that no event answers to.
    pub fn missing(&self, store: &Store) -> Vec<answer::Missing> {
        let missing = |ghost: &Ghost| answer::Missing {
            kind: ghost.kind.as_str().to_owned(),
            names: ghost.names.iter().filter_map(|n| text(store, *n)).collect(),
            named_by: self.event(store, &self.links[ghost.by as usize]).to_owned(),
        };
        self.ghosts.iter().map(missing).collect()
    }

    /// The id of an operation: the event id of its first attempt, with its source.
    pub fn operation_id(&self, store: &Store, operation: usize) -> String {
        let first = &self.links[self.operations[operation].first as usize];
        format!("{}/{}", self.source(store, first), self.event(store, first))
    }

    /// The root of the path of its first call that has one.
    pub fn root(&self) -> Option<&Hop> {
        self.links.iter().map(|l| &self.path(l).hops[0]).find(|h| h.id.is_some())
    }

    /// Names of the roots of its paths.
    pub fn requesters<'s>(&self, store: &'s Store) -> BTreeSet<&'s str> {
        named(store, self.paths.iter().filter_map(|p| p.hops.first()))
    }

    /// Names of the principals of its paths below the roots.
    pub fn agents<'s>(&self, store: &'s Store) -> BTreeSet<&'s str> {
        named(store, self.paths.iter().flat_map(|p| p.hops.iter().skip(1)))
    }

    /// Names of the tools that it calls.
    pub fn tools<'s>(&self, store: &'s Store) -> BTreeSet<&'s str> {
        self.links.iter().filter_map(|l| self.told(store, l).tool).collect()
    }

    /// The servers that it calls, each by its id or else its name.
    pub fn servers<'s>(&self, store: &'s Store) -> BTreeSet<&'s str> {
        self.links.iter().filter_map(|l| self.told(store, l).server).collect()
    }

    /// Number of its calls with an outcome.
    pub fn with_outcome(&self, store: &Store, outcome: Outcome) -> usize {
        self.links.iter().filter(|l| self.outcome(store, l) == outcome).count()
    }
}

impl NamedBy {
    /// As it is written in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            NamedBy::Transaction => "transaction",
            NamedBy::Trace => "trace",
            NamedBy::Event => "event",
        }
    }
}

fn text(store: &Store, name: Name) -> Option<String> {
    name.is_some().then(|| store.text(name).to_owned())
}

fn named<'s, 'h>(store: &'s Store, hops: impl Iterator<Item = &'h Hop>) -> BTreeSet<&'s str> {
    hops.filter(|h| h.id.is_some()).map(|h| store.text(h.id)).collect()
}

fn hop(store: &Store, hop: &Hop, bound: Option<&Bound>) -> answer::Hop {
    answer::Hop {
        id: text(store, hop.id),
        issuer: text(store, hop.issuer),
        kind: text(store, hop.kind),
        tier: hop.tier.as_str().to_owned(),
        evidence: hop.tier.words().to_owned(),
        confidence: hop.confidence.share(),
        authority: bound.map(hop_authority),
    }
}

fn hop_authority(bound: &Bound) -> answer::HopAuthority {
    let known = |a: &Authority| (!a.is_unknown()).then(|| authority(a));
    answer::HopAuthority {
        recorded: known(&bound.recorded),
        recorded_by: bound.by.as_str().to_owned(),
        within: bound.within.as_str().to_owned(),
        widened_by: known(&bound.beyond),
        bound: known(&bound.effective),
        new_domain: bound.reset,
        reauthorized_by: bound.reauth.clone(),
    }
}

fn authority(of: &Authority) -> answer::Authority {
    let list = |set: &Option<BTreeSet<String>>| set.as_ref().map(|set| set.iter().cloned().collect());
    let capability = of.capability.as_ref().map(|atoms| {
        let atoms = atoms.iter().map(|a| answer::Capability {
            server: a.server.clone(),
            action: a.action.clone(),
            resource: a.resource.clone(),
            constraints: a.constraints.clone(),
        });
        atoms.collect()
    });
    answer::Authority {
        scope: list(&of.scope),
        resource: list(&of.resource),
        aud: list(&of.aud),
        rar: of.rar.clone(),
        capability,
    }
}
