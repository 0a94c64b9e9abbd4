//! A chain as JSON.
//!
//! Guarantee: everything of the chain is there, named by texts and never by the numbers of a store; equal chains of two
//! stores read the same. Events are a flat list: each names its parent, so that no depth can hurt a reader.

use super::{Chain, Ghost, Hop, Link, Mark, NamedBy, Standing, Store};
use catena_schemas::Outcome;
use serde_json::{Map, Value, json};

impl Chain {
    /// The chain without its events: a row of `chains`, but for revision and state.
    pub fn summary(&self, tenant: &str, store: &Store) -> Value {
        let mut by_outcome: Map<String, Value> = Map::new();
        for outcome in Outcome::ALL {
            let n = self.links.iter().filter(|l| self.outcome(store, l) == *outcome).count();
            if n > 0 {
                by_outcome.insert(outcome.as_str().to_owned(), n.into());
            }
        }
        let mut by_source: Map<String, Value> = Map::new();
        for link in &self.links {
            let counts = by_source.entry(self.source(store, link).to_owned()).or_insert_with(|| json!({"events": 0}));
            for what in ["events", link.standing.as_str()] {
                counts[what] = (counts[what].as_u64().unwrap_or(0) + 1).into();
            }
        }
        let count = |standing| self.count(standing);
        json!({
            "tenant": tenant, "chain_id": self.id,
            "named_by": match self.named_by {
                NamedBy::Transaction => "transaction", NamedBy::Trace => "trace", NamedBy::Event => "event",
            },
            "lineage": self.lineage().as_str(), "requesters": self.requesters(store),
            "started": self.started(store).to_rfc3339(), "ended": self.ended(store).to_rfc3339(),
            "events": self.links.len(), "operations": self.operations.len(), "depth": self.depth, "fanout": self.fanout,
            "by_outcome": by_outcome, "by_source": by_source,
            "roots": count(Standing::Root), "orphans": count(Standing::Orphan), "unknown": count(Standing::Unknown),
            "cycle_broken": count(Standing::Cut), "confidence": self.confidence().share(),
            "coverage": self.coverage().map(|c| c.share()), "link_coverage": self.link_coverage().share(),
        })
    }

    /// Names of the roots of its paths, sorted.
    pub fn requesters<'s>(&self, store: &'s Store) -> Vec<&'s str> {
        let mut names: Vec<&str> = self
            .paths
            .iter()
            .filter_map(|p| p.hops.first())
            .filter(|h| h.id.is_some())
            .map(|h| store.text(h.id))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The whole chain.
    pub fn to_json(&self, tenant: &str, store: &Store) -> Value {
        let mut all = self.summary(tenant, store);
        let mut secondary = self.secondary.iter().peekable();
        let mut events = Vec::with_capacity(self.links.len());
        for (at, link) in self.links.iter().enumerate() {
            let mut event = self.link(store, link);
            let mut further = Vec::new();
            while let Some(s) = secondary.next_if(|s| s.child as usize == at) {
                let parent = &self.links[s.parent as usize];
                further.push(json!({"event_id": self.event(store, parent), "tier": s.tier.as_str()}));
            }
            event["secondary_parents"] = further.into();
            events.push(event);
        }
        all["calls"] = events.into();
        all["logical_calls"] = self
            .operations
            .iter()
            .enumerate()
            .map(|(at, o)| {
                json!({
                    "operation_id": self.operation_id(store, at), "attempts": o.attempts,
                    "parent_operation": o.parent().map(|p| self.operation_id(store, p)),
                    "outcome": self.outcome(store, &self.links[o.decided_by as usize]).as_str(), "forwarded": o.forwarded(),
                })
            })
            .collect::<Vec<_>>()
            .into();
        all["missing"] = self.ghosts.iter().map(|g| self.ghost(store, g)).collect::<Vec<_>>().into();
        all["secondary_skipped"] = self.secondary_skipped.into();
        all
    }

    /// The id of an operation: the event id of its first attempt, with its source.
    pub fn operation_id(&self, store: &Store, operation: usize) -> String {
        let first = &self.links[self.operations[operation].first as usize];
        format!("{}/{}", self.source(store, first), self.event(store, first))
    }

    fn link(&self, store: &Store, link: &Link) -> Value {
        let path = &self.paths[link.path as usize];
        let row = store.row_at(link.row);
        let parent = link.parent().map(|p| self.event(store, &self.links[p]));
        let parent_content = link.parent().map(|p| format!("{:032x}", store.row_at(self.links[p].row).content));
        let marks: Vec<&str> = Mark::ALL.iter().filter(|m| link.marks.has(**m)).map(|m| m.as_str()).collect();
        let text = |name: super::Name| name.is_some().then(|| store.text(name));
        json!({
            "event_id": self.event(store, link), "source": self.source(store, link), "content": format!("{:032x}", row.content),
            "time": self.time(store, link).to_rfc3339(), "outcome": self.outcome(store, link).as_str(),
            "reason": text(row.reason), "server": text(row.server), "tool": text(row.tool), "session": text(row.session.or(store.rare_of(row).mcp_session)),
            "trace": text(row.trace), "parent_decision": text(row.parent), "standing": link.standing.as_str(), "marks": marks,
            "parent_event": parent, "parent_content": parent_content, "parent_tier": link.tier.map(|t| t.as_str()),
            "confidence": link.confidence.share(),
            "secondary_parents": [], "operation_id": self.operation_id(store, link.operation as usize), "attempt": link.attempt,
            "path": path.hops.iter().map(|h| hop(store, h)).collect::<Vec<_>>(),
            "path_confidence": path.confidence().share(),
        })
    }

    fn ghost(&self, store: &Store, ghost: &Ghost) -> Value {
        let names: Vec<&str> = ghost.names.iter().filter(|n| n.is_some()).map(|n| store.text(*n)).collect();
        json!({"kind": ghost.kind.as_str(), "names": names, "named_by": self.event(store, &self.links[ghost.by as usize])})
    }
}

fn hop(store: &Store, hop: &Hop) -> Value {
    let text = |name: super::Name| name.is_some().then(|| store.text(name));
    json!({
        "id": text(hop.id), "issuer": text(hop.issuer), "kind": text(hop.kind), "tier": hop.tier.as_str(),
        "confidence": hop.confidence.share(),
    })
}
