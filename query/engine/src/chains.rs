//! Chains of a lake: calls fetched, and handed to `catena-analysis`.
//!
//! Guarantee: what is shown of one chain is the whole chain, or says that it is not: from the asked call on, every call
//! that shares a session, a trace or a parent decision with one that was found is fetched too, until nothing new comes.
//!
//! There is no stored table of chains yet. One chain is found by asking for its keys, round by round; a list of chains
//! reads the decisions of a span of time.

use crate::engine::Session;
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use catena_analysis::chain::{Call, Chain, build};
use catena_schemas::{Micros, Outcome};
use std::collections::BTreeSet;

/// Calls that are held for chains; more are not fetched.
pub const CALLS_MAX: usize = 200_000;
/// Rounds of asking for what hangs together with what was found.
const ROUNDS_MAX: usize = 64;
/// Keys asked for in one statement.
const KEYS_PER_STATEMENT: usize = 500;

/// Which chains to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Calls from here on.
    pub from: Option<Micros>,
    /// Calls before.
    pub until: Option<Micros>,
    /// Chains with this requester.
    pub requester: Option<String>,
    /// Chains with this actor.
    pub agent: Option<String>,
    /// Chains with this tool.
    pub tool: Option<String>,
    /// Chains with this server.
    pub server: Option<String>,
    /// Chains with a call of this outcome.
    pub outcome: Option<Outcome>,
    /// Chains of this tenant.
    pub tenant: Option<String>,
}

/// Chains found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Chains, the newest last.
    pub chains: Vec<Chain>,
    /// Chains that fit the filter, shown or not.
    pub total: usize,
    /// Version of the lake.
    pub version: Option<u64>,
    /// More calls than [`CALLS_MAX`] fit: the oldest were not read, so the first chains may lack calls.
    pub cut: bool,
}

/// A chain, and whether all of it was found.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The chain.
    pub chain: Chain,
    /// Version of the lake.
    pub version: Option<u64>,
    /// It has more calls than [`CALLS_MAX`], or leads further than it was followed.
    pub cut: bool,
}

const COLUMNS: &str = "tenant, event_id, time, session, trace_id, parent_decision, requester, actors, \
    coalesce(server_name, server) AS server, tool, action, outcome, reasons";

impl Session {
    /// The last `limit` chains that fit.
    pub async fn chains(&self, limit: usize, filter: &Filter, limits: &Limits) -> Result<Found, QueryError> {
        let pinned = self.pin().await?;
        let mut conditions = Vec::new();
        if let Some(tenant) = &filter.tenant {
            conditions.push(format!("tenant = {}", quote(tenant)));
        }
        if let Some(from) = filter.from {
            conditions.push(format!("time >= '{}'", from.to_rfc3339()));
        }
        if let Some(until) = filter.until {
            conditions.push(format!("time < '{}'", until.to_rfc3339()));
        }
        let (calls, version) = pinned.calls(&conditions, limits).await?;
        let cut = calls.len() >= CALLS_MAX;
        let mut chains = build(calls);
        chains.retain(|chain| fits(chain, filter));
        chains.sort_by(|a, b| (a.ended(), &a.tenant, &a.id).cmp(&(b.ended(), &b.tenant, &b.id)));
        let total = chains.len();
        chains.drain(..total.saturating_sub(limit));
        Ok(Found { chains, total, version, cut })
    }

    /// The chain that an event id, a session, a trace or a chain id names. When a name means several (two tenants with
    /// the same session), all of them, in order of tenant.
    pub async fn chain(&self, name: &str, limits: &Limits) -> Result<Vec<Shown>, QueryError> {
        let quoted = quote(name);
        let condition = format!("event_id = {quoted} OR session = {quoted} OR trace_id = {quoted}");
        let pinned = self.pin().await?;
        let (mut start, version) = pinned.calls(&[condition], limits).await?;
        if start.is_empty() {
            // A decision that never came can still have led to others.
            start = pinned.calls(&[format!("parent_decision = {quoted}")], limits).await?.0;
        }
        if start.is_empty() {
            if !name.starts_with("c-") {
                return Ok(Vec::new());
            }
            // Nothing but the calls themselves say which chain has an id.
            let found = pinned.chains(usize::MAX, &Filter::default(), limits).await?;
            let of_id = found.chains.into_iter().filter(|c| c.id == name);
            return Ok(of_id.map(|chain| Shown { chain, version: found.version, cut: found.cut }).collect());
        }
        let tenants: BTreeSet<String> = start.iter().map(|c| c.tenant.clone()).collect();
        let mut shown = Vec::new();
        for tenant in tenants {
            let own: Vec<Call> = start.iter().filter(|c| c.tenant == tenant).cloned().collect();
            let names: BTreeSet<String> = own.iter().map(|c| c.event_id.clone()).collect();
            let (calls, cut) = pinned.follow(&tenant, own, limits).await?;
            for chain in build(calls) {
                if chain.calls.iter().any(|c| names.contains(&c.event_id)) {
                    shown.push(Shown { chain, version, cut });
                }
            }
        }
        Ok(shown)
    }

    /// Fetches what hangs together with some calls of a tenant, until nothing new comes.
    async fn follow(&self, tenant: &str, start: Vec<Call>, limits: &Limits) -> Result<(Vec<Call>, bool), QueryError> {
        let mut calls: BTreeSet<Call> = start.into_iter().collect();
        let mut asked: BTreeSet<(&'static str, String)> = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let mut fresh: BTreeSet<(&'static str, String)> = BTreeSet::new();
            for call in &calls {
                let keys = [
                    ("session", call.session.as_ref()),
                    ("trace_id", call.trace.as_ref()),
                    ("event_id", call.parent_decision.as_ref()),
                    ("parent_decision", Some(&call.event_id)),
                    // Two orphans of one missing decision belong together.
                    ("parent_decision", call.parent_decision.as_ref()),
                ];
                for (column, key) in keys {
                    if let Some(key) = key.map(|k| (column, k.clone())).filter(|k| !asked.contains(k)) {
                        fresh.insert(key);
                    }
                }
            }
            if fresh.is_empty() {
                return Ok((calls.into_iter().collect(), false));
            }
            let all: Vec<_> = fresh.iter().collect();
            for some in all.chunks(KEYS_PER_STATEMENT) {
                for condition in conditions(some) {
                    let (found, _) = self.calls(&[format!("tenant = {}", quote(tenant)), condition], limits).await?;
                    calls.extend(found);
                    if calls.len() >= CALLS_MAX {
                        return Ok((calls.into_iter().collect(), true));
                    }
                }
            }
            asked.extend(fresh);
        }
        Ok((calls.into_iter().collect(), true))
    }

    /// Calls that fit all conditions: the newest [`CALLS_MAX`].
    async fn calls(&self, conditions: &[String], limits: &Limits) -> Result<(Vec<Call>, Option<u64>), QueryError> {
        let conditions: Vec<String> = conditions.iter().map(|c| format!("({c})")).collect();
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let sql = format!("SELECT {COLUMNS} FROM decisions{filter} ORDER BY time DESC LIMIT {CALLS_MAX}");
        let limits = Limits { rows: CALLS_MAX as u64, bytes: u64::MAX, ..limits.clone() };
        let mut answer = self.sql(&sql, &limits).await?;
        let version = answer.version();
        let mut calls = Vec::new();
        while let Some(batch) = answer.next().await {
            read(&batch?, &mut calls)?;
        }
        Ok((calls, version))
    }
}

/// One condition per column, over the keys of that column.
fn conditions(keys: &[&(&'static str, String)]) -> Vec<String> {
    let mut columns: Vec<&str> = keys.iter().map(|(column, _)| *column).collect();
    columns.dedup();
    // A statement has room for so many bytes; keys from a lake can be long.
    const BYTES_MAX: usize = crate::gate::TEXT_BYTES_MAX / 2;
    let mut out = Vec::new();
    for column in columns {
        let mut list = String::new();
        for (_, key) in keys.iter().filter(|(c, _)| *c == column) {
            let quoted = quote(key);
            if !list.is_empty() && list.len() + quoted.len() > BYTES_MAX {
                out.push(format!("{column} IN ({list})"));
                list.clear();
            }
            if !list.is_empty() {
                list.push_str(", ");
            }
            list.push_str(&quoted);
        }
        if !list.is_empty() {
            out.push(format!("{column} IN ({list})"));
        }
    }
    out
}

/// A text as SQL. Nothing but the quote has a meaning inside.
fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn fits(chain: &Chain, filter: &Filter) -> bool {
    let is = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
    let has = |test: &dyn Fn(&Call) -> bool| chain.calls.iter().any(test);
    has(&|c| is(&filter.requester, &c.requester))
        && has(&|c| is(&filter.tool, &c.tool))
        && has(&|c| is(&filter.server, &c.server))
        && has(&|c| filter.agent.as_ref().is_none_or(|a| c.actors.contains(a)))
        && has(&|c| filter.outcome.is_none_or(|o| c.outcome == o))
}

fn read(batch: &RecordBatch, into: &mut Vec<Call>) -> Result<(), QueryError> {
    let column = |name: &str| {
        batch.column_by_name(name).ok_or_else(|| {
            QueryError::new(Code::Internal, format!("the column `{name}` was asked for and is not there"))
        })
    };
    let text = |name: &str| column(name).map(|c| c.as_string::<i32>().clone());
    let list = |name: &str| column(name).map(|c| c.as_list::<i32>().clone());
    let (tenant, event_id, session, trace) = (text("tenant")?, text("event_id")?, text("session")?, text("trace_id")?);
    let (parent, requester, server, tool) =
        (text("parent_decision")?, text("requester")?, text("server")?, text("tool")?);
    let (action, outcome, actors, reasons) = (text("action")?, text("outcome")?, list("actors")?, list("reasons")?);
    let time = column("time")?.as_primitive::<TimestampMicrosecondType>();
    let at = |array: &arrow_array::StringArray, row: usize| array.is_valid(row).then(|| array.value(row).to_owned());
    let items = |array: &arrow_array::ListArray, row: usize| {
        if array.is_null(row) {
            return Vec::new();
        }
        array.value(row).as_string::<i32>().iter().flatten().map(str::to_owned).collect()
    };
    for row in 0..batch.num_rows() {
        into.push(Call {
            tenant: at(&tenant, row).unwrap_or_default(),
            time: Micros(if time.is_valid(row) { time.value(row) } else { 0 }),
            event_id: at(&event_id, row).unwrap_or_default(),
            session: at(&session, row),
            trace: at(&trace, row),
            parent_decision: at(&parent, row),
            requester: at(&requester, row),
            actors: items(&actors, row),
            server: at(&server, row),
            tool: at(&tool, row),
            action: at(&action, row),
            outcome: at(&outcome, row).and_then(|o| Outcome::parse(&o)).unwrap_or(Outcome::Unknown),
            reasons: items(&reasons, row),
        });
    }
    Ok(())
}
