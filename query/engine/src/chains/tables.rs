//! `chains`, `chain_events` and `operations` as tables of DataFusion.
//!
//! Guarantee: their rows are what the rules make of the decisions at the version that the query sees, named in
//! `lake_version`; columns that nobody asks for are not made. A condition on a tenant, a chain or an event leaves out the
//! other chains before rows are made of them.

use super::columns::{COLUMNS, ChainColumn, REVISION, Seen, Widened};
use super::rebuilt::{Judged, Rebuilt};
use crate::engine::Engine;
use crate::log::Snapshot;
use crate::table::Scope;
use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use catena_analysis::chain::Chain;
use catena_analysis::chain::rules::pattern::Pattern;
use catena_analysis::chain::rules::{Link, Mark, Name};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// Rows of one batch, about.
const ROWS: usize = 8192;

/// How a column is made of a row.
#[derive(Clone, Copy)]
enum Of {
    Text(fn(&Row<'_>) -> Option<String>),
    List(fn(&Row<'_>) -> Vec<String>),
    Time(fn(&Row<'_>) -> i64),
    Int(fn(&Row<'_>) -> i32),
    Long(fn(&Row<'_>) -> Option<i64>),
    Share(fn(&Row<'_>) -> Option<f64>),
    Bool(fn(&Row<'_>) -> bool),
    Chain(&'static ChainColumn),
}

impl Of {
    fn kind(self) -> DataType {
        match self {
            Of::Text(_) => DataType::Utf8,
            Of::List(_) => DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))),
            Of::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Of::Int(_) => DataType::Int32,
            Of::Long(_) => DataType::Int64,
            Of::Share(_) => DataType::Float64,
            Of::Bool(_) => DataType::Boolean,
            Of::Chain(column) => column.data_type(),
        }
    }

    fn array(self, rows: &[Row<'_>]) -> ArrayRef {
        match self {
            Of::Text(of) => Arc::new(StringArray::from_iter(rows.iter().map(of))),
            Of::List(of) => {
                let mut list =
                    ListBuilder::new(StringBuilder::new()).with_field(Field::new("element", DataType::Utf8, true));
                rows.iter().for_each(|row| list.append_value(of(row).into_iter().map(Some)));
                Arc::new(list.finish())
            }
            Of::Time(of) => {
                Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(of)).with_timezone("UTC"))
            }
            Of::Int(of) => Arc::new(Int32Array::from_iter_values(rows.iter().map(of))),
            Of::Long(of) => Arc::new(Int64Array::from_iter(rows.iter().map(of))),
            Of::Share(of) => Arc::new(Float64Array::from_iter(rows.iter().map(of))),
            Of::Bool(of) => Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(of(row))))),
            Of::Chain(column) => column.array(rows.iter().map(Row::seen)),
        }
    }
}

/// What a row is about: a chain, and one event or operation of it by its place.
#[derive(Clone, Copy)]
struct Row<'r> {
    all: &'r Rebuilt,
    published: Option<&'r HashMap<String, i64>>,
    at: usize,
    place: usize,
}

impl<'r> Row<'r> {
    fn chain(&self) -> &'r Chain {
        self.all.chain(self.at)
    }

    fn link(&self) -> &'r Link {
        &self.chain().links[self.place]
    }

    fn judged(&self) -> Judged {
        self.all.judged_at(self.at, self.place)
    }

    fn text(&self, name: Name) -> Option<String> {
        name.is_some().then(|| self.all.store().text(name).to_owned())
    }

    fn event(&self, link: &Link) -> String {
        self.chain().event(self.all.store(), link).to_owned()
    }

    fn seen(&self) -> Seen<'r> {
        let chain = self.chain();
        Seen {
            store: self.all.store(),
            chain,
            id: &chain.id,
            revision: self.published.and_then(|published| published.get(&chain.id).copied()),
            state: self.all.state(chain),
            widened: Widened::Of(self.all, self.at),
        }
    }
}

/// A column: its name, and how it is made.
struct Column(&'static str, Of);

static CHAINS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let tenant = Column("tenant", Of::Text(|r| Some(r.all.tenant.to_string())));
    let columns = COLUMNS.iter().map(|column| Column(column.name, Of::Chain(column)));
    std::iter::once(tenant).chain(columns).chain([Column("lake_version", Of::Long(version))]).collect()
});

static EVENTS: &[Column] = &[
    Column("tenant", Of::Text(|r| Some(r.all.tenant.to_string()))),
    Column("chain_id", Of::Text(|r| Some(r.chain().id.clone()))),
    Column("event_id", Of::Text(|r| Some(r.event(r.link())))),
    Column("source", Of::Text(|r| Some(r.chain().source(r.all.store(), r.link()).to_owned()))),
    Column("time", Of::Time(|r| r.chain().time(r.all.store(), r.link()).0)),
    Column("operation_id", Of::Text(|r| Some(r.chain().operation_id(r.all.store(), r.link().operation as usize)))),
    Column("attempt", Of::Int(|r| r.link().attempt as i32)),
    Column("parent_event", Of::Text(|r| r.link().parent().map(|p| r.event(&r.chain().links[p])))),
    Column("parent_tier", Of::Text(|r| r.link().tier.map(|t| t.as_str().into()))),
    Column("parent_confidence", Of::Share(|r| r.link().tier.map(|_| r.link().confidence.share()))),
    Column("standing", Of::Text(|r| Some(r.link().standing.as_str().into()))),
    Column(
        "marks",
        Of::List(|r| {
            let set = Mark::ALL.iter().filter(|m| r.link().marks.has(**m));
            set.map(|m| m.as_str().to_owned()).collect()
        }),
    ),
    Column(
        "secondary_parents",
        Of::List(|r| {
            let all = &r.chain().secondary;
            let from = all.partition_point(|s| (s.child as usize) < r.place);
            let own = all[from..].iter().take_while(|s| s.child as usize == r.place);
            own.map(|s| r.event(&r.chain().links[s.parent as usize])).collect()
        }),
    ),
    Column(
        "path",
        Of::List(|r| r.chain().path(r.link()).hops.iter().map(|h| r.text(h.id).unwrap_or_default()).collect()),
    ),
    Column(
        "path_tiers",
        Of::List(|r| r.chain().path(r.link()).hops.iter().map(|h| h.tier.as_str().to_owned()).collect()),
    ),
    Column("path_confidence", Of::Share(|r| Some(r.chain().path(r.link()).confidence().share()))),
    Column("bound_state", Of::Text(|r| Some(r.judged().state.as_str().into()))),
    Column("widened_at", Of::Long(|r| r.judged().widened_at.map(i64::from))),
    Column("server", Of::Text(|r| r.chain().told(r.all.store(), r.link()).server.map(str::to_owned))),
    Column("tool", Of::Text(|r| r.chain().told(r.all.store(), r.link()).tool.map(str::to_owned))),
    Column("outcome", Of::Text(|r| Some(r.chain().outcome(r.all.store(), r.link()).as_str().into()))),
    Column("lake_version", Of::Long(version)),
];

static OPERATIONS: &[Column] = &[
    Column("tenant", Of::Text(|r| Some(r.all.tenant.to_string()))),
    Column("operation_id", Of::Text(|r| Some(r.chain().operation_id(r.all.store(), r.place)))),
    Column("chain_id", Of::Text(|r| Some(r.chain().id.clone()))),
    Column(
        "parent_operation",
        Of::Text(|r| r.chain().operations[r.place].parent().map(|p| r.chain().operation_id(r.all.store(), p))),
    ),
    Column("attempts", Of::Int(|r| r.chain().operations[r.place].attempts as i32)),
    Column("outcome", Of::Text(|r| Some(r.chain().outcome(r.all.store(), decided(r)).as_str().into()))),
    Column(
        "outcomes",
        Of::List(|r| {
            let attempts = r.all.attempts(r.chain(), r.place);
            attempts.map(|l| r.chain().outcome(r.all.store(), l).as_str().to_owned()).collect()
        }),
    ),
    Column("forwarded", Of::Bool(|r| r.chain().operations[r.place].forwarded())),
    Column("event_ids", Of::List(|r| r.all.attempts(r.chain(), r.place).map(|l| r.event(l)).collect())),
    Column("decided_by", Of::Text(|r| Some(r.event(decided(r))))),
    Column("started", Of::Time(|r| r.chain().time(r.all.store(), first(r)).0)),
    Column("ended", Of::Time(|r| r.chain().time(r.all.store(), last(r)).0)),
    Column("requester", Of::Text(|r| r.text(r.chain().path(decided(r)).hops[0].id))),
    Column(
        "agent",
        Of::Text(|r| {
            let hops = &r.chain().path(decided(r)).hops;
            hops.last().filter(|_| hops.len() > 1).and_then(|h| r.text(h.id))
        }),
    ),
    Column("server", Of::Text(|r| r.chain().told(r.all.store(), decided(r)).server.map(str::to_owned))),
    Column("tool", Of::Text(|r| r.chain().told(r.all.store(), decided(r)).tool.map(str::to_owned))),
    Column("grant_id", Of::Text(|r| r.chain().told(r.all.store(), decided(r)).grant.map(str::to_owned))),
    Column(
        "bound_state",
        Of::Text(|r| {
            let at = r.chain().operations[r.place].decided_by as usize;
            Some(r.all.judged_at(r.at, at).state.as_str().into())
        }),
    ),
    Column("lake_version", Of::Long(version)),
];

fn version(row: &Row<'_>) -> Option<i64> {
    row.all.version.and_then(|v| i64::try_from(v).ok())
}

fn decided<'r>(row: &Row<'r>) -> &'r Link {
    &row.chain().links[row.chain().operations[row.place].decided_by as usize]
}

fn first<'r>(row: &Row<'r>) -> &'r Link {
    &row.chain().links[row.chain().operations[row.place].first as usize]
}

fn last<'r>(row: &Row<'r>) -> &'r Link {
    &row.chain().links[row.chain().operations[row.place].last as usize]
}

/// A table of chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Chains,
    Events,
    Operations,
}

impl About {
    pub(super) const ALL: [About; 3] = [About::Chains, About::Events, About::Operations];

    pub(super) const fn name(self) -> &'static str {
        match self {
            About::Chains => "chains",
            About::Events => "chain_events",
            About::Operations => "operations",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            About::Chains => &CHAINS,
            About::Events => EVENTS,
            About::Operations => OPERATIONS,
        }
    }

    fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 3]> = LazyLock::new(|| {
            About::ALL.map(|about| {
                let fields = about.columns().iter().map(|c| Field::new(c.0, c.1.kind(), true));
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            })
        });
        SCHEMAS[self as usize].clone()
    }

    fn rows(self, chain: &Chain) -> usize {
        match self {
            About::Chains => 1,
            About::Events => chain.links.len(),
            About::Operations => chain.operations.len(),
        }
    }
}

/// Chains of a scope at a version.
#[derive(Clone, Debug)]
pub(super) struct ChainTable {
    pub(super) about: About,
    pub(super) engine: Engine,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) scope: Scope,
    /// Names that a chain must have.
    pub(super) names: Vec<String>,
    /// What the hops of an event must be.
    pub(super) pattern: Option<Arc<Pattern>>,
}

#[async_trait]
impl TableProvider for ChainTable {
    fn schema(&self) -> SchemaRef {
        self.about.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let pushed = |f: &&Expr| match wanted(f) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(pushed).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let columns: Vec<usize> = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
        let schema: SchemaRef = Arc::new(schema.project(&columns)?);
        let mut table = self.clone();
        let mut names = std::mem::take(&mut table.names);
        for (column, name) in filters.iter().filter_map(wanted) {
            match (column, &table.scope) {
                ("tenant", Scope::All) => table.scope = Scope::tenant(name),
                // Another tenant's: there is nothing for it in this scope, and the filter above says so.
                ("tenant", _) => {}
                _ => names.push(name),
            }
        }
        let parts = state.config().target_partitions().max(1);
        let streams = (0..parts).map(|part| {
            let (table, schema) = (table.clone(), schema.clone());
            let part = Part { table, schema, columns: columns.clone(), names: names.clone(), part, parts };
            Arc::new(part) as Arc<dyn PartitionStream>
        });
        let plan = StreamingTableExec::try_new(schema.clone(), streams.collect(), None, [], false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// A condition that names a tenant, a chain or an event.
fn wanted(filter: &Expr) -> Option<(&str, String)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    let (column, text) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(ScalarValue::Utf8(Some(text)), _))
        | (Expr::Literal(ScalarValue::Utf8(Some(text)), _), Expr::Column(column)) => (column, text),
        _ => return None,
    };
    matches!(column.name.as_str(), "tenant" | "chain_id" | "event_id").then(|| (column.name.as_str(), text.clone()))
}

/// One of several streams of rows.
#[derive(Debug)]
struct Part {
    table: ChainTable,
    schema: SchemaRef,
    columns: Vec<usize>,
    /// Names that a chain must have.
    names: Vec<String>,
    part: usize,
    parts: usize,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, schema, columns) = (self.table.clone(), self.schema.clone(), self.columns.clone());
        let (names, part, parts) = (self.names.clone(), self.part, self.parts);
        let rows = stream::once(async move {
            let table = Arc::new(table);
            let explain = |e| DataFusionError::External(Box::new(e));
            let sections = table.engine.sections(&table.scope, &table.snapshot).await.map_err(explain)?;
            // What does not fit at once is not asked for at once.
            let (part, parts) = if sections.fit { (part, parts) } else { (part, 1) };
            let all = if part < parts { sections.all } else { Vec::new() };
            let all = all.into_iter().filter({
                let names = names.clone();
                move |section| names.iter().all(|name| section.may_have(name))
            });
            let slices = stream::iter(all).then(move |section| {
                let (table, schema, columns, names) = (table.clone(), schema.clone(), columns.clone(), names.clone());
                async move {
                    let layers = table.engine.section(&section, &table.snapshot).await.map_err(explain)?;
                    let published = match schema.column_with_name(REVISION) {
                        Some(_) => {
                            let published = table.engine.published(section.tenant(), &table.snapshot).await;
                            Some(Arc::new(published.map_err(explain)?))
                        }
                        None => None,
                    };
                    let slices = layers.into_iter().flat_map(move |all| {
                        let mut chains = share(&all, &names, part, parts);
                        chains.reverse();
                        let (about, pattern) = (table.about, table.pattern.clone());
                        let (published, schema, columns) = (published.clone(), schema.clone(), columns.clone());
                        Slices { about, pattern, all, published, chains, from: 0, schema, columns }
                    });
                    Ok::<_, DataFusionError>(stream::iter(slices))
                }
            });
            Ok::<_, DataFusionError>(slices.try_flatten())
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows.try_flatten()))
    }
}

/// The chains that one of several streams has to give.
fn share(rebuilt: &Rebuilt, names: &[String], part: usize, parts: usize) -> Vec<usize> {
    match names.split_first() {
        None => rebuilt.share(part, parts),
        Some(_) if part > 0 => Vec::new(),
        Some((first, more)) => {
            let mut found = rebuilt.find(first);
            found.retain(|at| more.iter().all(|name| rebuilt.find(name).contains(at)));
            found
        }
    }
}

/// The batches of one tenant, made as they are asked for.
struct Slices {
    about: About,
    pattern: Option<Arc<Pattern>>,
    all: Arc<Rebuilt>,
    /// Revisions that were published last, if they are asked for.
    published: Option<Arc<HashMap<String, i64>>>,
    /// What is left, the next one last.
    chains: Vec<usize>,
    /// Where in the next chain the next batch begins.
    from: usize,
    schema: SchemaRef,
    columns: Vec<usize>,
}

impl Iterator for Slices {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rows = Vec::with_capacity(ROWS);
        while let Some(at) = self.chains.last().copied().filter(|_| rows.len() < ROWS) {
            let total = self.about.rows(self.all.chain(at));
            let to = total.min(self.from + ROWS - rows.len());
            let fits = |place: &usize| match &self.pattern {
                None => true,
                Some(pattern) => pattern.matches(&self.all.chain(at).places(self.all.store(), *place)),
            };
            let published = self.published.as_deref();
            rows.extend((self.from..to).filter(fits).map(|place| Row { all: &self.all, published, at, place }));
            self.from = to;
            if to == total {
                self.chains.pop();
                self.from = 0;
            }
        }
        if rows.is_empty() {
            return None;
        }
        let columns = self.columns.iter().map(|c| self.about.columns()[*c].1.array(&rows)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Some(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(Into::into))
    }
}
