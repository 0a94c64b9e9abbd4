//! Table functions over chains: `chain_of(name)`, `paths(pattern)`, `reach(kind, id)`.
//!
//! Guarantee: an argument that means nothing is refused with what was expected, and where; each row says the version of the
//! lake that it reflects.
//!
//! | function | rows |
//! |---|---|
//! | `chain_of('event, session, trace or chain')` | of `chain_events`, of every chain that the name means |
//! | `paths('human:alice > agent:* >> tool:payments.*')` | of `chain_events`, of the calls whose hops fit the pattern |
//! | `reach('human' | 'agent' | 'grant' | 'tool' | 'server', id)` | what it reached, and what it could have |

use super::rebuilt::Rebuilt;
use super::sections::EVENT_BYTES;
use super::tables::{About, ChainTable};
use crate::engine::Engine;
use crate::error::{Code, QueryError};
use crate::log::Snapshot;
use crate::table::Scope;
use arrow_array::builder::{BooleanBuilder, Int64Builder, StringBuilder, TimestampMicrosecondBuilder};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use catena_analysis::chain::Store;
use catena_analysis::chain::rules::pattern::Pattern;
use catena_analysis::chain::rules::reach::{Reach, Span, Start, people, reach_among};
use catena_schemas::Outcome;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

/// A table function over the chains of a scope at a version.
#[derive(Clone, Debug)]
pub(super) struct Function {
    pub(super) is: Is,
    pub(super) engine: Engine,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) scope: Scope,
}

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    ChainOf,
    Paths,
    Reach,
}

impl Is {
    pub(super) const ALL: [Is; 3] = [Is::ChainOf, Is::Paths, Is::Reach];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Is::ChainOf => "chain_of",
            Is::Paths => "paths",
            Is::Reach => "reach",
        }
    }

    const fn usage(self) -> &'static str {
        match self {
            Is::ChainOf => "chain_of('event, session, trace or chain')",
            Is::Paths => "paths('human:alice > agent:* >> tool:payments.*')",
            Is::Reach => "reach(kind, id[, server]); kind is human, agent, grant, tool or server",
        }
    }
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let wrong = || DataFusionError::Plan(format!("usage: {}", self.is.usage()));
        let texts: Option<Vec<&str>> = args
            .exprs()
            .iter()
            .map(|e| match e {
                Expr::Literal(ScalarValue::Utf8(Some(t)) | ScalarValue::Utf8View(Some(t)), _) => Some(t.as_str()),
                _ => None,
            })
            .collect();
        let texts = texts.ok_or_else(wrong)?;
        let events = ChainTable {
            about: About::Events,
            engine: self.engine.clone(),
            snapshot: self.snapshot.clone(),
            scope: self.scope.clone(),
            names: Vec::new(),
            pattern: None,
        };
        match (self.is, texts.as_slice()) {
            (Is::ChainOf, [name]) => Ok(Arc::new(ChainTable { names: vec![(*name).to_owned()], ..events })),
            (Is::Paths, [pattern]) => {
                let pattern =
                    Pattern::parse(pattern).map_err(|e| DataFusionError::Plan(format!("`{pattern}`: {e}")))?;
                Ok(Arc::new(ChainTable { pattern: Some(Arc::new(pattern)), ..events }))
            }
            (Is::Reach, [kind, id]) => self.reach(kind, id, None).ok_or_else(wrong),
            (Is::Reach, ["tool", id, server]) => self.reach("tool", id, Some(server)).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

impl Function {
    fn reach(&self, kind: &str, id: &str, server: Option<&str>) -> Option<Arc<dyn TableProvider>> {
        let kind = ["human", "agent", "grant", "tool", "server"].into_iter().find(|k| *k == kind)?;
        Some(Arc::new(ReachTable {
            of: self.clone(),
            kind,
            id: id.to_owned(),
            server: server.map(str::to_owned),
            schema: SCHEMA.clone(),
        }))
    }
}

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let fields = [
        ("tenant", DataType::Utf8),
        ("what", DataType::Utf8),
        ("server", DataType::Utf8),
        ("id", DataType::Utf8),
        ("reached", DataType::Boolean),
        ("operations", DataType::Int64),
        ("allowed", DataType::Int64),
        ("denied", DataType::Int64),
        ("stepped_up", DataType::Int64),
        ("first", time()),
        ("last", time()),
        ("example", DataType::Utf8),
        ("distance", DataType::Int64),
        ("could_reach", DataType::Utf8),
        ("why", DataType::Utf8),
        ("beyond", DataType::Boolean),
        ("cut", DataType::Boolean),
        ("lake_version", DataType::Int64),
    ];
    Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()))
});

/// What one start reached, in every tenant of a scope.
#[derive(Clone, Debug)]
struct ReachTable {
    of: Function,
    kind: &'static str,
    id: String,
    server: Option<String>,
    schema: SchemaRef,
}

/// Chains of a tenant that a start may reach, of all its parts or layers.
struct Gathered {
    store: Store,
    people: BTreeSet<String>,
    /// One of them, without its chains.
    of: Rebuilt,
}

impl ReachTable {
    fn start(&self) -> Start<'_> {
        let server = self.server.as_deref();
        match self.kind {
            "human" => Start::Human(&self.id),
            "agent" => Start::Actor(&self.id),
            "grant" => Start::Grant(&self.id),
            "server" => Start::Tool { server: Some(&self.id), tool: None },
            _ => Start::Tool { server, tool: Some(&self.id) },
        }
    }

    /// The rows of every tenant, one tenant after another.
    async fn batches(&self) -> Result<Vec<RecordBatch>, QueryError> {
        let Function { engine, snapshot, scope, .. } = &self.of;
        let mut batches = Vec::new();
        let mut gathered: Option<Gathered> = None;
        for section in engine.sections(scope, snapshot).await?.all {
            let layers = engine.section(&section, snapshot).await?;
            if gathered.as_ref().is_some_and(|g| g.of.tenant != *section.tenant()) {
                batches.extend(gathered.take().map(|g| self.rows_of_parts(g)));
            }
            if let [of] = &layers[..]
                && section.is_whole()
            {
                batches.push(self.rows(of, &people(of.store(), of.layer()).collect()));
                continue;
            }
            for of in layers {
                let all = gathered.get_or_insert_with(|| Gathered {
                    store: Store::default(),
                    people: BTreeSet::new(),
                    of: of.only(&[]),
                });
                for id in people(of.store(), of.layer()) {
                    if !all.people.contains(id) {
                        all.people.insert(id.to_owned());
                    }
                }
                let start = self.start();
                let may_reach = start.may_reach(of.store(), &of.terms);
                let reached = of.chains().filter(|(_, chain)| may_reach(chain));
                reached.for_each(|(_, chain)| all.store.take_chain(of.store(), chain));
                let (needed, may_take) = (all.store.len() as u64 * EVENT_BYTES, engine.options().chains_bytes as u64);
                if needed > may_take {
                    let (id, may_take) = (&self.id, may_take >> 20);
                    let message =
                        format!("what `{id}` reached takes more than {may_take} MiB; raise `query.chains_bytes`");
                    return Err(QueryError::new(Code::Memory, message));
                }
            }
        }
        batches.extend(gathered.map(|g| self.rows_of_parts(g)));
        batches.into_iter().collect::<Result<_>>().map_err(|e| engine.explain(e))
    }

    fn rows_of_parts(&self, Gathered { store, people, of }: Gathered) -> Result<RecordBatch> {
        self.rows(&of.with(store), &people.iter().map(String::as_str).collect())
    }

    /// `people` are those of all chains of the tenant.
    fn rows(&self, all: &Rebuilt, people: &BTreeSet<&str>) -> Result<RecordBatch> {
        let start = self.start();
        let Reach { rows, cut } = reach_among(people, all.store(), all.layer(), &all.terms, start, Span::default());
        let mut texts: [StringBuilder; 7] = Default::default();
        let mut numbers: [Int64Builder; 6] = Default::default();
        let mut times = [(); 2].map(|()| TimestampMicrosecondBuilder::new().with_timezone("UTC"));
        let mut flags: [BooleanBuilder; 3] = Default::default();
        for row in &rows {
            let count = |outcome: Outcome| Some(row.by_outcome.get(&outcome).copied().unwrap_or(0) as i64);
            let said = [
                Some(all.tenant.as_ref()),
                Some(row.what.as_str()),
                row.server.as_deref(),
                Some(row.id.as_str()),
                row.example.as_deref(),
                Some(row.could.as_str()),
                Some(row.why.as_str()),
            ];
            texts.iter_mut().zip(said).for_each(|(column, text)| column.append_option(text));
            let counts = [
                Some(row.operations as i64),
                count(Outcome::Allow),
                count(Outcome::Deny),
                count(Outcome::StepUp),
                row.distance.map(i64::from),
                all.version.map(|v| v as i64),
            ];
            numbers.iter_mut().zip(counts).for_each(|(column, n)| column.append_option(n));
            times.iter_mut().zip([row.first, row.last]).for_each(|(column, t)| column.append_option(t.map(|t| t.0)));
            flags.iter_mut().zip([row.reached, row.beyond, cut]).for_each(|(column, f)| column.append_value(f));
        }
        let [tenant, what, of_server, id, example, could, why] = texts.map(|mut c| Arc::new(c.finish()) as ArrayRef);
        let [operations, allowed, denied, stepped_up, distance, version] =
            numbers.map(|mut c| Arc::new(c.finish()) as ArrayRef);
        let [first, last] = times.map(|mut c| Arc::new(c.finish()) as ArrayRef);
        let [reached, beyond, cut] = flags.map(|mut c| Arc::new(c.finish()) as ArrayRef);
        let columns = vec![
            tenant, what, of_server, id, reached, operations, allowed, denied, stepped_up, first, last, example,
            distance, could, why, beyond, cut, version,
        ];
        Ok(RecordBatch::try_new(SCHEMA.clone(), columns)?)
    }
}

#[async_trait]
impl TableProvider for ReachTable {
    fn schema(&self) -> SchemaRef {
        SCHEMA.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        _: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stream: Arc<dyn PartitionStream> = Arc::new(self.clone());
        Ok(Arc::new(StreamingTableExec::try_new(SCHEMA.clone(), vec![stream], projection, [], false, limit)?))
    }
}

impl PartitionStream for ReachTable {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let table = self.clone();
        let rows = futures::stream::once(async move {
            let batches = table.batches().await.map_err(|e| DataFusionError::External(Box::new(e)))?;
            Ok::<_, DataFusionError>(futures::stream::iter(batches.into_iter().map(Ok)))
        });
        Box::pin(RecordBatchStreamAdapter::new(SCHEMA.clone(), futures::TryStreamExt::try_flatten(rows)))
    }
}
