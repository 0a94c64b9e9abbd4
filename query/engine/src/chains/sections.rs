//! Chains of a scope at a version of the lake, section by section: tenants that fit into memory whole, and parts of those
//! that do not.
//!
//! Guarantee: they are a function of the lake at that version: of its decisions and of its records of authority. Whoever
//! asks while they are being rebuilt waits for that one rebuild; it goes on when nobody waits any more. What is new in a
//! later version is laid over what is there; only when rows have gone, or much was laid over, all is made anew. Memory has
//! a ceiling with a name: a tenant that goes beyond it is told apart into [`parts`](super::parts), and they are rebuilt one
//! after another, by whoever asks for them.

use super::facts::{self, Named, Reader};
use super::held::{AsOf, Newer, PLAN, Place, Standing, same};
use super::parts::Plan;
use super::rebuilt::Rebuilt;
use super::scan::{Keep, QUEUE, forward};
use crate::engine::Engine;
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use crate::log::{Bound, DataFile, Snapshot};
use crate::table::Scope;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use catena_analysis::chain::rules::layers::{Laid, Layer, Layers};
use catena_analysis::chain::rules::ties::Witnesses;
use catena_analysis::chain::rules::{Exchanged, Terms, rebuild_some};
use catena_analysis::chain::{Settings, Store};
use catena_schemas::Micros;
use catena_schemas::authority::{EntryKind, Record};
use catena_schemas::table::{Class, Field};
use datafusion::physical_plan::execute_stream_partitioned;
use datafusion::prelude::{DataFrame, SessionContext};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes that an event takes while its chains are in memory, and a little more: measured at 1 million events.
pub(super) const EVENT_BYTES: u64 = 600;

/// Chains that were rebuilt.
enum Made {
    Whole(Layers),
    Part(Laid, Arc<Witnesses>),
}

/// Chains of a tenant: all of them, or those of one part.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    tenant: Arc<str>,
    part: Option<(Arc<Plan>, u16)>,
}

impl Section {
    /// Whether a name can mean one of its chains.
    pub(super) fn may_have(&self, name: &str) -> bool {
        self.part.as_ref().is_none_or(|(plan, part)| plan.may_have(*part, name))
    }

    pub(super) fn tenant(&self) -> &Arc<str> {
        &self.tenant
    }

    /// Whether all chains of the tenant stand in it.
    pub(super) fn is_whole(&self) -> bool {
        self.part.is_none()
    }
}

/// Chains of a scope, to be rebuilt one section after another.
#[derive(Clone, Debug)]
pub(crate) struct Sections {
    pub(super) all: Vec<Section>,
    /// Whether all of them fit into memory at once.
    pub(super) fit: bool,
}

impl Engine {
    /// Sections of a scope at a version, in the order of tenants.
    pub(crate) async fn sections(&self, scope: &Scope, snapshot: &Arc<Snapshot>) -> Result<Sections, QueryError> {
        let tenants: Vec<Arc<str>> = match scope {
            Scope::Tenant(tenant) => vec![tenant.clone()],
            Scope::All => snapshot.tenants().map(Into::into).collect(),
        };
        let may_take = self.options().chains_bytes as u64;
        let (mut all, mut total) = (Vec::with_capacity(tenants.len()), 0u64);
        for tenant in tenants {
            let needed = bytes(sources(snapshot, &tenant)).1;
            total = total.saturating_add(needed);
            if needed <= may_take {
                all.push(Section { tenant, part: None });
                continue;
            }
            let plan = self.plan_of(&tenant, snapshot).await?;
            let part = |part| Section { tenant: tenant.clone(), part: Some((plan.clone(), part)) };
            all.extend((0..plan.parts()).map(part));
        }
        Ok(Sections { all, fit: total <= may_take })
    }

    /// The chains of a section: as many as there are layers of them.
    pub(crate) async fn section(
        &self,
        section: &Section,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Vec<Arc<Rebuilt>>, QueryError> {
        let Section { tenant, part } = section.clone();
        let files = sources(snapshot, &tenant);
        let place: Place = (tenant.clone(), part.as_ref().map_or(0, |(_, part)| *part));
        let needed = match &part {
            None => bytes(files.iter().cloned()).1,
            Some((plan, part)) => plan.rows(*part).saturating_mul(EVENT_BYTES),
        };
        let standing = self.chains().of(&place);
        let (engine, snapshot) = (self.clone(), snapshot.clone());
        // On its own: a question that is given up must not throw away what the next one needs.
        let work = self.spawn(async move {
            let mut held = standing.lock().await;
            let may_take = engine.options().chains_bytes as u64;
            if let Some((plan, _)) = &part {
                // Whoever uses a part needs to know which it is.
                engine.chains().note(&(tenant.clone(), PLAN), plan.bytes(), may_take);
            }
            if let Some(known) = held.made_of(&files, part.is_none()) {
                engine.chains().note(&place, known.bytes(needed), may_take);
                return Ok(known.at(snapshot.version()));
            }
            engine.chains().note(&place, needed, may_take);
            let newer = part.is_none().then(|| held.until(&tenant, &snapshot, &files, may_take)).flatten();
            let made = match newer {
                Some(newer) => engine.lay_over(newer, tenant.clone(), &snapshot, files.clone()).await?,
                None => {
                    held.clear();
                    if let Some((plan, part)) = &part {
                        let (decisions, of) = (plan.rows(*part), plan.parts());
                        tracing::info!(tenant = &*tenant, decisions, "chains: part {} of {of}", part + 1);
                    }
                    engine.rebuild_section(tenant.clone(), part, snapshot.clone(), files.clone()).await?
                }
            };
            engine.chains().note(&place, made.bytes(needed), may_take);
            let chains = made.chains.clone();
            held.add(made);
            if held.begin_renewal(needed, may_take) {
                let (engine, standing) = (engine.clone(), standing.clone());
                engine.clone().spawn(async move { engine.renew(standing, tenant, snapshot, files).await });
            }
            Ok(chains)
        });
        work.await.unwrap_or_else(|_| {
            Err(QueryError::new(Code::Internal, "chains could not be rebuilt; this is a fault of the engine"))
        })
    }

    /// Rebuilds a tenant beside what is held of it, so that later versions can be laid over less.
    async fn renew(&self, standing: Standing, tenant: Arc<str>, snapshot: Arc<Snapshot>, files: Vec<Arc<DataFile>>) {
        let made = self.rebuild_section(tenant.clone(), None, snapshot, files).await;
        if let Err(error) = &made {
            tracing::warn!(tenant = &*tenant, %error, "chains could not be rebuilt, and what is new is laid over more and more");
        }
        standing.lock().await.end_renewal(made.ok());
    }

    async fn plan_of(&self, tenant: &Arc<str>, snapshot: &Arc<Snapshot>) -> Result<Arc<Plan>, QueryError> {
        let (held, tenant) = (self.chains().plan(tenant), tenant.clone());
        let (engine, snapshot) = (self.clone(), snapshot.clone());
        let work = self.spawn(async move {
            let mut held = held.lock().await;
            let files = sources(&snapshot, &tenant);
            let may_take = engine.options().chains_bytes as u64;
            if let Some(known) = held.as_ref().filter(|k: &&Arc<Plan>| same(&k.files, &files)) {
                engine.chains().note(&(tenant, PLAN), known.bytes(), may_take);
                return Ok(known.clone());
            }
            *held = None;
            let (decisions, terms) = (decisions(&files), engine.terms_of(&tenant, snapshot).await?);
            let made = Arc::new(engine.plan(files, decisions, terms).await?);
            engine.chains().note(&(tenant, PLAN), made.bytes(), may_take);
            *held = Some(made.clone());
            Ok(made)
        });
        work.await.unwrap_or_else(|_| {
            Err(QueryError::new(Code::Internal, "chains could not be told apart; this is a fault of the engine"))
        })
    }

    async fn rebuild_section(
        &self,
        tenant: Arc<str>,
        part: Option<(Arc<Plan>, u16)>,
        snapshot: Arc<Snapshot>,
        files: Vec<Arc<DataFile>>,
    ) -> Result<AsOf, QueryError> {
        let settings = self.settings();
        let name = tenant.clone();
        let (terms, made) = match part {
            None => {
                let terms = Arc::new(self.terms_of(&tenant, snapshot.clone()).await?);
                let known = terms.clone();
                let ground = move |store| Layers::ground(&name, store, &known.book, &settings);
                (terms, Made::Whole(self.told(decisions(&files), bytes(files.iter().cloned()).0, None, ground).await?))
            }
            Some((plan, part)) => {
                let (terms, witnesses) = (plan.terms.clone(), plan.witnesses.clone());
                let (sources, rows, exchanged) = (plan.decisions.clone(), plan.rows(part), terms.book.exchanged());
                let rebuild = {
                    let witnesses = witnesses.clone();
                    move |mut store: Store| {
                        let chains = rebuild_some(&name, &mut store, &exchanged, &witnesses, &settings).chains;
                        Laid::open(Layer::new(store, chains))
                    }
                };
                let keep: Keep = Arc::new(move |row| plan.has(part, row));
                (terms, Made::Part(self.told(sources, rows, Some(keep), rebuild).await?, witnesses))
            }
        };
        Ok(self.as_of(tenant, &snapshot, files, terms, made, &[]))
    }

    /// Chains of a later version: what is new of it over what was there.
    async fn lay_over(
        &self,
        newer: Newer,
        tenant: Arc<str>,
        snapshot: &Arc<Snapshot>,
        files: Vec<Arc<DataFile>>,
    ) -> Result<AsOf, QueryError> {
        let Newer { fresh, layers, terms: known, chains } = newer;
        let records: Vec<_> = fresh.iter().filter(|f| f.class.as_ref() == Class::Authority.as_str()).cloned().collect();
        let mut terms = known.clone();
        if !records.is_empty() {
            let scope = Scope::Tenant(tenant.clone());
            let part = Arc::new(snapshot.only(&records));
            let context = self.context(&scope, part, &Limits::local()).map_err(|e| self.explain(e))?;
            let terms = Arc::make_mut(&mut terms);
            self.records_of_authority(&context).await?.iter().for_each(|record| terms.book.enter(record));
        }
        let mut new: Vec<Exchanged> = Vec::new();
        if !Arc::ptr_eq(&terms, &known) {
            let known: HashSet<Exchanged> = known.book.exchanged().into_iter().collect();
            new = terms.book.exchanged().into_iter().filter(|e| !known.contains(e)).collect();
        }
        let by_now = terms.clone();
        let over = move |store| layers.over(store, &by_now.book, &new);
        let layers = self.told(decisions(&fresh), bytes(fresh).0, None, over).await?;
        Ok(self.as_of(tenant, snapshot, files, terms, Made::Whole(layers), &chains))
    }

    /// `before` are the chains of the version before, of which some say what they have said already.
    fn as_of(
        &self,
        tenant: Arc<str>,
        snapshot: &Snapshot,
        files: Vec<Arc<DataFile>>,
        terms: Arc<Terms>,
        made: Made,
        before: &[Arc<Rebuilt>],
    ) -> AsOf {
        let (version, watermark) = (snapshot.version(), watermark(&files));
        let (all, witnesses, layers) = match made {
            Made::Whole(layers) => (layers.all().to_vec(), layers.witnesses().clone(), Some(layers)),
            Made::Part(laid, witnesses) => (vec![laid], witnesses, None),
        };
        let chains = all.into_iter().map(|laid| {
            let is_same = |b: &&Arc<Rebuilt>| b.laid.is_same_layer(&laid) && Arc::ptr_eq(&b.terms, &terms);
            let judged = before.iter().find(is_same).map(|b| b.judged.clone()).unwrap_or_default();
            let (tenant, terms, witnesses) = (tenant.clone(), terms.clone(), witnesses.clone());
            let settings = self.settings();
            Arc::new(Rebuilt { tenant, version, terms, laid, witnesses, settings, watermark, judged })
        });
        AsOf { version, chains: chains.collect(), files, layers }
    }

    fn settings(&self) -> Settings {
        Settings { threads: self.options().threads.max(1), ..Settings::default() }
    }

    /// What decisions say, and what is made of it.
    async fn told<T: Send + 'static>(
        &self,
        decisions: Vec<Arc<DataFile>>,
        rows: u64,
        keep: Option<Keep>,
        make: impl FnOnce(Store) -> T + Send + 'static,
    ) -> Result<T, QueryError> {
        let mut batches = self.scan(decisions, facts::columns(), keep, facts::Rows::of);
        let threads = self.options().threads.max(1);
        let made = tokio::task::spawn_blocking(move || {
            let mut store = Store::with_room_for(usize::try_from(rows).unwrap_or(0));
            let mut words = store.lend();
            let mut reader = Reader::new(threads);
            let (named, to_tell) = std::sync::mpsc::sync_channel::<Named>(QUEUE);
            std::thread::scope(|scope| {
                let store = &mut store;
                let telling = scope.spawn(move || to_tell.iter().for_each(|named| named.tell(store)));
                while let Some(rows) = batches.blocking_recv() {
                    // It fails when the other end has panicked, which joining it says.
                    let _ = named.send(reader.name(rows?, &mut words)?);
                }
                drop(named);
                telling.join().expect("telling does not panic");
                Ok::<_, QueryError>(())
            })?;
            store.take_back(words);
            Ok::<_, QueryError>(make(store))
        });
        made.await.map_err(|_| QueryError::new(Code::Internal, "chains could not be rebuilt"))?
    }

    /// Runs a query on all threads: its batches, in no order, and what is made of them there.
    pub(super) async fn batches<T: Send + 'static>(
        &self,
        context: &SessionContext,
        frame: DataFrame,
        make: fn(RecordBatch) -> Result<T, QueryError>,
    ) -> Result<mpsc::Receiver<Result<T, QueryError>>, QueryError> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let plan = frame.create_physical_plan().await.map_err(|e| self.explain(e))?;
        let streams = execute_stream_partitioned(plan, context.task_ctx()).map_err(|e| self.explain(e))?;
        let read = |stream| {
            let (sender, engine) = (sender.clone(), self.clone());
            self.spawn(async move { _ = forward(stream, &sender, make, |e| engine.explain(e)).await })
        };
        let tasks = streams.into_iter().map(read).collect();
        self.see_off(tasks, sender);
        Ok(receiver)
    }

    async fn terms_of(&self, tenant: &Arc<str>, snapshot: Arc<Snapshot>) -> Result<Terms, QueryError> {
        let scope = Scope::Tenant(tenant.clone());
        let context = self.context(&scope, snapshot, &Limits::local()).map_err(|e| self.explain(e))?;
        let mut terms = Terms::default();
        self.records_of_authority(&context).await?.iter().for_each(|record| terms.book.enter(record));
        Ok(terms)
    }

    /// Records of authority of the one tenant of a context.
    pub(super) async fn records_of_authority(&self, context: &SessionContext) -> Result<Vec<Record>, QueryError> {
        let mut records = Vec::new();
        let explain = |e| self.explain(e);
        let query =
            "SELECT kind, event_id, time, body FROM records WHERE class = 'authority' AND duplicate IS NOT TRUE";
        let frame = context.sql(query).await.map_err(explain)?;
        let mut batches = self.batches(context, frame, Ok).await?;
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            let text = |at: usize| batch.column(at).as_string::<i32>();
            let (kinds, ids, bodies) = (text(0), text(1), text(3));
            let times = batch.column(2).as_primitive::<TimestampMicrosecondType>();
            for row in 0..batch.num_rows() {
                let kind = kinds.is_valid(row).then(|| EntryKind::parse(kinds.value(row))).flatten();
                let (Some(kind), true, true) = (kind, bodies.is_valid(row), times.is_valid(row)) else { continue };
                // A body that was erased says nothing any more.
                records.extend(kind.record(ids.value(row), Micros(times.value(row)), bodies.value(row)).ok());
            }
        }
        Ok(records)
    }
}

/// Files that chains are made of.
pub(super) fn sources(snapshot: &Snapshot, tenant: &str) -> Vec<Arc<DataFile>> {
    let wanted = [Class::Decision.as_str(), Class::Authority.as_str()];
    snapshot.files(Some(tenant)).filter(|f| wanted.contains(&f.class.as_ref())).cloned().collect()
}

/// Of the files that chains are made of, those of decisions.
fn decisions(files: &[Arc<DataFile>]) -> Vec<Arc<DataFile>> {
    files.iter().filter(|f| f.class.as_ref() == Class::Decision.as_str()).cloned().collect()
}

/// Decisions in files, and the memory that their chains take, about.
pub(super) fn bytes(files: impl IntoIterator<Item = Arc<DataFile>>) -> (u64, u64) {
    let decisions = files.into_iter().filter(|f| f.class.as_ref() == Class::Decision.as_str());
    let rows: u64 = decisions.filter_map(|f| f.rows).sum();
    (rows, rows.saturating_mul(EVENT_BYTES))
}

/// When the last of the events arrived, by the collectors' clocks: an event's own clock can stand anywhere.
fn watermark(files: &[Arc<DataFile>]) -> Micros {
    let arrived = files.iter().filter_map(|f| match f.bounds(Field::IngestTime)?.max {
        Some(Bound::Long(at)) => Some(at),
        _ => None,
    });
    Micros(arrived.max().unwrap_or(i64::MIN))
}
