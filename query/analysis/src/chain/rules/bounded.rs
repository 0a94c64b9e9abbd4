//! Authority of a chain's calls.
//!
//! Guarantee: bounds are asked for, never stored: a grant that arrives late gives the answer that an early one gives.

use super::{Chain, Store};
use crate::authority::{Atom, Authority, Book, Bound, Bounds, Call, Implied, Party, bounds};
use catena_schemas::Micros;
use serde_json::{Value, json};

/// What a tenant says about authority.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Grants, re-authorizations, exchanges.
    pub book: Book,
    /// Which scopes imply which.
    pub implied: Implied,
    /// Who may approve besides the root.
    pub authorities: Vec<String>,
}

impl Bound {
    /// As JSON; authority that nobody recorded is null.
    pub fn to_json(&self) -> Value {
        let said = |a: &Authority| (!a.is_unknown()).then(|| a.to_json());
        json!({
            "recorded": said(&self.recorded), "recorded_by": self.by.as_str(), "within": self.within.as_str(),
            "widened_by": said(&self.beyond), "bound": said(&self.effective), "new_domain": self.reset,
            "reauthorized_by": self.reauth,
        })
    }
}

impl Chain {
    /// The whole chain, with what each hop was allowed and what it claimed.
    pub fn to_json_within(&self, tenant: &str, store: &Store, bounds: &[Bounds]) -> Value {
        let mut all = self.to_json(tenant, store);
        let events = all["calls"].as_array_mut().into_iter().flatten();
        for (event, bounds) in events.zip(bounds) {
            event["bound_state"] = bounds.state.as_str().into();
            event["widened_at"] = bounds.widened_at().into();
            let hops = event["path"].as_array_mut().into_iter().flatten();
            for (hop, bound) in hops.zip(&bounds.hops) {
                hop["authority"] = bound.to_json();
            }
        }
        all["widened"] = bounds.iter().filter(|b| b.widened_at().is_some()).count().into();
        all
    }

    /// Bounds of every event, in order.
    pub fn all_bounds(&self, store: &Store, terms: &Terms) -> Vec<Bounds> {
        (0..self.links.len()).map(|at| self.bounds(store, terms, at, None)).collect()
    }

    /// Bounds of an event. `needs` is what the catalog says of its tool; else the tool itself is the one atom that it needs.
    pub fn bounds(&self, store: &Store, terms: &Terms, at: usize, needs: Option<Authority>) -> Bounds {
        let link = &self.links[at];
        let row = store.row_at(link.row);
        let bearer = store.bearer_of(row);
        let text = |name: super::Name| name.is_some().then(|| store.text(name));
        let path = &self.paths[link.path as usize];
        let set = |span: super::store::Span| {
            span.said.then(|| store.names_of(span).iter().map(|n| store.text(*n).to_owned()).collect())
        };
        let call = Call {
            path: path
                .hops
                .iter()
                .enumerate()
                .map(|(i, h)| Party {
                    id: text(h.id),
                    domain: text(h.issuer),
                    is_human: matches!(text(h.kind), Some("human" | "person" | "user")) || i == 0 && h.kind.is_none(),
                })
                .collect(),
            time: Micros(row.time),
            token: Authority {
                scope: set(bearer.scope),
                resource: set(bearer.resource),
                aud: set(bearer.audience),
                ..Authority::default()
            },
            token_ref: text(row.token),
            grant: text(store.rare_of(row).grant),
            needs: needs.unwrap_or_else(|| self.itself(store, at)),
        };
        bounds(&terms.book, &terms.implied, &terms.authorities, &call, |event| {
            let name = store.name(event)?;
            let anchors = self.links.iter().filter(|l| store.row_at(l.row).event == name);
            anchors.map(|l| l.operation == link.operation).max()
        })
    }

    fn itself(&self, store: &Store, at: usize) -> Authority {
        let row = store.row_at(self.links[at].row);
        if row.server.is_none() || row.tool.is_none() {
            return Authority::default();
        }
        let (server, action) = (store.text(row.server).to_owned(), store.text(row.tool).to_owned());
        Authority { capability: Some([Atom { server, action, ..Atom::default() }].into()), ..Authority::default() }
    }
}
