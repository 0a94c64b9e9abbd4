//! Rows of `decisions` as facts of the rules.
//!
//! Guarantee: a fact says what its row says and nothing more; an empty text is an absent one. The content of a fact is a
//! digest of everything that the rules read of it, so that two rows of one id that the rules could tell apart are two
//! events, and rows that say the same are one, whoever collected them. What a row does not say is no part of it: a column that
//! is read from now on changes the content of rows that have it, and of no other.
//!
//! What needs no more than its row is worked out where it was read ([`Rows`]), on all threads; then [`Reader`] gives names, and
//! of a dictionary each text is learnt once; then facts are told in those names ([`Named`]). The two can go side by side.

use super::scan::Batch;
use crate::error::{Code, QueryError};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, ListArray, RecordBatch, StringArray};
use catena_analysis::chain::rules::fact::w3c_id;
use catena_analysis::chain::rules::{FactOf, Lexicon, Listener, Name, PartyOf, Proof, Protocol, Via};
use catena_schemas::{Enforced, Micros, Outcome};
use std::collections::HashMap;
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

macro_rules! columns {
    ($($name:ident),+ $(,)?) => {
        /// Texts that facts are made of.
        const TEXTS: &[&str] = &[$(stringify!($name)),+];

        /// Something for each column of texts.
        #[derive(Debug)]
        struct Texts<C> { $($name: C),+ }

        impl<C> Texts<C> {
            fn of(mut make: impl FnMut(&'static str) -> Result<C, QueryError>) -> Result<Texts<C>, QueryError> {
                Ok(Texts { $($name: make(stringify!($name))?),+ })
            }

            fn all(self) -> Vec<C> {
                vec![$(self.$name),+]
            }
        }
    };
}

columns!(
    event_id,
    source,
    source_kind,
    source_record,
    outcome,
    enforced,
    challenge,
    requester,
    requester_issuer,
    requester_kind,
    requester_assurance,
    actor_details,
    actors_source,
    session,
    mcp_session,
    task,
    server,
    server_name,
    tool,
    protocol,
    params_digest,
    state_in,
    state_out,
    token_ref,
    token_proof,
    token_issuer,
    token_subject,
    token_client,
    token_cnf,
    token_txn,
    token_acti,
    token_parent_ref,
    grant_id,
    parent_decision,
    parent_origin,
    trace_id,
    span_id,
    parent_span_id,
    request_id,
);

/// Texts that are only read: nobody needs their names.
const UNNAMED: [&str; 10] = [
    "outcome",
    "enforced",
    "challenge",
    "requester_assurance",
    "actor_details",
    "actors_source",
    "token_proof",
    "token_cnf",
    "parent_origin",
    "protocol",
];

/// Ids of traces and spans.
const W3C: [&str; 3] = ["trace_id", "span_id", "parent_span_id"];

/// Lists that facts are made of, in the order in which they are read.
const LISTS: [&str; 7] =
    ["actors", "actor_kinds", "actor_assurance", "scopes", "token_resource", "audience", "reasons"];

/// Columns of decisions that facts are made of.
pub(super) fn columns() -> Vec<&'static str> {
    TEXTS.iter().chain(&LISTS).copied().chain(["time", "decision_count", "actors_complete"]).collect()
}

fn odd(name: &str) -> QueryError {
    QueryError::new(Code::Internal, format!("the column `{name}` is of another type than it was written as"))
}

/// Texts of one column of a batch.
#[derive(Clone, Copy, Debug)]
enum Column<'b> {
    /// No row has one.
    Absent,
    Plain(&'b StringArray),
    Coded(&'b Int32Array, &'b StringArray),
}

impl<'b> Column<'b> {
    /// A column that a file lacks is one without texts.
    fn of(batch: &'b RecordBatch, name: &str) -> Result<Column<'b>, QueryError> {
        batch.column_by_name(name).map_or(Ok(Column::Absent), |array| Column::over(array, name))
    }

    fn over(array: &'b ArrayRef, name: &str) -> Result<Column<'b>, QueryError> {
        if array.null_count() == array.len() {
            return Ok(Column::Absent);
        }
        if let Some(plain) = array.as_string_opt::<i32>() {
            return Ok(Column::Plain(plain));
        }
        let coded: &DictionaryArray<Int32Type> = array.as_dictionary_opt().ok_or_else(|| odd(name))?;
        Ok(Column::Coded(coded.keys(), coded.values().as_string_opt::<i32>().ok_or_else(|| odd(name))?))
    }

    fn text(&self, row: usize) -> Option<&'b str> {
        let text = match self {
            Column::Absent => return None,
            Column::Plain(texts) => texts.is_valid(row).then(|| texts.value(row)),
            Column::Coded(keys, texts) => keys.is_valid(row).then(|| texts.value(keys.value(row) as usize)),
        };
        text.filter(|t| !t.is_empty())
    }
}

/// What was made of each text of one column of a batch; of an absent text, nothing ([`Default`]).
#[derive(Debug)]
enum Each<T> {
    Absent,
    Plain(Vec<T>),
    Coded(Int32Array, Arc<[T]>),
}

impl<T: Copy + Default> Each<T> {
    /// `make` is given all texts, in their order.
    fn of(column: Column<'_>, make: impl FnOnce(&StringArray) -> Vec<T>) -> Each<T> {
        match column {
            Column::Absent => Each::Absent,
            Column::Plain(texts) => Each::Plain(make(texts)),
            Column::Coded(keys, texts) => Each::Coded(keys.clone(), make(texts).into()),
        }
    }

    /// What a column says in words of ours.
    fn parsed(column: Column<'_>, parse: impl Fn(&str) -> T) -> Each<T> {
        Each::of(column, |texts| texts.iter().map(|text| text.map_or_else(T::default, &parse)).collect())
    }

    // Asked for every column of every row, most of them absent.
    #[inline(always)]
    fn at(&self, row: usize) -> T {
        match self {
            Each::Plain(all) => all[row],
            Each::Coded(keys, all) if keys.is_valid(row) => all[keys.value(row) as usize],
            Each::Absent | Each::Coded(..) => T::default(),
        }
    }
}

impl Each<Name> {
    #[inline(always)]
    fn name(&self, row: usize) -> Option<Name> {
        let name = self.at(row);
        name.is_some().then_some(name)
    }
}

/// What was made of a dictionary. The texts are kept, so that nothing else can stand in their place.
#[derive(Debug)]
struct Known<T> {
    texts: StringArray,
    made: Arc<[T]>,
}

impl<T> Known<T> {
    fn is_of(&self, texts: &StringArray) -> bool {
        let place = |texts: &StringArray| (texts.value_data().as_ptr(), texts.value_offsets().as_ptr(), texts.len());
        place(&self.texts) == place(texts)
    }
}

/// Of each column the newest dictionaries: every batch of a stretch of a file has the same.
#[derive(Debug)]
struct Dictionaries<T> {
    known: HashMap<&'static str, Vec<Known<T>>>,
    kept: usize,
}

impl<T: Copy + Default> Dictionaries<T> {
    fn new(kept: usize) -> Dictionaries<T> {
        Dictionaries { known: HashMap::new(), kept: kept.max(1) }
    }

    fn each(&mut self, of: &'static str, column: Column<'_>, make: impl FnOnce(&StringArray) -> Vec<T>) -> Each<T> {
        let Column::Coded(keys, texts) = column else { return Each::of(column, make) };
        let known = self.known.entry(of).or_default();
        if let Some(known) = known.iter().find(|k| k.is_of(texts)) {
            return Each::Coded(keys.clone(), known.made.clone());
        }
        let made: Arc<[T]> = make(texts).into();
        if known.len() == self.kept {
            known.remove(0);
        }
        known.push(Known { texts: texts.clone(), made: made.clone() });
        Each::Coded(keys.clone(), made)
    }
}

/// A column of lists, of texts or of something for each.
#[derive(Debug)]
struct Lists<C> {
    rows: Option<ListArray>,
    items: C,
}

impl<C> Lists<C> {
    fn of(
        batch: &RecordBatch,
        name: &'static str,
        make: impl FnOnce(Column<'_>) -> Result<C, QueryError>,
    ) -> Result<Lists<C>, QueryError> {
        let Some(array) = batch.column_by_name(name) else {
            return Ok(Lists { rows: None, items: make(Column::Absent)? });
        };
        let rows = array.as_list_opt::<i32>().ok_or_else(|| odd(name))?;
        Ok(Lists { items: make(Column::over(rows.values(), name)?)?, rows: Some(rows.clone()) })
    }

    /// Places of the items of a row.
    fn places(&self, row: usize) -> std::ops::Range<usize> {
        match &self.rows {
            Some(rows) if rows.is_valid(row) => {
                let offsets = rows.value_offsets();
                offsets[row] as usize..offsets[row + 1] as usize
            }
            _ => 0..0,
        }
    }
}

/// What a row says in itself, without any name.
#[derive(Clone, Copy, Debug)]
struct Said {
    content: u128,
    time: Micros,
    outcome: Option<Outcome>,
    enforced: Option<Enforced>,
    proof: Proof,
    via: Via,
    protocol: Protocol,
    subject_verified: bool,
    key_bound: bool,
    partial: bool,
    parent_by_client: bool,
    /// The record held several decisions.
    of_several: bool,
}

/// Rows of decisions, and what each says in itself.
#[derive(Debug)]
pub(super) struct Rows {
    batch: RecordBatch,
    said: Vec<Said>,
    /// The number of each row among the rows of all files.
    pub(super) numbers: Vec<u32>,
}

/// Digests of texts that batches of one stretch of a file have in common.
#[derive(Debug)]
pub(super) struct Digests(Dictionaries<u64>);

impl Default for Digests {
    fn default() -> Digests {
        Digests(Dictionaries::new(1))
    }
}

impl Digests {
    /// Digests of a column's texts: the same text of another column has another. Of an absent text it is zero.
    fn of(&mut self, name: &'static str, column: Column<'_>) -> Each<u64> {
        let seed = xxh3_64(name.as_bytes());
        let digest = |text: &str| if text.is_empty() { 0 } else { xxh3_64_with_seed(text.as_bytes(), seed).max(1) };
        self.0.each(name, column, |texts| texts.iter().map(|text| text.map_or(0, digest)).collect())
    }
}

impl Rows {
    pub(super) fn of(digests: &mut Digests, read: Batch) -> Result<Rows, QueryError> {
        let said = said(digests, &read.rows)?;
        Ok(Rows { batch: read.rows, said, numbers: read.numbers })
    }
}

fn said(digests: &mut Digests, batch: &RecordBatch) -> Result<Vec<Said>, QueryError> {
    let column = |name| Column::of(batch, name);
    // A record of one decision has its name.
    let record = digests.of("source_record", column("source_record")?);
    let event = digests.of("source_record", column("event_id")?);
    let texts = Texts::of(|name| {
        let column = if name == "source_record" { Column::Absent } else { column(name)? };
        Ok(digests.of(name, column))
    })?;
    let texts: Vec<Each<u64>> = texts.all().into_iter().filter(|each| !matches!(each, Each::Absent)).collect();
    let lists: Vec<_> = (LISTS.iter())
        .map(|name| Lists::of(batch, name, |items| Ok(digests.of(name, items))))
        .collect::<Result<_, _>>()?;
    let times = batch.column_by_name("time").and_then(|c| c.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| odd("time"))?;
    let count = batch.column_by_name("decision_count").and_then(|c| c.as_primitive_opt::<Int32Type>());
    let complete = batch.column_by_name("actors_complete").and_then(|c| c.as_boolean_opt());
    let outcome = Each::parsed(column("outcome")?, Outcome::parse);
    let enforced = Each::parsed(column("enforced")?, Enforced::parse);
    let proof = Each::parsed(column("token_proof")?, Proof::parse);
    let via = Each::parsed(column("actors_source")?, Via::parse);
    let protocol = Each::parsed(column("protocol")?, Protocol::parse);
    let verified = Each::parsed(column("requester_assurance")?, |text| text == "verified");
    let bound = Each::parsed(column("token_cnf")?, |text| !text.is_empty());
    let by_client = Each::parsed(column("parent_origin")?, |text| text == "client");
    let mut content: Vec<u8> = Vec::with_capacity(1024);
    let of_row = |row: usize| {
        content.clear();
        let mut say = |part: u64| content.extend_from_slice(&part.to_le_bytes());
        for (number, list) in lists.iter().enumerate() {
            let places = list.places(row);
            if !places.is_empty() {
                // A number that no digest of a text stands beside: where a list begins, and how long it is.
                say((number as u64) << 32 | places.len() as u64);
                places.for_each(|at| say(list.items.at(at)));
            }
        }
        [record.at(row), event.at(row)].into_iter().find(|d| *d != 0).into_iter().for_each(&mut say);
        texts.iter().map(|each| each.at(row)).filter(|digest| *digest != 0).for_each(&mut say);
        let time = if times.is_valid(row) { times.value(row) } else { 0 };
        say(time as u64);
        let is_complete = complete.filter(|c| c.is_valid(row)).map(|c| c.value(row));
        say(is_complete.map_or(2, u64::from));
        Said {
            content: xxh3_128(&content),
            time: Micros(time),
            outcome: outcome.at(row),
            enforced: enforced.at(row),
            proof: proof.at(row),
            via: via.at(row),
            protocol: protocol.at(row),
            subject_verified: verified.at(row),
            key_bound: bound.at(row),
            partial: is_complete == Some(false),
            parent_by_client: by_client.at(row),
            of_several: count.is_some_and(|c| c.is_valid(row) && c.value(row) > 1),
        }
    };
    Ok((0..batch.num_rows()).map(of_row).collect())
}

/// Rows of decisions in the names of one lexicon.
#[derive(Debug)]
pub(super) struct Named {
    said: Vec<Said>,
    texts: Texts<Each<Name>>,
    challenges: Each<Name>,
    /// Issuers beside the actors of each row; none where no row has any.
    issuers: Vec<Arc<[Name]>>,
    ids: Lists<Each<Name>>,
    kinds: Lists<Each<Name>>,
    verified: Lists<Each<bool>>,
    scopes: Lists<Each<Name>>,
    resources: Lists<Each<Name>>,
    audiences: Lists<Each<Name>>,
    reasons: Lists<Each<Name>>,
}

/// Names batches, one after another, by one lexicon: what it learnt before it does not learn again.
#[derive(Debug)]
pub(super) struct Reader {
    names: Dictionaries<Name>,
    /// Issuers that stand beside actors, by the text of JSON that names them.
    details: HashMap<Box<str>, Arc<[Name]>>,
}

/// Texts of JSON that are remembered.
const DETAILS_MAX: usize = 10_000;

fn learn(by: &mut impl Lexicon, text: &str) -> Name {
    let mut names = Vec::with_capacity(1);
    by.learn_all(std::iter::once(text), &mut names);
    names[0]
}

impl Reader {
    /// Of files that are read so many at once.
    pub(super) fn new(streams: usize) -> Reader {
        Reader { names: Dictionaries::new(streams), details: HashMap::new() }
    }

    /// Names every row.
    pub(super) fn name(&mut self, rows: Rows, by: &mut impl Lexicon) -> Result<Named, QueryError> {
        let batch = &rows.batch;
        let texts = Texts::of(|name| {
            let column = if UNNAMED.contains(&name) { Column::Absent } else { Column::of(batch, name)? };
            Ok(self.names(name, column, by))
        })?;
        let mut list = |name| Lists::of(batch, name, |items| Ok(self.names(name, items, by)));
        let (ids, kinds, scopes) = (list("actors")?, list("actor_kinds")?, list("scopes")?);
        let (resources, audiences, reasons) = (list("token_resource")?, list("audience")?, list("reasons")?);
        let verified = Lists::of(batch, "actor_assurance", |items| Ok(Each::parsed(items, |text| text == "verified")))?;
        let challenges = Each::of(Column::of(batch, "challenge")?, |all| {
            all.iter().map(|json| json.and_then(challenge).map_or(Name::NONE, |id| learn(by, &id))).collect()
        });
        let issuers = match Column::of(batch, "actor_details")? {
            Column::Absent => Vec::new(),
            details => {
                let none: Arc<[Name]> = Arc::default();
                let of_row = |row| details.text(row).map_or_else(|| none.clone(), |json| self.issuers(json, by));
                (0..batch.num_rows()).map(of_row).collect()
            }
        };
        let said = rows.said;
        Ok(Named { said, texts, challenges, issuers, ids, kinds, verified, scopes, resources, audiences, reasons })
    }

    /// The names of a column.
    fn names(&mut self, of: &'static str, column: Column<'_>, by: &mut impl Lexicon) -> Each<Name> {
        let said: fn(&str) -> Option<&str> = if W3C.contains(&of) { w3c_id } else { |text| Some(text) };
        self.names.each(of, column, |texts| {
            let mut names = Vec::with_capacity(texts.len());
            by.learn_all(texts.iter().map(|text| text.and_then(said).unwrap_or_default()), &mut names);
            names
        })
    }

    /// Issuers in the details of actors: a JSON array beside their ids.
    fn issuers(&mut self, json: &str, by: &mut impl Lexicon) -> Arc<[Name]> {
        if let Some(known) = self.details.get(json) {
            return known.clone();
        }
        if self.details.len() > DETAILS_MAX {
            self.details.clear();
        }
        let all: Vec<Option<serde_json::Map<String, serde_json::Value>>> =
            serde_json::from_str(json).unwrap_or_default();
        let issuer = |d: &Option<serde_json::Map<String, serde_json::Value>>| {
            d.as_ref().and_then(|d| Some(learn(by, d.get("issuer")?.as_str()?))).unwrap_or_default()
        };
        let issuers: Arc<[Name]> = all.iter().map(issuer).collect();
        self.details.insert(json.into(), issuers.clone());
        issuers
    }
}

impl Named {
    /// Tells every row.
    pub(super) fn tell(&self, to: &mut impl Listener) {
        let t = &self.texts;
        let (mut actors, [mut scope, mut resource, mut audience]) = (Vec::new(), [const { Vec::new() }; 3]);
        for (row, said) in self.said.iter().enumerate() {
            let issuers = self.issuers.get(row);
            let (mut kinds_at, mut verified_at) = (self.kinds.places(row), self.verified.places(row));
            actors.clear();
            actors.extend(self.ids.places(row).enumerate().map(|(i, at)| PartyOf {
                id: self.ids.items.at(at),
                issuer: issuers.and_then(|all| all.get(i).copied()),
                kind: kinds_at.next().and_then(|at| self.kinds.items.name(at)),
                verified: verified_at.next().is_some_and(|at| self.verified.items.at(at)),
            }));
            let lists =
                [(&self.scopes, &mut scope), (&self.resources, &mut resource), (&self.audiences, &mut audience)];
            for (from, into) in lists {
                into.clear();
                into.extend(from.places(row).map(|at| from.items.at(at)));
            }
            let listed = |list: &'_ Vec<Name>| !list.is_empty();
            let event_id = t.event_id.at(row);
            to.hear(&FactOf {
                source: t.source.name(row).or_else(|| t.source_kind.name(row)).unwrap_or_default(),
                event_id,
                content: said.content,
                time: said.time,
                decision: Some(event_id),
                record: said.of_several.then(|| t.source_record.name(row)).flatten(),
                parent: t.parent_decision.name(row),
                parent_by_client: said.parent_by_client,
                predecessor: None,
                trace: t.trace_id.name(row),
                span: t.span_id.name(row),
                parent_span: t.parent_span_id.name(row),
                state_in: t.state_in.name(row),
                state_out: t.state_out.name(row),
                challenge: self.challenges.name(row),
                task: t.task.name(row),
                txn: t.token_txn.name(row),
                acti: t.token_acti.name(row),
                session: t.session.name(row),
                mcp_session: t.mcp_session.name(row),
                issuer: t.requester_issuer.name(row).or_else(|| t.token_issuer.name(row)),
                subject: t.requester.name(row).or_else(|| t.token_subject.name(row)),
                subject_kind: t.requester_kind.name(row),
                subject_verified: said.subject_verified,
                client: t.token_client.name(row),
                token: t.token_ref.name(row),
                parent_token: t.token_parent_ref.name(row),
                proof: said.proof,
                key_bound: said.key_bound,
                actors: &actors,
                via: said.via,
                partial: said.partial,
                protocol: said.protocol,
                server: t.server.name(row).or_else(|| t.server_name.name(row)),
                tool: t.tool.name(row),
                args: t.params_digest.name(row),
                request: t.request_id.name(row),
                outcome: said.outcome,
                reason: self.reasons.places(row).next().and_then(|at| self.reasons.items.name(at)),
                enforced: said.enforced,
                grant: t.grant_id.name(row),
                scope: listed(&scope).then_some(&scope),
                resource: listed(&resource).then_some(&resource),
                audience: listed(&audience).then_some(&audience),
            });
        }
    }
}

/// The id of a challenge: a JSON object.
fn challenge(json: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Challenge {
        id: Option<String>,
    }
    serde_json::from_str::<Challenge>(json).ok()?.id
}
