//! Why a decision was made: verdict, policy, principals, grant, what led to the call and what was observed of it.
//!
//! Guarantee: everything is read from the lake at one version; what no record says is null.

use super::Shown;
use crate::engine::Session;
use crate::error::QueryError;
use crate::limits::Limits;
use crate::select::Select;
use crate::views::target_server;
use catena_schemas::answer::Why;
use catena_schemas::answer::why::{Attempt, Decision, Execution, Grant, InChain, Parent, Place};
use datafusion::functions::expr_fn::coalesce;
use datafusion::logical_expr::{Expr, SortExpr, ident, lit};

/// Executions that are listed of one decision: a request that was answered in parts has many.
const EXECUTIONS_MAX: usize = 20;

impl Session {
    /// Explains each decision of an event id: one answer for each tenant and source that has the id.
    ///
    /// # Errors
    ///
    /// As [`Session::sql`] and [`Session::chain`].
    pub async fn why(&self, event_id: &str, limits: &Limits) -> Result<Vec<Why>, QueryError> {
        let pinned = self.pin().await?;
        let (decisions, lake_version) = pinned.values::<Decision>(decisions(event_id), limits).await?;
        if decisions.is_empty() {
            return Ok(Vec::new());
        }
        let chains = pinned.chain(event_id, limits).await?;
        let mut answers = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let source = decision.source.as_deref().unwrap_or_default();
            let grants = match &decision.grant_id {
                None => Vec::new(),
                Some(grant) => pinned.values::<Grant>(grants(&decision.tenant, grant), limits).await?.0,
            };
            let observed = executions(&decision.tenant, event_id, source);
            let executions = pinned.values::<Execution>(observed, limits).await?.0;
            let own = chains.iter().filter(|shown| *shown.of.tenant == *decision.tenant);
            let place = own.filter_map(|shown| place(shown, event_id, source)).next_back();
            answers.push(Why { decision, grants, executions, place, lake_version });
        }
        Ok(answers)
    }
}

fn columns(names: &[&str]) -> Vec<Expr> {
    names.iter().map(|name| ident(*name)).collect()
}

/// Ascending, nulls last.
fn sorted(names: &[&str]) -> Vec<SortExpr> {
    names.iter().map(|name| ident(*name).sort(true, false)).collect()
}

fn decisions(event_id: &str) -> Select {
    let event_id = event_id.to_owned();
    Select::new("decisions", move |rows| {
        let columns = Decision::COLUMNS.iter().map(|name| match *name {
            "target_server" => target_server().alias("target_server"),
            name => ident(name),
        });
        rows.filter(ident("event_id").eq(lit(event_id.clone())))?
            .select(columns.collect::<Vec<_>>())?
            .sort(sorted(&["tenant", "source", "time"]))
    })
}

/// Every version of a grant.
fn grants(tenant: &str, grant: &str) -> Select {
    let of = ident("tenant").eq(lit(tenant)).and(ident("grant_id").eq(lit(grant)));
    Select::new("grants", move |rows| {
        rows.filter(of.clone())?.select(columns(Grant::COLUMNS))?.sort(sorted(&["version", "time"]))
    })
}

/// What was observed of a call that a decision allowed.
fn executions(tenant: &str, event_id: &str, source: &str) -> Select {
    let of_source = coalesce(vec![ident("source"), lit("")]).eq(lit(source));
    let of = ident("tenant").eq(lit(tenant)).and(ident("event_id").eq(lit(event_id))).and(of_source);
    Select::new("decision_executions", move |rows| {
        rows.filter(of.clone())?
            .select(columns(Execution::COLUMNS))?
            .sort(sorted(&["time", "execution_id"]))?
            .limit(0, Some(EXECUTIONS_MAX))
    })
}

/// The place of a decision in a chain, if the chain has it.
fn place(shown: &Shown, event_id: &str, source: &str) -> Option<Place> {
    let (chain, store) = (shown.chain(), shown.of.store());
    let at = chain.links.iter().position(|link| {
        chain.event(store, link) == event_id && (source.is_empty() || chain.source(store, link) == source)
    })?;
    let link = &chain.links[at];
    let attempts = shown.of.attempts(chain, link.operation as usize).map(|attempt| Attempt {
        event_id: chain.event(store, attempt).to_owned(),
        time: chain.time(store, attempt).to_rfc3339(),
        outcome: chain.outcome(store, attempt).as_str().to_owned(),
    });
    let parent = link.parent().map(|at| {
        let link = &chain.links[at];
        let told = chain.told(store, link);
        Parent {
            event_id: told.event_id.to_owned(),
            server: told.server.map(str::to_owned),
            tool: told.tool.map(str::to_owned),
            outcome: chain.outcome(store, link).as_str().to_owned(),
        }
    });
    Some(Place {
        event: chain.call(store, at, Some(&chain.bounds(store, &shown.of.terms, at, None))),
        operation: chain.logical_call(store, link.operation as usize),
        attempts: attempts.collect(),
        led_to_by: parent,
        chain: InChain {
            chain_id: chain.id.clone(),
            lineage: chain.lineage().as_str().to_owned(),
            state: shown.of.state(chain).as_str().to_owned(),
            events: chain.links.len() as u64,
            requesters: chain.requesters(store).into_iter().map(str::to_owned).collect(),
            missing: chain.missing(store),
        },
    })
}
