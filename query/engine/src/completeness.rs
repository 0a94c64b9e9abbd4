//! What came of each source: how much, how complete, and since when nothing.
//!
//! Guarantees: a row for every source that the lake has ever had a record of, even if none of them was a decision; all
//! figures of one answer are of one version of the lake. A field counts as filled where its column is not null, a
//! server also where it has a name alone; it is counted apart for allowed, denied and other decisions, because producers
//! say less of what they refuse. A sequence number that is missing is one that the source gave to a record that is not
//! here: lost on the way, or not sent.

use crate::engine::Session;
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use crate::output::{self, Format};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Fields that chains, findings and evidence are built from.
pub const FIELDS: &[&str] = &[
    "requester",
    "agent",
    "actors",
    "session",
    "server",
    "tool",
    "action",
    "params",
    "policy_id",
    "policy_version",
    "reasons",
    "scopes",
    "audience",
    "token_ref",
    "token_expires",
    "grant_id",
    "parent_decision",
    "trace_id",
    "span_id",
    "request_id",
];

const GROUPS: [(&str, &str); 3] =
    [("allow", "outcome = 'allow'"), ("deny", "outcome = 'deny'"), ("other", "outcome NOT IN ('allow', 'deny')")];

/// One source: a topic or file or the intake log, in one format.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Source {
    /// Whose.
    pub tenant: String,
    /// Kafka topic, file or intake log.
    pub topic: String,
    /// Decoder.
    pub format: String,
    /// Rows of any kind.
    pub received: u64,
    /// Decisions that show.
    pub decisions: u64,
    /// Decisions that had come before.
    pub duplicates: u64,
    /// Records that could not be read.
    pub rejected: u64,
    /// Calls that were seen without a verdict.
    pub executions: u64,
    /// Records of authority: grants, exchanges, tools and so on.
    pub authority: u64,
    /// Records that are no decisions, and were not meant to be.
    pub asides: u64,
    /// Decisions by outcome.
    pub by_outcome: BTreeMap<String, u64>,
    /// Rejections by reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Of each field, the share of decisions that fill it: by `allow`, `deny` and `other`; absent where there are none.
    pub filled: BTreeMap<&'static str, BTreeMap<&'static str, f64>>,
    /// First and last arrival, RFC 3339.
    pub first_seen: Option<String>,
    /// See there.
    pub last_seen: Option<String>,
}

/// Sequence numbers of one instance of a producer, within one of its epochs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sequence {
    /// Whose.
    pub tenant: String,
    /// Instance.
    pub source: Option<String>,
    /// Restart marker.
    pub epoch: Option<String>,
    /// Lowest number.
    pub first: i64,
    /// Highest number.
    pub last: i64,
    /// Different numbers that are there.
    pub seen: u64,
    /// Numbers between first and last that are not.
    pub missing: u64,
}

/// All sources of a scope.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Completeness {
    /// Version of the lake.
    pub lake_version: Option<u64>,
    /// Sources, in order of tenant, topic and format.
    pub sources: Vec<Source>,
    /// Sequences that have gaps first, then the others.
    pub sequences: Vec<Sequence>,
}

impl Session {
    /// What came of each source.
    pub async fn completeness(&self, limits: &Limits) -> Result<Completeness, QueryError> {
        let pinned = self.pin().await?;
        let limits = Limits { rows: u64::MAX, bytes: u64::MAX, ..limits.clone() };
        let counts = pinned.values(&counts_sql(), &limits).await?;
        let mut sources: BTreeMap<[String; 3], Source> = BTreeMap::new();
        for row in &counts.0 {
            let [tenant, topic, format] = ["tenant", "topic", "format"].map(|key| text(row, key).unwrap_or_default());
            let source = sources.entry([tenant.clone(), topic.clone(), format.clone()]).or_default();
            (source.tenant, source.topic, source.format) = (tenant, topic, format);
            let n = number(row, "n");
            source.received += n;
            match (text(row, "class").as_deref(), text(row, "outcome"), text(row, "reason")) {
                (Some("decision"), _, _) if row["duplicate"] == true => source.duplicates += n,
                (Some("decision"), outcome, _) => {
                    source.decisions += n;
                    *source.by_outcome.entry(outcome.unwrap_or_default()).or_default() += n;
                }
                (Some("reject"), _, reason) => {
                    source.rejected += n;
                    *source.by_reason.entry(reason.unwrap_or_default()).or_default() += n;
                }
                (Some("execution"), _, _) => source.executions += n,
                (Some("authority"), _, _) => source.authority += n,
                _ => source.asides += n,
            }
            let (first, last) = (text(row, "first_seen"), text(row, "last_seen"));
            source.first_seen = [source.first_seen.take(), first].into_iter().flatten().min();
            source.last_seen = source.last_seen.take().max(last);
        }
        for row in &pinned.values(&filled_sql(), &limits).await?.0 {
            let key = ["tenant", "topic", "format"].map(|key| text(row, key).unwrap_or_default());
            let Some(source) = sources.get_mut(&key) else { continue };
            for (group, _) in GROUPS {
                let all = number(row, &format!("n_{group}"));
                for field in FIELDS.iter().filter(|_| all > 0) {
                    let share = number(row, &format!("{field}_{group}")) as f64 / all as f64;
                    source.filled.entry(field).or_default().insert(group, share);
                }
            }
        }
        let mut sequences: Vec<Sequence> =
            pinned.values(SEQUENCES, &limits).await?.0.iter().filter_map(sequence).collect();
        sequences.sort_by(|a, b| {
            (b.missing > 0, &a.tenant, &a.source, &a.epoch).cmp(&(a.missing > 0, &b.tenant, &b.source, &b.epoch))
        });
        Ok(Completeness { lake_version: counts.1, sources: sources.into_values().collect(), sequences })
    }

    /// Rows as JSON objects, and the version that they are of.
    pub(crate) async fn values(&self, sql: &str, limits: &Limits) -> Result<(Vec<Value>, Option<u64>), QueryError> {
        let rows = self.sql(sql, limits).await?.collect().await?;
        let bytes = output::to_bytes(&rows, Format::Json)
            .map_err(|e| QueryError::new(Code::Internal, format!("rows could not be written: {e}")))?;
        Ok((serde_json::from_slice(&bytes).unwrap_or_default(), rows.version))
    }
}

/// Records that were read again stand under a topic of their own each; as a source they are one.
const TOPIC: &str = "CASE WHEN topic LIKE 'retry:%' THEN 'retry' ELSE topic END";

fn counts_sql() -> String {
    format!(
        "SELECT tenant, {TOPIC} AS topic, format, class, outcome, reject_reason AS reason, coalesce(duplicate, false) AS duplicate, \
         count(*) AS n, min(ingest_time) AS first_seen, max(ingest_time) AS last_seen FROM records WHERE class <> 'chain' \
         GROUP BY tenant, {TOPIC}, format, class, outcome, reject_reason, coalesce(duplicate, false)"
    )
}

fn filled_sql() -> String {
    let mut columns = Vec::new();
    for (group, condition) in GROUPS {
        columns.push(format!("count(*) FILTER (WHERE {condition}) AS n_{group}"));
        columns.extend(FIELDS.iter().map(|field| {
            // Many producers know a server by its name alone.
            let said = if *field == "server" { "coalesce(server, server_name)" } else { field };
            format!("count({said}) FILTER (WHERE {condition}) AS {field}_{group}")
        }));
    }
    format!(
        "SELECT tenant, {TOPIC} AS topic, format, {} FROM decisions GROUP BY tenant, {TOPIC}, format",
        columns.join(", ")
    )
}

const SEQUENCES: &str = "SELECT tenant, source, source_epoch AS epoch, min(source_seq) AS first, max(source_seq) AS last, \
    count(DISTINCT source_seq) AS seen FROM records WHERE class NOT IN ('reject', 'chain') AND source_seq IS NOT NULL \
    GROUP BY tenant, source, source_epoch";

fn sequence(row: &Value) -> Option<Sequence> {
    let (first, last, seen) = (row["first"].as_i64()?, row["last"].as_i64()?, number(row, "seen"));
    let span = u64::try_from(i128::from(last) - i128::from(first) + 1).unwrap_or(u64::MAX);
    Some(Sequence {
        tenant: text(row, "tenant").unwrap_or_default(),
        source: text(row, "source"),
        epoch: text(row, "epoch"),
        first,
        last,
        seen,
        missing: span.saturating_sub(seen),
    })
}

fn text(row: &Value, key: &str) -> Option<String> {
    row[key].as_str().map(str::to_owned)
}

fn number(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or(0)
}
