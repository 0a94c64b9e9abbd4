//! Answers SQL over a lake.
//!
//! Guarantees: every query sees one version of the lake, the newest when it was asked; what [`Scope`] leaves out is not
//! opened; a query ends at its [`Limits`], and an answer that was cut says so. Queries run on threads of the engine, with
//! stacks that no statement that passes the gate can exhaust; dropping an [`Answer`] ends its query.

use crate::bounded;
use crate::chains;
use crate::damage::Readers;
use crate::error::{Code, LakeError, QueryError, nearest};
use crate::gate::{self, Asked, CATALOG, COLUMNS_MAX, SCHEMA};
use crate::lake::Place;
use crate::limits::Limits;
use crate::log::{Log, Snapshot};
use crate::table::{RecordsTable, Scope};
use crate::views;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::SchemaError;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use object_store::ObjectStore;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Stack of the threads that plan and run queries. Only touched pages cost memory.
const STACK_BYTES: usize = 64 << 20;
/// Batches that wait for the reader of an answer.
const ANSWER_QUEUE: usize = 2;
/// After so long without a look at the log, upkeep may have removed entries.
const LONG_AGO: Duration = Duration::from_secs(60);

/// Settings of an engine.
#[derive(Clone, Debug)]
pub struct Options {
    /// Settings of the object store: `aws_region`, `aws_endpoint`, `aws_access_key_id` and so on.
    pub store: BTreeMap<String, String>,
    /// Threads that run queries; also how many parts of a scan run at once.
    pub threads: usize,
    /// Memory for footers of Parquet files.
    pub metadata_cache_bytes: usize,
    /// Where to spill; the system's temporary folder if absent.
    pub spill: Option<PathBuf>,
    /// Memory for chains.
    pub chains_bytes: usize,
    /// Part of the opened files that is compared with its digest, from 0 to 1.
    pub verify_share: f64,
}

impl Default for Options {
    fn default() -> Options {
        let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
        Options {
            store: BTreeMap::new(),
            threads,
            metadata_cache_bytes: 64 << 20,
            spill: None,
            chains_bytes: 4 << 30,
            verify_share: 0.01,
        }
    }
}

/// A lake, ready to be asked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    place: Place,
    log: Log,
    options: Options,
    current: Mutex<Current>,
    /// Only one reader of the log at a time: the others take what it finds.
    refreshing: tokio::sync::Mutex<()>,
    base: Arc<RuntimeEnv>,
    readers: Readers,
    threads: Threads,
    queries: AtomicU64,
    chains: chains::Cache,
}

#[derive(Debug)]
struct Current {
    snapshot: Arc<Snapshot>,
    looked: Option<Instant>,
}

/// Threads of the engine. They go away with it, also when that happens inside another runtime.
#[derive(Debug)]
struct Threads(Option<tokio::runtime::Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Engine {
    /// Opens a lake for reading. A place that holds nothing is a lake without rows; one that holds something else is an error.
    pub async fn open(url: &str, options: Options) -> Result<Engine, LakeError> {
        let place = Place::new(url, &options.store, None)?;
        Engine::start(place, options).await
    }

    /// As [`Engine::open`], over a store of the caller's.
    pub async fn open_with(url: &str, options: Options, store: Arc<dyn ObjectStore>) -> Result<Engine, LakeError> {
        let place = Place::new(url, &options.store, Some(store))?;
        Engine::start(place, options).await
    }

    async fn start(place: Place, options: Options) -> Result<Engine, LakeError> {
        place.check().await?;
        let failed = |reason: String| LakeError::Url { url: place.url.clone(), reason };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("catena-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| failed(format!("no threads: {e}")))?;
        let base = RuntimeEnvBuilder::new()
            .with_metadata_cache_limit(options.metadata_cache_bytes)
            .build_arc()
            .map_err(|e| failed(e.strip_backtrace()))?;
        base.register_object_store(place.store_url.as_ref(), place.store.clone());
        let log = Log::new(place.store.clone(), &place.root);
        let footers = base.cache_manager.get_file_metadata_cache();
        let factory = CachedParquetFileReaderFactory::new(place.store.clone(), footers);
        let is_local = place.store_url.as_str().starts_with("file:");
        let readers = Readers::new(place.store.clone(), factory, place.root.clone(), options.verify_share, is_local);
        let current = Mutex::new(Current { snapshot: Arc::default(), looked: None });
        let engine = Engine {
            inner: Arc::new(Inner {
                place,
                log,
                options,
                current,
                refreshing: tokio::sync::Mutex::new(()),
                base,
                readers,
                threads: Threads(Some(runtime)),
                queries: AtomicU64::new(0),
                chains: chains::Cache::default(),
            }),
        };
        engine.refresh().await?;
        Ok(engine)
    }

    /// The version last seen, without a look at the store.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.current.lock().snapshot.clone()
    }

    /// Version of the lake last seen; `None` before its first commit.
    pub fn version(&self) -> Option<u64> {
        self.snapshot().version()
    }

    /// The newest version.
    pub async fn refresh(&self) -> Result<Arc<Snapshot>, LakeError> {
        let asked = Instant::now();
        let _one = self.inner.refreshing.lock().await;
        let (from, looked) = {
            let current = self.inner.current.lock();
            (current.snapshot.clone(), current.looked)
        };
        // Somebody else looked after we asked.
        if looked.is_some_and(|at| at >= asked) {
            return Ok(from);
        }
        let started = Instant::now();
        let long_ago = looked.is_none_or(|at| at.elapsed() > LONG_AGO);
        let found = self.inner.log.advance(&from, long_ago).await?.map(Arc::new);
        let mut current = self.inner.current.lock();
        current.looked = Some(started);
        if let Some(found) = found {
            current.snapshot = found;
        }
        Ok(current.snapshot.clone())
    }

    /// Asks within a scope.
    pub fn session(&self, scope: Scope) -> Session {
        Session { engine: self.clone(), scope, pinned: None }
    }

    /// Asks over all tenants.
    pub async fn sql(&self, sql: &str, limits: &Limits) -> Result<Answer, QueryError> {
        self.session(Scope::All).sql(sql, limits).await
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn chains(&self) -> &chains::Cache {
        &self.inner.chains
    }

    /// Opens files of the lake, and remembers their footers.
    pub(crate) fn readers(&self) -> Readers {
        self.inner.readers.clone()
    }

    /// Runs something on the engine's threads.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.inner.threads.0.as_ref().expect("threads live as long as the engine").spawn(work)
    }

    pub(crate) fn context(
        &self,
        scope: &Scope,
        snapshot: Arc<Snapshot>,
        limits: &Limits,
    ) -> Result<SessionContext, DataFusionError> {
        let inner = &self.inner;
        let mut config = SessionConfig::new()
            .with_target_partitions(inner.options.threads.max(1))
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(true)
            .with_parquet_pruning(true)
            .with_collect_statistics(false);
        let settings = config.options_mut();
        settings.execution.enable_recursive_ctes = false;
        settings.execution.time_zone = Some("UTC".into());
        settings.execution.parquet.pushdown_filters = true;
        settings.execution.parquet.reorder_filters = true;
        settings.sql_parser.map_string_types_to_utf8view = false;
        let mode = inner
            .options
            .spill
            .clone()
            .map_or(DiskManagerMode::OsTmpDirectory, |folder| DiskManagerMode::Directories(vec![folder]));
        let disk = DiskManager::builder().with_mode(mode).with_max_temp_directory_size(limits.spill).build()?;
        let environment = RuntimeEnv {
            memory_pool: Arc::new(FairSpillPool::new(limits.memory)),
            disk_manager: Arc::new(disk),
            ..inner.base.as_ref().clone()
        };
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::new(environment))
            .with_default_features()
            .with_session_id(format!("q{}", inner.queries.fetch_add(1, Ordering::Relaxed)))
            .build();
        let context = SessionContext::new_with_state(state);
        let (readers, store_url) = (inner.readers.clone(), inner.place.store_url.clone());
        chains::register(&context, self, &snapshot, scope)?;
        let chain_of = chains::ChainOf::new(self, &snapshot, scope);
        views::register(&context, RecordsTable { snapshot, scope: scope.clone(), readers, store_url }, chain_of)?;
        Ok(context)
    }

    /// A message without the place of the lake in it.
    fn scrub(&self, message: &str) -> String {
        let root = self.inner.place.root.as_ref();
        if root.is_empty() {
            message.to_owned()
        } else {
            message.replace(&format!("/{root}"), "<lake>").replace(root, "<lake>")
        }
    }

    pub(crate) fn explain(&self, error: DataFusionError) -> QueryError {
        let mut found = query_error(&error);
        found.message = self.scrub(&found.message);
        found
    }
}

/// Asks within one scope.
#[derive(Clone, Debug)]
pub struct Session {
    engine: Engine,
    scope: Scope,
    pinned: Option<Arc<Snapshot>>,
}

impl Session {
    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whose rows it sees.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The same session, held at one version: the newest now, or the one it is held at already.
    pub async fn pin(&self) -> Result<Session, LakeError> {
        let pinned = match &self.pinned {
            Some(snapshot) => snapshot.clone(),
            None => self.engine.refresh().await?,
        };
        Ok(Session { pinned: Some(pinned), ..self.clone() })
    }

    /// The version that the session is held at; the last one seen if it is not.
    pub(crate) fn pinned_at(&self) -> Arc<Snapshot> {
        self.pinned.clone().unwrap_or_else(|| self.engine.snapshot())
    }

    /// Runs one statement over the newest version, or the one that the session is held at.
    pub async fn sql(&self, sql: &str, limits: &Limits) -> Result<Answer, QueryError> {
        let deadline = Instant::now().checked_add(limits.time).map(tokio::time::Instant::from_std);
        let (head, mut heads) = mpsc::channel(1);
        let (rows, batches) = mpsc::channel(ANSWER_QUEUE);
        let run = Run { session: self.clone(), sql: sql.to_owned(), limits: limits.clone(), head, rows };
        let task = AbortOnDrop(self.engine.spawn(run.go()));
        match until(deadline, heads.recv()).await {
            None => Err(out_of_time(limits)),
            Some(Some(Ok((schema, version)))) => Ok(Answer {
                schema,
                version,
                batches,
                task,
                deadline,
                limits: limits.clone(),
                rows: 0,
                bytes: 0,
                cut: None,
                done: false,
            }),
            Some(Some(Err(error))) => Err(error),
            Some(None) => Err(broken()),
        }
    }
}

/// Waits, at most until the deadline.
async fn until<T>(deadline: Option<tokio::time::Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(at) => tokio::time::timeout_at(at, work).await.ok(),
        None => Some(work.await),
    }
}

fn out_of_time(limits: &Limits) -> QueryError {
    let message =
        format!("the query took longer than {} s; ask for less time or fewer columns", limits.time.as_secs_f32());
    QueryError::new(Code::Time, message)
}

fn broken() -> QueryError {
    QueryError::new(Code::Internal, "the query ended without an answer; this is a fault of the engine")
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Head = Result<(SchemaRef, Option<u64>), QueryError>;

/// One query on the engine's threads.
struct Run {
    session: Session,
    sql: String,
    limits: Limits,
    head: mpsc::Sender<Head>,
    rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
}

impl Run {
    async fn go(self) {
        let (schema, version, mut stream) = match self.start().await {
            Ok(started) => started,
            Err(error) => {
                let _ = self.head.send(Err(error)).await;
                return;
            }
        };
        // A reader that is gone ends the query.
        if self.head.send(Ok((schema, version))).await.is_err() {
            return;
        }
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(|e| self.session.engine.explain(e));
            let failed = batch.is_err();
            if self.rows.send(batch).await.is_err() || failed {
                return;
            }
        }
    }

    async fn start(
        &self,
    ) -> Result<(SchemaRef, Option<u64>, datafusion::execution::SendableRecordBatchStream), QueryError> {
        let engine = &self.session.engine;
        let asked = gate::check(&self.sql)?;
        let snapshot = match &self.session.pinned {
            Some(snapshot) => snapshot.clone(),
            None => engine.refresh().await?,
        };
        let version = snapshot.version();
        let explain = |e| engine.explain(e);
        let context = engine.context(&self.session.scope, snapshot, &self.limits).map_err(explain)?;
        let state = context.state();
        let (statement, only_plan) = match asked {
            Asked::Rows(statement) => (statement, false),
            Asked::Plan(statement) => (statement, true),
        };
        let logical = state.statement_to_plan(*statement).await.map_err(explain)?;
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&logical).map_err(|e| QueryError::new(Code::NotRead, e.strip_backtrace()))?;
        let columns = logical.schema().fields().len();
        if columns > COLUMNS_MAX {
            let message =
                format!("the answer has {columns} columns, more than {COLUMNS_MAX}; name the ones that matter");
            return Err(QueryError::new(Code::TooComplex, message));
        }
        let logical = bounded::bound(logical).map_err(explain)?;
        let optimized = state.optimize(&logical).map_err(explain)?;
        let plan = state.query_planner().create_physical_plan(&optimized, &state).await.map_err(explain)?;
        if only_plan {
            let logical = optimized.display_indent().to_string();
            let physical = hide_files(&displayable(plan.as_ref()).indent(false).to_string());
            return Ok(plan_rows(&logical, &physical, version));
        }
        let schema = plan.schema();
        let stream = datafusion::physical_plan::execute_stream(plan, context.task_ctx()).map_err(explain)?;
        Ok((schema, version, stream))
    }
}

/// The answer to EXPLAIN.
fn plan_rows(
    logical: &str,
    physical: &str,
    version: Option<u64>,
) -> (SchemaRef, Option<u64>, datafusion::execution::SendableRecordBatchStream) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("plan_type", DataType::Utf8, false),
        Field::new("plan", DataType::Utf8, false),
    ]));
    // A row per line, so that a text table shows a plan as a plan.
    let lines = logical.lines().map(|l| ("logical_plan", l)).chain(physical.lines().map(|l| ("physical_plan", l)));
    let (kinds, plans): (Vec<&str>, Vec<&str>) = lines.unzip();
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(kinds)), Arc::new(StringArray::from(plans))];
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(DataFusionError::from);
    let stream = datafusion::physical_plan::stream::RecordBatchStreamAdapter::new(
        schema.clone(),
        futures::stream::iter([batch]),
    );
    (schema, version, Box::pin(stream))
}

/// A plan without the names of files: how many there are is all that is said.
fn hide_files(plan: &str) -> String {
    const START: &str = "file_groups={";
    let mut out = String::with_capacity(plan.len());
    let mut rest = plan;
    while let Some(at) = rest.find(START) {
        let (before, after) = rest.split_at(at + START.len());
        out.push_str(before);
        // `2 groups: [[a.parquet, b.parquet], [c.parquet]]}`
        let end = after.find("]]}").unwrap_or(after.len());
        let count = after[..end].matches(".parquet").count();
        let groups = after.split(':').next().unwrap_or_default();
        out.push_str(&format!("{groups} of {count} files"));
        rest = after.get(end + 2..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Why an answer is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It has as many rows as the limit allows.
    Rows,
    /// It has as many bytes as the limit allows.
    Bytes,
}

/// Rows, as they come. Dropping it ends the query.
#[derive(Debug)]
pub struct Answer {
    schema: SchemaRef,
    version: Option<u64>,
    batches: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    task: AbortOnDrop,
    deadline: Option<tokio::time::Instant>,
    limits: Limits,
    rows: u64,
    bytes: u64,
    cut: Option<Cut>,
    done: bool,
}

/// An answer, whole in memory.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Columns.
    pub schema: SchemaRef,
    /// Version of the lake that it reflects.
    pub version: Option<u64>,
    /// Rows.
    pub batches: Vec<RecordBatch>,
    /// Why it is not whole, if it is not.
    pub cut: Option<Cut>,
}

impl Rows {
    /// How many rows.
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Answer {
    /// Columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Version of the lake that it reflects; `None` before the first commit.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Why the answer is not whole; known after the last row.
    pub fn cut(&self) -> Option<Cut> {
        self.cut
    }

    /// The next rows.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        if self.done {
            return None;
        }
        let batch = match until(self.deadline, self.batches.recv()).await {
            Some(Some(Ok(batch))) => batch,
            Some(Some(Err(error))) => {
                self.done = true;
                return Some(Err(error));
            }
            Some(None) => {
                self.done = true;
                // The sender is gone because the task ended: in peace, or not.
                return match (&mut self.task.0).await {
                    Ok(()) => None,
                    Err(_) => Some(Err(broken())),
                };
            }
            None => {
                self.done = true;
                self.task.0.abort();
                return Some(Err(out_of_time(&self.limits)));
            }
        };
        let left = self.limits.rows - self.rows;
        let batch = if batch.num_rows() as u64 > left {
            self.stop(Cut::Rows);
            batch.slice(0, left as usize)
        } else {
            batch
        };
        let bytes = crate::output::value_bytes(&batch);
        if self.bytes.saturating_add(bytes) > self.limits.bytes {
            self.stop(Cut::Bytes);
            return None;
        }
        self.rows += batch.num_rows() as u64;
        self.bytes += bytes;
        Some(Ok(batch))
    }

    fn stop(&mut self, why: Cut) {
        self.cut = Some(why);
        self.done = true;
        self.batches.close();
        self.task.0.abort();
    }

    /// Reads it to the end.
    pub async fn collect(mut self) -> Result<Rows, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(Rows { schema: self.schema, version: self.version, batches, cut: self.cut })
    }
}

fn out_of_memory() -> QueryError {
    QueryError::new(
        Code::Memory,
        "the query needs more memory or disk for spilling than it may use; group, join or sort by less",
    )
}

/// What an error of DataFusion means to the one who asked.
fn query_error(error: &DataFusionError) -> QueryError {
    let text = |e: &DataFusionError| {
        let text = e.strip_backtrace();
        ["Error during planning: ", "Execution error: ", "Arrow error: ", "This feature is not implemented: "]
            .iter()
            .fold(text, |t, prefix| t.strip_prefix(prefix).map(str::to_owned).unwrap_or(t))
    };
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => query_error(inner),
        DataFusionError::Shared(inner) => query_error(inner),
        DataFusionError::Collection(all) if !all.is_empty() => query_error(&all[0]),
        // One of ours, from a table or a function of ours.
        DataFusionError::External(inner) => match inner.downcast_ref::<QueryError>() {
            Some(ours) => ours.clone(),
            None => QueryError::new(Code::Internal, text(error)),
        },
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let names: Vec<&str> = valid_fields.iter().map(|f| f.name.as_str()).collect();
                let near = nearest(&field.name, names.iter().copied());
                let hint = match near.as_slice() {
                    [] if names.len() <= 12 => format!("there are {}", names.join(", ")),
                    [] => "SHOW COLUMNS FROM the table lists them".to_owned(),
                    near => format!(
                        "did you mean {}?",
                        near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ")
                    ),
                };
                QueryError::new(Code::UnknownColumn, format!("there is no column `{}`; {hint}", field.flat_name()))
            }
            SchemaError::AmbiguousReference { field } => {
                let message =
                    format!("the column `{}` is in more than one table; write the table before it", field.name);
                QueryError::new(Code::Invalid, message)
            }
            _ => QueryError::new(Code::Invalid, text(error)),
        },
        DataFusionError::ResourcesExhausted(_) => out_of_memory(),
        DataFusionError::SQL(..) => QueryError::new(Code::Syntax, text(error)),
        DataFusionError::Plan(message)
            if message.contains("Invalid function") || message.contains("not found") && message.contains("unction") =>
        {
            QueryError::new(Code::UnknownFunction, text(error).replace(".\n", "; ").replace('\n', " "))
        }
        DataFusionError::Plan(_) | DataFusionError::NotImplemented(_) | DataFusionError::Configuration(_) => {
            QueryError::new(Code::Invalid, text(error))
        }
        DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => match text(error) {
            // Spilling reports its own limit as an input/output error.
            text if text.contains("max_temp_directory_size") => out_of_memory(),
            text => QueryError::new(Code::Execution, text),
        },
        DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => {
            QueryError::new(Code::Lake, format!("a file of the lake could not be read: {}", text(error)))
        }
        other => QueryError::new(Code::Internal, text(other)),
    }
}
