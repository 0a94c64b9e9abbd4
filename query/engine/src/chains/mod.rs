//! Delegation chains of a lake: the rules of `catena-analysis` over its decisions.
//!
//! Guarantee: what is said of a chain is said of the whole chain, at the version of the lake that the session sees. A
//! tenant's chains are made of its own rows alone, within a ceiling of memory; a later version costs what is new in it.
//!
//! ```text
//!  decisions ──facts──▶ Store ─┐
//!  grants, exchanges … ──▶ Book ┴─rebuild──▶ Layers ──▶ Rebuilt ──▶ chains, chain_events, operations in SQL
//!  the next version ──────facts──over──────────┘           └──────▶ Session::chains, chain, why
//!                                 Watch ──▶ chain_revisions, published by the role `watch`
//! ```

mod afar;
mod columns;
mod facts;
mod functions;
mod held;
mod list;
mod of_event;
mod parts;
mod rebuilt;
mod revisions;
mod scan;
mod sections;
mod tables;
mod watch;
mod why;

pub use list::{Filter, Found};
pub use rebuilt::{Judged, Rebuilt};
pub use watch::{Publication, Stepped, Watch};

pub(crate) use held::Cache;
pub(crate) use of_event::ChainOf;

use crate::engine::{Engine, Session};
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use crate::log::Snapshot;
use crate::select::Select;
use crate::table::Scope;
use catena_analysis::chain::rules::Observed;
use catena_analysis::chain::{self, Chain};
use catena_schemas::Micros;
use catena_schemas::answer::{ChainDetail, ChainSummary};
use datafusion::error::Result;
use datafusion::logical_expr::{ident, lit};
use datafusion::prelude::SessionContext;
use serde::Deserialize;
use std::sync::Arc;

/// Registers the tables at one version and scope.
pub(crate) fn register(
    context: &SessionContext,
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
    scope: &Scope,
) -> Result<()> {
    for about in tables::About::ALL {
        let (engine, snapshot, scope) = (engine.clone(), snapshot.clone(), scope.clone());
        let table = tables::ChainTable { about, engine, snapshot, scope, names: Vec::new(), pattern: None };
        context.register_table(about.name(), Arc::new(table))?;
    }
    for is in functions::Is::ALL {
        let (engine, snapshot, scope) = (engine.clone(), snapshot.clone(), scope.clone());
        context.register_udtf(is.name(), Arc::new(functions::Function { is, engine, snapshot, scope }));
    }
    Ok(())
}

/// A chain.
#[derive(Clone, Debug)]
pub struct Shown {
    /// All chains of its tenant.
    pub of: Arc<Rebuilt>,
    /// Its place among them.
    pub at: usize,
}

impl Shown {
    /// The chain.
    pub fn chain(&self) -> &Chain {
        self.of.chain(self.at)
    }

    fn ended(&self) -> Micros {
        self.chain().ended(self.of.store())
    }

    fn begun(&self) -> (&str, Micros, &str) {
        (&self.of.tenant, self.chain().started(self.of.store()), &self.chain().id)
    }

    /// The chain without its calls.
    pub fn summary(&self) -> ChainSummary {
        let judged = self.of.judged(self.at).unwrap_or_default();
        let widened = judged.iter().filter(|j| j.widened_at.is_some()).count();
        self.chain().summary(self.of.store(), &self.observed(widened))
    }

    /// The whole chain, with what each hop was allowed.
    pub fn detail(&self) -> ChainDetail {
        // Only of this chain: `judged` is worked out for all of the tenant's.
        let bounds = self.of.bounds(self.at);
        let widened = bounds.iter().filter(|b| b.widened_at().is_some()).count();
        self.chain().detail(self.of.store(), &self.observed(widened), &bounds)
    }

    fn observed(&self, widened: usize) -> Observed<'_> {
        Observed {
            tenant: &self.of.tenant,
            state: self.of.state(self.chain()).as_str(),
            widened: widened as u64,
            lake_version: self.of.version,
        }
    }

    /// As a tree of text.
    pub fn draw(&self, limits: &chain::Limits) -> String {
        self.chain().draw(self.of.store(), &self.of.bounds(self.at), limits)
    }

    /// For Graphviz.
    pub fn to_dot(&self) -> String {
        self.chain().to_dot(self.of.store())
    }

    /// As a picture.
    pub fn svg(&self) -> String {
        self.chain().svg(self.of.store(), &self.of.bounds(self.at))
    }
}

impl Session {
    /// The chain that an event id, a session, a trace or a chain id names, or a decision that never came and led to others.
    /// When a name means several, all of them, in order of tenant and time.
    pub async fn chain(&self, name: &str, limits: &Limits) -> Result<Vec<Shown>, QueryError> {
        let pinned = self.pin().await?;
        let found = in_time(limits, pinned.named(name)).await?;
        if !found.is_empty() || !name.starts_with("c-") {
            return Ok(found);
        }
        // An id that was given up when its chain became part of another.
        let mut found = Vec::new();
        for Alias { chain_id } in pinned.values(alias(name), limits).await?.0 {
            found.extend(in_time(limits, pinned.named(&chain_id)).await?);
        }
        Ok(found)
    }

    async fn named(&self, name: &str) -> Result<Vec<Shown>, QueryError> {
        let (snapshot, engine) = (self.pinned_at(), self.engine());
        let mut found = Vec::new();
        let sections = engine.sections(self.scope(), &snapshot).await?;
        for section in sections.all.iter().filter(|s| s.may_have(name)) {
            for of in engine.section(section, &snapshot).await? {
                found.extend(kept(&of, of.find(name), sections.fit));
            }
        }
        found.sort_by(|a: &Shown, b| a.begun().cmp(&b.begun()));
        Ok(found)
    }
}

/// The chain that an id was given up for.
#[derive(Deserialize)]
struct Alias {
    chain_id: String,
}

fn alias(old_id: &str) -> Select {
    let of = ident("old_id").eq(lit(old_id));
    Select::new("chain_aliases", move |rows| rows.filter(of.clone())?.select(vec![ident("chain_id")]))
}

/// Chains of a section. Unless all sections fit into memory together, they are kept apart from it, so that it can go.
fn kept(of: &Arc<Rebuilt>, chains: Vec<usize>, all_fit: bool) -> Vec<Shown> {
    if all_fit || chains.is_empty() {
        return chains.into_iter().map(|at| Shown { of: of.clone(), at }).collect();
    }
    let few = Arc::new(of.only(&chains));
    few.chains().map(|(at, _)| Shown { of: few.clone(), at }).collect()
}

async fn in_time<T>(limits: &Limits, work: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
    tokio::time::timeout(limits.time, work).await.unwrap_or_else(|_| {
        let seconds = limits.time.as_secs_f32();
        let message = format!("chains are still being rebuilt after {seconds} s; retry shortly");
        Err(QueryError::new(Code::Time, message))
    })
}
