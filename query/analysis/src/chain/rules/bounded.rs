//! Authority of a chain's calls.
//!
//! Guarantee: bounds are asked for, never stored: a grant that arrives late gives the answer that an early one gives.

use super::texts::Name;
use super::{Chain, Store};
use crate::authority::{Atom, Authority, Book, Bounds, Call, Implied, Party, Touched, bounds};
use ahash::HashSet;
use catena_schemas::Micros;
use std::collections::BTreeSet;

/// What records bear on, in the names of a store.
#[derive(Clone, Debug, Default)]
pub struct TouchedNames {
    parties: HashSet<Name>,
    grants: HashSet<Name>,
    tokens: HashSet<Name>,
}

impl TouchedNames {
    /// A text that the store has no name for is in none of its chains.
    pub fn of(store: &Store, touched: &Touched) -> TouchedNames {
        let names = |texts: &BTreeSet<String>| texts.iter().filter_map(|text| store.name(text)).collect();
        let Touched { parties, grants, tokens } = touched;
        TouchedNames { parties: names(parties), grants: names(grants), tokens: names(tokens) }
    }

    /// Whether nothing is touched.
    pub fn is_empty(&self) -> bool {
        self.parties.is_empty() && self.grants.is_empty() && self.tokens.is_empty()
    }
}

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

impl Chain {
    /// Whether records that touch these names can change what a call of the chain was allowed.
    pub fn rests_on(&self, store: &Store, touched: &TouchedNames) -> bool {
        let TouchedNames { parties, grants, tokens } = touched;
        self.paths.iter().flat_map(|path| &path.hops).any(|hop| parties.contains(&hop.id))
            || (!grants.is_empty() || !tokens.is_empty())
                && self.links.iter().map(|link| store.row_at(link.row)).any(|row| {
                    tokens.contains(&row.token) || !grants.is_empty() && grants.contains(&store.rare_of(row).grant)
                })
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
