//! Facts of one tenant in columns: every text once, every event once.
//!
//! Guarantee: what is stored is a set. A fact told again changes nothing; the same id with other content is another event,
//! and both are kept. One tenant has one store, so no key, number or order of one tenant can depend on another's data.
//!
//! Texts become numbers ([`Name`]) when a fact is told; from then on everything is compared as numbers, and the texts
//! matter only where an order must not depend on arrival: instants first, then source, id and content.

use super::fact::{Fact, Proof, Protocol, Via};
use crate::fault::{self, Fault};
use ahash::{HashMap, RandomState};
use catena_schemas::{Enforced, Outcome};
use hashbrown::HashTable;
use std::cmp::Ordering;

/// A text of a store. Zero is the absent text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub(super) u32);

impl Name {
    /// No text.
    pub const NONE: Name = Name(0);

    /// Whether there is a text.
    pub fn is_some(self) -> bool {
        self != Name::NONE
    }

    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Name::NONE
    }

    pub(super) fn or(self, other: Name) -> Name {
        if self.is_some() { self } else { other }
    }
}

/// Texts, each once.
#[derive(Debug)]
struct Texts {
    bytes: String,
    /// Where each text ends; the first is the absent one.
    ends: Vec<usize>,
    /// Hash and name. The hash is kept so that growing does not read every text again.
    table: HashTable<(u64, u32)>,
    hasher: RandomState,
}

impl Texts {
    fn new() -> Texts {
        Texts { bytes: String::new(), ends: vec![0], table: HashTable::new(), hasher: RandomState::new() }
    }

    fn get(&self, name: u32) -> &str {
        match name {
            0 => "",
            name => &self.bytes[self.ends[name as usize - 1]..self.ends[name as usize]],
        }
    }

    fn intern(&mut self, text: Option<&str>) -> Name {
        let Some(text) = text.filter(|t| !t.is_empty()) else { return Name::NONE };
        let hash = self.hasher.hash_one(text);
        let (bytes, ends) = (&self.bytes, &self.ends);
        let same =
            |entry: &(u64, u32)| entry.0 == hash && bytes[ends[entry.1 as usize - 1]..ends[entry.1 as usize]] == *text;
        if let Some((_, name)) = self.table.find(hash, same) {
            return Name(*name);
        }
        let name = u32::try_from(self.ends.len()).expect("a store holds fewer than four billion texts");
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len());
        self.table.insert_unique(hash, (hash, name), |entry| entry.0);
        Name(name)
    }

    fn find(&self, text: &str) -> Option<Name> {
        let hash = self.hasher.hash_one(text);
        self.table.find(hash, |entry| entry.0 == hash && self.get(entry.1) == text).map(|e| Name(e.1))
    }
}

/// An actor of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// A stored fact.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) content: u128,
    pub(super) time: i64,
    pub(super) source: Name,
    pub(super) event: Name,
    pub(super) decision: Name,
    pub(super) record: Name,
    pub(super) parent: Name,
    pub(super) predecessor: Name,
    pub(super) trace: Name,
    pub(super) span: Name,
    pub(super) parent_span: Name,
    pub(super) state_in: Name,
    pub(super) state_out: Name,
    pub(super) challenge: Name,
    pub(super) task: Name,
    pub(super) txn: Name,
    pub(super) acti: Name,
    pub(super) session: Name,
    pub(super) mcp_session: Name,
    pub(super) issuer: Name,
    pub(super) subject: Name,
    pub(super) subject_kind: Name,
    pub(super) client: Name,
    pub(super) token: Name,
    pub(super) parent_token: Name,
    pub(super) server: Name,
    pub(super) tool: Name,
    pub(super) args: Name,
    pub(super) request: Name,
    pub(super) grant: Name,
    pub(super) reason: Name,
    /// Number of (issuer, subject).
    pub(super) principal: u32,
    /// Number of (principal, client).
    pub(super) caller: u32,
    actors: Span,
    pub(super) scope: Span,
    pub(super) resource: Span,
    pub(super) audience: Span,
    pub(super) proof: Proof,
    pub(super) via: Via,
    pub(super) protocol: Protocol,
    pub(super) outcome: Option<Outcome>,
    pub(super) enforced: Option<Enforced>,
    pub(super) parent_by_client: bool,
    pub(super) subject_verified: bool,
    pub(super) key_bound: bool,
    pub(super) partial: bool,
}

/// What makes an event the event that it is.
type Identity = (Name, Name, u128);

/// The facts of one tenant.
#[derive(Debug)]
pub struct Store {
    texts: Texts,
    pub(super) rows: Vec<Row>,
    acting: Vec<Acting>,
    names: Vec<Name>,
    pairs: HashMap<(u32, u32, bool), u32>,
    /// First row of an event id, so that the table of identities holds only ids that came twice.
    first_of: Vec<u32>,
    again: HashMap<Identity, u32>,
    /// Rows whose id came with other content too.
    pub(super) mutated: HashMap<u32, ()>,
    /// Rows that another one made mutated, until somebody looks.
    pub(super) touched: Vec<u32>,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            texts: Texts::new(),
            rows: Vec::new(),
            acting: Vec::new(),
            names: Vec::new(),
            pairs: HashMap::default(),
            first_of: Vec::new(),
            again: HashMap::default(),
            mutated: HashMap::default(),
            touched: Vec::new(),
        }
    }
}

/// No row.
pub(super) const NOBODY: u32 = u32::MAX;

impl Store {
    /// Tells a fact. The place of its row, and whether it is new.
    pub fn tell(&mut self, fact: &Fact<'_>) -> (u32, bool) {
        let (source, event) = (self.texts.intern(Some(fact.source)), self.texts.intern(Some(fact.event_id)));
        let row = u32::try_from(self.rows.len()).expect("a store holds fewer than four billion events");
        if let Some(known) = self.broken_winner(source, event, fact) {
            return (known, false);
        }
        if let Some(known) = self.recognise(row, (source, event, fact.content)) {
            return (known, false);
        }
        let made = self.row(source, event, fact);
        self.rows.push(made);
        (row, true)
    }

    /// What two contents under one id would become, were identity the id alone.
    fn broken_winner(&mut self, source: Name, event: Name, fact: &Fact<'_>) -> Option<u32> {
        let (last, least) = (fault::on(Fault::LastWins), fault::on(Fault::OneWinnerPerId));
        if !last && !least {
            return None;
        }
        let held = self.rows.iter().position(|r| (r.source, r.event) == (source, event))?;
        if last || fact.content < self.rows[held].content {
            self.rows[held] = self.row(source, event, fact);
        }
        Some(held as u32)
    }

    /// The row of an identity, or none, and then it is the identity of `row`.
    fn recognise(&mut self, row: u32, identity: Identity) -> Option<u32> {
        let at = identity.1.0 as usize;
        if self.first_of.len() <= at {
            self.first_of.resize(at + 1, NOBODY);
        }
        let first = self.first_of[at];
        if first == NOBODY {
            self.first_of[at] = row;
            return None;
        }
        let of = |r: &Row| (r.source, r.event, r.content);
        let first_identity = of(&self.rows[first as usize]);
        if first_identity == identity {
            return Some(first);
        }
        if let Some(known) = self.again.get(&identity) {
            return Some(*known);
        }
        // The content under which the id came first from this source stands under content 0 and a mark of its own.
        let sibling = if first_identity.0 == identity.0 {
            Some(first)
        } else {
            self.again.get(&(identity.0, identity.1, u128::MAX)).copied()
        };
        match sibling {
            Some(_) if fault::on(Fault::MutationUnmarked) => {}
            Some(other) => {
                self.mutated.insert(row, ());
                if self.mutated.insert(other, ()).is_none() {
                    self.touched.push(other);
                }
            }
            None => {
                self.again.insert((identity.0, identity.1, u128::MAX), row);
            }
        }
        self.again.insert(identity, row);
        None
    }

    fn row(&mut self, source: Name, event: Name, fact: &Fact<'_>) -> Row {
        let texts = &mut self.texts;
        // An all-zero trace or span id is invalid (W3C Trace Context): it says nothing.
        let mut hex = |text: Option<&str>| texts.intern(text.filter(|t| t.bytes().any(|b| b != b'0')));
        let (trace, span, parent_span) = (hex(fact.trace), hex(fact.span), hex(fact.parent_span));
        let mut name = |text: Option<&str>| texts.intern(text);
        let (issuer, subject, client) = (name(fact.issuer), name(fact.subject), name(fact.client));
        let mut row = Row {
            content: fact.content,
            time: fact.time.0,
            source,
            event,
            decision: name(fact.decision),
            record: name(fact.record),
            parent: name(fact.parent),
            predecessor: name(fact.predecessor),
            trace,
            span,
            parent_span,
            state_in: name(fact.state_in),
            state_out: name(fact.state_out),
            challenge: name(fact.challenge),
            task: name(fact.task),
            txn: name(fact.txn),
            acti: name(fact.acti),
            session: name(fact.session),
            mcp_session: name(fact.mcp_session),
            issuer,
            subject,
            subject_kind: name(fact.subject_kind),
            client,
            token: name(fact.token),
            parent_token: name(fact.parent_token),
            server: name(fact.server),
            tool: name(fact.tool),
            args: name(fact.args),
            request: name(fact.request),
            grant: name(fact.grant),
            reason: name(fact.reason),
            principal: 0,
            caller: 0,
            actors: Span::default(),
            scope: Span::default(),
            resource: Span::default(),
            audience: Span::default(),
            proof: fact.proof,
            via: fact.via,
            protocol: fact.protocol,
            outcome: fact.outcome,
            enforced: fact.enforced,
            parent_by_client: fact.parent_by_client,
            subject_verified: fact.subject_verified,
            key_bound: fact.key_bound,
            partial: fact.partial,
        };
        row.principal = self.pair(issuer.0, subject.0, false);
        row.caller = self.pair(row.principal, client.0, true);
        row.actors = self.actors(fact);
        row.scope = self.list(fact.scope);
        row.resource = self.list(fact.resource);
        row.audience = self.list(fact.audience);
        row
    }

    fn pair(&mut self, a: u32, b: u32, is_caller: bool) -> u32 {
        let next = self.pairs.len() as u32;
        *self.pairs.entry((a, b, is_caller)).or_insert(next)
    }

    fn actors(&mut self, fact: &Fact<'_>) -> Span {
        let start = self.acting.len();
        for party in fact.actors.iter().filter(|p| !p.id.is_empty()) {
            let acting = Acting {
                id: self.texts.intern(Some(party.id)),
                issuer: self.texts.intern(party.issuer),
                kind: self.texts.intern(party.kind),
                verified: party.verified,
            };
            self.acting.push(acting);
        }
        Span { start: start as u32, len: (self.acting.len() - start) as u32, said: true }
    }

    fn list(&mut self, list: Option<&[&str]>) -> Span {
        let start = self.names.len() as u32;
        let Some(list) = list else { return Span::default() };
        for text in list {
            let name = self.texts.intern(Some(text));
            if name.is_some() {
                self.names.push(name);
            }
        }
        let added = &mut self.names[start as usize..];
        added.sort_unstable();
        let len = added.len() as u32;
        Span { start, len, said: true }
    }

    /// Facts told, each once.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A text; empty for an absent one.
    pub fn text(&self, name: Name) -> &str {
        self.texts.get(name.0)
    }

    /// The name of a text, if any fact has it.
    pub fn name(&self, text: &str) -> Option<Name> {
        self.texts.find(text)
    }

    /// The name of a text that no fact need have.
    pub(super) fn learn(&mut self, text: &str) -> Name {
        self.texts.intern(Some(text))
    }

    pub(super) fn row_at(&self, row: u32) -> &Row {
        &self.rows[row as usize]
    }

    pub(super) fn actors_of(&self, row: &Row) -> &[Acting] {
        &self.acting[row.actors.start as usize..(row.actors.start + row.actors.len) as usize]
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

    /// A row of another store of the same tenant, told here.
    pub(super) fn adopt(&mut self, other: &Store, row: u32) -> (u32, bool) {
        let r = other.row_at(row);
        let t = |name: Name| other.text(name);
        let o = |name: Name| name.is_some().then(|| other.text(name));
        let parties: Vec<_> = other
            .actors_of(r)
            .iter()
            .map(|a| super::fact::Party { id: t(a.id), issuer: o(a.issuer), kind: o(a.kind), verified: a.verified })
            .collect();
        let list = |span: Span| other.names_of(span).iter().map(|n| t(*n)).collect::<Vec<_>>();
        let (scope, resource, audience) = (list(r.scope), list(r.resource), list(r.audience));
        self.tell(&Fact {
            source: t(r.source),
            event_id: t(r.event),
            content: r.content,
            time: catena_schemas::Micros(r.time),
            decision: o(r.decision),
            record: o(r.record),
            parent: o(r.parent),
            parent_by_client: r.parent_by_client,
            predecessor: o(r.predecessor),
            trace: o(r.trace),
            span: o(r.span),
            parent_span: o(r.parent_span),
            state_in: o(r.state_in),
            state_out: o(r.state_out),
            challenge: o(r.challenge),
            task: o(r.task),
            txn: o(r.txn),
            acti: o(r.acti),
            session: o(r.session),
            mcp_session: o(r.mcp_session),
            issuer: o(r.issuer),
            subject: o(r.subject),
            subject_kind: o(r.subject_kind),
            subject_verified: r.subject_verified,
            client: o(r.client),
            token: o(r.token),
            parent_token: o(r.parent_token),
            proof: r.proof,
            key_bound: r.key_bound,
            actors: &parties,
            via: r.via,
            partial: r.partial,
            protocol: r.protocol,
            server: o(r.server),
            tool: o(r.tool),
            args: o(r.args),
            request: o(r.request),
            outcome: r.outcome,
            reason: o(r.reason),
            enforced: r.enforced,
            grant: o(r.grant),
            scope: r.scope.said.then_some(&scope),
            resource: r.resource.said.then_some(&resource),
            audience: r.audience.said.then_some(&audience),
        })
    }
}
