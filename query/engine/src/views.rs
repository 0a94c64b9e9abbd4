//! The tables that people ask: `decisions`, `executions`, what ties the two, `rejects`, `asides` and those of authority, over
//! `records`.
//!
//! Guarantee: the frequent columns of `decisions` stand first and in the order of the contract; every stored column
//! follows; `executions` has the same columns. A fact that was sent twice shows once. In `decision_executions` stands what a
//! producer's own id ties together, never what merely looks alike.

use crate::authority;
use crate::chains::ChainOf;
use crate::table::{RecordsTable, scan_schema};
use arrow_schema::DataType;
use catena_schemas::revision::REVISIONS;
use catena_schemas::table::{Class, Field, PARTITIONS};
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::{Column, JoinType, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result;
use datafusion::functions::expr_fn::coalesce;
use datafusion::functions_aggregate::expr_fn::last_value;
use datafusion::functions_nested::expr_fn::array_element;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, ScalarUDF, cast, lit, when};
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// Tables, in the order in which they are listed.
pub const TABLES: [&str; 17] = [
    "decisions",
    "chains",
    "chain_events",
    "operations",
    "chain_revisions",
    "chain_aliases",
    "executions",
    "decision_executions",
    "rejects",
    "asides",
    "grants",
    "reauths",
    "exchanges",
    "tools",
    "lifecycle",
    "principals",
    "records",
];

/// Frequent columns of `decisions`, in the order of the contract.
const DECISIONS: &[&str] = &[
    "tenant",
    "event_id",
    "time",
    "ingest_time",
    "outcome",
    "basis",
    "enforced",
    "phase",
    "requester",
    "requester_kind",
    "agent",
    "actors",
    "session",
    "server",
    "tool",
    "action",
    "impact",
    "policy_id",
    "policy_version",
    "reasons",
    "scopes",
    "audience",
    "token_ref",
    "token_expires",
    "grant_id",
    "parent_decision",
    "trace_id",
    "span_id",
    "parent_span_id",
    "request_id",
    "params",
    "ip",
    "format",
    "source",
    "source_record",
    "decision_index",
    CHAIN_ID,
    "topic",
    "partition",
    "offset",
];
/// Worked out, not stored.
const CHAIN_ID: &str = "chain_id";

const REJECTS: &[(&str, &str)] = &[
    ("tenant", "tenant"),
    ("ingest_time", "ingest_time"),
    ("format", "format"),
    ("reason", "reject_reason"),
    ("detail", "reject_detail"),
    ("raw", "raw"),
    ("topic", "topic"),
    ("partition", "partition"),
    ("offset", "offset"),
    ("item", "decision_index"),
    ("redaction", "redaction"),
    ("ingest_date", "ingest_date"),
];

/// What ties an execution to a decision, or names either.
const TIED: [&str; 8] = ["tenant", "event_id", "source", "source_kind", "time", "request_id", "trace_id", "span_id"];
/// What an execution tells of how it went.
const DONE: &[&str] = &[
    "server",
    "tool",
    "http_status",
    "jsonrpc_error",
    "reasons",
    "result_class",
    "result_bytes",
    "user_agent",
    "extra",
];

/// Columns that say nothing in `decisions`.
const NOT_OF_DECISIONS: &[&str] = &["class", "duplicate", "reject_reason", "reject_detail", "raw", "kind", "body"];

/// Where a record was read from.
const POSITION: [&str; 2] = ["partition", "offset"];
/// The topic of what came by HTTP or syslog.
const INTAKE: &str = "intake";

/// Whether positions in logs that tenants share are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Positions {
    /// To the operator of the machine.
    Shown,
    /// Null for everybody else.
    Hidden,
}

/// The tool server that a row names, as it is shown: its id or else its name, because many producers know the name alone. Over
/// columns of `decisions`.
pub(crate) fn target_server() -> Expr {
    coalesce(vec![column("server"), column("server_name")])
}

fn column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

/// A column as readers of one tenant see it. Tenants share the partitions of the intake log, so an offset there counts
/// what all of them sent.
fn shown(name: &str, positions: Positions) -> Expr {
    if positions == Positions::Shown || !POSITION.contains(&name) {
        return column(name);
    }
    let shared = column("topic").eq(lit(INTAKE));
    when(shared.is_not_true(), column(name)).end().unwrap_or_else(|_| column(name)).alias(name)
}

/// Registers the tables over `records` at one version and scope.
pub(crate) fn register(
    context: &SessionContext,
    records: RecordsTable,
    chain_of: ChainOf,
    positions: Positions,
) -> Result<()> {
    let chain_of = ScalarUDF::new_from_impl(chain_of);
    let records: Arc<dyn TableProvider> = Arc::new(records);
    let of_class = |class: Class| {
        LogicalPlanBuilder::scan("records", provider_as_source(records.clone()), None)?
            .filter(column("class").eq(lit(class.as_str())))
    };
    let facts = |class: Class| of_class(class)?.filter(column("duplicate").is_not_true());
    for (name, class) in [("decisions", Class::Decision), ("executions", Class::Execution)] {
        let plan =
            facts(class)?.project(decision_columns((class == Class::Decision).then_some(&chain_of), positions))?;
        context.register_table(name, Arc::new(ViewTable::new(plan.build()?, None)))?;
    }
    let decisions = facts(Class::Decision)?.project(TIED.map(column))?.build()?;
    let done = facts(Class::Execution)?.project(TIED.iter().chain(DONE).map(|name| column(name)))?.build()?;
    context.register_table("decision_executions", Arc::new(ViewTable::new(tied(decisions, done)?, None)))?;
    for table in catena_schemas::authority::TABLES {
        let plan = facts(Class::Authority)?.filter(column("kind").eq(lit(table.record)))?;
        let plan = plan.project(authority::columns(table, column))?;
        context.register_table(table.name, Arc::new(ViewTable::new(plan.build()?, None)))?;
    }
    let plan = of_class(Class::Chain)?.project(authority::columns(&REVISIONS, column))?;
    let plan = plan.build()?;
    let alias = array_element(column("aliases"), lit(1));
    let newest = last_value(alias, vec![column("revision").sort(true, true)]).alias("chain_id");
    let aliases = LogicalPlanBuilder::from(plan.clone())
        .filter(column("state").eq(lit("merged")))?
        .aggregate(vec![column("tenant"), column("chain_id").alias("old_id")], vec![newest])?;
    context.register_table(REVISIONS.name, Arc::new(ViewTable::new(plan, None)))?;
    context.register_table("chain_aliases", Arc::new(ViewTable::new(aliases.build()?, None)))?;
    for (name, class) in [("rejects", Class::Reject), ("asides", Class::Aside)] {
        let columns = REJECTS
            .iter()
            .map(|(name, stored)| if name == stored { shown(stored, positions) } else { column(stored).alias(*name) });
        let plan = of_class(class)?.project(columns.collect::<Vec<_>>())?;
        context.register_table(name, Arc::new(ViewTable::new(plan.build()?, None)))?;
    }
    // Partition columns first, as in the table itself.
    let order =
        PARTITIONS.iter().copied().chain(Field::ALL.iter().map(|f| f.name())).map(|name| shown(name, positions));
    let plan = LogicalPlanBuilder::scan("records", provider_as_source(records.clone()), None)?
        .project(order.collect::<Vec<_>>())?;
    context.register_table("records", Arc::new(ViewTable::new(plan.build()?, None)))?;
    Ok(())
}

/// Executions beside the decisions that they carry out: of one request of one producer (`tie` is `request`), as Pomerium's access
/// line is of its authorize line; or of one span of one trace (`span`), whoever told of either.
fn tied(decisions: LogicalPlan, done: LogicalPlan) -> Result<LogicalPlan> {
    let of = |side: &str, name: &str| Expr::Column(Column::new(Some(side), name));
    let same = |name: &str| of("d", name).eq(of("x", name));
    // Producers count requests from the start again, and streams last for hours.
    let near = || {
        let day = lit(ScalarValue::new_interval_dt(1, 0));
        of("x", "time").between(of("d", "time") - day.clone(), of("d", "time") + day)
    };
    let one = |tie: &str, keys: &[&str], and: Option<Expr>| {
        let keys: Vec<Column> = keys.iter().map(|name| Column::new_unqualified(*name)).collect();
        let side = |side: &str| -> Vec<Column> { keys.iter().map(|k| Column::new(Some(side), &k.name)).collect() };
        let filter = and.into_iter().fold(near(), Expr::and);
        let shown = [of("d", "tenant"), of("d", "event_id"), of("d", "source"), lit(tie).alias("tie")]
            .into_iter()
            .chain([of("x", "event_id").alias("execution_id"), of("x", "source").alias("execution_source")])
            .chain([of("x", "time")])
            .chain(DONE.iter().map(|name| of("x", name)));
        LogicalPlanBuilder::from(decisions.clone())
            .alias("d")?
            .join(
                LogicalPlanBuilder::from(done.clone()).alias("x")?.build()?,
                JoinType::Inner,
                (side("d"), side("x")),
                Some(filter),
            )?
            .project(shown)
    };
    let by_request = one("request", &["tenant", "source_kind", "request_id"], None)?;
    let also = same("source_kind").and(same("request_id")).is_not_true();
    let by_span = one("span", &["tenant", "trace_id", "span_id"], Some(also))?;
    by_request.union(by_span.build()?)?.build()
}

fn decision_columns(chain_of: Option<&ScalarUDF>, positions: Positions) -> Vec<Expr> {
    let first = DECISIONS.iter().map(|name| match *name {
        CHAIN_ID => match chain_of {
            Some(chain_of) => {
                let source = coalesce(vec![column("source"), column("source_kind"), lit("")]);
                chain_of.call(vec![column("tenant"), source, column("event_id")]).alias(CHAIN_ID)
            }
            None => cast(lit(ScalarValue::Null), DataType::Utf8).alias(CHAIN_ID),
        },
        "source_record" => coalesce(vec![column("source_record"), column("event_id")]).alias("source_record"),
        name => shown(name, positions),
    });
    let schema = scan_schema();
    let rest: Vec<Expr> = schema
        .fields()
        .iter()
        .map(|f| f.name().as_str())
        .filter(|name| !DECISIONS.contains(name) && !NOT_OF_DECISIONS.contains(name))
        .map(column)
        .collect();
    first.chain(rest).collect()
}
