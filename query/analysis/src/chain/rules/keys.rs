//! What ties events together, and which event a reference means.
//!
//! Guarantee: an event emits its keys from what it carries alone, never from what else has arrived; so a late event can
//! only bring chains together, never part them. Weak keys (span, trace, session, nearness) hold the subject, so that
//! they never join two people.

use super::Settings;
use super::evidence::Call;
use super::fact::Protocol;
use super::store::{NOBODY, Row, Store};
use super::texts::Name;
use crate::fault::{self, Fault};
use ahash::{HashMap, RandomState};
use std::collections::BTreeMap;
use std::mem::size_of;

/// A key: its kind, and up to three numbers of names.
pub(super) type Key = u128;

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A decision, by the name that others use.
    Decision = 1,
    /// A span of a trace.
    Span,
    /// State that was handed out.
    State,
    /// A challenge.
    Challenge,
    /// A task.
    Task,
    /// A transaction.
    Transaction,
    /// A workflow.
    Workflow,
    /// A trace.
    Trace,
    /// A session.
    Session,
    /// A session of one tool server.
    ServerSession,
    /// A task of one agent, as its peers name it.
    PeerTask,
    /// Same caller, nothing else.
    Near,
}

impl Kind {
    /// As it stands in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Decision => "decision",
            Kind::Span => "span",
            Kind::State => "state",
            Kind::Challenge => "challenge",
            Kind::Task => "task",
            Kind::Transaction => "transaction",
            Kind::Workflow => "workflow",
            Kind::Trace => "trace",
            Kind::Session => "session",
            Kind::ServerSession => "server_session",
            Kind::PeerTask => "peer_task",
            Kind::Near => "near",
        }
    }
}

fn key(kind: Kind, a: u32, b: u32, c: u32) -> Key {
    u128::from(kind as u8) << 96 | u128::from(a) << 64 | u128::from(b) << 32 | u128::from(c)
}

/// What an event does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is what the key names.
    Own,
    /// It names what led to it.
    Refers(Call),
    /// It is one of several attempts; the first of them leads.
    Shares(Call),
    /// It belongs to the others of the key, in no order.
    Groups(Call),
}

/// The most keys that one event can have, its window key among them: whatever a producer writes, there are no more.
pub(super) const KEYS_MAX: usize = 14;

/// The keys of a row, but for its window key.
#[inline]
pub(super) fn keys(store: &Store, row: &Row, mut emit: impl FnMut(Key, Use)) {
    let name = |n: Name| n.is_some().then_some(n.0);
    if let Some(id) = name(row.decision) {
        emit(key(Kind::Decision, id, 0, 0), Use::Own);
    }
    if let Some(id) = name(row.predecessor) {
        emit(key(Kind::Decision, id, 0, 0), Use::Refers(Call::C1));
    }
    if let Some(id) = name(row.parent) {
        emit(key(Kind::Decision, id, 0, 0), Use::Refers(Call::C2));
    }
    if let Some(state) = name(row.state_in) {
        emit(key(Kind::State, state, 0, 0), Use::Refers(Call::C3));
    }
    if let Some(trace) = name(row.trace) {
        let span_of = if fault::on(Fault::SpanWithoutSubject) { 0 } else { row.principal };
        if let Some(span) = name(row.span) {
            emit(key(Kind::Span, span_of, trace, span), Use::Own);
        }
        if let Some(span) = name(row.parent_span) {
            emit(key(Kind::Span, span_of, trace, span), Use::Refers(Call::C4));
        }
        let trace_of = if fault::on(Fault::TraceWithoutSubject) { 0 } else { row.principal };
        emit(key(Kind::Trace, trace_of, trace, 0), Use::Groups(Call::C6));
    }
    if row.rare == 0 {
        return;
    }
    let rare = store.rare_of(row);
    if let Some(id) = name(rare.record).filter(|_| rare.record != row.decision) {
        emit(key(Kind::Decision, id, 0, 0), Use::Own);
    }
    if let Some(state) = name(rare.state_out) {
        emit(key(Kind::State, state, 0, 0), Use::Own);
    }
    if let Some(challenge) = name(rare.challenge) {
        emit(key(Kind::Challenge, challenge, 0, 0), Use::Shares(Call::C3));
    }
    if let Some(task) = name(rare.task).filter(|_| row.protocol != Protocol::A2a) {
        emit(key(Kind::Task, task, row.server.0, 0), Use::Shares(Call::C3));
    }
    if let Some(txn) = name(rare.txn) {
        emit(key(Kind::Transaction, row.issuer.0, txn, 0), Use::Groups(Call::C5));
    }
    if let Some(acti) = name(rare.acti) {
        emit(key(Kind::Workflow, row.issuer.0, acti, 0), Use::Groups(Call::C5));
    }
}

/// The names of a key, for people.
pub(super) fn names(key: Key) -> (u8, [u32; 3]) {
    ((key >> 96) as u8, [(key >> 64) as u32, (key >> 32) as u32, key as u32])
}

/// The name of a key that tells it apart best; the absent one when there is none.
fn home(key: Key) -> usize {
    let (kind, [a, b, c]) = names(key);
    const SPAN: u8 = Kind::Span as u8;
    const NEAR: u8 = Kind::Near as u8;
    const TRANSACTION: u8 = Kind::Transaction as u8;
    const PEER_TASK: u8 = Kind::PeerTask as u8;
    let name = match kind {
        SPAN | NEAR => c,
        TRANSACTION..=PEER_TASK => b,
        _ => a,
    };
    name as usize
}

/// Whether an event carries anything better than nearness.
fn carries_a_key(store: &Store, row: &Row) -> bool {
    let mut any = false;
    // A name of its own is no tie to anything: every event has one.
    keys(store, row, |_, of| any |= !matches!(of, Use::Own));
    any
}

/// Whether a key of a row leads anywhere yet: what eligibility must not ask.
fn resolves(store: &Store, row: &Row) -> bool {
    let is_there = |name: Name| name.is_some() && store.rows.iter().any(|r| r.decision == name);
    let mut groups = false;
    keys(store, row, |_, of| groups |= matches!(of, Use::Groups(_)));
    groups || is_there(row.parent)
}

/// The window key of a row: neighbours on it belong together when no more than the gap lies between them.
pub(super) fn window(store: &Store, row: &Row, settings: &Settings) -> Option<(Key, i64, Call)> {
    if row.session.is_some() {
        let caller = if fault::on(Fault::SessionWithoutSubject) { 0 } else { row.caller };
        return Some((key(Kind::Session, caller, row.session.0, 0), settings.session_gap_us, Call::C7));
    }
    let rare = store.rare_of(row);
    if rare.mcp_session.is_some() {
        let key = key(Kind::ServerSession, row.caller, rare.mcp_session.0, row.server.0);
        return Some((key, settings.session_gap_us, Call::C7));
    }
    if row.protocol == Protocol::A2a && rare.task.is_some() {
        // The serving agent mints the task, and its peers mint others further on: it says nothing beyond this hop.
        return Some((key(Kind::PeerTask, row.caller, rare.task.0, row.server.0), settings.session_gap_us, Call::C7));
    }
    // Nobody is not somebody: two calls of unknown subjects have nothing in common.
    if row.subject.is_none() && !fault::on(Fault::NobodyIsSomebody) {
        return None;
    }
    let is_tied = if fault::on(Fault::NearUntilResolved) { resolves(store, row) } else { carries_a_key(store, row) };
    if is_tied {
        return None;
    }
    // Without a client the caller itself tells apart what would otherwise be everything of one person.
    let actors = store.actors_of(store.bearer_of(row));
    let caller = row.client.or(actors.last().map_or(Name::NONE, |a| a.id));
    Some((key(Kind::Near, row.principal, caller.0, row.token.0), settings.near_gap_us, Call::C9))
}

/// Union-find over rows.
#[derive(Debug, Default)]
pub(super) struct Sets(Vec<u32>);

impl Sets {
    pub(super) fn grow(&mut self, rows: usize) {
        self.0.extend(self.0.len() as u32..rows as u32);
    }

    pub(super) fn find(&mut self, mut at: u32) -> u32 {
        while self.0[at as usize] != at {
            let up = self.0[self.0[at as usize] as usize];
            self.0[at as usize] = up;
            at = up;
        }
        at
    }

    /// Joins two sets: who stands for both now, and who no longer does.
    pub(super) fn join(&mut self, a: u32, b: u32) -> Option<(u32, u32)> {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return None;
        }
        let (kept, gone) = (a.min(b), a.max(b));
        self.0[gone as usize] = kept;
        Some((kept, gone))
    }
}

/// What is known of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    key: [u32; 4],
    /// Any row that has the key.
    pub(super) any: u32,
    /// The earliest row that owns it, and the next: an event is never its own parent.
    pub(super) best: u32,
    pub(super) next: u32,
}

fn words(key: Key) -> [u32; 4] {
    [(key >> 96) as u32, (key >> 64) as u32, (key >> 32) as u32, key as u32]
}

impl Held {
    fn new(key: Key, any: u32) -> Held {
        Held { key: words(key), any, best: NOBODY, next: NOBODY }
    }

    /// The owner as a row sees it.
    pub(super) fn owner(&self, of: u32) -> Option<u32> {
        let owner = if self.best == of && !fault::on(Fault::OwnParent) { self.next } else { self.best };
        (owner != NOBODY).then_some(owner)
    }
}

/// All keys of a store.
///
/// Names are numbered as they come, and so keys stand as they came: near the keys of their neighbours. The first key of a
/// name is found by the name alone; only further ones (a span id that every trace counts anew) are hashed.
#[derive(Debug, Default)]
pub(super) struct Index {
    held: Vec<Held>,
    /// One more than the place of a name's first key.
    first: Vec<u32>,
    more: HashMap<Key, u32>,
    free: Vec<u32>,
}

impl Index {
    /// Room for the keys of a store.
    pub(super) fn with_room_for(store: &Store) -> Index {
        Index { held: Vec::with_capacity(store.len() * 2), first: vec![0; store.texts_len()], ..Index::default() }
    }

    /// Enters a row; `tie` is told every row that it shares a key with.
    pub(super) fn enter(&mut self, store: &Store, row: u32, mut tie: impl FnMut(u32)) {
        keys(store, store.row_at(row), |key, of| {
            let held = self.entry(key, row);
            if held.any != row {
                tie(held.any);
            }
            if matches!(of, Use::Refers(_)) {
                return;
            }
            if held.best == row || held.next == row {
                return;
            }
            if held.best == NOBODY || store.order(row, held.best).is_lt() {
                held.next = held.best;
                held.best = row;
            } else if held.next == NOBODY || store.order(row, held.next).is_lt() {
                held.next = row;
            }
        });
    }

    /// What is held of a key; of a new one, that a row has it.
    fn entry(&mut self, key: Key, row: u32) -> &mut Held {
        let at = match self.place(key) {
            Some(at) => at,
            None => self.add(key, row),
        };
        &mut self.held[at]
    }

    fn place(&self, key: Key) -> Option<usize> {
        let first = self.first.get(home(key)).copied().unwrap_or(0);
        if first != 0 && self.held[first as usize - 1].key == words(key) {
            return Some(first as usize - 1);
        }
        if self.more.is_empty() { None } else { self.more.get(&key).map(|at| *at as usize) }
    }

    fn add(&mut self, key: Key, row: u32) -> usize {
        let at = match self.free.pop() {
            Some(at) => {
                self.held[at as usize] = Held::new(key, row);
                at as usize
            }
            None => {
                self.held.push(Held::new(key, row));
                self.held.len() - 1
            }
        };
        let home = home(key);
        if self.first.len() <= home {
            self.first.resize(home + 1, 0);
        }
        if self.first[home] == 0 && home != 0 {
            self.first[home] = at as u32 + 1;
        } else {
            self.more.insert(key, at as u32);
        }
        at
    }

    /// Removes a key with everything that is known of it.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(at) = self.place(key) else { return };
        if self.more.remove(&key).is_none() {
            self.first[home(key)] = 0;
        }
        self.free.push(at as u32);
    }

    pub(super) fn get(&self, key: Key) -> Option<&Held> {
        self.place(key).map(|at| &self.held[at])
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.held.capacity() * size_of::<Held>()
            + (self.first.capacity() + self.free.capacity()) * size_of::<u32>()
            + self.more.capacity() * 8 / 7 * (size_of::<(Key, u32)>() + 1)
    }
}

/// Pairs of rows that a window key brings together, of all rows at once. Rows come in the order of time.
pub(super) fn near(store: &Store, settings: &Settings, rows: impl Iterator<Item = u32>, mut tie: impl FnMut(u32, u32)) {
    // The row that had a window key last.
    let mut last = Index { first: vec![0; store.texts_len()], ..Index::default() };
    for row in rows {
        let r = store.row_at(row);
        let Some((key, gap, _)) = window(store, r, settings) else { continue };
        let held = last.entry(key, row);
        let before = std::mem::replace(&mut held.any, row);
        if before != row && r.time.saturating_sub(store.row_at(before).time) <= gap {
            tie(before, row);
        }
    }
}

/// The same, row by row.
#[derive(Debug, Default)]
pub(super) struct Windows {
    rows: BTreeMap<(Key, i64, u32), ()>,
}

impl Windows {
    /// Enters a row; `tie` is told its neighbours within the gap.
    pub(super) fn enter(&mut self, store: &Store, row: u32, settings: &Settings, mut tie: impl FnMut(u32)) {
        let r = store.row_at(row);
        let Some((key, gap, _)) = window(store, r, settings) else { return };
        let here = (key, r.time, row);
        let near = |other: &(Key, i64, u32)| other.0 == key && other.1.abs_diff(r.time) <= gap.unsigned_abs();
        if let Some((other, ())) = self.rows.range(..here).next_back().filter(|(other, ())| near(other)) {
            tie(other.2);
        }
        let behind = self.rows.range((key, r.time, row + 1)..).next().filter(|_| !fault::on(Fault::OnlyTheEventBefore));
        if let Some((other, ())) = behind.filter(|(other, ())| near(other)) {
            tie(other.2);
        }
        self.rows.insert(here, ());
    }

    /// Removes a row.
    pub(super) fn remove(&mut self, store: &Store, row: u32, settings: &Settings) {
        let r = store.row_at(row);
        if let Some((key, ..)) = window(store, r, settings) {
            self.rows.remove(&(key, r.time, row));
        }
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.rows.len() * size_of::<(Key, i64, u32)>() * 3 / 2
    }
}

/// The texts of a key that a row emitted: for comparing keys of two stores.
pub(super) fn texts<'s>(store: &'s Store, row: &Row, key: Key) -> (u8, [&'s str; 6]) {
    let (kind, [a, b, c]) = names(key);
    let text = |n: u32| store.text(Name(n));
    let who = [store.text(row.issuer), store.text(row.subject), store.text(row.client)];
    let [issuer, subject, client] = who;
    let is = |k: Kind| kind == k as u8;
    let parts = if is(Kind::Span) || is(Kind::Trace) {
        [issuer, subject, text(b), text(c), "", ""]
    } else if is(Kind::Session) || is(Kind::ServerSession) || is(Kind::PeerTask) {
        [issuer, subject, client, text(b), text(c), ""]
    } else if is(Kind::Near) {
        [issuer, subject, text(b), text(c), "", ""]
    } else {
        [text(a), text(b), text(c), "", "", ""]
    };
    (kind, parts)
}

/// A key that a row emitted, in the numbers of another store; none when that one has no such key. `name` says what it calls a
/// name.
pub(super) fn translated(key: Key, row: &Row, other: &Store, name: impl Fn(Name) -> Option<Name>) -> Option<Key> {
    let (kind, [a, b, c]) = names(key);
    let is = |k: Kind| kind == k as u8;
    let principal = || other.principal(name(row.issuer)?, name(row.subject)?);
    let whose = if is(Kind::Span) || is(Kind::Trace) || is(Kind::Near) {
        principal()?
    } else if is(Kind::Session) || is(Kind::ServerSession) || is(Kind::PeerTask) {
        other.caller(principal()?, name(row.client)?)?
    } else {
        name(Name(a))?.0
    };
    Some(
        u128::from(kind) << 96
            | u128::from(whose) << 64
            | u128::from(name(Name(b))?.0) << 32
            | u128::from(name(Name(c))?.0),
    )
}

/// What a digest is of, besides the kinds of keys.
const IDENTITY: u8 = 0;

/// Digests of the keys of a row and of its id, for comparing rows of stores that are not at hand.
pub(super) fn digests(hasher: &RandomState, store: &Store, row: &Row, mut then: impl FnMut(u64)) {
    keys(store, row, |key, _| then(hasher.hash_one(texts(store, row, key))));
    then(hasher.hash_one((IDENTITY, store.text(row.source), store.text(row.event))));
}

/// The digest of the window key of a row, and the silence that it bears.
pub(super) fn window_digest(hasher: &RandomState, store: &Store, row: &Row, settings: &Settings) -> Option<(u64, i64)> {
    let (key, gap, _) = window(store, row, settings)?;
    Some((hasher.hash_one(texts(store, row, key)), gap))
}
