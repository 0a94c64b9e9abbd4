//! Answers SQL over a lake.
//!
//! Guarantees: every query sees one version of the lake, the newest when it was asked; what [`Scope`] leaves out is not
//! opened; a query ends at its [`Limits`], and an answer that was cut says so. Queries run on threads of the engine, with
//! stacks that no statement that passes the gate can exhaust; dropping an [`Answer`] ends its query. Before a statement
//! runs it passes [`crate::gate`], [`crate::bounded`] and [`crate::ceiling`].

use crate::bounded;
use crate::ceiling;
use crate::chains;
use crate::control::{BATCH_ROWS_SMALL, Control, Over, out_of_time};
use crate::damage::Readers;
use crate::error::{Code, LakeError, QueryError};
use crate::explain::{UNKNOWN_ZONE, query_error};
use crate::gate::{self, Asked, CATALOG, COLUMNS_MAX, SCHEMA};
use crate::lake::Place;
use crate::limits::Limits;
use crate::log::{Log, Snapshot};
use crate::pool::{Ceiling, Share};
use crate::select::Select;
use crate::table::{BatchRows, RecordsTable, Scope};
use crate::threads::Threads;
use crate::views::{self, Positions};
use arrow_array::timezone::Tz;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::config::ConfigNonZeroUsize;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManager, DiskManagerMode};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::{DataFrame, SQLOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use object_store::ObjectStore;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

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
    /// Memory that all queries together may reserve.
    pub queries_bytes: usize,
    /// What the process may have in memory before running queries are ended; `None` if unknown.
    pub process_bytes_max: Option<u64>,
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
            queries_bytes: 1 << 30,
            process_bytes_max: None,
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
    threads: Arc<Threads>,
    /// What all queries may reserve.
    memory: Arc<Ceiling>,
    queries: AtomicU64,
    chains: chains::Cache,
}

#[derive(Debug)]
struct Current {
    snapshot: Arc<Snapshot>,
    looked: Option<Instant>,
}

/// How well the engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// How often queries did not come back and their threads were given up.
    pub given_up: u64,
    /// Whether queries run: too many threads were given up if not, and the process has to be started again.
    pub runs: bool,
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
        let threads = Threads::start(options.threads, options.process_bytes_max)
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
        let memory = Ceiling::new(options.queries_bytes);
        let engine = Engine {
            inner: Arc::new(Inner {
                place,
                log,
                options,
                current,
                refreshing: tokio::sync::Mutex::new(()),
                base,
                readers,
                threads,
                memory,
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

    /// How well it is: for whoever watches the service.
    pub fn health(&self) -> Health {
        let (given_up, runs) = self.inner.threads.given_up();
        Health { given_up, runs }
    }

    /// Asks within a scope.
    pub fn session(&self, scope: Scope) -> Session {
        Session { engine: self.clone(), scope, pinned: None, positions: Positions::Shown }
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
        self.inner.threads.spawn(work)
    }

    /// The tables of a scope at a version, for our own use.
    pub(crate) fn context(
        &self,
        scope: &Scope,
        snapshot: Arc<Snapshot>,
        limits: &Limits,
    ) -> Result<SessionContext, DataFusionError> {
        self.context_for(scope, Positions::Shown, snapshot, limits)
    }

    fn context_for(
        &self,
        scope: &Scope,
        positions: Positions,
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
            memory_pool: Arc::new(Share::new(limits.memory, inner.memory.clone())),
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
        views::register(
            &context,
            RecordsTable { snapshot, scope: scope.clone(), readers, store_url },
            chain_of,
            positions,
        )?;
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
    positions: Positions,
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

    /// The same session for somebody who is not the operator: where a record is in a log that tenants share is null.
    pub fn outside(self) -> Session {
        Session { positions: Positions::Hidden, ..self }
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
        self.ask(Question::from(sql), limits).await
    }

    /// Runs one question over the newest version, or the one that the session is held at.
    pub(crate) async fn ask(&self, question: Question, limits: &Limits) -> Result<Answer, QueryError> {
        let deadline = Instant::now().checked_add(limits.time).map(tokio::time::Instant::from_std);
        let (head, mut heads) = mpsc::channel(1);
        let (rows, batches) = mpsc::channel(ANSWER_QUEUE);
        let control = self.engine.inner.threads.control(limits);
        let watched = Arc::downgrade(&control);
        let run = Run { session: self.clone(), question, limits: limits.clone(), control, head, rows };
        let mut task = Task { task: self.engine.spawn(run.go()), control: watched };
        match until(deadline, heads.recv()).await {
            None => Err(out_of_time(limits)),
            Some(Some(Ok((schema, version)))) => Ok(Answer {
                names: crate::output::names_bytes(&schema),
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
            Some(None) => Err(task.broken().await),
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

/// A query under way. Dropping it ends the query.
#[derive(Debug)]
struct Task {
    task: tokio::task::JoinHandle<()>,
    control: Weak<Control>,
}

impl Task {
    fn end(&self) {
        if let Some(control) = self.control.upgrade() {
            control.end(Over::Dropped);
        }
        self.task.abort();
    }

    /// Why it ended without an answer.
    async fn broken(&mut self) -> QueryError {
        match (&mut self.task).await {
            Err(e) if e.is_cancelled() => QueryError::new(
                Code::Busy,
                "the query was ended because another one took its threads and did not give them back; ask again",
            ),
            _ => QueryError::new(Code::Internal, "the query ended without an answer; this is a fault of the engine"),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.end();
    }
}

type Head = Result<(SchemaRef, Option<u64>), QueryError>;

/// What a query asks.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// A statement; it passes the gate first.
    Sql(String),
    /// A plan of the engine's own.
    Select(Select),
}

/// A question that passed the gate, where it has to.
enum Checked<'q> {
    Sql(Asked),
    Select(&'q Select),
}

impl Question {
    fn check(&self) -> Result<Checked<'_>, QueryError> {
        Ok(match self {
            Question::Sql(sql) => Checked::Sql(gate::check(sql)?),
            Question::Select(select) => Checked::Select(select),
        })
    }
}

impl From<&str> for Question {
    fn from(sql: &str) -> Question {
        Question::Sql(sql.to_owned())
    }
}

impl From<Select> for Question {
    fn from(select: Select) -> Question {
        Question::Select(select)
    }
}

/// One query on the engine's threads.
struct Run {
    session: Session,
    question: Question,
    limits: Limits,
    control: Arc<Control>,
    head: mpsc::Sender<Head>,
    rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
}

/// What a statement became.
struct Started {
    schema: SchemaRef,
    version: Option<u64>,
    stream: SendableRecordBatchStream,
}

impl Run {
    async fn go(self) {
        let mut snapshot = self.session.pinned.clone();
        let mut sent = false;
        loop {
            let failed = match self.attempt(&mut snapshot, &mut sent).await {
                Ok(()) => return,
                Err(error) => error,
            };
            // Wide rows, of which fewer at a time may fit. Once rows were sent it is too late for that.
            if !sent && self.control.may_retry() {
                self.control.set_batch_rows(BATCH_ROWS_SMALL);
                continue;
            }
            if sent {
                let _ = self.rows.send(Err(failed)).await;
            } else {
                let _ = self.head.send(Err(failed)).await;
            }
            return;
        }
    }

    /// Plans and runs the statement. The head goes out with the first rows.
    async fn attempt(&self, snapshot: &mut Option<Arc<Snapshot>>, sent: &mut bool) -> Result<(), QueryError> {
        let Started { schema, version, mut stream } = self.start(snapshot).await?;
        let explain = |e| self.session.engine.explain(e);
        loop {
            let batch = stream.next().await.transpose().map_err(explain)?;
            if !*sent {
                // A reader that is gone ends the query.
                if self.head.send(Ok((schema.clone(), version))).await.is_err() {
                    return Ok(());
                }
                *sent = true;
            }
            let Some(batch) = batch else { return Ok(()) };
            if self.rows.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn start(&self, snapshot: &mut Option<Arc<Snapshot>>) -> Result<Started, QueryError> {
        let engine = &self.session.engine;
        let checked = self.question.check()?;
        let snapshot = match snapshot {
            Some(snapshot) => snapshot.clone(),
            None => snapshot.insert(engine.refresh().await?).clone(),
        };
        let version = snapshot.version();
        let planning = |e: DataFusionError| planning_error(engine.explain(e));
        let context = engine
            .context_for(&self.session.scope, self.session.positions, snapshot, &self.limits)
            .map_err(|e| engine.explain(e))?;
        let mut state = context.state();
        let only_plan = matches!(checked, Checked::Sql(Asked::Plan(_)));
        let logical = match checked {
            Checked::Sql(Asked::Rows(statement) | Asked::Plan(statement)) => state.statement_to_plan(*statement).await,
            Checked::Select(select) => select.frame(&context).await.map(DataFrame::into_unoptimized_plan),
        };
        let logical = logical.map_err(planning)?;
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&logical).map_err(|e| QueryError::new(Code::NotRead, e.strip_backtrace()))?;
        let columns = logical.schema().fields().len();
        if columns == 0 {
            return Err(QueryError::new(Code::Invalid, "the answer has no columns; name one after SELECT"));
        }
        if columns > COLUMNS_MAX {
            let message =
                format!("the answer has {columns} columns, more than {COLUMNS_MAX}; name the ones that matter");
            return Err(QueryError::new(Code::TooComplex, message));
        }
        let logical = bounded::bound(logical, &self.control).map_err(planning)?;
        let optimized = state.optimize(&logical).map_err(planning)?;
        let rows = bounded::check_literals(&optimized, self.control.batch_rows()).map_err(planning)?;
        let fit = Arc::new(BatchRows::new());
        state.config_mut().set_extension(fit.clone());
        let plan = self.plan(&optimized, &mut state, rows).await.map_err(planning)?;
        // Files that hold wide rows: some operators take the size of batches from the planner, so it plans once more.
        let plan = match fit.get() {
            fewer if fewer <= rows / 2 => self.plan(&optimized, &mut state, fewer).await.map_err(planning)?,
            _ => plan,
        };
        if only_plan {
            let logical = optimized.display_indent().to_string();
            let physical = hide_files(&displayable(plan.as_ref()).indent(false).to_string());
            return Ok(plan_rows(&logical, &physical, version));
        }
        let schema = plan.schema();
        check_zones(&schema)?;
        let explain = |e| engine.explain(e);
        let plan = ceiling::limit(plan, &self.control).map_err(explain)?;
        let stream =
            datafusion::physical_plan::execute_stream(plan, Arc::new(TaskContext::from(&state))).map_err(explain)?;
        Ok(Started { schema, version, stream })
    }
}

impl Run {
    /// A plan for batches of so many rows.
    async fn plan(
        &self,
        optimized: &LogicalPlan,
        state: &mut SessionState,
        rows: usize,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        self.control.set_batch_rows(rows);
        state.config_mut().options_mut().execution.batch_size = ConfigNonZeroUsize::try_new(rows)?;
        state.query_planner().create_physical_plan(optimized, state).await
    }
}

/// Refuses an answer in a time zone that is not known: its times could not be written.
fn check_zones(schema: &Schema) -> Result<(), QueryError> {
    fn known(kind: &DataType) -> bool {
        match kind {
            DataType::Timestamp(_, Some(zone)) => zone.parse::<Tz>().is_ok(),
            DataType::List(item) | DataType::LargeList(item) => known(item.data_type()),
            _ => true,
        }
    }
    match schema.fields().iter().all(|field| known(field.data_type())) {
        true => Ok(()),
        false => Err(QueryError::new(Code::Invalid, UNKNOWN_ZONE)),
    }
}

/// What fails before a row is read is the statement's fault.
fn planning_error(error: QueryError) -> QueryError {
    match error.code {
        Code::Internal => QueryError::new(Code::Invalid, error.message),
        _ => error,
    }
}

/// The answer to EXPLAIN.
fn plan_rows(logical: &str, physical: &str, version: Option<u64>) -> Started {
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
    Started { schema, version, stream: Box::pin(stream) }
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
    task: Task,
    /// Bytes of the names of its columns, which JSON repeats for each row.
    names: u64,
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
                // The sender is gone because the task ended: as it should, or not.
                return match (&mut self.task.task).await {
                    Ok(()) => None,
                    Err(_) => Some(Err(self.task.broken().await)),
                };
            }
            None => {
                self.done = true;
                self.task.end();
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
        let left = self.limits.bytes.saturating_sub(self.bytes);
        let fits = crate::output::rows_within(&batch, self.names, left);
        let batch = if fits < batch.num_rows() {
            self.stop(Cut::Bytes);
            if fits == 0 {
                return None;
            }
            batch.slice(0, fits)
        } else {
            batch
        };
        self.rows += batch.num_rows() as u64;
        self.bytes += crate::output::written_bytes(&batch, self.names);
        Some(Ok(batch))
    }

    fn stop(&mut self, why: Cut) {
        self.cut = Some(why);
        self.done = true;
        self.batches.close();
        self.task.end();
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
