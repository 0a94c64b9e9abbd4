//! Which chains a name means.
//!
//! Guarantee: every event, session, trace and named parent of a chain leads to it, and to every other chain that has the
//! name too; nothing else does.

use super::store::Row;
use super::texts::Name;
use super::{Chain, Store};

/// The names by which a row's chain can be asked for.
pub(super) fn names(store: &Store, row: &Row) -> [Name; 6] {
    let rare = store.rare_of(row);
    [row.event, rare.record, row.session, rare.mcp_session, row.trace, row.parent]
}

/// Names of all chains of a store.
#[derive(Debug, Default)]
pub struct Index(Vec<(Name, u32)>);

impl Index {
    /// Reads the names of chains.
    pub fn of(store: &Store, chains: &[Chain]) -> Index {
        let mut all = Vec::with_capacity(store.len() * 3);
        for (at, chain) in chains.iter().enumerate() {
            let from = all.len();
            for link in &chain.links {
                let names = names(store, store.row_at(link.row));
                all.extend(names.into_iter().filter(|n| n.is_some()).map(|n| (n, at as u32)));
            }
            // The events of a chain repeat its session and trace.
            all[from..].sort_unstable();
            let mut kept = from;
            for i in from..all.len() {
                if i == from || all[i] != all[kept - 1] {
                    all[kept] = all[i];
                    kept += 1;
                }
            }
            all.truncate(kept);
        }
        all.sort_unstable();
        Index(all)
    }

    /// Places of the chains that have a name, in order.
    pub fn find(&self, store: &Store, name: &str) -> Vec<u32> {
        store.name(name).map(|name| self.of_name(name).collect()).unwrap_or_default()
    }

    /// The same, by a name of the store.
    pub(super) fn of_name(&self, name: Name) -> impl Iterator<Item = u32> {
        let from = self.0.partition_point(|(n, _)| *n < name);
        self.0[from..].iter().take_while(move |(n, _)| *n == name).map(|(_, at)| *at)
    }
}
