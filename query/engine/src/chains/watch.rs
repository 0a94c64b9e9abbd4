//! Chains kept up to date: what has changed of them, version by version, for whoever publishes it.
//!
//! Guarantee: after each [`Watch::step`] that was published, the newest revisions in the lake say of every chain what a rebuild
//! at the version that they reflect says. Nothing has to be saved between processes: a new watch reads the lake and
//! what was published, and goes on where that stopped; a chain that is as it was is not published again.
//!
//! ```text
//!  files that are new ──▶ facts, records of authority ──▶ Watcher ──poll──▶ changes ──▶ Publication ──▶ (the caller commits)
//!                                                            ▲                                          │
//!  chain_revisions ──── once, at the start ──────────────────┘                   landed, or fenced ◀────┘
//! ```
//!
//! Tenants that do not fit into memory are followed [from afar](super::afar): the same revisions, later.

use super::afar::Afar;
use super::facts::{self, Reader};
use super::revisions::{GONE, Writing};
use super::sections::{bytes, sources};
use crate::engine::Engine;
use crate::error::QueryError;
use crate::limits::Limits;
use crate::log::{DataFile, Snapshot};
use crate::table::Scope;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, RecordBatch};
use catena_analysis::authority::Touched;
use catena_analysis::chain::rules::watch::{Change, Published, State, Watcher};
use catena_analysis::chain::rules::{Terms, TouchedNames};
use catena_analysis::chain::{Chain, Settings};
use catena_schemas::Micros;
use catena_schemas::authority::Record;
use catena_schemas::table::Class;
use object_store::path::Path;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Without anything new, chains still settle: so often they are looked at.
pub(super) const SETTLING_US: i64 = 30_000_000;

/// Revisions of one tenant, to be committed in one piece.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Whose.
    pub tenant: Arc<str>,
    /// Rows of `records`.
    pub rows: RecordBatch,
    /// The position of `chains/<tenant>` once they are in: the version that they reflect, and one.
    pub position: i64,
}

/// What one look at the lake gave.
#[derive(Debug, Default)]
pub struct Stepped {
    /// What is to be published. Whoever fails to must [`Watch::forget`] the tenant.
    pub publications: Vec<Publication>,
    /// Tenants that could not be read: they are read anew by the next step.
    pub failed: Vec<(Arc<str>, QueryError)>,
}

/// What was last published of a chain.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) published: Published,
    pub(super) widened: i64,
    /// Its first event: whose chain has it now when the id is gone.
    pub(super) first: (String, String),
    /// The chain that its events stand in, if it is gone.
    pub(super) into: Option<String>,
}

/// A chain in memory, and what was said of it beside the chain itself.
#[derive(Debug)]
struct Live {
    chain: Chain,
    published: Published,
    widened: i64,
    /// Ids that mean this chain by now.
    absorbed: Vec<Published>,
}

/// One tenant.
#[derive(Debug)]
struct Watched {
    watcher: Watcher,
    terms: Terms,
    read: HashSet<Path>,
    live: HashMap<String, Live>,
    /// What the lake says of chains, until the first look at them.
    known: Option<HashMap<String, Known>>,
    looked: Micros,
}

/// The chains of all tenants of a lake.
#[derive(Debug)]
pub struct Watch {
    pub(super) engine: Engine,
    pub(super) settings: Settings,
    tenants: HashMap<Arc<str>, Watched>,
    pub(super) afar: HashMap<Arc<str>, Afar>,
}

impl Watch {
    /// Watches a lake. Nothing is read yet.
    pub fn new(engine: Engine, settings: Settings) -> Watch {
        Watch { engine, settings, tenants: HashMap::new(), afar: HashMap::new() }
    }

    /// Forgets a tenant: the next step reads it anew. For when somebody else has published.
    pub fn forget(&mut self, tenant: &str) {
        self.tenants.remove(tenant);
        self.afar.remove(tenant);
    }

    /// Events in memory.
    pub fn events(&self) -> usize {
        self.tenants.values().map(|t| t.watcher.store().len()).sum()
    }

    /// Reads what is new since the last step; what is to be published of it. `now` settles chains. A tenant that cannot be
    /// read keeps nobody else's chains from being published.
    pub async fn step(&mut self, now: Micros) -> Result<Stepped, QueryError> {
        let snapshot = self.engine.refresh().await?;
        let names: Vec<Arc<str>> = snapshot.tenants().map(Into::into).collect();
        let (mut stepped, mut room) = (Stepped::default(), self.engine.options().chains_bytes as u64);
        for tenant in names {
            let (decisions, needed) = bytes(sources(&snapshot, &tenant));
            if needed > room {
                self.tenants.remove(&tenant);
                if !self.afar.contains_key(&tenant) {
                    let (needed, room) = (needed >> 20, room >> 20);
                    tracing::warn!(
                        tenant = &*tenant,
                        "chains of {decisions} decisions need about {needed} MiB of {room} MiB: they are followed by rebuilding them, which takes longer; raise `query.chains_bytes`"
                    );
                }
                match self.look_from_afar(&tenant, &snapshot, now).await {
                    Ok(publication) => stepped.publications.extend(publication),
                    Err(error) => stepped.failed.push((tenant, error)),
                }
                continue;
            }
            room -= needed;
            self.afar.remove(&tenant);
            match self.tenant(&tenant, &snapshot, now).await {
                Ok(publication) => stepped.publications.extend(publication),
                Err(error) => stepped.failed.push((tenant, error)),
            }
        }
        Ok(stepped)
    }

    async fn tenant(
        &mut self,
        tenant: &Arc<str>,
        snapshot: &Arc<Snapshot>,
        now: Micros,
    ) -> Result<Option<Publication>, QueryError> {
        let Some(version) = snapshot.version() else { return Ok(None) };
        let files = sources(snapshot, tenant);
        let mut watched = match self.tenants.remove(tenant) {
            Some(watched) => watched,
            None => Watched {
                watcher: Watcher::new(tenant, self.settings.clone()),
                terms: Terms::default(),
                read: HashSet::new(),
                live: HashMap::new(),
                known: Some(self.known(tenant, snapshot).await?),
                looked: Micros(i64::MIN),
            },
        };
        let fresh: Vec<Arc<DataFile>> = files.iter().filter(|f| !watched.read.contains(&f.location)).cloned().collect();
        if fresh.is_empty() && now.0.saturating_sub(watched.looked.0) < SETTLING_US {
            self.tenants.insert(tenant.clone(), watched);
            return Ok(None);
        }
        watched.looked = now;
        // Whatever fails on the way leaves the tenant out: it is read anew.
        let touched = self.take(tenant, snapshot, &fresh, &mut watched).await?;
        watched.read = files.into_iter().map(|f| f.location.clone()).collect();
        watched.watcher.advance(now);
        let rows = watched.changes(tenant, version, now, &touched);
        self.tenants.insert(tenant.clone(), watched);
        Ok(rows.map(|rows| Publication { tenant: tenant.clone(), rows, position: version as i64 + 1 }))
    }

    /// Feeds what files hold. What records of authority among it bear on.
    async fn take(
        &mut self,
        tenant: &Arc<str>,
        snapshot: &Snapshot,
        fresh: &[Arc<DataFile>],
        watched: &mut Watched,
    ) -> Result<Touched, QueryError> {
        let mut touched = Touched::default();
        if fresh.is_empty() {
            return Ok(touched);
        }
        let part = Arc::new(snapshot.only(fresh));
        let explain = |e| self.engine.explain(e);
        let context = self.engine.context(&Scope::Tenant(tenant.clone()), part, &Limits::local()).map_err(explain)?;
        let records = self.engine.records_of_authority(&context).await?;
        records.iter().for_each(|record| watched.terms.book.enter(record));
        if records.iter().any(|record| matches!(record, Record::Exchange(_))) {
            for (issued, subject, actor) in watched.terms.book.exchanged() {
                watched.watcher.exchange(&issued, &subject, actor.as_deref());
            }
        }
        records.iter().for_each(|record| watched.terms.book.touch(record, &mut touched));
        let decisions = fresh.iter().filter(|f| f.class.as_ref() == Class::Decision.as_str()).cloned().collect();
        let mut batches = self.engine.scan(decisions, facts::columns(), None, facts::Rows::of);
        let mut reader = Reader::new(self.engine.options().threads);
        while let Some(rows) = batches.recv().await {
            reader.name(rows?, &mut watched.watcher)?.tell(&mut watched.watcher);
        }
        Ok(touched)
    }

    /// What the lake says of the chains of a tenant: the highest revision of each.
    pub(super) async fn known(
        &self,
        tenant: &Arc<str>,
        snapshot: &Arc<Snapshot>,
    ) -> Result<HashMap<String, Known>, QueryError> {
        let explain = |e| self.engine.explain(e);
        let scope = Scope::Tenant(tenant.clone());
        let context = self.engine.context(&scope, snapshot.clone(), &Limits::local()).map_err(explain)?;
        let asked = "SELECT chain_id, revision, state, widened, fingerprint, first_source, first_event, aliases[1] \
            FROM chain_revisions";
        let mut batches = self.engine.batches(&context, context.sql(asked).await.map_err(explain)?, Ok).await?;
        let mut known: HashMap<String, Known> = HashMap::new();
        while let Some(batch) = batches.recv().await {
            let batch = batch?;
            let text = |at: usize, row: usize| {
                let column = batch.column(at).as_string::<i32>();
                if column.is_valid(row) { column.value(row) } else { "" }.to_owned()
            };
            let long = |at: usize, row: usize| batch.column(at).as_primitive::<Int64Type>().value(row);
            for row in 0..batch.num_rows() {
                let (id, revision) = (text(0, row), long(1, row));
                if known.get(&id).is_some_and(|k| i64::from(k.published.revision) >= revision) {
                    continue;
                }
                let published = Published {
                    id: id.clone(),
                    revision: u32::try_from(revision).unwrap_or(u32::MAX),
                    state: State::parse(&text(2, row)).unwrap_or(State::Open),
                    fingerprint: u128::from_str_radix(&text(4, row), 16).unwrap_or(0),
                };
                let into = (text(2, row) == GONE).then(|| text(7, row));
                known.insert(id, Known { published, widened: long(3, row), first: (text(5, row), text(6, row)), into });
            }
        }
        Ok(known)
    }
}

impl Watched {
    /// Rows for everything that has changed.
    fn changes(&mut self, tenant: &str, version: u64, now: Micros, touched: &Touched) -> Option<RecordBatch> {
        let mut changes = self.watcher.poll();
        if let Some(known) = self.known.take() {
            changes = self.resume(known, changes);
        }
        let mut rows = Writing::new(tenant, version, now);
        let mut said: BTreeSet<String> = BTreeSet::new();
        for change in changes {
            let Change { chain, mut published, aliases, .. } = change;
            let widened = self.widened(&chain);
            let before = self.live.remove(&published.id);
            let mut absorbed = Vec::new();
            for old in aliases.iter().filter_map(|gone| self.live.remove(gone)) {
                // Whatever meant the old id means the new one: nobody has to follow a trail.
                for mut gone in old.absorbed.into_iter().chain([old.published]) {
                    gone.revision += 1;
                    rows.gone(&gone, &published.id, chain.ended(self.watcher.store()));
                    absorbed.push(gone);
                }
            }
            // A revision is a row: a change of state is one too.
            published.revision = before.as_ref().map_or(0, |before| before.published.revision) + 1;
            absorbed.extend(before.into_iter().flat_map(|before| before.absorbed));
            rows.say(self.watcher.store(), &chain, &published, widened, &aliases);
            said.insert(published.id.clone());
            self.live.insert(published.id.clone(), Live { chain, published, widened, absorbed });
        }
        let touched = TouchedNames::of(self.watcher.store(), touched);
        if !touched.is_empty() {
            let mut judged: Vec<(String, i64)> = self
                .live
                .iter()
                .filter(|(id, live)| !said.contains(*id) && live.chain.rests_on(self.watcher.store(), &touched))
                .map(|(id, live)| (id.clone(), self.widened(&live.chain)))
                .filter(|(id, widened)| self.live[id].widened != *widened)
                .collect();
            judged.sort_unstable();
            for (id, widened) in judged {
                let Some(live) = self.live.get_mut(&id) else { continue };
                live.widened = widened;
                live.published.revision += 1;
                rows.say(self.watcher.store(), &live.chain, &live.published, widened, &[]);
            }
        }
        rows.finish()
    }

    /// Takes up what was published before: of the first look at all chains, what is not new is left out.
    fn resume(&mut self, known: HashMap<String, Known>, changes: Vec<Change>) -> Vec<Change> {
        let store = self.watcher.store();
        let mut chain_of: HashMap<(&str, &str), usize> = HashMap::new();
        let ids: HashSet<&str> = changes.iter().map(|c| c.published.id.as_str()).collect();
        let gone: Vec<&Known> =
            known.values().filter(|k| k.into.is_none() && !ids.contains(k.published.id.as_str())).collect();
        let mut absorbed: HashMap<&str, Vec<Published>> = HashMap::new();
        for old in known.values() {
            if let Some(into) = &old.into {
                absorbed.entry(into).or_default().push(old.published.clone());
            }
        }
        // The order of a map is no order.
        absorbed.values_mut().for_each(|all| all.sort_by(|a, b| a.id.cmp(&b.id)));
        if !gone.is_empty() {
            for (at, change) in changes.iter().enumerate() {
                for link in &change.chain.links {
                    chain_of.insert((change.chain.source(store, link), change.chain.event(store, link)), at);
                }
            }
        }
        let mut merged: HashMap<usize, Vec<&Known>> = HashMap::new();
        for old in gone {
            if let Some(at) = chain_of.get(&(old.first.0.as_str(), old.first.1.as_str())) {
                merged.entry(*at).or_default().push(old);
            }
        }
        let mut fresh = Vec::new();
        for (at, mut change) in changes.into_iter().enumerate() {
            let widened = self.widened(&change.chain);
            let before = known.get(&change.published.id).filter(|k| k.into.is_none());
            for old in merged.remove(&at).unwrap_or_default().into_iter().chain(before) {
                let (chain, id) = (change.chain.clone(), old.published.id.clone());
                let absorbed = absorbed.remove(id.as_str()).unwrap_or_default();
                let live = Live { chain, published: old.published.clone(), widened: old.widened, absorbed };
                self.live.insert(id, live);
                if old.published.id != change.published.id {
                    change.aliases.push(old.published.id.clone());
                }
            }
            change.aliases.sort_unstable();
            let is_known = before.is_some_and(|before| {
                before.published.fingerprint == change.published.fingerprint
                    && before.published.state == change.published.state
                    && before.widened == widened
            });
            if !is_known || !change.aliases.is_empty() {
                fresh.push(change);
            }
        }
        fresh
    }

    fn widened(&self, chain: &Chain) -> i64 {
        if self.terms.book.is_empty() {
            return 0;
        }
        let bounds = chain.all_bounds(self.watcher.store(), &self.terms);
        bounds.iter().filter(|b| b.widened_at().is_some()).count() as i64
    }
}
