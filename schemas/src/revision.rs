//! Revisions of chains: what the role `watch` says of a chain, and says anew when it has changed.
//!
//! Guarantee: rows are only ever added. The highest revision of a chain is what was last said of it; an id that was given up
//! stands in `aliases` of the chain that has its events now. `reflects` is the version of the lake that the row is a function
//! of; the position of the application `chains/<tenant>` in the table moves in the same commit, so that no revision is
//! written twice, whoever tries.

use crate::authority::{Table, columns};
use crate::time::Micros;

/// The table of revisions.
pub const REVISIONS: Table = Table {
    name: "chain_revisions",
    record: "chain",
    own: columns![
        Id "chain_id", Long "revision", Text "state" "root" "root_kind" "lineage", Time "started" "ended", Long "events" "operations",
        Int "depth" "fanout", List "agents" "tools" "servers", Long "denied" "stepped_up" "widened" "orphans" "unknown" "cycle_broken",
        Int "confidence_permille" "coverage_permille" "link_coverage_permille", List "aliases", Text "first_source", Id "first_event",
        Text "fingerprint", Long "reflects",
    ],
};

/// Delta application id under which a tenant's revisions are committed.
pub fn application(tenant: &str) -> String {
    format!("chains/{tenant}")
}

/// A revision on its way into the lake.
#[derive(Clone, Copy, Debug)]
pub struct Revision<'a> {
    /// Id of the chain.
    pub chain_id: &'a str,
    /// Which revision, from 1.
    pub revision: i64,
    /// Time of the chain's last event.
    pub ended: Micros,
    /// Columns of [`REVISIONS`]: see [`Table::body`].
    pub body: &'a str,
}
