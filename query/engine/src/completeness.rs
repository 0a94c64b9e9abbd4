//! Counts, fill rates and gaps of each source, and the totals of a lake.
//!
//! Guarantees: a row for every source that the lake has a record of, even if none of them is a decision; all
//! figures of one answer are of one version of the lake. A field counts as filled where its column is not null, a
//! server also where only its name is known. It is counted apart for allowed, denied and other decisions, because producers
//! record less of what they refuse. A sequence number that is missing is one that the source gave to a record that is not in the
//! lake: lost on the way, or not sent.

use crate::engine::Session;
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use crate::select::Select;
use crate::views::target_server;
use catena_schemas::answer::source::{Completeness, Found, Partition, Sequence, Source, Status};
use datafusion::common::ScalarValue;
use datafusion::error::Result as Planned;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{Expr, ExprFunctionExt, ident, lit, when};
use serde::Deserialize;
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

/// Groups of decisions that fill rates are counted for.
const GROUPS: [&str; 3] = ["allow", "deny", "other"];

/// Rows of one class, outcome and reason that came from one source.
#[derive(Deserialize)]
struct Counted {
    tenant: String,
    topic: Option<String>,
    format: Option<String>,
    class: String,
    outcome: Option<String>,
    reason: Option<String>,
    duplicate: bool,
    n: u64,
    first_seen: Option<String>,
    last_seen: Option<String>,
}

/// Records that were read again have a topic of their own each; as a source they are one.
const COUNTS: &str = "SELECT tenant, CASE WHEN topic LIKE 'retry:%' THEN 'retry' ELSE topic END AS topic, format, class, outcome, \
    reject_reason AS reason, coalesce(duplicate, false) AS duplicate, count(*) AS n, min(ingest_time) AS first_seen, \
    max(ingest_time) AS last_seen FROM records WHERE class <> 'chain' GROUP BY 1, 2, 3, 4, 5, 6, 7";

/// Decisions of one source: how many of each group, and how many of these fill each field.
#[derive(Deserialize)]
struct Filled {
    tenant: String,
    topic: Option<String>,
    format: Option<String>,
    #[serde(flatten)]
    counts: BTreeMap<String, u64>,
}

impl Filled {
    fn count(&self, column: &str) -> Result<u64, QueryError> {
        let missing = || QueryError::new(Code::Internal, format!("an answer of the engine has no column `{column}`"));
        self.counts.get(column).copied().ok_or_else(missing)
    }
}

/// Sequence numbers of one instance and epoch.
#[derive(Deserialize)]
struct Numbers {
    tenant: String,
    source: Option<String>,
    epoch: Option<String>,
    first: i64,
    last: i64,
    seen: u64,
}

const SEQUENCES: &str = "SELECT tenant, source, source_epoch AS epoch, min(source_seq) AS first, max(source_seq) AS last, \
    count(DISTINCT source_seq) AS seen FROM records WHERE class NOT IN ('reject', 'chain') AND source_seq IS NOT NULL \
    GROUP BY tenant, source, source_epoch";

impl From<Numbers> for Sequence {
    fn from(of: Numbers) -> Sequence {
        let Numbers { tenant, source, epoch, first, last, seen } = of;
        let span = u64::try_from(i128::from(last) - i128::from(first) + 1).unwrap_or(u64::MAX);
        Sequence { tenant, source, epoch, first, last, seen, missing: span.saturating_sub(seen) }
    }
}

/// Rows of one class, outcome and reason.
#[derive(Deserialize)]
struct Total {
    class: String,
    outcome: Option<String>,
    reason: Option<String>,
    duplicate: bool,
    n: u64,
}

const TOTALS: &str = "SELECT class, outcome, reject_reason AS reason, coalesce(duplicate, false) AS duplicate, count(*) AS n \
    FROM records WHERE class <> 'chain' GROUP BY ALL";
const PARTITIONS: &str = "SELECT topic, partition, format, count(*) AS rows, min(\"offset\") AS first_offset, \
    max(\"offset\") AS last_offset, max(ingest_time) AS last_seen FROM records WHERE class <> 'chain' \
    GROUP BY topic, partition, format ORDER BY topic, partition, format LIMIT 500";

impl Session {
    /// Counts, fill rates and gaps of each source.
    ///
    /// # Errors
    ///
    /// As [`Session::sql`].
    pub async fn completeness(&self, limits: &Limits) -> Result<Completeness, QueryError> {
        let pinned = self.pin().await?;
        let (counts, lake_version) = pinned.values::<Counted>(COUNTS, limits).await?;
        let mut sources: BTreeMap<[String; 3], Source> = BTreeMap::new();
        for row in counts {
            let key =
                [row.tenant.clone(), row.topic.clone().unwrap_or_default(), row.format.clone().unwrap_or_default()];
            add(sources.entry(key).or_default(), row);
        }
        for row in pinned.values::<Filled>(filled(), limits).await?.0 {
            let key = [
                &row.tenant,
                row.topic.as_ref().unwrap_or(&String::new()),
                row.format.as_ref().unwrap_or(&String::new()),
            ]
            .map(String::clone);
            let Some(source) = sources.get_mut(&key) else { continue };
            for group in GROUPS {
                let all = row.count(group)?;
                for field in FIELDS.iter().filter(|_| all > 0) {
                    let share = row.count(&column(field, group))? as f64 / all as f64;
                    source.filled.entry((*field).to_owned()).or_default().insert(group.to_owned(), share);
                }
            }
        }
        let numbers = pinned.values::<Numbers>(SEQUENCES, limits).await?.0;
        let mut sequences: Vec<Sequence> = numbers.into_iter().map(Sequence::from).collect();
        sequences.sort_by(|a, b| {
            (b.missing > 0, &a.tenant, &a.source, &a.epoch).cmp(&(a.missing > 0, &b.tenant, &b.source, &b.epoch))
        });
        Ok(Completeness { lake_version, found: Found { sources: sources.into_values().collect(), sequences } })
    }

    /// Totals, and the last record of each partition.
    ///
    /// # Errors
    ///
    /// As [`Session::sql`].
    pub async fn status(&self, limits: &Limits) -> Result<Status, QueryError> {
        let pinned = self.pin().await?;
        let (totals, lake_version) = pinned.values::<Total>(TOTALS, limits).await?;
        let mut status = Status { version: env!("CARGO_PKG_VERSION").to_owned(), lake_version, ..Status::default() };
        for Total { class, outcome, reason, duplicate, n } in totals {
            status.received += n;
            let count = |by: &mut BTreeMap<String, u64>, key: Option<String>| {
                *by.entry(key.unwrap_or_else(|| "unknown".to_owned())).or_default() += n;
            };
            match class.as_str() {
                "decision" if duplicate => status.duplicates += n,
                "decision" => {
                    status.decisions += n;
                    count(&mut status.by_outcome, outcome);
                }
                "execution" => status.executions += n,
                "authority" => status.authority += n,
                "reject" => {
                    status.rejected += n;
                    count(&mut status.by_reason, reason);
                }
                _ => {
                    status.asides += n;
                    count(&mut status.by_aside, reason);
                }
            }
        }
        status.sources = pinned.values::<Partition>(PARTITIONS, limits).await?.0;
        Ok(status)
    }
}

fn add(source: &mut Source, row: Counted) {
    let Counted { tenant, topic, format, class, outcome, reason, duplicate, n, first_seen, last_seen } = row;
    (source.tenant, source.topic, source.format) = (tenant, topic.unwrap_or_default(), format.unwrap_or_default());
    source.received += n;
    match class.as_str() {
        "decision" if duplicate => source.duplicates += n,
        "decision" => {
            source.decisions += n;
            *source.by_outcome.entry(outcome.unwrap_or_default()).or_default() += n;
        }
        "reject" => {
            source.rejected += n;
            *source.by_reason.entry(reason.unwrap_or_default()).or_default() += n;
        }
        "execution" => source.executions += n,
        "authority" => source.authority += n,
        _ => source.asides += n,
    }
    source.first_seen = [source.first_seen.take(), first_seen].into_iter().flatten().min();
    source.last_seen = source.last_seen.take().max(last_seen);
}

/// Name of the column that counts how many decisions of a group fill a field.
fn column(field: &str, group: &str) -> String {
    format!("{field}_{group}")
}

/// Decisions of a group.
fn is_in(group: &str) -> Expr {
    match group {
        "other" => ident("outcome").in_list(vec![lit("allow"), lit("deny")], true),
        outcome => ident("outcome").eq(lit(outcome)),
    }
}

fn filled() -> Select {
    Select::new("decisions", |rows| {
        let topic = when(ident("topic").like(lit("retry:%")), lit("retry")).otherwise(ident("topic"))?;
        let counted = |of: Expr, group: &str, name: &str| -> Planned<Expr> {
            Ok(count(of).filter(is_in(group)).build()?.alias(name))
        };
        let mut counts = Vec::new();
        for group in GROUPS {
            counts.push(counted(lit(ScalarValue::Int64(Some(1))), group, group)?);
            for field in FIELDS {
                let of = if *field == "server" { target_server() } else { ident(*field) };
                counts.push(counted(of, group, &column(field, group))?);
            }
        }
        rows.aggregate(vec![ident("tenant"), topic.alias("topic"), ident("format")], counts)
    })
}
