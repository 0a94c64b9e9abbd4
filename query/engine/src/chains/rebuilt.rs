//! Chains of one tenant at one version of the lake: all of them, or those of one part.
//!
//! Guarantee: they are a function of the lake at that version: of its decisions and of its records of authority. Whoever
//! asks while they are being rebuilt waits for that one rebuild; it goes on when nobody waits any more, and is thrown away
//! when the tenant's files have changed. Memory has a ceiling with a name: a tenant that goes beyond it is told apart into
//! [`parts`](super::parts), and they are rebuilt one after another, by whoever asks for them.

use super::facts::{self, Named, Reader};
use super::parts::Plan;
use super::scan::{Keep, QUEUE, forward};
use crate::engine::Engine;
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use crate::log::{Bound, DataFile, Snapshot};
use crate::table::Scope;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, RecordBatch};
use catena_analysis::authority::{Bounds, Within};
use catena_analysis::chain::rules::ties::Witnesses;
use catena_analysis::chain::rules::watch::State;
use catena_analysis::chain::rules::{Index, Link, Terms, rebuild_some};
use catena_analysis::chain::{Chain, Settings, Store};
use catena_schemas::Micros;
use catena_schemas::authority::{EntryKind, Record};
use catena_schemas::table::{Class, Field};
use datafusion::physical_plan::execute_stream_partitioned;
use datafusion::prelude::{DataFrame, SessionContext};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use tokio::sync::mpsc;

/// Bytes that an event takes while its chains are in memory, and a little more: measured at 1 million events.
pub(super) const EVENT_BYTES: u64 = 600;

/// The chains of a tenant.
#[derive(Debug)]
pub struct Rebuilt {
    /// Whose.
    pub tenant: Arc<str>,
    /// Version of the lake.
    pub version: Option<u64>,
    /// What the events say.
    pub store: Store,
    /// Chains, in the order of their first events.
    pub chains: Vec<Chain>,
    /// Records of authority.
    pub terms: Arc<Terms>,
    witnesses: Arc<Witnesses>,
    /// Whether these are all chains of the tenant.
    pub(super) is_whole: bool,
    settings: Settings,
    /// When the last event arrived: whatever is older than the lateness that is expected is settled.
    watermark: Micros,
    /// Decisions and records of authority that this was made of.
    files: Vec<Arc<DataFile>>,
    index: OnceLock<Index>,
    judged: OnceLock<Vec<Vec<Judged>>>,
}

/// Where a call stands to what was delegated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Whether it lies within the bound.
    pub state: Within,
    /// The hop that widened, from 0.
    pub widened_at: Option<u16>,
}

impl Judged {
    const UNKNOWN: Judged = Judged { state: Within::Unknown, widened_at: None };

    fn of(bounds: &Bounds) -> Judged {
        Judged { state: bounds.state, widened_at: bounds.widened_at().and_then(|at| u16::try_from(at).ok()) }
    }
}

impl Rebuilt {
    /// Places of the chains that a name means: of a chain, or of an event, session or trace of one, or of a decision that
    /// one of its events names and that is not here.
    pub fn find(&self, name: &str) -> Vec<usize> {
        if let Some(at) = self.chains.iter().position(|c| c.id == name) {
            return vec![at];
        }
        let index = self.index.get_or_init(|| Index::of(&self.store, &self.chains));
        index.find(&self.store, name).iter().map(|at| *at as usize).collect()
    }

    /// The chain of an event of a source. When its id came with several contents that stand in several chains, the first.
    pub(crate) fn chain_of(&self, source: &str, event: &str) -> Option<&str> {
        let index = self.index.get_or_init(|| Index::of(&self.store, &self.chains));
        let found = index.find(&self.store, event);
        let has = |at: &&u32| {
            let chain = &self.chains[**at as usize];
            let is = |l: &Link| chain.event(&self.store, l) == event && chain.source(&self.store, l) == source;
            chain.links.iter().any(is)
        };
        // Most names mean one chain; others can share the name of a session, say.
        let at = if found.len() == 1 { found.first() } else { found.iter().find(has) };
        at.map(|at| self.chains[*at as usize].id.as_str())
    }

    /// Some of the chains, and no more: for who keeps them longer than the others.
    pub(super) fn only(&self, chains: &[usize]) -> Rebuilt {
        self.with(self.store.only(chains.iter().map(|at| &self.chains[*at])))
    }

    /// The chains of a store that holds some of the tenant's.
    pub(super) fn with(&self, mut store: Store) -> Rebuilt {
        let exchanged = self.terms.book.exchanged();
        let made = rebuild_some(&self.tenant, &mut store, &exchanged, &self.witnesses, &self.settings);
        Rebuilt {
            tenant: self.tenant.clone(),
            version: self.version,
            store,
            chains: made.chains,
            terms: self.terms.clone(),
            witnesses: self.witnesses.clone(),
            is_whole: false,
            settings: self.settings.clone(),
            watermark: self.watermark,
            files: self.files.clone(),
            index: OnceLock::new(),
            judged: OnceLock::new(),
        }
    }

    /// Bounds of every call of a chain.
    pub fn bounds(&self, chain: usize) -> Vec<Bounds> {
        self.chains[chain].all_bounds(&self.store, &self.terms)
    }

    /// Where each call of a chain stands to what was delegated.
    pub fn judged(&self, chain: usize) -> Option<&[Judged]> {
        // A widening needs a record on both sides; without records of authority all is unknown.
        if self.terms.book.is_empty() {
            return None;
        }
        Some(&self.judged.get_or_init(|| self.judge())[chain])
    }

    /// Where a call stands to what was delegated.
    pub fn judged_at(&self, chain: usize, link: usize) -> Judged {
        self.judged(chain).map_or(Judged::UNKNOWN, |all| all[link])
    }

    fn judge(&self) -> Vec<Vec<Judged>> {
        let some = |chains: &[Chain]| -> Vec<Vec<Judged>> {
            let of = |c: &Chain| c.all_bounds(&self.store, &self.terms).iter().map(Judged::of).collect();
            chains.iter().map(of).collect()
        };
        let share = self.chains.len().div_ceil(self.settings.threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let parts: Vec<_> = self.chains.chunks(share).map(|part| scope.spawn(move || some(part))).collect();
            parts.into_iter().flat_map(|p| p.join().expect("judging does not panic")).collect()
        })
    }

    /// How far a chain is from its end.
    pub fn state(&self, chain: &Chain) -> State {
        State::at(self.watermark, chain.ended(&self.store).0, &self.settings)
    }

    /// The attempts of an operation, in order.
    pub fn attempts<'c>(&self, chain: &'c Chain, operation: usize) -> impl Iterator<Item = &'c Link> {
        let o = &chain.operations[operation];
        let between = &chain.links[o.first as usize..=o.last as usize];
        between.iter().filter(move |l| l.operation as usize == operation)
    }
}

/// Something of a tenant, and whoever is making it now.
type Held<T> = Arc<tokio::sync::Mutex<Option<Arc<T>>>>;

/// A tenant, and which part of its chains; zero when it has no parts, and [`PLAN`] for what tells them apart.
type Place = (Arc<str>, u16);

/// There are fewer parts than this.
const PLAN: u16 = u16::MAX;

/// Chains by tenant, each of the newest version that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Cache(Mutex<Tenants>);

#[derive(Debug, Default)]
struct Tenants {
    plans: HashMap<Arc<str>, Held<Plan>>,
    held: HashMap<Place, Held<Rebuilt>>,
    /// Places and the bytes of their chains, the one that was asked for last at the end.
    used: Vec<(Place, u64)>,
}

impl Cache {
    fn plan(&self, tenant: &Arc<str>) -> Held<Plan> {
        self.0.lock().plans.entry(tenant.clone()).or_default().clone()
    }

    fn of(&self, place: &Place) -> Held<Rebuilt> {
        self.0.lock().held.entry(place.clone()).or_default().clone()
    }

    /// Notes that chains were asked for, and lets go of those that were not asked for in the longest time, until all fit.
    fn note(&self, place: &Place, bytes: u64, bytes_max: u64) {
        let mut tenants = self.0.lock();
        let Tenants { plans, held, used } = &mut *tenants;
        used.retain(|(p, _)| p != place);
        used.push((place.clone(), bytes));
        let mut total: u64 = used.iter().map(|(_, b)| b).sum();
        while total > bytes_max && used.len() > 1 {
            let (gone, bytes) = used.remove(0);
            held.remove(&gone);
            if gone.1 == PLAN {
                plans.remove(&gone.0);
            }
            total -= bytes;
        }
    }
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

    pub(super) fn tenant(&self) -> &str {
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

    /// The chains of a section.
    pub(crate) async fn section(
        &self,
        section: &Section,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Arc<Rebuilt>, QueryError> {
        let Section { tenant, part } = section.clone();
        let files = sources(snapshot, &tenant);
        let place: Place = (tenant.clone(), part.as_ref().map_or(0, |(_, part)| *part));
        let needed = match &part {
            None => bytes(files.iter().cloned()).1,
            Some((plan, part)) => plan.rows(*part).saturating_mul(EVENT_BYTES),
        };
        let held = self.chains().of(&place);
        let (engine, snapshot) = (self.clone(), snapshot.clone());
        // On its own: a question that is given up must not throw away what the next one needs.
        let work = self.spawn(async move {
            let mut held = held.lock().await;
            let may_take = engine.options().chains_bytes as u64;
            if let Some((plan, _)) = &part {
                // Whoever uses a part needs to know which it is.
                engine.chains().note(&(tenant.clone(), PLAN), plan.bytes(), may_take);
            }
            engine.chains().note(&place, needed, may_take);
            let is_same = |k: &&Arc<Rebuilt>| same(&k.files, &files) && k.is_whole == part.is_none();
            if let Some(known) = held.as_ref().filter(is_same) {
                return Ok(known.clone());
            }
            *held = None;
            if let Some((plan, part)) = &part {
                let (number, of) = (part + 1, plan.parts());
                tracing::info!(tenant = &*tenant, decisions = plan.rows(*part), "chains: part {number} of {of}");
            }
            let made = Arc::new(engine.rebuild_section(tenant, part, snapshot, files).await?);
            *held = Some(made.clone());
            Ok(made)
        });
        work.await.unwrap_or_else(|_| {
            Err(QueryError::new(Code::Internal, "chains could not be rebuilt; this is a fault of the engine"))
        })
    }

    async fn plan_of(&self, tenant: &Arc<str>, snapshot: &Arc<Snapshot>) -> Result<Arc<Plan>, QueryError> {
        let (held, tenant) = (self.chains().plan(tenant), tenant.clone());
        let (engine, snapshot) = (self.clone(), snapshot.clone());
        let work = self.spawn(async move {
            let mut held = held.lock().await;
            let files = sources(&snapshot, &tenant);
            let may_take = engine.options().chains_bytes as u64;
            if let Some(known) = held.as_ref().filter(|k| same(&k.files, &files)) {
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
    ) -> Result<Rebuilt, QueryError> {
        let (version, watermark) = (snapshot.version(), watermark(&files));
        let threads = self.options().threads.max(1);
        let (terms, witnesses) = match &part {
            None => (Arc::new(self.terms_of(&tenant, snapshot).await?), Arc::default()),
            Some((plan, _)) => (plan.terms.clone(), plan.witnesses.clone()),
        };
        let (rows, sources, keep) = match &part {
            None => (bytes(files.iter().cloned()).0, decisions(&files), None),
            Some((plan, part)) => {
                let (rows, sources) = (plan.rows(*part), plan.decisions.clone());
                let (plan, part) = (plan.clone(), *part);
                (rows, sources, Some(Arc::new(move |row| plan.has(part, row)) as Keep))
            }
        };
        let mut batches = self.scan(sources, facts::columns(), keep, facts::Rows::of);
        let settings = Settings { threads, ..Settings::default() };
        let name = tenant.clone();
        let exchanged = terms.book.exchanged();
        let built = tokio::task::spawn_blocking({
            let (settings, witnesses) = (settings.clone(), witnesses.clone());
            move || {
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
                let chains = rebuild_some(&name, &mut store, &exchanged, &witnesses, &settings).chains;
                Ok::<_, QueryError>((store, chains))
            }
        });
        let (store, chains) =
            built.await.map_err(|_| QueryError::new(Code::Internal, "chains could not be rebuilt"))??;
        Ok(Rebuilt {
            tenant,
            version,
            store,
            chains,
            terms,
            witnesses,
            is_whole: part.is_none(),
            settings,
            watermark,
            files,
            index: OnceLock::new(),
            judged: OnceLock::new(),
        })
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

fn same(a: &[Arc<DataFile>], b: &[Arc<DataFile>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.location == b.location)
}

/// When the last of the events arrived, by the collectors' clocks: an event's own clock can stand anywhere.
fn watermark(files: &[Arc<DataFile>]) -> Micros {
    let arrived = files.iter().filter_map(|f| match f.bounds(Field::IngestTime)?.max {
        Some(Bound::Long(at)) => Some(at),
        _ => None,
    });
    Micros(arrived.max().unwrap_or(i64::MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tenants are asked for in turn, each with so many bytes: who is held in the end.
    fn check(asked: &[(&str, u64)], bytes_max: u64, want: &[&str]) {
        let cache = Cache::default();
        for (tenant, bytes) in asked {
            let place: Place = ((*tenant).into(), 0);
            cache.of(&place);
            cache.note(&place, *bytes, bytes_max);
        }
        let tenants = cache.0.lock();
        let used: Vec<&str> = tenants.used.iter().map(|((tenant, _), _)| tenant.as_ref()).collect();
        assert_eq!(used, want, "{asked:?}");
        assert_eq!(tenants.held.len(), want.len());
    }

    #[test]
    fn chains_of_tenants_that_nobody_asks_for_are_let_go() {
        check(&[("a", 4), ("b", 4)], 10, &["a", "b"]);
        check(&[("a", 4), ("b", 4), ("c", 4)], 10, &["b", "c"]);
        check(&[("a", 4), ("b", 4), ("a", 4), ("c", 4)], 10, &["a", "c"]);
        check(&[("a", 4), ("b", 20)], 10, &["b"]);
        check(&[("a", 4), ("a", 9)], 10, &["a"]);
    }

    #[test]
    fn a_plan_makes_room_as_chains_do() {
        let cache = Cache::default();
        let tenant: Arc<str> = "a".into();
        cache.plan(&tenant);
        cache.note(&(tenant.clone(), PLAN), 4, 10);
        cache.note(&(tenant.clone(), 0), 6, 10);
        assert_eq!(cache.0.lock().plans.len(), 1);
        cache.note(&(tenant, 1), 6, 10);
        assert_eq!(cache.0.lock().plans.len(), 0);
    }
}
