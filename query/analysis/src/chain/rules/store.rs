//! Facts of one tenant in columns: every text once, every event once.
//!
//! Guarantee: what is stored is a set. A fact told again changes nothing; the same id with other content is another event,
//! and both are kept. One tenant has one store, so no key, number or order of one tenant can depend on another's data.
//!
//! Texts become numbers ([`Name`]) when a fact is told; from then on everything is compared as numbers, and the texts
//! matter only where an order must not depend on arrival: instants first, then source, id and content.
//!
//! A row holds what nearly every event has. What many events have in common (who called, with which token's authority)
//! stands once, as a [`Bearer`]; what few events have stands aside, as [`Rare`].

use super::Chain;
use super::fact::{Fact, FactOf, NamedFact, PartyOf, Proof, Protocol, Via, w3c_id};
use super::texts::{Lexicon, Name, Texts, Words};
use crate::fault::{self, Fault};
use ahash::{HashMap, HashSet, RandomState};
use catena_schemas::{Enforced, Outcome};
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::mem::size_of;

/// An actor of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Acting {
    pub(super) id: Name,
    pub(super) issuer: Name,
    pub(super) kind: Name,
    pub(super) verified: bool,
}

/// A stretch of one of the store's lists.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    start: u32,
    len: u32,
    /// Whether the record had the list at all.
    pub(super) said: bool,
}

/// Who made a call, and with which authority, as a record says. Many records say the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bearer {
    pub(super) issuer: Name,
    pub(super) subject: Name,
    pub(super) subject_kind: Name,
    pub(super) client: Name,
    /// Number of (issuer, subject).
    principal: u32,
    /// Number of (principal, client).
    caller: u32,
    actors: Span,
    pub(super) scope: Span,
    pub(super) resource: Span,
    pub(super) audience: Span,
    pub(super) proof: Proof,
    pub(super) via: Via,
    pub(super) subject_verified: bool,
    pub(super) key_bound: bool,
    pub(super) partial: bool,
}

/// What few records say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rare {
    pub(super) record: Name,
    pub(super) state_out: Name,
    pub(super) challenge: Name,
    pub(super) task: Name,
    pub(super) txn: Name,
    pub(super) acti: Name,
    pub(super) mcp_session: Name,
    pub(super) parent_token: Name,
    pub(super) request: Name,
    pub(super) grant: Name,
}

/// A stored fact.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Digest of what the record says.
    pub(super) content: u128,
    pub(super) time: i64,
    pub(super) source: Name,
    pub(super) event: Name,
    pub(super) decision: Name,
    pub(super) parent: Name,
    pub(super) predecessor: Name,
    pub(super) trace: Name,
    pub(super) span: Name,
    pub(super) parent_span: Name,
    pub(super) state_in: Name,
    pub(super) session: Name,
    pub(super) issuer: Name,
    pub(super) subject: Name,
    pub(super) client: Name,
    pub(super) token: Name,
    pub(super) server: Name,
    pub(super) tool: Name,
    pub(super) args: Name,
    pub(super) reason: Name,
    /// Number of (issuer, subject).
    pub(super) principal: u32,
    /// Number of (principal, client).
    pub(super) caller: u32,
    /// Place of its bearer.
    pub(super) bearer: u32,
    /// Place of what is rare; the first place says nothing.
    pub(super) rare: u32,
    pub(super) protocol: Protocol,
    pub(super) outcome: Option<Outcome>,
    pub(super) enforced: Option<Enforced>,
    pub(super) parent_by_client: bool,
}

/// The facts of one tenant.
#[derive(Clone, Debug)]
pub struct Store {
    texts: Texts,
    hasher: RandomState,
    pub(super) rows: Vec<Row>,
    rare: Vec<Rare>,
    bearers: Vec<Bearer>,
    /// Hash and place of each bearer.
    bearer_of: HashTable<(u64, u32)>,
    acting: Vec<Acting>,
    names: Vec<Name>,
    pairs: HashMap<(u32, u32, bool), u32>,
    /// The row of an event id, or [`NOBODY`], or [`SEVERAL`].
    row_of: Vec<u32>,
    /// Rows of ids that came more than once.
    again: BTreeMap<Identity, u32>,
    /// Rows whose id came with other content too.
    pub(super) mutated: HashSet<u32>,
    /// Rows that another one made mutated, until somebody looks.
    pub(super) touched: Vec<u32>,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            texts: Texts::new(),
            hasher: RandomState::new(),
            rows: Vec::new(),
            rare: vec![Rare::default()],
            bearers: Vec::new(),
            bearer_of: HashTable::new(),
            acting: Vec::new(),
            names: Vec::new(),
            pairs: HashMap::default(),
            row_of: Vec::new(),
            again: BTreeMap::new(),
            mutated: HashSet::default(),
            touched: Vec::new(),
        }
    }
}

/// Who is told facts in names: a store, or whoever has one.
pub trait Listener {
    /// Tells a fact in names that were learnt here. False when it was known.
    fn hear(&mut self, fact: &NamedFact<'_>) -> bool;
}

impl Lexicon for Store {
    fn learn_all<'t>(&mut self, texts: impl Iterator<Item = &'t str>, names: &mut Vec<Name>) {
        self.texts.intern_all(texts, names);
    }
}

impl Listener for Store {
    fn hear(&mut self, fact: &NamedFact<'_>) -> bool {
        self.tell_named(fact).1
    }
}

/// What makes an event the event that it is: its id, its source, what it says.
type Identity = (Name, Name, u128);

/// No row.
pub(super) const NOBODY: u32 = u32::MAX;

/// An event id that came more than once: its rows stand in `again`.
const SEVERAL: u32 = u32::MAX - 1;

impl Store {
    /// A store with room for so many facts, so that it need not grow on the way.
    pub fn with_room_for(facts: usize) -> Store {
        let mut store = Store::default();
        store.rows.reserve_exact(facts);
        // An id, a span, and now and then a text that several share.
        store.texts.reserve(facts / 2 * 5);
        store.row_of.reserve_exact(facts / 2 * 5);
        store
    }

    /// Lends the texts, so that names can be given while facts are told in names. Until they are back, all texts are unknown
    /// here.
    pub fn lend(&mut self) -> Words {
        Words(std::mem::replace(&mut self.texts, Texts::new()))
    }

    /// Takes texts back.
    pub fn take_back(&mut self, words: Words) {
        self.texts = words.0;
    }

    /// Tells a fact. The place of its row, and whether it is new.
    pub fn tell(&mut self, fact: &Fact<'_>) -> (u32, bool) {
        let mut name = |text: &str| self.texts.intern(text);
        let actors: Vec<PartyOf<Name>> = (fact.actors.iter())
            .map(|p| PartyOf {
                id: name(p.id),
                issuer: p.issuer.map(&mut name),
                kind: p.kind.map(&mut name),
                verified: p.verified,
            })
            .collect();
        let [scope, resource, audience] = [fact.scope, fact.resource, fact.audience]
            .map(|list| list.map(|list| list.iter().map(|text| name(text)).collect::<Vec<Name>>()));
        let named = FactOf {
            source: name(fact.source),
            event_id: name(fact.event_id),
            content: fact.content,
            time: fact.time,
            decision: fact.decision.map(&mut name),
            record: fact.record.map(&mut name),
            parent: fact.parent.map(&mut name),
            parent_by_client: fact.parent_by_client,
            predecessor: fact.predecessor.map(&mut name),
            trace: fact.trace.and_then(w3c_id).map(&mut name),
            span: fact.span.and_then(w3c_id).map(&mut name),
            parent_span: fact.parent_span.and_then(w3c_id).map(&mut name),
            state_in: fact.state_in.map(&mut name),
            state_out: fact.state_out.map(&mut name),
            challenge: fact.challenge.map(&mut name),
            task: fact.task.map(&mut name),
            txn: fact.txn.map(&mut name),
            acti: fact.acti.map(&mut name),
            session: fact.session.map(&mut name),
            mcp_session: fact.mcp_session.map(&mut name),
            issuer: fact.issuer.map(&mut name),
            subject: fact.subject.map(&mut name),
            subject_kind: fact.subject_kind.map(&mut name),
            subject_verified: fact.subject_verified,
            client: fact.client.map(&mut name),
            token: fact.token.map(&mut name),
            parent_token: fact.parent_token.map(&mut name),
            proof: fact.proof,
            key_bound: fact.key_bound,
            actors: &actors,
            via: fact.via,
            partial: fact.partial,
            protocol: fact.protocol,
            server: fact.server.map(&mut name),
            tool: fact.tool.map(&mut name),
            args: fact.args.map(&mut name),
            request: fact.request.map(&mut name),
            outcome: fact.outcome,
            reason: fact.reason.map(&mut name),
            enforced: fact.enforced,
            grant: fact.grant.map(&mut name),
            scope: scope.as_deref(),
            resource: resource.as_deref(),
            audience: audience.as_deref(),
        };
        self.tell_named(&named)
    }

    /// Tells a fact in names that this store gave. The place of its row, and whether it is new.
    pub(super) fn tell_named(&mut self, fact: &NamedFact<'_>) -> (u32, bool) {
        let row = u32::try_from(self.rows.len()).expect("a store holds fewer than four billion events");
        assert!(row < SEVERAL, "a store holds fewer than four billion events");
        let broken = self.broken_winner(fact);
        if broken.is_none()
            && let Some(known) = self.recognise(row, (fact.event_id, fact.source, fact.content))
        {
            return (known, false);
        }
        let made = self.row(fact);
        if let Some((held, wins)) = broken {
            if wins {
                self.rows[held as usize] = made;
            }
            return (held, false);
        }
        self.rows.push(made);
        (row, true)
    }

    /// What two contents under one id would become, were identity the id alone: which row holds it, and whether it loses.
    fn broken_winner(&self, fact: &NamedFact<'_>) -> Option<(u32, bool)> {
        let (last, least) = (fault::on(Fault::LastWins), fault::on(Fault::OneWinnerPerId));
        if !last && !least {
            return None;
        }
        let held = self.rows.iter().position(|r| (r.source, r.event) == (fact.source, fact.event_id))?;
        Some((held as u32, last || fact.content < self.rows[held].content))
    }

    /// The row of an identity, or none, and then it is the identity of `row`.
    fn recognise(&mut self, row: u32, identity: Identity) -> Option<u32> {
        let (event, source, _) = identity;
        let at = event.0 as usize;
        if self.row_of.len() <= at {
            self.row_of.resize(at + 1, NOBODY);
        }
        match self.row_of[at] {
            NOBODY => {
                self.row_of[at] = row;
                return None;
            }
            SEVERAL => {}
            only => {
                let r = self.row_at(only);
                let known = (r.event, r.source, r.content);
                if known == identity {
                    return Some(only);
                }
                self.again.insert(known, only);
                self.row_of[at] = SEVERAL;
            }
        }
        if let Some(known) = self.again.get(&identity) {
            return Some(*known);
        }
        // All contents of one id from one source are marked: any of them leads to the others.
        let sibling = self.again.range((event, source, 0)..=(event, source, u128::MAX)).next().map(|(_, row)| *row);
        if let Some(other) = sibling.filter(|_| !fault::on(Fault::MutationUnmarked)) {
            self.mutated.insert(row);
            if self.mutated.insert(other) {
                self.touched.push(other);
            }
        }
        self.again.insert(identity, row);
        None
    }

    /// Forgets that a row was told, so that its fact is new when it comes again. The row itself stays where it is.
    pub(super) fn forget(&mut self, row: u32) {
        let r = self.row_at(row);
        let (identity, at) = ((r.event, r.source, r.content), r.event.0 as usize);
        if self.row_of[at] == row {
            self.row_of[at] = NOBODY;
        } else {
            self.again.remove(&identity);
        }
        self.mutated.remove(&row);
    }

    fn row(&mut self, fact: &NamedFact<'_>) -> Row {
        let some = Option::unwrap_or_default;
        let bearer = self.bearer(fact);
        let Bearer { principal, caller, issuer, subject, client, .. } = self.bearers[bearer as usize];
        Row {
            content: fact.content,
            time: fact.time.0,
            source: fact.source,
            event: fact.event_id,
            decision: some(fact.decision),
            parent: some(fact.parent),
            predecessor: some(fact.predecessor),
            trace: some(fact.trace),
            span: some(fact.span),
            parent_span: some(fact.parent_span),
            state_in: some(fact.state_in),
            session: some(fact.session),
            issuer,
            subject,
            client,
            token: some(fact.token),
            server: some(fact.server),
            tool: some(fact.tool),
            args: some(fact.args),
            reason: some(fact.reason),
            principal,
            caller,
            bearer,
            rare: self.rarely(fact),
            protocol: fact.protocol,
            outcome: fact.outcome,
            enforced: fact.enforced,
            parent_by_client: fact.parent_by_client,
        }
    }

    /// The place of what is rare in a fact.
    fn rarely(&mut self, fact: &NamedFact<'_>) -> u32 {
        let name = Option::unwrap_or_default;
        let rare = Rare {
            record: name(fact.record),
            state_out: name(fact.state_out),
            challenge: name(fact.challenge),
            task: name(fact.task),
            txn: name(fact.txn),
            acti: name(fact.acti),
            mcp_session: name(fact.mcp_session),
            parent_token: name(fact.parent_token),
            request: name(fact.request),
            grant: name(fact.grant),
        };
        if rare == self.rare[0] {
            return 0;
        }
        self.rare.push(rare);
        self.rare.len() as u32 - 1
    }

    /// The place of a fact's bearer.
    fn bearer(&mut self, fact: &NamedFact<'_>) -> u32 {
        let [issuer, subject, subject_kind, client] =
            [fact.issuer, fact.subject, fact.subject_kind, fact.client].map(Option::unwrap_or_default);
        // Lists are written where they will stand, and taken back when somebody said the same before.
        let (acting, names) = (self.acting.len(), self.names.len());
        let bearer = Bearer {
            issuer,
            subject,
            subject_kind,
            client,
            principal: 0,
            caller: 0,
            actors: self.actors(fact),
            scope: self.list(fact.scope),
            resource: self.list(fact.resource),
            audience: self.list(fact.audience),
            proof: fact.proof,
            via: fact.via,
            subject_verified: fact.subject_verified,
            key_bound: fact.key_bound,
            partial: fact.partial,
        };
        let hash = {
            let lists = [bearer.scope, bearer.resource, bearer.audience].map(|s| (s.said, s.len));
            let flags = (bearer.subject_verified, bearer.key_bound, bearer.partial);
            let who = (issuer, subject, subject_kind, client);
            let (actors, listed) = (&self.acting[acting..], &self.names[names..]);
            self.hasher.hash_one((who, bearer.proof, bearer.via, flags, lists, actors, listed))
        };
        let known =
            self.bearer_of.find(hash, |(h, at)| *h == hash && self.is_same(&self.bearers[*at as usize], &bearer));
        if let Some((_, at)) = known {
            let at = *at;
            self.acting.truncate(acting);
            self.names.truncate(names);
            return at;
        }
        let principal = self.pair(issuer.0, subject.0, false);
        let caller = self.pair(principal, client.0, true);
        let at = self.bearers.len() as u32;
        self.bearers.push(Bearer { principal, caller, ..bearer });
        self.bearer_of.insert_unique(hash, (hash, at), |(h, _)| *h);
        at
    }

    fn is_same(&self, a: &Bearer, b: &Bearer) -> bool {
        let plain = |x: &Bearer| {
            let who = (x.issuer, x.subject, x.subject_kind, x.client);
            (who, x.proof, x.via, x.subject_verified, x.key_bound, x.partial)
        };
        let same_list = |x: Span, y: Span| x.said == y.said && self.names_of(x) == self.names_of(y);
        plain(a) == plain(b)
            && self.actors_in(a.actors) == self.actors_in(b.actors)
            && same_list(a.scope, b.scope)
            && same_list(a.resource, b.resource)
            && same_list(a.audience, b.audience)
    }

    /// The number of an issuer's subject, if any fact has it.
    pub(super) fn principal(&self, issuer: Name, subject: Name) -> Option<u32> {
        self.pairs.get(&(issuer.0, subject.0, false)).copied()
    }

    /// The number of a client that calls for a principal.
    pub(super) fn caller(&self, principal: u32, client: Name) -> Option<u32> {
        self.pairs.get(&(principal, client.0, true)).copied()
    }

    fn pair(&mut self, a: u32, b: u32, is_caller: bool) -> u32 {
        let next = self.pairs.len() as u32;
        *self.pairs.entry((a, b, is_caller)).or_insert(next)
    }

    fn actors(&mut self, fact: &NamedFact<'_>) -> Span {
        let start = self.acting.len();
        self.acting.extend(fact.actors.iter().filter(|p| p.id.is_some()).map(|p| Acting {
            id: p.id,
            issuer: p.issuer.unwrap_or_default(),
            kind: p.kind.unwrap_or_default(),
            verified: p.verified,
        }));
        Span { start: start as u32, len: (self.acting.len() - start) as u32, said: true }
    }

    fn list(&mut self, list: Option<&[Name]>) -> Span {
        let start = self.names.len() as u32;
        let Some(list) = list else { return Span { start, ..Span::default() } };
        self.names.extend(list.iter().filter(|n| n.is_some()));
        let added = &mut self.names[start as usize..];
        added.sort_unstable();
        let len = added.len() as u32;
        Span { start, len, said: true }
    }

    /// Whether an event of a source was told, with whatever content.
    pub fn has(&self, source: &str, event: &str) -> bool {
        self.name(source).zip(self.name(event)).is_some_and(|(source, event)| self.has_named(source, event))
    }

    /// The same, by the names of source and event.
    pub(super) fn has_named(&self, source: Name, event: Name) -> bool {
        match self.row_of.get(event.0 as usize).copied().unwrap_or(NOBODY) {
            NOBODY => false,
            SEVERAL => self.again.range((event, source, 0)..=(event, source, u128::MAX)).next().is_some(),
            only => self.row_at(only).source == source,
        }
    }

    /// Facts told, each once.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of memory that the facts take: what has been asked for, whether or not it is filled.
    pub fn bytes(&self) -> usize {
        fn of<T>(all: &Vec<T>) -> usize {
            all.capacity() * size_of::<T>()
        }
        // Tables of hashbrown: one byte of control for each place, and at most seven places of eight taken.
        let table = |places: usize, entry: usize| places * 8 / 7 * (entry + 1);
        self.texts.heap_bytes()
            + of(&self.rows)
            + of(&self.rare)
            + of(&self.bearers)
            + of(&self.acting)
            + of(&self.names)
            + of(&self.row_of)
            + of(&self.touched)
            + table(self.bearer_of.capacity(), size_of::<(u64, u32)>())
            + table(self.pairs.capacity(), size_of::<(u32, u32, bool, u32)>())
            + table(self.mutated.capacity(), size_of::<u32>())
            + self.again.len() * (size_of::<Identity>() + size_of::<u32>()) * 3 / 2
    }

    /// Texts told, the absent one among them: names are smaller than this.
    pub(super) fn texts_len(&self) -> usize {
        self.texts.len()
    }

    /// A text; empty for an absent one.
    pub fn text(&self, name: Name) -> &str {
        self.texts.get(name)
    }

    /// The name of a text, if it has one: facts that have it need not be here.
    pub fn name(&self, text: &str) -> Option<Name> {
        self.texts.find(text)
    }

    /// The name of a text that no fact need have.
    pub(super) fn learn(&mut self, text: &str) -> Name {
        self.texts.intern(text)
    }

    pub(super) fn row_at(&self, row: u32) -> &Row {
        &self.rows[row as usize]
    }

    pub(super) fn bearer_at(&self, place: u32) -> &Bearer {
        &self.bearers[place as usize]
    }

    pub(super) fn bearer_of(&self, row: &Row) -> &Bearer {
        &self.bearers[row.bearer as usize]
    }

    pub(super) fn rare_of(&self, row: &Row) -> &Rare {
        &self.rare[row.rare as usize]
    }

    fn actors_in(&self, span: Span) -> &[Acting] {
        &self.acting[span.start as usize..(span.start + span.len) as usize]
    }

    pub(super) fn actors_of(&self, bearer: &Bearer) -> &[Acting] {
        self.actors_in(bearer.actors)
    }

    pub(super) fn names_of(&self, span: Span) -> &[Name] {
        &self.names[span.start as usize..(span.start + span.len) as usize]
    }

    /// The order of events: time, then source, id and content. It never depends on arrival.
    pub(super) fn order(&self, a: u32, b: u32) -> Ordering {
        if fault::on(Fault::OrderOfArrival) {
            return a.cmp(&b);
        }
        let (x, y) = (self.row_at(a), self.row_at(b));
        x.time.cmp(&y.time).then_with(|| {
            self.text_order(x.source, y.source)
                .then_with(|| self.text_order(x.event, y.event))
                .then_with(|| x.content.cmp(&y.content))
        })
    }

    pub(super) fn text_order(&self, a: Name, b: Name) -> Ordering {
        if a == b { Ordering::Equal } else { self.text(a).cmp(self.text(b)) }
    }

    /// A store that has the events of some chains of this one, and no more.
    pub fn only<'c>(&self, chains: impl IntoIterator<Item = &'c Chain>) -> Store {
        let mut store = Store::default();
        chains.into_iter().for_each(|chain| store.take_chain(self, chain));
        store
    }

    /// Takes the events of a chain of another store of the same tenant.
    pub fn take_chain(&mut self, from: &Store, chain: &Chain) {
        for link in &chain.links {
            let (row, _) = self.adopt(from, link.row);
            // What it was changed from or to may stand in another chain.
            if from.mutated.contains(&link.row) {
                self.mutated.insert(row);
            }
        }
    }

    /// A row of another store of the same tenant, told here.
    pub(super) fn adopt(&mut self, other: &Store, row: u32) -> (u32, bool) {
        let r = other.row_at(row);
        let (b, few) = (other.bearer_of(r), other.rare_of(r));
        let t = |name: Name| other.text(name);
        let o = |name: Name| name.is_some().then(|| other.text(name));
        let parties: Vec<_> = other
            .actors_of(b)
            .iter()
            .map(|a| super::fact::Party { id: t(a.id), issuer: o(a.issuer), kind: o(a.kind), verified: a.verified })
            .collect();
        let list = |span: Span| other.names_of(span).iter().map(|n| t(*n)).collect::<Vec<_>>();
        let (scope, resource, audience) = (list(b.scope), list(b.resource), list(b.audience));
        self.tell(&Fact {
            source: t(r.source),
            event_id: t(r.event),
            content: r.content,
            time: catena_schemas::Micros(r.time),
            decision: o(r.decision),
            record: o(few.record),
            parent: o(r.parent),
            parent_by_client: r.parent_by_client,
            predecessor: o(r.predecessor),
            trace: o(r.trace),
            span: o(r.span),
            parent_span: o(r.parent_span),
            state_in: o(r.state_in),
            state_out: o(few.state_out),
            challenge: o(few.challenge),
            task: o(few.task),
            txn: o(few.txn),
            acti: o(few.acti),
            session: o(r.session),
            mcp_session: o(few.mcp_session),
            issuer: o(r.issuer),
            subject: o(r.subject),
            subject_kind: o(b.subject_kind),
            subject_verified: b.subject_verified,
            client: o(r.client),
            token: o(r.token),
            parent_token: o(few.parent_token),
            proof: b.proof,
            key_bound: b.key_bound,
            actors: &parties,
            via: b.via,
            partial: b.partial,
            protocol: r.protocol,
            server: o(r.server),
            tool: o(r.tool),
            args: o(r.args),
            request: o(few.request),
            outcome: r.outcome,
            reason: o(r.reason),
            enforced: r.enforced,
            grant: o(few.grant),
            scope: b.scope.said.then_some(&scope),
            resource: b.resource.said.then_some(&resource),
            audience: b.audience.said.then_some(&audience),
        })
    }
}
