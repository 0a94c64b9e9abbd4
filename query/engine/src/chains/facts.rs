//! Rows of `decisions` as facts of the rules.
//!
//! Guarantee: a fact says what its row says and nothing more; an empty text is an absent one. The content of a fact is a
//! digest of everything that the rules read of it, so that two rows of one id that the rules could tell apart are two
//! events, and rows that say the same are one, whoever collected them.

use crate::error::{Code, QueryError};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, BooleanArray, Int32Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use catena_analysis::chain::rules::{Fact, Party, Proof, Protocol, Via};
use catena_schemas::{Enforced, Micros, Outcome};
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_128;

macro_rules! columns {
    ($($name:ident),+ $(,)?) => {
        /// Texts that facts are made of.
        const TEXTS: &[&str] = &[$(stringify!($name)),+];

        /// Columns of texts, borrowed from one batch.
        struct Texts<'b> { $($name: &'b StringArray),+ }

        impl<'b> Texts<'b> {
            fn of(batch: &'b RecordBatch) -> Result<Texts<'b>, QueryError> {
                Ok(Texts { $($name: column(batch, stringify!($name))?.as_string_opt::<i32>().ok_or_else(|| odd(stringify!($name)))?),+ })
            }

            /// Everything a row says, so that no two rows read the same.
            fn write(&self, row: usize, into: &mut Vec<u8>) {
                $(write(text(self.$name, row), into);)+
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

/// Further columns that facts are made of.
const OTHERS: [&str; 10] = [
    "time",
    "decision_count",
    "actors_complete",
    "actors",
    "actor_kinds",
    "actor_assurance",
    "scopes",
    "token_resource",
    "audience",
    "reasons",
];

/// Columns of `decisions` that facts are made of.
pub(super) fn columns() -> impl Iterator<Item = &'static str> {
    TEXTS.iter().copied().chain(OTHERS)
}

fn odd(name: &str) -> QueryError {
    QueryError::new(
        Code::Internal,
        format!("the column `{name}` was asked for and is not there, or is of another type"),
    )
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b dyn Array, QueryError> {
    batch.column_by_name(name).map(|c| c.as_ref()).ok_or_else(|| odd(name))
}

fn text(array: &StringArray, row: usize) -> Option<&str> {
    (array.is_valid(row)).then(|| array.value(row)).filter(|t| !t.is_empty())
}

fn write(text: Option<&str>, into: &mut Vec<u8>) {
    let text = text.unwrap_or_default();
    into.extend_from_slice(&(text.len() as u32).to_le_bytes());
    into.extend_from_slice(text.as_bytes());
}

/// A column of lists.
struct Lists<'b> {
    rows: &'b ListArray,
    items: &'b StringArray,
}

impl<'b> Lists<'b> {
    fn of(batch: &'b RecordBatch, name: &str) -> Result<Lists<'b>, QueryError> {
        let rows = column(batch, name)?.as_list_opt::<i32>().ok_or_else(|| odd(name))?;
        let items = rows.values().as_string_opt::<i32>().ok_or_else(|| odd(name))?;
        Ok(Lists { rows, items })
    }

    /// The texts of a row; an absent one is empty, so that lists beside each other keep their places.
    fn read(&self, row: usize, into: &mut Vec<&'b str>) {
        into.clear();
        if self.rows.is_null(row) {
            return;
        }
        let offsets = self.rows.value_offsets();
        into.extend((offsets[row]..offsets[row + 1]).map(|at| {
            let at = at as usize;
            if self.items.is_valid(at) { self.items.value(at) } else { "" }
        }));
    }
}

/// Issuers that stand beside actors.
type Issuers = Vec<Option<Box<str>>>;

/// Rows of `decisions`, and the content of each: worked out where they were read, beside the one that tells them.
#[derive(Debug)]
pub(super) struct Rows {
    batch: RecordBatch,
    contents: Vec<u128>,
}

impl Rows {
    pub(super) fn of(batch: RecordBatch) -> Result<Rows, QueryError> {
        let contents = contents(&batch)?;
        Ok(Rows { batch, contents })
    }
}

/// Lists that facts are made of, in the order in which they are read.
const LISTS: [&str; 7] =
    ["actors", "actor_kinds", "actor_assurance", "scopes", "token_resource", "audience", "reasons"];

/// Digests of everything that the rules read of each row.
fn contents(batch: &RecordBatch) -> Result<Vec<u128>, QueryError> {
    let texts = Texts::of(batch)?;
    let (time, complete) = (time(batch)?, complete(batch)?);
    let lists = LISTS.iter().map(|name| Lists::of(batch, name)).collect::<Result<Vec<_>, _>>()?;
    let (mut said, mut list) = (Vec::with_capacity(1024), Vec::new());
    let digest = |row: usize| {
        said.clear();
        for from in &lists {
            from.read(row, &mut list);
            said.extend_from_slice(&(list.len() as u32).to_le_bytes());
            list.iter().for_each(|text| write(Some(text), &mut said));
        }
        texts.write(row, &mut said);
        said.extend_from_slice(&instant(time, row).to_le_bytes());
        said.push(complete.is_valid(row).then(|| complete.value(row)).map_or(2, u8::from));
        xxh3_128(&said)
    };
    Ok((0..batch.num_rows()).map(digest).collect())
}

fn time(batch: &RecordBatch) -> Result<&TimestampMicrosecondArray, QueryError> {
    column(batch, "time")?.as_primitive_opt::<TimestampMicrosecondType>().ok_or_else(|| odd("time"))
}

fn instant(time: &TimestampMicrosecondArray, row: usize) -> i64 {
    if time.is_valid(row) { time.value(row) } else { 0 }
}

fn complete(batch: &RecordBatch) -> Result<&BooleanArray, QueryError> {
    column(batch, "actors_complete")?.as_boolean_opt().ok_or_else(|| odd("actors_complete"))
}

/// Reads batches, one after another. Texts of JSON that came before are not parsed again.
#[derive(Debug, Default)]
pub(super) struct Reader {
    details: HashMap<Box<str>, Issuers>,
}

/// Texts of JSON that are remembered.
const DETAILS_MAX: usize = 10_000;

impl Reader {
    /// Reads every row.
    pub(super) fn read(&mut self, rows: &Rows, mut take: impl FnMut(&Fact<'_>)) -> Result<(), QueryError> {
        let batch = &rows.batch;
        let t = Texts::of(batch)?;
        let (time, complete) = (time(batch)?, complete(batch)?);
        let count: &Int32Array =
            column(batch, "decision_count")?.as_primitive_opt().ok_or_else(|| odd("decision_count"))?;
        let lists = LISTS.iter().map(|name| Lists::of(batch, name)).collect::<Result<Vec<_>, _>>()?;
        let [mut ids, mut kinds, mut assured, mut scope, mut resource, mut audience, mut reasons] =
            [const { Vec::new() }; 7];
        for (row, content) in rows.contents.iter().enumerate() {
            let into = [&mut ids, &mut kinds, &mut assured, &mut scope, &mut resource, &mut audience, &mut reasons];
            lists.iter().zip(into).for_each(|(list, into)| list.read(row, into));
            let is_complete = complete.is_valid(row).then(|| complete.value(row));
            let details = text(t.actor_details, row).map(|json| self.issuers(json));
            let actors: Vec<Party<'_>> = ids
                .iter()
                .enumerate()
                .map(|(i, id)| Party {
                    id,
                    issuer: details.and_then(|d| d.get(i)?.as_deref()),
                    kind: kinds.get(i).copied().filter(|k| !k.is_empty()),
                    verified: assured.get(i) == Some(&"verified"),
                })
                .collect();
            let challenge = text(t.challenge, row).and_then(challenge);
            let listed = |list: &'_ Vec<&'_ str>| !list.is_empty();
            let source = text(t.source, row).or_else(|| text(t.source_kind, row)).unwrap_or_default();
            let event_id = text(t.event_id, row).unwrap_or_default();
            take(&Fact {
                source,
                event_id,
                content: *content,
                time: Micros(instant(time, row)),
                decision: Some(event_id),
                record: text(t.source_record, row).filter(|_| count.is_valid(row) && count.value(row) > 1),
                parent: text(t.parent_decision, row),
                parent_by_client: text(t.parent_origin, row) == Some("client"),
                predecessor: None,
                trace: text(t.trace_id, row),
                span: text(t.span_id, row),
                parent_span: text(t.parent_span_id, row),
                state_in: text(t.state_in, row),
                state_out: text(t.state_out, row),
                challenge: challenge.as_deref(),
                task: text(t.task, row),
                txn: text(t.token_txn, row),
                acti: text(t.token_acti, row),
                session: text(t.session, row),
                mcp_session: text(t.mcp_session, row),
                issuer: text(t.requester_issuer, row).or_else(|| text(t.token_issuer, row)),
                subject: text(t.requester, row).or_else(|| text(t.token_subject, row)),
                subject_kind: text(t.requester_kind, row),
                subject_verified: text(t.requester_assurance, row) == Some("verified"),
                client: text(t.token_client, row),
                token: text(t.token_ref, row),
                parent_token: text(t.token_parent_ref, row),
                proof: text(t.token_proof, row).map_or(Proof::None, Proof::parse),
                key_bound: text(t.token_cnf, row).is_some(),
                actors: &actors,
                via: text(t.actors_source, row).map_or(Via::Unsaid, Via::parse),
                partial: is_complete == Some(false),
                protocol: text(t.protocol, row).map_or(Protocol::Other, Protocol::parse),
                server: text(t.server, row).or_else(|| text(t.server_name, row)),
                tool: text(t.tool, row),
                args: text(t.params_digest, row),
                request: text(t.request_id, row),
                outcome: text(t.outcome, row).and_then(Outcome::parse),
                reason: reasons.first().copied().filter(|r| !r.is_empty()),
                enforced: text(t.enforced, row).and_then(Enforced::parse),
                grant: text(t.grant_id, row),
                scope: listed(&scope).then_some(&scope),
                resource: listed(&resource).then_some(&resource),
                audience: listed(&audience).then_some(&audience),
            });
        }
        Ok(())
    }

    /// Issuers in the details of actors: a JSON array beside their ids.
    fn issuers(&mut self, json: &str) -> &Issuers {
        if self.details.len() > DETAILS_MAX {
            self.details.clear();
        }
        self.details.entry(json.into()).or_insert_with(|| {
            let all: Vec<Option<serde_json::Map<String, serde_json::Value>>> =
                serde_json::from_str(json).unwrap_or_default();
            all.iter().map(|d| d.as_ref()?.get("issuer")?.as_str().map(Into::into)).collect()
        })
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
